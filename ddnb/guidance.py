"""Conditioning on categories: input planes, and classifier-free guidance as a wrapper of the model.

A class-conditional network has one input plane per category. A sound of one category has a 1 in its plane and 0 in the
others; a mixture has shares that sum to 1; all zeros mean "any sound", the unconditional estimate of guidance.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor

from .checks import within
from .errors import ArgumentError
from .names import find_name
from .schedule import alpha_sigma, v_to_denoised_eps
from .steps import Model

Category = str | Mapping[str, float]
_SIGMA_MIN = 1e-3  # below it v does not determine the clean estimate, and rescaling changes nothing


@dataclass(frozen=True)
class Guidance:
    """The strength of classifier-free guidance.

    Attributes:
        scale: 1 follows the category as learned; above 1 more strongly, with less variety; below 1 less; 0 ignores it.
        interval: (from, to) in t, 0 = clean, 1 = noise: outside of it the scale is 1, which saves the second call.
        rescale: share from 0 to 1 by which the guided estimate's level is brought back to the conditional one's.
    """

    scale: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)
    rescale: float = 0.0

    def __post_init__(self) -> None:
        within("guidance_scale", self.scale, 0, 20)
        within("guidance_rescale", self.rescale, 0, 1)
        if len(self.interval) != 2 or not 0 <= self.interval[0] < self.interval[1] <= 1:
            raise ArgumentError(
                f"guidance_interval={self.interval!r}: give two rising times from 0 (clean) to 1 (noise)."
            )


def unknown_category(name: str, categories: Sequence[str]) -> ArgumentError:
    """Return the error for a category that a network does not have, with those that may be meant."""
    wanted, folded = name.strip().casefold(), {known.casefold(): known for known in categories}
    near = [known for text, known in folded.items() if wanted and (wanted in text or text in wanted)]
    near = near or [folded[text] for text in difflib.get_close_matches(wanted, folded, n=2)]
    guess = f" Did you mean {' or '.join(near)}?" if near else ""
    return ArgumentError(f"Unknown category {name!r}.{guess} Known: {', '.join(categories)}.")


def shares(categories: Sequence[str], category: Category) -> dict[str, float]:
    """Return the share of each category asked for; the shares sum to 1.

    Args:
        categories: the network's categories.
        category: one of them, or a mapping of several to positive weights, such as ``{"kick": 2, "snare": 1}``. The
            form of Unicode and the case of letters do not matter, unless two categories differ in nothing else.

    Raises:
        ArgumentError: a network without categories, an unknown one, or weights that are not positive.
    """
    if not isinstance(category, str | Mapping):
        raise ArgumentError(f"category={category!r}: give a name, or names with weights, such as {{'kick': 2}}.")
    weights = {category: 1.0} if isinstance(category, str) else dict(category)
    if not categories:
        raise ArgumentError(f"category={category!r}: this checkpoint has no categories; leave it out.")
    found = {name: find_name(name, categories) if isinstance(name, str) else None for name in weights}
    if unknown := [name for name, known in found.items() if known is None]:
        raise unknown_category(str(unknown[0]), categories)
    if not weights or not all(isinstance(w, Real) and 0 < w < float("inf") for w in weights.values()):
        raise ArgumentError(f"category={category!r}: give each category a weight above 0.")
    total, wanted = sum(weights.values()), dict[str, float]()
    for name, weight in weights.items():
        known = str(found[name])
        wanted[known] = wanted.get(known, 0.0) + weight / total
    return wanted


def planes(categories: Sequence[str], wanted: Mapping[str, float]) -> Tensor:
    """Return the conditioning planes, (1, categories, 1), that hold these shares."""
    return torch.tensor([[[float(wanted.get(name, 0.0))] for name in categories]])


def guided(
    model: Callable[[Tensor, Tensor, Tensor], Tensor], cond: Tensor, guidance: Guidance, categories: int | None = None
) -> Model:
    """Bind a conditional model to ``cond``, with guidance: ``(x, t, cond) -> v`` becomes ``(x, t) -> v``.

    ``v = v_u + scale (v_c - v_u)``, ``v_c`` under ``cond`` and ``v_u`` at the same pitch with zeros for the categories,
    in one call of twice the batch. Rescaling brings the level of the clean estimate D to that of the conditional one,
    D_c: ``D' = D (rescale std(D_c) / std(D) + 1 - rescale)``, the deviation taken over time.

    Args:
        model: the conditional network.
        cond: planes of one clip for all, (1, planes, length), or of each, (B, planes, length).
        guidance: its strength.
        categories: number of planes, the first ones, that hold the categories; by default all.

    Returns:
        A model for the samplers; all clips of a call must be at one time, as they are in every sampler.

    Sources: Ho & Salimans 2022 (arXiv 2207.12598, equation 6); the interval, Kynkaanniemi et al. 2024 (arXiv
    2404.07724); rescaling, Lin et al. 2023 (arXiv 2305.08891, section 3.4).
    """
    low, high = guidance.interval

    def guided_model(x: Tensor, t: Tensor) -> Tensor:
        wanted = cond.to(x).expand(len(x), -1, -1)
        if guidance.scale == 1 or ((low, high) != (0, 1) and not low <= t[0].item() <= high):
            return model(x, t, wanted)
        unconditional = wanted.clone()
        unconditional[:, :categories] = 0
        both = model(torch.cat([x, x]), torch.cat([t, t]), torch.cat([wanted, unconditional]))
        v_c, v_u = both.chunk(2)
        v = v_u + guidance.scale * (v_c - v_u)
        return _rescale(v_c, v, x, t[:, None, None], guidance.rescale) if guidance.rescale else v

    return guided_model


def _rescale(v_c: Tensor, v: Tensor, x: Tensor, t: Tensor, share: float) -> Tensor:
    """Bring the level of the guided clean estimate to that of the conditional one, by this share."""
    alpha, sigma = alpha_sigma(t)
    (plain, _), (strong, _) = v_to_denoised_eps(x, v_c, t), v_to_denoised_eps(x, v, t)
    loudness = [d.std(dim=-1, keepdim=True, correction=0) for d in (plain, strong)]
    gain = share * loudness[0] / loudness[1].clamp(min=1e-12) + 1 - share
    rescaled = (alpha * x - gain * strong) / sigma.clamp(min=_SIGMA_MIN)
    return torch.where(sigma > _SIGMA_MIN, rescaled, v)
