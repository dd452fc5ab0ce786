"""TODO windows."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from .sampler import Model


def windowed(model: Model, window: int, loop: bool) -> Model:
    """Ask a model about overlapping windows of a sound, and take their weighted mean: any length, in bounded memory.

    v is linear in the clean estimate at a given state, so the mean of one is the mean of the other. Windows overlap by
    half and are weighted by ``sin^2``, which sums to one.

    Args:
        model: takes ``window`` frames.
        window: a legal length.
        loop: whether windows reach over the end into the beginning.

    Source: MultiDiffusion, Bar-Tal et al. 2023 (arXiv 2302.08113), on a line or a circle.
    """
    weight = torch.sin(torch.pi * (torch.arange(window, dtype=torch.float64) + 0.5) / window).square().float()

    def mean(x: Tensor, t: Tensor) -> Tensor:
        frames = x.shape[-1]
        total, weights = torch.zeros_like(x), x.new_zeros(frames)
        w = weight.to(x)
        for start in _starts(frames, window, loop):
            place = torch.arange(start, start + window, device=x.device) % frames
            total.index_add_(-1, place, w * model(x[..., place], t))
            weights.index_add_(0, place, w)
        return total / weights

    return mean


def _starts(frames: int, window: int, loop: bool) -> list[int]:
    """Where windows begin: evenly, at most half a window apart."""
    reach = frames if loop else frames - window
    count = math.ceil(2 * reach / window)
    return [round(i * reach / count) for i in range(count if loop else count + 1)] if count else [0]


def rolled(model: Model, seed: int = 0) -> Model:
    """Turn the circle by chance before each call and back after it: no place stays where the network's grid puts it.

    For samplers without a memory of earlier steps; what they remember would be of another grid.
    """
    rng = np.random.default_rng(seed)

    def turned(x: Tensor, t: Tensor) -> Tensor:
        by = int(rng.integers(x.shape[-1]))
        return model(x.roll(by, -1), t).roll(-by, -1)

    return turned
