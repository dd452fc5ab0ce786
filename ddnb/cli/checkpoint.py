"""TODO cli/checkpoint."""

from __future__ import annotations

import argparse
import sys

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.loading import load
from ..runtime import pick
from .progress import _Bar


def _ready(arguments: argparse.Namespace) -> Checkpoint:
    """The checkpoint, introduced."""
    ckpt = _load(arguments)
    print(f"ddnb: {ckpt!r}\nddnb: {pick(arguments.device, arguments.dtype).reason}", file=sys.stderr)
    return ckpt


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
