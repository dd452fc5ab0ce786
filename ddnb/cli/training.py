"""TODO cli/training."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from dataclasses import asdict, fields

from tqdm import tqdm

from ..checkpoints.loading import load
from ..runtime import pick
from ..training.config import Recipe
from ..training.loop import Record, finetune, from_scratch
from ..training.report import check_dataset
from ..training.run_folder import RunFolder
from .checkpoint import _load, _stated
from .progress import _SAY_S, _Bar


def run_finetune(arguments: argparse.Namespace) -> int:
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


def run_check_dataset(arguments: argparse.Namespace) -> int:
    if not arguments.folder.expanduser().is_dir():  # said before a download
        raise FileNotFoundError(f"No folder of sounds at {arguments.folder}.")
    ckpt = from_scratch(arguments.scratch, **_stated(arguments)) if arguments.scratch else None
    ckpt = _load(arguments) if arguments.checkpoint is not None else ckpt
    with _Bar("listening", "file") as bar:
        report = check_dataset(arguments.folder, ckpt, on_file=bar)
    print(report)
    return 0
