"""What the commands of the command line do; ``__main__`` says what they are called."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..audio.io import sound_files
from ..audio.loop import MAX_CENTS, loop_frames
from ..checkpoints.checkpoint import Checkpoint
from ..clips.clip import Clips
from ..clips.record import read_clip
from ..generation.beat import beat
from ..generation.extend import extend
from ..generation.generate import generate
from ..generation.inpaint import inpaint
from ..generation.interpolate import interpolate
from ..generation.length import Tempo
from ..generation.options import DEFAULT_STEPS, seed_list
from ..generation.vary import vary
from ..guidance import Category
from ..schedule import time_grid
from .checkpoint import _ready
from .progress import _Bar, _check_writable, _save, _share, _Sheet, _stopped

ANY = "any"


def run_generate(arguments: argparse.Namespace) -> int:
    seeds = _seeds(arguments, arguments.n)  # what is wrong with the numbers is said before a download
    time_grid(arguments.grid or "log_snr", DEFAULT_STEPS if arguments.steps is None else arguments.steps)
    if not 0 <= arguments.width <= 1:
        raise ValueError(f"--width {arguments.width}: give a number from 0 to 1.")
    if arguments.bpm is not None:
        loop_frames(arguments.bpm, arguments.bars or 1, 44_100, arguments.beats_per_bar)
    _check_writable(arguments.out)
    ckpt = _ready(arguments)
    each = bool(ckpt.categories) and arguments.category is None
    if each and arguments.n is None and len(arguments.seed) == 1:
        seeds = _seeds(arguments, max(16, len(ckpt.categories)))
    options = _options(arguments) | _tempo(arguments) | {"width": arguments.width, "duration_s": arguments.duration_s}
    options["max_cents"] = _accepted_cents(arguments, ckpt)
    sheet = _Sheet(len(seeds))
    with _Bar("generating", "step") as bar:
        done, steps = 0, arguments.steps or DEFAULT_STEPS
        for wanted, some in _jobs(ckpt.categories if each else [arguments.category], seeds, _at_once(arguments, ckpt)):
            options["category"] = None if wanted == ANY and ANY not in ckpt.categories else wanted
            on_step = lambda step, _, __: bar(done * steps + step, len(seeds) * steps)  # noqa: B023, E731
            clips = generate(ckpt, seed=some, on_step=on_step, **options)
            _save(clips, arguments)  # as they come: what is finished is on the disk
            sheet.add(clips)
            done += len(clips)
            if len(clips) < len(some):
                return _stopped(done, len(seeds))
    sheet.save(arguments.out)
    if ckpt.info.get("untrained"):
        print(f"ddnb: {ckpt.name} is an untrained network, so this is noise, to see that all works.", file=sys.stderr)
    return 0


def run_vary(arguments: argparse.Namespace) -> int:
    seeds = _seeds(arguments, arguments.n)
    sounds = sound_files(arguments.audio) if arguments.audio.expanduser().is_dir() else [arguments.audio]
    options = _options(arguments) | _tempo(arguments) | {"match_level": arguments.match_level}
    options |= {"offset_s": arguments.offset_s, "duration_s": arguments.duration_s}
    options |= {} if arguments.max_cents is None else {"max_cents": arguments.max_cents}

    def make(sound: Path, seeds: Sequence[int], ckpt: Checkpoint, on_step) -> Clips:
        return vary(ckpt, read_clip(sound), arguments.strength, seed=seeds, on_step=on_step, **options)

    return _edit(arguments, "varying", make, sounds, seeds)


def run_inpaint(arguments: argparse.Namespace) -> int:
    seeds, (start_s, end_s) = _seeds(arguments, arguments.n), map(list, zip(*arguments.gap, strict=True))
    options = _options(arguments) | {"method": arguments.method, "loop": arguments.loop}

    def make(sound: Path, seeds: Sequence[int], ckpt: Checkpoint, on_step) -> Clips:
        return inpaint(ckpt, read_clip(sound), start_s, end_s, seed=seeds, on_step=on_step, **options)

    return _edit(arguments, "filling", make, [arguments.audio], seeds)


def run_extend(arguments: argparse.Namespace) -> int:
    seeds = _seeds(arguments, arguments.n)
    options = _options(arguments) | {"method": arguments.method, "backwards": arguments.backwards}

    def make(sound: Path, seeds: Sequence[int], ckpt: Checkpoint, on_step) -> Clips:
        return extend(ckpt, read_clip(sound), arguments.duration_s, seed=seeds, on_step=on_step, **options)

    return _edit(arguments, "extending", make, [arguments.audio], seeds)


def _edit(arguments: argparse.Namespace, what: str, make, sounds: Sequence[Path], seeds: list[int]) -> int:
    """Make new sounds of each of some sounds, and save them as they come."""
    for sound in sounds:
        if not sound.expanduser().is_file():
            raise FileNotFoundError(f"No sound file at {sound}.")
    _check_writable(arguments.out)
    ckpt = _ready(arguments)
    done, used, at_once = 0, 0, _at_once(arguments, ckpt)
    sheet = _Sheet(len(sounds) * len(seeds))
    with _Bar(what, "") as bar:
        for sound in sounds:
            for some in (seeds[i : i + at_once] for i in range(0, len(seeds), at_once)):
                try:
                    clips = make(sound, some, ckpt, _share(bar, done, len(some), len(sounds) * len(seeds)))
                except ValueError as error:
                    if len(sounds) == 1:
                        raise
                    print(f"ddnb: left out: {error}", file=sys.stderr)
                    break
                _save(clips, arguments)
                sheet.add(clips)
                done += len(clips)
                if len(clips) < len(some):
                    return _stopped(done, len(sounds) * len(seeds))
            else:
                used += 1
    sheet.save(arguments.out)
    return 0 if used else 2


def run_interpolate(arguments: argparse.Namespace) -> int:
    ends = [int(end) if end.isdecimal() and not Path(end).exists() else Path(end) for end in (arguments.a, arguments.b)]
    for end in ends:
        if isinstance(end, Path) and not end.expanduser().is_file():
            raise FileNotFoundError(f"No sound file at {end}.")
    _check_writable(arguments.out)
    ckpt = _ready(arguments)
    ends = [read_clip(end) if isinstance(end, Path) else end for end in ends]
    options = _options(arguments) | {"to_category": arguments.to_category, "duration_s": arguments.duration_s}
    with _Bar("interpolating", "step") as bar:
        clips = interpolate(
            ckpt, *ends, arguments.n, depth=arguments.depth, exact=arguments.exact, on_step=bar, **options
        )
    _save(clips, arguments)
    if (back := clips.settings["making"].get("round_trip_db")) is not None:
        way = ", by the exact way" if clips.settings["making"]["exact"] else ""
        print(f"ddnb: to noise and back{way}, the ends came within {back[0]:.0f} and {back[1]:.0f} dB", file=sys.stderr)
    sheet = _Sheet(len(clips))
    sheet.add(clips)
    sheet.save(arguments.out)
    return 0 if len(clips) == arguments.n else _stopped(len(clips), arguments.n)


def run_beat(arguments: argparse.Namespace) -> int:
    sounds = {}
    for given in arguments.sound:
        track, _, path = given.partition("=")
        if not path:
            raise ValueError(f"--sound {given}: give TRACK=FILE, such as kick=my-kick.wav.")
        sounds[track] = path
    _check_writable(arguments.out)
    ckpt = _ready(arguments)
    numbers = {"bpm": arguments.bpm, "bars": arguments.bars, "swing": arguments.swing, "seed": arguments.seed}
    steps = {} if arguments.steps is None else {"steps": arguments.steps}
    with _Bar("making its sounds", "step") as bar:
        made = beat(ckpt, arguments.pattern, sounds=sounds, on_step=bar, **numbers, **steps)
    for path in made.save(arguments.out, arguments.bits or "24"):
        print(path)
    return 0


def _seeds(arguments: argparse.Namespace, n: int | None) -> list[int]:
    return seed_list(n, arguments.seed if len(arguments.seed) > 1 else arguments.seed[0])


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of sampling that the command has; a category ``any`` is none."""
    names = ("guidance_scale", "guidance_interval", "guidance_rescale", "steps", "sampler", "grid", "batch_size")
    options = {name: getattr(arguments, name) for name in names if getattr(arguments, name, None) is not None}
    return options | ({"category": arguments.category} if arguments.category not in (None, ANY) else {})


def _tempo(arguments: argparse.Namespace) -> dict[str, Any]:
    names = ("loop", "bpm", "bars", "beats_per_bar", "start_on_onset")
    return {name: getattr(arguments, name) for name in names}


def _accepted_cents(arguments: argparse.Namespace, ckpt: Checkpoint) -> float:
    """How far off in pitch a loop may be; above what is hardly heard, the one at the terminal is asked."""
    if arguments.max_cents is not None or not arguments.loop:
        return MAX_CENTS if arguments.max_cents is None else arguments.max_cents
    any_cents = Tempo(**_tempo(arguments), max_cents=12_000)
    cents = any_cents.length(ckpt, arguments.duration_s).cents
    if abs(cents) <= MAX_CENTS or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return MAX_CENTS
    answer = input(f"ddnb: loops of this length come out {cents:+.0f} cents off in pitch. Make them? [y/N] ")
    return abs(cents) if answer.strip().lower().startswith("y") else MAX_CENTS


def _at_once(arguments: argparse.Namespace, ckpt: Checkpoint) -> int:
    return arguments.batch_size or (1 if ckpt.device.type == "cpu" else 8)


def _jobs(categories: Sequence[Category | None], seeds: list[int], at_once: int) -> Iterator[tuple]:
    """Category and seeds of each batch; the categories share the seeds as evenly as can be."""
    for number, wanted in enumerate(categories):
        first, end = (-(-len(seeds) * k // len(categories)) for k in (number, number + 1))
        for i in range(first, end, at_once):
            yield wanted, seeds[i : min(i + at_once, end)]
