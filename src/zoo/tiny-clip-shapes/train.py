"""Make pellucid/tiny-clip-shapes: a CLIP that tells which captions are true of a drawn scene.

The script draws scenes (scenes.py), hides parts of every other one as explanations do (hide.py),
writes captions, trains the two towers of a CLIP on both and saves, in this folder, everything that
the model zoo embeds:

    config.json, model.safetensors         the model, as Hugging Face's CLIPModel has it
    preprocessor_config.json               how pictures become its input, as CLIPImageProcessor has it
    tokenizer.json, tokenizer_config.json  its byte-level BPE; every word of the captions is one token
    truth.json                             held-out scenes, as data: where their objects are is known

Captions name an object, a shape, a colour, or two objects: «a red circle», «a circle», «something
red», «a photo of a red circle and a blue square». Places, sizes, shapes and colours say nothing
about each other, so whether «a red circle» is true of a scene is decided by the pixels of the red
circle and by no others.

It is known which caption is true of which scene, so the contrastive loss has no false negatives:
all true captions of a scene share its probability, likewise all true scenes of a caption. Every
batch holds every single object, shape and colour, and pairs beside pairs with swapped colours.

While it is trained, the image tower also says for each patch which shapes and colours it shows;
the layer that does so is thrown away afterwards. Run it here; one CPU core needs about 40 minutes:

    pip install -r requirements.txt
    python train.py
"""

import json
import math
import sys
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise, permutations
from pathlib import Path
from random import Random

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import normalize
from transformers import AutoTokenizer, CLIPConfig, CLIPModel

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
from hide import ABSENT, PRESENT, View, drawn, look  # noqa: E402
from pointing import CELL, CELLS, Score, pointing  # noqa: E402
from scenes import COLOURS, SHAPES, SIDE, Object, Scene, random_scene  # noqa: E402

SEED = 12
STEPS, BATCH_SIZE, LEARNING_RATE = 5000, 64, 1.5e-3
OBJECTS = {0: 6, 1: 26, 2: 36, 3: 32}  # how many, how often, in training
PAIRS = 48  # in a batch
TESTED, TOLD, POINTED = 1000, 60, 60  # held-out scenes: those tested, those in truth.json, those pointed at
MAX_TOKENS = 24
VISIBLE_IN_PATCH = 0.1
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


# --- Captions ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mention:
    """Something with a shape, a colour, or both."""

    shape: str | None
    colour: str | None

    def __str__(self) -> str:
        if self.shape is None:
            return f"something {self.colour}"
        words = [self.colour, self.shape] if self.colour else [self.shape]
        return " ".join(["an" if words[0][0] in "aeiou" else "a", *words])

    def fits(self, thing: Object) -> bool:
        return self.shape in (None, thing.shape) and self.colour in (None, thing.colour)


Caption = tuple[Mention, ...]  # one mention, or two
OBJECT_MENTIONS = [Mention(shape, colour) for colour in COLOURS for shape in SHAPES]
MENTIONS = OBJECT_MENTIONS + [Mention(shape, None) for shape in SHAPES] + [Mention(None, colour) for colour in COLOURS]
PREFIXES = ["a photo of ", "a drawing of ", "a picture of "]
SPECIAL_TOKENS = ["<|startoftext|>", "<|endoftext|>"]


def spell(caption: Caption) -> str:
    return " and ".join(map(str, caption))


def with_prefix(caption: Caption, rng: Random) -> str:
    return (rng.choice(PREFIXES) if rng.random() < 0.5 else "") + spell(caption)


def swapped(first: Mention, second: Mention) -> Caption:
    return Mention(first.shape, second.colour), Mention(second.shape, first.colour)


def write_pairs(scenes: list[Scene], rng: Random) -> list[Caption]:
    """Pairs that are true of some scene, the same with swapped colours, and the same with one thing changed."""
    pairs: list[Caption] = []
    while len(pairs) < PAIRS:
        objects = rng.choice([scene for scene in scenes if len(scene.objects) > 1]).objects
        first, second = (Mention(thing.shape, thing.colour) for thing in rng.sample(objects, 2))
        other_colour = Mention(first.shape, rng.choice(list(COLOURS)))
        other_shape = Mention(rng.choice([shape for shape in SHAPES if shape != second.shape]), first.colour)
        changed = rng.choice([(other_colour, second), (other_shape, second)])
        pairs += [(first, second), rng.choice([swapped(first, second), rng.choice([changed, changed[::-1]])])]
    return list(dict.fromkeys(pairs))


# --- What is right -----------------------------------------------------------------------------


def verdict(visible: float) -> float:
    """1 for what is there, 0 for what is not, one half where that cannot be said."""
    return 1.0 if visible >= PRESENT else 0.0 if visible <= ABSENT else 0.5


def mentions_true(scene: Scene, visible: list[float]) -> np.ndarray:
    """(48,): how true each mention is: 1, 0, or one half where that cannot be said."""
    true = [[verdict(v) * mention.fits(o) for o, v in zip(scene.objects, visible)] for mention in MENTIONS]
    return np.array([max(found, default=0.0) for found in true], np.float32)


def captions_true(mentions: torch.Tensor, captions: list[Caption]) -> torch.Tensor:
    """(n,48) to (n, captions): a caption is as true as its less true mention."""
    ends = torch.tensor([[MENTIONS.index(caption[0]), MENTIONS.index(caption[-1])] for caption in captions])
    return torch.minimum(mentions[:, ends[:, 0]], mentions[:, ends[:, 1]])


def patch_answers(scene: Scene, view: View) -> np.ndarray:
    """(64,12): whether a patch shows each shape and each colour; NaN where that cannot be said."""
    right = np.zeros((CELLS**2, len(SHAPES) + len(COLOURS)), np.float32)
    for thing, covered, visible in zip(scene.objects, view.covered, view.visible):
        share = covered.reshape(CELLS, CELL, CELLS, CELL).mean(axis=(1, 3)).ravel()
        value = {1.0: 1.0, 0.5: np.nan, 0.0: 0.0}[verdict(visible)]
        for column in (list(SHAPES).index(thing.shape), len(SHAPES) + list(COLOURS).index(thing.colour)):
            right[share >= VISIBLE_IN_PATCH, column] = value
    return right


# --- The tokenizer -----------------------------------------------------------------------------


def build_tokenizer() -> Tokenizer:
    """CLIP's, with a vocabulary of bytes, bytes at the end of a word, and the words of the captions."""
    ends = f"{' '.join(PREFIXES)} {' '.join(map(str, MENTIONS))} and the".split()
    words = sorted(set(ends) - {"a"})
    merges = merges_of(words)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges), *SPECIAL_TOKENS]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    start, end = SPECIAL_TOKENS
    bpe = models.BPE(vocabulary, merges, unk_token=end, continuing_subword_prefix="", end_of_word_suffix="</w>")
    tokenizer = Tokenizer(bpe)
    tokenizer.add_special_tokens(SPECIAL_TOKENS)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    pattern = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(
        (end, vocabulary[end]), (start, vocabulary[start]), trim_offsets=False, add_prefix_space=False
    )
    assert all(tokenizer.encode(word).tokens[1:-1] == [f"{word}</w>"] for word in ["a", *words])
    return tokenizer


def merges_of(words: list[str]) -> list[tuple[str, str]]:
    """The most frequent pair, again and again, until every word is one token; of equals the first by alphabet."""
    split, merges = [[*word[:-1], f"{word[-1]}</w>"] for word in words], []
    while pairs := Counter(pair for pieces in split for pair in pairwise(pieces)):
        merges.append(min(pairs, key=lambda pair: (-pairs[pair], pair)))
        split = [merge(pieces, merges[-1]) for pieces in split]
    return merges


def merge(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for piece in pieces:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return merged


def tokenize(tokenizer: Tokenizer, texts: list[str]) -> torch.Tensor:
    """(texts, tokens); shorter texts are filled up with the end token."""
    rows = [tokenizer.encode(text).ids for text in texts]
    longest = max(map(len, rows))
    return torch.tensor([row + row[-1:] * (longest - len(row)) for row in rows])


# --- Training ----------------------------------------------------------------------------------


def build_model(tokenizer: Tokenizer) -> CLIPModel:
    start, end = map(tokenizer.token_to_id, SPECIAL_TOKENS)
    common = dict(num_attention_heads=4, hidden_act="quick_gelu", layer_norm_eps=1e-5, projection_dim=64)
    text = dict(
        common,
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=start,
        eos_token_id=end,
        pad_token_id=end,
    )
    vision = dict(common, hidden_size=80, intermediate_size=240, num_hidden_layers=4, image_size=SIDE, patch_size=CELL)
    config = CLIPConfig(
        architectures=["CLIPModel"],
        dtype="float32",
        text_config=text,
        vision_config=vision,
        projection_dim=64,
        initializer_factor=1.0,
    )
    return CLIPModel(config)


def pixel_values(pictures: torch.Tensor) -> torch.Tensor:
    """(n,64,64,3), 0 to 255, to (n,3,64,64)."""
    return ((pictures / 255 - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2)


def embed_pictures(model: CLIPModel, pictures: torch.Tensor) -> torch.Tensor:
    pooled = model.vision_model(pixel_values(pictures)).pooler_output
    return normalize(model.visual_projection(pooled), dim=-1)


def embed_texts(model: CLIPModel, ids: torch.Tensor) -> torch.Tensor:
    return normalize(model.text_projection(model.text_model(ids).pooler_output), dim=-1)


def shared(logits: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of each row against equal shares for all that is true, or for all where nothing is.

    What cannot be said to be true or false is left out; so are rows of which only that is left.
    """
    unsure = true == 0.5
    right = (true == 1).float()
    rows = (right.sum(1) > 0) | ~unsure.any(1)
    right = torch.where(right.sum(1, keepdim=True) > 0, right, torch.ones_like(right))
    log_probs = logits.masked_fill(unsure, -1e4).log_softmax(dim=1)
    return -((right * log_probs).sum(1) / right.sum(1))[rows].mean()


def contrastive(logits: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Both ways; captions that are true of no scene in the batch ask nothing of the scenes."""
    asked = (true == 1).any(0)
    return shared(logits, true) + shared(logits.T[asked], true.T[asked])


def known_loss(logits: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    known = ~right.isnan()
    return bce(logits[known], right[known])


def train(model: CLIPModel, tokenizer: Tokenizer, rng: Random) -> None:
    width = model.config.vision_config.hidden_size
    patch_head = torch.nn.Sequential(torch.nn.LayerNorm(width), torch.nn.Linear(width, len(SHAPES) + len(COLOURS)))
    parameters = [*model.parameters(), *patch_head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, STEPS, pct_start=0.08)
    model.train()
    losses = []
    for step in range(STEPS):
        counts = rng.choices(list(OBJECTS), list(OBJECTS.values()), k=BATCH_SIZE)
        scenes = [random_scene(rng, count) for count in counts]
        views = [look(scene, drawn(scene), rng) for scene in scenes]
        captions = [(mention,) for mention in MENTIONS] + write_pairs(scenes, rng)
        ids = tokenize(tokenizer, [with_prefix(caption, rng) for caption in captions])
        mentions = np.stack([mentions_true(scene, view.visible) for scene, view in zip(scenes, views)])
        true = captions_true(torch.tensor(mentions), captions)

        pictures = torch.tensor(np.stack([view.picture for view in views]))
        seen = model.vision_model(pixel_values(pictures))
        images = normalize(model.visual_projection(seen.pooler_output), dim=-1)
        loss = contrastive(model.logit_scale.exp() * images @ embed_texts(model, ids).T, true)
        patches = np.stack([patch_answers(scene, view) for scene, view in zip(scenes, views)])
        patch_loss = known_loss(patch_head(seen.last_hidden_state[:, 1:]), torch.tensor(patches))

        optimizer.zero_grad()
        (loss + 5 * patch_loss).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        model.logit_scale.data.clamp_(max=math.log(100))
        losses.append((loss.item(), patch_loss.item()))
        if step % 100 == 99:
            print(f"step {step + 1}: loss, of patches {np.mean(losses[-100:], axis=0).round(4)}", flush=True)
        if step % 500 == 499:
            print(tested(model, tokenizer, held_out()), flush=True)
            model.train()
    model.eval()


def round_to_half(model: torch.nn.Module) -> None:
    """Keep float32 weights, but only values that float16 can store."""
    for parameter in model.parameters():
        parameter.data = parameter.data.half().float()


# --- The known truth, and whether the model holds to it ----------------------------------------


def held_out() -> list[Scene]:
    rng = Random(f"held out {FOLDER.name}")
    return [random_scene(rng, (2, 3, 2, 3, 1, 2, 3, 2, 3, index // 10 % 2)[index % 10]) for index in range(TESTED)]


@torch.no_grad()
def similarities(model: CLIPModel, tokenizer: Tokenizer, scenes: list[Scene], captions: list[Caption]) -> torch.Tensor:
    """(scenes, captions): cosines."""
    model.eval()
    pictures = torch.tensor(np.stack([scene.render() for scene in scenes])).float()
    images = torch.cat([embed_pictures(model, part) for part in pictures.split(100)])
    return images @ embed_texts(model, tokenize(tokenizer, [spell(caption) for caption in captions])).T


def ordered(scores: torch.Tensor, true: torch.Tensor) -> float:
    """How often, in a row, what is true has the larger score than what is false."""
    higher = scores[:, :, None] > scores[:, None, :]
    pairs = (true[:, :, None] == 1) & (true[:, None, :] == 0)
    return round((higher & pairs).sum().item() / pairs.sum().item(), 4)


def tested(model: CLIPModel, tokenizer: Tokenizer, scenes: list[Scene]) -> dict:
    """The share of pairs of a true and a false caption in which the true one is more similar to the scene."""
    captions = [(mention,) for mention in MENTIONS]
    scores = similarities(model, tokenizer, scenes, captions)
    true = torch.tensor(np.stack([mentions_true(scene, [1.0] * len(scene.objects)) for scene in scenes]))
    objects, shapes, colours = slice(0, 36), slice(36, 42), slice(42, 48)
    result = dict(accuracy=ordered(scores[:, objects], true[:, objects]))
    result |= dict(shapes=ordered(scores[:, shapes], true[:, shapes]))
    result |= dict(colours=ordered(scores[:, colours], true[:, colours]))
    return result | exactly(scores[:, objects], true[:, objects]) | swaps(model, tokenizer, scenes)


def exactly(scores: torch.Tensor, true: torch.Tensor) -> dict:
    """How often the true captions of single objects are all more similar than any false one."""
    some = true.sum(1) > 0
    lowest_true = scores.masked_fill(true == 0, 9).amin(1)
    highest_false = scores.masked_fill(true == 1, -9).amax(1)
    return dict(scenes_right=round((lowest_true > highest_false)[some].float().mean().item(), 4))


def swaps(model: CLIPModel, tokenizer: Tokenizer, scenes: list[Scene]) -> dict:
    """How often a true caption beats the one with swapped colours, as a pair and each of its objects alone."""
    rows, true, false = [], [], []
    for row, scene in enumerate(scenes):
        mentions = [Mention(thing.shape, thing.colour) for thing in scene.objects]
        for first, second in permutations(mentions, 2):
            if first.colour != second.colour:
                both = swapped(first, second)
                rows += [row, row]
                true += [(first, second), (first,)]
                false += [both, both[:1]]
    names = list(dict.fromkeys(true + false))
    scores = similarities(model, tokenizer, scenes, names)
    column = {name: index for index, name in enumerate(names)}
    right = [scores[r, column[t]] > scores[r, column[f]] for r, t, f in zip(rows, true, false)]
    share = [round(np.mean(right[kind::2]).item(), 4) for kind in range(2)]
    return dict(pairs_over_swapped=share[0], objects_over_swapped=share[1])


def check(model: CLIPModel, tokenizer: Tokenizer, scenes: list[Scene]) -> dict:
    def score_of(scene: Scene, index: int) -> Score:
        thing = scene.objects[index]
        text = embed_texts(model, tokenize(tokenizer, [str(Mention(thing.shape, thing.colour))]))[0].detach()
        return lambda pictures: embed_pictures(model, pictures) @ text

    return tested(model, tokenizer, scenes) | dict(pointing=pointing(score_of, scenes[:POINTED]))


# --- Files -------------------------------------------------------------------------------------

ABOUT = (
    "Held-out scenes of tiny-clip-shapes, 64 x 64 pixels, drawn as scenes.py and drawing.rs draw "
    "them; adler32 is the checksum of their bytes, row by row. The classes are the captions of "
    "single objects; other captions name a shape («a circle»), a colour («something red») or two "
    "objects («a red circle and a blue square»), and each may begin with «a photo of», «a drawing "
    "of» or «a picture of». A scene holds up to three objects of different shapes, which do not "
    "touch; places, sizes, shapes and colours say nothing about each other. So whether a caption is "
    "true is decided by the pixels of the objects that it names. accuracy: in how many pairs of a "
    "true and a false class the true one is more similar to the scene. The model has seen scenes "
    "with parts painted over in black, white, greys or their mean colour, blurred, faded, and flat: "
    "an object of which less than 15 % is visible is not there, one of which 60 % is visible is. "
    f"Measured on {TESTED} held-out scenes. shapes, colours: like accuracy, among captions of a "
    "shape, or of a colour. scenes_right: in how many scenes all true classes are more similar than "
    "any false one. pairs_over_swapped: how often «a red circle and a blue square» is more similar "
    "than «a blue circle and a red square» where that is so; objects_over_swapped: the same of «a "
    "red circle» and «a blue circle». pointing, in the scenes below: how often the similarity to an "
    "object's caption is decided most by one of the 8 x 8 patches that the object touches, and how "
    "often a random patch would be one of these."
)


def save(model: CLIPModel, tokenizer: Tokenizer) -> None:
    model.save_pretrained(FOLDER)
    weights = load_file(FOLDER / "model.safetensors")
    weights = {name: tensor.half().contiguous() for name, tensor in weights.items()}
    save_file(weights, FOLDER / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(FOLDER / "tokenizer.json"))
    start, end = SPECIAL_TOKENS
    words = dict(
        tokenizer_class="PreTrainedTokenizerFast",
        clean_up_tokenization_spaces=False,
        bos_token=start,
        eos_token=end,
        pad_token=end,
        unk_token=end,
        model_max_length=MAX_TOKENS,
    )
    pictures = dict(
        image_processor_type="CLIPImageProcessor",
        do_resize=True,
        size=dict(shortest_edge=SIDE),
        resample=3,
        do_center_crop=True,
        crop_size=dict(height=SIDE, width=SIDE),
        do_rescale=True,
        rescale_factor=1 / 255,
        do_normalize=True,
        image_mean=MEAN,
        image_std=STD,
        do_convert_rgb=True,
    )
    for name, settings in [("tokenizer_config", words), ("preprocessor_config", pictures)]:
        (FOLDER / f"{name}.json").write_text(json.dumps(settings, indent=2) + "\n")


def save_truth(scenes: list[Scene], checked: dict) -> None:
    """Write truth.json with one scene per line."""
    classes = list(map(str, OBJECT_MENTIONS))
    header = json.dumps(dict(about=ABOUT, classes=classes, **checked), indent=1, ensure_ascii=False)[:-2]
    rows = ",\n".join(json.dumps(scene.to_json()) for scene in scenes[:TOLD])
    (FOLDER / "truth.json").write_text(f'{header},\n "scenes": [\n{rows}\n]}}\n', encoding="utf-8")


def check_files(model: CLIPModel, tokenizer: Tokenizer) -> CLIPModel:
    """Hugging Face reads the files, and as they were meant."""
    texts = ["a red circle", "A photo of an orange star and a blue square", "the cat"]
    ids = tokenize(tokenizer, texts)
    read = AutoTokenizer.from_pretrained(FOLDER)(texts, padding=True, return_tensors="pt")
    assert read.input_ids.tolist() == ids.tolist()
    again = CLIPModel.from_pretrained(FOLDER, dtype=torch.float32).eval()
    pictures = torch.tensor(np.stack([scene.render() for scene in held_out()[:2]])).float()
    out = again(pixel_values=pixel_values(pictures), **read)
    ours = model.logit_scale.exp() * embed_pictures(model, pictures) @ embed_texts(model, ids).T
    assert torch.allclose(out.logits_per_image, ours, atol=1e-3)
    return again


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    scenes, tokenizer = held_out(), build_tokenizer()
    model = build_model(tokenizer)
    train(model, tokenizer, Random(SEED))
    print("float32 weights:", tested(model, tokenizer, scenes))
    round_to_half(model)
    save(model, tokenizer)
    checked = check(check_files(model, tokenizer), tokenizer, scenes)
    print("float16 weights, read again:", checked)
    save_truth(scenes, checked)


if __name__ == "__main__":
    main()
