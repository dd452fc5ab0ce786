"""The one reader of sound files. What a file holds is judged here, and errors name it.

libsndfile reads through a Python file object, so that neither the name of the file nor what lies beside it matters.
What it does not know is decoded by ffmpeg if that is installed. soundfile is imported where it is used: a machine that
only trains can do without.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ..errors import AudioError

if TYPE_CHECKING:
    import soundfile

RATES_HZ = (1_000, 768_000)
"""Sample rates that a sound may have."""

LOUDEST = 16.0
"""Magnitude of a sample from which a sound is off scale: +24 dB re full scale."""

MOST_SAMPLES = 1 << 26
"""Samples of all channels of a sound that is read whole: 12 minutes of stereo at 44.1 kHz."""

_BLOCK = 1 << 18  # frames
_INTEGERS = (127, 40_000, 9_000_000, 2.2e9)  # peaks up to which samples may be integers of 8, 16, 24, 32 bits
_UNKNOWN_SIZE = 0xFFFFFFFF


class SoundReader:
    """An open sound file.

    Attributes:
        name: of the file.
        sample_rate: Hz.
        channels: number of channels.
    """

    def __init__(self, file: soundfile.SoundFile, name: str):
        self._file, self.name = file, name
        self.sample_rate: int = file.samplerate
        self.channels: int = file.channels
        if not RATES_HZ[0] <= self.sample_rate <= RATES_HZ[1]:
            raise AudioError(
                f"{name} states a sample rate of {self.sample_rate} Hz, where {RATES_HZ[0]} to {RATES_HZ[1]} is "
                "possible: its header is wrong. Open it in an audio editor, set the rate and save it again."
            )

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the sound in pieces, float32 (channels, frames).

        Raises:
            AudioError: damaged, not finite, or off scale.
        """
        import soundfile

        done = 0
        while True:
            try:
                block = self._file.read(_BLOCK, dtype="float32", always_2d=True).T
            except soundfile.LibsndfileError as error:
                raise AudioError(
                    f"{self.name} is damaged or cut short after {done / self.sample_rate:.2f} s ({_reason(error)}). "
                    "Copy or export it again."
                ) from error
            if not block.size:
                return
            done += block.shape[1]
            require_finite(block, self.name)
            require_on_scale(block, self.name)
            yield block

    def read(self) -> np.ndarray:
        """Return the whole sound, float32 (channels, frames).

        Raises:
            AudioError: as for ``blocks``; empty, silent, or longer than ``MOST_SAMPLES``.
        """
        pieces, samples = [], 0
        for block in self.blocks():
            pieces.append(block)
            samples += block.size
            if samples > MOST_SAMPLES:
                minutes = MOST_SAMPLES / self.channels / self.sample_rate / 60
                raise AudioError(f"{self.name} is longer than {minutes:.0f} minutes: cut out the part to use.")
        if not pieces:
            raise AudioError(f"{self.name} is empty: it has 0 frames.")
        audio = np.concatenate(pieces, axis=1)
        if not audio.any():
            raise AudioError(f"{self.name} is silent throughout.")
        return audio


def require_finite(audio: np.ndarray, name: str) -> None:
    """Raise AudioError for samples that are not numbers."""
    if not np.isfinite(audio).all():
        raise AudioError(f"{name} holds values that are not numbers (NaN or infinity); export it again.")


def require_on_scale(audio: np.ndarray, name: str) -> None:
    """Raise AudioError for samples of +24 dB re full scale and more, and say what they may be."""
    loud = np.abs(audio)
    if (peak := float(loud.max(initial=0.0))) < LOUDEST:
        return
    outside = int((loud >= LOUDEST).sum())
    bits = next((8 * (i + 1) for i, most in enumerate(_INTEGERS) if peak <= most), None)
    if bits is not None and outside > audio.size // 100:
        why = f"its samples look like integers of {bits} bits: divide them by {2 ** (bits - 1)}"
    else:
        why = f"{outside} of {audio.size} samples are out of range: export it again"
    raise AudioError(f"{name} is off scale, with a peak of {peak:.3g} where full scale is 1; {why}.")


@contextlib.contextmanager
def open_sound(path: Path) -> Iterator[SoundReader]:
    """Open a sound file: WAV, FLAC, OGG, MP3, AIFF, CAF, AU; other formats through ffmpeg if it is installed.

    A recording that was not finished, whose header states no samples, is read to the end of the file.

    Raises:
        FileNotFoundError: no such file.
        OSError: it cannot be opened.
        AudioError: not readable as sound, or with an impossible sample rate.
    """
    import soundfile

    if not path.is_file():
        raise FileNotFoundError(f"There is no sound file at {path}.")
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(path.open("rb"))
        if not path.stat().st_size:
            raise AudioError(f"{path.name} is empty.")
        try:
            sound = soundfile.SoundFile(_finished(file))
        except soundfile.LibsndfileError as error:
            sound = soundfile.SoundFile(_decode_with_ffmpeg(path, error, stack))
        yield SoundReader(stack.enter_context(sound), path.name)


def _reason(error: soundfile.LibsndfileError) -> str:
    return str(error.error_string).rstrip(".")


def _decode_with_ffmpeg(path: Path, error: soundfile.LibsndfileError, stack: contextlib.ExitStack) -> Path:
    if (ffmpeg := shutil.which("ffmpeg")) is None:
        raise AudioError(
            f"{path.name} cannot be read as sound ({_reason(error)}). If it plays elsewhere, convert it to WAV or "
            "FLAC, or install ffmpeg."
        ) from error
    wav = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "decoded.wav"
    source = f"file:{path.absolute()}"  # a name may look like an address
    command = [ffmpeg, "-nostdin", "-v", "error", "-i", source, "-map", "0:a:0", "-c:a", "pcm_f32le", str(wav)]
    run = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if run.returncode:
        reason = _ffmpeg_reason(run.stderr, path, wav)
        raise AudioError(f"{path.name} cannot be read as sound, not even by ffmpeg: {reason}") from error
    return wav


def _ffmpeg_reason(stderr: str, path: Path, wav: Path) -> str:
    """Return the last line of ffmpeg's output, without the paths that some versions put into it."""
    lines = [line.strip() for line in stderr.splitlines()]
    for place in (f"file:{path.absolute()}", str(path.absolute()), str(wav)):
        lines = [line.replace(f"{place}: ", "").replace(place, Path(place).name) for line in lines]
    return next((line for line in reversed(lines) if line), "no reason given")


# --- recordings that were not finished ---


def _finished(file: BinaryIO) -> Any:
    """Return a file whose header states the size of its samples; the same object where it does already."""
    start = _after_tag(file)
    view: BinaryIO | _View = _View(file, start, {}) if start else file
    size = view.seek(0, io.SEEK_END)
    view.seek(0)
    head = view.read(12)
    patches: dict[int, bytes] = {}
    if head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        patches = _wav_sizes(view, size)
    elif head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        patches = _aiff_sizes(view, size)
    elif start and head[:4] != b"fLaC":  # an MP3 file: its decoder knows the tag
        view = file
    view.seek(0)
    return _View(file, start, patches) if patches else view


def _after_tag(file: BinaryIO) -> int:
    """Return the length of an ID3 tag before the sound; libsndfile loses the end of a WAV file behind one."""
    file.seek(0)
    head = file.read(10)
    file.seek(0)
    if len(head) < 10 or head[:3] != b"ID3":
        return 0
    size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    return 10 + size + (10 if head[5] & 0x10 else 0)


def _chunks(file: BinaryIO | _View, size: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, place of the content and stated size of the chunks of a RIFF or an AIFF file."""
    place = 12
    while place + 8 <= size:
        file.seek(place)
        name, length = struct.unpack(f"{order}4sI", file.read(8))
        yield name, place + 8, length
        place += 8 + length + length % 2


def _wav_sizes(file: BinaryIO | _View, size: int) -> dict[int, bytes]:
    long = None  # place of the size of the samples in the ds64 chunk of a long file
    for name, place, length in _chunks(file, size, "<"):
        if name == b"ds64":
            long = place + 8
        elif name == b"data":
            if long is not None and length == _UNKNOWN_SIZE:
                file.seek(long)
                return {} if file.read(8) != bytes(8) else {long: struct.pack("<Q", size - place)}
            if length == 0 and size > place:
                whole = struct.pack("<I", min(size - place, _UNKNOWN_SIZE - 1))
                return {4: struct.pack("<I", min(size - 8, _UNKNOWN_SIZE - 1)), place - 4: whole}
            return {}
    return {}


def _aiff_sizes(file: BinaryIO | _View, size: int) -> dict[int, bytes]:
    frames_at, frame = None, 0
    for name, place, length in _chunks(file, size, ">"):
        if name == b"COMM":
            file.seek(place)
            if len(common := file.read(8)) < 8:
                return {}
            channels, frames, bits = struct.unpack(">HIH", common)
            frames_at, frame = (place + 2 if not frames else None), channels * ((bits + 7) // 8)
        elif name == b"SSND":
            if frames_at is None or not frame or length > 8 or size <= place + 8:
                return {}
            frames = (size - place - 8) // frame
            sizes = {4: size - 8, place - 4: 8 + frames * frame, frames_at: frames}
            return {at: struct.pack(">I", value) for at, value in sizes.items()}
    return {}


class _View:
    """A file from a place on, some bytes of which, counted from there, read as others."""

    def __init__(self, file: BinaryIO, start: int, patches: dict[int, bytes]):
        self._file, self._start, self._patches = file, start, patches
        self.seek(0)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        if whence == io.SEEK_SET:
            offset += self._start
        return self._file.seek(offset, whence) - self._start

    def tell(self) -> int:
        """Return the present place."""
        return self._file.tell() - self._start

    def read(self, size: int) -> bytes:
        """Read at the present place."""
        here = self.tell()
        read = bytearray(self._file.read(size))
        for place, value in self._patches.items():
            for i, byte in enumerate(value, place - here):
                if 0 <= i < len(read):
                    read[i] = byte
        return bytes(read)
