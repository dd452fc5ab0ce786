"""Whether new sounds are copies: of the sounds a network was trained on, or of each other."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .audio import fit_length, read, resample
from .clips import Clip, Clips
from .engine import AnySound, source_of
from .files import atomically
from .runtime import cache_dir, pick
from .sampler import Cancelled, Event
from .verbs import sound_files

NEAREST_THRESHOLD, WIDEST_THRESHOLD = 0.06, 0.09
"""Between these the threshold of a folder lies. Below the first are most copies that were shifted, turned upside down,
lowered, covered with 5 % of noise and sent through MP3, all at once (measured, see bench/originality.py); above the
second are two seconds of white noise: what only is of the same kind is no copy."""

DUPLICATE_THRESHOLD = 0.05
"""Of two clips of a batch; stricter, as of many pairs some are alike by chance."""

FEWEST_SOUNDS = 10
"""Of fewer nothing can be learned about how near sounds of a folder are to each other."""

NEAR_COPY, NO_COPY = "near copy of", "no near copy found in this folder"
UNCHECKED, SILENT = "cannot be checked here", "silent: there is nothing to compare"
WHY_UNCHECKED = "the training sounds are not at hand"

OnProgress = Callable[[int, int], object]

_RATE = 24_000
_HOP, _FFT, _BANDS = 240, 512, 32  # 10 ms; 21 ms
_LOW_HZ, _HIGH_HZ = 30.0, 11_000.0  # no higher: a copy that was once an MP3 is still a copy
_FLOOR_DB = 30.0  # below the loudest cell all is silence: there a little noise drowns the sound
_ONSET_DB = -20.0
_PIECE = 100  # frames, 1 s: what is compared
_SHORTEST = 25
_LOUD_DB = 12.0  # pieces of a long clip count that come this near to its peak
_WINDOW, _STEP = 50, 25  # frames: what is looked up first, and how often a file has one
_CELL = (5, 2)  # frames and bands that are one number there
_TURN = 2  # frames from one place to the next in a piece where a window may begin
_TURNS = range(0, _STEP, _TURN)
_AUDIBLE_DB = 40.0  # windows of a file count that come this near to its peak: the hiss of all tails is alike
_CANDIDATES = 32  # windows that are compared closely, for each piece
_PHASES, _LAGS = 4, 3  # quarters of a frame; frames to either side
_NOTHING_DB = -200.0
_QUIETEST_DB = -60.0  # a stretch with nothing above this, its file's peak being 0, is silence too
_STEPS_DB, _LOWEST_DB = 0.5, -100.0  # how levels are kept in a byte
_SAMPLE = 500  # sounds of a folder whose nearest neighbours are looked for
_STRETCH_S = 2.0  # of each of them, as long as a clip
_AT_ONCE = 16
_CHUNK = 1 << 15
_LAYOUT = 1  # of the cache; another number makes it anew
_NAMES = 5


def originality(
    clips: Clips | AnySound | Sequence[AnySound],
    folder: str | Path | None,
    *,
    on_progress: OnProgress | None = None,
    cancel: Event | None = None,
) -> Originality:
    """Look for near copies: of training sounds among the clips, and of the clips among each other.

    Level, polarity, silence around a sound and the turn of a loop do not matter. Long sounds are compared second by
    second. What counts as near is learned from the folder, from how near its own sounds are to each other. What the
    folder sounds like is kept in the cache: the next time only new and changed files are read.

    Args:
        clips: what a verb returned, a clip, a path, ``(array, sample_rate)``, or several of them.
        folder: of the training sounds, at any depth; none if they are not at hand, then only the clips are compared.
        on_progress: called as ``on_progress(done, total)``, with files, sounds of the sample and clips counted.
        cancel: anything with ``is_set()``; files that have been read need not be read again.

    Returns:
        The findings: ``print`` shows them, a notebook cell shows both players of each.

    Raises:
        FileNotFoundError: no such folder, no sound in it, or no such sound file.
        ValueError: a clip that is no sound, or none of the files can be used.
        Cancelled: ``cancel`` was set.
    """
    clips = [_clip(sound) for sound in _several(clips)]
    if not clips:
        raise ValueError("clips: there are none to check.")
    work = _Work(len(clips), on_progress, cancel)
    folder = None if folder is None else Path(folder).expanduser().resolve()
    index, skipped = (None, {}) if folder is None else _index_of(folder, work)
    threshold = WIDEST_THRESHOLD if index is None else threshold_of(index.distances.numpy())
    heard = [_heard(clip.audio, clip.sample_rate) for clip in clips]
    rows = []
    for clip, sound in zip(clips, heard, strict=True):
        work.go_on()
        rows.append(_row(clip, sound, index, threshold))
        work.done()
    files = 0 if index is None else len(index.files)
    return Originality(tuple(rows), _duplicates(clips, heard), threshold, files, skipped, folder)


@dataclass(frozen=True, eq=False)
class Row:
    """What was found for one clip.

    Attributes:
        clip: the clip.
        nearest: path inside the folder of the training sound that is nearest, with ``/``; none if nothing was compared.
        at_s: where in that sound the stretch begins that the clip resembles.
        clip_at_s: where in the clip.
        distance: from 0 (the same) to 1 (nothing in common).
        score: share of the folder's sounds, 0 to 1, that are farther from their own nearest neighbour; none if
            the folder has fewer than 10 sounds.
        verdict: in words.
        near: whether it is a near copy.
    """

    clip: Clip
    nearest: str | None = None
    at_s: float | None = None
    clip_at_s: float | None = None
    distance: float | None = None
    score: float | None = None
    verdict: str = UNCHECKED
    near: bool = False


@dataclass(frozen=True, eq=False)
class Originality:
    """What ``originality`` found; ``print`` shows it as text.

    Attributes:
        rows: one for each clip, in order.
        duplicates: (number of a clip, number of a later one that is nearly the same, their distance).
        threshold: distance below which a sound is a near copy.
        files: training sounds that the clips were compared with.
        skipped: path inside the folder -> why this file could not be used.
        folder: of the training sounds; none if they were not at hand.
    """

    rows: tuple[Row, ...]
    duplicates: tuple[tuple[int, int, float], ...]
    threshold: float
    files: int
    skipped: dict[str, str]
    folder: Path | None

    def record(self, i: int) -> dict[str, Any]:
        """What a manifest says of clip ``i``; file names only, no folder of anybody's disk."""
        row = self.rows[i]
        if self.folder is None:
            return {"verdict": "not checked", "why": WHY_UNCHECKED}
        return {
            "verdict": f"{NEAR_COPY} {Path(row.nearest).name}" if row.near else row.verdict,
            "nearest": row.nearest and Path(row.nearest).name,
            "distance": row.distance and round(row.distance, 4),
            "threshold": round(self.threshold, 4),
            "score": row.score and round(row.score, 4),
            "files": self.files,
        }

    def nearest_sound(self, i: int) -> Clip:
        """The stretch of the nearest training sound that clip ``i`` resembles, as long as the clip.

        Raises:
            ValueError: it was compared with nothing.
            FileNotFoundError: the file has gone since.
        """
        row = self.rows[i]
        if row.nearest is None:
            raise ValueError(f"clip {i} was compared with no training sound: {row.verdict}.")
        audio, rate = read(self.folder / row.nearest)
        start = min(max(0, round((row.at_s - row.clip_at_s) * rate)), audio.shape[-1] - 1)
        name = Path(row.nearest).name
        cut = fit_length(audio, round(row.clip.duration_s * rate), start)
        return Clip(cut, rate, 0, {"source": {"name": name}, "model": {"name": name}})

    def __str__(self) -> str:
        rows = [_about_row(i, row) for i, row in enumerate(self.rows)]
        return "\n".join([*_about_folder(self), *rows, *_about_pairs(self)])

    def __repr__(self) -> str:
        near = sum(row.near for row in self.rows)
        return f"<Originality of {len(self.rows)} clips: {near} near copies, {len(self.duplicates)} duplicates>"

    def _repr_html_(self) -> str:
        from .widgets import originality_html  # notebooks only, as in clips

        return originality_html(self)


def threshold_of(distances: np.ndarray) -> float:
    """The distance below which a sound is a near copy: what 1 % of a folder's sounds would be if none were double.

    By median and spread, which doubles in the folder hardly change; kept within what copies and others have measured.

    Args:
        distances: of some sounds of a folder to their nearest neighbours, 0 to 1; empty if there are too few.
    """
    if not len(distances):
        return WIDEST_THRESHOLD
    logs = np.log(np.maximum(distances, 1e-4))
    middle = np.median(logs)
    spread = 1.4826 * np.median(np.abs(logs - middle))
    return float(np.clip(np.exp(middle - 2.326 * spread), NEAREST_THRESHOLD, WIDEST_THRESHOLD))


class _Work:
    """How much is done, told, and whether to go on."""

    def __init__(self, total: int, on_progress: OnProgress | None, cancel: Event | None):
        self.so_far, self.total, self.on_progress, self.cancel = 0, total, on_progress, cancel
        self.go_on()

    def more(self, n: int) -> None:
        self.total += n

    def done(self) -> None:
        self.so_far += 1
        if self.on_progress is not None:
            self.on_progress(self.so_far, self.total)

    def go_on(self) -> None:
        if self.cancel is not None and self.cancel.is_set():
            raise Cancelled(f"stopped after {self.so_far} of {self.total} sounds; what was read is kept")


def _several(clips: Any) -> Sequence[AnySound]:
    array = isinstance(clips, tuple) and len(clips) == 2 and isinstance(clips[1], Real)
    return [clips] if array or isinstance(clips, str | Path | Clip) else clips


def _clip(sound: AnySound) -> Clip:
    if isinstance(sound, Clip) and np.isfinite(sound.audio).all():  # a silent one is said to be so, below
        return sound
    source = source_of(sound, "clips")
    return Clip(source.audio, source.sample_rate, 0, {"source": source.record, "model": {"name": source.name}})


def _row(clip: Clip, sound: np.ndarray, index: _Index | None, threshold: float) -> Row:
    if index is None:
        return Row(clip)
    found = _search(_pieces(sound, clip.loop), index)
    if not found:
        return Row(clip, verdict=SILENT)
    best = min(found, key=lambda match: match.distance)
    name, near = index.files[best.file].name, best.distance <= threshold
    score = float((index.distances > best.distance).float().mean()) if len(index.distances) else None
    verdict = f"{NEAR_COPY} {name}" if near else NO_COPY
    at_s = max(0.0, best.at_s - index.files[best.file].lead_s)
    return Row(clip, name, at_s, best.clip_at_s, best.distance, score, verdict, near)


def _duplicates(clips: list[Clip], heard: list[np.ndarray]) -> tuple[tuple[int, int, float], ...]:
    facts = [_described(sound) for sound in heard]
    index = _joined([_File(str(i), 0, 0, f.lead_s, len(f.frames), len(f.windows)) for i, f in enumerate(facts)], facts)
    pairs: dict[tuple[int, int], float] = {}
    for i, (clip, sound) in enumerate(zip(clips, heard, strict=True)):
        for match in _search(_pieces(sound, clip.loop), index, besides=i):
            pair = (min(i, match.file), max(i, match.file))
            if match.distance <= DUPLICATE_THRESHOLD:
                pairs[pair] = min(match.distance, pairs.get(pair, 1.0))
    return tuple((i, j, distance) for (i, j), distance in sorted(pairs.items()))


# --- what a sound is like ---------------------------------------------------------------------------------------


class _Facts(NamedTuple):
    """What is kept of a sound: ``frames`` uint8 (F, bands), ``windows`` float16 (W, cells), where these begin."""

    lead_s: float
    frames: Tensor
    windows: Tensor
    places: Tensor


class _Piece(NamedTuple):
    """A second of a clip: dB (phases, frames, bands), where it begins in the clip, and whether the clip is a loop."""

    levels: Tensor
    at_s: float
    loop: bool


def _heard(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """The sound at the rate of comparison and with a peak of 1, float32 (channels, frames); silence is empty."""
    if (audio == audio[:1]).all():  # mono: half the work
        audio = audio[:1]
    sound = resample(audio.astype(np.float32), sample_rate, _RATE)
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
    return MelSpectrogram(_RATE, n_fft=_FFT, hop_length=_HOP, n_mels=_BANDS, center=False, **slaney).to(device)


def _plain_mels(device: str) -> Callable[[Tensor], Tensor]:
    import librosa

    bank = librosa.filters.mel(sr=_RATE, n_fft=_FFT, n_mels=_BANDS, fmin=_LOW_HZ, fmax=_HIGH_HZ)
    bank, window = torch.from_numpy(bank).to(device), torch.hann_window(_FFT, device=device)

    def mels(audio: Tensor) -> Tensor:
        spectrum = torch.stft(audio, _FFT, _HOP, window=window, center=False, return_complex=True)
        return bank @ spectrum.abs().square()

    return mels


def _described(sound: np.ndarray) -> _Facts:
    """What is kept of a sound. Silence is put before it, so that its onset is where a window begins."""
    if not sound.size:
        return _Facts(0.0, _EMPTY.frames, _EMPTY.windows, _EMPTY.places)
    lead = -_onset(sound) % (_STEP * _HOP)
    sound = np.pad(sound, ((0, 0), (lead, 0)))
    levels = _levels(sound, -(-sound.shape[1] // _HOP))
    levels -= levels.max()
    starts = range(0, len(levels), _STEP)
    audible = [s for s in starts if levels[s : s + _WINDOW].max() >= -_AUDIBLE_DB]
    places = torch.tensor(audible, dtype=torch.int32)
    kept = ((levels - _LOWEST_DB) / _STEPS_DB).round().clamp(0, 255).to(torch.uint8)
    return _Facts(lead / _RATE, kept, _windows(levels, places), places)


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


def _pieces(sound: np.ndarray, loop: bool) -> list[_Piece]:
    """The seconds of a clip that are compared; of a loop from every place on, going round."""
    if not sound.size:
        return []
    frames = sound.shape[1]
    long, step = _PIECE * _HOP, _STEP * _HOP
    if loop:
        starts = range(0, frames, step)
        sound = np.tile(sound, 2 + long // frames)
    else:
        onset = _onset(sound)
        starts = range(onset, max(onset, frames - long) + 1, 2 * step)
    peaks = {s: np.abs(sound[:, s : s + long]).max() for s in starts}
    return [_piece(sound, s, loop) for s in starts if peaks[s] >= 10 ** (-_LOUD_DB / 20)]


def _piece(sound: np.ndarray, start: int, loop: bool) -> _Piece:
    quarter = _HOP // _PHASES
    shifted = [sound[:, min(start + k * quarter, sound.shape[1] - 1) :] for k in range(_PHASES)]
    levels = torch.stack([_levels(part, _PIECE) for part in shifted])
    there = min(_PIECE, max(_SHORTEST, (sound.shape[1] - start) // _HOP))
    # what has died away is followed by silence; what was cut off is compared as far as it goes
    cut_off = _above(levels)[0, max(0, there - 6) : there - 2].any()
    return _Piece(levels[:, : there if cut_off else _PIECE], start / _RATE, loop)


# --- search -----------------------------------------------------------------------------------------------------


class _File(NamedTuple):
    """A sound in an index: what it was when it was read, and how many rows it has."""

    name: str
    size: int
    mtime_ns: int
    lead_s: float
    frames: int
    windows: int


class _Index(NamedTuple):
    """Many sounds, one after another: see ``_Facts``; ``distances`` float32 from a sample of them to their nearest."""

    files: list[_File]
    frames: Tensor
    windows: Tensor
    places: Tensor
    distances: Tensor


_CELLS = (_WINDOW // _CELL[0]) * (_BANDS // _CELL[1])
_EMPTY = _Index(
    [],
    torch.zeros(0, _BANDS, dtype=torch.uint8),
    torch.zeros(0, _CELLS, dtype=torch.float16),
    torch.zeros(0, dtype=torch.int32),
    torch.zeros(0),
)


class _Match(NamedTuple):
    distance: float
    file: int
    at_s: float
    clip_at_s: float


def _joined(files: list[_File], facts: Sequence[_Facts]) -> _Index:
    columns = [torch.cat(column) for column in zip(*(f[1:] for f in facts), strict=True)]
    return _Index(files, *columns, torch.zeros(0))


def _search(pieces: list[_Piece], index: _Index, besides: int = -1) -> list[_Match]:
    """The sounds of an index that each piece is nearest to, but for sound ``besides``: some matches for each piece."""
    found: list[_Match] = []
    owner = torch.repeat_interleave(torch.tensor([f.windows for f in index.files]))
    firsts = np.cumsum([0, *(f.frames for f in index.files)])
    for i in range(0, len(pieces), _AT_ONCE):
        some = pieces[i : i + _AT_ONCE]
        for piece, (windows, turns) in zip(some, _candidates(some, index.windows, owner, besides), strict=True):
            found += _compared(piece, index, owner[windows], index.places[windows] - turns, firsts)
    return found


def _candidates(pieces: list[_Piece], windows: Tensor, owner: Tensor, besides: int) -> Iterator[tuple[Tensor, Tensor]]:
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
        score, top = row.topk(min(_CANDIDATES, len(row)))
        top = top[score > 0]
        yield top, where[top] * _TURN


def _sought(piece: _Piece) -> tuple[Tensor, Tensor]:
    """Windows of a piece, unit vectors (turns, cells), and how many times (of 50 ms) of each there are."""
    frames = piece.levels.shape[1]
    padded = torch.nn.functional.pad(piece.levels[0], (0, 0, 0, _WINDOW), value=_NOTHING_DB)
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


def _compared(piece: _Piece, index: _Index, owners: Tensor, starts: Tensor, firsts: np.ndarray) -> Iterator[_Match]:
    """Lay a piece on the sounds exactly: some frames earlier and later, and between frames."""
    if not len(owners):
        return
    frames = piece.levels.shape[1]
    stretch = torch.arange(-_LAGS, frames + _LAGS)
    counts = torch.from_numpy(np.diff(firsts))[owners]
    places = starts.long()[:, None] + stretch
    inside = (places >= 0) & (places < counts[:, None])
    rows = torch.from_numpy(firsts)[owners][:, None] + places.clamp(min=0).minimum(counts[:, None] - 1)
    kept = index.frames[rows].float() * _STEPS_DB + _LOWEST_DB
    kept = torch.where(inside[..., None], kept, _NOTHING_DB)
    laid = kept.unfold(1, frames, 1).movedim(-1, 2)  # (candidates, lags, frames, bands)
    if piece.loop:
        leads = torch.tensor([math.ceil(index.files[i].lead_s * _RATE / _HOP) for i in owners.tolist()])
        sounding = (places >= leads[:, None]) & (places < counts[:, None] - _FFT // _HOP)
        enough = (counts - leads).clamp(max=_PIECE) // 2
        alike = _alike_inside(piece.levels, laid, sounding.unfold(1, frames, 1), enough.clamp(min=_SHORTEST))
    else:
        there = torch.nn.functional.normalize(_above(laid).flatten(2), dim=2)
        alike = there @ torch.nn.functional.normalize(_above(piece.levels).flatten(1), dim=1).T
    best, at = alike.flatten(1).max(1)
    for i in range(len(owners)):
        lag, phase = divmod(int(at[i]), _PHASES)
        at_s = (int(starts[i]) + lag - _LAGS) * _HOP / _RATE - phase * _HOP / _PHASES / _RATE
        distance = float((1 - best[i]).clamp(min=0).sqrt())
        yield _Match(distance, int(owners[i]), at_s, piece.at_s)


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


# --- the folder -------------------------------------------------------------------------------------------------


def _index_of(folder: Path, work: _Work) -> tuple[_Index, dict[str, str]]:
    """The folder's sounds, and why some cannot be used; from the cache, but for new and changed files."""
    paths = {path.relative_to(folder).as_posix(): path for path in sound_files(folder)}
    key = sha256(os.fsencode(str(folder))).hexdigest()[:12]
    place = cache_dir() / "originality" / f"{folder.name[:40]}-{key}.safetensors"
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.with_suffix(".lock")):  # of several processes, one reads
        kept = _kept(place)
        index, skipped = _updated(kept, paths, place, work)
        if skipped:
            some = ", ".join(list(skipped)[:_NAMES]) + (" and others" if len(skipped) > _NAMES else "")
            warnings.warn(f"{len(skipped)} of {len(paths)} files cannot be used: {some}", stacklevel=3)
        if not index.files:
            reasons = [f"- {name}: {why}" for name, why in list(skipped.items())[:_NAMES]]
            raise ValueError(f"None of the {len(paths)} files in {folder} can be used:\n" + "\n".join(reasons))
        if len(index.files) >= FEWEST_SOUNDS and not len(index.distances):
            index = index._replace(distances=_calibrated(index, folder, work))
            _keep(place, index)
    return index, skipped


def _updated(kept: _Index, paths: dict[str, Path], place: Path, work: _Work) -> tuple[_Index, dict[str, str]]:
    """The index with what is new read and what is gone left out, kept on the disk even if this is cancelled."""
    states = {name: (path.stat().st_size, path.stat().st_mtime_ns) for name, path in paths.items()}
    same = {f.name: facts for f, facts in _apart(kept) if states.get(f.name) == (f.size, f.mtime_ns)}
    files = {f.name: f for f in kept.files if f.name in same}
    fresh = [name for name in paths if name not in same]
    work.more(len(fresh))
    skipped: dict[str, str] = {}
    try:
        for name in fresh:
            work.go_on()
            try:
                same[name] = _described(_heard(*read(paths[name])))
                counts = (len(same[name].frames), len(same[name].windows))
                files[name] = _File(name, *states[name], same[name].lead_s, *counts)
            except (ValueError, OSError, RuntimeError) as error:
                skipped[name] = getattr(error, "strerror", None) or str(error)  # no folder of anybody's disk
            work.done()
    finally:
        index = _ordered(files, same)
        changed = files.keys() != {f.name for f in kept.files} or any(name in files for name in fresh)
        if changed:
            _keep(place, index)
    return (index if changed else kept), skipped


def _ordered(files: dict[str, _File], facts: dict[str, _Facts]) -> _Index:
    names = sorted(files)
    return _joined([files[name] for name in names], [facts[name] for name in names]) if names else _EMPTY


def _apart(index: _Index) -> Iterator[tuple[_File, _Facts]]:
    """Each sound of an index."""
    frames = index.frames.split([f.frames for f in index.files])
    windows = index.windows.split([f.windows for f in index.files])
    places = index.places.split([f.windows for f in index.files])
    for file, *columns in zip(index.files, frames, windows, places, strict=True):
        yield file, _Facts(file.lead_s, *columns)


def _keep(place: Path, index: _Index) -> None:
    tensors = {name: getattr(index, name).contiguous() for name in _Index._fields[1:]}
    about = {"layout": str(_LAYOUT), "files": json.dumps(index.files)}
    atomically(place, lambda part: save_file(tensors, part, about))


def _kept(place: Path) -> _Index:
    """The index on the disk; an empty one if there is none that can be used."""
    if not place.is_file():
        return _EMPTY
    try:
        with safe_open(place, "pt") as file:
            about = file.metadata()
            index = _Index(
                [_File(*f) for f in json.loads(about["files"])],
                *(file.get_tensor(n).clone() for n in _Index._fields[1:]),
            )
        counts = (sum(f.frames for f in index.files), sum(f.windows for f in index.files))
        whole = counts == (len(index.frames), len(index.windows)) and len(index.places) == len(index.windows)
    except (SafetensorError, KeyError, TypeError, ValueError, OSError):
        return _EMPTY
    return index if whole and about["layout"] == str(_LAYOUT) else _EMPTY


def _calibrated(index: _Index, folder: Path, work: _Work) -> Tensor:
    """Distances from a sample of the folder's sounds to the nearest of the others, rising."""
    drawn = np.random.default_rng(0).permutation(len(index.files))[:_SAMPLE].tolist()
    work.more(len(drawn))
    distances = []
    for i in sorted(drawn):
        work.go_on()
        sound = _heard(*read(folder / index.files[i].name))
        frames, long = sound.shape[1], round(_STRETCH_S * _RATE)
        middle = sound[:, frames // 2 : frames // 2 + long] if frames > 2 * long else sound[:, :long]
        matches = _search(_pieces(middle, loop=False), index, besides=i)
        distances += [min(match.distance for match in matches)] if matches else []
        work.done()
    return torch.tensor(sorted(distances))


# --- words ------------------------------------------------------------------------------------------------------


def _about_folder(found: Originality) -> list[str]:
    if found.folder is None:
        return [f"Whether these are copies {UNCHECKED}: {WHY_UNCHECKED}."]
    lines = [
        f"Compared with {found.files} sounds in {found.folder.name}; near is a distance below {found.threshold:.3f}."
    ]
    if found.files < FEWEST_SOUNDS:
        lines.append(f"Fewer than {FEWEST_SOUNDS} sounds do not say how near theirs are: this is the usual bound.")
    if found.skipped:
        names = list(found.skipped)[:_NAMES]
        more = f" and {len(found.skipped) - _NAMES} more" if len(found.skipped) > _NAMES else ""
        lines.append(f"Not compared, as they cannot be read: {', '.join(names)}{more}.")
    return lines


def _about_row(i: int, row: Row) -> str:
    text = f"{i} {row.clip.name}: {row.verdict}"
    if row.distance is None:
        return text
    where = f"at {row.at_s:.2f} s, " if row.near else f"nearest {row.nearest} at {row.at_s:.2f} s, "
    text += f"; {where}distance {row.distance:.3f}"
    if row.score is None:
        return text
    return f"{text}, nearer than {100 * row.score:.1f} % of the folder's sounds are to each other"


def _about_pairs(found: Originality) -> list[str]:
    return [f"Clips {i} and {j} are nearly the same (distance {d:.3f})." for i, j, d in found.duplicates]
