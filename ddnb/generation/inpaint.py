"""Parts of a sound made anew: fill gaps, go on where it ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..audio.io import resample, to_channels
from ..audio.loop import fit_circle
from ..checkpoints.checkpoint import Checkpoint
from ..clips.clip import Clips, settings_of
from ..clips.source import AnySound, Source, source_of
from ..inpainting import DEFAULT_METHOD, METHODS
from ..sampler import OnStep
from .length import MAX_DURATION_S, Length, loop_length
from .options import Sampling, category_of, clips_of, fitted, level_gain, require_checkpoint, sampling, seed_list

FADE_S = 0.01
"""How far into the known sound, beside a gap, it fades into what the network made."""
_CONTEXT = 4  # lengths of training that are looked at around a gap at most


def inpaint(
    ckpt: Checkpoint,
    audio: AnySound,
    start_s: float | Sequence[float],
    end_s: float | Sequence[float],
    n: int | None = None,
    seed: int | Sequence[int] = 0,
    *,
    method: str = DEFAULT_METHOD,
    loop: bool = False,
    **options: Any,
) -> Clips:
    """Fill gaps of a sound with something that fits in. What is outside them comes back as it was.

    Bit by bit, that is, but for 10 ms beside each gap, on the known side, in which one fades into the other. The
    result has the rate, the channels and the length of the sound. In a long sound the network looks at the
    neighbourhood of each gap.

    Args:
        ckpt: what ``load`` returned.
        audio: a path, a clip, or (array of (channels, frames), sample rate).
        start_s, end_s: where the gap begins and ends, in seconds; or a list of beginnings and one of ends.
        n, seed: as for ``generate``.
        method: ``"guide"`` (the default: by the network's gradient, the work of three calls a step, and memory as in
            training), ``"resample"`` (RePaint: 5 calls a step, no gradient) or ``"replace"`` (1 call).
        loop: the sound is a loop: a gap that ends before it begins lies across its seam.
        options: the others of ``generate``, from ``category`` to ``cancel``, but for ``sampler``: steps are ancestral.

    Returns:
        The clips.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a gap outside the sound, nothing left outside the gaps, an unusable sound, an unknown name.
    """
    require_checkpoint(ckpt)
    source, seeds = source_of(audio), seed_list(n, seed)
    missing = _missing(start_s, end_s, source, loop)
    how = _ancestral(ckpt, source, method, options)
    x = torch.from_numpy(_bridged(source, missing, loop).at(ckpt))
    holes = torch.from_numpy(_at_rate(missing, x.shape[-1]))
    pieces = _pieces(ckpt, holes, loop)
    fillers = [_fill(how, method, x[..., first:last], holes[first:last], loop) for first, last in pieces]

    def work(batch: Sequence[int], step_done: OnStep) -> Tensor:
        whole = x.flatten(0, 1).repeat(len(batch), 1, 1)
        for number, ((first, last), fill) in enumerate(zip(pieces, fillers, strict=True)):
            whole[..., first:last] = fill(batch, _later(step_done, number * how.steps))
        return whole

    made = how.run(work, seeds, len(pieces) * how.steps)
    made = [_beside(source, audio, missing, ckpt.sample_rate, loop) for audio in made]
    gaps = {"start_s": np.asarray(start_s, float).tolist(), "end_s": np.asarray(end_s, float).tolist()}
    making = {"verb": "inpaint", "source": source.record} | gaps | {"method": method}
    making |= _record(how) | {"frames": source.audio.shape[-1], "asked": len(seeds)} | ({"loop": True} if loop else {})
    return clips_of(made, source.audio.shape, seeds, source.sample_rate, settings_of(ckpt, making))


def _ancestral(ckpt: Checkpoint, source: Source, method: str, options: dict[str, Any]) -> Sampling:
    if method not in METHODS:
        raise ValueError(f"Unknown method {method!r}. Known: {', '.join(METHODS)}.")
    if options.get("sampler") is not None:
        raise ValueError(f"sampler={options['sampler']!r}: gaps are filled by a method ({', '.join(METHODS)}) instead.")
    return sampling(ckpt, **category_of(source, ckpt) | options)


def _record(how: Sampling) -> dict[str, Any]:
    return {k: v for k, v in how.record().items() if k != "sampler"}


def _missing(
    start_s: float | Sequence[float], end_s: float | Sequence[float], source: Source, loop: bool
) -> np.ndarray:
    """Which frames of the sound lie in gaps, (frames,)."""
    starts, ends = (np.atleast_1d(np.asarray(side, dtype=np.float64)) for side in (start_s, end_s))
    frames, duration = source.audio.shape[-1], source.duration_s
    ends = np.where((ends > duration) & (ends < duration + 1e-3), duration, ends)  # lengths are shown rounded
    if starts.shape != ends.shape or starts.ndim != 1 or not len(starts):
        raise ValueError(f"start_s={start_s!r}, end_s={end_s!r}: give as many beginnings as ends of gaps.")
    missing = np.zeros(frames, bool)
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        if not (0 <= start <= duration and 0 <= end <= duration) or (end <= start and not (loop and end < start)):
            over = "; only a loop has gaps across its end" if end < start else ""
            raise ValueError(f"a gap from {start:g} to {end:g} s: {source.name} lasts {duration:.3f} s{over}.")
        first, last = round(start * source.sample_rate), round(end * source.sample_rate)
        if first == last:
            raise ValueError(f"a gap from {start:g} to {end:g} s is shorter than a frame.")
        if start < end:
            missing[first:last] = True
        else:
            missing[first:], missing[:last] = True, True
    if missing.all():
        raise ValueError("Nothing is left outside the gaps to go by: to make a whole sound, use generate or vary.")
    return missing


def _bridged(source: Source, missing: np.ndarray, loop: bool) -> Source:
    """The sound with straight lines across its gaps: another rate or a level would tell what was in them."""
    frame, known = np.arange(len(missing)), ~missing
    period = len(missing) if loop else None
    bridges = [np.interp(frame[missing], frame[known], channel[known], period=period) for channel in source.audio]
    audio = source.audio.copy()
    audio[:, missing] = bridges
    return replace(source, audio=audio)


def _at_rate(missing: np.ndarray, frames: int) -> np.ndarray:
    """The same gaps at another rate; a frame that is partly in one is in it."""
    edges = np.arange(frames + 1) * len(missing) / frames
    inside = np.concatenate([[0], missing.cumsum()])
    return inside[np.ceil(edges[1:]).astype(int)] > inside[np.floor(edges[:-1]).astype(int)]


def _pieces(ckpt: Checkpoint, holes: Tensor, loop: bool) -> list[tuple[int, int]]:
    """Which parts of a sound to look at, as (first, last): all of a short one, of others what is around the gaps.

    A network that knows where sounds begin looks from there on.
    """
    frames, near, most = len(holes), _CONTEXT * ckpt.frames, MAX_DURATION_S * ckpt.sample_rate
    if loop or frames <= near or ckpt.net.anchored:
        last = frames if loop else min(frames, int(holes.nonzero().max()) + near // 2)
        if last > most:
            raise ValueError(
                f"gaps as late as this, or loops as long: {ckpt.name} looks at {MAX_DURATION_S:g} s at most."
            )
        return [(0, last)]
    edges = torch.diff(holes.int(), prepend=torch.zeros(1), append=torch.zeros(1)).nonzero().flatten().tolist()
    pieces: list[tuple[int, int]] = []
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        piece = max(0, first - near // 2), min(frames, last + near // 2)
        if pieces and piece[0] <= pieces[-1][1]:
            piece = pieces.pop()[0], piece[1]
        pieces.append(piece)
    if max(last - first for first, last in pieces) > most:
        raise ValueError(f"gaps of more than {MAX_DURATION_S:g} s with what is around them: fill them part by part.")
    return pieces


def _fill(how: Sampling, method: str, x: Tensor, holes: Tensor, loop: bool):
    """What fills the holes of a sound, (rows, C, T), for each seed: (channels, T)."""
    ckpt, frames = how.ckpt, x.shape[-1]
    length = loop_length(frames, ckpt.net.config, ckpt.frames) if loop else Length(frames, ckpt.legal_frames(frames))
    gain = level_gain(ckpt, x.numpy())
    if loop:
        known = torch.from_numpy(fit_circle(x.numpy(), length.made))
        holes = torch.from_numpy(_at_rate(holes.numpy(), length.made))
    else:  # what lies beyond the end is not known to be silence
        known = F.pad(x, (0, length.made - frames))
        holes = F.pad(holes, (0, length.made - frames), value=True)

    def work(batch: Sequence[int], step_done: OnStep) -> Tensor:
        noise = how.noise(batch, length.made, len(x))
        made = _filled(how, method, gain * known.repeat(len(batch), 1, 1), holes, noise, step_done, length) / gain
        made = made.unflatten(0, (len(batch), len(x))).flatten(1, 2).cpu()
        return torch.from_numpy(fit_circle(made.numpy(), frames)) if loop else made[..., :frames]

    return work


def _filled(
    how, method, known: Tensor, holes: Tensor, noise, step_done: OnStep, length: Length | None = None
) -> Tensor:
    known, mask = known.to(how.ckpt.device), (~holes).float().to(how.ckpt.device)
    watched = {"on_step": step_done, "cancel": how.cancel}
    return METHODS[method](how.model(length), noise(None), how.times(), known=known, mask=mask, noise=noise, **watched)


def _later(on_step: OnStep, steps: int) -> OnStep:
    return lambda step, total, denoised: on_step(steps + step, total, denoised)


def _beside(source: Source, made: np.ndarray, missing: np.ndarray, rate: int, loop: bool = False) -> np.ndarray:
    """The sound outside its gaps, and what was made inside of them, at the rate and with the channels of the sound."""
    frames = source.audio.shape[-1]
    made = to_channels(fitted(resample(made, rate, source.sample_rate), frames), len(source.audio))
    n = round(FADE_S * source.sample_rate)
    rise = np.sin(np.pi / 2 * (np.arange(n) + 1) / (n + 1)) ** 2  # from a gap on; both sides are nearly alike here
    share = np.where(missing, 0.0, 1.0)
    edges = np.flatnonzero(missing != np.roll(missing, 1))
    for edge in edges[edges > 0] if not loop else edges:
        place = np.arange(edge, edge + n) if missing[edge - 1] else np.arange(edge - 1, edge - 1 - n, -1)
        place = place % frames if loop else place[(place >= 0) & (place < frames)]
        share[place] *= rise[: len(place)]
    mixed = share * source.audio + (1 - share) * made
    return np.where(share == 1, source.audio, mixed).astype(np.float32)
