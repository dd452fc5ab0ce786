"""Long work in a notebook: a bar with the time left, and one job at a time, in a thread or in the callback itself."""

from __future__ import annotations

import contextlib
import html
import os
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import ipywidgets
from IPython.display import display

from ..errors import Cancelled
from ..runtime import in_colab

REFRESH_S = 0.1
FITTING = "calc(100% - 4px)"
"""Widest layout of a control inside a narrow panel: it has a margin of 2 px."""

STOP = "the stop button keeps what is finished"


class Bar(ipywidgets.HBox):
    """A bar and what it says: what is done, and the time left in words."""

    def __init__(self):
        self.started = self._shown = 0.0
        self.bar = ipywidgets.IntProgress(min=0, max=1000, layout=ipywidgets.Layout(max_width="240px"))
        self.label = ipywidgets.HTML()
        super().__init__([self.bar, self.label], layout=ipywidgets.Layout(flex_flow="row wrap", align_items="center"))

    def start(self) -> None:
        """Begin to count the time."""
        self.started, self._shown, self.bar.value = time.monotonic(), 0.0, 0

    def at(self, what: str, done: int, total: int | None, hint: str = "") -> None:
        """Show how far it is; the screen is changed ten times a second at most."""
        now = time.monotonic()
        if (total is not None and done >= total) or now - self._shown >= REFRESH_S:
            self._shown = now
            self.bar.value = 1000 * done // total if total else 0
            self.label.value = html.escape(_progress(what, done, total, now - self.started, hint))


class Progress:
    """A bar with the time left, for ``on_step=`` and ``on_progress=``: ``generate(ckpt, on_step=widgets.Progress())``.

    It appears with the first call, and says how to stop.
    """

    def __init__(self, what: str = "generating"):
        self.what, self.box = what, None

    def __call__(self, done: int, total: int | None, *denoised: object) -> None:
        if self.box is None:
            self.box, self.hint = Bar(), STOP if denoised else ""
            self.box.start()
            display(self.box)
        self.box.at(self.what, done, total, self.hint)


class Jobs(ipywidgets.VBox):
    """Runs the long work of a panel, one job at a time, with a bar, a Cancel button and a place for errors.

    In a thread, so that the notebook stays free and Cancel works; on Colab, where what a thread changes is not shown,
    in the callback itself: there the notebook's stop button cancels.

    Args:
        foreground: run jobs in the callback; by default on Colab, and where ``DDNB_FOREGROUND=1``.
    """

    def __init__(self, foreground: bool | None = None):
        self.foreground = _must_wait() if foreground is None else foreground
        self._running, self._cancelled = False, threading.Event()
        self._lock = threading.Lock()  # callbacks may come in several threads
        self._idle: list[ipywidgets.Widget] = []
        self._thread: threading.Thread | None = None
        self.progress = Bar()
        self.cancel = ipywidgets.Button(
            description="Cancel", icon="stop", tooltip="stop; what is finished is kept", disabled=True
        )
        self.cancel.on_click(lambda _: self._stop())
        self.cancel.layout.display = "none" if self.foreground else ""
        self.message = ipywidgets.HTML()
        head = ipywidgets.HBox([self.cancel, self.progress], layout=ipywidgets.Layout(flex_flow="row wrap"))
        super().__init__([head, self.message])

    @property
    def busy(self) -> bool:
        return self._running

    def disable_while_busy(self, *buttons: ipywidgets.Widget) -> None:
        """Buttons that cannot be pressed while a job runs."""
        self._idle += buttons

    def start(
        self,
        what: str,
        work: Callable[..., Any],
        then: Callable[[Any], object] = lambda _: None,
        can_cancel: bool = True,
    ) -> bool:
        """Run ``then(work(on_step=..., cancel=...))``; a job that is asked for while another runs is refused.

        Args:
            what: what it does, in words, for the bar.
            work: takes ``on_step`` and ``cancel``, as the verbs do.
            then: shows the result.
            can_cancel: whether the work looks at ``cancel``.

        Returns:
            Whether it was started; in the foreground it is over by now.
        """
        if not self._begin(can_cancel):
            self.say("Something is being made already: wait for it, or cancel it.")
            return False
        if self.foreground:
            self._run(what, work, then)
            return True
        self._thread = threading.Thread(target=self._run, args=(what, work, then), daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no thread could be had
            self._end_of_job()
            raise
        return True

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until the job is over."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def say(self, text: str, details: str = "") -> None:
        """Show a sentence below the bar, with details folded."""
        fold = (
            "<details><summary style='display:list-item;cursor:pointer'>show where</summary>"
            f"<pre style='white-space:pre-wrap;font-size:85%'>{html.escape(details)}</pre></details>"
        )
        self.message.value = f"<div role='status'>{html.escape(text)}{fold if details else ''}</div>" if text else ""

    def guarded(self, callback: Callable[..., object]) -> Callable[..., None]:
        """Return a callback whose errors are shown in the panel: anywhere else, nobody would see them."""

        def guard(*given: Any) -> None:
            try:
                callback(*given)
            except Exception as error:  # noqa: BLE001 whatever it is, the user must see it
                self._tell(error)

        return guard

    def _run(self, what: str, work: Callable[..., Any], then: Callable[[Any], object]) -> None:
        try:
            self.say("")
            self.progress.start()
            self.progress.at(what, 0, 1)
            with _heard() as said:
                result = work(on_step=lambda *given: self._step(what, *given), cancel=self._cancelled)
                then(result)
            # in a cell the verbs take the stop button for a cancel, and say so
            stopped = self._cancelled.is_set() or any(text.startswith("interrupted") for text in said)
            self._say_end("cancelled" if stopped else "done")
            self._note(said)
        except (Cancelled, KeyboardInterrupt):
            self._say_end("cancelled")
        except Exception as error:  # noqa: BLE001 whatever it is, the user must see it
            self._say_end("stopped by an error")
            self._tell(error)
        finally:
            self._end_of_job()

    def _begin(self, can_cancel: bool) -> bool:
        with self._lock:
            if self._running:
                return False
            self._cancelled.clear()
            self._set_busy(True)
            self.cancel.disabled = not can_cancel
            self._running = True
            return True

    def _end_of_job(self) -> None:
        with self._lock:
            self._running = False
            self._set_busy(False)

    def _step(self, what: str, done: int, total: int | None, *denoised: object) -> None:
        hint = STOP if self.foreground else ""
        self.progress.at(what, done, total, "stopping after this step" if self._cancelled.is_set() else hint)

    def _stop(self) -> None:
        with self._lock:
            if self._running and not self.cancel.disabled:
                self._cancelled.set()
                self.progress.label.value = "stopping after this step"

    def _say_end(self, how: str) -> None:
        took = words(time.monotonic() - self.progress.started)
        self.progress.bar.value = self.progress.bar.max if how == "done" else 0
        self.progress.label.value = f"{how}, {took}"

    def _note(self, said: Iterable[str]) -> None:
        if said:
            self.say(" ".join(f"{text[:1].upper()}{text[1:].rstrip('.')}." for text in dict.fromkeys(said)))

    def _tell(self, error: Exception) -> None:
        text = str(error) or type(error).__name__
        self.say(text, "".join(traceback.format_exception(error)))

    def _set_busy(self, busy: bool) -> None:
        for button in self._idle:
            button.disabled = busy
        if not busy:
            self.cancel.disabled = True


_HEARD: dict[int, list[str]] = {}  # thread -> what was warned of in its job


@contextlib.contextmanager
def _heard() -> Iterator[list[str]]:
    """Collect the warnings of this thread: ``catch_warnings`` would take those of the user's own cells too."""
    _listen()
    me = threading.get_ident()
    said = _HEARD[me] = []
    try:
        yield said
    finally:
        del _HEARD[me]


def _listen() -> None:
    """Let warnings of a job go to its panel, and all others where they went before."""
    before = warnings.showwarning
    if getattr(before, "of_jobs", False):
        return

    def show(message, category, *where, **more):  # as the standard library calls it
        said = _HEARD.get(threading.get_ident())
        if said is not None and issubclass(category, UserWarning):
            said.append(str(message))
        else:
            before(message, category, *where, **more)

    show.of_jobs = True
    warnings.showwarning = show


def words(seconds: float) -> str:
    """A length of time: ``40 s``, ``3 min``."""
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _progress(what: str, done: int, total: int | None, elapsed_s: float, hint: str) -> str:
    if not total:
        return f"{what}: {done / 1e6:.0f} MB"
    if done >= total:
        return f"{what}: done in {words(elapsed_s)}"
    if not done:
        return f"{what}: getting ready"
    left = f"{what}: {words(elapsed_s * (total - done) / done)} left"
    return f"{left} ({hint})" if hint else left


def _must_wait() -> bool:
    """Whether jobs run in the callback. A page of Voila has no cell that could be stopped: always a thread there."""
    if os.environ.get("SERVER_SOFTWARE", "").startswith("voila/"):
        return False
    return in_colab() or os.environ.get("DDNB_FOREGROUND") == "1"
