"""What is done to a sound on its way out: trimmed, brought to a level, asked for its note. Nothing here is by chance.

What was done is an *edit*, a dictionary that goes into the sound's record: ``first_frame`` and ``frames`` (what is
kept), ``fade_frames`` (at the end of that), ``gain_db``, ``bits`` (rounded as in a file); each may be missing, and they
are done in this order. ``apply`` does one again, so that a sound is made again as it left.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .io import CEILING_DBFS, NO_GAIN_DB, SUBTYPES, amplified, peak_dbfs, quantised

_WIDENER_TAPS = 882
_WIDENER_MEAN = 147  # taps: half a period of 150 Hz at 44.1 kHz


def widen(audio: np.ndarray, width: float, loop: bool = False) -> np.ndarray:
    """Make mono stereo: a decorrelated copy is added on the left and subtracted on the right.

    The copy is the sound through 20 ms of decaying noise with little below 150 Hz: the bass stays in the middle,
    nothing comes before the sound, and the mean of both sides is the mono sound again.

    Args:
        audio: (1, T).
        width: from 0 (both sides are the same) to 1 (the copy is as loud as the sound).
        loop: whether the copy goes on at the beginning where it reaches beyond the end.

    Returns:
        (2, T).
    """
    middle = audio[0].astype(np.float64)
    size = len(middle) if loop else 1 << (len(middle) + _WIDENER_TAPS - 1).bit_length()
    side = width * np.fft.irfft(np.fft.rfft(_widener(), size) * np.fft.rfft(middle, size), size)[: len(middle)]
    return np.stack([middle + side, middle - side]).astype(np.float32)


def _widener() -> np.ndarray:
    """Decaying noise without its low end, of as much energy as one sample."""
    taps = np.arange(_WIDENER_TAPS)
    noise = np.random.default_rng(0).standard_normal(_WIDENER_TAPS)
    for _ in range(2):  # minus its running mean: a high-pass filter of finite length
        noise = noise - np.convolve(noise, np.ones(_WIDENER_MEAN) / _WIDENER_MEAN, "same")
    noise *= np.exp(-taps / 200) * np.minimum(1, (_WIDENER_TAPS - taps) / 100)
    return noise / np.linalg.norm(noise)


ONSET_DB = -50.0
"""Re its peak, where a sound begins; what comes more than ``LEAD_S`` earlier is skipped."""

LEAD_S = 0.001
TAIL_DB = -60.0
"""Re its peak, where a sound has ended."""

FADE_S = 0.01
LEVELS = ("kept", "each", "together")

_EDIT = ("first_frame", "frames", "fade_frames", "gain_db", "bits")
_AROUND = 64  # frames over which a peak between samples can ring


def apply(audio: np.ndarray, edit: Mapping[str, Any]) -> np.ndarray:
    """Do an edit: (channels, frames) -> (channels, frames kept), float32.

    Raises:
        ValueError: an edit that is none, or of another sound.
    """
    if unknown := [key for key in edit if key not in _EDIT]:
        raise ValueError(f"{', '.join(unknown)} is no edit: known are {', '.join(_EDIT)}.")
    first = operator.index(edit.get("first_frame", 0))
    frames = operator.index(edit.get("frames", audio.shape[-1] - first))
    fade, bits = operator.index(edit.get("fade_frames", 0)), edit.get("bits", "float")
    if not (first >= 0 and 1 <= frames <= audio.shape[-1] - first and 0 <= fade <= frames and bits in SUBTYPES):
        raise ValueError(f"The edit {dict(edit)} is not of a sound of {audio.shape[-1]} frames.")
    audio = _faded(audio[:, first : first + frames], fade)
    audio = amplified(audio, float(edit.get("gain_db", 0.0)))
    return audio if bits == "float" else quantised(audio, bits)


def _faded(audio: np.ndarray, frames: int) -> np.ndarray:
    """A sound whose last frames fall to exactly zero, along a half cosine."""
    if not frames:
        return audio
    fall = 0.5 + 0.5 * np.cos(np.pi * np.arange(1, frames + 1) / frames)
    kept, end = np.split(audio, [audio.shape[-1] - frames], axis=-1)
    return np.concatenate([kept, end * fall.astype(np.float32)], axis=-1)


def start_frame(audio: np.ndarray, sample_rate: int) -> int:
    """The frame a millisecond before a sound's attack, or 0."""
    return max(0, _onset(audio) - round(LEAD_S * sample_rate))


def _onset(audio: np.ndarray) -> int:
    envelope = np.abs(audio).max(axis=0)
    return int(np.argmax(envelope >= envelope.max() * 10 ** (ONSET_DB / 20)))


def trimmed(audio: np.ndarray, sample_rate: int) -> dict[str, int]:
    """How to trim a one-shot: from a millisecond before its attack to 10 ms after it has ended, faded out.

    The fade lies behind what is heard; a sound that is cut off at its end fades within it, a very short one over the
    last quarter from its attack on. Trimming what is trimmed already changes nothing.

    Returns:
        The edit; empty where there is nothing to do.
    """
    if not audio.any():
        return {}
    first, fade = start_frame(audio, sample_rate), round(FADE_S * sample_rate)
    left = audio[:, first:]
    sounding = audio.shape[-1] - _onset(audio)  # an attack in the very last frame is not faded away
    within = 0 if not left[:, -1].any() else min(fade, sounding // 4)  # ends in zero: has been faded before
    # looked for in the faded sound, or a second look would find another end
    envelope = np.abs(_faded(left, within)).max(axis=0)
    heard = int(np.flatnonzero(envelope >= np.abs(audio).max() * 10 ** (TAIL_DB / 20))[-1]) + 1
    cut = left.shape[-1] - heard > fade
    frames, fade = (heard + fade, fade) if cut else (left.shape[-1], within)
    if frames == audio.shape[-1] and not fade:
        return {}
    return {"first_frame": first, "frames": frames, "fade_frames": fade}


def true_peak_dbfs(audio: np.ndarray, loop: bool = False) -> float:
    """Largest magnitude that a converter will meet, between the samples too, dB re full scale.

    Four times oversampled, as ITU-R BS.1770-4 annex 2 proposes. That reads noise up to half the
    sample rate up to 1.1 dB low, drums by some hundredths of a dB.

    Args:
        audio: (channels, frames).
        loop: whether the beginning follows the end: then what rings over the seam counts.

    Returns:
        dB; minus infinity for silence.
    """
    from scipy.signal import resample_poly

    around = [(0, 0), (_AROUND, _AROUND)]
    padded = np.pad(audio.astype(np.float64), around, mode="wrap" if loop else "constant")
    between = resample_poly(padded, 4, 1, axis=-1)
    if loop:
        between = between[:, 4 * _AROUND : -4 * _AROUND]
    return max(peak_dbfs(between), peak_dbfs(audio))  # the filter may round a sample itself down


def gains_db(true_peaks: Sequence[float], level: str) -> list[float]:
    """The gain of each of several sounds, dB.

    Args:
        true_peaks: of each, dB re full scale.
        level: ``"kept"`` lowers what is above ``CEILING_DBFS`` and nothing else; ``"each"`` brings every sound there;
            ``"together"`` the loudest, and the others by the same gain.

    Raises:
        ValueError: another ``level``.
    """
    if level not in LEVELS:
        raise ValueError(f"level={level!r}: known are {', '.join(LEVELS)}.")
    gains = [CEILING_DBFS - peak for peak in true_peaks]
    if level == "kept":
        gains = [min(0.0, gain) for gain in gains]
    elif level == "together":
        gains = [min(gains)] * len(gains)
    return [0.0 if abs(gain) <= NO_GAIN_DB else round(gain, 4) for gain in gains]
