"""Noise levels and time grids of variance-preserving diffusion with v-prediction.

One notation everywhere, with the angle ``phi = t pi / 2``, ``t`` in [0, 1], 1 = noise::

    alpha = cos phi        sigma = sin phi          x = alpha x0 + sigma eps
    v = alpha eps - sigma x0 = dx / dphi            sigma_k = sigma / alpha = tan phi

so a clean estimate and a noise estimate follow from ``x`` and ``v`` by a rotation. Pure torch.

Sources: v-prediction, Salimans & Ho 2022 (arXiv 2202.00512, section 2.4 and appendix D); the crash
warp, Rouard & Hadjeres 2021 (arXiv 2106.07431); the Karras grid, Karras et al. 2022 (arXiv
2206.00364, equation 5).
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor

from .checks import whole
from .errors import ArgumentError

Time = TypeVar("Time", float, Tensor)

SIGMA_MIN = 1e-3
"""Default last noise level before the step to 0, as sigma_k: -60 dB re full scale."""

SIGMA_MAX = 50.0
"""Default noise level at t = 1. Loud tonal drums reach 16 dB above unit noise, so 1 would be too low."""


def alpha_sigma(t: Time) -> tuple[Time, Time]:
    """Return the scale of the signal and of the noise at time ``t``: ``cos(t pi/2), sin(t pi/2)``.

    Args:
        t: a time in [0, 1], or a tensor of them of any shape.

    Returns:
        ``(alpha, sigma)``, each a number or a tensor as ``t`` is.
    """
    phi = t * (math.pi / 2)
    return (phi.cos(), phi.sin()) if isinstance(phi, Tensor) else (math.cos(phi), math.sin(phi))


def sigma_k_to_t(sigma_k: Tensor) -> Tensor:
    """Convert k-diffusion's noise level to time: ``t = atan(sigma_k) * 2 / pi``; infinity gives 1."""
    return sigma_k.atan() * (2 / math.pi)


def v_to_denoised_eps(x: Tensor, v: Tensor, t: Time) -> tuple[Tensor, Tensor]:
    """Return the clean estimate ``alpha x - sigma v`` and the noise estimate ``sigma x + alpha v``.

    Args:
        x, v: state and velocity, one shape.
        t: a time, or times that broadcast against ``x``.
    """
    alpha, sigma = alpha_sigma(t)
    return alpha * x - sigma * v, sigma * x + alpha * v


def crash_warp(u: Tensor) -> Tensor:
    """Warp ``u`` in [0, 1] to the time whose ``sigma`` is ``sin^2(u pi/2)``.

    Dance Diffusion trains at this warp of uniform numbers and samples at this warp of equal steps.
    """
    sigma = (u * (math.pi / 2)).sin() ** 2
    return torch.atan2(sigma, (1 - sigma**2).sqrt()) * (2 / math.pi)


def crash_grid(steps: int, start: float = 1.0) -> Tensor:
    """Return the original's sampling times: the crash warp of equal steps, from ``start`` to 0."""
    u = 2 / math.pi * math.asin(math.sqrt(math.sin(start * math.pi / 2)))
    return _start_at(start, crash_warp(u * _ramp(steps + 1)))


def linear_grid(steps: int, start: float = 1.0) -> Tensor:
    """Return equal steps of ``t`` from ``start`` to 0."""
    return start * _ramp(steps + 1)


def log_snr_grid(steps: int, start: float = 1.0, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX) -> Tensor:
    """Return equal steps of log sigma_k; the first time is set to exactly ``start``, and 0 is appended."""
    low, high = _noise_range(start, sigma_min, sigma_max)
    return _from_noise((math.log(low) + _ramp(steps) * math.log(high / low)).exp(), start)


def karras_grid(
    steps: int, start: float = 1.0, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX, rho: float = 7.0
) -> Tensor:
    """Return equal steps of ``sigma_k ** (1 / rho)``; the first time is set to exactly ``start``, and 0 is appended."""
    low, high = (sigma ** (1 / rho) for sigma in _noise_range(start, sigma_min, sigma_max))
    return _from_noise((low + _ramp(steps) * (high - low)) ** rho, start)


GRIDS = {"log_snr": log_snr_grid, "karras": karras_grid, "crash": crash_grid, "linear": linear_grid}


def time_grid(name: str, steps: int, start: float = 1.0) -> Tensor:
    """Return the times of a sampling run, from noise to sound.

    Args:
        name: a key of ``GRIDS``.
        steps: number of sampling steps, at least 1.
        start: first time, above 0 and at most 1: a run from partial noise has as many steps, each a smaller one.

    Returns:
        float64, shape (steps + 1,), strictly decreasing from exactly ``start`` to exactly 0.

    Raises:
        ArgumentError: unknown name, fewer than one step, or a start out of its range.
    """
    if name not in GRIDS:
        raise ArgumentError(f"Unknown time grid {name!r}. Known: {', '.join(GRIDS)}.")
    steps = whole("steps", steps, 1, 10_000)
    if not 0 < start <= 1:
        raise ArgumentError(f"start={start!r}: give a time above 0 and up to 1.")
    return GRIDS[name](steps, start)


def _ramp(n: int) -> Tensor:
    """Return ``n`` float64 numbers from 1 down to 0; for n = 1 that is 1, the noisy end."""
    return torch.linspace(1, 0, n, dtype=torch.float64)


def _noise_range(start: float, sigma_min: float, sigma_max: float) -> tuple[float, float]:
    """Return the lowest and the highest sigma_k of a grid from ``start``, which may be below ``sigma_min``."""
    high = min(sigma_max, math.tan(start * math.pi / 2)) if start < 1 else sigma_max
    return min(sigma_min, high / 2), high


def _from_noise(sigma_k: Tensor, start: float) -> Tensor:
    return _start_at(start, torch.cat([sigma_k_to_t(sigma_k), sigma_k.new_zeros(1)]))


def _start_at(start: float, ts: Tensor) -> Tensor:
    ts[0] = start
    return ts
