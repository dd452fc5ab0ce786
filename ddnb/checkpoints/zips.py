"""Open zip archives from strangers: their directory is judged before it is read into memory."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import IO

_END, _END64, _LOCATOR = b"PK\5\6", b"PK\6\6", b"PK\6\7"
_END_BYTES, _END64_BYTES, _LOCATOR_BYTES = 22, 56, 20
_MOST_COMMENT = 1 << 16
_MOST_DIRECTORY = 16 << 20  # bytes; Python takes ten times as many for it


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip archive.

    Raises:
        zipfile.BadZipFile: it is damaged, its directory is too long, or is at another place than the archive says: then
            Python and PyTorch would see different files in it.
    """
    with path.open("rb") as file:
        _judge_directory(file)
    try:
        return zipfile.ZipFile(path)
    except (ValueError, struct.error, NotImplementedError) as error:
        raise zipfile.BadZipFile(str(error)) from error


def _judge_directory(file: IO[bytes]) -> None:
    size = file.seek(0, 2)
    begin = max(0, size - _MOST_COMMENT - _END_BYTES)
    file.seek(begin)
    tail = file.read()
    place = tail.rfind(_END)
    if place < 0 or len(tail) - place < _END_BYTES:
        raise zipfile.BadZipFile("its end is missing")
    length, offset = struct.unpack_from("<II", tail, place + 12)
    place += begin
    if place >= _LOCATOR_BYTES + _END64_BYTES:
        file.seek(place - _LOCATOR_BYTES)
        locator = file.read(_LOCATOR_BYTES)
        if locator[:4] == _LOCATOR:
            place -= _LOCATOR_BYTES + _END64_BYTES
            file.seek(place)
            end = file.read(_END64_BYTES)
            if struct.unpack_from("<Q", locator, 8)[0] != place or end[:4] != _END64:
                raise zipfile.BadZipFile("its directory is not where it should be")
            length, offset = struct.unpack_from("<QQ", end, 40)
    if offset + length != place:
        raise zipfile.BadZipFile("its directory is not where it should be")
    if length > _MOST_DIRECTORY:
        raise zipfile.BadZipFile(f"its directory takes {length / 1e6:.0f} MB, {_MOST_DIRECTORY >> 20} at most are read")
