"""Inpainting: samplers that are given a part of the sound and sample the rest.

Each is ``(model, x, ts, *, known, mask, noise, ...) -> x``: like a stochastic sampler, with

    known       the sound, (B, C, T); its values in the gaps are ignored
    mask        1 where it is known, 0 in the gaps, (T,)
    noise       ``noise(i) -> (B, C, T)``, the i-th fresh noise of the run

They return the clean estimate everywhere; the caller puts the known part back, with crossfades. Steps are ancestral
(DDIM with eta 1). Plain replacement, the usual method, uses only half of the information in the known part.
"""

from __future__ import annotations

import math
from itertools import count
from typing import Any

import torch
from torch import Tensor

from .sampler import stochastic_step
from .schedule import alpha_sigma, v_to_denoised_eps
from .steps import Event, Model, Noise, OnStep, Sampler, stop_if, time_steps

PASSES = 5
"""Passes of ``resample`` over each step."""

_WEIGHT = 2.0  # w of ``guide``


def resample(
    model: Model,
    x: Tensor,
    ts: Tensor,
    *,
    known: Tensor,
    mask: Tensor,
    noise: Noise,
    passes: int = PASSES,
    on_step: OnStep | None = None,
    cancel: Event | None = None,
) -> Tensor:
    """Sample with RePaint: the known part is inserted at its noise level, and every step is repeated several times.

    After a step from level t to s the state jumps back, ``x_t = c x_s + sqrt(sigma_t^2 - c^2 sigma_s^2) z`` with
    ``c = alpha_t / alpha_s``, so that the gap is harmonised with its surroundings. There is no jump back to t = 1,
    where c is 0, nor after the last step. One pass is plain replacement.

    Source: Lugmayr et al. 2022 (arXiv 2201.09865, algorithm 1).
    """
    draw = count()
    for _, t, s, report in time_steps(ts, on_step=on_step, cancel=cancel):
        (alpha, sigma), (alpha_s, sigma_s) = alpha_sigma(t), alpha_sigma(s)
        times = passes if s > 0 and t < 1 else 1
        for left in reversed(range(times)):
            stop_if(cancel)
            x = torch.where(mask > 0, alpha * known + sigma * noise(next(draw)), x)
            denoised, eps = v_to_denoised_eps(x, model(x, x.new_full((len(x),), t)), t)
            x = _ancestral_step(denoised, eps, t, s, noise(next(draw)))
            if left:
                c = alpha / alpha_s
                x = c * x + math.sqrt(sigma**2 - (c * sigma_s) ** 2) * noise(next(draw))
        report(denoised)
    return x


def replace(model: Model, x: Tensor, ts: Tensor, **options: Any) -> Tensor:
    """Sample with plain replacement: the known part is inserted at its noise level before each call."""
    return resample(model, x, ts, passes=1, **options)


def guide(
    model: Model,
    x: Tensor,
    ts: Tensor,
    *,
    known: Tensor,
    mask: Tensor,
    noise: Noise,
    on_step: OnStep | None = None,
    cancel: Event | None = None,
) -> Tensor:
    """Sample with reconstruction guidance: a gradient moves the clean estimate to where its known part is right.

    ``D <- D + w alpha (dD/dx)^T M (y - D)``, with the known part inserted at its noise level before each call. A step
    costs about three calls, and memory as in training. It is not divided by the variance of the sound, as in
    pseudoinverse guidance: a single number for loud and quiet bands makes that method unstable.

    Source: Ho et al. 2022 (arXiv 2204.03458, section 3.1); w is measured (``bench/verbs.py``).
    """
    draw = count()
    for _, t, s, report in time_steps(ts, on_step=on_step, cancel=cancel):
        alpha, sigma = alpha_sigma(t)
        x = torch.where(mask > 0, alpha * known + sigma * noise(next(draw)), x)
        denoised, pull = _estimate_with_gradient(model, x, t, known, mask)
        denoised = denoised + _WEIGHT * alpha * pull
        x = _ancestral_step(denoised, (x - alpha * denoised) / sigma, t, s, noise(next(draw)))
        report(denoised)
    return x


def _estimate_with_gradient(model: Model, x: Tensor, t: float, known: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the clean estimate, and its gradient towards the known part."""
    with torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        denoised, _ = v_to_denoised_eps(x, model(x, x.new_full((len(x),), t)), t)
        error = (mask * (known - denoised)).detach()
        (pull,) = torch.autograd.grad(denoised, x, error)
    return denoised.detach(), pull


def _ancestral_step(denoised: Tensor, eps: Tensor, t: float, s: float, z: Tensor) -> Tensor:
    """Take an ancestral step; the last one returns the clean estimate."""
    return denoised if s == 0 else stochastic_step(denoised, eps, t * math.pi / 2, s * math.pi / 2, 1.0, z)


METHODS: dict[str, Sampler] = {"guide": guide, "resample": resample, "replace": replace}
DEFAULT_METHOD = "guide"
