"""Blend the components of built-in networks: those of a category move along the shortest way to those of another.

Averages of shares would not do: half of the sounds would be those of the one network, half those of the other. Here the
components of both are paired by optimal transport, so that little is moved far, and the levels of each pair blend.

Source: displacement interpolation of Gaussian mixtures, Delon & Desolneux 2020 (arXiv 1907.05254, section 4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .harmonics import CORRELATION
from .prior import IMPOSSIBLE, PRIOR, TONES, any_sound

_PITCH_WEIGHT = 3.0  # of a difference of ln(pitch), re one of the level of a cell
_LEAST_MASS = 1e-6

State = Mapping[str, Tensor]


def blend_components(start: State, others: Sequence[State], weights: Sequence[float]) -> dict[str, Tensor]:
    """Return the buffers of a network whose components are those of ``start``, moved towards those of others.

    Args:
        start: a state dict, on the CPU.
        others: state dicts with the same categories.
        weights: how far to go to each of them: 0 for not at all, 1 for all the way.
    """
    blended = _blend_part(PRIOR, start, others, weights)
    if TONES + "held" in start:
        blended |= _blend_part(TONES, start, others, weights)
        held = torch.stack([state[TONES + "held"] for state in (start, *others)])
        blended[TONES + "held"] = held.amax(0)  # that of a category is the same everywhere, or 0 where it is unknown
    return blended


def _blend_part(part: str, start: State, others: Sequence[State], weights: Sequence[float]) -> dict[str, Tensor]:
    """Return the components of all categories, and their shares."""
    states, heaviest_first = [start, *others], np.argsort([-(1 - sum(weights)), *(-weight for weight in weights)])
    found: list[_Components] = []
    for label in range(len(start[part + "log_shares"]) - 1):
        all_of_them = [_components(state, part, label) for state in states]
        if all(each.equals(all_of_them[0]) for each in all_of_them):
            found.append(all_of_them[0])
        elif all(len(each.shares) for each in all_of_them):
            found.append(_blend(all_of_them, weights))
        else:  # a category with tones in some of the networks only: those of the heaviest that knows the category
            knows = [i for i in heaviest_first if _knows(states[i], label)]
            found.append(all_of_them[knows[0]] if knows else all_of_them[0])
    values = {name: torch.cat([each.values[name] for each in found]) for name in found[0].values}
    sizes = [len(each.shares) for each in found]
    rows = torch.full((len(found), sum(sizes)), IMPOSSIBLE)
    for row, each, end in zip(rows, found, np.cumsum(sizes), strict=True):
        row[end - len(each.shares) : end] = each.shares.log().float()
    return _from_linear(part, values) | {part + "log_shares": any_sound(rows)}


def _knows(state: State, label: int) -> bool:
    """Return whether a category is more than any sound to a network, see ``spectral.with_planes``."""
    shares = state[PRIOR + "log_shares"]
    return not torch.equal(shares[label], shares[-1])


class _Components(NamedTuple):
    """The components of a category.

    Attributes:
        values: what they are, in units that may be averaged, (components, ...) each.
        shares: their probabilities, (components,), float64.
    """

    values: dict[str, Tensor]
    shares: Tensor

    def equals(self, other: _Components) -> bool:
        mine, theirs = ([*each.values.values(), each.shares] for each in (self, other))
        return all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))

    @property
    def points(self) -> Tensor:
        """Return the place of each component, (components, dimensions), float64."""
        weighted = [(_PITCH_WEIGHT if name == "log_pitch" else 1.0) * value for name, value in self.values.items()]
        return torch.cat([value.flatten(1) for value in weighted], 1).double()


def _components(state: State, part: str, label: int) -> _Components:
    log_shares = state[part + "log_shares"][label]
    mine = log_shares > IMPOSSIBLE / 10
    return _Components(
        {name: value[mine] for name, value in _to_linear(part, state).items()},
        log_shares[mine].double().softmax(0) if mine.any() else torch.zeros(0, dtype=torch.float64),
    )


def _to_linear(part: str, state: State) -> dict[str, Tensor]:
    if part == PRIOR:
        return {"log_levels": state["prior.log_levels"]}
    pitch = state["tones.log_pitch"]
    return {
        "log_levels": state["tones.log_levels"],
        "log_residual": state["tones.log_residual"],
        "log_change": (1 - state["tones.correlation"]).log(),
        "log_pitch": torch.stack([pitch[:, 0], pitch[:, 1].log()], 1),
    }


def _from_linear(part: str, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if part == PRIOR:
        return {"prior.log_levels": values["log_levels"]}
    pitch = values["log_pitch"]
    return {
        "tones.log_levels": values["log_levels"],
        "tones.log_residual": values["log_residual"],
        "tones.correlation": (1 - values["log_change"].exp()).clamp(*CORRELATION),
        "tones.log_pitch": torch.stack([pitch[:, 0], pitch[:, 1].exp()], 1),
    }


def _blend(components: Sequence[_Components], weights: Sequence[float]) -> _Components:
    """Return components between those of the first network and those of the others."""
    first, *others = components
    plans = [_transport(first, other) for other in others]
    masses, rows = [], []
    for index, share in enumerate(first.shares.tolist()):
        for mass, partners in _overlay([plan[index] for plan in plans]):
            masses.append(share * mass)
            rows.append((index, *partners))
    mine, *theirs = torch.tensor(rows).T
    values = {name: value[mine] for name, value in first.values.items()}
    for other, weight, partners in zip(others, weights, theirs, strict=True):
        for name, value in first.values.items():
            values[name] = values[name] + weight * (other.values[name][partners] - value[mine])
    return _Components(values, torch.tensor(masses, dtype=torch.float64))


def _transport(a: _Components, b: _Components) -> np.ndarray:
    """Return how the share of each component of ``a`` is distributed to those of ``b`` at the least cost: the squared
    distance; (components of a, components of b), the sum over each row is 1.
    """
    from scipy.optimize import linprog
    from scipy.sparse import eye, kron, vstack

    cost = torch.cdist(a.points, b.points).square().numpy()
    n, m = cost.shape
    sums = vstack([kron(eye(n), np.ones((1, m))), kron(np.ones((1, n)), eye(m))])
    plan = linprog(cost.ravel(), A_eq=sums, b_eq=torch.cat([a.shares, b.shares]).numpy(), method="highs").x
    plan = plan.reshape(n, m).clip(min=0)
    return plan / plan.sum(1, keepdims=True)


def _overlay(plans: Sequence[np.ndarray]) -> list[tuple[float, tuple[int, ...]]]:
    """Return the pieces of a component that have one partner in each other network: the size and the partners."""
    ends = [np.cumsum(plan) for plan in plans]
    edges = np.unique(np.concatenate([[0.0, 1.0], *ends]).clip(0, 1)).tolist()
    pieces = [(b - a, (a + b) / 2) for a, b in pairwise(edges) if b - a > _LEAST_MASS]
    return [
        (size, tuple(min(int(np.searchsorted(end, middle)), len(end) - 1) for end in ends)) for size, middle in pieces
    ]
