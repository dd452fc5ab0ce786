"""TODO training/ema."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import nn


class Ema:
    """The running average of the trainable weights: what is listened to and kept.

    ``average <- decay average + (1 - decay) weight``, with ``decay = min(decay, (1 + n) / (10 + n))`` at update n, so
    that a short run does not keep the weights it began with.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float, device: torch.device | None):
        self.parameters, self.most, self.updates, self.swapped = parameters, decay, 0, False
        self.values = {name: p.detach().to(device or p.device, copy=True) for name, p in parameters.items()}

    @property
    def decay(self) -> float:
        return min(self.most, (1 + self.updates) / (10 + self.updates))

    @torch.no_grad()
    def update(self) -> None:
        self.updates += 1
        for name, parameter in self.parameters.items():
            value = self.values[name]
            value.lerp_(parameter.to(value.device), 1 - self.decay)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the averages into the network for a while."""
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
