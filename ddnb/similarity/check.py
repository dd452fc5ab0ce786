"""Whether new sounds are copies: of the sounds a network was trained on, or of each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from ..clips.clip import Clip, Clips
from ..clips.source import AnySound, source_of
from ..generation.beat import Beat
from ..sampler import Event
from .features import described, heard, pieces_of
from .index import OnProgress, _index_of, _Work
from .report import NO_COPY, SILENT, Originality, Row, _verdict
from .search import Index, file_of, joined, search

NEAREST_THRESHOLD, WIDEST_THRESHOLD = 0.06, 0.09
"""Between these the threshold of a folder lies. Below the first are most copies that were shifted, turned upside down,
lowered, covered with 5 % of noise and sent through MP3, all at once (measured, see bench/originality.py); above the
second are two seconds of white noise: what is only of the same kind is no copy."""

DUPLICATE_THRESHOLD = 0.05
"""Of two clips of a batch; stricter, as of many pairs some are alike by chance."""


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
