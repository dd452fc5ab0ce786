"""Commands that make sounds from other sounds: ``vary``, ``interpolate``, ``inpaint``, ``extend``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..audio.listing import reason_of, sound_files
from ..checkpoints.checkpoint import Checkpoint
from ..clips.clip import Clips
from ..clips.source import read_clip
from ..errors import ArgumentError, AudioError
from ..files import expand
from ..generation.extend import extend
from ..generation.inpaint import inpaint
from ..generation.interpolate import interpolate
from ..generation.length import LoopOptions
from ..generation.levels import LEVEL_HELP
from ..generation.vary import vary
from ..inpainting import DEFAULT_METHOD, METHODS
from .common import (
    LOG,
    Commands,
    Output,
    Progress,
    group_options,
    load_checkpoint,
    name_inside,
    parse_category,
    progress_bar,
    require_file,
    require_output,
    share_of,
    split_batches,
)
from .options import add_level, add_loop_options, add_shared, batch_size_of, sampling_options, seeds_of

Make = Callable[[Path, Sequence[int], Checkpoint, Progress], Clips]


def add_commands(commands: Commands) -> None:
    """Add the commands."""
    _add_vary(commands)
    _add_interpolate(commands)
    _add_inpaint(commands)
    _add_extend(commands)


def _add_vary(commands: Commands) -> None:
    about = "Make variations of a sound: noise is added to it, and removed again by the network."
    parser = commands.add_parser("vary", help="make variations of a sound, or of each in a folder", description=about)
    parser.add_argument("audio", type=Path, help="a sound file, or a folder of them")
    strength = "from 0 (the sound itself) to 1 (independent of it) (default: 0.5)"
    parser.add_argument("--strength", type=float, default=0.5, help=strength)
    parser.add_argument("-n", type=int, default=None, help="number of variations (default: 4)")
    parser.add_argument("--offset-s", type=float, default=0.0, help="where in the sound to begin, seconds (default: 0)")
    parser.add_argument("--duration-s", type=float, help="seconds (default: to the end of the sound)")
    parser.add_argument("--match-level", action="store_true", help="give each variation the RMS of the sound")
    add_level(parser, "normalized: the peak of the sound; network: toward that of the network's own sounds")
    add_loop_options(parser)
    add_shared(parser, run_vary)


def run_vary(arguments: argparse.Namespace) -> int:
    """Vary a sound file, or each of a folder."""
    seeds, given = seeds_of(arguments, arguments.n), expand(arguments.audio)
    sounds = sound_files(given) if given.is_dir() else [arguments.audio]
    options = group_options(arguments, LoopOptions)
    options |= {"match_level": arguments.match_level, "level": arguments.level}
    options |= {"offset_s": arguments.offset_s, "duration_s": arguments.duration_s}

    def make(sound: Path, seeds: Sequence[int], ckpt: Checkpoint, on_step: Progress) -> Clips:
        chosen = options | sampling_options(arguments, ckpt)
        return vary(ckpt, read_clip(sound), arguments.strength, seed=seeds, on_step=on_step, **chosen)

    return _run_edit(arguments, "varying", make, sounds, seeds)


def _add_inpaint(commands: Commands) -> None:
    about = "Fill gaps of a sound with something that fits in; outside the gaps it stays the same."
    parser = commands.add_parser("inpaint", help="fill gaps of a sound", description=about)
    parser.add_argument("audio", type=Path, help="a sound file")
    gap: dict[str, Any] = {"type": float, "nargs": 2, "metavar": ("START", "END"), "action": "append", "required": True}
    parser.add_argument("--gap", **gap, help="seconds; may be given several times")
    parser.add_argument("-n", type=int, default=None, help="number of results (default: 4)")
    _add_method(parser)
    parser.add_argument("--loop", action="store_true", help="the sound is a loop: a gap may cross its seam")
    add_shared(parser, run_inpaint, sampler=False)


def _add_method(parser: argparse.ArgumentParser) -> None:
    how = f"how to fill in (default: {DEFAULT_METHOD})"
    parser.add_argument("--method", choices=tuple(METHODS), default=DEFAULT_METHOD, help=how)


def run_inpaint(arguments: argparse.Namespace) -> int:
    """Fill gaps of a sound file."""
    starts, ends = map(list, zip(*arguments.gap, strict=True))
    options = {"method": arguments.method, "loop": arguments.loop}

    def make(sound: Path, seeds: Sequence[int], ckpt: Checkpoint, on_step: Progress) -> Clips:
        chosen = options | sampling_options(arguments, ckpt)
        return inpaint(ckpt, read_clip(sound), starts, ends, seed=seeds, on_step=on_step, **chosen)

    return _run_edit(arguments, "filling", make, [arguments.audio], seeds_of(arguments, arguments.n))


def _add_extend(commands: Commands) -> None:
    about = "Continue a sound after its end, or add what comes before it."
    parser = commands.add_parser("extend", help="make a sound longer", description=about)
    parser.add_argument("audio", type=Path, help="a sound file")
    parser.add_argument("--duration-s", type=float, required=True, help="total length, seconds")
    parser.add_argument("--backwards", action="store_true", help="put the new part before the sound")
    parser.add_argument("-n", type=int, default=None, help="number of results (default: 4)")
    _add_method(parser)
    add_shared(parser, run_extend, sampler=False)


def run_extend(arguments: argparse.Namespace) -> int:
    """Extend a sound file."""
    options = {"method": arguments.method, "backwards": arguments.backwards}

    def make(sound: Path, seeds: Sequence[int], ckpt: Checkpoint, on_step: Progress) -> Clips:
        chosen = options | sampling_options(arguments, ckpt)
        return extend(ckpt, read_clip(sound), arguments.duration_s, seed=seeds, on_step=on_step, **chosen)

    return _run_edit(arguments, "extending", make, [arguments.audio], seeds_of(arguments, arguments.n))


def _run_edit(
    arguments: argparse.Namespace, what: str, make: Make, sounds: Sequence[Path], seeds: Sequence[int]
) -> int:
    """Make new sounds of each input; a file of a folder that cannot be used is skipped."""
    folder = expand(arguments.audio) if expand(arguments.audio).is_dir() else None
    if folder is None:
        require_file(arguments.audio)
    require_output(arguments)
    ckpt = load_checkpoint(arguments)
    output = Output(arguments, len(sounds) * len(seeds))
    with progress_bar(what, "") as bar:
        for sound in sounds:
            for some in split_batches(seeds, batch_size_of(arguments, ckpt)):
                try:
                    clips = make(sound, some, ckpt, share_of(bar, output.written, len(some), output.asked))
                except (AudioError, ArgumentError, OSError) as error:
                    if folder is None:
                        raise
                    LOG.warning("Skipped %s: %s", name_inside(folder, sound), reason_of(error, sound.name))
                    output.asked -= len(seeds)
                    break
                output.write(clips)
                if len(clips) < len(some):
                    return output.finish()
    return output.finish() if output.written else 2


def _add_interpolate(commands: Commands) -> None:
    about = "Interpolate between two sounds, or between two seeds; the ends are the inputs themselves."
    parser = commands.add_parser("interpolate", help="interpolate between two sounds", description=about)
    parser.add_argument("a", help="a sound file, or a seed")
    parser.add_argument("b", help="likewise")
    parser.add_argument("-n", type=int, default=8, help="number of sounds, both ends included (default: 8)")
    depth = "how far towards noise the sounds are inverted, above 0 and up to 1 (default: 1)"
    parser.add_argument("--depth", type=float, default=1.0, help=depth)
    exact = "use the exact inversion (default: if plain inversion loses a sound)"
    parser.add_argument("--exact", action=argparse.BooleanOptionalAction, help=exact)
    parser.add_argument("--to-category", help="category of the second sound")
    parser.add_argument("--duration-s", type=float, help="seconds (default: as the longer sound)")
    add_level(parser, f"between seeds: {LEVEL_HELP}")
    add_shared(parser, run_interpolate, seed=False)


def run_interpolate(arguments: argparse.Namespace) -> int:
    """Interpolate between two sound files or seeds."""
    ends: list[Any] = [
        int(end) if end.isdecimal() and not Path(end).exists() else Path(end) for end in (arguments.a, arguments.b)
    ]
    for end in ends:
        if isinstance(end, Path):
            require_file(end)
    require_output(arguments)
    ckpt = load_checkpoint(arguments)
    ends = [read_clip(end) if isinstance(end, Path) else end for end in ends]
    wanted = arguments.to_category
    to_category = None if wanted is None else parse_category(wanted, ckpt.categories)
    options = sampling_options(arguments, ckpt) | {"to_category": to_category, "duration_s": arguments.duration_s}
    options |= {"depth": arguments.depth, "exact": arguments.exact, "level": arguments.level}
    with progress_bar("interpolating", "step") as bar:
        clips = interpolate(ckpt, *ends, arguments.n, on_step=bar, **options)
    output = Output(arguments, arguments.n)
    output.write(clips)
    making = clips.provenance.making
    if making and (ends_db := making.round_trip_db) is not None:
        how = "exact" if making.exact else "plain"
        LOG.info("%s inversion reproduces the ends within %.0f and %.0f dB", how, *ends_db)
    return output.finish()
