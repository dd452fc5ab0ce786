"""How often a run is validated, demonstrated and saved: together this takes about a tenth of its time."""

from __future__ import annotations

import math
from typing import NamedTuple

from .artifacts import demo_plan
from .learner import VALIDATION_CLIPS, Learner

SAVING = 0.02
"""Share of the time for saving the state."""

# Shares of the time of the steps
_VALIDATIONS, _FIRST_VALIDATION = 0.025, 0.05
_DEMOS, _FIRST_DEMO, _ONLY_DEMO = 0.03, 0.05, 0.15

# The time of a clip re that of a clip in a step: measured
_VALIDATED = 0.4
_CALL, _CALL_WITH_TONES = 0.33, 1.0

_MOST_VALIDATIONS, _MOST_DEMOS = 20, 4


class Intervals(NamedTuple):
    """When a run is validated, demonstrated and saved.

    Attributes:
        validate, demo, save: steps between them.
        first_validation, first_demo: whether there is one before the first step.
        sounds: sounds of a demo.
    """

    validate: int
    demo: int
    save: int
    first_validation: bool
    first_demo: bool
    sounds: int


def choose_intervals(trainer: Learner) -> Intervals:
    """Return the intervals of a run: those of its settings, or as many as its steps allow, evenly spaced.

    They depend on the settings and the sounds alone, not on a clock, so that all processes and a resumed run agree.
    """
    config = trainer.config
    steps = config.steps * config.accumulate * trainer.batch_size
    validation = _VALIDATED * VALIDATION_CLIPS / trainer.accelerator.num_processes
    sound = trainer.ckpt.default_steps * (_CALL if trainer.net.tones is None else _CALL_WITH_TONES)
    categories, each = demo_plan(trainer)
    sounds = len(categories) * each
    if config.demo_every is None:
        sounds = min(sounds, max(1, int(_ONLY_DEMO * steps / sound)))
    demo = max(sounds, 1) * sound
    return Intervals(
        config.validate_every or _spaced(config.steps, _VALIDATIONS * steps / validation, _MOST_VALIDATIONS),
        config.demo_every or _spaced(config.steps, _DEMOS * steps / demo, _MOST_DEMOS),
        config.save_every or _spaced(config.steps, _MOST_VALIDATIONS, _MOST_VALIDATIONS),
        config.validate_every is not None or validation <= _FIRST_VALIDATION * steps,
        config.demo_every is not None or demo <= _FIRST_DEMO * steps,
        sounds,
    )


def _spaced(steps: int, times: float, most: int) -> int:
    """Return the steps between so many times, at least one and at most ``most``."""
    return math.ceil(steps / min(most, max(1, int(times))))
