"""Other sounds from recorded ones: transposed, shortened, coloured, driven, layered. NumPy and SciPy alone."""

from __future__ import annotations

import numpy as np
from scipy.signal import resample

from .data import LEAD, SAMPLE_RATE

SEMITONES = {"bass": 5.0, "synth": 5.0, "texture": 4.0}
"""Up to how far a category is transposed, up or down; the others by 2."""

_FADE = 256


def augmented(sound: np.ndarray, category: str, other: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
    """Return a variant of a sound: as long or shorter or longer, at a peak of 1.

    Args:
        sound: float32 (frames,), silent for ``LEAD`` frames unless it is a texture.
        category: of the sound: a texture's level in time is left alone.
        other: another sound of the category, of which a layer may be added; none for none.
        rng: chance.
    """
    lead = 0 if category == "texture" else LEAD
    body = _transposed(sound[lead:], rng.uniform(-1, 1) * SEMITONES.get(category, 2.0))
    if other is not None and rng.random() < 0.25:
        layer = _transposed(other[lead:], rng.uniform(-1, 1) * SEMITONES.get(category, 2.0))[: len(body)]
        body[: len(layer)] += rng.uniform(0.2, 0.7) * rng.choice([-1, 1]) * layer
    body = _coloured(body, rng)
    if rng.random() < 0.3:
        drive = 10 ** (rng.uniform(0, 12) / 20)
        body = np.tanh(drive * body / np.abs(body).max())
    if category != "texture" and rng.random() < 0.5:
        body = body * np.exp(-np.arange(len(body)) / SAMPLE_RATE / np.exp(rng.uniform(np.log(0.05), np.log(1.0))))
    body = body * (rng.choice([-1, 1]) / np.abs(body).max())
    if category != "texture":
        body[-_FADE:] *= np.linspace(1, 0, _FADE)
    return np.concatenate([sound[:0], np.zeros(lead), body]).astype(np.float32)


def _transposed(x: np.ndarray, semitones: float) -> np.ndarray:
    """Played faster or slower; the length is rounded to one that transforms quickly."""
    padded = np.pad(x, (512, 512)).astype(np.float32)  # the transform wraps
    frames = 64 * round(len(padded) * 2 ** (-semitones / 12) / 64)
    edge = round(512 * frames / len(padded))
    return resample(padded, frames)[edge : frames - edge]


def _coloured(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Through a random equalizer: smooth over octaves, 3 dB of deviation, no delay."""
    frames = len(x) + 2048
    octave = np.log2(np.maximum(np.fft.rfftfreq(frames, 1 / SAMPLE_RATE), 20) / 20)
    decibels = np.interp(octave, np.arange(11), 3 * rng.standard_normal(11))
    spectrum = np.fft.rfft(x, frames) * 10 ** (decibels / 20)
    return np.fft.irfft(spectrum, frames)[: len(x)]
