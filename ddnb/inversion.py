"""Inversion of sounds to noise and interpolation between noises: the mathematics of ``interpolate``."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .steps import Event, Model, OnStep, stop_if

_PARALLEL = 1e-4


def slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Interpolate two latents spherically, along the sphere that noise lies on; norms are interpolated linearly.

    ``sin((1 - l) w) / sin w a + sin(l w) / sin w b`` of the unit vectors, with w the angle between them; parallel ones
    are mixed linearly. A latent is one vector: its channels share one angle.

    Args:
        a, b: (B, C, T).
        share: l, the share of ``b``, from 0 to 1; 0 and 1 return ``a`` and ``b``.

    Source: Shoemake 1985, for latents White 2016 (arXiv 1609.04468).
    """
    if share in (0, 1):
        return (b if share else a).clone()
    norms = [x.flatten(1).norm(dim=1)[:, None, None] for x in (a, b)]
    unit = [x / norm.clamp(min=1e-12) for x, norm in zip((a, b), norms, strict=True)]
    angle = (unit[0] * unit[1]).flatten(1).sum(1).clamp(-1, 1).acos()[:, None, None]
    near = angle.sin() < _PARALLEL
    safe = torch.where(near, torch.ones_like(angle), angle)
    weights = [torch.where(near, torch.full_like(angle, w), (w * safe).sin() / safe.sin()) for w in (1 - share, share)]
    mixed = weights[0] * unit[0] + weights[1] * unit[1]
    mixed = mixed / mixed.flatten(1).norm(dim=1)[:, None, None].clamp(min=1e-12)
    return mixed * ((1 - share) * norms[0] + share * norms[1])


def bdia_invert(
    model: Model, audio: Tensor, ts: Tensor, *, on_step: OnStep | None = None, cancel: Event | None = None
) -> tuple[Tensor, Tensor]:
    """Invert a sound to noise so that ``bdia_generate`` returns it, to rounding.

    A step combines the last two states, so it can be undone exactly; errors are not damped either.
    ``x_{i+1} = x_{i-1} - DDIM(x_i, i -> i-1) + DDIM(x_i, i -> i+1)``, where i+1 is noisier.

    Args:
        model: as for every sampler.
        audio: clean sound, (B, C, T).
        ts: the falling times of a generation.

    Returns:
        The states at ``ts[1]`` and at ``ts[0]``, the latent of this method.

    Source: Zhang et al. 2023 (arXiv 2307.10829, with gamma 1).
    """
    phis = (ts.flip(0).double() * math.pi / 2).tolist()
    before, x = audio, _ddim_steps(model, audio, phis[0], (phis[1],))[0]
    for i, (below, here, above) in enumerate(zip(phis, phis[1:], phis[2:], strict=False), 1):
        stop_if(cancel)
        down, up = _ddim_steps(model, x, here, (below, above))
        before, x = x, before - down + up
        if on_step is not None:
            on_step(i, len(phis) - 2, x)
    return before, x


def bdia_generate(
    model: Model,
    latent: tuple[Tensor, Tensor],
    ts: Tensor,
    *,
    clean: bool = False,
    on_step: OnStep | None = None,
    cancel: Event | None = None,
) -> Tensor:
    """Generate the sound that ``bdia_invert`` inverted.

    ``x_{i-1} = x_{i+1} + DDIM(x_i, i -> i-1) - DDIM(x_i, i -> i+1)``, where i+1 is noisier.

    Args:
        model, ts: as there.
        latent: the states at ``ts[1]`` and at ``ts[0]``.
        clean: return the network's clean estimate in the last step: without the faint hiss of undamped errors, and some
            10 dB less exact.

    Returns:
        The sound, (B, C, T).
    """
    phis = (ts.double() * math.pi / 2).tolist()
    x, before = latent
    for i, (above, here, below) in enumerate(zip(phis, phis[1:], phis[2:], strict=False), 1):
        stop_if(cancel)
        up, down = _ddim_steps(model, x, here, (above, below))
        before, x = x, down if clean and below == 0 else before + down - up
        if on_step is not None:
            on_step(i, len(phis) - 2, x)
    return x


def _ddim_steps(model: Model, x: Tensor, phi: float, to: tuple[float, ...]) -> list[Tensor]:
    """Take DDIM steps from one state to several times: rotate it by the angles between them."""
    v = model(x, x.new_full((len(x),), phi * 2 / math.pi))
    return [math.cos(phi - there) * x - math.sin(phi - there) * v for there in to]


def snr_db(audio: Tensor, again: Tensor) -> Tensor:
    """Return the signal-to-error ratio of a reconstruction in dB: (B, C, T) -> (B,)."""
    error = (again - audio).double().square().flatten(1).sum(1)
    return 10 * (audio.double().square().flatten(1).sum(1) / error.clamp(min=1e-30)).log10()
