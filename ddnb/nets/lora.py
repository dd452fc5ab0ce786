"""LoRA and new conditioning columns: trainable additions to a network's weights, merged into them in the end.

``W`` is replaced by ``W + addition`` with torch's own parametrization, so the network's code does not change, and a
merged network is an ordinary one. ``peft`` adds a second convolution beside each instead, which does not fit the
network's four-dimensional signals, and needs ``transformers``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..errors import ArgumentError
from .build import Network, build_empty

PLANE_RATE = 10.0
"""Learning rate of new conditioning columns relative to the rest, as they start from zero."""


class LowRank(nn.Module):
    """A low-rank addition ``B A``: ``A`` (rank, inputs x taps) starts random, ``B`` (outputs, rank) zero.

    Source: Hu et al. 2021 (arXiv 2106.09685, section 4.1), with alpha = rank.
    """

    def __init__(self, weight: Tensor, rank: int, generator: torch.Generator):
        super().__init__()
        outputs, inputs = weight.shape[0], weight[0].numel()
        rank = min(rank, outputs, inputs)
        limit = 1 / math.sqrt(inputs)  # as torch draws a convolution's own weights
        down = (torch.rand(rank, inputs, generator=generator) * 2 - 1) * limit
        self.down = nn.Parameter(down.to(weight))
        self.up = nn.Parameter(weight.new_zeros(outputs, rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.up @ self.down).view_as(weight)


class NewColumns(nn.Module):
    """An addition to the columns of the last ``planes`` inputs, zero at first, with a higher learning rate."""

    def __init__(self, weight: Tensor, planes: int):
        super().__init__()
        self.columns = nn.Parameter(weight.new_zeros(weight.shape[0], planes, *weight.shape[2:]))

    def forward(self, weight: Tensor) -> Tensor:
        old = weight.shape[1] - self.columns.shape[1]
        beside = (0, 0) * (weight.ndim - 2)
        return weight + PLANE_RATE * nn.functional.pad(self.columns, (*beside, old, 0))


def add_columns(net: Network, planes: int) -> None:
    """Add fast-learning columns for the last ``planes`` conditioning planes."""
    for name in net.plane_weights if planes else ():
        conv = net.get_submodule(name.rpartition(".")[0])
        parametrize.register_parametrization(conv, "weight", NewColumns(conv.weight, planes))  # type: ignore[arg-type]


def add_low_rank(net: Network, rank: int, seed: int = 0) -> None:
    """Freeze the network and give every convolution a trainable ``LowRank`` addition.

    Args:
        net: the network, changed in place; conditioning columns added before stay trainable.
        rank: rank of the additions; less where a convolution is smaller.
        seed: seed of their initial values.

    Raises:
        ArgumentError: a rank below 1.
    """
    if rank < 1:
        raise ArgumentError(f"lora_rank={rank}: give 1 or more; 16 is usual.")
    net.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for module in list(net.modules()):
        if isinstance(module, NewColumns):
            module.requires_grad_(True)
        elif isinstance(module, nn.Conv1d):
            parametrize.register_parametrization(module, "weight", LowRank(module.weight, rank, generator))


@torch.no_grad()
def merge_state(net: Network) -> dict[str, Tensor]:
    """Return the state dict of an ordinary network that computes the same, with the additions summed into the
    weights.
    """
    names = build_empty(net.config).state_dict()
    parts = {name: name.rpartition(".") for name in names}
    return {name: getattr(net.get_submodule(where), leaf).detach() for name, (where, _, leaf) in parts.items()}
