"""A region of a sound, selected by dragging over its waveform."""

from __future__ import annotations

import base64

import ipywidgets
import numpy as np

from ..clips.clip import Clip
from ..clips.source import input_name
from ..display.html import escape
from ..display.plots import waveform_picture
from .jobs import FITTING
from .scripts import attribute

_WIDTH = "560px"
_JS = "region.js"


class Region(ipywidgets.VBox):
    """Let the user select a region of a sound by dragging over its waveform or with a slider."""

    def __init__(self):
        self._png, self._source, self._wanted = b"", None, None
        self._wave = ipywidgets.HTML()
        self._span = ipywidgets.Text(layout=ipywidgets.Layout(display="none"))
        self._span.add_class("ddnb-span")
        self._span.observe(lambda change: self._dragged(change["new"]), "value")
        self.slider = ipywidgets.FloatRangeSlider(
            description="from, to (s)",
            min=0.0,
            max=1.0,
            step=0.001,
            readout_format=".3f",
            layout=ipywidgets.Layout(width=_WIDTH, max_width=FITTING),
        )
        self.slider.observe(lambda _: self._draw(), "value")
        super().__init__([self._wave, self.slider, self._span])
        self.add_class("ddnb-region")
        self.layout.display = "none"

    @property
    def value(self) -> tuple[float, float]:
        """Start and end of the region in seconds."""
        return self._wanted or tuple(self.slider.value)

    @value.setter
    def value(self, value: tuple[float, float]) -> None:
        if self._source is None:  # until a sound is shown
            self._wanted = tuple(value)
        else:
            self.slider.value = tuple(value)

    def show(self, source: Clip | None) -> None:
        """Show a sound, with its third quarter selected by default."""
        if source is None:
            self._source, self.layout.display = None, "none"
            return
        self._png, length = waveform_picture(source.audio), source.duration_s
        self._source = None  # no redraw in between
        self.slider.min, self.slider.max = 0.0, max(length, self.slider.min + 1e-3)
        self.slider.value = self._wanted or (0.5 * length, 0.75 * length)
        self._source, self._wanted = source, None
        self.layout.display = ""
        self._draw()

    def _dragged(self, text: str) -> None:
        try:
            first, last = (float(x) * self.slider.max for x in text.split())
        except ValueError:  # incomplete text
            return
        self.slider.value = (first, last)

    def _draw(self) -> None:
        if self._source is None:
            return
        first, last = (np.clip(100 * s / self.slider.max, 0, 100) for s in self.slider.value)
        shade = "position:absolute;top:0;bottom:0;pointer-events:none;background:rgba(217,119,6,.35);outline:1px solid"
        self._wave.value = (
            f'<div style="position:relative;width:{_WIDTH};max-width:100%;cursor:crosshair;touch-action:none" '
            f'onpointerdown="{attribute(_JS, "startRegion")}" onpointermove="{attribute(_JS, "drawRegion")}" '
            f'onpointerup="{attribute(_JS, "endRegion")}">'
            f'<img alt="waveform of {escape(input_name(self._source))}" draggable="false" '
            'style="width:100%;display:block" '
            f'src="data:image/png;base64,{base64.b64encode(self._png).decode()}">'
            f'<div style="{shade};left:{first:.2f}%;width:{last - first:.2f}%"></div></div>'
        )
