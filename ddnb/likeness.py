"""How alike sounds are, second by second: what is kept of a sound, and the search among what is kept of many.

Two looks are taken at each place. Mel levels of 10 ms tell everything but the pitch of a bass, of which a window of
21 ms has no whole period; the spectrum below 400 Hz of the whole second tells that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .audio import fit_length, resample
from .runtime import pick

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
_TURN = 2  # frames from one place to the next in a piece where a window may begin
_TURNS = range(0, _STEP, _TURN)
_AUDIBLE_DB = 40.0  # windows of a file count that come this near to its peak: the hiss of all tails is alike
_CANDIDATES, _PER_FILE = 32, 4  # windows that are compared closely, for each piece; at most so many of one file
_REFINED = 4  # of these, the best are compared from other places on, too
_SLIDES = range(1 - _STEP, _STEP, 2)  # frames
_PHASES, _LAGS = 4, 3  # quarters of a frame; frames to either side
_NOTHING_DB = -200.0
_QUIETEST_DB = -60.0  # a stretch with nothing above this, its file's peak being 0, is silence too
_STEPS_DB, _LOWEST_DB = 0.5, -100.0  # how levels are kept in a byte
_BASS_RATE, _BASS_HZ, _BASS_FFT = 1000, (20.0, 400.0), 2048
_AT_ONCE = 16
_CHUNK = 1 << 15


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


def described(sound: np.ndarray) -> Facts:
    """What is kept of a sound. Silence is put before it, so that its onset is where a window begins."""
    if not sound.size:
        return Facts(0.0, 1, EMPTY.frames, EMPTY.windows, EMPTY.places, EMPTY.bass)
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


def _bass_apart(piece: Piece, index: Index, firsts: np.ndarray, places: list[tuple[int, int, int, int]]) -> Tensor:
    """How far the bass of a piece is from that of sounds, 0 to 1: the cosine's complement, as far as there is bass.

    Args:
        firsts: where the bass of each sound begins in the index.
        places: (sound, its frame where the piece begins, by how many frames the piece slid, phase) of each.
    """
    per_frame = _HOP * _BASS_RATE // RATE
    here, there = [], []
    for owner, start, slide, phase in places:
        file = index.files[owner]
        mine = _bass_of(piece, slide, phase)
        bass = index.bass[firsts[owner] : firsts[owner] + file.bass].view(file.channels, -1)
        first, last = start * per_frame, start * per_frame + mine.shape[1]
        cut = bass[:, max(0, first) : max(0, last)].float()
        before = min(mine.shape[1], max(0, -first))
        theirs = torch.nn.functional.pad(cut, (before, mine.shape[1] - before - cut.shape[1]))
        if piece.loop:  # it goes on where the file has not begun, or has ended
            mine = mine.clone()
            mine[:, : max(0, round(file.lead_s * _BASS_RATE) - first)] = 0
            mine[:, max(0, bass.shape[1] - first) :] = 0
        here.append(_bass_spectrum(mine[None]))
        there.append(_bass_spectrum(theirs[None]))
    alike = torch.nn.functional.cosine_similarity(torch.cat(here), torch.cat(there))
    return piece.bass_share * (1 - alike).clamp(min=0)


# --- search -----------------------------------------------------------------------------------------------------


class File(NamedTuple):
    """A sound in an index: what it was when it was read, and how many rows it has."""

    name: str
    size: int
    mtime_ns: int
    lead_s: float
    channels: int
    frames: int
    windows: int
    bass: int


class Index(NamedTuple):
    """Many sounds, one after another: see ``Facts``; ``distances`` float32 from a sample of them to their nearest."""

    files: list[File]
    frames: Tensor
    windows: Tensor
    places: Tensor
    bass: Tensor
    distances: Tensor


_CELLS = (_WINDOW // _CELL[0]) * (_BANDS // _CELL[1])
EMPTY = Index(
    [],
    torch.zeros(0, _BANDS, dtype=torch.uint8),
    torch.zeros(0, _CELLS, dtype=torch.float16),
    torch.zeros(0, dtype=torch.int32),
    torch.zeros(0, dtype=torch.float16),
    torch.zeros(0),
)


def file_of(name: str, size: int, mtime_ns: int, facts: Facts) -> File:
    counts = len(facts.frames), len(facts.windows), len(facts.bass)
    return File(name, size, mtime_ns, facts.lead_s, facts.channels, *counts)


class Match(NamedTuple):
    distance: float
    file: int
    at_s: float
    clip_at_s: float


def joined(files: list[File], facts: Sequence[Facts]) -> Index:
    columns = [torch.cat(column) for column in zip(*(f[2:] for f in facts), strict=True)]
    return Index(files, *columns, torch.zeros(0))


def search(pieces: list[Piece], index: Index, besides: int = -1) -> list[Match]:
    """The sounds of an index that each piece is nearest to, but for sound ``besides``: some matches for each piece."""
    found: list[Match] = []
    owner = torch.repeat_interleave(torch.tensor([f.windows for f in index.files]))
    firsts = np.cumsum([(0, 0), *((f.frames, f.bass) for f in index.files)], axis=0).T
    for i in range(0, len(pieces), _AT_ONCE):
        some = pieces[i : i + _AT_ONCE]
        for piece, (windows, turns) in zip(some, _candidates(some, index.windows, owner, besides), strict=True):
            if len(windows):
                found += _compared(piece, index, owner[windows], index.places[windows] - turns, firsts)
    return found


def _candidates(pieces: list[Piece], windows: Tensor, owner: Tensor, besides: int) -> Iterator[tuple[Tensor, Tensor]]:
    """For each piece the windows that are most alike, and where in the piece they would begin, frames."""
    sought = [_sought(piece) for piece in pieces]
    vectors, cells = torch.cat([v for v, _ in sought]), torch.cat([c for _, c in sought])
    per_time = windows.shape[1] // (_WINDOW // _CELL[0])
    scores, turns = [], []
    for chunk, mine in zip(windows.split(_CHUNK), owner.split(_CHUNK), strict=True):
        chunk = chunk.float()
        # the part of a window that is beyond the end of the piece is left out
        norms = chunk.square().unflatten(1, (-1, per_time)).sum(2).cumsum(1).sqrt().clamp(min=1e-6)
        alike = vectors @ chunk.T
        for m in cells.unique().tolist():
            alike[cells == m] /= norms[:, m - 1]
        alike[:, mine == besides] = -1
        best, turn = alike.unflatten(0, (len(pieces), len(_TURNS))).max(1)
        scores.append(best)
        turns.append(turn)
    best, turn = torch.cat(scores, 1), torch.cat(turns, 1)
    for row, where in zip(best, turn, strict=True):
        score, top = row.topk(min(4 * _CANDIDATES, len(row)))
        top = top[score > 0]
        before = (owner[top][:, None] == owner[top]).tril(-1).sum(1)
        top = top[before < _PER_FILE][:_CANDIDATES]
        yield top, where[top] * _TURN


def _sought(piece: Piece) -> tuple[Tensor, Tensor]:
    """Windows of a piece, unit vectors (turns, cells), and how many times (of 50 ms) of each there are."""
    frames = piece.frames
    padded = torch.nn.functional.pad(piece.second[0], (0, 0, 0, _WINDOW), value=_NOTHING_DB)
    vectors, cells = [], []
    for turn in _TURNS:
        left = min(_WINDOW, frames - turn)
        if left < _SHORTEST and turn:  # too little is left to tell
            vectors.append(torch.zeros(vectors[0].shape))
            cells.append(_WINDOW // _CELL[0])
            continue
        vectors.append(_pooled(_above(padded[None, turn : turn + _WINDOW]))[0])
        cells.append(left // _CELL[0])
        vectors[-1][cells[-1] * _BANDS // _CELL[1] :] = 0
    return torch.nn.functional.normalize(torch.stack(vectors), dim=1), torch.tensor(cells)


def _compared(piece: Piece, index: Index, owners: Tensor, starts: Tensor, firsts: np.ndarray) -> Iterator[Match]:
    """Lay a piece on the sounds exactly: some frames earlier and later, and between frames; and slide it."""
    levels, (frame_firsts, bass_firsts) = piece.second, firsts
    kept, sounding, enough = _stretches(piece, index, owners, starts - _LAGS, piece.frames + 2 * _LAGS, frame_firsts)
    laid = kept.unfold(1, piece.frames, 1).movedim(-1, 2)  # (candidates, lags, frames, bands)
    if piece.loop:
        alike = _alike_inside(levels, laid, sounding.unfold(1, piece.frames, 1), enough)
    else:
        there = torch.nn.functional.normalize(_above(laid).flatten(2), dim=2)
        alike = there @ torch.nn.functional.normalize(_above(levels).flatten(1), dim=1).T
    best, at = alike.flatten(1).max(1)
    starts, phases = starts - _LAGS + at // _PHASES, at % _PHASES
    places = list(zip(owners.tolist(), starts.tolist(), [0] * len(owners), phases.tolist(), strict=True))
    apart = torch.maximum(1 - best, _bass_apart(piece, index, bass_firsts, places))
    closest = {*apart.topk(min(_REFINED, len(apart)), largest=False)[1].tolist(), *range(min(_REFINED, len(apart)))}
    refined = [_slid(piece, index, places[i], frame_firsts) for i in sorted(closest)]
    if refined := [(apart, place) for apart, place in refined if place[2]]:
        bass = _bass_apart(piece, index, bass_firsts, [place for _, place in refined])
        apart = torch.cat([apart, torch.maximum(torch.tensor([a for a, _ in refined]), bass)])
        places += [place for _, place in refined]
    for (owner, start, slide, phase), far in zip(places, apart.clamp(0, 1).sqrt().tolist(), strict=True):
        at_s = (start - phase / _PHASES) * _HOP / RATE
        yield Match(far, owner, at_s, (piece.first + slide) * _HOP / RATE + piece.lead_s)


def _slid(piece: Piece, index: Index, place: tuple[int, int, int, int], firsts: np.ndarray) -> tuple[float, tuple]:
    """Where it is most alike if the piece begins earlier or later, in the clip as in the sound."""
    owner, start, _, phase = place
    last = piece.levels.shape[1] - piece.frames if piece.frames == _PIECE else piece.first
    slides = torch.tensor([0, *(s for s in _SLIDES if 0 <= piece.first + s <= last)])
    here = piece.levels[phase][(piece.first + slides)[:, None] + torch.arange(piece.frames)]
    owners = torch.full_like(slides, owner)
    there, sounding, enough = _stretches(piece, index, owners, start + slides, piece.frames, firsts)
    if piece.loop:
        here = torch.where(sounding[..., None], here, _NOTHING_DB)
        there = torch.where(sounding[..., None], there, _NOTHING_DB)
    alike = torch.nn.functional.cosine_similarity(_above(here).flatten(1), _above(there).flatten(1))
    if piece.loop:
        alike = torch.where(sounding.sum(1) >= enough, alike, 0.0)
    best = int(alike.argmax())
    slide = int(slides[best])
    return 1 - float(alike[best]), (owner, start + slide, slide, phase)


def _stretches(
    piece: Piece, index: Index, owners: Tensor, starts: Tensor, frames: int, firsts: np.ndarray
) -> tuple[Tensor, Tensor, Tensor]:
    """Levels of sounds from their frames ``starts`` on, silence where they are not.

    Returns:
        dB (stretches, frames, bands); where the sounds sound, (stretches, frames); how many frames of that are enough.
    """
    counts = torch.from_numpy(np.diff(firsts))[owners]
    places = starts.long()[:, None] + torch.arange(frames)
    inside = (places >= 0) & (places < counts[:, None])
    rows = torch.from_numpy(firsts)[owners][:, None] + places.clamp(min=0).minimum(counts[:, None] - 1)
    kept = index.frames[rows].float() * _STEPS_DB + _LOWEST_DB
    leads = torch.tensor([math.ceil(index.files[i].lead_s * RATE / _HOP) for i in owners.tolist()])
    sounding = (places >= leads[:, None]) & (places < counts[:, None] - _FFT // _HOP)
    enough = ((counts - leads).clamp(max=_PIECE) // 2).clamp(min=_SHORTEST)
    return torch.where(inside[..., None], kept, _NOTHING_DB), sounding, enough


def _alike_inside(piece: Tensor, laid: Tensor, inside: Tensor, enough: Tensor) -> Tensor:
    """Likeness (candidates, lags, phases) of a piece of a loop where the sounds are: a loop goes on, its file ends.

    Args:
        piece: dB (phases, frames, bands).
        laid: dB (candidates, lags, frames, bands) of the sounds.
        inside: bool (candidates, lags, frames), where a sound is.
        enough: (candidates,) frames that must be inside.
    """
    mask = inside[..., None]
    there = _above(torch.where(mask, laid, _NOTHING_DB)).flatten(2)
    here = _above(torch.where(mask[:, :, None], piece, _NOTHING_DB)).flatten(3)
    alike = torch.einsum("cld,clpd->clp", there, here)
    alike /= (there.norm(dim=2)[..., None] * here.norm(dim=3)).clamp(min=1e-6)
    return torch.where((inside.sum(2) >= enough[:, None])[..., None], alike, 0.0)
