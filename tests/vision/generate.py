"""Makes the folders beside this file: tiny models of real file formats, and what their own libraries say of a picture.

    python generate.py

Needs torch, torchvision, timm 1.0, transformers 5, open_clip_torch 3, safetensors, tokenizers and Pillow 12; it runs on a
CPU in less than a minute. (Pillow 13 makes the columns of some pictures shorter before their rows; what is in between is
rounded to 8 bits, so that other bytes come out.)

Each model's folder is first written as its library's users would find it, then loaded again by that library, and its
answers are computed in float64. Weights are random and larger than any library's own start, so that no part of a network
is too small to be missed. Pictures are drawn by a formula, which the tests know as well.
"""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import open_clip
import timm
import timm.layers
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file
from timm.data import create_transform
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

HERE = Path(__file__).parent
TARGET = 1
MEAN, STD = [0.3, 0.5, 0.6], [0.2, 0.25, 0.3]
WORDS = "a red blue green star circle square and the of picture".split()
PROMPTS = ["the picture of a blue square and a star", "a red star", "circle"]


def picture(height, width):
    """Bytes (h,w,3): parabolas that wrap around, so that there are slopes and edges everywhere."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return ((3 * x * x + 5 * y * y + 7 * x * y + 40 * c * x + 90 * c) // 4 % 256).astype(np.uint8)


def pixels(size):
    """(1,3,h,w) between 0 and 1, to be differentiated by."""
    x = torch.tensor(picture(*size), dtype=torch.float64).permute(2, 0, 1)[None] / 255
    return x.requires_grad_()


def normalised(x, mean=MEAN, std=STD):
    channelwise = lambda numbers: torch.tensor(numbers, dtype=torch.float64)[:, None, None]
    return (x - channelwise(mean)) / channelwise(std)


def randomise(model, seed):
    """Weights of a size that matters: gains around one, matrices that keep their input's size."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator)
        is_gain = "norm" in name or "ln_" in name or "gamma" in name or name.endswith(("layrnorm.weight",))
        if name == "logit_scale":
            value = torch.tensor(1.5)
        elif is_gain and not name.endswith("bias"):
            value = 1 + 0.3 * noise
        elif parameter.dim() in (2, 4) and "embed" not in name.replace("patch_embed", ""):
            value = 1.2 * noise / parameter[0].numel() ** 0.5
        else:
            value = 0.4 * noise
        parameter.data.copy_(value)


def rounded(numbers):
    return [float(f"{number:.12g}") for number in numbers.detach().flatten().tolist()]


def write(folder, name, content):
    (folder / name).write_text(json.dumps(content, separators=(",", ":")) + "\n")


def expected(folder, x, logits, patterns, **more):
    """Logits (v,), the gradient of one of them at the pixels, and every layer's pattern (h,t,t)."""
    (slope,) = torch.autograd.grad(logits[0, TARGET], x, retain_graph=True)
    answers = {"size": list(x.shape[2:]), "logits": rounded(logits), "target": TARGET, "gradient": rounded(slope)}
    answers["attention"] = [rounded(pattern[0]) for pattern in patterns]
    write(folder, "expected.json", answers | more)


def empty(name):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def hugging_face(name, kind, configuration, size, seed, **more):
    folder = empty(name)
    shape = dict(hidden_size=12, num_hidden_layers=2, num_attention_heads=2, intermediate_size=18, patch_size=4)
    shape |= dict(image_size=size, num_labels=3, hidden_act="gelu") | more
    model = kind(configuration(**shape))
    randomise(model, seed)
    model.save_pretrained(folder)
    write(folder, "preprocessor_config.json", {
        "image_processor_type": "ViTImageProcessor", "do_resize": True, "do_rescale": True, "do_normalize": True,
        "size": {"height": size[0], "width": size[1]}, "resample": 2, "rescale_factor": 1 / 255,
        "image_mean": MEAN, "image_std": STD,
    })
    # the road that shows patterns has its softmax in float32, the other one has not
    load = lambda road: kind.from_pretrained(folder, attn_implementation=road, dtype=torch.float64).eval()
    x = pixels(size)
    patterns = load("eager")(normalised(x), output_attentions=True).attentions
    expected(folder, x, load("sdpa")(normalised(x)).logits, patterns)


def timm_folder(name, architecture, seed, make=None, **arguments):
    """A folder as timm's `push_to_hf_hub` writes it. timm's own gMixers have patches of 16 × 16 pixels, which would fill it
    with numbers; smaller ones are made as timm makes those."""
    folder = empty(name)
    model = make(**arguments) if make else timm.create_model(architecture, **arguments)
    randomise(model, seed)
    save_file(model.state_dict(), folder / "model.safetensors")
    size = timm.layers.to_2tuple(arguments["img_size"])
    config = {"architecture": architecture, "num_classes": model.num_classes, "num_features": model.num_features}
    config |= {"global_pool": model.global_pool, "model_args": arguments}
    config["pretrained_cfg"] = {
        "input_size": [3, *size], "interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "squash",
        "mean": MEAN, "std": STD, "num_classes": model.num_classes, "classifier": "head",
    }
    write(folder, "config.json", config)
    if not make:
        model = timm.create_model(f"local-dir:{folder}", pretrained=True)
    model = model.double().eval()
    if getattr(model, "rope", None):  # its angles are single precision's until they are worked out again
        quarter = model.embed_dim // model.blocks[0].attn.num_heads // 4
        bands = 10000 ** -(torch.arange(quarter, dtype=torch.float64) / quarter)
        single = model.rope.pos_embed.clone()
        model.rope._update_cached_embed(model.rope.feat_shape, bands)
        assert torch.allclose(model.rope.pos_embed, single, atol=1e-5)
    patterns = []
    for block in model.blocks:
        if hasattr(block, "attn"):
            block.attn.attn_drop.register_forward_hook(lambda _, pattern, __: patterns.append(pattern[0]))
    x = pixels(size)
    expected(folder, x, model(normalised(x)), patterns)


TIMM = {
    "timm_distilled": ("deit_tiny_distilled_patch16_224", {}),
    "timm_registers": ("vit_base_patch16_224", dict(reg_tokens=4, no_embed_class=True)),
    "timm_registers_mean": ("vit_medium_patch16_reg4_gap_256", {}),
    "timm_deit3": ("deit3_small_patch16_224", dict(qkv_bias=False)),
    "timm_clip": ("vit_base_patch16_clip_quickgelu_224", {}),
    "timm_siglip": ("vit_so400m_patch16_siglip_gap_256", {}),
    "timm_odd": ("vit_small_patch16_224", dict(img_size=[10, 15])),
    "timm_flexivit": ("flexivit_small", {}),
    "timm_beit": ("beitv2_base_patch16_224", dict(img_size=[8, 12])),
    "timm_eva": ("eva02_small_patch14_336", dict(img_size=[16, 8], embed_dim=16, ref_feat_shape=[2, 4])),
    "timm_eva_apart": ("eva02_base_patch14_448", dict(img_size=16, embed_dim=16)),
    "timm_giant": ("vit_giant_patch14_dinov2", dict(img_size=8, embed_dim=24, num_heads=None)),
}


def all_of_timm():
    timm.layers.set_fused_attn(False)
    shape = dict(img_size=12, patch_size=4, embed_dim=12, depth=2, num_heads=2, mlp_ratio=1.5, num_classes=3)
    for seed, (name, (architecture, arguments)) in enumerate(TIMM.items()):
        given = {key: value for key, value in (shape | arguments).items() if value is not None}
        timm_folder(name, architecture, 10 + seed, **given)
    shape = dict(img_size=12, patch_size=4, embed_dim=12, num_blocks=2, num_classes=3)
    gated = partial(timm.models.mlp_mixer.MlpMixer, mlp_layer=timm.layers.GluMlp, act_layer=torch.nn.SiLU)
    timm_folder("timm_gmixer", "gmixer_12_224", 20, make=gated, **shape)


def tokenizer():
    ends = ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: i for i, word in enumerate(["<unk>", *WORDS, *ends])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.add_special_tokens(ends)
    pairs = [(end, vocabulary[end]) for end in ends]
    tokenizer.post_processor = TemplateProcessing(single=f"{ends[0]} $A {ends[1]}", special_tokens=pairs)
    return tokenizer


def watch(attention, patterns):
    """Makes torch's attention show the pattern of every head."""
    plain = attention.forward

    def forward(query, key, value, need_weights=False, attn_mask=None):
        y, pattern = plain(query, key, value, need_weights=True, attn_mask=attn_mask, average_attn_weights=False)
        patterns.append(pattern)
        return y, pattern

    attention.forward = forward


def clip():
    folder, size, length = empty("open_clip"), 12, 12
    words = tokenizer()
    words.save(str(folder / "tokenizer.json"))
    vision = dict(image_size=size, layers=2, width=8, head_width=4, patch_size=4, mlp_ratio=1.5)
    text = dict(context_length=length, vocab_size=words.get_vocab_size(), width=9, heads=3, layers=2)
    shape = dict(embed_dim=8, vision_cfg=vision, text_cfg=text, quick_gelu=True)
    preprocess = {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "shortest"}
    write(folder, "open_clip_config.json", {"model_cfg": shape, "preprocess_cfg": preprocess})
    model = open_clip.CLIP(**(shape | dict(vision_cfg=dict(vision), text_cfg=dict(text))))
    randomise(model, 30)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()},
              folder / "open_clip_model.safetensors")
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    model = model.double().eval()
    ids = torch.zeros(len(PROMPTS), length, dtype=torch.long)
    for row, prompt in zip(ids, PROMPTS):
        read = words.encode(prompt).ids
        row[: len(read)] = torch.tensor(read)
    seen, read, embedded = [], [], []
    for blocks, patterns in [(model.visual.transformer.resblocks, seen), (model.transformer.resblocks, read)]:
        for block in blocks:
            watch(block.attn, patterns)
    model.token_embedding.register_forward_hook(lambda _, __, x: embedded.append(x))
    x = pixels([size, size])
    logits = model.get_logits(normalised(x), ids)[0]
    (words_slope,) = torch.autograd.grad(logits[0, TARGET], embedded[0], retain_graph=True)
    t = len(words.encode(PROMPTS[TARGET]).ids)
    more = {"prompts": PROMPTS, "text_gradient": rounded(words_slope[TARGET, :t])}
    more["text_attention"] = [rounded(pattern[TARGET, :, :t, :t]) for pattern in read]
    expected(folder, x, logits, seen, **more)


def by_transformers(kind, **config):
    """What transformers makes of pictures with Pillow, and the file that says so."""
    processor = getattr(transformers, kind + "ImageProcessorPil")(**config)
    answer = lambda drawn: processor(drawn, do_rescale=False, do_normalize=False)["pixel_values"][0]
    config = {"image_processor_type": kind + "ImageProcessor"} | config
    return "preprocessor_config.json", config, lambda drawn: np.asarray(answer(drawn)).transpose(1, 2, 0)


def by_timm(size, **config):
    config = dict(input_size=[3, size, size], mean=MEAN, std=STD) | config
    transform = create_transform(
        config["input_size"], interpolation=config["interpolation"], crop_pct=config["crop_pct"],
        crop_mode=config["crop_mode"], normalize=False,
    )
    return "pretrained_cfg", config, lambda drawn: np.asarray(transform(drawn)).transpose(1, 2, 0)


def by_open_clip(size, mode):
    config = dict(mean=MEAN, std=STD, interpolation="bicubic", resize_mode=mode)
    transform = open_clip.image_transform(size, False, (0, 0, 0), (1, 1, 1), resize_mode=mode)
    as_bytes = lambda x: (x.numpy() * 255).round().astype(np.uint8).transpose(1, 2, 0)
    return "preprocess_cfg", config, lambda drawn: as_bytes(transform(drawn))


def pictures():
    """Name: height and width of the picture, and who brings it to a model's size.

    Boxes are an odd number: of an even one, a pixel can lie on the edge between two, and the last bit of a float decides.
    Of what is cut off, many are 3 more than a multiple of 4, where libraries round half of it differently.
    """
    exactly = lambda resample, height, width: by_transformers(
        "ViT", size={"height": height, "width": width}, resample=resample)
    shortest = by_transformers(
        "CLIP", size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}, do_center_crop=True, resample=3)
    cases = {
        "bilinear": ([75, 100], exactly(2, 48, 32)),
        "bicubic_enlarged": ([11, 7], exactly(3, 40, 30)),
        "lanczos": ([64, 90], exactly(1, 24, 20)),
        "lanczos_one_pixel": ([1, 1], exactly(1, 3, 5)),
        "box": ([61, 47], exactly(4, 21, 25)),
        "hamming": ([61, 47], exactly(5, 20, 24)),
        "nearest": ([61, 47], exactly(0, 20, 24)),
        "nearest_enlarged": ([5, 7], exactly(0, 23, 18)),
        "clip_wide": ([40, 99], shortest),
        "clip_tall": ([99, 30], shortest),
        "deit": ([50, 33], by_transformers(
            "DeiT", size={"height": 27, "width": 31}, crop_size={"height": 20, "width": 24}, do_center_crop=True,
            resample=3)),
        "timm_wide": ([60, 83], by_timm(27, interpolation="bicubic", crop_pct=0.9, crop_mode="center")),
        "timm_tall": ([77, 51], by_timm(25, interpolation="bilinear", crop_pct=0.875, crop_mode="center")),
        "timm_squash": ([60, 83], by_timm(25, interpolation="lanczos", crop_pct=0.9, crop_mode="squash")),
        "open_clip_wide": ([40, 50], by_open_clip(12, "shortest")),
        "open_clip_squash": ([40, 67], by_open_clip(12, "squash")),
    }
    folder = empty("pictures")
    for name, (size, (_, _, fit)) in cases.items():
        Image.fromarray(fit(Image.fromarray(picture(*size)))).save(folder / f"{name}.png", optimize=True)
    listed = [{"name": name, "size": size, "file": file, "config": config}
              for name, (size, (file, config, _)) in cases.items()]
    write(folder, "cases.json", listed)


def main():
    deit, plain = transformers.DeiTConfig, transformers.ViTConfig
    hugging_face("deit", transformers.DeiTForImageClassification, deit, [12, 12], 1)
    hugging_face("deit_with_teacher", transformers.DeiTForImageClassificationWithTeacher, deit, [12, 12], 2)
    hugging_face("vit_oblong", transformers.ViTForImageClassification, plain, [8, 16], 3, layer_norm_eps=1e-6)
    all_of_timm()
    clip()
    pictures()


if __name__ == "__main__":
    main()
