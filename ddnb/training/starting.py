"""The starting point of a training: settings that were left open, and a trainable copy of the checkpoint's network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.loading import load
from ..errors import ArgumentError, DatasetError
from ..nets.build import Network, build_empty
from ..nets.lora import add_columns, add_low_rank
from ..nets.spectral import SpectralUNet
from ..nets.unet import UNet, recompute
from .batches import should_crop
from .components import sizes_of
from .config import LearningConfig, TrainingConfig
from .dataset import MAX_CATEGORIES, Dataset

_WEIGHT_DECAY = 0.01
_SMALL = 20e6  # parameters; the published networks have 221 million


def choose_settings(config: TrainingConfig, ckpt: Checkpoint, data: Dataset) -> TrainingConfig:
    """Return the settings with those that are None chosen, except for the batch size, which needs the network."""
    rate = _usual_rate(ckpt, bool(config.lora_rank))
    folders = len(data.categories)
    choices: dict[str, Any] = {
        "learning_rate": rate,
        "times": ckpt.net.trained_times,
        "crop": should_crop(data, ckpt.frames),
        "categories": folders > 1 or (folders == 1 and bool(ckpt.categories)),
    }
    if config.fit and (not isinstance(ckpt.net, SpectralUNet) or config.categories is False):
        raise ArgumentError(
            f"fit=True: {ckpt.name} cannot be fitted; leave it out."
            if config.categories is not False
            else "fit=True with categories=False: only categories are fitted; leave one of them out."
        )
    can_fit = isinstance(ckpt.net, SpectralUNet) and not ckpt.info.get("untrained")
    choices["fit"] = can_fit and bool(choices["categories"] if config.categories is None else config.categories)
    return replace(config, **{name: value for name, value in choices.items() if getattr(config, name) is None})


def _usual_rate(ckpt: Checkpoint, lora: bool) -> float:
    """Return the learning rate that suits a network: small ones learn at higher rates, see bench/results/folder.md."""
    small = sum(p.numel() for p in ckpt.net.parameters()) < _SMALL
    if lora:
        return 1e-3 if small else 2e-4
    if ckpt.info.get("untrained") or isinstance(ckpt.net, SpectralUNet):
        return 5e-4
    return 2e-4 if small else 4e-5


def check_sizes(config: TrainingConfig, ckpt: Checkpoint, categories: int) -> None:
    """Check that clips and categories have sizes that can be trained.

    Raises:
        ArgumentError: ``shorten`` asks for clips that the network cannot make.
        DatasetError: too many class folders.
    """
    if config.shorten > 1 and ckpt.frames != config.shorten * ckpt.legal_frames(ckpt.frames // config.shorten):
        raise ArgumentError(
            f"shorten={config.shorten}: {ckpt.name} cannot make clips of this fraction of its {ckpt.frames} frames."
        )
    if categories > MAX_CATEGORIES:
        raise DatasetError(f"{categories} class folders: expected at most {MAX_CATEGORIES}, or categories=False.")


def copy_for_training(
    ckpt: Checkpoint,
    new_categories: int,
    config: LearningConfig,
    device: torch.device,
    components: Mapping[str, Tensor],
) -> Network:
    """Return the checkpoint's network in float32 with planes for new categories, other components and LoRA.

    With LoRA it shares the frozen weights with the checkpoint, if device and precision allow; else all are copies.

    Args:
        components: those of a network that is fitted; empty to keep those that it has.
    """
    exact = load_full_precision(ckpt)
    own = not config.lora_rank  # frozen weights are only read
    state = exact.net.with_planes(exact.net.state_dict(), new_categories) | dict(components)
    sizes = {"planes": exact.net.config.planes + new_categories} | (sizes_of(state) if components else {})
    net = build_empty(replace(exact.net.config, **sizes))  # type: ignore[arg-type]
    state = {k: v.detach().to(device, torch.float32, copy=own) for k, v in state.items()}
    net.load_state_dict(state, assign=True)
    add_columns(net, new_categories)
    if config.lora_rank:
        add_low_rank(net, config.lora_rank, config.seed)
    if isinstance(net, UNet):
        recompute(net, config.recompute_levels)
    return net.train()


def load_full_precision(ckpt: Checkpoint) -> Checkpoint:
    """Return the checkpoint in float32: half precision is good enough to generate with, not to learn from."""
    if ckpt.dtype == torch.float32:
        return ckpt
    source = ckpt.info["source"]
    return load(source, device="cpu", dtype="float32", sample_rate=ckpt.sample_rate, frames=ckpt.frames)


def make_optimizer(parameters: Iterable[nn.Parameter], learning_rate: float, device: torch.device) -> torch.optim.AdamW:
    """Return AdamW with weight decay on matrices and kernels, but not on vectors such as biases."""
    parameters = list(parameters)
    matrices, vectors = ([p for p in parameters if (p.ndim > 1) == is_matrix] for is_matrix in (True, False))
    groups = [{"params": matrices, "weight_decay": _WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, fused=device.type in ("cpu", "cuda"))
