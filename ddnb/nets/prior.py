"""The prior of the built-in network: how loud the clean sound is in each band and frame, by Bayes' rule.

The training sounds of a category are described as a mixture of Gaussians; each component is an envelope with one level
S per cell of bands and times. A noisy cell ``x = alpha x0 + sigma eps`` of n coefficients with mean square E has the
log-likelihood ``-n / 2 (E / V + ln V)`` under an envelope, with ``V = alpha^2 S^2 + sigma^2``.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .mdct import cached

FLOOR = 2e-4
"""Of S, re full scale: below it there is nothing to hear."""
IMPOSSIBLE = -1e4
"""ln of the share of a component in a category that does not have it; anything below a tenth of that means the same."""
PRIOR, TONES = "prior.", "tones."
"""What the names of the buffers of components begin with, in a network's state dict."""
_NEAR = 9  # frames that are about equally loud
_PLAUSIBLE = (1 / 6, 2)  # chance makes their mean square 6 times what it should be once in ten million times
_LOUDEST = 2.0  # S, re full scale


class Prior(nn.Module):
    """A module that estimates the level of the clean sound in each band and frame from categories and noisy input.

    The level is the mean over the envelopes by their posterior probabilities; over several categories it is the
    geometric mean.

    Attributes:
        log_levels: ln S, (envelopes, bands, times).
        log_shares: ln of the probability of each envelope in each category and, last, in any, (planes + 1, envelopes).
    """

    log_levels: Tensor
    log_shares: Tensor

    def __init__(self, hop: int, planes: int, envelopes: int, cells: tuple[int, int], evidence: int):
        """Make an empty prior.

        Args:
            evidence: coefficients of a cell that count as independent of one another.
        """
        super().__init__()
        self.hop, self.cells, self.evidence = hop, cells, evidence
        self.register_buffer("log_levels", torch.zeros(envelopes, *cells))
        self.register_buffer("log_shares", torch.zeros(planes + 1, envelopes))

    def forward(self, spectrum: Tensor, alpha: Tensor, sigma: Tensor, shares: Tensor, circular: bool) -> Tensor:
        """Return the level S.

        Args:
            spectrum: of the noisy sound, (B, hop, frames).
            alpha, sigma: of its noise level, (B, 1, 1).
            shares: of the categories, (B, planes), at most 1 in all; what is missing to 1 is "any".
            circular: whether the sound is a loop: then there is one level for all times.

        Returns:
            (B, hop, frames).
        """
        bands, times = self._grids(spectrum.shape[-1], spectrum.device)
        energy = bands.mean @ spectrum.float().square() @ times.mean.T
        count = bands.points[:, None] * times.points
        square = (2 * self.log_levels.float()).exp()
        if circular:
            energy, square = ((cells @ times.points / times.points.sum())[..., None] for cells in (energy, square))
            count = count.sum(1, keepdim=True)
        variance = alpha[..., None].float().square() * square + sigma[..., None].float().square()
        count = count.clamp(max=self.evidence)
        evidence = count * (energy[:, None] / variance + variance.log())  # (B, envelopes, cells)
        probability = (self.log_shares - evidence.sum((2, 3))[:, None] / 2).softmax(-1)  # (B, planes + 1, envelopes)
        each = (probability @ square.flatten(1)).log() / 2
        weight = torch.cat([shares, 1 - shares.sum(1, keepdim=True)], 1).float()
        log_level = (weight[:, None] @ each).view(len(each), *square.shape[1:])
        log_level = bands.spread @ (log_level if circular else log_level @ times.spread.T)
        limits = Limits(_NEAR, _PLAUSIBLE, FLOOR, _LOUDEST)
        return limit(log_level.exp(), spectrum.float().square(), alpha, sigma, limits, circular).to(spectrum.dtype)

    def _grids(self, frames: int, device: torch.device) -> tuple[Grid, Grid]:
        bands = grid(band_edges(self.cells[0], self.hop), self.hop, device)
        return bands, grid(time_edges(self.cells[1]), frames, device)


def any_sound(log_shares: Tensor) -> Tensor:
    """Return the shares of components in categories, (planes, components), with a last row: those in any sound."""
    some = log_shares[log_shares.amax(1) > IMPOSSIBLE / 10].float()
    mean = (some.logsumexp(0) - math.log(max(1, len(some)))).clamp(min=IMPOSSIBLE)
    return torch.cat([log_shares, mean.to(log_shares)[None]])


class Limits(NamedTuple):
    """The limits of a level: frames that are about equally loud, the range of its square re their mean square, and the
    range of the level itself."""

    near: int
    plausible: tuple[float, float]
    floor: float
    loudest: float


def limit(level: Tensor, energy: Tensor, alpha: Tensor, sigma: Tensor, limits: Limits, circular: bool) -> Tensor:
    """Limit a level to what the noisy energy around each value allows, as no envelope fits everywhere.

    Args:
        level, energy: (B, rows, frames).
        alpha, sigma: (B, 1, 1).
    """
    near, (lowest, highest), floor, loudest = limits
    frames = energy.shape[-1]
    near = min(near, frames - 1 + frames % 2)  # odd
    reach = near // 2
    around = F.pad(energy, (reach, reach), "circular") if circular else energy
    around = F.avg_pool1d(around, near, 1, 0 if circular else reach, count_include_pad=False)
    if not circular and frames > near > 1:  # near an end the mean is of fewer frames, and too uncertain
        around = torch.cat([around[..., :-reach], around[..., -reach - 1 : -reach].expand(-1, -1, reach)], -1)
    least, most = lowest * around, highest * around
    amplitude = alpha.clamp(min=1e-2)
    low = ((least - sigma.square()).clamp(min=floor**2).sqrt() / amplitude).clamp(max=loudest)
    return torch.minimum(torch.maximum(level, low), most.sqrt().clamp(min=floor) / amplitude)


class Grid(NamedTuple):
    """The cells of an axis: points per cell, the averaging matrix (cells, points) and the interpolation back."""

    points: Tensor
    mean: Tensor
    spread: Tensor


@cached
def grid(edges: tuple[int, ...], points: int, device: torch.device, stretch: tuple[int, int] | None = None) -> Grid:
    """Return the cells between these edges; the last one extends to the end of the axis.

    With ``stretch=(kept, usual)`` what lies after the first ``kept`` points is stretched, as if there were ``usual``
    points in all.
    """
    place = torch.arange(points, device=device, dtype=torch.float32)
    if stretch is not None and points != stretch[1]:
        kept, usual = stretch
        place = torch.where(place < kept, place, kept + (place - kept) * (usual - kept) / max(points - kept, 1))
    cell = torch.bucketize(place, torch.tensor(edges[1:-1], device=device, dtype=torch.float32), right=True)
    member = F.one_hot(cell, len(edges) - 1).T.float()
    count = member.sum(1)
    middle = torch.tensor([(a + b - 1) / 2 for a, b in pairwise(edges)], device=device)
    right = torch.bucketize(place, middle).clamp(1, len(middle) - 1)
    share = ((place - middle[right - 1]) / (middle[right] - middle[right - 1])).clamp(0, 1)
    spread = torch.zeros(points, len(middle), device=device)
    row = torch.arange(points, device=device)
    spread[row, right - 1] = 1 - share
    spread[row, right] += share
    return Grid(count, member / count.clamp(min=1)[:, None], spread)


def time_edges(cells: int) -> tuple[int, ...]:
    """Return the frames that separate the cells of an envelope: single frames first, then ever longer ones."""
    return _edges(cells, 4, 2)


def band_edges(cells: int, hop: int) -> tuple[int, ...]:
    """Return the bands that separate the cells of an envelope, spaced the same way."""
    return (*_edges(cells, 6, 3)[:-1], hop)


def _edges(cells: int, single: int, growth: int) -> tuple[int, ...]:
    edges = [*range(single + 1)]
    while len(edges) <= cells:
        edges.append(edges[-1] + max(1, edges[-1] // growth))
    return tuple(edges)
