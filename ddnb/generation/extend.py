"""TODO generation/extend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..checkpoints.checkpoint import Checkpoint
from ..checks import within
from ..clips.clip import Clips, settings_of
from ..clips.source import AnySound, source_of
from ..inpainting import DEFAULT_METHOD
from ..sampler import OnStep
from .inpaint import FADE_S, _ancestral, _beside, _filled, _later, _record
from .length import MAX_DURATION_S, MAX_LOOP_S
from .options import Sampling, clips_of, level_gain, require_checkpoint, seed_list

_STEADY = 10 ** (3 / 20)  # 25 ancestral steps lose 1.5 dB, each window, with a network that goes by what it is shown


def extend(
    ckpt: Checkpoint,
    audio: AnySound,
    duration_s: float,
    n: int | None = None,
    seed: int | Sequence[int] = 0,
    *,
    backwards: bool = False,
    method: str = DEFAULT_METHOD,
    **options: Any,
) -> Clips:
    """Let a sound go on where it ends, or begin earlier, until it is ``duration_s`` long.

    What was there comes back bit by bit, but for the 10 ms beside the join. A network that does not know where sounds
    begin goes on window by window, half of each is what was made before; that half is set to the level of the sound, by
    3 dB a window at most, so that errors of level do not add up. Others make it all at once.

    Args:
        ckpt: what ``load`` returned.
        audio: a path, a clip, or (array of (channels, frames), sample rate).
        duration_s: length in all, seconds, up to 60; window by window up to 600.
        n, seed: as for ``generate``.
        backwards: put what is new before the sound.
        method: as for ``inpaint``.
        options: likewise.

    Returns:
        The clips, of the rate and the channels of the sound.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a length that is not longer than the sound, or too long; an unusable sound, an unknown name.
    """
    require_checkpoint(ckpt)
    source, seeds = source_of(audio), seed_list(n, seed)
    whole = ckpt.net.anchored
    most_s = MAX_DURATION_S if whole else MAX_LOOP_S
    if source.duration_s > most_s:
        raise ValueError(
            f"{source.name} lasts {source.duration_s:.0f} s: {ckpt.name} makes {most_s:g} s in all at most."
        )
    within("duration_s", duration_s, source.duration_s, most_s)
    frames = round(duration_s * source.sample_rate)
    if frames == source.audio.shape[-1]:
        raise ValueError(f"duration_s={duration_s!r}: {source.name} is as long already.")
    how = _ancestral(ckpt, source, method, options)
    x = torch.from_numpy(source.at(ckpt))
    total = max(round(duration_s * ckpt.sample_rate), x.shape[-1] + 1)
    grown = _grow(how, method, x, total, backwards)
    hops = 1 if whole else len(_hops(x.shape[-1], total, ckpt.legal_frames(ckpt.frames)))
    made = how.run(grown, seeds, hops * how.steps)
    padding = frames - source.audio.shape[-1]
    missing = np.arange(frames) < padding if backwards else np.arange(frames) >= source.audio.shape[-1]
    beside = (padding, 0) if backwards else (0, padding)
    longer = replace(source, audio=np.pad(source.audio, ((0, 0), beside)))
    made = [_beside(longer, audio, missing, ckpt.sample_rate) for audio in made]
    making = {"verb": "extend", "source": source.record, "duration_s": float(duration_s), "backwards": bool(backwards)}
    making |= _record(how) | {"method": method, "frames": frames, "asked": len(seeds), "source_s": source.duration_s}
    return clips_of(made, longer.audio.shape, seeds, source.sample_rate, settings_of(ckpt, making))


def _hops(frames: int, total: int, window: int) -> list[tuple[int, int]]:
    """How many frames to look at and how many to make, window by window."""
    hops = []
    while frames < total:
        context = min(frames, window // 2)
        hops.append((context, window - context))
        frames += window - context
    return hops


def _grow(how: Sampling, method: str, x: Tensor, total: int, backwards: bool):
    """The sound, (rows, C, T), made longer for each seed: (channels, total)."""
    ckpt, rows = how.ckpt, len(x)
    gain = level_gain(ckpt, x.numpy())
    anchored = ckpt.net.anchored
    hops = (
        [(x.shape[-1], total - x.shape[-1])] if anchored else _hops(x.shape[-1], total, ckpt.legal_frames(ckpt.frames))
    )
    overlap = round(FADE_S * ckpt.sample_rate)

    def turned(y: Tensor) -> Tensor:
        """Forwards in time, or so that what is to come is at the end."""
        return y.flip(-1) if backwards else y

    level = _rms(turned(x)[..., -hops[0][0] :])

    def work(batch: Sequence[int], step_done: OnStep) -> Tensor:
        whole = turned(gain * x.repeat(len(batch), 1, 1))
        for hop, (context, new) in enumerate(hops):
            near = whole[..., -context:]
            steady = (gain * level.repeat(len(batch), 1, 1) / _rms(near).clamp(min=1e-9)).clamp(1 / _STEADY, _STEADY)
            beyond = ckpt.legal_frames(context + new) - context - new  # after the end, whichever way it grows
            known = F.pad(turned(F.pad(steady * near, (0, new))), (0, beyond))
            holes = F.pad(turned(torch.arange(context + new) >= context), (0, beyond), value=True)
            noise = how.noise([_of_hop(seed, hop) for seed in batch], context + new + beyond, rows)
            made = _filled(how, method, known, holes, noise, _later(step_done, hop * how.steps)).cpu()
            made = turned(made[..., : context + new])
            n = min(overlap, context)
            share = torch.sin(torch.pi / 2 * (torch.arange(n) + 1) / (n + 1)).square()
            made[..., context - n : context].lerp_(near[..., context - n :], 1 - share)
            whole = torch.cat([whole[..., : whole.shape[-1] - n], made[..., context - n :]], -1)
        return turned(whole[..., :total]).unflatten(0, (len(batch), rows)).flatten(1, 2) / gain

    return work


def _of_hop(seed: int, hop: int) -> int:
    """Another seed for each window; the first one's is its own."""
    return seed if not hop else int(np.random.SeedSequence([seed, hop]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _rms(x: Tensor) -> Tensor:
    """Of each row and all of its channels, (rows, 1, 1): a clip depends on no other of its batch."""
    return x.square().mean((1, 2), keepdim=True).sqrt()
