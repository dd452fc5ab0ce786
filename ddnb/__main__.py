"""The command line: ``python -m ddnb generate --checkpoint maestro-150k -n 8 --seed 0 --out sounds``."""

from __future__ import annotations

import argparse
import inspect
import os
import re
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from tqdm import tqdm

from . import (
    Checkpoint,
    CheckpointError,
    check_dataset,
    convert,
    finetune,
    generate,
    list_checkpoints,
    load,
    remake,
    verify,
)
from .audio import CEILING_DBFS, SUBTYPES, peak_dbfs
from .clips import Clips
from .engine import DEFAULT_SAMPLER, DEFAULT_STEPS, seed_list
from .files import atomically, free_name
from .guidance import Category
from .pictures import contact_sheet
from .recipe import Recipe
from .records import read_record
from .runs import RunFolder
from .runtime import DTYPES, pick
from .sampler import SAMPLERS
from .schedule import GRIDS, time_grid
from .training import CONFIGS, Record, from_scratch

DEFAULT_CHECKPOINT = "drums"
ANY = "any"
_SAY_S = 30.0  # a line at least this often
_SHEET = 64  # sounds on a contact sheet at most


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 a check failed, 2 bad input, 130 interrupted."""
    arguments = _parser().parse_args(argv)
    warnings.filterwarnings("ignore", "interrupted", UserWarning)  # said below, counted over all sounds
    warnings.showwarning = lambda message, *_, **__: print(f"ddnb: {message}", file=sys.stderr)
    try:
        return arguments.run(arguments)
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
    make.add_argument("--seed", type=int, nargs="+", default=[0], help="first seed, or one per sound (0)")
    _add_category(make)
    make.add_argument("--duration-s", type=float, help="seconds per sound (as in training)")
    make.add_argument("--width", type=float, default=0.0, help="make mono stereo, from 0 (off) to 1")
    make.add_argument("--steps", type=int, help=f"network calls per sound ({DEFAULT_STEPS})")
    make.add_argument("--sampler", choices=tuple(SAMPLERS), help=f"recipe of the steps ({DEFAULT_SAMPLER})")
    make.add_argument("--grid", choices=tuple(GRIDS), help="noise levels of the steps (what suits sampler and steps)")
    make.add_argument("--batch-size", type=int, help="sounds at a time (8 on a GPU, 1 on a CPU)")
    _add_output(make)
    make.set_defaults(run=_generate)

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
    train.set_defaults(run=_finetune)

    again = commands.add_parser("remake", help="make a saved sound again from its JSON file")
    again.add_argument("record", type=Path, help="the JSON file beside a WAV file, or the WAV file")
    again.add_argument("--checkpoint", help="the checkpoint, where it was a file that lies elsewhere now")
    _add_output(again, bits="as the record says")
    again.set_defaults(run=_remake)

    listing = commands.add_parser("checkpoints", help="list the known checkpoints")
    listing.set_defaults(run=_checkpoints)

    check = commands.add_parser("verify", help="check a published checkpoint against its published numbers")
    check.add_argument("name")
    check.add_argument("--full", action="store_true", help="also the published sample: minutes on a CPU")
    check.set_defaults(run=_verify)

    doctor = commands.add_parser("check-dataset", help="look through a folder of sounds before training on it")
    doctor.add_argument("folder", type=Path, help="sound files, or class folders of them")
    _add_checkpoint(doctor, None)
    doctor.add_argument("--scratch", choices=tuple(CONFIGS), help="as in finetune, where no checkpoint is the start")
    doctor.set_defaults(run=_check_dataset)

    rewrite = commands.add_parser("convert", help="write a checkpoint in another format")
    rewrite.add_argument("source", help="anything that --checkpoint takes")
    rewrite.add_argument("target", type=Path, help="FILE.safetensors, FILE.ckpt (original code) or FOLDER (diffusers)")
    rewrite.add_argument("--dtype", default="float32", choices=("float32", "float16"))
    _add_format(rewrite)
    rewrite.set_defaults(run=_convert)
    return parser


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


def _generate(arguments: argparse.Namespace) -> int:
    seed = arguments.seed if len(arguments.seed) > 1 else arguments.seed[0]
    seed_list(arguments.n, seed)  # what is wrong with the numbers is said before a download
    steps = DEFAULT_STEPS if arguments.steps is None else arguments.steps
    time_grid(arguments.grid or "log_snr", steps)
    if not 0 <= arguments.width <= 1:
        raise ValueError(f"--width {arguments.width}: give a number from 0 to 1.")
    _check_writable(arguments.out)
    ckpt = _load(arguments)
    print(f"ddnb: {ckpt!r}\nddnb: {pick(arguments.device, arguments.dtype).reason}", file=sys.stderr)
    each = bool(ckpt.categories) and arguments.category is None
    n = max(16, len(ckpt.categories)) if each and arguments.n is None and isinstance(seed, int) else arguments.n
    seeds = seed_list(n, seed)
    at_once = arguments.batch_size or (1 if ckpt.device.type == "cpu" else 8)
    done, shown = 0, []
    every = -(-len(seeds) // _SHEET)
    with _Bar("generating", "step") as bar:
        for wanted, some in _jobs(ckpt.categories if each else [arguments.category], seeds, at_once):
            clips = generate(
                ckpt,
                seed=some,
                category=None if wanted == ANY and ANY not in ckpt.categories else wanted,
                guidance_scale=arguments.guidance_scale,
                guidance_interval=arguments.guidance_interval,
                guidance_rescale=arguments.guidance_rescale,
                duration_s=arguments.duration_s,
                width=arguments.width,
                steps=steps,
                sampler=arguments.sampler,
                grid=arguments.grid,
                batch_size=arguments.batch_size,
                on_step=lambda step, _, __: bar(done * steps + step, len(seeds) * steps),  # noqa: B023
            )
            _save(clips, arguments)  # as they come: what is finished is on the disk
            shown += [clip for place, clip in enumerate(clips, done) if place % every == 0]
            done += len(clips)
            if len(clips) < len(some):
                print(f"ddnb: stopped after {done} of {len(seeds)} sounds", file=sys.stderr)
                return 130
    if len(shown) > 1:
        sheet = free_name(arguments.out.expanduser() / "contact-sheet.png")
        atomically(sheet, lambda part: part.write_bytes(contact_sheet(shown)))
        print(f"ddnb: {len(shown)} of them at a glance: {sheet}", file=sys.stderr)
    if ckpt.info.get("untrained"):
        print(f"ddnb: {ckpt.name} is an untrained network, so this is noise, to see that all works.", file=sys.stderr)
    return 0


def _jobs(categories: Sequence[Category | None], seeds: list[int], at_once: int) -> Iterator[tuple]:
    """Category and seeds of each batch; the categories share the seeds as evenly as can be."""
    for number, wanted in enumerate(categories):
        first, end = (-(-len(seeds) * k // len(categories)) for k in (number, number + 1))
        for i in range(first, end, at_once):
            yield wanted, seeds[i : min(i + at_once, end)]


def _finetune(arguments: argparse.Namespace) -> int:
    if not arguments.data.expanduser().is_dir():  # said before a download
        raise FileNotFoundError(f"No folder of sounds at {arguments.data}.")
    several = int(os.environ.get("WORLD_SIZE", 1)) > 1  # then accelerate says who computes where
    where = pick(arguments.device)
    show = os.environ.get("RANK", "0") == "0"
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # queues and containers stop a job so: save, then end
    recipe = Recipe(**{field.name: getattr(arguments, field.name) for field in fields(Recipe)})
    with _Bar("downloading", "B") as loading, _Bar("reading", "file") as reading, _Bar("training", "step") as bar:
        if arguments.scratch:
            ckpt = from_scratch(arguments.scratch, seed=recipe.seed, device="cpu", **_stated(arguments))
        else:
            ckpt = load(arguments.checkpoint, device="cpu", dtype="float32", on_progress=loading, **_stated(arguments))
        if show:
            print(f"ddnb: {ckpt!r}\nddnb: {'as accelerate says' if several else where.reason}", file=sys.stderr)
        options = {"device": where.device, "on_file": reading} | asdict(recipe)
        run = RunFolder(arguments.out)
        records = finetune(ckpt, arguments.data, arguments.out, **options)
        if show:
            print(f"ddnb: {_plan(run)}", file=sys.stderr)
        said = began = time.monotonic()
        first = None  # of the steps that are made now
        for record in records:
            first = record.step if first is None else first
            now = time.monotonic()
            if show:
                bar(record.step, record.steps)
            if show and (record.validation_loss is not None or record.demo or record.advice or now - said > _SAY_S):
                left = (now - began) * (record.steps - record.step) / max(1, record.step - first)
                said = now
                _say(record, left)
    if show and run.last_step() < recipe.steps:
        return 130
    if show:
        print(run.last_path)
    return 0


def _plan(run: RunFolder) -> str:
    """What is about to be trained, in a line."""
    settings = run.settings()
    recipe, sounds = settings["recipe"], settings["sounds"]
    skipped = f", {sounds['unusable']} files cannot be used (see check-dataset)" if sounds["unusable"] else ""
    parts = [
        f"{sounds['used']} sounds, {sounds['held_out']} more held out{skipped}",
        f"categories {', '.join(settings['categories'])}" if settings["categories"] else "no categories",
        f"batches of {recipe['batch_size']}, learning rate {recipe['learning_rate']:g}",
        "clips from anywhere in a sound" if recipe["crop"] else "clips from the beginning of each sound",
    ]
    step = run.last_step()
    return "; ".join(parts) + (f"; going on from step {step} of {recipe['steps']}" if step >= 0 else "")


def _say(record: Record, seconds_left: float) -> None:
    parts = [f"step {record.step} of {record.steps}"]
    parts += [f"loss {record.loss:.4f}"] if record.loss is not None else []
    parts += [f"validation {record.validation_loss:.4f}"] if record.validation_loss is not None else []
    parts += [f"{tqdm.format_interval(seconds_left)} left"] if 0 < record.step < record.steps else []
    tqdm.write(f"ddnb: {', '.join(parts)}", file=sys.stderr)
    if record.demo is not None:
        tqdm.write(f"ddnb: to listen to: {record.demo}", file=sys.stderr)
    if record.advice is not None:
        tqdm.write(f"ddnb: {record.advice}", file=sys.stderr)


def _stated(arguments: argparse.Namespace) -> dict[str, int]:
    """What the command says about the format; what it does not say is left to the checkpoint."""
    given = {"sample_rate": arguments.sample_rate, "frames": arguments.frames}
    return {name: value for name, value in given.items() if value is not None}


def _load(arguments: argparse.Namespace) -> Checkpoint:
    with _Bar("downloading", "B") as bar:
        return load(
            arguments.checkpoint,
            device=arguments.device,
            dtype=arguments.dtype,
            sample_rate=arguments.sample_rate,
            frames=arguments.frames,
            on_progress=bar,
        )


def _check_dataset(arguments: argparse.Namespace) -> int:
    if not arguments.folder.expanduser().is_dir():  # said before a download
        raise FileNotFoundError(f"No folder of sounds at {arguments.folder}.")
    ckpt = from_scratch(arguments.scratch, **_stated(arguments)) if arguments.scratch else None
    ckpt = _load(arguments) if arguments.checkpoint is not None else ckpt
    with _Bar("listening", "file") as bar:
        report = check_dataset(arguments.folder, ckpt, on_file=bar)
    print(report)
    return 0


def _remake(arguments: argparse.Namespace) -> int:
    _check_writable(arguments.out)
    record = read_record(arguments.record)
    clips = remake(record, arguments.checkpoint)
    arguments.bits = arguments.bits or record.get("file", {}).get("bits")
    _save(clips, arguments)
    return 0


def _checkpoints(arguments: argparse.Namespace) -> int:
    for name, entry in list_checkpoints().items():
        seconds = entry["frames"] / entry["sample_rate"]
        size = next((f"{s['size_mb']} MB to fetch" for s in entry.get("sources", ()) if "size_mb" in s), "built in")
        print(f"{name:18} {entry['sample_rate']} Hz, {seconds:.2f} s, licence {entry['licence']}, {size}")
        print(f"{'':18} {entry['description']}")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    with _Bar("downloading", "B") as bar:
        checks = verify(arguments.name, full=arguments.full, on_progress=bar)
    for check in checks:
        verdict = "ok  " if check["ok"] else "FAIL"
        print(f"{verdict} {check['what']}: {check['got']:.4f}, published {check['expected']} +- {check['tolerance']}")
    if not checks:
        print(f"{arguments.name} opens and fits the network; no numbers are published to check it against.")
    return 0 if all(check["ok"] for check in checks) else 1


def _convert(arguments: argparse.Namespace) -> int:
    stated = {"sample_rate": arguments.sample_rate, "frames": arguments.frames}
    print(convert(arguments.source, arguments.target, dtype=arguments.dtype, **stated))
    return 0


def _save(clips: Clips, arguments: argparse.Namespace) -> None:
    bits = arguments.bits or "24"
    for clip in clips:
        print(clip.save(arguments.out, bits), flush=True)
        if bits != "float" and (over := peak_dbfs(clip.audio) - CEILING_DBFS) > 0:
            print(f"ddnb: {clip.name} was turned down by {over:.1f} dB to fit; --bits float keeps it", file=sys.stderr)


def _check_writable(folder: Path) -> None:
    """Learn before the work, not after it, that its result cannot be kept."""
    try:
        folder.expanduser().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder.expanduser()):
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
        self.bar.update(done - self.bar.n)


def cli() -> None:
    """The ``ddnb`` command."""
    sys.exit(main())


if __name__ == "__main__":
    cli()
