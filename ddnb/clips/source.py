"""TODO clips/source."""

from __future__ import annotations

import hashlib
import operator
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from ..audio.io import read, resample, to_channels
from ..checkpoints.checkpoint import Checkpoint
from ..checks import within
from ..files import file_sha256
from .clip import Clip, Clips

MAX_CLIPS = 10_000
OWN = "own-sounds"
"""In place of a network's name, of sounds that none has made."""

_MAX_CHANNELS = 32


@dataclass(frozen=True, eq=False)
class Source:
    """A sound that was brought along: ``audio`` float32 (channels, frames), its rate in Hz, and what it is."""

    audio: np.ndarray
    sample_rate: int
    name: str
    record: dict[str, Any]

    @property
    def duration_s(self) -> float:
        return self.audio.shape[-1] / self.sample_rate

    def part(self, offset_s: float) -> Source:
        """The sound from ``offset_s`` on.

        Raises:
            ValueError: it ends before.
        """
        first = round(within("offset_s", offset_s, 0, self.duration_s) * self.sample_rate)
        if not self.audio[:, first:].any():
            raise ValueError(
                f"offset_s={offset_s!r}: there is no sound from there on; {self.name} lasts {self.duration_s:.2f} s."
            )
        return replace(self, audio=self.audio[:, first:])

    def at(self, ckpt: Checkpoint) -> np.ndarray:
        """The sound as a network takes it: at its rate, (rows, channels, frames).

        A mono network makes each channel of a stereo sound by itself; a stereo one has them together.

        Raises:
            ValueError: it is shorter than one frame at that rate.
        """
        audio = resample(self.audio, self.sample_rate, ckpt.sample_rate).astype(np.float32)
        if not audio.size:
            raise ValueError(f"{self.name} is too short: {self.audio.shape[-1]} frames at {self.sample_rate} Hz.")
        return audio[:, None] if ckpt.channels == 1 else to_channels(audio, ckpt.channels)[None]


AnySound = str | Path | Clip | tuple[np.ndarray, int]


def source_of(sound: AnySound, what: str = "audio") -> Source:
    """Take a sound: a path, a clip, or an array and its rate.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not readable, empty, silent, not finite, or not of this shape.
        TypeError: several clips.
    """
    if isinstance(sound, Source):
        return sound
    if isinstance(sound, Clips):
        raise TypeError(f"{what}: give one of the clips, clips[0], not clips.")
    if isinstance(sound, Clip):
        return _source_of_clip(sound, what)
    if isinstance(sound, str | Path):
        path = Path(sound).expanduser()
        if path.is_dir():
            raise ValueError(f"{path.name} is a folder: give a sound file, or use vary_folder.")
        audio, rate = read(path)
        return Source(audio, rate, path.stem, {"name": path.name, "sha256": file_sha256(path)})
    return _source_of_array(sound, what)


def _source_of_clip(clip: Clip, what: str) -> Source:
    require_sound(clip.audio, clip.sample_rate, what)
    settings = clip.settings
    if "source" in settings and "edits" not in settings:  # brought along, as the tracks of a beat keep it
        return Source(clip.audio, clip.sample_rate, settings["source"]["name"], settings["source"])
    if "source" not in settings and "making" not in settings:
        return _source_of_array((clip.audio, clip.sample_rate), what)
    return Source(clip.audio, clip.sample_rate, clip.name, {"name": clip.name, "record": clip.provenance})


def own_clip(sound: AnySound, what: str = "audio") -> Clip:
    """A sound that was brought along as a clip that says where it is from, but not in which folder.

    Raises:
        FileNotFoundError, ValueError: as ``source_of``.
    """
    if isinstance(sound, Clip):
        return sound
    source = source_of(sound, what)
    return Clip(np.array(source.audio), source.sample_rate, 0, {"source": source.record, "model": {"name": OWN}})


def _source_of_array(sound: Any, what: str) -> Source:
    if not (isinstance(sound, tuple) and len(sound) == 2):
        raise ValueError(f"{what}: give a path, a clip, or (array, sample_rate); got {type(sound).__name__}.")
    given = np.atleast_2d(np.asarray(sound[0]))
    if given.dtype.kind != "f":
        raise ValueError(f"{what}: its samples are {given.dtype}; give floating-point numbers within +-1.")
    require_sound(given, sound[1], what)
    audio = np.ascontiguousarray(given, dtype=np.float32)
    return Source(audio, operator.index(sound[1]), what, {"name": what, "sha256": samples_sha256(audio)})


def samples_sha256(audio: np.ndarray) -> str:
    """A hash of float32 samples, by which an array is known where a file is by that of its bytes."""
    return hashlib.sha256(np.ascontiguousarray(audio, dtype=np.float32)).hexdigest()


def require_sound(audio: np.ndarray, sample_rate: int, what: str) -> None:
    """Check that an array is a sound.

    Raises:
        ValueError: another shape, empty, silent, not finite, or a sample rate that is none.
    """
    if audio.ndim != 2 or len(audio) > _MAX_CHANNELS:
        raise ValueError(f"{what}: its sound has the shape {audio.shape}; give (channels, frames).")
    if not np.isfinite(audio).all():
        raise ValueError(f"{what}: its sound holds values that are not numbers (NaN or infinity).")
    if not audio.any():
        raise ValueError(f"{what}: its sound is empty or silent.")
    if not isinstance(sample_rate, Integral) or not 1000 <= sample_rate <= 768_000:
        raise ValueError(f"{what}: its sample rate is {sample_rate!r}; give whole Hz from 1000 to 768000.")
