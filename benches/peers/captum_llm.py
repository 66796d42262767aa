"""Captum's LLM attribution on a Llama folder, one run per line of standard input.

    python captum_llm.py FOLDER TASK SETTING THREADS

With TASK make the folder is made: a LlamaForCausalLM of 25 million parameters with random weights, and a tokenizer in
which the word "w7" is a token. With TASK matrix, row or ablation every line that comes in starts one run, and its answer
is a line of JSON: seconds, peak memory in MiB, sum of the scores, 0.
"""

import sys

import torch
import transformers
from captum.attr import FeatureAblation, LayerIntegratedGradients, LLMAttribution, LLMGradientAttribution, TextTokenInput
from serving import serve
from tokenizers import Tokenizer, models, pre_tokenizers, processors

SPECIAL = ["<unk>", "<s>", "</s>"]
VOCABULARY = 8000


def make(folder: str, spread: float = 0.02) -> None:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=512, intermediate_size=1152, num_hidden_layers=8, num_attention_heads=8,
        num_key_value_heads=4, max_position_embeddings=2048, rms_norm_eps=1e-5, tie_word_embeddings=True,
        bos_token_id=1, eos_token_id=2, initializer_range=spread,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    vocabulary = {token: i for i, token in enumerate(SPECIAL + [f"w{i}" for i in range(VOCABULARY - len(SPECIAL))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.save(f"{folder}/tokenizer.json")


def words(count: int, factor: int) -> str:
    return " ".join(f"w{factor * (k + 1) % 7990}" for k in range(count))


def attribution(folder: str, task: str, setting: str):
    """A function that explains once: the matrix of scores, and 0."""
    model = transformers.LlamaForCausalLM.from_pretrained(folder).eval()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=f"{folder}/tokenizer.json", unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    prompt = TextTokenInput(words(63, 37), tokenizer, skip_tokens=[1])
    target = torch.tensor(tokenizer.encode(words(16, 91), add_special_tokens=False))
    if task == "ablation":
        method = LLMAttribution(FeatureAblation(model), tokenizer)
        how = {"one-pass": {"forward_in_tokens": False}, "token-by-token": {"use_cached_outputs": False}}[setting]
        return torch.no_grad()(lambda: (method.attribute(prompt, target=target, **how).token_attr, 0.0))
    method = LLMGradientAttribution(LayerIntegratedGradients(model, model.model.embed_tokens), tokenizer)
    batch = int(setting.removeprefix("batch-"))
    return lambda: (method.attribute(prompt, target=target, n_steps=50, internal_batch_size=batch).token_attr, 0.0)


if __name__ == "__main__":
    folder, task, setting, threads = sys.argv[1:5]
    torch.set_num_threads(int(threads))
    transformers.utils.logging.set_verbosity_error()
    make(folder) if task == "make" else serve(attribution(folder, task, setting))
