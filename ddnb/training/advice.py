"""TODO training/advice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from statistics import median

from ..checkpoints.checkpoint import Checkpoint
from ..display.text import duration, shown
from .dataset import COPY, Dataset, Sound
from .loop import seconds_per_step
from .trainer import MAX_CATEGORIES

_MIN_STEPS, _MAX_STEPS = 500, 3000

_NAMES = 5


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
        seconds, batch_size = seconds_per_step(ckpt, data, crop=crop)
    except MemoryError as error:
        return f"{where} training does not fit into the memory: {error}"
    return (
        f"{where} {steps} steps take about {duration(steps * seconds)}: {seconds:.2g} s each, with "
        f"{_count(batch_size, 'clip')} at a time, as just measured."
    )
