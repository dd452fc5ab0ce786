"""Near copies in a folder of sounds: one feature vector per sound, and pairs of the most similar ones.

``ddnb.similarity`` measures something else, one second at a time, and finds fewer copies with a silent channel; the
data of the embedded default was thinned by the measure of this module (recipe/DATA.md), which therefore stays as it is.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise

import numpy as np

from ..runtime import import_librosa

NEAR_COPY_LIKENESS = 0.9985
"""Least likeness (cosine of the feature vectors, 1 for identical sounds) of two near copies.

Measured on the 165 CC0 samples of Sonic Pi (drums, basses, pads, loops; 13,530 pairs of different sounds, no false
alarm) and on altered copies of each. Different sounds: at most 0.9938, one cymbal struck hard and softly; white noise
with one envelope, generated twice, up to 0.9983. Copies that were delayed, inverted in polarity, or resampled to 48 or
22 kHz and back all have 0.9993 or more; so have those lowered by 30 dB and rounded to 16 bits, except for one slow
swell whose onset moved. Of copies through MP3 96 % are found, through OGG 87 %, with one of two channels silent 75 %.
Not found: copies that were shortened, changed in speed, or given another reverb.
"""
_RANGE_DB = 50.0
_BANDS = 40
_MAX_HZ = 8000  # a copy that was once at 16 or 22 kHz is still a copy
_EDGES = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Edges of the compared time intervals, in hops of about 6 ms from the onset: fine at the attack, 3 s in all."""
_WINDOWS_PER_INTERVAL = 8
_ROWS_AT_ONCE = 1024  # of 10,000 sounds: 40 MB of likeness at a time, not 400


@lru_cache(maxsize=4)
def _grid(sample_rate: int) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """Return the window length, the frames where windows begin, the interval of each window, and the mel filters."""
    librosa = import_librosa()

    window = 1 << round(math.log2(sample_rate / 43))  # about 23 ms
    places: list[int] = []
    intervals: list[int] = []
    for i, (start, end) in enumerate(pairwise(_EDGES)):
        inside = range(start, end, max(1, (end - start) // _WINDOWS_PER_INTERVAL))
        places += inside
        intervals += [i] * len(inside)
    highest = min(_MAX_HZ, sample_rate / 2)
    mel = librosa.filters.mel(sr=sample_rate, n_fft=window, n_mels=_BANDS, fmin=30, fmax=highest)
    bins = int(np.flatnonzero(mel.any(axis=0))[-1]) + 1  # few bins: a small product runs in one thread, without waiting
    return window, np.array(places) * window // 4, np.array(intervals), mel[:, :bins].T.astype(np.float64)


def compute_feature(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Describe a sound from its onset on, independently of level and polarity.

    Args:
        audio: (channels, frames), beginning at the onset.
        sample_rate: Hz.

    Returns:
        A float32 unit vector: mel levels above a floor 50 dB below the loudest, in 18 intervals of time.
    """
    window, places, intervals, mel = _grid(sample_rate)
    used = places[places < audio.shape[1]]
    head = np.zeros((len(audio), places[-1] + window), np.float32)
    head[:, : audio.shape[1]] = audio[:, : head.shape[1]]
    if (head == head[:1]).all():  # mono: half the work
        head = head[:1]
    windows = np.lib.stride_tricks.sliding_window_view(head, window, axis=1)[:, used]
    spectrum = np.fft.rfft(windows * np.hanning(window).astype(np.float32))
    power = np.zeros((intervals[-1] + 1, len(mel)))
    np.add.at(power, intervals[: len(used)], (np.abs(spectrum[..., : len(mel)]) ** 2).mean(axis=0))
    decibels = 10 * np.log10(np.maximum(power / np.bincount(intervals)[:, None] @ mel, 1e-30))
    above = np.maximum(decibels - decibels.max() + _RANGE_DB, 0).ravel()  # silence is 0: it adds no likeness
    return (above / np.linalg.norm(above)).astype(np.float32)


def find_near_copies(features: np.ndarray, threshold: float = NEAR_COPY_LIKENESS) -> list[tuple[int, int]]:
    """Pair each sound with the most similar earlier one, where their likeness reaches the threshold.

    Args:
        features: unit vectors, float32 (sounds, features); the product of two is their likeness.
        threshold: least likeness, up to 1.

    Returns:
        Pairs (sound, earlier sound), in order.
    """
    pairs = []
    for start in range(0, len(features), _ROWS_AT_ONCE):
        likeness = features[start : start + _ROWS_AT_ONCE] @ features[: start + _ROWS_AT_ONCE].T
        rows = np.arange(len(likeness))
        likeness[np.arange(likeness.shape[1]) >= rows[:, None] + start] = -1
        best = likeness.argmax(axis=1)
        pairs += [(start + int(i), int(best[i])) for i in rows[likeness[rows, best] >= threshold]]
    return pairs
