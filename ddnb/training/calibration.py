"""Calibration of a fitted network: its levels are corrected by what it makes of them.

The learned part of the network still knows the sounds that it was trained on, and makes some bands quieter or louder
than its components ask for. A few sounds of a category are generated; where their mean level differs from that of the
user's sounds, the components get a part of the difference.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..checkpoints.checkpoint import Checkpoint
from ..errors import Cancelled
from ..generation.generate import generate
from ..generation.levels import NETWORK
from ..nets.prior import IMPOSSIBLE
from ..nets.spectral import SpectralUNet
from .components import cell_energies, describe

_ROUNDS, _SOUNDS, _STEPS = 2, 12, 8
_PART, _MOST = 0.7, 1.0  # of a difference, and nepers a round: a few sounds tell a mean within 2 dB
_SEED = 2**40  # seeds that nobody listens to


@dataclass(frozen=True)
class Fitted:
    """The sounds that a category was fitted to.

    Attributes:
        category: its name.
        x: at the level of the network, (n, 1, T).
        pitch: cycles per sample, 0 for sounds without a tone, (n,), float64; None for a category without tones.
    """

    category: str
    x: Tensor
    pitch: Tensor | None


def calibrate(ckpt: Checkpoint, fitted: Fitted) -> None:
    """Correct the levels of a category, in place.

    Raises:
        Cancelled: interrupted.
    """
    net, label = ckpt.net, ckpt.categories.index(fitted.category)
    assert isinstance(net, SpectralUNet)
    envelopes, tones = _mean_envelope(net, fitted.x), None
    if fitted.pitch is not None:
        tones = _mean_tone(net, fitted.x[fitted.pitch > 0], fitted.pitch[fitted.pitch > 0])
    for number in range(_ROUNDS):
        seed = _SEED + number * _SOUNDS
        clips = generate(ckpt, _SOUNDS, seed, category=fitted.category, level=NETWORK, steps=_STEPS)
        if not clips.complete:
            raise Cancelled("interrupted while the network was fitted")
        x = at_level(torch.from_numpy(clips.audio), ckpt)
        mine = net.prior.log_shares[label] > IMPOSSIBLE / 10
        net.prior.log_levels[mine] += _part(envelopes - _mean_envelope(net, x))
        if tones is not None and net.tones is not None:
            made = _mean_tone(net, x, torch.tensor(clips.pitches_hz, dtype=torch.float64) / ckpt.sample_rate)
            mine = net.tones.log_shares[label] > IMPOSSIBLE / 10
            net.tones.log_levels[mine] += _part(tones[0] - made[0])
            net.tones.log_residual[mine] += _part(tones[1] - made[1])


def _part(difference: Tensor) -> Tensor:
    return (_PART * difference).clamp(-_MOST, _MOST)


def _mean_envelope(net: SpectralUNet, x: Tensor) -> Tensor:
    """Return the mean of ln of the level in the cells of the prior, (bands, times)."""
    return (cell_energies(net.config, x).log() / 2).mean(0)


def _mean_tone(net: SpectralUNet, x: Tensor, pitch: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of ln of the levels of harmonics and residual in the cells of the tones."""
    harmonics, residual, _ = describe(net.config, x, pitch)
    return harmonics.mean(0), residual.mean(0)


def at_level(x: Tensor, ckpt: Checkpoint) -> Tensor:
    """Return sounds, (n, 1, T), at the peak of those that a network was trained on."""
    if (peak_dbfs := ckpt.info.get("peak_dbfs")) is None:
        return x
    return x * (10 ** (peak_dbfs / 20) / x.abs().amax((1, 2), keepdim=True).clamp(min=1e-6))
