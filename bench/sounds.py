"""Sets of sounds to judge: from a checkpoint, a folder, the prepared recordings, or white noise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import ddnb
from bench.quality import SAMPLE_RATE
from ddnb.audio.io import fit_length, read, resample
from recipe.data import CATEGORIES, FRAMES, Prepared, pad


class Sounds(NamedTuple):
    """A set of sounds.

    Attributes:
        audio: float32 (n, 65,536), mono at 44.1 kHz, cut or padded with silence.
        labels: int64 (n,), indices of the categories that are judged.
        groups: (n,), equal for sounds that share a recording.
        names: name of each sound.
    """

    audio: Tensor
    labels: np.ndarray
    groups: np.ndarray
    names: list[str]


NamedSounds = dict[str, list[tuple[str, np.ndarray]]]
"""Category -> name and mono audio (frames,) at 44.1 kHz of each sound."""


def generate_each(
    source: str, known: Sequence[str], n: int, seed: int, options: dict[str, Any], opening: dict[str, Any]
) -> NamedSounds:
    """Generate ``n`` sounds of each known category that a checkpoint has; no two sounds share a seed.

    Args:
        source: what ``ddnb.load`` takes.
        known: the categories of the recordings.
        n: sounds per category.
        seed: seed of the first sound.
        options: keyword arguments of ``ddnb.generate``.
        opening: keyword arguments of ``ddnb.load``.

    Raises:
        ValueError: the checkpoint has none of the categories.
        RuntimeError: fewer sounds were generated than asked for, because of an interrupt or too little memory.
    """
    ckpt, made = ddnb.load(source, **opening), {}
    for i, category in enumerate(c for c in known if c in ckpt.categories):
        clips = ddnb.generate(ckpt, n, seed + i * n, category=category, level="network", **options)
        if len(clips) < n:
            raise RuntimeError(f"{category}: {len(clips)} of {n} sounds were generated.")
        made[category] = [
            (_name(clip), resample(clip.audio.mean(0, keepdims=True), clip.sample_rate, SAMPLE_RATE)[0])
            for clip in clips
        ]
        print(f"{category}: {n} sounds", flush=True)
    if not made:
        raise ValueError(
            f"{source} has the categories {list(ckpt.categories)}: expected at least one of {list(known)}."
        )
    return made


def _name(clip: ddnb.Clip) -> str:
    note = clip.provenance.root_note
    return f"seed {clip.seed}" + (f", {note.name}" if note else "")


def read_folder(folder: Path, known: Sequence[str], n: int) -> NamedSounds:
    """Read the first ``n`` WAV files of each class folder, in the order of their names."""
    found = {category: sorted((folder / category).glob("*.wav"))[:n] for category in known}
    return {
        category: [(path.name, read(path, SAMPLE_RATE, 1)[0][0]) for path in paths]
        for category, paths in found.items()
        if paths
    }


def make_noise(counts: dict[str, int], frames: int, seed: int) -> NamedSounds:
    """Make white noise at -20 dBFS: the given number of sounds for each category."""
    generator = torch.Generator().manual_seed(seed)
    return {
        category: [(f"noise {i}", 0.1 * torch.randn(frames, generator=generator).numpy()) for i in range(n)]
        for category, n in counts.items()
    }


def gather(made: NamedSounds) -> Sounds:
    """Collect sounds in one set, each in its own group; a label is the index of the category among the keys."""
    rows = [(i, name, audio) for i, sounds in enumerate(made.values()) for name, audio in sounds]
    labels = np.array([i for i, _, _ in rows])
    audio = torch.from_numpy(np.stack([fit_length(audio, FRAMES) for _, _, audio in rows]).astype(np.float32))
    return Sounds(audio, labels, np.arange(len(rows)), [name for _, name, _ in rows])


def select_recordings(data: Prepared, held_out: bool, categories: Sequence[str], frames: int) -> Sounds:
    """Return the held-out or the other recordings of these categories, cut to ``frames``."""
    numbers = [CATEGORIES.index(category) for category in categories]
    index = np.flatnonzero((data.held_out == held_out) & np.isin(data.labels, numbers))
    audio = torch.from_numpy(pad(data, index))
    audio[:, frames:] = 0
    labels = np.array([numbers.index(label) for label in data.labels[index]])
    return Sounds(audio, labels, np.array(data.groups)[index], [data.names[i] for i in index])


def draw_some(sounds: Sounds, n: int, seed: int) -> Sounds:
    """Draw up to ``n`` sounds of each category."""
    rng = np.random.default_rng(seed)
    index = draw_each(sounds.labels, np.minimum(np.bincount(sounds.labels), n), rng)
    return Sounds(sounds.audio[index], sounds.labels[index], sounds.groups[index], [sounds.names[i] for i in index])


def draw_each(labels: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the sorted indices of ``counts[c]`` random sounds of each category c, without replacement."""
    chosen = [rng.choice(np.flatnonzero(labels == c), count, replace=False) for c, count in enumerate(counts)]
    return np.sort(np.concatenate(chosen))
