"""The envelopes of the prior of ``ddnb.nets.prior``: a few per category, found by k-means."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ddnb.nets.mdct import mdct
from ddnb.nets.prior import FLOOR, band_edges, grid, time_edges
from ddnb.nets.spectral import SpectralUNet
from ddnb.training.dataset import Dataset

from .data import CATEGORIES, FRAMES

STATIONARY = {"texture"}
"""Categories that do not change in time, so that a loop of them stays a loop."""

_SOUNDS, _ROUNDS, _BATCH = 800, 30, 32
IMPOSSIBLE = -1e4


def fit_prior(net: SpectralUNet, data: Dataset, seed: int = 0) -> None:
    """Set the envelopes of an untrained network to those of the data, the same number for each category.

    The level of a cell is the mean level in dB over its cluster. With the RMS, a single sound with a long tail would
    make all the others end in hiss.
    """
    config = net.config
    each = config.envelopes // len(CATEGORIES)
    levels, shares = [], torch.full((config.planes + 1, config.envelopes), IMPOSSIBLE)
    for label, category in enumerate(CATEGORIES):
        generator = torch.Generator().manual_seed(seed * len(CATEGORIES) + label)
        found = [i for i, sound in enumerate(data.sounds) if sound.category == category]
        chosen = [found[i] for i in torch.randperm(len(found), generator=generator)[:_SOUNDS].tolist()]
        energy = torch.cat([_energies(net, data, chosen[i : i + _BATCH]) for i in range(0, len(chosen), _BATCH)])
        if category in STATIONARY:
            count = grid(time_edges(config.cells[1]), FRAMES // config.hop, energy.device).points
            energy = (energy @ count / count.sum())[..., None].expand_as(energy).contiguous()
        cluster = k_means((energy.log() / 2).flatten(1), each, generator)
        size = torch.bincount(cluster, minlength=each)
        levels += [energy[cluster == k].log().mean(0) / 2 for k in range(each)]
        mine = slice(label * each, (label + 1) * each)
        shares[label, mine] = (size / size.sum()).log()
        shares[-1, mine] = shares[label, mine] - math.log(len(CATEGORIES))
    state = net.prior.state_dict()
    state["log_levels"].copy_(torch.stack(levels))
    state["log_shares"].copy_(shares)


def _energies(net: SpectralUNet, data: Dataset, chosen: list[int]) -> Tensor:
    """Return the mean squares of the cells, (sounds, bands, times)."""
    x = np.zeros((len(chosen), 1, FRAMES), np.float32)
    for row, index in zip(x, chosen, strict=True):
        sound = data.sound(index)
        row[:, : sound.shape[1]] = sound
    return cell_energies(net, torch.from_numpy(x))


def cell_energies(net: SpectralUNet, x: Tensor) -> Tensor:
    """Return the mean squares of the cells of the network's spectrum: (n, 1, T) -> (n, bands, times)."""
    config = net.config
    spectrum = mdct(x, config.hop, circular=False)
    bands = grid(band_edges(config.cells[0], config.hop), config.hop, spectrum.device)
    times = grid(time_edges(config.cells[1]), spectrum.shape[-1], spectrum.device)
    return (bands.mean @ spectrum.square() @ times.mean.T).clamp(min=FLOOR**2)


def k_means(points: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Return the cluster of each point, 0 to k - 1, none of them empty, by Lloyd's algorithm."""
    centres = points[torch.randperm(len(points), generator=generator)[:k]].clone()
    for _ in range(_ROUNDS):
        distance, cluster = torch.cdist(points, centres).min(1)
        for empty in set(range(k)) - set(cluster.tolist()):
            cluster[distance.argmax()] = empty
            distance[distance.argmax()] = 0
        centres = torch.stack([points[cluster == i].mean(0) for i in range(k)])
    return cluster
