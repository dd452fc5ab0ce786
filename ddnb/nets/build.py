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


def build_network(state: Mapping[str, Tensor]) -> Network:
    """Return the network of a state dict; its parameters are the tensors of the state dict, not copies.

    Raises:
        KeyError: a name that every such network has is missing.
        ValueError: the names or shapes belong to no network.
    """
    kind = spectral if spectral.ANCHOR in state else unet
    config = kind.config_from_shapes({name: tuple(tensor.shape) for name, tensor in state.items()})
    net = build_empty(config)
    net.load_state_dict(state, assign=True)
    return net


def build_empty(config: Config) -> Network:
    """Return a network of this shape on the meta device: without numbers, in no memory."""
    with torch.device("meta"):
        return UNet(config) if isinstance(config, UNetConfig) else SpectralUNet(config)
