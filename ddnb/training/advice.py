"""The sentences of a report on a folder of sounds, for musicians."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median

from ..checkpoints.checkpoint import Checkpoint
from ..display.text import counted, duration, shown
from .config import TrainingConfig
from .dataset import MAX_CATEGORIES, Dataset, Sound

MIN_STEPS, MAX_STEPS = 500, 3000
_HARDLY, _WORSE = 0.002, 0.02  # of the validation loss: that of a fitted network falls by a hundredth
_HIGH_RATE = 1e-3  # more does not help, see bench/results/folder.md
_NAMES = 5
_REASONS = 1000


def _list_some(names: Iterable[str]) -> str:
    names = [shown(name) for name in names]
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return ", ".join(names[:_NAMES]) + more


def _tally(values: Iterable[str]) -> str:
    counts = Counter(values).most_common()
    return counts[0][0] if len(counts) == 1 else ", ".join(f"{value} ({n})" for value, n in counts)


def _name_channels(n: int) -> str:
    return {1: "mono", 2: "stereo"}.get(n, f"{n} channels")


def _count_classes(data: Dataset) -> dict[str, int]:
    return dict(sorted(Counter(s.category for s in data.sounds if s.category is not None).items()))


def describe_contents(data: Dataset) -> list[str]:
    """Describe the usable sounds: number, lengths, formats and classes."""
    sounds, lengths = data.sounds, sorted(s.duration_s for s in data.sounds)
    lines = [f"{counted(len(sounds), 'sound')}, {duration(sum(lengths))} in all."]
    if len(sounds) > 1:
        shortest, middle, longest = (duration(s) for s in (lengths[0], median(lengths), lengths[-1]))
        lines.append(f"Length: {shortest} (shortest), {middle} (median), {longest} (longest).")
    lines.append(f"Sample rate: {_tally(f'{s.sample_rate} Hz' for s in sounds)}.")
    lines.append(f"Channels: {_tally(_name_channels(s.channels) for s in sounds)}.")
    if classes := _count_classes(data):
        listed = ", ".join(f"{shown(name)} ({n})" for name, n in list(classes.items())[:MAX_CATEGORIES])
        more = f" and {len(classes) - MAX_CATEGORIES} more" if len(classes) > MAX_CATEGORIES else ""
        loose = sum(s.category is None for s in sounds)
        lines += _describe_twins(data)
        lines.append(f"Class folders: {listed}{more}{f'; in no class folder: {loose}' if loose else ''}.")
    else:
        lines.append("No class folders.")
    return lines


def _describe_twins(data: Dataset) -> list[str]:
    """Name the class folders that are one class, as their names are alike."""
    folders: dict[str, set[str]] = {}
    for sound in data.sounds:
        if sound.category is not None and "/" in sound.name:
            folders.setdefault(sound.category, set()).add(sound.name.split("/")[0])
    several = ((name, sorted(found)) for name, found in sorted(folders.items()) if len(found) > 1)
    return [f"One class, {shown(name)}: the folders {' and '.join(map(shown, found))}." for name, found in several]


def describe_unused(data: Dataset) -> list[str]:
    """Name the files that are not trained on, with reasons."""
    lines = [f"{shown(n)}: {shown(why)}" for n, why in data.unusable.items() if n not in data.copies]
    if (more := len(lines) - _REASONS) > 1:
        lines[_REASONS:] = [f"And {more} more: see report.data.unusable."]
    if data.copies:
        lines.append(f"Exact copies of other files ({len(data.copies)}): {_list_some(data.copies)}.")
    if data.ignored:
        lines.append(f"Files of other kinds ({len(data.ignored)}): {_list_some(data.ignored)}.")
    return lines


def describe_faults(
    clipped: Sequence[str],
    quiet: Sequence[str],
    late: Sequence[str],
    offset: Sequence[str],
    cancelling: Sequence[str],
    near_copies: Sequence[tuple[str, str]],
) -> list[str]:
    """Name the sounds with each fault, what it does to the training, and the remedy."""
    lines = []
    for names, one, several, remedy in (
        (clipped, "is clipped", "are clipped", "Flat tops crackle, and the network learns that: find a cleaner copy."),
        (quiet, "is quiet", "are quiet", "The peak is below -30 dBFS: raise the level, or remove it."),
        (late, "starts late", "start late", "Over 20 ms of silence or fade-in is learned, too: trim one-shots."),
        (
            offset,
            "is off centre",
            "are off centre",
            "The mean is not zero (DC): a high-pass at 20 Hz helps.",
        ),
        (
            cancelling,
            "is nearly silent in mono",
            "are nearly silent in mono",
            "The channels cancel each other: a mono network gets the louder one.",
        ),
    ):
        if names:
            state = one if len(names) == 1 else several
            lines.append(f"{counted(len(names), 'sound')} {state}: {_list_some(names)}. {remedy}")
    if near_copies:
        state = "is a near copy" if len(near_copies) == 1 else "are near copies"
        listed = _list_some(f"{later} is like {earlier}" for later, earlier in near_copies)
        lines.append(
            f"{counted(len(near_copies), 'sound')} {state} of another, except for level or polarity, in the first 3 s: "
            f"{listed}. What is there twice counts twice, and is memorised first: keep one of each."
        )
    return lines


def advise(data: Dataset, ckpt: Checkpoint | None, crop: bool, steps: int) -> list[str]:
    """Judge number, lengths, rates and classes of the sounds, and say how long to train."""
    lines = [_judge_amount(data.sounds, crop)]
    if ckpt is not None:
        lines += [_judge_lengths(data.sounds, ckpt, crop), *_judge_rates(data.sounds, ckpt)]
    lines += _judge_classes(_count_classes(data))
    lines.append(
        f"Train for about {steps} steps (a rule of thumb: 10 per {'clip of sound' if crop else 'sound'}, at least "
        f"{MIN_STEPS} and at most {MAX_STEPS}). Listen to the demos meanwhile, and stop when they no longer get better."
    )
    if ckpt is None:
        lines.append("Give the checkpoint that you want to train as well, to get advice on lengths and time.")
    return lines


def suggest_next(validations: Sequence[tuple[int, float]], config: TrainingConfig) -> str | None:
    """Say what to try next where a whole run has hardly changed the network; else return None.

    Args:
        validations: step and validation loss, the oldest first; nothing is said without that of step 0.
        config: the settings of the run, complete.
    """
    (first_step, first), (_, last) = validations[0], validations[-1]
    if first_step or first <= 0 or (first - last) / first >= _HARDLY:
        return None
    rate = config.learning_rate or 0.0
    if last > first * (1 + _WORSE):
        cure = f"begin a new run with a learning_rate of {rate / 5:.1g}, or with more sounds"
    elif rate < _HIGH_RATE:
        cure = f"begin a new run with a learning_rate of {min(5 * rate, _HIGH_RATE):.1g}"
        cure += " and without lora_rank" if config.lora_rank else ""
    else:
        cure = f"resume this one with steps={3 * config.steps}"
    return (
        f"the validation loss went from {first:.4f} to {last:.4f}, so the training has hardly brought generated "
        f"sounds nearer to yours: next, {cure}"
    )


def describe_time(device: object, steps: int, seconds: float, batch_size: int) -> str:
    """Say how long the training takes, from the measured duration of a step."""
    return (
        f"On this machine ({device}) {steps} steps take about {duration(steps * seconds)}: {seconds:.2g} s each, with "
        f"{counted(batch_size, 'clip')} at a time, as just measured."
    )


def _judge_amount(sounds: Sequence[Sound], crop: bool) -> str:
    n, rule = len(sounds), "a rule of thumb"
    if crop:
        seconds = sum(s.duration_s for s in sounds)
        verdict = "plenty" if seconds >= 1800 else "enough for a style" if seconds >= 300 else "little"
        return f"{duration(seconds)} of sound to cut clips from is {verdict} ({rule}: 5 minutes or more, better 30)."
    if n < 5:
        return (
            f"{counted(n, 'sound')}: the network will learn little more than to repeat {'it' if n == 1 else 'them'}, "
            "and none can be held out to notice that. Add more; 20 is a start."
        )
    if n < 20:
        return f"{n} sounds are few: expect close variations of them. From 50 on, results are more varied ({rule})."
    if n < 100:
        return f"{n} sounds are enough for variations of them. From 100 on, results are more varied ({rule})."
    return f"{n} sounds are enough for a style of their own ({rule})."


def _judge_lengths(sounds: Sequence[Sound], ckpt: Checkpoint, crop: bool) -> str:
    clip, longer = duration(ckpt.frames / ckpt.sample_rate), sum(s.frames > ckpt.frames for s in sounds)
    if crop:
        return (
            f"Most are more than twice as long as a clip of this checkpoint ({clip}), so training cuts clips from "
            "anywhere in them by itself (crop=True). Generated sounds then start anywhere, too."
        )
    if longer:
        return (
            f"{longer} of {len(sounds)} last longer than a clip of this checkpoint ({clip}). Only their beginnings are "
            "learned, which suits one-shots (crop=False)."
        )
    return f"All fit into a clip of this checkpoint ({clip}); silence follows the shorter ones."


def _judge_rates(sounds: Sequence[Sound], ckpt: Checkpoint) -> list[str]:
    if not (lower := [s.name for s in sounds if s.sample_rate < 0.9 * ckpt.sample_rate]):
        return []
    return [
        f"{len(lower)} of {len(sounds)} have a lower sample rate than this checkpoint's {ckpt.sample_rate} Hz; the "
        f"missing high frequencies cannot be learned from them: {_list_some(lower)}."
    ]


def _judge_classes(classes: dict[str, int]) -> list[str]:
    lines = []
    if len(classes) > MAX_CATEGORIES:
        lines.append(
            f"{len(classes)} class folders are more than a network can learn ({MAX_CATEGORIES}): merge some, or train "
            "without classes (categories=False)."
        )
    elif single := [name for name, n in classes.items() if n == 1 and len(classes) > 1]:
        lines.append(f"A single sound is too little for a class: add to {_list_some(single)}, or move it elsewhere.")
    if len(classes) > 1 and max(classes.values()) > 10 * min(classes.values()):
        most, least = max(classes, key=classes.__getitem__), min(classes, key=classes.__getitem__)
        lines.append(
            f"The classes are very uneven: {shown(most)} has {classes[most]}, {shown(least)} {classes[least]}. The "
            "small ones are rare in training, and will sound like the large ones."
        )
    return lines
