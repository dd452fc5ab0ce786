"""Loops: exact lengths from bars and tempo, circular resampling, closing a sound, and a measure of its seam."""

from __future__ import annotations

import math

import numpy as np

from ..checks import whole, within
from ..errors import ArgumentError

BPM = (20, 999)
MAX_BARS = 64
MAX_CENTS = 20.0
"""Pitch shift of a loop that is accepted by default: a fifth of a semitone, hardly audible."""

SHORTEST_SEAM = 2048
"""Shortest loop whose seam can be measured, frames."""

CLOSE_S = 0.01
_ORDER = 32  # of the linear prediction
_AFTER, _BEFORE = 6, 2  # samples around a position that belong to it
_PLACES = 400
_DITHER = 1e-4  # re the peak: 80 dB below it is no click, and a pure tone would have no finite prediction
_USUAL = 99.5  # percent


def loop_frames(bpm: float, bars: int, sample_rate: int, beats_per_bar: int = 4) -> int:
    """Return the frames of so many bars, rounded once: ``round(bars * beats_per_bar * 60 / bpm * sample_rate)``.

    Args:
        bpm: beats per minute, from 20 to 999; a fraction is fine.
        bars: whole bars, from 1 to 64.
        sample_rate: Hz.
        beats_per_bar: whole beats, from 1 to 32.

    Raises:
        ArgumentError: a number out of its range.
    """
    bpm = within("bpm", bpm, *BPM)
    bars, beats_per_bar = whole("bars", bars, 1, MAX_BARS), whole("beats_per_bar", beats_per_bar, 1, 32)
    return round(bars * beats_per_bar * 60 / bpm * sample_rate)


def fit_circle(audio: np.ndarray, frames: int) -> np.ndarray:
    """Resample a loop exactly, as a periodic signal; (..., T) -> (..., frames)."""
    if audio.shape[-1] == frames:
        return audio
    from scipy.signal import resample

    return resample(audio.astype(np.float64), frames, axis=-1).astype(np.float32)


def close_loop(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Close a sound to a loop: its last 10 ms fade into a prediction of what could precede its beginning.

    The prediction is linear, backwards in time. A sound that closes already (``seam_db`` up to 0) is returned
    unchanged; one too short to measure is not.
    """
    if audio.shape[-1] >= SHORTEST_SEAM and seam_db(audio) <= 0:
        return audio
    n = min(round(CLOSE_S * sample_rate), audio.shape[-1] // 2)
    first, last = np.split(audio, [audio.shape[-1] - n], axis=-1)
    rise = np.sin(np.linspace(0, np.pi / 2, n)) ** 2
    before = np.stack([_predict_before(channel, n) for channel in audio])
    return np.concatenate([first, (1 - rise) * last + rise * before], axis=-1).astype(np.float32)


def _predict_before(mono: np.ndarray, n: int) -> np.ndarray:
    """Predict ``n`` samples that precede a sound."""
    from scipy.signal import lfilter, lfiltic

    head = _dither(mono)[: 4 * n]
    order = min(_ORDER, len(head) // 3)
    if not order or not mono.any():
        return np.repeat(mono[:1], n)
    taps = predict_linearly(head[::-1], order)
    return lfilter([1.0], taps, np.zeros(n), zi=lfiltic([1.0], taps, head[:order]))[0][::-1]


def predict_linearly(mono: np.ndarray, order: int) -> np.ndarray:
    """Return the prediction error filter ``(1, a_1, ..., a_order)`` of a signal; its inverse is stable.

    Source: Burg, Maximum entropy spectral analysis, 1975. librosa.lpc does the same, but the first call on a machine
    compiles it for 20 s.
    """
    taps, forward, backward = np.ones(1), mono[1:], mono[:-1]
    for _ in range(order):
        reflection = -2 * forward @ backward / (forward @ forward + backward @ backward)
        taps = np.append(taps, 0)
        taps = taps + reflection * taps[::-1]
        forward, backward = (forward + reflection * backward)[1:], (backward + reflection * forward)[:-1]
    return taps


def _dither(mono: np.ndarray) -> np.ndarray:
    dither = np.random.default_rng(0).standard_normal(len(mono))
    return mono.astype(np.float64) + _DITHER * np.abs(mono).max() * dither


def from_strongest_onset(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Rotate a loop so that it begins on its strongest onset, where its energy grows most within 10 ms."""
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
    """Measure how far the seam of a loop stands out from its inside, in dB; up to 0 it is not distinguishable.

    At a click a linear prediction from the 32 preceding samples has a large error. The measure is the largest error
    within 8 samples around the seam, relative to the median error of the 20 ms around it; 0 dB is the level below which
    99.5 % of 400 positions inside the loop stay.

    Args:
        audio: (channels, T), a loop.

    Returns:
        dB, the highest of the channels; 0 for silence.

    Raises:
        ArgumentError: fewer than 2,048 frames.
    """
    if audio.shape[-1] < SHORTEST_SEAM:
        raise ArgumentError(f"{audio.shape[-1]} frames: a seam can be measured from {SHORTEST_SEAM} frames up.")
    scores = [_clicks(channel) for channel in np.asarray(audio, np.float64) if channel.any()]
    return max((20 * math.log10(seam / np.percentile(inside, _USUAL)) for seam, *inside in scores), default=0.0)


def _clicks(mono: np.ndarray) -> np.ndarray:
    """Return how far positions stand out: the seam first, then positions inside."""
    from scipy.signal import lfilter

    mono = _dither(mono)
    around = np.concatenate([mono[-2 * _ORDER :], mono, mono[:_ORDER]])
    taps = predict_linearly(mono, _ORDER)
    error = np.abs(lfilter(taps, [1.0], around))[2 * _ORDER - _BEFORE : len(around) - _ORDER + _AFTER]  # from -2 on
    frames = len(mono)
    places = np.concatenate([[0], np.linspace(frames // 20, frames - frames // 20, _PLACES).astype(int)])
    largest = error[places[:, None] + np.arange(_BEFORE + _AFTER)].max(axis=1)
    reach = min(441, frames // 4)
    usual = np.median(error[:frames][(places[:, None] + np.arange(-reach, reach)) % frames], axis=1)
    return largest / usual
