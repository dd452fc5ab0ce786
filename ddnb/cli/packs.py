"""Commands for finished sounds: ``pack``, ``remake``, ``originality``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..audio.io import SUBTYPES
from ..audio.listing import reason_of, sound_files
from ..audio.mastering import LEVELS
from ..clips.record import is_pack, read_record
from ..clips.source import read_clip
from ..display.text import counted
from ..errors import DdnbError
from ..export.pack import FORMATS, file_samples_sha256, pack, packed_name
from ..files import expand, file_sha256
from ..generation.remake import remake_all
from ..similarity.check import originality
from ..similarity.report import Originality
from .common import (
    LOG,
    Commands,
    add_output,
    add_rate,
    name_inside,
    progress_bar,
    report_saved,
    require_output,
    require_writable,
)


def add_commands(commands: Commands) -> None:
    """Add the commands."""
    _add_pack(commands)
    _add_remake(commands)
    _add_originality(commands)


def _add_pack(commands: Commands) -> None:
    about = (
        "Put saved sounds into one ZIP file for a music program: one-shots trimmed, levels kept, tempo and loop points "
        "in the files, records and licences beside them."
    )
    parser = commands.add_parser("pack", help="put sounds into one ZIP file for a music program", description=about)
    parser.add_argument("sounds", type=Path, nargs="+", help="sound files, or folders of them")
    parser.add_argument("--out", type=Path, default=Path("pack.zip"), help="the ZIP file (default: pack.zip)")
    parser.add_argument("--bits", choices=tuple(SUBTYPES), default="24", help="bits of the files (default: 24)")
    add_rate(parser)
    kind = "format of one-shots; loops are always WAV (default: wav)"
    parser.add_argument("--format", choices=tuple(FORMATS), default="wav", help=kind)
    level = "kept: lower only what is too loud; each: all to -1 dBFS; together: the loudest there, all by one gain"
    parser.add_argument("--level", choices=LEVELS, default="kept", help=f"{level} (default: kept)")
    presets = "add an SFZ, a Decent Sampler preset and a drum map"
    parser.add_argument("--instruments", action="store_true", help=presets)
    data = "folder of the training sounds: look for near copies of these, and write what was found into the records"
    parser.add_argument("--data", type=Path, help=data)
    parser.add_argument("--no-chunks", action="store_true", help="plain WAV files, for machines that refuse others")
    parser.set_defaults(run=run_pack)


def run_pack(arguments: argparse.Namespace) -> int:
    """Pack saved sounds."""
    require_writable(arguments.out.parent)
    sounds: list[Path] = []
    for place in arguments.sounds:
        sounds += _readable(place) if expand(place).is_dir() else [place]
    names = ("bits", "to_rate", "format", "level", "instruments")
    options = {name: getattr(arguments, name) for name in names} | {"chunks": not arguments.no_chunks}
    report = None if arguments.data is None else _compare(sounds, arguments.data)
    path = pack(sounds, arguments.out, origins=report, **options)
    print(path)
    if report is not None:
        print(report)
    LOG.info("Packed %s into %s", counted(len(sounds), "sound"), path)
    return 0


def _compare(sounds: Sequence[Path], data: Path | None) -> Originality:
    with progress_bar("comparing", "sound") as bar:
        return originality(sounds, data, on_progress=bar)


def _readable(folder: Path) -> list[Path]:
    """Return the files of a folder that are sounds; report those that are skipped."""
    found = []
    for path in sound_files(folder):
        try:
            read_clip(path)
        except (DdnbError, OSError) as error:
            LOG.warning("Skipped %s: %s", name_inside(folder, path), reason_of(error, path.name))
        else:
            found.append(path)
    return found


def _add_remake(commands: Commands) -> None:
    about = "make a saved sound again from its record, or a whole pack"
    parser = commands.add_parser("remake", help=about)
    record = "the JSON file beside a WAV file, the WAV file, or a pack's ZIP file"
    parser.add_argument("record", type=Path, help=record)
    where = "the checkpoint, if it was a link, or a file that was moved; may be given several times"
    parser.add_argument("--checkpoint", action="append", help=where)
    parser.add_argument("--sounds", type=Path, help="folder of its input audio (default: beside the record)")
    add_output(parser, bits="as the record says")
    parser.set_defaults(run=run_remake)


def run_remake(arguments: argparse.Namespace) -> int:
    """Make a saved sound or a pack again, and compare it with the record."""
    require_output(arguments)
    made = remake_all(arguments.record, arguments.checkpoint, arguments.sounds)
    content = read_record(arguments.record)
    asked = len(content["sounds"]) if is_pack(content) else 1
    files, samples, other = 0, 0, False
    for record, clip in made:
        file = record.file
        bits, chunks = arguments.bits or file.bits or "24", bool(file.chunks)
        name = packed_name(file.name or "") if is_pack(content) else clip.name
        path = clip.save_as(expand(arguments.out) / f"{name}.wav", bits, chunks, arguments.to_rate)
        report_saved(path, clip, bits)
        other |= bits != file.bits or arguments.to_rate not in (None, file.sample_rate)
        if file.samples_sha256:
            samples += file_samples_sha256(path) == file.samples_sha256
        else:
            files += file_sha256(path) == file.sha256
    LOG.info("Wrote %d of %d sounds to %s", len(made), asked, arguments.out)
    if not other:
        LOG.info(_describe_match(files, samples, asked))
    return 0


def _describe_match(files: int, samples: int, asked: int) -> str:
    """Describe how many sounds are the same; those that were FLAC files, and are WAV now, are compared by samples."""
    if asked == 1:
        exact = "the same file, byte for byte" if files else "not exactly the same file"
        return "the same sound, sample for sample" if samples else exact
    same = f"{files} of {asked} are the same file, byte for byte"
    return f"{same}; {samples}, which were FLAC, are the same sound, sample for sample" if samples else same


def _add_originality(commands: Commands) -> None:
    about = "find near copies of training sounds among new ones"
    parser = commands.add_parser("originality", help=about)
    parser.add_argument("sounds", type=Path, nargs="+", help="sound files, folders of them, or packs (.zip)")
    parser.add_argument("--data", type=Path, required=True, help="folder of the training sounds")
    parser.set_defaults(run=run_originality)


def run_originality(arguments: argparse.Namespace) -> int:
    """Compare sounds with a folder of training sounds; the status is 1 if there is a near copy or a duplicate."""
    given = [expand(sound) for sound in arguments.sounds]
    sounds = [file for path in given for file in (_readable(path) if path.is_dir() else [path])]
    data = expand(arguments.data)
    itself = all(path.is_dir() and path.resolve() == data.resolve() for path in given)
    report = _compare(sounds, None if itself else data)  # of a folder and itself: its sounds with one another
    print(report)
    return 1 if report.duplicates or any(row.near for row in report.rows) else 0
