"""Commands that make sounds from nothing: ``generate``, ``keybed``, ``beat``."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from ..audio.loop import MAX_CENTS, loop_frames
from ..checkpoints.checkpoint import Checkpoint
from ..checks import within
from ..errors import ArgumentError
from ..generation.beat import beat, list_patterns
from ..generation.generate import generate
from ..generation.keybed import keybed
from ..generation.length import LoopOptions
from ..generation.pitch import check_pitch
from ..schedule import time_grid
from .common import (
    LOG,
    Commands,
    Output,
    add_blend,
    add_checkpoint,
    add_output,
    group_options,
    load_checkpoint,
    progress_bar,
    report_saved,
    require_output,
    share_of,
    split_batches,
    split_pair,
)
from .options import add_level, add_loop_options, add_shared, batch_size_of, sampling_options, seeds_of


def add_commands(commands: Commands) -> None:
    """Add the commands."""
    _add_generate(commands)
    _add_keybed(commands)
    _add_beat(commands)


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
    add_level(parser)
    add_loop_options(parser)
    add_shared(parser, run_generate)


def run_generate(arguments: argparse.Namespace) -> int:
    """Generate sounds; without a category, of each category in turn."""
    seeds = seeds_of(arguments, arguments.n)  # numbers are checked before a download
    time_grid(arguments.grid or "log_snr", 1 if arguments.steps is None else arguments.steps)
    within("--width", arguments.width, 0, 1)
    check_pitch(arguments.note, arguments.key)
    if arguments.bpm is not None:
        loop_frames(arguments.bpm, arguments.bars or 1, 44_100, arguments.beats_per_bar)
    require_output(arguments)
    ckpt = load_checkpoint(arguments)
    each = bool(ckpt.categories) and arguments.category is None
    if each and arguments.n is None and len(arguments.seed) == 1:
        seeds = seeds_of(arguments, max(16, len(ckpt.own_categories)))
    options = sampling_options(arguments, ckpt) | group_options(arguments, LoopOptions)
    options |= {"width": arguments.width, "duration_s": arguments.duration_s, "level": arguments.level}
    options["max_cents"] = _accepted_cents(arguments, ckpt)
    output = Output(arguments, len(seeds))
    pitched = arguments.note is not None or arguments.key is not None
    named = [name for name in ckpt.own_categories if not pitched or name in ckpt.tonal_categories]
    categories = [{"category": name} for name in named] if each and named else [{}]
    with progress_bar("generating", "") as bar:
        for number, category in enumerate(categories):
            first, end = (-(-len(seeds) * k // len(categories)) for k in (number, number + 1))
            for some in split_batches(seeds[first:end], batch_size_of(arguments, ckpt)):
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
    add_level(parser)
    add_shared(parser, run_keybed, pitch=False)


def run_keybed(arguments: argparse.Namespace) -> int:
    """Make one sound at several notes."""
    if len(arguments.seed) > 1:
        raise ArgumentError("--seed: give one, that of all notes.")
    require_output(arguments)
    ckpt = load_checkpoint(arguments)
    given = {name: getattr(arguments, name) for name in ("low", "high", "step", "duration_s", "level")}
    with progress_bar("generating", "") as bar:
        on_step = share_of(bar, 0, 1, 1)
        options = {"category": None} | sampling_options(arguments, ckpt)
        clips = keybed(ckpt, seed=arguments.seed[0], on_step=on_step, **given, **options)
        making = clips.provenance.making
        output = Output(arguments, (making and making.asked) or 1)
        output.write(clips)
    return output.finish()


# --- beat ---


def _add_beat(commands: Commands) -> None:
    about = "Make a drum loop of exact length, and its MIDI file, from a pattern of 16 steps a bar."
    parser = commands.add_parser("beat", help="make a drum loop and its MIDI file", description=about)
    add_checkpoint(parser)
    add_blend(parser)
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
    add_level(parser, "normalized: the loop to -18 LUFS, or a peak of -1 dBFS; network: as its sounds add up")
    add_output(parser)
    parser.set_defaults(run=run_beat)


def run_beat(arguments: argparse.Namespace) -> int:
    """Make a drum beat."""
    sounds = {}
    for given in arguments.sound:
        track, path = split_pair(given)
        if not path:
            raise ArgumentError(f"--sound {given}: give TRACK=FILE, such as kick=my-kick.wav.")
        sounds[track] = path
    require_output(arguments)
    ckpt = load_checkpoint(arguments)
    numbers = {"bpm": arguments.bpm, "bars": arguments.bars, "swing": arguments.swing, "seed": arguments.seed}
    options = {"level": arguments.level} | ({} if arguments.steps is None else {"steps": arguments.steps})
    with progress_bar("generating its sounds", "step") as bar:
        made = beat(ckpt, arguments.pattern, sounds=sounds, on_step=bar, **numbers, **options)
    wav, midi = made.save(arguments.out, arguments.bits or "24", to_rate=arguments.to_rate)
    report_saved(wav, made.clip, arguments.bits or "24")
    print(midi)
    LOG.info("Wrote a loop and its MIDI file to %s", arguments.out)
    return 0
