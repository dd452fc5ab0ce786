"""TODO widgets/region."""

from __future__ import annotations

import base64
import html

import ipywidgets
import numpy as np

from ..clips.source import Source
from ..display.plots import waveform_picture
from .jobs import FITTING

_WIDTH = "560px"


# A stretch is chosen by dragging over the waveform. Scripts never run in a widget, attributes of elements do: they
# draw the stretch while the pointer moves, and at the end write it into a hidden text field, which Python reads.
_AT = "var r=this.getBoundingClientRect(),x=Math.min(1,Math.max(0,(event.clientX-r.left)/r.width));"
_DOWN = _AT + "this.dataset.from=x;this.setPointerCapture(event.pointerId);event.preventDefault()"
_DRAW = "var a=Math.min(x,+this.dataset.from),b=Math.max(x,+this.dataset.from),s=this.lastElementChild.style;"
_MOVE = "if(this.dataset.from===undefined)return;" + _AT + _DRAW + "s.left=100*a+'%';s.width=100*(b-a)+'%'"
_UP = (
    "if(this.dataset.from===undefined)return;" + _AT + _DRAW + "delete this.dataset.from;if(b-a<.002)return;"
    "var field=this.closest('.ddnb-region').querySelector('.ddnb-span input');field.value=a+' '+b;"
    "['input','change'].forEach(function(e){field.dispatchEvent(new Event(e,{bubbles:true}))})"
)


class Region(ipywidgets.VBox):
    """A stretch of a sound, chosen by dragging over its waveform, or with a slider below it."""

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
        """Seconds from the beginning of the sound."""
        return self._wanted or tuple(self.slider.value)

    @value.setter
    def value(self, value: tuple[float, float]) -> None:
        if self._source is None:  # until there is a sound
            self._wanted = tuple(value)
        else:
            self.slider.value = tuple(value)

    def show(self, source: Source | None) -> None:
        """Take another sound; the stretch is its third quarter until another is chosen."""
        if source is None:
            self._source, self.layout.display = None, "none"
            return
        self._png, length = waveform_picture(source.audio), source.duration_s
        self._source = None  # no drawing in between
        self.slider.min, self.slider.max = 0.0, max(length, self.slider.min + 1e-3)
        self.slider.value = self._wanted or (0.5 * length, 0.75 * length)
        self._source, self._wanted = source, None
        self.layout.display = ""
        self._draw()

    def _dragged(self, text: str) -> None:
        try:
            first, last = (float(x) * self.slider.max for x in text.split())
        except ValueError:  # half-typed, or emptied
            return
        self.slider.value = (first, last)

    def _draw(self) -> None:
        if self._source is None:
            return
        first, last = (np.clip(100 * s / self.slider.max, 0, 100) for s in self.slider.value)
        shade = "position:absolute;top:0;bottom:0;pointer-events:none;background:rgba(217,119,6,.35);outline:1px solid"
        self._wave.value = (
            f'<div style="position:relative;width:{_WIDTH};max-width:100%;cursor:crosshair;touch-action:none" '
            f'onpointerdown="{_js(_DOWN)}" onpointermove="{_js(_MOVE)}" onpointerup="{_js(_UP)}">'
            f'<img alt="waveform of {html.escape(self._source.name)}" draggable="false" '
            'style="width:100%;display:block" '
            f'src="data:image/png;base64,{base64.b64encode(self._png).decode()}">'
            f'<div style="{shade};left:{first:.2f}%;width:{last - first:.2f}%"></div></div>'
        )


def _js(code: str) -> str:
    return html.escape(code)
