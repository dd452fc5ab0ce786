"""Building blocks of procedural sounds, computed in batches: random parameters, envelopes, oscillators, noise, filters.

Audio is float32 (n, frames) at 44.1 kHz; parameters are (n, 1), one per sound. Times are in seconds; T60 is the time
in which a level falls by 60 dB.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

SAMPLE_RATE = 44_100
NYQUIST = SAMPLE_RATE / 2
TABLE = 2048
"""Samples of one cycle in a wavetable."""

CUTOFFS = 16
"""Tables of one wave, each low-pass filtered about half an octave higher than the one before."""

_WINDOW, _HOP, _BANDS = 1024, 256, 513


class Dice:
    """The random parameters of a batch of n sounds, drawn from one generator.

    Attributes:
        n: number of sounds.
        device: device of the tensors.
        hz: the pitch of each sound, (n, 1), set by the sources; 0 for those that have none, or several.
    """

    def __init__(self, n: int, generator: torch.Generator, device: torch.device | str) -> None:
        self.n, self.generator, self.device = n, generator, device
        self.hz = torch.zeros(n, 1, device=device)

    def resized(self, n: int) -> Dice:
        """Return dice for n sounds that continue with the same generator."""
        return Dice(n, self.generator, self.device)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Draw (n, 1), or (n, *shape), uniformly between low and high."""
        return low + (high - low) * torch.rand(self.n, *(shape or (1,)), generator=self.generator, device=self.device)

    def log(self, low: float, high: float, *shape: int) -> Tensor:
        """Draw uniformly in octaves; both bounds above zero."""
        return torch.exp(self.uniform(math.log(low), math.log(high), *shape))

    def normal(self, *shape: int) -> Tensor:
        """Draw (n, *shape) from the standard normal distribution."""
        return torch.randn(self.n, *shape, generator=self.generator, device=self.device)

    def flip(self, probability: float, *shape: int) -> Tensor:
        """Draw 1 with this probability, else 0."""
        return (self.uniform(0, 1, *shape) < probability).float()

    def pick(self, values: Sequence[float]) -> Tensor:
        """Draw (n, 1), one of the values for each sound."""
        chosen = torch.randint(len(values), (self.n, 1), generator=self.generator, device=self.device)
        return torch.tensor(values, device=self.device, dtype=torch.float32)[chosen]


Family = Callable[[Dice, int], Tensor]
"""A family of sounds: random parameters and a number of frames -> (n, frames)."""

Families = dict[Family, float]
"""Families and their weights."""


def mix(dice: Dice, frames: int, families: Families) -> Tensor:
    """Make each sound with one of several families, drawn by weight."""
    weights = torch.tensor(list(families.values()), device=dice.device)
    chosen = torch.multinomial(weights, dice.n, replacement=True, generator=dice.generator)
    out = torch.zeros(dice.n, frames, device=dice.device)
    for i, family in enumerate(families):
        rows = (chosen == i).nonzero()[:, 0]
        if len(rows):
            some = dice.resized(len(rows))
            out[rows] = family(some, frames)
            dice.hz[rows] = some.hz
    return out


def change_some(dice: Dice, probability: float, x: Tensor, change: Callable[[Dice, Tensor], Tensor]) -> Tensor:
    """Change each sound with this probability."""
    rows = dice.flip(probability)[:, 0].nonzero()[:, 0]
    if len(rows):
        x = x.clone()
        x[rows] = change(dice.resized(len(rows)), x[rows])
    return x


# --- time -------------------------------------------------------------------------------------------------------


def seconds(dice: Dice, frames: int) -> Tensor:
    """Return the time of each frame, (frames,)."""
    return torch.arange(frames, device=dice.device) / SAMPLE_RATE


def decay(t: Tensor, t60: Tensor) -> Tensor:
    """Return an exponential decay from 1."""
    return torch.exp(-math.log(1000) * t / t60)


def fade_in(t: Tensor, attack: Tensor) -> Tensor:
    """Return a raised cosine from 0 to 1 in the attack time."""
    return 0.5 - 0.5 * torch.cos(math.pi * (t / attack.clamp(min=1e-4)).clamp(0, 1))


def key_envelope(t: Tensor, attack: Tensor, hold: Tensor, release: Tensor, sag: Tensor) -> Tensor:
    """Return the envelope of a held key: attack, decay with T60 ``sag``, exponential release after ``hold``."""
    return fade_in(t, attack) * decay(t, sag) * decay((t - hold).clamp(min=0), release)


def random_curve(dice: Dice, frames: int, points: int) -> Tensor:
    """Return a smooth random curve around 0 with a standard deviation of about 1; (n, frames)."""
    return F.interpolate(dice.normal(points)[:, None], frames, mode="linear", align_corners=True)[:, 0]


def phase(hz: Tensor) -> Tensor:
    """Return the phase in cycles, 0 to 1, of a tone of this frequency; (n, frames). Summed in float64: no drift."""
    return torch.remainder(torch.cumsum(hz.double() / SAMPLE_RATE, -1), 1).float()


def sine(cycles: Tensor) -> Tensor:
    """Return the sine of a phase in cycles."""
    return torch.sin(2 * math.pi * cycles)


# --- noise ------------------------------------------------------------------------------------------------------


def curve_db(
    dice: Dice, spread_db: float, points: int = 9, bands: int = _BANDS, slope_db: Tensor | float = 0
) -> Tensor:
    """Return a random spectrum in dB over the bands from 0 to 22 kHz, smooth in octaves; (n, bands).

    Args:
        spread_db: standard deviation of the nodes.
        points: number of nodes, at least about an octave apart.
        slope_db: dB per octave, 0 dB at 1 kHz.
    """
    octaves = torch.log2(torch.arange(bands, device=dice.device) / (bands - 1) * NYQUIST + 20) - math.log2(20)
    place = octaves / octaves[-1] * (points - 1)
    left = place.floor().clamp(max=points - 2).long()
    nodes, share = dice.normal(points) * spread_db, place - left
    return nodes[:, left] * (1 - share) + nodes[:, left + 1] * share + slope_db * (octaves - math.log2(50))


def bandpass_db(hz_low: Tensor, hz_high: Tensor, steep_db: Tensor | float, bands: int = _BANDS) -> Tensor:
    """Return 0 dB between two frequencies (n, 1), falling by ``steep_db`` per octave outside; (n, bands)."""
    hz = torch.linspace(0, NYQUIST, bands, device=hz_low.device).clamp(min=10)
    outside = torch.relu(torch.log2(hz_low / hz)) + torch.relu(torch.log2(hz / hz_high))
    return (-steep_db * outside).clamp(min=-150)


def noise(dice: Dice, frames: int, spectrum_db: Tensor, t60: Tensor) -> Tensor:
    """Make noise that starts at once and decays at a rate for each band, as cymbals, snare wires and rooms do.

    Args:
        dice: random parameters.
        frames: length.
        spectrum_db: (n, bands), spectrum at the start.
        t60: (n, bands) or (n, 1), seconds.
    """
    steps = frames // _HOP + 5
    t = (torch.arange(steps, device=dice.device) - 3).clamp(min=0) * (_HOP / SAMPLE_RATE)
    size = 10 ** (spectrum_db / 20)[:, :, None] * decay(t, t60[:, :, None])
    spectrum = torch.complex(dice.normal(_BANDS, steps) * size, dice.normal(_BANDS, steps) * size)
    window = torch.hann_window(_WINDOW, device=dice.device)
    x = torch.istft(spectrum, _WINDOW, _HOP, _WINDOW, window)  # starts before the attack; cut there for a sharp attack
    return x[:, 2 * _HOP : 2 * _HOP + frames]


def metal(dice: Dice, frames: int, roughness: Tensor, modes_per_khz: Tensor) -> Tensor:
    """Make stationary sound of many inharmonic partials: noise with random narrow spectral peaks; (n, frames)."""
    bins = frames // 2 + 1
    hz = torch.linspace(0, NYQUIST, bins, device=dice.device)
    spectrum = torch.fft.rfft(dice.normal(frames))
    # peaks: the maxima of a random function of frequency whose grid has the spacing of the modes
    coarse = dice.normal(4096)
    place = (hz / 1000 * modes_per_khz).remainder(4095)
    left = place.long()
    g = torch.gather(coarse, 1, left) * (1 - (place - left)) + torch.gather(coarse, 1, left + 1) * (place - left)
    return torch.fft.irfft(spectrum * torch.exp(roughness * g), frames)


def shape_spectrum(x: Tensor, spectrum_db: Tensor, t60: Tensor) -> Tensor:
    """Give stationary sound a spectrum (n, bands), a decay for each band and a sharp attack."""
    window = torch.hann_window(_WINDOW, device=x.device)
    spectrum = torch.stft(x, _WINDOW, _HOP, _WINDOW, window, return_complex=True)
    t = torch.arange(spectrum.shape[-1], device=x.device) * (_HOP / SAMPLE_RATE)
    size = 10 ** (spectrum_db / 20)[:, :, None] * decay(t, t60[:, :, None])
    return torch.istft(spectrum * size, _WINDOW, _HOP, _WINDOW, window, length=x.shape[-1])


def unit(x: Tensor) -> Tensor:
    """Scale each sound to a peak of 1."""
    return x / x.abs().amax(-1, keepdim=True).clamp(min=1e-9)


# --- tones ------------------------------------------------------------------------------------------------------


def modes(
    t: Tensor, hz: Tensor, t60: Tensor, level: Tensor, start: Tensor | None = None, bend: Tensor | None = None
) -> Tensor:
    """Sum decaying sines of (n, modes) frequency, T60 and level; ``bend`` (n, frames) multiplies the frequencies."""
    out = torch.zeros(hz.shape[0], t.shape[-1], device=t.device)
    time = t if bend is None else torch.cumsum(bend.double(), -1).float() / SAMPLE_RATE
    for i in range(hz.shape[1]):
        at = slice(i, i + 1)
        angle = 2 * math.pi * hz[:, at] * time + (0 if start is None else 2 * math.pi * start[:, at])
        out += level[:, at] * (hz[:, at] < 0.9 * NYQUIST) * torch.sin(angle) * decay(t, t60[:, at])
    return out


def harmonics(dice: Dice, kind: str, count: int = 512) -> Tensor:
    """Return the amplitudes (n, count) of a wave: saw, square, pulse, triangle, organ or random."""
    k = torch.arange(1, count + 1, device=dice.device).float()
    if kind == "square":
        return (k % 2) / k + torch.zeros(dice.n, 1, device=dice.device)
    if kind == "pulse":
        return torch.sin(math.pi * k * dice.uniform(0.06, 0.45)) / k
    if kind == "triangle":
        return (k % 2) / k**2 + torch.zeros(dice.n, 1, device=dice.device)
    if kind == "organ":
        bars = torch.zeros(dice.n, count, device=dice.device)
        drawn = [0, 1, 2, 3, 5, 7, 9, 11]
        bars[:, drawn] = dice.uniform(0, 1, len(drawn)) ** 2 * dice.flip(0.6, len(drawn))
        return bars + (k == 1) * 0.3
    if kind == "random":
        return torch.exp(dice.normal(count) * dice.uniform(0.3, 1.5)) / k ** dice.uniform(0.6, 1.8)
    return 1 / k + torch.zeros(dice.n, 1, device=dice.device)  # saw


def wave(dice: Dice, amplitudes: Tensor, hz: Tensor, cutoff_hz: Tensor, resonance: Tensor | float = 0) -> Tensor:
    """Play a wave through a moving low-pass filter without aliasing, from wavetables.

    Args:
        dice: random parameters, for the phases.
        amplitudes: (n, harmonics).
        hz: (n, 1) or (n, frames), frequency in Hz.
        cutoff_hz: (n, frames).
        resonance: height of the peak at the cutoff, as a factor.
    """
    count = amplitudes.shape[1]
    k = torch.arange(1, count + 1, device=dice.device)
    highest = hz.amax(-1, keepdim=True)
    corner = 40 * 2 ** (torch.arange(CUTOFFS, device=dice.device) * 9.2 / (CUTOFFS - 1))
    ratio = (k * highest / 1)[:, None] / corner[:, None]  # (n, tables, harmonics)
    response = 1 / torch.sqrt(1 + ratio**4) * (1 + torch.as_tensor(resonance).reshape(-1, 1, 1) * _bump(ratio))
    below = k * highest < 0.92 * NYQUIST
    angle = 2 * math.pi * dice.uniform(0, 1, count) * dice.flip(0.5)  # in phase, as in circuits, or not
    spectrum = torch.polar(amplitudes * below, angle)[:, None] * response
    table = torch.fft.irfft(F.pad(spectrum, (1, TABLE // 2 - count)), TABLE) * TABLE / 4
    table = torch.cat([table, table[..., :1]], -1).reshape(dice.n, -1)  # (n, tables (TABLE + 1))
    frames = cutoff_hz.shape[-1]
    point = phase(hz.expand(-1, frames) if hz.shape[-1] == 1 else hz)
    point = torch.remainder(point + dice.uniform(0, 1), 1) * TABLE
    row = (torch.log2(cutoff_hz.clamp(40, 23_000) / 40) * ((CUTOFFS - 1) / 9.2)).clamp(0, CUTOFFS - 1.001)
    left, low = point.long().clamp(max=TABLE - 1), row.long()
    at, share = low * (TABLE + 1) + left, point - left
    dark = torch.lerp(table.gather(1, at), table.gather(1, at + 1), share)
    at += TABLE + 1
    return torch.lerp(dark, torch.lerp(table.gather(1, at), table.gather(1, at + 1), share), row - low)


def _bump(ratio: Tensor) -> Tensor:
    return torch.exp(-((torch.log2(ratio) * 3) ** 2))


# --- effects -------------------------------------------------------------------------------------------


def saturate(dice: Dice, x: Tensor) -> Tensor:
    """Saturate each sound: soft, asymmetric, folded, hard, or with few bits."""
    x, gain = unit(x), dice.log(1.2, 14)
    kind, bits = dice.pick([0, 0, 0, 1, 1, 2, 3, 4]), 2 ** dice.uniform(3, 8)
    bias = dice.uniform(0.1, 0.6)
    soft = torch.tanh(gain * x)
    uneven = torch.tanh(gain * x + bias) - torch.tanh(bias)
    folded = torch.sin(gain.clamp(max=5) * x)
    hard = (gain * x).clamp(-1, 1)
    coarse = torch.round(x * bits) / bits
    for i, other in enumerate((uneven, folded, hard, coarse), 1):
        soft = torch.where(kind == i, other, soft)
    return soft


def equalize(dice: Dice, x: Tensor, spread_db: float = 4, room: float = 0.4, room_s: tuple[float, float] = (0.05, 0.5)):
    """Filter with a random smooth minimum-phase spectrum, which adds nothing before the attack, and add a room.

    Args:
        dice: random parameters.
        x: sounds (n, frames).
        spread_db: standard deviation of the spectrum.
        room: share of the sounds in a room.
        room_s: lowest and highest T60 of the room.
    """
    bands = 1025
    db = curve_db(dice, spread_db, bands=bands, slope_db=dice.uniform(-1.0, 1.0))
    db += bandpass_db(dice.log(15, 30), dice.log(6_000, 26_000), dice.log(9, 70), bands)
    response = F.pad(minimum_phase(db), (0, max(0, 24_000 - 2048)))
    t = seconds(dice, response.shape[-1])
    t60, distance = dice.log(*room_s), dice.uniform(0.0005, 0.02)
    tail = dice.normal(response.shape[-1]) * decay(t, t60) * (t > distance)
    walls = torch.where(dice.uniform(0, 1, response.shape[-1]) > 0.9995, dice.normal(response.shape[-1]) * 8, 0)
    tail = tail + walls * (t < 0.04) * (t > 0.002)
    tail = tail / tail.square().sum(-1, keepdim=True).sqrt().clamp(min=1e-6)
    dark = F.avg_pool1d(F.pad(tail, (3, 3))[:, None], 7, 1)[:, 0]
    tail = torch.lerp(tail, 2 * dark, dice.uniform(0, 1))
    response = response + dice.flip(room) * dice.log(0.02, 0.5) * tail
    return convolve(x, response)


def convolve(x: Tensor, response: Tensor) -> Tensor:
    """Convolve, cut to the length of x, and remove DC and everything below 20 Hz."""
    frames = x.shape[-1]
    size = 3 * 2 ** math.ceil(math.log2((frames + response.shape[-1]) / 3))
    spectrum = torch.fft.rfft(x, size) * torch.fft.rfft(response, size)
    s = 1j * torch.linspace(0, NYQUIST, size // 2 + 1, device=x.device) / 20
    return torch.fft.irfft(spectrum * (s**2 / (s**2 + 1.4 * s + 1)), size)[:, :frames]


def minimum_phase(db: Tensor) -> Tensor:
    """Return the minimum-phase impulse response of a spectrum in dB, (n, 2^m + 1) -> (n, 2^(m+1)).

    Source: A. V. Oppenheim and R. W. Schafer, Discrete-Time Signal Processing, "minimum-phase by the real cepstrum".
    """
    size = 2 * (db.shape[-1] - 1)
    cepstrum = torch.fft.irfft(db.clamp(min=-120) * (math.log(10) / 20), size)
    fold = torch.zeros(size, device=db.device)
    fold[0] = fold[size // 2] = 1
    fold[1 : size // 2] = 2
    return torch.fft.irfft(torch.exp(torch.fft.rfft(cepstrum * fold)), size)
