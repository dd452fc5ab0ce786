"""Procedural textures, computed circularly, so that they loop. All are ``(dice, frames) -> (n, frames)``."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from .blocks import (
    NYQUIST,
    SAMPLE_RATE,
    Dice,
    Families,
    bandpass_db,
    change_some,
    curve_db,
    decay,
    metal,
    mix,
    seconds,
    unit,
)


def texture(d: Dice, frames: int) -> Tensor:
    """Make winds, drones, grains, crackle, hiss, sweeps, and layers of two."""
    families: Families = {_wind: 0.27, _drone: 0.4, _grains: 0.13, _crackle: 0.07, _sweep: 0.13}
    x = unit(mix(d, frames, families))
    x = change_some(d, 0.3, x, lambda d, x: unit(x) + d.log(0.1, 0.8) * unit(mix(d, frames, families)))
    return change_some(d, 0.5, x, _add_room)


def _filter(x: Tensor, db: Tensor) -> Tensor:
    """Multiply the spectrum by an interpolated one of few bands; circular."""
    bins = x.shape[-1] // 2 + 1
    size = F.interpolate(10 ** (db / 20)[:, None], bins, mode="linear", align_corners=True)[:, 0]
    return torch.fft.irfft(torch.fft.rfft(x) * size, x.shape[-1])


def _slow_curve(d: Dice, frames: int, count: int) -> Tensor:
    """Return a smooth periodic random curve around 0, a sum of a few sines."""
    spectrum = torch.complex(d.normal(count), d.normal(count)) / torch.arange(1, count + 1, device=d.device) ** 0.5
    return torch.fft.irfft(F.pad(spectrum, (1, frames // 2 - count)), frames) * frames / (2 * math.sqrt(count))


def _add_room(d: Dice, x: Tensor) -> Tensor:
    t = seconds(d, x.shape[-1])
    tail = torch.fft.rfft(d.normal(x.shape[-1]) * decay(t, d.log(0.2, 3)))
    wet = torch.fft.irfft(torch.fft.rfft(x) * tail, x.shape[-1])
    wet = _filter(wet, curve_db(d, 3, slope_db=d.uniform(-4, 0)))
    return torch.lerp(unit(x), unit(wet), d.uniform(0.1, 0.9))


def _wind(d: Dice, frames: int) -> Tensor:
    """Make noise whose bands swell one by one over hiss."""
    total = torch.zeros(d.n, frames, device=d.device)
    spectrum = curve_db(d, 9, slope_db=d.uniform(-9, -0.5)) + bandpass_db(
        d.log(25, 500), d.log(800, 16_000), d.uniform(6, 24)
    )
    source = _filter(metal(d, frames, d.flip(0.6) * d.uniform(0, 2.5), d.log(0.5, 40)), spectrum)
    edges = torch.linspace(math.log2(50), math.log2(NYQUIST), 7)
    depth = d.log(0.7, 9)
    for low, high in pairwise(edges.tolist()):
        one = torch.ones(d.n, 1, device=d.device)
        band = _filter(source, bandpass_db(one * 2**low, one * 2**high, 18))
        total += band * 10 ** (depth * _slow_curve(d, frames, 6).clamp(-3, 2) / 20)
    return total


def _drone(d: Dice, frames: int) -> Tensor:
    """Make sustained, beating partials: each a cluster of neighbouring bins of the spectrum, in a few groups."""
    bins, count = frames // 2 + 1, 24
    base = d.log(40, 400)
    harmonic = torch.arange(1, count + 1, device=d.device) * (1 + d.flip(0.3) * 0.02 * d.normal(count))
    free = torch.exp(d.uniform(0, 4.5, count))
    chord = 2 ** ((d.uniform(0, 4, count).floor() * d.pick([3, 4, 5, 7]) + 12 * d.uniform(0, 4, count).floor()) / 12)
    hz = base * torch.where(d.flip(0.4) > 0, harmonic, torch.where(d.flip(0.5) > 0, chord, free))
    level = torch.exp(0.9 * d.normal(count)) * (hz / base) ** -d.uniform(0.7, 2.5) * (hz < 16_000)
    width, total = d.log(0.4, 12), torch.zeros(d.n, frames, device=d.device)
    for group in range(4):
        spectrum = torch.zeros(d.n, bins, dtype=torch.complex64, device=d.device)
        for i in range(group, count, 4):
            centre = hz[:, i : i + 1] * frames / SAMPLE_RATE
            near = (centre + width * d.normal(6)).round().clamp(1, bins - 1).long()
            value = torch.complex(d.normal(6), d.normal(6)) * level[:, i : i + 1]
            spectrum.scatter_add_(1, near, value)
        swell = 10 ** (d.log(0.5, 9) * _slow_curve(d, frames, 3).clamp(-3, 2) / 20)
        total += torch.fft.irfft(spectrum, frames) * swell
    breath = _filter(d.normal(frames), curve_db(d, 8, slope_db=d.uniform(-11, -2)))
    return unit(total) + d.flip(0.5) * d.log(0.005, 0.2) * unit(breath)


def _grains(d: Dice, frames: int) -> Tensor:
    """Scatter three grains over the loop by convolution."""
    t, total = seconds(d, 8192), torch.zeros(d.n, frames, device=d.device)
    density = d.log(8, 700) * frames / SAMPLE_RATE
    for _ in range(3):
        length = d.log(0.004, 0.15)
        window = torch.exp(-(((t - length / 2) / (length / 4)) ** 2)) * (t < length)
        hz = d.log(150, 7000) * 2 ** (d.uniform(-1, 1) * t / length).clamp(-2, 2)
        tone = torch.sin(6.2832 * torch.cumsum(hz, -1) / SAMPLE_RATE)
        grain = window * torch.lerp(tone, d.normal(8192), d.flip(0.4) * d.uniform(0.2, 1))
        total += _scatter(d, frames, grain, density / 3)
    return _filter(total, curve_db(d, 5, slope_db=d.uniform(-3, 0)))


def _crackle(d: Dice, frames: int) -> Tensor:
    """Make clicks over hiss, as of records, fire and rain."""
    t = seconds(d, 2048)
    grain = d.normal(2048) * decay(t, d.log(0.0006, 0.02)) + torch.sin(6.2832 * d.log(300, 5000) * t) * decay(
        t, d.log(0.001, 0.02)
    )
    clicks = _scatter(d, frames, grain, d.log(6, 1500) * frames / SAMPLE_RATE)
    hiss = _filter(d.normal(frames), curve_db(d, 6, slope_db=d.uniform(-7, 0)))
    return _filter(unit(clicks), curve_db(d, 4)) + d.log(0.003, 0.4) * unit(hiss)


def _scatter(d: Dice, frames: int, grain: Tensor, count: Tensor) -> Tensor:
    here = d.uniform(0, 1, frames) < count / frames * (1 + 0.8 * _slow_curve(d, frames, 4)).clamp(min=0.02)
    impulses = here * torch.exp(0.9 * d.normal(frames)) * torch.where(d.flip(0.5, frames) > 0, 1.0, -1.0)
    return torch.fft.irfft(torch.fft.rfft(impulses) * torch.fft.rfft(grain, frames), frames)


def _sweep(d: Dice, frames: int) -> Tensor:
    """Move a band up or down through noise or a chord of partials; it returns at the end of the loop."""
    total = torch.zeros(d.n, frames, device=d.device)
    source = _filter(metal(d, frames, d.uniform(0, 3), d.log(0.3, 30)), curve_db(d, 4, slope_db=d.uniform(-5, 0)))
    turn = torch.arange(frames, device=d.device) / frames
    start, way, narrow = d.uniform(0, 1), d.pick([-1, 1]), d.uniform(1.5, 6)
    bands, one = 7, torch.ones(d.n, 1, device=d.device)
    edges = torch.linspace(math.log2(60), math.log2(16_000), bands + 1).tolist()
    for i, (low, high) in enumerate(pairwise(edges)):
        band = _filter(source, bandpass_db(one * 2**low, one * 2**high, 15))
        near = torch.exp(narrow * (torch.cos(6.2832 * (turn - start - way * i / bands)) - 1))
        total += unit(band) * near * 2 ** (-0.5 * i * d.uniform(0, 1))
    return total
