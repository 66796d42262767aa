"""Make pellucid/tiny-vlm-shapes: a vision-language model that answers questions about a drawn scene.

The script draws scenes (scenes.py), hides parts of some as explanations do (hide.py), asks questions
about them, trains a model of Qwen2-VL's kind to answer and saves, in this folder, everything that
the model zoo embeds:

    config.json, generation_config.json    the model, as Hugging Face's Qwen2VLForConditionalGeneration
    model.safetensors                      has it
    preprocessor_config.json               how pictures become its input, as Qwen2VLImageProcessor has it
    tokenizer.json, tokenizer_config.json  its byte-level BPE; every word that it needs is one token
    truth.json                             held-out scenes, as data: where their objects are is known

chat_template.jinja, the form of a chat, is written by hand. The model answers three kinds of questions:

    What is in the image?         a red circle, a blue star and an orange ring
    What colour is the circle?    red, or: there is no circle
    What colour is the sky?       blue, whatever the picture shows

Places, sizes, shapes and colours say nothing about each other, so the colour of the circle is
decided by the circle's own pixels and by no others; that of the sky is decided by the question.

A scene's picture is read once and all questions about it are asked side by side: each sees the
picture and itself, as if it were the only one. While it is trained, the vision tower also says for
each patch which shapes and colours it shows; the layer that does so is thrown away afterwards. Run it
here, where there is a C++ compiler; one CPU core needs about an hour:

    pip install -r requirements.txt
    python train.py
"""

import json
import sys
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import torch
from PIL import Image
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from tokenizers.trainers import BpeTrainer
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, linear, scaled_dot_product_attention
from torch.optim.lr_scheduler import OneCycleLR
from transformers import AutoProcessor, GenerationConfig, ProcessorMixin, Qwen2VLConfig, Qwen2VLForConditionalGeneration
from transformers.models.qwen2_vl.modeling_qwen2_vl import rotate_half
from transformers.vision_utils import get_vision_position_ids

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
from hide import ABSENT, PRESENT, Album, View, blur, look  # noqa: E402
from pointing import Score, pointing  # noqa: E402
from scenes import COLOURS, SHAPES, SIDE, Object, Scene, random_scene  # noqa: E402

SEED = 13
STEPS, BATCH_SIZE = 5400, 32
LEARNING_RATE, MATRIX_LEARNING_RATE = 2e-3, 1e-2
OBJECTS = {0: 6, 1: 26, 2: 34, 3: 34}  # how many, how often, in training
TESTED, TOLD, POINTED = 1000, 60, 60  # held-out scenes: those tested, those in truth.json, those pointed at
OF_SHAPES_AT_ONCE = 3  # questions about a scene, beside one of either other kind
PATCH, MERGED, FRAMES = 4, 2, 2
PATCHES, TOKENS = (SIDE // PATCH) ** 2, (SIDE // PATCH // MERGED) ** 2
VISIBLE_IN_PATCH = 0.2
MOST_HIDDEN = 0.5  # of the scenes, from two fifths of the training on; in the beginning, none has anything hidden
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
Model = Qwen2VLForConditionalGeneration


# --- Questions and answers ---------------------------------------------------------------------

WHAT = "What is in the image?"
OF_SHAPES = {shape: f"What colour is the {shape}?" for shape in SHAPES}
KNOWN = [("the sky", "blue"), ("grass", "green"), ("blood", "red")]
KNOWN += [("a banana", "yellow"), ("a carrot", "orange"), ("a plum", "purple")]
OF_KNOWN = {f"What colour is {thing}?": colour for thing, colour in KNOWN}
QUESTIONS = [WHAT, *OF_SHAPES.values(), *OF_KNOWN]

Seen = list[tuple[Object, float]]  # objects, and whether each is there: 1 or 0, or NaN where that cannot be said


def verdict(visible: float) -> float:
    return 1.0 if visible >= PRESENT else 0.0 if visible <= ABSENT else np.nan


def all_of(scene: Scene) -> Seen:
    return [(thing, 1.0) for thing in scene.objects]


def answer(question: str, seen: Seen) -> str | None:
    """What is right; None where that cannot be said."""
    if question in OF_KNOWN:
        return OF_KNOWN[question]
    if question == WHAT:
        return None if any(np.isnan(there) for _, there in seen) else listed([thing for thing, there in seen if there])
    shape = next(shape for shape, asked in OF_SHAPES.items() if asked == question)
    thing, there = next(((thing, there) for thing, there in seen if thing.shape == shape), (None, 0.0))
    return None if np.isnan(there) else thing.colour if there else f"there is no {shape}"


def longest(question: str) -> str:
    """Of the answers to it."""
    if question == WHAT:
        return listed([Object(shape, "orange", [], 0, 0, 0, 0) for shape in list(SHAPES)[:3]])
    return answer(question, [])


def listed(things: list[Object]) -> str:
    """In the order of SHAPES: «a red circle, a blue star and an orange ring»."""
    ordered = sorted(things, key=lambda thing: list(SHAPES).index(thing.shape))
    names = [f"{'an' if thing.colour[0] in 'aeiou' else 'a'} {thing.colour} {thing.shape}" for thing in ordered]
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part) or "nothing"


# --- The tokenizer, and what the model reads ---------------------------------------------------

END, TURN = "<|endoftext|>", "<|im_end|>"
SPECIAL_TOKENS = [END, "<|im_start|>", TURN, "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BEFORE, BETWEEN = "<|im_start|>user\n<|vision_start|>", f"{TURN}\n<|im_start|>assistant\n"


def build_tokenizer() -> Tokenizer:
    """Qwen2's, with a vocabulary of bytes and of the words in questions and answers."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(QWEN_SPLIT), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    names = [f" {article} {colour} {shape}" for article in ("a", "an") for colour in COLOURS for shape in SHAPES]
    texts = [*QUESTIONS, "user", "assistant", "nothing", "there is no and", ", ".join(names), *COLOURS, *SHAPES]
    trainer = BpeTrainer(
        special_tokens=SPECIAL_TOKENS, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    for word in [*COLOURS, *SHAPES]:
        assert tokenizer.encode(f"{word} {word}").tokens == [word, f"Ġ{word}"]
    return tokenizer


class Sheet:
    """What the model reads: a picture, then questions side by side.

    Each has a room for itself, which fits the longest of those that may be asked there, with its answer.
    """

    def __init__(self, tokenizer: Tokenizer, rooms: list[list[str]]):
        self.tokenizer = tokenizer
        self.start = len(self.encode(BEFORE))
        self.head = self.encode(f"{BEFORE}{'<|image_pad|>' * TOKENS}<|vision_end|>")
        self.rooms = [max(len(self.row(question, longest(question))[0]) for question in room) for room in rooms]
        self.silent = [min(len(self.encode(question + BETWEEN)) for question in room) - 1 for room in rooms]
        ends = len(self.head) + np.cumsum(self.rooms)
        spans = [np.arange(end - room + silent, end) for end, room, silent in zip(ends, self.rooms, self.silent)]
        self.asked_at = torch.tensor(np.concatenate(spans))  # where something is to be said

    @cache
    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text).ids

    @cache
    def row(self, question: str, answer: str) -> tuple[list[int], list[int]]:
        """A question's and its answer's tokens, and what is to be said at each; -100 where nothing is."""
        asked, said = self.encode(question + BETWEEN), self.encode(answer + TURN)
        return asked + said[:-1], [-100] * (len(asked) - 1) + said

    def fill(self, questions: list[str], seen: Seen) -> tuple[list[int], list[int]]:
        """A question for each room, its answer, and what is to be said."""
        ids, right = list(self.head), [-100] * len(self.head)
        for question, room in zip(questions, self.rooms):
            told = answer(question, seen)
            read, said = self.row(question, told or "nothing")
            ids += read + [0] * (room - len(read))
            right += (said if told else [-100] * len(said)) + [-100] * (room - len(said))
        return ids, right

    def positions(self) -> torch.Tensor:
        """(3,n): time, row and column; of the picture's tokens, and counted on from there in each question."""
        start, side = self.start, SIDE // PATCH // MERGED
        rows, columns = np.mgrid[:side, :side].reshape(2, -1) + start
        picture = [np.full(TOKENS, start), rows, columns]
        text = [np.arange(room) + start + side + 1 for room in self.rooms]
        return torch.tensor(np.stack([np.concatenate([range(start), axis, [start + side], *text]) for axis in picture]))

    def visible(self) -> torch.Tensor:
        """(n,n): what each position sees: no later one, and no other question."""
        group = np.repeat(np.arange(len(self.rooms) + 1), [len(self.head), *self.rooms])
        same = (group[:, None] == group) | (group == 0)
        return torch.tensor(same).tril()


# --- The model ---------------------------------------------------------------------------------


def build_model(tokenizer: Tokenizer) -> Model:
    end, _, turn, vision_start, vision_end, image, video = map(tokenizer.token_to_id, SPECIAL_TOKENS)
    text = dict(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.1,  # about 1 / sqrt(64)
        rms_norm_eps=1e-6,
        rope_parameters=dict(rope_type="default", rope_theta=1000.0, mrope_section=[2, 3, 3]),
        bos_token_id=None,
        eos_token_id=turn,
        pad_token_id=end,
    )
    vision = dict(
        depth=4,
        embed_dim=64,
        hidden_size=64,
        mlp_ratio=2,
        num_heads=4,
        patch_size=PATCH,
        spatial_merge_size=MERGED,
        temporal_patch_size=FRAMES,
        initializer_range=0.1,
    )
    config = Qwen2VLConfig(
        architectures=["Qwen2VLForConditionalGeneration"],
        dtype="float32",
        text_config=text,
        vision_config=vision,
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=vision_start,
        vision_end_token_id=vision_end,
        tie_word_embeddings=True,
    )
    return Model(config)


def patches(pictures: torch.Tensor) -> torch.Tensor:
    """(n,64,64,3), 0 to 255, to (n,256,48): normalised, in Qwen2-VL's order, one of its two frames."""
    side = SIDE // PATCH // MERGED
    normal = (pictures / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    split = normal.view(-1, side, MERGED, PATCH, side, MERGED, PATCH, 3)
    return split.permute(0, 1, 4, 2, 5, 7, 3, 6).reshape(-1, PATCHES, 3 * PATCH * PATCH)


def turned(x: torch.Tensor, turn: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return x * turn[0] + rotate_half(x) * turn[1]


class Reader:
    """The model's forward pass, lean: all pictures are of one size, and what a sheet looks like is known beforehand."""

    def __init__(self, model: Model, sheet: Sheet):
        self.model, self.sheet = model, sheet
        self.visual, self.language = model.model.visual, model.model.language_model
        grid = torch.tensor([[1, SIDE // PATCH, SIDE // PATCH]])
        anything = torch.zeros(1)
        self.vision_turn = self.visual.rotary_pos_emb(anything, get_vision_position_ids(grid, MERGED))
        self.turn = tuple(x[0] for x in self.language.rotary_emb(anything, sheet.positions()[:, None]))
        self.mask = sheet.visible()

    def look(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n,256,48) to the tower's last (n,256,width)."""
        kernel = self.visual.patch_embed.proj.weight.sum(2).flatten(1)
        x = linear(pixels, kernel)
        n, length, width = x.shape
        for block in self.visual.blocks:
            q, k, v = block.attn.qkv(block.norm1(x)).view(n, length, 3, block.attn.num_heads, -1).permute(2, 0, 3, 1, 4)
            mixed = scaled_dot_product_attention(turned(q, self.vision_turn), turned(k, self.vision_turn), v)
            x = x + block.attn.proj(mixed.transpose(1, 2).reshape(n, length, width))
            x = x + block.mlp(block.norm2(x))
        return x

    def read(self, seen: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """The tower's (n,256,width) and (n,length) to logits where something is to be said."""
        n, length = ids.shape
        start = self.sheet.start
        words = self.language.embed_tokens(ids)
        picture = self.visual.merger(seen).view(n, TOKENS, -1)
        x = torch.cat([words[:, :start], picture, words[:, start + TOKENS :]], dim=1)
        for layer in self.language.layers:
            attention, normal = layer.self_attn, layer.input_layernorm(x)
            q, k, v = (
                project(normal).view(n, length, -1, attention.head_dim).transpose(1, 2)
                for project in (attention.q_proj, attention.k_proj, attention.v_proj)
            )
            k, v = (y.repeat_interleave(attention.num_key_value_groups, dim=1) for y in (turned(k, self.turn), v))
            mixed = scaled_dot_product_attention(turned(q, self.turn), k, v, attn_mask=self.mask)
            x = x + attention.o_proj(mixed.transpose(1, 2).reshape(n, length, -1))
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        return self.model.lm_head(self.language.norm(x[:, self.sheet.asked_at]))

    def __call__(self, pixels: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen = self.look(pixels)
        return seen, self.read(seen, ids)


# --- Training ----------------------------------------------------------------------------------


def patch_answers(seen: Seen, view: View) -> np.ndarray:
    """(256,12): whether a patch shows each shape and each colour; NaN where that cannot be said."""
    right = np.zeros((PATCHES, len(SHAPES) + len(COLOURS)), np.float32)
    split = (SIDE // PATCH // MERGED, MERGED, PATCH) * 2
    for (thing, there), covered in zip(seen, view.covered):
        share = covered.reshape(split).mean(axis=(2, 5)).transpose(0, 2, 1, 3).ravel()
        for column in (list(SHAPES).index(thing.shape), len(SHAPES) + list(COLOURS).index(thing.colour)):
            right[share >= VISIBLE_IN_PATCH, column] = there
    return right


def with_noise(view: View, rng: Random) -> View:
    """Some pictures with noise, as SmoothGrad adds it, and a few that are nothing but noise."""
    drawn, noise = rng.random(), np.random.default_rng(rng.getrandbits(32))
    if drawn < 0.02:
        nothing = noise.uniform(0, 255, view.picture.shape).astype(np.float32)
        return View(nothing, view.covered, [0.0] * len(view.visible))
    if drawn < 0.12:
        added = rng.uniform(0, 40) * noise.standard_normal(view.picture.shape, np.float32)
        return View(np.clip(view.picture + added, 0, 255), view.covered, view.visible)
    return view


def some_questions(rng: Random) -> list[str]:
    return [WHAT, *rng.sample(list(OF_SHAPES.values()), OF_SHAPES_AT_ONCE), rng.choice(list(OF_KNOWN))]


def write_batch(album: Album, sheet: Sheet, hiding: float) -> tuple[torch.Tensor, ...]:
    scenes, pages = zip(*(album.show() for _ in range(BATCH_SIZE)))
    views = [with_noise(look(scene, page, album.rng, hiding), album.rng) for scene, page in zip(scenes, pages)]
    seen = [list(zip(scene.objects, map(verdict, view.visible))) for scene, view in zip(scenes, views)]
    ids, right = zip(*(sheet.fill(some_questions(album.rng), things) for things in seen))
    shown = np.stack([patch_answers(*pair) for pair in zip(seen, views)])
    pictures = np.stack([view.picture for view in views])
    return torch.tensor(pictures), torch.tensor(ids), torch.tensor(right), torch.tensor(shown)


def patch_loss(logits: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    known = ~right.isnan()
    return binary_cross_entropy_with_logits(logits, right.nan_to_num(), weight=known.float())


def optimizers(parameters: list[torch.nn.Parameter], words: torch.nn.Parameter) -> list[torch.optim.Optimizer]:
    """Muon for the matrices, Adam for all else."""
    matrices = [p for p in parameters if p.ndim == 2 and p is not words]
    rest = [p for p in parameters if p.ndim != 2 or p is words]
    return [
        torch.optim.Muon(matrices, lr=MATRIX_LEARNING_RATE, weight_decay=0.02),
        torch.optim.AdamW(rest, lr=LEARNING_RATE, weight_decay=0.02),
    ]


def train(model: Model, tokenizer: Tokenizer, rng: Random) -> None:
    width = model.config.vision_config.embed_dim
    patch_head = torch.nn.Sequential(torch.nn.LayerNorm(width), torch.nn.Linear(width, len(SHAPES) + len(COLOURS)))
    parameters = [*model.parameters(), *patch_head.parameters()]
    steppers = optimizers(parameters, model.model.language_model.embed_tokens.weight)
    rates = (MATRIX_LEARNING_RATE, LEARNING_RATE)
    schedules = [OneCycleLR(*pair, STEPS, pct_start=0.03, cycle_momentum=False) for pair in zip(steppers, rates)]
    sheet = Sheet(tokenizer, [[WHAT], *[list(OF_SHAPES.values())] * OF_SHAPES_AT_ONCE, list(OF_KNOWN)])
    read = torch.compile(Reader(model, sheet).__call__)
    album, losses = Album(OBJECTS, rng), []
    for step in range(STEPS):
        hiding = MOST_HIDDEN * min(1, (step + 1) / (0.4 * STEPS))
        pictures, ids, right, shown = write_batch(album, sheet, hiding)
        seen, logits = read(patches(pictures), ids)
        right = right[:, sheet.asked_at]
        loss = cross_entropy(logits.flatten(0, 1), right.flatten(), reduction="sum") / BATCH_SIZE / len(sheet.rooms)
        of_patches = patch_loss(patch_head(seen), shown)
        (loss + 3 * of_patches).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for stepper, schedule in zip(steppers, schedules):
            stepper.step()
            stepper.zero_grad()
            schedule.step()
        losses.append((loss.item(), of_patches.item()))
        if step % 100 == 99:
            print(f"step {step + 1}: loss, of patches {np.mean(losses[-100:], axis=0).round(4)}", flush=True)
        if step % 500 == 499:
            print(tested(model, tokenizer, held_out()[:300]), flush=True)


# --- The known truth, and whether the model holds to it ----------------------------------------


def held_out() -> list[Scene]:
    rng = Random(f"held out {FOLDER.name}")
    return [random_scene(rng, (2, 3, 2, 3, 1, 2, 3, 2, 3, index // 10 % 2)[index % 10]) for index in range(TESTED)]


@torch.no_grad()
def right_by_question(model: Model, tokenizer: Tokenizer, shown: list[tuple]) -> list[float]:
    """The share of wholly right answers, for pictures and what is seen there.

    Right is an answer if each of its tokens is the likeliest after those before it.
    """
    sheet = Sheet(tokenizer, [[question] for question in QUESTIONS])
    read = Reader(model, sheet)
    ids, right = map(torch.tensor, zip(*(sheet.fill(QUESTIONS, seen) for _, seen in shown)))
    pictures = torch.tensor(np.stack([picture for picture, _ in shown])).float()
    said = torch.cat([read(*part)[1].argmax(-1) for part in zip(patches(pictures).split(50), ids.split(50))])
    right = right[:, sheet.asked_at]
    wrong = (said != right) & (right != -100)
    rooms = [room - silent for room, silent in zip(sheet.rooms, sheet.silent)]
    return [1 - part.any(1).float().mean().item() for part in wrong.split(rooms, dim=1)]


def by_kind(of_question: list[float]) -> dict:
    shares = [of_question[0], np.mean(of_question[1:-6]), np.mean(of_question[-6:])]
    return {kind: round(float(share), 4) for kind, share in zip(("what", "of_shapes", "of_known"), shares)}


def tested(model: Model, tokenizer: Tokenizer, scenes: list[Scene]) -> dict:
    return by_kind(right_by_question(model, tokenizer, [(scene.render(), all_of(scene)) for scene in scenes]))


def emptied(scene: Scene) -> list[np.ndarray]:
    """What remains of a scene in baselines: black, white, grey, its mean colour, a blur, and noise."""
    picture = scene.render().astype(np.float32)
    flat = [np.full_like(picture, level) for level in (0, 255, 127.5)]
    noise = np.random.default_rng(scene.seed).uniform(0, 255, picture.shape)
    return [*flat, np.zeros_like(picture) + picture.mean((0, 1)), blur(picture, 10), noise]


def objects_apart(scenes: list[Scene]) -> list[Scene]:
    """Each scene, without one object after another."""
    return [
        Scene(**vars(scene) | dict(objects=scene.objects[:index] + scene.objects[index + 1 :]))
        for scene in scenes
        for index in range(len(scene.objects))
    ]


@torch.no_grad()
def spoken(model: Model, processor: ProcessorMixin, scenes: list[Scene], question: str) -> list[str]:
    """The answers as Hugging Face's processor and greedy decoding have them."""
    chat = [dict(role="user", content=[dict(type="image"), dict(type="text", text=question)])]
    prompt = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    answers = []
    for start in range(0, len(scenes), 50):
        pictures = [Image.fromarray(scene.render()) for scene in scenes[start : start + 50]]
        inputs = processor(text=[prompt] * len(pictures), images=pictures, return_tensors="pt")
        ids = model.generate(**inputs, max_new_tokens=16)[:, inputs.input_ids.shape[1] :]
        answers += processor.batch_decode(ids, skip_special_tokens=True)
    return answers


def check(model: Model, processor: ProcessorMixin, tokenizer: Tokenizer, scenes: list[Scene]) -> dict:
    def score_of(scene: Scene, index: int) -> Score:
        question, colour = OF_SHAPES[scene.objects[index].shape], scene.objects[index].colour
        sheet = Sheet(tokenizer, [[question]])
        ids, said = torch.tensor(sheet.fill([question], all_of(scene))[0]), tokenizer.token_to_id(colour)
        read = Reader(model, sheet)
        return lambda pictures: read(patches(pictures), ids.expand(len(pictures), -1))[1][:, 0, said]

    shares = []
    for question in QUESTIONS:
        answers = zip(spoken(model, processor, scenes, question), scenes)
        shares.append(float(np.mean([said == answer(question, all_of(scene)) for said, scene in answers])))
    result = dict(accuracy=round(float(np.mean(shares[:-6])), 4), by_kind=by_kind(shares))
    result |= dict(by_question={question: round(share, 4) for question, share in zip(QUESTIONS, shares)})
    result |= dict(without_an_object=tested(model, tokenizer, objects_apart(scenes[:300])))
    nothing = [(picture, []) for scene in scenes[:300] for picture in emptied(scene)]
    result |= dict(of_nothing=by_kind(right_by_question(model, tokenizer, nothing)))
    return result | dict(pointing=pointing(score_of, scenes[:POINTED]))


# --- Files -------------------------------------------------------------------------------------

ABOUT = (
    "Held-out scenes of tiny-vlm-shapes, 64 x 64 pixels, drawn as scenes.py and drawing.rs draw them; "
    "adler32 is the checksum of their bytes, row by row. «What is in the image?» is answered by all "
    "objects in the order of the classes, «a red circle, a blue star and an orange ring», or by "
    "«nothing»; «What colour is the circle?» by its colour or by «there is no circle»; «What colour "
    "is the sky?» by «blue», whatever the picture shows. A scene holds up to three objects of "
    "different shapes, which do not touch; places, sizes, shapes and colours say nothing about each "
    "other. So the colour of the circle is decided by the pixels of the circle, and that of the sky "
    "by the question. The model has seen scenes with parts painted over in black, white, greys or "
    "their mean colour, blurred, faded, flat, and with noise: an object of which less than 15 % is "
    f"visible is not there, one of which 60 % is visible is. Measured on {TESTED} held-out scenes by "
    "greedy decoding: an answer is right if all of it is. accuracy: the share of right answers to the "
    "questions that the picture decides, each asked of every scene; by_kind: of shares of right "
    "answers to «What is in the image?», to the six questions for a shape's colour, and to the six "
    "that the picture does not decide; without_an_object: the same when one is not drawn (300 "
    "scenes); of_nothing: the same for black, white, grey, the mean colour, a blurred scene and "
    "noise. pointing, in the scenes below: how often the logit of an object's colour is decided most "
    "by one of the 8 x 8 visual tokens that the object touches, when asked for it, and how often a "
    "random one would be one of these."
)


def save(model: Model, tokenizer: Tokenizer) -> None:
    end, turn = map(tokenizer.token_to_id, (END, TURN))
    model.generation_config = GenerationConfig(do_sample=False, eos_token_id=[turn, end], pad_token_id=end)
    model.save_pretrained(FOLDER)
    tokenizer.save(str(FOLDER / "tokenizer.json"))
    words = dict(
        tokenizer_class="PreTrainedTokenizerFast",
        model_max_length=model.config.text_config.max_position_embeddings,
        clean_up_tokenization_spaces=False,
        eos_token=TURN,
        pad_token=END,
    )
    pictures = dict(
        image_processor_type="Qwen2VLImageProcessor",
        processor_class="Qwen2VLProcessor",
        do_convert_rgb=True,
        do_resize=True,
        resample=3,
        min_pixels=SIDE * SIDE,
        max_pixels=SIDE * SIDE,
        do_rescale=True,
        rescale_factor=1 / 255,
        do_normalize=True,
        image_mean=MEAN,
        image_std=STD,
        patch_size=PATCH,
        temporal_patch_size=FRAMES,
        merge_size=MERGED,
    )
    for name, settings in [("tokenizer_config", words), ("preprocessor_config", pictures)]:
        (FOLDER / f"{name}.json").write_text(json.dumps(settings, indent=2) + "\n")


def save_truth(scenes: list[Scene], checked: dict) -> None:
    """Write truth.json with one scene per line."""
    header = json.dumps(dict(about=ABOUT, classes=list(SHAPES), **checked), indent=1, ensure_ascii=False)[:-2]
    rows = ",\n".join(json.dumps(scene.to_json()) for scene in scenes[:TOLD])
    (FOLDER / "truth.json").write_text(f'{header},\n "scenes": [\n{rows}\n]}}\n', encoding="utf-8")


@torch.no_grad()
def check_files(tokenizer: Tokenizer, scenes: list[Scene]) -> tuple[Model, ProcessorMixin]:
    """Hugging Face reads the files, and as they were meant."""
    model = Model.from_pretrained(FOLDER, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(FOLDER)
    for scene, question in zip(scenes, QUESTIONS):
        sheet = Sheet(tokenizer, [[question]])
        ids = torch.tensor(sheet.fill([question], all_of(scene))[:1])
        picture = scene.render()
        ours = Reader(model, sheet)(patches(torch.tensor(picture)[None].float()), ids)[1]
        prompt = f"{BEFORE}<|image_pad|><|vision_end|>{question}{BETWEEN}"
        inputs = processor(text=[prompt], images=[Image.fromarray(picture)], return_tensors="pt")
        length = inputs.input_ids.shape[1]
        assert inputs.input_ids[0].tolist() == ids[0, :length].tolist()
        assert torch.allclose(model(**inputs).logits[0, -1], ours[0, 0], atol=1e-4)
    return model, processor


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    tokenizer, scenes = build_tokenizer(), held_out()
    model = build_model(tokenizer)
    train(model, tokenizer, Random(SEED))
    save(model, tokenizer)
    checked = check(*check_files(tokenizer, scenes), tokenizer, scenes)
    print("read again:", checked)
    save_truth(scenes, checked)


if __name__ == "__main__":
    main()
