"""What one does with a checkpoint: make sounds from noise, or from a sound."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .audio import widen
from .checkpoints import Checkpoint
from .clips import Clips, settings_of
from .dataset import SUFFIXES
from .engine import (
    MAX_DURATION_S,
    MAX_LOOP_S,
    AnySound,
    Tempo,
    category_of,
    clips_of,
    fitted,
    level_gain,
    require_checkpoint,
    sampling,
    seed_list,
    source_of,
    start_time,
    within,
)
from .guidance import Category
from .loops import MAX_CENTS, Length, closed, fit_circle, from_strongest_onset
from .sampler import Event, OnStep
from .schedule import alpha_sigma


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
    loop: bool = False,
    bpm: float | None = None,
    bars: int | None = None,
    beats_per_bar: int = 4,
    max_cents: float = MAX_CENTS,
    start_on_onset: bool = False,
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
        duration_s: length in seconds, up to 60, of a loop up to 600; the length in training by default. Lengths that
            the network cannot make are made longer and cut back.
        loop: make seamless loops: the end leads into the beginning, without a crossfade. Longer than in training, they
            are made in overlapping windows.
        bpm: beats per minute, 20 to 999: the length becomes exactly ``bars`` bars, in whole frames.
        bars: whole bars, 1 to 64; 1 by default.
        beats_per_bar: 4 by default.
        max_cents: how far off in pitch a loop may be, in hundredths of a semitone, where it is shorter than in training
            and the network cannot make its length; 20 by default.
        start_on_onset: turn each loop so that it begins on its strongest onset.
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
    seeds = seed_list(n, seed)
    how = sampling(
        ckpt,
        category=category,
        guidance_scale=guidance_scale,
        guidance_interval=guidance_interval,
        guidance_rescale=guidance_rescale,
        steps=steps,
        sampler=sampler,
        grid=grid,
        batch_size=batch_size,
        on_step=on_step,
        cancel=cancel,
    )
    if within("width", width, 0, 1) and ckpt.channels != 1:
        raise ValueError(f"width={width!r}: {ckpt.name} is stereo already; leave it out.")
    tempo = Tempo(loop, bpm, bars, beats_per_bar, max_cents, start_on_onset)
    length = tempo.length(ckpt, duration_s)
    ts = how.times()

    def work(batch: Sequence[int], step_done: OnStep) -> Tensor:
        noise = how.noise(batch, length.made)
        return how.solve(how.model(length), noise(None), ts, noise, step_done)

    audio = [_cut(x, length, tempo, ckpt) for x in how.run(work, seeds)]
    if width:
        audio = [widen(x, width, loop) for x in audio]
    making = {"verb": "generate"} | how.record() | {"frames": length.frames, "asked": len(seeds)}
    making |= tempo.record(length) | ({"width": float(width)} if width else {})
    return clips_of(
        audio, (2 if width else ckpt.channels, length.frames), seeds, ckpt.sample_rate, settings_of(ckpt, making)
    )


def vary(
    ckpt: Checkpoint,
    audio: AnySound,
    strength: float = 0.5,
    n: int | None = None,
    seed: int | Sequence[int] = 0,
    *,
    duration_s: float | None = None,
    offset_s: float = 0.0,
    match_level: bool = False,
    loop: bool = False,
    bpm: float | None = None,
    bars: int | None = None,
    beats_per_bar: int = 4,
    max_cents: float = MAX_CENTS,
    start_on_onset: bool = False,
    **options: Any,
) -> Clips:
    """Make sounds that resemble one: it is covered with noise, more or less, and the network takes the noise off.

    ``x_t = alpha x0 + sigma z`` at the time of ``strength``, and from there on the full number of steps. Sounds of any
    rate and number of channels: a mono network makes each channel by itself, from the same noise.

    Args:
        ckpt: what ``load`` returned.
        audio: a path, a clip, or (array of (channels, frames), sample rate).
        strength: from 0, which returns the sound, to 1, which forgets it; the same for every sampler. About 0.3 changes
            details, 0.5 the timbre, from 0.7 on it is another sound. The noise level is ``tan(strength pi / 2)`` for a
            sound at full scale.
        n, seed: as for ``generate``.
        duration_s: length in seconds, up to 60; that of the sound by default, from ``offset_s`` on.
        offset_s: where in the sound to begin.
        match_level: give each result the loudness (root mean square) of the sound. Otherwise its level goes from the
            sound's to the network's own as ``strength`` goes from 0 to 1.
        loop, bpm, bars, beats_per_bar, max_cents, start_on_onset: as for ``generate``; a sound that does not close is
            closed first, by its last 10 ms.
        options: the others of ``generate``, from ``category`` to ``cancel``. The category of a clip that was made with
            one is that one by default.

    Returns:
        The clips, at the network's sample rate.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an unusable sound, a number out of its range, an unknown name.
    """
    require_checkpoint(ckpt)
    strength = within("strength", strength, 0, 1)
    source, seeds = source_of(audio), seed_list(n, seed)
    how = sampling(ckpt, **category_of(source, ckpt) | options)
    tempo = Tempo(loop, bpm, bars, beats_per_bar, max_cents, start_on_onset)
    part = source.part(offset_s)
    if duration_s is None and bpm is None and part.duration_s > (MAX_LOOP_S if loop else MAX_DURATION_S):
        raise ValueError(
            f"{source.name} lasts {source.duration_s:.0f} s: say which part, with offset_s and duration_s."
        )
    x0 = part.at(ckpt)
    length = tempo.length(ckpt, duration_s, default=x0.shape[-1])
    x0 = fitted(x0, length.frames)
    if loop:
        x0 = np.stack([closed(row, ckpt.sample_rate) for row in x0])
    gain, rows, t = level_gain(ckpt, x0), len(x0), start_time(ckpt, strength)
    start = torch.from_numpy(_made(x0, length) * np.float32(gain))

    def work(batch: Sequence[int], step_done: OnStep) -> Tensor:
        noise = how.noise(batch, length.made, rows)
        alpha, sigma = alpha_sigma(t) if t < 1 else (0.0, 1.0)
        x = alpha * start.to(ckpt.device).repeat(len(batch), 1, 1) + sigma * noise(None)
        x = how.solve(how.model(length), x, how.times(t), noise, step_done)
        return x.unflatten(0, (len(batch), rows)).flatten(1, 2) * gain ** (strength - 1)

    made = how.run(work, seeds) if strength else [x0.reshape(-1, length.frames)] * len(seeds)
    made = [_cut(x, length, tempo, ckpt) for x in made]
    if match_level:
        made = [x * (_rms(x0) / max(_rms(x), 1e-9)) for x in made]
    making = {"verb": "vary", "strength": strength, "source": source.record}
    making |= how.record() | {"frames": length.frames, "asked": len(seeds), "offset_s": float(offset_s)}
    making |= tempo.record(length) | ({"match_level": True} if match_level else {})
    return clips_of(made, (len(x0) * x0.shape[1], length.frames), seeds, ckpt.sample_rate, settings_of(ckpt, making))


def vary_folder(
    ckpt: Checkpoint, folder: str | Path, strength: float = 0.5, n: int | None = 1, seed: int = 0, **options: Any
) -> Iterator[Clips]:
    """Vary every sound file of a folder, those of its folders too, as ``vary`` does.

    ``for clips in ddnb.vary_folder(ckpt, "my-sounds"): clips.save("varied")``. A file that cannot be used is left out,
    with a warning that says why.

    Args:
        ckpt, strength, n, seed, options: as for ``vary``; 1 variation each by default.
        folder: of sound files.

    Yields:
        The clips of one file, in the order of the names.

    Raises:
        FileNotFoundError: no such folder, or no sound in it.
        ValueError: as for ``vary``, where no file can be used.
    """
    usable = False
    for path in sound_files(folder):
        try:
            clips = vary(ckpt, path, strength, n, seed, **options)
        except ValueError as error:
            refusal = error
            warnings.warn(f"{path.name} is left out: {error}", stacklevel=2)
            continue
        usable = True
        yield clips
        if len(clips) < clips.settings["making"]["asked"]:  # cancelled
            return
    if not usable:
        raise refusal


def sound_files(folder: str | Path) -> list[Path]:
    """Return the sound files of a folder and of its folders, by name.

    Raises:
        FileNotFoundError: no such folder, or no sound in it.
    """
    folder = Path(folder).expanduser()
    found = sorted(
        p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file() and not p.name.startswith(".")
    )
    if not found:
        raise FileNotFoundError(f"No sound files in {folder}.")
    return found


def _made(x0: np.ndarray, length: Length) -> np.ndarray:
    """A sound at the length that the network makes."""
    return fit_circle(x0, length.made) if length.loop else fitted(x0, length.made)


def _cut(made: np.ndarray, length: Length, tempo: Tempo, ckpt: Checkpoint) -> np.ndarray:
    """What the network made, (channels, frames), as long as it is to be."""
    if not length.loop:
        return made[..., : length.frames]
    audio = fit_circle(made, length.frames)
    return from_strongest_onset(audio, ckpt.sample_rate) if tempo.start_on_onset else audio


def _rms(audio: np.ndarray) -> float:
    return float(np.sqrt(np.square(audio, dtype=np.float64).mean()))
