"""The slider between a checkpoint and what was trained from it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import ipywidgets

from ..checkpoints.blend import MOST, blend, load_start, start_name
from ..checkpoints.checkpoint import Checkpoint
from ..errors import ArgumentError
from .jobs import FITTING
from .tabs import Made, Work

_HINT = "how much of the training to use: 0 sounds as before it, 1 as after it, more exaggerates it"


class Blending(ipywidgets.HBox):
    """A slider for how much of a checkpoint's training is used; hidden where its start is not known.

    Attributes:
        slider: the weight of the training.
        beside: a box; where it is ticked, the sounds of the start are made as well, from the same seeds.
        last: the checkpoint that made sounds last.
    """

    def __init__(self, ckpt: Checkpoint) -> None:
        wide = ipywidgets.Layout(width="310px", max_width=FITTING)
        options = {"min": 0.0, "max": MOST, "step": 0.05, "continuous_update": False, "readout_format": ".2f"}
        self.slider = ipywidgets.FloatSlider(1.0, description="training", layout=wide, **options)
        self.beside = ipywidgets.Checkbox(False, description="make the same seeds at 0, too", indent=False)
        hint = ipywidgets.HTML(f"<small>training: {_HINT}</small>")
        super().__init__([self.slider, self.beside, hint], layout=ipywidgets.Layout(flex_flow="row wrap"))
        self.use(ckpt)

    def use(self, ckpt: Checkpoint) -> None:
        """Take another checkpoint."""
        self.last = self._tuned = ckpt
        self._start: Checkpoint | None = None
        try:
            start_name(ckpt)
        except ArgumentError:
            self.layout.display = "none"
        else:
            self.layout.display = ""

    @property
    def weight(self) -> float:
        """The weight of the training: 1 where the slider is hidden."""
        return 1.0 if self.layout.display == "none" else self.slider.value

    def work(self, work: Work) -> Callable[..., Made]:
        """Return a function of ``on_step`` and ``cancel`` that does the work of a tab; the controls are read at once.

        The start of the training is loaded where it is needed, and downloaded where it is not here.
        """
        beside = self.beside.value and self.layout.display != "none"
        return partial(self._run, work, self.weight, beside)

    def _run(self, work: Work, weight: float, beside: bool, on_step: Callable[..., None], cancel: object) -> Made:
        tuned = self._tuned
        start = tuned if weight == 1.0 and not beside else self._load_start(tuned, on_step)
        self.last = after = tuned if weight == 1.0 else blend(start, tuned, weight)
        made = work(after, on_step=on_step, cancel=cancel)
        if not beside or not isinstance(made, list):  # a beat is one
            return made
        before = work(start, on_step=on_step, cancel=cancel)
        return [*before, *made] if isinstance(before, list) else made

    def _load_start(self, tuned: Checkpoint, on_step: Callable[..., None]) -> Checkpoint:
        if self._start is None:
            options: dict[str, Any] = {"device": tuned.device, "dtype": tuned.dtype}
            self._start = load_start(tuned, on_progress=on_step, **options)
        return self._start
