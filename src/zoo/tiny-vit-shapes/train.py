"""Make pellucid/tiny-vit-shapes: a vision transformer that says which shapes are in a drawn scene.

The script draws scenes (scenes.py), hides parts of some as explanations do (hide.py),
trains a ViT on them and saves, in this folder, everything that the model zoo embeds:

    config.json, model.safetensors    the model, as Hugging Face's ViTForImageClassification has it
    preprocessor_config.json          how pictures become its input, as ViTImageProcessor has it
    truth.json                        held-out scenes, as data: where their objects are is known

There is one logit for each of six shapes: is one in the scene? A scene holds up to three different
shapes; their places, sizes and colours say nothing about each other. So the logit of «circle» is
decided by the circle's own pixels and by no others, and where a circle is painted over, the right
answer is that there is none.

While it is trained, the model's last layer but one also says for each patch which shapes it shows,
so that the last has something to collect; what says so is thrown away afterwards. Run it here; one
CPU core needs about half an hour:

    pip install -r requirements.txt
    python train.py
"""

import json
import sys
from pathlib import Path
from random import Random

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from transformers import ViTConfig, ViTForImageClassification

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))
from hide import ABSENT, PRESENT, Album, View, look  # noqa: E402
from positions import waves  # noqa: E402
from pointing import CELL, CELLS, Score, pointing  # noqa: E402
from scenes import SHAPES, SIDE, Scene, random_scene  # noqa: E402

SEED = 11
STEPS, BATCH_SIZE, LEARNING_RATE = 8000, 32, 2e-3
OBJECTS = {0: 8, 1: 30, 2: 34, 3: 28}  # how many, how often, in training
TESTED, TOLD, POINTED = 1000, 60, 60  # held-out scenes: those tested, those in truth.json, those pointed at
CLASSES = list(SHAPES)
VISIBLE_IN_PATCH = 0.1
MOST_HIDDEN = 0.5  # of the scenes, from two fifths of the training on; in the beginning, none has anything hidden


def build_model() -> ViTForImageClassification:
    config = ViTConfig(
        architectures=["ViTForImageClassification"],
        dtype="float32",
        problem_type="multi_label_classification",
        hidden_size=80,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=240,
        hidden_act="gelu",
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        layer_norm_eps=1e-6,
        initializer_range=0.1,  # about 1 / sqrt(80)
        image_size=SIDE,
        patch_size=CELL,
        id2label=dict(enumerate(CLASSES)),
        label2id={name: index for index, name in enumerate(CLASSES)},
    )
    model = ViTForImageClassification(config)
    model.vit.embeddings.position_embeddings.data[0, 1:] = waves(CELLS, config.hidden_size)
    return model


# --- What is right -----------------------------------------------------------------------------


def answers(scene: Scene, view: View) -> np.ndarray:
    """(6,): 1 for a shape that is there, 0 for one that is not, NaN where that cannot be said."""
    right = np.zeros(len(CLASSES), np.float32)
    for thing, visible in zip(scene.objects, view.visible):
        right[CLASSES.index(thing.shape)] = verdict(visible)
    return right


def verdict(visible: float) -> float:
    return 1.0 if visible >= PRESENT else 0.0 if visible <= ABSENT else np.nan


def patch_answers(scene: Scene, view: View) -> np.ndarray:
    """(64,6): likewise for each patch."""
    right = np.zeros((CELLS**2, len(CLASSES)), np.float32)
    for thing, covered, visible in zip(scene.objects, view.covered, view.visible):
        share = covered.reshape(CELLS, CELL, CELLS, CELL).mean(axis=(1, 3)).ravel()
        right[share >= VISIBLE_IN_PATCH, CLASSES.index(thing.shape)] = verdict(visible)
    return right


def write_batch(album: Album, hiding: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    scenes, pages = zip(*(album.show() for _ in range(BATCH_SIZE)))
    views = [look(scene, page, album.rng, hiding) for scene, page in zip(scenes, pages)]
    whole = np.stack([answers(*pair) for pair in zip(scenes, views)])
    patches = np.stack([patch_answers(*pair) for pair in zip(scenes, views)])
    pictures = np.stack([view.picture for view in views])
    return torch.tensor(pictures), torch.tensor(whole), torch.tensor(patches)


# --- Training ----------------------------------------------------------------------------------


def pixel_values(pictures: torch.Tensor) -> torch.Tensor:
    """(n,64,64,3), 0 to 255, to (n,3,64,64), -1 to 1."""
    return pictures.permute(0, 3, 1, 2) / 127.5 - 1


def known_loss(logits: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    known = ~right.isnan()
    return bce(logits[known], right[known])


def train(model: ViTForImageClassification, rng: Random) -> None:
    width = model.config.hidden_size
    patch_head = torch.nn.Sequential(torch.nn.LayerNorm(width), torch.nn.Linear(width, len(CLASSES)))
    parameters = [*model.parameters(), *patch_head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, STEPS, pct_start=0.08)
    model.train()
    album, losses = Album(OBJECTS, rng), []
    for step in range(STEPS):
        hiding = MOST_HIDDEN * min(1, (step + 1) / (0.4 * STEPS))
        pictures, whole, patches = write_batch(album, hiding)
        seen = model(pixel_values(pictures), output_hidden_states=True)
        loss = known_loss(seen.logits, whole)
        patch_loss = known_loss(patch_head(seen.hidden_states[-2][:, 1:]), patches)
        optimizer.zero_grad()
        (loss + 2 * patch_loss).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        losses.append((loss.item(), patch_loss.item()))
        if step % 100 == 99:
            print(f"step {step + 1}: loss, of patches {np.mean(losses[-100:], axis=0).round(4)}", flush=True)
        if step % 500 == 499:
            print(tested(model, held_out()), flush=True)
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
def tested(model: ViTForImageClassification, scenes: list[Scene]) -> dict:
    """The share of labels, and of scenes, that are wholly right."""
    model.eval()
    pictures = torch.tensor(np.stack([scene.render() for scene in scenes])).float()
    logits = torch.cat([model(pixel_values(part)).logits for part in pictures.split(100)])
    names = [[thing.shape for thing in scene.objects] for scene in scenes]
    right = (logits > 0) == torch.tensor([[shape in found for shape in CLASSES] for found in names])
    shares = dict(accuracy=right.float().mean(), scenes_right=right.all(1).float().mean())
    return {name: round(share.item(), 4) for name, share in shares.items()}


@torch.no_grad()
def removal(model: ViTForImageClassification, scenes: list[Scene]) -> float:
    """How often the right labels, and only they, remain when an object is not drawn."""
    variants = []
    for scene in scenes:
        for index in range(len(scene.objects)):
            variants.append(Scene(**vars(scene) | dict(objects=scene.objects[:index] + scene.objects[index + 1 :])))
    return tested(model, variants)["scenes_right"]


def check(model: ViTForImageClassification, scenes: list[Scene]) -> dict:
    def score_of(scene: Scene, index: int) -> Score:
        column = CLASSES.index(scene.objects[index].shape)
        return lambda pictures: model(pixel_values(pictures)).logits[:, column]

    result = tested(model, scenes)
    result |= dict(scenes_right_without_an_object=removal(model, scenes[:300]))
    return result | dict(pointing=pointing(score_of, scenes[:POINTED]))


# --- Files -------------------------------------------------------------------------------------

ABOUT = (
    "Held-out scenes of tiny-vit-shapes, 64 x 64 pixels, drawn as scenes.py and drawing.rs draw "
    "them; adler32 is the checksum of their bytes, row by row. Each class has its own logit, "
    "positive where such a shape is in the scene. A scene holds up to three objects of different "
    "shapes, which do not touch; places, sizes and colours say nothing about shapes. So the logit "
    "of a shape is decided by the pixels of the one object of that shape, and a shape that is not "
    "there by nothing. The model has seen scenes with parts painted over in black, white, greys or "
    "their mean colour, blurred, faded, and flat: an object of which less than 15 % is visible is "
    f"not there, one of which 60 % is visible is. Measured on {TESTED} held-out scenes. accuracy: "
    "the share of right labels. scenes_right: of scenes with all six right; without_an_object: the "
    "same when one is not drawn (300 scenes). pointing, in the scenes below: how often an object's "
    "shape is decided most by one of the 8 x 8 patches that the object touches, and how often a "
    "random patch would be one of these."
)


def save(model: ViTForImageClassification) -> None:
    model.save_pretrained(FOLDER)
    weights = load_file(FOLDER / "model.safetensors")
    weights = {name: tensor.half().contiguous() for name, tensor in weights.items()}
    save_file(weights, FOLDER / "model.safetensors", metadata={"format": "pt"})
    settings = dict(
        image_processor_type="ViTImageProcessor",
        do_resize=True,
        size=dict(height=SIDE, width=SIDE),
        resample=2,
        do_rescale=True,
        rescale_factor=1 / 255,
        do_normalize=True,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    (FOLDER / "preprocessor_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def save_truth(scenes: list[Scene], checked: dict) -> None:
    """Write truth.json with one scene per line."""
    header = json.dumps(dict(about=ABOUT, classes=CLASSES, **checked), indent=1)[:-2]
    rows = ",\n".join(json.dumps(scene.to_json()) for scene in scenes[:TOLD])
    (FOLDER / "truth.json").write_text(f'{header},\n "scenes": [\n{rows}\n]}}\n')


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    scenes, model = held_out(), build_model()
    train(model, Random(SEED))
    print("float32 weights:", tested(model, scenes))
    round_to_half(model)
    save(model)
    read = ViTForImageClassification.from_pretrained(FOLDER, dtype=torch.float32).eval()
    checked = check(read, scenes)
    print("float16 weights, read again:", checked)
    save_truth(scenes, checked)


if __name__ == "__main__":
    main()
