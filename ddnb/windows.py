"""Wrappers of a model for loops of any length: overlapping windows, and random circular shifts."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from .steps import Model


def windowed(model: Model, window: int, loop: bool) -> Model:
    """Evaluate a model on overlapping windows and average the results: any length, in bounded memory.

    v is linear in the clean estimate at a given state, so the mean of one is the mean of the other. Windows overlap by
    half and are weighted by ``sin^2``, which sums to one.

    Args:
        model: a model that takes ``window`` frames.
        window: a legal length.
        loop: whether windows continue across the end into the beginning.

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
    """Return the first frames of the windows: evenly spaced, at most half a window apart."""
    reach = frames if loop else frames - window
    count = math.ceil(2 * reach / window)
    return [round(i * reach / count) for i in range(count if loop else count + 1)] if count else [0]


def rolled(model: Model, seed: int = 0) -> Model:
    """Shift the input circularly by a random amount before each model call, and undo it after it.

    So the network's grid leaves no trace at fixed places. Only for samplers whose steps do not depend on earlier ones.
    """
    rng = np.random.default_rng(seed)

    def shifted(x: Tensor, t: Tensor) -> Tensor:
        by = int(rng.integers(x.shape[-1]))
        return model(x.roll(by, -1), t).roll(-by, -1)

    return shifted
