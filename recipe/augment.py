"""Variants of recorded sounds: transposed, shortened, equalized, saturated, layered. NumPy and SciPy only."""

from __future__ import annotations

import numpy as np
from scipy.signal import resample

from .data import LEAD, SAMPLE_RATE

SEMITONES = {"bass": 5.0, "synth": 5.0, "texture": 4.0}
"""Maximum transposition of a category, up or down, in semitones; the others: 2."""

_FADE = 256


def make_variant(sound: np.ndarray, category: str, other: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
    """Return a random variant of a sound with a peak of 1; its length may differ.

    Args:
        sound: float32 (frames,), silent for ``LEAD`` frames unless it is a texture.
        category: category of the sound; a texture keeps its envelope.
        other: another sound of the category that may be layered on top, or None.
        rng: random generator.
    """
    lead = 0 if category == "texture" else LEAD
    body = _transpose(sound[lead:], rng.uniform(-1, 1) * SEMITONES.get(category, 2.0))
    if other is not None and rng.random() < 0.25:
        layer = _transpose(other[lead:], rng.uniform(-1, 1) * SEMITONES.get(category, 2.0))[: len(body)]
        body[: len(layer)] += rng.uniform(0.2, 0.7) * rng.choice([-1, 1]) * layer
    body = _equalize(body, rng)
    if rng.random() < 0.3:
        drive = 10 ** (rng.uniform(0, 12) / 20)
        body = np.tanh(drive * body / np.abs(body).max())
    if category != "texture" and rng.random() < 0.5:
        body = body * np.exp(-np.arange(len(body)) / SAMPLE_RATE / np.exp(rng.uniform(np.log(0.05), np.log(1.0))))
    body = body * (rng.choice([-1, 1]) / np.abs(body).max())
    if category != "texture":
        body[-_FADE:] *= np.linspace(1, 0, _FADE)
    return np.concatenate([sound[:0], np.zeros(lead), body]).astype(np.float32)


def _transpose(x: np.ndarray, semitones: float) -> np.ndarray:
    """Transpose by resampling; the length is rounded to a multiple of 64, which makes the FFT fast."""
    padded = np.pad(x, (512, 512)).astype(np.float32)  # the FFT is circular
    frames = 64 * round(len(padded) * 2 ** (-semitones / 12) / 64)
    edge = round(512 * frames / len(padded))
    return resample(padded, frames)[edge : frames - edge]


def _equalize(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Apply a random equalizer: smooth over octaves, standard deviation 3 dB, zero phase."""
    frames = len(x) + 2048
    octave = np.log2(np.maximum(np.fft.rfftfreq(frames, 1 / SAMPLE_RATE), 20) / 20)
    decibels = np.interp(octave, np.arange(11), 3 * rng.standard_normal(11))
    spectrum = np.fft.rfft(x, frames) * 10 ** (decibels / 20)
    return np.fft.irfft(spectrum, frames)[: len(x)]
