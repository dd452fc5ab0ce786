"""``Checkpoint``: a network with its format, ready to call."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import compress
from typing import Any

import torch
from torch import Tensor

from ..errors import ArgumentError
from ..nets.build import Network
from ..threads import single_thread


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A network with its format, on a device; calling it calls the network.

    Attributes:
        net: the network, in the precision of this device.
        sample_rate: Hz.
        frames: frames per clip in training.
        device: the device on which it computes.
        dtype: the precision in which it computes.
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
        """The names of the categories it was trained on; empty for an unconditional network."""
        return tuple(self.info.get("categories", ()))

    @property
    def own_categories(self) -> tuple[str, ...]:
        """The names of the categories that were fitted to a folder, if any were; else all."""
        return tuple(name for name in self.categories if name in self.info.get("fitted_to", ())) or self.categories

    @property
    def tonal_categories(self) -> tuple[str, ...]:
        """The names of the categories that take a pitch; empty for networks that take none."""
        if self.net.tones is None:
            return ()
        return tuple(compress(self.categories, self.net.tones.tonal))

    @property
    def student_times(self) -> tuple[float, ...]:
        """The times of its calls, and 0, if it is the student of a distillation; else empty."""
        return tuple(self.info.get("student", {}).get("times", ()))

    @property
    def default_sampler(self) -> str:
        """The sampler that suits its network best, a key of ``sampler.SAMPLERS``."""
        return "ddim" if self.student_times else self.net.sampling[0]

    @property
    def default_steps(self) -> int:
        """The steps from which on more change little; the calls of a student."""
        return len(self.student_times) - 1 if self.student_times else self.net.sampling[1]

    def usual_pitches(self, shares: Mapping[str, float]) -> list[tuple[float, float]]:
        """Return the pitches in Hz of the sounds of some tonal categories in training, and their probabilities."""
        assert self.net.tones is not None
        wanted = torch.tensor([shares.get(name, 0.0) for name in self.categories])
        found = self.net.tones.usual_pitches(wanted)
        return [(pitch * self.sample_rate, probability) for pitch, probability in found if probability > 0]

    def legal_frames(self, frames: int) -> int:
        """Return the shortest length of at least ``frames`` that the network can make."""
        return self.net.config.legal_frames(frames)

    def __call__(self, x: Tensor, t: Tensor, cond: Tensor | None = None, circular: bool = False) -> Tensor:
        """Predict v.

        Args:
            x: float32 (B, channels, T) on any device, T a legal length. If it requires a gradient, v has one.
            t: float32 (B,).
            cond: conditioning planes, (B, planes, any length), or None for zeros.
            circular: whether the sound is a loop, whose end is followed by its beginning; T is then a multiple of the
                network's stride from ``net.config.min_loop_frames`` up.

        Returns:
            v, float32 (B, channels, T), on the device of ``x``.
        """
        one_thread = self.device.type == "cpu" and self.net.single_threaded
        with torch.inference_mode(not x.requires_grad), single_thread() if one_thread else contextlib.nullcontext():
            planes = None if cond is None else cond.to(self.device, self.dtype)
            return self.net(x.to(self.device, self.dtype), t.to(self.device), planes, circular).to(x)

    def __repr__(self) -> str:
        size = sum(p.numel() for p in self.net.parameters()) / 1e6
        return (
            f"<Checkpoint {self.name}: {size:.1f} M parameters, {self.frames} frames at {self.sample_rate} Hz "
            f"({self.frames / self.sample_rate:.2f} s), {self.channels} channel{'s' if self.channels > 1 else ''}, "
            f"on {self.device} in {str(self.dtype).removeprefix('torch.')}>"
        )


def require_teacher(ckpt: Checkpoint, what: str) -> None:
    """Raise ArgumentError for a student, whose few calls cannot be used for this."""
    if ckpt.student_times:
        teacher = ckpt.info.get("finetuned_from", "its teacher")
        raise ArgumentError(f"{ckpt.name} is a student of {ckpt.default_steps} calls: {what} with {teacher}.")


def weights_sha256(state: Mapping[str, Tensor]) -> str:
    """Return a hash of the weights themselves, independent of the file format."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
