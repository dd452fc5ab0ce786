"""Procedural sounds of every category: any number of different sounds from a seed, on any device."""

from __future__ import annotations

import torch
from torch import Tensor

from . import drums, percussion, tones
from .blocks import Dice, equalize, seconds, unit
from .data import FRAMES, LEAD, SAMPLE_RATE
from .textures import texture

BATCH, BATCH_GPU = 32, 256
"""Sounds per batch: about 300 MB, or 3 GB."""

ONE_SHOTS = {  # source, maximum length (s), spread of the spectrum (dB), share in a room, its T60 (s), peaks (dBFS)
    "kick": (drums.kick, 1.2, 3, 0.5, (0.06, 0.9), (-6, -1)),
    "snare": (drums.snare, 1.2, 3, 0.6, (0.08, 1.2), (-8, -1)),
    "clap": (drums.clap, 0.9, 4, 0.7, (0.1, 0.9), (-9, -1)),
    "closed_hat": (drums.closed_hat, 0.7, 3, 0.4, (0.05, 0.5), (-12, -3)),
    "open_hat": (drums.open_hat, 1.486, 3, 0.3, (0.1, 0.8), (-12, -3)),
    "tom": (drums.tom, 1.486, 3, 0.6, (0.08, 1.2), (-8, -1)),
    "cymbal": (drums.cymbal, 1.486, 3, 0.3, (0.1, 0.6), (-12, -3)),
    "perc": (percussion.perc, 1.486, 4, 0.6, (0.05, 1.2), (-10, -1)),
    "bass": (tones.bass, 1.486, 2, 0.1, (0.05, 0.2), (-6, -1)),
    "synth": (tones.synth, 1.486, 3, 0.45, (0.1, 1.2), (-9, -1)),
}
TEXTURE_PEAKS = (-12, -3)


def synthesize(
    category: str,
    n: int,
    generator: torch.Generator,
    frames: int = FRAMES,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Make sounds of one category.

    Args:
        category: one of ``data.CATEGORIES``.
        n: number of sounds.
        generator: random generator on ``device``; the same state makes the same sounds on the same device.
        frames: length at 44.1 kHz, at least 32,768; one-shots end in silence, textures loop.
        device: device of the result.

    Returns:
        Mono float32 (n, frames) with peaks from -12 to -1 dBFS. One-shots begin after 64 frames.

    Raises:
        KeyError: the category is unknown.
    """
    return synthesize_labelled(category, n, generator, frames, device)[0]


def synthesize_labelled(
    category: str, n: int, generator: torch.Generator, frames: int = FRAMES, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Make the sounds of ``synthesize``; return them and the pitch of each in Hz, (n,), 0 for none or several."""
    batch = BATCH if torch.device(device).type == "cpu" else BATCH_GPU
    dice = [Dice(min(batch, n - i), generator, device) for i in range(0, n, batch)]
    done = [_one_batch(category, each, frames) for each in dice]
    if not done:
        return torch.zeros(0, frames, device=device), torch.zeros(0, device=device)
    return torch.cat(done), torch.cat([each.hz[:, 0] for each in dice])


def _one_batch(category: str, dice: Dice, frames: int) -> Tensor:
    if category == "texture":
        x = texture(dice, frames)
        return _set_peak(dice, x - x.mean(-1, keepdim=True), TEXTURE_PEAKS)
    source, longest, spread_db, room, room_s, peaks = ONE_SHOTS[category]
    length = min(frames - LEAD, round(longest * SAMPLE_RATE))
    x = equalize(dice, unit(source(dice, length)), spread_db, room, room_s)
    x = torch.nn.functional.pad(_fade_out(dice, _align_onset(unit(x))), (LEAD, frames - LEAD - length))
    return _set_peak(dice, x, peaks)


def _align_onset(x: Tensor) -> Tensor:
    """Shift each sound to its first sample within 40 dB of the peak, so that slow attacks begin at once, too."""
    frames = x.shape[-1]
    onset = (x.abs() > 0.01).float().argmax(-1, keepdim=True)
    place = torch.arange(frames, device=x.device) + onset
    return x.gather(1, place.clamp(max=frames - 1)) * (place < frames)


def _fade_out(dice: Dice, x: Tensor) -> Tensor:
    """Fade out where the sound becomes inaudible; a sound that lasts longer fades over its last fifth."""
    frames = x.shape[-1]
    t = seconds(dice, frames)
    loud = x.abs() > 10 ** (dice.uniform(-66, -50) / 20)
    last = (loud * torch.arange(frames, device=x.device)).amax(-1, keepdim=True) / SAMPLE_RATE
    end = torch.minimum(last + 0.01, t[-1] - 0.012)  # the last 12 ms are silent
    fade = torch.where(last > 0.9 * t[-1], 0.2 * t[-1], 0.01 + 0.15 * last)
    return x * (0.5 + 0.5 * torch.cos(torch.pi * ((t - end + fade) / fade).clamp(0, 1)))


def _set_peak(dice: Dice, x: Tensor, peaks: tuple[float, float]) -> Tensor:
    return unit(x) * 10 ** (dice.uniform(*peaks) / 20)
