"""Captum's IntegratedGradients over the pixels of a ViT folder, or attention rollout in PyTorch. How it is asked: serving.py.

Task make: a ViTForImageClassification with random weights, and its processor. Task pixels, setting batch-10: an internal batch of 10.
Tasks rollout-1 and rollout-8: so many pictures at once. Rollout carries the class token's row down through the layers, which costs
O(L·t²) where products of whole matrices cost O(L·t³).
"""

import json
import math

import torch
import transformers
from captum.attr import IntegratedGradients
from serving import asked, serve

MEAN, STD = 0.5, 0.5


def make(folder: str, model) -> None:
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=model.channels, num_hidden_layers=model.layers, num_attention_heads=model.heads,
        intermediate_size=model.inner, num_labels=model.vocabulary, image_size=model.side,
    )
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    processor = {
        "image_processor_type": "ViTImageProcessor", "size": {"height": model.side, "width": model.side}, "resample": 2,
        "image_mean": [MEAN] * 3, "image_std": [STD] * 3,
    }
    with open(f"{folder}/preprocessor_config.json", "w") as file:
        json.dump(processor, file)


def picture(options) -> torch.Tensor:
    """Waves, (1,3,h,w) between 0 and 1."""
    channel, row, column = (torch.arange(n, dtype=torch.float32) for n in (3, options.model.side, options.model.side))
    phase = channel[:, None, None] + 0.1 * row[:, None] + 0.2 * column
    return (0.5 + 0.5 * phase.sin())[None].to(options.device, options.dtype)


def load(options, **how):
    model = transformers.ViTForImageClassification.from_pretrained(options.folder, dtype=options.dtype, **how)
    return model.eval().to(options.device)


def pixels(options):
    """A function that explains the logit of class 1 once: scores and delta."""
    model = load(options)
    method = IntegratedGradients(lambda x: model((x - MEAN) / STD).logits)
    x, batch = picture(options), int(options.setting.removeprefix("batch-"))
    how = dict(target=1, n_steps=options.work.steps, internal_batch_size=batch, return_convergence_delta=True)
    return lambda: method.attribute(x, torch.zeros_like(x), **how)


def rollout(options, pictures: int):
    """A function that rolls attention out once: the class token's row, (n,1,t), of so many pictures."""
    model = load(options, attn_implementation="eager")
    x = picture(options).repeat(pictures, 1, 1, 1)

    @torch.no_grad()
    def explain():
        row = None
        for attention in reversed(model((x - MEAN) / STD, output_attentions=True).attentions):
            fused = attention.mean(1)
            row = torch.eye(fused.shape[-1]).to(fused)[:1].repeat(pictures, 1, 1) if row is None else row
            row = 0.5 * (row @ fused + row)
        return row[..., 1:], math.nan

    return explain


if __name__ == "__main__":
    options = asked()
    kind, _, pictures = options.task.partition("-")
    if kind == "make":
        make(options.folder, options.model)
    else:
        serve(rollout(options, int(pictures)) if kind == "rollout" else pixels(options), options.device)
