"""Envelopes of harmonics: a sound of a known pitch as slow sequences, in which white noise stays white."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.polynomial import Chebyshev
from torch import Tensor

from .mdct import cached

HARMONICS = 64
HOP = 1024
"""Samples between two values of an envelope; windows are twice as long."""

_HIGHEST = 0.4955  # cycles per sample: a harmonic above it is left out
_FEW = 96  # frames
_OVERLAP, _OVERLAP_AT_ENDS = 86 / 44_100, 125 / 44_100  # cycles per sample below which harmonics overlap
_LEFT = 0.05  # e of ``exchange``


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
    blocks = torch.cat([before, x, after], -1).view(len(x), -1, HOP)
    waves = _oscillators(pitch, blocks.shape[1] - 1, x.device)
    found = blocks[:, :-1] @ waves.first.mT + blocks[:, 1:] @ waves.second.mT
    return _whiten(_complex(found.mT) * waves.start.conj(), circular)


def modulate(envelopes: Tensor, pitch: Tensor, circular: bool) -> Tensor:
    """Return the sound of these envelopes, by the transpose of ``demodulate``, twice its real part: (B, 1, T)."""
    waves = _oscillators(pitch, envelopes.shape[-1], envelopes.device)
    turned = _real(_whiten(envelopes, circular) * waves.start).mT
    first, second = (2 * turned @ half for half in (waves.first, waves.second))
    parts = second + first.roll(-1, 1) if circular else second[:, :-1] + first[:, 1:]
    return parts.flatten(1)[:, None]


def gram(envelopes: Tensor, pitch: Tensor, circular: bool) -> Tensor:
    """Return ``demodulate(modulate(envelopes))``: a frame sees itself and its neighbours only, whatever its length."""
    waves = _oscillators(pitch, envelopes.shape[-1], envelopes.device)
    t = _real(_whiten(envelopes, circular) * waves.start)
    begins, ends, beside = waves.products
    if circular:
        seen = begins @ t + beside @ t.roll(1, -1) + ends @ t + beside.mT @ t.roll(-1, -1)
    else:  # what is before the first and after the last value is outside
        seen = F.pad(begins @ t[..., 1:] + beside @ t[..., :-1], (1, 0))
        seen = seen + F.pad(ends @ t[..., :-1] + beside.mT @ t[..., 1:], (0, 1))
    return _whiten(_complex(seen) * waves.start.conj(), circular)


def restore(envelopes: Tensor, pitch: Tensor, circular: bool) -> Tensor:
    """Return the sound that a sound's own envelopes describe: as ``modulate``, but nothing is counted twice.

    Harmonics overlap below 86 Hz, and below 125 Hz in the halved windows at the ends. There M M^H would amplify what
    two of them share up to threefold. With weights W at the ends its eigenvalues g are below 2, and those of
    ``M W (2 - M^H M W) M^H``, g (2 - g), at most 1; a tone, for which g is 1, stays as it is. From 86 to 125 Hz, where
    there is no second term, up to 1.35 is left at the ends.
    """
    weight = torch.ones(len(pitch), 1, envelopes.shape[-1])
    if not circular:
        weight[..., 0] = weight[..., -1] = (pitch / _OVERLAP_AT_ENDS).clamp(max=1).float()[:, None]
    weight, low = weight.to(envelopes.device), (pitch < _OVERLAP) & (pitch > 0)
    if low.any():
        again = gram(weight * envelopes, pitch, circular)
        envelopes = torch.where(low.to(envelopes.device)[:, None, None], 2 * envelopes - again, envelopes)
    return modulate(weight * envelopes, pitch, circular)


def exchange(noise: Tensor, envelopes: Tensor, pitch: Tensor, circular: bool) -> Tensor:
    """Return white noise with other envelopes, themselves white noise: it stays white.

    Two pitches with the same envelopes have the same timbre. With M what ``modulate`` does and G = M^H M, which is
    nearly the identity unless harmonics overlap (below 86 Hz), the result is ``x - M q(G) M^H x + M p(G) a`` with
    ``q(g) = 1 / (g + e)`` and ``p(g) = sqrt(g + 2 e) / (g + e)``: white for every e, and exchanged where g >> e.

    Args:
        noise: (B, 1, T).
        envelopes: complex (B, HARMONICS, N), of unit variance.
        pitch, circular: as in ``demodulate``; rows without a pitch stay as they are.
    """
    overlap = pitch < _OVERLAP
    out = noise.clone()
    for rows, degree, domain in ((overlap, 24, (0.0, 6.5)), (~overlap, 4, (0.7, 1.3))):  # a row as in any batch
        if rows.any():
            here = rows.to(noise.device)
            out[here] = _exchange(noise[here], envelopes[here], pitch[rows], circular, degree, domain)
    return out


def _exchange(
    noise: Tensor, envelopes: Tensor, pitch: Tensor, circular: bool, degree: int, domain: tuple[float, float]
) -> Tensor:
    """Exchange with polynomials of this degree, for eigenvalues of G in this domain."""
    remove = Chebyshev.interpolate(lambda g: 1 / (g + _LEFT), degree, domain)
    add = Chebyshev.interpolate(lambda g: np.sqrt(g + 2 * _LEFT) / (g + _LEFT), degree, domain)
    product = functools.partial(gram, pitch=pitch, circular=circular)
    new = _apply(add, product, envelopes * audible(pitch).to(noise.device))
    old = _apply(remove, product, demodulate(noise, pitch, circular))
    return noise + modulate(new - old, pitch, circular)


def _apply(polynomial: Chebyshev, operator: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return a polynomial of a linear operator, applied to ``x``, by the recurrence of the Chebyshev polynomials."""
    offset, scale = polynomial.mapparms()
    before, now = x, offset * x + scale * operator(x)
    total = polynomial.coef[0] * before + polynomial.coef[1] * now
    for coefficient in polynomial.coef[2:]:
        before, now = now, 2 * (offset * now + scale * operator(now)) - before
        total = total + coefficient * now
    return total


def audible(pitch: Tensor) -> Tensor:
    """Return which harmonics exist, (B, HARMONICS, 1): those of a pitch, below the Nyquist frequency."""
    cycles = pitch[:, None] * torch.arange(1, HARMONICS + 1, device=pitch.device)
    return ((cycles > 0) & (cycles < _HIGHEST))[..., None]


class _Waves:
    """The windowed oscillators of some pitches.

    Attributes:
        first, second: their halves, (B, 2 HARMONICS, HOP): real parts, then imaginary parts times -1.
        start: their phases at the values, complex (B, HARMONICS, N).
    """

    def __init__(self, pitch: Tensor, values: int, device: torch.device):
        cycles = pitch[:, None, None] * torch.arange(1, HARMONICS + 1, device="cpu")[:, None]
        n = torch.arange(2 * HOP, device="cpu")
        # shifted by a hop, these windows add up to a constant: a steady tone is represented exactly
        window = torch.sin(torch.pi / (2 * HOP) * (n + 0.5)).square() / (0.75 * HOP) ** 0.5 * audible(pitch)
        angle = 2 * torch.pi * (cycles * (n - HOP)).frac().float()
        inside = torch.cat([angle.cos() * window, -angle.sin() * window], 1)
        self.first, self.second = (half.contiguous().to(device) for half in inside.split(HOP, -1))
        angle = 2 * torch.pi * (cycles * HOP * torch.arange(values, device="cpu")).frac().float()
        self.start = torch.polar(torch.ones_like(angle), angle).to(device)

    @functools.cached_property
    def products(self) -> tuple[Tensor, Tensor, Tensor]:
        """Twice those of the first halves, of the second ones, and of the first with the second ones: (B, 2 H, 2 H)."""
        with torch.inference_mode(False):  # training can use them too
            first, second = self.first, self.second
            return 2 * first @ first.mT, 2 * second @ second.mT, 2 * first @ second.mT


def _oscillators(pitch: Tensor, values: int, device: torch.device) -> _Waves:
    """Return the oscillators of these pitches; a thread keeps its last ones, as all calls of a run have the same."""
    key = tuple(pitch.tolist()), values, device
    if getattr(_last, "key", None) != key:
        with torch.inference_mode(False):
            # float64 on the CPU: Apple's GPUs have none
            _last.waves = _Waves(torch.tensor(key[0], dtype=torch.float64, device="cpu"), values, device)
        _last.key = key
    return _last.waves


_last = threading.local()


def _real(values: Tensor) -> Tensor:
    """Return complex (B, H, N) as real (B, 2 H, N)."""
    return torch.cat([values.real, values.imag], 1)


def _complex(values: Tensor) -> Tensor:
    return torch.complex(*values.chunk(2, 1))


def _whiten(values: Tensor, circular: bool) -> Tensor:
    return _complex(_real(values) @ _whitening(values.shape[-1], circular, values.device))


@cached
def _whitening(frames: int, circular: bool, device: torch.device) -> Tensor:
    """Return the inverse root of the Gram matrix of the windows; two neighbours share a sixth of their energy."""
    some = min(frames, _FEW)
    beside = torch.eye(some, dtype=torch.float64, device="cpu").roll(1, 0)
    if not circular:
        beside[0, -1] = 0
    gram = torch.eye(some, dtype=torch.float64, device="cpu") + (beside + beside.T) / 6
    if not circular:
        gram[0, 0] = gram[-1, -1] = 0.5  # half of these windows lies outside
    w, v = torch.linalg.eigh(gram)
    root = (v * w**-0.5) @ v.T
    if frames > some:  # it is the same in the middle of any length, and 1e-12 farther from the diagonal
        middle, reach = root[some // 2], some // 4
        whole = torch.zeros(frames, frames, dtype=torch.float64, device="cpu")
        for away in range(-reach, reach + 1):
            row = torch.arange(frames, device="cpu")
            row = row if circular else row[(row + away >= 0) & (row + away < frames)]
            whole[row, (row + away) % frames] = middle[some // 2 + away]
        if not circular:
            half = some // 2
            whole[:reach, :half], whole[-reach:, -half:] = root[:reach, :half], root[-reach:, -half:]
        root = whole
    return root.float().to(device)
