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
from ..steps import Event
from .components import Described, cell_energies, describe_all

_ROUNDS, _SOUNDS, _STEPS = 2, 12, 8
_THOROUGH = 3, 24  # rounds and sounds
_PART, _MOST = 0.7, 1.0  # of a difference, and nepers a round: a few sounds tell a mean within 2 dB
_BATCH = 32
_SEED = 2**40  # seeds that nobody listens to


@dataclass(frozen=True)
class Wanted:
    """The mean of ln of the levels of a category's sounds.

    Attributes:
        envelope: in the cells of the prior, (bands, times).
        tone: of harmonics, (groups, times), and of what is beside them, (bands, times); None for a category without
            tones.
    """

    envelope: Tensor
    tone: tuple[Tensor, Tensor] | None

    def tensors(self) -> list[Tensor]:
        """Return the parts; see ``of``."""
        return [self.envelope, *(self.tone or ())]

    @classmethod
    def of(cls, envelope: Tensor, *tone: Tensor) -> Wanted:
        """Return the object of these parts."""
        return cls(envelope, (tone[0], tone[1]) if tone else None)


def measure(net: SpectralUNet, x: Tensor, tones: Described | None) -> Wanted:
    """Measure sounds.

    Args:
        net: the network, for its cells.
        x: at the level of the network, (n, 1, T).
        tones: those of them that have a tone; None for a category without tones.
    """
    envelope = torch.cat([cell_energies(net.config, some) for some in x.split(_BATCH)]).log() / 2
    return Wanted(envelope.mean(0), tones and (tones.levels.mean(0), tones.residual.mean(0)))


def calibrate(
    ckpt: Checkpoint, label: int, wanted: Wanted, thorough: bool = False, cancel: Event | None = None
) -> None:
    """Correct the levels of a category, in place.

    Args:
        ckpt: the fitted network, on the CPU.
        label: the number of the category.
        wanted: what its sounds should have.
        thorough: make three times as many sounds, which brings the levels nearer.
        cancel: stops it where it is set.

    Raises:
        Cancelled: stopped before all sounds were made.
    """
    net = ckpt.net
    assert isinstance(net, SpectralUNet)
    rounds, sounds = _THOROUGH if thorough else (_ROUNDS, _SOUNDS)
    for number in range(rounds):
        seed, category = _SEED + number * sounds, ckpt.categories[label]
        clips = generate(ckpt, sounds, seed, category=category, level=NETWORK, steps=_STEPS, cancel=cancel)
        if not clips.complete:
            raise Cancelled(f"stopped while the levels of {category} were corrected; nothing was written")
        x, tones = at_level(torch.from_numpy(clips.audio), ckpt), None
        if wanted.tone:
            pitch = torch.tensor(clips.pitches_hz, dtype=torch.float64) / ckpt.sample_rate
            tones = describe_all(net.config, x[pitch > 0], pitch[pitch > 0])
        made = measure(net, x, tones)
        mine = net.prior.log_shares[label] > IMPOSSIBLE / 10
        net.prior.log_levels[mine] += _part(wanted.envelope - made.envelope)
        if wanted.tone and made.tone and net.tones is not None:
            mine = net.tones.log_shares[label] > IMPOSSIBLE / 10
            net.tones.log_levels[mine] += _part(wanted.tone[0] - made.tone[0])
            net.tones.log_residual[mine] += _part(wanted.tone[1] - made.tone[1])


def _part(difference: Tensor) -> Tensor:
    return (_PART * difference).clamp(-_MOST, _MOST)


def at_level(x: Tensor, ckpt: Checkpoint) -> Tensor:
    """Return sounds, (n, 1, T), at the peak of those that a network was trained on."""
    if (peak_dbfs := ckpt.info.get("peak_dbfs")) is None:
        return x
    return x * (10 ** (peak_dbfs / 20) / x.abs().amax((1, 2), keepdim=True).clamp(min=1e-6))
