"""``keybed``: one timbre over a range of notes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..audio.notes import HIGHEST_HZ, LOWEST_HZ, Note, hz_key, key_hz, parse_note
from ..checkpoints.checkpoint import Checkpoint
from ..checks import whole
from ..clips.clip import Clips
from ..clips.provenance import ASKED, Making
from ..errors import ArgumentError
from ..guidance import Category
from ..steps import OnStep
from .generate import cut, fade_end
from .length import LoopOptions
from .levels import NORMALIZED, normalize_all, require_level
from .options import SamplingOptions, flatten_options
from .pitch import Pitch
from .sampling import Edits, Sampling, clips_of, require_checkpoint, resolve, seed_list

MAX_KEYS = 128


@flatten_options
def keybed(
    ckpt: Checkpoint,
    category: Category,
    low: Note = "C2",
    high: Note = "C4",
    step: int = 3,
    seed: int = 0,
    *,
    duration_s: float | None = None,
    level: str = NORMALIZED,
    options: SamplingOptions,
) -> Clips:
    """Make one sound at several notes, for an instrument: ``ddnb.pack(keybed(...), path, instruments=True)``.

    Each is the sound of the same seed, whose noise at the harmonics is the same at every pitch, and so is the timbre.

    Args:
        ckpt: what ``load`` returned.
        category: one of ``ckpt.tonal_categories``, or several with weights.
        low, high: the lowest and the highest note, see ``note``; the highest is included if the steps reach it.
        step: semitones from one note to the next; samplers transpose the notes between.
        seed: the seed of all of them.
        duration_s: seconds, up to 60 (default: as in training).
        level: as for ``generate``.

    Returns:
        The clips, from low to high; fewer than asked for after a cancel.

    Raises:
        ArgumentError: no category, or one without pitch; a range without notes; as for ``generate``.
    """
    require_checkpoint(ckpt)
    if options.note is not None or options.key is not None:
        raise ArgumentError("keybed takes its notes from low, high and step: leave note and key out.")
    if not category:
        known = f"one of {', '.join(ckpt.tonal_categories)}" if ckpt.tonal_categories else "of a network that has some"
        raise ArgumentError(f"keybed needs a category with a pitch: {known}.")
    keys = _keys(low, high, step)
    require_level(level)
    (seed,) = seed_list(1, seed)
    sampling = resolve(ckpt, replace(options, category=category))
    if not sampling.pitch.how:
        which, known = " and ".join(sampling.shares or ()), ", ".join(ckpt.tonal_categories) or "none"
        raise ArgumentError(f"category={category!r}: {which} has no pitch. Categories that have one: {known}.")
    sampling = _at(sampling, keys[0])
    length = LoopOptions().length(ckpt, duration_s)
    ts = sampling.times()

    def work(batch: Sequence[int], on_step: OnStep) -> Tensor:
        each = [_at(sampling, key) for key in batch]
        x = torch.cat([one.starting_noise([seed], length) for one in each])
        conds = [one.cond([seed], length) for one in each]
        model = sampling.model(length, torch.cat([cond for cond in conds if cond is not None]))
        return sampling.solve(model, x, ts, sampling.noise([seed] * len(batch), length.made), on_step)

    made = [(key, cut(audio, length, LoopOptions(), ckpt)) for key, audio in sampling.run(work, keys)]
    clips = [(seed, fade_end(audio, ckpt.sample_rate)) for _, audio in made]
    making = Making("generate", **sampling.record(), frames=length.frames, asked=len(keys))
    pitches_hz = tuple(key_hz(key) for key, _ in made)
    edits: Edits = ()
    if level == NORMALIZED:
        clips, edits = normalize_all(clips, ckpt.sample_rate, [sampling.shares] * len(clips))
    return clips_of(clips, (ckpt.channels, length.frames), ckpt.sample_rate, ckpt, making, pitches_hz, edits)


def _keys(low: Note, high: Note, step: int) -> list[int]:
    first, last = (round(hz_key(parse_note(note))) for note in (low, high))
    first, last = max(first, math.ceil(hz_key(LOWEST_HZ))), min(last, math.floor(hz_key(HIGHEST_HZ)))
    keys = list(range(first, last + 1, whole("step", step, 1, MAX_KEYS)))
    if not keys:
        raise ArgumentError(f"low={low!r} is above high={high!r}: give the lowest note first.")
    return keys


def _at(sampling: Sampling, key: int) -> Sampling:
    return replace(sampling, pitch=Pitch(ASKED, key_hz(key)))
