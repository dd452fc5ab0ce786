"""What a folder of sounds is good for, said before hours are spent on training with it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np

from . import training
from .checkpoints import Checkpoint
from .dataset import COPY, Dataset, OnFile, Sound, decode
from .trainer import MAX_CATEGORIES

QUIET_DBFS = -30.0
LATE_S = 0.02
ONSET_DB = -40.0
"""A sound begins where it first comes this near to its peak."""

DC_OFFSET = 0.01
CLIPPED_SHARE = 0.0005
"""Flat tops are reported from this share of a file's samples on; a single one cannot be heard."""

NEAR_COPY = 0.9985
"""How like each other two sounds must be, 1 being the same, to be called near copies.

Measured on the 165 CC0 samples of Sonic Pi (drums, basses, pads, loops; 13,530 pairs of different sounds, no false
alarm) and on altered copies of each: the most alike of the different pairs, one cymbal struck hard and softly, has
0.9938; white noise of one envelope, generated twice, up to 0.9983. Copies that were shifted, turned upside down, or
resampled to 48 or 22 kHz and back all have 0.9993 or more; of those lowered by 30 dB and rounded to 16 bits, all but
one, a slow swell whose onset moved. Of copies through MP3 96 % are found, through OGG 87 %, with one channel of two
75 %. Not found: copies cut shorter, at another speed, or with another reverb.
"""

_MIN_STEPS, _MAX_STEPS = 500, 3000
_FLOOR_DB = 50.0
_BANDS = 40
_EDGES = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Of the time intervals that are compared, in steps of about 6 ms from the onset: fine at the attack, 3 s in all."""

_NAMES = 5
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
        from .widgets import dataset_html  # notebooks only, as in verbs

        return dataset_html(self)


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


@lru_cache(maxsize=4)
def _grid(sample_rate: int) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """Window length, where the windows begin, the interval each belongs to (at most 8 in one), and the mel bank."""
    import librosa

    window = 1 << round(math.log2(sample_rate / 43))  # about 23 ms
    places, interval = [], []
    for i, (start, end) in enumerate(pairwise(_EDGES)):
        inside = range(start, end, max(1, (end - start) // 8))
        places += inside
        interval += [i] * len(inside)
    # up to 8 kHz: a copy that was once at 16 or 22 kHz is still a copy
    mel = librosa.filters.mel(sr=sample_rate, n_fft=window, n_mels=_BANDS, fmin=30, fmax=min(8000, sample_rate / 2))
    bins = int(np.flatnonzero(mel.any(axis=0))[-1]) + 1  # few: small products run in one thread, and need no waiting
    return window, np.array(places) * window // 4, np.array(interval), mel[:, :bins].T.astype(np.float64)


def _feature(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """What a sound (channels, frames) is like from its onset on, whatever its level and polarity; a unit vector."""
    window, places, interval, mel = _grid(sample_rate)
    used = places[places < audio.shape[1]]
    head = np.zeros((len(audio), places[-1] + window), np.float32)
    head[:, : audio.shape[1]] = audio[:, : head.shape[1]]
    if (head == head[:1]).all():  # mono: half the work
        head = head[:1]
    windows = np.lib.stride_tricks.sliding_window_view(head, window, axis=1)[:, used]
    spectrum = np.fft.rfft(windows * np.hanning(window).astype(np.float32))
    power = np.zeros((interval[-1] + 1, len(mel)))
    np.add.at(power, interval[: len(used)], (np.abs(spectrum[..., : len(mel)]) ** 2).mean(axis=0))
    decibels = 10 * np.log10(np.maximum(power / np.bincount(interval)[:, None] @ mel, 1e-30))
    above = np.maximum(decibels - decibels.max() + _FLOOR_DB, 0).ravel()  # silence is 0: it makes nothing alike
    return (above / np.linalg.norm(above)).astype(np.float32)


def near_copies(features: np.ndarray, threshold: float = NEAR_COPY) -> list[tuple[int, int]]:
    """Pair each sound with the earlier one that is most like it, where that is alike enough.

    Args:
        features: unit vectors, float32 (sounds, features); their product is the likeness.
        threshold: least likeness, up to 1.

    Returns:
        (sound, earlier sound), in order.
    """
    found = []
    for start in range(0, len(features), 1024):  # 10,000 sounds: 40 MB at a time, not 400
        likeness = features[start : start + 1024] @ features[: start + 1024].T
        rows = np.arange(len(likeness))
        likeness[np.arange(likeness.shape[1]) >= rows[:, None] + start] = -1
        best = likeness.argmax(axis=1)
        found += [(start + int(i), int(best[i])) for i in rows[likeness[rows, best] >= threshold]]
    return found


# --- words ------------------------------------------------------------------------------------------------------


def shown(name: str) -> str:
    """A file name that can be printed: what is no printable character becomes a question mark."""
    return "".join(c if c.isprintable() else "?" for c in name)


def duration(seconds: float) -> str:
    """Seconds in words: ``0.41 s``, ``12.3 s``, ``6 min 12 s``, ``25 min``, ``2 h 5 min``."""
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    if seconds < 600:
        return f"{round(seconds) // 60} min {round(seconds) % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _some(names: Iterable[str]) -> str:
    names = [shown(name) for name in names]
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return ", ".join(names[:_NAMES]) + more


def _tally(values: Iterable[str]) -> str:
    counts = Counter(values).most_common()
    return counts[0][0] if len(counts) == 1 else ", ".join(f"{value} ({n})" for value, n in counts)


def _channels(n: int) -> str:
    return {1: "mono", 2: "stereo"}.get(n, f"{n} channels")


def _by_class(data: Dataset) -> dict[str, int]:
    return dict(sorted(Counter(s.category for s in data.sounds if s.category is not None).items()))


def _what_is_there(data: Dataset) -> list[str]:
    sounds, lengths = data.sounds, sorted(s.duration_s for s in data.sounds)
    classes, loose = _by_class(data), sum(s.category is None for s in data.sounds)
    lines = [f"{_count(len(sounds), 'sound')}, {duration(sum(lengths))} in all."]
    if len(sounds) > 1:
        lines.append(
            f"The shortest lasts {duration(lengths[0])}, the longest {duration(lengths[-1])}, "
            f"the one in the middle {duration(median(lengths))}."
        )
    lines.append(f"Sample rate: {_tally(f'{s.sample_rate} Hz' for s in sounds)}.")
    lines.append(f"Channels: {_tally(_channels(s.channels) for s in sounds)}.")
    if classes:
        listed = ", ".join(f"{shown(name)} ({n})" for name, n in list(classes.items())[:MAX_CATEGORIES])
        more = f" and {len(classes) - MAX_CATEGORIES} more" if len(classes) > MAX_CATEGORIES else ""
        lines.append(f"Class folders: {listed}{more}{f'; in none: {loose}' if loose else ''}.")
    else:
        lines.append("No class folders.")
    return lines


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


def _not_used(data: Dataset) -> list[str]:
    copies = [name for name, reason in data.unusable.items() if reason.startswith(COPY)]
    lines = [f"{shown(n)}: {shown(why)}" for n, why in data.unusable.items() if not why.startswith(COPY)]
    if (more := len(lines) - 4 * _NAMES) > 1:
        lines[4 * _NAMES :] = [f"And {more} more: see report.data.unusable."]
    if copies:
        lines.append(f"Exact copies of other files, {len(copies)}: {_some(copies)}.")
    if data.ignored:
        lines.append(f"Files of other kinds, {len(data.ignored)}: {_some(data.ignored)}.")
    return lines


def _advice(data: Dataset, ckpt: Checkpoint | None, crop: bool, steps: int) -> list[str]:
    lines = [_enough(data.sounds, crop)]
    if ckpt is not None:
        lines += _about_length(data.sounds, ckpt, crop) + _about_rate(data.sounds, ckpt)
    lines += _about_classes(data)
    lines.append(
        f"Train for about {steps} steps: a rule of thumb, 10 per {'clip of sound' if crop else 'sound'}, "
        f"{_MIN_STEPS} at least and {_MAX_STEPS} at most. Listen on the way, and stop when it gets no better."
    )
    if ckpt is None:
        lines.append("Give the checkpoint that you want to train as well, to learn about lengths and time.")
    elif len({*ckpt.categories, *data.categories}) <= MAX_CATEGORIES:  # else training refuses them
        lines.append(_about_time(ckpt, data, crop, steps))
    return lines


def _enough(sounds: tuple[Sound, ...], crop: bool) -> str:
    n, rule = len(sounds), "a rule of thumb"
    if crop:
        seconds = sum(s.duration_s for s in sounds)
        verdict = "plenty" if seconds >= 1800 else "enough for a style" if seconds >= 300 else "little"
        return f"{duration(seconds)} of sound to cut clips from is {verdict} ({rule}: from 5 minutes on, better 30)."
    if n < 5:
        return (
            f"{_count(n, 'sound')}: it will learn little more than to repeat {'it' if n == 1 else 'them'}, and none "
            "can be held out to notice that. Add more; 20 is a start."
        )
    if n < 20:
        return f"{n} sounds are few: expect close variations of them. From 50 on, results are freer ({rule})."
    if n < 100:
        return f"{n} sounds are enough for variations on them. From 100 on, results are freer ({rule})."
    return f"{n} sounds are enough for a style of their own ({rule})."


def _about_length(sounds: tuple[Sound, ...], ckpt: Checkpoint, crop: bool) -> list[str]:
    clip, longer = duration(ckpt.frames / ckpt.sample_rate), sum(s.frames > ckpt.frames for s in sounds)
    if crop:
        return [
            f"Most are more than twice as long as a clip of this checkpoint ({clip}): crop, that is, let training cut "
            "clips from anywhere in them. It does so by itself (crop=True). What is generated then begins anywhere too."
        ]
    if longer:
        return [
            f"{longer} of {len(sounds)} last longer than a clip of this checkpoint ({clip}) and are cut there: the "
            "beginning of each is learned, as suits one-shots (crop=False)."
        ]
    return [f"All fit into a clip of this checkpoint ({clip}); silence follows the shorter ones."]


def _about_rate(sounds: tuple[Sound, ...], ckpt: Checkpoint) -> list[str]:
    if not (lower := [s.name for s in sounds if s.sample_rate < 0.9 * ckpt.sample_rate]):
        return []
    return [
        f"{len(lower)} of {len(sounds)} have a lower rate than this checkpoint's {ckpt.sample_rate} Hz, and "
        f"highs that they do not have cannot be learned from them: {_some(lower)}."
    ]


def _about_classes(data: Dataset) -> list[str]:
    classes, lines = _by_class(data), []
    if len(classes) > MAX_CATEGORIES:
        lines.append(
            f"{len(classes)} class folders are more than a network can be asked for ({MAX_CATEGORIES}): join some, or "
            "train without classes (categories=False)."
        )
    elif single := [name for name, n in classes.items() if n == 1 and len(classes) > 1]:
        lines.append(f"One sound only is no class to learn: add to {_some(single)}, or move it elsewhere.")
    if len(classes) > 1 and max(classes.values()) > 10 * min(classes.values()):
        most, least = max(classes, key=classes.__getitem__), min(classes, key=classes.__getitem__)
        lines.append(
            f"The classes are very uneven: {shown(most)} has {classes[most]}, {shown(least)} {classes[least]}. The "
            "small ones are heard seldom in training and will sound like the big ones."
        )
    return lines


def _about_time(ckpt: Checkpoint, data: Dataset, crop: bool, steps: int) -> str:
    where = f"On this machine ({ckpt.device})"
    try:
        seconds, batch_size = training.seconds_per_step(ckpt, data, crop=crop)
    except MemoryError as error:
        return f"{where} training does not fit into the memory: {error}"
    return (
        f"{where} {steps} steps take about {duration(steps * seconds)}: {seconds:.2g} s each, with "
        f"{_count(batch_size, 'clip')} at a time, as just measured."
    )
