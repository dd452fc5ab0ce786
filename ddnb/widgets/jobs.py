"""Progress bars with the time left, and jobs that run one at a time in a thread or in the callback itself."""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any

import ipywidgets
from IPython.display import display

from ..display.html import escape
from ..errors import Cancelled, Interrupted
from ..notices import handle_warnings
from ..runtime import in_colab

REFRESH_S = 0.1
FITTING = "calc(100% - 4px)"
"""Maximum width of a control inside a narrow panel, less its margins of 2 px."""

STOP_HINT = "the stop button keeps finished clips"


class Bar(ipywidgets.HBox):
    """A progress bar with a label: the activity and the time left."""

    def __init__(self):
        self.started = self._shown = 0.0
        self.bar = ipywidgets.IntProgress(min=0, max=1000, layout=ipywidgets.Layout(max_width="240px"))
        self.label = ipywidgets.HTML()
        super().__init__([self.bar, self.label], layout=ipywidgets.Layout(flex_flow="row wrap", align_items="center"))

    def start(self) -> None:
        """Reset the bar and start timing."""
        self.started, self._shown, self.bar.value = time.monotonic(), 0.0, 0

    def update(self, what: str, done: int, total: int | None, hint: str = "") -> None:
        """Show the progress, at most ten times a second."""
        now = time.monotonic()
        if (total is not None and done >= total) or now - self._shown >= REFRESH_S:
            self._shown = now
            self.bar.value = 1000 * done // total if total else 0
            self.label.value = escape(_progress_text(what, done, total, now - self.started, hint))


class Progress:
    """Show a progress bar from ``on_step=`` or ``on_progress=``: ``generate(ckpt, on_step=widgets.Progress())``.

    The bar appears with the first call and says how to stop.
    """

    def __init__(self, what: str = "generating"):
        self.what = what
        self.box: Bar | None = None

    def __call__(self, done: int, total: int | None, *denoised: object) -> None:
        if self.box is None:
            self.box, self.hint = Bar(), STOP_HINT if denoised else ""
            self.box.start()
            display(self.box)
        self.box.update(self.what, done, total, self.hint)
        if done == total:  # the next call gets a bar of its own
            self.box = None


class Jobs(ipywidgets.VBox):
    """Run the jobs of a panel one at a time, with a progress bar, a Cancel button and a place for errors.

    Jobs run in a thread, so that the notebook stays free and Cancel works. Colab does not show what a thread changes,
    so there they run in the callback itself and the notebook's stop button cancels.

    Args:
        foreground: run jobs in the callback; by default on Colab, and where ``DDNB_FOREGROUND=1``.
    """

    def __init__(self, foreground: bool | None = None):
        self.foreground = needs_foreground() if foreground is None else foreground
        self._running, self._cancelled = False, threading.Event()
        self._lock = threading.Lock()  # callbacks may run in several threads
        self._idle: list[ipywidgets.Widget] = []
        self._thread: threading.Thread | None = None
        self.progress = Bar()
        self.cancel = ipywidgets.Button(
            description="Cancel", icon="stop", tooltip="stop and keep finished clips", disabled=True
        )
        self.cancel.on_click(lambda _: self._request_cancel())
        self.cancel.layout.display = "none" if self.foreground else ""
        self.message = ipywidgets.HTML()
        head = ipywidgets.HBox([self.cancel, self.progress], layout=ipywidgets.Layout(flex_flow="row wrap"))
        super().__init__([head, self.message])

    @property
    def busy(self) -> bool:
        return self._running

    def disable_while_busy(self, *buttons: ipywidgets.Widget) -> None:
        """Disable these buttons while a job runs."""
        self._idle += buttons

    def start(
        self,
        what: str,
        work: Callable[..., Any],
        then: Callable[[Any], object] = lambda _: None,
        can_cancel: bool = True,
    ) -> bool:
        """Run ``then(work(on_step=..., cancel=...))``, unless another job is running.

        Args:
            what: the activity, for the label of the bar.
            work: takes ``on_step`` and ``cancel``, as the functions of ``ddnb`` do.
            then: shows the result.
            can_cancel: whether ``work`` checks ``cancel``.

        Returns:
            Whether the job was started; in the foreground it has ended by then.
        """
        if not self._claim(can_cancel):
            self.show_message("Another job is running: wait for it, or cancel it.")
            return False
        if self.foreground:
            self._run(what, work, then)
            return True
        self._thread = threading.Thread(target=self._run, args=(what, work, then), daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no thread could be started
            self._release()
            raise
        return True

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until the job has ended."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def show_message(self, text: str, details: str = "") -> None:
        """Show a message below the bar, with folded details."""
        fold = (
            "<details><summary style='display:list-item;cursor:pointer'>show traceback</summary>"
            f"<pre style='white-space:pre-wrap;font-size:85%'>{escape(details)}</pre></details>"
        )
        self.message.value = f"<div role='status'>{escape(text)}{fold if details else ''}</div>" if text else ""

    def guard(self, callback: Callable[..., object]) -> Callable[..., None]:
        """Return a callback that shows its errors in the panel: ipywidgets would hide them."""

        def guarded(*given: Any) -> None:
            try:
                callback(*given)
            except Exception as error:  # noqa: BLE001 the user must see any error
                self._show_error(error)

        return guarded

    def _run(self, what: str, work: Callable[..., Any], then: Callable[[Any], object]) -> None:
        notices: list[Warning] = []
        try:
            self.show_message("")
            self.progress.start()
            self.progress.update(what, 0, 1)
            with handle_warnings(notices.append):
                result = work(on_step=lambda *given: self._step(what, *given), cancel=self._cancelled)
                then(result)
            # the notebook's stop button interrupts a job in the foreground
            stopped = self._cancelled.is_set() or any(isinstance(notice, Interrupted) for notice in notices)
            self._show_end("cancelled" if stopped else "done")
            self.show_message(_sentences(notices))
        except (Cancelled, KeyboardInterrupt):
            self._show_end("cancelled")
            self.show_message(_sentences(notices))
        except Exception as error:  # noqa: BLE001 the user must see any error
            self._show_end("stopped by an error")
            self._show_error(error, notices)
        finally:
            self._release()

    def _claim(self, can_cancel: bool) -> bool:
        with self._lock:
            if self._running:
                return False
            self._cancelled.clear()
            self._set_busy(True)
            self.cancel.disabled = not can_cancel
            self._running = True
            return True

    def _release(self) -> None:
        with self._lock:
            self._running = False
            self._set_busy(False)

    def _step(self, what: str, done: int, total: int | None, *denoised: object) -> None:
        hint = STOP_HINT if self.foreground else ""
        self.progress.update(what, done, total, "stopping after this step" if self._cancelled.is_set() else hint)

    def _request_cancel(self) -> None:
        with self._lock:
            if self._running and not self.cancel.disabled:
                self._cancelled.set()
                self.progress.label.value = "stopping after this step"

    def _show_end(self, how: str) -> None:
        took = duration_text(time.monotonic() - self.progress.started)
        self.progress.bar.value = self.progress.bar.max if how == "done" else 0
        self.progress.label.value = f"{how}, {took}"

    def _show_error(self, error: Exception, notices: Iterable[Warning] = ()) -> None:
        text = str(error) or type(error).__name__
        self.show_message(f"{text} {_sentences(notices)}".rstrip(), "".join(traceback.format_exception(error)))

    def _set_busy(self, busy: bool) -> None:
        for button in self._idle:
            button.disabled = busy
        if not busy:
            self.cancel.disabled = True


def duration_text(seconds: float) -> str:
    """Return a duration as text: ``40 s``, ``3 min``."""
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _sentences(notices: Iterable[Warning]) -> str:
    texts = dict.fromkeys(map(str, notices))  # each once
    return " ".join(f"{text[:1].upper()}{text[1:].rstrip('.')}." for text in texts)


def _progress_text(what: str, done: int, total: int | None, elapsed_s: float, hint: str) -> str:
    if not total:
        return f"{what}: {done / 1e6:.0f} MB"
    if done >= total:
        return f"{what}: done in {duration_text(elapsed_s)}"
    if not done:
        return f"{what}: preparing"
    left = f"{what}: {duration_text(elapsed_s * (total - done) / done)} left"
    return f"{left} ({hint})" if hint else left


def needs_foreground() -> bool:
    """Return whether jobs run in the callback. Voila has no cell to interrupt, so jobs always run in a thread there."""
    if os.environ.get("SERVER_SOFTWARE", "").startswith("voila/"):
        return False
    return in_colab() or os.environ.get("DDNB_FOREGROUND") == "1"
