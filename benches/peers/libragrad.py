"""FullGrad+ on a folder of a causal language model in PyTorch. How it is asked: serving.py.

Task exact or libragrad. Delta is by how much the mean of the scores over layers misses the logit.
"""

import importlib

import torch
from captum_llm import load, words
from serving import asked, serve
from torch.nn import functional

TARGET = 100
NAMES = {"llama": "Llama", "qwen2": "Qwen2"}


def balance(kind: str) -> None:
    """LibraGrad's rules: norm scales, gates and attention patterns are constants, and products of two branches are halved."""
    modules, name = importlib.import_module(f"transformers.models.{kind}.modeling_{kind}"), NAMES[kind]

    class Norm(getattr(modules, f"{name}RMSNorm")):
        def forward(self, x):
            scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon).detach()
            return self.weight * (x * scale)

    class Gated(getattr(modules, f"{name}MLP")):
        def forward(self, x):
            gate, up = self.gate_proj(x), self.up_proj(x)
            product = gate * torch.sigmoid(gate).detach() * up
            half = product / 2
            return self.down_proj(half + (product - half).detach())

    attend = functional.scaled_dot_product_attention
    functional.scaled_dot_product_attention = lambda q, k, v, **how: attend(q.detach(), k.detach(), v, **how)
    setattr(modules, f"{name}RMSNorm", Norm)
    setattr(modules, f"{name}MLP", Gated)


def attribution(options):
    """A function that explains once: the scores of the tokens, and by how much they miss the logit."""
    model, tokenizer = load(options, attn_implementation="sdpa")
    model.requires_grad_(False)
    ids = tokenizer(words(options.work.tokens - 1, 37), return_tensors="pt").input_ids.to(options.device)
    embeddings, inputs = model.model.embed_tokens(ids), []
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
    options = asked()
    if options.task == "libragrad":
        balance(options.model.kind)
    serve(attribution(options), options.device)
