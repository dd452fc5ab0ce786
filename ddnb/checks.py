"""TODO checks."""

from __future__ import annotations

import operator
from numbers import Real
from typing import Any


def whole(what: str, value: Any) -> int:
    """The whole number ``value`` is, be it Python's or numpy's.

    Raises:
        ValueError: it is none.
    """
    try:
        return operator.index(value)
    except TypeError as error:
        raise ValueError(f"{what}={value!r}: give a whole number.") from error


def within(what: str, value: Any, low: float, high: float) -> float:
    """The number ``value`` is.

    Raises:
        ValueError: it is none from ``low`` to ``high``.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not low <= value <= high:  # NaN too
        raise ValueError(f"{what}={value!r}: give a number from {low:g} to {high:g}.")
    return float(value)
