"""A small class-conditional network on a short orthonormal spectrum: what the embedded default is made of.

From outside it is like the published network, ``net(x, t, cond) -> v`` on the waveform. Inside it works on the MDCT of
the waveform, in which white noise stays white: every sampler, loop, inpainting and interpolation works unchanged.

Four things make it learn from few examples:

*   Prior. The training sounds of each category are summed up by a few envelopes (level per band and time). The noisy
    input tells how likely each is, by Bayes' rule, and so how loud the clean sound is here and now.
*   Preconditioning. With that level S every coefficient is scaled to unit variance, at every noise level, and the
    network F only adds what a Wiener filter of these levels does not know already::

        V = k X - c F(X / sqrt(alpha^2 S^2 + sigma^2))
        k = alpha sigma (1 - S^2) / (alpha^2 S^2 + sigma^2)        c = S / sqrt(alpha^2 S^2 + sigma^2)

    where S is tiny the sound is silent, whatever F says.
*   Partials. Short frames cannot tell one tone from the next. The same scaled input in a spectrum of 21.5 Hz wide lines
    can: which of them stand out is learned ten times as fast as by the U-Net, and corrects the Wiener filter.
*   Frames. A U-Net over 512 frames of 128 bands costs a hundredth of one over 65,536 samples.

Sources: the preconditioning is that of Karras et al. 2022 (arXiv 2206.00364, table 1) written for v, with a level per
coefficient; the MDCT, Princen & Bradley 1986, with Malvar's sine window; FiLM, Perez et al. 2018 (arXiv 1709.07871).
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..schedule import alpha_sigma
from .mdct import inverse_mdct, mdct
from .prior import Prior, band_edges
from .unet import require_shapes

ANCHOR = "prior.log_levels"
HEAD_WIDTH = 32
RAMPS = (4.0, 16.0, 64.0, 256.0, 1024.0)
"""Frames in which the input planes that tell the time since the beginning fall to 1/e."""

TURNS = tuple(2 ** (i * 5 / 31 - 2) for i in range(32))
"""Frequencies of the features that tell the noise level, over half of its range."""

FINER = 8
"""Bands of the longer spectrum per band: at hop 128 and 44.1 kHz they are 21.5 Hz wide."""

_STANDS_OUT = 8.0  # |d|
_NOISIEST, _CLEANEST = 2.0, 0.01  # r beyond which nothing is added: there F does not matter, or blows up
_AUDIBLE = 0.3  # exponent by which loud coefficients weigh more in the loss
_OUTLIER = 5  # deviations: what no level foresaw would outweigh all the rest in the loss
_LOG_SIGMA = (-10.0, 4.0)


@dataclass(frozen=True)
class SpectralConfig:
    """Shape of a network.

    Attributes:
        hop: samples per frame, and bands.
        widths: feature channels of each level, the finest first; each further level has a fourth of the frames.
        blocks: residual blocks per level and side.
        planes: categories.
        envelopes: of the prior, of all categories together.
        cells: (bands, times) of an envelope.
        embedding: numbers that tell the blocks noise level and category.
    """

    hop: int = 128
    widths: tuple[int, ...] = (64, 96, 256)
    blocks: int = 2
    planes: int = 11
    envelopes: int = 176
    cells: tuple[int, int] = (18, 16)
    embedding: int = 256

    channels = 1

    def __post_init__(self) -> None:
        if self.widths[-1] < HEAD_WIDTH or band_edges(self.cells[0], self.hop)[-2] >= self.hop or self.hop % 2:
            raise ValueError(f"no network has {self}: an even hop, {HEAD_WIDTH} channels at the bottom, fewer cells.")

    @property
    def stride(self) -> int:
        """Frames of audio per step of the deepest level: legal lengths are multiples of it."""
        return self.hop * max(4 ** (len(self.widths) - 1), 2 * FINER)

    @property
    def min_frames(self) -> int:
        return self.stride

    min_loop_frames = min_frames

    def legal_frames(self, frames: int) -> int:
        """Return the shortest legal length of at least ``frames``."""
        return max(1, math.ceil(frames / self.stride)) * self.stride


def config_from_shapes(shapes: Mapping[str, tuple[int, ...]]) -> SpectralConfig:
    """Read a network's configuration off the names and shapes of its state dict.

    Raises:
        KeyError: a name that every such network has is missing.
        ValueError: the names or shapes belong to no such network.
    """
    embedding, planes = shapes["category.weight"]
    levels = sum(bool(re.fullmatch(r"narrow\.\d+\.weight", name)) for name in shapes)
    widths = [shapes["first.weight"][0], *(shapes[f"narrow.{i}.weight"][0] for i in range(levels))]
    blocks = sum(bool(re.fullmatch(r"down\.0\.\d+\.enter\.weight", name)) for name in shapes)
    envelopes, *cells = shapes[ANCHOR]
    config = SpectralConfig(shapes["last.weight"][0], tuple(widths), blocks, planes, envelopes, tuple(cells), embedding)
    with torch.device("meta"):
        require_shapes(SpectralUNet(config), shapes)
    return config


def with_planes(state: Mapping[str, Tensor], planes: int) -> dict[str, Tensor]:
    """Give a network ``planes`` more categories that sound like any sound until it is trained; a new state dict."""
    category, shares = state["category.weight"], state["prior.log_shares"]
    return dict(state) | {
        "category.weight": torch.cat([category, category.new_zeros(len(category), planes)], 1),
        "prior.log_shares": torch.cat([shares, shares[-1:].expand(planes, -1)]),
    }


class SpectralUNet(nn.Module):
    """The network: ``net(x, t, cond) -> v``.

    Attributes:
        circular: whether the sound is a loop, whose end is followed by its beginning. Then nothing depends on where it
            begins, and shifting the input by a multiple of ``stride`` shifts the output.
        anchored: whether the network knows where a sound begins: it cannot be shown a piece from its middle.
    """

    anchored = True
    trained_times = "log_normal"
    plane_weights = ("category.weight",)
    with_planes = staticmethod(with_planes)

    def __init__(self, config: SpectralConfig):
        super().__init__()
        self.config, self.circular = config, False
        self.prior = Prior(config.hop, config.planes, config.envelopes, config.cells)
        wide, e = config.widths, config.embedding
        self.noise_level = nn.Sequential(nn.Linear(2 * len(TURNS), e), nn.SiLU(), nn.Linear(e, e))
        self.category = nn.Linear(config.planes, e, bias=False)
        self.first = Conv(2 * config.hop + len(RAMPS) + 1, wide[0], 3)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        self.narrow, self.widen = nn.ModuleList(), nn.ModuleList()
        for here, below in pairwise(wide):
            self.down.append(nn.ModuleList(Block(here, here, e) for _ in range(config.blocks)))
            self.narrow.append(nn.Conv1d(here, below, 4, stride=4))
            self.widen.append(nn.ConvTranspose1d(below, here, 4, stride=4))
            self.up.append(nn.ModuleList(Block(here * (2 if i == 0 else 1), here, e) for i in range(config.blocks)))
        deep = wide[-1]
        self.middle = nn.ModuleList([Block(deep, deep, e), Attention(deep), Block(deep, deep, e), Attention(deep)])
        self.middle.append(Block(deep, deep, e))
        self.partials = Partials(config.hop, max(wide), e)
        self.last = Conv(wide[0], config.hop, 3)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """Predict ``v``.

        Args:
            x: noisy audio, (B, 1, T) with T a legal length.
            t: times, (B,), float32.
            cond: shares of the categories, (B, planes, any length), averaged over it; none means zeros: any sound.

        Returns:
            v, of the shape and dtype of ``x``.

        Raises:
            ValueError: an illegal length, or planes that the network does not have.
        """
        config, frames = self.config, x.shape[-1]
        if frames != config.legal_frames(frames):
            raise ValueError(
                f"{frames} frames: this network takes multiples of {config.stride}; the next one is "
                f"{config.legal_frames(frames)}."
            )
        shares = x.new_zeros(len(x), config.planes) if cond is None else cond.to(x.dtype).mean(-1)
        if shares.shape[1] != config.planes:
            raise ValueError(f"cond has {shares.shape[1]} planes, this network has {config.planes}.")
        with _exact(x):
            spectrum = mdct(x, config.hop, self.circular)
            alpha, sigma = (part[:, None, None] for part in alpha_sigma(t))
            level = self.prior(spectrum, alpha, sigma, shares, self.circular)
            variance = (alpha * level).square() + sigma.square()
            k = alpha * sigma * (1 - level.square()) / variance
        scaled = spectrum * variance.rsqrt()
        e = F.silu(self.noise_level(noise_features(t)) + self.category(shares))
        residual = self._residual(scaled, level.log(), e) + self.partials(scaled, level, alpha, sigma, e, self.circular)
        with _exact(x):
            return inverse_mdct(k * spectrum - level * variance.rsqrt() * residual.float(), self.circular)

    def _residual(self, scaled: Tensor, log_level: Tensor, e: Tensor) -> Tensor:
        """F: (B, hop, frames) -> (B, hop, frames)."""
        h = self.first(
            torch.cat([scaled, (log_level / 4 + 1).expand_as(scaled), self._ramps(scaled)], 1), self.circular
        )
        beside = []
        for blocks, narrow in zip(self.down, self.narrow, strict=True):
            for block in blocks:
                h = block(h, e, self.circular)
            beside.append(h)
            h = narrow(h)
        for layer in self.middle:
            h = layer(h, e, self.circular)
        for blocks, widen in zip(reversed(self.up), reversed(self.widen), strict=True):
            h = torch.cat([widen(h), beside.pop()], 1)
            for block in blocks:
                h = block(h, e, self.circular)
        return self.last(F.silu(_normalized(h)), self.circular)

    def _ramps(self, x: Tensor) -> Tensor:
        """Planes that tell the time since the beginning; a loop has none, which one more plane tells."""
        if self.circular:
            return x.new_zeros(len(x), len(RAMPS) + 1, x.shape[-1])
        frame = torch.arange(x.shape[-1], device=x.device, dtype=torch.float32)
        falls = torch.exp(-frame / torch.tensor(RAMPS, device=x.device)[:, None])
        return torch.cat([falls, torch.ones_like(falls[:1])]).to(x.dtype).expand(len(x), -1, -1)

    def loss(self, v: Tensor, target: Tensor, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        """Mean squared error of F, in which loud coefficients weigh more: of what is inaudible little is learned.

        Args:
            v, target: what was predicted and what is right, (B, 1, T).
            x, t, cond: what it was predicted from.
        """
        with torch.no_grad(), _exact(x):
            shares = x.new_zeros(len(x), self.config.planes) if cond is None else cond.mean(-1)
            alpha, sigma = (part[:, None, None] for part in alpha_sigma(t))
            level = self.prior(mdct(x, self.config.hop, self.circular), alpha, sigma, shares, self.circular)
            scale = ((alpha * level).square() + sigma.square()) / level.square()
            weight = (level / level.amax((1, 2), keepdim=True)) ** _AUDIBLE
            weight /= weight.mean((1, 2), keepdim=True)
        with _exact(x):
            error = mdct(v - target, self.config.hop, self.circular).square() * scale
            return (weight * error / (1 + error / _OUTLIER**2)).mean()

    def in_precision(self, dtype: torch.dtype) -> torch.dtype:
        """Compute in float32, whatever is asked for: it is small, and silence is 80 dB below its loudest."""
        self.to(torch.float32)
        return torch.float32


def _exact(x: Tensor) -> contextlib.AbstractContextManager:
    """Around what mixed precision must leave alone; there is none for tensors that hold no numbers."""
    return contextlib.nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)


def noise_features(t: Tensor) -> Tensor:
    """Cosines and sines of ln sigma_k, (B,) -> (B, features), float32."""
    low, high = _LOG_SIGMA
    alpha, sigma = (part.float().clamp(min=1e-9).log() for part in alpha_sigma(t))
    place = (2 * (sigma - alpha).clamp(low, high) - low - high) / (high - low)  # from -1 to 1
    angle = 2 * torch.pi * place[:, None] * torch.tensor(TURNS, device=t.device)
    return torch.cat([angle.cos(), angle.sin()], -1)


def _normalized(x: Tensor) -> Tensor:
    """Each frame by itself to a mean square of 1 over its channels: the length of the sound does not matter.

    Source: Zhang & Sennrich 2019 (arXiv 1910.07467).
    """
    return x * (x.float().square().mean(1, keepdim=True) + 1e-5).rsqrt().to(x.dtype)


class Conv(nn.Conv1d):
    """A convolution that keeps the length, beyond the ends of which lies silence or, in a loop, the other end."""

    def __init__(self, c_in: int, c_out: int, taps: int):
        super().__init__(c_in, c_out, taps)

    def forward(self, x: Tensor, circular: bool) -> Tensor:
        reach = self.kernel_size[0] // 2
        if circular:
            return F.conv1d(F.pad(x, (reach, reach), "circular"), self.weight, self.bias)
        return F.conv1d(x, self.weight, self.bias, padding=reach)


class Partials(nn.Module):
    """Which lines of a longer spectrum stand out: what the levels of short frames cannot tell of a tone.

    The scaled input is taken to a spectrum of ``FINER`` times as many bands. There the network says by how much, in
    ln S^2, each line is above or below the level of its surroundings, and the Wiener filters of both are compared::

        F = (r + 1 / r) T (g(d) - g(0)) z,    g(d) = 1 / (1 + r^2 exp(-d)),    r = sigma / (alpha S)

    with z the lines and T the way back to short frames; (r + 1 / r) turns a clean estimate into F. What it hears of a
    line is how loud it is here, how loud around here, and how loud in the whole sound where the noise lets it through.
    """

    def __init__(self, hop: int, width: int, embedding: int):
        super().__init__()
        lines = FINER * hop
        self.enter = nn.Conv1d(3 * lines, width, 1)
        self.blocks = nn.ModuleList(Block(width, width, embedding) for _ in range(2))
        self.leave = nn.Conv1d(width, lines, 1)
        self.near = nn.Parameter(torch.zeros(lines, 1, 5))
        self.whole = nn.Parameter(torch.zeros(lines, 1))
        self.trust = nn.Linear(embedding, 2 * lines)
        for layer in (self.leave, self.trust):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, scaled: Tensor, level: Tensor, alpha: Tensor, sigma: Tensor, e: Tensor, circular: bool) -> Tensor:
        """(B, hop, frames) -> (B, hop, frames)."""
        hop = scaled.shape[1]
        with _exact(scaled):
            z = mdct(inverse_mdct(scaled, circular), FINER * hop, circular)
            power = level.square().expand_as(scaled).unflatten(2, (-1, FINER)).mean(-1).repeat_interleave(FINER, 1)
            noise = 2 * sigma.log() - 2 * alpha.clamp(min=1e-6).log() - power.log()  # ln r^2 of each line
            clear = torch.sigmoid(-noise)
            loud = (z.square() + 0.01).log()
            whole = (
                (clear * z.square()).sum(-1, keepdim=True) / clear.sum(-1, keepdim=True).clamp(min=1e-6) + 0.01
            ).log()
        h = self.enter(torch.cat([loud, noise.clamp(-12, 12), whole.expand_as(loud)], 1) / 4)
        for block in self.blocks:
            h = block(h, e, circular)
        reach = self.near.shape[-1] // 2
        around = F.pad(loud, (reach, reach), "circular" if circular else "replicate")
        here, always = (1 + self.trust(e)[..., None]).chunk(2, 1)
        d = self.leave(F.silu(_normalized(h))) + here * F.conv1d(around, self.near, groups=len(self.near))
        d = d + always * self.whole * whole
        with _exact(scaled):
            d = _STANDS_OUT * torch.tanh(d.float() / _STANDS_OUT)
            back = mdct(inverse_mdct((torch.sigmoid(d - noise) - clear) * z, circular), hop, circular)
            r = sigma / (alpha.clamp(min=1e-6) * level)
            return (r.clamp(max=_NOISIEST) + 1 / r.clamp(min=_CLEANEST)) * back


class Block(nn.Module):
    """Two convolutions around a shortcut; noise level and category scale and shift what is between them."""

    def __init__(self, c_in: int, c_out: int, embedding: int):
        super().__init__()
        self.enter, self.leave = Conv(c_in, c_out, 3), Conv(c_out, c_out, 3)
        self.film = nn.Linear(embedding, 2 * c_out)
        self.skip = nn.Identity() if c_in == c_out else nn.Conv1d(c_in, c_out, 1, bias=False)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x: Tensor, e: Tensor, circular: bool) -> Tensor:
        scale, shift = self.film(e)[..., None].chunk(2, 1)
        h = _normalized(self.enter(F.silu(_normalized(x)), circular))
        return self.skip(x) + self.leave(F.silu(torch.addcmul(shift, h, 1 + scale)), circular)


class Attention(nn.Module):
    """Every frame looks at every frame, in heads of 32 channels; no positions, so it is shift-equivariant."""

    def __init__(self, channels: int):
        super().__init__()
        self.heads = channels // HEAD_WIDTH
        self.qkv, self.out = nn.Conv1d(channels, 3 * channels, 1), nn.Conv1d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, e: Tensor, circular: bool) -> Tensor:
        batch, channels, frames = x.shape
        qkv = self.qkv(_normalized(x)).view(batch, 3 * self.heads, channels // self.heads, frames)
        q, k, v = qkv.transpose(2, 3).chunk(3, dim=1)
        return x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(x.shape))
