"""Shared parts of all samplers: the types of model and callbacks, seeded noise, and the loop over the times."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol, TypedDict

import numpy as np
import torch
from torch import Tensor

from .errors import ArgumentError, Cancelled

if TYPE_CHECKING:
    from typing import Unpack  # Python 3.11; read by type checkers only

Model = Callable[[Tensor, Tensor], Tensor]
OnStep = Callable[[int, int, Tensor], object]
Noise = Callable[[int], Tensor]
Sampler = Callable[..., Tensor]
Update = Callable[..., Tensor]


class Event(Protocol):
    """An event with ``is_set()``, such as ``threading.Event``."""

    def is_set(self) -> bool: ...


def seeded_noise(seeds: Sequence[int], shape: tuple[int, ...], step: int | None = None) -> Tensor:
    """Draw unit noise with one generator per clip, so that a clip does not depend on its batch.

    Args:
        seeds: one seed per clip, each from 0 to 2**63 - 1.
        shape: shape of one clip, (C, T).
        step: None for the starting noise, which is ``torch.manual_seed(seed); torch.randn(shape)`` on the
            CPU; a step number for the noise of that step of a stochastic sampler.

    Returns:
        float32 on the CPU, (len(seeds), *shape).
    """

    def generator(seed: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed if step is None else derived_seed(seed, step))

    return torch.stack([torch.randn(shape, generator=generator(seed), device="cpu") for seed in seeds])


def derived_seed(*parts: int) -> int:
    """Return a seed below 2**63 that depends on all parts, such as a clip's seed and the number of a step."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


class Hooks(TypedDict, total=False):
    """Keyword arguments of every sampler, all optional: see ``sampler``."""

    noise: Noise | None
    on_step: OnStep | None
    cancel: Event | None


def time_steps(ts: Tensor, **hooks: Unpack[Hooks]) -> Iterator[tuple[int, float, float, Callable[[Tensor], None]]]:
    """Yield ``(i, t, s, report)`` for each step; check ``cancel`` first. ``report(denoised)`` calls ``on_step``.

    Raises:
        ArgumentError: times that are not 1-D, strictly monotone and within [0, 1].
        Cancelled: ``cancel`` is set.
    """
    times = ts.detach().to("cpu", torch.float64)
    slopes = times.diff()
    if times.ndim != 1 or not len(slopes) or not ((slopes < 0).all() or (slopes > 0).all()):
        raise ArgumentError("Sampling times must be at least two, and rise or fall strictly.")
    if times.min() < 0 or times.max() > 1:
        raise ArgumentError(f"Sampling times must lie in [0, 1]; got {times.min():g} to {times.max():g}.")
    on_step, cancel = hooks.get("on_step"), hooks.get("cancel")
    for i, (t, s) in enumerate(pairwise(times.tolist())):
        if cancel is not None and cancel.is_set():
            raise Cancelled(f"cancelled after {i} of {len(slopes)} steps")

        def report(denoised: Tensor, done: int = i + 1) -> None:
            if on_step is not None:
                on_step(done, len(slopes), denoised)

        yield i, t, s, report


def stop_if(cancel: Event | None) -> None:
    """Raise ``Cancelled`` if ``cancel`` is set."""
    if cancel is not None and cancel.is_set():
        raise Cancelled("cancelled")
