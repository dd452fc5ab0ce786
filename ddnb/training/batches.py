"""Training clips, drawn from a data set; what is held out for validation; batches that are read ahead.

A clip depends on the seed and on its number in the whole run only, not on what was drawn before: a resumed run gets the
clips that would have come next, and several processes share a batch without communication.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from .config import TrainingConfig
from .dataset import Dataset

_LONG = 8  # a sound this many times as long as a clip is split into pieces of half of that
_MIN_UNITS = 5  # of fewer sounds, or pieces, none can be spared for validation
_FADE = 64  # frames at the end of a shortened clip


class Piece(NamedTuple):
    """A stretch of ``Dataset.audio`` to draw from: its place, and the numbers of its category (-1: none) and sound."""

    start: int
    frames: int
    label: int
    sound: int


def should_crop(data: Dataset, frames: int) -> bool:
    """Return whether to cut clips from anywhere in the sounds: the median one is over twice as long as a clip."""
    return median(sound.frames for sound in data.sounds) > 2 * frames


def pieces(data: Dataset, frames: int, crop: bool, categories: Sequence[str] = ()) -> list[Piece]:
    """List what can be drawn, sound by sound; with ``crop`` a long recording is split into several pieces.

    So a recording of an hour weighs more than one of a second, and a part of it can be held out.

    Args:
        data: what ``decode`` returned.
        frames: length of a clip.
        crop: clips begin anywhere in a sound, not at its beginning only.
        categories: names in the order of their numbers; sounds of other categories get -1.
    """
    found: list[Piece] = []
    first: dict[str, int] = {}  # a file in two classes is one sound
    for index, sound in enumerate(data.sounds):
        label = categories.index(sound.category) if sound.category in categories else -1
        n = max(1, sound.frames // (frames * _LONG // 2)) if crop and sound.frames >= frames * _LONG else 1
        edges = [sound.start + sound.frames * i // n for i in range(n + 1)]
        found += [Piece(a, b - a, label, first.setdefault(sound.sha256, index)) for a, b in pairwise(edges)]
    return found


def hold_out(found: Sequence[Piece], share: float, most: int, seed: int) -> tuple[list[Piece], list[Piece]]:
    """Split pieces into those to train on and those held out, sound by sound; piece by piece below 5 sounds.

    No category loses its last piece, and of fewer than 5 pieces nothing is held out.

    Args:
        found: what ``pieces`` returned.
        share: share of the pieces to hold out; at least one piece if it is above 0.
        most: pieces to hold out at most.
        seed: seed of the choice.

    Returns:
        The pieces to train on, and the pieces that are held out.
    """
    by_sound: dict[int, list[int]] = {}
    for i, piece in enumerate(found):
        by_sound.setdefault(piece.sound, []).append(i)
    units = list(by_sound.values()) if len(by_sound) >= _MIN_UNITS else [[i] for i in range(len(found))]
    wanted = min(most, max(1, round(share * len(found)))) if share and len(units) >= _MIN_UNITS else 0
    order = np.random.default_rng([seed, 1]).permutation(len(units)).tolist()
    remaining, held = Counter(p.label for p in found), set[int]()
    for unit in [units[k] for k in order] + [min(units, key=len)] if wanted else []:
        labels = Counter(found[i].label for i in unit)
        fits = len(held) + len(unit) <= wanted or (not held and unit is min(units, key=len))
        if fits and not held & set(unit) and all(remaining[label] > n for label, n in labels.items()):
            held |= set(unit)
            remaining -= labels
    return [p for i, p in enumerate(found) if i not in held], [found[i] for i in sorted(held)]


class Augment(NamedTuple):
    """Random changes of a clip that are hardly audible, but make it another one for the network."""

    invert: bool = True
    """Invert polarity with p = 0.5."""
    quieter_db: float = 6.0
    """Lower the level by up to this."""
    shift_s: float = 0.005
    """Start up to this much later, except where the clip is cropped anyway."""


def draw(
    data: Dataset,
    found: Sequence[Piece],
    items: range,
    frames: int,
    *,
    crop: bool,
    augment: Augment | None,
    seed: int,
    level_dbfs: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw training clips; each pass over the data has an order of its own.

    Args:
        data: what ``decode`` returned.
        found: pieces to draw from.
        items: numbers of the clips in the whole run, from 0 on.
        frames: length of a clip; shorter sounds are followed by silence.
        crop: begin anywhere in a sound, else at its beginning.
        augment: random changes; None for none.
        seed: seed of the order and of the changes.
        level_dbfs: the peak that each sound gets before the changes; None for its own.

    Returns:
        Clips, float32 (B, channels, frames), and the numbers of their categories, int64 (B,).
    """
    clips = np.zeros((len(items), frames, data.audio.shape[1]), np.float32)
    labels = np.empty(len(items), np.int64)
    for clip, row, item in zip(clips, range(len(items)), items, strict=True):
        epoch, place = divmod(item, len(found))
        piece = found[_order(len(found), seed, epoch)[place]]
        rng = np.random.default_rng([seed, 3, item])
        spare, late, gain_db, sign = piece.frames - frames, 0, 0.0, 1
        if level_dbfs is not None:
            gain_db = level_dbfs - data.sounds[piece.sound].peak_dbfs
        offset = int(rng.integers(spare + 1)) if crop and spare > 0 else 0
        if augment is not None:
            latest = min(round(augment.shift_s * data.sample_rate), frames // 4)
            late = 0 if crop and spare > 0 else int(rng.integers(latest + 1))
            gain_db -= rng.uniform(0, augment.quieter_db)
            sign = -1 if augment.invert and rng.random() < 0.5 else 1
        start, length = piece.start + offset, min(piece.frames - offset, frames - late)
        clip[late : late + length] = data.audio[start : start + length]
        clip *= sign * 10 ** (gain_db / 20)
        labels[row] = piece.label
    return clips.transpose(0, 2, 1), labels


@lru_cache(maxsize=4)
def _order(n: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, 2, epoch]).permutation(n)


class BatchReader:
    """The batches of one process, of which the next one is read in a thread while a step is computed.

    Args:
        data: what ``decode`` returned.
        found: pieces to draw from.
        config: the settings of the run; ``crop`` and ``batch_size`` must be chosen.
        frames: length of a clip.
        process, processes: number of this process, and how many share a batch.
        level_dbfs: see ``draw``.
    """

    def __init__(
        self,
        data: Dataset,
        found: Sequence[Piece],
        config: TrainingConfig,
        frames: int,
        process: int,
        processes: int,
        level_dbfs: float | None = None,
    ):
        self.data, self.pieces, self.config, self.frames = data, found, config, frames
        self.level_dbfs = level_dbfs
        self.process, self.processes = process, processes
        self._thread = ThreadPoolExecutor(1)
        self._ahead: dict[int, Future[tuple[np.ndarray, np.ndarray]]] = {}

    def is_loop(self, number: int) -> bool:
        """Return whether batch ``number`` of the run is trained as loops."""
        return bool(self.config.loop_every) and number % self.config.loop_every == 0

    def get(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return batch ``number`` of the run, and begin to read the next one."""
        ready = self._ahead.pop(number, None) or self._thread.submit(self.read, number)
        self._ahead = {number + 1: self._thread.submit(self.read, number + 1)}
        return ready.result()

    def read(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Read this process's part of batch ``number``.

        Returns:
            Clips, float32 (B, channels, T), and the numbers of their categories, int64 (B,). In every second batch both
            B and 1/T are ``shorten`` times as large.
        """
        config = self.config
        assert config.batch_size is not None and config.crop is not None
        parts = config.shorten if number % 2 else 1
        size, frames = config.batch_size * parts, self.frames // parts
        first = number * config.batch_size * self.processes * config.shorten + self.process * size
        items = range(first, first + size)
        augment = Augment() if config.augment else None
        options: dict[str, Any] = {"crop": config.crop, "augment": augment, "seed": config.seed}
        clips, labels = draw(self.data, self.pieces, items, frames, level_dbfs=self.level_dbfs, **options)
        if parts > 1:  # the end of a shortened clip is not the end of the sound
            clips[..., -_FADE:] *= np.linspace(1, 0, _FADE, dtype=np.float32)
        if self.is_loop(number):
            shifts = (np.random.default_rng([config.seed, 4, item]).integers(frames) for item in items)
            clips = np.stack([np.roll(clip, shift, -1) for clip, shift in zip(clips, shifts, strict=True)])
        return clips, labels
