"""What a folder of sounds is good for, said before hours are spent on training with it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from ..checkpoints.checkpoint import Checkpoint
from ..display.text import shown
from .advice import _MAX_STEPS, _MIN_STEPS, _advice, _count, _not_used, _some, _what_is_there
from .dataset import Dataset, OnFile, decode
from .near_copies import _feature, near_copies
from .report_html import dataset_html

QUIET_DBFS = -30.0
LATE_S = 0.02
ONSET_DB = -40.0
"""A sound begins where it first comes this near to its peak."""

DC_OFFSET = 0.01
CLIPPED_SHARE = 0.0005
"""Flat tops are reported from this share of a file's samples on; a single one cannot be heard."""
_BLOCK = 1 << 16


@dataclass(frozen=True, eq=False)
class DatasetReport:
    """What ``check_dataset`` found; ``print`` shows all of it as text.

    Attributes:
        folder: its name.
        data: the sounds themselves, see ``dataset.Dataset``; ``data.unusable`` has what cannot be used, with reasons.
        clip_frames: length of a clip of the checkpoint at its sample rate; none without a checkpoint.
        quiet: names of the sounds whose peak is below -30 dBFS.
        clipped: those with flat tops.
        offset: those whose mean is off zero by more than 0.01 of full scale.
        late: those that begin with more than 20 ms of silence.
        near_copies: (name, name of an earlier one that is nearly the same).
        crop: whether clips should be drawn from anywhere in the sounds.
        steps: how many steps to train, by a rule of thumb.
        advice: sentences.
    """

    folder: str
    data: Dataset
    clip_frames: int | None
    quiet: tuple[str, ...]
    clipped: tuple[str, ...]
    offset: tuple[str, ...]
    late: tuple[str, ...]
    near_copies: tuple[tuple[str, str], ...]
    crop: bool
    steps: int
    advice: list[str]

    def sections(self) -> dict[str, list[str]]:
        """Return the report as headings with lines of text; headings without lines are left out."""
        found = {
            "What is there": _what_is_there(self.data),
            "Worth a look": _worth_a_look(self),
            "Not used": _not_used(self.data),
            "Advice": self.advice,
        }
        return {heading: lines for heading, lines in found.items() if lines}

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
    """Look through a folder of sounds before training: what is in it, what is wrong with it, how to train on it.

    The sounds are read once and kept in the cache, where training finds them.

    Args:
        folder: sound files, or class folders of them (``kick/...``, ``snare/...``).
        ckpt: what will be trained, from ``load``. With it the report also says whether to crop and, from a few real
            training steps, how long training takes on this machine. Without it the sounds are taken at 44.1 kHz.
        on_file: called after each file is read, and again after it is examined, as ``on_file(done, total)``.

    Returns:
        The report: ``print(report)``, or leave it in the last line of a notebook cell, where it has a picture as well.

    Raises:
        TypeError: ``ckpt`` is not what ``load`` returns.
        FileNotFoundError: no such folder.
        ValueError: nothing in it can be used; the message says why.
    """
    if ckpt is not None and not isinstance(ckpt, Checkpoint):
        raise TypeError(f"ckpt={ckpt!r}: pass what ddnb.load({ckpt!r}) returns.")
    tell = on_file or (lambda done, total: None)
    rate, channels = (ckpt.sample_rate, ckpt.channels) if ckpt else (44100, 2)
    data = decode(folder, rate, channels, lambda done, total: tell(done, 2 * total))
    onsets, features = _examine(data, tell)
    names = [s.name for s in data.sounds]
    crop = ckpt is not None and median(s.frames for s in data.sounds) > 2 * ckpt.frames
    steps = _steps(data, ckpt.frames if ckpt and crop else None)
    return DatasetReport(
        Path(folder).expanduser().resolve().name,
        data,
        ckpt.frames if ckpt else None,
        tuple(s.name for s in data.sounds if s.peak_dbfs < QUIET_DBFS),
        tuple(s.name for s in data.sounds if s.clipped > CLIPPED_SHARE * s.duration_s * s.sample_rate * s.channels),
        tuple(s.name for s in data.sounds if abs(s.dc) > DC_OFFSET),
        tuple(s.name for s, onset in zip(data.sounds, onsets, strict=True) if onset > LATE_S * rate),
        tuple((names[i], names[j]) for i, j in near_copies(features)),
        crop,
        steps,
        _advice(data, ckpt, crop, steps),
    )


def _examine(data: Dataset, tell: OnFile) -> tuple[list[int], np.ndarray]:
    """Onsets in frames, and features (sounds, features): some 2 ms per sound."""
    onsets, features = [], []
    total = 2 * (len(data.sounds) + len(data.unusable))
    for i in range(len(data.sounds)):
        audio = data.sound(i)
        onsets.append(_onset(audio))
        features.append(_feature(audio[:, onsets[-1] :], data.sample_rate))
        tell(total - len(data.sounds) + i + 1, total)
    return onsets, np.stack(features)


def _steps(data: Dataset, clip_frames: int | None) -> int:
    """About 10 per sound, or per clip's length of it where clips come from anywhere in it; whole hundreds."""
    clips = sum(max(1, s.frames // clip_frames) if clip_frames else 1 for s in data.sounds)
    return min(max(math.ceil(clips / 10) * 100, _MIN_STEPS), _MAX_STEPS)


# --- the ear ----------------------------------------------------------------------------------------------------


def _onset(audio: np.ndarray) -> int:
    """The first frame of a sound (channels, frames) that is not 40 dB below its peak; a block at a time."""
    threshold = max(float(audio.max()), -float(audio.min())) * 10 ** (ONSET_DB / 20)
    for start in range(0, audio.shape[1], _BLOCK):
        loud = (np.abs(audio[:, start : start + _BLOCK]) >= threshold).any(axis=0)
        if loud.any():
            return start + int(loud.argmax())
    return 0


def _worth_a_look(report: DatasetReport) -> list[str]:
    lines = []
    for names, one, several, cure in (
        (report.clipped, "is clipped", "are clipped", "Flat tops crackle, and that is learned: find a cleaner copy."),
        (report.quiet, "is quiet", "are quiet", "The peak is below -30 dBFS: turn up, or leave out."),
        (report.late, "begins late", "begin late", "Over 20 ms of silence or fade-in is learned too: trim one-shots."),
        (report.offset, "is off centre", "are off centre", "The mean is not zero (DC): a low cut at 20 Hz cures it."),
    ):
        if names:
            lines.append(f"{_count(len(names), 'sound')} {one if len(names) == 1 else several}: {_some(names)}. {cure}")
    if pairs := report.near_copies:
        listed = _some(f"{a} is like {b}" for a, b in pairs)
        lines.append(
            f"{_count(len(pairs), 'sound')} {'is' if len(pairs) == 1 else 'are'} nearly the same as another in the "
            f"first 3 s, but for level or polarity: {listed}. What is there twice weighs twice and is learned by heart "
            "first: keep one of each."
        )
    return lines
