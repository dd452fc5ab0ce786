"""``originality``: near copies of training sounds among new sounds, and duplicates among these."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from ..clips.clip import Clip, Clips
from ..clips.packed import is_pack_file, read_pack
from ..clips.source import AnySound, input_clip
from ..errors import ArgumentError
from ..files import expand
from ..generation.beat import Beat
from ..steps import Event
from .features import describe, normalize, split_pieces
from .index import OnProgress, Progress, index_folder
from .report import NO_COPY, SILENT, Originality, Row, copy_verdict
from .search import Index, join_index, make_file, search

NEAREST_THRESHOLD, WIDEST_THRESHOLD = 0.06, 0.09
"""Bounds of a folder's threshold. Most copies that were shifted, inverted in polarity, lowered, mixed with 5 % of noise
and encoded as MP3, all at once, are below the first (measured, see bench/originality.py); two seconds of different
white noise
are above the second: sounds that are only of the same kind are no copies."""

DUPLICATE_THRESHOLD = 0.05
"""Threshold for two clips of a batch; stricter, as among many pairs some are similar by chance."""


def originality(
    clips: Clips | AnySound | Beat | Sequence[AnySound | Beat],
    folder: str | Path | None,
    *,
    on_progress: OnProgress | None = None,
    cancel: Event | None = None,
) -> Originality:
    """Find near copies of training sounds among the clips, and duplicates among the clips.

    Level, polarity, silence around a sound and the rotation of a loop do not matter. Long sounds are compared second by
    second: a quotation of 1 s or more is found wherever it begins, down to 20 dB below the clip's peak, if nothing else
    sounds at the same time; for a beat its mix and each of its sounds are checked. The threshold is set by the
    distances among the folder's own sounds. The features of the folder are cached, so only new and changed files are
    read again.

    Args:
        clips: what a verb returned, a clip, a beat, a path, ``(array, sample_rate)``, or several of them; the path may
            be that of a pack's ZIP file, whose sounds are meant.
        folder: the training sounds, at any depth; with None only the clips are compared with each other.
        on_progress: called as ``on_progress(done, total)``; files, sampled sounds and clips count.
        cancel: an event with ``is_set()``; files that were read are cached.

    Returns:
        The findings: ``print`` shows them as text, a notebook cell with both players of each.

    Raises:
        FileNotFoundError: no such folder, no sound in it, or no such sound file.
        AudioError, ArgumentError: something that is no sound, or no clips.
        RecordError: a ZIP file that is no pack, or damaged.
        DatasetError: none of the files can be read.
        Cancelled: ``cancel`` was set.
    """
    given = [_as_clip(sound) for sound in _without_packs(_as_list(clips))]
    if not given:
        raise ArgumentError("clips: there are none to check.")
    progress = Progress(len(given), on_progress, cancel)
    folder = None if folder is None else expand(folder).resolve()
    index, skipped = (None, {}) if folder is None else index_folder(folder, progress)
    threshold = WIDEST_THRESHOLD if index is None else threshold_of(index.distances.numpy())
    sounds = [normalize(clip.audio, clip.sample_rate) for clip, _ in given]
    rows = []
    for (clip, tracks), sound in zip(given, sounds, strict=True):
        progress.check()
        row = _check_clip(clip, sound, index, threshold)
        others = [_check_track(clip, track, played, index, threshold) for track, played in tracks.items()]
        rows.append(min([row, *others], key=lambda row: math.inf if row.distance is None else row.distance))
        progress.advance()
    files = 0 if index is None else len(index.files)
    pairs = _find_duplicates([clip for clip, _ in given], sounds)
    return Originality(tuple(rows), pairs, threshold, files, skipped, folder)


def threshold_of(distances: np.ndarray) -> float:
    """Return the distance below which a sound is a near copy: 1 in 1000 of a folder's own, if it had no duplicates.

    At 1 in 100, half of all batches of 50 would have a false alarm. It is computed from median and spread, which
    duplicates hardly change, and limited to the bounds that were measured on copies and different sounds.

    Args:
        distances: distances of some sounds of a folder to their nearest neighbours, 0 to 1; empty if there are too few.
    """
    if not len(distances):
        return WIDEST_THRESHOLD
    logs = np.log(np.maximum(distances, 1e-4))
    middle = np.median(logs)
    spread = 1.4826 * np.median(np.abs(logs - middle))
    return float(np.clip(np.exp(middle - 3.09 * spread), NEAREST_THRESHOLD, WIDEST_THRESHOLD))


def _as_list(clips: Any) -> Sequence[AnySound | Beat]:
    array = isinstance(clips, tuple) and len(clips) == 2 and isinstance(clips[1], Real)
    return [clips] if array or isinstance(clips, str | Path | Clip | Beat) else clips


def _without_packs(sounds: Sequence[AnySound | Beat]) -> Iterator[AnySound | Beat]:
    """Yield the sounds, those of a pack in its place."""
    for sound in sounds:
        if isinstance(sound, str | Path) and is_pack_file(sound):
            yield from read_pack(sound)
        else:
            yield sound


def _as_clip(sound: AnySound | Beat) -> tuple[Clip, Mapping[str, Clip]]:
    """Return the clip, and for a beat the sounds of its tracks."""
    if isinstance(sound, Beat):
        return sound.clip, sound.sounds
    if isinstance(sound, Clip) and np.isfinite(sound.audio).all():  # a silent one gets a verdict of its own
        return sound, {}
    return input_clip(sound, "clips"), {}


def _check_clip(clip: Clip, sound: np.ndarray, index: Index | None, threshold: float) -> Row:
    if index is None:
        return Row(clip)
    if not sound.size:
        return Row(clip, verdict=SILENT)
    found = search(split_pieces(sound, clip.loop), index)
    best = min(found, key=lambda match: match.distance, default=None)
    distance = 1.0 if best is None else best.distance
    score = float((index.distances > distance).float().mean()) if len(index.distances) else None
    if best is None:
        return Row(clip, distance=distance, score=score, verdict=NO_COPY)
    name, near = index.files[best.file].name, distance <= threshold
    at_s = max(0.0, best.at_s - index.files[best.file].lead_s)
    return Row(clip, name, at_s, best.clip_at_s, distance, score, copy_verdict(name) if near else NO_COPY, near)


def _check_track(clip: Clip, track: str, sound: Clip, index: Index | None, threshold: float) -> Row:
    row = _check_clip(sound, normalize(sound.audio, sound.sample_rate), index, threshold)
    verdict = copy_verdict(row.nearest or "", track) if row.near else row.verdict
    return replace(row, clip=clip, track=track, sound=sound, verdict=verdict)


def _find_duplicates(clips: list[Clip], sounds: list[np.ndarray]) -> tuple[tuple[int, int, float], ...]:
    facts = [describe(sound) for sound in sounds]
    index = join_index([make_file(str(i), 0, 0, f) for i, f in enumerate(facts)], facts)
    pairs: dict[tuple[int, int], float] = {}
    for i, (clip, sound) in enumerate(zip(clips, sounds, strict=True)):
        for match in search(split_pieces(sound, clip.loop), index, besides=i):
            pair = (min(i, match.file), max(i, match.file))
            if match.distance <= DUPLICATE_THRESHOLD:
                pairs[pair] = min(match.distance, pairs.get(pair, 1.0))
    return tuple((i, j, distance) for (i, j), distance in sorted(pairs.items()))
