"""Captum's LLM attribution on a folder of a causal language model. How it is asked: serving.py.

Task make: a Llama or a Qwen2 with random weights, and a tokenizer in which the word "w7" is a token. Tasks matrix and ablation: the
scores of every token of the continuation; setting batch-10 is an internal batch of 10, one-pass an ablation in one forward for all of
the continuation.
"""

import math

import torch
import transformers
from captum.attr import FeatureAblation, LayerIntegratedGradients, LLMAttribution, LLMGradientAttribution, TextTokenInput
from serving import asked, serve
from tokenizers import Tokenizer, models, pre_tokenizers, processors

SPECIAL = ["<unk>", "<s>", "</s>"]
KINDS = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
}


def make(folder: str, model) -> None:
    torch.manual_seed(0)
    config, network = KINDS[model.kind]
    config = config(
        vocab_size=model.vocabulary, hidden_size=model.channels, intermediate_size=model.inner,
        num_hidden_layers=model.layers, num_attention_heads=model.heads, num_key_value_heads=model.shared,
        max_position_embeddings=model.places, rms_norm_eps=1e-5, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
        initializer_range=model.spread,
    )
    network(config).save_pretrained(folder)
    words = SPECIAL + [f"w{i}" for i in range(model.vocabulary - len(SPECIAL))]
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.save(f"{folder}/tokenizer.json")


def words(count: int, factor: int) -> str:
    """So many words, which every vocabulary here has."""
    return " ".join(f"w{factor * (k + 1) % 7990}" for k in range(count))


def load(options, **how):
    """The model and the tokenizer of the folder."""
    model = transformers.AutoModelForCausalLM.from_pretrained(options.folder, dtype=options.dtype, **how)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=f"{options.folder}/tokenizer.json", unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    return model.eval().to(options.device), tokenizer


def attribution(options):
    """A function that explains once: the matrix of scores; Captum tells no delta."""
    model, tokenizer = load(options)
    prompt = TextTokenInput(words(options.work.tokens - 1, 37), tokenizer, skip_tokens=[1])
    target = torch.tensor(tokenizer.encode(words(options.work.said, 91), add_special_tokens=False))
    if options.task == "ablation":
        method = LLMAttribution(FeatureAblation(model), tokenizer)
        explain = lambda: method.attribute(prompt, target=target, forward_in_tokens=False)
        return torch.no_grad()(lambda: (explain().token_attr, math.nan))
    method = LLMGradientAttribution(LayerIntegratedGradients(model, model.model.embed_tokens), tokenizer)
    how = dict(n_steps=options.work.steps, internal_batch_size=int(options.setting.removeprefix("batch-")))
    return lambda: (method.attribute(prompt, target=target, **how).token_attr, math.nan)


if __name__ == "__main__":
    options = asked()
    if options.task == "make":
        make(options.folder, options.model)
    else:
        serve(attribution(options), options.device)
