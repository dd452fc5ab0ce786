"""Features by which sounds are compared, second by second.

There are two kinds. Mel levels of 10 ms capture everything but the pitch of a bass, of which a window of 21 ms has no
whole period; the spectrum below 400 Hz of the whole second captures that.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..audio.io import peak, resample, stretch
from ..runtime import import_librosa, pick

RATE = 24_000
HOP, FFT, BANDS = 240, 512, 32  # 10 ms; 21 ms
_LOW_HZ, _HIGH_HZ = 30.0, 11_000.0  # no higher: MP3 removes the rest, and its copies are copies
_FLOOR_DB = 30.0  # below the loudest cell; lower levels count as silence, as little noise changes them
_ONSET_DB = -20.0
PIECE = 100  # frames, 1 s: the unit of comparison
SHORTEST = 25
_HEARD_DB = 30.0  # pieces of a long clip whose peak is lower than this below the clip's are skipped
WINDOW, STEP = 50, 25  # frames: length and spacing of the windows of the coarse search
CELL = (5, 2)  # frames and bands that are pooled in a window
_AUDIBLE_DB = 40.0  # quieter windows of a file are skipped: the hiss of all tails is alike
NOTHING_DB = -200.0
_QUIETEST_DB = -60.0  # re the file's peak: a stretch without anything louder counts as silence
STEPS_DB, LOWEST_DB = 0.5, -100.0  # quantisation of levels to a byte
PHASES = 4  # quarters of a frame
_FRAMES_AT_ONCE = 1 << 12  # 41 s
_CELLS = (WINDOW // CELL[0]) * (BANDS // CELL[1])
BASS_RATE, _BASS_HZ, _BASS_FFT = 1000, (20.0, 400.0), 2048


# --- features of a sound ---


class Facts(NamedTuple):
    """The features of a sound.

    ``frames`` are uint8 (F, bands), ``windows`` float16 (W, cells), ``places`` their first frames, ``bass`` float16
    (channel after channel), the waveform at 1 kHz.
    """

    lead_s: float
    channels: int
    frames: Tensor
    windows: Tensor
    places: Tensor
    bass: Tensor


class Piece(NamedTuple):
    """A second of a clip, or less at its end: from frame ``first`` on.

    ``levels`` are those of the whole clip, dB (phases, frames, bands), ``bass`` its waveform at 1 kHz, (channels, T);
    ``bass_share`` is the share of the bass in the energy of the second.
    """

    levels: Tensor
    bass: Tensor
    first: int
    frames: int
    bass_share: float
    lead_s: float
    loop: bool

    @property
    def second(self) -> Tensor:
        return self.levels[:, self.first : self.first + self.frames]


def normalize(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Return the sound at the rate of comparison with a peak of 1, float32 (channels, frames); silence becomes
    empty.
    """
    if (audio == audio[:1]).all():  # mono: half the work
        audio = audio[:1]
    sound = resample(audio.astype(np.float32, copy=False), sample_rate, RATE)
    if not (highest := peak(sound)):
        return sound[:, :0]
    if sample_rate == RATE:  # these may be the samples that were given
        return sound / np.float32(highest)
    sound /= np.float32(highest)
    return sound


def _onset(sound: np.ndarray) -> int:
    return int((np.abs(sound) >= 10 ** (_ONSET_DB / 20)).any(axis=0).argmax())


def _levels(sound: np.ndarray, frames: int) -> Tensor:
    """Return mel levels in dB, (frames, bands), padded with silence; a long sound is transformed in parts."""
    device = str(pick().device)
    levels = []
    for first in range(0, frames, _FRAMES_AT_ONCE):
        some = min(_FRAMES_AT_ONCE, frames - first)
        audio = torch.from_numpy(stretch(sound, first * HOP, (some - 1) * HOP + FFT)).to(device)
        power = _mels(device)(audio).mean(0).cpu()
        levels.append(10 * power.clamp(min=1e-12).log10().T)
    return torch.cat(levels)


@lru_cache(maxsize=2)
def _mels(device: str) -> Callable[[Tensor], Tensor]:
    """Return a function for the power in mel bands, (channels, samples) -> (channels, bands, frames)."""
    try:
        from torchaudio.transforms import MelSpectrogram
    except (ImportError, OSError):  # missing, or built for another torch
        return _plain_mels(device)
    slaney: dict[str, Any] = {"norm": "slaney", "mel_scale": "slaney", "f_min": _LOW_HZ, "f_max": _HIGH_HZ}
    return MelSpectrogram(RATE, n_fft=FFT, hop_length=HOP, n_mels=BANDS, center=False, **slaney).to(device)


def _plain_mels(device: str) -> Callable[[Tensor], Tensor]:
    librosa = import_librosa()

    weights = librosa.filters.mel(sr=RATE, n_fft=FFT, n_mels=BANDS, fmin=_LOW_HZ, fmax=_HIGH_HZ)
    bank, window = torch.from_numpy(weights).to(device), torch.hann_window(FFT, device=device)

    def mels(audio: Tensor) -> Tensor:
        spectrum = torch.stft(audio, FFT, HOP, window=window, center=False, return_complex=True)
        return bank @ spectrum.abs().square()

    return mels


SILENCE = Facts(
    0.0,
    1,
    torch.zeros(0, BANDS, dtype=torch.uint8),
    torch.zeros(0, _CELLS, dtype=torch.float16),
    torch.zeros(0, dtype=torch.int32),
    torch.zeros(0, dtype=torch.float16),
)


def describe(sound: np.ndarray) -> Facts:
    """Return the features of a sound; silence is prepended so that a window begins at its onset."""
    if not sound.size:
        return SILENCE
    lead = -_onset(sound) % (STEP * HOP)
    sound = np.pad(sound, ((0, 0), (lead, 0)))
    levels = _levels(sound, -(-sound.shape[1] // HOP))
    levels -= levels.max()
    starts = range(0, len(levels), STEP)
    audible = [s for s in starts if levels[s : s + WINDOW].max() >= -_AUDIBLE_DB]
    places = torch.tensor(audible, dtype=torch.int32)
    kept = ((levels - LOWEST_DB) / STEPS_DB).round().clamp(0, 255).to(torch.uint8)
    bass = torch.from_numpy(_bass(sound)).half().flatten()
    return Facts(lead / RATE, len(sound), kept, _windows(levels, places), places, bass)


def _windows(levels: Tensor, places: Tensor) -> Tensor:
    """Return pooled windows of levels (frames, bands) for the coarse search; float16 unit vectors (W, cells)."""
    padded = torch.nn.functional.pad(levels, (0, 0, 0, WINDOW), value=NOTHING_DB)
    some = padded[places.long()[:, None] + torch.arange(WINDOW)]
    return torch.nn.functional.normalize(pooled(above_floor(some)), dim=1).half()


def above_floor(levels: Tensor) -> Tensor:
    """Return levels above the floor, dB, (..., frames, bands); quieter cells are 0, so that silence is not similar."""
    loudest = levels.amax((-2, -1), keepdim=True).clamp(min=_QUIETEST_DB)
    return (levels - loudest + _FLOOR_DB).clamp_(min=0)


def pooled(above: Tensor) -> Tensor:
    """Pool (W, frames, bands) to (W, cells), time after time."""
    return torch.nn.functional.avg_pool2d(above[:, None], CELL).flatten(1)


def split_pieces(sound: np.ndarray, loop: bool) -> list[Piece]:
    """Return the seconds of a clip that are compared, one every quarter of a second; those of a loop wrap around."""
    if not sound.size:
        return []
    long, step = PIECE * HOP, STEP * HOP
    lead = 0 if loop else _onset(sound) % step  # one piece begins at the onset
    frames = sound.shape[1] - lead
    sound = np.tile(sound, 2 + long // frames) if loop else sound[:, lead:]
    starts = range(0, frames if loop else max(1, frames - WINDOW * HOP), step)
    begun = [s for s in starts if np.abs(sound[:, s : s + step]).max() >= 10 ** (-_HEARD_DB / 20)]
    count = -(-(starts[-1] + step + long) // HOP) + 1
    quarter = HOP // PHASES
    shifted = [sound[:, min(k * quarter, sound.shape[1] - 1) :] for k in range(PHASES)]
    levels = torch.stack([_levels(part, count) for part in shifted])
    bass = torch.from_numpy(stretch(_bass(sound), 0, (count + 1) * BASS_RATE * HOP // RATE))
    return [_piece(sound, s, lead / RATE, levels, bass, loop) for s in begun]


def _piece(sound: np.ndarray, start: int, lead_s: float, levels: Tensor, bass: Tensor, loop: bool) -> Piece:
    first = start // HOP
    there = min(PIECE, max(SHORTEST, (sound.shape[1] - start) // HOP))
    # a sound that has decayed is followed by silence; one that was cut off is compared up to its end
    cut_off = above_floor(levels[0, first : first + PIECE])[max(0, there - 6) : there - 2].any()
    piece = Piece(levels, bass, first, there if cut_off else PIECE, 0.0, lead_s, loop)
    second = torch.stack([bass_of(piece, 0, 0)])
    energy = float(np.square(sound[:, start : start + piece.frames * HOP]).sum()) / len(sound)
    low = 2 * RATE / BASS_RATE * float(bass_spectrum(second).square().sum()) / _BASS_FFT
    return piece._replace(bass_share=min(1.0, low / max(energy, 1e-12)))


# --- bass ---


def _bass(sound: np.ndarray) -> np.ndarray:
    """Return the waveform at 1 kHz, (channels, T)."""
    return np.ascontiguousarray(resample(sound, RATE, BASS_RATE))


def bass_of(piece: Piece, slide: int, phase: int) -> Tensor:
    first = round((piece.first + slide + phase / PHASES) * HOP * BASS_RATE / RATE)
    return piece.bass[:, first : first + piece.frames * HOP * BASS_RATE // RATE]


def bass_spectrum(waveforms: Tensor) -> Tensor:
    """Return magnitudes from 20 to 400 Hz in bins of 0.5 Hz: (N, channels, T) -> (N, bins)."""
    low, high = (round(hz * _BASS_FFT / BASS_RATE) for hz in _BASS_HZ)
    return torch.fft.rfft(waveforms, _BASS_FFT)[..., low:high].abs().square().mean(1).sqrt()
