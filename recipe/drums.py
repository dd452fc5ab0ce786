"""Procedural drums and percussion: families of each class, mix. All are ``(dice, frames) -> (n, frames)``."""

from __future__ import annotations

import torch
from torch import Tensor

from .blocks import (
    SAMPLE_RATE,
    Dice,
    bandpass_db,
    change_some,
    curve_db,
    decay,
    fade_in,
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
)


def click(d: Dice, frames: int, low: float = 800, high: float = 8000) -> Tensor:
    """Make a very short burst of noise with a level of about 1."""
    top = d.log(low, high)
    burst = noise(d, 4096, curve_db(d, 4) + bandpass_db(top / 4, top, 12), d.log(0.003, 0.03))
    return torch.nn.functional.pad(unit(burst), (0, frames - 4096))


def tilt_t60(d: Dice, t60: Tensor, low: float, high: float, bands: int = 513) -> Tensor:
    """Return T60 by band, (n, bands), shorter by a random amount at high frequencies."""
    octaves = torch.log2(torch.arange(bands, device=d.device) / (bands - 1) * 22_050 + 60)
    return t60 * 2 ** ((d.uniform(low, high) * (octaves - 10) + 0.5 * curve_db(d, 0.8)).clamp(-4, 3))


# --- kick -------------------------------------------------------------------------------------------------------


def kick(d: Dice, frames: int) -> Tensor:
    """Make bass drums: analogue, acoustic, FM and industrial."""
    x = mix(d, frames, {_analogue_kick: 0.35, _acoustic_kick: 0.45, _fm_kick: 0.12, _soft_kick: 0.08})
    return change_some(d, 0.35, x, saturate)


def _analogue_kick(d: Dice, frames: int) -> Tensor:
    t = seconds(d, frames)
    sweep = d.log(0.3, 12) * torch.exp(-t / d.log(0.004, 0.06)) + d.uniform(0, 0.6) * torch.exp(-t / d.log(0.05, 0.3))
    d.hz = d.log(36, 75)
    body = sine(phase(d.hz * (1 + sweep)) + d.pick([0, 0, 0.25, 0.12]))
    shape = torch.lerp(
        decay(t, d.log(0.18, 1.0)), decay((t - d.log(0.03, 0.2)).clamp(min=0), d.log(0.08, 0.4)), d.flip(0.4)
    )
    body = torch.lerp(body, torch.tanh(d.log(1, 5) * body), d.flip(0.4))
    return body * shape * fade_in(t, d.log(0.0002, 0.002)) + d.flip(0.75) * d.log(0.02, 0.6) * click(d, frames)


def _acoustic_kick(d: Dice, frames: int) -> Tensor:
    t, ratio = seconds(d, frames), torch.tensor([1.0, 1.59, 2.14, 2.65], device=d.device)
    hz = d.log(42, 85) * ratio * (1 + 0.06 * d.normal(4))
    d.hz = hz[:, :1]
    bend = 1 + d.uniform(0, 0.6) * torch.exp(-t / d.log(0.008, 0.04))
    level = torch.tensor([1.0, 0.4, 0.2, 0.1], device=d.device) * torch.exp(0.5 * d.normal(4))
    body = modes(t, hz, d.log(0.15, 0.6) / ratio ** d.uniform(0.3, 1.5), level, d.uniform(0, 0.5, 4), bend)
    shell = curve_db(d, 5) + bandpass_db(d.log(60, 200), d.log(300, 5000), d.uniform(4, 15))
    shell = unit(noise(d, frames, shell, tilt_t60(d, d.log(0.08, 0.9), -0.5, 0.05)))
    return unit(body) * fade_in(t, d.log(0.0005, 0.004)) + d.log(0.04, 1) * shell + d.log(0.05, 0.9) * click(d, frames)


def _fm_kick(d: Dice, frames: int) -> Tensor:
    t = seconds(d, frames)
    d.hz = d.log(38, 90)
    carrier = phase(d.hz * (1 + d.log(0.5, 8) * torch.exp(-t / d.log(0.005, 0.05))))
    other = sine(carrier * d.pick([0.5, 1, 1.41, 2, 2.76, 3.5])) * d.log(0.2, 3) * decay(t, d.log(0.03, 0.5))
    body = torch.sin(6.2832 * carrier + other) * decay(t, d.log(0.12, 0.8))
    return saturate(d, body + d.log(0.02, 0.5) * click(d, frames)) * decay(t, d.log(0.3, 2.0))


def _soft_kick(d: Dice, frames: int) -> Tensor:
    t = seconds(d, frames)
    d.hz = d.log(45, 110)
    body = sine(phase(d.hz * (1 + d.uniform(0, 1.5) * torch.exp(-t / d.log(0.01, 0.08)))))
    thump = unit(noise(d, frames, bandpass_db(d.log(30, 60), d.log(80, 500), d.uniform(12, 30)), d.log(0.06, 0.4)))
    return body * decay(t, d.log(0.1, 0.5)) * fade_in(t, d.log(0.001, 0.008)) + d.uniform(0.1, 1.0) * thump


# --- snare and clap ---------------------------------------------------------------------------------------------


def snare(d: Dice, frames: int) -> Tensor:
    """Make snare drums: acoustic, of drum machines, of noise only, brushed."""
    x = mix(d, frames, {_acoustic_snare: 0.58, _machine_snare: 0.25, _noise_snare: 0.11, _brush: 0.06})
    return change_some(d, 0.25, x, saturate)


def _acoustic_snare(d: Dice, frames: int) -> Tensor:
    t = seconds(d, frames)
    ratio = torch.tensor([1.0, 1.59, 1.83, 2.3, 2.65, 3.2], device=d.device)
    bend = 1 + d.uniform(0, 0.3) * torch.exp(-t / d.log(0.005, 0.03))
    hz = d.log(130, 270) * ratio * (1 + 0.05 * d.normal(6))
    level = ratio ** -d.uniform(0.3, 1.8) * torch.exp(0.6 * d.normal(6))
    body = unit(modes(t, hz, d.log(0.06, 0.6, 6), level, d.uniform(0, 1, 6), bend))
    wires = curve_db(d, 5) + bandpass_db(d.log(100, 1000), d.log(2000, 9000), d.uniform(4, 15))
    wires = unit(noise(d, frames, wires, tilt_t60(d, d.log(0.15, 1.2), -0.3, 0.1)))
    stick = click(d, frames, 1500, 10_000)
    return d.log(0.3, 2) * body + d.log(0.15, 1.2) * wires + d.log(0.05, 0.9) * stick


def _machine_snare(d: Dice, frames: int) -> Tensor:
    t, low = seconds(d, frames), d.log(150, 260)
    hz = torch.cat([low, low * d.uniform(1.4, 2.0)], 1)
    bend = 1 + d.log(0.02, 1.5) * torch.exp(-t / d.log(0.004, 0.03))
    body = unit(modes(t, hz, d.log(0.06, 0.3, 2), d.uniform(0.3, 1, 2), None, bend))
    hiss = noise(d, frames, bandpass_db(d.log(300, 3000), d.log(4000, 20_000), d.uniform(6, 18)), d.log(0.1, 0.8))
    return d.log(0.3, 1.5) * body + d.log(0.15, 1) * unit(hiss) + d.flip(0.5) * 0.5 * click(d, frames)


def _noise_snare(d: Dice, frames: int) -> Tensor:
    t = seconds(d, frames)
    x = unit(noise(d, frames, curve_db(d, 8), tilt_t60(d, d.log(0.12, 1.2), -0.4, 0.3)))
    gate = torch.sigmoid((d.log(0.06, 0.3) - t) / 0.002)  # gated reverb
    x = torch.lerp(x, x * gate, d.flip(0.35))
    hz = d.log(160, 600) * (1 + d.uniform(0, 3) * torch.exp(-t / d.log(0.01, 0.05)))
    ring = sine(phase(hz) + d.log(0.05, 0.5) * sine(phase(hz * d.uniform(1.3, 3.7)))) * decay(t, d.log(0.05, 0.3))
    return x + d.flip(0.6) * d.log(0.1, 1) * ring


def _brush(d: Dice, frames: int) -> Tensor:
    t = seconds(d, frames)
    x = noise(d, frames, curve_db(d, 4) + bandpass_db(d.log(300, 1500), d.log(4000, 12_000), 9), d.log(0.1, 0.5))
    return unit(x) * fade_in(t, d.log(0.003, 0.04)) + 0.3 * d.uniform(0, 1) * sine(
        phase(d.log(150, 250) + 0 * t)
    ) * decay(t, d.log(0.05, 0.2))


def clap(d: Dice, frames: int) -> Tensor:
    """Make hand claps, of machines and of a few or many hands, and finger snaps."""
    x = mix(d, frames, {_machine_clap: 0.4, _hands: 0.35, _snap: 0.25})
    return change_some(d, 0.25, x, saturate)


def _machine_clap(d: Dice, frames: int) -> Tensor:
    t = seconds(d, frames)
    middle = d.log(700, 2600)
    band = bandpass_db(middle / d.uniform(1.1, 2), middle * d.uniform(1.1, 3), d.uniform(6, 20))
    x = noise(d, frames, curve_db(d, 3) + band, torch.full_like(middle, 1e3))
    gap, count, shape = d.uniform(0.006, 0.014), d.pick([2, 3, 3, 4, 5]), torch.zeros(d.n, frames, device=d.device)
    for i in range(5):
        since = t - i * gap * (1 + 0.12 * d.normal(1) * (i > 0))
        shape += (since >= 0) * (i < count) * decay(since.clamp(min=0), d.log(0.02, 0.06)) * d.uniform(0.5, 1)
    since = t - (count - 1) * gap
    tail = (since >= 0) * decay(since.clamp(min=0), d.log(0.2, 0.9)) * d.uniform(0.1, 0.9)
    return unit(x) * (shape + tail)


def _hands(d: Dice, frames: int) -> Tensor:
    t, hands = seconds(d, frames), 9
    out = torch.zeros(d.n, frames, device=d.device)
    spread, many = d.log(0.004, 0.025), d.uniform(1, hands)
    for i in range(hands):
        middle = d.log(600, 3500)
        one = unit(
            noise(
                d, 8192, curve_db(d, 4) + bandpass_db(middle / 1.3, middle * 1.5, d.uniform(6, 15)), d.log(0.02, 0.12)
            )
        )
        late = (d.normal(1).abs() * spread * SAMPLE_RATE * (i > 0)).long().clamp(max=8191)
        at = torch.arange(16_384, device=d.device) - late
        placed = torch.where((at >= 0) & (at < 8192), one.gather(1, at.clamp(0, 8191)), 0)
        out[:, :16_384] += placed * (i < many) * d.uniform(0.3, 1)
    wash = unit(noise(d, frames, curve_db(d, 4) + bandpass_db(d.log(300, 1000), d.log(2000, 9000), 9), d.log(0.2, 1.0)))
    return unit(out) + d.flip(0.75) * d.log(0.02, 0.4) * wash * fade_in(t, d.uniform(0.005, 0.03))


def _snap(d: Dice, frames: int) -> Tensor:
    t, middle = seconds(d, frames), d.log(1100, 3200)
    hz = middle * torch.exp(0.35 * d.normal(3))
    ring = unit(modes(t, hz, d.log(0.015, 0.08, 3), d.uniform(0.3, 1, 3), d.uniform(0, 1, 3)))
    crack = unit(noise(d, frames, curve_db(d, 5) + bandpass_db(middle / 1.5, middle * 2, 9), d.log(0.04, 0.35)))
    late = d.flip(0.5) * d.uniform(0.003, 0.02)
    return d.uniform(0, 1) * ring + crack * (0.15 + (t >= late).float())


# --- metal ------------------------------------------------------------------------------------------------------


def closed_hat(d: Dice, frames: int) -> Tensor:
    """Make closed hi-hats, 30 to 250 ms: of machines, acoustic, of noise."""
    return _hat(d, frames, (0.07, 0.5))


def open_hat(d: Dice, frames: int) -> Tensor:
    """Make open hi-hats, 0.3 to 1.4 s; some are choked."""
    x, t = _hat(d, frames, (0.5, 4)), seconds(d, frames)
    return torch.lerp(x, x * decay((t - d.uniform(0.15, 0.6)).clamp(min=0), d.log(0.03, 0.1)), d.flip(0.25))


def _hat(d: Dice, frames: int, t60: tuple[float, float]) -> Tensor:
    def machine(d: Dice, frames: int) -> Tensor:
        x = _squares(d, frames) + d.uniform(0, 0.6) * 0.5 * d.normal(frames)
        spectrum = curve_db(d, 3) + bandpass_db(d.log(3000, 9000), d.log(9000, 24_000), d.uniform(6, 20))
        return shape_spectrum(x, spectrum, tilt_t60(d, d.log(*t60), -0.1, 0.2))

    def acoustic(d: Dice, frames: int) -> Tensor:
        x = metal(d, frames, d.uniform(0.4, 1.8), d.log(6, 60))
        spectrum = curve_db(d, 5) + bandpass_db(d.log(400, 6000), d.log(6000, 16_000), d.uniform(3, 12))
        x = unit(shape_spectrum(x, spectrum, tilt_t60(d, d.log(*t60), -0.15, 0.3)))
        t = seconds(d, frames)
        chick = unit(
            noise(d, frames, curve_db(d, 4) + bandpass_db(d.log(100, 2500), d.log(3000, 16_000), 9), d.log(0.01, 0.12))
        )
        return x * fade_in(t, d.log(0.0003, 0.006)) + d.log(0.05, 1.2) * chick

    def hiss(d: Dice, frames: int) -> Tensor:
        spectrum = curve_db(d, 3) + bandpass_db(d.log(2000, 10_000), d.log(8000, 30_000), d.uniform(6, 24))
        return noise(d, frames, spectrum, tilt_t60(d, d.log(*t60), -0.1, 0.1))

    return mix(d, frames, {machine: 0.35, acoustic: 0.45, hiss: 0.2})


def _squares(d: Dice, frames: int) -> Tensor:
    """Sum or multiply six detuned square oscillators, as drum machines do; their aliasing sounds like metal."""
    t, base = seconds(d, frames), d.log(200, 900)
    total = torch.zeros(d.n, frames, device=d.device)
    for ratio in (1.0, 1.3413, 1.6170, 1.9265, 2.5028, 2.6637):
        one = torch.sign(sine(base * ratio * (1 + 0.06 * d.normal(1)) * t + d.uniform(0, 1)))
        total = torch.where(d.flip(0.3) > 0, total * one + 0.3 * one, total + one)
    return total


def cymbal(d: Dice, frames: int) -> Tensor:
    """Make crash, ride, splash and china cymbals, and those of machines."""
    t = seconds(d, frames)
    crash_like = mix(d, frames, {_crash: 0.6, _ride: 0.4})
    return crash_like * fade_in(t, d.log(0.0002, 0.003))


def _crash(d: Dice, frames: int) -> Tensor:
    t = seconds(d, frames)
    x = metal(d, frames, d.uniform(0.2, 1.2), d.log(8, 80))
    x = torch.lerp(x, _squares(d, frames), d.flip(0.12) * d.uniform(0.3, 0.9))
    spectrum = curve_db(d, 5) + bandpass_db(d.log(80, 900), d.log(4000, 13_000), d.uniform(3, 10))
    dark = unit(shape_spectrum(x, spectrum, tilt_t60(d, d.log(1.5, 9), -0.3, 0.05)))
    bright = curve_db(d, 3) + bandpass_db(d.log(3000, 6000), d.log(9000, 18_000), 9)
    shimmer = unit(shape_spectrum(x, bright, tilt_t60(d, d.log(0.3, 2.5), -0.3, 0)))  # builds up later than the rest
    hit = click(d, frames, 1500, 12_000)
    return dark + d.uniform(0, 1) * shimmer * fade_in(t, d.log(0.002, 0.06)) + d.log(0.03, 0.6) * hit


def _ride(d: Dice, frames: int) -> Tensor:
    t = seconds(d, frames)
    x = metal(d, frames, d.uniform(0.4, 1.6), d.log(4, 40))
    spectrum = curve_db(d, 5) + bandpass_db(d.log(80, 900), d.log(4000, 13_000), d.uniform(3, 9))
    wash = unit(shape_spectrum(x, spectrum, tilt_t60(d, d.log(1.5, 9), -0.25, 0.05)))
    hz = d.log(350, 900) * torch.cumsum(d.uniform(0.25, 0.9, 10), 1) * 1.7
    ping = unit(modes(t, hz, d.log(0.2, 2.5, 10), torch.exp(0.8 * d.normal(10)), d.uniform(0, 1, 10)))
    return d.log(0.25, 1.5) * wash + d.log(0.05, 0.8) * ping + d.log(0.1, 1) * click(d, frames, 2500, 14_000)


# --- tom --------------------------------------------------------------------------------------------------------


def tom(d: Dice, frames: int) -> Tensor:
    """Make toms: acoustic, of machines, swept."""
    x = mix(d, frames, {_acoustic_tom: 0.55, _machine_tom: 0.45})
    return change_some(d, 0.15, x, saturate)


def _acoustic_tom(d: Dice, frames: int) -> Tensor:
    t, ratio = seconds(d, frames), torch.tensor([1.0, 1.59, 2.14, 2.3, 2.65, 2.92, 3.5], device=d.device)
    hz = d.log(72, 290) * ratio * (1 + 0.03 * d.normal(7))
    d.hz = hz[:, :1]
    bend = 1 + d.uniform(0, 0.25) * torch.exp(-t / d.log(0.02, 0.15))
    t60 = d.log(0.6, 2.6) / ratio ** d.uniform(0.2, 1.4)
    level = ratio ** -d.uniform(0.5, 2.5) * torch.exp(0.5 * d.normal(7))
    body = unit(modes(t, hz, t60, level, d.uniform(0, 0.5, 7), bend)) * fade_in(t, d.log(0.0005, 0.003))
    skin = curve_db(d, 5) + bandpass_db(d.log(60, 300), d.log(500, 5000), d.uniform(4, 14))
    skin = unit(noise(d, frames, skin, tilt_t60(d, d.log(0.15, 1.4), -0.4, 0.05)))
    return body + d.log(0.01, 0.4) * skin + d.log(0.05, 0.9) * click(d, frames, 700, 12_000)


def _machine_tom(d: Dice, frames: int) -> Tensor:
    t = seconds(d, frames)
    sweep = d.log(0.03, 2.5) * torch.exp(-t / d.log(0.015, 0.25))
    d.hz = d.log(72, 320)
    cycles = phase(d.hz * (1 + sweep))
    body = torch.lerp(sine(cycles), 1 - 4 * (cycles - 0.5).abs(), d.flip(0.25))
    hiss = unit(noise(d, frames, bandpass_db(d.log(100, 600), d.log(1000, 14_000), 9), d.log(0.06, 1.0)))
    return (
        body * decay(t, d.log(0.3, 1.8)) + d.flip(0.6) * d.log(0.03, 0.5) * hiss + d.flip(0.5) * 0.3 * click(d, frames)
    )
