"""Compare designs of the embedded default's network by short trainings of equal time.

    python -m bench.design                    every variant, 150 s of CPU time each
    python -m bench.design --seconds 1200 --only "as it is" "hop 64"

Each variant trains with the settings of recipe/default.json and a few changes, on one thread. Measured is the error of
its clean estimates of held-out recordings (dB re the recording), at four noise levels, of tonal and other categories.
Needs build/default_data.npz (make dataset). Writes results/design.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import ddnb
from ddnb.schedule import alpha_sigma, sigma_k_to_t
from ddnb.training.config import TrainingConfig
from ddnb.training.dataset import Dataset
from ddnb.training.trainer import Trainer
from recipe.data import CATEGORIES, load_prepared, pad
from recipe.pool import PEAK, load_pool
from recipe.train import write_start

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "build"
TONAL = ("kick", "tom", "bass", "synth")
NOISE_LEVELS = (0.3, 0.1, 0.03, 0.01)
EACH, FRAMES = 6, 32_768
VARIANTS: dict[str, dict] = {
    "as it is": {},
    "without the longer spectrum": {"without": "partials"},
    "without the U-Net": {"without": "unet"},
    "1 envelope per category": {"envelopes_per_category": 1},
    "4 envelopes per category": {"envelopes_per_category": 4},
    "hop 64": {"network": {"hop": 64, "cells": [15, 18]}},
    "narrower": {"network": {"widths": [64, 96, 160], "embedding": 160}},
    "wider": {"network": {"widths": [128, 224, 320], "embedding": 320}},
    "learning rate 3e-3": {"training": {"learning_rate": 3e-3}},
    "whole clips only": {"training": {"shorten": 1}},
}


def main() -> None:
    """Train and measure the variants, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--only", nargs="+", choices=tuple(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "design.md")
    given = parser.parse_args()
    torch.set_num_threads(1)
    plain = json.loads((ROOT / "recipe" / "default.json").read_text(encoding="utf-8"))
    data = load_pool(BUILD / "pool", BUILD / "default_data.npz", **plain["pool"])
    sounds, labels = load_held_out()
    rows = [
        "| variant | M parameters | steps | clean estimate before: tonal, others | after: tonal, others | gain, dB |"
    ]
    rows += ["|---|---|---|---|---|---|"]
    for name in given.only:
        trainer = make_trainer(plain, VARIANTS[name], data)
        before = errors(trainer.net, sounds, labels)
        steps = train(trainer, given.seconds)
        with trainer.ema.swap():
            after = errors(trainer.net, sounds, labels)
        size = sum(p.numel() for p in trainer.trainable.values()) / 1e6
        gain = ", ".join(f"{a - b:+.2f}" for a, b in zip(after, before, strict=True))
        rows.append(f"| {name} | {size:.1f} | {steps} | {_pair(before)} | {_pair(after)} | {gain} |")
        print(rows[-1], flush=True)
    head = "# Designs of the embedded default\n\n`python -m bench.design --seconds "
    note = f"{given.seconds:g}`, one thread, torch {torch.__version__}. {__doc__.split(chr(10) * 2)[2]}\n\n"
    given.out.write_text(head + note + "\n".join(rows) + "\n", encoding="utf-8")


def load_held_out() -> tuple[Tensor, Tensor]:
    """Return some recordings of each category, at the level of the training data, and their labels."""
    data = load_prepared(BUILD / "default_data.npz")
    rng = np.random.default_rng(0)
    there = [np.flatnonzero(data.held_out & (data.labels == label)) for label in range(len(CATEGORIES))]
    chosen = np.concatenate([rng.permutation(found)[:EACH] for found in there])
    sounds = torch.from_numpy(pad(data, chosen, FRAMES))
    return (sounds * (PEAK / sounds.abs().amax(1, keepdim=True)))[:, None], torch.from_numpy(data.labels[chosen])


def make_trainer(plain: dict, changes: dict, data: Dataset) -> Trainer:
    """Return a trainer of the default's settings with some changes."""
    wanted = {k: v | changes.get(k, {}) if isinstance(v, dict) else changes.get(k, v) for k, v in plain.items()}
    path = BUILD / "design-start.safetensors"
    path.unlink(missing_ok=True)
    write_start(path, wanted, data, "design")
    trainer = Trainer(ddnb.load(path, device="cpu"), data, TrainingConfig(**wanted["training"] | {"ema_decay": 0.99}))
    if "without" in changes:
        _without(trainer.net, changes["without"])
    return trainer


def _without(net: Any, part: str) -> None:
    """Disable a part of the network, its cost included."""
    if part == "partials":
        net.partials.forward = lambda scaled, *_: torch.zeros_like(scaled)
    else:
        net._residual = lambda scaled, *_: torch.zeros_like(scaled)


def train(trainer: Trainer, seconds: float) -> int:
    """Train for some CPU time; return the number of steps."""
    began = time.process_time()
    while time.process_time() - began < seconds:
        trainer.train_step()
    return trainer.step


@torch.no_grad()
def errors(net: torch.nn.Module, sounds: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return the mean error of the clean estimate, dB re the sound: of tonal categories, and of the others."""
    found = torch.stack([torch.cat(list(_errors(net, sounds, labels, level))) for level in NOISE_LEVELS]).mean(0)
    tonal = torch.isin(labels, torch.tensor([CATEGORIES.index(name) for name in TONAL]))
    return found[tonal].mean().item(), found[~tonal].mean().item()


def _errors(net: torch.nn.Module, sounds: Tensor, labels: Tensor, level: float) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(0)
    for x0, label in zip(sounds.split(8), labels.split(8), strict=True):
        t = sigma_k_to_t(torch.tensor([level])).expand(len(x0))
        alpha, sigma = alpha_sigma(t[:, None, None])
        x = alpha * x0 + sigma * torch.randn(x0.shape, generator=generator)
        clean = alpha * x - sigma * net(x, t, torch.eye(len(CATEGORIES))[label][..., None])
        yield 10 * torch.log10((clean - x0).square().sum((1, 2)) / x0.square().sum((1, 2)))


def _pair(values: tuple[float, float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


if __name__ == "__main__":
    main()
