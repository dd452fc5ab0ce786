"""The orthonormal lapped cosine transform (MDCT), on a line with ends or on a circle.

Orthonormal means that white noise stays white and energies stay the same; the inverse is the transpose.
Sources: Princen & Bradley 1986; the sine window is Malvar's.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor


def cached(function):
    """Cache the tensors of a function of few arguments; outside inference mode, so that training can use them too."""
    return lru_cache(maxsize=32)(torch.inference_mode(False)(function))


def mdct(x: Tensor, hop: int, circular: bool) -> Tensor:
    """Transform audio to its spectrum: (B, 1, T) -> (B, hop, T / hop).

    Frame i covers two hops, from half a hop before sample ``i hop`` on, and overlaps with its neighbours. On a circle
    the first and the last frame are neighbours. On a line they do not overlap: what reaches beyond an end is folded
    back, by the rule of Princen & Bradley with a window of no width.
    """
    half = hop // 2
    if circular:
        before, after, ends = x[..., -half:], x[..., :half], (x[..., :half], x[..., -half:])
    else:
        rise, fall = _slopes(hop, x.device)
        first, last = x[..., :half], x[..., -half:]
        before, after = -rise * first.flip(-1), rise.flip(-1) * last.flip(-1)
        ends = first * fall, last * fall.flip(-1)
    whole = torch.cat([before, ends[0], x[..., half:-half], ends[1], after], -1)[:, 0]
    window, first, last = _phases(hop, x.device)
    return (torch.fft.fft(whole.unfold(-1, 2 * hop, hop) * window * first)[..., :hop] * last).real.mT


def inverse_mdct(spectrum: Tensor, circular: bool) -> Tensor:
    """Transform a spectrum back to audio, by the transpose: (B, hop, frames) -> (B, 1, hop frames)."""
    hop, half = spectrum.shape[1], spectrum.shape[1] // 2
    window, first, last = _phases(hop, spectrum.device)
    frames = (torch.fft.fft(spectrum.mT * last, 2 * hop) * first).real * window  # the transform is symmetric
    left, right = F.pad(frames[..., :hop], (0, 0, 0, 1)), F.pad(frames[..., hop:], (0, 0, 1, 0))
    whole = (left + right).flatten(1)[:, None]
    before, first, inside, last, after = whole.split([half, half, whole.shape[-1] - 4 * half, half, half], -1)
    if circular:
        return torch.cat([first + after, inside, last + before], -1)
    rise, fall = _slopes(hop, spectrum.device)
    first = first * fall - (before * rise).flip(-1)
    last = last * fall.flip(-1) + (after * rise.flip(-1)).flip(-1)
    return torch.cat([first, inside, last], -1)


@cached
def _slopes(hop: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the window before and after the point around which it is folded."""
    n = torch.arange(hop, dtype=torch.float64, device="cpu") + 0.5
    return torch.sin(torch.pi / (2 * hop) * n).float().to(device).split(hop // 2)


@cached
def _phases(hop: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return the scaled window, and the factors that turn a Fourier transform of two hops into cosines.

    ``cos(pi / hop (n + n0)(k + 1/2))`` with ``n0 = (hop + 1) / 2`` is the real part of three exponentials.
    """
    n = torch.arange(2 * hop, dtype=torch.float64, device="cpu")
    window = torch.sin(torch.pi / (2 * hop) * (n + 0.5)) * math.sqrt(2 / hop)
    first = torch.exp(-1j * torch.pi / (2 * hop) * n)
    last = torch.exp(-1j * torch.pi / hop * (hop + 1) / 2 * (n[:hop] + 0.5))
    return window.float().to(device), first.to(device, torch.cfloat), last.to(device, torch.cfloat)
