"""Memory that training takes, counted without computing anything."""

from __future__ import annotations

import psutil
import torch
from torch import Tensor

from ..nets.build import Config, build_empty
from ..nets.unet import UNet, recompute

_MAX_CPU_BATCH = 4  # a larger one is no faster


def activation_bytes(config: Config, frames: int, recompute_levels: int = 0) -> int:
    """Count the bytes of the activations that one clip keeps for the backward pass, in float32.

    Args:
        config: the network.
        frames: length of the clip.
        recompute_levels: levels whose activations are recomputed instead of kept.
    """
    net = build_empty(config)
    if isinstance(net, UNet):
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


def cpu_batch_size(clip_bytes: int, state_bytes: int, processes: int) -> int:
    """Return the batch size, 1 to 4, that half of the free main memory holds.

    It is not found by trying, as on a GPU: a system that runs out of main memory kills the process.

    Args:
        clip_bytes: activations of one clip.
        state_bytes: weights, average and moments of one process.
        processes: how many share the memory.
    """
    share = psutil.virtual_memory().available / 2 / processes
    return int(min(_MAX_CPU_BATCH, max(1, (share - state_bytes) // clip_bytes)))
