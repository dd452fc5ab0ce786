"""TODO similarity/report."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..audio.io import fit_length, read
from ..clips.clip import Clip
from ..display.html import card_html, cards_of
from .index import _NAMES, FEWEST_SOUNDS

NEAR_COPY, NO_COPY = "near copy of", "no near copy found in this folder"
UNCHECKED, SILENT = "cannot be checked here", "silent: there is nothing to compare"
WHY_UNCHECKED = "the training sounds are not at hand"


@dataclass(frozen=True, eq=False)
class Row:
    """What was found for one clip.

    Attributes:
        clip: the clip: the object that was given where that was a clip, of a beat its ``clip``.
        nearest: path inside the folder of the training sound that is nearest, with ``/``; none if nothing was compared,
            or if nothing is alike at all.
        at_s: where in that sound the stretch begins that the clip resembles.
        clip_at_s: where in the clip.
        distance: from 0 (the same) to 1 (nothing in common).
        score: share of the folder's sounds, 0 to 1, that are farther from their own nearest neighbour; none if
            the folder has fewer than 10 sounds.
        verdict: in words.
        near: whether it is a near copy.
        track: of a beat, the track whose sound this row is about, being nearer than the mix and the other sounds; none
            if it is about the mix.
        sound: what was compared: ``clip``, or that sound.
    """

    clip: Clip
    nearest: str | None = None
    at_s: float | None = None
    clip_at_s: float | None = None
    distance: float | None = None
    score: float | None = None
    verdict: str = UNCHECKED
    near: bool = False
    track: str | None = None
    sound: Clip | None = None

    def __post_init__(self) -> None:
        if self.sound is None:
            object.__setattr__(self, "sound", self.clip)


@dataclass(frozen=True, eq=False)
class Originality:
    """What ``originality`` found; ``print`` shows it as text.

    Attributes:
        rows: one for each clip, in order.
        duplicates: (number of a clip, number of a later one that is nearly the same, their distance).
        threshold: distance below which a sound is a near copy.
        files: training sounds that the clips were compared with.
        skipped: path inside the folder -> why this file could not be used.
        folder: of the training sounds; none if they were not at hand.
    """

    rows: tuple[Row, ...]
    duplicates: tuple[tuple[int, int, float], ...]
    threshold: float
    files: int
    skipped: dict[str, str]
    folder: Path | None

    def record(self, i: int) -> dict[str, Any]:
        """What a manifest says of clip ``i``; file names only, no folder of anybody's disk."""
        row = self.rows[i]
        if self.folder is None:
            return {"verdict": "not checked", "why": WHY_UNCHECKED}
        return {
            "verdict": _verdict(Path(row.nearest).name, row.track) if row.near else row.verdict,
            "nearest": row.nearest and Path(row.nearest).name,
            "distance": row.distance and round(row.distance, 4),
            "threshold": round(self.threshold, 4),
            "score": row.score and round(row.score, 4),
            "files": self.files,
        }

    def nearest_sound(self, i: int) -> Clip:
        """The stretch of the nearest training sound that clip ``i`` resembles, as long as the clip.

        Raises:
            ValueError: it was compared with nothing.
            FileNotFoundError: the file has gone since.
        """
        row = self.rows[i]
        if row.nearest is None:
            raise ValueError(f"clip {i} was compared with no training sound: {row.verdict}.")
        audio, rate = read(self.folder / row.nearest)
        start = min(max(0, round((row.at_s - row.clip_at_s) * rate)), audio.shape[-1] - 1)
        name = Path(row.nearest).name
        cut = fit_length(audio, round(row.sound.duration_s * rate), start)
        return Clip(cut, rate, 0, {"source": {"name": name}, "model": {"name": name}})

    def __str__(self) -> str:
        rows = [_about_row(i, row) for i, row in enumerate(self.rows)]
        return "\n".join([*_about_folder(self), *rows, *_about_pairs(self)])

    def __repr__(self) -> str:
        near = sum(row.near for row in self.rows)
        return f"<Originality of {len(self.rows)} clips: {near} near copies, {len(self.duplicates)} duplicates>"

    def _repr_html_(self) -> str:
        return originality_html(self)


def _verdict(name: str, track: str | None = None) -> str:
    return f"{NEAR_COPY} {name}" + (f" (the sound of track {track})" if track else "")


# --- words ------------------------------------------------------------------------------------------------------


def _about_folder(found: Originality) -> list[str]:
    if found.folder is None:
        return [f"Whether these are copies {UNCHECKED}: {WHY_UNCHECKED}."]
    lines = [
        f"Compared with {found.files} sounds in {found.folder.name}; near is a distance below {found.threshold:.3f}."
    ]
    if found.files < FEWEST_SOUNDS:
        lines.append(f"Fewer than {FEWEST_SOUNDS} sounds do not say how near theirs are: this is the usual bound.")
    if found.skipped:
        names = list(found.skipped)[:_NAMES]
        more = f" and {len(found.skipped) - _NAMES} more" if len(found.skipped) > _NAMES else ""
        lines.append(f"Not compared, as they cannot be read: {', '.join(names)}{more}.")
    return lines


def _about_row(i: int, row: Row) -> str:
    text = f"{i} {row.clip.name}: {row.verdict}"
    if row.distance is None:
        return text
    if row.nearest is None:
        return f"{text}; nothing is alike at all"
    of = f"nearest to its {row.track} is" if row.track else "nearest"
    where = f"at {row.at_s:.2f} s, " if row.near else f"{of} {row.nearest} at {row.at_s:.2f} s, "
    text += f"; {where}distance {row.distance:.3f}"
    if row.score is None:
        return text
    return f"{text}, nearer than {100 * row.score:.1f} % of the folder's sounds are to each other"


def _about_pairs(found: Originality) -> list[str]:
    return [f"Clips {i} and {j} are nearly the same (distance {d:.3f})." for i, j, d in found.duplicates]


_PAIRS = 8


def originality_html(report: Originality) -> str:
    """Return what the originality check found as one piece of HTML: nearest first, both players side by side."""
    lines = "<br>".join(html.escape(line) for line in str(report).splitlines())
    compared = [i for i, row in enumerate(report.rows) if row.nearest is not None]
    compared.sort(key=lambda i: report.rows[i].distance)
    pairs = ((report.rows[i].sound, report.nearest_sound(i)) for i in compared[:_PAIRS])
    cards, note = cards_of([clip.shown() for pair in pairs for clip in pair], rest="they are named above")
    rows = []
    for i, clip, nearest in zip(compared, cards[::2], cards[1::2], strict=False):
        cells = "".join(f'<td style="text-align:left;vertical-align:top">{card_html(*c)}</td>' for c in (clip, nearest))
        heading = f"<b>{html.escape(report.rows[i].verdict)}</b>"
        rows.append(f'<tr><td colspan="2" style="text-align:left">{heading}</td></tr><tr>{cells}</tr>')
    return f"<div>{lines}<table style='max-width:100%'>{''.join(rows)}</table>{note}</div>"
