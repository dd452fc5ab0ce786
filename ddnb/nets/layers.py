"""Layers of the built-in network: convolutions, residual blocks and attention over frames, on a line or on a circle.

Source of FiLM: Perez et al. 2018 (arXiv 1709.07871).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEAD_WIDTH = 32


class Conv(nn.Conv1d):
    """A convolution that keeps the length; it is padded with zeros or, for a loop, circularly."""

    def __init__(self, c_in: int, c_out: int, taps: int):
        super().__init__(c_in, c_out, taps)

    def forward(self, x: Tensor, circular: bool) -> Tensor:  # type: ignore[override]
        reach = self.kernel_size[0] // 2
        if circular:
            return F.conv1d(F.pad(x, (reach, reach), "circular"), self.weight, self.bias)
        return F.conv1d(x, self.weight, self.bias, padding=reach)


class Block(nn.Module):
    """Two convolutions with a residual; noise level and category scale and shift the features between them (FiLM)."""

    def __init__(self, c_in: int, c_out: int, embedding: int):
        super().__init__()
        self.enter, self.leave = Conv(c_in, c_out, 3), Conv(c_out, c_out, 3)
        self.film = nn.Linear(embedding, 2 * c_out)
        self.skip = nn.Identity() if c_in == c_out else nn.Conv1d(c_in, c_out, 1, bias=False)
        set_to_zero(self.leave)

    def forward(self, x: Tensor, e: Tensor, circular: bool) -> Tensor:
        scale, shift = self.film(e)[..., None].chunk(2, 1)
        h = normalize(self.enter(F.silu(normalize(x)), circular))
        return self.skip(x) + self.leave(F.silu(torch.addcmul(shift, h, 1 + scale)), circular)


class Attention(nn.Module):
    """Self-attention over frames in heads of 32 channels; without positions, so it is shift-equivariant."""

    def __init__(self, channels: int):
        super().__init__()
        self.heads = channels // HEAD_WIDTH
        self.qkv, self.out = nn.Conv1d(channels, 3 * channels, 1), nn.Conv1d(channels, channels, 1)
        set_to_zero(self.out)

    def forward(self, x: Tensor, e: Tensor, circular: bool) -> Tensor:
        batch, channels, frames = x.shape
        qkv = self.qkv(normalize(x)).view(batch, 3 * self.heads, channels // self.heads, frames)
        q, k, v = qkv.transpose(2, 3).chunk(3, dim=1)
        return x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(x.shape))


def normalize(x: Tensor) -> Tensor:
    """Normalise each frame to a mean square of 1 over its channels, so that the length of the sound does not matter.

    Source: Zhang & Sennrich 2019 (arXiv 1910.07467).
    """
    return x * (x.float().square().mean(1, keepdim=True) + 1e-5).rsqrt().to(x.dtype)


def set_to_zero(layer: nn.Module) -> None:
    """Set all parameters to zero, so that the layer adds nothing before training."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
