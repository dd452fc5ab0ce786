"""Levels: what goes into a network, and what sounds have when they leave it.

Networks that were trained on sounds of one peak get their input at that peak, and make sounds around it; others make
sounds of any level. What they make leaves as sounds in sample packs do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ..audio.mastering import apply_edit, normalize
from ..checkpoints.checkpoint import Checkpoint
from ..errors import ArgumentError
from .sampling import Edits

NORMALIZED, NETWORK = "normalized", "network"
LEVELS = (NORMALIZED, NETWORK)
SUSTAINED = "texture"
"""The category whose sounds have no attack: they are compared by loudness."""

LEVEL_HELP = (
    "normalized: one-shots to a peak of -1 dBFS, beginning alike and without a click; loops and textures to a loudness "
    "of -18 LUFS, or a peak of -1 dBFS where that is quieter; network: as the network made them"
)


def require_level(level: str) -> str:
    """Return the name of a level.

    Raises:
        ArgumentError: an unknown one.
    """
    if level not in LEVELS:
        raise ArgumentError(f"level={level!r}: known are {', '.join(LEVELS)}.")
    return level


def normalize_all(
    made: Sequence[tuple[int, np.ndarray]],
    sample_rate: int,
    categories: Sequence[Mapping[str, float] | None],
    *,
    loop: bool = False,
    timed: bool = False,
) -> tuple[list[tuple[int, np.ndarray]], Edits]:
    """Bring sounds to their levels; return them with the edit that was applied to each.

    Args:
        made: the sounds, (seed, audio) each.
        sample_rate: Hz.
        categories: the shares of the categories that each was made with.
        loop: whether they are loops.
        timed: whether they have a tempo, and so must not be moved.
    """
    known = [shares or {} for shares in categories]
    sustained = [2 * shares.get(SUSTAINED, 0) > sum(shares.values()) for shares in known]
    edits = tuple(
        normalize(audio, sample_rate, align=not (loop or timed), by_loudness=loop or by_loudness)
        for (_, audio), by_loudness in zip(made, sustained, strict=True)
    )
    return [(seed, apply_edit(audio, edit)) for (seed, audio), edit in zip(made, edits, strict=True)], edits


def level_gain(ckpt: Checkpoint, audio: np.ndarray, level: str = NETWORK) -> float:
    """Return the factor that brings a sound to the peak of those the network was trained on.

    Where that is not known, the network was trained on sounds at their own levels: 1, or with ``level="normalized"``
    the factor that brings the sound to full scale.
    """
    if not audio.any() or (level == NETWORK and "peak_dbfs" not in ckpt.info):
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
