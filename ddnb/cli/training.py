"""Commands that make checkpoints: ``fit``, ``finetune``, ``distill``; and ``check-dataset``."""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.loading import load
from ..display.text import counted
from ..errors import Cancelled
from ..files import expand
from ..runtime import pick
from ..training.config import DistillConfig, LearningConfig, TrainingConfig
from ..training.distill import distill
from ..training.fit import fit, require_new_file
from ..training.loop import CONFIGS, TrainingStep, finetune, from_scratch
from ..training.report import check_dataset
from ..training.run_folder import RunFolder
from .common import (
    DEFAULT_CHECKPOINT,
    LOG,
    Commands,
    add_checkpoint,
    add_format,
    load_checkpoint,
    progress_bar,
    refusing_another_format,
    require_writable,
    stated_format,
)

Config = TypeVar("Config", bound=LearningConfig)

_REPORT_S = 30.0  # a line at least this often


def add_commands(commands: Commands) -> None:
    """Add the commands."""
    _add_fit(commands)
    _add_finetune(commands)
    _add_distill(commands)
    _add_check_dataset(commands)


def _add_fit(commands: Commands) -> None:
    about = (
        "Give the built-in network the sound of a folder, without training, in about ten seconds a category. Class "
        "folders (kick/...) set the categories of these names, other names become new categories."
    )
    parser = commands.add_parser(
        "fit", help="make the built-in network sound like a folder, at once", description=about
    )
    parser.add_argument("folder", type=Path, help="sound files, or class folders of them")
    parser.add_argument("--out", type=Path, required=True, help="the new checkpoint, a .safetensors file")
    add_checkpoint(parser)
    parser.set_defaults(run=run_fit)


def run_fit(arguments: argparse.Namespace) -> int:
    """Fit a checkpoint to a folder and write it."""
    if not expand(arguments.folder).is_dir():  # before a download
        raise FileNotFoundError(f"There is no folder of sounds at {arguments.folder}.")
    require_writable(require_new_file(arguments.out).parent)
    ckpt = load_checkpoint(arguments)
    with progress_bar("reading", "file") as bar:
        fitted = fit(ckpt, arguments.folder, arguments.out, on_file=bar)
    for name, count in fitted.info["fitted_to"].items():
        LOG.info("%s: fitted to %s", name, count)
    print(arguments.out)
    LOG.info("Wrote %s. Make sounds: python -m ddnb generate --checkpoint %s", arguments.out, arguments.out)
    return 0


def _add_finetune(commands: Commands) -> None:
    about = (
        "Train a checkpoint further on a folder of sounds. The same command resumes a stopped run. Several GPUs: "
        "accelerate launch -m ddnb finetune ..."
    )
    parser = commands.add_parser("finetune", help="train a checkpoint further on your own sounds", description=about)
    start = parser.add_mutually_exclusive_group()
    default = f"starting point (default: {DEFAULT_CHECKPOINT})"
    start.add_argument("--checkpoint", default=DEFAULT_CHECKPOINT, help=default)
    start.add_argument("--scratch", choices=tuple(CONFIGS), help="start from an untrained network of this kind instead")
    parser.add_argument("--data", type=Path, required=True, help="folder of sounds, or of class folders of them")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; holds last.safetensors at the end")
    parser.add_argument("--device", help="cpu, cuda or mps (default: the best available)")
    add_format(parser)
    _add_config(parser, TrainingConfig)
    parser.set_defaults(run=run_finetune)


def _add_distill(commands: Commands) -> None:
    about = (
        "Train a student that makes in a few network calls what a checkpoint makes in many. No sounds are needed. The "
        "same command resumes a stopped run. Several GPUs: accelerate launch -m ddnb distill ..."
    )
    parser = commands.add_parser("distill", help="make a checkpoint faster, or resume a run", description=about)
    parser.add_argument("--checkpoint", default=DEFAULT_CHECKPOINT, help="the teacher (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; holds last.safetensors at the end")
    parser.add_argument("--device", help="cpu, cuda or mps (default: the best available)")
    add_format(parser)
    _add_config(parser, DistillConfig)
    parser.set_defaults(run=run_distill)


def _add_config(parser: argparse.ArgumentParser, config: type[LearningConfig]) -> None:
    """Add an option for each field of a configuration, with the help text of its metadata."""
    types = {"int": int, "float": float, "str": str}
    for field in fields(config):
        option, kind = f"--{field.name.replace('_', '-')}", str(field.type).split(" ")[0]
        if kind == "bool":
            action = parser.add_argument(option, action=argparse.BooleanOptionalAction, default=field.default)
        else:
            action = parser.add_argument(option, type=types[kind], default=field.default, metavar=kind.upper())
        default = "" if field.default is None else f" (default: {field.default})"
        action.help = field.metadata["help"].replace("%", "%%") + default


def run_finetune(arguments: argparse.Namespace) -> int:
    """Train a checkpoint, or resume a run; the status is 130 if it was stopped before its last step."""
    if not expand(arguments.data).is_dir():  # before a download
        raise FileNotFoundError(f"There is no folder of sounds at {arguments.data}.")
    config = _config(arguments, TrainingConfig)
    if arguments.scratch:
        ckpt = from_scratch(arguments.scratch, seed=config.seed, device="cpu", **stated_format(arguments))
    else:
        ckpt = _load_start(arguments)

    def start(**options: Any) -> Iterator[TrainingStep]:
        with progress_bar("reading", "file") as reading:
            return finetune(ckpt, arguments.data, arguments.out, on_file=reading, **options, **asdict(config))

    return _train(arguments, ckpt, config.steps, start, _describe_plan)


def run_distill(arguments: argparse.Namespace) -> int:
    """Train a student, or resume a run; the status is 130 if it was stopped before its last step."""
    config, ckpt = _config(arguments, DistillConfig), _load_start(arguments)

    def start(**options: Any) -> Iterator[TrainingStep]:
        return distill(ckpt, arguments.out, **options, **asdict(config))

    return _train(arguments, ckpt, config.steps, start, lambda run: f"a student of {config.calls} calls")


def _config(arguments: argparse.Namespace, kind: type[Config]) -> Config:
    return kind(**{field.name: getattr(arguments, field.name) for field in fields(kind)})


def _load_start(arguments: argparse.Namespace) -> Checkpoint:
    with progress_bar("downloading", "B") as bar, refusing_another_format(arguments):
        stated = stated_format(arguments)
        return load(arguments.checkpoint, device="cpu", dtype="float32", on_progress=bar, **stated)


def _train(
    arguments: argparse.Namespace,
    ckpt: Checkpoint,
    steps: int,
    start: Callable[..., Iterator[TrainingStep]],
    describe: Callable[[RunFolder], str],
) -> int:
    """Run a training to its end, with a report on it; return the exit status."""
    several = int(os.environ.get("WORLD_SIZE", 1)) > 1  # then accelerate assigns the devices
    where = pick(arguments.device)
    is_main = os.environ.get("RANK", "0") == "0"
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # queues and containers stop a job so: save, then end
    if is_main:
        LOG.info("%r", ckpt)
        LOG.info("devices as assigned by accelerate" if several else where.reason)
    run = RunFolder(arguments.out)
    try:
        trained = start(device=where.device)
        if is_main:
            LOG.info(describe(run))
        with progress_bar("training", "step") as bar:
            reported = began = time.monotonic()
            first: int | None = None  # step of this process
            for step in trained:
                first, now = step.step if first is None else first, time.monotonic()
                if not is_main:
                    continue
                bar(step.step, step.steps)
                if step.validation_loss is not None or step.demo or step.advice or now - reported > _REPORT_S:
                    reported = now
                    _report(step, (now - began) * (step.steps - step.step) / max(1, step.step - first))
    except KeyboardInterrupt as error:  # outside a step, in whose midst the loop itself saves and says so
        raise Cancelled("interrupted; repeat the same command to resume") from error
    if not is_main:
        return 0
    if run.last_step() < steps:
        return 130
    print(run.last_path)
    LOG.info("Wrote %s", run.last_path)
    return 0


def _describe_plan(run: RunFolder) -> str:
    """Describe in a line what will be trained."""
    settings = run.settings()
    config, sounds = settings["recipe"], settings["sounds"]
    skipped = f", {sounds['unusable']} files cannot be used (see check-dataset)" if sounds["unusable"] else ""
    parts = [
        f"{sounds['used']} sounds, {sounds['held_out']} more held out{skipped}",
        f"categories {', '.join(settings['categories'])}" if settings["categories"] else "no categories",
        f"batches of {config['batch_size']}, learning rate {config['learning_rate']:g}",
        "clips from anywhere in a sound" if config["crop"] else "clips from the beginning of each sound",
    ]
    step = run.last_step()
    return "; ".join(parts) + (f"; resumed at step {step} of {config['steps']}" if step >= 0 else "")


def _report(step: TrainingStep, seconds_left: float) -> None:
    parts = [f"step {step.step} of {step.steps}"]
    parts += [f"loss {step.loss:.4f}"] if step.loss is not None else []
    parts += [f"validation {step.validation_loss:.4f}"] if step.validation_loss is not None else []
    parts += [f"{tqdm.format_interval(seconds_left)} left"] if 0 < step.step < step.steps else []
    LOG.info(", ".join(parts))
    if step.demo is not None:
        LOG.info("Wrote demos to %s", step.demo)
    if step.advice is not None:
        LOG.info(step.advice)


def _add_check_dataset(commands: Commands) -> None:
    parser = commands.add_parser("check-dataset", help="check a folder of sounds before training on it")
    parser.add_argument("folder", type=Path, help="sound files, or class folders of them")
    add_checkpoint(parser, None)
    scratch = "as for finetune, if there is no checkpoint to start from"
    parser.add_argument("--scratch", choices=tuple(CONFIGS), help=scratch)
    parser.set_defaults(run=run_check_dataset)


def run_check_dataset(arguments: argparse.Namespace) -> int:
    """Print a report on a folder of sounds."""
    if not expand(arguments.folder).is_dir():  # before a download
        raise FileNotFoundError(f"There is no folder of sounds at {arguments.folder}.")
    ckpt = from_scratch(arguments.scratch, **stated_format(arguments)) if arguments.scratch else None
    if arguments.checkpoint is not None:
        ckpt = load_checkpoint(arguments, announce=False)
    with progress_bar("reading", "file") as bar:
        report = check_dataset(arguments.folder, ckpt, on_file=bar)
    print(report)
    LOG.info("Checked %s", counted(len(report.data.sounds) + len(report.data.unusable), "sound file"))
    return 0
