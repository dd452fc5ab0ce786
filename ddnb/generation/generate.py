"""What one does with a checkpoint: make sounds from noise, or from a sound."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ..audio.loop import MAX_CENTS, fit_circle, from_strongest_onset
from ..audio.mastering import widen
from ..checkpoints.checkpoint import Checkpoint
from ..checks import within
from ..clips.clip import Clips, settings_of
from ..guidance import Category
from ..sampler import Event, OnStep
from .length import Length, Tempo
from .options import clips_of, sampling, seed_list


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


def _cut(made: np.ndarray, length: Length, tempo: Tempo, ckpt: Checkpoint) -> np.ndarray:
    """What the network made, (channels, frames), as long as it is to be."""
    if not length.loop:
        return made[..., : length.frames]
    audio = fit_circle(made, length.frames)
    return from_strongest_onset(audio, ckpt.sample_rate) if tempo.start_on_onset else audio
