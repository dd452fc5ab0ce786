"""``blend``: a network between a checkpoint and what was trained from it, or beyond; several trainings in one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..checks import within
from ..errors import ArgumentError
from ..nets.build import build_empty, build_network
from ..nets.displacement import blend_components
from ..nets.prior import PRIOR, TONES
from ..nets.spectral import SpectralUNet
from .checkpoint import Checkpoint, require_teacher
from .loading import load
from .registry import list_checkpoints

MOST = 1.2
"""The largest weight of a blend."""

_MOST_NETWORKS = 8
_RELATED = 0.5  # cosine of the weights; of networks that were trained independently it is near 0


def blend(
    start: Checkpoint, tuned: Checkpoint | Sequence[Checkpoint], weight: float | Sequence[float] = 1.0
) -> Checkpoint:
    """Return a checkpoint between ``start`` and one that was trained from it: 0 is the start, 1 the other.

    The same seed makes related sounds at all weights, so that one can turn a training up and down like an effect. The
    weights of the networks are averaged, ``start + sum of weight (tuned - start)``; the components of the built-in
    network move from those of one to those of the other.

    Args:
        start: the checkpoint that the training began with, full or LoRA.
        tuned: the trained or fitted checkpoint, or several of them with the same start.
        weight: from 0 to 1.2 for each of them. Above 1 the differences are exaggerated.

    Raises:
        ArgumentError: a weight out of range, another number of weights, networks of different kinds, formats or
            origins, or a start that is itself a blend.

    Sources: Ilharco et al. 2023 (arXiv 2212.04089) for sums of differences of weights.
    """
    networks = [tuned] if isinstance(tuned, Checkpoint) else list(tuned)
    given = list(weight) if isinstance(weight, Sequence) else [weight]
    weights = [within("weight", each, 0, MOST) for each in given]
    if len(networks) != len(weights) or not 1 <= len(networks) <= _MOST_NETWORKS:
        raise ArgumentError(
            f"{len(networks)} checkpoints and {len(weights)} weights: give one weight for each of 1 to "
            f"{_MOST_NETWORKS} checkpoints."
        )
    for each in (start, *networks):
        require_teacher(each, "blend")
        if "blend" in each.info:
            raise ArgumentError(f"{each.name} is a blend: blend the checkpoints themselves, all at once.")
    categories = tuple(dict.fromkeys(name for each in (start, *networks) for name in each.categories))
    states = [_with_categories(each, categories) for each in (start, *networks)]
    for each, state in zip(networks, states[1:], strict=True):
        _require_related(start, states[0], each, state)
    net = build_network(_blend_states(states, weights, isinstance(start.net, SpectralUNet)))
    net.to(start.device).eval().requires_grad_(False)
    return replace(start, net=net, info=_facts(start, networks, weights, categories))


def load_start(ckpt: Checkpoint, **options: Any) -> Checkpoint:
    """Load the checkpoint that the training of ``ckpt`` began with.

    Args:
        ckpt: a checkpoint that ``finetune`` or ``fit`` made.
        options: those of ``load``.

    Raises:
        ArgumentError: as for ``start_name``, or another checkpoint has that name.
        CheckpointError: as for ``load``.
    """
    start = load(start_name(ckpt), **options)
    if ckpt.info.get("start_sha256") not in (None, start.info["weights_sha256"]):
        raise ArgumentError(
            f"{ckpt.name} was trained from another checkpoint that is called {start.name}, too: give that one's file, "
            f"blend(START, {ckpt.name}, WEIGHT), on the command line --checkpoint START --blend {ckpt.name}=WEIGHT."
        )
    return start


def start_name(ckpt: Checkpoint) -> str:
    """Return the name of the checkpoint that the training of ``ckpt`` began with.

    Raises:
        ArgumentError: it is not known, or a file whose place is not known.
    """
    name = ckpt.info.get("finetuned_from")
    if name in list_checkpoints():
        return str(name)
    known = f"was trained from {name}, which is no name of list_checkpoints()" if name else "does not say its start"
    raise ArgumentError(
        f"{ckpt.name} {known}: blend(START, {ckpt.name}, WEIGHT) takes any file as the start, on the command line "
        f"--checkpoint START --blend {ckpt.name}=WEIGHT with the files of both."
    )


def _with_categories(ckpt: Checkpoint, categories: Sequence[str]) -> dict[str, Tensor]:
    """Return the weights on the CPU, with planes for these categories in this order."""
    state = {name: tensor.cpu() for name, tensor in ckpt.net.state_dict().items()}
    has = list(ckpt.categories)
    state = ckpt.net.with_planes(state, len(categories) - len(has))
    planes = has + [name for name in categories if name not in has]
    order = torch.tensor([planes.index(name) for name in categories], dtype=torch.long)
    for name in ckpt.net.plane_weights if len(order) else ():
        others = state[name].shape[1] - len(order)
        state[name] = torch.cat([state[name][:, :others], state[name][:, others:][:, order]], 1)
    for name in (PRIOR + "log_shares", TONES + "log_shares", TONES + "held"):
        if name in state:  # the last row is that of any sound
            state[name] = state[name][torch.cat([order, torch.tensor([len(order)])])]
    return state


def _require_related(
    start: Checkpoint, begin: Mapping[str, Tensor], tuned: Checkpoint, end: Mapping[str, Tensor]
) -> None:
    """Check that a network can be one that was trained from another.

    Raises:
        ArgumentError: it is of another kind or format, or has nothing in common with it.
    """
    formats = [(each.sample_rate, each.channels) for each in (start, tuned)]
    if formats[0] != formats[1]:
        raise ArgumentError(
            f"{tuned.name} makes {formats[1][1]} channels at {formats[1][0]} Hz, and {start.name} {formats[0][1]} at "
            f"{formats[0][0]} Hz: only what was trained from the same checkpoint can be blended."
        )
    learned = {name for name, _ in build_empty(start.net.config).named_parameters()}
    if type(start.net) is not type(tuned.net) or any(
        name not in end or begin[name].shape != end[name].shape for name in learned
    ):
        raise ArgumentError(
            f"{tuned.name} is a network of another kind or size than {start.name}: only what was trained from the "
            "same checkpoint can be blended."
        )
    matrices = [name for name in sorted(learned) if begin[name].ndim > 1]
    products = sum((torch.stack(list(_products(begin[name], end[name]))) for name in matrices), torch.zeros(3))
    cosine = float(products[0] / (products[1] * products[2]).sqrt().clamp(min=1e-30))
    if not cosine > _RELATED:
        raise ArgumentError(
            f"{tuned.name} was not trained from {start.name}: their weights have nothing in common (cosine "
            f"{cosine:.2f}). Give the checkpoint that its training began with."
        )


def _products(a: Tensor, b: Tensor) -> Iterator[Tensor]:
    x, y = a.double().flatten(), b.double().flatten()
    yield from (x @ y, x @ x, y @ y)


def _blend_states(
    states: Sequence[Mapping[str, Tensor]], weights: Sequence[float], components: bool
) -> dict[str, Tensor]:
    """Return ``start + sum of weight (tuned - start)``; exactly one of them, where the weights say so."""
    start = states[0]
    others = [(state, weight) for state, weight in zip(states[1:], weights, strict=True) if weight]
    if not others:
        return dict(start)
    if [weight for _, weight in others] == [1.0]:
        return {
            name: value.to(start[name].dtype if name in start else value.dtype) for name, value in others[0][0].items()
        }
    learned = {name: tensor for name, tensor in start.items() if not components or not name.startswith((PRIOR, TONES))}
    blended = {}
    for name, begin in learned.items():
        change = sum(((state[name].float() - begin.float()) * weight for state, weight in others), torch.zeros(()))
        blended[name] = (begin.float() + change).to(begin.dtype)
    if components:
        blended |= blend_components(start, [state for state, _ in others], [weight for _, weight in others])
    return blended


def _facts(
    start: Checkpoint, networks: Sequence[Checkpoint], weights: Sequence[float], categories: Sequence[str]
) -> dict[str, Any]:
    """Return what is known about a blend. Its identity is that of its parts: their hashes and weights."""
    parts = [
        {"name": each.name, "source": each.info["source"], "weights_sha256": each.info["weights_sha256"]}
        for each in (start, *networks)
    ]
    for part, weight in zip(parts[1:], weights, strict=True):
        part["weight"] = weight
    identity = [[part["weights_sha256"], part.get("weight")] for part in parts]
    licences = dict.fromkeys(str(each.info["licence"]) for each in (start, *networks))
    fitted = {name: count for each in networks for name, count in each.info.get("fitted_to", {}).items()}
    facts: dict[str, Any] = {name: start.info[name] for name in ("credit", "peak_dbfs") if name in start.info}
    facts |= {"fitted_to": fitted} if fitted else {}
    return facts | {
        "name": " ".join(
            f"{each.name}-blend{100 * weight:.0f}" for each, weight in zip(networks, weights, strict=True)
        ),
        "licence": "; ".join(licences),
        "categories": list(categories),
        "weights_sha256": hashlib.sha256(json.dumps(identity).encode()).hexdigest(),
        "source": "blend",
        "blend": parts,
    }
