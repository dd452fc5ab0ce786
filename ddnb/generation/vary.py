"""TODO generation/vary."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..audio.io import sound_files
from ..audio.loop import MAX_CENTS, closed, fit_circle
from ..checkpoints.checkpoint import Checkpoint
from ..checks import within
from ..clips.clip import Clips, settings_of
from ..clips.source import AnySound, source_of
from ..sampler import OnStep
from ..schedule import alpha_sigma
from .generate import _cut
from .length import MAX_DURATION_S, MAX_LOOP_S, Length, Tempo
from .options import category_of, clips_of, fitted, level_gain, require_checkpoint, sampling, seed_list, start_time


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


def _made(x0: np.ndarray, length: Length) -> np.ndarray:
    """A sound at the length that the network makes."""
    return fit_circle(x0, length.made) if length.loop else fitted(x0, length.made)


def _rms(audio: np.ndarray) -> float:
    return float(np.sqrt(np.square(audio, dtype=np.float64).mean()))
