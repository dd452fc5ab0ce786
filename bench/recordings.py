"""The held-out recordings that the measurements of the verbs work on."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recipe.data import CATEGORIES, load_prepared

DATA = Path(__file__).parent.parent / "build" / "default_data.npz"
SUSTAINED = ("bass", "synth", "texture")
"""Categories of sounds that last."""


class Recording(NamedTuple):
    """A held-out recording: ``audio`` float32 (frames,) at 44.1 kHz."""

    audio: np.ndarray
    category: str


def draw_recordings(n: int) -> list[Recording]:
    """Draw ``n`` recordings, one category after the other while they last, at most one of each group."""
    data, rng, each = load_prepared(DATA), np.random.default_rng(0), []
    for label in range(len(CATEGORIES)):
        mine = rng.permutation(np.flatnonzero(data.held_out & (data.labels == label)))
        _, first = np.unique(np.array(data.groups)[mine], return_index=True)
        each.append(mine[np.sort(first)])
    drawn = [i for turn in zip_longest(*each) for i in turn if i is not None][:n]
    drawn.sort(key=lambda i: data.labels[i])
    return [Recording(data.sounds[i] / np.float32(32768), CATEGORIES[data.labels[i]]) for i in drawn]


def describe_counts(sounds: list[Recording]) -> str:
    """Return the number of recordings of each category."""
    numbers = {c: sum(s.category == c for s in sounds) for c in CATEGORIES}
    return f"{len(sounds)} held-out recordings: " + ", ".join(f"{n} {c}" for c, n in numbers.items() if n)
