"""From one sound to another, through the noise that they could have been made from."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..audio.io import to_channels
from ..checkpoints.checkpoint import Checkpoint
from ..checks import whole, within
from ..clips.clip import Clips, settings_of
from ..clips.source import AnySound, Source, source_of
from ..guidance import Category, planes, shares
from ..inversion import bdia_generate, bdia_invert, slerp, snr_db
from ..sampler import STOCHASTIC_SAMPLERS, Model, OnStep, invert, sampler
from .length import frames_of
from .options import (
    Sampling,
    category_of,
    clips_of,
    fitted,
    level_gain,
    require_checkpoint,
    sampling,
    seed_list,
    start_time,
)

FAITHFUL_DB = 20.0
"""A sound that comes back from noise less alike than this is not that sound any more."""

_LOUDER = 10 ** (3 / 20)


def interpolate(
    ckpt: Checkpoint,
    a: AnySound | int,
    b: AnySound | int,
    n: int = 8,
    *,
    depth: float = 1.0,
    exact: bool | None = None,
    category: Category | None = None,
    to_category: Category | None = None,
    duration_s: float | None = None,
    places: Sequence[int] | None = None,
    **options: Any,
) -> Clips:
    """Walk from one sound to another, or from one seed to another, in equal steps; the ends are the inputs.

    Both sounds are driven to noise, by the sampler upside down, the noises are turned into one another (``slerp``), and
    what lies between is made to sound. What the way there and back loses at the ends is given back to all, by
    ``cos^2`` and ``sin^2`` of the position; ``settings["making"]["round_trip_db"]`` says how little that is. What
    would peak more than 3 dB above the ends, as loud as they are in between, is turned down to that.

    Args:
        ckpt: what ``load`` returned.
        a, b: paths, clips, (array, sample rate); or seeds, whole numbers.
        n: sounds in all, with both ends, from 2 to 1,000.
        depth: how far towards noise to go, above 0 and up to 1 (the default), as ``strength`` of ``vary``; about 0.5
            keeps more of both. Of seeds it is 1.
        exact: whether to go by an exact way (BDIA), for sounds that do not come back otherwise; by default where one
            comes back below 20 dB, ``settings["making"]["exact"]`` says so. The other way is gentler on quiet parts.
        category: of ``a``, as for ``generate``; of a clip that was made with one, that one by default.
        to_category: of ``b``, likewise; where only ``category`` is given, it is that of both. What lies between is
            between the categories too.
        places: which of the ``n`` to make, counted from 0; all by default.
        duration_s: length in seconds; that of the longer sound by default, of seeds that in training.
        options: the others of ``generate``; ``guidance_scale`` for seeds only. Samplers that add noise cannot go back.

    Returns:
        The clips, from ``a`` to ``b``; their ``seeds`` are their places, counted from 0.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an unusable sound, a number out of its range, an unknown name, or such a sampler.
    """
    require_checkpoint(ckpt)
    if not 2 <= whole("n", n) <= 1000:
        raise ValueError(f"n={n}: give a number of sounds from 2 to 1000; both ends count.")
    places = list(range(n)) if places is None else [whole("places", place) for place in places]
    if not places or not all(0 <= place < n for place in places):
        raise ValueError(f"places={places}: give places from 0 to {n - 1}.")
    if not (depth := within("depth", depth, 0, 1)):
        raise ValueError("depth=0: give a number above 0; it says how far towards noise to go.")
    making = {"verb": "interpolate", "depth": depth, "asked": int(n)}
    if isinstance(a, Integral) and isinstance(b, Integral):
        if depth != 1 or exact:
            raise ValueError("seeds are noise already: leave depth and exact out.")
        way = _way(ckpt, [category, to_category or category], options, 1.0, False)
        frames = frames_of(ckpt, duration_s)
        noises = [way.how.noise([seed], ckpt.legal_frames(frames))(None)[None] for seed in seed_list(None, [a, b])]
        made = way.between(noises, n, places)
        sources = [{"seed": int(a)}, {"seed": int(b)}]
        channels = ckpt.channels
    else:
        if isinstance(a, Integral) or isinstance(b, Integral):
            raise ValueError("a seed and a sound: make the seed's sound with generate, and give both as sounds.")
        ends = [source_of(a, "a"), source_of(b, "b")]
        known = [category_of(end, ckpt).get("category") for end in ends]
        wanted = [category or known[0], to_category or known[1] or category]
        way = _way(ckpt, wanted, options, depth, exact)
        if way.how.guidance.scale != 1:
            raise ValueError("guidance_scale is for seeds: followed more strongly, a sound does not come back.")
        sounds = _alike(ends, ckpt, duration_s)
        frames, channels = sounds.shape[-1], sounds.shape[1] * sounds.shape[2]
        made, round_trip, by_exact = _walk(way, sounds, n, places)
        making |= {"round_trip_db": round_trip, "exact": by_exact}
        _warn_if_lost(round_trip, ends, by_exact)
        sources = [end.record for end in ends]
    making |= {"a": sources[0], "b": sources[1]} | way.how.record() | {"frames": frames}
    making.pop("category", None)
    making |= {k: v for k, v in zip(("category", "to_category"), way.shares, strict=True) if v}
    done = [place for place in places if place in made]
    audio = [made[place][..., :frames] for place in done]
    return clips_of(audio, (channels, frames), done, ckpt.sample_rate, settings_of(ckpt, making))


@dataclass(frozen=True)
class _Way:
    """Between sound and noise: how to sample, through which times, from which category to which.

    With ``exact`` none, the plain way is gone first.
    """

    how: Sampling
    ts: Tensor
    exact: bool | None
    shares: list[dict[str, float]]

    @property
    def steps(self) -> int:
        return len(self.ts) - (2 if self.exact else 1)

    def model(self, shares: list[float]) -> Model:
        """The network, for each clip between the categories by these shares of the second."""
        if not any(self.shares):
            return self.how.model()
        a, b = (planes(self.how.ckpt.categories, wanted) for wanted in self.shares)
        return self.how.model(cond=torch.cat([(1 - share) * a + share * b for share in shares]))

    def back(self, sounds: Tensor, around: tuple[int, int]) -> list[Tensor]:
        """Drive both sounds to noise: (2, rows, C, T) -> the latents, each (states, rows, C, T).

        Args:
            around: steps that the whole call has before and after these.
        """

        def work(batch: Sequence[int], step_done: OnStep) -> Tensor:
            (end,) = batch
            x, model = sounds[end].to(self.how.ckpt.device), self.model([end] * sounds.shape[1])
            watched = {"on_step": step_done, "cancel": self.how.cancel}
            if self.exact:
                return torch.stack(bdia_invert(model, x, self.ts, **watched))[None]
            return invert(model, x, self.ts, sampler=sampler(self.how.name), **watched)[None, None]

        one_by_one = replace(self.how, batch_size=1)
        return [torch.from_numpy(z) for z in one_by_one.run(work, [0, 1], self.steps, around)]

    def between(
        self, latents: list[Tensor], n: int, places: Sequence[int], around: tuple[int, int] = (0, 0)
    ) -> dict[int, np.ndarray]:
        """Make what lies at these places of ``n`` between two latents: (channels, T) each, as far as they got."""

        def work(batch: Sequence[int], step_done: OnStep) -> Tensor:
            share = [place / (n - 1) for place in batch]
            states, rows = latents[0].shape[:2]
            a, b = (z.transpose(0, 1).flatten(1, 2) for z in latents)  # both states of a row are one vector: one angle
            z = torch.cat([slerp(a, b, s) for s in share]).unflatten(1, (states, -1)).transpose(0, 1)
            z = z.to(self.how.ckpt.device)  # (states, places * rows, C, T)
            model = self.model([s for s in share for _ in range(rows)])
            if self.exact:
                watched = {"on_step": step_done, "cancel": self.how.cancel}
                x = bdia_generate(model, (z[0], z[1]), self.ts, clean=True, **watched)
            else:
                x = self.how.solve(model, z[0], self.ts, None, step_done)
            return x.unflatten(0, (len(batch), rows)).flatten(1, 2)

        return dict(zip(places, self.how.run(work, places, self.steps, around), strict=False))


def _way(
    ckpt: Checkpoint, wanted: list[Category | None], options: dict[str, Any], depth: float, exact: bool | None
) -> _Way:
    how = sampling(ckpt, category=wanted[0] or wanted[1], **options)
    if how.name in STOCHASTIC_SAMPLERS:
        raise ValueError(f"{how.name} adds noise on the way, so there is no way back: take iplms, the default.")
    each = [shares(ckpt.categories, category) if category else {} for category in wanted]
    return _Way(how, how.times(start_time(ckpt, depth)), exact, each)


def _alike(ends: list[Source], ckpt: Checkpoint, duration_s: float | None) -> np.ndarray:
    """Both sounds at the network's rate, equally long, with as many channels: (2, rows, C, T)."""
    x = [end.at(ckpt) for end in ends]
    longest = max(sound.shape[-1] for sound in x)
    frames = longest if duration_s is None else frames_of(ckpt, duration_s)
    frames_of(ckpt, frames / ckpt.sample_rate)
    rows = max(len(sound) for sound in x)
    x = [to_channels(sound[:, 0], rows)[:, None] if ckpt.channels == 1 else sound for sound in x]
    return np.stack([fitted(sound, frames) for sound in x])


def _walk(
    way: _Way, sounds: np.ndarray, n: int, places: Sequence[int]
) -> tuple[dict[int, np.ndarray], list[float] | None, bool]:
    """Make these places between two sounds; say how far both came back, in dB, and whether by the exact way."""
    ckpt, frames = way.how.ckpt, sounds.shape[-1]
    gains = [level_gain(ckpt, sound) for sound in sounds]
    x = np.stack([gain * fitted(s, ckpt.legal_frames(frames)) for gain, s in zip(gains, sounds, strict=True)])
    others = [place for place in dict.fromkeys(places) if place not in (0, n - 1)]
    latents, made, round_trip = _there_and_back(way, x, n, (0, len(others)))
    before = 4
    if way.exact is None and round_trip and min(round_trip) < FAITHFUL_DB:
        way, before = replace(way, exact=True), 8
        latents, made, round_trip = _there_and_back(way, x, n, (4, len(others)))
    if round_trip is None:
        return {}, None, bool(way.exact)
    x = x.reshape(2, -1, x.shape[-1])
    rest = [x[0] - made[0], x[1] - made[n - 1]]
    made = way.between(latents, n, others, (before * way.steps, 0)) if others else {}
    peaks = [float(np.abs(sound).max()) for sound in sounds]
    for place in made:
        share = place / (n - 1)
        toward = [math.cos(math.pi * share / 2) ** 2, math.sin(math.pi * share / 2) ** 2]
        corrected = made[place] + toward[0] * rest[0] + toward[1] * rest[1]
        gain = gains[0] ** (share - 1) * gains[1] ** -share
        highest = _LOUDER * peaks[0] ** (1 - share) * peaks[1] ** share
        made[place] = (corrected * min(gain, highest / np.abs(corrected[..., :frames]).max())).astype(np.float32)
    made |= {0: sounds[0].reshape(-1, frames), n - 1: sounds[1].reshape(-1, frames)}  # to the last bit
    return made, round_trip, bool(way.exact)


def _there_and_back(
    way: _Way, x: np.ndarray, n: int, around: tuple[int, int]
) -> tuple[list[Tensor], dict[int, np.ndarray], list[float] | None]:
    """Both latents, the sounds that come back from them, and how near, in dB; none where that was cancelled.

    Args:
        around: how many runs of the sampler the whole call has before and after these four.
    """
    before, after = (runs * way.steps for runs in around)
    latents = way.back(torch.from_numpy(x.astype(np.float32)), (before, after + 2 * way.steps))
    made = way.between(latents, n, [0, n - 1], (before + 2 * way.steps, after)) if len(latents) == 2 else {}
    if len(made) < 2:
        return latents, made, None
    flat = x.reshape(2, -1, x.shape[-1])
    return latents, made, [_snr_db(*pair) for pair in zip(flat, (made[0], made[n - 1]), strict=True)]


def _snr_db(sound: np.ndarray, again: np.ndarray) -> float:
    return round(float(snr_db(*(torch.from_numpy(np.float32(y))[None] for y in (sound, again)))), 1)


def _warn_if_lost(round_trip: list[float] | None, ends: list[Source], exact: bool) -> None:
    lost = [(end.name, db) for end, db in zip(ends, round_trip or [], strict=False) if db < FAITHFUL_DB]
    if lost:
        cure = "more steps find it" if exact else "exact=True finds it"
        names = " and ".join(f"{name} ({db:.0f} dB)" for name, db in lost)
        warnings.warn(
            f"The way to noise and back loses {names}, so what lies between is partly a crossfade: {cure}, or a "
            "smaller depth.",
            stacklevel=3,
        )
