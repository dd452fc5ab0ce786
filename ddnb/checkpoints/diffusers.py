"""diffusers' names and configuration files of the same network.

Only names and shapes differ: diffusers numbers the levels where the published state dict nests them, and separates the
three parts of an attention projection.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import ArgumentError
from ..nets.unet import UNetConfig, level_prefix

ANCHOR = "time_proj.weight"
MAX_DEPTH = 32

_LEAVES = {
    "conv_1": "main.0",
    "group_norm_1": "main.1",
    "conv_2": "main.3",
    "group_norm_2": "main.4",
    "conv_skip": "skip",
    "group_norm": "norm",
    "proj_attn": "out_proj",
}


def from_diffusers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a diffusers state dict under the published names.

    Raises:
        ValueError: a part that the Dance Diffusion network does not have.
    """
    depth = 2 + max((int(name.split(".")[1]) for name in state if name.startswith("down_blocks.")), default=0)
    if depth > MAX_DEPTH:
        raise ValueError(f"its diffusers U-Net would have {depth} levels")
    modules = _modules(depth)
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        module, leaf, kind = _split(name)
        if module not in modules:
            raise ValueError(f"its diffusers U-Net has a part named {name}")
        ours = modules[module]
        if name == ANCHOR:
            renamed[f"{ours}.weight"] = tensor[:, None]
        elif leaf in ("query", "key", "value"):
            if leaf == "query":
                parts = [state.get(f"{module}.{part}.{kind}", tensor[:0]) for part in ("query", "key", "value")]
                renamed[f"{ours}.qkv_proj.{kind}"] = _as_conv(torch.cat(parts))
        elif leaf == "proj_attn":
            renamed[f"{ours}.out_proj.{kind}"] = _as_conv(tensor)
        else:
            renamed[".".join(filter(None, (ours, _LEAVES.get(leaf, leaf), kind)))] = tensor
    return renamed


def to_diffusers(state: Mapping[str, Tensor], depth: int) -> dict[str, Tensor]:
    """Return a published state dict of ``depth`` levels under diffusers' names."""
    modules = {ours: theirs for theirs, ours in _modules(depth).items()}
    leaves = {ours: theirs for theirs, ours in _LEAVES.items()}
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        ours = max((m for m in modules if name.startswith(m + ".")), key=len)
        leaf, _, kind = name.removeprefix(ours + ".").rpartition(".")
        if ours == "timestep_embed":
            renamed[ANCHOR] = tensor.flatten()
        elif leaf == "qkv_proj":
            for part, third in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                renamed[f"{modules[ours]}.{part}.{kind}"] = third.flatten(1) if third.ndim == 3 else third
        elif leaf == "out_proj":
            renamed[f"{modules[ours]}.proj_attn.{kind}"] = tensor.flatten(1) if tensor.ndim == 3 else tensor
        else:
            renamed[".".join(filter(None, (modules[ours], leaves.get(leaf, leaf), kind)))] = tensor
    return {name: tensor.contiguous() for name, tensor in renamed.items()}


def diffusers_configs(config: UNetConfig, facts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the JSON files of a pipeline folder, by their paths in it.

    They state ``time_embedding_dim``, as its default in diffusers 0.36 differs from the published networks': the
    folders of 2022, which do not state it, do not open there any more.

    Args:
        config: the network's configuration.
        facts: ``sample_rate`` (Hz) and ``frames``.

    Raises:
        ArgumentError: a network that diffusers' ``UNet1DModel`` cannot hold.
    """
    if config.planes:
        raise ArgumentError(
            f"The network has {config.planes} categories, which diffusers' pipeline does not support. Convert it to a "
            ".ckpt or .safetensors, or train with categories=False (--no-categories)."
        )
    if config.widths[-1] != config.widths[-2] or config.depth not in config.attention_levels:
        raise ArgumentError("diffusers needs the two deepest levels of one width, and attention at the deepest.")
    changes = [level for level in config.attention_levels if config.widths[level - 1] != config.widths[level - 2]]
    if changes and not config.ascends_first:
        raise ArgumentError(
            f"Level {changes[0]} has attention and another width than the level above: diffusers builds such a level "
            "with other blocks. Convert to a .ckpt or .safetensors."
        )
    attention = ["Attn" if level in config.attention_levels else "" for level in range(2, config.depth)]
    unet = {
        "_class_name": "UNet1DModel",
        "sample_rate": facts["sample_rate"],
        "sample_size": facts["frames"],
        "in_channels": config.channels,
        "out_channels": config.channels,
        "extra_in_channels": config.time_features,
        "time_embedding_type": "fourier",
        "time_embedding_dim": config.time_features,
        "flip_sin_to_cos": True,
        "use_timestep_embedding": False,
        "freq_shift": 0.0,
        "down_block_types": ["DownBlock1DNoSkip", *(f"{a}DownBlock1D" for a in attention)],
        "up_block_types": [*(f"{a}UpBlock1D" for a in reversed(attention)), "UpBlock1DNoSkip"],
        "mid_block_type": "UNetMidBlock1D",
        "out_block_type": None,
        "block_out_channels": list(config.widths[:-1]),
        "act_fn": None,
        "norm_num_groups": 8,
        "layers_per_block": 1,
        "downsample_each_block": False,
    }
    pipeline = {
        "_class_name": "DanceDiffusionPipeline",
        "scheduler": ["diffusers", "IPNDMScheduler"],
        "unet": ["diffusers", "UNet1DModel"],
    }
    scheduler = {"_class_name": "IPNDMScheduler", "num_train_timesteps": 1000, "trained_betas": None}
    return {
        "model_index.json": pipeline,
        "unet/config.json": unet,
        "scheduler/scheduler_config.json": scheduler,
    }


def _modules(depth: int) -> dict[str, str]:
    """Return the module names of diffusers' ``UNet1DModel`` -> published names, for a network of this depth.

    A level has three convolution blocks on its way down and three on its way up; diffusers calls the deepest one, with
    both halves, ``mid_block``.
    """
    names = {"time_proj": "timestep_embed"}
    for j in range(3):
        names[f"down_blocks.0.resnets.{j}"] = f"net.{j}"
        names[f"up_blocks.{depth - 2}.resnets.{j}"] = f"net.{4 + j}"
    for level in range(2, depth + 1):
        deepest, ours = level == depth, level_prefix(level)
        down = "mid_block" if deepest else f"down_blocks.{level - 1}"
        up = "mid_block" if deepest else f"up_blocks.{depth - 1 - level}"
        names |= {f"{down}.down": f"{ours}0", f"{up}.up": f"{ours}14"}
        for j in range(3):
            k = j + 3 if deepest else j
            names |= {f"{down}.resnets.{j}": f"{ours}{1 + 2 * j}", f"{down}.attentions.{j}": f"{ours}{2 + 2 * j}"}
            names |= {f"{up}.resnets.{k}": f"{ours}{8 + 2 * j}", f"{up}.attentions.{k}": f"{ours}{9 + 2 * j}"}
    return names


def _split(name: str) -> tuple[str, str, str]:
    """Split ``down_blocks.1.resnets.0.conv_1.weight`` into its module, its leaf (may be empty) and the last word."""
    module, _, kind = name.rpartition(".")
    head, _, leaf = module.rpartition(".")
    return (head, leaf, kind) if leaf in {*_LEAVES, "query", "key", "value"} else (module, "", kind)


def _as_conv(tensor: Tensor) -> Tensor:
    """Return a linear layer's weight as that of a convolution with one tap."""
    return tensor[..., None] if tensor.ndim == 2 else tensor
