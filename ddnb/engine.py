"""What all verbs share: the options of sampling, sounds that are brought along, batches, progress and cancelling."""

from __future__ import annotations

import hashlib
import math
import operator
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .audio import fit_length, read, resample, to_channels
from .checkpoints import Checkpoint
from .clips import Clip, Clips
from .files import file_sha256
from .guidance import Category, Guidance, guided, planes, shares
from .loops import MAX_CENTS, Length, loop_frames, loop_length, rolled, windowed
from .runtime import in_batches
from .sampler import MEMORYLESS, PARITY_SAMPLERS, Cancelled, Event, Model, OnStep, seeded_noise
from .sampler import sampler as sampler_named
from .schedule import time_grid

DEFAULT_SAMPLER = "iplms"
DEFAULT_STEPS = 25
FEW_STEPS = 9
"""Up to this many steps the Karras grid is the better one, above it the log-SNR grid."""

MAX_DURATION_S = 60.0
"""A minute of the published network at 48 kHz wants some 13 GB in float32: 0.29 GB per 65,536 frames (bench)."""

MAX_LOOP_S = 600.0
"""Long loops are made in windows, whose memory does not grow with the length."""

MAX_CLIPS = 10_000
OWN = "own-sounds"
"""In place of a network's name, of sounds that none has made."""

_MAX_CHANNELS = 32


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


def whole(what: str, value: Any) -> int:
    """The whole number ``value`` is, be it Python's or numpy's.

    Raises:
        ValueError: it is none.
    """
    try:
        return operator.index(value)
    except TypeError as error:
        raise ValueError(f"{what}={value!r}: give a whole number.") from error


def within(what: str, value: Any, low: float, high: float) -> float:
    """The number ``value`` is.

    Raises:
        ValueError: it is none from ``low`` to ``high``.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not low <= value <= high:  # NaN too
        raise ValueError(f"{what}={value!r}: give a number from {low:g} to {high:g}.")
    return float(value)


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


def frames_of(ckpt: Checkpoint, duration_s: float | None, most_s: float = MAX_DURATION_S) -> int:
    """Return the frames of a length in seconds; those in training for none.

    Raises:
        ValueError: too short for one frame, or longer than ``most_s``.
    """
    if duration_s is None:
        return ckpt.frames
    if not isinstance(duration_s, Real) or not 1 / ckpt.sample_rate <= duration_s <= most_s:  # NaN too
        raise ValueError(
            f"duration_s={duration_s!r}: give seconds above 0 and up to {most_s:g}; "
            f"this network was trained on {ckpt.frames / ckpt.sample_rate:.2f} s."
        )
    return round(duration_s * ckpt.sample_rate)


@dataclass(frozen=True)
class Tempo:
    """What a loop is to be: in a circle or not, and how many bars at which tempo.

    Attributes:
        loop: whether its end leads into its beginning.
        bpm: beats per minute; none leaves the length to ``duration_s``.
        bars: whole bars; 1 by default.
        beats_per_bar: 4 by default.
        max_cents: pitch shift that is accepted where the network cannot make the length of a loop.
        start_on_onset: whether a loop is turned so that it begins on its strongest onset.
    """

    loop: bool = False
    bpm: float | None = None
    bars: int | None = None
    beats_per_bar: int = 4
    max_cents: float = MAX_CENTS
    start_on_onset: bool = False

    def length(self, ckpt: Checkpoint, duration_s: float | None, default: int | None = None) -> Length:
        """Return how long the sound is to be.

        Raises:
            ValueError: numbers out of range or at odds, or a pitch shift above ``max_cents``.
        """
        if self.start_on_onset and not self.loop:
            raise ValueError("start_on_onset=True turns a loop: add loop=True.")
        if self.bpm is None and self.bars is not None:
            raise ValueError(f"bars={self.bars!r}: give a tempo too, bpm=...")
        most_s = MAX_LOOP_S if self.loop else MAX_DURATION_S
        if self.bpm is not None:
            if duration_s is not None:
                raise ValueError(f"bpm={self.bpm!r} and duration_s={duration_s!r}: give one of them.")
            bars = 1 if self.bars is None else self.bars
            frames = loop_frames(self.bpm, bars, ckpt.sample_rate, self.beats_per_bar)
            if frames > most_s * ckpt.sample_rate:
                raise ValueError(f"bars={bars} at bpm={self.bpm} are longer than {most_s:g} s: take fewer.")
        else:
            asked = duration_s is not None or default is None
            frames = frames_of(ckpt, duration_s, most_s) if asked else default
        if not self.loop:
            return Length(frames, ckpt.legal_frames(frames))
        length = loop_length(frames, ckpt.net.config, ckpt.frames)
        if abs(length.cents) > within("max_cents", self.max_cents, 0, 12_000):
            raise ValueError(
                f"{ckpt.name} makes loops of this length {length.cents:+.0f} cents off in pitch: take more bars or "
                f"another length, or accept it with max_cents={abs(length.cents) + 1:.0f}."
            )
        return length

    def record(self, length: Length) -> dict[str, Any]:
        """What the record of a sound says about it: nothing where nothing was asked for."""
        record: dict[str, Any] = {}
        if self.bpm is not None:
            bars = 1 if self.bars is None else self.bars
            record |= {"bpm": float(self.bpm), "bars": int(bars), "beats_per_bar": int(self.beats_per_bar)}
        if self.loop:
            record |= {"loop": True, "start_on_onset": bool(self.start_on_onset), "cents": round(length.cents, 3)}
        return record


@dataclass(frozen=True, eq=False)
class Source:
    """A sound that was brought along: ``audio`` float32 (channels, frames), its rate in Hz, and what it is."""

    audio: np.ndarray
    sample_rate: int
    name: str
    record: dict[str, Any]

    @property
    def duration_s(self) -> float:
        return self.audio.shape[-1] / self.sample_rate

    def part(self, offset_s: float) -> Source:
        """The sound from ``offset_s`` on.

        Raises:
            ValueError: it ends before.
        """
        first = round(within("offset_s", offset_s, 0, self.duration_s) * self.sample_rate)
        if not self.audio[:, first:].any():
            raise ValueError(
                f"offset_s={offset_s!r}: there is no sound from there on; {self.name} lasts {self.duration_s:.2f} s."
            )
        return replace(self, audio=self.audio[:, first:])

    def at(self, ckpt: Checkpoint) -> np.ndarray:
        """The sound as a network takes it: at its rate, (rows, channels, frames).

        A mono network makes each channel of a stereo sound by itself; a stereo one has them together.

        Raises:
            ValueError: it is shorter than one frame at that rate.
        """
        audio = resample(self.audio, self.sample_rate, ckpt.sample_rate).astype(np.float32)
        if not audio.size:
            raise ValueError(f"{self.name} is too short: {self.audio.shape[-1]} frames at {self.sample_rate} Hz.")
        return audio[:, None] if ckpt.channels == 1 else to_channels(audio, ckpt.channels)[None]


AnySound = str | Path | Clip | tuple[np.ndarray, int]


def source_of(sound: AnySound, what: str = "audio") -> Source:
    """Take a sound: a path, a clip, or an array and its rate.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not readable, empty, silent, not finite, or not of this shape.
        TypeError: several clips.
    """
    if isinstance(sound, Source):
        return sound
    if isinstance(sound, Clips):
        raise TypeError(f"{what}: give one of the clips, clips[0], not clips.")
    if isinstance(sound, Clip):
        return _source_of_clip(sound, what)
    if isinstance(sound, str | Path):
        path = Path(sound).expanduser()
        if path.is_dir():
            raise ValueError(f"{path.name} is a folder: give a sound file, or use vary_folder.")
        audio, rate = read(path)
        return Source(audio, rate, path.stem, {"name": path.name, "sha256": file_sha256(path)})
    return _source_of_array(sound, what)


def _source_of_clip(clip: Clip, what: str) -> Source:
    require_sound(clip.audio, clip.sample_rate, what)
    settings = clip.settings
    if "source" in settings and "edits" not in settings:  # brought along, as the tracks of a beat keep it
        return Source(clip.audio, clip.sample_rate, settings["source"]["name"], settings["source"])
    if "source" not in settings and "making" not in settings:
        return _source_of_array((clip.audio, clip.sample_rate), what)
    return Source(clip.audio, clip.sample_rate, clip.name, {"name": clip.name, "record": clip.provenance})


def own_clip(sound: AnySound, what: str = "audio") -> Clip:
    """A sound that was brought along as a clip that says where it is from, but not in which folder.

    Raises:
        FileNotFoundError, ValueError: as ``source_of``.
    """
    if isinstance(sound, Clip):
        return sound
    source = source_of(sound, what)
    return Clip(np.array(source.audio), source.sample_rate, 0, {"source": source.record, "model": {"name": OWN}})


def _source_of_array(sound: Any, what: str) -> Source:
    if not (isinstance(sound, tuple) and len(sound) == 2):
        raise ValueError(f"{what}: give a path, a clip, or (array, sample_rate); got {type(sound).__name__}.")
    given = np.atleast_2d(np.asarray(sound[0]))
    if given.dtype.kind != "f":
        raise ValueError(f"{what}: its samples are {given.dtype}; give floating-point numbers within +-1.")
    require_sound(given, sound[1], what)
    audio = np.ascontiguousarray(given, dtype=np.float32)
    return Source(audio, operator.index(sound[1]), what, {"name": what, "sha256": samples_sha256(audio)})


def samples_sha256(audio: np.ndarray) -> str:
    """A hash of float32 samples, by which an array is known where a file is by that of its bytes."""
    return hashlib.sha256(np.ascontiguousarray(audio, dtype=np.float32)).hexdigest()


def require_sound(audio: np.ndarray, sample_rate: int, what: str) -> None:
    """Check that an array is a sound.

    Raises:
        ValueError: another shape, empty, silent, not finite, or a sample rate that is none.
    """
    if audio.ndim != 2 or len(audio) > _MAX_CHANNELS:
        raise ValueError(f"{what}: its sound has the shape {audio.shape}; give (channels, frames).")
    if not np.isfinite(audio).all():
        raise ValueError(f"{what}: its sound holds values that are not numbers (NaN or infinity).")
    if not audio.any():
        raise ValueError(f"{what}: its sound is empty or silent.")
    if not isinstance(sample_rate, Integral) or not 1000 <= sample_rate <= 768_000:
        raise ValueError(f"{what}: its sample rate is {sample_rate!r}; give whole Hz from 1000 to 768000.")


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
