"""``vary``: sounds that resemble a given one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..audio.listing import reason_of, sound_files
from ..audio.loop import close_loop, fit_circle
from ..checkpoints.checkpoint import Checkpoint
from ..checks import within
from ..clips.clip import Clip, Clips
from ..clips.provenance import Making
from ..clips.source import AnySound, from_offset, input_clip, input_name, input_record, network_input
from ..display.text import shown
from ..errors import ArgumentError, DdnbError
from ..files import expand
from ..notices import warn
from ..schedule import alpha_sigma
from ..steps import OnStep
from .generate import cut
from .length import MAX_DURATION_S, MAX_LOOP_S, Length, LoopOptions
from .levels import NORMALIZED, level_gain, require_level, start_time
from .options import SamplingOptions, flatten_options
from .pitch import require_cycles
from .sampling import Sampling, clips_of, fit, require_checkpoint, resolve, seed_list


@flatten_options
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
    level: str = NORMALIZED,
    tempo: LoopOptions,
    options: SamplingOptions,
) -> Clips:
    """Make variations of a sound: noise is added to it, and the network removes the noise again.

    ``x_t = alpha x0 + sigma z`` at the time of ``strength``, and the full number of steps from there. Input may have
    any rate and number of channels: a mono network makes each channel by itself, from the same noise.

    Args:
        ckpt: what ``load`` returned.
        audio: a path, a clip, or (array of (channels, frames), sample rate).
        strength: from 0, which returns the sound itself, to 1, which is independent of it; the same for every sampler.
            About 0.3 changes details, 0.5 the timbre, from 0.7 on it is another sound. The noise level is
            ``tan(strength pi / 2)`` for a sound at full scale, and for a quieter one lower by as much.
        n, seed: as for ``generate``.
        duration_s: seconds, up to 60 (default: those of the sound from ``offset_s`` on).
        offset_s: where in the sound to begin, in seconds.
        match_level: give each result the root mean square of the sound.
        level: ``"normalized"`` gives each result the peak of the sound; with ``"network"`` its level moves from the
            sound's to the network's own as ``strength`` goes from 0 to 1, and networks that were trained on sounds at
            their own levels get the sound at its own.

    Returns:
        The clips, at the network's sample rate.

    Raises:
        FileNotFoundError: no such file.
        AudioError: an unusable sound.
        ArgumentError: a number out of its range, or an unknown name.
    """
    require_checkpoint(ckpt)
    strength, level = within("strength", strength, 0, 1), require_level(level)
    source, seeds = input_clip(audio), seed_list(n, seed)
    x0, length = _input(ckpt, source, offset_s, duration_s, tempo)
    sampling = resolve(ckpt, options, _heard(source, offset_s, duration_s))
    unchanged = [(seed, x0.reshape(-1, length.frames)) for seed in seeds]
    require_cycles(sampling.pitch, length, ckpt.sample_rate, tempo.max_cents)
    gain = level_gain(ckpt, x0, level)
    made = _varied(sampling, x0, length, strength, seeds, gain) if strength else unchanged
    made = [(seed, cut(x, length, tempo, ckpt)) for seed, x in made]
    if match_level or (level == NORMALIZED and strength):
        measure = _rms if match_level else _peak
        made = [(seed, x * (measure(x0) / max(measure(x), 1e-9))) for seed, x in made]
    making = Making(
        "vary",
        input_record(source),
        **sampling.record(),
        **tempo.record(length),
        strength=strength,
        frames=length.frames,
        asked=len(seeds),
        offset_s=float(offset_s),
        match_level=match_level or None,
        level=level if level == NORMALIZED else None,
    )
    pitches_hz = sampling.pitches_hz([seed for seed, _ in made], length)
    return clips_of(made, (len(x0) * x0.shape[1], length.frames), ckpt.sample_rate, ckpt, making, pitches_hz)


def _heard(source: Clip, offset_s: float, duration_s: float | None) -> Clip:
    """Return the part of the input that is varied, whose pitch counts."""
    part = from_offset(source, offset_s)
    frames = part.audio.shape[-1] if duration_s is None else max(1, round(duration_s * part.sample_rate))
    return replace(part, audio=part.audio[:, :frames])


def _input(
    ckpt: Checkpoint, source: Clip, offset_s: float, duration_s: float | None, tempo: LoopOptions
) -> tuple[np.ndarray, Length]:
    """Return the input, (rows, channels, frames), and its length."""
    part = from_offset(source, offset_s)
    max_s = MAX_LOOP_S if tempo.loop else MAX_DURATION_S
    if duration_s is None and tempo.bpm is None and part.duration_s > max_s:
        raise ArgumentError(
            f"{input_name(source)} lasts {source.duration_s:.0f} s: say which part, with offset_s and duration_s."
        )
    # no more than can be varied: an hour at a low rate grows when it is resampled; what follows it has its influence
    within_reach = round((max_s + 1) * part.sample_rate)
    x0 = network_input(replace(part, audio=part.audio[:, :within_reach]), ckpt)
    length = tempo.length(ckpt, duration_s, default=x0.shape[-1])
    x0 = fit(x0, length.frames)
    return (np.stack([close_loop(row, ckpt.sample_rate) for row in x0]) if tempo.loop else x0), length


def _varied(
    sampling: Sampling, x0: np.ndarray, length: Length, strength: float, seeds: list[int], gain: float
) -> list[tuple[int, np.ndarray]]:
    ckpt, rows = sampling.ckpt, len(x0)
    t = start_time(ckpt, strength)
    start = torch.from_numpy((fit_circle(x0, length.made) if length.loop else fit(x0, length.made)) * np.float32(gain))

    def work(batch: Sequence[int], on_step: OnStep) -> Tensor:
        noise = sampling.noise(batch, length.made, rows)
        alpha, sigma = alpha_sigma(t) if t < 1 else (0.0, 1.0)
        x = alpha * start.to(ckpt.device).repeat(len(batch), 1, 1) + sigma * noise(None)
        model = sampling.model(length, sampling.cond(batch, length, rows))
        x = sampling.solve(model, x, sampling.times(t), noise, on_step)
        return x.unflatten(0, (len(batch), rows)).flatten(1, 2) * gain ** (strength - 1)

    return sampling.run(work, seeds, len(sampling.times(t)) - 1)


def vary_folder(
    ckpt: Checkpoint, folder: str | Path, strength: float = 0.5, n: int | None = 1, seed: int = 0, **options: Any
) -> Iterator[Clips]:
    """Vary every sound file of a folder and its subfolders, as ``vary`` does.

    ``for clips in ddnb.vary_folder(ckpt, "my-sounds"): clips.save("varied")``. A file that cannot be used is skipped
    with a warning that says why.

    Args:
        ckpt, strength, n, seed, options: as for ``vary``; one variation of each by default.
        folder: the folder of sound files.

    Yields:
        The clips of one file, in the order of the names.

    Raises:
        FileNotFoundError: no such folder, or no sound in it.
        DdnbError, OSError: as for ``vary``, if no file can be used.
    """
    usable = False
    for path in sound_files(folder):
        try:
            clips = vary(ckpt, path, strength, n, seed, **options)
        except (DdnbError, OSError) as error:
            refusal: Exception = error
            name = shown(path.relative_to(expand(folder)).as_posix())
            warn(f"Skipped {name}: {reason_of(error, path.name)}", stacklevel=2)
            continue
        usable = True
        yield clips
        if not clips.complete:  # cancelled
            return
    if not usable:
        raise refusal


def _peak(audio: np.ndarray) -> float:
    return float(np.abs(audio).max())


def _rms(audio: np.ndarray) -> float:
    return float(np.sqrt(np.square(audio, dtype=np.float64).mean()))
