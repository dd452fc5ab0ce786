"""Shared parts of the commands: options, loading, saving, progress bars."""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from ..audio.io import CEILING_DBFS, SUBTYPES, peak_dbfs
from ..audio.mastering import rate_edit
from ..audio.reading import require_regular
from ..checkpoints.blend import MOST, blend, load_start
from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.loading import load
from ..clips.clip import Clip, Clips
from ..display.plots import contact_sheet
from ..display.shown import Shown
from ..display.text import shown
from ..errors import ArgumentError, FormatOverridden
from ..files import atomically, expand, free_name
from ..generation.options import OptionGroup
from ..names import find_name
from ..notices import handle_warnings
from ..runtime import DTYPES, pick

LOG = logging.getLogger("ddnb")
DEFAULT_CHECKPOINT = "drums"

_SHOWN_DB = 0.05  # less is shown as 0.0 dB, and is not heard
_MAX_PICTURED = 64  # sounds on a contact sheet at most

Commands = argparse._SubParsersAction  # the type of argparse's ``add_subparsers``


class Progress(Protocol):
    """A function that is called with the work done and the total; further arguments are ignored."""

    def __call__(self, done: int, total: int | None, *rest: object) -> None: ...


# --- options ---


def add_group(parser: argparse.ArgumentParser, group: type[OptionGroup], **overrides: dict[str, Any]) -> None:
    """Add an option for each field of an option group, with its help text.

    Args:
        overrides: by field, what argparse needs beside: ``type``, ``choices``, ..., or a ``help`` of its own,
        where that of the field speaks of Python; fields without an entry are skipped.
    """
    for each in fields(group):  # type: ignore[arg-type]
        if each.name in overrides:
            name, text = f"--{each.name.replace('_', '-')}", each.metadata["help"].replace("%", "%%")
            parser.add_argument(name, **({"default": each.default, "help": text} | overrides[each.name]))


def group_options(arguments: argparse.Namespace, group: type[OptionGroup]) -> dict[str, Any]:
    """Return the options of a group that the command has; those that were not given keep their defaults."""
    given = {f.name: getattr(arguments, f.name) for f in fields(group) if hasattr(arguments, f.name)}  # type: ignore[arg-type]
    return {name: value for name, value in given.items() if value is not None}


def add_checkpoint(parser: argparse.ArgumentParser, default: str | None = DEFAULT_CHECKPOINT) -> None:
    """Add the options that choose a checkpoint, its device and its precision."""
    where = "a name (see 'checkpoints'), a file, a folder, hf:owner/name, drive:ID or a link"
    parser.add_argument("--checkpoint", default=default, help=f"{where} (default: {default or 'none'})")
    add_format(parser)
    parser.add_argument("--device", help="cpu, cuda or mps (default: the best available)")
    parser.add_argument("--dtype", choices=tuple(DTYPES), help="precision (default: what suits the device)")


def add_blend(parser: argparse.ArgumentParser) -> None:
    """Add the option that blends a checkpoint with what was trained from it."""
    parser.add_argument(
        "--blend",
        type=parse_blend,
        action="append",
        metavar="WEIGHT or FILE=WEIGHT",
        help=f"how much of the training of --checkpoint to use: 0 sounds as before it, 1 as after it, up to {MOST} "
        "exaggerates it; or, once for each, a FILE that was trained from --checkpoint and its weight",
    )


def parse_blend(text: str) -> tuple[str | None, float]:
    """Parse ``0.7``, or ``FILE=0.7``."""
    file, _, weight = text.rpartition("=")
    try:
        return file or None, float(weight)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number from 0 to {MOST}, or FILE=NUMBER") from error


def add_format(parser: argparse.ArgumentParser) -> None:
    """Add the options that state a checkpoint's format."""
    parser.add_argument("--sample-rate", type=int, help="Hz, if the checkpoint does not state it")
    parser.add_argument("--frames", type=int, help="frames per clip in training, if the checkpoint does not state it")


def add_output(parser: argparse.ArgumentParser, bits: str = "24") -> None:
    """Add the options of what is written."""
    parser.add_argument("--out", type=Path, default=Path("sounds"), help="folder to write to (default: sounds)")
    parser.add_argument("--bits", choices=tuple(SUBTYPES), help=f"bits of the WAV files (default: {bits})")
    add_rate(parser)


def add_rate(parser: argparse.ArgumentParser) -> None:
    """Add the sample rate of what is written."""
    parser.add_argument("--to-rate", type=int, help="sample rate of the files, Hz (default: that of each sound)")


def require_output(arguments: argparse.Namespace) -> None:
    """Raise OSError or ArgumentError for a folder or a sample rate that cannot be written: before the work."""
    if arguments.to_rate is not None:
        rate_edit(0, arguments.to_rate)
    require_writable(arguments.out)


def stated_format(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what the command states about the format."""
    given = {"sample_rate": arguments.sample_rate, "frames": arguments.frames}
    return {name: value for name, value in given.items() if value is not None}


def parse_category(text: str, known: Sequence[str] = ()) -> str | dict[str, float]:
    """Parse ``kick``, or ``kick:2,snare:1``; a name without a number in a list has the weight 1.

    Args:
        text: what the user wrote.
        known: the names of the network's categories, which may hold commas and colons themselves.

    Raises:
        ArgumentError: neither of these.
    """
    if not text.strip():
        raise ArgumentError(f"--category {text!r}: give NAME, or NAME:WEIGHT,NAME:WEIGHT, or leave it out.")
    if find_name(text, known) or (":" not in text and "," not in text):
        return text
    if (mixture := _split_known(text, known)) is not None:
        return mixture
    parts = (part.rpartition(":") if ":" in part else (part, "", "1") for part in text.split(","))
    try:
        return {name.strip(): float(weight) for name, _, weight in parts}
    except ValueError as error:
        listed = f" Known names: {', '.join(known)}." if known else ""
        raise ArgumentError(f"--category {text!r}: give NAME, or NAME:WEIGHT,NAME:WEIGHT.{listed}") from error


def _split_known(text: str, known: Sequence[str]) -> dict[str, float] | None:
    """Split a list of known names with or without weights, the longest names first; None if it is none."""
    ends = [place for place, letter in enumerate(text) if letter == ","] + [len(text)]
    for end in reversed(ends):
        first = _known_weight(text[:end], known)
        if first is None:
            continue
        if end == len(text):
            return first
        if (others := _split_known(text[end + 1 :], known)) is not None:
            return first | others
    return None


def _known_weight(text: str, known: Sequence[str]) -> dict[str, float] | None:
    """Return the name and the weight of ``NAME`` or ``NAME:WEIGHT``; None if the name is not known."""
    name, _, number = text.rpartition(":")
    try:
        if whole := find_name(text.strip(), known):
            return {whole: 1.0}
        found = find_name(name.strip(), known)
        return {found: float(number)} if found else None
    except ValueError:  # what follows the last colon is no number
        return None


def merge_categories(given: Sequence[str | dict[str, float]]) -> str | dict[str, float]:
    """Return one category, or the mixture of several that were given one after another."""
    if len(given) == 1:
        return given[0]
    merged: dict[str, float] = {}
    for each in given:
        for name, weight in ({each: 1.0} if isinstance(each, str) else each).items():
            merged[name] = merged.get(name, 0.0) + weight
    return merged


def split_pair(text: str) -> tuple[str, str]:
    """Split ``NAME=FILE``; of several signs the first counts that has a file's path after it, else the first."""
    places = [place for place, letter in enumerate(text) if letter == "="]
    pairs = [(text[:place], text[place + 1 :]) for place in places] or [(text, "")]
    return next((pair for pair in pairs if pair[1] and expand(pair[1]).is_file()), pairs[0])


# --- loading and saving ---


def load_checkpoint(arguments: argparse.Namespace, announce: bool = True) -> Checkpoint:
    """Load the checkpoint of a command; report what it is and where it runs.

    Raises:
        ArgumentError: a sample rate or a length that contradicts what the network states.
    """
    with progress_bar("downloading", "B") as bar, refusing_another_format(arguments):
        options = {"device": arguments.device, "dtype": arguments.dtype, "on_progress": bar} | stated_format(arguments)
        ckpt = load(arguments.checkpoint, **options)
        if blends := getattr(arguments, "blend", None):
            ckpt = _blend(ckpt, blends, options)
    if announce:
        LOG.info("%r", ckpt)
        LOG.info(pick(arguments.device, arguments.dtype).reason)
    return ckpt


@contextmanager
def refusing_another_format(arguments: argparse.Namespace) -> Iterator[None]:
    """Raise ArgumentError for a sample rate or a length that contradicts what the network states."""
    writes = hasattr(arguments, "to_rate")
    advice = "For files of another rate use --to-rate 48000, for another length --duration-s."
    advice = advice if writes else "Sounds of other rates are converted to that of the network."

    def refuse(warning: Warning) -> None:
        if not isinstance(warning, FormatOverridden):
            LOG.warning(warning)
            return
        stated = str(warning).partition(";")[0]
        raise ArgumentError(f"{stated}: leave --sample-rate and --frames out. {advice}")

    with handle_warnings(refuse):
        yield


def _blend(ckpt: Checkpoint, blends: Sequence[tuple[str | None, float]], options: dict[str, Any]) -> Checkpoint:
    """Blend a checkpoint with its start, or with files that were trained from it."""
    files, weights = [file for file, _ in blends if file], [weight for _, weight in blends]
    if len(files) == len(blends):
        return blend(ckpt, [load(file, **options) for file in files], weights)
    if len(blends) > 1:
        raise ArgumentError("--blend: give one number alone, or FILE=NUMBER for each of several files.")
    return blend(load_start(ckpt, **options), ckpt, weights)


def require_writable(folder: Path) -> None:
    """Raise OSError if a folder cannot be written to: before the work, not after it."""
    there = expand(folder).absolute()
    while not there.exists():
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise OSError(f"{folder} is not a folder that can be written to ({error.strerror}); choose another.") from error


def require_file(path: Path) -> None:
    """Raise FileNotFoundError if there is no such file, AudioError for a pipe or a folder, see ``require_regular``."""
    require_regular(expand(path))


def name_inside(folder: Path, path: Path) -> str:
    """Return the path of a file inside a folder, as it can be printed: its name alone may be that of several."""
    return shown(path.relative_to(expand(folder)).as_posix())


class Output:
    """Writes the sounds of a command as they are finished, and at the end a contact sheet of up to 64 of them."""

    def __init__(self, arguments: argparse.Namespace, asked: int):
        self.folder, self.bits, self.asked = expand(arguments.out), arguments.bits or "24", asked
        self.to_rate = arguments.to_rate
        self.written = 0
        self._every, self._pictured = -(-asked // _MAX_PICTURED), list[Shown]()

    def write(self, clips: Clips) -> None:
        """Save clips and print their paths."""
        for clip in (each.at_rate(self.to_rate) for each in clips):
            report_saved(clip.save(self.folder, self.bits), clip, self.bits)
            if self.written % self._every == 0:
                model = clip.provenance.model
                name = " and ".join(clip.making.category or ()) or (model.name if model else clip.name)
                self._pictured.append(replace(clip.shown(), name=f"{name}, seed {clip.seed}"))
            self.written += 1

    def finish(self) -> int:
        """Write the contact sheet, report what was written, and return the exit status."""
        if self.written < self.asked:
            LOG.warning("stopped after %d of %d sounds", self.written, self.asked)
            return 130
        LOG.info("Wrote %d sound%s to %s", self.written, "s" if self.written > 1 else "", self.folder)
        if len(self._pictured) > 1:
            sheet = free_name(self.folder / "contact-sheet.png")
            atomically(sheet, lambda part: part.write_bytes(contact_sheet(self._pictured)))
            LOG.info("Wrote contact sheet %s", sheet)
        return 0


def report_saved(path: Path, clip: Clip, bits: str) -> None:
    """Print the path of a sound, and report its seam and whether it was lowered."""
    print(path, flush=True)
    if clip.seam_db is not None:
        heard = "cannot be distinguished from its inside" if clip.seam_db <= 0 else "stands out"
        LOG.info("%s: the seam %s (%+.0f dB)", path.stem, heard, clip.seam_db)
    if bits != "float" and (over := peak_dbfs(clip.audio) - CEILING_DBFS) >= _SHOWN_DB:
        LOG.info("%s was lowered by %.1f dB to fit; --bits float keeps its level", clip.name, over)


# --- progress ---


@contextmanager
def progress_bar(what: str, unit: str) -> Iterator[Progress]:
    """Show a bar from the first call on; on terminals only, not in logs."""
    bar: tqdm | None = None

    def report(done: int, total: int | None, *_: object) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(desc=what, total=total, unit=unit, unit_scale=unit == "B", disable=None)
        bar.total = total  # may grow
        bar.update(done - bar.n)

    try:
        yield report
    finally:
        if bar is not None:
            bar.close()


def share_of(report: Progress, done: int, some: int, total: int) -> Progress:
    """Return a progress function for ``some`` of ``total`` sounds after ``done``, in thousandths of a sound."""
    return lambda step, steps, *_: report(round((done + some * step / (steps or 1)) * 1000), 1000 * total)


def split_batches(seeds: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Yield the seeds in batches."""
    return (seeds[i : i + size] for i in range(0, len(seeds), size))
