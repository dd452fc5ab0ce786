"""Text for people: printable names and durations."""

from __future__ import annotations

from ..names import canonical

_JOINERS = "\u200c\u200d"  # within emoji and Persian words; not printable by themselves


def shown(name: str) -> str:
    """Return a name that can be printed, in Unicode's NFC: unprintable characters become question marks."""
    return "".join(c if c.isprintable() or c in _JOINERS else "?" for c in canonical(name))


def shortened(name: str, most: int) -> str:
    """Return a name that can be printed, with at most ``most`` characters: the middle of a longer one is left out."""
    name = shown(name)
    return name if len(name) <= most else f"{name[: most // 2]}…{name[len(name) - (most - 1) // 2 :]}"


def duration(seconds: float) -> str:
    """Return a duration in words: ``0.41 s``, ``12.3 s``, ``6 min 12 s``, ``25 min``, ``2 h 5 min``."""
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    if seconds < 600:
        return f"{round(seconds) // 60} min {round(seconds) % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def counted(n: int, noun: str) -> str:
    """Return a number with its noun: ``1 sound``, ``6 sounds``."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
