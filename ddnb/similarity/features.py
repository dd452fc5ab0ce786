"""How alike sounds are, second by second: what is kept of a sound, and the search among what is kept of many.

Two looks are taken at each place. Mel levels of 10 ms tell everything but the pitch of a bass, of which a window of
21 ms has no whole period; the spectrum below 400 Hz of the whole second tells that.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..audio.io import fit_length, resample
from ..runtime import pick

RATE = 24_000
_HOP, _FFT, _BANDS = 240, 512, 32  # 10 ms; 21 ms
_LOW_HZ, _HIGH_HZ = 30.0, 11_000.0  # no higher: a copy that was once an MP3 is still a copy
_FLOOR_DB = 30.0  # below the loudest cell all is silence: there a little noise drowns the sound
_ONSET_DB = -20.0
_PIECE = 100  # frames, 1 s: what is compared
_SHORTEST = 25
_HEARD_DB = 30.0  # pieces of a long clip count that come this near to its peak
_WINDOW, _STEP = 50, 25  # frames: what is looked up first, and how often a file has one
_CELL = (5, 2)  # frames and bands that are one number there
_AUDIBLE_DB = 40.0  # windows of a file count that come this near to its peak: the hiss of all tails is alike
_NOTHING_DB = -200.0
_QUIETEST_DB = -60.0  # a stretch with nothing above this, its file's peak being 0, is silence too
_STEPS_DB, _LOWEST_DB = 0.5, -100.0  # how levels are kept in a byte
_PHASES = 4  # quarters of a frame
_CELLS = (_WINDOW // _CELL[0]) * (_BANDS // _CELL[1])
_BASS_RATE, _BASS_HZ, _BASS_FFT = 1000, (20.0, 400.0), 2048


# --- what a sound is like ---------------------------------------------------------------------------------------


class Facts(NamedTuple):
    """What is kept of a sound.

    ``frames`` are uint8 (F, bands), ``windows`` float16 (W, cells), ``places`` where these begin, ``bass`` float16
    (channels after channels), the waveform at 1 kHz.
    """

    lead_s: float
    channels: int
    frames: Tensor
    windows: Tensor
    places: Tensor
    bass: Tensor


class Piece(NamedTuple):
    """A second of a clip, or less at its end: from frame ``first`` on.

    ``levels`` are those of all the clip, dB (phases, frames, bands), ``bass`` its waveform at 1 kHz, (channels, T);
    ``bass_share`` is the bass's part in the energy of the second.
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


def heard(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """The sound at the rate of comparison and with a peak of 1, float32 (channels, frames); silence is empty."""
    if (audio == audio[:1]).all():  # mono: half the work
        audio = audio[:1]
    sound = resample(audio.astype(np.float32), sample_rate, RATE)
    peak = np.abs(sound).max(initial=0.0)
    return sound / peak if peak > 0 else sound[:, :0]


def _onset(sound: np.ndarray) -> int:
    return int((np.abs(sound) >= 10 ** (_ONSET_DB / 20)).any(axis=0).argmax())


def _levels(sound: np.ndarray, frames: int) -> Tensor:
    """Mel levels in dB, (frames, bands); silence follows where the sound ends."""
    device = str(pick().device)
    audio = torch.from_numpy(fit_length(sound, (frames - 1) * _HOP + _FFT)).to(device)
    power = _mels(device)(audio).mean(0).cpu()
    return 10 * power.clamp(min=1e-12).log10().T


@lru_cache(maxsize=2)
def _mels(device: str) -> Callable[[Tensor], Tensor]:
    """Power in mel bands, (channels, samples) -> (channels, bands, frames); a frame begins at each hop."""
    try:
        from torchaudio.transforms import MelSpectrogram
    except (ImportError, OSError):  # not there, or built for another torch
        return _plain_mels(device)
    slaney: dict[str, Any] = {"norm": "slaney", "mel_scale": "slaney", "f_min": _LOW_HZ, "f_max": _HIGH_HZ}
    return MelSpectrogram(RATE, n_fft=_FFT, hop_length=_HOP, n_mels=_BANDS, center=False, **slaney).to(device)


def _plain_mels(device: str) -> Callable[[Tensor], Tensor]:
    import librosa

    bank = librosa.filters.mel(sr=RATE, n_fft=_FFT, n_mels=_BANDS, fmin=_LOW_HZ, fmax=_HIGH_HZ)
    bank, window = torch.from_numpy(bank).to(device), torch.hann_window(_FFT, device=device)

    def mels(audio: Tensor) -> Tensor:
        spectrum = torch.stft(audio, _FFT, _HOP, window=window, center=False, return_complex=True)
        return bank @ spectrum.abs().square()

    return mels


SILENCE = Facts(
    0.0,
    1,
    torch.zeros(0, _BANDS, dtype=torch.uint8),
    torch.zeros(0, _CELLS, dtype=torch.float16),
    torch.zeros(0, dtype=torch.int32),
    torch.zeros(0, dtype=torch.float16),
)


def described(sound: np.ndarray) -> Facts:
    """What is kept of a sound. Silence is put before it, so that its onset is where a window begins."""
    if not sound.size:
        return SILENCE
    lead = -_onset(sound) % (_STEP * _HOP)
    sound = np.pad(sound, ((0, 0), (lead, 0)))
    levels = _levels(sound, -(-sound.shape[1] // _HOP))
    levels -= levels.max()
    starts = range(0, len(levels), _STEP)
    audible = [s for s in starts if levels[s : s + _WINDOW].max() >= -_AUDIBLE_DB]
    places = torch.tensor(audible, dtype=torch.int32)
    kept = ((levels - _LOWEST_DB) / _STEPS_DB).round().clamp(0, 255).to(torch.uint8)
    bass = torch.from_numpy(_bass(sound)).half().flatten()
    return Facts(lead / RATE, len(sound), kept, _windows(levels, places), places, bass)


def _windows(levels: Tensor, places: Tensor) -> Tensor:
    """What is looked up first: windows of levels (frames, bands), pooled; float16 unit vectors (W, cells)."""
    padded = torch.nn.functional.pad(levels, (0, 0, 0, _WINDOW), value=_NOTHING_DB)
    some = padded[places.long()[:, None] + torch.arange(_WINDOW)]
    return torch.nn.functional.normalize(_pooled(_above(some)), dim=1).half()


def _above(levels: Tensor) -> Tensor:
    """How far each cell is above the floor, dB; (..., frames, bands). What is quieter is 0: silence is not alike."""
    loudest = levels.amax((-2, -1), keepdim=True).clamp(min=_QUIETEST_DB)
    return (levels - loudest + _FLOOR_DB).clamp_(min=0)


def _pooled(above: Tensor) -> Tensor:
    """(W, frames, bands) -> (W, cells), time by time."""
    return torch.nn.functional.avg_pool2d(above[:, None], _CELL).flatten(1)


def pieces_of(sound: np.ndarray, loop: bool) -> list[Piece]:
    """The seconds of a clip that are compared, one every quarter of a second; those of a loop go round."""
    if not sound.size:
        return []
    long, step = _PIECE * _HOP, _STEP * _HOP
    lead = 0 if loop else _onset(sound) % step  # so that one begins at the onset
    frames = sound.shape[1] - lead
    sound = np.tile(sound, 2 + long // frames) if loop else sound[:, lead:]
    starts = range(0, frames if loop else max(1, frames - _WINDOW * _HOP), step)
    begun = [s for s in starts if np.abs(sound[:, s : s + step]).max() >= 10 ** (-_HEARD_DB / 20)]
    count = -(-(starts[-1] + step + long) // _HOP) + 1
    quarter = _HOP // _PHASES
    shifted = [sound[:, min(k * quarter, sound.shape[1] - 1) :] for k in range(_PHASES)]
    levels = torch.stack([_levels(part, count) for part in shifted])
    bass = torch.from_numpy(fit_length(_bass(sound), (count + 1) * _BASS_RATE * _HOP // RATE))
    return [_piece(sound, s, lead / RATE, levels, bass, loop) for s in begun]


def _piece(sound: np.ndarray, start: int, lead_s: float, levels: Tensor, bass: Tensor, loop: bool) -> Piece:
    first = start // _HOP
    there = min(_PIECE, max(_SHORTEST, (sound.shape[1] - start) // _HOP))
    # what has died away is followed by silence; what was cut off is compared as far as it goes
    cut_off = _above(levels[0, first : first + _PIECE])[max(0, there - 6) : there - 2].any()
    piece = Piece(levels, bass, first, there if cut_off else _PIECE, 0.0, lead_s, loop)
    second = torch.stack([_bass_of(piece, 0, 0)])
    energy = float(np.square(sound[:, start : start + piece.frames * _HOP]).sum()) / len(sound)
    low = 2 * RATE / _BASS_RATE * float(_bass_spectrum(second).square().sum()) / _BASS_FFT
    return piece._replace(bass_share=min(1.0, low / max(energy, 1e-12)))


# --- bass -------------------------------------------------------------------------------------------------------


def _bass(sound: np.ndarray) -> np.ndarray:
    """The waveform below 400 Hz, (channels, T) at 1 kHz."""
    return np.ascontiguousarray(resample(sound, RATE, _BASS_RATE))


def _bass_of(piece: Piece, slide: int, phase: int) -> Tensor:
    first = round((piece.first + slide + phase / _PHASES) * _HOP * _BASS_RATE / RATE)
    return piece.bass[:, first : first + piece.frames * _HOP * _BASS_RATE // RATE]


def _bass_spectrum(waveforms: Tensor) -> Tensor:
    """Magnitudes from 20 to 400 Hz, bins of 0.5 Hz: (N, channels, T) -> (N, bins)."""
    low, high = (round(hz * _BASS_FFT / _BASS_RATE) for hz in _BASS_HZ)
    return torch.fft.rfft(waveforms, _BASS_FFT)[..., low:high].abs().square().mean(1).sqrt()
