"""Input audio: a path, a clip, or an array becomes a ``Clip`` that knows where it is from, but not in which folder."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from ..audio.channels import to_channels
from ..audio.io import SUBTYPES, read, resample
from ..audio.reading import MAX_CHANNELS, RATES_HZ
from ..checkpoints.checkpoint import Checkpoint
from ..checks import within
from ..errors import ArgumentError, AudioError
from ..files import expand, file_sha256
from ..notices import warn
from .clip import Clip, Clips
from .provenance import InputRecord, ModelRecord, Provenance, in_file
from .record import SoundRecord, read_record, records_of

OWN = "own-sounds"
"""Stands in place of a network's name for sounds that no network has made."""

AnySound = str | Path | Clip | tuple[np.ndarray, int]

_FOLDERS_UP = 3  # from a sound of an unpacked pack to its manifest


def input_clip(sound: AnySound, what: str = "audio") -> Clip:
    """Return input audio as a clip; a path as ``read_clip`` does, so that its record counts in every verb.

    Args:
        sound: a path, a clip, or (array of (channels, frames), sample rate).
        what: the name of the argument, for messages.

    Raises:
        FileNotFoundError: no such file.
        AudioError: not readable, empty, silent, not finite, or not of this shape.
        ArgumentError: a folder, or something else that is no sound.
        TypeError: several clips.
    """
    if isinstance(sound, Clips):
        raise TypeError(f"{what}: give one of the clips, clips[0], not all of them.")
    if isinstance(sound, Clip):
        require_sound(sound.audio, sound.sample_rate, what)
        return sound
    if isinstance(sound, str | Path):
        return read_clip(sound)
    if not (isinstance(sound, tuple) and len(sound) == 2):
        raise ArgumentError(f"{what}: give a path, a clip, or (array, sample_rate); got {type(sound).__name__}.")
    given = np.atleast_2d(np.asarray(sound[0]))
    if given.dtype.kind != "f":
        raise AudioError(f"{what}: its samples are {given.dtype}; give floating-point numbers within +-1.")
    require_sound(given, sound[1], what)
    audio = np.array(given, dtype=np.float32, order="C")
    return _own_clip(audio, operator.index(sound[1]), InputRecord(what, samples_sha256(audio)))


def bare_clip(path: str | Path) -> Clip:
    """Return a sound file as input audio that is known by its SHA-256 alone, whatever record lies beside it.

    Raises:
        FileNotFoundError: no such file.
        AudioError: not readable, empty, silent, or not finite.
        ArgumentError: a folder.
    """
    path = expand(path)
    if path.is_dir():
        raise ArgumentError(f"{path.name} is a folder: give a sound file; vary_folder takes a folder.")
    audio, rate = read(path)
    return _own_clip(audio, rate, InputRecord(path.name, file_sha256(path)))


def _own_clip(audio: np.ndarray, sample_rate: int, source: InputRecord) -> Clip:
    return Clip(audio, sample_rate, 0, Provenance(source=source, model=ModelRecord(OWN)))


def require_sound(audio: np.ndarray, sample_rate: int, what: str) -> None:
    """Check that an array is a sound.

    Raises:
        AudioError: another shape, empty, silent, not finite, or an impossible sample rate.
    """
    if audio.ndim != 2 or len(audio) > MAX_CHANNELS:
        wanted = f"(channels, frames), with {MAX_CHANNELS} channels at most"
        raise AudioError(f"{what}: its audio has the shape {audio.shape}; give {wanted}.")
    if not np.isfinite(audio).all():
        raise AudioError(f"{what}: its audio holds values that are not numbers (NaN or infinity).")
    if not audio.any():
        raise AudioError(f"{what}: its audio is empty or silent.")
    low, high = RATES_HZ
    if not isinstance(sample_rate, Integral) or not low <= sample_rate <= high:
        raise AudioError(f"{what}: its sample rate is {sample_rate!r}; give whole Hz from {low} to {high}.")


def samples_sha256(audio: np.ndarray) -> str:
    """Return a hash of float32 samples, by which an array is identified where a file is by that of its bytes."""
    digest = hashlib.sha256()
    for channel in np.atleast_2d(audio):  # one at a time: a copy of a long sound is large
        digest.update(np.ascontiguousarray(channel, dtype=np.float32).data)
    return digest.hexdigest()


def input_record(clip: Clip) -> InputRecord:
    """Return what the record of another sound says about this input."""
    source, edited = clip.provenance.source, bool(clip.provenance.edits)
    if source is not None and not edited:
        return source
    if source is None and clip.provenance.making is None:
        return InputRecord("audio", samples_sha256(clip.audio))
    return InputRecord(clip.name, provenance=clip.reproducible())


def input_name(clip: Clip) -> str:
    """Return the name of a clip for messages: of input audio that of its file."""
    source = clip.provenance.source
    return source.name if source is not None and source.name else clip.name


def from_offset(clip: Clip, offset_s: float) -> Clip:
    """Return the part of a clip that begins ``offset_s`` seconds after its beginning.

    Raises:
        ArgumentError: it ends, or is silent, from there on.
    """
    first = round(within("offset_s", offset_s, 0, clip.duration_s) * clip.sample_rate)
    if not clip.audio[:, first:].any():
        raise ArgumentError(
            f"offset_s={offset_s!r}: {input_name(clip)} is silent from there on; it lasts {clip.duration_s:.2f} s."
        )
    return replace(clip, audio=clip.audio[:, first:])


def network_input(clip: Clip, ckpt: Checkpoint) -> np.ndarray:
    """Return a clip at the network's rate, float32 (rows, channels, frames).

    A mono network takes the channels of a stereo clip as rows, a stereo network as channels.

    Raises:
        AudioError: it is shorter than one frame at that rate.
    """
    audio = resample(clip.audio, clip.sample_rate, ckpt.sample_rate).astype(np.float32)
    if not audio.size:
        raise AudioError(f"{input_name(clip)} is too short: {clip.audio.shape[-1]} frames at {clip.sample_rate} Hz.")
    return audio[:, None] if ckpt.channels == 1 else to_channels(audio, ckpt.channels)[None]


def read_clip(path: str | Path) -> Clip:
    """Open a saved sound with its provenance.

    The record is the JSON file beside it, or the manifest of the unpacked pack that it lies in, provided that the file
    is still the one that was written; then ``remake`` gives these very samples, with the gain and the rounding of the
    file. Any other sound file is input audio; with a warning, if its record is there but damaged.

    Args:
        path: the sound file.

    Returns:
        The clip, which can be varied, packed and saved like any other.

    Raises:
        FileNotFoundError: no such file.
        AudioError: not readable, empty, silent, or not finite.
        ArgumentError: a folder.
    """
    path = expand(path)
    clip = bare_clip(path)
    assert clip.provenance.source is not None
    record = _find_record(path, clip.provenance.source.sha256)
    if record is None or record.file.bits not in SUBTYPES:
        return clip
    bits, gain_db = record.file.bits, record.level.gain_db
    edit: Mapping[str, Any] = ({"gain_db": gain_db} if gain_db else {}) | ({"bits": bits} if bits != "float" else {})
    provenance = record.provenance
    seed = provenance.making.seed if provenance.making and provenance.making.seed else 0
    making = provenance.making and replace(provenance.making, seed=None)
    edits = (*provenance.edits, edit) if edit else provenance.edits
    return Clip(clip.audio, clip.sample_rate, seed, replace(provenance, making=making, edits=edits))


def _find_record(path: Path, sha256: str | None) -> SoundRecord | None:
    """Return the record of a sound file, from beside it or from the manifest of its pack; None if there is none."""
    folders = path.absolute().parents[:_FOLDERS_UP]
    for place in (path.with_suffix(".json"), *(folder / "manifest.json" for folder in folders)):
        try:
            state = place.stat()
            if record := _records_by_sha256(place, state.st_size, state.st_mtime_ns).get(sha256):
                return record
        except (OSError, ValueError) as error:  # none, or one of something else
            if _is_of(place, sha256):
                warn(f"{error} So {path.name} counts as a sound without a record.", stacklevel=4)
    return None


def _is_of(place: Path, sha256: str | None) -> bool:
    """Return whether a damaged JSON file beside a sound is meant to be its record."""
    try:
        content = read_record(place)
    except (OSError, ValueError):
        return False
    file = content.get("file") if isinstance(content, Mapping) else None
    return isinstance(file, Mapping) and sha256 is not None and file.get("sha256") == sha256


@lru_cache(maxsize=1)  # a thousand sounds of one pack share a manifest
def _records_by_sha256(path: Path, _size: int, _mtime_ns: int) -> dict[str | None, SoundRecord]:
    with in_file(path.name):
        records = records_of(read_record(path))
    return {record.file.sha256: record for record in records if record.file.sha256 is not None}
