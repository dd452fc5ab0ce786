"""Finishing a sound: trimming, levels, stereo width. Everything is deterministic.

An *edit* is a dictionary that is kept in the sound's record: ``to_rate`` (another sample rate) with, for loops, the
frames on the circle, ``circle_frames``; ``first_frame`` and ``frames`` (the part that is kept; what reaches past the
end is silent), ``fade_in_frames`` (at its beginning), ``fade_frames`` (at its end), ``gain_db``, ``bits`` (rounding as
in a file). Each key may be missing; they are applied in this order. ``apply_edit`` repeats one, so that a sound can be
remade as it was exported.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from ..checks import whole
from ..errors import ArgumentError, RecordError
from .io import CEILING_DBFS, NO_GAIN_DB, SUBTYPES, amplify, fit_length, peak_dbfs, quantise, resample, stretch
from .loop import fit_circle

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

LOUDNESS_LUFS = -18.0
"""Integrated loudness (ITU-R BS.1770-4) of loops and textures."""

FADE_IN_S = 0.0005
STARTS_HARD = 0.01
"""Magnitude of a first sample re the peak from which on a sound gets a fade-in, as it would click."""

RATES = (8000, 192_000)
"""Sample rates that a sound can be saved at, Hz."""

_EDIT = ("to_rate", "circle_frames", "first_frame", "frames", "fade_in_frames", "fade_frames", "gain_db", "bits")
_METERED_S = 0.4  # the shortest sound that has a loudness: one block of the standard
_AROUND = 64  # frames over which a peak between samples can ring
_BLOCK = 1 << 18  # frames that are oversampled at a time


_MAX_GAIN_DB = 1000.0


def apply_edit(audio: np.ndarray, edit: Mapping[str, Any], sample_rate: int | None = None) -> np.ndarray:
    """Apply an edit: (channels, frames) -> (channels, frames kept), float32.

    Args:
        audio: the sound.
        edit: see above.
        sample_rate: that of the sound, Hz, for edits that change it.

    Raises:
        RecordError: unknown keys, or an edit that does not fit the sound.
    """
    if unknown := [key for key in edit if key not in _EDIT]:
        raise RecordError(f"Unknown edit: {', '.join(unknown)}. Known: {', '.join(_EDIT)}.")
    if "circle_frames" in edit and "to_rate" not in edit:
        raise RecordError(f"The edit {dict(edit)} has circle_frames without to_rate.")
    if "to_rate" in edit:
        audio = _change_rate(audio, edit, sample_rate)
    first = operator.index(edit.get("first_frame", 0))
    frames = operator.index(edit.get("frames", audio.shape[-1] - first))
    fade_in, fade = (operator.index(edit.get(key, 0)) for key in ("fade_in_frames", "fade_frames"))
    gain, bits = edit.get("gain_db", 0.0), edit.get("bits", "float")
    if isinstance(gain, bool) or not isinstance(gain, Real):
        raise RecordError(f"The edit {dict(edit)} has a gain_db that is no number.")
    gain_db = float(gain)
    inside = 0 <= first < audio.shape[-1] and 1 <= frames <= audio.shape[-1] and min(fade_in, fade) >= 0
    if not (inside and fade_in + fade <= frames and bits in SUBTYPES and abs(gain_db) <= _MAX_GAIN_DB):
        raise RecordError(f"The edit {dict(edit)} does not fit a sound of {audio.shape[-1]} frames.")
    audio = _fade_out(_fade_in(fit_length(audio, frames, first), fade_in), fade)
    audio = amplify(audio, gain_db)
    return audio if bits == "float" else quantise(audio, bits)


def rate_edit(sample_rate: int, to_rate: int) -> dict[str, int]:
    """Return the edit that changes the sample rate; empty if it is that already.

    Args:
        sample_rate: that of the sound, Hz.
        to_rate: whole Hz, from 8,000 to 192,000.

    Raises:
        ArgumentError: a rate out of its range.
    """
    try:
        to_rate = whole("to_rate", to_rate, *RATES)
    except ArgumentError as error:
        raise ArgumentError(f"{error} 44100 and 48000 are usual.") from None
    return {} if to_rate == sample_rate else {"to_rate": to_rate}


def _change_rate(audio: np.ndarray, edit: Mapping[str, Any], sample_rate: int | None) -> np.ndarray:
    to_rate, frames = operator.index(edit["to_rate"]), edit.get("circle_frames")
    usual = audio.shape[-1] * to_rate / (sample_rate or to_rate)
    there = frames is None or abs(operator.index(frames) - usual) <= 1 + to_rate / (sample_rate or to_rate)
    if sample_rate is None or not RATES[0] <= to_rate <= RATES[1] or not there:
        raise RecordError(
            f"The edit {dict(edit)} does not fit a sound of {audio.shape[-1]} frames at {sample_rate} Hz."
        )
    return resample(audio, sample_rate, to_rate) if frames is None else fit_circle(audio, frames)


def _fade_out(audio: np.ndarray, frames: int) -> np.ndarray:
    """Fade the last frames to exactly zero, along a half cosine."""
    if not frames:
        return audio
    fall = 0.5 + 0.5 * np.cos(np.pi * np.arange(1, frames + 1) / frames)
    kept, end = np.split(audio, [audio.shape[-1] - frames], axis=-1)
    return np.concatenate([kept, end * fall.astype(np.float32)], axis=-1)


def _fade_in(audio: np.ndarray, frames: int) -> np.ndarray:
    """Fade the first frames from exactly zero, along a half cosine."""
    if not frames:
        return audio
    rise = 0.5 - 0.5 * np.cos(np.pi * np.arange(frames) / frames)
    return np.concatenate([audio[:, :frames] * rise.astype(np.float32), audio[:, frames:]], axis=-1)


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


def normalize(audio: np.ndarray, sample_rate: int, *, align: bool, by_loudness: bool) -> dict[str, Any]:
    """Find the edit that gives a sound the level of recordings in sample packs, at the same length.

    Args:
        audio: (channels, frames).
        sample_rate: Hz.
        align: whether it may be moved, so that it begins a millisecond before its attack and not with a click.
        by_loudness: bring it to ``LOUDNESS_LUFS`` and not to a peak of ``CEILING_DBFS``, which it keeps below.

    Returns:
        The edit; empty for silence.
    """
    if not audio.any():
        return {}
    edit: dict[str, Any] = {}
    if align:
        peak = np.abs(audio).max()
        # one that is cut off while it sounds is not moved: silence after it would be a click
        ends = np.abs(audio[:, -round(LEAD_S * sample_rate) :]).max() < peak * 10 ** (TAIL_DB / 20)
        first = start_frame(audio, sample_rate) if ends else 0
        edit |= {"first_frame": first, "frames": audio.shape[-1]} if first else {}
        hard = np.abs(audio[:, first]).max() >= STARTS_HARD * peak
        fade = {"fade_in_frames": min(round(FADE_IN_S * sample_rate), audio.shape[-1])} if hard else {}
        if fade and apply_edit(audio, edit | fade).any():  # or all of it was its first sample
            edit |= fade
        audio = apply_edit(audio, edit)
    gain_db = CEILING_DBFS - peak_dbfs(audio)
    if by_loudness:
        louder = loudness_lufs(amplify(audio, gain_db), sample_rate) - LOUDNESS_LUFS
        gain_db -= max(0.0, louder)
    return edit | {"gain_db": round(gain_db, 4)}


def loudness_lufs(audio: np.ndarray, sample_rate: int) -> float:
    """Measure the integrated loudness in LUFS, as in ITU-R BS.1770-4; minus infinity for near silence.

    A sound shorter than a block of the standard, 0.4 s, is measured repeated.
    """
    from pyloudnorm import Meter

    repeats = math.ceil(_METERED_S * sample_rate / audio.shape[-1])
    return float(Meter(sample_rate).integrated_loudness(np.tile(audio, repeats).T.astype(np.float64)))


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
    frames = audio.shape[-1]
    places = range(0, frames, _BLOCK) if loop else range(-_AROUND, frames + _AROUND, _BLOCK)
    ends = (min(first + _BLOCK, places.stop) for first in places)
    peaks = [_peak_between(audio, first, end, loop) for first, end in zip(places, ends, strict=True)]
    return max(*peaks, peak_dbfs(audio))  # the filter may lower a sample itself


def _peak_between(audio: np.ndarray, first: int, end: int, loop: bool) -> float:
    """Return the peak of frames of a sound, oversampled four times, dB; they may lie outside it."""
    from scipy.signal import resample_poly

    long = end - first + 2 * _AROUND
    if loop:
        part = audio[:, np.arange(first - _AROUND, end + _AROUND) % audio.shape[-1]]
    else:
        part = stretch(audio, first - _AROUND, long)
    between = resample_poly(part.astype(np.float64), 4, 1, axis=-1)
    return peak_dbfs(between[:, 4 * _AROUND : 4 * (long - _AROUND)])


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
