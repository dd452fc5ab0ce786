"""Unpack checkpoints that came in a zip archive, as Google Drive makes of every folder, into the cache."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from ..errors import CheckpointError
from ..files import atomically
from ..runtime import open_cache
from .folders import WEIGHT_FILES
from .zips import open_zip

_RESERVE = 64 << 20
_MOST_FILES = 1000
_MOST_RATIO, _SMALL = 50, 100 << 20  # weights hardly shrink; small files may be zeros


def unpacked(path: Path) -> Path:
    """Return the checkpoint in a zip archive, unpacked once into the cache; any other path as it is.

    Files of PyTorch are zip archives, too; they are left alone.

    Raises:
        CheckpointError: no checkpoint in it, several, a damaged archive, one with a password, or no space.
    """
    if not path.is_file() or not zipfile.is_zipfile(path) or path.suffix == ".tar":
        return path
    try:
        with open_zip(path) as archive:
            files = [info for info in archive.infolist() if not info.is_dir()]
            if any(PurePosixPath(info.filename).name == "data.pkl" for info in files):
                return path
            return _unpack(archive, [info for info in files if _is_wanted(info.filename)], path)
    except CheckpointError:
        raise
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, zlib.error, ValueError) as error:
        # RuntimeError: a password
        raise CheckpointError(f"{path.name} is a zip archive that cannot be unpacked: {error}") from error


def _is_wanted(name: str) -> bool:
    place = PurePosixPath(name.replace("\\", "/"))
    hidden = any(part.startswith((".", "__MACOSX")) for part in place.parts)
    return not hidden and place.suffix.lower() in WEIGHT_FILES | {".json"}


def _unpack(archive: zipfile.ZipFile, files: list[zipfile.ZipInfo], path: Path) -> Path:
    weights = [info for info in files if PurePosixPath(info.filename).suffix.lower() in WEIGHT_FILES]
    if not weights:
        names = [info.filename for info in archive.infolist()]
        raise CheckpointError(
            f"{path.name} is a zip archive without a checkpoint: it holds {', '.join(names[:4])[:500] or 'nothing'}."
        )
    needed = sum(info.file_size for info in files)
    _require_honest(files, needed, path)
    stats = path.stat()
    state = repr((str(path.resolve()), stats.st_size, stats.st_mtime_ns))
    folder = open_cache("unpacked") / hashlib.sha256(state.encode()).hexdigest()[:12]
    if not folder.is_dir():
        try:
            if shutil.disk_usage(folder.parent).free < needed + _RESERVE:
                raise CheckpointError(
                    f"{path.name} needs {needed / 1e9:.2f} GB in {folder.parent} to be unpacked: free some."
                )
            atomically(folder, lambda part: [archive.extract(info, part) for info in files])
        except OSError as error:
            raise CheckpointError(
                f"{path.name} cannot be unpacked into {folder}: {error}. Unpack it yourself."
            ) from error
    return folder_of(folder)


def _require_honest(files: list[zipfile.ZipInfo], needed: int, path: Path) -> None:
    """Raise CheckpointError for an archive of kilobytes that becomes gigabytes or a million files."""
    if len(files) > _MOST_FILES:
        raise CheckpointError(f"{path.name} holds {len(files):,} files: unpack those of one checkpoint yourself.")
    if any(info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for info in files):
        raise CheckpointError(f"{path.name} is packed in a way that few programs read: unpack it yourself.")
    if needed > max(_SMALL, _MOST_RATIO * path.stat().st_size):
        raise CheckpointError(
            f"{path.name} would become {needed / 1e9:.2f} GB from {path.stat().st_size / 1e6:.3g} MB, and weights do "
            "not shrink so far: it is damaged, or made to fill disks."
        )


def folder_of(folder: Path) -> Path:
    """Return the folder or file below folders that hold nothing else."""
    while folder.is_dir() and len(inside := [item for item in folder.iterdir() if not item.name.startswith(".")]) == 1:
        if inside[0].name == "unet":
            break
        folder = inside[0]
    return folder
