"""Measure tones: pitch, steadiness, harmonics to noise and attack, so that narrow-band noise does not pass for one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bench.quality import SAMPLE_RATE
from bench.sounds import Sounds
from ddnb.audio.notes import parse_note

CATEGORIES = ("bass", "synth", "tom", "kick", "perc")
_MOST = 32  # sounds of a category that are measured
_LOUD_DB, _PITCHED, _STEADY_CENTS = -30.0, 0.6, 25.0
_FRAME, _HOP = 4096, 512
_LOWEST_HZ, _HIGHEST_HZ = 25.0, 2200.0


class Tone(NamedTuple):
    """What is measured of a sound; NaN where it has no pitch.

    Attributes:
        pitched: whether at least 60 % of the frames within 30 dB of the loudest are voiced (pYIN).
        wobble_cents: RMS deviation of their pitch from a straight line.
        hz: their median pitch.
        hnr_db: median ratio of harmonics to noise in them, from the autocorrelation at the period (Boersma 1993).
        attack_ms: from 10 to 90 % of the highest RMS of 5 ms.
    """

    pitched: bool
    wobble_cents: float
    hz: float
    hnr_db: float
    attack_ms: float

    @property
    def steady(self) -> bool:
        """Return whether it is pitched, and wobbles by less than 25 cents."""
        return self.pitched and self.wobble_cents < _STEADY_CENTS


def measure_tone(x: np.ndarray) -> Tone:
    """Measure a sound (frames,) at 44.1 kHz."""
    import librosa

    hz, voiced, _ = librosa.pyin(
        x, fmin=_LOWEST_HZ, fmax=_HIGHEST_HZ, sr=SAMPLE_RATE, frame_length=_FRAME, hop_length=_HOP
    )
    rms = librosa.feature.rms(y=x, frame_length=_FRAME, hop_length=_HOP)[0][: len(hz)]
    loud = rms > rms.max() * 10 ** (_LOUD_DB / 20)
    found = np.flatnonzero(loud & voiced & np.isfinite(hz))
    attack = _attack_ms(x)
    if len(found) < 4:
        return Tone(False, math.nan, math.nan, math.nan, attack)
    cents = 1200 * np.log2(hz[found])
    line = np.polyval(np.polyfit(found, cents, 1), found)
    hnr = np.median([_hnr_db(x, frame * _HOP, SAMPLE_RATE / hz[frame]) for frame in found])
    pitched = len(found) >= _PITCHED * loud.sum()
    return Tone(pitched, float(np.sqrt(np.mean((cents - line) ** 2))), float(np.median(hz[found])), float(hnr), attack)


def _hnr_db(x: np.ndarray, middle: int, period: float) -> float:
    """Return the harmonics-to-noise ratio around a sample, from the best correlation of the sound one period later."""
    piece = x[max(0, middle - _FRAME // 2) : middle + _FRAME // 2]
    best = 0.0
    for lag in range(math.floor(period) - 1, math.ceil(period) + 2):
        a, b = piece[:-lag], piece[lag:]
        best = max(best, float(a @ b) / max(float(np.sqrt((a @ a) * (b @ b))), 1e-12))
    return 10 * math.log10(best / max(1 - best, 1e-5)) if best > 1e-3 else -30.0


def _attack_ms(x: np.ndarray) -> float:
    size = round(0.005 * SAMPLE_RATE)
    level = np.sqrt(np.square(x[: len(x) // size * size].reshape(-1, size)).mean(1))
    top = int((level >= 0.9 * level.max()).argmax())
    return 5.0 * (top - int((level[: top + 1] >= 0.1 * level.max()).argmax()))


def measure_tones(sounds: Sounds, categories: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """Return for each category with tones the figures of up to 32 sounds.

    ``error_cents`` is the median distance to the note that a name states, as in ``seed 7, A1``.
    """
    figures = {}
    for label, category in enumerate(categories):
        mine = np.flatnonzero(sounds.labels == label)[:_MOST]
        if category in CATEGORIES and len(mine):
            tones = [measure_tone(sounds.audio[i].numpy()) for i in mine]
            figures[category] = _summarize(tones, [_asked_hz(sounds.names[i]) for i in mine])
    return figures


def _asked_hz(name: str) -> float:
    note = name.partition(", ")[2]
    return parse_note(note) if note else math.nan


def _summarize(tones: Sequence[Tone], asked: Sequence[float]) -> dict[str, float | None]:
    error = [abs(1200 * math.log2(tone.hz / hz)) for tone, hz in zip(tones, asked, strict=True)]
    return {
        "pitched": float(np.mean([tone.pitched for tone in tones])),
        "steady": float(np.mean([tone.steady for tone in tones])),
        "wobble_cents": _median([tone.wobble_cents for tone in tones]),
        "error_cents": _median(error),
        "hnr_db": _median([tone.hnr_db for tone in tones]),
        "attack_ms": _median([tone.attack_ms for tone in tones]),
    }


def _median(values: Sequence[float]) -> float | None:
    known = [value for value in values if math.isfinite(value)]
    return float(np.median(known)) if known else None
