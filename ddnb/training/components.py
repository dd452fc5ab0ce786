"""Components of the built-in network, found among sounds by k-means: the envelopes of its prior, and its tones.

Components are buffers, not weights: they are found in seconds, and the network follows them at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..nets.envelopes import HARMONICS, audible, demodulate, restore
from ..nets.harmonics import CELLS, CORRELATION
from ..nets.harmonics import FLOOR as TONES_FLOOR
from ..nets.mdct import mdct
from ..nets.prior import FLOOR, IMPOSSIBLE, PRIOR, TONES, any_sound, band_edges, grid, time_edges
from ..nets.spectral import SpectralConfig

_ROUNDS, _BATCH = 30, 32
_TOWARDS_RMS = 0.3  # 1 for the RMS of normally distributed levels
_QUIET = 1e-3
_BEYOND = 0.7  # nepers by which each group above the Nyquist frequency is taken to be quieter than the one below
_PITCH_SPREAD = 0.25  # least deviation of a component's ln(pitch): 4 semitones
_PITCH_WEIGHT, _STEADINESS_WEIGHT, _STEADY_GROUPS = 3.0, 1.5, 6  # in k-means, re nepers of a level


class Components(NamedTuple):
    """Components of one category.

    Attributes:
        values: buffer -> its part, (components, ...).
        sizes: the number of sounds of each, (components,).
    """

    values: dict[str, Tensor]
    sizes: Tensor


def find_envelopes(
    config: SpectralConfig, x: Tensor, most: int, generator: torch.Generator, stationary: bool = False
) -> Components:
    """Find envelopes of the prior.

    The level of a cell is the mean level in dB over its cluster. With the RMS, a single sound with a long tail would
    make all the others end in hiss.

    Args:
        config: the network's.
        x: sounds at the level of the network, (n, 1, T).
        most: components at most.
        generator: of the first centres of k-means.
        stationary: whether the sounds do not change in time, so that a loop of them stays a loop.
    """
    energy = torch.cat([cell_energies(config, some) for some in x.split(_BATCH)])
    if stationary:
        count = grid(time_edges(config.cells[1]), x.shape[-1] // config.hop, energy.device).points
        energy = (energy @ count / count.sum())[..., None].expand_as(energy).contiguous()
    levels = energy.log() / 2
    clusters = k_means(levels.flatten(1), most, generator)
    return Components({"log_levels": torch.stack([levels[rows].mean(0) for rows in clusters])}, _sizes(clusters))


def cell_energies(config: SpectralConfig, x: Tensor) -> Tensor:
    """Return the mean squares of the cells of the network's spectrum: (n, 1, T) -> (n, bands, times)."""
    spectrum = mdct(x, config.hop, circular=False)
    bands = grid(band_edges(config.cells[0], config.hop), config.hop, spectrum.device)
    times = grid(time_edges(config.cells[1]), spectrum.shape[-1], spectrum.device)
    return (bands.mean @ spectrum.square() @ times.mean.T).clamp(min=FLOOR**2)


class Described(NamedTuple):
    """Sounds as tones and what is beside them; see ``describe``."""

    levels: Tensor
    residual: Tensor
    unsteadiness: Tensor


def describe_all(config: SpectralConfig, x: Tensor, pitch: Tensor) -> Described:
    """Describe any number of sounds, see ``describe``."""
    parts = [describe(config, *some) for some in zip(x.split(_BATCH), pitch.split(_BATCH), strict=True)]
    return Described(*(torch.cat(part) for part in zip(*parts, strict=True)))


def find_tones(described: Described, pitch: Tensor, most: int, generator: torch.Generator) -> Components:
    """Find components of tones.

    Args:
        described: sounds at the level of the network.
        pitch: theirs, cycles per sample, (n,), float64, above 0.
        most: components at most.
        generator: of the first centres of k-means.
    """
    levels, residual, unsteadiness = described
    log_pitch = pitch.float().log()
    steady = _STEADINESS_WEIGHT * unsteadiness[:, :_STEADY_GROUPS].mean(-1)
    points = torch.cat([levels.flatten(1), _PITCH_WEIGHT * log_pitch[:, None], steady], 1)
    clusters = k_means(points, most, generator)
    found = [
        {
            "log_levels": _typical(levels[rows]),
            "log_residual": _typical(residual[rows]),
            "correlation": (1 - unsteadiness[rows].mean(0).exp()).clamp(*CORRELATION),
            "log_pitch": _mean_and_deviation(log_pitch[rows]),
        }
        for rows in clusters
    ]
    return Components({name: torch.stack([each[name] for each in found]) for name in found[0]}, _sizes(clusters))


def _typical(log_levels: Tensor) -> Tensor:
    """Return a level between the mean in dB, which makes attacks dull, and the RMS, which makes ends hiss."""
    return log_levels.mean(0) + _TOWARDS_RMS * log_levels.var(0, correction=0)


def _mean_and_deviation(log_pitch: Tensor) -> Tensor:
    deviation = log_pitch.var(correction=0).add(_PITCH_SPREAD**2).sqrt()
    return torch.stack([log_pitch.mean(), deviation])


def describe(config: SpectralConfig, x: Tensor, pitch: Tensor) -> Described:
    """Return ln of the levels of harmonics and residual, and ln(1 - correlation), in their cells.

    Args:
        config: the network's.
        x: sounds, (n, 1, T).
        pitch: cycles per sample, (n,), float64, above 0.

    Returns:
        Of the harmonics (n, groups, times), of the residual (n, bands, times), and (n, groups, times).
    """
    envelopes = demodulate(x, pitch, False)
    groups = grid(band_edges(CELLS[0], HARMONICS), HARMONICS, x.device)
    times = grid(time_edges(CELLS[1]), envelopes.shape[-1], x.device)
    power = envelopes.abs().square()
    exist = groups.mean @ audible(pitch).float()
    energy = groups.mean @ power @ times.mean.T / exist.clamp(min=1e-6)
    levels = energy.clamp(min=TONES_FLOOR**2).log() / 2
    for group in range(1, CELLS[0]):
        missing = exist[:, group] == 0
        levels[:, group] = torch.where(missing, levels[:, group - 1] - _BEYOND, levels[:, group])
    pairs = (envelopes[..., 1:] * envelopes[..., :-1].conj()).real, (power[..., 1:] * power[..., :-1]).sqrt()
    alike, loud = (groups.mean @ F.pad(each, (0, 1)) @ times.mean.T for each in pairs)  # decays are in the levels
    whole = alike @ times.points / (loud @ times.points).clamp(min=1e-9)
    quiet = _QUIET * loud.amax(-1, keepdim=True) + 1e-9  # where that is all there is, the whole sound tells
    correlation = ((alike + quiet * whole[..., None]) / (loud + quiet)).clamp(0, 0.999)
    residual = cell_energies(config, x - restore(envelopes, pitch, False)).log() / 2
    return Described(levels.clamp(min=math.log(TONES_FLOOR)), residual, (1 - correlation).log())


class Tuned(NamedTuple):
    """A corrected pitch, the share of the energy in its harmonics, and the correlation of neighbouring frames; (n,)."""

    pitch: Tensor
    share: Tensor
    correlation: Tensor


def tune(x: Tensor, pitch: Tensor, cents: tuple[float, ...]) -> Tuned:
    """Correct pitches so that the envelopes of the harmonics change least.

    Args:
        x: sounds, (n, 1, T).
        pitch: cycles per sample, (n,), float64, above 0.
        cents: changes to try, each up and down from the best so far, the largest first.
    """
    return Tuned(*(torch.cat(each) for each in zip(*_tune_batches(x, pitch, cents), strict=True)))


def _tune_batches(x: Tensor, pitch: Tensor, cents: tuple[float, ...]) -> Iterator[Tuned]:
    for some, start in zip(x.split(_BATCH), pitch.split(_BATCH), strict=True):
        best = _try_pitch(some, start)
        for change in cents:
            tried = [_try_pitch(some, best.pitch * 2 ** (sign * change / 1200)) for sign in (-1, 1)]
            for found in tried:
                better = found.correlation > best.correlation
                best = Tuned(*(torch.where(better, new, old) for new, old in zip(found, best, strict=True)))
        yield best


def _try_pitch(x: Tensor, pitch: Tensor) -> Tuned:
    envelopes = demodulate(x, pitch, False)
    power = envelopes.abs().square().sum((1, 2))
    alike = (envelopes[..., 1:] * envelopes[..., :-1].conj()).real.sum((1, 2)) / power.clamp(min=1e-9)
    return Tuned(pitch, 2 * power / x.square().sum((1, 2)).clamp(min=1e-9), alike)


def put(state: Mapping[str, Tensor], part: str, label: int, found: Components | None) -> dict[str, Tensor]:
    """Return a state dict in which a category has these components; those that no category has are dropped.

    Args:
        state: of a network.
        part: ``PRIOR`` or ``TONES``.
        label: the category.
        found: its components; None for none.
    """
    shares = state[part + "log_shares"]
    has = shares[:-1] > IMPOSSIBLE / 10
    has[label] = False
    kept = has.any(0)
    parts = {name for name in state if name.startswith(part)} - {part + "log_shares", part + "held"}
    changed = {name: state[name][kept] for name in parts}
    rows = shares[:-1, kept]
    rows[label] = IMPOSSIBLE
    if found is not None:
        changed = {name: torch.cat([old, found.values[name.removeprefix(part)]]) for name, old in changed.items()}
        rows = F.pad(rows, (0, len(found.sizes)), value=IMPOSSIBLE)
        rows[label, kept.sum() :] = (found.sizes / found.sizes.sum()).log()
    return dict(state) | changed | {part + "log_shares": any_sound(rows)}


def sizes_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the fields of ``SpectralConfig`` that say how many components there are."""
    sizes = {"envelopes": len(state[PRIOR + "log_levels"])}
    return sizes | ({"tones": len(state[TONES + "log_levels"])} if TONES + "log_levels" in state else {})


def k_means(points: Tensor, most: int, generator: torch.Generator) -> list[Tensor]:
    """Return the rows of each cluster, by Lloyd's algorithm; none is empty.

    Args:
        points: (n, features).
        most: clusters at most; there are no more than points.
        generator: chooses the first centres.
    """
    k = min(most, len(points))
    centres = points[torch.randperm(len(points), generator=generator)[:k]].clone()
    for _ in range(_ROUNDS):
        distance, cluster = torch.cdist(points, centres).min(1)
        for empty in set(range(k)) - set(cluster.tolist()):
            cluster[distance.argmax()] = empty
            distance[distance.argmax()] = 0
        centres = torch.stack([points[cluster == i].mean(0) for i in range(k)])
    return [(cluster == i).nonzero()[:, 0] for i in range(k)]


def _sizes(clusters: list[Tensor]) -> Tensor:
    return torch.tensor([float(len(rows)) for rows in clusters])
