"""The published Dance Diffusion network, ``DiffusionAttnUnet1D``: same parameters, same names, same output.

A U-Net on the raw waveform. Level 1 works at the full rate; every further level halves it with a fixed
8-tap filter, so the total stride is ``2 ** (depth - 1)``. The noise level enters as constant input planes.

The layout and the names of the parameters are those of Harmonai's ``sample-generator`` (Zach Evans, MIT),
which follows Katherine Crowson's ``v-diffusion-pytorch`` (MIT). Two things are computed differently, with
the same result: the resampling filters run depthwise instead of as dense matrices that hold one tap per
channel (11 % of the original's arithmetic), and attention uses torch's fused kernel.

Inside, a signal is (B, C, 1, T): torch's channels-last layout, in which a CPU convolves a third faster, exists for
four dimensions only. It is not for training: a convolution's gradients take two and a half times as long in it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..errors import ArgumentError

ANCHOR = "timestep_embed.weight"
HEAD_WIDTH = 32
MULTI_THREADED_WIDTH = 256
"""Widest feature channels from which a second CPU thread pays off: the published network has 512."""

PLANE_WEIGHTS = ("net.0.main.0.weight", "net.0.skip.weight")
"""The only tensors whose shape depends on the number of conditioning planes, which are their last input channels."""

_CUBIC = (-0.01171875, -0.03515625, 0.11328125, 0.43359375, 0.43359375, 0.11328125, -0.03515625, -0.01171875)


@dataclass(frozen=True)
class UNetConfig:
    """Shape of a network; the defaults are the six published models.

    Attributes:
        channels: audio channels.
        widths: feature channels of each level, level 1 first; its length is the depth.
        attention_levels: levels (2 .. depth) with self-attention.
        planes: extra input planes for conditioning (the original's ``latent_dim``).
        time_features: planes that carry the noise level, an even number.
        ascends_first: whether a level with attention takes the width of the level above in the first of its blocks on
            the way up, as diffusers builds it, and not in the last. The same where the two widths are equal.
    """

    channels: int = 2
    widths: tuple[int, ...] = (128, 128, 256, 256) + (512,) * 10
    attention_levels: tuple[int, ...] = (9, 10, 11, 12, 13, 14)
    planes: int = 0
    time_features: int = 16
    ascends_first: bool = False

    @property
    def depth(self) -> int:
        return len(self.widths)

    @property
    def stride(self) -> int:
        """Frames per step of the deepest level: legal lengths are multiples of it."""
        return 2 ** (self.depth - 1)

    @property
    def min_frames(self) -> int:
        """Shortest legal length: reflecting two frames at the deepest level needs three of them."""
        return 3 * self.stride

    @property
    def min_loop_frames(self) -> int:
        """Shortest legal loop: its two ends are taken from each other, two frames of them."""
        return 2 * self.stride

    def legal_frames(self, frames: int) -> int:
        """Return the shortest legal length of at least ``frames``."""
        return max(math.ceil(frames / self.stride) * self.stride, self.min_frames)


def config_from_shapes(shapes: Mapping[str, tuple[int, ...]]) -> UNetConfig:
    """Read a network's configuration off the names and shapes of its state dict.

    Args:
        shapes: parameter name (``timestep_embed.weight``, ``net.0.main.0.weight``, ...) -> shape.

    Returns:
        The one configuration with these shapes.

    Raises:
        KeyError: a name that every such network has is missing.
        ArgumentError: the names or shapes belong to no such network.
    """
    time_features = 2 * shapes["timestep_embed.weight"][0]
    widths = [shapes["net.0.main.0.weight"][0]]
    attention = []
    while (level := len(widths) + 1) and (first := f"{level_prefix(level)}1.main.0.weight") in shapes:
        widths.append(shapes[first][0])
        if f"{level_prefix(level)}2.qkv_proj.weight" in shapes:
            attention.append(level)
    if len(widths) < 2:
        raise ArgumentError("a network of one level, where at least two are needed")
    last = max(int(m[1]) for name in shapes if (m := re.match(r"net\.(\d+)\.", name)))
    channels = shapes[f"net.{last}.main.3.weight"][0]
    planes = shapes["net.0.main.0.weight"][1] - channels - time_features
    if planes < 0:
        raise ArgumentError("its first layer has fewer inputs than audio channels and noise level need")
    ascents = {shapes[f"{level_prefix(level)}8.main.0.weight"][0] == widths[level - 1] for level in attention}
    config = UNetConfig(channels, tuple(widths), tuple(attention), planes, time_features, False in ascents)
    with torch.device("meta"):
        require_shapes(UNet(config), shapes)
    return config


def require_shapes(net: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ValueError unless a network's parameters have these names and shapes."""
    expected = {name: tuple(p.shape) for name, p in net.state_dict().items()}
    if wrong := {k for k in expected.keys() | shapes.keys() if expected.get(k) != tuple(shapes.get(k, ()))}:
        name = min(wrong)
        raise ArgumentError(
            f"{len(wrong)} of {len(expected)} tensors do not fit, the first is {name}: "
            f"{tuple(shapes[name]) if name in shapes else 'missing'} in the file, "
            f"{expected.get(name, 'nothing')} in the network"
        )


def with_planes(state: Mapping[str, Tensor], planes: int) -> dict[str, Tensor]:
    """Give a network ``planes`` more conditioning planes that change nothing until it is trained.

    Only the two tensors that see the input grow; their new columns are zero, so whatever the planes hold, the output
    is that of the network before.

    Args:
        state: a state dict under the published names.
        planes: how many to add.

    Returns:
        A new state dict; the other tensors are shared with ``state``.
    """
    wide = dict(state)
    for name in PLANE_WEIGHTS:
        weight = state[name]
        wide[name] = torch.cat([weight, weight.new_zeros(weight.shape[0], planes, weight.shape[2])], dim=1)
    return wide


def recompute(net: UNet, levels: int) -> None:
    """Recompute the activations of the first ``levels`` levels in the backward pass instead of keeping them.

    In the published network the top four levels hold 80 % of the activations for 58 % of the arithmetic.
    """
    for name, module in net.named_modules():
        if isinstance(module, ResConvBlock):
            module.recompute = _level_of(name) <= levels


def _level_of(name: str) -> int:
    """Return the level of a module: ``net.0`` is on level 1, ``net.3.main.1`` on 2, ``net.3.main.7.main.1`` on 3."""
    return 1 + name.count("main.") if name.startswith("net.3.") else 1


def level_prefix(level: int) -> str:
    """Return the state dict's name of level ``level`` (2 .. depth); each level is nested in the one above."""
    return "net.3.main." + "7.main." * (level - 2)


class UNet(nn.Module):
    """The published network: ``net(x, t, cond, circular) -> v``.

    Position enters through the padding alone, so for a loop (``circular=True``) shifting the input by a multiple of
    ``stride`` shifts the output.
    """

    anchored = False
    tones = None
    trained_times = "crash"
    sampling = "iplms", 25
    plane_weights = PLANE_WEIGHTS
    with_planes = staticmethod(with_planes)

    def __init__(self, config: UNetConfig):
        super().__init__()
        self.config = config
        self.timestep_embed = FourierFeatures(config.time_features)
        inner: nn.Module = nn.Identity()
        for level in range(config.depth, 1, -1):
            inner = _level(config, level, inner)
        wide = config.widths[0]
        self.net = Chain(
            ResConvBlock(config.channels + config.time_features + config.planes, wide, wide),
            ResConvBlock(wide, wide, wide),
            ResConvBlock(wide, wide, wide),
            inner,
            ResConvBlock(2 * wide, wide, wide),
            ResConvBlock(wide, wide, wide),
            ResConvBlock(wide, wide, config.channels, is_last=True),
        )

    @property
    def single_threaded(self) -> bool:
        """Return whether a second CPU thread brings nothing, see ``threads``."""
        return max(self.config.widths) < MULTI_THREADED_WIDTH

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None, circular: bool = False) -> Tensor:
        """Predict ``v``.

        Args:
            x: noisy audio, (B, channels, T) with T a legal length.
            t: times, (B,), float32.
            cond: conditioning planes, (B, planes, any length), interpolated linearly to T; None means zeros.
            circular: whether the sound is a loop, whose end is followed by its beginning.

        Returns:
            v, of the shape and dtype of ``x``.

        Raises:
            ArgumentError: an illegal length, or planes that the network does not have.
        """
        batch, _, frames = x.shape
        least = self.config.min_loop_frames if circular else self.config.min_frames
        if frames % self.config.stride or frames < least:
            raise ArgumentError(
                f"{frames} frames: this network takes multiples of {self.config.stride} from {least} up; the next one "
                f"is {self.config.legal_frames(frames)}."
            )
        planes = [x, self.timestep_embed(t).to(x.dtype)[..., None].expand(-1, -1, frames)]
        if cond is None and self.config.planes:
            cond = x.new_zeros(batch, self.config.planes, 1)
        if cond is not None:
            if cond.shape[1] != self.config.planes:
                raise ArgumentError(f"cond has {cond.shape[1]} planes, this network has {self.config.planes}.")
            planes.append(F.interpolate(cond.to(x.dtype), frames, mode="linear", align_corners=False))
        listening = x.device.type == "cpu" and not torch.is_grad_enabled()
        layout = torch.channels_last if listening else torch.contiguous_format
        wide = torch.cat(planes, dim=1)[:, :, None].contiguous(memory_format=layout)
        return self.net(wide, circular)[:, :, 0].contiguous()

    def loss(
        self, v: Tensor, target: Tensor, x: Tensor, t: Tensor, cond: Tensor | None, circular: bool = False
    ) -> Tensor:
        """Return the mean squared error of v, on which the published networks were trained."""
        return F.mse_loss(v.float(), target)

    def in_precision(self, dtype: torch.dtype) -> torch.dtype:
        """Compute in ``dtype`` from now on, except for the noise level's features; returns ``dtype``."""
        self.net.to(dtype)
        return dtype


class FourierFeatures(nn.Module):
    """Fourier features of time: cosines and sines of ``2 pi t w``, always in float32; (B,) -> (B, n)."""

    def __init__(self, n: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n // 2, 1))

    def forward(self, t: Tensor) -> Tensor:
        angle = 2 * math.pi * t.float()[:, None] * self.weight.float().T  # (B, n / 2)
        return torch.cat([angle.cos(), angle.sin()], dim=-1)


class Chain(nn.Sequential):
    """Modules one after another, each told whether the signal is circular if it takes that argument."""

    def forward(self, x: Tensor, circular: bool = False) -> Tensor:
        for module in self:
            x = module(x, circular) if isinstance(module, _CIRCULAR) else module(x)
        return x


class Conv(nn.Conv1d):
    """A convolution over frames, of (B, C, 1, T); its weight is that of a ``Conv1d``."""

    def forward(self, x: Tensor, circular: bool = False) -> Tensor:
        reach = int(self.padding[0])
        if circular:
            return F.conv2d(_wrap(x, reach), self.weight[:, :, None], self.bias)
        return F.conv2d(x, self.weight[:, :, None], self.bias, padding=(0, reach))


class ResConvBlock(nn.Module):
    """Two conv-GroupNorm-GELU layers of five taps with a residual."""

    recompute = False

    def __init__(self, c_in: int, c_mid: int, c_out: int, is_last: bool = False):
        super().__init__()
        tail: list[nn.Module] = [] if is_last else [nn.GroupNorm(1, c_out), nn.GELU()]
        self.main = Chain(
            Conv(c_in, c_mid, 5, padding=2),
            nn.GroupNorm(1, c_mid),
            nn.GELU(),
            Conv(c_mid, c_out, 5, padding=2),
            *tail,
        )
        self.skip = nn.Identity() if c_in == c_out else Conv(c_in, c_out, 1, bias=False)

    def forward(self, x: Tensor, circular: bool = False) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(self._forward, x, circular, use_reentrant=False, preserve_rng_state=False)
        return self._forward(x, circular)

    def _forward(self, x: Tensor, circular: bool) -> Tensor:
        return self.main(x, circular) + self.skip(x)


class SelfAttention1d(nn.Module):
    """Self-attention over frames in heads of 32 channels; without positions, so it is shift-equivariant."""

    def __init__(self, channels: int):
        super().__init__()
        self.heads = channels // HEAD_WIDTH
        self.norm = nn.GroupNorm(1, channels)
        self.qkv_proj = Conv(channels, 3 * channels, 1)
        self.out_proj = Conv(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, _, frames = x.shape
        qkv = self.qkv_proj(self.norm(x)).view(batch, 3 * self.heads, channels // self.heads, frames)
        q, k, v = qkv.transpose(2, 3).contiguous().chunk(3, dim=1)  # each (B, heads, T, 32); fused kernels want rows
        y = F.scaled_dot_product_attention(q, k, v)
        return x + self.out_proj(y.transpose(2, 3).reshape(x.shape))


class Downsample1d(nn.Module):
    """Halve the rate with the stored filter, channel by channel; (B, C, 1, T) -> (B, C, 1, T / 2)."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.tensor(_CUBIC))

    def forward(self, x: Tensor, circular: bool = False) -> Tensor:
        padded = _wrap(x, 3) if circular else F.pad(x, (3, 3, 0, 0), "reflect")
        return F.conv2d(padded, _per_channel(self.kernel, x), stride=(1, 2), groups=x.shape[1])


class Upsample1d(nn.Module):
    """Double the rate with the stored filter, channel by channel; (B, C, 1, T) -> (B, C, 1, 2 T)."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.tensor([2 * tap for tap in _CUBIC]))

    def forward(self, x: Tensor, circular: bool = False) -> Tensor:
        padded = _wrap(x, 2) if circular else F.pad(x, (2, 2, 0, 0), "reflect")
        weight = _per_channel(self.kernel, x)
        return F.conv_transpose2d(padded, weight, stride=(1, 2), padding=(0, 7), groups=x.shape[1])


def _wrap(x: Tensor, reach: int) -> Tensor:
    """Pad circularly: so many frames of each end are repeated beyond the other one."""
    return torch.cat([x[..., -reach:], x, x[..., :reach]], -1) if reach else x


def _per_channel(kernel: Tensor, x: Tensor) -> Tensor:
    """Repeat the filter for each channel of ``x``, (C, 1, 1, taps); contiguous, or the convolution is slow."""
    return kernel.to(x.dtype).expand(x.shape[1], 1, 1, -1).contiguous()


class SkipBlock(nn.Module):
    """A level of the U-Net: the output of its modules, concatenated with its input."""

    def __init__(self, *main: nn.Module):
        super().__init__()
        self.main = Chain(*main)

    def forward(self, x: Tensor, circular: bool = False) -> Tensor:
        return torch.cat([self.main(x, circular), x], dim=1)


_CIRCULAR = (Conv, ResConvBlock, Downsample1d, Upsample1d, SkipBlock)


def _level(config: UNetConfig, level: int, inner: nn.Module) -> SkipBlock:
    """Build level ``level`` around the levels below it. Identities keep the published numbering of the modules."""
    above, width = config.widths[level - 2], config.widths[level - 1]

    def attention(channels: int) -> nn.Module:
        return SelfAttention1d(channels) if level in config.attention_levels else nn.Identity()

    modules: list[nn.Module] = [Downsample1d()]
    for c_in in (above, width, width):
        modules += [ResConvBlock(c_in, width, width), attention(width)]
    modules.append(inner)
    joined = width if level == config.depth else 2 * width
    if config.ascends_first and level in config.attention_levels:
        ascent = [(joined, above, above), (above, above, above), (above, above, above)]
    else:
        ascent = [(joined, width, width), (width, width, width), (width, width, above)]
    for c_in, c_mid, c_out in ascent:
        modules += [ResConvBlock(c_in, c_mid, c_out), attention(c_out)]
    return SkipBlock(*modules, Upsample1d())
