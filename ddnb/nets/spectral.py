"""The built-in network: small, class-conditional, on a short orthonormal spectrum.

It is called like the published network, ``net(x, t, cond) -> v`` on the waveform. Inside it computes on the MDCT of the
waveform, in which white noise stays white, so every sampler, loop, inpainting and interpolation works unchanged.

Four properties let it learn from few examples:

*   Prior. The training sounds of each category are summarised by a few envelopes (level per band and time). The noisy
    input tells how likely each is, by Bayes' rule, and so the level of the clean sound in each band and frame.
*   Preconditioning. With that level S every coefficient is scaled to unit variance, at every noise level, and the
    network F only predicts what a Wiener filter of these levels does not::

        V = k X - c F(X / sqrt(alpha^2 S^2 + sigma^2))
        k = alpha sigma (1 - S^2) / (alpha^2 S^2 + sigma^2)        c = S / sqrt(alpha^2 S^2 + sigma^2)

    Where S is tiny the output is silent, whatever F is.
*   Partials. Short frames cannot separate tones. The same scaled input in a spectrum of 21.5 Hz wide lines can: which
    of them stand out is learned ten times as fast as by the U-Net, and corrects the Wiener filter.
*   Frames. A U-Net over 512 frames of 128 bands costs a hundredth of one over 65,536 samples.

Sources: the preconditioning is that of Karras et al. 2022 (arXiv 2206.00364, table 1) written for v, with a level per
coefficient; the MDCT, Princen & Bradley 1986, with Malvar's sine window.
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

from ..errors import ArgumentError
from ..schedule import alpha_sigma
from .envelopes import HOP
from .harmonics import Tones
from .layers import HEAD_WIDTH, Attention, Block, Conv, normalize, set_to_zero
from .mdct import inverse_mdct, mdct
from .prior import IMPOSSIBLE, Prior, band_edges
from .unet import require_shapes

ANCHOR = "prior.log_levels"
RAMPS = (4.0, 16.0, 64.0, 256.0, 1024.0)
"""Frames in which the input planes that encode the time since the beginning fall to 1/e."""

TURNS = tuple(2 ** (i * 5 / 31 - 2) for i in range(32))
"""Frequencies of the features that encode the noise level, over half of its range."""

FINER = 8
"""Bands of the longer spectrum per band: at hop 128 and 44.1 kHz they are 21.5 Hz wide."""

# coefficients of a cell of the prior that count as independent, without and with tones: with 16 one snare in five went
# from one envelope to another near the end, and an inversion came back as another sound; with 8 one in twelve does
_EVIDENCE = (16, 8)
_STANDS_OUT = 8.0  # |d|
_NOISIEST, _CLEANEST = 2.0, 0.01  # r is clamped to this: beyond, F does not matter, or grows without bound
_AUDIBLE = 0.3  # exponent by which loud coefficients weigh more in the loss
_OUTLIER = 5  # standard deviations from which the loss is damped, or outliers would outweigh everything else
_MOST_LEVELS, _MOST_BLOCKS, _MOST_BANDS = 8, 64, 1 << 14  # of a file, whose network is built to compare it
_LOG_SIGMA = (-10.0, 4.0)


@dataclass(frozen=True)
class SpectralConfig:
    """The shape of a network.

    Attributes:
        hop: samples per frame, and bands.
        widths: feature channels of each level, the finest first; each further level has a fourth of the frames.
        blocks: residual blocks per level and side.
        planes: categories.
        envelopes: of the prior, of all categories together.
        cells: (bands, times) of an envelope.
        embedding: length of the vector that tells the blocks noise level and category.
        tones: components of ``harmonics.Tones``, of all categories together; 0 for a network that takes no pitch.
    """

    hop: int = 128
    widths: tuple[int, ...] = (64, 96, 256)
    blocks: int = 2
    planes: int = 11
    envelopes: int = 176
    cells: tuple[int, int] = (18, 16)
    embedding: int = 256
    tones: int = 0

    channels = 1

    def __post_init__(self) -> None:
        if self.widths[-1] < HEAD_WIDTH or band_edges(self.cells[0], self.hop)[-2] >= self.hop or self.hop % 2:
            raise ArgumentError(
                f"No network has {self}: use an even hop, at least {HEAD_WIDTH} deep channels, fewer cells."
            )

    @property
    def stride(self) -> int:
        """Frames of audio per step of the deepest level: legal lengths are multiples of it."""
        return math.lcm(self.hop * max(4 ** (len(self.widths) - 1), 2 * FINER), HOP if self.tones else 1)

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
        ArgumentError: the names or shapes belong to no such network.
    """
    embedding, planes = shapes["category.weight"]
    levels = sum(bool(re.fullmatch(r"narrow\.\d+\.weight", name)) for name in shapes)
    widths = [shapes["first.weight"][0], *(shapes[f"narrow.{i}.weight"][0] for i in range(levels))]
    blocks = sum(bool(re.fullmatch(r"down\.0\.\d+\.enter\.weight", name)) for name in shapes)
    envelopes, bands, times = shapes[ANCHOR]
    hop, cells = shapes["last.weight"][0], (bands, times)
    if levels >= _MOST_LEVELS or blocks > _MOST_BLOCKS or max(hop, bands) > _MOST_BANDS:
        raise ArgumentError(f"{levels + 1} levels of {blocks} blocks and {max(hop, bands)} bands")
    tones = shapes.get("tones.log_levels", (0,))[0]
    config = SpectralConfig(hop, tuple(widths), blocks, planes, envelopes, cells, embedding, tones)
    with torch.device("meta"):
        require_shapes(SpectralUNet(config), shapes)
    return config


def with_planes(state: Mapping[str, Tensor], planes: int) -> dict[str, Tensor]:
    """Add ``planes`` categories that sound like any sound until they are trained; return a new state dict."""
    category = state["category.weight"]
    grown = {"category.weight": torch.cat([category, category.new_zeros(len(category), planes)], 1)}
    shares = state["prior.log_shares"]  # the last row, that of any sound, stays the last one
    grown["prior.log_shares"] = torch.cat([shares, shares[-1:].expand(planes, -1)])
    if "tones.log_shares" in state:  # nothing is known of the pitch of new categories: they have none
        shares, held = state["tones.log_shares"], state["tones.held"]
        none = torch.full_like(shares[:1], IMPOSSIBLE).expand(planes, -1)
        grown["tones.log_shares"] = torch.cat([shares[:-1], none, shares[-1:]])
        grown["tones.held"] = torch.cat([held[:-1], held.new_zeros(planes), held[-1:]])
    return dict(state) | grown


class SpectralUNet(nn.Module):
    """The built-in network: ``net(x, t, cond, circular) -> v``.

    For a loop (``circular=True``) nothing depends on where it begins, and shifting the input by a multiple of
    ``stride`` shifts the output.

    Attributes:
        anchored: True, as the network knows where a sound begins: its input cannot be a piece from the middle.
        single_threaded: True, as a second CPU thread brings nothing, see ``threads``.
    """

    anchored = True
    single_threaded = True
    trained_times = "log_normal"
    sampling = "dpmpp_3m", 16
    plane_weights = ("category.weight",)
    with_planes = staticmethod(with_planes)

    def __init__(self, config: SpectralConfig):
        super().__init__()
        self.config = config
        self.prior = Prior(config.hop, config.planes, config.envelopes, config.cells, _EVIDENCE[bool(config.tones)])
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
        self.partials = Partials(config.hop, max(wide), e, bool(config.tones))
        self.tones = Tones(config.hop, config.planes, config.tones, config.cells) if config.tones else None
        self.last = Conv(wide[0], config.hop, 3)
        set_to_zero(self.last)

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None, circular: bool = False) -> Tensor:
        """Predict ``v``.

        Args:
            x: noisy audio, (B, 1, T) with T a legal length.
            t: times, (B,), float32.
            cond: shares of the categories, (B, planes, any length), averaged over it; None means zeros: any sound. A
                network with ``tones`` may get one plane more: the pitch in cycles per sample, 0 for none.
            circular: whether the sound is a loop, whose end is followed by its beginning.

        Returns:
            v, of the shape and dtype of ``x``.

        Raises:
            ArgumentError: an illegal length, or planes that the network does not have.
        """
        config, frames = self.config, x.shape[-1]
        if frames != config.legal_frames(frames):
            raise ArgumentError(
                f"{frames} frames: this network takes multiples of {config.stride}; the next one is "
                f"{config.legal_frames(frames)}."
            )
        shares, pitch = self._conditions(x, cond)
        with _full_precision(x):
            spectrum = mdct(x, config.hop, circular)
            alpha, sigma = (part[:, None, None] for part in alpha_sigma(t))
            level = self.prior(spectrum, alpha, sigma, shares, circular)
            variance = (alpha * level).square() + sigma.square()
            k = alpha * sigma * (1 - level.square()) / variance
        scaled = spectrum * variance.rsqrt()
        e = F.silu(self.noise_level(noise_features(t)) + self.category(shares))
        residual = self._residual(scaled, level.log(), e, circular)
        residual = residual + self.partials(scaled, level, alpha, sigma, e, circular)
        with _full_precision(x):
            v = inverse_mdct(k * spectrum - level * variance.rsqrt() * residual.float(), circular)
            if self.tones is None or x.is_meta or not pitch.any():
                return v
            change = self.tones(x, alpha * x - sigma * v, level, alpha, sigma, shares, pitch, circular)
            return v - change / sigma.clamp(min=1e-6)

    def _conditions(self, x: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the shares of the categories, (B, planes), and the pitch, (B,)."""
        planes = self.config.planes
        if cond is None:
            return x.new_zeros(len(x), planes), x.new_zeros(len(x))
        values = cond.to(x.dtype).mean(-1)
        if values.shape[1] == planes:
            return values, x.new_zeros(len(x))
        if self.tones is None or values.shape[1] != planes + 1:
            raise ArgumentError(f"cond has {values.shape[1]} planes, this network has {planes}.")
        return values[:, :-1], values[:, -1]

    def _residual(self, scaled: Tensor, log_level: Tensor, e: Tensor, circular: bool) -> Tensor:
        """Return the U-Net's part of F: (B, hop, frames) -> (B, hop, frames)."""
        planes = [scaled, (log_level / 4 + 1).expand_as(scaled), self._ramps(scaled, circular)]
        h = self.first(torch.cat(planes, 1), circular)
        beside = []
        for blocks, narrow in zip(self.down, self.narrow, strict=True):
            for block in blocks:  # type: ignore[attr-defined]
                h = block(h, e, circular)
            beside.append(h)
            h = narrow(h)
        for layer in self.middle:
            h = layer(h, e, circular)
        for blocks, widen in zip(reversed(self.up), reversed(self.widen), strict=True):
            h = torch.cat([widen(h), beside.pop()], 1)
            for block in blocks:  # type: ignore[attr-defined]
                h = block(h, e, circular)
        return self.last(F.silu(normalize(h)), circular)

    def _ramps(self, x: Tensor, circular: bool) -> Tensor:
        """Return planes that encode the time since the beginning, and one that says if there is a beginning."""
        if circular:
            return x.new_zeros(len(x), len(RAMPS) + 1, x.shape[-1])
        frame = torch.arange(x.shape[-1], device=x.device, dtype=torch.float32)
        falls = torch.exp(-frame / torch.tensor(RAMPS, device=x.device)[:, None])
        return torch.cat([falls, torch.ones_like(falls[:1])]).to(x.dtype).expand(len(x), -1, -1)

    def loss(
        self, v: Tensor, target: Tensor, x: Tensor, t: Tensor, cond: Tensor | None, circular: bool = False
    ) -> Tensor:
        """Return the mean squared error of F, in which loud coefficients weigh more, so that audible ones are learned.

        Args:
            v, target: the prediction and its target, (B, 1, T).
            x, t, cond, circular: the inputs of the prediction.
        """
        with torch.no_grad(), _full_precision(x):
            shares, _ = self._conditions(x, cond)
            alpha, sigma = (part[:, None, None] for part in alpha_sigma(t))
            level = self.prior(mdct(x, self.config.hop, circular), alpha, sigma, shares, circular)
            scale = ((alpha * level).square() + sigma.square()) / level.square()
            weight = (level / level.amax((1, 2), keepdim=True)) ** _AUDIBLE
            weight /= weight.mean((1, 2), keepdim=True)
        with _full_precision(x):
            error = mdct(v - target, self.config.hop, circular).square() * scale
            return (weight * error / (1 + error / _OUTLIER**2)).mean()

    def in_precision(self, dtype: torch.dtype) -> torch.dtype:
        """Compute in float32 whatever is asked for: the network is small, and its output spans more than 80 dB."""
        self.to(torch.float32)
        return torch.float32


def _full_precision(x: Tensor) -> contextlib.AbstractContextManager:
    """Return a context without mixed precision; tensors of the meta device need none."""
    return contextlib.nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)


def noise_features(t: Tensor) -> Tensor:
    """Return cosines and sines of ln sigma_k, (B,) -> (B, features), float32."""
    low, high = _LOG_SIGMA
    alpha, sigma = (part.float().clamp(min=1e-9).log() for part in alpha_sigma(t))
    place = (2 * (sigma - alpha).clamp(low, high) - low - high) / (high - low)  # from -1 to 1
    angle = 2 * torch.pi * place[:, None] * torch.tensor(TURNS, device=t.device)
    return torch.cat([angle.cos(), angle.sin()], -1)


class Partials(nn.Module):
    """The part of F that finds tones: it predicts which lines of a longer spectrum stand out.

    The scaled input is transformed to a spectrum of ``FINER`` times as many bands. There the network predicts by how
    much, in ln S^2, each line is above or below the level of its surroundings, and the Wiener filters of both are
    compared::

        F = (r + 1 / r) T (g(d) - g(0)) s z,    g(d) = 1 / (1 + r^2 exp(-d)),    r = sigma / (alpha S)

    with z the lines and T the transform back to short frames; (r + 1 / r) turns a clean estimate into F. For lines that
    are below their surroundings, s is the steadiness, the geometric over the arithmetic mean of S^2 within a long
    frame: what changes faster, such as an attack, has no lines, and without s its highs were up to 10 dB too quiet.
    Elsewhere, and in networks without tones, as in version 0.1, it is 1.
    The features of a line are its level here, the levels around here, and its level over the whole sound where noise
    does not mask it.
    """

    def __init__(self, hop: int, width: int, embedding: int, spare_attacks: bool):
        super().__init__()
        self.spare_attacks, lines = spare_attacks, FINER * hop
        self.enter = nn.Conv1d(3 * lines, width, 1)
        self.blocks = nn.ModuleList(Block(width, width, embedding) for _ in range(2))
        self.leave = nn.Conv1d(width, lines, 1)
        self.near = nn.Parameter(torch.zeros(lines, 1, 5))
        self.whole = nn.Parameter(torch.zeros(lines, 1))
        self.trust = nn.Linear(embedding, 2 * lines)
        for layer in (self.leave, self.trust):
            set_to_zero(layer)

    def forward(self, scaled: Tensor, level: Tensor, alpha: Tensor, sigma: Tensor, e: Tensor, circular: bool) -> Tensor:
        """Return this part of F: (B, hop, frames) -> (B, hop, frames)."""
        hop = scaled.shape[1]
        with _full_precision(scaled):
            z = mdct(inverse_mdct(scaled, circular), FINER * hop, circular)
            short = level.square().expand_as(scaled).unflatten(2, (-1, FINER))
            power = short.mean(-1).repeat_interleave(FINER, 1)
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
        d = self.leave(F.silu(normalize(h))) + here * F.conv1d(around, self.near, groups=len(self.near))
        d = d + always * self.whole * whole
        with _full_precision(scaled):
            d = _STANDS_OUT * torch.tanh(d.float() / _STANDS_OUT)
            spared = (
                torch.where(d < 0, _steadiness(short).repeat_interleave(FINER, 1), 1.0) if self.spare_attacks else 1
            )
            back = mdct(inverse_mdct((torch.sigmoid(d - noise) - clear) * spared * z, circular), hop, circular)
            r = sigma / (alpha.clamp(min=1e-6) * level)
            return (r.clamp(max=_NOISIEST) + 1 / r.clamp(min=_CLEANEST)) * back


def _steadiness(square: Tensor) -> Tensor:
    """Return the geometric over the arithmetic mean of the last axis, at most 1."""
    return square.log().mean(-1).exp() / square.mean(-1)
