"""Text for people: printable names and durations."""

from __future__ import annotations


def shown(name: str) -> str:
    """Return a file name that can be printed: unprintable characters become question marks."""
    return "".join(c if c.isprintable() else "?" for c in name)


def in_picture(name: str, most: int = 40) -> str:
    """Return a name as Matplotlib draws it: printable, at most so long, its dollars no mathematics."""
    name = shown(name)
    name = name if len(name) <= most else f"{name[: most // 2]}…{name[-(most // 2) :]}"
    return name.replace("$", r"\$")


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
