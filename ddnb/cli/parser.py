"""The command line: ``python -m ddnb generate --checkpoint maestro-150k -n 8 --seed 0 --out sounds``."""

from __future__ import annotations

import argparse
import inspect
import re
import sys
import warnings
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from ..audio.io import SUBTYPES
from ..audio.loop import MAX_CENTS
from ..audio.mastering import LEVELS
from ..errors import Cancelled, CheckpointError
from ..export.pack import FORMATS
from ..generation.beat import list_patterns
from ..generation.options import DEFAULT_SAMPLER, DEFAULT_STEPS
from ..inpainting import DEFAULT_METHOD, METHODS
from ..runtime import DTYPES
from ..sampler import SAMPLERS
from ..schedule import GRIDS
from ..training.config import Recipe
from ..training.loop import CONFIGS
from .commands import run_beat, run_extend, run_generate, run_inpaint, run_interpolate, run_vary
from .files import run_checkpoints, run_convert, run_originality, run_pack, run_remake, run_verify
from .training import run_check_dataset, run_finetune

DEFAULT_CHECKPOINT = "drums"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 a check failed, 2 bad input, 130 interrupted."""
    arguments = _parser().parse_args(argv)
    warnings.filterwarnings("ignore", "interrupted", UserWarning)  # said below, counted over all sounds
    warnings.showwarning = lambda message, *_, **__: print(f"ddnb: {message}", file=sys.stderr)
    try:
        return arguments.run(arguments)
    except Cancelled as error:
        print(f"ddnb: {error}", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("ddnb: interrupted", file=sys.stderr)
        return 130
    except (CheckpointError, ValueError, OSError, MemoryError, ArithmeticError, RuntimeError) as error:
        print(f"ddnb: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ddnb", description="Short sounds from noise.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    make = commands.add_parser("generate", help="make sounds from noise", description="Make sounds from noise.")
    _add_checkpoint(make)
    make.add_argument("-n", type=int, default=None, help="number of sounds (4; 16 of a checkpoint with categories)")
    _add_seed(make)
    _add_category(make)
    make.add_argument("--duration-s", type=float, help="seconds per sound (as in training)")
    _add_tempo(make)
    make.add_argument("--width", type=float, default=0.0, help="make mono stereo, from 0 (off) to 1")
    _add_sampling(make)
    _add_output(make)
    make.set_defaults(run=run_generate)
    _add_edits(commands)

    train = commands.add_parser(
        "finetune",
        help="train a checkpoint further on your own sounds",
        description="Train a checkpoint further on a folder of sounds. The same command goes on where it was stopped. "
        "Several GPUs: accelerate launch -m ddnb finetune ...",
    )
    start = train.add_mutually_exclusive_group()
    start.add_argument("--checkpoint", default=DEFAULT_CHECKPOINT, help=f"what to start from ({DEFAULT_CHECKPOINT})")
    start.add_argument("--scratch", choices=tuple(CONFIGS), help="start from an untrained network of this kind instead")
    train.add_argument("--data", type=Path, required=True, help="folder of sounds, or of class folders of them")
    train.add_argument("--out", type=Path, required=True, help="the run's folder; ends with last.safetensors")
    train.add_argument("--device", help="cpu, cuda or mps (the best there is)")
    _add_format(train)
    _add_recipe(train)
    train.set_defaults(run=run_finetune)

    bundle = commands.add_parser(
        "pack",
        help="put sounds into one ZIP file for a music program",
        description="Put saved sounds into one ZIP file for a music program: one-shots trimmed, levels kept, tempo and "
        "loop points in the files, records and licences beside them.",
    )
    bundle.add_argument("sounds", type=Path, nargs="+", help="sound files, or folders of them")
    bundle.add_argument("--out", type=Path, default=Path("pack.zip"), help="the ZIP file (pack.zip)")
    bundle.add_argument("--bits", choices=tuple(SUBTYPES), default="24", help="of the files (24)")
    bundle.add_argument("--format", choices=tuple(FORMATS), default="wav", help="of one-shots; loops are WAV (wav)")
    level = "kept: only what is too loud is lowered; each: all at -1 dBFS; together: the loudest there, all by one gain"
    bundle.add_argument("--level", choices=LEVELS, default="kept", help=f"{level} (kept)")
    bundle.add_argument("--instruments", action="store_true", help="add an SFZ, a Decent Sampler preset and a drum map")
    bundle.add_argument("--no-chunks", action="store_true", help="plain WAV files, for machines that refuse others")
    bundle.set_defaults(run=run_pack)

    again = commands.add_parser("remake", help="make a saved sound again from its JSON file, or a whole pack")
    again.add_argument("record", type=Path, help="the JSON file beside a WAV file, the WAV file, or a pack's ZIP file")
    where = "the checkpoint, where it was a link, or a file that lies elsewhere now; may be given several times"
    again.add_argument("--checkpoint", action="append", help=where)
    again.add_argument("--sounds", type=Path, help="folder of the sounds it was made from (beside the record)")
    _add_output(again, bits="as the record says")
    again.set_defaults(run=run_remake)

    listing = commands.add_parser("checkpoints", help="list the known checkpoints")
    listing.set_defaults(run=run_checkpoints)

    check = commands.add_parser("verify", help="check a published checkpoint against its published numbers")
    check.add_argument("name")
    check.add_argument("--full", action="store_true", help="also the published sample: minutes on a CPU")
    check.set_defaults(run=run_verify)

    doctor = commands.add_parser("check-dataset", help="look through a folder of sounds before training on it")
    doctor.add_argument("folder", type=Path, help="sound files, or class folders of them")
    _add_checkpoint(doctor, None)
    doctor.add_argument("--scratch", choices=tuple(CONFIGS), help="as in finetune, where no checkpoint is the start")
    doctor.set_defaults(run=run_check_dataset)

    copies = commands.add_parser("originality", help="look for near copies of training sounds among new ones")
    copies.add_argument("sounds", type=Path, nargs="+", help="sound files, or folders of them")
    copies.add_argument("--data", type=Path, required=True, help="folder of the training sounds")
    copies.set_defaults(run=run_originality)

    rewrite = commands.add_parser("convert", help="write a checkpoint in another format")
    rewrite.add_argument("source", help="anything that --checkpoint takes")
    rewrite.add_argument("target", type=Path, help="FILE.safetensors, FILE.ckpt (original code) or FOLDER (diffusers)")
    rewrite.add_argument("--dtype", default="float32", choices=("float32", "float16"))
    _add_format(rewrite)
    rewrite.set_defaults(run=run_convert)
    return parser


def _add_edits(commands) -> None:
    """The verbs that take a sound."""
    vary = commands.add_parser(
        "vary",
        help="make sounds that resemble one, or each of a folder",
        description="Make sounds that resemble one: cover it with noise, more or less, and take the noise off again.",
    )
    vary.add_argument("audio", type=Path, help="a sound file, or a folder of them")
    vary.add_argument("--strength", type=float, default=0.5, help="from 0 (the sound itself) to 1 (another one) (0.5)")
    vary.add_argument("-n", type=int, default=None, help="number of variations (4)")
    vary.add_argument("--offset-s", type=float, default=0.0, help="where in the sound to begin (0)")
    vary.add_argument("--duration-s", type=float, help="seconds (to the end of the sound)")
    vary.add_argument("--match-level", action="store_true", help="as loud as the sound")
    _add_shared(vary, run_vary)
    _add_tempo(vary)

    walk = commands.add_parser(
        "interpolate",
        help="walk from one sound to another",
        description="Walk from one sound to another, or from one seed to another; the ends are the inputs.",
    )
    walk.add_argument("a", help="a sound file, or a seed")
    walk.add_argument("b", help="likewise")
    walk.add_argument("-n", type=int, default=8, help="number of sounds, both ends counted (8)")
    walk.add_argument("--depth", type=float, default=1.0, help="how far towards noise to go, above 0 and up to 1 (1)")
    exact = "go by the exact way to noise and back (where a sound does not come back otherwise)"
    walk.add_argument("--exact", action=argparse.BooleanOptionalAction, help=exact)
    walk.add_argument("--to-category", type=category, help="category of the second sound")
    walk.add_argument("--duration-s", type=float, help="seconds (as the longer sound)")
    _add_shared(walk, run_interpolate, seed=False)

    fill = commands.add_parser(
        "inpaint",
        help="fill gaps of a sound",
        description="Fill gaps of a sound with something that fits in; the rest stays as it is.",
    )
    fill.add_argument("audio", type=Path, help="a sound file")
    gap = {"type": float, "nargs": 2, "metavar": ("START", "END"), "action": "append", "required": True}
    fill.add_argument("--gap", **gap, help="seconds; may be given several times")
    fill.add_argument("-n", type=int, default=None, help="number of fillings (4)")
    fill.add_argument("--method", choices=tuple(METHODS), default=DEFAULT_METHOD, help=f"how ({DEFAULT_METHOD})")
    fill.add_argument("--loop", action="store_true", help="the sound is a loop")
    _add_shared(fill, run_inpaint, sampler=False)

    longer = commands.add_parser(
        "extend", help="let a sound go on", description="Let a sound go on where it ends, or begin earlier."
    )
    longer.add_argument("audio", type=Path, help="a sound file")
    longer.add_argument("--duration-s", type=float, required=True, help="seconds in all")
    longer.add_argument("--backwards", action="store_true", help="put what is new before the sound")
    longer.add_argument("-n", type=int, default=None, help="number of continuations (4)")
    longer.add_argument("--method", choices=tuple(METHODS), default=DEFAULT_METHOD, help=f"how ({DEFAULT_METHOD})")
    _add_shared(longer, run_extend, sampler=False)

    groove = commands.add_parser(
        "beat",
        help="make a drum loop and its MIDI file",
        description="Make a drum loop of exact length, and its MIDI file, from a pattern of 16 steps a bar.",
    )
    _add_checkpoint(groove)
    groove.add_argument("--pattern", default="house", help=f"{', '.join(list_patterns())}, or a JSON file (house)")
    own = {"action": "append", "default": [], "metavar": "TRACK=FILE"}
    groove.add_argument("--sound", **own, help="a sound of your own, such as kick=my-kick.wav; may be repeated")
    groove.add_argument("--bpm", type=float, help="beats per minute, 20 to 999 (the pattern's)")
    groove.add_argument("--bars", type=int, help="bars of 4/4 (as many as the pattern has)")
    groove.add_argument("--swing", type=float, help="0.5 (straight) to 0.75; 0.667 makes triplets (the pattern's)")
    groove.add_argument("--seed", type=int, default=0, help="of the generated sounds (0)")
    groove.add_argument("--steps", type=int, help=f"network calls per sound ({DEFAULT_STEPS})")
    _add_output(groove)
    groove.set_defaults(run=run_beat)


def _add_shared(parser: argparse.ArgumentParser, run, seed: bool = True, sampler: bool = True) -> None:
    """What all verbs that take a sound have."""
    _add_checkpoint(parser)
    if seed:
        _add_seed(parser)
    _add_category(parser)
    _add_sampling(parser, sampler)
    _add_output(parser)
    parser.set_defaults(run=run)


def _add_seed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, nargs="+", default=[0], help="first seed, or one per sound (0)")


def _add_tempo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--loop", action="store_true", help="seamless: the end leads into the beginning")
    parser.add_argument(
        "--bpm", type=float, help="beats per minute, 20 to 999: exactly --bars bars long, a loop with --loop"
    )
    parser.add_argument("--bars", type=int, help="whole bars (1)")
    parser.add_argument("--beats-per-bar", type=int, default=4, help="(4)")
    parser.add_argument("--start-on-onset", action="store_true", help="turn a loop to begin on its strongest onset")
    parser.add_argument("--max-cents", type=float, help=f"pitch shift of short loops to accept ({MAX_CENTS:g})")


def _add_sampling(parser: argparse.ArgumentParser, sampler: bool = True) -> None:
    parser.add_argument("--steps", type=int, help=f"network calls per sound ({DEFAULT_STEPS})")
    if sampler:
        parser.add_argument("--sampler", choices=tuple(SAMPLERS), help=f"recipe of the steps ({DEFAULT_SAMPLER})")
    parser.add_argument("--grid", choices=tuple(GRIDS), help="noise levels of the steps (what suits sampler and steps)")
    parser.add_argument("--batch-size", type=int, help="sounds at a time (8 on a GPU, 1 on a CPU)")


def _add_checkpoint(parser: argparse.ArgumentParser, default: str | None = DEFAULT_CHECKPOINT) -> None:
    parser.add_argument(
        "--checkpoint",
        default=default,
        help=f"a name (see 'checkpoints'), a file, a folder, hf:owner/name, drive:ID or a link ({default or 'none'})",
    )
    _add_format(parser)
    parser.add_argument("--device", help="cpu, cuda or mps (the best there is)")
    parser.add_argument("--dtype", choices=tuple(DTYPES), help="precision (what suits the device)")


def _add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sample-rate", type=int, help="Hz, where the checkpoint does not say")
    parser.add_argument("--frames", type=int, help="frames per clip in training, where the checkpoint does not say")


def _add_category(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--category", type=category, help="what to make: kick, a mixture kick:2,snare:1, or any; each in turn"
    )
    parser.add_argument("--guidance-scale", type=float, help="how strongly to follow the category (1)")
    parser.add_argument("--guidance-interval", type=float, nargs=2, metavar=("FROM", "TO"), help="times it acts (0 1)")
    parser.add_argument("--guidance-rescale", type=float, help="share of the added level that is taken back (0)")


def category(text: str) -> str | dict[str, float]:
    """``kick``, or ``kick:2,snare:1``; a name alone in a list counts 1."""
    if ":" not in text and "," not in text:
        return text
    parts = (part.rpartition(":") if ":" in part else (part, "", "1") for part in text.split(","))
    return {name.strip(): float(weight) for name, _, weight in parts}


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    """An option per attribute of ``Recipe``, with the words of its docstring."""
    known = {field.name for field in fields(Recipe)}
    entries = re.split(r"^ {4}(?=[a-z_, ]+: )", inspect.getdoc(Recipe) or "", flags=re.M)
    words = {}
    for entry in entries[1:]:
        names, _, text = entry.partition(": ")
        words |= {name: " ".join(text.split()) for name in names.split(", ") if name in known}
    types = {"int": int, "float": float, "str": str}
    for field in fields(Recipe):
        option, kind = f"--{field.name.replace('_', '-')}", field.type.split(" ")[0]
        text = words.get(field.name, "").replace("``", "").replace("%", "%%")
        if kind == "bool":
            parser.add_argument(option, action=argparse.BooleanOptionalAction, default=field.default, help=text)
        else:
            parser.add_argument(option, type=types[kind], default=field.default, help=text, metavar=kind.upper())


def _add_output(parser: argparse.ArgumentParser, bits: str = "24") -> None:
    parser.add_argument("--out", type=Path, default=Path("sounds"), help="folder to write to (sounds)")
    parser.add_argument("--bits", choices=tuple(SUBTYPES), help=f"of the WAV files ({bits})")


def cli() -> None:
    """The ``ddnb`` command."""
    sys.exit(main())
