"""TODO training/memory."""

from __future__ import annotations

import torch
from torch import Tensor

from ..nets.build import Config, empty
from ..nets.unet import recompute


def activation_bytes(config: Config, frames: int, recompute_levels: int = 0) -> int:
    """Memory that one clip's activations take in training, in float32, counted without computing anything."""
    net = empty(config)
    recompute(net, recompute_levels)
    own = {p.untyped_storage()._cdata for p in net.state_dict(keep_vars=True).values()}
    kept: dict[int, Tensor] = {}

    def count(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage()._cdata not in own:
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    x = torch.empty(1, config.channels, frames, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        net(x, torch.empty(1, device="meta"))
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
