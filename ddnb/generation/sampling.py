"""Shared parts of all verbs: sampling options checked once, noise per seed, batches, CPU threads, progress and
cancelling."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..audio.io import fit_length
from ..checkpoints.checkpoint import Checkpoint
from ..checks import whole
from ..clips.clip import Clip, Clips
from ..clips.provenance import MAX_CLIPS, Making, provenance_of
from ..errors import ArgumentError, Cancelled, Interrupted, PartialResult
from ..guidance import Guidance, guided, shares
from ..names import find_name
from ..nets.envelopes import HARMONICS, HOP, exchange
from ..notices import warn
from ..sampler import MEMORYLESS, PARITY_SAMPLERS
from ..sampler import sampler as sampler_named
from ..schedule import time_grid
from ..steps import Model, OnStep, derived_seed, seeded_noise
from ..threads import single_thread
from ..windows import rolled, windowed
from .batches import Item, Report, Stop, Work, one_by_one, side_by_side
from .length import Length
from .options import SamplingOptions
from .pitch import Pitch, condition, cycles, fit_circle_hz, resolve_pitch

FEW_STEPS = 9
"""Up to this many steps the Karras grid is the better one, above it the log-SNR grid."""

STUDENT = "student"
"""The grid of a network that was distilled: the times of its own calls."""

_TIMBRE = 0x746F6E65
"""Marks the noise at the harmonics, which is drawn apart."""

Edits = tuple[Mapping[str, Any], ...]
"""One edit per clip, see ``audio.mastering``, or none at all."""


@dataclass(frozen=True)
class Sampling:
    """Sampling options, checked, with defaults filled in for a checkpoint."""

    ckpt: Checkpoint
    shares: dict[str, float] | None
    pitch: Pitch
    guidance: Guidance
    name: str
    grid: str
    steps: int
    batch_size: int
    on_step: OnStep | None = field(repr=False)
    cancel: Stop = field(repr=False)

    def record(self) -> dict[str, Any]:
        """Return the fields of ``Making`` that describe the sampling."""
        record: dict[str, Any] = {"sampler": self.name, "grid": self.grid, "steps": self.steps}
        if self.shares is None:
            return record
        guidance = self.guidance
        return record | {
            "category": self.shares,
            "note_from": self.pitch.how or None,
            "key": self.pitch.key,
            "guidance_scale": float(guidance.scale),
            "guidance_interval": tuple(float(t) for t in guidance.interval),
            "guidance_rescale": float(guidance.rescale),
        }

    def times(self, start: float = 1.0) -> Tensor:
        """Return the times of a run that begins at time ``start``; a student's are fewer from a later start."""
        if self.grid == STUDENT:
            return torch.tensor([start, *(t for t in self.ckpt.student_times if t < start)], dtype=torch.float64)
        return time_grid(self.grid, self.steps, start)

    def pitches_hz(self, seeds: Sequence[int], length: Length | None = None) -> tuple[float | None, ...]:
        """Return the pitch of each seed's sound in Hz, None for none."""
        found = (self.pitch.of(seed) for seed in seeds)
        return tuple(found if length is None else (fit_circle_hz(hz, length, self.ckpt.sample_rate) for hz in found))

    def cond(self, seeds: Sequence[int], length: Length | None = None, rows: int = 1) -> Tensor | None:
        """Return the conditioning planes of these seeds, each for so many rows: (seeds * rows, planes, 1)."""
        if self.shares is None:
            return None
        return condition(self.ckpt, [self.shares] * len(seeds), self.pitches_hz(seeds, length), length, rows)

    def model(self, length: Length | None = None, cond: Tensor | None = None) -> Model:
        """Return the network as samplers take it: conditioned, in windows, on a circle.

        Args:
            length: length of the sound; None for one with an end.
            cond: conditioning planes, (1 or B, planes, 1).
        """
        loop, window = (length.loop, length.window) if length is not None else (False, None)
        # an anchored network would place a beginning in each window
        circular = loop and (not window or self.ckpt.net.anchored)
        model: Callable[..., Tensor] = functools.partial(self.ckpt, circular=True) if circular else self.ckpt
        if cond is not None:
            model = guided(model, cond, self.guidance, len(self.ckpt.categories))
        if window:
            model = windowed(model, window, loop)
        return rolled(model) if loop and self.name in MEMORYLESS else model

    def solve(
        self, model: Model, x: Tensor, ts: Tensor, noise: Callable[[int], Tensor] | None, on_step: OnStep
    ) -> Tensor:
        """Run the sampler."""
        return sampler_named(self.name)(model, x, ts, noise=noise, on_step=on_step, cancel=self.cancel)

    def noise(self, seeds: Sequence[int], frames: int, rows: int = 1) -> Callable[[int | None], Tensor]:
        """Return the noise of each step, and for None that of the start: (seeds * rows, channels, frames), on the
        device.

        The rows of a clip, for a mono network the channels of its input, have the same noise.
        """

        def noise(step: int | None) -> Tensor:
            drawn = seeded_noise(seeds, (self.ckpt.channels, frames), step)
            return drawn.repeat_interleave(rows, 0).to(self.ckpt.device)

        return noise

    def starting_noise(self, seeds: Sequence[int], length: Length) -> Tensor:
        """Return the noise from which sounds begin, (seeds, channels, frames).

        A seed has the same timbre at every pitch: the noise at the harmonics is its own, whatever their frequencies.
        """
        x = self.noise(seeds, length.made)(None)
        hz = self.pitches_hz(seeds, length)
        if not any(hz) or length.window:
            return x
        values = length.made // HOP + (0 if length.loop else 1)
        drawn = seeded_noise([derived_seed(seed, _TIMBRE) for seed in seeds], (2, HARMONICS, values))
        envelopes = torch.complex(*drawn.unbind(1)).to(x.device) / 2**0.5
        return exchange(x, envelopes, cycles(self.ckpt, hz, length).double(), length.loop)

    def run(
        self, work: Work, items: Sequence[Item], steps: int | None = None, around: tuple[int, int] = (0, 0)
    ) -> list[tuple[Item, np.ndarray]]:
        """Make the items; return those that were finished before a cancel, an interrupt or an error.

        Small networks on a CPU make one item per core at a time, each on one thread (see ``threads``), others batch by
        batch. Samples are the same either way, and progress is reported from the calling thread.

        Args:
            work: makes a batch.
            items: seeds, or places.
            steps: steps of each item; those of the options by default.
            around: steps of the whole call before and after these.

        Raises:
            FloatingPointError: values that are not finite, before any batch was finished.
            MemoryError: not even one item fits.
        """
        steps = self.steps if steps is None else steps
        report = Report(self.on_step, around[0], around[0] + len(items) * steps + around[1])
        made: dict[int, np.ndarray] = {}
        try:
            for first, audio in self._batches(work, items, report):
                made |= enumerate(_require_finite(audio, self.ckpt), first)
        except Cancelled:
            pass
        except KeyboardInterrupt:
            if len(made) == len(items):  # nothing is missing that would tell the caller to stop
                raise
            self.cancel.interrupted = True
            warn(f"interrupted: {len(made)} of {len(items)} clips are finished", Interrupted, stacklevel=3)
        except (FloatingPointError, MemoryError) as error:
            if not made:
                raise
            warn(f"stopped after {len(made)} of {len(items)} clips: {error}", PartialResult, stacklevel=3)
        return [(items[i], made[i]) for i in sorted(made)]

    def _batches(self, work: Work, items: Sequence[Item], report: Report) -> Iterator[tuple[int, Tensor]]:
        """Yield the number of the first item of each batch, and the batch."""
        if self.ckpt.device.type != "cpu" or not self.ckpt.net.single_threaded:
            yield from one_by_one(work, items, self.batch_size, report)
            return
        with single_thread() as cores:
            size = self.batch_size
            if cores == 1 or len(items) <= size:
                yield from one_by_one(work, items, size, report)
            else:
                yield from side_by_side(work, items, size, report, cores, self.cancel)


def resolve(ckpt: Checkpoint, options: SamplingOptions, of_input: Clip | None = None) -> Sampling:
    """Check sampling options and fill in what was left open.

    Args:
        ckpt: what will be sampled.
        options: the caller's.
        of_input: input audio, whose category is the default.

    Raises:
        ArgumentError: a number out of its range, or an unknown name.
        TypeError: a name in place of a checkpoint.
    """
    require_checkpoint(ckpt)
    given: dict[str, Any] = {
        "scale": options.guidance_scale,
        "interval": options.guidance_interval and tuple(options.guidance_interval),
        "rescale": options.guidance_rescale,
    }
    guidance = Guidance(**{k: v for k, v in given.items() if v is not None})
    category = options.category
    if category is None and of_input is not None:
        category = category_of(of_input, ckpt)
    if not category and guidance != Guidance():
        raise ArgumentError("guidance follows a category: say which, with category=...")
    wanted = shares(ckpt.categories, category) if category else None
    pitch = resolve_pitch(ckpt, wanted, options.note, options.key, of_input)
    name, grid, steps = _solver(ckpt, options)
    if ckpt.student_times and guidance != Guidance():
        raise ArgumentError(
            f"{ckpt.name} has a guidance of {ckpt.info['student']['guidance_scale']:g} built in: leave guidance out, "
            "or use its teacher."
        )
    batch_size = options.batch_size
    if batch_size is None:
        batch_size = default_batch_size(ckpt)
    elif whole("batch_size", batch_size) < 1:
        raise ArgumentError(f"batch_size={batch_size}: give 1 or more.")
    return Sampling(ckpt, wanted, pitch, guidance, name, grid, steps, batch_size, options.on_step, Stop(options.cancel))


def _solver(ckpt: Checkpoint, options: SamplingOptions) -> tuple[str, str, int]:
    """Return the sampler, the grid and the steps of a call."""
    steps = ckpt.default_steps if options.steps is None else whole("steps", options.steps)
    name = ckpt.default_sampler if options.sampler is None else options.sampler
    if ckpt.student_times:
        own = ckpt.default_sampler, options.grid if options.grid is None else STUDENT, ckpt.default_steps
        if (name, options.grid, steps) != own:
            raise ArgumentError(
                f"{ckpt.name} is a student of {ckpt.default_steps} calls: leave steps, sampler and grid out, or use "
                f"{ckpt.info.get('finetuned_from', 'its teacher')}."
            )
        return name, STUDENT, steps
    sampler_named(name)
    grid = _default_grid(name, steps) if options.grid is None else options.grid
    time_grid(grid, steps)
    return name, grid, steps


def default_batch_size(ckpt: Checkpoint) -> int:
    """Return the sounds per network call: on a CPU one, as more bring no speed there."""
    return 1 if ckpt.device.type == "cpu" else 8


def require_checkpoint(ckpt: Any) -> None:
    """Raise TypeError for a name, or a sound, in place of a checkpoint."""
    if not callable(ckpt):
        name = repr(ckpt) if isinstance(ckpt, str) else "'drums'"
        raise TypeError(f"ckpt={ckpt!r}: pass what ddnb.load({name}) returns.")


def _default_grid(name: str, steps: int) -> str:
    if name in PARITY_SAMPLERS:
        return "crash"
    return "karras" if steps <= FEW_STEPS else "log_snr"


def _require_finite(audio: Tensor, ckpt: Checkpoint) -> np.ndarray:
    if not torch.isfinite(audio).all():
        half = ckpt.dtype != torch.float32
        cure = "load it with dtype='float32'" if half else "its weights are damaged, or made for another network"
        raise FloatingPointError(f"{ckpt.name} returned values that are not finite: {cure}.")
    return audio.float().numpy()


def seed_list(n: int | None, seed: int | Sequence[int]) -> list[int]:
    """Return one seed per clip: those given, or ``n`` (default: 4) that count up from the one given.

    Raises:
        ArgumentError: seeds or a number of clips out of range, or in contradiction.
    """
    if isinstance(seed, Sequence | np.ndarray) and not isinstance(seed, str):
        seeds = [whole("seed", s) for s in seed]
        if len(seeds) > MAX_CLIPS:
            raise ArgumentError(f"{len(seeds)} seeds: give at most {MAX_CLIPS}.")
        if not seeds or n not in (None, len(seeds)):
            raise ArgumentError(f"{len(seeds)} seeds for n={n} clips: give one seed per clip, or the first one.")
    else:
        count = 4 if n is None else whole("n", n)
        if not 1 <= count <= MAX_CLIPS:
            raise ArgumentError(f"n={n!r}: give a number of clips from 1 to {MAX_CLIPS}.")
        if isinstance(seed, str) and (digits := re.sub(r"\D", "", seed)):
            raise ArgumentError(f"seed={seed!r}: give a whole number, such as {int(digits[:15])}.")
        seeds = [whole("seed", seed) + i for i in range(count)]
    if min(seeds) < 0 or max(seeds) >= 2**63:
        raise ArgumentError(f"seed={seed}: give whole numbers from 0 to 2**63 - 1.")
    return seeds


def fit(audio: np.ndarray, frames: int) -> np.ndarray:
    """Return a sound cut, or padded with silence, to so many frames."""
    return fit_length(audio, frames)


def category_of(clip: Clip, ckpt: Checkpoint) -> dict[str, float] | None:
    """Return the category that a clip was made with, if this checkpoint knows it."""
    making = clip.making
    wanted = dict(making.category or {})
    if (
        wanted and making.verb == "interpolate" and making.asked is not None and making.asked > 1
    ):  # between the categories of its ends
        share, other = clip.seed / (making.asked - 1), making.to_category or {}
        mixed = {k: (1 - share) * wanted.get(k, 0) + share * other.get(k, 0) for k in {**wanted, **other}}
        wanted = {k: v for k, v in mixed.items() if v > 0}
    return wanted if wanted and all(find_name(name, ckpt.categories) for name in wanted) else None


def clips_of(
    made: Sequence[tuple[int, np.ndarray]],
    shape: tuple[int, ...],
    rate: int,
    ckpt: Checkpoint,
    making: Making,
    pitches_hz: tuple[float | None, ...] = (),
    edits: Edits = (),
) -> Clips:
    """Return the finished clips, (seed, audio) each, with their pitches and edits; without any, an empty batch of this
    shape."""
    audio = np.stack([each for _, each in made]) if made else np.zeros((0, *shape), np.float32)
    seeds = [seed for seed, _ in made]
    return Clips(audio.astype(np.float32, copy=False), rate, seeds, provenance_of(ckpt, making), pitches_hz, edits)
