"""Loops: exact lengths from bars and tempo, models on a circle, and how well a loop closes.

In a loop nothing is crossfaded: the network, its noise and the state live on a circle, where there is no end. The
seam test and the windows are described in the functions; the mathematics of a circle is that of circular padding.
"""

from __future__ import annotations

import math
from numbers import Integral, Real

import numpy as np

BPM = (20, 999)
MAX_BARS = 64
MAX_CENTS = 20.0
"""Of pitch shift that a loop may cost without being asked for: a tenth of a semitone, hardly heard."""

SHORTEST_SEAM = 2048
"""Frames of a loop whose seam can be measured."""

CLOSE_S = 0.01
_ORDER = 32  # of the linear prediction
_AFTER, _BEFORE = 6, 2  # samples around a place that count as it
_PLACES = 400
_DITHER = 1e-4  # re the peak: what is 80 dB below it is no click, and a pure tone has no prediction
_USUAL = 99.5  # percent


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
        if not isinstance(value, Integral) or isinstance(value, bool) or not 1 <= value <= most:
            raise ValueError(f"{name}={value!r}: give a whole number from 1 to {most}.")
    return round(int(bars) * int(beats_per_bar) * 60 / float(bpm) * sample_rate)  # not in numpy's short numbers


def fit_circle(audio: np.ndarray, frames: int) -> np.ndarray:
    """Resample a loop to so many frames, exactly, as the periodic signal that it is; (..., T) -> (..., frames)."""
    if audio.shape[-1] == frames:
        return audio
    from scipy.signal import resample

    return resample(audio.astype(np.float64), frames, axis=-1).astype(np.float32)


def closed(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Lead the end of a sound into its beginning: its last 10 ms fade into what could have come before it.

    That is a linear prediction, backwards in time. A sound that closes already (``seam_db`` up to 0) is left alone; one
    too short to tell is not.
    """
    if audio.shape[-1] >= SHORTEST_SEAM and seam_db(audio) <= 0:
        return audio
    n = min(round(CLOSE_S * sample_rate), audio.shape[-1] // 2)
    first, last = np.split(audio, [audio.shape[-1] - n], axis=-1)
    rise = np.sin(np.linspace(0, np.pi / 2, n)) ** 2
    before = np.stack([_before(channel, n) for channel in audio])
    return np.concatenate([first, (1 - rise) * last + rise * before], axis=-1).astype(np.float32)


def _before(mono: np.ndarray, n: int) -> np.ndarray:
    """``n`` samples that lead into a sound, without anything new in them."""
    import librosa
    from scipy.signal import lfilter, lfiltic

    head = _dithered(mono)[: 4 * n]
    order = min(_ORDER, len(head) // 3)
    if not order or not mono.any():
        return np.repeat(mono[:1], n)
    taps = librosa.lpc(np.ascontiguousarray(head[::-1]), order=order)
    return lfilter([1.0], taps, np.zeros(n), zi=lfiltic([1.0], taps, head[:order]))[0][::-1]


def _dithered(mono: np.ndarray) -> np.ndarray:
    dither = np.random.default_rng(0).standard_normal(len(mono))
    return mono.astype(np.float64) + _DITHER * np.abs(mono).max() * dither


def from_strongest_onset(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Turn a loop so that it begins on its strongest onset: where its energy grows most within 10 ms."""
    step = max(1, round(0.005 * sample_rate))
    energy = np.square(audio, dtype=np.float64).sum(axis=0)
    if len(energy) < 4 * step:
        return audio
    smooth = np.add.reduceat(energy, np.arange(0, len(energy), step))
    growth = smooth - np.roll(smooth, 2)
    cell = int(growth.argmax())
    near = np.arange((cell - 2) * step, (cell + 1) * step) % len(energy)
    first = near[int((energy[near] > 0.01 * energy[near].max()).argmax())]
    return np.roll(audio, -first, axis=-1)


def seam_db(audio: np.ndarray) -> float:
    """How much the seam of a loop sticks out, in dB beside what is usual inside it; up to 0 it cannot be told.

    A linear prediction from the 32 samples before is wrong by a lot where there is a click. Measured is its largest
    error within 8 samples around the seam, beside the median error of the 20 ms around, and the same at 400 places
    inside the loop: 0 dB is what 99.5 % of those stay below.

    Args:
        audio: (channels, T), heard as a loop.

    Returns:
        dB, the highest of the channels; 0 for silence.

    Raises:
        ValueError: fewer than 2,048 frames.
    """
    if audio.shape[-1] < SHORTEST_SEAM:
        raise ValueError(f"{audio.shape[-1]} frames: a seam is measured on {SHORTEST_SEAM} and more.")
    scores = [_clicks(channel) for channel in np.asarray(audio, np.float64) if channel.any()]
    return max((20 * math.log10(seam / np.percentile(inside, _USUAL)) for seam, *inside in scores), default=0.0)


def _clicks(mono: np.ndarray) -> np.ndarray:
    """How much a place sticks out: the seam first, then places inside."""
    import librosa
    from scipy.signal import lfilter

    mono = _dithered(mono)
    around = np.concatenate([mono[-2 * _ORDER :], mono, mono[:_ORDER]])
    taps = librosa.lpc(mono, order=_ORDER)
    error = np.abs(lfilter(taps, [1.0], around))[2 * _ORDER - _BEFORE : len(around) - _ORDER + _AFTER]  # from -2 on
    frames = len(mono)
    places = np.concatenate([[0], np.linspace(frames // 20, frames - frames // 20, _PLACES).astype(int)])
    largest = error[places[:, None] + np.arange(_BEFORE + _AFTER)].max(axis=1)
    reach = min(441, frames // 4)
    usual = np.median(error[:frames][(places[:, None] + np.arange(-reach, reach)) % frames], axis=1)
    return largest / usual
