"""Build a network from its state dict: the two kinds are distinguished by the names of their parameters."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from . import spectral, unet
from .spectral import SpectralConfig, SpectralUNet
from .unet import UNet, UNetConfig

Network = UNet | SpectralUNet
Config = UNetConfig | SpectralConfig

_ALIGNMENT = 64  # bytes


def build_network(state: Mapping[str, Tensor]) -> Network:
    """Return the network of a state dict; the parameters of a published one are its tensors, not copies.

    Raises:
        KeyError: a name that every such network has is missing.
        ValueError: the names or shapes belong to no network.
    """
    kind = spectral if spectral.ANCHOR in state else unet
    config = kind.config_from_shapes({name: tuple(tensor.shape) for name, tensor in state.items()})
    net = build_empty(config)
    if kind is spectral:
        state = {name: _aligned(tensor) for name, tensor in state.items()}
    net.load_state_dict(state, assign=True)
    return net


def _aligned(tensor: Tensor) -> Tensor:
    """Return a tensor at an address where PyTorch puts its own; in a mapped file, rounding depends on the header."""
    return tensor if tensor.is_meta or tensor.data_ptr() % _ALIGNMENT == 0 else tensor.clone()


def build_empty(config: Config) -> Network:
    """Return a network of this shape on the meta device: without numbers, in no memory."""
    with torch.device("meta"):
        return UNet(config) if isinstance(config, UNetConfig) else SpectralUNet(config)
