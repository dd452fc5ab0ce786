"""From noise to sound: the solvers of ``dx / dphi = v``, each a function in the order of its paper.

Every sampler is ``(model, x, ts, *, noise=None, on_step=None, cancel=None) -> x``:

    model       callable ``(x, t) -> v``, x float32 (B, C, T), t float32 (B,)
    x           the state at ``ts[0]``, (B, C, T); unit noise when ``ts[0]`` is 1
    ts          times, (steps + 1,), strictly falling (noise to sound) or strictly rising (inversion)
    noise       ``noise(i) -> (B, C, T)``, the fresh noise of step i; only the stochastic samplers ask for it
    on_step     called after each step as ``on_step(done, total, denoised)``
    cancel      anything with ``is_set()``; looked at before each step, a set one raises ``Cancelled``

A falling run that ends at 0 returns the last clean estimate. The updates are written as a rotation plus a
correction, ``x_s = R + ...`` with ``R = cos(d) x - sin(d) v`` and ``d = phi_t - phi_s``: nothing is divided
by alpha at t = 1, where alpha is 0 and the textbook forms lose their first clean estimate. In this form

    E-solvers   x_s = R - sin(d) / cos(phi_t) (e' - eps)
    D-solvers   x_s = R + sin(d) / sin(phi_t) (D' - denoised)

``v-ddim``, ``v-iplms`` and ``diffusers-ipndm`` repeat the arithmetic of the original tools instead, flaws
included, for those who want yesterday's sound back. Coefficients are float64 numbers, the state is float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from .errors import Cancelled
from .schedule import alpha_sigma, v_to_denoised_eps

Model = Callable[[Tensor, Tensor], Tensor]
OnStep = Callable[[int, int, Tensor], object]


class Event(Protocol):
    """Anything that can be asked whether it is set, such as ``threading.Event``."""

    def is_set(self) -> bool: ...


def seeded_noise(seeds: Sequence[int], shape: tuple[int, ...], step: int | None = None) -> Tensor:
    """Draw unit noise, one generator per clip, so that a clip does not depend on its batch.

    Args:
        seeds: one seed per clip, each from 0 to 2**63 - 1.
        shape: shape of one clip, (C, T).
        step: none for the starting noise, which is ``torch.manual_seed(seed); torch.randn(shape)`` on the
            CPU; a step number for the noise of that step of a stochastic sampler.

    Returns:
        float32 on the CPU, (len(seeds), *shape).
    """

    def generator(seed: int) -> torch.Generator:
        if step is not None:
            seed = int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))
        return torch.Generator().manual_seed(seed)

    return torch.stack([torch.randn(shape, generator=generator(seed), device="cpu") for seed in seeds])


def ddim(model: Model, x: Tensor, ts: Tensor, *, eta: float = 0.0, noise=None, on_step=None, cancel=None):
    """DDIM; ``eta=1`` is ancestral (DDPM) sampling. First order.

    ``x_s = alpha_s D + sqrt(sigma_s^2 - g^2) E + g z``, with
    ``g = eta sigma_s / sigma_t sqrt(1 - (alpha_t / alpha_s)^2)``.

    Source: Song, Meng & Ermon 2020 (arXiv 2010.02502, equations 12 and 16).

    Raises:
        ValueError: ``eta`` outside [0, 1], or above 0 on rising times.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta={eta}: give a number from 0 (deterministic) to 1 (ancestral).")
    if eta and ts[0] < ts[-1]:
        raise ValueError(f"eta={eta}: only a deterministic sampler can be inverted; use eta=0.")
    noise = noise or _fresh_noise(x)

    def update(i, x, v, denoised, eps, phi_t, phi_s):
        if not eta:
            return _rotate(x, v, phi_t - phi_s)
        sigma_s = math.sin(phi_s)
        g = eta * sigma_s / math.sin(phi_t) * math.sqrt(1 - (math.cos(phi_t) / math.cos(phi_s)) ** 2)
        return math.cos(phi_s) * denoised + math.sqrt(sigma_s**2 - g**2) * eps + g * noise(i)

    return _integrate(update, model, x, ts, on_step, cancel)


def iplms(model: Model, x: Tensor, ts: Tensor, *, order: int = 3, noise=None, on_step=None, cancel=None):
    """Improved pseudo linear multistep (iPNDM): Adams-Bashforth on the noise estimate, one call a step.

    ``e'`` is a fixed mix of the last ``order`` noise estimates; ``order=1`` is DDIM. Second order on grids of
    uneven steps.

    Sources: Liu et al. 2022 (arXiv 2202.09778); Zhang & Chen 2022 (arXiv 2204.13902, iPNDM).

    Raises:
        ValueError: ``order`` outside 1 .. 4.
    """
    if order not in (1, 2, 3, 4):
        raise ValueError(f"order={order!r}: iplms has orders 1, 2, 3 and 4.")
    history: list[Tensor] = []  # latest first

    def update(i, x, v, denoised, eps, phi_t, phi_s):
        history.insert(0, eps)
        del history[order:]
        d = phi_t - phi_s
        if len(history) == 1:  # also keeps 1 / cos(phi_t) away from t = 1
            return _rotate(x, v, d)
        e = sum(w * past for w, past in zip(_ADAMS_BASHFORTH[len(history) - 1], history, strict=True))
        return _rotate(x, v, d) - math.sin(d) / math.cos(phi_t) * (e - eps)

    return _integrate(update, model, x, ts, on_step, cancel)


def heun(model: Model, x: Tensor, ts: Tensor, *, noise=None, on_step=None, cancel=None):
    """Heun's method: a DDIM step, a second call at its end, and the mean of both noise estimates.

    Second order, two calls a step; a step from t = 1 is plain DDIM.

    Source: Karras et al. 2022 (arXiv 2206.00364, algorithm 1).
    """

    def update(i, x, v, denoised, eps, phi_t, phi_s):
        d = phi_t - phi_s
        guess = _rotate(x, v, d)
        if phi_t >= math.pi / 2:
            return guess
        v_s = model(guess, x.new_full((len(x),), phi_s / (math.pi / 2)))
        eps_s = math.sin(phi_s) * guess + math.cos(phi_s) * v_s
        return guess - math.sin(d) / math.cos(phi_t) * (eps_s - eps) / 2

    return _integrate(update, model, x, ts, on_step, cancel)


def dpmpp_2m(model: Model, x: Tensor, ts: Tensor, *, noise=None, on_step=None, cancel=None):
    """DPM-Solver++(2M): the clean estimate, extrapolated in the log-SNR through its last two values.

    Second order, one call a step. With ``lam = -log tan phi`` and ``h`` the step in it,
    ``D' = D + h / (2 h_before) (D - D_before)``.

    Source: Lu et al. 2022 (arXiv 2211.01095, algorithm 2).
    """
    history: list[tuple[float, Tensor]] = []  # (lam, denoised), latest first

    def update(i, x, v, denoised, eps, phi_t, phi_s):
        lam, lam_s = _half_log_snr(phi_t), _half_log_snr(phi_s)
        x_s = _rotate(x, v, phi_t - phi_s)
        if history and math.isfinite(lam_s):
            (lam1, before), h = history[0], lam_s - lam
            extra = h / (2 * (lam - lam1)) * (denoised - before)
            x_s = x_s + math.sin(phi_t - phi_s) / math.sin(phi_t) * extra
        _remember(history, lam, denoised, keep=1)
        return x_s

    return _integrate(update, model, x, ts, on_step, cancel)


def dpmpp_3m(model: Model, x: Tensor, ts: Tensor, *, noise=None, on_step=None, cancel=None):
    """DPM-Solver++(3M) in its widely used form, with the last three clean estimates, one call a step.

    That form adds ``p3 d2`` where a true third-order step has ``2 p3 d2``, so it is second order; it is kept
    because it does better than the true one on Karras and crash grids.

    Sources: Lu et al. 2022 (arXiv 2211.01095); the form is that of k-diffusion's ``dpmpp_3m_sde`` at eta 0.
    """
    history: list[tuple[float, Tensor]] = []  # (lam, denoised), latest first

    def update(i, x, v, denoised, eps, phi_t, phi_s):
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

    return _integrate(update, model, x, ts, on_step, cancel)


def dpmpp_2m_sde(model: Model, x: Tensor, ts: Tensor, *, noise=None, on_step=None, cancel=None):
    """SDE-DPM-Solver++(2M): the 2M extrapolation with fresh noise in every step; wants 50 steps or more.

    ``x_s = sigma_s / sigma_t e^-h x + alpha_s (1 - e^-2h) D' + sigma_s sqrt(1 - e^-2h) z``, which from t = 1 is
    ``alpha_s D + sigma_s z``. Its first-order form is DDIM with eta 1.

    Source: Lu et al. 2022 (arXiv 2211.01095, section 6).

    Raises:
        ValueError: rising times.
    """
    if ts[0] < ts[-1]:
        raise ValueError("dpmpp_2m_sde adds noise: only a deterministic sampler can be inverted.")
    noise = noise or _fresh_noise(x)
    history: list[tuple[float, Tensor]] = []  # (lam, denoised), latest first

    def update(i, x, v, denoised, eps, phi_t, phi_s):
        lam, sigma_s = _half_log_snr(phi_t), math.sin(phi_s)
        h = _half_log_snr(phi_s) - lam
        ahead = denoised
        for lam1, before in history:
            ahead = denoised + h / (2 * (lam - lam1)) * (denoised - before)
        _remember(history, lam, denoised, keep=1)
        fresh = -math.expm1(-2 * h)
        x_s = sigma_s / math.sin(phi_t) * math.exp(-h) * x + math.cos(phi_s) * fresh * ahead
        return x_s + sigma_s * math.sqrt(fresh) * noise(i)

    return _integrate(update, model, x, ts, on_step, cancel)


def v_ddim(model: Model, x: Tensor, ts: Tensor, *, noise=None, on_step=None, cancel=None):
    """The original ``v-ddim`` at eta 0, its float32 arithmetic repeated; meant for the crash grid.

    Source: v-diffusion-pytorch (Katherine Crowson), as used by Harmonai's ``sample-generator``.
    """

    def update(x, denoised, eps, t, s):
        alpha_s, sigma_s = alpha_sigma(s)
        return denoised * alpha_s + eps * sigma_s

    return _integrate_float32(update, model, x, ts, on_step, cancel)


def v_iplms(model: Model, x: Tensor, ts: Tensor, *, noise=None, on_step=None, cancel=None):
    """The original ``v-iplms``: order 4, a division by a rounding error at t = 1, and a last step that
    returns the extrapolated clean estimate. Rising times give the original's inversion.

    Source: v-diffusion-pytorch (Katherine Crowson), as used by Harmonai's ``sample-generator``.
    """
    history: list[Tensor] = []

    def update(x, denoised, eps, t, s):
        (alpha, sigma), (alpha_s, sigma_s) = alpha_sigma(t), alpha_sigma(s)
        eps = _extrapolate_4(history, eps)
        return (x - eps * sigma) / alpha * alpha_s + eps * sigma_s

    return _integrate_float32(update, model, x, ts, on_step, cancel)


def diffusers_ipndm(model: Model, x: Tensor, ts: Tensor, *, noise=None, on_step=None, cancel=None):
    """What diffusers' Dance Diffusion pipeline does: ``v-iplms`` with alpha clamped at 1e-8, so that the
    first clean estimate is exactly 0.

    Source: diffusers' ``IPNDMScheduler``.
    """
    history: list[Tensor] = []

    def update(x, denoised, eps, t, s):
        (alpha, sigma), (alpha_s, sigma_s) = _clamped_alpha_sigma(t), _clamped_alpha_sigma(s)
        eps = _extrapolate_4(history, eps)
        return alpha_s * ((x - sigma * eps) / alpha.clamp(min=1e-8)) + eps * sigma_s

    return _integrate_float32(update, model, x, ts, on_step, cancel, _clamped_alpha_sigma)


SAMPLERS: dict[str, Callable[..., Tensor]] = {
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
"""Samplers that repeat an original tool; their own grid is ``crash``."""

STOCHASTIC_SAMPLERS = ("ddpm", "dpmpp_2m_sde")
"""Samplers that add noise on the way: what they make cannot be traced back."""

MEMORYLESS = ("ddim", "ddpm", "heun")
"""Samplers whose steps know nothing of earlier ones."""


def sampler(name: str) -> Callable[..., Tensor]:
    """Return the sampler of this name.

    Raises:
        ValueError: unknown name; the message lists the known ones.
    """
    if name not in SAMPLERS:
        raise ValueError(f"Unknown sampler {name!r}. Known: {', '.join(SAMPLERS)}.")
    return SAMPLERS[name]


def invert(model: Model, audio: Tensor, ts: Tensor, *, sampler: Callable[..., Tensor] = iplms, **options):
    """Drive a clean sound to the noise it would be generated from, with any deterministic sampler.

    Args:
        model: as for every sampler.
        audio: clean sound, float32 (B, C, T).
        ts: the falling times of a generation; used upside down.
        sampler: a deterministic sampler of this module.
        options: passed on (``order``, ``on_step``, ``cancel``).

    Returns:
        The state at ``ts[0]``, (B, C, T).

    Raises:
        ValueError: a stochastic sampler.
    """
    return sampler(model, audio, ts.flip(0), **options)


_ADAMS_BASHFORTH = (
    (1,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


def _integrate(update, model, x, ts, on_step, cancel) -> Tensor:
    """Run the solver ``update(i, x, v, denoised, eps, phi_t, phi_s) -> x_s`` over the times."""
    for i, total, t, s in time_steps(ts, cancel):
        v = model(x, x.new_full((len(x),), t))
        denoised, eps = v_to_denoised_eps(x, v, t)
        phi_t, phi_s = t * math.pi / 2, s * math.pi / 2
        x = denoised if s == 0 else update(i, x, v, denoised, eps, phi_t, phi_s)
        if on_step is not None:
            on_step(i + 1, total, denoised)
    return x


def _integrate_float32(update, model, x, ts, on_step, cancel, scales=alpha_sigma) -> Tensor:
    """The same loop as the original tools run it: every coefficient from float32 times."""
    for i, total, t, s in time_steps(ts, cancel):
        t, s = x.new_tensor(t), x.new_tensor(s)
        v = model(x, t.expand(len(x)))
        alpha, sigma = scales(t)
        denoised, eps = x * alpha - v * sigma, x * sigma + v * alpha
        x = update(x, denoised, eps, t, s)
        if on_step is not None:
            on_step(i + 1, total, denoised)
    return x


def time_steps(ts: Tensor, cancel: Event | None) -> Iterator[tuple[int, int, float, float]]:
    """Yield ``(i, total, t, s)`` for each step, looking at ``cancel`` first.

    Raises:
        ValueError: times that are not 1-D, strictly monotone and within [0, 1].
        Cancelled: ``cancel`` is set.
    """
    times = ts.detach().to("cpu", torch.float64)
    slopes = times.diff()
    if times.ndim != 1 or not len(slopes) or not ((slopes < 0).all() or (slopes > 0).all()):
        raise ValueError("Sampling times must be at least two, and rise or fall strictly.")
    if times.min() < 0 or times.max() > 1:
        raise ValueError(f"Sampling times must lie in [0, 1]; got {times.min():g} to {times.max():g}.")
    for i, (t, s) in enumerate(pairwise(times.tolist())):
        if cancel is not None and cancel.is_set():
            raise Cancelled(f"cancelled after {i} of {len(slopes)} steps")
        yield i, len(slopes), t, s


def stop_if(cancel: Event | None) -> None:
    """Raise ``Cancelled`` if ``cancel`` is set."""
    if cancel is not None and cancel.is_set():
        raise Cancelled("cancelled")


def _rotate(x: Tensor, v: Tensor, d: float) -> Tensor:
    """A DDIM step: turn the state by the angle ``d``."""
    return math.cos(d) * x - math.sin(d) * v


def _half_log_snr(phi: float) -> float:
    """``-log tan phi``; infinite at both ends."""
    if phi <= 0 or phi >= math.pi / 2:
        return math.inf if phi <= 0 else -math.inf
    return -math.log(math.tan(phi))


def _remember(history: list[tuple[float, Tensor]], lam: float, denoised: Tensor, keep: int) -> None:
    """Put an estimate first; one at an infinite log-SNR cannot be extrapolated from and is left out."""
    if math.isfinite(lam):
        history.insert(0, (lam, denoised))
        del history[keep:]


def _extrapolate_4(history: list[Tensor], eps: Tensor) -> Tensor:
    """Adams-Bashforth of the order that the history allows, up to 4, in the original's float32 order."""
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
    """Alpha as diffusers has it, ``sqrt(1 - sigma^2)``: exactly 0 at t = 1."""
    sigma = (t * (math.pi / 2)).sin()
    return (1 - sigma**2).sqrt(), sigma


def _fresh_noise(x: Tensor) -> Callable[[int], Tensor]:
    return lambda i: torch.randn_like(x)
