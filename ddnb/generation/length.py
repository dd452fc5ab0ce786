"""TODO generation/length."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

from ..audio.loop import MAX_CENTS, loop_frames
from ..checkpoints.checkpoint import Checkpoint
from ..checks import within

MAX_DURATION_S = 60.0
"""A minute of the published network at 48 kHz wants some 13 GB in float32: 0.29 GB per 65,536 frames (bench)."""

MAX_LOOP_S = 600.0
"""Long loops are made in windows, whose memory does not grow with the length."""


def frames_of(ckpt: Checkpoint, duration_s: float | None, most_s: float = MAX_DURATION_S) -> int:
    """Return the frames of a length in seconds; those in training for none.

    Raises:
        ValueError: too short for one frame, or longer than ``most_s``.
    """
    if duration_s is None:
        return ckpt.frames
    if not isinstance(duration_s, Real) or not 1 / ckpt.sample_rate <= duration_s <= most_s:  # NaN too
        raise ValueError(
            f"duration_s={duration_s!r}: give seconds above 0 and up to {most_s:g}; "
            f"this network was trained on {ckpt.frames / ckpt.sample_rate:.2f} s."
        )
    return round(duration_s * ckpt.sample_rate)


@dataclass(frozen=True)
class Tempo:
    """What a loop is to be: in a circle or not, and how many bars at which tempo.

    Attributes:
        loop: whether its end leads into its beginning.
        bpm: beats per minute; none leaves the length to ``duration_s``.
        bars: whole bars; 1 by default.
        beats_per_bar: 4 by default.
        max_cents: pitch shift that is accepted where the network cannot make the length of a loop.
        start_on_onset: whether a loop is turned so that it begins on its strongest onset.
    """

    loop: bool = False
    bpm: float | None = None
    bars: int | None = None
    beats_per_bar: int = 4
    max_cents: float = MAX_CENTS
    start_on_onset: bool = False

    def length(self, ckpt: Checkpoint, duration_s: float | None, default: int | None = None) -> Length:
        """Return how long the sound is to be.

        Raises:
            ValueError: numbers out of range or at odds, or a pitch shift above ``max_cents``.
        """
        if self.start_on_onset and not self.loop:
            raise ValueError("start_on_onset=True turns a loop: add loop=True.")
        if self.bpm is None and self.bars is not None:
            raise ValueError(f"bars={self.bars!r}: give a tempo too, bpm=...")
        most_s = MAX_LOOP_S if self.loop else MAX_DURATION_S
        if self.bpm is not None:
            if duration_s is not None:
                raise ValueError(f"bpm={self.bpm!r} and duration_s={duration_s!r}: give one of them.")
            bars = 1 if self.bars is None else self.bars
            frames = loop_frames(self.bpm, bars, ckpt.sample_rate, self.beats_per_bar)
            if frames > most_s * ckpt.sample_rate:
                raise ValueError(f"bars={bars} at bpm={self.bpm} are longer than {most_s:g} s: take fewer.")
        else:
            asked = duration_s is not None or default is None
            frames = frames_of(ckpt, duration_s, most_s) if asked else default
        if not self.loop:
            return Length(frames, ckpt.legal_frames(frames))
        length = loop_length(frames, ckpt.net.config, ckpt.frames)
        if abs(length.cents) > within("max_cents", self.max_cents, 0, 12_000):
            raise ValueError(
                f"{ckpt.name} makes loops of this length {length.cents:+.0f} cents off in pitch: take more bars or "
                f"another length, or accept it with max_cents={abs(length.cents) + 1:.0f}."
            )
        return length

    def record(self, length: Length) -> dict[str, Any]:
        """What the record of a sound says about it: nothing where nothing was asked for."""
        record: dict[str, Any] = {}
        if self.bpm is not None:
            bars = 1 if self.bars is None else self.bars
            record |= {"bpm": float(self.bpm), "bars": int(bars), "beats_per_bar": int(self.beats_per_bar)}
        if self.loop:
            record |= {"loop": True, "start_on_onset": bool(self.start_on_onset), "cents": round(length.cents, 3)}
        return record


@dataclass(frozen=True)
class Length:
    """How long a sound is, and how long the network makes it.

    Attributes:
        frames: of the sound.
        made: of what the network makes of it, a length that it can make.
        loop: whether the end is followed by the beginning.
        window: length of the overlapping pieces in which it is made; none makes it in one piece.
    """

    frames: int
    made: int
    loop: bool = False
    window: int | None = None

    @property
    def cents(self) -> float:
        """Pitch shift of a loop that is made longer (above 0) or shorter than it is, in hundredths of a semitone."""
        return 1200 * math.log2(self.made / self.frames) if self.loop else 0.0


def loop_length(frames: int, config, trained: int) -> Length:
    """Return how a network makes a loop of ``frames``.

    A loop that is longer than the sounds in training is made in windows of that length, which lie anywhere: it comes
    out exactly as long as it should. A shorter one is made at the legal length that is nearest in pitch, and resampled.

    Args:
        frames: of the loop.
        config: of the network: ``stride`` and ``min_loop_frames``.
        trained: frames per clip in training.
    """
    if frames > trained:
        return Length(frames, frames, True, config.legal_frames(trained))
    below = max(frames // config.stride * config.stride, config.min_loop_frames)
    made = min((below, below + config.stride), key=lambda legal: abs(math.log(legal / frames)))
    return Length(frames, made, True)
