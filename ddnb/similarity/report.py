"""The findings of the originality check, as data, text and HTML."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..audio.io import fit_length, read
from ..clips.clip import Clip
from ..clips.provenance import InputRecord, Provenance
from ..display.html import card_html, cards_of, escape
from ..errors import ArgumentError
from .index import FEWEST_SOUNDS

NEAR_COPY_OF, NO_COPY = "near copy of", "no near copy found in this folder"
UNCHECKED, SILENT = "not checked", "silent: nothing to compare"
WHY_UNCHECKED = "no folder of training sounds was given"


@dataclass(frozen=True, eq=False)
class Row:
    """The finding for one clip.

    Attributes:
        clip: the clip that was given; for a beat its ``clip``.
        nearest: path of the nearest training sound inside the folder, with ``/``; None if nothing was compared, or
            nothing is similar at all.
        at_s: time in that sound at which the similar stretch begins.
        clip_at_s: time in the clip.
        distance: from 0 (the same) to 1 (nothing in common).
        score: share of the folder's sounds, 0 to 1, that are farther from their own nearest neighbour; None if the
            folder has fewer than 10 sounds.
        verdict: the finding in words.
        near: whether it is a near copy.
        track: for a beat, the track whose sound is nearer than the mix and the other sounds; None for the mix.
        sound: the sound of the track, if it was compared in place of ``clip``.
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

    @property
    def compared(self) -> Clip:
        """The sound that was compared: ``clip``, or that of the track."""
        return self.clip if self.sound is None else self.sound


@dataclass(frozen=True, eq=False)
class Originality:
    """The findings of ``originality``; ``print`` shows them as text, a notebook with players.

    Attributes:
        rows: one per clip, in order.
        duplicates: (number of a clip, number of a later one that is nearly the same, their distance).
        threshold: distance below which a sound is a near copy.
        files: number of training sounds that the clips were compared with.
        skipped: path inside the folder -> why this file could not be used.
        folder: the folder of training sounds; None if none was given.
    """

    rows: tuple[Row, ...]
    duplicates: tuple[tuple[int, int, float], ...]
    threshold: float
    files: int
    skipped: dict[str, str]
    folder: Path | None

    def record(self, i: int) -> dict[str, Any]:
        """Return the manifest's entry for clip ``i``; with file names only, no folder of anybody's disk."""
        row = self.rows[i]
        if self.folder is None:
            return {"verdict": "not checked", "why": WHY_UNCHECKED}
        name = Path(row.nearest or "").name
        return {
            "verdict": copy_verdict(name, row.track) if row.near else row.verdict,
            "nearest": name or None,
            "distance": row.distance and round(row.distance, 4),
            "threshold": round(self.threshold, 4),
            "score": row.score and round(row.score, 4),
            "files": self.files,
        }

    def nearest_sound(self, i: int) -> Clip:
        """Return the stretch of the nearest training sound that clip ``i`` is similar to, as long as the clip.

        Raises:
            ValueError: it was compared with nothing.
            FileNotFoundError: the file has gone since.
        """
        row = self.rows[i]
        if self.folder is None or row.nearest is None or row.at_s is None or row.clip_at_s is None:
            raise ArgumentError(f"clip {i} was compared with no training sound: {row.verdict}.")
        audio, rate = read(self.folder / row.nearest)
        start = min(max(0, round((row.at_s - row.clip_at_s) * rate)), audio.shape[-1] - 1)
        name = Path(row.nearest).name
        cut = fit_length(audio, round(row.compared.duration_s * rate), start)
        return Clip(cut, rate, 0, Provenance(source=InputRecord(name)))

    def __str__(self) -> str:
        rows = [_describe_row(i, row) for i, row in enumerate(self.rows)]
        return "\n".join([*_describe_folder(self), *rows, *_describe_duplicates(self)])

    def __repr__(self) -> str:
        near = sum(row.near for row in self.rows)
        return f"<Originality of {len(self.rows)} clips: {near} near copies, {len(self.duplicates)} duplicates>"

    def _repr_html_(self) -> str:
        return originality_html(self)


def copy_verdict(name: str, track: str | None = None) -> str:
    """Return the verdict for a near copy of this file."""
    return f"{NEAR_COPY_OF} {name}" + (f" (the sound of track {track})" if track else "")


# --- words ---


def _describe_folder(found: Originality) -> list[str]:
    if found.folder is None:
        return [f"Not checked for near copies: {WHY_UNCHECKED}."]
    lines = [
        f"Compared with {found.files} sounds in {found.folder.name}. A near copy has a distance below "
        f"{found.threshold:.3f}."
    ]
    if found.files < FEWEST_SOUNDS:
        lines.append(f"This is the default threshold: fewer than {FEWEST_SOUNDS} sounds do not set one.")
    if found.skipped:
        lines.append(f"Skipped, as they cannot be read ({len(found.skipped)}):")
        lines += [f"- {name}: {why.removeprefix(f'{Path(name).name} ')}" for name, why in found.skipped.items()]
    return lines


def _describe_row(i: int, row: Row) -> str:
    text = f"{i} {row.clip.name}: {row.verdict}"
    if row.distance is None:
        return text
    if row.nearest is None:
        return f"{text}; nothing is similar at all"
    of = f"nearest to its {row.track}:" if row.track else "nearest"
    where = f"at {row.at_s:.2f} s, " if row.near else f"{of} {row.nearest} at {row.at_s:.2f} s, "
    text += f"; {where}distance {row.distance:.3f}"
    if row.score is None:
        return text
    return f"{text}, nearer than {100 * row.score:.1f} % of the folder's sounds are to their nearest neighbour"


def _describe_duplicates(found: Originality) -> list[str]:
    return [f"Clips {i} and {j} are nearly the same (distance {d:.3f})." for i, j, d in found.duplicates]


_PAIRS = 8


def originality_html(report: Originality) -> str:
    """Return the findings as HTML: nearest first, both players side by side."""
    lines = "<br>".join(escape(line) for line in str(report).splitlines())
    distances = {i: row.distance for i, row in enumerate(report.rows) if row.distance is not None}
    compared = sorted(distances, key=lambda i: distances[i])
    pairs = ((report.rows[i].compared, report.nearest_sound(i)) for i in compared[:_PAIRS])
    cards, note = cards_of([clip.shown() for pair in pairs for clip in pair], rest="they are listed above")
    rows = []
    for i, clip, nearest in zip(compared, cards[::2], cards[1::2], strict=False):
        cells = "".join(f'<td style="text-align:left;vertical-align:top">{card_html(*c)}</td>' for c in (clip, nearest))
        heading = f"<b>{escape(report.rows[i].verdict)}</b>"
        rows.append(f'<tr><td colspan="2" style="text-align:left">{heading}</td></tr><tr>{cells}</tr>')
    return f"<div>{lines}<table style='max-width:100%'>{''.join(rows)}</table>{note}</div>"
