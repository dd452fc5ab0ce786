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

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .mdct import cached, inverse_mdct, mdct
from .prior import Grid, Limits, band_edges, grid, limit, time_edges

HARMONICS = 64
HOP = 1024
"""Samples between two values of an envelope; windows are twice as long."""

CELLS = (15, 12)
"""Groups of harmonics, and stretches of time, of a component."""

FLOOR = 2e-3
"""Of a level: about -80 dB re the envelopes of a tone at full scale."""

CORRELATION = (0.0, 0.998)
"""Range of the correlation of neighbouring frames."""

_HIGHEST = 0.4955  # cycles per sample: a harmonic above it is left out
_EVIDENCE = 8  # values of a cell that count as independent of one another
# of 5 frames, chance makes the mean square 6 times what it should be once in 200 million times
_LIMITS = Limits(near=5, plausible=(1 / 6, 4), floor=FLOOR, loudest=200.0)
_HANDOVER = 0.02  # sigma / alpha from which on the network knows better


def demodulate(x: Tensor, pitch: Tensor, circular: bool) -> Tensor:
    """Return the envelopes of the harmonics.

    Unit white noise has unit variance there. On a line, envelopes have a value at both ends.

    Args:
        x: audio, (B, 1, T), T a multiple of ``HOP``.
        pitch: cycles per sample, (B,), float64, on the CPU; 0 for none: all envelopes are 0. On a circle, multiples
            of 1 / T.
        circular: whether the end is followed by the beginning.

    Returns:
        Complex (B, HARMONICS, T / HOP), on a line one more.
    """
    before, after = (x[..., -HOP:], x[..., :0]) if circular else (torch.zeros_like(x[..., :HOP]),) * 2
    frames = torch.cat([before, x, after], -1)[:, 0].unfold(-1, 2 * HOP, HOP)  # (B, N, 2 HOP)
    inside, start = _oscillators(pitch, frames.shape[1], x.device)
    found = torch.complex(*(frames @ part.mT for part in (inside.real, -inside.imag))).mT
    return found * start.conj() @ _whitening(frames.shape[1], circular, x.device)


def modulate(envelopes: Tensor, pitch: Tensor, circular: bool) -> Tensor:
    """Return the sound of these envelopes, by the transpose of ``demodulate``, twice its real part: (B, 1, T)."""
    inside, start = _oscillators(pitch, envelopes.shape[-1], envelopes.device)
    turned = (envelopes @ _whitening(envelopes.shape[-1], circular, envelopes.device) * start).mT
    frames = 2 * (turned.real @ inside.real - turned.imag @ inside.imag)
    first, second = frames[..., :HOP], frames[..., HOP:]
    parts = second + first.roll(-1, 1) if circular else second[:, :-1] + first[:, 1:]
    return parts.flatten(1)[:, None]


def audible(pitch: Tensor) -> Tensor:
    """Return which harmonics exist, (B, HARMONICS, 1): those of a pitch, below the Nyquist frequency."""
    cycles = pitch[:, None] * torch.arange(1, HARMONICS + 1, device=pitch.device)
    return ((cycles > 0) & (cycles < _HIGHEST))[..., None]


def _oscillators(pitch: Tensor, frames: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the windowed oscillators (B, HARMONICS, 2 HOP) and their phases at the frames (B, HARMONICS, frames)."""
    return _make_oscillators(tuple(pitch.tolist()), frames, device)


@lru_cache(maxsize=2)  # all calls of a run have the same pitches
@torch.inference_mode(False)
def _make_oscillators(pitches: tuple[float, ...], frames: int, device: torch.device) -> tuple[Tensor, Tensor]:
    pitch = torch.tensor(pitches, dtype=torch.float64, device="cpu")  # Apple's GPUs have no float64
    cycles = pitch[:, None, None] * torch.arange(1, HARMONICS + 1, device="cpu")[:, None]
    n = torch.arange(2 * HOP, device="cpu")
    # shifted by a hop, these windows add up to a constant: a steady tone is represented exactly
    window = torch.sin(torch.pi / (2 * HOP) * (n + 0.5)).square() / (0.75 * HOP) ** 0.5
    inside = torch.exp(2j * torch.pi * (cycles * (n - HOP)).frac().float()) * window * audible(pitch)
    start = torch.exp(2j * torch.pi * (cycles * HOP * torch.arange(frames, device="cpu")).frac().float())
    return inside.to(device), start.to(device)


@cached
def _whitening(frames: int, circular: bool, device: torch.device) -> Tensor:
    """Return the inverse root of the Gram matrix of the windows; two neighbours share a sixth of their energy."""
    gram = torch.eye(frames, dtype=torch.float64, device="cpu")
    if not circular:
        gram[0, 0] = gram[-1, -1] = 0.5  # half of these windows lies outside
    gram += _neighbours(frames, circular, torch.device("cpu")).double() / 6
    w, v = torch.linalg.eigh(gram)
    return ((v * w**-0.5) @ v.T).to(device, torch.cfloat)


@cached
def _neighbours(frames: int, circular: bool, device: torch.device) -> Tensor:
    """Return the matrix that adds the frames before and after."""
    ones = torch.eye(frames, device=device)
    if circular:
        return ones.roll(1, 0) + ones.roll(-1, 0)
    return F.pad(ones, (0, 0, 1, 0))[:-1] + F.pad(ones, (0, 0, 0, 1))[1:]


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
    frames = level.shape[-1]
    if not circular:
        correlation = torch.cat([correlation[..., :-1], torch.zeros_like(correlation[..., :1])], -1)
    certainty = 1 / (1 - correlation.square())
    diagonal = certainty.roll(1, -1) + correlation.square() * certainty
    following = torch.eye(frames, device=level.device).roll(1, 1)
    beside = following * (correlation * certainty)[..., None]
    gain = alpha * level / sigma
    matrix = torch.diag_embed(diagonal + gain.square()) - beside - beside.mT
    pull = torch.view_as_real(gain / sigma * noisy)
    return torch.view_as_complex(torch.cholesky_solve(pull, torch.linalg.cholesky(matrix)).contiguous()) * level


class Tones(nn.Module):
    """A module that corrects the network's clean estimate where the pitch is known. It has no weights.

    Attributes:
        log_levels: ln of the level of a harmonic, (components, groups, times).
        log_residual: ln of the level beside the harmonics, in the cells of the network's prior, (components, bands,
            times).
        correlation: of neighbouring frames, (components, groups, times).
        log_pitch: mean and deviation of ln(cycles per sample), (components, 2).
        log_shares: ln of the probability of each component in each category and, last, in any, (planes + 1,
            components).
    """

    log_levels: Tensor
    log_residual: Tensor
    correlation: Tensor
    log_pitch: Tensor
    log_shares: Tensor

    def __init__(self, hop: int, planes: int, components: int, cells: tuple[int, int]):
        super().__init__()
        self.hop, self.cells = hop, cells
        self.register_buffer("log_levels", torch.zeros(components, *CELLS))
        self.register_buffer("log_residual", torch.zeros(components, *cells))
        self.register_buffer("correlation", torch.full((components, *CELLS), CORRELATION[0]))
        self.register_buffer("log_pitch", torch.ones(components, 2))
        self.register_buffer("log_shares", torch.zeros(planes + 1, components))

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
        """Return a better clean estimate; rows without a pitch stay as they are.

        Args:
            x: noisy audio, (B, 1, T).
            clean: the network's estimate of the clean audio, (B, 1, T).
            level: of the clean sound in the network's spectrum, as its prior says, (B, hop, T / hop).
            alpha, sigma: (B, 1, 1).
            shares: of the categories, (B, planes).
            pitch: cycles per sample, (B,), 0 for none.
            circular: whether the sound is a loop; the pitch is then rounded to a multiple of 1 / T.
        """
        pitch = pitch.cpu().double()
        if circular:
            pitch = (pitch * x.shape[-1]).round() / x.shape[-1]
        noisy, known = (demodulate(each, pitch, circular) for each in (x, clean))
        weights = self.weigh(noisy, alpha, sigma, shares, pitch, circular)
        envelopes = self._envelopes(noisy, weights, alpha, sigma, circular) * audible(pitch).to(x.device)
        inside = modulate(known, pitch, circular)
        beside = mdct(clean - inside, self.hop, circular)
        residual = self._residual(weights, beside.shape[-1], circular)
        # the estimate beside the harmonics was filtered for the level of all: filter it for that of the residual
        allowed = _wiener(residual, alpha, sigma) / _wiener(level, alpha, sigma).clamp(min=1e-9)
        beside = torch.where((pitch > 0).to(x.device)[:, None, None], beside * allowed.clamp(max=1), beside)
        noise = (sigma / alpha.clamp(min=1e-6)).square()
        handed_over = noise / (noise + _HANDOVER**2)
        changed = modulate(handed_over * (envelopes - known), pitch, circular)
        return inverse_mdct(beside, circular) + inside + changed

    def weigh(
        self, noisy: Tensor, alpha: Tensor, sigma: Tensor, shares: Tensor, pitch: Tensor, circular: bool
    ) -> Tensor:
        """Return the weight of each component: its posterior probability in each category, times the shares.

        Args:
            noisy: envelopes, complex (B, HARMONICS, N).

        Returns:
            (B, planes + 1, components); each row sums to 1 where its category has a share, the last one for what is
            missing to 1.
        """
        groups, times = _grids(noisy.shape[-1], noisy.device)
        exist = groups.mean @ audible(pitch).to(noisy.device, torch.float32)
        energy = groups.mean @ _power(noisy) @ times.mean.T / exist.clamp(min=1e-6)
        count = exist * groups.points[:, None] * times.points
        square = (2 * self.log_levels.float()).exp()
        if circular:
            energy, square = (_whole(each, times) for each in (energy, square))
            count = count.sum(-1, keepdim=True)
        variance = alpha[..., None].square() * square + sigma[..., None].square()
        evidence = count.clamp(max=_EVIDENCE)[:, None] * (energy[:, None] / variance + variance.log())
        mean, deviation = self.log_pitch.float().unbind(1)
        away = (pitch.to(noisy.device, torch.float32).clamp(min=1e-6).log()[:, None] - mean) / deviation
        evidence = evidence.sum((2, 3)) + away.square() / 2 + deviation.log()
        return (self.log_shares - evidence[:, None]).softmax(-1) * _with_rest(shares)[..., None]

    def _envelopes(self, noisy: Tensor, weights: Tensor, alpha: Tensor, sigma: Tensor, circular: bool) -> Tensor:
        """Return the posterior mean of the clean envelopes."""
        groups, times = _grids(noisy.shape[-1], noisy.device)
        level = self._mean_level(weights, self.log_levels, times, circular)
        correlation = torch.einsum("bk,kgt->bgt", weights.sum(1), self.correlation.float())
        if circular:
            correlation = _whole(correlation, times)
        else:
            level, correlation = level @ times.spread.T, correlation @ times.spread.T
        level, correlation = ((groups.spread @ each).expand(noisy.shape) for each in (level, correlation))
        level = limit(level.exp(), _power(noisy), alpha, sigma, _LIMITS, circular)
        return smooth(noisy, level, correlation, alpha, sigma.clamp(min=1e-6), circular)

    def _residual(self, weights: Tensor, frames: int, circular: bool) -> Tensor:
        """Return the level beside the harmonics, (B, hop, frames)."""
        bands = grid(band_edges(self.cells[0], self.hop), self.hop, weights.device)
        times = grid(time_edges(self.cells[1]), frames, weights.device)
        level = self._mean_level(weights, self.log_residual, times, circular)
        return (bands.spread @ (level if circular else level @ times.spread.T)).exp()

    def _mean_level(self, weights: Tensor, log_levels: Tensor, times: Grid, circular: bool) -> Tensor:
        """Return ln of the level: the mean square over the components of a category, geometric over categories."""
        square = (2 * log_levels.float()).exp()
        if circular:
            square = _whole(square, times)
        shares = weights.sum(-1)
        each = (weights / shares.clamp(min=1e-9)[..., None] @ square.flatten(1)).clamp(min=1e-12).log() / 2
        return (shares[:, None] @ each).view(len(each), *square.shape[1:])


def _wiener(level: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    signal = (alpha * level).square()
    return signal / (signal + sigma.square())


def _power(envelopes: Tensor) -> Tensor:
    return torch.view_as_real(envelopes).square().sum(-1)


def _with_rest(shares: Tensor) -> Tensor:
    return torch.cat([shares, 1 - shares.sum(1, keepdim=True)], 1).float()


def _whole(cells: Tensor, times: Grid) -> Tensor:
    """Return the mean over all times, for loops: (..., times) -> (..., 1)."""
    return (cells @ times.points / times.points.sum())[..., None]


def _grids(frames: int, device: torch.device) -> tuple[Grid, Grid]:
    return grid(band_edges(CELLS[0], HARMONICS), HARMONICS, device), grid(time_edges(CELLS[1]), frames, device)
