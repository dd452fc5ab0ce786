"""Filling gaps: samplers that are shown a part of the sound and make the rest.

Each is ``(model, x, ts, *, known, mask, noise, ...) -> x``: like a stochastic sampler, with

    known       the sound, (B, C, T); what lies in the gaps is never looked at
    mask        1 where it is known, 0 in the gaps, (T,)
    noise       ``noise(i) -> (B, C, T)``, the i-th fresh noise of the run

They return the clean estimate everywhere: putting the known part back is left to the caller, who knows about fades.
Steps are those of ancestral sampling (DDIM with eta 1); methods of peers that only replace the known part lose half
of what it tells.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import count

import torch
from torch import Tensor

from .sampler import Event, Model, OnStep, stop_if, time_steps
from .schedule import v_to_denoised_eps

PASSES = 5
"""Times that ``resample`` goes over each step."""

_PULL = 2.0  # w of ``guide``


def resample(
    model: Model,
    x: Tensor,
    ts: Tensor,
    *,
    known: Tensor,
    mask: Tensor,
    noise: Callable[[int], Tensor],
    passes: int = PASSES,
    on_step: OnStep | None = None,
    cancel: Event | None = None,
) -> Tensor:
    """RePaint: the known part is put in at its noise level, and every step is gone over several times.

    After a step from level t to s the state jumps back, ``x_t = c x_s + sqrt(sigma_t^2 - c^2 sigma_s^2) z`` with
    ``c = alpha_t / alpha_s``, so that the gap takes in what is around it. There is no way back to t = 1, where c is 0,
    and none is needed after the last step. One pass is plain replacement.

    Source: Lugmayr et al. 2022 (arXiv 2201.09865, algorithm 1).
    """
    draw = count()
    for i, total, t, s in time_steps(ts, cancel):
        (alpha, sigma), (alpha_s, sigma_s) = _scales(t), _scales(s)
        times = passes if s > 0 and t < 1 else 1
        for left in reversed(range(times)):
            stop_if(cancel)
            x = torch.where(mask > 0, alpha * known + sigma * noise(next(draw)), x)
            denoised, eps = v_to_denoised_eps(x, model(x, x.new_full((len(x),), t)), t)
            x = _ancestral(denoised, eps, t, s, noise(next(draw)))
            if left:
                c = alpha / alpha_s
                x = c * x + math.sqrt(sigma**2 - (c * sigma_s) ** 2) * noise(next(draw))
        if on_step is not None:
            on_step(i + 1, total, denoised)
    return x


def replace(model: Model, x: Tensor, ts: Tensor, **options) -> Tensor:
    """The known part is put in at its noise level before each call, and that is all: ``resample`` with one pass."""
    return resample(model, x, ts, passes=1, **options)


def guide(
    model: Model,
    x: Tensor,
    ts: Tensor,
    *,
    known: Tensor,
    mask: Tensor,
    noise: Callable[[int], Tensor],
    on_step: OnStep | None = None,
    cancel: Event | None = None,
) -> Tensor:
    """Reconstruction guidance: the clean estimate is pulled to where its known part is right, by a gradient.

    ``D <- D + w alpha (dD/dx)^T M (y - D)``, with the known part put in at its noise level before each call. A step
    costs about three calls, and memory as in training. It is not divided by the variance of the sound, as pseudoinverse
    guidance is: one number for loud and quiet bands makes that one unstable.

    Source: Ho et al. 2022 (arXiv 2204.03458, section 3.1), w from the bench.
    """
    draw = count()
    for i, total, t, s in time_steps(ts, cancel):
        alpha, sigma = _scales(t)
        x = torch.where(mask > 0, alpha * known + sigma * noise(next(draw)), x)
        denoised, pull = _pulled(model, x, t, known, mask)
        denoised = denoised + _PULL * alpha * pull
        x = _ancestral(denoised, (x - alpha * denoised) / sigma, t, s, noise(next(draw)))
        if on_step is not None:
            on_step(i + 1, total, denoised)
    return x


def _pulled(model: Model, x: Tensor, t: float, known: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The clean estimate, and the gradient towards the known part."""
    with torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        denoised, _ = v_to_denoised_eps(x, model(x, x.new_full((len(x),), t)), t)
        error = (mask * (known - denoised)).detach()
        (pull,) = torch.autograd.grad(denoised, x, error)
    return denoised.detach(), pull


def _scales(t: float) -> tuple[float, float]:
    return math.cos(t * math.pi / 2), math.sin(t * math.pi / 2)


def _ancestral(denoised: Tensor, eps: Tensor, t: float, s: float, z: Tensor) -> Tensor:
    """A step of DDIM with eta 1; the last one is the clean estimate."""
    if s == 0:
        return denoised
    (alpha, sigma), (alpha_s, sigma_s) = _scales(t), _scales(s)
    g = sigma_s / sigma * math.sqrt(1 - (alpha / alpha_s) ** 2)
    return alpha_s * denoised + math.sqrt(max(0.0, sigma_s**2 - g**2)) * eps + g * z


METHODS: dict[str, Callable[..., Tensor]] = {"guide": guide, "resample": resample, "replace": replace}
DEFAULT_METHOD = "guide"
