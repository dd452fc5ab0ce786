"""Sounds of a known pitch, from which ``tune.fit_tones`` takes the components of tones.

The pitch of a rendered note is that of its key, of a procedural sound the one it was made with, of a recorded kick or
tom that of its tail. As instruments are tuned by ear, the first and the last are corrected by some cents, to where the
envelopes of the harmonics change least.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ddnb.audio.notes import key_hz
from ddnb.audio.pitch import tail_hz
from ddnb.training.components import tune

from .data import CATEGORIES, FRAMES, SAMPLE_RATE, Prepared, pad
from .synth import synthesize_labelled

LEVEL = 0.25
"""Peak of the sounds."""

NOTES = {"bass": (4, 600), "synth": (1, 600)}
"""Category -> how often each rendered note counts, and the number of procedural sounds."""

DRUMS = {
    "kick": (6, 300, 0.06, (35.0, 130.0)),
    "tom": (8, 200, 0.06, (60.0, 350.0)),
}
"""Category -> how often each recording counts, the number of procedural sounds, seconds from the peak to the tail, and
the range of its pitch in Hz."""

_TUNING = (-24.0, -12.0, -6.0, 0.0, 6.0, 12.0, 24.0)  # cents
_IN_TUNE = (0.6, 0.75)  # share of the energy in harmonics, correlation of neighbouring frames: else it is no tone
_ANY = (0.0, -1.0)


class Tonal(NamedTuple):
    """Sounds (n, 1, T), their pitches in cycles per sample (n,), float64, and their labels (n,)."""

    x: Tensor
    pitch: Tensor
    labels: Tensor


def gather(data: Prepared, notes: Prepared) -> Tonal:
    """Gather sounds of known pitch.

    Args:
        data: the recordings; those that are held out are not used.
        notes: single notes, named by their key.
    """
    parts: list[Tonal] = []
    for category, (times, procedural) in NOTES.items():
        mine = np.flatnonzero(notes.labels == CATEGORIES.index(category))
        keys = torch.tensor([float(notes.names[i].split("/")[2]) for i in mine])
        rendered = _in_tune(_at_level(pad(notes, mine)), torch.tensor([key_hz(k) for k in keys.tolist()]), category)
        parts += [*[rendered] * times, _procedural(category, procedural)]
    for category, (times, procedural, after_s, (low, high)) in DRUMS.items():
        mine = np.flatnonzero((data.labels == CATEGORIES.index(category)) & ~data.held_out)
        x = _at_level(pad(data, mine))
        hz = _tails_hz(x, after_s, low, high)
        parts += [_in_tune(x, hz, category, _ANY)] * times
        x, known = synthesize_labelled(category, procedural, _generator(category))
        x = _at_level(x.numpy())
        parts.append(_in_tune(x, torch.where(known > 0, known, _tails_hz(x, after_s, low, high)), category, _ANY))
    return Tonal(*(torch.cat(each) for each in zip(*parts, strict=True)))


def _tails_hz(x: Tensor, after_s: float, low: float, high: float) -> Tensor:
    return torch.tensor([tail_hz(sound, SAMPLE_RATE, after_s, (low, high)) for sound in x[:, 0].numpy()])


def _generator(category: str) -> torch.Generator:
    return torch.Generator().manual_seed(100 + CATEGORIES.index(category))


def _procedural(category: str, n: int) -> Tonal:
    """Make tones; those of several pitches are left out."""
    generator = _generator(category)
    made = Tonal(*(torch.zeros(0, 1, FRAMES), torch.zeros(0).double(), torch.zeros(0).long()))
    while len(made.x) < n:
        x, hz = synthesize_labelled(category, 256, generator)
        known = hz > 0
        some = _in_tune(_at_level(x[known].numpy()), hz[known], category, cents=(0.0,))
        made = Tonal(*(torch.cat(each)[:n] for each in zip(made, some, strict=True)))
    return made


def _in_tune(
    x: Tensor,
    hz: Tensor,
    category: str,
    least: tuple[float, float] = _IN_TUNE,
    cents: tuple[float, ...] = _TUNING,
) -> Tonal:
    """Correct the pitches by some cents; keep sounds with at least this share of energy, and correlation."""
    pitch, share, correlation = tune(x, hz.double() / SAMPLE_RATE, cents)
    kept = (share >= least[0]) & (correlation >= least[1])
    labels = torch.full((int(kept.sum()),), CATEGORIES.index(category))
    return Tonal(x[kept], pitch[kept], labels)


def _at_level(sounds: np.ndarray) -> Tensor:
    x = torch.from_numpy(np.ascontiguousarray(sounds, np.float32))[:, None]
    return x * (LEVEL / x.abs().amax(-1, keepdim=True).clamp(min=1e-9))
