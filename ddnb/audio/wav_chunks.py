"""WAV chunks that state loop points, tempo and root note for other programs.

They follow the samples, ``smpl`` first: readers that expect the samples at byte 44 find them there, and none meets a
loop before it knows the length of the sound.

Sources of the layout: Multimedia Data Standards Update 3.0 (IBM and Microsoft, 1994) for ``smpl``; ``acid`` was never
published, its fields are those that libsndfile, FL Studio and Sound Forge agree on.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from ..errors import AudioError

ONE_SHOT, ROOT_NOTE, STRETCH = 1, 2, 4
MIDDLE_C = 60
_MOST_RIFF = 2**32 - 1  # bytes


def smpl(frames: int, sample_rate: int) -> bytes:
    """Return the chunk of a sound that is one endless loop as a whole: 8 + 60 bytes.

    The end of the loop is its last frame, ``frames - 1``: with ``frames`` some programs drop the loop, and others play
    one frame beyond it.
    """
    period_ns = round(1e9 / sample_rate)
    head = (0, 0, period_ns, MIDDLE_C, 0, 0, 0, 1, 0)  # maker, product, period, note and fraction, SMPTE, loops, extra
    loop = (0, 0, 0, frames - 1, 0, 0)  # number, forwards, start, end, fraction, for ever
    return _chunk(b"smpl", struct.pack("<15I", *head, *loop))


def acid(bpm: float | None = None, beats: int = 0, beats_per_bar: int = 4, note: int | None = None) -> bytes:
    """Return the chunk that says whether a sound may follow a song's tempo: 8 + 24 bytes.

    Args:
        bpm: tempo of a sound of exact bars, which may be stretched; None for a one-shot, which may not.
        beats: length of a sound of exact bars.
        beats_per_bar: beats per bar, in quarters.
        note: MIDI key of its root note, if known.
    """
    flags = (ONE_SHOT if bpm is None else STRETCH) | (0 if note is None else ROOT_NOTE)
    root = MIDDLE_C if note is None else note
    # the meaning of 0x8000 and of the first float is not known; other programs write the same values
    fields = (flags, root, 0x8000, 0.0, beats, 4, beats_per_bar, bpm or 0.0)
    return _chunk(b"acid", struct.pack("<IHHfIHHf", *fields))


def append_chunks(path: Path, chunks: Sequence[bytes]) -> None:
    """Append chunks to a WAV file that libsndfile has written, and remove the date from it.

    libsndfile writes the time into the PEAK chunk of float files; the same sound must give the same file.

    Raises:
        AudioError: no WAV file, one without samples, or one of more than 4 GiB; it is left as it is.
    """
    with path.open("r+b") as file:
        dates = _find_dates(file, path)
        end = file.seek(0, 2)
        added = bytes(end % 2) + b"".join(chunks)
        if end + len(added) - 8 > _MOST_RIFF:
            raise AudioError(f"{path.name} has {end / 1e9:.1f} GB, and a WAV file has at most 4 GiB.")
        file.write(added)
        for place, content in [(4, struct.pack("<I", end + len(added) - 8)), *((date, bytes(4)) for date in dates)]:
            file.seek(place)
            file.write(content)


def _find_dates(file: IO[bytes], path: Path) -> list[int]:
    """Return the places of the dates in the PEAK chunks before the samples."""
    dates, place, name = [], 12, b""
    head = file.read(12)
    while name != b"data":
        file.seek(place)
        found = file.read(8)
        if head[:4] != b"RIFF" or len(found) < 8:
            raise AudioError(f"{path.name} is not a WAV file with samples: no chunk can be added to it.")
        name, size = struct.unpack("<4sI", found)
        if name == b"PEAK" and size >= 8:
            dates.append(place + 12)
        place += 8 + size + size % 2
    return dates


def _chunk(name: bytes, body: bytes) -> bytes:
    """Return a chunk; a body of odd length is padded with a byte that does not count."""
    return struct.pack("<4sI", name, len(body)) + body + bytes(len(body) % 2)
