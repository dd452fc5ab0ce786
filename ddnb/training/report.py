"""The report on a folder of sounds, made before hours are spent on training with it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..checkpoints.checkpoint import Checkpoint
from ..display.text import shown
from ..files import expand
from .advice import MAX_STEPS, MIN_STEPS, advise, describe_contents, describe_faults, describe_time, describe_unused
from .batches import should_crop
from .config import TrainingConfig
from .dataset import MAX_CATEGORIES, Dataset, OnFile, decode, in_known_classes
from .near_copies import compute_feature, find_near_copies
from .report_html import dataset_html
from .trainer import Trainer

QUIET_DBFS = -30.0
LATE_S = 0.02
ONSET_DB = -40.0
"""Level, relative to its peak, that marks the onset of a sound."""

DC_OFFSET = 0.01
CLIPPED_SHARE = 0.0005
"""Share of a file's samples in flat tops from which they are reported; a single one is inaudible."""
_BLOCK = 1 << 16  # frames


@dataclass(frozen=True, eq=False)
class DatasetReport:
    """The report of ``check_dataset``; ``print`` shows all of it as text.

    Attributes:
        folder: name of the folder.
        data: the sounds, see ``dataset.Dataset``; ``data.unusable`` names the files that cannot be used, with reasons.
        clip_frames: length of a clip of the checkpoint at its sample rate; None without a checkpoint.
        quiet: names of the sounds whose peak is below -30 dBFS.
        clipped: names of the sounds with flat tops.
        offset: names of the sounds whose mean is above 0.01 of full scale (DC).
        cancelling: names of the sounds whose channels cancel each other in mono.
        late: names of the sounds that begin with more than 20 ms of silence.
        near_copies: (name, name of an earlier sound that is nearly the same).
        crop: whether clips should be cut from anywhere in the sounds.
        steps: number of steps to train, by a rule of thumb.
        advice: sentences.
    """

    folder: str
    data: Dataset
    clip_frames: int | None
    quiet: tuple[str, ...]
    clipped: tuple[str, ...]
    offset: tuple[str, ...]
    late: tuple[str, ...]
    cancelling: tuple[str, ...]
    near_copies: tuple[tuple[str, str], ...]
    crop: bool
    steps: int
    advice: list[str]

    def sections(self) -> dict[str, list[str]]:
        """Return the report as headings with lines of text, without headings that have no lines."""
        sections = {
            "Contents": describe_contents(self.data),
            "Worth checking": describe_faults(
                self.clipped, self.quiet, self.late, self.offset, self.cancelling, self.near_copies
            ),
            "Not used": describe_unused(self.data),
            "Advice": self.advice,
        }
        return {heading: lines for heading, lines in sections.items() if lines}

    def __str__(self) -> str:
        parts = [f"{heading}\n" + "\n".join(f"- {line}" for line in ls) for heading, ls in self.sections().items()]
        return "\n\n".join([f"Sounds in {shown(self.folder)}", *parts])

    def __repr__(self) -> str:
        return f"<DatasetReport of {shown(self.folder)}: {len(self.data.sounds)} sounds, {len(self.advice)} remarks>"

    def _repr_html_(self) -> str:
        return dataset_html(self.folder, self.sections(), self.data, self.clip_frames)


def check_dataset(
    folder: str | Path, ckpt: Checkpoint | None = None, *, on_file: OnFile | None = None
) -> DatasetReport:
    """Examine a folder of sounds before training: its contents, its faults, and how to train on it.

    The sounds are read once and kept in the cache, which training uses as well.

    Args:
        folder: sound files, or class folders of them (``kick/...``, ``snare/...``).
        ckpt: the checkpoint to train, from ``load``. With it the report also says whether to crop and, from a few real
            training steps, how long training takes on this machine. Without it the sounds are read at 44.1 kHz.
        on_file: called after each file is read, and again after it is examined, as ``on_file(done, total)``.

    Returns:
        The report: ``print(report)``, or put it in the last line of a notebook cell, where it has a picture as well.

    Raises:
        TypeError: ``ckpt`` is not what ``load`` returns.
        FileNotFoundError: no such folder.
        DatasetError: nothing in it can be used; the message says why.
    """
    if ckpt is not None and not isinstance(ckpt, Checkpoint):
        raise TypeError(f"ckpt={ckpt!r}: pass what ddnb.load({ckpt!r}) returns.")
    on_file = on_file or (lambda done, total: None)
    rate, channels = (ckpt.sample_rate, ckpt.channels) if ckpt else (44100, 2)
    data = decode(folder, rate, channels, lambda done, total: on_file(done, 2 * total))
    data = in_known_classes(data, ckpt.categories if ckpt else ())
    onsets, features = _examine(data, on_file)
    names = [s.name for s in data.sounds]
    crop = ckpt is not None and should_crop(data, ckpt.frames)
    steps = _suggest_steps(data, ckpt.frames if ckpt and crop else None)
    return DatasetReport(
        expand(folder).resolve().name,
        data,
        ckpt.frames if ckpt else None,
        quiet=tuple(s.name for s in data.sounds if s.peak_dbfs < QUIET_DBFS),
        clipped=tuple(
            s.name for s in data.sounds if s.clipped > CLIPPED_SHARE * s.duration_s * s.sample_rate * s.channels
        ),
        offset=tuple(s.name for s in data.sounds if abs(s.dc) > DC_OFFSET),
        late=tuple(name for name, onset in zip(names, onsets, strict=True) if onset > LATE_S * rate),
        cancelling=tuple(s.name for s in data.sounds if s.side is not None),
        near_copies=tuple((names[i], names[j]) for i, j in find_near_copies(features)),
        crop=crop,
        steps=steps,
        advice=advise(data, ckpt, crop, steps) + _predict_time(data, ckpt, crop, steps),
    )


def _examine(data: Dataset, on_file: OnFile) -> tuple[list[int], np.ndarray]:
    """Return the onset of each sound in frames, and features (sounds, features); some 2 ms per sound."""
    onsets, features = [], []
    total = 2 * (len(data.sounds) + len(data.unusable))
    for i in range(len(data.sounds)):
        audio = data.sound(i)
        onsets.append(_find_onset(audio))
        features.append(compute_feature(audio[:, onsets[-1] :], data.sample_rate))
        on_file(total - len(data.sounds) + i + 1, total)
    return onsets, np.stack(features)


def _find_onset(audio: np.ndarray) -> int:
    """Return the first frame of a sound (channels, frames) within 40 dB of its peak; it is read block by block."""
    threshold = max(float(audio.max()), -float(audio.min())) * 10 ** (ONSET_DB / 20)
    for start in range(0, audio.shape[1], _BLOCK):
        loud = (np.abs(audio[:, start : start + _BLOCK]) >= threshold).any(axis=0)
        if loud.any():
            return start + int(loud.argmax())
    return 0


def _suggest_steps(data: Dataset, clip_frames: int | None) -> int:
    """Return 10 steps per sound, or per clip's length where sounds are cropped, in whole hundreds within limits."""
    clips = sum(max(1, s.frames // clip_frames) if clip_frames else 1 for s in data.sounds)
    return min(max(math.ceil(clips / 10) * 100, MIN_STEPS), MAX_STEPS)


def _predict_time(data: Dataset, ckpt: Checkpoint | None, crop: bool, steps: int) -> list[str]:
    if ckpt is None or len({*ckpt.categories, *data.categories}) > MAX_CATEGORIES:  # training refuses so many
        return []
    try:
        seconds, batch_size = measure_step(ckpt, data, crop=crop)
    except MemoryError as error:
        return [f"On this machine ({ckpt.device}) training does not fit into the memory: {error}"]
    return [describe_time(ckpt.device, steps, seconds, batch_size)]


def measure_step(ckpt: Checkpoint, data: Dataset, *, crop: bool) -> tuple[float, int]:
    """Measure a training step on this machine by running a few, whose result is discarded.

    Args:
        ckpt: the checkpoint to train.
        data: the sounds to train on.
        crop: as in ``TrainingConfig``.

    Returns:
        Seconds per step, and the batch size that was measured.
    """
    trainer = Trainer(ckpt, data, TrainingConfig(crop=crop, validation=0.0, fit=False))
    trainer.train_step()  # the first one is slower
    started, steps = time.perf_counter(), 2
    for _ in range(steps):
        trainer.train_step()
    return (time.perf_counter() - started) / steps, trainer.batch_size
