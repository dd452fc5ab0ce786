"""The one reader of sound files. What a file holds is judged here, and errors name it.

libsndfile reads through a Python file object, so that neither the name of the file nor what lies beside it matters.
What it does not know is decoded by ffmpeg if that is installed. soundfile is imported where it is used: a machine that
only trains can do without.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import AudioError
from .channels import OGG_ORDER
from .quiet import without_chatter
from .views import View, finished, lacks_end

if TYPE_CHECKING:
    import soundfile

RATES_HZ = (1_000, 768_000)
"""Sample rates that a sound may have."""

MAX_CHANNELS = 32
"""Channels that a sound may have."""

LOUDEST = 16.0
"""Magnitude of a sample from which a sound is off scale: +24 dB re full scale."""

MOST_SAMPLES = 1 << 26
"""Samples of all channels of a sound that is read whole: 12 minutes of stereo at 44.1 kHz."""

MOST_S = 25 * 60
"""Seconds of a sound that is read whole, whatever its sample rate: at a low one it grows when it is resampled."""

_BLOCK = 1 << 18  # frames
_INTEGERS = (127, 40_000, 9_000_000, 2.2e9)  # peaks up to which samples may be integers of 8, 16, 24, 32 bits
_NO_SOUND = "possibly a pipe"  # in what libsndfile says of an MP3 file without a whole frame
_KINDS = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))


class SoundReader:
    """An open sound file.

    Attributes:
        name: of the file.
        sample_rate: Hz.
        channels: number of channels.
    """

    def __init__(self, file: soundfile.SoundFile, name: str, view: View | None = None):
        self._file, self.name, self._view = file, name, view
        self.sample_rate: int = file.samplerate
        self.channels: int = file.channels
        if not RATES_HZ[0] <= self.sample_rate <= RATES_HZ[1]:
            raise AudioError(
                f"{name} states a sample rate of {self.sample_rate} Hz, where {RATES_HZ[0]} to {RATES_HZ[1]} is "
                "possible: its header is wrong. Open it in an audio editor, set the rate and save it again."
            )
        if self.channels > MAX_CHANNELS:
            raise AudioError(
                f"{name} states {self.channels} channels, where 1 to {MAX_CHANNELS} are possible. If that is right, "
                "export some of them; if not, its header is wrong: open it in an audio editor and save it again."
            )

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the sound in pieces, float32 (channels, frames).

        Raises:
            AudioError: damaged, not finite, or off scale.
            OSError: the disk fails.
        """
        done = 0
        while (block := self._next(done)).size:
            done += block.shape[1]
            require_finite(block, self.name)
            require_on_scale(block, self.name)
            yield block
        if not done and self._view is not None and lacks_end(self._view):
            raise AudioError(f"{self.name} is cut short: it ends before its sound begins. Copy or export it again.")

    def _next(self, done: int) -> np.ndarray:
        """Return the next piece, (channels, frames); an empty one at the end."""
        import soundfile

        try:
            with without_chatter() if self._file.format == "MP3" else contextlib.nullcontext():
                block = self._file.read(_BLOCK, dtype="float32", always_2d=True).T
            order = OGG_ORDER.get(self.channels) if self._file.format == "OGG" else None
            return block if order is None else block[list(order)]
        except soundfile.LibsndfileError as error:
            raise AudioError(
                f"{self.name} is damaged or cut short after {done / self.sample_rate:.2f} s ({_reason(error)}). "
                "Copy or export it again."
            ) from error
        finally:
            _raise_failure(self._view)

    def read(self) -> np.ndarray:
        """Return the whole sound, float32 (channels, frames).

        Raises:
            AudioError: as for ``blocks``; empty, silent, or longer than ``MOST_SAMPLES`` or ``MOST_S``.
            OSError: the disk fails.
        """
        most = min(MOST_SAMPLES // self.channels, MOST_S * self.sample_rate)
        pieces, frames = [], 0
        for block in self.blocks():
            pieces.append(block)
            frames += block.shape[1]
            if frames > most:
                raise AudioError(
                    f"{self.name} is longer than {most / self.sample_rate / 60:.0f} minutes: cut out the part to use."
                )
        if not pieces:
            raise AudioError(f"{self.name} is empty: it has 0 frames.")
        audio = _join(pieces)
        if not audio.any():
            raise AudioError(f"{self.name} is silent throughout.")
        return audio


def _join(pieces: list[np.ndarray]) -> np.ndarray:
    """Return the pieces, (channels, frames) each, as one; each is dropped when it is copied, to hold the sound once."""
    joined = np.empty((len(pieces[0]), sum(piece.shape[1] for piece in pieces)), np.float32)
    end = joined.shape[1]
    while pieces:
        piece = pieces.pop()
        joined[:, end - piece.shape[1] : end] = piece
        end -= piece.shape[1]
    return joined


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


def require_regular(path: Path) -> None:
    """Check that a path is that of a file: a pipe, or a device, may keep its reader waiting for ever.

    Raises:
        FileNotFoundError: there is nothing.
        AudioError: a folder, a pipe, a socket, a device, or a link that leads nowhere.
        OSError: it cannot be asked.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            raise AudioError(f"{path.name} is a link to {path.readlink()}, which does not exist.") from None
        raise FileNotFoundError(f"There is no sound file at {path}.") from None
    except ValueError:  # a name that no file can have
        raise FileNotFoundError(f"There is no sound file at {path}.") from None
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise AudioError(f"{path.name} is a link that leads back to itself.") from None
    if not stat.S_ISREG(mode):
        kind = next((kind for is_kind, kind in _KINDS if is_kind(mode)), "a device")
        raise AudioError(f"{path.name} is {kind}, not a sound file.")


@contextlib.contextmanager
def open_sound(path: Path) -> Iterator[SoundReader]:
    """Open a sound file: WAV, FLAC, OGG, MP3, AIFF, CAF, AU; other formats through ffmpeg if it is installed.

    A recording that was not finished, whose header states no samples, is read to the end of the file.

    Raises:
        FileNotFoundError: no such file.
        OSError: it cannot be opened.
        AudioError: not a file, not readable as sound, or with an impossible sample rate or number of channels.
    """
    require_regular(path)
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(path.open("rb"))
        if not path.stat().st_size:
            raise AudioError(f"{path.name} is empty.")
        view = finished(file, path.name)
        sound = _open(view, path, stack)
        yield SoundReader(stack.enter_context(sound), path.name, view)


def _open(view: View, path: Path, stack: contextlib.ExitStack) -> soundfile.SoundFile:
    """Open what libsndfile knows, and anything else as ffmpeg decodes it."""
    import soundfile

    may_be_mp3 = view.read(2)[:1] in (b"I", b"\xff")
    view.seek(0)
    try:
        with without_chatter() if may_be_mp3 else contextlib.nullcontext():
            return soundfile.SoundFile(view)
    except soundfile.LibsndfileError as error:
        _raise_failure(view)
        return soundfile.SoundFile(_decode_with_ffmpeg(path, error, stack))


def _raise_failure(view: View | None) -> None:
    """Raise what the disk refused, which libsndfile takes for the end of the file."""
    if view is not None and view.error is not None:
        raise view.error


def _reason(error: soundfile.LibsndfileError) -> str:
    reason = str(error.error_string).rstrip(".")
    return "no whole piece of sound is found" if _NO_SOUND in reason else reason


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
