"""What all verbs share: the options of sampling, sounds that are brought along, batches, progress and cancelling."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..audio.io import fit_length
from ..checkpoints.checkpoint import Checkpoint
from ..checks import whole
from ..clips.clip import Clips
from ..clips.source import MAX_CLIPS, Source
from ..errors import Cancelled
from ..guidance import Category, Guidance, guided, planes, shares
from ..runtime import in_batches
from ..sampler import MEMORYLESS, PARITY_SAMPLERS, Event, Model, OnStep, seeded_noise
from ..sampler import sampler as sampler_named
from ..schedule import time_grid
from ..windows import rolled, windowed
from .length import Length

DEFAULT_SAMPLER = "iplms"
DEFAULT_STEPS = 25
FEW_STEPS = 9
"""Up to this many steps the Karras grid is the better one, above it the log-SNR grid."""


@dataclass(frozen=True)
class Sampling:
    """How sounds are sampled: what the options come to."""

    ckpt: Checkpoint
    shares: dict[str, float] | None
    guidance: Guidance
    name: str
    grid: str
    steps: int
    batch_size: int
    on_step: OnStep | None = field(repr=False)
    cancel: Event | None = field(repr=False)

    def record(self) -> dict[str, Any]:
        """What the record of a sound says about it."""
        record = {"sampler": self.name, "grid": self.grid, "steps": self.steps}
        if self.shares is None:
            return record
        guidance = self.guidance
        interval = [float(t) for t in guidance.interval]
        values = (self.shares, float(guidance.scale), interval, float(guidance.rescale))
        return record | dict(zip(FOLLOWING, values, strict=True))

    def times(self, start: float = 1.0) -> Tensor:
        """The times of a run from ``start`` on."""
        return time_grid(self.grid, self.steps, start)

    def model(self, length: Length | None = None, cond: Tensor | None = None) -> Model:
        """The network as the samplers take it: it follows the category, in windows, on a circle.

        Args:
            length: of the sound; none is one that ends.
            cond: planes to follow instead of those of the category, (1 or B, planes, 1).
        """
        loop, window = (length.loop, length.window) if length is not None else (False, None)
        # a network that knows beginnings would hear one in each window
        model = self.ckpt.circular if loop and (not window or self.ckpt.net.anchored) else self.ckpt
        if cond is None and self.shares is not None:
            cond = planes(self.ckpt.categories, self.shares)
        if cond is not None:
            model = guided(model, cond, self.guidance)
        if window:
            model = windowed(model, window, loop)
        return rolled(model) if loop and self.name in MEMORYLESS else model

    def solve(self, model: Model, x: Tensor, ts: Tensor, noise: Callable[[int], Tensor], on_step: OnStep) -> Tensor:
        """Run the sampler."""
        return sampler_named(self.name)(model, x, ts, noise=noise, on_step=on_step, cancel=self.cancel)

    def noise(self, seeds: Sequence[int], frames: int, rows: int = 1) -> Callable[[int | None], Tensor]:
        """The noise of each step, and with none that of the start: (seeds * rows, channels, frames) on the device.

        The rows of a clip, where the channels of a sound are made one by one, have the same noise.
        """

        def noise(step: int | None) -> Tensor:
            drawn = seeded_noise(seeds, (self.ckpt.channels, frames), step)
            return drawn.repeat_interleave(rows, 0).to(self.ckpt.device)

        return noise

    def run(
        self,
        work: Callable[[Sequence[Any], OnStep], Tensor],
        items: Sequence[Any],
        steps: int | None = None,
        around: tuple[int, int] = (0, 0),
    ) -> list[np.ndarray]:
        """Make the items, batch by batch; return as many as are finished when cancelled, interrupted or out of luck.

        Args:
            work: makes a batch; takes the items and what to call after each step; returns (items, ...).
            items: seeds, or places.
            steps: of each item; those of the options by default.
            around: steps of the whole call before and after these.

        Raises:
            FloatingPointError: the network's output is not finite.
            MemoryError: not even one item fits.
        """
        done: list[np.ndarray] = []
        steps = self.steps if steps is None else steps
        total = around[0] + len(items) * steps + around[1]

        def batch(some: Sequence[Any]) -> Tensor:
            def step_done(step: int, _: int, denoised: Tensor) -> None:
                if self.on_step is not None:
                    self.on_step(around[0] + len(done) * steps + step * len(some), total, denoised)

            return work(some, step_done).cpu()

        try:
            for audio in in_batches(batch, items, self.batch_size):
                done.extend(_finite(audio, self.ckpt))
        except Cancelled:
            pass
        except KeyboardInterrupt:
            warnings.warn(f"interrupted: {len(done)} of {len(items)} clips are finished", stacklevel=3)
        except (FloatingPointError, MemoryError) as error:
            if not done:
                raise
            warnings.warn(f"stopped after {len(done)} of {len(items)} clips: {error}", stacklevel=3)
        return done


FOLLOWING = ("category", "guidance_scale", "guidance_interval", "guidance_rescale")


def sampling(
    ckpt: Checkpoint,
    *,
    category: Category | None = None,
    guidance_scale: float | None = None,
    guidance_interval: tuple[float, float] | None = None,
    guidance_rescale: float | None = None,
    steps: int | None = None,
    sampler: str | None = None,
    grid: str | None = None,
    batch_size: int | None = None,
    on_step: OnStep | None = None,
    cancel: Event | None = None,
) -> Sampling:
    """Check the options of sampling, see ``generate``, and fill in what was left open.

    Raises:
        ValueError: a number out of its range, or an unknown name.
        TypeError: a name in place of a checkpoint.
    """
    require_checkpoint(ckpt)
    given = {"scale": guidance_scale, "interval": guidance_interval and tuple(guidance_interval)}
    given["rescale"] = guidance_rescale
    guidance = Guidance(**{k: v for k, v in given.items() if v is not None})
    if category is None and guidance != Guidance():
        raise ValueError("guidance follows a category: say which, with category=...")
    wanted = None if category is None else shares(ckpt.categories, category)
    steps = DEFAULT_STEPS if steps is None else whole("steps", steps)
    name = DEFAULT_SAMPLER if sampler is None else sampler
    sampler_named(name)
    grid = _default_grid(name, steps) if grid is None else grid
    time_grid(grid, steps)
    if batch_size is None:
        batch_size = 1 if ckpt.device.type == "cpu" else 8
    elif whole("batch_size", batch_size) < 1:
        raise ValueError(f"batch_size={batch_size}: give 1 or more.")
    return Sampling(ckpt, wanted, guidance, name, grid, steps, batch_size, on_step, cancel)


def require_checkpoint(ckpt: Any) -> None:
    """Raise TypeError for a name, or a sound, in place of a checkpoint."""
    if not callable(ckpt):
        name = repr(ckpt) if isinstance(ckpt, str) else "'drums'"
        raise TypeError(f"ckpt={ckpt!r}: pass what ddnb.load({name}) returns.")


def _default_grid(name: str, steps: int) -> str:
    if name in PARITY_SAMPLERS:
        return "crash"
    return "karras" if steps <= FEW_STEPS else "log_snr"


def _finite(audio: Tensor, ckpt: Checkpoint) -> np.ndarray:
    if not torch.isfinite(audio).all():
        half = ckpt.dtype != torch.float32
        cure = "load it with dtype='float32'" if half else "its weights are damaged, or made for another network"
        raise FloatingPointError(f"{ckpt.name} gave values that are not finite: {cure}.")
    return audio.float().numpy()


def seed_list(n: int | None, seed: int | Sequence[int]) -> list[int]:
    """Return one seed per clip: those given, or ``n`` (4) that count up from the one given.

    Raises:
        ValueError: seeds or a number of clips out of range, or at odds with each other.
    """
    if hasattr(seed, "__len__") and not isinstance(seed, str):
        seeds = [whole("seed", s) for s in seed]
        if not seeds or n not in (None, len(seeds)):
            raise ValueError(f"{len(seeds)} seeds for n={n} clips: give one seed per clip, or the first one.")
    else:
        count = 4 if n is None else whole("n", n)
        if not 1 <= count <= MAX_CLIPS:
            raise ValueError(f"n={n!r}: give a number of clips from 1 to {MAX_CLIPS}.")
        seeds = [whole("seed", seed) + i for i in range(count)]
    if min(seeds) < 0 or max(seeds) >= 2**63:
        raise ValueError(f"seed={seed}: give whole numbers from 0 to 2**63 - 1.")
    return seeds


def level_gain(ckpt: Checkpoint, audio: np.ndarray) -> float:
    """By how much to multiply a sound so that it is as loud as those the network was trained on.

    1 where that is not known: networks trained on sounds as they came know all levels.
    """
    if "peak_dbfs" not in ckpt.info or not audio.any():
        return 1.0
    return _trained_peak(ckpt) / float(np.abs(audio).max())


def start_time(ckpt: Checkpoint, strength: float) -> float:
    """The time up to which a strength covers a sound with noise.

    ``tan(strength pi / 2)`` is the noise level beside sounds at full scale, so that a strength means the same for
    networks trained on quieter ones: their noise is lower by as much.
    """
    if strength == 1:
        return 1.0
    return 2 / math.pi * math.atan(_trained_peak(ckpt) * math.tan(strength * math.pi / 2))


def _trained_peak(ckpt: Checkpoint) -> float:
    return 10 ** (ckpt.info.get("peak_dbfs", 0.0) / 20)


def fitted(audio: np.ndarray, frames: int) -> np.ndarray:
    """Cut, or filled up with silence."""
    return fit_length(audio, frames) if audio.shape[-1] != frames else audio


def category_of(source: Source, ckpt: Checkpoint) -> dict[str, Any]:
    """The category that a clip was made with, as an option, where this checkpoint knows it."""
    making = source.record.get("record", {}).get("making", {})
    wanted = making.get("category")
    if wanted and making.get("verb") == "interpolate":  # between the categories of its ends
        share, other = making["seed"] / (making["asked"] - 1), making.get("to_category", {})
        mixed = {k: (1 - share) * wanted.get(k, 0) + share * other.get(k, 0) for k in {**wanted, **other}}
        wanted = {k: v for k, v in mixed.items() if v > 0}
    return {"category": wanted} if wanted and set(wanted) <= set(ckpt.categories) else {}


def clips_of(made: list[np.ndarray], shape: tuple[int, int], seeds: Sequence[int], rate: int, settings: dict) -> Clips:
    """The clips that were finished, none or all of ``shape``."""
    audio = np.stack(made) if made else np.zeros((0, *shape), np.float32)
    return Clips(audio.astype(np.float32, copy=False), rate, list(seeds[: len(made)]), settings)
