"""Lengths of sounds: seconds or exact bars, and the lengths that a network makes for them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

from ..audio.loop import MAX_CENTS, loop_frames
from ..checkpoints.checkpoint import Checkpoint
from ..checks import within
from ..errors import ArgumentError
from ..nets.build import Config
from .options import OptionGroup, option

MAX_DURATION_S = 60.0
"""A minute of the published network at 48 kHz needs some 13 GB in float32: 0.29 GB per 65,536 frames (bench)."""

MAX_LOOP_S = 600.0
"""Long loops are made in windows, whose memory does not grow with the length."""


@dataclass(frozen=True)
class Length:
    """The length of a sound, and the length at which the network makes it.

    Attributes:
        frames: length of the sound.
        made: a length that the network can make.
        loop: whether the end leads into the beginning.
        window: length of the overlapping windows in which it is made; None makes it in one piece.
    """

    frames: int
    made: int
    loop: bool = False
    window: int | None = None

    @property
    def cents(self) -> float:
        """Pitch shift of a loop that is made longer (above 0) or shorter than it is, in hundredths of a semitone."""
        return 1200 * math.log2(self.made / self.frames) if self.loop else 0.0


@dataclass(frozen=True)
class LoopOptions(OptionGroup):
    """Options of loops and exact tempo."""

    loop: bool = option(
        False,
        "make seamless loops: the end leads into the beginning without a crossfade. Loops longer than in training are "
        "made in overlapping windows; a sound that does not close is closed first, over its last 10 ms",
    )
    bpm: float | None = option(
        None, "beats per minute, 20 to 999: the length becomes exactly `bars` bars, in whole frames"
    )
    bars: int | None = option(None, "whole bars, 1 to 64 (default: 1)")
    beats_per_bar: int = option(4, "beats per bar (default: 4)")
    max_cents: float = option(
        MAX_CENTS,
        "pitch shift to accept, in hundredths of a semitone, for loops that are shorter than in training and whose "
        f"length the network cannot make (default: {MAX_CENTS:g})",
    )
    start_on_onset: bool = option(False, "rotate each loop so that it begins on its strongest onset")

    def length(self, ckpt: Checkpoint, duration_s: float | None, default: int | None = None) -> Length:
        """Return the length that was asked for.

        Args:
            ckpt: the network that shall make it.
            duration_s: seconds; None leaves it to the tempo or to ``default``.
            default: frames where neither is given; those in training by default.

        Raises:
            ArgumentError: numbers out of range or in contradiction, or a pitch shift above ``max_cents``.
        """
        if self.start_on_onset and not self.loop:
            raise ArgumentError("start_on_onset=True rotates a loop: add loop=True.")
        if self.bpm is None and self.bars is not None:
            raise ArgumentError(f"bars={self.bars!r}: give a tempo too, bpm=...")
        frames = self._frames(ckpt, duration_s, default)
        if not self.loop:
            return Length(frames, ckpt.legal_frames(frames))
        length = loop_length(frames, ckpt.net.config, ckpt.frames)
        if abs(length.cents) > within("max_cents", self.max_cents, 0, 12_000):
            raise ArgumentError(
                f"{ckpt.name} makes loops of this length {length.cents:+.0f} cents off in pitch: take more bars or "
                f"another length, or accept it with max_cents={abs(length.cents) + 1:.0f}."
            )
        return length

    def _frames(self, ckpt: Checkpoint, duration_s: float | None, default: int | None) -> int:
        max_s = MAX_LOOP_S if self.loop else MAX_DURATION_S
        if self.bpm is None:
            return default if duration_s is None and default is not None else frames_of(ckpt, duration_s, max_s)
        if duration_s is not None:
            raise ArgumentError(f"bpm={self.bpm!r} and duration_s={duration_s!r}: give one of them.")
        bars = 1 if self.bars is None else self.bars
        frames = loop_frames(self.bpm, bars, ckpt.sample_rate, self.beats_per_bar)
        if frames > max_s * ckpt.sample_rate:
            raise ArgumentError(f"bars={bars} at bpm={self.bpm} are longer than {max_s:g} s: take fewer.")
        return frames

    def record(self, length: Length) -> dict[str, Any]:
        """Return the fields of ``Making``; those that were not asked for are left out."""
        record: dict[str, Any] = {}
        if self.bpm is not None:
            bars = 1 if self.bars is None else self.bars
            record |= {"bpm": float(self.bpm), "bars": int(bars), "beats_per_bar": int(self.beats_per_bar)}
        if self.loop:
            record |= {"loop": True, "start_on_onset": bool(self.start_on_onset), "cents": round(length.cents, 3)}
        return record


def frames_of(ckpt: Checkpoint, duration_s: float | None, max_s: float = MAX_DURATION_S) -> int:
    """Return the frames of a length in seconds; those in training for None.

    Raises:
        ArgumentError: too short for one frame, or longer than ``max_s``.
    """
    if duration_s is None:
        return ckpt.frames
    if not isinstance(duration_s, Real) or not 1 / ckpt.sample_rate <= duration_s <= max_s:  # NaN too
        raise ArgumentError(
            f"duration_s={duration_s!r}: give seconds above 0 and up to {max_s:g}; "
            f"this network was trained on {ckpt.frames / ckpt.sample_rate:.2f} s."
        )
    return round(duration_s * ckpt.sample_rate)


def loop_length(frames: int, config: Config, trained: int) -> Length:
    """Return how a network makes a loop of ``frames``.

    A loop longer than the sounds in training is made in windows of that length, at exactly its own length. A shorter
    one is made at the legal length that is nearest in pitch, and resampled.

    Args:
        frames: length of the loop.
        config: the network's: ``stride`` and ``min_loop_frames``.
        trained: frames per clip in training.
    """
    if frames > trained:
        return Length(frames, frames, True, config.legal_frames(trained))
    below = max(frames // config.stride * config.stride, config.min_loop_frames)
    made = min((below, below + config.stride), key=lambda legal: abs(math.log(legal / frames)))
    return Length(frames, made, True)
