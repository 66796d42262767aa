"""Captum's IntegratedGradients over the pixels of a ViT folder, or attention rollout in PyTorch, once per line of standard input.

    python captum_vit.py FOLDER TASK SETTING THREADS

With TASK make the folder is made: a ViTForImageClassification of ViT-S/16's size with random weights, and its processor.
With TASK pixels (SETTING batch-10), rollout-1 or rollout-8 (so many pictures at once) every line that comes in starts one
run, and its answer is a line of JSON: seconds, peak memory in MiB, sum of the scores, delta. Rollout carries the class token's row down through the layers, which
costs O(L·t²) where products of whole matrices cost O(L·t³).
"""

import json
import sys

import torch
import transformers
from captum.attr import IntegratedGradients
from serving import serve

SIZE, MEAN, STD = 224, 0.5, 0.5


def make(folder: str) -> None:
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=384, num_hidden_layers=12, num_attention_heads=6, intermediate_size=1536, num_labels=1000
    )
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    processor = {
        "image_processor_type": "ViTImageProcessor", "size": {"height": SIZE, "width": SIZE}, "resample": 2,
        "image_mean": [MEAN] * 3, "image_std": [STD] * 3,
    }
    with open(f"{folder}/preprocessor_config.json", "w") as file:
        json.dump(processor, file)


def picture() -> torch.Tensor:
    """Waves, (1,3,h,w) between 0 and 1."""
    channel, row, column = (torch.arange(n, dtype=torch.float32) for n in (3, SIZE, SIZE))
    phase = channel[:, None, None] + 0.1 * row[:, None] + 0.2 * column
    return (0.5 + 0.5 * phase.sin())[None]


def pixels(folder: str, setting: str):
    """A function that explains the logit of class 1 once: scores and delta."""
    model = transformers.ViTForImageClassification.from_pretrained(folder).eval()
    method = IntegratedGradients(lambda x: model((x - MEAN) / STD).logits)
    x, batch = picture(), int(setting.removeprefix("batch-"))

    def explain():
        scores, delta = method.attribute(
            x, torch.zeros_like(x), target=1, n_steps=50, internal_batch_size=batch, return_convergence_delta=True
        )
        return scores, delta.item()

    return explain


def rollout(folder: str, pictures: int):
    """A function that rolls attention out once: the class token's row, (n,1,t), of so many pictures."""
    model = transformers.ViTForImageClassification.from_pretrained(folder, attn_implementation="eager").eval()
    x = picture().repeat(pictures, 1, 1, 1)

    @torch.no_grad()
    def explain():
        row = None
        for attention in reversed(model((x - MEAN) / STD, output_attentions=True).attentions):
            fused = attention.mean(1)
            row = torch.eye(fused.shape[-1])[:1].repeat(pictures, 1, 1) if row is None else row
            row = 0.5 * (row @ fused + row)
        return row[..., 1:], 0.0

    return explain


if __name__ == "__main__":
    folder, task, setting, threads = sys.argv[1:5]
    torch.set_num_threads(int(threads))
    transformers.utils.logging.set_verbosity_error()
    if task == "make":
        make(folder)
    else:
        kind, _, pictures = task.partition("-")
        serve(rollout(folder, int(pictures)) if kind == "rollout" else pixels(folder, setting))
