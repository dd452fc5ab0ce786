"""Atomic files: complete or absent, and never written over another."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from filelock import FileLock

PACKAGE = Path(__file__).parent
ASSETS = PACKAGE / "assets"

_NOT_SUPPORTED = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}

RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{port}{i}" for port in ("COM", "LPT") for i in range(10))}
"""Names that Windows reserves, whatever the suffix."""


def atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write to a temporary file beside ``path``, then rename it: a half-written file never has the name.

    Args:
        path: the file or folder to write; its parent is created if necessary.
        write: called with the temporary path, which has the same name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # not mkdtemp: files moved out of its folder stay unreadable for other users on Windows
    scratch = path.parent / f".{path.name[:80]}.{uuid.uuid4().hex[:8]}"
    scratch.mkdir()
    try:
        write(scratch / path.name)
        for part in (scratch / path.name, *(scratch / path.name).rglob("*")):
            if part.is_file():
                _settle(part, scratch.stat().st_mode)
        (scratch / path.name).replace(path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _settle(part: Path, mode: int) -> None:
    """Let others read a file, which some writers forbid, and bring it to the disk, or a power cut loses it.

    Network drives and mounted clouds know neither permissions nor a way to wait for the disk; writing works there.
    """
    with _where_possible():
        part.chmod(mode & 0o666)
    with part.open("rb+") as file, _where_possible():
        os.fsync(file.fileno())


@contextlib.contextmanager
def _where_possible() -> Iterator[None]:
    """Pass over errors of operations that a file system does not have."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise


def can_lock(folder: Path) -> bool:
    """Return whether files of a folder can be locked; on some network drives they cannot."""
    probe = folder / f".{uuid.uuid4().hex[:8]}.lock"
    try:
        FileLock(probe, timeout=0).acquire().lock.release()
    except (NotImplementedError, OSError):  # Timeout among the latter
        return False
    finally:
        probe.unlink(missing_ok=True)
    return True


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, of which other processes wait; without effect where files cannot be locked."""
    with FileLock(path) if can_lock(path.parent) else contextlib.nullcontext():
        yield


def remove_scratch(path: Path) -> None:
    """Remove what a killed ``atomically(path, ...)`` left; no other process may be writing ``path``."""
    for left in path.parent.glob(f".{glob.escape(path.name[:80])}.{'[0-9a-f]' * 8}"):
        shutil.rmtree(left, ignore_errors=True)


def free_name(path: Path) -> Path:
    """Return ``path``, or ``name-2``, ``name-3``, ... if it exists already."""
    names = (path if i == 1 else path.with_name(f"{path.stem}-{i}{path.suffix}") for i in count(1))
    return next(name for name in names if not name.exists())


def claim_pair(path: Path) -> tuple[Path, Path]:
    """Claim a free name for a file and the JSON file beside it: ``path``, or ``name-2``, ``name-3``, ...

    The JSON file is created, empty, as the claim, so that two processes never get the same name.

    Returns:
        The two paths; neither existed before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for i in count(1):
        wanted = path if i == 1 else path.with_name(f"{path.stem}-{i}{path.suffix}")
        beside = wanted.with_suffix(".json")
        if wanted.exists():
            continue
        try:
            beside.touch(exist_ok=False)
        except FileExistsError:
            continue
        return wanted, beside
    raise AssertionError("unreachable: there is always a next number")


def safe_name(text: str, most: int = 80) -> str:
    """Return a file name that every system accepts: at most ``most`` letters, digits, ``-`` and ``_``, no suffix."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")[:most] or "sound"
    return f"{name}_" if name.upper() in RESERVED else name


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
