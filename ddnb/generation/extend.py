"""``extend``: make a sound longer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..checkpoints.checkpoint import Checkpoint
from ..checks import within
from ..clips.clip import Clip, Clips
from ..clips.provenance import Making
from ..clips.source import AnySound, input_clip, input_name, input_record, network_input
from ..errors import ArgumentError
from ..inpainting import DEFAULT_METHOD
from ..steps import OnStep, derived_seed
from .inpaint import FADE_S, ancestral_record, fill_in, merge_known, resolve_ancestral
from .length import MAX_DURATION_S, MAX_LOOP_S
from .levels import level_gain
from .options import SamplingOptions, flatten_options
from .sampling import Sampling, clips_of, require_checkpoint, seed_list

_MAX_GAIN = 10 ** (3 / 20)  # per window; 25 ancestral steps lose 1.5 dB each, with a network that follows its context


@flatten_options
def extend(
    ckpt: Checkpoint,
    audio: AnySound,
    duration_s: float,
    n: int | None = None,
    seed: int | Sequence[int] = 0,
    *,
    backwards: bool = False,
    method: str = DEFAULT_METHOD,
    options: SamplingOptions,
) -> Clips:
    """Continue a sound after its end, or add what comes before it, until it is ``duration_s`` long.

    The input's samples stay the same, except for the 10 ms beside the join. A network that is not anchored continues
    window by window; half of each window is what was made before, set to the level of the input by at most 3 dB a
    window, so that errors of level do not add up. An anchored one makes everything in one piece.

    Args:
        ckpt: what ``load`` returned.
        audio: a path, a clip, or (array of (channels, frames), sample rate).
        duration_s: total length in seconds, up to 60; window by window up to 600.
        n, seed: as for ``generate``.
        backwards: put the new part before the sound.
        method: as for ``inpaint``.

    Returns:
        The clips, of the rate and the channels of the input.

    Raises:
        FileNotFoundError: no such file.
        AudioError: an unusable sound.
        ArgumentError: a length that is not longer than the sound, or too long; an unknown name.
    """
    require_checkpoint(ckpt)
    source, seeds = input_clip(audio), seed_list(n, seed)
    frames = _total_frames(ckpt, source, duration_s)
    sampling = resolve_ancestral(ckpt, source, method, options)
    x = torch.from_numpy(network_input(source, ckpt))
    total = max(round(duration_s * ckpt.sample_rate), x.shape[-1] + 1)
    hops = _find_hops(ckpt, x.shape[-1], total)
    made = sampling.run(_grower(sampling, method, x, total, hops, backwards), seeds, len(hops) * sampling.steps)
    padding = frames - source.audio.shape[-1]
    missing = np.arange(frames) < padding if backwards else np.arange(frames) >= source.audio.shape[-1]
    beside = (padding, 0) if backwards else (0, padding)
    longer = replace(source, audio=np.pad(source.audio, ((0, 0), beside)))
    made = [(seed, merge_known(longer, audio, missing, ckpt.sample_rate)) for seed, audio in made]
    making = Making(
        "extend",
        input_record(source),
        **ancestral_record(sampling, method),
        duration_s=float(duration_s),
        backwards=bool(backwards),
        frames=frames,
        asked=len(seeds),
        source_s=source.duration_s,
    )
    pitches_hz = sampling.pitches_hz([seed for seed, _ in made])
    return clips_of(made, longer.audio.shape, source.sample_rate, ckpt, making, pitches_hz)


def _total_frames(ckpt: Checkpoint, source: Clip, duration_s: float) -> int:
    max_s = MAX_DURATION_S if ckpt.net.anchored else MAX_LOOP_S
    if source.duration_s > max_s:
        raise ArgumentError(
            f"{input_name(source)} lasts {source.duration_s:.0f} s: {ckpt.name} makes at most {max_s:g} s in all."
        )
    within("duration_s", duration_s, source.duration_s, max_s)
    frames = round(duration_s * source.sample_rate)
    if frames == source.audio.shape[-1]:
        raise ArgumentError(f"duration_s={duration_s!r}: {input_name(source)} is that long already.")
    return frames


def _find_hops(ckpt: Checkpoint, frames: int, total: int) -> list[tuple[int, int]]:
    """Return the frames of context and of new sound of each window."""
    if ckpt.net.anchored:
        return [(frames, total - frames)]
    window, hops = ckpt.legal_frames(ckpt.frames), []
    while frames < total:
        context = min(frames, window // 2)
        hops.append((context, window - context))
        frames += window - context
    return hops


def _grower(
    sampling: Sampling, method: str, x: Tensor, total: int, hops: list[tuple[int, int]], backwards: bool
) -> Callable[[Sequence[int], OnStep], Tensor]:
    """Return a function that extends a sound, (rows, C, T), for each seed: (seeds, channels, total)."""
    ckpt, rows = sampling.ckpt, len(x)
    gain, overlap = level_gain(ckpt, x.numpy()), round(FADE_S * ckpt.sample_rate)

    def forwards(y: Tensor) -> Tensor:
        """Reverse a sound that grows backwards, so that it grows at its end; or reverse it back."""
        return y.flip(-1) if backwards else y

    level = _rms(forwards(x)[..., -hops[0][0] :])

    def work(batch: Sequence[int], on_step: OnStep) -> Tensor:
        whole = forwards(gain * x.repeat(len(batch), 1, 1))
        for hop, (context, new) in enumerate(hops):
            near = whole[..., -context:]
            level_change = gain * level.repeat(len(batch), 1, 1) / _rms(near).clamp(min=1e-9)
            steady = level_change.clamp(1 / _MAX_GAIN, _MAX_GAIN)
            beyond = ckpt.legal_frames(context + new) - context - new  # after the end, whichever way it grows
            known = F.pad(forwards(F.pad(steady * near, (0, new))), (0, beyond))
            holes = F.pad(forwards(torch.arange(context + new) >= context), (0, beyond), value=True)
            noise = sampling.noise([_seed_of_hop(seed, hop) for seed in batch], context + new + beyond, rows)
            made = fill_in(sampling, method, known, holes, noise, on_step, sampling.cond(batch, rows=rows)).cpu()
            made = forwards(made[..., : context + new])
            n = min(overlap, context)
            share = torch.sin(torch.pi / 2 * (torch.arange(n) + 1) / (n + 1)).square()
            made[..., context - n : context].lerp_(near[..., context - n :], 1 - share)
            whole = torch.cat([whole[..., : whole.shape[-1] - n], made[..., context - n :]], -1)
        return forwards(whole[..., :total]).unflatten(0, (len(batch), rows)).flatten(1, 2) / gain

    return work


def _seed_of_hop(seed: int, hop: int) -> int:
    """Return a seed for each window; the first one's is the clip's own."""
    return derived_seed(seed, hop) if hop else seed


def _rms(x: Tensor) -> Tensor:
    """Return the level of each row over its channels, (rows, 1, 1): clips of a batch stay independent."""
    return x.square().mean((1, 2), keepdim=True).sqrt()
