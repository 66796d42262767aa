"""Captum's IntegratedGradients over the pixels that a Qwen2-VL folder reads. How it is asked: serving.py.

Task make: a Qwen2VLForConditionalGeneration with random weights, its processor, a tokenizer in which the word "w7" is a token, and
prompt.txt, in which the picture's place is empty. Task pixels, setting sdpa-10: PyTorch's own attention and an internal batch of 10;
the other attention is eager.
"""

import json

import torch
import transformers
from captum.attr import IntegratedGradients
from serving import asked, serve
from tokenizers import Tokenizer, models, pre_tokenizers

PATCH, MERGE, FRAMES = 14, 2, 2
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
END, TURN, OPEN, CLOSE, PAD, FILM = SPECIAL = [
    "<|im_end|>", "<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"
]
TARGET = 7


def make(folder: str, model) -> None:
    torch.manual_seed(0)
    vision = dict(
        depth=model.eyes.layers, embed_dim=model.eyes.channels, hidden_size=model.channels, num_heads=model.eyes.heads,
        mlp_ratio=model.eyes.inner // model.eyes.channels, patch_size=PATCH, spatial_merge_size=MERGE,
        temporal_patch_size=FRAMES,
    )
    half = model.channels // model.heads // 2
    text = dict(
        vocab_size=model.vocabulary, hidden_size=model.channels, intermediate_size=model.inner,
        num_hidden_layers=model.layers, num_attention_heads=model.heads, num_key_value_heads=model.shared,
        max_position_embeddings=model.places, rms_norm_eps=1e-6, bos_token_id=None, eos_token_id=0,
        rope_parameters=dict(
            rope_type="default", rope_theta=1e6, mrope_section=[half // 4, 3 * half // 8, 3 * half // 8]
        ),
    )
    config = transformers.Qwen2VLConfig(
        vision_config=vision, text_config=text, tie_word_embeddings=True, vision_start_token_id=SPECIAL.index(OPEN),
        vision_end_token_id=SPECIAL.index(CLOSE), image_token_id=SPECIAL.index(PAD), video_token_id=SPECIAL.index(FILM),
    )
    transformers.Qwen2VLForConditionalGeneration(config).save_pretrained(folder)
    words = ["system", "user", "assistant"]
    words += [f"w{i}" for i in range(model.vocabulary - len(SPECIAL) - len(words))]
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(SPECIAL + words)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.save(f"{folder}/tokenizer.json")
    processor = dict(
        image_processor_type="Qwen2VLImageProcessor", resample=3, min_pixels=model.side**2, max_pixels=model.side**2,
        image_mean=MEAN, image_std=STD, patch_size=PATCH, merge_size=MERGE, temporal_patch_size=FRAMES,
    )
    with open(f"{folder}/preprocessor_config.json", "w") as file:
        json.dump(processor, file)
    # as many tokens as Qwen2-VL's own template has around a question of thirteen words
    said = [" ".join(f"w{37 * (k + 1)}" for k in range(count)) for count in (7, 13)]
    with open(f"{folder}/prompt.txt", "w") as file:
        file.write(f"{TURN}system {said[0]}{END} w1 {TURN}user w1 {OPEN}{CLOSE}{said[1]}{END} {TURN}assistant w1")


def picture(side: int) -> torch.Tensor:
    """Waves of bytes, (1,3,h,w) between 0 and 1."""
    channel, row, column = (torch.arange(n) for n in (3, side, side))
    phase = (90 * channel[:, None, None] + 7 * row[:, None] + 13 * column) % 510
    return (torch.minimum(phase, 510 - phase) / 255)[None]


def cut(x: torch.Tensor) -> torch.Tensor:
    """(n,3,h,w) → (n·t,3·f·p·p): the patches of a visual token follow each other, and f frames are alike."""
    cells = x.shape[-1] // PATCH // MERGE
    x = x.unflatten(3, (cells, MERGE, PATCH)).unflatten(2, (cells, MERGE, PATCH))
    x = x.permute(0, 2, 5, 3, 6, 1, 4, 7)[..., None, :, :]
    return x.expand(*x.shape[:6], FRAMES, PATCH, PATCH).reshape(-1, 3 * FRAMES * PATCH * PATCH)


def pixels(options):
    """A function that explains the next token's logit once: scores and delta."""
    attention, _, batch = options.setting.partition("-")
    model = transformers.Qwen2VLForConditionalGeneration.from_pretrained(
        options.folder, attn_implementation=attention, dtype=options.dtype
    )
    model = model.eval().requires_grad_(False).to(options.device)
    patches = options.model.side // PATCH
    with open(f"{options.folder}/prompt.txt") as file:
        text = file.read().replace(OPEN, OPEN + PAD * (patches // MERGE) ** 2)
    ids = torch.tensor([Tokenizer.from_file(f"{options.folder}/tokenizer.json").encode(text).ids], device=options.device)
    kinds, grid = (ids == SPECIAL.index(PAD)).int(), torch.tensor([[1, patches, patches]], device=options.device)
    x = picture(options.model.side).to(options.device, options.dtype)
    mean, std = (torch.tensor(numbers).to(x)[:, None, None] for numbers in (MEAN, STD))

    def logits(x):
        n = len(x)
        said = model(
            input_ids=ids.expand(n, -1), mm_token_type_ids=kinds.expand(n, -1), image_grid_thw=grid.expand(n, -1),
            pixel_values=cut((x - mean) / std), use_cache=False, logits_to_keep=1,
        )
        return said.logits[:, -1]

    method = IntegratedGradients(logits)
    how = dict(n_steps=options.work.steps, internal_batch_size=int(batch), return_convergence_delta=True)
    return lambda: method.attribute(x, torch.zeros_like(x), target=TARGET, **how)


if __name__ == "__main__":
    options = asked()
    if options.task == "make":
        make(options.folder, options.model)
    else:
        serve(pixels(options), options.device)
