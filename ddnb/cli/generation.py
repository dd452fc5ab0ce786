"""Commands that make sounds: ``generate``, ``vary``, ``interpolate``, ``inpaint``, ``extend``, ``beat``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..audio.io import sound_files
from ..audio.loop import MAX_CENTS, loop_frames
from ..checkpoints.checkpoint import Checkpoint
from ..checks import within
from ..clips.clip import Clips
from ..clips.source import read_clip
from ..errors import ArgumentError, AudioError
from ..generation.beat import beat, list_patterns
from ..generation.extend import extend
from ..generation.generate import generate
from ..generation.inpaint import inpaint
from ..generation.interpolate import interpolate
from ..generation.keybed import keybed
from ..generation.length import LoopOptions
from ..generation.options import SamplingOptions
from ..generation.pitch import check_pitch
from ..generation.sampling import default_batch_size, seed_list
from ..generation.vary import vary
from ..inpainting import DEFAULT_METHOD, METHODS
from ..sampler import SAMPLERS
from ..schedule import GRIDS, time_grid
from ..threads import available
from .common import (
    LOG,
    Commands,
    Output,
    Progress,
    add_checkpoint,
    add_group,
    add_output,
    group_options,
    load_checkpoint,
    parse_category,
    progress_bar,
    report_saved,
    require_file,
    require_writable,
    share_of,
    split_batches,
)

ANY = "any"

Make = Callable[[Path, Sequence[int], Checkpoint, Progress], Clips]


def add_commands(commands: Commands) -> None:
    """Add the commands."""
    _add_generate(commands)
    _add_keybed(commands)
    _add_vary(commands)
    _add_interpolate(commands)
    _add_inpaint(commands)
    _add_extend(commands)
    _add_beat(commands)


def _add_shared(
    parser: argparse.ArgumentParser,
    run: Callable[..., int],
    seed: bool = True,
    sampler: bool = True,
    pitch: bool = True,
) -> None:
    """Add what all verbs have."""
    add_checkpoint(parser)
    if seed:
        parser.add_argument(
            "--seed", type=int, nargs="+", default=[0], help="first seed, or one per sound (default: 0)"
        )
    options: dict[str, dict[str, Any]] = {
        "category": {"type": parse_category, "metavar": "NAME[:WEIGHT,...]"},
        **({"note": {}, "key": {}} if pitch else {}),
        "guidance_scale": {"type": float},
        "guidance_interval": {"type": float, "nargs": 2, "metavar": ("FROM", "TO")},
        "guidance_rescale": {"type": float},
        "steps": {"type": int},
        "grid": {"choices": tuple(GRIDS)},
        "batch_size": {"type": int},
    }
    if sampler:
        options["sampler"] = {"choices": tuple(SAMPLERS)}
    add_group(parser, SamplingOptions, **options)
    add_output(parser)
    parser.set_defaults(run=run)


def _add_loop_options(parser: argparse.ArgumentParser) -> None:
    flag: dict[str, Any] = {"action": "store_true"}
    numbers: dict[str, Any] = {"bpm": {"type": float}, "bars": {"type": int}, "beats_per_bar": {"type": int}}
    add_group(parser, LoopOptions, loop=flag, **numbers, start_on_onset=flag)
    cents = f"pitch shift of short loops to accept, hundredths of a semitone (default: {MAX_CENTS:g}, or ask)"
    parser.add_argument("--max-cents", type=float, help=cents)


def _sampling_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the sampling options of a command; the category ``any`` is an empty mixture."""
    options = group_options(arguments, SamplingOptions)
    return options | ({"category": {}} if options.get("category") == ANY else {})


def _seeds(arguments: argparse.Namespace, n: int | None) -> list[int]:
    return seed_list(n, arguments.seed if len(arguments.seed) > 1 else arguments.seed[0])


def _batch_size(arguments: argparse.Namespace, ckpt: Checkpoint) -> int:
    """Return the sounds per call of a verb: enough for every core, few enough to be written as they are finished."""
    cores = available() if ckpt.device.type == "cpu" and ckpt.net.single_threaded else 1
    return (arguments.batch_size or default_batch_size(ckpt)) * cores


# --- generate ---


def _add_generate(commands: Commands) -> None:
    about = "Generate sounds from noise."
    parser = commands.add_parser("generate", help="generate sounds from noise", description=about)
    many = (
        "number of sounds (default: 4; with categories 16, of each in turn, or of those of the folder that was fitted)"
    )
    parser.add_argument("-n", type=int, default=None, help=many)
    parser.add_argument("--duration-s", type=float, help="seconds per sound (default: as in training)")
    parser.add_argument("--width", type=float, default=0.0, help="stereo width for mono networks, 0 (off) to 1")
    _add_loop_options(parser)
    _add_shared(parser, run_generate)


def run_generate(arguments: argparse.Namespace) -> int:
    """Generate sounds; without a category, of each category in turn."""
    seeds = _seeds(arguments, arguments.n)  # numbers are checked before a download
    time_grid(arguments.grid or "log_snr", 1 if arguments.steps is None else arguments.steps)
    within("--width", arguments.width, 0, 1)
    check_pitch(arguments.note, arguments.key)
    if arguments.bpm is not None:
        loop_frames(arguments.bpm, arguments.bars or 1, 44_100, arguments.beats_per_bar)
    require_writable(arguments.out)
    ckpt = load_checkpoint(arguments)
    each = bool(ckpt.categories) and arguments.category is None
    if each and arguments.n is None and len(arguments.seed) == 1:
        seeds = _seeds(arguments, max(16, len(ckpt.own_categories)))
    options = _sampling_options(arguments) | group_options(arguments, LoopOptions)
    options |= {"width": arguments.width, "duration_s": arguments.duration_s}
    options["max_cents"] = _accepted_cents(arguments, ckpt)
    output = Output(arguments.out, arguments.bits, len(seeds))
    pitched = arguments.note is not None or arguments.key is not None
    named = [name for name in ckpt.own_categories if not pitched or name in ckpt.tonal_categories]
    categories = [{"category": name} for name in named] if each and named else [{}]
    with progress_bar("generating", "") as bar:
        for number, category in enumerate(categories):
            first, end = (-(-len(seeds) * k // len(categories)) for k in (number, number + 1))
            for some in split_batches(seeds[first:end], _batch_size(arguments, ckpt)):
                on_step = share_of(bar, output.written, len(some), len(seeds))
                clips = generate(ckpt, seed=some, on_step=on_step, **options | category)
                output.write(clips)
                if len(clips) < len(some):
                    return output.finish()
    if ckpt.info.get("untrained"):
        LOG.info("%s is an untrained network, so these sounds are noise, to test the installation.", ckpt.name)
    return output.finish()


def _accepted_cents(arguments: argparse.Namespace, ckpt: Checkpoint) -> float:
    """Return the pitch shift of loops to accept; above the default, the user at a terminal is asked."""
    if arguments.max_cents is not None or not arguments.loop:
        return MAX_CENTS if arguments.max_cents is None else arguments.max_cents
    any_cents = LoopOptions(**group_options(arguments, LoopOptions) | {"max_cents": 12_000})
    cents = any_cents.length(ckpt, arguments.duration_s).cents
    if abs(cents) <= MAX_CENTS or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return MAX_CENTS
    answer = input(f"ddnb: loops of this length come out {cents:+.0f} cents off in pitch. Make them? [y/N] ")
    return abs(cents) if answer.strip().lower().startswith("y") else MAX_CENTS


# --- keybed ---


def _add_keybed(commands: Commands) -> None:
    about = "Make one sound at several notes, for an instrument; 'pack' with --instruments makes it one."
    parser = commands.add_parser("keybed", help="make one sound at several notes", description=about)
    parser.add_argument("--low", default="C2", help="lowest note, as in --note of generate (default: C2)")
    parser.add_argument("--high", default="C4", help="highest note (default: C4)")
    parser.add_argument("--step", type=int, default=3, help="semitones from note to note (default: 3)")
    parser.add_argument("--duration-s", type=float, help="seconds per sound (default: as in training)")
    _add_shared(parser, run_keybed, pitch=False)


def run_keybed(arguments: argparse.Namespace) -> int:
    """Make one sound at several notes."""
    if len(arguments.seed) > 1:
        raise ArgumentError("--seed: give one, that of all notes.")
    require_writable(arguments.out)
    ckpt = load_checkpoint(arguments)
    given = {name: getattr(arguments, name) for name in ("low", "high", "step", "duration_s")}
    with progress_bar("generating", "") as bar:
        on_step = share_of(bar, 0, 1, 1)
        options = {"category": None} | _sampling_options(arguments)
        clips = keybed(ckpt, seed=arguments.seed[0], on_step=on_step, **given, **options)
        making = clips.provenance.making
        output = Output(arguments.out, arguments.bits, (making and making.asked) or 1)
        output.write(clips)
    return output.finish()


# --- from input audio ---


def _add_vary(commands: Commands) -> None:
    about = "Make variations of a sound: noise is added to it, and removed again by the network."
    parser = commands.add_parser("vary", help="make variations of a sound, or of each in a folder", description=about)
    parser.add_argument("audio", type=Path, help="a sound file, or a folder of them")
    strength = "from 0 (the sound itself) to 1 (independent of it) (default: 0.5)"
    parser.add_argument("--strength", type=float, default=0.5, help=strength)
    parser.add_argument("-n", type=int, default=None, help="number of variations (default: 4)")
    parser.add_argument("--offset-s", type=float, default=0.0, help="where in the sound to begin, seconds (default: 0)")
    parser.add_argument("--duration-s", type=float, help="seconds (default: to the end of the sound)")
    parser.add_argument("--match-level", action="store_true", help="give each variation the loudness of the sound")
    _add_loop_options(parser)
    _add_shared(parser, run_vary)


def run_vary(arguments: argparse.Namespace) -> int:
    """Vary a sound file, or each of a folder."""
    seeds, given = _seeds(arguments, arguments.n), arguments.audio.expanduser()
    sounds = sound_files(given) if given.is_dir() else [arguments.audio]
    options = _sampling_options(arguments) | group_options(arguments, LoopOptions)
    options |= {"match_level": arguments.match_level}
    options |= {"offset_s": arguments.offset_s, "duration_s": arguments.duration_s}

    def make(sound: Path, seeds: Sequence[int], ckpt: Checkpoint, on_step: Progress) -> Clips:
        return vary(ckpt, read_clip(sound), arguments.strength, seed=seeds, on_step=on_step, **options)

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
    _add_shared(parser, run_inpaint, sampler=False)


def _add_method(parser: argparse.ArgumentParser) -> None:
    how = f"how to fill in (default: {DEFAULT_METHOD})"
    parser.add_argument("--method", choices=tuple(METHODS), default=DEFAULT_METHOD, help=how)


def run_inpaint(arguments: argparse.Namespace) -> int:
    """Fill gaps of a sound file."""
    starts, ends = map(list, zip(*arguments.gap, strict=True))
    options = _sampling_options(arguments) | {"method": arguments.method, "loop": arguments.loop}

    def make(sound: Path, seeds: Sequence[int], ckpt: Checkpoint, on_step: Progress) -> Clips:
        return inpaint(ckpt, read_clip(sound), starts, ends, seed=seeds, on_step=on_step, **options)

    return _run_edit(arguments, "filling", make, [arguments.audio], _seeds(arguments, arguments.n))


def _add_extend(commands: Commands) -> None:
    about = "Continue a sound after its end, or add what comes before it."
    parser = commands.add_parser("extend", help="make a sound longer", description=about)
    parser.add_argument("audio", type=Path, help="a sound file")
    parser.add_argument("--duration-s", type=float, required=True, help="total length, seconds")
    parser.add_argument("--backwards", action="store_true", help="put the new part before the sound")
    parser.add_argument("-n", type=int, default=None, help="number of results (default: 4)")
    _add_method(parser)
    _add_shared(parser, run_extend, sampler=False)


def run_extend(arguments: argparse.Namespace) -> int:
    """Extend a sound file."""
    options = _sampling_options(arguments) | {"method": arguments.method, "backwards": arguments.backwards}

    def make(sound: Path, seeds: Sequence[int], ckpt: Checkpoint, on_step: Progress) -> Clips:
        return extend(ckpt, read_clip(sound), arguments.duration_s, seed=seeds, on_step=on_step, **options)

    return _run_edit(arguments, "extending", make, [arguments.audio], _seeds(arguments, arguments.n))


def _run_edit(
    arguments: argparse.Namespace, what: str, make: Make, sounds: Sequence[Path], seeds: Sequence[int]
) -> int:
    """Make new sounds of each input; a file of a folder that cannot be used is skipped."""
    for sound in sounds:
        require_file(sound)
    require_writable(arguments.out)
    ckpt = load_checkpoint(arguments)
    output = Output(arguments.out, arguments.bits, len(sounds) * len(seeds))
    with progress_bar(what, "") as bar:
        for sound in sounds:
            for some in split_batches(seeds, _batch_size(arguments, ckpt)):
                try:
                    clips = make(sound, some, ckpt, share_of(bar, output.written, len(some), output.asked))
                except (AudioError, ArgumentError) as error:
                    if len(sounds) == 1:
                        raise
                    LOG.warning("Skipped %s: %s", sound.name, error)
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
    parser.add_argument("--to-category", type=parse_category, help="category of the second sound")
    parser.add_argument("--duration-s", type=float, help="seconds (default: as the longer sound)")
    _add_shared(parser, run_interpolate, seed=False)


def run_interpolate(arguments: argparse.Namespace) -> int:
    """Interpolate between two sound files or seeds."""
    ends: list[Any] = [
        int(end) if end.isdecimal() and not Path(end).exists() else Path(end) for end in (arguments.a, arguments.b)
    ]
    for end in ends:
        if isinstance(end, Path):
            require_file(end)
    require_writable(arguments.out)
    ckpt = load_checkpoint(arguments)
    ends = [read_clip(end) if isinstance(end, Path) else end for end in ends]
    options = _sampling_options(arguments) | {"to_category": arguments.to_category, "duration_s": arguments.duration_s}
    options |= {"depth": arguments.depth, "exact": arguments.exact}
    with progress_bar("interpolating", "step") as bar:
        clips = interpolate(ckpt, *ends, arguments.n, on_step=bar, **options)
    output = Output(arguments.out, arguments.bits, arguments.n)
    output.write(clips)
    making = clips.provenance.making
    if making and (ends_db := making.round_trip_db) is not None:
        how = "exact" if making.exact else "plain"
        LOG.info("%s inversion reproduces the ends within %.0f and %.0f dB", how, *ends_db)
    return output.finish()


# --- beat ---


def _add_beat(commands: Commands) -> None:
    about = "Make a drum loop of exact length, and its MIDI file, from a pattern of 16 steps a bar."
    parser = commands.add_parser("beat", help="make a drum loop and its MIDI file", description=about)
    add_checkpoint(parser)
    patterns = f"{', '.join(list_patterns())}, or a JSON file (default: house)"
    parser.add_argument("--pattern", default="house", help=patterns)
    own: dict[str, Any] = {"action": "append", "default": [], "metavar": "TRACK=FILE"}
    parser.add_argument("--sound", **own, help="a sound of your own, such as kick=my-kick.wav; may be repeated")
    parser.add_argument("--bpm", type=float, help="beats per minute, 20 to 999 (default: the pattern's)")
    parser.add_argument("--bars", type=int, help="bars of 4/4 (default: as many as the pattern has)")
    swing = "0.5 (straight) to 0.75; 0.667 makes triplets (default: the pattern's)"
    parser.add_argument("--swing", type=float, help=swing)
    parser.add_argument("--seed", type=int, default=0, help="seed of the generated sounds (default: 0)")
    parser.add_argument("--steps", type=int, help="network calls per sound (default: that of the network)")
    add_output(parser)
    parser.set_defaults(run=run_beat)


def run_beat(arguments: argparse.Namespace) -> int:
    """Make a drum beat."""
    sounds = {}
    for given in arguments.sound:
        track, _, path = given.partition("=")
        if not path:
            raise ArgumentError(f"--sound {given}: give TRACK=FILE, such as kick=my-kick.wav.")
        sounds[track] = path
    require_writable(arguments.out)
    ckpt = load_checkpoint(arguments)
    numbers = {"bpm": arguments.bpm, "bars": arguments.bars, "swing": arguments.swing, "seed": arguments.seed}
    steps = {} if arguments.steps is None else {"steps": arguments.steps}
    with progress_bar("generating its sounds", "step") as bar:
        made = beat(ckpt, arguments.pattern, sounds=sounds, on_step=bar, **numbers, **steps)
    wav, midi = made.save(arguments.out, arguments.bits or "24")
    report_saved(wav, made.clip, arguments.bits or "24")
    print(midi)
    LOG.info("Wrote a loop and its MIDI file to %s", arguments.out)
    return 0
