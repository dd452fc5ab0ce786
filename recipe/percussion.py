"""Procedural percussion: families of sounds, mixed. All are ``(dice, frames) -> (n, frames)``."""

from __future__ import annotations

import torch
from torch import Tensor

from .blocks import (
    Dice,
    Families,
    bandpass_db,
    change_some,
    curve_db,
    decay,
    fade_in,
    harmonics,
    key_envelope,
    metal,
    mix,
    modes,
    noise,
    phase,
    saturate,
    seconds,
    shape_spectrum,
    sine,
    unit,
    wave,
)
from .drums import click, tilt_t60


def perc(d: Dice, frames: int) -> Tensor:
    """Make wood, skins, bells, shakers, rattles, scrapes, blips and struck objects."""
    families: Families = {
        _wood: 0.15,
        _hand_drum: 0.2,
        _bell: 0.18,
        _shaker: 0.15,
        _struck: 0.2,
        _rattle: 0.07,
        _blip: 0.05,
        _scrape: 0.03,
    }
    return change_some(d, 0.12, mix(d, frames, families), saturate)


def _wood(d: Dice, frames: int) -> Tensor:
    t = seconds(d, frames)
    hz = d.log(350, 3000) * torch.cat([torch.ones(d.n, 1, device=d.device), d.uniform(1.4, 4.5, 3)], 1)
    level = torch.tensor([1, 0.4, 0.25, 0.15], device=d.device) * torch.exp(0.6 * d.normal(4))
    ring = unit(modes(t, hz, d.log(0.03, 0.35) * torch.exp(0.3 * d.normal(4)), level, d.uniform(0, 1, 4)))
    return ring + d.log(0.03, 1) * click(d, frames, 1200, 12_000)


def _hand_drum(d: Dice, frames: int) -> Tensor:
    t = seconds(d, frames)
    ratio = torch.cumsum(torch.cat([torch.ones(d.n, 1, device=d.device), d.uniform(0.3, 1.1, 5)], 1), 1)
    ratio = torch.where(d.flip(0.25) > 0, torch.arange(1, 7, device=d.device).float(), ratio)  # tabla: in tune
    bend = 1 + d.uniform(-0.08, 0.12) * torch.exp(-t / d.log(0.01, 0.2))
    t60 = d.log(0.1, 2.0) / ratio ** d.uniform(0, 1.2)
    level = ratio ** -d.uniform(0.3, 2.5) * torch.exp(0.5 * d.normal(6))
    body = unit(modes(t, d.log(90, 520) * ratio, t60, level, d.uniform(0, 0.5, 6), bend))
    slap = curve_db(d, 5) + bandpass_db(d.log(300, 1500), d.log(1500, 8000), d.uniform(6, 15))
    slap = unit(noise(d, frames, slap, d.log(0.02, 0.5)))
    return body + d.log(0.03, 1.5) * slap


def _bell(d: Dice, frames: int) -> Tensor:
    t = seconds(d, frames)
    base = d.log(250, 2600)
    hz = base * torch.cumsum(torch.cat([torch.ones(d.n, 1, device=d.device), d.uniform(0.15, 1.6, 8)], 1), 1)
    level = torch.exp(0.8 * d.normal(9)) * torch.arange(1, 10, device=d.device) ** -d.uniform(0, 1.2)
    rung = modes(t, hz, d.log(0.12, 5.0) * torch.exp(0.5 * d.normal(9)), level, d.uniform(0, 1, 9))
    cutoff = 4000 * decay(t, d.log(0.5, 4)) + d.log(400, 3000)
    cow = wave(d, harmonics(d, "square"), base / 2 + 0 * t, cutoff) + wave(
        d, harmonics(d, "square"), base * d.uniform(0.7, 0.78) + 0 * t, cutoff
    )
    cow = cow * (decay(t, d.log(0.1, 1.0)) + d.uniform(0, 1) * decay(t, d.log(0.02, 0.06)))
    return torch.lerp(unit(rung), unit(cow), d.flip(0.25)) + d.log(0.01, 0.5) * click(d, frames, 2000, 14_000)


def _shaker(d: Dice, frames: int) -> Tensor:
    t = seconds(d, frames)
    beads = metal(d, frames, d.uniform(0.1, 2.2), d.log(4, 60)) * (1 + d.flip(0.5) * 3 * d.flip(0.02, frames))
    spectrum = curve_db(d, 5) + bandpass_db(d.log(1800, 7000), d.log(7000, 18_000), d.uniform(6, 18))
    x = unit(shape_spectrum(beads, spectrum, tilt_t60(d, d.log(0.08, 1.2), -0.1, 0.2)))
    late, second = d.uniform(0.03, 0.14), d.flip(0.4)
    push = fade_in(t, d.log(0.001, 0.06)) * torch.lerp(torch.ones_like(t), decay(t, d.log(0.06, 0.3)), second)
    back = (
        second
        * d.uniform(0.4, 1.5)
        * fade_in(t - late, d.log(0.002, 0.03))
        * decay((t - late).clamp(min=0), d.log(0.06, 0.3))
    )
    return x * (push + back)


def _struck(d: Dice, frames: int) -> Tensor:
    t, count = seconds(d, frames), 8
    hz = d.log(60, 900) * torch.exp(d.uniform(0, 2.2, count))
    t60 = d.log(0.04, 1.0) * torch.exp(0.5 * d.normal(count))
    ring = unit(
        modes(t, hz, t60, (hz / 300) ** -d.uniform(0, 1) * torch.exp(0.8 * d.normal(count)), d.uniform(0, 1, count))
    )
    dull = curve_db(d, 8) + bandpass_db(d.log(60, 800), d.log(800, 9000), d.uniform(4, 15))
    dull = unit(noise(d, frames, dull, tilt_t60(d, d.log(0.06, 1.2), -0.4, 0.2)))
    late, again = d.uniform(0.02, 0.15), d.flip(0.25) * d.uniform(0.2, 0.8)  # a second hit
    rattle = again * (t >= late) * decay((t - late).clamp(min=0), d.log(0.02, 0.2))
    return d.uniform(0, 1) * ring + d.log(0.1, 1.2) * (dull + rattle * dull.roll(997, 1))


def _rattle(d: Dice, frames: int) -> Tensor:
    """Make several hits in a row: keys, jingles, gravel, a dropped object."""
    t, touches = seconds(d, frames), 7
    x = metal(d, frames, d.uniform(0, 2.2), d.log(3, 50))
    spectrum = curve_db(d, 6) + bandpass_db(d.log(200, 5000), d.log(4000, 15_000), d.uniform(5, 15))
    x = unit(shape_spectrum(x, spectrum, tilt_t60(d, d.log(0.3, 3), -0.2, 0.2)))
    gap, many, shape = d.log(0.015, 0.12), d.uniform(2, touches), d.log(0.003, 0.1) * torch.ones_like(t)
    start = torch.cumsum(gap * torch.exp(0.5 * d.normal(touches)), 1)
    start = start - start[:, :1]
    for i in range(touches):
        since = t - start[:, i : i + 1]
        one = fade_in(since, d.log(0.0005, 0.02)) * decay(since.clamp(min=0), d.log(0.02, 0.3)) * (since >= 0)
        shape = shape + one * (i < many) * d.log(0.15, 1)
    return x * shape


def _blip(d: Dice, frames: int) -> Tensor:
    t = seconds(d, frames)
    hz = (d.log(150, 3000) * 2 ** (d.uniform(-3, 4) * torch.exp(-t / d.log(0.005, 0.15)))).clamp(30, 15_000)
    cycles = phase(hz)
    other = d.flip(0.5) * d.log(0.1, 4) * sine(cycles * d.pick([0.5, 1.41, 2, 3.53, 7])) * decay(t, d.log(0.02, 0.4))
    return torch.sin(6.2832 * cycles + other) * key_envelope(
        t, d.log(0.0005, 0.01), d.log(0.01, 0.2), d.log(0.01, 0.2), d.log(0.05, 0.6)
    )


def _scrape(d: Dice, frames: int) -> Tensor:
    t = seconds(d, frames)
    teeth = phase(d.log(25, 120) * (1 + d.uniform(-0.5, 1) * t / 0.3).clamp(min=0.2))
    x = unit(
        noise(
            d,
            frames,
            curve_db(d, 6) + bandpass_db(d.log(1000, 3000), d.log(3500, 9000), 9),
            torch.full((d.n, 1), 1e3, device=d.device),
        )
    )
    return (
        x
        * torch.exp(-teeth * d.uniform(2, 9))
        * key_envelope(t, d.log(0.005, 0.1), d.log(0.06, 0.5), d.log(0.02, 0.1), d.log(0.3, 2))
    )
