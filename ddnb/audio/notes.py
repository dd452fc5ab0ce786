"""Notes and keys: names, MIDI numbers and Hz."""

from __future__ import annotations

import contextlib
import math
import re
from numbers import Integral, Real

from ..errors import ArgumentError

NOTES = ("C", "Cs", "D", "Ds", "E", "F", "Fs", "G", "Gs", "A", "As", "B")
"""Names in files: s stands for sharp."""

LOWEST_HZ, HIGHEST_HZ = 20.0, 5000.0

Note = str | int | float

_SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
}
_LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_SHIFTS = {"": 0, "#": 1, "s": 1, "♯": 1, "b": -1, "♭": -1}
_TONIC = r"([A-Ga-g])(#|s|♯|b|♭)?"
_ADVICE = 'give a name with its octave ("A1", "F#2"; A4 is 440 Hz), a MIDI number (33) or Hz ("55 Hz", 55.0)'


def note_name(note: int) -> str:
    """Return the name of a MIDI key: 60 is C4, sharps as in Fs1."""
    return f"{NOTES[note % 12]}{note // 12 - 1}"


def key_hz(key: float) -> float:
    """Return the pitch of a MIDI key, in equal temperament with key 69 at 440 Hz."""
    return 440.0 * 2 ** ((key - 69) / 12)


def hz_key(hz: float) -> float:
    """Return the MIDI key of a pitch, with its fraction."""
    return 69 + 12 * math.log2(hz / 440)


def parse_note(note: Note) -> float:
    """Return the pitch of a note, in Hz.

    Args:
        note: a name with its octave, in which C4 is middle C: ``"A1"``, ``"F#2"``, ``"Bb3"``; a whole number, the MIDI
            key; any other number, or text such as ``"55 Hz"`` or ``"1.2 kHz"``, a frequency.

    Raises:
        ArgumentError: several notes, something else, or a pitch outside of 20 to 5000 Hz.
    """
    hz = _read_note(note)
    if not LOWEST_HZ <= hz <= HIGHEST_HZ:  # NaN too
        given = f" is {hz:.4g} Hz" if math.isfinite(hz) else ""
        raise ArgumentError(f"note={note!r}{given}: give a note from {LOWEST_HZ:g} to {HIGHEST_HZ:g} Hz (E0 to D#8).")
    return hz


def _read_note(note: Note) -> float:
    if isinstance(note, Integral) and not isinstance(note, bool):
        if not 0 <= note <= 127:
            raise ArgumentError(f'note={note!r}: MIDI numbers go from 0 to 127; give Hz as "440 Hz" or 440.0.')
        return key_hz(int(note))
    if isinstance(note, Real) and not isinstance(note, bool):
        return float(note)
    text = note.strip() if isinstance(note, str) else ""
    if match := re.fullmatch(_TONIC + r"(-?\d)", text):
        letter, shift, octave = match.groups()
        return key_hz(_pitch_class(letter, shift) + 12 * (int(octave) + 1))
    if match := re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*(k?)hz", text, re.IGNORECASE):
        return float(match[1]) * (1000 if match[2] else 1)
    if re.fullmatch(r"\d{1,3}", text):
        return _read_note(int(text))
    if re.fullmatch(r"\d*\.\d+|\d+\.", text):
        return float(text)
    several = " one note, not several" if _is_several(note) else ""
    raise ArgumentError(f"note={note!r}:{several or ' no such note'}; {_ADVICE}.")


def _is_several(note: object) -> bool:
    parts = re.split(r"[\s,;/+|-]+", note) if isinstance(note, str) else note
    if not isinstance(parts, list | tuple) or len(parts) < 2:
        return False
    return all(isinstance(part, Real) or re.fullmatch(_TONIC + r"-?\d?|\d+", str(part)) for part in parts)


def parse_key(key: str) -> tuple[int, ...]:
    """Return the pitch classes of a key, 0 for C to 11 for B.

    Args:
        key: a tonic with ``major`` (default) or ``minor``: ``"A minor"``, ``"F# major"``, ``"Bb"``, ``"Am"``.

    Raises:
        ArgumentError: no such key.
    """
    match = re.fullmatch(_TONIC + r"\s*((?i:maj(?:or)?|min(?:or)?)|m)?", key.strip()) if isinstance(key, str) else None
    if match is None:
        raise ArgumentError(f'key={key!r}: no such key; give a tonic and a scale, "A minor" or "F# major".')
    letter, shift, scale = match.groups()
    steps = _SCALES["minor" if scale and (scale == "m" or scale.lower().startswith("min")) else "major"]
    return tuple(sorted((_pitch_class(letter, shift) + step) % 12 for step in steps))


def read_pitch(text: str) -> dict[str, str]:
    """Return what somebody typed as the argument ``note`` or ``key`` of a verb; nothing for nothing.

    Raises:
        ArgumentError: neither a note nor a key.
    """
    if not (text := text.strip()):
        return {}
    with contextlib.suppress(ArgumentError):
        parse_key(text)
        return {"key": text}
    parse_note(text)
    return {"note": text}


def _pitch_class(letter: str, shift: str | None) -> int:
    return _LETTERS[letter.upper()] + _SHIFTS[shift or ""]
