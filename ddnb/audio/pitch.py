"""The root note of a sound."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .notes import note_name

_NOTE_HZ = (30.0, 2000.0)
_NOTE_WINDOW_S = 0.093  # nearly three periods of the lowest note
_SUSTAINED_DB = -20.0
_SUSTAINED_S = 0.2
_CLEAR = 0.9  # of 1, for an exactly periodic sound
_STEADY_CENTS = 30.0
_SHARE = 0.9
_TAIL_S, _TAIL_SIZE = 0.5, 1 << 18


def root_note(audio: np.ndarray, sample_rate: int) -> dict[str, Any] | None:
    """Find the root note of a sound, if it certainly has one.

    That is: the sound stays for 0.2 s within 20 dB of its loudest, and nine tenths of that are clearly periodic, within
    30 cents of one pitch from 30 to 2000 Hz. Drums, noise, sweeps and chords have none.

    Args:
        audio: (channels, frames).
        sample_rate: Hz.

    Returns:
        ``note`` (MIDI key), ``name`` (C4 is 60, sharps as in Fs1), ``cents`` off that key, ``how``; or None.
    """
    size = 1 << round(math.log2(_NOTE_WINDOW_S * sample_rate))
    mono, hop = audio.mean(axis=0, dtype=np.float64), size // 4
    if len(mono) < size:
        return None
    pieces = np.lib.stride_tricks.sliding_window_view(mono, size)[::hop]
    power = np.square(pieces).mean(axis=1)
    pieces = pieces[power > power.max() * 10 ** (_SUSTAINED_DB / 10)]
    if len(pieces) * hop < _SUSTAINED_S * sample_rate:
        return None
    hz, clarity = np.array([_estimate_pitch(piece, sample_rate) for piece in pieces]).T
    keys = 69 + 12 * np.log2(hz / 440)
    key = float(np.median(keys))
    if np.mean((clarity >= _CLEAR) & (np.abs(keys - key) <= _STEADY_CENTS / 100)) < _SHARE:
        return None
    note = round(key)
    cents = round(100 * (key - note), 1)
    return {"note": note, "name": note_name(note), "cents": cents, "how": "measured, steady and clear"}


def tail_hz(sound: np.ndarray, sample_rate: int, after_s: float, between: tuple[float, float]) -> float:
    """Return the strongest frequency of the half second that begins so many seconds after the peak, in Hz.

    Drums have no steady pitch, but their tails are near one.

    Args:
        sound: (frames,).
        sample_rate: Hz.
        after_s: seconds.
        between: the lowest and the highest frequency, Hz.
    """
    low, high = between
    first = int(np.abs(sound).argmax()) + round(after_s * sample_rate)
    tail = sound[first : first + round(_TAIL_S * sample_rate)]
    spectrum = np.abs(np.fft.rfft(tail * np.hanning(len(tail)), _TAIL_SIZE))
    hz = np.fft.rfftfreq(_TAIL_SIZE, 1 / sample_rate)
    return float(hz[np.where((hz > low) & (hz < high), spectrum, -1).argmax()])


def _estimate_pitch(piece: np.ndarray, sample_rate: int) -> tuple[float, float]:
    """Estimate pitch in Hz and clarity, from 0 (aperiodic) to 1 (exactly periodic).

    The pitch is the first lag at which the normalised square difference nearly reaches its maximum, after it was below
    zero. Source: McLeod and Wyvill, A smarter way to find pitch, 2005. librosa's yin gives no clarity, and its pyin is
    30 times slower and rounds to 10 cents.
    """
    size = len(piece)
    lags = int(sample_rate / _NOTE_HZ[0]) + 2
    product = np.fft.irfft(np.abs(np.fft.rfft(piece, 2 * size)) ** 2)[:lags]
    energy = np.concatenate([[0.0], np.cumsum(piece**2)])
    shared = energy[size - np.arange(lags)] + energy[size] - energy[np.arange(lags)]
    same = 2 * product / np.maximum(shared, 1e-12)
    inner = same[1:-1]
    tops = np.flatnonzero((inner > same[:-2]) & (inner >= same[2:])) + 1
    below = np.flatnonzero(same < 0)
    tops = tops[(tops > below[0]) & (same[tops] > 0)] if len(below) else tops[:0]
    if not len(tops):
        return _NOTE_HZ[0], 0.0
    top = tops[same[tops] >= 0.9 * same[tops].max()][0]
    before, at, after = same[top - 1 : top + 2]
    hz = sample_rate / (top + 0.5 * (before - after) / (before - 2 * at + after))
    return hz, at if hz <= _NOTE_HZ[1] else 0.0
