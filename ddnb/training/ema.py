"""The exponential moving average of the trained weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import nn


# torch.optim.swa_utils.AveragedModel is no shorter: it averages a deep copy of the whole network (frozen weights, too),
# replaces the average by the weights at the first update, and has no swap, so that most of this class would remain.
class Ema:
    """The exponential moving average of the trainable weights, which is validated, saved and used for demos.

    ``average <- decay average + (1 - decay) weight``, with ``decay = min(decay, (1 + n) / (10 + n))`` at update n, so
    that a short run does not keep the weights it began with.

    Args:
        parameters: the trainable weights by name.
        decay: upper limit of the decay.
        device: where the average is kept; beside each weight by default.

    Attributes:
        values: the average of each weight, by name.
        updates: number of updates so far.
        swapped: whether the network holds the averages at the moment.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float, device: torch.device | None):
        self.parameters, self.max_decay, self.updates, self.swapped = parameters, decay, 0, False
        self.values = {name: p.detach().to(device or p.device, copy=True) for name, p in parameters.items()}

    @property
    def decay(self) -> float:
        """The decay of the last update."""
        return min(self.max_decay, (1 + self.updates) / (10 + self.updates))

    @torch.no_grad()
    def update(self) -> None:
        """Add the current weights to the average."""
        self.updates += 1
        for name, parameter in self.parameters.items():
            value = self.values[name]
            value.lerp_(parameter.to(value.device), 1 - self.decay)

    @contextlib.contextmanager
    def swap(self) -> Iterator[None]:
        """Put the averages into the network while the context lasts."""
        weights = {name: p.data for name, p in self.parameters.items()}
        self.swapped = True
        try:
            for name, parameter in self.parameters.items():
                parameter.data = self.values[name].to(parameter.device)
            yield
        finally:
            for name, parameter in self.parameters.items():
                parameter.data = weights[name]
            self.swapped = False
