"""What one does with a checkpoint: generate sounds, keep them, make them again."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .audio import widen
from .checkpoints import Checkpoint, load
from .clips import Clips, read_record, settings_of
from .formats import CheckpointError
from .guidance import Category, Guidance, guided, planes, shares
from .runtime import in_batches, is_available
from .sampler import PARITY_SAMPLERS, Cancelled, Event, Model, OnStep, seeded_noise
from .sampler import sampler as sampler_named
from .schedule import time_grid

DEFAULT_SAMPLER = "iplms"
DEFAULT_STEPS = 25
FEW_STEPS = 9
"""Up to this many steps the Karras grid is the better one, above it the log-SNR grid."""

MAX_DURATION_S = 60.0
"""A minute of the published network at 48 kHz wants some 13 GB in float32: 0.29 GB per 65,536 frames (bench)."""

MAX_CLIPS = 10_000


def generate(
    ckpt: Checkpoint,
    n: int | None = None,
    seed: int | Sequence[int] = 0,
    *,
    category: Category | None = None,
    guidance_scale: float | None = None,
    guidance_interval: tuple[float, float] | None = None,
    guidance_rescale: float | None = None,
    duration_s: float | None = None,
    width: float = 0.0,
    steps: int | None = None,
    sampler: str | None = None,
    grid: str | None = None,
    batch_size: int | None = None,
    on_step: OnStep | None = None,
    cancel: Event | None = None,
) -> Clips:
    """Make sounds from noise.

    A clip depends on its seed alone: seed 7 sounds the same by itself and among others, sample for sample on a CPU,
    within rounding on a GPU. Interrupting (Ctrl-C, the notebook's stop button) or setting ``cancel`` returns the clips
    that are finished; so does an error in a later clip, with a warning.

    Args:
        ckpt: what ``load`` returned.
        n: number of clips; 4 by default, or as many as there are seeds.
        seed: of the first clip, the others count up from it; or one seed per clip.
        category: one of ``ckpt.categories``, or several with weights, ``{"kick": 2, "snare": 1}``; none asks for any.
        guidance_scale: how strongly to follow the category: 1 (the default) as learned, 2 more so, 0 not at all.
        guidance_interval: (from, to) in t, 0 = clean, 1 = noise: where ``guidance_scale`` acts; everywhere by default.
        guidance_rescale: share from 0 (the default) to 1 of the level added by strong guidance that is taken back.
        duration_s: length in seconds; the length in training by default. Lengths that the network cannot make
            are made longer and cut back.
        width: 0 leaves the channels as the network makes them. Above, up to 1, a mono network's sounds become stereo,
            see ``audio.widen``.
        steps: calls of the network per clip, 25 by default (``heun``: twice that); more is slower and cleaner.
        sampler: a key of ``sampler.SAMPLERS``; ``"iplms"`` by default.
        grid: a key of ``schedule.GRIDS``; by default ``"log_snr"``, up to 9 steps ``"karras"``, and for the samplers
            that repeat an original tool ``"crash"``.
        batch_size: clips at a time; 8 on a GPU, 1 on a CPU, where more brings nothing. Halved when memory runs out.
        on_step: called after each step as ``on_step(done, total, denoised)``, counted over the whole call.
        cancel: anything with ``is_set()``.

    Returns:
        The clips; fewer than asked for when cancelled (``settings["making"]["asked"]`` says how many).

    Raises:
        ValueError: a number out of its range, or an unknown name.
        FloatingPointError: the network's output is not finite.
        MemoryError: not even one clip fits.
    """
    if not callable(ckpt):
        raise TypeError(f"ckpt={ckpt!r}: pass what ddnb.load({ckpt!r}) returns.")
    seeds = seed_list(n, seed)
    frames = _frames(ckpt, duration_s)
    steps = DEFAULT_STEPS if steps is None else _whole("steps", steps)
    name = DEFAULT_SAMPLER if sampler is None else sampler
    solve = sampler_named(name)
    grid = _default_grid(name, steps) if grid is None else grid
    if not isinstance(width, Real) or not 0 <= width <= 1 or (width and ckpt.channels != 1):
        what = f"{ckpt.name} is stereo already; leave it out" if ckpt.channels != 1 else "give a number from 0 to 1"
        raise ValueError(f"width={width!r}: {what}.")
    model, following = _following(ckpt, category, guidance_scale, guidance_interval, guidance_rescale)
    ts = time_grid(grid, steps)
    if batch_size is None:
        batch_size = 1 if ckpt.device.type == "cpu" else 8
    elif _whole("batch_size", batch_size) < 1:
        raise ValueError(f"batch_size={batch_size}: give 1 or more.")
    making = {"verb": "generate", "sampler": name, "grid": grid, "steps": steps, "frames": frames, "asked": len(seeds)}
    making |= {"width": float(width)} if width else {}
    settings = settings_of(ckpt, making | following)
    shape = (ckpt.channels, ckpt.legal_frames(frames))
    finished = 0

    def run(batch: Sequence[int]) -> Tensor:
        def step_done(done: int, total: int, denoised: Tensor) -> None:
            if on_step is not None:
                on_step(finished * steps + done * len(batch), len(seeds) * steps, denoised)

        x = seeded_noise(batch, shape).to(ckpt.device)

        def fresh(i: int) -> Tensor:
            return seeded_noise(batch, shape, i).to(x)

        return solve(model, x, ts, noise=fresh, on_step=step_done, cancel=cancel)[..., :frames].cpu()

    done: list[np.ndarray] = []
    try:
        for audio in in_batches(run, seeds, batch_size):
            done.append(_finite(audio, ckpt))
            finished += len(audio)
    except Cancelled:
        pass
    except KeyboardInterrupt:
        warnings.warn(f"interrupted: {finished} of {len(seeds)} clips are finished", stacklevel=2)
    except (FloatingPointError, MemoryError) as error:
        if not done:
            raise
        warnings.warn(f"stopped after {finished} of {len(seeds)} clips: {error}", stacklevel=2)
    audio = np.concatenate([np.zeros((0, ckpt.channels, frames), np.float32), *done])
    if width:
        audio = np.stack([widen(clip, width) for clip in audio]) if finished else audio.repeat(2, axis=1)
    return Clips(audio, ckpt.sample_rate, seeds[:finished], settings)


def remake(record: str | Path | dict[str, Any], ckpt: Checkpoint | str | Path | None = None) -> Clips:
    """Make a saved sound again from its JSON file: sample for sample on a CPU, within rounding on a GPU.

    Args:
        record: the JSON file beside a WAV file, the WAV file, or the record itself.
        ckpt: the checkpoint, where the record's own source is a file that is not here; a path is loaded on the
            record's device, in its precision and format.

    Returns:
        One clip, before the gain that the file may have got.

    Raises:
        FileNotFoundError: no such record.
        ValueError: not a record, or a checkpoint with other weights than the record's.
        CheckpointError: the checkpoint cannot be had; pass it as ``ckpt``.
    """
    if not isinstance(record, dict):
        record = read_record(Path(record).expanduser())
    try:
        making, model, machine = record["making"], record["model"], record["machine"]
        seed, steps, frames = (_whole(k, making[k]) for k in ("seed", "steps", "frames"))
        rate, trained = (_whole(k, model[k]) for k in ("sample_rate", "frames"))
        name, source, sha256 = (str(model[k]) for k in ("name", "source", "weights_sha256"))
        sampler, grid = (str(making[k]) for k in ("sampler", "grid"))
        device, dtype = (str(machine[k]) for k in ("device", "dtype"))
        following = {k: making[k] for k in (*_FOLLOWING, "width") if k in making}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"This is no record of a sound made by ddnb: {error} is missing or wrong.") from error
    if not isinstance(ckpt, Checkpoint):
        device = device if is_available(device) else None
        try:
            ckpt = load(ckpt or source, device=device, dtype=dtype, sample_rate=rate, frames=trained)
        except (FileNotFoundError, CheckpointError) as error:
            where = "say where it is: remake(..., ckpt=PATH), on the command line --checkpoint PATH"
            raise CheckpointError(f"This sound was made with {source}; {where}. {error}") from error
    if ckpt.info["weights_sha256"] != sha256:
        raise ValueError(
            f"{ckpt.name} has other weights than the {name} that made this sound. If it was trained on since, one of "
            "the best-step files of its run may be the one."
        )
    here = str(ckpt.device), str(ckpt.dtype).removeprefix("torch.")
    if here != (there := (machine["device"], dtype)):
        warnings.warn(f"made on {there[0]} in {there[1]}, now on {here[0]} in {here[1]}: not exact", stacklevel=2)
    return generate(ckpt, 1, seed, duration_s=frames / rate, steps=steps, sampler=sampler, grid=grid, **following)


def _whole(what: str, value: Any) -> int:
    """The whole number ``value`` is, be it Python's or numpy's.

    Raises:
        ValueError: it is none.
    """
    try:
        return operator.index(value)
    except TypeError as error:
        raise ValueError(f"{what}={value!r}: give a whole number.") from error


def seed_list(n: int | None, seed: int | Sequence[int]) -> list[int]:
    """Return one seed per clip: those given, or ``n`` (4) that count up from the one given.

    Raises:
        ValueError: seeds or a number of clips out of range, or at odds with each other.
    """
    if hasattr(seed, "__len__") and not isinstance(seed, str):
        seeds = [_whole("seed", s) for s in seed]
        if not seeds or n not in (None, len(seeds)):
            raise ValueError(f"{len(seeds)} seeds for n={n} clips: give one seed per clip, or the first one.")
    else:
        count = 4 if n is None else _whole("n", n)
        if not 1 <= count <= MAX_CLIPS:
            raise ValueError(f"n={n!r}: give a number of clips from 1 to {MAX_CLIPS}.")
        seeds = [_whole("seed", seed) + i for i in range(count)]
    if min(seeds) < 0 or max(seeds) >= 2**63:
        raise ValueError(f"seed={seed}: give whole numbers from 0 to 2**63 - 1.")
    return seeds


def _frames(ckpt: Checkpoint, duration_s: float | None) -> int:
    if duration_s is None:
        return ckpt.frames
    if not isinstance(duration_s, Real) or not 1 / ckpt.sample_rate <= duration_s <= MAX_DURATION_S:  # NaN too
        raise ValueError(
            f"duration_s={duration_s!r}: give seconds above 0 and up to {MAX_DURATION_S:g}; "
            f"this network was trained on {ckpt.frames / ckpt.sample_rate:.2f} s."
        )
    return round(duration_s * ckpt.sample_rate)


_FOLLOWING = ("category", "guidance_scale", "guidance_interval", "guidance_rescale")


def _following(ckpt: Checkpoint, category: Category | None, scale, interval, rescale) -> tuple[Model, dict[str, Any]]:
    """The model that follows the category, and what the record says about it: nothing where none is asked for."""
    given = {"scale": scale, "interval": interval and tuple(interval), "rescale": rescale}
    guidance = Guidance(**{k: v for k, v in given.items() if v is not None})
    if category is None:
        if guidance != Guidance():
            raise ValueError("guidance follows a category: say which, with category=...")
        return ckpt, {}
    wanted = shares(ckpt.categories, category)
    values = (wanted, guidance.scale, list(guidance.interval), guidance.rescale)
    model = guided(ckpt, planes(ckpt.categories, wanted), guidance)
    return model, dict(zip(_FOLLOWING, values, strict=True))


def _default_grid(sampler: str, steps: int) -> str:
    if sampler in PARITY_SAMPLERS:
        return "crash"
    return "karras" if steps <= FEW_STEPS else "log_snr"


def _finite(audio: Tensor, ckpt: Checkpoint) -> np.ndarray:
    if not torch.isfinite(audio).all():
        half = ckpt.dtype != torch.float32
        cure = "load it with dtype='float32'" if half else "its weights are damaged, or made for another network"
        raise FloatingPointError(f"{ckpt.name} gave values that are not finite: {cure}.")
    return audio.float().numpy()
