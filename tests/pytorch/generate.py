"""Makes the files beside this one: a tiny BERT with the same weights as safetensors and as PyTorch's own files.

    python generate.py

Needs torch 2 and safetensors; it runs in a second. Every weight is a multiple of 1/64 below one, which all precisions hold
exactly.
"""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent
CHANNELS, INNER = 4, 6
WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] a red movie star circle".split()
CONFIG = {
    "model_type": "bert",
    "vocab_size": len(WORDS),
    "hidden_size": CHANNELS,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": INNER,
    "hidden_act": "gelu",
    "max_position_embeddings": 8,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
}
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def shapes():
    c, layer = CHANNELS, "bert.encoder.layer.0"
    linears = {
        f"{layer}.attention.self.query": (c, c),
        f"{layer}.attention.self.key": (c, c),
        f"{layer}.attention.self.value": (c, c),
        f"{layer}.attention.output.dense": (c, c),
        f"{layer}.intermediate.dense": (INNER, c),
        f"{layer}.output.dense": (c, INNER),
        "bert.pooler.dense": (c, c),
        "classifier": (2, c),
    }
    yield "bert.embeddings.word_embeddings.weight", (len(WORDS), c)
    yield "bert.embeddings.position_embeddings.weight", (8, c)
    yield "bert.embeddings.token_type_embeddings.weight", (2, c)
    for norm in ["bert.embeddings", f"{layer}.attention.output", f"{layer}.output"]:
        yield f"{norm}.LayerNorm.weight", (c,)
        yield f"{norm}.LayerNorm.bias", (c,)
    for name, shape in linears.items():
        yield f"{name}.weight", shape
        yield f"{name}.bias", shape[:1]


def as_views(weights):
    """The same, one matrix stored by columns, and two tensors in the middle of a storage that they share."""
    views = dict(weights)
    name = "bert.encoder.layer.0.intermediate.dense.weight"
    views[name] = weights[name].T.contiguous().T
    keys = ["bert.pooler.dense.weight", "classifier.weight"]
    together = torch.cat([torch.zeros(3)] + [weights[key].flatten() for key in keys])
    start = 3
    for key in keys:
        count = weights[key].numel()
        views[key] = together[start : start + count].view(weights[key].shape)
        start += count
    return views


def save_shards(weights, folder):
    folder.mkdir()
    names = list(weights)
    halves = {"pytorch_model-00001-of-00002.bin": names[:9], "pytorch_model-00002-of-00002.bin": names[9:]}
    for file, some in halves.items():
        torch.save({name: weights[name].bfloat16() for name in some}, folder / file)
    index = {"metadata": {}, "weight_map": {name: file for file, some in halves.items() for name in some}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index, indent=1) + "\n")


def save_one(state, folder, **options):
    folder.mkdir()
    torch.save(state, folder / "pytorch_model.bin", **options)


def main():
    for folder in HERE.iterdir():
        if folder.is_dir():
            shutil.rmtree(folder)
    generator = torch.Generator().manual_seed(1)
    number = lambda shape: torch.randint(-63, 64, shape, generator=generator) / 64
    weights = {name: number(shape) for name, shape in shapes()}
    model = HERE / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(CONFIG, indent=1) + "\n")
    (model / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    save_file(weights, model / "model.safetensors")

    save_one(as_views(weights), HERE / "single")
    save_shards(weights, HERE / "shards")
    mixed = {name: tensor.to(DTYPES[i % 4]) for i, (name, tensor) in enumerate(weights.items())}
    mixed["bert.embeddings.position_ids"] = torch.arange(8)[None]
    save_one({"step": torch.tensor(7), "state_dict": mixed}, HERE / "wrapped")

    words = "bert.embeddings.word_embeddings.weight"
    save_one({words: weights[words]}, HERE / "before_1_6", _use_new_zipfile_serialization=False)
    save_one({words: torch.zeros(len(WORDS), 2 * CHANNELS)[:, ::2]}, HERE / "every_other")
    save_one([weights[words]], HERE / "nameless")


main()
