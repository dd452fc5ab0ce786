"""Sound files and arrays: read, resample, fit, measure, write. Arrays are float32 (channels, frames) within +-1.

soundfile and soxr are imported where they are used: a machine that only trains can do without.
"""

from __future__ import annotations

import contextlib
import io
import math
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..files import atomically
from .wav_chunks import complete

if TYPE_CHECKING:
    import soundfile


SUBTYPES = {"16": "PCM_16", "24": "PCM_24", "float": "FLOAT"}
CEILING_DBFS = -1.0
"""Peak above which a clip is lowered before it is written as integers; below it is left as it is."""

NO_GAIN_DB = 0.001
"""What 16 bits may add to a peak: a gain below it is none, or a sound that was lowered once would be so again."""


def read(path: str | Path, sample_rate: int | None = None, channels: int | None = None) -> tuple[np.ndarray, int]:
    """Read a sound file: WAV, FLAC, OGG, MP3, AIFF; anything else through ffmpeg where it is installed.

    Args:
        path: the file.
        sample_rate: rate to resample to, Hz; none keeps the file's own.
        channels: number of channels to convert to; none keeps the file's own.

    Returns:
        ``(audio, sample_rate)``, audio float32 (channels, frames).

    Raises:
        FileNotFoundError: no such file.
        ValueError: not readable as sound, empty, silent, or not finite; the message says which.
    """
    path = Path(path).expanduser()
    with opened(path) as file:
        audio, rate = _checked(file.read(dtype="float32", always_2d=True).T, path.name), file.samplerate
    if sample_rate is not None:
        audio, rate = resample(audio, rate, sample_rate), sample_rate
    if channels is not None:
        audio = to_channels(audio, channels)
    return np.ascontiguousarray(audio), rate


@contextlib.contextmanager
def opened(path: Path) -> Iterator[soundfile.SoundFile]:
    """Open a sound file for reading in pieces; what libsndfile does not know, ffmpeg decodes where it is installed.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not readable as sound.
    """
    import soundfile

    if not path.is_file():
        raise FileNotFoundError(f"No sound file at {path}.")
    with contextlib.ExitStack() as stack:
        try:
            file = soundfile.SoundFile(path)
        except soundfile.LibsndfileError as error:
            file = soundfile.SoundFile(_decode_with_ffmpeg(path, error, stack))
        yield stack.enter_context(file)


def _decode_with_ffmpeg(path: Path, error: Exception, stack: contextlib.ExitStack) -> Path:
    if not path.stat().st_size:
        raise ValueError(f"{path.name} is empty.") from error
    if (ffmpeg := shutil.which("ffmpeg")) is None:
        why = str(error).rpartition(": ")[2].rstrip(".")
        raise ValueError(
            f"{path.name} cannot be read as sound ({why}). If it plays elsewhere, convert it to WAV or FLAC, "
            "or install ffmpeg."
        ) from error
    wav = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "decoded.wav"
    command = [ffmpeg, "-nostdin", "-v", "error", "-i", str(path), "-map", "0:a:0", "-c:a", "pcm_f32le", str(wav)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        reason = (run.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ValueError(f"{path.name} cannot be read as sound, not even by ffmpeg: {reason}") from error
    return wav


def _checked(audio: np.ndarray, name: str) -> np.ndarray:
    if not audio.size:
        raise ValueError(f"{name} holds no sound: it has 0 frames.")
    if not np.isfinite(audio).all():
        raise ValueError(f"{name} holds values that are not numbers (NaN or infinity); export it again.")
    if not audio.any():
        raise ValueError(f"{name} is silent throughout.")
    return audio


def resample(audio: np.ndarray, rate_in: int, rate_out: int) -> np.ndarray:
    """Change the sample rate with soxr's high-quality filter; (C, T) -> (C, about T rate_out / rate_in)."""
    if rate_in == rate_out:
        return audio
    import soxr

    return soxr.resample(audio.T, rate_in, rate_out, "HQ").T


def to_channels(audio: np.ndarray, channels: int) -> np.ndarray:
    """Give ``audio`` this many channels: kept if it has them, else the mean of its channels in each."""
    if len(audio) == channels:
        return audio
    return np.repeat(audio.mean(axis=0, keepdims=True), channels, axis=0)


def fit_length(audio: np.ndarray, frames: int, offset: int = 0) -> np.ndarray:
    """Cut ``frames`` frames from ``offset`` on; what the sound lacks at its end is silence.

    Raises:
        ValueError: an offset outside the sound.
    """
    if not 0 <= offset < audio.shape[-1]:
        raise ValueError(f"offset={offset}: the sound has frames 0 to {audio.shape[-1] - 1}.")
    cut = audio[..., offset : offset + frames]
    return np.pad(cut, [(0, 0)] * (cut.ndim - 1) + [(0, frames - cut.shape[-1])])


def peak_dbfs(audio: np.ndarray) -> float:
    """Largest magnitude in dB re full scale; minus infinity for silence."""
    peak = float(np.abs(audio).max(initial=0.0))
    return 20 * math.log10(peak) if peak else -math.inf


def amplified(audio: np.ndarray, gain_db: float) -> np.ndarray:
    """A sound louder by so many dB; by 0 the same array."""
    return audio * 10 ** (gain_db / 20) if gain_db else audio


def quantised(audio: np.ndarray, bits: str) -> np.ndarray:
    """What comes back of a sound, (C, T), that is written with so many bits, a key of ``SUBTYPES``."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, audio.T, 44_100, SUBTYPES[bits], format="WAV")
    file.seek(0)
    return np.ascontiguousarray(soundfile.read(file, dtype="float32", always_2d=True)[0].T)


def write_wav(path: Path, audio: np.ndarray, sample_rate: int, bits: str = "24", chunks: Sequence[bytes] = ()) -> float:
    """Write a WAV file, atomically. Integers cannot hold what is over full scale, so such a clip is lowered.

    Args:
        path: the file to write; an existing one is refused.
        audio: float32 (channels, frames).
        sample_rate: Hz.
        bits: ``"16"``, ``"24"`` or ``"float"``.
        chunks: what stands after the samples, see ``chunks``.

    Returns:
        The gain applied, dB: 0, or less where an integer clip's peak was above ``CEILING_DBFS``.

    Raises:
        FileExistsError: there is a file already.
        OSError: no space, or no permission.
        ValueError: unknown ``bits``, or audio that is empty or not finite (a writer would turn NaN into a click).
    """
    import soundfile

    if bits not in SUBTYPES:
        raise ValueError(f"bits={bits!r}: known are {', '.join(SUBTYPES)}.")
    if path.exists():
        raise FileExistsError(f"{path} exists already; nothing was written.")
    if not audio.size or not np.isfinite(audio).all():
        raise ValueError(f"{path.name} was not written: the audio is {'not finite' if audio.size else 'empty'}.")
    over_db = peak_dbfs(audio) - CEILING_DBFS
    gain_db = 0.0 if bits == "float" or over_db <= NO_GAIN_DB else -over_db
    scaled = amplified(audio, gain_db).T

    def write(part: Path) -> None:
        soundfile.write(part, scaled, sample_rate, SUBTYPES[bits], format="WAV")
        complete(part, chunks)

    try:
        atomically(path, write)
    except soundfile.LibsndfileError as error:
        raise OSError(f"{path} could not be written: {error}") from error
    return gain_db


SUFFIXES = {".wav", ".wave", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64"}
SUFFIXES |= {".m4a", ".aac", ".mp4", ".wma", ".webm"}  # these through ffmpeg


def sound_files(folder: str | Path) -> list[Path]:
    """Return the sound files of a folder and of its folders, by name.

    Raises:
        FileNotFoundError: no such folder, or no sound in it.
    """
    folder = Path(folder).expanduser()
    found = sorted(
        p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file() and not p.name.startswith(".")
    )
    if not found:
        raise FileNotFoundError(f"No sound files in {folder}.")
    return found
