"""TODO similarity/search."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .features import (
    _BANDS,
    _BASS_RATE,
    _CELL,
    _FFT,
    _HOP,
    _LOWEST_DB,
    _NOTHING_DB,
    _PHASES,
    _PIECE,
    _SHORTEST,
    _STEP,
    _STEPS_DB,
    _WINDOW,
    RATE,
    SILENCE,
    Facts,
    Piece,
    _above,
    _bass_of,
    _bass_spectrum,
    _pooled,
)

_TURN = 2  # frames from one place to the next in a piece where a window may begin
_TURNS = range(0, _STEP, _TURN)
_CANDIDATES, _PER_FILE = 32, 4  # windows that are compared closely, for each piece; at most so many of one file
_REFINED = 4  # of these, the best are compared from other places on, too
_SLIDES = range(1 - _STEP, _STEP, 2)  # frames
_LAGS = 3  # frames to either side
_AT_ONCE = 16
_CHUNK = 1 << 15


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


EMPTY = Index([], *SILENCE[2:], torch.zeros(0))


def file_of(name: str, size: int, mtime_ns: int, facts: Facts) -> File:
    counts = len(facts.frames), len(facts.windows), len(facts.bass)
    return File(name, size, mtime_ns, facts.lead_s, facts.channels, *counts)


def joined(files: list[File], facts: Sequence[Facts]) -> Index:
    columns = [torch.cat(column) for column in zip(*(f[2:] for f in facts), strict=True)]
    return Index(files, *columns, torch.zeros(0))


class Match(NamedTuple):
    distance: float
    file: int
    at_s: float
    clip_at_s: float


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
