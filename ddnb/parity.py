"""The samplers of the original tools in their own arithmetic, flaws included, to reproduce their sounds.

Their arguments are those of every sampler, see ``sampler``. Coefficients are computed in float32, as the tools do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from .schedule import alpha_sigma
from .steps import Hooks, Model, Update, time_steps

if TYPE_CHECKING:
    from typing import Unpack  # Python 3.11; read by type checkers only


def v_ddim(model: Model, x: Tensor, ts: Tensor, **hooks: Unpack[Hooks]) -> Tensor:
    """Sample with the original's ``v-ddim`` at eta 0, in its float32 arithmetic; meant for the crash grid.

    Source: v-diffusion-pytorch (Katherine Crowson), as used by Harmonai's ``sample-generator``.
    """

    def update(x: Tensor, denoised: Tensor, eps: Tensor, t: Tensor, s: Tensor) -> Tensor:
        alpha_s, sigma_s = alpha_sigma(s)
        return denoised * alpha_s + eps * sigma_s

    return _integrate_float32(update, model, x, ts, **hooks)


def v_iplms(model: Model, x: Tensor, ts: Tensor, **hooks: Unpack[Hooks]) -> Tensor:
    """Sample with the original's ``v-iplms``, of order 4.

    At t = 1 it divides by an alpha that is nonzero only by rounding, and its last step returns the extrapolated clean
    estimate. Rising times give the original's inversion.

    Source: v-diffusion-pytorch (Katherine Crowson), as used by Harmonai's ``sample-generator``.
    """
    history: list[Tensor] = []

    def update(x: Tensor, denoised: Tensor, eps: Tensor, t: Tensor, s: Tensor) -> Tensor:
        (alpha, sigma), (alpha_s, sigma_s) = alpha_sigma(t), alpha_sigma(s)
        eps = _extrapolate_4(history, eps)
        return (x - eps * sigma) / alpha * alpha_s + eps * sigma_s

    return _integrate_float32(update, model, x, ts, **hooks)


def diffusers_ipndm(model: Model, x: Tensor, ts: Tensor, **hooks: Unpack[Hooks]) -> Tensor:
    """Sample as diffusers' Dance Diffusion pipeline does: ``v-iplms`` with alpha clamped at 1e-8, so that the
    first clean estimate is exactly 0.

    Source: diffusers' ``IPNDMScheduler``.
    """
    history: list[Tensor] = []

    def update(x: Tensor, denoised: Tensor, eps: Tensor, t: Tensor, s: Tensor) -> Tensor:
        (alpha, sigma), (alpha_s, sigma_s) = _clamped_alpha_sigma(t), _clamped_alpha_sigma(s)
        eps = _extrapolate_4(history, eps)
        return alpha_s * ((x - sigma * eps) / alpha.clamp(min=1e-8)) + eps * sigma_s

    return _integrate_float32(update, model, x, ts, _clamped_alpha_sigma, **hooks)


def _integrate_float32(
    update: Update,
    model: Model,
    x: Tensor,
    ts: Tensor,
    scales: Callable[[Tensor], tuple[Tensor, Tensor]] = alpha_sigma,
    **hooks: Unpack[Hooks],
) -> Tensor:
    """Run the same loop as the original tools do, with every coefficient from float32 times."""
    for _, from_t, to_t, report in time_steps(ts, **hooks):
        t, s = x.new_tensor(from_t), x.new_tensor(to_t)
        v = model(x, t.expand(len(x)))
        alpha, sigma = scales(t)
        denoised, eps = x * alpha - v * sigma, x * sigma + v * alpha
        x = update(x, denoised, eps, t, s)
        report(denoised)
    return x


def _extrapolate_4(history: list[Tensor], eps: Tensor) -> Tensor:
    """Return the Adams-Bashforth mix of the order that the history allows, up to 4, in the original's order of
    terms.
    """
    history.insert(0, eps)
    del history[4:]
    match history:
        case [e]:
            return e
        case [e, e1]:
            return (3 * e - e1) / 2
        case [e, e1, e2]:
            return (23 * e - 16 * e1 + 5 * e2) / 12
        case [e, e1, e2, e3]:
            return (55 * e - 59 * e1 + 37 * e2 - 9 * e3) / 24
    raise AssertionError("unreachable: the history holds 1 to 4 estimates")


def _clamped_alpha_sigma(t: Tensor) -> tuple[Tensor, Tensor]:
    """Return diffusers' ``alpha = sqrt(1 - sigma^2)``, exactly 0 at t = 1, and sigma."""
    sigma = (t * (math.pi / 2)).sin()
    return (1 - sigma**2).sqrt(), sigma
