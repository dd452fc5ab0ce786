"""A small network whose categories have any names."""

import json
from pathlib import Path

import torch
from conftest import DATA
from safetensors.torch import save_file

from ddnb.nets.unet import with_planes


def write_named(path: Path, categories: list[str], **facts: str) -> Path:
    """Write the reference network with these categories; return the path of its file."""
    state = torch.load(DATA / "lightning.ckpt", weights_only=True)["state_dict"]
    ema = {k.removeprefix("diffusion_ema."): v for k, v in state.items() if k.startswith("diffusion_ema.")}
    about = {"sample_rate": 48000, "frames": 4096, "categories": categories, **facts}
    save_file(with_planes(ema, len(categories)), path, {"ddnb": json.dumps(about)})
    return path
