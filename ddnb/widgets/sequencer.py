"""A step sequencer for a beat, and a picture of its steps."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import ipywidgets
from IPython.display import Image

from ..audio.loop import BPM
from ..checkpoints.checkpoint import Checkpoint
from ..clips.clip import Clip
from ..display.html import audio_html, caption, escape
from ..display.plots import beat_picture
from ..errors import Cancelled
from ..generation.beat import Beat
from ..generation.generate import generate


def draw_beat(beat: Beat) -> Image:
    """Draw the steps of a beat, louder ones darker."""
    return Image(beat_picture(beat.tracks), format="png")


_LOUD, _SOFT = "#2f76e6", "#6b7a90"  # contrast above 4.3 with the black or white text of either theme


class Sequencer(ipywidgets.VBox):
    """Edit a beat by clicking its steps; each change renders it again.

    A click turns a step from silent to loud to soft to silent. With a checkpoint, the button beside a track makes
    another sound for it.

    Attributes:
        beat: the current beat; ``sequencer.beat.save("out")`` saves it.

    Args:
        beat: a result of ``ddnb.beat``.
        ckpt: the checkpoint that makes other sounds.
        on_change: called with each new beat.
        run: calls ``then(work())``, as ``Jobs.start`` does; by default at once.
    """

    def __init__(
        self,
        beat: Beat,
        ckpt: Checkpoint | None = None,
        on_change: Callable[[Beat], object] = lambda beat: None,
        run: Callable[..., object] | None = None,
    ):
        self.beat, self._ckpt, self._lock = beat, ckpt, threading.RLock()
        self._on_change, self._run = on_change, run or self._at_once
        self._seeds = {track: clip.seed for track, clip in beat.sounds.items()}
        self._bpm = ipywidgets.BoundedFloatText(
            value=beat.bpm, min=BPM[0], max=BPM[1], step=1, description="BPM", layout=ipywidgets.Layout(width="160px")
        )
        self._swing = ipywidgets.FloatSlider(value=beat.swing, min=0.5, max=0.75, step=0.01, description="swing")
        self._bpm.observe(lambda change: self._change(lambda: self.beat.with_(bpm=change["new"])), "value")
        self._swing.observe(lambda change: self._change(lambda: self.beat.with_(swing=change["new"])), "value")
        self._player = ipywidgets.HTML()
        rows = [self._row(track, steps) for track, steps in beat.tracks.items()]
        grid = ipywidgets.VBox(rows, layout=ipywidgets.Layout(width="100%", overflow="auto"))
        super().__init__([grid, ipywidgets.HBox([self._bpm, self._swing]), self._player])
        self._play(beat)

    def _row(self, track: str, steps: str) -> ipywidgets.HBox:
        name = ipywidgets.Button(
            description=track.replace("_", " "),
            icon="random" if self._can_make(track) else "",
            tooltip=f"another {track.replace('_', ' ')}" if self._can_make(track) else track,
            disabled=not self._can_make(track),
            layout=ipywidgets.Layout(width="120px", min_width="120px"),
        )
        name.on_click(lambda _: self._another(track))
        row = [name, *(self._step(track, k, step) for k, step in enumerate(steps))]
        return ipywidgets.HBox(row, layout=ipywidgets.Layout(width="max-content"))

    def _step(self, track: str, k: int, step: str) -> ipywidgets.Button:
        margin = "0 1px 0 6px" if k % 4 == 0 else "0 1px"
        layout = ipywidgets.Layout(width="24px", min_width="24px", padding="0", margin=margin)
        button = ipywidgets.Button(layout=layout, tooltip=f"{track.replace('_', ' ')}, step {k + 1}")
        self._paint(button, step)

        def click(_: ipywidgets.Button) -> None:
            steps = self.beat.tracks[track]
            new = {".": "9"}.get(steps[k], "5" if steps[k] > "5" else ".")
            if self._change(lambda: self.beat.with_steps(track, steps[:k] + new + steps[k + 1 :])):
                self._paint(button, new)

        button.on_click(click)
        return button

    def _paint(self, button: ipywidgets.Button, step: str) -> None:
        button.description = "" if step == "." else step
        button.style.button_color = None if step == "." else _LOUD if step > "5" else _SOFT

    def _can_make(self, track: str) -> bool:
        return self._ckpt is not None and track in self._ckpt.categories

    def _another(self, track: str) -> None:
        seed = self._seeds[track] + 1

        def work(**job: Any) -> Clip:
            clips = generate(self._ckpt, 1, seed, category=track, **job)
            if not clips:
                raise Cancelled("cancelled: the sound is unchanged")
            return clips[0]

        def take(clip: Clip) -> None:
            if self._change(lambda: self.beat.with_sound(track, clip)):
                self._seeds[track] = seed

        self._run(f"another {track.replace('_', ' ')}", work, take)

    def _at_once(self, what: str, work: Callable[..., Clip], then: Callable[[Clip], object]) -> None:
        try:
            then(work())
        except (ValueError, RuntimeError, MemoryError, ArithmeticError) as error:
            self._player.value = f"<b>{escape(str(error))}</b>"

    def _change(self, make: Callable[[], Beat]) -> bool:
        """Apply a change of the beat, or show why it failed; clicks may run in another thread."""
        with self._lock:
            try:
                beat = make()
                self._play(beat)
            except (ValueError, RuntimeError, MemoryError, ArithmeticError) as error:
                self._player.value = f"<b>{escape(str(error))}</b>"
                return False
            self.beat = beat
            self._on_change(beat)
            return True

    def _play(self, beat: Beat) -> None:
        shown = beat.clip.shown()
        self._player.value = f"{caption(shown)}{audio_html(shown)}"
