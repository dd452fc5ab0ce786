"""Whether a run can be resumed: its sounds, settings and starting point must be those that it began with."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ..checkpoints.checkpoint import Checkpoint
from ..errors import RunError
from ..names import canonical
from .config import TrainingConfig
from .dataset import Dataset
from .run_folder import RunFolder

BEFORE_0_2 = {"fit": False}
"""Settings that version 0.1 does not store, and what it did."""

_MAY_CHANGE = {"batch_size", "accumulate", "steps", "dtype", "recompute_levels", "ema_on_cpu", "validate_every"}
_MAY_CHANGE |= {"save_every", "demo_every", "demos", "keep_best", "save_dtype", "disk_budget_gb", "licence", "wandb"}


def is_same(stored: dict[str, Any], ckpt: Checkpoint, data: Dataset) -> bool:
    """Return whether a run began with this checkpoint and these sounds."""
    if not stored:
        return False
    before = stored["data_sha256"], stored["start"].get("weights_sha256")
    return before == (data.fingerprint, ckpt.info["weights_sha256"])


def check_same_run(stored: dict[str, Any], settings: dict[str, Any], run: RunFolder) -> None:
    """Check that sounds, settings and starting point are those that the run began with.

    Raises:
        RunError: they are not; the message says what differs and what to do.
    """
    if stored["data_sha256"] != settings["data_sha256"]:
        raise RunError(
            f"The sounds have changed since the run in {run.path} began. To train on the new ones, begin another run "
            f"from {run.last_path}; to resume this one, put the old sounds back."
        )
    defaults = asdict(TrainingConfig()) | BEFORE_0_2  # for settings that older versions do not store
    before, after = (defaults | s["recipe"] | {"clips_per_step": s["clips_per_step"]} for s in (stored, settings))
    if changed := [k for k in after if k not in _MAY_CHANGE and before.get(k) != after[k]]:
        listed = ", ".join(f"{k}={before.get(k)!r} (now {after[k]!r})" for k in changed)
        raise RunError(f"The run in {run.path} began with {listed}. Give the same to resume it, or a new folder.")
    if [*map(canonical, stored.get("categories", settings["categories"]))] != [*map(canonical, settings["categories"])]:
        was, now = (", ".join(s["categories"]) or "none" for s in (stored, settings))
        raise RunError(
            f"The run in {run.path} has the categories {was}, and the folder of sounds now gives {now}: give it its "
            "former names, or begin a new run."
        )
    if stored["start"] != settings["start"]:
        was, now = (
            f"{s['name']} (weights {s['weights_sha256'][:8]}, {s['frames']} frames at {s['sample_rate']} Hz)"
            for s in (stored["start"], settings["start"])
        )
        raise RunError(f"The run in {run.path} began from {was}, not from {now}: give that one, or a new folder.")
