"""Tones of a known pitch: the clean sound as slow envelopes of harmonics, and what little is beside them.

A tone of pitch f is a sum of harmonics whose complex envelopes change slowly. In windows of 46 ms, a tone of 1.5 s is
64 short sequences in which white noise stays white. There the clean sound has a posterior that needs no training: as
in ``prior``, each category is described by a few components, found in its training sounds, with

*   the level of each group of harmonics in each stretch of time,
*   the correlation of neighbouring frames there: 0.998 for a steady tone, less for one that beats or glides,
*   the level of the residual, what is beside the harmonics, in each band and stretch of time,
*   its range of pitch.

Bayes' rule says which components fit. With their levels and correlation an envelope is a Gaussian vector, and its
posterior mean a Wiener filter. Beside the harmonics the network's estimate stays, but no louder than a residual may be:
without that, a band with a tone in it is full of noise.

Sources: data-dependent priors, PriorGrad (arXiv 2106.06406); explicit references for pitch, PeriodGrad (arXiv
2402.14692); harmonic models learn tones from minutes of data, DDSP (arXiv 2001.04643).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .envelopes import HARMONICS, HOP, audible, demodulate, restore
from .mdct import inverse_mdct, mdct
from .prior import IMPOSSIBLE, Grid, Limits, band_edges, grid, limit, time_edges

CELLS = (15, 12)
"""Groups of harmonics, and stretches of time, of a component."""

FLOOR = 2e-3
"""Of a level: about -80 dB re the envelopes of a tone at full scale."""

CORRELATION = (0.0, 0.998)
"""Range of the correlation of neighbouring frames."""

_EVIDENCE = 8  # values of a cell that count as independent of one another
# of 5 frames, chance makes the mean square 6 times what it should be once in 200 million times
_LIMITS = Limits(near=5, plausible=(1 / 6, 4), floor=FLOOR, loudest=200.0)
_LEAST = 0.05  # of alpha: from noise alone the mean of all sounds is silence, and so would be a run of one step
# a sound that is longer than usual should at this share of its length not be this much below its peak (nepers);
# what speaks against it grows with the length, up to this many times the usual one
_LATE, _DIED_AWAY, _LONGEST = 0.75, 3.5, 4.0
_KEPT = 4  # hops at the beginning of a sound that are not stretched: 0.1 s
_HANDOVER = 0.02  # sigma / alpha from which on the network knows better


def smooth(noisy: Tensor, level: Tensor, correlation: Tensor, alpha: Tensor, sigma: Tensor, circular: bool) -> Tensor:
    """Return the posterior mean of clean envelopes, given noisy ones.

    Let ``a`` be an envelope at unit level, a Markov chain with these correlations and the tridiagonal precision T. Then
    ``y = alpha L a + sigma n`` has the posterior mean ``(T + D)^-1 (alpha L / sigma^2) y`` of ``a``, with
    ``D = (alpha L / sigma)^2``.

    Args:
        noisy: y, complex (B, HARMONICS, N).
        level: L, (B, HARMONICS, N).
        correlation: of each frame and the next one, (B, HARMONICS, N); on a line the last one does not count.
        alpha, sigma: (B, 1, 1).

    Returns:
        The mean of ``L a``, complex (B, HARMONICS, N).
    """
    if not circular:
        correlation = torch.cat([correlation[..., :-1], torch.zeros_like(correlation[..., :1])], -1)
    certainty = 1 / (1 - correlation.square())
    gain = alpha * level / sigma
    diagonal = certainty.roll(1, -1) + correlation.square() * certainty + gain.square()
    pull = torch.view_as_real(gain / sigma * noisy)
    solve = _solve_circle if circular else _solve_line
    return torch.view_as_complex(solve(diagonal, -correlation * certainty, pull)) * level


def _solve_line(diagonal: Tensor, beside: Tensor, pull: Tensor) -> Tensor:
    """Solve symmetric tridiagonal systems by elimination.

    Args:
        diagonal: (..., N).
        beside: the element between each row and the next, (..., N); the last one does not count.
        pull: the right-hand sides, (..., N, k).

    Returns:
        (..., N, k).
    """
    rows = list(zip(diagonal.unbind(-1), beside.unbind(-1), pull.unbind(-2), strict=True))
    shares, found = [], []
    share, value = torch.zeros_like(rows[0][0]), torch.zeros_like(rows[0][2])
    before = torch.zeros_like(share)
    for here, following, right in rows:
        pivot = 1 / (here - before * share)
        share = following * pivot
        value = (right - before[..., None] * value) * pivot[..., None]
        before = following
        shares.append(share)
        found.append(value)
    for n in range(len(rows) - 2, -1, -1):
        found[n] = found[n] - shares[n][..., None] * found[n + 1]
    return torch.stack(found, -2)


def _solve_circle(diagonal: Tensor, beside: Tensor, pull: Tensor) -> Tensor:
    """Solve such systems whose last row is beside the first one, by the formula of Sherman and Morrison."""
    corner, first = beside[..., -1], diagonal[..., 0]
    side = torch.zeros_like(diagonal)
    side[..., 0], side[..., -1] = -first, corner
    changed = diagonal.clone()
    changed[..., 0], changed[..., -1] = 2 * first, diagonal[..., -1] + corner.square() / first
    both = _solve_line(changed, beside, torch.cat([pull, side[..., None]], -1))
    # the system is ``changed`` plus side times w^T, with w = (1, 0, ..., 0, -corner / first)
    turned = both[..., 0, :] - (corner / first)[..., None] * both[..., -1, :]
    scale = turned[..., :-1] / (1 + turned[..., -1:])
    return both[..., :-1] - both[..., -1:] * scale[..., None, :]


class Tones(nn.Module):
    """A module that improves the network's clean estimate where the pitch is known. It has no weights.

    Attributes:
        log_levels: ln of the level of a harmonic, (components, groups, times).
        log_residual: ln of the level beside the harmonics, in the cells of the network's prior, (components, bands,
            times).
        correlation: of neighbouring frames, (components, groups, times).
        log_pitch: mean and deviation of ln(cycles per sample), (components, 2).
        log_shares: ln of the probability of each component in each category and, last, in any, (planes + 1,
            components).
        held: length in hops of the sounds that the components were fitted to, for categories that last as long as the
            asked sound; 0 for those that have a length of their own, (planes + 1,).
    """

    log_levels: Tensor
    log_residual: Tensor
    correlation: Tensor
    log_pitch: Tensor
    log_shares: Tensor
    held: Tensor

    def __init__(self, hop: int, planes: int, components: int, cells: tuple[int, int]):
        super().__init__()
        self.hop, self.cells = hop, cells
        self.register_buffer("log_levels", torch.zeros(components, *CELLS))
        self.register_buffer("log_residual", torch.zeros(components, *cells))
        self.register_buffer("correlation", torch.full((components, *CELLS), CORRELATION[0]))
        self.register_buffer("log_pitch", torch.ones(components, 2))
        self.register_buffer("log_shares", torch.zeros(planes + 1, components))
        self.register_buffer("held", torch.zeros(planes + 1))

    @property
    def tonal(self) -> list[bool]:
        """Return which categories have components."""
        return self._have_tones()[:-1].tolist()

    def _have_tones(self) -> Tensor:
        return self.log_shares.amax(1) > IMPOSSIBLE / 10

    def usual_pitches(self, shares: Tensor) -> list[tuple[float, float]]:
        """Return the mean pitch of each component in cycles per sample, and its probability, for shares (planes,)."""
        probability = shares @ self.log_shares[:-1].cpu().float().softmax(-1)
        return list(zip(self.log_pitch[:, 0].cpu().double().exp().tolist(), probability.tolist(), strict=True))

    def forward(
        self,
        x: Tensor,
        clean: Tensor,
        level: Tensor,
        alpha: Tensor,
        sigma: Tensor,
        shares: Tensor,
        pitch: Tensor,
        circular: bool,
    ) -> Tensor:
        """Return what to add to the clean estimate: nothing in rows without a pitch, and for the share of categories
        without tones.

        Args:
            x: noisy audio, (B, 1, T).
            clean: the network's estimate of the clean audio, (B, 1, T).
            level: of the clean sound in the network's spectrum, as its prior says, (B, hop, T / hop).
            alpha, sigma: (B, 1, 1).
            shares: of the categories, (B, planes).
            pitch: cycles per sample, (B,), 0 for none.
            circular: whether the sound is a loop; the pitch is then a multiple of 1 / T; in a window of a
                longer loop, a multiple of one over the length of that.
        """
        alpha, there, pitch = alpha.clamp(min=_LEAST), pitch > 0, pitch.cpu().double()
        noisy, known = (demodulate(each, pitch, circular) for each in (x, clean))
        shares = torch.cat([shares, 1 - shares.sum(1, keepdim=True)], 1).float() * self._have_tones()
        part = shares.sum(1, keepdim=True)
        shares = shares / part.clamp(min=1e-6)
        weights = self.weigh(noisy, alpha, sigma, shares, pitch, circular)
        envelopes = self._envelopes(noisy, weights, alpha, sigma, shares, circular) * audible(pitch).to(x.device)
        inside = restore(known, pitch, circular)
        beside = mdct(clean - inside, self.hop, circular)
        residual = self._residual(weights, beside.shape[-1], shares, circular)
        # the estimate beside the harmonics was filtered for the level of all: filter it for that of the residual
        allowed = _wiener(residual, alpha, sigma) / _wiener(level, alpha, sigma).clamp(min=1e-9)
        beside = beside * allowed.clamp(max=1)
        noise = (sigma / alpha.clamp(min=1e-6)).square()
        handed_over = noise / (noise + _HANDOVER**2)
        changed = restore(handed_over * (envelopes - known), pitch, circular)
        change = part[..., None] * (inverse_mdct(beside, circular) + inside + changed - clean)
        return torch.where(there[:, None, None], change, 0.0)

    def weigh(
        self, noisy: Tensor, alpha: Tensor, sigma: Tensor, shares: Tensor, pitch: Tensor, circular: bool
    ) -> Tensor:
        """Return the weight of each component: its posterior probability in each category, times the shares.

        Args:
            noisy: envelopes, complex (B, HARMONICS, N).
            shares: of the categories and of any sound, (B, planes + 1).

        Returns:
            (B, planes + 1, components); the sum over the components is the share.
        """
        groups, times = _groups(noisy.device), self._times(CELLS[1], noisy.shape[-1], HOP, shares, circular)
        exist = groups.mean @ audible(pitch).to(noisy.device, torch.float32)
        energy = groups.mean @ _power(noisy) @ times.mean.mT / exist.clamp(min=1e-6)
        count = exist * groups.points[:, None] * times.points[:, None]
        square = (2 * self.log_levels.float()).exp()
        if circular:
            energy, square = (_whole(each, times.points[0]) for each in (energy, square))
            count = count.sum(-1, keepdim=True)
        variance = alpha[..., None].square() * square + sigma[..., None].square()
        evidence = count.clamp(max=_EVIDENCE)[:, None] * (energy[:, None] / variance + variance.log())
        mean, deviation = self.log_pitch.float().unbind(1)
        away = (pitch.to(noisy.device, torch.float32).clamp(min=1e-6).log()[:, None] - mean) / deviation
        evidence = evidence.sum((2, 3)) + away.square() / 2 + deviation.log()
        if not circular:
            evidence = evidence + self._shortness(noisy.shape[-1], shares)
        return (self.log_shares - evidence[:, None]).softmax(-1) * shares[..., None]

    def _envelopes(
        self, noisy: Tensor, weights: Tensor, alpha: Tensor, sigma: Tensor, shares: Tensor, circular: bool
    ) -> Tensor:
        """Return the posterior mean of the clean envelopes."""
        groups, times = _groups(noisy.device), self._times(CELLS[1], noisy.shape[-1], HOP, shares, circular)
        level = self._mean_level(weights, self.log_levels, times, circular)
        correlation = torch.einsum("bk,kgt->bgt", weights.sum(1), self.correlation.float())
        if circular:
            correlation = _whole(correlation, times.points[0])
        else:
            level, correlation = level @ times.spread.mT, correlation @ times.spread.mT
        level, correlation = ((groups.spread @ each).expand(noisy.shape) for each in (level, correlation))
        level = limit(level.exp(), _power(noisy), alpha, sigma, _LIMITS, circular)
        return smooth(noisy, level, correlation, alpha, sigma.clamp(min=1e-6), circular)

    def _residual(self, weights: Tensor, frames: int, shares: Tensor, circular: bool) -> Tensor:
        """Return the level beside the harmonics, (B, hop, frames)."""
        bands = grid(band_edges(self.cells[0], self.hop), self.hop, weights.device)
        times = self._times(self.cells[1], frames, self.hop, shares, circular)
        level = self._mean_level(weights, self.log_residual, times, circular)
        return (bands.spread @ (level if circular else level @ times.spread.mT)).exp()

    def _shortness(self, frames: int, shares: Tensor) -> Tensor:
        """Return how unlikely each component is in a sound longer than usual: one that dies away early is no pad."""
        usual = float(self.held.max())
        if frames - 1 <= usual or not usual:
            return torch.zeros(1, len(self.log_levels), device=shares.device)
        late = grid(time_edges(CELLS[1]), round(usual) + 1, shares.device).spread[round(_LATE * usual)]
        levels = self.log_levels.float().amax(1)
        short = (levels.amax(1) - levels @ late - _DIED_AWAY).clamp(min=0)
        return (shares @ (self.held > 0).float())[:, None] * short * min((frames - 1) / usual - 1, _LONGEST)

    def _times(self, cells: int, frames: int, hop: int, shares: Tensor, circular: bool) -> Grid:
        """Return the stretches of time of each sound: (B, cells), (B, cells, frames) and (B, frames, cells).

        What lasts as long as the asked sound keeps its beginning; the rest is stretched. A loop has one level for all
        times, so it needs no stretching.
        """
        plain, usual = grid(time_edges(cells), frames, shares.device), round(float(self.held.max()) * HOP / hop)
        if circular or not usual:
            return Grid(*(each[None] for each in plain))
        on_a_line = int(hop == HOP)  # envelopes have a value at both ends
        stretch = round(_KEPT * HOP / hop), usual + on_a_line
        stretched = grid(time_edges(cells), frames, shares.device, stretch)
        part = shares @ (self.held > 0).float()
        parts = (part.view(-1, *[1] * each.dim()) for each in plain)
        return Grid(*(torch.lerp(a[None], b[None], h) for a, b, h in zip(plain, stretched, parts, strict=True)))

    def _mean_level(self, weights: Tensor, log_levels: Tensor, times: Grid, circular: bool) -> Tensor:
        """Return ln of the level: the mean square over the components of a category, geometric over categories."""
        square = (2 * log_levels.float()).exp()
        if circular:
            square = _whole(square, times.points[0])
        shares = weights.sum(-1)
        each = (weights / shares.clamp(min=1e-9)[..., None] @ square.flatten(1)).clamp(min=1e-12).log() / 2
        return (shares[:, None] @ each).view(len(each), *square.shape[1:])


def _wiener(level: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    signal = (alpha * level).square()
    return signal / (signal + sigma.square())


def _power(envelopes: Tensor) -> Tensor:
    return torch.view_as_real(envelopes).square().sum(-1)


def _whole(cells: Tensor, points: Tensor) -> Tensor:
    """Return the mean over all times, for loops: (..., times) -> (..., 1)."""
    return (cells @ points / points.sum())[..., None]


def _groups(device: torch.device) -> Grid:
    return grid(band_edges(CELLS[0], HARMONICS), HARMONICS, device)
