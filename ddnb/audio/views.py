"""Files as libsndfile reads them: from behind a tag on, with the sizes that an unfinished recording lacks, and without
errors in its callbacks.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from ..errors import AudioError
from .flac import last_frame

_UNKNOWN_SIZE = 0xFFFFFFFF
_LONGEST_PAGE = 1 << 16  # bytes, of an OGG file
_LONGEST_FRAME = 1 << 20  # of a FLAC file, nearly always
_LONGEST_FORMAT = 1 << 10  # of a WAV file
_MOST_TAGS = 8
_NAMES = {
    *(
        b"fmt ",
        b"data",
        b"fact",
        b"LIST",
        b"JUNK",
        b"junk",
        b"PAD ",
        b"FLLR",
        b"bext",
        b"id3 ",
        b"ID3 ",
        b"smpl",
        b"inst",
    ),
    *(
        b"cue ",
        b"plst",
        b"acid",
        b"iXML",
        b"_PMX",
        b"axml",
        b"chna",
        b"ds64",
        b"PEAK",
        b"cart",
        b"minf",
        b"elm1",
        b"regn",
    ),
    *(b"umid", b"strc", b"afsp", b"LGWV", b"ResU", b"levl", b"DISP"),
}
"""Names of chunks of WAV files."""


class View:
    """A file from a place on, some bytes of which, counted from there, read as others.

    It never raises: an error in a callback of libsndfile would be printed, and be lost.

    Attributes:
        error: what the disk refused, for the reader to raise; None if nothing was.
    """

    def __init__(self, file: BinaryIO, start: int, patches: Mapping[int, bytes] = {}):
        self._file, self._start, self._patches = file, start, patches
        self._size = file.seek(0, io.SEEK_END) - start
        self._place = self._told = 0
        self.error: OSError | None = None

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place; before the beginning there is none, and -1 is told, as the system does it."""
        base = {io.SEEK_CUR: self._place, io.SEEK_END: self._size}.get(whence, 0)
        self._told = base + offset if base + offset >= 0 else -1
        self._place = self._told if self._told >= 0 else self._place
        return self._told

    def tell(self) -> int:
        """Return the present place; directly after a seek what came of that."""
        told, self._told = self._told, self._place
        return told

    def readinto(self, buffer: Any) -> int:
        """Read at the present place; return the number of bytes, 0 at the end or where the disk fails."""
        try:
            self._file.seek(self._start + self._place)
            count = self._file.readinto(buffer)  # type: ignore[attr-defined]
        except (OSError, OverflowError) as error:  # a place beyond what a file can have
            self.error = error if isinstance(error, OSError) else None
            return 0
        read = memoryview(buffer).cast("B")
        for place, value in self._patches.items():
            for i, byte in enumerate(value, place - self._place):
                if 0 <= i < count:
                    read[i] = byte
        self._place += count
        self._told = self._place
        return count

    def read(self, size: int) -> bytes:
        """Read so many bytes at the present place, fewer at the end."""
        buffer = bytearray(size)
        return bytes(buffer[: self.readinto(buffer)])


def lacks_end(view: View) -> bool:
    """Return whether this is an OGG file without its last page."""
    view.seek(0)
    if view.read(4) != b"OggS":
        return False
    view.seek(-min(_LONGEST_PAGE, view.seek(0, io.SEEK_END)), io.SEEK_END)
    last = view.read(_LONGEST_PAGE)
    flags = last[last.rfind(b"OggS") + 5 :][:1]
    return not flags or not flags[0] & 4


def finished(file: BinaryIO, name: str) -> View:
    """Return a view of a file whose header states the size of its samples.

    Raises:
        AudioError: its tag is stated to be longer than the file.
        OSError: the disk fails.
    """
    start, whole = _after_tag(file), file.seek(0, io.SEEK_END)
    if start >= whole:  # MP3 decoders look for the sound through all of that length
        raise AudioError(f"{name} is damaged: its ID3 tag states {start} bytes, the file has {whole}. Copy it again.")
    view = View(file, start)
    size, head = whole - start, view.read(12)
    patches: dict[int, bytes] = {}
    if head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        skipped, patches = _wav_sizes(view, size, head[:4])
        start += skipped
    elif head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        patches = _aiff_sizes(view, size)
    elif head[:4] == b"fLaC":
        patches = _flac_sizes(view, size)
    elif start:  # an MP3 file: its decoder knows the tag
        start = 0
    if view.error:
        raise view.error
    return View(file, start, patches)


def _after_tag(file: BinaryIO) -> int:
    """Return the length of the ID3 tags before the sound; libsndfile loses the end of a WAV file behind one."""
    place = 0
    for _ in range(_MOST_TAGS):  # each program that does not know the other's may have put one there
        file.seek(place)
        head = file.read(10)
        if len(head) < 10 or head[:3] != b"ID3":
            break
        size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
        place += 10 + size + (10 if head[5] & 0x10 else 0)
    file.seek(0)
    return place


def _chunks(file: View, size: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, place of the content and stated size of the chunks of a RIFF or an AIFF file.

    Chunks of an odd size are followed by one byte more; some programs forget it.
    """
    place = 12
    while place + 8 <= size:
        file.seek(place)
        if len(head := file.read(8)) < 8:
            return
        name, length = struct.unpack(f"{order}4sI", head)
        yield name, place + 8, length
        place += 8 + length
        if length % 2 and place < size:
            file.seek(place)
            after = file.read(5)
            place += not (after[:4] in _NAMES and after[1:] not in _NAMES)


def _wav_sizes(file: View, size: int, kind: bytes) -> tuple[int, dict[int, bytes]]:
    """Return how many bytes to leave out at the beginning, and the patches of what comes then."""
    long = None  # place of the size of the samples in the ds64 chunk of a long file
    form, displaced, expected = b"", False, 12
    for name, place, length in _chunks(file, size, "<"):
        displaced |= place - 8 != expected
        expected = place + length + length % 2
        if name == b"ds64":
            long = place + 8
        elif name == b"fmt " and length <= _LONGEST_FORMAT:
            file.seek(place)
            form = file.read(length)
        elif name == b"data":
            left = size - place
            if displaced and form:
                return _without_chunks(form, place, min(length or left, left))
            if kind != b"RIFF" and long is None:  # a long file that became a short one
                return 0, {0: b"RIFF"}
            if long is not None and length == _UNKNOWN_SIZE:
                file.seek(long)
                return 0, {} if file.read(8) != bytes(8) else {long: struct.pack("<Q", left)}
            if length == 0 and left > 0 and not _are_chunks(file, place, size):
                whole = struct.pack("<I", min(left, _UNKNOWN_SIZE - 1))
                return 0, {4: struct.pack("<I", min(size - 8, _UNKNOWN_SIZE - 1)), place - 4: whole}
            return 0, {}
    return 0, {}


def _without_chunks(form: bytes, place: int, length: int) -> tuple[int, dict[int, bytes]]:
    """Return the beginning of a WAV file that has nothing but its format before its samples, as for ``_wav_sizes``."""
    head = b"WAVEfmt " + struct.pack("<I", len(form)) + form + bytes(len(form) % 2)
    head += b"data" + struct.pack("<I", min(length, _UNKNOWN_SIZE - 1))
    head = b"RIFF" + struct.pack("<I", min(len(head) + length, _UNKNOWN_SIZE - 1)) + head
    return place - len(head), {0: head}


def _are_chunks(file: View, place: int, size: int) -> bool:
    """Return whether chunks follow up to the end, and no samples: a sound without any has tags all the same."""
    while size - place >= 8:
        file.seek(place)
        name, length = struct.unpack("<4sI", file.read(8))
        if name not in _NAMES:
            return False
        place += 8 + length + length % 2
    return 0 <= size - place < 8 or place == size + 1


def _flac_sizes(file: View, size: int) -> dict[int, bytes]:
    """Return the number of samples for a file that was written into a pipe, and does not state it."""
    file.seek(0)
    head = file.read(26)
    if len(head) < 26 or head[4] & 0x7F:
        return {}
    stated = int.from_bytes(head[18:], "big")
    if stated & 0xFFFFFFFFF:
        return {}
    file.seek(max(0, size - _LONGEST_FRAME))
    frames = last_frame(file.read(_LONGEST_FRAME), int.from_bytes(head[8:10], "big"))
    return {18: (stated | frames).to_bytes(8, "big")} if frames and frames < 1 << 36 else {}


def _aiff_sizes(file: View, size: int) -> dict[int, bytes]:
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
