"""Atomic files: complete or absent, and never written over another, on disks of all kinds.

Network drives and mounted buckets lack permissions, ``fsync`` or locks; disks are full, read-only, or go away. What is
done about each of these is in one function here.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import re
import shutil
import tempfile
import unicodedata
import uuid
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

PACKAGE = Path(__file__).parent
ASSETS = PACKAGE / "assets"

RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{port}{i}" for port in ("COM", "LPT") for i in range(10))}
"""Names that Windows reserves, whatever the suffix."""

_NAME_BYTES = 80  # of a name that is part of a longer one; file systems allow 255
_NO_SYNC = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES}
_FREE_SPACE = "free some space, or choose another place"
_ADVICE = {
    errno.ENOSPC: _FREE_SPACE,
    errno.EDQUOT: _FREE_SPACE,
    errno.EFBIG: "choose a disk that takes files of this size",
    errno.EROFS: "choose another place",
    errno.EACCES: "choose another place",
    errno.EPERM: "choose another place",
    **dict.fromkeys((errno.EIO, errno.ENOTCONN, errno.ESTALE, errno.ENODEV), "connect the drive again"),
}
_PROBE_BYTES = 1 << 20


def atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write to a temporary file beside ``path``, then rename it: a half-written file never has the name.

    Args:
        path: the file or folder to write; its parent is created if necessary.
        write: called with the temporary path, which has the same name.

    Raises:
        OSError: the disk is full, read-only or gone; it names ``path``, and says what to do.
    """
    # not mkdtemp: files moved out of its folder stay unreadable for other users on Windows
    scratch = path.parent / f".{cut_name(path.name)}.{uuid.uuid4().hex[:8]}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.mkdir()
        write(scratch / path.name)
        for part in (scratch / path.name, *(scratch / path.name).rglob("*")):
            if part.is_file():
                _share(part, scratch)
                _sync(part)
        (scratch / path.name).replace(path)
    except OSError as error:
        explained = _explain(error, path, scratch)
        raise explained from (None if explained is error else error)
    except Exception as error:  # libraries that write files have errors of their own for what a disk refuses
        if (refused := _find_refusal(scratch)) is None:
            raise
        raise _explain(refused, path, scratch) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _share(part: Path, scratch: Path) -> None:
    """Let others read a file that may be read by its owner only, as some writers create it; not on every disk."""
    with contextlib.suppress(OSError):  # mounted buckets and some network drives have no permissions
        part.chmod(scratch.stat().st_mode & 0o666)


def _sync(part: Path) -> None:
    """Write a file to the disk, or a power cut after the rename loses it; some network drives cannot be told to."""
    try:
        with part.open("rb+") as file:
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def _find_refusal(scratch: Path) -> OSError | None:
    """Return the error of a disk that takes no more."""
    try:
        (scratch / "probe").write_bytes(bytes(_PROBE_BYTES))
    except OSError as error:
        return error
    return None


def _explain(error: OSError, path: Path, scratch: Path) -> OSError:
    """Return an error of the disk as one that names the file and says what to do; other errors as they are."""
    advice = _ADVICE.get(error.errno or 0)
    if isinstance(error, FileNotFoundError) and not scratch.exists():
        advice = "the folder has gone away; connect the drive again"
    names_scratch = error.filename is None or str(scratch) in str(error.filename)
    if advice is None or not (names_scratch or str(path.parent) in str(error.filename)):
        return error
    return OSError(error.errno, f"{error.strerror}: {advice}", str(path))


def free_bytes(folder: Path) -> int | None:
    """Return the free space of a disk; None if it cannot be asked."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def expand(path: str | Path) -> Path:
    """Return a path with the home folder for ``~``; as it is where there is none, or the name just begins so."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def acquire_lock(path: Path, timeout_s: float = -1) -> BaseFileLock:
    """Lock a file against other processes; on disks that cannot lock or be written to, go on without a lock.

    Args:
        path: the file, which is created.
        timeout_s: how long to wait for it; without end if negative.

    Returns:
        The lock, to be released.

    Raises:
        filelock.Timeout: another process has it.
    """
    lock = FileLock(path, timeout=timeout_s, thread_local=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if _can_lock(path.parent):
            lock.acquire()
    except Timeout:
        raise
    except (OSError, NotImplementedError):  # who cannot create the lock cannot write what it protects either
        pass
    return lock


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, see ``acquire_lock``."""
    lock = acquire_lock(path)
    try:
        yield
    finally:
        lock.release()


def _can_lock(folder: Path) -> bool:
    """Return whether files of a folder can be locked: where not, some versions of filelock try without end."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def remove_scratch(path: Path) -> None:
    """Remove what a killed ``atomically(path, ...)`` left; no other process may be writing ``path``."""
    for left in path.parent.glob(f".{glob.escape(cut_name(path.name))}.{'[0-9a-f]' * 8}"):
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
    """Return a file name that every system accepts: at most ``most`` letters, digits, ``-`` and ``_``, no suffix.

    Accents are dropped, in both forms of Unicode; a name without any such letter becomes ``sound``.
    """
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", plain).strip("-")[:most] or "sound"
    return f"{name}_" if name.upper() in RESERVED else name


def cut_name(name: str, most: int = _NAME_BYTES) -> str:
    """Return the beginning of a file name, at most ``most`` bytes: letters have up to four."""
    return os.fsencode(name)[:most].decode("utf-8", "ignore")


def local_name(text: str, default: str) -> str:
    """Return a file name from elsewhere as every system accepts it, with its suffix, as near to it as possible."""
    name = re.sub(r'[<>:"/\\|?*\x00-\x1f]', "-", text).strip(" .")
    stem, dot, suffix = name.rpartition(".")
    if not dot:
        stem, suffix = name, ""
    stem = f"{stem}_" if stem.split(".")[0].upper() in RESERVED else stem
    return cut_name(stem, 2 * _NAME_BYTES) + dot + cut_name(suffix, 16) if stem else default


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
