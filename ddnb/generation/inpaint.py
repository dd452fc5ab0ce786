"""``inpaint``: fill gaps of a sound. What ``extend`` shares with it is here too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..audio.channels import to_channels
from ..audio.io import resample
from ..audio.loop import fit_circle
from ..checkpoints.checkpoint import Checkpoint, require_teacher
from ..clips.clip import Clip, Clips
from ..clips.provenance import Making
from ..clips.source import AnySound, input_clip, input_name, input_record, network_input
from ..errors import ArgumentError
from ..inpainting import DEFAULT_METHOD, METHODS
from ..steps import OnStep
from .length import MAX_DURATION_S, Length, loop_length
from .levels import level_gain
from .options import FILLING_STEPS, SamplingOptions, flatten_options
from .sampling import Sampling, clips_of, fit, require_checkpoint, resolve, seed_list

FADE_S = 0.01
"""Length of the crossfade between the known sound and what the network made, on the known side of a gap."""

_CONTEXT = 4  # lengths of training that are taken into account around a gap at most


@flatten_options
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
    options: SamplingOptions,
) -> Clips:
    """Fill gaps of a sound with something that fits in; outside the gaps the samples stay the same.

    Except for 10 ms on either side of each gap, where the two are crossfaded. The result has the rate, the channels and
    the length of the input. Of a long sound the network sees the neighbourhood of each gap.

    Args:
        ckpt: what ``load`` returned.
        audio, n, seed: as for ``vary``.
        start_s, end_s: where the gap begins and ends, in seconds; or a list of beginnings and one of ends.
        method: ``"guide"`` (default: by the network's gradient; the work of three calls a step, and memory as in
            training), ``"resample"`` (RePaint: 5 calls a step, no gradient) or ``"replace"`` (1 call). Steps are
            ancestral, so there is no choice of a sampler.
        loop: the sound is a loop: a gap that ends before it begins lies across its seam.

    Raises:
        FileNotFoundError: no such file.
        AudioError: an unusable sound.
        ArgumentError: a gap outside the sound, nothing left outside the gaps, an unknown name.
    """
    require_checkpoint(ckpt)
    source, seeds = input_clip(audio), seed_list(n, seed)
    missing = _find_missing(start_s, end_s, source, loop)
    sampling = resolve_ancestral(ckpt, source, method, options)
    x = torch.from_numpy(network_input(_bridge_gaps(source, missing, loop), ckpt))
    holes = torch.from_numpy(_at_rate(missing, x.shape[-1]))
    pieces = _find_pieces(ckpt, holes, loop)
    fillers = [_filler(sampling, method, x[..., first:last], holes[first:last], loop) for first, last in pieces]

    def work(batch: Sequence[int], on_step: OnStep) -> Tensor:
        whole = x.flatten(0, 1).repeat(len(batch), 1, 1)
        for (first, last), fill in zip(pieces, fillers, strict=True):
            whole[..., first:last] = fill(batch, on_step)
        return whole

    filled = sampling.run(work, seeds, len(pieces) * sampling.steps)
    made = [(seed, merge_known(source, audio, missing, ckpt.sample_rate, loop)) for seed, audio in filled]
    making = Making(
        "inpaint",
        input_record(source),
        **ancestral_record(sampling, method),
        start_s=_plain_seconds(start_s),
        end_s=_plain_seconds(end_s),
        frames=source.audio.shape[-1],
        asked=len(seeds),
        loop=loop or None,
    )
    length = loop_length(x.shape[-1], ckpt.net.config, ckpt.frames) if loop else None
    pitches_hz = sampling.pitches_hz([seed for seed, _ in made], length)
    return clips_of(made, source.audio.shape, source.sample_rate, ckpt, making, pitches_hz)


def resolve_ancestral(ckpt: Checkpoint, source: Clip, method: str, options: SamplingOptions) -> Sampling:
    """Check the options of a verb that fills in, by a method in place of a sampler."""
    if method not in METHODS:
        raise ArgumentError(f"Unknown method {method!r}. Known: {', '.join(METHODS)}.")
    if options.sampler is not None:
        raise ArgumentError(f"sampler={options.sampler!r}: gaps are filled by a method instead ({', '.join(METHODS)}).")
    require_teacher(ckpt, "fill in and extend")
    return resolve(ckpt, replace(options, steps=FILLING_STEPS if options.steps is None else options.steps), source)


def ancestral_record(sampling: Sampling, method: str) -> dict:
    """Return the fields of ``Making`` that describe the sampling: a method in place of a sampler."""
    return {name: value for name, value in sampling.record().items() if name != "sampler"} | {"method": method}


def _plain_seconds(seconds: float | Sequence[float]) -> float | tuple[float, ...]:
    plain = np.asarray(seconds, float).tolist()
    return tuple(plain) if isinstance(plain, list) else plain


def _find_missing(
    start_s: float | Sequence[float], end_s: float | Sequence[float], source: Clip, loop: bool
) -> np.ndarray:
    """Return a mask of the frames that lie in gaps, (frames,)."""
    starts, ends = (np.atleast_1d(np.asarray(side, dtype=np.float64)) for side in (start_s, end_s))
    frames, duration = source.audio.shape[-1], source.duration_s
    ends = np.where((ends > duration) & (ends < duration + 1e-3), duration, ends)  # lengths are shown rounded
    if starts.shape != ends.shape or starts.ndim != 1 or not len(starts):
        raise ArgumentError(f"start_s={start_s!r}, end_s={end_s!r}: give as many beginnings as ends of gaps.")
    missing = np.zeros(frames, bool)
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        if not (0 <= start <= duration and 0 <= end <= duration) or (end <= start and not (loop and end < start)):
            over = "; it ends before it begins, and only a loop has gaps across its end" if end < start else ""
            raise ArgumentError(
                f"a gap from {start:g} to {end:g} s: {input_name(source)} lasts {duration:.3f} s{over}."
            )
        first, last = round(start * source.sample_rate), round(end * source.sample_rate)
        if first == last:
            raise ArgumentError(f"a gap from {start:g} to {end:g} s is shorter than a frame.")
        if start < end:
            missing[first:last] = True
        else:
            missing[first:], missing[:last] = True, True
    if missing.all():
        raise ArgumentError("Nothing is left outside the gaps to go by: to make a whole sound, use generate or vary.")
    return missing


def _bridge_gaps(source: Clip, missing: np.ndarray, loop: bool) -> Clip:
    """Draw straight lines across the gaps, so that resampling and levels reveal nothing of what was in them."""
    frame, known = np.arange(len(missing)), ~missing
    period = len(missing) if loop else None
    bridges = [np.interp(frame[missing], frame[known], channel[known], period=period) for channel in source.audio]
    audio = source.audio.copy()
    audio[:, missing] = bridges
    return replace(source, audio=audio)


def _at_rate(missing: np.ndarray, frames: int) -> np.ndarray:
    """Return the same mask at another rate; a frame that lies partly in a gap counts as missing."""
    edges = np.arange(frames + 1) * len(missing) / frames
    inside = np.concatenate([[0], missing.cumsum()])
    return inside[np.ceil(edges[1:]).astype(int)] > inside[np.floor(edges[:-1]).astype(int)]


def _find_pieces(ckpt: Checkpoint, holes: Tensor, loop: bool) -> list[tuple[int, int]]:
    """Return the parts of a sound that the network sees, as (first, last): all of a short one, of a long one the
    neighbourhoods of the gaps. An anchored network sees it from its beginning.
    """
    frames, near, most = len(holes), _CONTEXT * ckpt.frames, MAX_DURATION_S * ckpt.sample_rate
    if loop or frames <= near or ckpt.net.anchored:
        last = frames if loop else min(frames, int(holes.nonzero().max()) + near // 2)
        if last > most:
            raise ArgumentError(
                f"The gap is too late, or the loop too long: {ckpt.name} takes at most {MAX_DURATION_S:g} s."
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
        raise ArgumentError(
            f"The gaps and their neighbourhood exceed {MAX_DURATION_S:g} s: fill them one after the other."
        )
    return pieces


def _filler(
    sampling: Sampling, method: str, x: Tensor, holes: Tensor, loop: bool
) -> Callable[[Sequence[int], OnStep], Tensor]:
    """Return a function that fills the holes of a sound, (rows, C, T), for each seed: (seeds, channels, T)."""
    ckpt, frames = sampling.ckpt, x.shape[-1]
    length = loop_length(frames, ckpt.net.config, ckpt.frames) if loop else Length(frames, ckpt.legal_frames(frames))
    gain = level_gain(ckpt, x.numpy())
    if loop:
        known = torch.from_numpy(fit_circle(x.numpy(), length.made))
        holes = torch.from_numpy(_at_rate(holes.numpy(), length.made))
    else:  # what lies beyond the end is not known to be silence
        known = F.pad(x, (0, length.made - frames))
        holes = F.pad(holes, (0, length.made - frames), value=True)

    def fill(batch: Sequence[int], on_step: OnStep) -> Tensor:
        noise = sampling.noise(batch, length.made, len(x))
        cond = sampling.cond(batch, length, len(x))
        whole = gain * known.repeat(len(batch), 1, 1)
        made = fill_in(sampling, method, whole, holes, noise, on_step, cond, length) / gain
        made = made.unflatten(0, (len(batch), len(x))).flatten(1, 2).cpu()
        return torch.from_numpy(fit_circle(made.numpy(), frames)) if loop else made[..., :frames]

    return fill


def fill_in(
    sampling: Sampling,
    method: str,
    known: Tensor,
    holes: Tensor,
    noise: Callable[[int | None], Tensor],
    on_step: OnStep,
    cond: Tensor | None,
    length: Length | None = None,
) -> Tensor:
    """Sample (B, C, T) where there are holes, given the known part."""
    device = sampling.ckpt.device
    known, mask = known.to(device), (~holes).float().to(device)
    model, ts = sampling.model(length, cond), sampling.times()
    callbacks = {"on_step": on_step, "cancel": sampling.cancel}
    return METHODS[method](model, noise(None), ts, known=known, mask=mask, noise=noise, **callbacks)


def merge_known(source: Clip, made: np.ndarray, missing: np.ndarray, rate: int, loop: bool = False) -> np.ndarray:
    """Return the input outside its gaps and what was made inside, at the rate and with the channels of the input."""
    frames = source.audio.shape[-1]
    made = to_channels(fit(resample(made, rate, source.sample_rate), frames), len(source.audio))
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
