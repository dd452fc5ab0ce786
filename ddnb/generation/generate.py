"""``generate``: sounds from noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ..audio.loop import fit_circle, from_strongest_onset
from ..audio.mastering import widen
from ..checkpoints.checkpoint import Checkpoint
from ..checks import within
from ..clips.clip import Clips
from ..clips.provenance import Making
from ..errors import ArgumentError
from ..steps import OnStep
from .length import Length, LoopOptions
from .levels import NORMALIZED, normalize_all, require_level
from .options import SamplingOptions, flatten_options
from .pitch import require_cycles
from .sampling import Edits, clips_of, resolve, seed_list

_FADE_S = 0.01


@flatten_options
def generate(
    ckpt: Checkpoint,
    n: int | None = None,
    seed: int | Sequence[int] = 0,
    *,
    duration_s: float | None = None,
    width: float = 0.0,
    level: str = NORMALIZED,
    tempo: LoopOptions,
    options: SamplingOptions,
) -> Clips:
    """Generate sounds from noise.

    A clip depends on its seed alone: seed 7 gives the same samples by itself and among others; exactly on a CPU, within
    rounding on a GPU. Interrupting (Ctrl-C, the notebook's stop button) or setting ``cancel`` returns the finished
    clips; so does an error in a later clip, with a warning.

    Args:
        ckpt: what ``load`` returned.
        n: number of clips (default: 4, or as many as there are seeds).
        seed: seed of the first clip, from which the others count up; or one seed per clip.
        duration_s: seconds, up to 60, for a loop up to 600 (default: as in training). Lengths that the network cannot
            make are made longer and cut.
        width: stereo width for mono networks, from 0 (off) to 1, see ``audio.widen``.
        level: ``"normalized"`` or ``"network"``. Normalized one-shots have a peak of -1 dBFS, and begin a millisecond
            before their attack; loops and textures have a loudness of -18 LUFS, or a peak of -1 dBFS where that is
            quieter. What was done is part of the record. The other keeps the sounds as the network made them.

    Returns:
        The clips; fewer than asked for after a cancel (``clips.complete`` is False then).

    Raises:
        ArgumentError: a number out of its range, or an unknown name.
        FloatingPointError: the network's output is not finite.
        MemoryError: not even one clip fits into memory.
    """
    seeds, sampling = seed_list(n, seed), resolve(ckpt, options)
    if within("width", width, 0, 1) and ckpt.channels != 1:
        raise ArgumentError(f"width={width!r}: {ckpt.name} is stereo already; leave it out.")
    require_level(level)
    length = tempo.length(ckpt, duration_s)
    require_cycles(sampling.pitch, length, ckpt.sample_rate, tempo.max_cents)
    ts = sampling.times()

    def work(batch: Sequence[int], on_step: OnStep) -> Tensor:
        noise = sampling.noise(batch, length.made)
        model = sampling.model(length, sampling.cond(batch, length))
        return sampling.solve(model, sampling.starting_noise(batch, length), ts, noise, on_step)

    made = [(seed, cut(audio, length, tempo, ckpt)) for seed, audio in sampling.run(work, seeds)]
    if sampling.pitch.how and not length.loop:
        made = [(seed, fade_end(audio, ckpt.sample_rate)) for seed, audio in made]
    if width:
        made = [(seed, widen(audio, width, tempo.loop)) for seed, audio in made]
    making = Making(
        "generate",
        **sampling.record(),
        **tempo.record(length),
        frames=length.frames,
        asked=len(seeds),
        width=float(width) or None,
    )
    edits: Edits = ()
    if level == NORMALIZED:
        timed = tempo.bpm is not None
        made, edits = normalize_all(made, ckpt.sample_rate, [sampling.shares] * len(made), loop=tempo.loop, timed=timed)
    pitches_hz = sampling.pitches_hz([seed for seed, _ in made], length)
    shape = 2 if width else ckpt.channels, length.frames
    return clips_of(made, shape, ckpt.sample_rate, ckpt, making, pitches_hz, edits)


def fade_end(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Fade out the last 10 ms: a tone that lasts as long as it was asked to must not end with a click."""
    n = min(round(_FADE_S * sample_rate), audio.shape[-1])
    fall = np.cos(np.pi / 2 * (np.arange(n) + 1) / (n + 1)) ** 2
    gain = np.concatenate([np.ones(audio.shape[-1] - n), fall])
    return (audio * gain).astype(np.float32)


def cut(made: np.ndarray, length: Length, tempo: LoopOptions, ckpt: Checkpoint) -> np.ndarray:
    """Return what the network made, (channels, frames), at the length that was asked for."""
    if not length.loop:
        return made[..., : length.frames]
    audio = fit_circle(made, length.frames)
    return from_strongest_onset(audio, ckpt.sample_rate) if tempo.start_on_onset else audio
