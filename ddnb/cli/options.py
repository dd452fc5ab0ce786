"""Options that the commands of several verbs share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from ..audio.loop import MAX_CENTS
from ..checkpoints.checkpoint import Checkpoint
from ..errors import ArgumentError
from ..generation.length import LoopOptions
from ..generation.levels import LEVEL_HELP, LEVELS, NORMALIZED
from ..generation.options import FILLING_STEPS, SamplingOptions
from ..generation.sampling import default_batch_size, seed_list
from ..sampler import SAMPLERS
from ..schedule import GRIDS
from ..threads import available
from .common import (
    add_blend,
    add_checkpoint,
    add_group,
    add_output,
    group_options,
    merge_categories,
    parse_category,
)

ANY = "any"

_CATEGORY = (
    f"a category of the checkpoint (kick, snare, ...), or several with weights: kick:2,snare:1; '{ANY}': of no "
    "category in particular (default: that of the input audio, if it was made with one)"
)
_NOTE = (
    "the pitch, for categories that have one: a name with its octave ('A1', 'F#2'; A4 is 440 Hz), a MIDI number (33) "
    "or Hz ('55 Hz') (default: that of the input audio, else each seed draws a note that the category plays)"
)
_STEPS = (
    f"network calls per sound (default: as suits the checkpoint, or {FILLING_STEPS} to fill in; the sampler heun needs "
    "twice that); more is cleaner"
)
_SAMPLER = "how noise becomes sound (default: as suits the checkpoint)"
_GRID = (
    "how the steps are spread over the noise levels (default: log_snr, up to 9 steps karras, and crash for the "
    "samplers that repeat an original tool)"
)


def add_shared(
    parser: argparse.ArgumentParser,
    run: Callable[..., int],
    seed: bool = True,
    sampler: bool = True,
    pitch: bool = True,
) -> None:
    """Add what all verbs have."""
    add_checkpoint(parser)
    add_blend(parser)
    if seed:
        parser.add_argument(
            "--seed", type=int, nargs="+", default=[0], help="first seed, or one per sound (default: 0)"
        )
    options: dict[str, dict[str, Any]] = {
        "category": {"action": "append", "metavar": "NAME[:WEIGHT,...]", "help": _CATEGORY},
        **({"note": {"help": _NOTE}, "key": {}} if pitch else {}),
        "guidance_scale": {"type": float},
        "guidance_interval": {"type": float, "nargs": 2, "metavar": ("FROM", "TO")},
        "guidance_rescale": {"type": float},
        "steps": {"type": int, "help": _STEPS},
        "grid": {"choices": tuple(GRIDS), "help": _GRID},
        "batch_size": {"type": int},
    }
    if sampler:
        options["sampler"] = {"choices": tuple(SAMPLERS), "help": _SAMPLER}
    add_group(parser, SamplingOptions, **options)
    add_output(parser)
    parser.set_defaults(run=run)


def add_loop_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of loops."""
    flag: dict[str, Any] = {"action": "store_true"}
    numbers: dict[str, Any] = {"bpm": {"type": float}, "bars": {"type": int}, "beats_per_bar": {"type": int}}
    add_group(parser, LoopOptions, loop=flag, **numbers, start_on_onset=flag)
    cents = f"pitch shift of short loops to accept, hundredths of a semitone (default: {MAX_CENTS:g}, or ask)"
    parser.add_argument("--max-cents", type=float, help=cents)


def add_level(parser: argparse.ArgumentParser, about: str = LEVEL_HELP) -> None:
    """Add the level at which sounds leave."""
    parser.add_argument("--level", choices=LEVELS, default=NORMALIZED, help=f"{about} (default: {NORMALIZED})")


def sampling_options(arguments: argparse.Namespace, ckpt: Checkpoint) -> dict[str, Any]:
    """Return the sampling options of a command; the category ``any``, unless it is one, is an empty mixture."""
    options = group_options(arguments, SamplingOptions)
    if (texts := options.get("category")) is None:
        return options
    if texts == [ANY] and ANY not in ckpt.categories:
        return options | {"category": {}}
    if ANY in texts and ANY not in ckpt.categories:
        others = " ".join(text for text in texts if text != ANY)
        raise ArgumentError(f"--category {ANY} means none in particular: give it alone, or only {others or 'once'}.")
    return options | {"category": merge_categories([parse_category(text, ckpt.categories) for text in texts])}


def seeds_of(arguments: argparse.Namespace, n: int | None) -> list[int]:
    """Return the seeds of a command, one for each of n sounds."""
    return seed_list(n, arguments.seed if len(arguments.seed) > 1 else arguments.seed[0])


def batch_size_of(arguments: argparse.Namespace, ckpt: Checkpoint) -> int:
    """Return the sounds per call of a verb: enough for every core, few enough to be written as they are finished."""
    cores = available() if ckpt.device.type == "cpu" and ckpt.net.single_threaded else 1
    return (arguments.batch_size or default_batch_size(ckpt)) * cores
