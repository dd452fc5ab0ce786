"""Short training runs for several test files."""

import csv
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import ddnb
from ddnb.generation.generate import generate
from ddnb.training import artifacts, trainer
from ddnb.training.dataset import EXAMPLES, decode
from ddnb.training.loop import from_scratch
from ddnb.training.run_folder import RunFolder

SAMPLE_RATE = 22050
FRAMES = 1024
SETTINGS = {"batch_size": 2, "steps": 6, "demos": 0, "save_every": 2, "validate_every": 3}
WITH_DEMOS = {"demos": 2, "demo_every": 3}

Train = Callable[..., Iterator[ddnb.training.TrainingStep]]


def tiny(seed: int = 0) -> ddnb.Checkpoint:
    """Return the smallest untrained network."""
    return from_scratch("tiny", sample_rate=SAMPLE_RATE, frames=FRAMES, device="cpu", seed=seed)


def quick_training(cache: Path) -> Iterator[Train]:
    """Yield a ``finetune`` of the tiny network that validates on 2 clips and generates demos in 2 sampling steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDNB_CACHE", str(cache))
        patch.setattr(trainer, "VALIDATION_CLIPS", 2)
        patch.setattr(artifacts, "generate", partial(generate, steps=2))
        start, data = tiny(), decode(EXAMPLES, SAMPLE_RATE, 2)

        def train(out, folder=data, ckpt=start, **settings):
            return ddnb.finetune(ckpt, folder, out, **(SETTINGS | settings))

        yield train


def weights(out: Path) -> dict[str, torch.Tensor]:
    """Read the last weights of a run."""
    return load_file(out / "last.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Return whether two state dicts are equal bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def read_log(out: Path) -> list[dict[str, str]]:
    """Read the log of a run."""
    with (out / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def outputs(out: Path) -> tuple:
    """Return what a run leaves, except for durations and the curves of each of its starts."""
    log = [(r["step"], r["loss"], r["validation_loss"], r["learning_rate"]) for r in read_log(out)]
    names = sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if "tensorboard" not in str(p))
    facts = RunFolder(out).state()[1]
    return log, names, {k: facts[k] for k in ("step", "told", "best", "validations")}


def launch(*words: object) -> None:
    """Run a program in two processes on the CPU by torchrun, which ``accelerate launch`` uses for GPUs."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", port]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true"}
    run = subprocess.run([*launcher, *map(str, words)], capture_output=True, text=True, timeout=300, env=environment)
    assert run.returncode == 0, run.stderr[-3000:]
