"""The prior of an untrained network, fitted to its training sounds."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ddnb.nets.prior import IMPOSSIBLE, PRIOR
from ddnb.nets.spectral import SpectralUNet
from ddnb.training.components import find_envelopes, put
from ddnb.training.dataset import Dataset

from .data import CATEGORIES, FRAMES

STATIONARY = {"texture"}
"""Categories that do not change in time, so that a loop of them stays a loop."""

_SOUNDS = 800


def fit_prior(net: SpectralUNet, data: Dataset, seed: int = 0) -> None:
    """Set the envelopes of a network to those of the data, the same number for each category."""
    each = net.config.envelopes // len(CATEGORIES)
    state = net.state_dict()
    state[PRIOR + "log_shares"].fill_(IMPOSSIBLE)
    for label, category in enumerate(CATEGORIES):
        generator = torch.Generator().manual_seed(seed * len(CATEGORIES) + label)
        found = [i for i, sound in enumerate(data.sounds) if sound.category == category]
        chosen = [found[i] for i in torch.randperm(len(found), generator=generator)[:_SOUNDS].tolist()]
        envelopes = find_envelopes(net.config, _sounds(data, chosen), each, generator, category in STATIONARY)
        state = put(state, PRIOR, label, envelopes)
    net.load_state_dict(state)


def _sounds(data: Dataset, chosen: list[int]) -> Tensor:
    """Return sounds as (n, 1, FRAMES)."""
    x = np.zeros((len(chosen), 1, FRAMES), np.float32)
    for row, index in zip(x, chosen, strict=True):
        sound = data.sound(index)
        row[:, : sound.shape[1]] = sound
    return torch.from_numpy(x)
