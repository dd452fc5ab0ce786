"""TODO display/text."""

from __future__ import annotations

# --- words ------------------------------------------------------------------------------------------------------


def shown(name: str) -> str:
    """A file name that can be printed: what is no printable character becomes a question mark."""
    return "".join(c if c.isprintable() else "?" for c in name)


def duration(seconds: float) -> str:
    """Seconds in words: ``0.41 s``, ``12.3 s``, ``6 min 12 s``, ``25 min``, ``2 h 5 min``."""
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    if seconds < 600:
        return f"{round(seconds) // 60} min {round(seconds) % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
