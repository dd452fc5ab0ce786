"""Measure what validations, demos and saving add to the bare steps of a training, at the default settings.

    python -m bench.overhead        about three minutes; writes bench/results/overhead.md

The sounds are the twelve of the package. Fitting the built-in network, before the first step, is not counted;
correcting its levels after the last step has a column of its own and is not in the ratio.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import ddnb
from bench.common import describe_run, markdown_table
from ddnb.training import loop
from ddnb.training.dataset import EXAMPLES
from ddnb.training.loop import CONFIGS, finetune, from_scratch
from ddnb.training.trainer import Trainer

CASES = [("drums", 40), ("drums", 1000), ("demo", 40)]
"""Networks and numbers of steps."""

_PARTS: list[tuple[Any, str]] = [
    (Trainer, "train_step"),
    (Trainer, "validate"),
    (loop, "make_demo"),
    (loop, "keep_best"),
    (loop._Loop, "_save"),
    (Trainer, "calibrate"),
]


def main() -> None:
    """Train each network, and write the table."""
    seconds = {name: _timed(owner, name) for owner, name in _PARTS}
    heads = ["network", "steps", "bare, s", "validations, s", "demos, s", "best, s", "saving, s", "levels, s", "ratio"]
    rows = []
    for network, steps in CASES:
        ckpt = from_scratch(network, device="cpu") if network in CONFIGS else ddnb.load(network, device="cpu")
        for each in seconds.values():
            each.clear()
        with tempfile.TemporaryDirectory() as place:
            records = finetune(ckpt, EXAMPLES, Path(place) / "run", steps=steps, device="cpu")
            began = time.perf_counter()
            for _ in records:
                pass
            whole = time.perf_counter() - began
        cells = [f"{sum(each):.1f} ({len(each)})" for each in seconds.values()]
        ratio = (whole - sum(seconds["calibrate"])) / sum(seconds["train_step"])
        rows.append([network, str(steps), *cells, f"{ratio:.2f}"])
        print(*rows[-1], flush=True)
    lines = ["# Overhead of training", "", f"`python -m bench.overhead`: {describe_run()}.", ""]
    lines += [
        "Seconds, and in brackets how often. The ratio is that of all but the levels to the bare steps.",
        "",
        *markdown_table(heads, rows),
    ]
    (Path(__file__).parent / "results" / "overhead.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _timed(owner: Any, name: str) -> list[float]:
    """Let a function note its durations; return the list of them."""
    function: Callable[..., Any] = getattr(owner, name)
    seconds: list[float] = []

    @wraps(function)
    def timed(*given: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*given, **named)
        finally:
            seconds.append(time.perf_counter() - began)

    setattr(owner, name, timed)
    return seconds


if __name__ == "__main__":
    main()
