"""Search for the sounds of an index that a clip is most similar to.

Coarse: each second of the clip is compared with all windows of the index by one matrix product. Fine: the best
candidates are compared exactly, shifted by up to three frames and by quarters of a frame, with the spectrum of the bass
as well; of the best of these also neighbouring seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .features import (
    BANDS,
    BASS_RATE,
    CELL,
    FFT,
    HOP,
    LOWEST_DB,
    NOTHING_DB,
    PHASES,
    PIECE,
    RATE,
    SHORTEST,
    SILENCE,
    STEP,
    STEPS_DB,
    WINDOW,
    Facts,
    Piece,
    above_floor,
    bass_of,
    bass_spectrum,
    pooled,
)

_TURN = 2  # frames between the offsets in a piece at which a window is looked up
_TURNS = range(0, STEP, _TURN)
_CANDIDATES, _PER_FILE = 32, 4  # windows per piece that are compared exactly; at most so many of one file
_REFINED = 4  # of these, the best are compared at neighbouring seconds too
_SLIDES = range(1 - STEP, STEP, 2)  # frames
_LAGS = 3  # frames to either side
_AT_ONCE = 16
_CHUNK = 1 << 15


class File(NamedTuple):
    """A sound in an index: its state when it was read, and its number of rows."""

    name: str
    size: int
    mtime_ns: int
    lead_s: float
    channels: int
    frames: int
    windows: int
    bass: int


class Index(NamedTuple):
    """The features of many sounds, see ``Facts``; ``distances`` float32 from a sample of them to their nearest."""

    files: list[File]
    frames: Tensor
    windows: Tensor
    places: Tensor
    bass: Tensor
    distances: Tensor


EMPTY = Index([], *SILENCE[2:], torch.zeros(0))


def make_file(name: str, size: int, mtime_ns: int, facts: Facts) -> File:
    """Return a sound's entry in an index."""
    counts = len(facts.frames), len(facts.windows), len(facts.bass)
    return File(name, size, mtime_ns, facts.lead_s, facts.channels, *counts)


def join_index(files: list[File], facts: Sequence[Facts]) -> Index:
    """Return the index of several sounds."""
    columns = [torch.cat(column) for column in zip(*(f[2:] for f in facts), strict=True)]
    return Index(files, *columns, torch.zeros(0))  # type: ignore[call-arg]


class Match(NamedTuple):
    """A similar place: the distance, the number of the file, and the time in the file and in the clip."""

    distance: float
    file: int
    at_s: float
    clip_at_s: float


def search(pieces: list[Piece], index: Index, besides: int = -1) -> list[Match]:
    """Return the sounds of an index that each piece is nearest to, except sound ``besides``; some matches per piece."""
    found: list[Match] = []
    owner = torch.repeat_interleave(torch.tensor([f.windows for f in index.files]))
    firsts = np.cumsum([(0, 0), *((f.frames, f.bass) for f in index.files)], axis=0).T
    for i in range(0, len(pieces), _AT_ONCE):
        some = pieces[i : i + _AT_ONCE]
        for piece, (windows, turns) in zip(some, _candidates(some, index.windows, owner, besides), strict=True):
            if len(windows):
                found += _compare(piece, index, owner[windows], index.places[windows] - turns, firsts)
    return found


def _candidates(pieces: list[Piece], windows: Tensor, owner: Tensor, besides: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield for each piece the most similar windows, and their offsets in the piece, frames."""
    sought = [_query_windows(piece) for piece in pieces]
    vectors, cells = torch.cat([v for v, _ in sought]), torch.cat([c for _, c in sought])
    per_time = windows.shape[1] // (WINDOW // CELL[0])
    scores, turns = [], []
    for chunk, mine in zip(windows.split(_CHUNK), owner.split(_CHUNK), strict=True):
        chunk = chunk.float()
        # the part of a window beyond the end of the piece is ignored
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


def _query_windows(piece: Piece) -> tuple[Tensor, Tensor]:
    """Return windows of a piece, unit vectors (offsets, cells), and how many times (of 50 ms) each has."""
    frames = piece.frames
    padded = torch.nn.functional.pad(piece.second[0], (0, 0, 0, WINDOW), value=NOTHING_DB)
    vectors: list[Tensor] = []
    cells: list[int] = []
    for turn in _TURNS:
        left = min(WINDOW, frames - turn)
        if left < SHORTEST and turn:  # too short to compare
            vectors.append(torch.zeros(vectors[0].shape))
            cells.append(WINDOW // CELL[0])
            continue
        vectors.append(pooled(above_floor(padded[None, turn : turn + WINDOW]))[0])
        cells.append(left // CELL[0])
        vectors[-1][cells[-1] * BANDS // CELL[1] :] = 0
    return torch.nn.functional.normalize(torch.stack(vectors), dim=1), torch.tensor(cells)


def _compare(piece: Piece, index: Index, owners: Tensor, starts: Tensor, firsts: np.ndarray) -> Iterator[Match]:
    """Compare a piece with sounds exactly, shifted by some frames and by fractions of one; then at neighbouring
    seconds.
    """
    levels, (frame_firsts, bass_firsts) = piece.second, firsts
    kept, sounding, enough = _stretches(piece, index, owners, starts - _LAGS, piece.frames + 2 * _LAGS, frame_firsts)
    laid = kept.unfold(1, piece.frames, 1).movedim(-1, 2)  # (candidates, lags, frames, bands)
    if piece.loop:
        alike = _similarity_inside(levels, laid, sounding.unfold(1, piece.frames, 1), enough)
    else:
        there = torch.nn.functional.normalize(above_floor(laid).flatten(2), dim=2)
        alike = there @ torch.nn.functional.normalize(above_floor(levels).flatten(1), dim=1).T
    best, at = alike.flatten(1).max(1)
    starts, phases = starts - _LAGS + at // PHASES, at % PHASES
    places = list(zip(owners.tolist(), starts.tolist(), [0] * len(owners), phases.tolist(), strict=True))
    apart = torch.maximum(1 - best, _bass_distance(piece, index, bass_firsts, places))
    closest = {*apart.topk(min(_REFINED, len(apart)), largest=False)[1].tolist(), *range(min(_REFINED, len(apart)))}
    refined = [_refine(piece, index, places[i], frame_firsts) for i in sorted(closest)]
    if refined := [(apart, place) for apart, place in refined if place[2]]:
        bass = _bass_distance(piece, index, bass_firsts, [place for _, place in refined])
        apart = torch.cat([apart, torch.maximum(torch.tensor([a for a, _ in refined]), bass)])
        places += [place for _, place in refined]
    for (owner, start, slide, phase), far in zip(places, apart.clamp(0, 1).sqrt().tolist(), strict=True):
        at_s = (start - phase / PHASES) * HOP / RATE
        yield Match(far, owner, at_s, (piece.first + slide) * HOP / RATE + piece.lead_s)


def _refine(piece: Piece, index: Index, place: tuple[int, int, int, int], firsts: np.ndarray) -> tuple[float, tuple]:
    """Find the best distance if the piece begins earlier or later, in the clip as in the sound."""
    owner, start, _, phase = place
    last = piece.levels.shape[1] - piece.frames if piece.frames == PIECE else piece.first
    slides = torch.tensor([0, *(s for s in _SLIDES if 0 <= piece.first + s <= last)])
    here = piece.levels[phase][(piece.first + slides)[:, None] + torch.arange(piece.frames)]
    owners = torch.full_like(slides, owner)
    there, sounding, enough = _stretches(piece, index, owners, start + slides, piece.frames, firsts)
    if piece.loop:
        here = torch.where(sounding[..., None], here, NOTHING_DB)
        there = torch.where(sounding[..., None], there, NOTHING_DB)
    alike = torch.nn.functional.cosine_similarity(above_floor(here).flatten(1), above_floor(there).flatten(1))
    if piece.loop:
        alike = torch.where(sounding.sum(1) >= enough, alike, 0.0)
    best = int(alike.argmax())
    slide = int(slides[best])
    return 1 - float(alike[best]), (owner, start + slide, slide, phase)


def _stretches(
    piece: Piece, index: Index, owners: Tensor, starts: Tensor, frames: int, firsts: np.ndarray
) -> tuple[Tensor, Tensor, Tensor]:
    """Return levels of sounds from their frames ``starts`` on, with silence beyond their ends.

    Returns:
        dB (stretches, frames, bands); a mask of frames inside the sounds, (stretches, frames); the least number of
        those.
    """
    counts = torch.from_numpy(np.diff(firsts))[owners]
    places = starts.long()[:, None] + torch.arange(frames)
    inside = (places >= 0) & (places < counts[:, None])
    rows = torch.from_numpy(firsts)[owners][:, None] + places.clamp(min=0).minimum(counts[:, None] - 1)
    kept = index.frames[rows].float() * STEPS_DB + LOWEST_DB
    leads = torch.tensor([math.ceil(index.files[i].lead_s * RATE / HOP) for i in owners.tolist()])
    sounding = (places >= leads[:, None]) & (places < counts[:, None] - FFT // HOP)
    enough = ((counts - leads).clamp(max=PIECE) // 2).clamp(min=SHORTEST)
    return torch.where(inside[..., None], kept, NOTHING_DB), sounding, enough


def _similarity_inside(piece: Tensor, laid: Tensor, inside: Tensor, enough: Tensor) -> Tensor:
    """Return similarities (candidates, lags, phases) of a piece of a loop, only inside the sounds: a loop does not end.

    Args:
        piece: dB (phases, frames, bands).
        laid: dB (candidates, lags, frames, bands) of the sounds.
        inside: bool (candidates, lags, frames), inside a sound.
        enough: (candidates,) least number of frames inside.
    """
    mask = inside[..., None]
    there = above_floor(torch.where(mask, laid, NOTHING_DB)).flatten(2)
    here = above_floor(torch.where(mask[:, :, None], piece, NOTHING_DB)).flatten(3)
    alike = torch.einsum("cld,clpd->clp", there, here)
    alike /= (there.norm(dim=2)[..., None] * here.norm(dim=3)).clamp(min=1e-6)
    return torch.where((inside.sum(2) >= enough[:, None])[..., None], alike, 0.0)


def _bass_distance(piece: Piece, index: Index, firsts: np.ndarray, places: list[tuple[int, int, int, int]]) -> Tensor:
    """Return the distance of the bass from that of sounds, 0 to 1: one minus the cosine, weighted by its energy share.

    Args:
        firsts: first sample of each sound's bass in the index.
        places: (sound, its frame where the piece begins, shift of the piece in frames, phase) of each.
    """
    per_frame = HOP * BASS_RATE // RATE
    here, there = [], []
    for owner, start, slide, phase in places:
        file = index.files[owner]
        mine = bass_of(piece, slide, phase)
        bass = index.bass[firsts[owner] : firsts[owner] + file.bass].view(file.channels, -1)
        first, last = start * per_frame, start * per_frame + mine.shape[1]
        cut = bass[:, max(0, first) : max(0, last)].float()
        before = min(mine.shape[1], max(0, -first))
        theirs = torch.nn.functional.pad(cut, (before, mine.shape[1] - before - cut.shape[1]))
        if piece.loop:  # a loop continues where the file has not begun, or has ended
            mine = mine.clone()
            mine[:, : max(0, round(file.lead_s * BASS_RATE) - first)] = 0
            mine[:, max(0, bass.shape[1] - first) :] = 0
        here.append(bass_spectrum(mine[None]))
        there.append(bass_spectrum(theirs[None]))
    alike = torch.nn.functional.cosine_similarity(torch.cat(here), torch.cat(there))
    return piece.bass_share * (1 - alike).clamp(min=0)
