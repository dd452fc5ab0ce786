"""Levels: networks that were trained on sounds of one peak get their input at that peak."""

from __future__ import annotations

import math

import numpy as np

from ..checkpoints.checkpoint import Checkpoint


def level_gain(ckpt: Checkpoint, audio: np.ndarray) -> float:
    """Return the factor that brings a sound to the peak of those the network was trained on.

    1 where that is not known: networks trained on sounds at their own levels know all of them.
    """
    if "peak_dbfs" not in ckpt.info or not audio.any():
        return 1.0
    return _trained_peak(ckpt) / float(np.abs(audio).max())


def start_time(ckpt: Checkpoint, strength: float) -> float:
    """Return the time at which a run of this strength begins.

    ``tan(strength pi / 2)`` is the noise level relative to sounds at full scale, so that a strength means the same for
    networks trained on quieter sounds: their noise is lower by as much.
    """
    if strength == 1:
        return 1.0
    return 2 / math.pi * math.atan(_trained_peak(ckpt) * math.tan(strength * math.pi / 2))


def _trained_peak(ckpt: Checkpoint) -> float:
    return 10 ** (ckpt.info.get("peak_dbfs", 0.0) / 20)
