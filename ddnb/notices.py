"""Warnings to the user of a call: Python's own by default, or passed to a panel or terminal that shows them.

``warnings.catch_warnings`` is process-wide, and a panel's jobs run in threads beside the user's cells. A handler
set here applies to the calling thread only.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Handler = Callable[[Warning], object]

_handler: ContextVar[Handler | None] = ContextVar("handler", default=None)


def warn(message: str, category: type[Warning] = UserWarning, stacklevel: int = 2) -> None:
    """Warn the user: by the handler of this thread if there is one, else as ``warnings.warn`` does."""
    handler = _handler.get()
    if handler is None:
        warnings.warn(message, category, stacklevel=stacklevel + 1)
    else:
        handler(category(message))


@contextmanager
def handle_warnings(handler: Handler) -> Iterator[None]:
    """Pass the warnings of this thread to a handler."""
    token = _handler.set(handler)
    try:
        yield
    finally:
        _handler.reset(token)


@contextmanager
def ignore_warnings(category: type[Warning]) -> Iterator[None]:
    """Drop the warnings of a category in this thread."""
    outer = _handler.get()

    def handler(warning: Warning) -> None:
        if isinstance(warning, category):
            return
        if outer is None:
            warnings.warn(warning, stacklevel=3)
        else:
            outer(warning)

    with handle_warnings(handler):
        yield
