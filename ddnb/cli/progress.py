"""TODO cli/progress."""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from ..audio.io import CEILING_DBFS, peak_dbfs
from ..clips.clip import Clip, Clips
from ..display.plots import contact_sheet
from ..display.shown import Shown
from ..files import atomically, free_name

_SAY_S = 30.0  # a line at least this often
_SHEET = 64  # sounds on a contact sheet at most


def _share(bar: _Bar, done: int, some: int, sounds: int):
    """Progress of some of the sounds as that of all, in thousandths of a sound."""
    return lambda step, total, _: bar(round((done + some * step / total) * 1000), 1000 * sounds)


def _stopped(done: int, asked: int) -> int:
    print(f"ddnb: stopped after {done} of {asked} sounds", file=sys.stderr)
    return 130


def _sheet_entry(clip: Clip) -> Shown:
    category = " and ".join(clip.settings.get("making", {}).get("category", {}))
    return replace(clip.shown(), name=f"{category or clip.settings['model']['name']}, seed {clip.seed}")


class _Sheet:
    """A picture of what was made, of up to 64 sounds evenly."""

    def __init__(self, sounds: int):
        self.every, self.seen, self.shown = -(-sounds // _SHEET), 0, []

    def add(self, clips: Clips) -> None:
        self.shown += [clip for place, clip in enumerate(clips, self.seen) if place % self.every == 0]
        self.seen += len(clips)

    def save(self, folder: Path) -> None:
        if len(self.shown) > 1:
            sheet = free_name(folder.expanduser() / "contact-sheet.png")
            atomically(sheet, lambda part: part.write_bytes(contact_sheet([_sheet_entry(clip) for clip in self.shown])))
            print(f"ddnb: {len(self.shown)} of them at a glance: {sheet}", file=sys.stderr)


def _save(clips: Clips, arguments: argparse.Namespace) -> list[Path]:
    bits, paths = arguments.bits or "24", []
    for clip in clips:
        paths.append(clip.save(arguments.out, bits))
        _say_saved(paths[-1], clip, bits)
    return paths


def _say_saved(path: Path, clip: Clip, bits: str) -> None:
    print(path, flush=True)
    if clip.seam_db is not None:
        heard = "cannot be told from its inside" if clip.seam_db <= 0 else "sticks out"
        print(f"ddnb: {path.stem}: the seam {heard} ({clip.seam_db:+.0f} dB)", file=sys.stderr)
    if bits != "float" and (over := peak_dbfs(clip.audio) - CEILING_DBFS) > 0:
        print(f"ddnb: {clip.name} was turned down by {over:.1f} dB to fit; --bits float keeps it", file=sys.stderr)


def _check_writable(folder: Path) -> None:
    """Learn before the work, not after it, that its result cannot be kept."""
    there = folder.expanduser().absolute()
    while not there.exists():
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise OSError(f"{folder} is not a folder that can be written to ({error.strerror}); choose another.") from error


class _Bar:
    """A bar that takes ``(done, total, ...)`` and shows from the first call on; on terminals only, not in logs."""

    def __init__(self, what: str, unit: str):
        self.what, self.unit, self.bar = what, unit, None

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def __call__(self, done: int, total: int | None, *_: object) -> None:
        if self.bar is None:
            self.bar = tqdm(desc=self.what, total=total, unit=self.unit, unit_scale=self.unit == "B", disable=None)
        self.bar.total = total  # may grow on the way
        self.bar.update(done - self.bar.n)
