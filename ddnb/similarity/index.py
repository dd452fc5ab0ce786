"""The index of a folder of sounds: read once, kept in the cache, and updated where files change."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..audio.io import read
from ..audio.listing import sound_files
from ..errors import Cancelled, DatasetError
from ..files import atomically, locked
from ..notices import warn
from ..runtime import cache_dir
from ..steps import Event
from .features import RATE, Facts, describe, normalize, split_pieces
from .search import EMPTY, File, Index, join_index, make_file, search

FEWEST_SOUNDS = 10
"""Smallest folder whose own distances set the threshold."""

_NAMES = 5

OnProgress = Callable[[int, int], object]

_SAMPLE = 500  # sounds of a folder whose nearest neighbours are measured
_STRETCH_S = 2.0  # seconds of each of them, the length of a clip
_LAYOUT = 2  # version of the cache format


class Progress:
    """Progress of the check, with cancel."""

    def __init__(self, total: int, on_progress: OnProgress | None, cancel: Event | None):
        self.done, self.total, self.on_progress, self.cancel = 0, total, on_progress, cancel
        self.check()

    def extend(self, n: int) -> None:
        """Add to the total."""
        self.total += n

    def advance(self) -> None:
        """Count and report one more sound."""
        self.done += 1
        if self.on_progress is not None:
            self.on_progress(self.done, self.total)

    def check(self) -> None:
        """Raise ``Cancelled`` if the caller cancelled."""
        if self.cancel is not None and self.cancel.is_set():
            raise Cancelled(f"stopped after {self.done} of {self.total} sounds; the files read so far are cached")


def index_folder(folder: Path, progress: Progress) -> tuple[Index, dict[str, str]]:
    """Return the index of a folder's sounds, and why some cannot be used; only new and changed files are read."""
    paths = {path.relative_to(folder).as_posix(): path for path in sound_files(folder)}
    key = sha256(os.fsencode(str(folder))).hexdigest()[:12]
    place = cache_dir() / "originality" / f"{folder.name[:40]}-{key}.safetensors"
    with locked(place.with_suffix(".lock")):  # one of several processes reads
        kept = _load(place)
        index, skipped = _update(kept, paths, place, progress)
        if skipped:
            warn(
                f"Skipped {len(skipped)} of {len(paths)} files that cannot be read; the findings name them",
                stacklevel=3,
            )
        if not index.files:
            reasons = [f"- {name}: {why}" for name, why in list(skipped.items())[:_NAMES]]
            raise DatasetError(f"None of the {len(paths)} files in {folder} can be used:\n" + "\n".join(reasons))
        if len(index.files) >= FEWEST_SOUNDS and not len(index.distances):
            index = index._replace(distances=_calibrate(index, folder, progress))
            _save(place, index)
    return index, skipped


def _update(kept: Index, paths: dict[str, Path], place: Path, progress: Progress) -> tuple[Index, dict[str, str]]:
    """Read new files into the index and drop missing ones; it is saved even if this is cancelled."""
    states = {name: _state(path) for name, path in paths.items()}
    same = {f.name: facts for f, facts in _split(kept) if states.get(f.name) == (f.size, f.mtime_ns)}
    files = {f.name: f for f in kept.files if f.name in same}
    fresh = [name for name in paths if name not in same]
    progress.extend(len(fresh))
    skipped: dict[str, str] = {}
    try:
        for name in fresh:
            progress.check()
            try:
                same[name] = describe(normalize(*read(paths[name])))
                files[name] = make_file(name, *states[name], same[name])
            except (ValueError, OSError, RuntimeError) as error:
                skipped[name] = getattr(error, "strerror", None) or str(error)  # without the folder's path
            progress.advance()
    finally:
        index = _join(files, same)
        changed = files.keys() != {f.name for f in kept.files} or any(name in files for name in fresh)
        if changed:
            _save(place, index)
    return (index if changed else kept), skipped


def _state(path: Path) -> tuple[int, int]:
    """Return size and time of modification, one of which changes with the file; zeros where a link leads nowhere."""
    try:
        state = path.stat()
    except OSError:
        return 0, 0
    return state.st_size, state.st_mtime_ns


def _join(files: dict[str, File], facts: dict[str, Facts]) -> Index:
    names = sorted(files)
    return join_index([files[name] for name in names], [facts[name] for name in names]) if names else EMPTY


def _split(index: Index) -> Iterator[tuple[File, Facts]]:
    """Yield each sound of an index."""
    frames = index.frames.split([f.frames for f in index.files])
    windows = index.windows.split([f.windows for f in index.files])
    places = index.places.split([f.windows for f in index.files])
    bass = index.bass.split([f.bass for f in index.files])
    for file, *columns in zip(index.files, frames, windows, places, bass, strict=True):
        yield file, Facts(file.lead_s, file.channels, *columns)


def _save(place: Path, index: Index) -> None:
    tensors = {name: getattr(index, name).contiguous() for name in Index._fields[1:]}
    about = {"layout": str(_LAYOUT), "files": json.dumps(index.files)}
    try:
        atomically(place, lambda part: save_file(tensors, part, about))
    except OSError as error:  # only the next call takes longer for it
        warn(f"{place} cannot be written ({error.strerror}): set DDNB_CACHE to a folder that can be.", stacklevel=4)


def _load(place: Path) -> Index:
    """Return the saved index; an empty one if there is none, or it is damaged."""
    if not place.is_file():
        return EMPTY
    try:
        with safe_open(place, "pt") as file:
            about = file.metadata()
            index = Index(
                [File(*f) for f in json.loads(about["files"])],
                *(file.get_tensor(n).clone() for n in Index._fields[1:]),
            )
        counts = [sum(int(f[5 + i]) for f in index.files) for i in range(3)]
        whole = counts == [len(index.frames), len(index.windows), len(index.bass)]
        whole = whole and len(index.places) == len(index.windows)
    except (SafetensorError, KeyError, TypeError, ValueError, OSError):
        return EMPTY
    return index if whole and about["layout"] == str(_LAYOUT) else EMPTY


def _calibrate(index: Index, folder: Path, progress: Progress) -> Tensor:
    """Return the distances from a sample of the folder's sounds to the nearest of the others, ascending."""
    drawn = np.random.default_rng(0).permutation(len(index.files))[:_SAMPLE].tolist()
    progress.extend(len(drawn))
    distances = []
    for i in sorted(drawn):
        progress.check()
        sound = normalize(*read(folder / index.files[i].name))
        frames, long = sound.shape[1], round(_STRETCH_S * RATE)
        middle = sound[:, frames // 2 : frames // 2 + long] if frames > 2 * long else sound[:, :long]
        matches = search(split_pieces(middle, loop=False), index, besides=i)
        distances += [min(match.distance for match in matches)] if matches else []
        progress.advance()
    return torch.tensor(sorted(distances))
