"""The drawn scenes that tiny-vit-shapes, tiny-clip-shapes and tiny-vlm-shapes were trained on, pixel by pixel as drawing.rs draws them.

A scene is 64 x 64 pixels: a greyish background with a tint, a gradient and some noise, and objects on it, each
one of six shapes in one of six colours. Everything is integers, quarters of a pixel, or float64 arithmetic in a
fixed order, so that Python and Rust agree in every byte.
"""

import math
from dataclasses import asdict, dataclass, field
from random import Random
from zlib import adler32

import numpy as np

SIDE = 64
SUBSAMPLES = 4  # per pixel and axis
COLOURS = {
    "red": (205, 45, 45),
    "green": (50, 160, 60),
    "blue": (50, 80, 210),
    "yellow": (230, 215, 60),
    "purple": (140, 60, 170),
    "orange": (240, 140, 40),
}
JITTER = 16  # of each channel of an object's colour
RADII, MAX_ANGLE = (8, 13), 20
STAR = [(0, -1), (0.951057, -0.309017), (0.587785, 0.809017), (-0.587785, 0.809017), (-0.951057, -0.309017)]


# --- Shapes of radius one around the origin, y downwards ---------------------------------------


def circle(u, v):
    return u * u + v * v <= 1


def square(u, v):
    return (abs(u) <= 0.7) & (abs(v) <= 0.7)


def triangle(u, v):
    return (v <= 0.5) & (1.7320508 * abs(u) - v <= 1)


def cross(u, v):
    return ((abs(u) <= 0.3) & (abs(v) <= 0.95)) | ((abs(v) <= 0.3) & (abs(u) <= 0.95))


def ring(u, v):
    return (u * u + v * v <= 1) & (u * u + v * v >= 0.3)


def star(u, v):
    """On the inner side of at least four of a pentagram's five lines."""
    return sum((u * x + v * y <= 0.309017).astype(int) for x, y in STAR) >= 4


SHAPES = {shape.__name__: shape for shape in (circle, square, triangle, cross, ring, star)}


# --- Scenes ------------------------------------------------------------------------------------


@dataclass
class Object:
    shape: str
    colour: str
    rgb: list[int]
    x: float
    y: float
    r: float
    angle: int  # degrees, clockwise

    def coverage(self) -> np.ndarray:
        """(64,64): how much of each pixel the object covers, in sixteenths."""
        columns, rows = (np.arange(max(0, int(c - self.r)), min(SIDE, int(c + self.r) + 1)) for c in (self.x, self.y))
        offsets = (np.arange(SUBSAMPLES) + 0.5) / SUBSAMPLES
        dx = ((columns[:, None] + offsets).ravel() - self.x) / self.r
        dy = ((rows[:, None] + offsets).ravel() - self.y)[:, None] / self.r
        cos, sin = (rounded(f(math.radians(self.angle))) for f in (math.cos, math.sin))
        inside = SHAPES[self.shape](cos * dx + sin * dy, cos * dy - sin * dx)
        counts = inside.reshape(len(rows), SUBSAMPLES, len(columns), SUBSAMPLES).sum(axis=(1, 3))
        whole = np.zeros((SIDE, SIDE))
        whole[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = counts
        return whole / SUBSAMPLES**2


@dataclass
class Scene:
    seed: int
    background: list[int]
    gradient: list[int]  # from the left edge to the right, from the top to the bottom
    noise: int
    objects: list[Object] = field(default_factory=list)

    def render(self) -> np.ndarray:
        """(64,64,3), bytes."""
        picture = self.draw_background()
        for thing in self.objects:
            coverage = thing.coverage()[:, :, None]
            picture = picture * (1 - coverage) + np.array(thing.rgb) * coverage
        return np.clip(np.floor(picture + 0.5), 0, 255).astype(np.uint8)

    def draw_background(self) -> np.ndarray:
        at = (np.arange(SIDE) + 0.5) / SIDE - 0.5
        slope = self.gradient[0] * at[None, :] + self.gradient[1] * at[:, None]
        pixels = np.arange(SIDE * SIDE).reshape(SIDE, SIDE, 1)
        noise = (mix(self.seed, pixels, np.arange(3)) >> 24) / 127.5 - 1
        return np.array(self.background) + slope[:, :, None] + self.noise * noise

    def to_json(self) -> dict:
        return asdict(self) | dict(adler32=adler32(self.render().tobytes()))


def rounded(x: float) -> float:
    """To a multiple of 2^-20, on which every mathematical library agrees."""
    return math.floor(x * 2**20 + 0.5) / 2**20


def mix(seed: int, index: np.ndarray, channel: np.ndarray) -> np.ndarray:
    """Pseudo-random 32 bits for each index and channel (the finaliser is lowbias32, by Chris Wellons)."""
    index, channel = (np.asarray(x).astype(np.uint32) for x in (index, channel))
    h = np.uint32(seed) ^ (index * np.uint32(0x9E3779B9)) ^ (channel * np.uint32(0x85EBCA6B))
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x7FEB352D)
    h = (h ^ (h >> np.uint32(15))) * np.uint32(0x846CA68B)
    return h ^ (h >> np.uint32(16))


def empty(seed: int) -> Scene:
    """A scene without objects; its background follows from the seed."""
    drawn = [int(h) for h in mix(seed, np.arange(7), np.full(7, 3))]
    base = 70 + drawn[0] % 131
    tint, gradient = [h % 31 - 15 for h in drawn[1:4]], [h % 81 - 40 for h in drawn[4:6]]
    return Scene(seed, [base + t for t in tint], gradient, 4 + drawn[6] % 9)


def random_scene(rng: Random, objects: int) -> Scene:
    """Objects of different shapes that do not touch; shape and colour are independent."""
    scene = empty(rng.getrandbits(32))
    for shape in rng.sample(list(SHAPES), objects):
        colour = rng.choice(list(COLOURS))
        rgb = [min(255, max(0, level + rng.randint(-JITTER, JITTER))) for level in COLOURS[colour]]
        x, y, r = place(scene, rng)
        scene.objects.append(Object(shape, colour, rgb, x, y, r, rng.randint(-MAX_ANGLE, MAX_ANGLE)))
    return scene


def place(scene: Scene, rng: Random) -> tuple[float, float, float]:
    """A free place and a radius; after many vain tries, the objects that are there are made smaller."""
    smallest, largest = (4 * r for r in RADII)
    for attempt in range(10**6):
        if attempt % 200 == 199:
            for other in scene.objects:
                other.r = max(RADII[0], other.r - 1)
        r = rng.randint(smallest, largest) / 4
        x, y = (rng.randint(math.ceil(4 * r), math.floor(4 * (SIDE - r))) / 4 for _ in range(2))
        if all((x - o.x) ** 2 + (y - o.y) ** 2 >= (r + o.r + 1) ** 2 for o in scene.objects):
            return x, y, r
    raise ValueError("no room")
