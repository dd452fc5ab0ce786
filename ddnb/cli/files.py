"""TODO cli/files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..audio.io import sound_files
from ..checkpoints.conversion import convert, verify
from ..checkpoints.registry import list_checkpoints
from ..clips.record import PACK, read_clip, read_record
from ..export.pack import file_samples_sha256, pack, packed_name
from ..files import file_sha256
from ..generation.remake import remade
from ..similarity.check import originality
from .progress import _Bar, _check_writable, _say_saved


def run_pack(arguments: argparse.Namespace) -> int:
    _check_writable(arguments.out.parent)
    sounds = []
    for place in arguments.sounds:
        sounds += _readable(place) if place.expanduser().is_dir() else [place]
    names = ("bits", "format", "level", "instruments")
    options = {name: getattr(arguments, name) for name in names} | {"chunks": not arguments.no_chunks}
    print(pack(sounds, arguments.out, **options))
    return 0


def _readable(folder: Path) -> list[Path]:
    """The files of a folder that are sounds; of the others it is said why not."""
    found = []
    for path in sound_files(folder):
        try:
            read_clip(path)
        except ValueError as error:
            print(f"ddnb: left out: {error}", file=sys.stderr)
        else:
            found.append(path)
    return found


def run_originality(arguments: argparse.Namespace) -> int:
    given = [sound.expanduser() for sound in arguments.sounds]
    sounds = [file for path in given for file in (sound_files(path) if path.is_dir() else [path])]
    with _Bar("comparing", "sound") as bar:
        report = originality(sounds, arguments.data, on_progress=bar)
    print(report)
    return 1 if report.duplicates or any(row.near for row in report.rows) else 0


def run_remake(arguments: argparse.Namespace) -> int:
    _check_writable(arguments.out)
    made = remade(arguments.record, arguments.checkpoint, arguments.sounds)
    asked, is_pack = 1, PACK in (record := read_record(arguments.record))
    if is_pack:
        asked = len(record["sounds"])
    files, samples, other_bits = 0, 0, False
    for record, clip in made:
        file = record.get("file", {})
        bits, chunks = arguments.bits or str(file.get("bits", "24")), bool(file.get("chunks"))
        name = packed_name(file["name"]) if is_pack else clip.name
        path = clip.save_as(arguments.out.expanduser() / f"{name}.wav", bits, chunks)
        _say_saved(path, clip, bits)
        other_bits |= bits != file.get("bits")
        if "samples_sha256" in file:
            samples += file_samples_sha256(path) == file["samples_sha256"]
        else:
            files += file_sha256(path) == file.get("sha256")
    if not other_bits:
        print(f"ddnb: {_how_many_same(files, samples, asked)}", file=sys.stderr)
    return 0


def _how_many_same(files: int, samples: int, asked: int) -> str:
    """Of sounds that were made again; of those that were FLAC files, and are WAV now, the samples are compared."""
    if asked == 1:
        exact = "the same file, byte for byte" if files else "not quite the file it was"
        return "the same sound, sample for sample" if samples else exact
    said = f"{files} of {asked} are the same file, byte for byte"
    return f"{said}; {samples}, which were FLAC, are the same sound, sample for sample" if samples else said


def run_checkpoints(arguments: argparse.Namespace) -> int:
    for name, entry in list_checkpoints().items():
        seconds = entry["frames"] / entry["sample_rate"]
        size = next((f"{s['size_mb']} MB to fetch" for s in entry.get("sources", ()) if "size_mb" in s), "built in")
        print(f"{name:18} {entry['sample_rate']} Hz, {seconds:.2f} s, licence {entry['licence']}, {size}")
        print(f"{'':18} {entry['description']}")
    return 0


def run_verify(arguments: argparse.Namespace) -> int:
    with _Bar("downloading", "B") as bar:
        checks = verify(arguments.name, full=arguments.full, on_progress=bar)
    for check in checks:
        verdict = "ok  " if check["ok"] else "FAIL"
        print(f"{verdict} {check['what']}: {check['got']:.4f}, published {check['expected']} +- {check['tolerance']}")
    if not checks:
        print(f"{arguments.name} opens and fits the network; no numbers are published to check it against.")
    return 0 if all(check["ok"] for check in checks) else 1


def run_convert(arguments: argparse.Namespace) -> int:
    stated = {"sample_rate": arguments.sample_rate, "frames": arguments.frames}
    print(convert(arguments.source, arguments.target, dtype=arguments.dtype, **stated))
    return 0
