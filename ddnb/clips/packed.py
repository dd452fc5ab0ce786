"""The sounds in a pack's ZIP file, read without unpacking it beside."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ..errors import RecordError
from ..files import expand
from .clip import Clip
from .record import read_record, records_of
from .source import read_clip

_MAX_BYTES = 1 << 30  # of a sound: ten times the longest that is made, as floating-point numbers at 192 kHz


def is_pack_file(path: str | Path) -> bool:
    """Return whether this is the path of a ZIP file, by its suffix."""
    return Path(path).suffix.lower() == ".zip"


def read_pack(path: str | Path) -> Iterator[Clip]:
    """Yield the sounds of a pack in the order of its manifest, each as ``read_clip`` returns it from the unpacked pack.

    Raises:
        FileNotFoundError: no such pack.
        RecordError: no pack, a damaged one, or one that lacks a sound.
        AudioError: a sound that is not readable, empty, silent, or not finite.
    """
    path = expand(path)
    names = [str(record.file.name) for record in records_of(read_record(path))]
    try:
        with zipfile.ZipFile(path) as file, tempfile.TemporaryDirectory() as folder:
            entries = {"/".join(PurePosixPath(e.filename).parts[1:]): e for e in file.infolist()}
            _extract(file, entries["manifest.json"], Path(folder, "manifest.json"))
            for name in names:
                if name not in entries or entries[name].file_size > _MAX_BYTES:
                    raise RecordError(f"{path.name} lacks {name}, which its manifest lists: pack the sounds again.")
                sound = Path(folder, PurePosixPath(name).name)
                _extract(file, entries[name], sound)
                yield read_clip(sound)
                sound.unlink()
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, KeyError) as error:
        raise RecordError(f"{path.name} is damaged, or no pack as ddnb writes it ({error}): pack it again.") from error


def _extract(file: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    with file.open(entry) as content, target.open("wb") as copy:
        shutil.copyfileobj(content, copy)
