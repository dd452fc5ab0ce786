"""CPU threads: a small network gains nothing from a second one, and loses much where other work wants the cores.

torch's parallel regions end at a barrier that spins, so beside other work a small network on two threads has been
measured at up to eighty times its time on one. Networks that say so (``single_threaded``) therefore compute on one
thread, and the clips of a call are spread over the cores instead, one thread each. That also makes their samples
independent of the number of threads, which would change how sums are split and rounded.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import torch

_lock = threading.Lock()
_entered = 0  # contexts that are open now, in all Python threads
_outside = 1  # threads that torch had before the first of them


@contextlib.contextmanager
def single_thread() -> Iterator[int]:
    """Compute on one CPU thread in this Python thread; yield the number of threads that torch uses outside.

    torch keeps that number per Python thread, and a default for new ones. Contexts may be nested and may overlap in
    several Python threads: the last one to close restores the default.
    """
    global _entered, _outside
    with _lock:
        before = torch.get_num_threads()
        if not _entered:
            _outside = before
        _entered += 1
        torch.set_num_threads(1)
        outside = _outside
    try:
        yield outside
    finally:
        with _lock:
            _entered -= 1
            torch.set_num_threads(before if _entered else _outside)


def available() -> int:
    """Return the number of CPU threads that torch uses outside of ``single_thread``."""
    with _lock:
        return _outside if _entered else torch.get_num_threads()
