"""Sound files and arrays: reading, resampling, lengths, levels, writing. Arrays are float32 (channels, frames) within
+-1.

soundfile and soxr are imported in the functions that use them: a machine that only trains can do without.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import ArgumentError, AudioError
from ..files import atomically, expand
from .channels import to_channels
from .reading import open_sound
from .wav_chunks import append_chunks

SUBTYPES = {"16": "PCM_16", "24": "PCM_24", "float": "FLOAT"}
CEILING_DBFS = -1.0
"""Peak above which a clip is lowered before it is written as integers."""

NO_GAIN_DB = 0.001
"""Gain that counts as none: rounding to 16 bits may raise a peak by so much, and a lowered sound must not be lowered
again.
"""

_BLOCK = 1 << 18  # frames


def read(path: str | Path, sample_rate: int | None = None, channels: int | None = None) -> tuple[np.ndarray, int]:
    """Read a sound file: WAV, FLAC, OGG, MP3, AIFF; other formats through ffmpeg if it is installed.

    Args:
        path: the file.
        sample_rate: rate to resample to, Hz; None keeps the file's own.
        channels: number of channels to convert to; None keeps the file's own.

    Returns:
        ``(audio, sample_rate)``, audio float32 (channels, frames).

    Raises:
        FileNotFoundError: no such file.
        AudioError: not readable as sound, empty, silent, not finite, off scale or too long; the message says which.
    """
    path = expand(path)
    with open_sound(path) as file:
        audio, rate = file.read(), file.sample_rate
    if sample_rate is not None:
        audio, rate = resample(audio, rate, sample_rate), sample_rate
    if channels is not None:
        audio = to_channels(audio, channels)
    return np.ascontiguousarray(audio), rate


def resample(audio: np.ndarray, rate_in: int, rate_out: int) -> np.ndarray:
    """Resample with soxr's high-quality filter; (C, T) -> (C, about T rate_out / rate_in)."""
    if rate_in == rate_out:
        return audio
    import soxr

    return soxr.resample(audio.T, rate_in, rate_out, "HQ").T


def fit_length(audio: np.ndarray, frames: int, offset: int = 0) -> np.ndarray:
    """Cut ``frames`` frames from ``offset`` on; a shorter sound is padded with silence, one of that length returned.

    Raises:
        AudioError: an offset outside the sound.
    """
    if not 0 <= offset < audio.shape[-1]:
        raise AudioError(f"offset={offset}: the sound has frames 0 to {audio.shape[-1] - 1}.")
    if frames == audio.shape[-1] and not offset:
        return audio
    cut = audio[..., offset : offset + frames]
    return np.pad(cut, [(0, 0)] * (cut.ndim - 1) + [(0, frames - cut.shape[-1])])


def stretch(audio: np.ndarray, first: int, frames: int) -> np.ndarray:
    """Return ``frames`` frames from ``first`` on, (C, frames); what lies outside the sound is silent."""
    inside = audio[:, max(0, first) : max(0, first + frames)]
    before = min(frames, max(0, -first))
    return np.pad(inside, ((0, 0), (before, frames - before - inside.shape[1])))


def peak(audio: np.ndarray) -> float:
    """Return the largest magnitude, without a copy of the sound."""
    return max(float(audio.max(initial=0.0)), -float(audio.min(initial=0.0)))


def peak_dbfs(audio: np.ndarray) -> float:
    """Return the largest magnitude in dB re full scale; minus infinity for silence."""
    highest = peak(audio)
    return 20 * math.log10(highest) if highest else -math.inf


def amplify(audio: np.ndarray, gain_db: float) -> np.ndarray:
    """Return a sound with a gain in dB; for 0 dB the same array."""
    return audio * 10 ** (gain_db / 20) if gain_db else audio


def quantise(audio: np.ndarray, bits: str) -> np.ndarray:
    """Return a sound, (C, T), as it is after writing and reading it with so many bits, a key of ``SUBTYPES``."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, audio.T, 44_100, SUBTYPES[bits], format="WAV")
    file.seek(0)
    return np.ascontiguousarray(soundfile.read(file, dtype="float32", always_2d=True)[0].T)


def write_wav(path: Path, audio: np.ndarray, sample_rate: int, bits: str = "24", chunks: Sequence[bytes] = ()) -> float:
    """Write a WAV file, atomically; a clip over full scale is lowered if it is written as integers.

    Args:
        path: the file to write; it must not exist.
        audio: float32 (channels, frames).
        sample_rate: Hz.
        bits: ``"16"``, ``"24"`` or ``"float"``.
        chunks: chunks to append after the samples, see ``wav_chunks``.

    Returns:
        The gain applied, dB: 0, or less where an integer clip's peak was above ``CEILING_DBFS``.

    Raises:
        FileExistsError: the file exists already.
        OSError: no space, or no permission.
        ArgumentError: unknown ``bits``.
        AudioError: audio that is empty or not finite (NaN would become a click).
    """
    import soundfile

    if bits not in SUBTYPES:
        raise ArgumentError(f"bits={bits!r}: known are {', '.join(SUBTYPES)}.")
    if path.exists():
        raise FileExistsError(f"{path} exists already; nothing was written.")
    if not audio.size or not np.isfinite(audio).all():
        raise AudioError(f"{path.name} was not written: the audio is {'not finite' if audio.size else 'empty'}.")
    over_db = peak_dbfs(audio) - CEILING_DBFS
    gain_db = 0.0 if bits == "float" or over_db <= NO_GAIN_DB else -over_db

    def write(part: Path) -> None:
        with soundfile.SoundFile(part, "w", sample_rate, len(audio), SUBTYPES[bits], format="WAV") as file:
            for first in range(0, audio.shape[1], _BLOCK):
                file.write(amplify(audio[:, first : first + _BLOCK], gain_db).T)
        append_chunks(part, chunks)

    try:
        atomically(path, write)
    except soundfile.LibsndfileError as error:
        raise OSError(f"{path} could not be written: {error}") from error
    return gain_db
