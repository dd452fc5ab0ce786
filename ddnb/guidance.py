"""Asking a network for a category: conditioning planes, and classifier-free guidance as a wrapper of the model.

A class-conditional network has one input plane per category. A sound of one category has a 1 in its plane and 0 in the
others; a mixture has shares that sum to 1; all zeros stand for "any sound" and are what guidance compares with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor

from .sampler import Model
from .schedule import alpha_sigma, v_to_denoised_eps

Category = str | Mapping[str, float]
_SIGMA_MIN = 1e-3  # below it v cannot be told from a clean estimate, nor does rescaling change anything


@dataclass(frozen=True)
class Guidance:
    """How strongly to follow the category.

    Attributes:
        scale: 1 follows it as learned; above 1 exaggerates, with less variety; below 1 loosens; 0 ignores it.
        interval: (from, to) in t, 0 = clean, 1 = noise: outside of it the scale is 1, which saves the second call.
        rescale: share from 0 to 1 of the exaggerated estimate's level that is taken back to the plain one's.
    """

    scale: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)
    rescale: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.scale, Real) or not 0 <= self.scale <= 20:  # NaN too
            raise ValueError(f"guidance_scale={self.scale!r}: give a number from 0 to 20; 1 is plain, 2 is strong.")
        if len(self.interval) != 2 or not 0 <= self.interval[0] < self.interval[1] <= 1:
            raise ValueError(f"guidance_interval={self.interval!r}: give two rising times from 0 (clean) to 1 (noise).")
        if not isinstance(self.rescale, Real) or not 0 <= self.rescale <= 1:
            raise ValueError(f"guidance_rescale={self.rescale!r}: give a share from 0 to 1; 0.7 is usual.")


def shares(categories: Sequence[str], category: Category) -> dict[str, float]:
    """Return the share of each category asked for; the shares sum to 1.

    Args:
        categories: what the network knows.
        category: one of them, or a mapping of several to positive weights, such as ``{"kick": 2, "snare": 1}``.

    Raises:
        ValueError: a network without categories, an unknown one, or weights that are not positive.
    """
    weights = {category: 1.0} if isinstance(category, str) else dict(category)
    if not categories:
        raise ValueError(f"category={category!r}: this checkpoint has no categories; leave it out.")
    if unknown := [name for name in weights if name not in categories]:
        raise ValueError(f"Unknown category {unknown[0]!r}. Known: {', '.join(categories)}.")
    if not weights or not all(isinstance(w, Real) and 0 < w < float("inf") for w in weights.values()):
        raise ValueError(f"category={category!r}: give each category a weight above 0.")
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def planes(categories: Sequence[str], wanted: Mapping[str, float]) -> Tensor:
    """Return the conditioning planes, (1, categories, 1), that hold these shares."""
    return torch.tensor([[[float(wanted.get(name, 0.0))] for name in categories]])


def guided(model: Callable[[Tensor, Tensor, Tensor], Tensor], cond: Tensor, guidance: Guidance) -> Model:
    """Turn a conditional model into one that follows ``cond``: ``(x, t, cond) -> v`` becomes ``(x, t) -> v``.

    ``v = v_u + scale (v_c - v_u)``, ``v_c`` under ``cond`` and ``v_u`` under zeros, in one call of twice the batch.
    Rescaling makes the clean estimate D as loud as the conditional one's D_c:
    ``D' = D (rescale std(D_c) / std(D) + 1 - rescale)``, the deviation taken over time.

    Args:
        model: the conditional network.
        cond: planes of one clip, (1, planes, length), for all clips.
        guidance: how strongly.

    Returns:
        A model for the samplers; all clips of a call must be at one time, as they are in every sampler.

    Sources: Ho & Salimans 2022 (arXiv 2207.12598, equation 6); the interval, Kynkaanniemi et al. 2024 (arXiv
    2404.07724); rescaling, Lin et al. 2023 (arXiv 2305.08891, section 3.4).
    """
    low, high = guidance.interval

    def follow(x: Tensor, t: Tensor) -> Tensor:
        wanted = cond.to(x).expand(len(x), -1, -1)
        if guidance.scale == 1 or ((low, high) != (0, 1) and not low <= t[0].item() <= high):
            return model(x, t, wanted)
        both = model(torch.cat([x, x]), torch.cat([t, t]), torch.cat([wanted, torch.zeros_like(wanted)]))
        v_c, v_u = both.chunk(2)
        v = v_u + guidance.scale * (v_c - v_u)
        return _as_loud_as(v_c, v, x, t[:, None, None], guidance.rescale) if guidance.rescale else v

    return follow


def _as_loud_as(v_c: Tensor, v: Tensor, x: Tensor, t: Tensor, share: float) -> Tensor:
    alpha, sigma = alpha_sigma(t)
    (plain, _), (strong, _) = v_to_denoised_eps(x, v_c, t), v_to_denoised_eps(x, v, t)
    loudness = [d.std(dim=-1, keepdim=True, correction=0) for d in (plain, strong)]
    gain = share * loudness[0] / loudness[1].clamp(min=1e-12) + 1 - share
    rescaled = (alpha * x - gain * strong) / sigma.clamp(min=_SIGMA_MIN)
    return torch.where(sigma > _SIGMA_MIN, rescaled, v)
