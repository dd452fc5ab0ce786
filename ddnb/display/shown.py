"""A sound to be displayed: its samples, a name and a few words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Shown:
    """A sound to be displayed.

    Attributes:
        audio: float32 (channels, frames).
        sample_rate: Hz.
        name: the heading of its card, the label of its player, and the name of its download.
        details: how it was made, in a few words.
        loop: whether the player repeats it.
        seam_db: how far the seam of a loop stands out, dB; none where that was not measured.
        marks: places to mark in its picture, as shares of its length.
    """

    audio: np.ndarray
    sample_rate: int
    name: str
    details: str = ""
    loop: bool = False
    seam_db: float | None = None
    marks: tuple[float, ...] = ()

    @property
    def duration_s(self) -> float:
        return self.audio.shape[-1] / self.sample_rate
