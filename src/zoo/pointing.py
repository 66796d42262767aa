"""Whether a model looks where the truth says: the pointing game, by occlusion and by integrated gradients."""

from collections.abc import Callable

import numpy as np
import torch

from scenes import SIDE, Scene

CELL = 8
CELLS = SIDE // CELL
Score = Callable[[torch.Tensor], torch.Tensor]  # (n,64,64,3), 0 to 255, to (n,)


def touched(scene: Scene, index: int) -> np.ndarray:
    """(64,): which cells of an 8 x 8 grid hold some of an object."""
    mask = scene.objects[index].coverage() >= 0.5
    return mask.reshape(CELLS, CELL, CELLS, CELL).any(axis=(1, 3)).ravel()


@torch.no_grad()
def occlusion(score: Score, picture: torch.Tensor) -> np.ndarray:
    """(64,): how much the score falls when a cell is painted in the picture's mean colour."""
    variants = picture.repeat(CELLS**2 + 1, 1, 1, 1)
    for cell in range(CELLS**2):
        y, x = CELL * (cell // CELLS), CELL * (cell % CELLS)
        variants[cell, y : y + CELL, x : x + CELL] = picture.mean(dim=(0, 1))
    scores = score(variants)
    return (scores[-1] - scores[:-1]).numpy()


def integrated_gradients(score: Score, picture: torch.Tensor) -> np.ndarray:
    """(64,): what a cell adds to the score, starting from the picture's mean colour."""
    steps = 32
    start = picture.mean(dim=(0, 1)).expand_as(picture)
    position = (torch.arange(steps) + 0.5) / steps
    path = (start + position[:, None, None, None] * (picture - start)).requires_grad_()
    score(path).sum().backward()
    pixels = (path.grad.mean(dim=0) * (picture - start)).sum(dim=2)
    return pixels.reshape(CELLS, CELL, CELLS, CELL).sum(dim=(1, 3)).flatten().numpy()


def pointing(score_of: Callable[[Scene, int], Score], scenes: list[Scene]) -> dict:
    """How often the cell of the largest score holds some of the object that decides; chance: how often any does."""
    hits = dict(occlusion=[], integrated_gradients=[], chance=[])
    for scene in scenes:
        picture = torch.tensor(scene.render()).float()
        for index in range(len(scene.objects)):
            right, score = touched(scene, index), score_of(scene, index)
            hits["occlusion"].append(right[occlusion(score, picture).argmax()])
            hits["integrated_gradients"].append(right[integrated_gradients(score, picture).argmax()])
            hits["chance"].append(right.mean())
    return {name: round(float(np.mean(found)), 3) for name, found in hits.items()}
