"""Positions as sines and cosines, with which training begins: neighbours are then alike from the first step on."""

import numpy as np
import torch


def waves(cells: int, channels: int, strength: float = 0.3) -> torch.Tensor:
    """(cells * cells, channels): a quarter each of sines and cosines along either axis."""
    periods = np.geomspace(2.5, 4 * cells, channels // 4)
    angles = 2 * np.pi * np.arange(cells)[:, None] / periods
    line = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    rows, columns = line.repeat(cells, axis=0), np.tile(line, (cells, 1))
    return torch.tensor(strength * np.concatenate([rows, columns], axis=1), dtype=torch.float32)
