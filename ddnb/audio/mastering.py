"""Finishing a sound: trimming, levels, stereo width. Everything is deterministic.

An *edit* is a dictionary that is kept in the sound's record: ``first_frame`` and ``frames`` (the part that is kept),
``fade_frames`` (at its end), ``gain_db``, ``bits`` (rounding as in a file). Each key may be missing; they are applied
in this order. ``apply_edit`` repeats one, so that a sound can be remade as it was exported.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, RecordError
from .io import CEILING_DBFS, NO_GAIN_DB, SUBTYPES, amplify, peak_dbfs, quantise

_WIDENER_TAPS = 882
_WIDENER_MEAN = 147  # taps: half a period of 150 Hz at 44.1 kHz


def widen(audio: np.ndarray, width: float, loop: bool = False) -> np.ndarray:
    """Widen mono to stereo: a decorrelated copy is added on the left and subtracted on the right.

    The copy is the sound convolved with 20 ms of decaying noise that has little energy below 150 Hz: the bass stays in
    the middle, nothing precedes the sound, and the mean of both channels is the mono sound.

    Args:
        audio: (1, T).
        width: from 0 (both channels are the same) to 1 (the copy is as loud as the sound).
        loop: whether the convolution is circular.

    Returns:
        (2, T).
    """
    middle = audio[0].astype(np.float64)
    size = len(middle) if loop else 1 << (len(middle) + _WIDENER_TAPS - 1).bit_length()
    side = (
        width
        * np.fft.irfft(np.fft.rfft(_decorrelation_filter(), size) * np.fft.rfft(middle, size), size)[: len(middle)]
    )
    return np.stack([middle + side, middle - side]).astype(np.float32)


def _decorrelation_filter() -> np.ndarray:
    """Return decaying noise without low frequencies, of unit energy."""
    taps = np.arange(_WIDENER_TAPS)
    noise = np.random.default_rng(0).standard_normal(_WIDENER_TAPS)
    for _ in range(2):  # minus its running mean: a high-pass filter of finite length
        noise = noise - np.convolve(noise, np.ones(_WIDENER_MEAN) / _WIDENER_MEAN, "same")
    noise *= np.exp(-taps / 200) * np.minimum(1, (_WIDENER_TAPS - taps) / 100)
    return noise / np.linalg.norm(noise)


ONSET_DB = -50.0
"""Level re the peak at which a sound begins; a lead-in longer than ``LEAD_S`` is cut."""

LEAD_S = 0.001
TAIL_DB = -60.0
"""Level re the peak below which a sound has ended."""

FADE_S = 0.01
LEVELS = ("kept", "each", "together")

_EDIT = ("first_frame", "frames", "fade_frames", "gain_db", "bits")
_AROUND = 64  # frames over which a peak between samples can ring


_MAX_GAIN_DB = 1000.0


def apply_edit(audio: np.ndarray, edit: Mapping[str, Any]) -> np.ndarray:
    """Apply an edit: (channels, frames) -> (channels, frames kept), float32.

    Raises:
        RecordError: unknown keys, or an edit that does not fit the sound.
    """
    if unknown := [key for key in edit if key not in _EDIT]:
        raise RecordError(f"Unknown edit: {', '.join(unknown)}. Known: {', '.join(_EDIT)}.")
    first = operator.index(edit.get("first_frame", 0))
    frames = operator.index(edit.get("frames", audio.shape[-1] - first))
    fade, bits = operator.index(edit.get("fade_frames", 0)), edit.get("bits", "float")
    gain_db = float(edit.get("gain_db", 0.0))
    inside = first >= 0 and 1 <= frames <= audio.shape[-1] - first and 0 <= fade <= frames
    if not (inside and bits in SUBTYPES and abs(gain_db) <= _MAX_GAIN_DB):
        raise RecordError(f"The edit {dict(edit)} does not fit a sound of {audio.shape[-1]} frames.")
    audio = _fade_out(audio[:, first : first + frames], fade)
    audio = amplify(audio, gain_db)
    return audio if bits == "float" else quantise(audio, bits)


def _fade_out(audio: np.ndarray, frames: int) -> np.ndarray:
    """Fade the last frames to exactly zero, along a half cosine."""
    if not frames:
        return audio
    fall = 0.5 + 0.5 * np.cos(np.pi * np.arange(1, frames + 1) / frames)
    kept, end = np.split(audio, [audio.shape[-1] - frames], axis=-1)
    return np.concatenate([kept, end * fall.astype(np.float32)], axis=-1)


def start_frame(audio: np.ndarray, sample_rate: int) -> int:
    """Return the frame a millisecond before a sound's attack, or 0."""
    return max(0, _onset(audio) - round(LEAD_S * sample_rate))


def _onset(audio: np.ndarray) -> int:
    envelope = np.abs(audio).max(axis=0)
    return int(np.argmax(envelope >= envelope.max() * 10 ** (ONSET_DB / 20)))


def find_trim(audio: np.ndarray, sample_rate: int) -> dict[str, int]:
    """Find the edit that trims a one-shot: from a millisecond before its attack to 10 ms after its end, faded out.

    The fade follows the audible part; a sound that is cut off at its end fades within it, a very short one over the
    last quarter after its attack. Trimming a trimmed sound changes nothing.

    Returns:
        The edit; empty if there is nothing to trim.
    """
    if not audio.any():
        return {}
    first, fade = start_frame(audio, sample_rate), round(FADE_S * sample_rate)
    left = audio[:, first:]
    sounding = audio.shape[-1] - _onset(audio)  # so that an attack in the very last frame is not faded away
    within = 0 if not left[:, -1].any() else min(fade, sounding // 4)  # one that ends in zero has been faded before
    # measured on the faded sound, or a second trim would find another end
    envelope = np.abs(_fade_out(left, within)).max(axis=0)
    heard = int(np.flatnonzero(envelope >= np.abs(audio).max() * 10 ** (TAIL_DB / 20))[-1]) + 1
    cut = left.shape[-1] - heard > fade
    frames, fade = (heard + fade, fade) if cut else (left.shape[-1], within)
    if frames == audio.shape[-1] and not fade:
        return {}
    return {"first_frame": first, "frames": frames, "fade_frames": fade}


def true_peak_dbfs(audio: np.ndarray, loop: bool = False) -> float:
    """Measure the true peak, between the samples too, in dB re full scale.

    Oversampled four times, as in ITU-R BS.1770-4 annex 2. White noise is read up to 1.1 dB low, drums by some
    hundredths of a dB.

    Args:
        audio: (channels, frames).
        loop: whether the beginning follows the end, so that the interpolation crosses the seam.

    Returns:
        dB; minus infinity for silence.
    """
    from scipy.signal import resample_poly

    around = [(0, 0), (_AROUND, _AROUND)]
    padded = np.pad(audio.astype(np.float64), around, mode="wrap" if loop else "constant")
    between = resample_poly(padded, 4, 1, axis=-1)
    if loop:
        between = between[:, 4 * _AROUND : -4 * _AROUND]
    return max(peak_dbfs(between), peak_dbfs(audio))  # the filter may lower a sample itself


def gains_db(true_peaks: Sequence[float], level: str) -> list[float]:
    """Return the gain of each of several sounds, dB.

    Args:
        true_peaks: true peak of each, dB re full scale.
        level: ``"kept"`` only lowers sounds above ``CEILING_DBFS``; ``"each"`` brings every sound there;
            ``"together"`` brings the loudest there, and the others by the same gain.

    Raises:
        ArgumentError: another ``level``.
    """
    if level not in LEVELS:
        raise ArgumentError(f"level={level!r}: known are {', '.join(LEVELS)}.")
    gains = [CEILING_DBFS - peak for peak in true_peaks]
    if level == "kept":
        gains = [min(0.0, gain) for gain in gains]
    elif level == "together":
        gains = [min(gains)] * len(gains)
    return [0.0 if abs(gain) <= NO_GAIN_DB else round(gain, 4) for gain in gains]
