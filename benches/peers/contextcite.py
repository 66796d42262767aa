"""context-cite on a Llama folder, one run per line of standard input.

    python contextcite.py FOLDER TASK SETTING THREADS

With TASK make the folder is made: the Llama of captum_llm.py with random weights that are spread wider, so that what it
says depends on what it reads; a chat template; and asked.json, a context of 32 lines, a query and an answer. With TASK
passes or spans every line that comes in starts one run, and its answer is a line of JSON: seconds, peak memory in MiB, sum
of the scores, 0. With TASK show one run is made, and its answer is a line of JSON: masks, log-odds, and the scores of each
span. SETTING batch-4 means a batch of 4.
"""

import itertools
import json
import os
import sys
import warnings
from pathlib import Path

os.environ["TQDM_DISABLE"] = "1"
warnings.simplefilter("ignore")

import nltk
import torch
import transformers

nltk.download = lambda *_: False  # a line is a source: no sentences need to be found
import context_cite
from context_cite.context_partitioner import SimpleContextPartitioner
from serving import serve

LENGTHS, QUERY, ANSWER = (9, 13, 17, 21) * 8, 28, 48
SPREAD = 0.06
TEMPLATE = "{{ bos_token }} {{ messages[0]['content'] }} w1 "


def make(folder: str) -> None:
    import captum_llm

    captum_llm.make(folder, SPREAD)
    words = iter(captum_llm.words(sum(LENGTHS), 37).split())
    context = "\n".join(" ".join(itertools.islice(words, length)) for length in LENGTHS)
    asked = {"context": context, "query": captum_llm.words(QUERY, 53), "answer": captum_llm.words(ANSWER, 91)}
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": TEMPLATE, **special}
    for name, content in [("asked.json", asked), ("tokenizer_config.json", config)]:
        (Path(folder) / name).write_text(json.dumps(content))


class Lines(SimpleContextPartitioner):
    """Every line of the context is a source."""

    def split_context(self) -> None:
        parts = self.context.split("\n")
        self._cache = {"parts": parts, "separators": [""] + ["\n"] * (len(parts) - 1)}


class Asked:
    """A model, and an answer that it is asked about."""

    def __init__(self, folder: str, setting: str) -> None:
        asked = json.loads((Path(folder) / "asked.json").read_text())
        self.answer, self.batch = asked.pop("answer"), int(setting.removeprefix("batch-"))
        self.asked = {**asked, "partitioner": Lines(asked["context"])}
        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left")

    def citer(self) -> context_cite.ContextCiter:
        """A citer that has not looked yet; the answer is given."""
        citer = context_cite.ContextCiter(self.model, self.tokenizer, **self.asked, batch_size=self.batch)
        citer._cache["output"] = citer._get_prompt_ids(return_prompt=True)[1] + self.answer
        return citer

    def passes(self):
        """All passes, and the scores of the whole answer."""
        return lambda: (self.citer().get_attributions(verbose=False), 0.0)

    def spans(self):
        """The scores of every word of the answer, after the passes."""
        citer, places = self.citer(), self.places()
        citer.get_attributions(verbose=False)
        return lambda: (sum(citer.get_attributions(*place, verbose=False) for place in places), 0.0)

    def places(self) -> list[tuple[int, int]]:
        """Where each word of the answer begins and ends."""
        places, start = [], 0
        for word in self.answer.split(" "):
            places.append((start, start + len(word)))
            start += len(word) + 1
        return places

    def show(self) -> list:
        citer = self.citer()
        spans = [(0, len(self.answer))] + self.places()
        scores = [citer.get_attributions(*span, verbose=False).tolist() for span in spans]
        return [citer._masks.tolist(), citer._logit_probs.tolist(), scores]


if __name__ == "__main__":
    folder, task, setting, threads = sys.argv[1:5]
    torch.set_num_threads(int(threads))
    transformers.utils.logging.set_verbosity_error()
    if task == "make":
        make(folder)
    elif task == "show":
        print(json.dumps(Asked(folder, setting).show()))
    else:
        serve({"passes": Asked.passes, "spans": Asked.spans}[task](Asked(folder, setting)))
