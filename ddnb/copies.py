"""Whether new sounds are copies: of the sounds a network was trained on, or of each other."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .audio import fit_length, read
from .beats import Beat
from .clips import Clip, Clips
from .engine import AnySound, source_of
from .files import atomically
from .likeness import EMPTY, RATE, Facts, File, Index, described, file_of, heard, joined, pieces_of, search
from .runtime import cache_dir
from .sampler import Cancelled, Event
from .verbs import sound_files

NEAREST_THRESHOLD, WIDEST_THRESHOLD = 0.06, 0.09
"""Between these the threshold of a folder lies. Below the first are most copies that were shifted, turned upside down,
lowered, covered with 5 % of noise and sent through MP3, all at once (measured, see bench/originality.py); above the
second are two seconds of white noise: what is only of the same kind is no copy."""

DUPLICATE_THRESHOLD = 0.05
"""Of two clips of a batch; stricter, as of many pairs some are alike by chance."""

FEWEST_SOUNDS = 10
"""Of fewer nothing can be learned about how near sounds of a folder are to each other."""

NEAR_COPY, NO_COPY = "near copy of", "no near copy found in this folder"
UNCHECKED, SILENT = "cannot be checked here", "silent: there is nothing to compare"
WHY_UNCHECKED = "the training sounds are not at hand"

OnProgress = Callable[[int, int], object]

_SAMPLE = 500  # sounds of a folder whose nearest neighbours are looked for
_STRETCH_S = 2.0  # of each of them, as long as a clip
_LAYOUT = 2  # of the cache; another number makes it anew
_NAMES = 5


def originality(
    clips: Clips | AnySound | Beat | Sequence[AnySound | Beat],
    folder: str | Path | None,
    *,
    on_progress: OnProgress | None = None,
    cancel: Event | None = None,
) -> Originality:
    """Look for near copies: of training sounds among the clips, and of the clips among each other.

    Level, polarity, silence around a sound and the turn of a loop do not matter. Long sounds are compared second by
    second: a quotation of 1 s or more is found wherever it begins, down to 20 dB below the clip's peak, where nothing
    else sounds at once; of a beat its mix and each of its sounds are checked. What counts as near is learned from the
    folder, from how near its own sounds are to each other. What the folder sounds like is kept in the cache: the next
    time only new and changed files are read.

    Args:
        clips: what a verb returned, a clip, a beat, a path, ``(array, sample_rate)``, or several of them.
        folder: of the training sounds, at any depth; none if they are not at hand, then only the clips are compared.
        on_progress: called as ``on_progress(done, total)``, with files, sounds of the sample and clips counted.
        cancel: anything with ``is_set()``; files that have been read need not be read again.

    Returns:
        The findings: ``print`` shows them, a notebook cell shows both players of each.

    Raises:
        FileNotFoundError: no such folder, no sound in it, or no such sound file.
        ValueError: a clip that is no sound, or none of the files can be used.
        Cancelled: ``cancel`` was set.
    """
    given = [_given(sound) for sound in _several(clips)]
    if not given:
        raise ValueError("clips: there are none to check.")
    work = _Work(len(given), on_progress, cancel)
    folder = None if folder is None else Path(folder).expanduser().resolve()
    index, skipped = (None, {}) if folder is None else _index_of(folder, work)
    threshold = WIDEST_THRESHOLD if index is None else threshold_of(index.distances.numpy())
    sounds = [heard(clip.audio, clip.sample_rate) for clip, _ in given]
    rows = []
    for (clip, tracks), sound in zip(given, sounds, strict=True):
        work.go_on()
        row = _row(clip, sound, index, threshold)
        others = [_row_of_track(clip, track, played, index, threshold) for track, played in tracks.items()]
        rows.append(min([row, *others], key=lambda row: math.inf if row.distance is None else row.distance))
        work.done()
    files = 0 if index is None else len(index.files)
    pairs = _duplicates([clip for clip, _ in given], sounds)
    return Originality(tuple(rows), pairs, threshold, files, skipped, folder)


@dataclass(frozen=True, eq=False)
class Row:
    """What was found for one clip.

    Attributes:
        clip: the clip: the object that was given where that was a clip, of a beat its ``clip``.
        nearest: path inside the folder of the training sound that is nearest, with ``/``; none if nothing was compared,
            or if nothing is alike at all.
        at_s: where in that sound the stretch begins that the clip resembles.
        clip_at_s: where in the clip.
        distance: from 0 (the same) to 1 (nothing in common).
        score: share of the folder's sounds, 0 to 1, that are farther from their own nearest neighbour; none if
            the folder has fewer than 10 sounds.
        verdict: in words.
        near: whether it is a near copy.
        track: of a beat, the track whose sound this row is about, being nearer than the mix and the other sounds; none
            if it is about the mix.
        sound: what was compared: ``clip``, or that sound.
    """

    clip: Clip
    nearest: str | None = None
    at_s: float | None = None
    clip_at_s: float | None = None
    distance: float | None = None
    score: float | None = None
    verdict: str = UNCHECKED
    near: bool = False
    track: str | None = None
    sound: Clip | None = None

    def __post_init__(self) -> None:
        if self.sound is None:
            object.__setattr__(self, "sound", self.clip)


@dataclass(frozen=True, eq=False)
class Originality:
    """What ``originality`` found; ``print`` shows it as text.

    Attributes:
        rows: one for each clip, in order.
        duplicates: (number of a clip, number of a later one that is nearly the same, their distance).
        threshold: distance below which a sound is a near copy.
        files: training sounds that the clips were compared with.
        skipped: path inside the folder -> why this file could not be used.
        folder: of the training sounds; none if they were not at hand.
    """

    rows: tuple[Row, ...]
    duplicates: tuple[tuple[int, int, float], ...]
    threshold: float
    files: int
    skipped: dict[str, str]
    folder: Path | None

    def record(self, i: int) -> dict[str, Any]:
        """What a manifest says of clip ``i``; file names only, no folder of anybody's disk."""
        row = self.rows[i]
        if self.folder is None:
            return {"verdict": "not checked", "why": WHY_UNCHECKED}
        return {
            "verdict": _verdict(Path(row.nearest).name, row.track) if row.near else row.verdict,
            "nearest": row.nearest and Path(row.nearest).name,
            "distance": row.distance and round(row.distance, 4),
            "threshold": round(self.threshold, 4),
            "score": row.score and round(row.score, 4),
            "files": self.files,
        }

    def nearest_sound(self, i: int) -> Clip:
        """The stretch of the nearest training sound that clip ``i`` resembles, as long as the clip.

        Raises:
            ValueError: it was compared with nothing.
            FileNotFoundError: the file has gone since.
        """
        row = self.rows[i]
        if row.nearest is None:
            raise ValueError(f"clip {i} was compared with no training sound: {row.verdict}.")
        audio, rate = read(self.folder / row.nearest)
        start = min(max(0, round((row.at_s - row.clip_at_s) * rate)), audio.shape[-1] - 1)
        name = Path(row.nearest).name
        cut = fit_length(audio, round(row.sound.duration_s * rate), start)
        return Clip(cut, rate, 0, {"source": {"name": name}, "model": {"name": name}})

    def __str__(self) -> str:
        rows = [_about_row(i, row) for i, row in enumerate(self.rows)]
        return "\n".join([*_about_folder(self), *rows, *_about_pairs(self)])

    def __repr__(self) -> str:
        near = sum(row.near for row in self.rows)
        return f"<Originality of {len(self.rows)} clips: {near} near copies, {len(self.duplicates)} duplicates>"

    def _repr_html_(self) -> str:
        from .widgets import originality_html  # notebooks only, as in clips

        return originality_html(self)


def threshold_of(distances: np.ndarray) -> float:
    """The distance below which a sound is a near copy: 1 in 1000 of a folder's would be, if none were double.

    At 1 in 100, half of all batches of 50 would have a false alarm. By median and spread, which doubles in the folder
    hardly change; kept within what copies and others have measured.

    Args:
        distances: of some sounds of a folder to their nearest neighbours, 0 to 1; empty if there are too few.
    """
    if not len(distances):
        return WIDEST_THRESHOLD
    logs = np.log(np.maximum(distances, 1e-4))
    middle = np.median(logs)
    spread = 1.4826 * np.median(np.abs(logs - middle))
    return float(np.clip(np.exp(middle - 3.09 * spread), NEAREST_THRESHOLD, WIDEST_THRESHOLD))


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


def _several(clips: Any) -> Sequence[AnySound | Beat]:
    array = isinstance(clips, tuple) and len(clips) == 2 and isinstance(clips[1], Real)
    return [clips] if array or isinstance(clips, str | Path | Clip | Beat) else clips


def _given(sound: AnySound | Beat) -> tuple[Clip, Mapping[str, Clip]]:
    """The clip, and of a beat the sounds of its tracks."""
    if isinstance(sound, Beat):
        return sound.clip, sound.sounds
    if isinstance(sound, Clip) and np.isfinite(sound.audio).all():  # a silent one is said to be so, below
        return sound, {}
    source = source_of(sound, "clips")
    settings = {"source": source.record, "model": {"name": source.name}}
    return Clip(source.audio, source.sample_rate, 0, settings), {}


def _row(clip: Clip, sound: np.ndarray, index: Index | None, threshold: float) -> Row:
    if index is None:
        return Row(clip)
    if not sound.size:
        return Row(clip, verdict=SILENT)
    found = search(pieces_of(sound, clip.loop), index)
    best = min(found, key=lambda match: match.distance, default=None)
    distance = 1.0 if best is None else best.distance
    score = float((index.distances > distance).float().mean()) if len(index.distances) else None
    if best is None:
        return Row(clip, distance=distance, score=score, verdict=NO_COPY)
    name, near = index.files[best.file].name, distance <= threshold
    at_s = max(0.0, best.at_s - index.files[best.file].lead_s)
    return Row(clip, name, at_s, best.clip_at_s, distance, score, _verdict(name) if near else NO_COPY, near)


def _row_of_track(clip: Clip, track: str, sound: Clip, index: Index | None, threshold: float) -> Row:
    row = _row(sound, heard(sound.audio, sound.sample_rate), index, threshold)
    verdict = _verdict(row.nearest, track) if row.near else row.verdict
    return replace(row, clip=clip, track=track, sound=sound, verdict=verdict)


def _verdict(name: str, track: str | None = None) -> str:
    return f"{NEAR_COPY} {name}" + (f" (the sound of track {track})" if track else "")


def _duplicates(clips: list[Clip], sounds: list[np.ndarray]) -> tuple[tuple[int, int, float], ...]:
    facts = [described(sound) for sound in sounds]
    index = joined([file_of(str(i), 0, 0, f) for i, f in enumerate(facts)], facts)
    pairs: dict[tuple[int, int], float] = {}
    for i, (clip, sound) in enumerate(zip(clips, sounds, strict=True)):
        for match in search(pieces_of(sound, clip.loop), index, besides=i):
            pair = (min(i, match.file), max(i, match.file))
            if match.distance <= DUPLICATE_THRESHOLD:
                pairs[pair] = min(match.distance, pairs.get(pair, 1.0))
    return tuple((i, j, distance) for (i, j), distance in sorted(pairs.items()))


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


# --- words ------------------------------------------------------------------------------------------------------


def _about_folder(found: Originality) -> list[str]:
    if found.folder is None:
        return [f"Whether these are copies {UNCHECKED}: {WHY_UNCHECKED}."]
    lines = [
        f"Compared with {found.files} sounds in {found.folder.name}; near is a distance below {found.threshold:.3f}."
    ]
    if found.files < FEWEST_SOUNDS:
        lines.append(f"Fewer than {FEWEST_SOUNDS} sounds do not say how near theirs are: this is the usual bound.")
    if found.skipped:
        names = list(found.skipped)[:_NAMES]
        more = f" and {len(found.skipped) - _NAMES} more" if len(found.skipped) > _NAMES else ""
        lines.append(f"Not compared, as they cannot be read: {', '.join(names)}{more}.")
    return lines


def _about_row(i: int, row: Row) -> str:
    text = f"{i} {row.clip.name}: {row.verdict}"
    if row.distance is None:
        return text
    if row.nearest is None:
        return f"{text}; nothing is alike at all"
    of = f"nearest to its {row.track} is" if row.track else "nearest"
    where = f"at {row.at_s:.2f} s, " if row.near else f"{of} {row.nearest} at {row.at_s:.2f} s, "
    text += f"; {where}distance {row.distance:.3f}"
    if row.score is None:
        return text
    return f"{text}, nearer than {100 * row.score:.1f} % of the folder's sounds are to each other"


def _about_pairs(found: Originality) -> list[str]:
    return [f"Clips {i} and {j} are nearly the same (distance {d:.3f})." for i, j, d in found.duplicates]
