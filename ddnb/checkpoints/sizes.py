"""Judge what a checkpoint states by the size of its files, before any of it is copied or built."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError

MOST_TEXT = 1 << 20
"""Characters of a JSON text inside a checkpoint; parsed, it takes up to thirty times as many bytes."""

_MOST_JSON = 8 << 20  # bytes of a JSON file
_MOST_NAME = 250  # characters: each level of the U-Net adds seven, and the 32nd has 230
_MOST_TENSORS = 20_000


def parse_json(text: str | bytes) -> Any:
    """Return the content of a JSON text.

    Raises:
        ValueError: it is no JSON, or nested without end.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        ValueError: it is no JSON, nested without end, or far longer than settings are.
    """
    if (size := path.stat().st_size) > _MOST_JSON:
        raise ValueError(f"{size / 1e6:.0f} MB long, where {_MOST_JSON >> 20} MiB are read")
    return parse_json(path.read_bytes().decode("utf-8-sig"))


def require_stored(path: Path, state: Mapping[str, Tensor], stored: int) -> None:
    """Check that the tensors of a network are plain ones, and that its files hold all of their numbers.

    A tensor may repeat one number a billion times, overlap with others, or have no numbers and a side of any length.

    Args:
        path: of the checkpoint.
        state: one network.
        stored: bytes of all its files.

    Raises:
        CheckpointError: they are not.
    """
    if len(state) > _MOST_TENSORS:
        raise CheckpointError(f"{path.name} holds a network of {len(state):,} tensors; {_MOST_TENSORS:,} are possible.")
    total = 0
    for name, tensor in state.items():
        if tensor.layout is not torch.strided or tensor.device.type != "cpu" or len(name) > _MOST_NAME:
            raise CheckpointError(
                f"{path.name} is not a Dance Diffusion network: {name[:_MOST_NAME]} is of a kind, or at a depth, that "
                "no such network has."
            )
        size = tensor.element_size() * math.prod(max(1, side) for side in tensor.shape)
        total += size if tensor.numel() else 0
        if max(size, total) > stored:
            raise CheckpointError(
                f"{path.name} holds {stored / 1e6:.3g} MB, and its tensors would take more than that ({name}: "
                f"{list(tensor.shape)}): they repeat what is stored, which no training code does."
            )
