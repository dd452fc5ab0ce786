"""Files and curves of a training step: the best checkpoints, demos, TensorBoard and Weights & Biases."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ..checkpoints.checkpoint import Checkpoint
from ..clips.clip import Clip, Clips
from ..files import safe_name
from ..generation.generate import generate
from ..steps import Event
from ..threads import available
from .learner import Learner
from .run_folder import RunFolder

PATIENCE = 5
"""Number of validations without improvement after which stopping is advised."""

_DEMO_CATEGORIES = 8


def keep_best(trainer: Learner, run: RunFolder, loss: float | None) -> str | None:
    """Save the weights if they are among the best so far, and remove those that no longer are.

    Args:
        trainer: the training.
        run: its folder.
        loss: the validation loss of this step; None where it was not measured.

    Returns:
        Advice to stop, where the loss has not improved for long; at the end, what to try where little has changed.
    """
    if loss is None:
        return None
    trainer.validations = [m for m in trainer.validations if m[0] != trainer.step] + [(trainer.step, loss)]
    if trainer.step == 0:
        return None
    before = [moment for moment in trainer.best if moment[0] != trainer.step]  # a resumed step may come a second time
    best = sorted([*before, (trainer.step, loss)], key=lambda moment: moment[1])[: trainer.keep_best]
    if trainer.is_main and trainer.step in dict(best):
        run.save_weights(run.best_path(trainer.step), *trainer.export(run.path.name, loss))
    trainer.best = best
    for step in {step for step, _ in before} - dict(best).keys() if trainer.is_main else ():
        run.best_path(step).unlink(missing_ok=True)
    best_step, best_loss = min(trainer.validations, key=lambda moment: moment[1])
    if trainer.step == trainer.config.steps:
        return trainer.suggest_next()
    if sum(step > best_step for step, _ in trainer.validations) != PATIENCE:  # said once
        return None
    return (
        f"the validation loss has not improved for {PATIENCE} validations since {best_loss:.4f} at step {best_step}: "
        "consider stopping"
    )


def demo_plan(trainer: Learner) -> tuple[list[str | None], int]:
    """Return the categories of a demo, those of the sounds where these have some, and the sounds of each."""
    categories: list[str | None] = [*(trainer.own_categories or trainer.categories)] or [None]
    each = max(1, trainer.config.demos // len(categories)) if trainer.config.demos else 0
    return categories[:_DEMO_CATEGORIES], each


def make_demo(trainer: Learner, run: RunFolder, sounds: int, cancel: Event | None) -> Path | None:
    """Generate the sounds of a demo, always from the same seeds, with the averaged weights.

    Args:
        sounds: the number of sounds at most.

    Returns:
        The demo's folder; None where it was cancelled.

    Raises:
        KeyboardInterrupt: the generation was interrupted, which interrupts the training.
    """
    target = run.demo_path(trainer.step)
    if not trainer.is_main or target.is_dir():
        return target
    categories, each = demo_plan(trainer)
    each = min(each, sounds)
    with trainer.averaged_checkpoint() as ckpt:
        batches = _generate_each(ckpt, categories[: sounds // each], each, cancel)
    if any(len(clips) < each for clips in batches):
        if cancel is None or not cancel.is_set():
            raise KeyboardInterrupt
        return None
    run.save_demo(trainer.step, name_demos([clip for clips in batches for clip in clips]))
    return target


def name_demos(clips: Sequence[Clip]) -> dict[str, Clip]:
    """Return a file name without suffix for each: two categories may have one name, or differ in their case only."""
    made: dict[str, Clip] = {}
    for clip in clips:
        name = _demo_name(clip)
        made[f"{name}-{len(made)}" if name.lower() in map(str.lower, made) else name] = clip
    return made


def _generate_each(ckpt: Checkpoint, categories: list[str | None], n: int, cancel: Event | None) -> list[Clips]:
    """Generate ``n`` sounds of each category: of small networks on a CPU, categories side by side."""

    def one(category: str | None) -> Clips:
        return generate(ckpt, n, category=category, cancel=cancel)

    if ckpt.device.type != "cpu" or not ckpt.net.single_threaded:
        return [*map(one, categories)]  # in this thread, whose precision is that of the training
    with ThreadPoolExecutor(available()) as pool:
        return [*pool.map(one, categories)]


def _demo_name(clip: Clip) -> str:
    category = "-".join(clip.making.category or ())
    return f"{safe_name(category)}_seed{clip.seed}" if category else f"seed{clip.seed}"


def start_trackers(run: RunFolder, trainer: Learner) -> list[Any]:
    """Start TensorBoard where it is installed and wandb where it is configured; both continue the run's curves."""
    if not trainer.is_main:
        return []
    from accelerate.tracking import TensorBoardTracker, WandBTracker

    trackers: list[Any] = []
    if importlib.util.find_spec("tensorboard") is not None:
        next_step = trainer.reported_step + 1
        trackers.append(TensorBoardTracker(run.path.name, run.path / "tensorboard", purge_step=next_step))
    if trainer.config.wandb:
        run_id = hashlib.sha256(os.fsencode(run.path)).hexdigest()[:16]
        trackers.append(WandBTracker(trainer.config.wandb, name=run.path.name, id=run_id, resume="allow"))
    for tracker in trackers:
        tracker.start()
    return trackers
