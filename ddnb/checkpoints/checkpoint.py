"""TODO checkpoints/checkpoint."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..nets.build import Network

_ONE_CALL = threading.RLock()  # a network is on a circle or not, whichever thread asks: a click may come in another one


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A network ready to make sound; calling it is calling the network.

    Attributes:
        net: the network, in the precision of this device.
        sample_rate: Hz.
        frames: frames per clip in training.
        device: where it computes.
        dtype: how precisely.
        info: name, licence, credit, weights_sha256 and what else is known about its origin.
    """

    net: Network
    sample_rate: int
    frames: int
    device: torch.device
    dtype: torch.dtype
    info: dict[str, Any]

    @property
    def name(self) -> str:
        return self.info["name"]

    @property
    def channels(self) -> int:
        return self.net.config.channels

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the categories it can be asked for, empty for an unconditional network."""
        return tuple(self.info.get("categories", ()))

    def legal_frames(self, frames: int) -> int:
        """The shortest length the network can make that is at least ``frames``."""
        return self.net.config.legal_frames(frames)

    def __call__(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """Predict v.

        Args:
            x: float32 (B, channels, T) on any device, T a legal length. Where it requires a gradient, v has one.
            t: float32 (B,).
            cond: conditioning planes, (B, planes, any length), or none for zeros.

        Returns:
            v, float32 (B, channels, T), where ``x`` is.
        """
        return self._called(x, t, cond, circular=False)

    def circular(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """Predict v of a loop, whose end is followed by its beginning; otherwise as calling the checkpoint.

        Args:
            x, t, cond: likewise; T a multiple of the network's stride from ``net.config.min_loop_frames`` up.
        """
        return self._called(x, t, cond, circular=True)

    def _called(self, x: Tensor, t: Tensor, cond: Tensor | None, circular: bool) -> Tensor:
        with _ONE_CALL, torch.inference_mode(not x.requires_grad):
            if self.net.circular != circular:
                self.net.circular = circular
            try:
                planes = None if cond is None else cond.to(self.device, self.dtype)
                return self.net(x.to(self.device, self.dtype), t.to(self.device), planes).to(x)
            finally:
                if circular:
                    self.net.circular = False

    def __repr__(self) -> str:
        size = sum(p.numel() for p in self.net.parameters()) / 1e6
        return (
            f"<Checkpoint {self.name}: {size:.1f} M parameters, {self.frames} frames at {self.sample_rate} Hz "
            f"({self.frames / self.sample_rate:.2f} s), {self.channels} channels, on {self.device} in "
            f"{str(self.dtype).removeprefix('torch.')}>"
        )


def weights_sha256(state: Mapping[str, Tensor]) -> str:
    """Return a hash of the weights themselves: the same in whatever kind of file they come."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()
