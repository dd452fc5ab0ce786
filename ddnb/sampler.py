"""Solvers of ``dx / dphi = v``, from noise to sound; each is a function in the order of its paper.

Every sampler is ``(model, x, ts, *, noise=None, on_step=None, cancel=None) -> x``:

    model       callable ``(x, t) -> v``, x float32 (B, C, T), t float32 (B,)
    x           the state at ``ts[0]``, (B, C, T); unit noise when ``ts[0]`` is 1
    ts          times, (steps + 1,), strictly falling (noise to sound) or strictly rising (inversion)
    noise       ``noise(i) -> (B, C, T)``, the fresh noise of step i; only the stochastic samplers use it
    on_step     called after each step as ``on_step(done, total, denoised)``
    cancel      an event; checked before each step, and raises ``Cancelled`` when it is set

A falling run that ends at 0 returns the last clean estimate. The updates are written as a rotation plus a
correction, ``x_s = R + ...`` with ``R = cos(d) x - sin(d) v`` and ``d = phi_t - phi_s``: nothing is divided
by alpha at t = 1, where alpha is 0 and the textbook forms lose their first clean estimate:

    E-solvers   x_s = R - sin(d) / cos(phi_t) (e' - eps)
    D-solvers   x_s = R + sin(d) / sin(phi_t) (D' - denoised)

Coefficients are float64 numbers, the state is float32. The samplers of the original tools are in ``parity``.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .errors import ArgumentError
from .parity import diffusers_ipndm, v_ddim, v_iplms
from .schedule import v_to_denoised_eps
from .steps import Hooks, Model, Noise, Sampler, Update, time_steps

if TYPE_CHECKING:
    from typing import Unpack  # Python 3.11; read by type checkers only


def ddim(model: Model, x: Tensor, ts: Tensor, *, eta: float = 0.0, **hooks: Unpack[Hooks]) -> Tensor:
    """Sample with DDIM; ``eta=1`` is ancestral (DDPM) sampling. First order.

    ``x_s = alpha_s D + sqrt(sigma_s^2 - g^2) E + g z``, with
    ``g = eta sigma_s / sigma_t sqrt(1 - (alpha_t / alpha_s)^2)``.

    Source: Song, Meng & Ermon 2020 (arXiv 2010.02502, equations 12 and 16).

    Raises:
        ArgumentError: ``eta`` outside [0, 1], or above 0 on rising times.
    """
    if not 0 <= eta <= 1:
        raise ArgumentError(f"eta={eta}: give a number from 0 (deterministic) to 1 (ancestral).")
    if eta and ts[0] < ts[-1]:
        raise ArgumentError(f"eta={eta}: only a deterministic sampler can be inverted; use eta=0.")
    noise = hooks.get("noise") or _fresh_noise(x)

    def update(i: int, x: Tensor, v: Tensor, denoised: Tensor, eps: Tensor, phi_t: float, phi_s: float) -> Tensor:
        if not eta:
            return _rotate(x, v, phi_t - phi_s)
        return stochastic_step(denoised, eps, phi_t, phi_s, eta, noise(i))

    return _integrate(update, model, x, ts, **hooks)


def stochastic_step(denoised: Tensor, eps: Tensor, phi_t: float, phi_s: float, eta: float, z: Tensor) -> Tensor:
    """Take a DDIM step with fresh noise ``z``, see ``ddim``."""
    sigma_s = math.sin(phi_s)
    g = eta * sigma_s / math.sin(phi_t) * math.sqrt(1 - (math.cos(phi_t) / math.cos(phi_s)) ** 2)
    return math.cos(phi_s) * denoised + math.sqrt(max(0.0, sigma_s**2 - g**2)) * eps + g * z


def iplms(model: Model, x: Tensor, ts: Tensor, *, order: int = 3, **hooks: Unpack[Hooks]) -> Tensor:
    """Sample with iPNDM, improved pseudo linear multistep: Adams-Bashforth on the noise estimate, one call a step.

    ``e'`` is a fixed mix of the last ``order`` noise estimates; ``order=1`` is DDIM. Second order on grids of
    uneven steps.

    Sources: Liu et al. 2022 (arXiv 2202.09778); Zhang & Chen 2022 (arXiv 2204.13902, iPNDM).

    Raises:
        ArgumentError: ``order`` outside 1 .. 4.
    """
    if order not in (1, 2, 3, 4):
        raise ArgumentError(f"order={order!r}: iplms has orders 1, 2, 3 and 4.")
    history: list[Tensor] = []  # latest first

    def update(i: int, x: Tensor, v: Tensor, denoised: Tensor, eps: Tensor, phi_t: float, phi_s: float) -> Tensor:
        history.insert(0, eps)
        del history[order:]
        d = phi_t - phi_s
        if len(history) == 1:  # also keeps 1 / cos(phi_t) away from t = 1
            return _rotate(x, v, d)
        e = sum(w * past for w, past in zip(_ADAMS_BASHFORTH[len(history) - 1], history, strict=True))
        return _rotate(x, v, d) - math.sin(d) / math.cos(phi_t) * (e - eps)

    return _integrate(update, model, x, ts, **hooks)


def heun(model: Model, x: Tensor, ts: Tensor, **hooks: Unpack[Hooks]) -> Tensor:
    """Sample with Heun's method: a DDIM step, a second call at its end, and the mean of both noise estimates.

    Second order, two calls a step; a step from t = 1 is plain DDIM.

    Source: Karras et al. 2022 (arXiv 2206.00364, algorithm 1).
    """

    def update(i: int, x: Tensor, v: Tensor, denoised: Tensor, eps: Tensor, phi_t: float, phi_s: float) -> Tensor:
        d = phi_t - phi_s
        guess = _rotate(x, v, d)
        if phi_t >= math.pi / 2:
            return guess
        v_s = model(guess, x.new_full((len(x),), phi_s / (math.pi / 2)))
        eps_s = math.sin(phi_s) * guess + math.cos(phi_s) * v_s
        return guess - math.sin(d) / math.cos(phi_t) * (eps_s - eps) / 2

    return _integrate(update, model, x, ts, **hooks)


def dpmpp_2m(model: Model, x: Tensor, ts: Tensor, **hooks: Unpack[Hooks]) -> Tensor:
    """Sample with DPM-Solver++(2M): the clean estimate is extrapolated in the log-SNR through its last two values.

    Second order, one call a step. With ``lam = -log tan phi`` and ``h`` the step in it,
    ``D' = D + h / (2 h_before) (D - D_before)``.

    Source: Lu et al. 2022 (arXiv 2211.01095, algorithm 2).
    """
    history: list[tuple[float, Tensor]] = []  # (lam, denoised), latest first

    def update(i: int, x: Tensor, v: Tensor, denoised: Tensor, eps: Tensor, phi_t: float, phi_s: float) -> Tensor:
        lam, lam_s = _half_log_snr(phi_t), _half_log_snr(phi_s)
        x_s = _rotate(x, v, phi_t - phi_s)
        if history and math.isfinite(lam_s):
            (lam1, before), h = history[0], lam_s - lam
            extra = h / (2 * (lam - lam1)) * (denoised - before)
            x_s = x_s + math.sin(phi_t - phi_s) / math.sin(phi_t) * extra
        _remember(history, lam, denoised, keep=1)
        return x_s

    return _integrate(update, model, x, ts, **hooks)


def dpmpp_3m(model: Model, x: Tensor, ts: Tensor, **hooks: Unpack[Hooks]) -> Tensor:
    """Sample with DPM-Solver++(3M) in its widely used form: the last three clean estimates, one call a step.

    That form adds ``p3 d2`` where a true third-order step has ``2 p3 d2``, so it is second order; it is kept
    because it is more accurate than the true one on Karras and crash grids.

    Sources: Lu et al. 2022 (arXiv 2211.01095); the form is that of k-diffusion's ``dpmpp_3m_sde`` at eta 0.
    """
    history: list[tuple[float, Tensor]] = []  # (lam, denoised), latest first

    def update(i: int, x: Tensor, v: Tensor, denoised: Tensor, eps: Tensor, phi_t: float, phi_s: float) -> Tensor:
        lam, lam_s = _half_log_snr(phi_t), _half_log_snr(phi_s)
        x_s = _rotate(x, v, phi_t - phi_s)
        if history and math.isfinite(lam_s):
            h, (lam1, before) = lam_s - lam, history[0]
            p2 = math.expm1(-h) / h + 1
            d1, r0 = (denoised - before) * (h / (lam - lam1)), (lam - lam1) / h
            if len(history) == 2:
                lam2, older = history[1]
                r1, d11 = (lam1 - lam2) / h, (before - older) * (h / (lam1 - lam2))
                d2 = (d1 - d11) / (r0 + r1)
                d1 = d1 + d2 * r0
                x_s = x_s - math.cos(phi_s) * (p2 / h - 0.5) * d2
            x_s = x_s + math.cos(phi_s) * p2 * d1
        _remember(history, lam, denoised, keep=2)
        return x_s

    return _integrate(update, model, x, ts, **hooks)


def dpmpp_2m_sde(model: Model, x: Tensor, ts: Tensor, **hooks: Unpack[Hooks]) -> Tensor:
    """Sample with SDE-DPM-Solver++(2M): 2M extrapolation with fresh noise in every step; needs 50 steps or more.

    ``x_s = sigma_s / sigma_t e^-h x + alpha_s (1 - e^-2h) D' + sigma_s sqrt(1 - e^-2h) z``, which from t = 1 is
    ``alpha_s D + sigma_s z``. Its first-order form is DDIM with eta 1.

    Source: Lu et al. 2022 (arXiv 2211.01095, section 6).

    Raises:
        ArgumentError: rising times.
    """
    if ts[0] < ts[-1]:
        raise ArgumentError("dpmpp_2m_sde adds noise: only a deterministic sampler can be inverted.")
    noise = hooks.get("noise") or _fresh_noise(x)
    history: list[tuple[float, Tensor]] = []  # (lam, denoised), latest first

    def update(i: int, x: Tensor, v: Tensor, denoised: Tensor, eps: Tensor, phi_t: float, phi_s: float) -> Tensor:
        lam, sigma_s = _half_log_snr(phi_t), math.sin(phi_s)
        h = _half_log_snr(phi_s) - lam
        ahead = denoised
        for lam1, before in history:
            ahead = denoised + h / (2 * (lam - lam1)) * (denoised - before)
        _remember(history, lam, denoised, keep=1)
        fresh = -math.expm1(-2 * h)
        x_s = sigma_s / math.sin(phi_t) * math.exp(-h) * x + math.cos(phi_s) * fresh * ahead
        return x_s + sigma_s * math.sqrt(fresh) * noise(i)

    return _integrate(update, model, x, ts, **hooks)


SAMPLERS: dict[str, Sampler] = {
    "iplms": iplms,
    "dpmpp_2m": dpmpp_2m,
    "dpmpp_3m": dpmpp_3m,
    "heun": heun,
    "ddim": ddim,
    "ddpm": partial(ddim, eta=1.0),
    "dpmpp_2m_sde": dpmpp_2m_sde,
    "v-ddim": v_ddim,
    "v-iplms": v_iplms,
    "diffusers-ipndm": diffusers_ipndm,
}
PARITY_SAMPLERS = ("v-ddim", "v-iplms", "diffusers-ipndm")
"""Samplers that repeat an original tool; their default grid is ``crash``."""

STOCHASTIC_SAMPLERS = ("ddpm", "dpmpp_2m_sde")
"""Samplers that add noise in every step, so they cannot be inverted."""

MEMORYLESS = ("ddim", "ddpm", "heun")
"""Samplers whose steps do not depend on earlier ones."""


def sampler(name: str) -> Sampler:
    """Return the sampler of this name.

    Raises:
        ArgumentError: unknown name; the message lists the known ones.
    """
    if name not in SAMPLERS:
        raise ArgumentError(f"Unknown sampler {name!r}. Known: {', '.join(SAMPLERS)}.")
    return SAMPLERS[name]


def invert(model: Model, audio: Tensor, ts: Tensor, *, sampler: Sampler = iplms, **options: Any) -> Tensor:
    """Invert a clean sound to the noise it would be generated from, with any deterministic sampler.

    Args:
        model: as for every sampler.
        audio: clean sound, float32 (B, C, T).
        ts: the falling times of a generation; used in reverse.
        sampler: a deterministic sampler of this module.
        options: passed on (``order``, ``on_step``, ``cancel``).

    Returns:
        The state at ``ts[0]``, (B, C, T).

    Raises:
        ArgumentError: a stochastic sampler.
    """
    return sampler(model, audio, ts.flip(0), **options)


_ADAMS_BASHFORTH = (
    (1,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


def _integrate(update: Update, model: Model, x: Tensor, ts: Tensor, **hooks: Unpack[Hooks]) -> Tensor:
    """Run the solver ``update(i, x, v, denoised, eps, phi_t, phi_s) -> x_s`` over the times."""
    for i, t, s, report in time_steps(ts, **hooks):
        v = model(x, x.new_full((len(x),), t))
        denoised, eps = v_to_denoised_eps(x, v, t)
        phi_t, phi_s = t * math.pi / 2, s * math.pi / 2
        x = denoised if s == 0 else update(i, x, v, denoised, eps, phi_t, phi_s)
        report(denoised)
    return x


def _rotate(x: Tensor, v: Tensor, d: float) -> Tensor:
    """Take a DDIM step: rotate the state by the angle ``d``."""
    return math.cos(d) * x - math.sin(d) * v


def _half_log_snr(phi: float) -> float:
    """Return ``-log tan phi``; infinite at both ends."""
    if phi <= 0 or phi >= math.pi / 2:
        return math.inf if phi <= 0 else -math.inf
    return -math.log(math.tan(phi))


def _remember(history: list[tuple[float, Tensor]], lam: float, denoised: Tensor, keep: int) -> None:
    """Put an estimate first, unless its log-SNR is infinite: it cannot be extrapolated from."""
    if math.isfinite(lam):
        history.insert(0, (lam, denoised))
        del history[keep:]


def _fresh_noise(x: Tensor) -> Noise:
    return lambda i: torch.randn_like(x)
