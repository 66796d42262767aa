"""context-cite on a folder of a causal language model. How it is asked: serving.py.

Task make: the model of captum_llm.py with random weights that are spread wider, so that what it says depends on what it reads, and a
chat template. Both sides ask the same: a context of lines, a query, and an answer that is given. Tasks passes and spans; setting
batch-4 is a batch of 4. With task show one run is made, and its answer is a line of JSON: masks, log-odds, and the scores of each span.
"""

import itertools
import json
import math
import os
import warnings
from pathlib import Path

os.environ["TQDM_DISABLE"] = "1"
warnings.simplefilter("ignore")

import nltk
import transformers

nltk.download = lambda *_: False  # a line is a source: no sentences need to be found
import captum_llm
import context_cite
from context_cite.context_partitioner import SimpleContextPartitioner
from serving import asked, serve

LENGTHS, QUERY = (9, 13, 17, 21), 28
TEMPLATE = "{{ bos_token }} {{ messages[0]['content'] }} w1 "


def make(folder: str, model) -> None:
    captum_llm.make(folder, model)
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": TEMPLATE, **special}
    (Path(folder) / "tokenizer_config.json").write_text(json.dumps(config))


def context(sources: int) -> str:
    """So many lines, of 15 words on average."""
    lengths = list(itertools.islice(itertools.cycle(LENGTHS), sources))
    words = iter(captum_llm.words(sum(lengths), 37).split())
    return "\n".join(" ".join(itertools.islice(words, length)) for length in lengths)


class Lines(SimpleContextPartitioner):
    """Every line of the context is a source."""

    def split_context(self) -> None:
        parts = self.context.split("\n")
        self._cache = {"parts": parts, "separators": [""] + ["\n"] * (len(parts) - 1)}


class Asked:
    """A model, and an answer that it is asked about."""

    def __init__(self, options) -> None:
        self.answer, self.batch = captum_llm.words(options.work.said, 91), int(options.setting.removeprefix("batch-"))
        lines, query = context(options.work.sources), captum_llm.words(QUERY, 53)
        self.asked = {"context": lines, "query": query, "partitioner": Lines(lines), "num_ablations": options.work.masks}
        self.model = transformers.AutoModelForCausalLM.from_pretrained(options.folder, dtype=options.dtype)
        self.model = self.model.eval().to(options.device)
        self.tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(options.folder, padding_side="left")

    def citer(self) -> context_cite.ContextCiter:
        """A citer that has not looked yet; the answer is given."""
        citer = context_cite.ContextCiter(self.model, self.tokenizer, **self.asked, batch_size=self.batch)
        citer._cache["output"] = citer._get_prompt_ids(return_prompt=True)[1] + self.answer
        return citer

    def passes(self):
        """All passes, and the scores of the whole answer."""
        return lambda: (self.citer().get_attributions(verbose=False), math.nan)

    def spans(self):
        """The scores of every word of the answer, after the passes."""
        citer, places = self.citer(), self.places()
        citer.get_attributions(verbose=False)
        return lambda: (sum(citer.get_attributions(*place, verbose=False) for place in places), math.nan)

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
    options = asked()
    if options.task == "make":
        make(options.folder, options.model)
    elif options.task == "show":
        print(json.dumps(Asked(options).show()))
    else:
        serve({"passes": Asked.passes, "spans": Asked.spans}[options.task](Asked(options)), options.device)
