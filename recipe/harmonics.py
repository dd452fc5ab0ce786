"""The components of ``ddnb.nets.harmonics.Tones``: a few per category with a pitch, found by k-means."""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor

from ddnb.nets.envelopes import HARMONICS, HOP, audible, demodulate, restore
from ddnb.nets.harmonics import CELLS, CORRELATION, FLOOR
from ddnb.nets.prior import band_edges, grid, time_edges
from ddnb.nets.spectral import SpectralUNet

from .prior import IMPOSSIBLE, cell_energies, k_means

_BATCH = 32
_TOWARDS_RMS = 0.3  # 1 for the RMS of normally distributed levels
_QUIET = 1e-3
_BEYOND = 0.7  # nepers by which each group above the Nyquist frequency is taken to be quieter than the one below
_PITCH_SPREAD = 0.25  # least deviation of a component's ln(pitch): 4 semitones
_PITCH_WEIGHT, _STEADINESS_WEIGHT, _STEADY_GROUPS = 3.0, 1.5, 6  # in k-means, re nepers of a level


def fit_tones(
    net: SpectralUNet, x: Tensor, pitch: Tensor, labels: Tensor, held: Collection[int] = (), seed: int = 0
) -> None:
    """Set the components of a network's tones to those of sounds, equally many for each category that has any.

    Args:
        net: a network with ``tones``.
        x: sounds at the level of the network's training data, (n, 1, T).
        pitch: cycles per sample, (n,), float64, above 0.
        labels: the category of each sound, (n,).
        held: the categories that last as long as the asked sound.
    """
    tones, present = net.tones, labels.unique().tolist()
    if tones is None:
        raise ValueError("net has no tones: give SpectralConfig(tones=...) a number of components")
    each = len(tones.log_levels) // len(present)
    parts = [_describe(net, x[i : i + _BATCH], pitch[i : i + _BATCH]) for i in range(0, len(x), _BATCH)]
    levels, residual, unsteadiness = (torch.cat(part) for part in zip(*parts, strict=True))
    log_pitch, found = pitch.float().log(), []
    tones.log_shares.fill_(IMPOSSIBLE)
    tones.held.fill_(0)
    tones.held[list(held)] = x.shape[-1] // HOP
    for number, label in enumerate(present):
        mine = (labels == label).nonzero()[:, 0]
        steady = _STEADINESS_WEIGHT * unsteadiness[mine, :_STEADY_GROUPS].mean(-1)
        points = torch.cat([levels[mine].flatten(1), _PITCH_WEIGHT * log_pitch[mine, None], steady], 1)
        cluster = k_means(points, each, torch.Generator().manual_seed(seed + label))
        found += [mine[cluster == k] for k in range(each)]
        shares = (torch.bincount(cluster, minlength=each) / len(mine)).log()
        tones.log_shares[label, number * each : (number + 1) * each] = shares
        tones.log_shares[-1, number * each : (number + 1) * each] = shares - math.log(len(present))
    for row, rows in enumerate(found):
        tones.log_levels[row] = _typical(levels[rows])
        tones.log_residual[row] = _typical(residual[rows])
        tones.correlation[row] = (1 - unsteadiness[rows].mean(0).exp()).clamp(*CORRELATION)
        spread = log_pitch[rows].std(correction=0)
        tones.log_pitch[row] = torch.stack([log_pitch[rows].mean(), spread.square().add(_PITCH_SPREAD**2).sqrt()])


def _typical(log_levels: Tensor) -> Tensor:
    """Return a level between the mean in dB, which makes attacks dull, and the RMS, which makes ends hiss."""
    return log_levels.mean(0) + _TOWARDS_RMS * log_levels.var(0, correction=0)


def _describe(net: SpectralUNet, x: Tensor, pitch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return ln of the levels of harmonics and residual, and ln(1 - correlation), in their cells."""
    envelopes = demodulate(x, pitch, False)
    groups = grid(band_edges(CELLS[0], HARMONICS), HARMONICS, x.device)
    times = grid(time_edges(CELLS[1]), envelopes.shape[-1], x.device)
    power = envelopes.abs().square()
    exist = groups.mean @ audible(pitch).float()
    energy = groups.mean @ power @ times.mean.T / exist.clamp(min=1e-6)
    levels = energy.clamp(min=FLOOR**2).log() / 2
    for group in range(1, CELLS[0]):
        missing = exist[:, group] == 0
        levels[:, group] = torch.where(missing, levels[:, group - 1] - _BEYOND, levels[:, group])
    pairs = (envelopes[..., 1:] * envelopes[..., :-1].conj()).real, (power[..., 1:] * power[..., :-1]).sqrt()
    alike, loud = (groups.mean @ F.pad(each, (0, 1)) @ times.mean.T for each in pairs)  # decays are in the levels
    whole = alike @ times.points / (loud @ times.points).clamp(min=1e-9)
    quiet = _QUIET * loud.amax(-1, keepdim=True) + 1e-9  # where that is all there is, the whole sound tells
    correlation = ((alike + quiet * whole[..., None]) / (loud + quiet)).clamp(0, 0.999)
    residual = cell_energies(net, x - restore(envelopes, pitch, False)).log() / 2
    return levels.clamp(min=math.log(FLOOR)), residual, (1 - correlation).log()
