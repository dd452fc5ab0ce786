"""Loops: exact lengths from bars and tempo, networks on a circle, and how well a loop closes."""

from __future__ import annotations

import operator
from numbers import Real

BPM = (20, 999)
MAX_BARS = 64


def loop_frames(bpm: float, bars: int, sample_rate: int, beats_per_bar: int = 4) -> int:
    """Return the frames of so many bars, rounded once: ``round(bars * beats_per_bar * 60 / bpm * sample_rate)``.

    Args:
        bpm: beats per minute, from 20 to 999; a fraction is fine.
        bars: whole bars, from 1 to 64.
        sample_rate: Hz.
        beats_per_bar: whole beats, from 1 to 32.

    Raises:
        ValueError: a number out of its range.
    """
    if not isinstance(bpm, Real) or not BPM[0] <= bpm <= BPM[1]:  # NaN too
        raise ValueError(f"bpm={bpm!r}: give beats per minute from {BPM[0]} to {BPM[1]}.")
    for name, value, most in (("bars", bars, MAX_BARS), ("beats_per_bar", beats_per_bar, 32)):
        try:
            inside = 1 <= operator.index(value) <= most
        except TypeError:
            inside = False
        if not inside:
            raise ValueError(f"{name}={value!r}: give a whole number from 1 to {most}.")
    return round(bars * beats_per_bar * 60 / bpm * sample_rate)
