"""Captum's IntegratedGradients over the pixels that a Qwen2-VL folder reads, once per line of standard input.

    python captum_vlm.py FOLDER TASK SETTING THREADS

With TASK make the folder is made: a Qwen2VLForConditionalGeneration of 32 million parameters with random weights, its
processor, a tokenizer in which the word "w7" is a token, and prompt.txt, in which the picture's place is empty. With TASK
pixels every line that comes in starts one run, and its answer is a line of JSON: seconds, peak memory in MiB, sum of the
scores, delta. SETTING sdpa-10 means PyTorch's own attention and an internal batch of 10; the other attention is eager.
"""

import json
import sys

import torch
import transformers
from captum.attr import IntegratedGradients
from serving import serve
from tokenizers import Tokenizer, models, pre_tokenizers

SIZE, PATCH, MERGE, FRAMES = 224, 14, 2, 2
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
END, TURN, OPEN, CLOSE, PAD, FILM = SPECIAL = [
    "<|im_end|>", "<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"
]
VOCABULARY, TARGET = 8000, 7


def make(folder: str) -> None:
    torch.manual_seed(0)
    vision = dict(
        depth=6, embed_dim=320, hidden_size=512, num_heads=8, mlp_ratio=4, patch_size=PATCH, spatial_merge_size=MERGE,
        temporal_patch_size=FRAMES,
    )
    text = dict(
        vocab_size=VOCABULARY, hidden_size=512, intermediate_size=1024, num_hidden_layers=8, num_attention_heads=8,
        num_key_value_heads=2, max_position_embeddings=2048, rms_norm_eps=1e-6, bos_token_id=None, eos_token_id=0,
        rope_parameters=dict(rope_type="default", rope_theta=1e6, mrope_section=[8, 12, 12]),
    )
    config = transformers.Qwen2VLConfig(
        vision_config=vision, text_config=text, tie_word_embeddings=True, vision_start_token_id=SPECIAL.index(OPEN),
        vision_end_token_id=SPECIAL.index(CLOSE), image_token_id=SPECIAL.index(PAD), video_token_id=SPECIAL.index(FILM),
    )
    transformers.Qwen2VLForConditionalGeneration(config).save_pretrained(folder)
    words = ["system", "user", "assistant"]
    words += [f"w{i}" for i in range(VOCABULARY - len(SPECIAL) - len(words))]
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(SPECIAL + words)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.save(f"{folder}/tokenizer.json")
    processor = dict(
        image_processor_type="Qwen2VLImageProcessor", resample=3, min_pixels=SIZE * SIZE, max_pixels=SIZE * SIZE,
        image_mean=MEAN, image_std=STD, patch_size=PATCH, merge_size=MERGE, temporal_patch_size=FRAMES,
    )
    with open(f"{folder}/preprocessor_config.json", "w") as file:
        json.dump(processor, file)
    # as many tokens as Qwen2-VL's own template has around a question of thirteen words
    said = [" ".join(f"w{37 * (k + 1)}" for k in range(count)) for count in (7, 13)]
    with open(f"{folder}/prompt.txt", "w") as file:
        file.write(f"{TURN}system {said[0]}{END} w1 {TURN}user w1 {OPEN}{CLOSE}{said[1]}{END} {TURN}assistant w1")


def picture() -> torch.Tensor:
    """Waves of bytes, (1,3,h,w) between 0 and 1."""
    channel, row, column = (torch.arange(n) for n in (3, SIZE, SIZE))
    phase = (90 * channel[:, None, None] + 7 * row[:, None] + 13 * column) % 510
    return (torch.minimum(phase, 510 - phase) / 255)[None]


def cut(x: torch.Tensor) -> torch.Tensor:
    """(n,3,h,w) → (n·t,3·f·p·p): the patches of a visual token follow each other, and f frames are alike."""
    cells = SIZE // PATCH // MERGE
    x = x.unflatten(3, (cells, MERGE, PATCH)).unflatten(2, (cells, MERGE, PATCH))
    x = x.permute(0, 2, 5, 3, 6, 1, 4, 7)[..., None, :, :]
    return x.expand(*x.shape[:6], FRAMES, PATCH, PATCH).reshape(-1, 3 * FRAMES * PATCH * PATCH)


def pixels(folder: str, setting: str):
    """A function that explains the next token's logit once: scores and delta."""
    attention, _, batch = setting.partition("-")
    model = transformers.Qwen2VLForConditionalGeneration.from_pretrained(folder, attn_implementation=attention).eval()
    model.requires_grad_(False)
    with open(f"{folder}/prompt.txt") as file:
        text = file.read().replace(OPEN, OPEN + PAD * (SIZE // PATCH // MERGE) ** 2)
    ids = torch.tensor([Tokenizer.from_file(f"{folder}/tokenizer.json").encode(text).ids])
    kinds, grid = (ids == SPECIAL.index(PAD)).int(), torch.tensor([[1, SIZE // PATCH, SIZE // PATCH]])
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (MEAN, STD))

    def logits(x):
        n = len(x)
        said = model(
            input_ids=ids.expand(n, -1), mm_token_type_ids=kinds.expand(n, -1), image_grid_thw=grid.expand(n, -1),
            pixel_values=cut((x - mean) / std), use_cache=False, logits_to_keep=1,
        )
        return said.logits[:, -1]

    method, x = IntegratedGradients(logits), picture()

    def explain():
        scores, delta = method.attribute(
            x, torch.zeros_like(x), target=TARGET, n_steps=50, internal_batch_size=int(batch), return_convergence_delta=True
        )
        return scores, delta.item()

    return explain


if __name__ == "__main__":
    folder, task, setting, threads = sys.argv[1:5]
    torch.set_num_threads(int(threads))
    transformers.utils.logging.set_verbosity_error()
    make(folder) if task == "make" else serve(pixels(folder, setting))
