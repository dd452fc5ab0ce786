"""TODO similarity/index."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..audio.io import read, sound_files
from ..errors import Cancelled
from ..files import atomically
from ..runtime import cache_dir
from ..sampler import Event
from .features import RATE, Facts, described, heard, pieces_of
from .search import EMPTY, File, Index, file_of, joined, search

FEWEST_SOUNDS = 10
"""Of fewer nothing can be learned about how near sounds of a folder are to each other."""

_NAMES = 5

OnProgress = Callable[[int, int], object]

_SAMPLE = 500  # sounds of a folder whose nearest neighbours are looked for
_STRETCH_S = 2.0  # of each of them, as long as a clip
_LAYOUT = 2  # of the cache; another number makes it anew


class _Work:
    """How much is done, told, and whether to go on."""

    def __init__(self, total: int, on_progress: OnProgress | None, cancel: Event | None):
        self.so_far, self.total, self.on_progress, self.cancel = 0, total, on_progress, cancel
        self.go_on()

    def more(self, n: int) -> None:
        self.total += n

    def done(self) -> None:
        self.so_far += 1
        if self.on_progress is not None:
            self.on_progress(self.so_far, self.total)

    def go_on(self) -> None:
        if self.cancel is not None and self.cancel.is_set():
            raise Cancelled(f"stopped after {self.so_far} of {self.total} sounds; what was read is kept")


# --- the folder -------------------------------------------------------------------------------------------------


def _index_of(folder: Path, work: _Work) -> tuple[Index, dict[str, str]]:
    """The folder's sounds, and why some cannot be used; from the cache, but for new and changed files."""
    paths = {path.relative_to(folder).as_posix(): path for path in sound_files(folder)}
    key = sha256(os.fsencode(str(folder))).hexdigest()[:12]
    place = cache_dir() / "originality" / f"{folder.name[:40]}-{key}.safetensors"
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.with_suffix(".lock")):  # of several processes, one reads
        kept = _kept(place)
        index, skipped = _updated(kept, paths, place, work)
        if skipped:
            some = ", ".join(list(skipped)[:_NAMES]) + (" and others" if len(skipped) > _NAMES else "")
            warnings.warn(f"{len(skipped)} of {len(paths)} files cannot be used: {some}", stacklevel=3)
        if not index.files:
            reasons = [f"- {name}: {why}" for name, why in list(skipped.items())[:_NAMES]]
            raise ValueError(f"None of the {len(paths)} files in {folder} can be used:\n" + "\n".join(reasons))
        if len(index.files) >= FEWEST_SOUNDS and not len(index.distances):
            index = index._replace(distances=_calibrated(index, folder, work))
            _keep(place, index)
    return index, skipped


def _updated(kept: Index, paths: dict[str, Path], place: Path, work: _Work) -> tuple[Index, dict[str, str]]:
    """The index with what is new read and what is gone left out, kept on the disk even if this is cancelled."""
    states = {name: (path.stat().st_size, path.stat().st_mtime_ns) for name, path in paths.items()}
    same = {f.name: facts for f, facts in _apart(kept) if states.get(f.name) == (f.size, f.mtime_ns)}
    files = {f.name: f for f in kept.files if f.name in same}
    fresh = [name for name in paths if name not in same]
    work.more(len(fresh))
    skipped: dict[str, str] = {}
    try:
        for name in fresh:
            work.go_on()
            try:
                same[name] = described(heard(*read(paths[name])))
                files[name] = file_of(name, *states[name], same[name])
            except (ValueError, OSError, RuntimeError) as error:
                skipped[name] = getattr(error, "strerror", None) or str(error)  # no folder of anybody's disk
            work.done()
    finally:
        index = _ordered(files, same)
        changed = files.keys() != {f.name for f in kept.files} or any(name in files for name in fresh)
        if changed:
            _keep(place, index)
    return (index if changed else kept), skipped


def _ordered(files: dict[str, File], facts: dict[str, Facts]) -> Index:
    names = sorted(files)
    return joined([files[name] for name in names], [facts[name] for name in names]) if names else EMPTY


def _apart(index: Index) -> Iterator[tuple[File, Facts]]:
    """Each sound of an index."""
    frames = index.frames.split([f.frames for f in index.files])
    windows = index.windows.split([f.windows for f in index.files])
    places = index.places.split([f.windows for f in index.files])
    bass = index.bass.split([f.bass for f in index.files])
    for file, *columns in zip(index.files, frames, windows, places, bass, strict=True):
        yield file, Facts(file.lead_s, file.channels, *columns)


def _keep(place: Path, index: Index) -> None:
    tensors = {name: getattr(index, name).contiguous() for name in Index._fields[1:]}
    about = {"layout": str(_LAYOUT), "files": json.dumps(index.files)}
    atomically(place, lambda part: save_file(tensors, part, about))


def _kept(place: Path) -> Index:
    """The index on the disk; an empty one if there is none that can be used."""
    if not place.is_file():
        return EMPTY
    try:
        with safe_open(place, "pt") as file:
            about = file.metadata()
            index = Index(
                [File(*f) for f in json.loads(about["files"])],
                *(file.get_tensor(n).clone() for n in Index._fields[1:]),
            )
        counts = [sum(f[5 + i] for f in index.files) for i in range(3)]
        whole = counts == [len(index.frames), len(index.windows), len(index.bass)]
        whole = whole and len(index.places) == len(index.windows)
    except (SafetensorError, KeyError, TypeError, ValueError, OSError):
        return EMPTY
    return index if whole and about["layout"] == str(_LAYOUT) else EMPTY


def _calibrated(index: Index, folder: Path, work: _Work) -> Tensor:
    """Distances from a sample of the folder's sounds to the nearest of the others, rising."""
    drawn = np.random.default_rng(0).permutation(len(index.files))[:_SAMPLE].tolist()
    work.more(len(drawn))
    distances = []
    for i in sorted(drawn):
        work.go_on()
        sound = heard(*read(folder / index.files[i].name))
        frames, long = sound.shape[1], round(_STRETCH_S * RATE)
        middle = sound[:, frames // 2 : frames // 2 + long] if frames > 2 * long else sound[:, :long]
        matches = search(pieces_of(middle, loop=False), index, besides=i)
        distances += [min(match.distance for match in matches)] if matches else []
        work.done()
    return torch.tensor(sorted(distances))


# --- search -----------------------------------------------------------------------------------------------------
