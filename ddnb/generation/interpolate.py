"""``interpolate``: from one sound to another, through the noise that they could have been made from.

Both sounds are inverted with the sampler (timesteps reversed), their noises are interpolated (``slerp``), and each is
sampled again. What this round trip loses at the ends is added back to all, weighted by ``cos^2`` and ``sin^2`` of the
position; ``clips.provenance.making.round_trip_db`` states how much that is. A result that would peak more than 3 dB
above the ends' interpolated peak is lowered to that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..audio.channels import to_channels
from ..checkpoints.checkpoint import Checkpoint, require_teacher
from ..checks import whole, within
from ..clips.clip import Clip, Clips
from ..clips.provenance import ASKED, InputRecord, Making
from ..clips.source import AnySound, input_clip, input_name, input_record, network_input
from ..errors import ArgumentError
from ..guidance import Category, shares
from ..inversion import bdia_generate, bdia_invert, slerp, snr_db
from ..notices import warn
from ..sampler import STOCHASTIC_SAMPLERS, invert, sampler
from ..steps import Model, OnStep
from .generate import fade_end
from .length import Length, frames_of
from .levels import NORMALIZED, level_gain, normalize_all, require_level, start_time
from .options import SamplingOptions, flatten_options
from .pitch import Pitch, condition, resolve_pitch
from .sampling import (
    Edits,
    Sampling,
    category_of,
    clips_of,
    fit,
    require_checkpoint,
    resolve,
    seed_list,
)

FAITHFUL_DB = 20.0
"""A sound whose inversion and regeneration agree less than this is not that sound any more."""

_HEADROOM = 10 ** (3 / 20)


@flatten_options
def interpolate(
    ckpt: Checkpoint,
    a: AnySound | int,
    b: AnySound | int,
    n: int = 8,
    *,
    depth: float = 1.0,
    exact: bool | None = None,
    to_category: Category | None = None,
    duration_s: float | None = None,
    places: Sequence[int] | None = None,
    level: str = NORMALIZED,
    options: SamplingOptions,
) -> Clips:
    """Interpolate between two sounds, or two seeds, in equal steps; the ends are the inputs themselves.

    See the module's docstring for the method. Samplers that add noise cannot be inverted; ``guidance_scale`` is for
    seeds only.

    Args:
        ckpt: what ``load`` returned.
        a, b: paths, clips, (array, sample rate); or seeds, whole numbers.
        n: number of sounds, both ends included, from 2 to 1,000.
        depth: how far towards noise the sounds are inverted, above 0 and up to 1 (default), like the ``strength`` of
            ``vary``; about 0.5 keeps more of both. For seeds it is 1.
        exact: use the exact inversion (BDIA), for sounds that plain inversion loses; by default where one returns below
            20 dB (``clips.provenance.making.exact``). Plain inversion is gentler on quiet parts.
        to_category: category of ``b``; where only ``category`` is given, it is that of both. In between, the categories
            are mixed too.
        duration_s: seconds (default: those of the longer sound, for seeds those in training).
        places: which of the ``n`` to make, counted from 0 (default: all).
        level: between seeds, as for ``generate``. Between sounds the level goes from one to the other.

    Returns:
        The clips, from ``a`` to ``b``; their ``seeds`` are their places, counted from 0.

    Raises:
        FileNotFoundError: no such file.
        AudioError: an unusable sound.
        ArgumentError: a number out of its range, an unknown name, or a sampler that adds noise.
    """
    require_checkpoint(ckpt)
    places = _check_places(n, places)
    require_level(level)
    if not (depth := within("depth", depth, 0, 1)):
        raise ArgumentError("depth=0: give a number above 0; it says how far towards noise to go.")
    between_seeds = isinstance(a, Integral) and isinstance(b, Integral)
    if isinstance(a, Integral) and isinstance(b, Integral):
        if depth != 1 or exact:
            raise ArgumentError("Seeds are noise already: leave depth and exact out.")
        result = _interpolate_seeds(ckpt, [int(a), int(b)], n, places, to_category, duration_s, options)
    else:
        clips = _two_sounds(a, b)
        wanted = _end_categories(clips, ckpt, options.category, to_category)
        path = _make_path(ckpt, clips, wanted, options, depth, exact)
        result = _interpolate_sounds(ckpt, path, clips, n, places, duration_s)
    path = result.path
    record = {name: value for name, value in path.sampling.record().items() if name != "category"}
    record |= {name: share or None for name, share in zip(("category", "to_category"), path.shares, strict=True)}
    record["note_hz"] = path.sampling.pitch.hz if path.sampling.pitch.how == ASKED else None
    frames = result.shape[1]
    making = Making("interpolate", **result.ends, **record, **result.facts, depth=depth, asked=int(n), frames=frames)
    done = [(place, result.made[place][..., :frames]) for place in places if place in result.made]
    edits: Edits = ()
    if between_seeds and level == NORMALIZED:
        done, edits = normalize_all(done, ckpt.sample_rate, [path.mixed(place / (n - 1)) for place, _ in done])
    return clips_of(done, result.shape, ckpt.sample_rate, ckpt, making, edits=edits)


@dataclass(frozen=True)
class _Result:
    """The sounds made, by place, with the facts for their records; ``shape`` is (channels, frames)."""

    path: _Path
    ends: dict[str, Any]
    shape: tuple[int, int]
    made: Mapping[int, np.ndarray]
    facts: dict[str, Any]


def _interpolate_seeds(
    ckpt: Checkpoint,
    seeds: list[int],
    n: int,
    places: list[int],
    to_category: Category | None,
    duration_s: float | None,
    options: SamplingOptions,
) -> _Result:
    a, b = (InputRecord(seed=seed) for seed in seed_list(None, seeds))
    path = _make_path(ckpt, seeds, [options.category, to_category or options.category], options, 1.0, False)
    frames = frames_of(ckpt, duration_s)
    made = _between_seeds(path, seeds, frames, n, places)
    own = {0: path.pitches_hz[0], n - 1: path.pitches_hz[1]}
    for place, audio in made.items():
        if own.get(place, any(path.pitches_hz)):  # as the sounds of the seeds themselves
            made[place] = fade_end(audio[..., :frames], ckpt.sample_rate)
    return _Result(path, {"a": a, "b": b}, (ckpt.channels, frames), made, {})


def _interpolate_sounds(
    ckpt: Checkpoint, path: _Path, clips: list[Clip], n: int, places: list[int], duration_s: float | None
) -> _Result:
    if path.sampling.guidance.scale != 1:
        raise ArgumentError("guidance_scale is for seeds: guided, the inversion of a sound does not return to it.")
    a, b = map(input_record, clips)
    sounds = _align(clips, ckpt, duration_s)
    made, round_trip, by_exact = _between_sounds(path, sounds, n, places)
    _warn_if_lost(round_trip, clips, by_exact)
    facts = {"round_trip_db": round_trip and tuple(round_trip), "exact": by_exact}
    return _Result(path, {"a": a, "b": b}, (sounds.shape[1] * sounds.shape[2], sounds.shape[-1]), made, facts)


def _two_sounds(a: AnySound | int, b: AnySound | int) -> list[Clip]:
    if isinstance(a, Integral) or isinstance(b, Integral):
        raise ArgumentError("A seed and a sound: make the seed's sound with generate, and give both as sounds.")
    return [input_clip(a, "a"), input_clip(b, "b")]  # type: ignore[arg-type]


def _end_categories(
    clips: Sequence[Clip], ckpt: Checkpoint, category: Category | None, to_category: Category | None
) -> list[Category | None]:
    """Return the category of each end: the one given, else that of the clip."""
    known = [category_of(clip, ckpt) for clip in clips]
    return [known[0] if category is None else category, to_category or known[1] or category]


def _check_places(n: int, places: Sequence[int] | None) -> list[int]:
    if not 2 <= whole("n", n) <= 1000:
        raise ArgumentError(f"n={n}: give a number of sounds from 2 to 1000; both ends count.")
    places = list(range(n)) if places is None else [whole("places", place) for place in places]
    if not places or not all(0 <= place < n for place in places):
        raise ArgumentError(f"places={places}: give places from 0 to {n - 1}.")
    return places


@dataclass(frozen=True)
class _Path:
    """The path between sound and noise: sampling, times, and the categories of its ends.

    With ``exact`` None, plain inversion is tried first. ``pitches_hz`` are those of the ends; None for none.
    """

    sampling: Sampling
    ts: Tensor
    exact: bool | None
    shares: list[dict[str, float]]
    pitches_hz: tuple[float | None, float | None]

    @property
    def steps(self) -> int:
        return len(self.ts) - (2 if self.exact else 1)

    def mixed(self, position: float) -> dict[str, float]:
        """Return the shares of the categories at a position, from 0 to 1."""
        a, b = self.shares
        return {name: (1 - position) * a.get(name, 0) + position * b.get(name, 0) for name in {**a, **b}}

    def model(self, positions: list[float]) -> Model:
        """Return the network; for each clip categories and pitches are mixed by its position, the second's share."""
        if not any(self.shares):
            return self.sampling.model()
        mixed = [self.mixed(s) for s in positions]
        first, last = self.pitches_hz
        low, high = first or last, last or first
        hz = [low ** (1 - s) * high**s if low and high else None for s in positions]
        return self.sampling.model(cond=condition(self.sampling.ckpt, mixed, hz))

    def starting_noise(self, end: int, seed: int, length: Length) -> Tensor:
        """Return the noise from which the sound of a seed begins at its end's pitch, (1, channels, T)."""
        return replace(self.sampling, pitch=Pitch(ASKED, self.pitches_hz[end])).starting_noise([seed], length)

    def invert(self, sounds: Tensor, around: tuple[int, int]) -> list[Tensor]:
        """Invert both sounds, (2, rows, C, T), to their latents, each (states, rows, C, T).

        Args:
            around: steps that the whole call has before and after these.
        """

        def work(batch: Sequence[int], on_step: OnStep) -> Tensor:
            (end,) = batch
            x, model = sounds[end].to(self.sampling.ckpt.device), self.model([end] * sounds.shape[1])
            callbacks: dict[str, Any] = {"on_step": on_step, "cancel": self.sampling.cancel}
            if self.exact:
                return torch.stack(bdia_invert(model, x, self.ts, **callbacks))[None]
            return invert(model, x, self.ts, sampler=sampler(self.sampling.name), **callbacks)[None, None]

        one_by_one = replace(self.sampling, batch_size=1)
        made = one_by_one.run(work, [0, 1], self.steps, around)
        return [torch.from_numpy(z) for _, z in made]

    def between(
        self, latents: list[Tensor], n: int, places: Sequence[int], around: tuple[int, int] = (0, 0)
    ) -> dict[int, np.ndarray]:
        """Sample at these places of ``n`` between two latents: (channels, T) each, as far as they were finished."""

        def work(batch: Sequence[int], on_step: OnStep) -> Tensor:
            positions = [place / (n - 1) for place in batch]
            states, rows = latents[0].shape[:2]
            a, b = (z.transpose(0, 1).flatten(1, 2) for z in latents)  # both states of a row are one vector: one angle
            z = torch.cat([slerp(a, b, s) for s in positions]).unflatten(1, (states, -1)).transpose(0, 1)
            z = z.to(self.sampling.ckpt.device)  # (states, places * rows, C, T)
            model = self.model([s for s in positions for _ in range(rows)])
            if self.exact:
                callbacks: dict[str, Any] = {"on_step": on_step, "cancel": self.sampling.cancel}
                x = bdia_generate(model, (z[0], z[1]), self.ts, clean=True, **callbacks)
            else:
                x = self.sampling.solve(model, z[0], self.ts, None, on_step)
            return x.unflatten(0, (len(batch), rows)).flatten(1, 2)

        return dict(self.sampling.run(work, places, self.steps, around))


def _make_path(
    ckpt: Checkpoint,
    ends: Sequence[int | Clip],
    wanted: Sequence[Category | None],
    options: SamplingOptions,
    depth: float,
    exact: bool | None,
) -> _Path:
    require_teacher(ckpt, "interpolate")
    first = ends[0] if isinstance(ends[0], Clip) else None
    each = [shares(ckpt.categories, category) if category else {} for category in wanted]
    sampling = resolve(ckpt, replace(options, category=dict.fromkeys((*each[0], *each[1]), 1.0)), first)
    if sampling.name in STOCHASTIC_SAMPLERS:
        raise ArgumentError(f"{sampling.name} adds noise, so it cannot be inverted: leave the sampler out.")
    pitches_hz = [_end_pitch(ckpt, end, share, options) for end, share in zip(ends, each, strict=True)]
    return _Path(sampling, sampling.times(start_time(ckpt, depth)), exact, each, (pitches_hz[0], pitches_hz[1]))


def _end_pitch(ckpt: Checkpoint, end: int | Clip, share: dict[str, float], options: SamplingOptions) -> float | None:
    if not set(share) & set(ckpt.tonal_categories):
        return None
    if isinstance(end, Clip):
        return resolve_pitch(ckpt, share, options.note, options.key, end).of(0)
    return resolve_pitch(ckpt, share, options.note, options.key).of(end)


def _between_seeds(path: _Path, seeds: list[int], frames: int, n: int, places: list[int]) -> dict[int, np.ndarray]:
    legal = path.sampling.ckpt.legal_frames(frames)
    length = Length(frames, legal)
    noises = [path.starting_noise(end, seed, length)[None] for end, seed in enumerate(seeds)]
    return path.between(noises, n, places)


def _align(clips: list[Clip], ckpt: Checkpoint, duration_s: float | None) -> np.ndarray:
    """Return both sounds at the network's rate, equally long, with as many channels: (2, rows, C, T)."""
    x = [network_input(clip, ckpt) for clip in clips]
    longest = max(sound.shape[-1] for sound in x)
    frames = longest if duration_s is None else frames_of(ckpt, duration_s)
    frames_of(ckpt, frames / ckpt.sample_rate)
    rows = max(len(sound) for sound in x)
    x = [to_channels(sound[:, 0], rows)[:, None] if ckpt.channels == 1 else sound for sound in x]
    return np.stack([fit(sound, frames) for sound in x])


def _between_sounds(
    path: _Path, sounds: np.ndarray, n: int, places: Sequence[int]
) -> tuple[dict[int, np.ndarray], list[float] | None, bool]:
    """Make these places between two sounds; return also the agreement of both round trips, dB, and if it was exact."""
    ckpt, frames = path.sampling.ckpt, sounds.shape[-1]
    gains = [level_gain(ckpt, sound) for sound in sounds]
    x = np.stack([gain * fit(s, ckpt.legal_frames(frames)) for gain, s in zip(gains, sounds, strict=True)])
    others = [place for place in dict.fromkeys(places) if place not in (0, n - 1)]
    latents, made, round_trip = _round_trip(path, x, n, (0, len(others)))
    before = 4
    if path.exact is None and round_trip and min(round_trip) < FAITHFUL_DB:
        path, before = replace(path, exact=True), 8
        latents, made, round_trip = _round_trip(path, x, n, (4, len(others)))
    if round_trip is None:
        return {}, None, bool(path.exact)
    x = x.reshape(2, -1, x.shape[-1])
    lost = [x[0] - made[0], x[1] - made[n - 1]]
    made = path.between(latents, n, others, (before * path.steps, 0)) if others else {}
    peaks = [float(np.abs(sound).max()) for sound in sounds]
    for place in made:
        share = place / (n - 1)
        toward = [math.cos(math.pi * share / 2) ** 2, math.sin(math.pi * share / 2) ** 2]
        corrected = made[place] + toward[0] * lost[0] + toward[1] * lost[1]
        gain = gains[0] ** (share - 1) * gains[1] ** -share
        highest = _HEADROOM * peaks[0] ** (1 - share) * peaks[1] ** share
        made[place] = (corrected * min(gain, highest / np.abs(corrected[..., :frames]).max())).astype(np.float32)
    made |= {0: sounds[0].reshape(-1, frames), n - 1: sounds[1].reshape(-1, frames)}  # to the last bit
    return made, round_trip, bool(path.exact)


def _round_trip(
    path: _Path, x: np.ndarray, n: int, around: tuple[int, int]
) -> tuple[list[Tensor], dict[int, np.ndarray], list[float] | None]:
    """Return both latents, the sounds sampled from them, and their agreement in dB; None after a cancel.

    Args:
        around: how many runs of the sampler the whole call has before and after these four.
    """
    before, after = (runs * path.steps for runs in around)
    latents = path.invert(torch.from_numpy(x.astype(np.float32)), (before, after + 2 * path.steps))
    made = path.between(latents, n, [0, n - 1], (before + 2 * path.steps, after)) if len(latents) == 2 else {}
    if len(made) < 2:
        return latents, made, None
    flat = x.reshape(2, -1, x.shape[-1])
    return latents, made, [_agreement_db(*pair) for pair in zip(flat, (made[0], made[n - 1]), strict=True)]


def _agreement_db(sound: np.ndarray, again: np.ndarray) -> float:
    return round(float(snr_db(*(torch.from_numpy(np.float32(y))[None] for y in (sound, again)))), 1)


def _warn_if_lost(round_trip: list[float] | None, clips: list[Clip], exact: bool) -> None:
    lost = [(clip, db) for clip, db in zip(clips, round_trip or [], strict=False) if db < FAITHFUL_DB]
    if lost:
        cure = "use more steps" if exact else "use exact=True"
        names = " and ".join(f"{input_name(clip)} ({db:.0f} dB)" for clip, db in lost)
        warn(
            f"Inverting and sampling again loses {names}, so the sounds in between are partly a crossfade: {cure}, "
            "or a smaller depth.",
            stacklevel=3,
        )
