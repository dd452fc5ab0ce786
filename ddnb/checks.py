"""Checks of numbers, with messages that say what was given, what is allowed, and what to do."""

from __future__ import annotations

import math
import operator
from numbers import Real
from typing import Any

from .errors import ArgumentError


def whole(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> int:
    """Return the whole number that ``value`` is, whether Python's or NumPy's.

    Raises:
        ArgumentError: it is none, or outside of ``low`` to ``high``.
    """
    try:
        number = operator.index(value)
    except TypeError as error:
        raise ArgumentError(f"{name}={value!r}: give a whole number{_range(low, high)}.") from error
    if isinstance(value, bool) or not low <= number <= high:
        raise ArgumentError(f"{name}={value!r}: give a whole number{_range(low, high)}.")
    return number


def within(name: str, value: Any, low: float, high: float) -> float:
    """Return the number that ``value`` is.

    Raises:
        ArgumentError: it is none, or outside of ``low`` to ``high``.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not low <= float(value) <= high:  # NaN too
        raise ArgumentError(f"{name}={value!r}: give a number{_range(low, high)}.")
    return float(value)


def _range(low: float, high: float) -> str:
    if math.isinf(low):
        return ""
    return f" from {low:g} up" if math.isinf(high) else f" from {low:g} to {high:g}"
