"""What explanations show a model: scenes without some of their parts, blurred, faded, or nothing at all.

Trained on these too, a model knows that what is not there is not there, and black, white, grey and blurred baselines,
deletions and insertions are fair questions.
"""

from dataclasses import dataclass, replace
from random import Random

import numpy as np

from scenes import SIDE, Object, Scene, random_scene

PRESENT, ABSENT = 0.6, 0.15  # of an object that is visible: from here on it is there, up to here it is not
PAGES = 500
Array = np.ndarray


@dataclass
class View:
    """What a model is shown of a scene."""

    picture: Array  # (64,64,3), 0 to 255
    covered: list[Array]  # of each object: (64,64), what is visible of it
    visible: list[float]  # of each object: the share that is visible


def drawn(scene: Scene) -> View:
    """The scene as it is."""
    covered = [thing.coverage() for thing in scene.objects]
    return View(scene.render().astype(np.float32), covered, [1.0] * len(covered))


def look(scene: Scene, view: View, rng: Random, hiding: float = 0.5) -> View:
    """The scene as it is or, so often, with something hidden."""
    if rng.random() >= hiding:
        return view
    kinds = {cells: 18, rectangles: 6, silhouettes: 12, blurred: 6, faded: 6, flat: 2}
    kind = rng.choices(list(kinds), list(kinds.values()))[0]
    return kind(scene, view, rng)


class Album:
    """Drawn scenes, each shown some four times, half of the times mirrored: drawing takes longer than looking."""

    def __init__(self, counts: dict[int, int], rng: Random):
        self.counts, self.rng, self.pages = counts, rng, []

    def show(self) -> tuple[Scene, View]:
        if len(self.pages) < PAGES or self.rng.random() < 0.25:
            return self.draw()
        page = self.rng.choice(self.pages)
        return page if self.rng.random() < 0.5 else mirrored(*page)

    def draw(self) -> tuple[Scene, View]:
        count = self.rng.choices(list(self.counts), list(self.counts.values()))[0]
        scene = random_scene(self.rng, count)
        page = (scene, drawn(scene))
        if len(self.pages) == PAGES:
            self.pages.pop(self.rng.randrange(PAGES))
        self.pages.append(page)
        return page


def mirrored(scene: Scene, view: View) -> tuple[Scene, View]:
    objects = [replace(thing, x=SIDE - thing.x, angle=-thing.angle) for thing in scene.objects]
    covered = [coverage[:, ::-1] for coverage in view.covered]
    return replace(scene, objects=objects), View(view.picture[:, ::-1], covered, view.visible)


def flat(_: Scene, view: View, rng: Random) -> View:
    colour = [rng.uniform(0, 255) for _ in range(3)] if rng.random() < 0.5 else neutral(view.picture, rng)
    return View(np.zeros_like(view.picture) + np.array(colour, np.float32), view.covered, [0.0] * len(view.visible))


def blurred(_: Scene, view: View, rng: Random) -> View:
    """Sharp enough to tell, too blurred to tell, or (one half visible: neither) in between."""
    low, high, visible = rng.choice([(0.4, 1.2, 1.0), (1.2, 5, 0.5), (5, 14, 0.0), (5, 14, 0.0)])
    return View(blur(view.picture, rng.uniform(low, high)), view.covered, [visible] * len(view.visible))


def faded(_: Scene, view: View, rng: Random) -> View:
    fill = background(view.picture, rng)
    strength = rng.random()
    visible = 1.0 if strength >= 0.4 else 0.0 if strength <= 0.06 else 0.5
    return View(fill + strength * (view.picture - fill), view.covered, [visible] * len(view.visible))


def cells(_: Scene, view: View, rng: Random) -> View:
    """Some cells of a grid."""
    size, rate = rng.choice([2, 4, 8, 8, 8, 16]), rng.random()
    chosen = np.random.default_rng(rng.getrandbits(32)).random((SIDE // size, SIDE // size)) < rate
    return without(view, chosen.repeat(size, 0).repeat(size, 1), rng)


def rectangles(_: Scene, view: View, rng: Random) -> View:
    hidden = np.zeros((SIDE, SIDE), bool)
    for _ in range(rng.randint(1, 4)):
        x, y = rng.randint(-8, SIDE - 8), rng.randint(-8, SIDE - 8)
        hidden[max(0, y) : y + rng.randint(8, 32), max(0, x) : x + rng.randint(8, 32)] = True
    return without(view, hidden, rng)


def silhouettes(scene: Scene, view: View, rng: Random) -> View:
    """Whole objects, or all but them."""
    hidden = np.zeros((SIDE, SIDE), bool)
    margin, border = rng.choice([None, 0, 1, 2]), rng.uniform(0, 2)
    for thing, coverage in zip(scene.objects, view.covered):
        if rng.random() < 0.6:
            hidden |= coverage > 0 if margin is None else near(thing, margin + border)
    return without(view, ~hidden if rng.random() < 0.3 else hidden, rng)


def near(thing: Object, margin: float) -> Array:
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    return (columns - thing.x) ** 2 + (rows - thing.y) ** 2 <= (thing.r + margin) ** 2


def without(view: View, hidden: Array, rng: Random) -> View:
    picture = np.where(hidden[:, :, None], background(view.picture, rng), view.picture)
    left = [coverage * ~hidden for coverage in view.covered]
    return View(picture, left, [l.sum() / c.sum() for l, c in zip(left, view.covered)])


def background(picture: Array, rng: Random) -> Array:
    """What to paint over with: one flat colour, or the picture out of focus."""
    if rng.random() < 0.15:
        return blur(picture, rng.uniform(5, 14))
    return np.array(neutral(picture, rng), np.float32)


def neutral(picture: Array, rng: Random) -> list[float]:
    """Black, white, grey, what CLIP calls zero, the picture's mean, or greyish like a background."""
    base = rng.uniform(60, 210)
    greyish = [base + rng.uniform(-15, 15) for _ in range(3)]
    mean = picture.mean(axis=(0, 1)).tolist()
    return rng.choice([[0.0] * 3, [255.0] * 3, [127.5] * 3, [122.77, 116.75, 104.09], mean, greyish])


def blur(picture: Array, sigma: float) -> Array:
    """A Gaussian's; at the edges its weights are divided by their sum."""
    at = np.arange(SIDE)
    weights = np.exp(-((at[:, None] - at) ** 2) / (2 * sigma**2)).astype(np.float32)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.einsum("ij,jkc,lk->ilc", weights, picture, weights, optimize=True)
