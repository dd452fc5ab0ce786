"""The pitch of each sound, asked for, tracked in the input, or drawn by the seed; and the planes that state it."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..audio.notes import HIGHEST_HZ, LOWEST_HZ, Note, hz_key, key_hz, parse_key, parse_note
from ..audio.pitch import root_note
from ..checkpoints.checkpoint import Checkpoint
from ..clips.clip import Clip
from ..clips.provenance import ASKED, DRAWN, TRACKED
from ..errors import ArgumentError
from ..guidance import planes
from .length import Length


@dataclass(frozen=True)
class Pitch:
    """The pitch of the sounds of a call, or how each seed draws its own.

    Attributes:
        how: ``ASKED``, ``DRAWN`` or ``TRACKED``; empty for sounds without a pitch.
        hz: of all sounds, where it is asked for or tracked.
        keys: MIDI keys to draw from, each with its probability.
        key: the key from which notes are drawn, as it was asked for.
    """

    how: str = ""
    hz: float | None = None
    keys: tuple[tuple[int, float], ...] = ()
    key: str | None = None

    def of(self, seed: int) -> float | None:
        """Return the pitch of the sound of a seed in Hz; None for none."""
        if self.how != DRAWN:
            return self.hz
        keys, weights = zip(*self.keys, strict=True)
        return key_hz(random.Random(f"the note of seed {seed}").choices(keys, weights)[0])


def resolve_pitch(
    ckpt: Checkpoint,
    shares: Mapping[str, float] | None,
    note: Note | None,
    key: str | None,
    of_input: Clip | None = None,
) -> Pitch:
    """Return what determines the pitch of the sounds of a call.

    Args:
        ckpt: the network.
        shares: of the categories asked for.
        note, key: as in ``SamplingOptions``.
        of_input: input audio, the pitch of which is the default.

    Raises:
        ArgumentError: no such note or key, or categories that have none.
    """
    hz, classes = check_pitch(note, key)
    if (asked := f"note={note!r}" if hz is not None else f"key={key!r}" if classes is not None else "") and not (
        ckpt.tonal_categories
    ):
        raise ArgumentError(f"{asked}: {ckpt.name} knows nothing of notes; leave it out.")
    tonal = {name: share for name, share in (shares or {}).items() if name in ckpt.tonal_categories}
    if not tonal:
        if asked:
            which, known = " and ".join(shares or ["any sound"]), ", ".join(ckpt.tonal_categories)
            raise ArgumentError(f"{asked}: {which} has no pitch. Categories that have one: {known}.")
        return Pitch()
    if hz is not None:
        return Pitch(ASKED, hz)
    if of_input is not None and classes is None:
        return Pitch(TRACKED, tracked) if (tracked := pitch_of(of_input)) else Pitch()
    return Pitch(DRAWN, keys=_playable(ckpt, tonal, classes), key=key)


def check_pitch(note: Note | None, key: str | None) -> tuple[float | None, tuple[int, ...] | None]:
    """Return the pitch of a note in Hz and the pitch classes of a key; None for what is not given.

    Raises:
        ArgumentError: no such note or key, or both of them.
    """
    if note is not None and key is not None:
        raise ArgumentError(f"note={note!r} and key={key!r}: give one of them.")
    return None if note is None else parse_note(note), None if key is None else parse_key(key)


def pitch_of(clip: Clip) -> float | None:
    """Return the pitch of a sound in Hz: the one that it was made with, else what is clearly heard; None for none."""
    if clip.making.heard_hz is not None:
        return clip.making.heard_hz
    found = root_note(clip.audio, clip.sample_rate)
    return None if found is None else key_hz(found["note"] + found["cents"] / 100)


def fit_circle_hz(hz: float | None, length: Length, sample_rate: int) -> float | None:
    """Return the nearest pitch that has whole cycles in a loop; for other lengths the pitch itself."""
    if hz is None or not length.loop:
        return hz
    duration_s = length.frames / sample_rate
    low, high = max(1, math.ceil(LOWEST_HZ * duration_s)), math.floor(HIGHEST_HZ * duration_s)
    return max(low, min(round(hz * duration_s), high)) / duration_s if low <= high else hz


def require_cycles(pitch: Pitch, length: Length, sample_rate: int, max_cents: float) -> None:
    """Check that an asked pitch is near one that has whole cycles in a loop.

    Raises:
        ArgumentError: it is farther than ``max_cents``.
    """
    if pitch.hz is None or not length.loop:
        return
    fitting = fit_circle_hz(pitch.hz, length, sample_rate) or pitch.hz
    cents = 1200 * math.log2(fitting / pitch.hz)
    if abs(cents) > max_cents:
        raise ArgumentError(
            f"A loop of {length.frames / sample_rate:.3f} s holds whole cycles of {fitting:.2f} Hz, not of "
            f"{pitch.hz:.2f} Hz ({cents:+.0f} cents): take more bars or a higher note, or accept it with "
            f"max_cents={abs(cents) + 1:.0f}."
        )


def condition(
    ckpt: Checkpoint,
    shares: Sequence[Mapping[str, float]],
    pitches_hz: Sequence[float | None],
    length: Length | None = None,
    rows: int = 1,
) -> Tensor:
    """Return conditioning planes of sounds, each for so many rows: categories and, where any has one, the pitch.

    A loop that is made longer or shorter than it is gets the pitch that becomes the right one when it is resampled.
    """
    cond = torch.cat([planes(ckpt.categories, each) for each in shares])
    if any(pitches_hz):
        cond = torch.cat([cond, cycles(ckpt, pitches_hz, length)[:, None, None].float()], 1)
    return cond.repeat_interleave(rows, 0)


def cycles(ckpt: Checkpoint, pitches_hz: Sequence[float | None], length: Length | None) -> Tensor:
    """Return pitches in cycles per sample of what the network makes, float64 (n,), 0 for none."""
    changed = length.frames / length.made if length is not None and length.loop else 1.0
    hz = torch.tensor([hz or 0.0 for hz in pitches_hz], dtype=torch.float64)
    return hz * (changed / ckpt.sample_rate)


def _playable(
    ckpt: Checkpoint, shares: Mapping[str, float], classes: tuple[int, ...] | None
) -> tuple[tuple[int, float], ...]:
    """Return the keys that these categories play, with their probabilities, moved to the nearest keys of a scale."""
    lowest, highest = math.ceil(hz_key(LOWEST_HZ)), math.floor(hz_key(HIGHEST_HZ))
    allowed = [key for key in range(lowest, highest + 1) if classes is None or key % 12 in classes]
    keys: dict[int, float] = {}
    for hz, probability in ckpt.usual_pitches(shares):
        nearest = min(allowed, key=lambda key: abs(key - hz_key(hz)))
        keys[nearest] = keys.get(nearest, 0.0) + probability
    return tuple(sorted(keys.items()))
