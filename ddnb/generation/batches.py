"""Items made in batches, one after another or on several cores side by side, with progress and cancelling."""

from __future__ import annotations

import functools
import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..runtime import NO_MEMORY, in_batches, is_out_of_memory
from ..steps import Event, OnStep

Item = TypeVar("Item")
Work = Callable[[Sequence[Any], OnStep], Tensor]
"""Makes a batch: takes items and what to call after each step; returns (items, ...)."""


class Stop:
    """The caller's cancel event, or an interrupt: what every sampler of a call looks at."""

    def __init__(self, cancel: Event | None):
        self.cancel, self.interrupted = cancel, False

    def is_set(self) -> bool:
        return self.interrupted or (self.cancel is not None and self.cancel.is_set())


class Report:
    """Counts the steps of a call and reports them to the caller's ``on_step``."""

    def __init__(self, on_step: OnStep | None, done: int, total: int):
        self.on_step, self.done, self.total = on_step, done, total

    def step(self, items: int, denoised: Tensor) -> None:
        """Count a step of so many items."""
        self.done += items
        if self.on_step is not None:
            self.on_step(self.done, self.total, denoised)


def one_by_one(work: Work, items: Sequence[Item], size: int, report: Report) -> Iterator[tuple[int, Tensor]]:
    """Make batches one after another; when memory runs out they are halved, and what they had counted is taken back."""
    first = 0

    def batch(some: Sequence[Item]) -> Tensor:
        before = report.done
        try:
            return work(some, lambda step, total, denoised: report.step(len(some), denoised)).cpu()
        except RuntimeError:
            report.done = before
            raise

    for audio in in_batches(batch, items, size):
        yield first, audio
        first += len(audio)


def side_by_side(
    work: Work, items: Sequence[Item], size: int, report: Report, cores: int, stop: Stop
) -> Iterator[tuple[int, Tensor]]:
    """Make batches on several cores, one thread each; what they report is passed on to the calling thread."""
    events: queue.SimpleQueue[Callable[[], tuple[int, Tensor] | None]] = queue.SimpleQueue()
    firsts = range(0, len(items), size)

    def make(first: int) -> Tensor:
        some = items[first : first + size]
        on_step = lambda step, total, denoised: events.put(lambda: report.step(len(some), denoised))  # noqa: E731
        try:
            return work(some, on_step).cpu()
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise MemoryError(NO_MEMORY) from error
            raise

    def finish(first: int, future: Future[Tensor]) -> None:
        events.put(lambda: (first, future.result()))

    with ThreadPoolExecutor(min(cores, len(firsts)), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            for first in firsts:
                pool.submit(make, first).add_done_callback(functools.partial(finish, first))
            for _ in firsts:
                while (result := events.get()()) is None:
                    pass
                yield result
        except BaseException:  # an interrupt, an error of one batch, or of the caller's on_step: stop the others
            stop.interrupted = True
            pool.shutdown(wait=False, cancel_futures=True)
            raise
