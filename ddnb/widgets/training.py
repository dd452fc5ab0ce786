"""Show a training run: progress and loss curve while it runs, curve and demos afterwards."""

from __future__ import annotations

import atexit
import csv
import threading
import time
import weakref
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import ipywidgets
import soundfile
from IPython.display import HTML, Image, display

from ..checkpoints.checkpoint import Checkpoint
from ..display.html import card_html, cards_of, escape
from ..display.plots import loss_picture
from ..display.shown import Shown
from ..errors import Cancelled
from ..files import expand
from ..notices import handle_warnings
from ..training.loop import TrainingStep, finetune
from .jobs import REFRESH_S, duration_text, needs_foreground

_REDRAW_S = 2.0


def follow(records: Generator[TrainingStep, None, None]) -> Iterator[TrainingStep]:
    """Show progress, loss curve and notices of a training run while it runs.

    ``for _ in widgets.follow(ddnb.finetune(...)): pass``. The notebook's stop button ends the loop without an
    error and saves the run; running the same cell again resumes it.

    Args:
        records: the iterator that ``ddnb.finetune`` returned.

    Yields:
        The same records.
    """
    view = _View()
    display(view)
    yield from view.follow(records)


def train(
    ckpt: Checkpoint, folder: str | Path, run: str | Path, *, foreground: bool | None = None, **settings: Any
) -> Training:
    """Train in the background, so that other cells can be run meanwhile; see ``ddnb.finetune`` for the arguments.

    The panel with progress, loss curve and a stop button appears at once. Its ``wait()`` waits for the end. Calling it
    again with the same run stops the first training, which saves it, and resumes it.

    Args:
        foreground: train in the cell; by default on Colab, which does not show what a thread changes.
    """
    panel = Training(ckpt, folder, Path(run), needs_foreground() if foreground is None else foreground, settings)
    display(panel)
    panel.start()
    return panel


class Training(ipywidgets.VBox):
    """The panel of ``train``.

    Attributes:
        run: the run's folder.
        error: what ended the training, if it was an error.
    """

    def __init__(self, ckpt: Checkpoint, folder: str | Path, run: Path, foreground: bool, settings: Mapping[str, Any]):
        self.run, self.foreground, self.error = run, foreground, None  # type: Path, bool, Exception | None
        self._arguments, self._settings = (ckpt, folder, run), settings
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._train, daemon=True)
        self._stop = ipywidgets.Button(description="Stop", icon="stop", tooltip="save the run and stop")
        self._stop.on_click(lambda _: self.stop())
        self._view = _View()
        super().__init__([self._view] if foreground else [self._stop, self._view])

    def start(self) -> None:
        """Start or resume the training."""
        place = expand(self.run).resolve()
        if (before := _running.get(place)) is not None:
            before.stop()
            if before._thread.is_alive():
                before._thread.join()
        _running[place] = self
        if self.foreground:
            self._train()
            self.wait()
        else:
            self._thread.start()

    def stop(self) -> None:
        """Ask the training to save its state and stop after the present step."""
        self._cancelled.set()
        self._stop.disabled = True
        self._view.label.value = "training: stopping"

    def wait(self) -> Path:
        """Wait for the end of the training; return the run's folder.

        Raises:
            Exception: what ended the training, if it was an error.
        """
        if self._thread.is_alive():
            self._thread.join()
        if self.error is not None:
            raise self.error
        return self.run

    def _train(self) -> None:
        try:
            with handle_warnings(lambda notice: self._view.note(str(notice))):
                records = finetune(*self._arguments, cancel=self._cancelled, **self._settings)
            for _ in self._view.follow(records):
                pass
        except Cancelled:  # before the first step
            self._view.label.value = "training: stopped; run the same cell again to start"
        except Exception as error:  # noqa: BLE001 shown in the panel, and raised by wait()
            self.error = error
            self._view.fail(error)
        finally:
            self._stop.disabled = True


_running: weakref.WeakValueDictionary[Path, Training] = weakref.WeakValueDictionary()


@atexit.register  # while saving still works
def _stop_all() -> None:
    for panel in list(_running.values()):
        panel.stop()
        if panel._thread.is_alive():
            panel._thread.join()


def curve(run: str | Path) -> Image:
    """Draw the loss curve of a run from its log, also of a run that another process trains."""
    with Path(run, "log.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    losses, validations = (
        [(int(row["step"]), float(row[name])) for row in rows if row[name]] for name in ("loss", "validation_loss")
    )
    return Image(loss_picture(losses, validations, int(rows[-1]["step"])), format="png")


def demos(run: str | Path) -> HTML:
    """Show the demos of a run: a row per step (first, middle and last of many), a column per sound.

    The sounds of a column come from the same noise, so differences between rows were learned.

    Args:
        run: the run's folder.

    Raises:
        FileNotFoundError: the folder holds no demos.
    """
    steps = sorted(Path(run, "demos").glob("step*"))
    if not steps:
        raise FileNotFoundError(f"{Path(run)} holds no demos; finetune(..., demos=4) makes some.")
    chosen = steps if len(steps) <= 3 else [steps[0], steps[len(steps) // 2], steps[-1]]
    files = [sorted(folder.glob("*.wav")) for folder in chosen]
    cards, note = cards_of([_demo(path) for row in files for path in row], rest="listen to them in its folder")
    pictured = iter(cards)
    rows = []
    for folder, row in zip(chosen, files, strict=True):
        cells = (card_html(*card) for _, card in zip(row, pictured, strict=False))
        step = int(folder.name.removeprefix("step"))
        style = 'style="text-align:left;vertical-align:top"'
        heading = f"step {step}" if step else "step 0, before training"
        columns = "".join(f"<td {style}>{cell}</td>" for cell in cells)
        rows.append(f'<tr><th style="width:60px;text-align:left">{heading}</th>{columns}</tr>')
    return HTML(f'<table style="table-layout:fixed;width:100%;max-width:1000px">{"".join(rows)}</table>{note}')


def _demo(path: Path) -> Shown:
    audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return Shown(audio.T, rate, path.stem.replace("_seed", ", seed "))


class _View(ipywidgets.VBox):
    """The bar, the curve and the notices of a training run."""

    def __init__(self) -> None:
        self.losses: list[tuple[int, float]] = []
        self.validations: list[tuple[int, float]] = []
        self.notes: dict[str, None] = {}
        self.first: int | None = None
        self.last: TrainingStep | None = None
        self.started, self.draw_at, self.refresh_at = time.monotonic(), 0.0, 0.0
        self.bar, self.label = ipywidgets.IntProgress(min=0, max=1000), ipywidgets.HTML()
        self.curve = ipywidgets.Image(format="png", layout=ipywidgets.Layout(width="700px", display="none"))
        self.below = ipywidgets.HTML()
        self.label.value = "training: preparing"
        self.curve.value = loss_picture([], [], 1)  # the first takes a second: draw it before timing starts
        super().__init__([ipywidgets.HBox([self.bar, self.label]), self.curve, self.below])

    def follow(self, records: Generator[TrainingStep, None, None]) -> Iterator[TrainingStep]:
        """Show records, and yield them."""
        how = "stopped; run the same cell again to resume"
        try:
            while True:
                with handle_warnings(lambda notice: self.note(str(notice))):
                    record = next(records, None)
                if record is None:
                    break
                self.add(record)
                yield record
        except KeyboardInterrupt:  # while drawing: finetune handles its own
            pass
        except Exception:
            how = "stopped by an error, see below"
            raise
        finally:
            records.close()  # saves the run
            self.end(how)

    def fail(self, error: Exception) -> None:
        """Show an error below the curve."""
        self.label.value = "training: stopped by an error, see below"
        self.note(str(error) or type(error).__name__)

    def add(self, step: TrainingStep) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first, self.started = step.step, now
        self.last = step
        if step.loss is not None:
            self.losses.append((step.step, step.loss))
        if step.validation_loss is not None:
            self.validations.append((step.step, step.validation_loss))
        if step.advice:
            self.note(step.advice)
        if now >= self.refresh_at:
            self.refresh_at = now + REFRESH_S
            made = step.step - self.first
            left = f"{duration_text((now - self.started) / made * (step.steps - step.step))} left; " if made else ""
            self._show_status(step, f"{left}the stop button saves the run")
        if now >= self.draw_at:
            self._draw(step)
            took = time.monotonic() - now
            self.draw_at = now + max(_REDRAW_S, 10 * took)  # at most a tenth of the time for drawing

    def note(self, *texts: str) -> None:
        """Show texts below the curve, each once."""
        self.notes |= dict.fromkeys(texts)
        if texts:
            self.below.value = "<br>".join(map(escape, self.notes))

    def end(self, how: str) -> None:
        """Show how the run ended and its last curve; ``how`` applies to a run that did not reach its last step."""
        if self.last is None:
            self.label.value = f"training: {how if self.notes else 'nothing to do'}"
            return
        done = self.last.step == self.last.steps
        self._show_status(self.last, f"done in {duration_text(time.monotonic() - self.started)}" if done else how)
        self._draw(self.last)

    def _show_status(self, step: TrainingStep, text: str) -> None:
        self.bar.value = 1000 * step.step // step.steps
        measured = ""
        if self.validations:
            best_step, best = min(self.validations, key=lambda point: point[1])
            measured = f"<br>validation loss {self.validations[-1][1]:.4f}, best {best:.4f} at step {best_step}"
        self.label.value = f"training, step {step.step} of {step.steps}: {text}{measured}"

    def _draw(self, step: TrainingStep) -> None:
        self.curve.value = loss_picture(self.losses, self.validations, step.steps)
        self.curve.layout.display = ""
