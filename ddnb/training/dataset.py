"""Folders of sounds as training data: listed, and decoded once into a memory-mapped file in the cache."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from io import RawIOBase
from pathlib import Path
from typing import Any

import numpy as np

from ..audio.channels import cancelling_side, downmix, powers, to_channels
from ..audio.io import peak_dbfs
from ..audio.listing import SUFFIXES, is_hidden, is_sound, list_folder, reason_of
from ..audio.reading import open_sound, require_regular
from ..display.text import counted, shown
from ..errors import AudioError, Cancelled, DatasetError
from ..files import ASSETS, atomically, expand, file_sha256, locked
from ..names import unify_names
from ..notices import warn
from ..runtime import cache_dir, open_cache
from ..steps import Event

EXAMPLES = ASSETS / "one-shots"
"""Twelve real drum sounds in class folders, CC0, that come with the package."""

MAX_CATEGORIES = 32
MIN_DURATION_S, MAX_DURATION_S = 0.01, 6 * 3600
FULL_SCALE = 0.999
_LAYOUT = 6  # version of the files in the cache; another number makes them anew
_MAX_REASONS = 10
_PASSING = {errno.EIO, errno.ENOTCONN, errno.ESTALE, errno.ENODEV, errno.ETIMEDOUT, errno.EHOSTDOWN}
"""Errors of drives that go away and come back: what they refused is read again the next time."""

OnFile = Callable[[int, int], object]
"""Progress of reading files: called as ``on_file(done, total)``."""


@dataclass(frozen=True)
class Sound:
    """A file that can be trained on.

    Attributes:
        name: path inside the folder, with ``/``.
        category: the top folder of that path, in one spelling for all folders whose names are alike, see ``names``;
            None for a file beside the class folders.
        start, frames: place in ``Dataset.audio``.
        sample_rate, channels, duration_s: format of the file, before conversion.
        sha256: hash of the file.
        peak_dbfs: peak of the file, dBFS.
        dc: mean of the file, 1 being full scale.
        clipped: number of samples at full scale that equal the sample before them (flat tops).
        side: the loudest channel, which a mono network gets, of channels that cancel each other; None of any others.
    """

    name: str
    category: str | None
    start: int
    frames: int
    sample_rate: int
    channels: int
    duration_s: float
    sha256: str
    peak_dbfs: float
    dc: float
    clipped: int
    side: int | None = None


@dataclass(frozen=True, eq=False)
class Dataset:
    """A folder of sounds, decoded at one sample rate.

    Attributes:
        audio: float32 (frames of all sounds, channels), memory-mapped.
        sample_rate: Hz.
        sounds: the files that can be trained on, sorted by name.
        unusable: name -> reason of the sound files that cannot be trained on.
        ignored: names of files whose suffix is not that of a sound.
        copies: names among ``unusable`` of exact copies of other files.
    """

    audio: np.ndarray
    sample_rate: int
    sounds: tuple[Sound, ...]
    unusable: dict[str, str]
    ignored: tuple[str, ...]
    copies: tuple[str, ...] = ()

    @property
    def categories(self) -> tuple[str, ...]:
        """The names of the class folders, sorted."""
        return tuple(sorted({s.category for s in self.sounds if s.category is not None}))

    @property
    def fingerprint(self) -> str:
        """A hash of the names and contents of the usable files."""
        return hashlib.sha256(json.dumps([[s.name, s.sha256] for s in self.sounds]).encode()).hexdigest()

    def sound(self, index: int) -> np.ndarray:
        """Return one whole sound, float32 (channels, frames)."""
        s = self.sounds[index]
        return self.audio[s.start : s.start + s.frames].T


def cancellable(on_file: OnFile | None, cancel: Event | None) -> OnFile:
    """Return a function that reports progress of reading, and raises Cancelled where that is wanted."""

    def report(done: int, total: int) -> None:
        if cancel is not None and cancel.is_set():
            raise Cancelled("stopped while the sounds were read")
        if on_file is not None:
            on_file(done, total)

    return report


def warn_of_unusable(data: Dataset) -> None:
    """Warn of the files of a folder that are not used, with reasons; exact copies are no loss."""
    reasons = [f"- {shown(name)}: {shown(why)}" for name, why in data.unusable.items() if name not in data.copies]
    if reasons:
        warn(f"{counted(len(reasons), 'sound file')} cannot be used:\n" + "\n".join(reasons), stacklevel=3)


def decode(folder: str | Path, sample_rate: int, channels: int = 2, on_file: OnFile | None = None) -> Dataset:
    """Read a folder of sounds and its subfolders into the cache; an unchanged folder is read from there.

    Args:
        folder: sound files, or class folders of them: the top folders are the categories. A single folder around
            the class folders is skipped, whatever texts and pictures lie beside it.
        sample_rate: Hz; every sound is resampled to it.
        channels: every sound is converted to this number, see ``audio.to_channels``.
        on_file: called after each file that is decoded.

    Returns:
        The data. Files that cannot be used, exact copies among them, are in ``unusable`` with reasons.

    Raises:
        FileNotFoundError: no such folder.
        DatasetError: nothing in it can be used; the message says why.
        OSError: the cache cannot be written.
    """
    folder = expand(folder)
    if not folder.is_dir():
        problem = "is a file: give the folder that it is in" if folder.is_file() else "does not exist"
        raise FileNotFoundError(f"No folder of sounds: {folder} {problem}.")
    folder = _skip_wrappers(folder)
    listing = list_folder(folder)
    names, ignored = listing.sounds, (*listing.others, *listing.closed)
    if not names:
        others = f", only {len(ignored)} of other kinds, such as {ignored[0]}" if ignored else ""
        raise DatasetError(f"{folder} holds no sound files{others}. Known suffixes: {' '.join(sorted(SUFFIXES))}.")
    cached = _decode_into_cache(folder, names, sample_rate, channels, on_file)
    index = json.loads((cached / "index.json").read_text(encoding="utf-8"))
    if not index["sounds"]:
        reasons = [f"- {name}: {reason}" for name, reason in list(index["unusable"].items())[:_MAX_REASONS]]
        raise DatasetError(f"None of the {len(names)} sound files in {folder} can be used:\n" + "\n".join(reasons))
    audio = np.memmap(cached / "audio.f32", np.float32, "r").reshape(-1, channels)
    sounds = tuple(Sound(**s) for s in index["sounds"])
    return Dataset(audio, sample_rate, sounds, index["unusable"], ignored, tuple(index["copies"]))


def in_known_classes(data: Dataset, known: Sequence[str]) -> Dataset:
    """Return the data with its classes spelled as the known ones that they are like."""
    spelling = unify_names(data.categories, known)
    sounds = (replace(s, category=None if s.category is None else spelling[s.category]) for s in data.sounds)
    return replace(data, sounds=tuple(sounds))


def _skip_wrappers(folder: Path) -> Path:
    """Return the folder of class folders inside the single folders that unpacking a zip leaves around it."""
    while True:
        inside = [p for p in folder.iterdir() if not is_hidden(p.name) and (p.is_dir() or is_sound(p.name))]
        wrapper = len(inside) == 1 and inside[0].is_dir() and not inside[0].is_symlink()
        if not wrapper or not any(p.is_dir() and not is_hidden(p.name) for p in inside[0].iterdir()):
            return folder
        folder = inside[0]


def _decode_into_cache(folder: Path, names: list[str], sample_rate: int, channels: int, on_file: OnFile | None) -> Path:
    """Decode the files unless the cache has them in their present state; return the folder in the cache."""
    place = f"{folder.name[:40]}-{_hash(str(folder.resolve()), sample_rate, channels, _LAYOUT)}"
    # with ffmpeg or a permission that was missing the last time, files that failed are tried again
    state = _hash([(name, *_file_state(folder / name)) for name in names], shutil.which("ffmpeg") is not None)
    cached = cache_dir() / "datasets" / f"{place}-{state}"
    open_cache("datasets")
    with locked(cached.parent / f"{place}.lock"):  # only one of several processes decodes
        if not _is_whole(cached):
            for pattern in (f"{glob.escape(place)}-*", f".{glob.escape(place)}-*"):  # hidden: left by killed processes
                for stale in cached.parent.glob(pattern):
                    shutil.rmtree(stale, ignore_errors=True)
            atomically(cached, lambda part: _decode_all(part, folder, names, sample_rate, channels, on_file))
    return cached


def _is_whole(cached: Path) -> bool:
    """Return whether a folder of the cache holds all that can be read: not if a disk failed while it was made."""
    index = cached / "index.json"
    return index.is_file() and not json.loads(index.read_text(encoding="utf-8")).get("disk_failed")


def _file_state(path: Path) -> tuple[int, int, bool]:
    """Return size, time of modification and readability, one of which changes with the file."""
    try:
        state = path.stat()
    except OSError:  # a link that leads nowhere
        return 0, 0, False
    return state.st_size, state.st_mtime_ns, os.access(path, os.R_OK)


def _hash(*values: Any) -> str:
    return hashlib.sha256(repr(values).encode()).hexdigest()[:12]


class _CacheError(OSError):
    """A cache that cannot be written, as opposed to a sound file that cannot be read."""


def _decode_all(
    part: Path, folder: Path, names: Sequence[str], sample_rate: int, channels: int, on_file: OnFile | None
) -> None:
    """Write ``audio.f32`` and ``index.json`` of all usable files into the folder ``part``."""
    part.mkdir()
    sounds: list[Sound] = []
    seen: dict[tuple[str | None, str], str] = {}
    unusable: dict[str, str] = {}
    copies: list[str] = []
    disk_failed = False
    classes = unify_names(name.split("/")[0] for name in names if "/" in name)
    with (part / "audio.f32").open("wb", buffering=0) as out:  # without a buffer a full disk shows at once
        for done, name in enumerate(names, 1):
            start = out.tell()
            category = classes.get(name.split("/")[0]) if "/" in name else None
            try:
                require_regular(folder / name)
                sha256 = file_sha256(folder / name)
                if first := seen.get((category, sha256)):
                    unusable[name] = f"is an exact copy of {first}, which is used."
                    copies.append(name)
                else:
                    facts = _decode_one(folder / name, out, sample_rate, channels)
                    frames = (out.tell() - start) // (4 * channels)
                    sounds.append(Sound(name, category, start // (4 * channels), frames, sha256=sha256, **facts))
                    seen[category, sha256] = name
            except _CacheError:
                raise
            except (ValueError, OSError) as error:
                if out.tell() != start:
                    out.truncate(out.seek(start))
                disk_failed |= isinstance(error, OSError) and error.errno in _PASSING
                unusable[name] = reason_of(error, name.split("/")[-1])
            if on_file is not None:
                on_file(done, len(names))
    index = {"sounds": [asdict(s) for s in sounds], "unusable": unusable, "copies": copies, "disk_failed": disk_failed}
    (part / "index.json").write_text(json.dumps(index), encoding="utf-8")


def _append(out: RawIOBase, block: np.ndarray) -> None:
    """Write all of a block: a single write without a buffer may write a part of it.

    Raises:
        _CacheError: no space, or no permission.
    """
    rest = memoryview(np.asarray(block, np.float32).tobytes())
    try:
        while rest:
            rest = rest[out.write(rest) :]
    except OSError as error:
        where = cache_dir() / "datasets"
        raise _CacheError(
            f"{where} cannot be written ({error.strerror}): free disk space, or set DDNB_CACHE to a folder elsewhere."
        ) from error


def _decode_one(path: Path, out: RawIOBase, sample_rate: int, channels: int) -> dict[str, Any]:
    """Append a file to the cache, block by block, so that an hour's recording does not fill the memory.

    Returns:
        The fields of ``Sound`` that describe the file.

    Raises:
        AudioError: a file that is unreadable, too short, too long, or silent.
    """
    start = out.tell()
    facts, mono, each = _convert(path, out, sample_rate, channels)
    side = cancelling_side(mono, each)
    if side is not None and channels == 1:
        out.truncate(out.seek(start))
        _convert(path, out, sample_rate, channels, side)
    return facts | {"side": side}


def _convert(
    path: Path, out: RawIOBase, sample_rate: int, channels: int, side: int | None = None
) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Append a file to the cache; return what describes it, and the powers of its mean and of its channels."""
    import soxr

    peak, total, frames, clipped, mono, each = 0.0, 0.0, 0, 0, np.zeros(1), np.zeros(1)
    with open_sound(path) as file:
        rate = file.sample_rate
        stream = None if rate == sample_rate else soxr.ResampleStream(rate, sample_rate, channels, "float32", "HQ")
        for block in file.blocks():
            peak = max(peak, float(np.abs(block).max()))
            total += float(block.mean(axis=0, dtype=np.float64).sum())
            # only equal neighbours: a low tone that just reaches full scale stays near it for many samples, too
            clipped += int(((np.abs(block[:, 1:]) >= FULL_SCALE) & (block[:, 1:] == block[:, :-1])).sum())
            frames += block.shape[1]
            if frames > MAX_DURATION_S * rate:
                raise AudioError(f"is longer than {MAX_DURATION_S / 3600:g} hours: cut out the part to use.")
            mixed = downmix(block)
            mean = mixed.mean(axis=0, keepdims=True)
            mono, each = mono + powers(mean), each + powers(mixed)
            if channels == 1:
                mixed = mean if side is None else mixed[side : side + 1]
            wanted = np.ascontiguousarray(to_channels(mixed, channels).T)
            _append(out, stream.resample_chunk(wanted) if stream else wanted)
        if stream:
            _append(out, stream.resample_chunk(np.zeros((0, channels), np.float32), last=True))
        facts = {"sample_rate": rate, "channels": file.channels, "duration_s": frames / rate, "clipped": clipped}
    if frames < MIN_DURATION_S * rate:
        length = f"{frames} frames ({1000 * frames / rate:.1f} ms)"
        raise AudioError(f"is too short: {length}, expected {1000 * MIN_DURATION_S:g} ms or more.")
    if not peak:
        raise AudioError("is silent throughout.")
    return facts | {"peak_dbfs": peak_dbfs(np.array([peak])), "dc": total / frames}, mono, each
