"""Procedural basses and synthesisers. All are ``(dice, frames) -> (n, frames)``."""

from __future__ import annotations

import torch
from torch import Tensor

from .blocks import (
    Dice,
    Families,
    Family,
    bandpass_db,
    change_some,
    curve_db,
    decay,
    fade_in,
    harmonics,
    key_envelope,
    mix,
    modes,
    noise,
    phase,
    random_curve,
    saturate,
    seconds,
    sine,
    unit,
    wave,
)

CHORDS = ((), (12,), (7,), (7, 12), (4, 7), (3, 7), (5, 7), (3, 7, 10), (4, 7, 11), (3, 10, 14), (7, 14), (-12,))
"""Semitones above the lowest note."""


def bass(d: Dice, frames: int) -> Tensor:
    """Make basses: sub, filtered waves, FM, plucked, detuned."""
    x = mix(d, frames, {_sub: 0.12, _filtered_wave: 0.36, _fm_bass: 0.16, _plucked: 0.24, _reese: 0.12})
    return change_some(d, 0.3, x, saturate)


def synth(d: Dice, frames: int) -> Tensor:
    """Make synthesisers and keys: chords of waves, organs, plucks, bells, mallets, pads."""
    families: Families = {_waves: 0.34, _organ: 0.12, _strings: 0.18, _bells: 0.16, _mallet: 0.1, _pad: 0.1}
    return change_some(d, 0.12, mix(d, frames, families), saturate)


def _key(d: Dice, t: Tensor, attack: tuple[float, float] = (0.001, 0.02), longest: float = 1.3) -> Tensor:
    """Return the envelope of a note that is held for a random time."""
    return key_envelope(t, d.log(*attack), d.uniform(0.15, longest), d.log(0.02, 0.8), d.log(0.7, 50))


def _note(d: Dice, low: int, high: int) -> Tensor:
    """Draw the frequency of a random note of the keyboard, slightly out of tune; (n, 1)."""
    d.hz = 440 * 2 ** ((d.uniform(low, high + 1).floor() + 0.08 * d.normal(1) - 69) / 12)
    return d.hz


def _vibrato(d: Dice, frames: int) -> Tensor:
    t = seconds(d, frames)
    depth = d.flip(0.35) * d.log(0.001, 0.012)
    glide = d.flip(0.1) * d.uniform(-0.5, 0.5) * torch.exp(-t / d.log(0.01, 0.1))
    return 2**glide * (1 + depth * torch.sin(6.2832 * d.uniform(3.5, 7) * t) * fade_in(t, d.uniform(0.1, 0.5)))


def _sweep(d: Dice, frames: int, hz: Tensor, low: float = 1.5, high: float = 60) -> Tensor:
    """Return the cutoff of a filter, Hz (n, frames): it closes, opens and closes, or moves slowly."""
    t = seconds(d, frames)
    floor, height = hz * d.log(low, high), d.uniform(-1, 6)
    shape = fade_in(t, d.log(0.002, 0.3) * d.flip(0.4)) * decay(t, d.log(0.2, 6))
    moving = d.flip(0.15) * torch.sin(6.2832 * (d.log(0.7, 9) * t + d.uniform(0, 1)))
    return (floor * 2 ** (height * shape + moving)).clamp(40, 22_000)


# --- basses -----------------------------------------------------------------------------------------------------


def _sub(d: Dice, frames: int) -> Tensor:
    t, hz = seconds(d, frames), _note(d, 24, 43)
    cycles = phase(hz * (1 + d.flip(0.3) * d.log(0.1, 3) * torch.exp(-t / d.log(0.004, 0.03))))
    x = (
        sine(cycles)
        + d.uniform(0, 0.4) * sine(2 * cycles) * decay(t, d.log(0.1, 2))
        + d.uniform(0, 0.2) * sine(3 * cycles)
    )
    return torch.tanh(d.log(0.5, 4) * x) * _key(d, t)


def _filtered_wave(d: Dice, frames: int) -> Tensor:
    def family_of(kind: str) -> Family:
        def family(d: Dice, frames: int) -> Tensor:
            t, hz = seconds(d, frames), _note(d, 26, 48)
            x = wave(
                d, harmonics(d, kind), hz * _vibrato(d, frames), _sweep(d, frames, hz), d.flip(0.6) * d.log(0.5, 8)
            )
            ratio = d.pick([0.5, 1, 1])
            low = sine(phase(hz * ratio + 0 * t))
            added = d.flip(0.5)
            d.hz = torch.where(added > 0, hz * ratio, hz)
            return (unit(x) + added * d.uniform(0, 1) * low) * _key(d, t)

        return family

    return mix(
        d,
        frames,
        {family_of("saw"): 0.45, family_of("square"): 0.2, family_of("pulse"): 0.2, family_of("random"): 0.15},
    )


def _fm_bass(d: Dice, frames: int) -> Tensor:
    t, hz = seconds(d, frames), _note(d, 26, 48)
    cycles = phase(hz * _vibrato(d, frames))
    depth = d.log(0.3, 6) * decay(t, d.log(0.15, 6)) + d.uniform(0, 1.5)
    ratio = d.pick([1, 1, 2, 2, 3, 0.5, 5])
    d.hz = hz * ratio.clamp(max=1)
    return torch.sin(6.2832 * cycles + depth * sine(cycles * ratio)) * _key(d, t)


def _plucked(d: Dice, frames: int) -> Tensor:
    """Make bass strings: partials that decay, the high ones sooner; fingers, picks and slaps."""
    t, hz = seconds(d, frames), _note(d, 26, 50)
    k = torch.arange(1, 513, device=d.device)
    place = d.uniform(0.06, 0.4)
    amplitudes = (
        (torch.sin(torch.pi * k * place).abs() + 0.02) / k ** d.uniform(0.8, 1.9) * torch.exp(0.3 * d.normal(512))
    )
    cutoff = (hz * d.log(6, 90) * decay(t, d.log(0.5, 6)) + hz * d.log(1.5, 12)).clamp(40, 22_000)
    x = unit(wave(d, amplitudes, hz + 0 * t, cutoff)) * _key(d, t, (0.001, 0.008))
    body = sine(phase(hz + 0 * t)) * decay(t, d.log(0.5, 4)) * _key(d, t)
    touch = noise(d, 8192, curve_db(d, 5) + bandpass_db(d.log(100, 1500), d.log(1500, 9000), 9), d.log(0.008, 0.06))
    x = x + d.uniform(0, 0.8) * body
    x[:, :8192] += d.log(0.01, 0.5) * unit(touch)
    return x


def _reese(d: Dice, frames: int) -> Tensor:
    t, hz = seconds(d, frames), _note(d, 26, 46)
    cutoff, x = _sweep(d, frames, hz, 2, 40), torch.zeros(d.n, frames, device=d.device)
    for _ in range(2):
        x = x + wave(d, harmonics(d, "saw"), hz * 2 ** (d.uniform(-0.35, 0.35) / 12), cutoff, d.uniform(0, 2))
    return x * _key(d, t, (0.002, 0.06))


# --- synthesisers -----------------------------------------------------------------------------------------------


def _chord(d: Dice, frames: int, kinds: dict[str, float], attack: tuple[float, float], spread: float) -> Tensor:
    """Make chords of one to four notes of a wave, of one or two detuned voices, through one filter."""

    def family_of(kind: str) -> Family:
        def family(d: Dice, frames: int) -> Tensor:
            hz = _note(d, 33, 77)
            amplitudes, vibrato = harmonics(d, kind), _vibrato(d, frames)
            cutoff, peak = _sweep(d, frames, hz), d.flip(0.4) * d.log(0.5, 5)
            chords = torch.full((len(CHORDS), 4), float("nan"), device=d.device)
            for i, chord in enumerate(CHORDS):
                chords[i, : len(chord) + 1] = torch.tensor([0.0, *chord])
            notes = chords[d.pick(range(len(CHORDS))).long()[:, 0] * d.flip(0.55).long()[:, 0]]
            d.hz = torch.where(notes[:, 1:2].isnan(), hz, 0)
            detune, x = d.flip(0.6) * d.log(0.02, spread), torch.zeros(d.n, frames, device=d.device)
            for voice in range(5):  # the fifth voice doubles the first
                note = notes[:, voice % 4 : voice % 4 + 1]
                rows = (~note.isnan() & ((detune > 0) | (voice < 4)))[:, 0].nonzero()[:, 0]
                if len(rows):
                    tuned = hz * 2 ** ((note + detune * d.uniform(-1, 1)) / 12) * vibrato
                    x[rows] += wave(d.resized(len(rows)), amplitudes[rows], tuned[rows], cutoff[rows], peak[rows])
            return x * _key(d, seconds(d, frames), attack)

        return family

    return mix(d, frames, {family_of(kind): weight for kind, weight in kinds.items()})


def _waves(d: Dice, frames: int) -> Tensor:
    return _chord(d, frames, {"saw": 0.4, "square": 0.2, "pulse": 0.2, "random": 0.2}, (0.0008, 0.05), 0.35)


def _pad(d: Dice, frames: int) -> Tensor:
    x = _chord(d, frames, {"saw": 0.5, "random": 0.3, "triangle": 0.2}, (0.03, 0.4), 0.35)
    breath = noise(d, frames, curve_db(d, 6) + bandpass_db(d.log(200, 2000), d.log(2000, 9000), 6), d.log(2, 30))
    return unit(x) + d.flip(0.4) * d.log(0.01, 0.2) * unit(breath) * fade_in(seconds(d, frames), d.log(0.05, 0.4))


def _organ(d: Dice, frames: int) -> Tensor:
    x = _chord(d, frames, {"organ": 0.8, "triangle": 0.2}, (0.001, 0.02), 0.15)
    return unit(x) + d.flip(0.5) * d.log(0.01, 0.2) * torch.exp(-seconds(d, frames) * 200) * d.normal(frames)


def _strings(d: Dice, frames: int) -> Tensor:
    """Make plucked or hammered strings: guitars, harps, harpsichords, pianos."""
    t, hz = seconds(d, frames), _note(d, 36, 82)
    k = torch.arange(1, 513, device=d.device)
    place, stiff = d.uniform(0.05, 0.45), d.log(0.6, 7)
    amplitudes = (
        (torch.sin(torch.pi * k * place).abs() + 0.03) / k ** d.uniform(0.5, 1.9) * torch.exp(0.3 * d.normal(512))
    )
    cutoff = (hz * d.log(4, 60) * decay(t, stiff) + hz * d.log(1.5, 8)).clamp(60, 22_000)
    x = wave(d, amplitudes, hz * _vibrato(d, frames), cutoff)
    second = wave(d, amplitudes, hz * 2 ** (d.uniform(-0.12, 0.12) / 12), cutoff)
    x = unit(x + d.flip(0.5) * second) * decay(t, d.log(0.6, 10)) * _key(d, t, (0.0005, 0.004))
    touch = noise(d, 8192, curve_db(d, 5) + bandpass_db(d.log(150, 2000), d.log(1500, 10_000), 9), d.log(0.006, 0.06))
    x[:, :8192] += d.log(0.005, 0.3) * unit(touch)
    return x


def _bells(d: Dice, frames: int) -> Tensor:
    """Make FM sounds: bells, electric pianos, glass."""
    t, hz = seconds(d, frames), _note(d, 42, 86)
    cycles = phase(hz * _vibrato(d, frames))
    x = torch.zeros(d.n, frames, device=d.device)
    for level in (1.0, 0.5):
        ratio = d.pick([1, 1, 2, 3, 3.5, 1.41, 5.19, 7, 14])
        depth = d.log(0.1, 4) * decay(t, d.log(0.1, 5))
        x = x + level * d.uniform(0, 1) * torch.sin(6.2832 * cycles + depth * sine(cycles * ratio))
    tremolo = 1 + d.flip(0.25) * 0.5 * torch.sin(6.2832 * d.uniform(3, 8) * t)
    return x * tremolo * decay(t, d.log(0.5, 9)) * _key(d, t, (0.0005, 0.01))


def _mallet(d: Dice, frames: int) -> Tensor:
    """Make struck bars and tines: marimba, vibraphone, kalimba, music box, steel drum."""
    t, hz = seconds(d, frames), _note(d, 48, 90)
    second = d.pick([2.76, 3.0, 3.9, 4.0, 2.0]) * (1 + 0.03 * d.normal(1))
    ratio = torch.cat([torch.ones(d.n, 1, device=d.device), second, d.uniform(5, 11, 3)], 1)
    t60 = d.log(0.4, 8) / ratio ** d.uniform(0.2, 1.2)
    level = torch.tensor([1.0, 0.4, 0.2, 0.12, 0.1], device=d.device) * torch.exp(0.7 * d.normal(5))
    x = unit(modes(t, hz * ratio, t60, level, d.uniform(0, 0.5, 5)))
    knock = noise(d, 8192, curve_db(d, 5) + bandpass_db(d.log(100, 900), d.log(900, 6000), 9), d.log(0.006, 0.06))
    x[:, :8192] += d.log(0.005, 0.4) * unit(knock)
    return (
        x
        * (1 + d.flip(0.2) * 0.3 * random_curve(d, frames, 12))
        * decay((t - d.uniform(0.3, 1.2)).clamp(min=0), d.log(0.05, 0.5))
    )
