"""FullGrad+ on a Llama folder in PyTorch, one run per line of standard input.

    python libragrad.py FOLDER RULES THREADS

RULES is exact or libragrad. Every line that comes in starts one run, and its answer is a line of JSON: seconds, peak memory in
MiB, sum of the scores, and by how much their mean over layers misses the logit.
"""

import sys

import torch
import transformers
from captum_llm import words
from serving import serve
from torch.nn import functional
from transformers.models.llama import modeling_llama as llama

TARGET = 100


def balance() -> None:
    """LibraGrad's rules: norm scales, gates and attention patterns are constants, and products of two branches are halved."""

    class Norm(llama.LlamaRMSNorm):
        def forward(self, x):
            scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon).detach()
            return self.weight * (x * scale)

    class Gated(llama.LlamaMLP):
        def forward(self, x):
            gate, up = self.gate_proj(x), self.up_proj(x)
            product = gate * torch.sigmoid(gate).detach() * up
            half = product / 2
            return self.down_proj(half + (product - half).detach())

    attend = functional.scaled_dot_product_attention
    functional.scaled_dot_product_attention = lambda q, k, v, **how: attend(q.detach(), k.detach(), v, **how)
    llama.LlamaRMSNorm, llama.LlamaMLP = Norm, Gated


def attribution(folder: str):
    """A function that explains once: the scores of the tokens, and by how much they miss the logit."""
    model = transformers.LlamaForCausalLM.from_pretrained(folder, attn_implementation="sdpa").eval().requires_grad_(False)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=f"{folder}/tokenizer.json", bos_token="<s>")
    embeddings = model.model.embed_tokens(tokenizer(words(511, 37), return_tensors="pt").input_ids)
    inputs = []
    for layer in model.model.layers:
        layer.register_forward_pre_hook(lambda _, seen: inputs.append(seen[0]))

    def explain():
        inputs.clear()
        x = embeddings.clone().requires_grad_()
        logit = model(inputs_embeds=x, logits_to_keep=1, use_cache=False).logits[0, -1, TARGET]
        gradients = torch.autograd.grad(logit, inputs)
        scores = sum((x.detach() * gradient).sum(-1) for x, gradient in zip(inputs, gradients))
        return scores, scores.double().sum() / len(inputs) - logit.detach()

    return explain


if __name__ == "__main__":
    folder, rules, threads = sys.argv[1:4]
    torch.set_num_threads(int(threads))
    transformers.utils.logging.set_verbosity_error()
    if rules == "libragrad":
        balance()
    serve(attribution(folder))
