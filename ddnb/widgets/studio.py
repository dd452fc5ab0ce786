"""The Studio: one panel to make sounds, hear them, keep the good ones and take them to the DAW."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import ipywidgets

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.loading import load
from ..checkpoints.registry import list_checkpoints
from ..clips.clip import Clip
from ..files import ASSETS, atomically
from ..generation.beat import Beat
from .jobs import FITTING, Jobs, Progress
from .keepers import Keepers
from .players import Player
from .sequencer import Sequencer
from .tabs import BeatTab, Generate, Inpaint, Interpolate, Loop, Made, Tab, Vary, help_html

_ROW = ipywidgets.Layout
_STATE = 1


class Studio(ipywidgets.VBox):
    """The panel that ``studio()`` makes.

    Attributes:
        ckpt: the network it works with.
        results: the clips that were made last.
        kept: what is kept, clips and beats: ``ddnb.pack(panel.kept, "pack.zip")``.
        packs: paths of the packs that were exported.
        state: its controls as a small JSON-ready dictionary, to be read and set.
        jobs: runs what takes long; ``panel.jobs.wait()`` waits for it.
    """

    def __init__(self, ckpt: Checkpoint, source: str, folder: str | Path, foreground: bool | None):
        self.ckpt, self.results = ckpt, []
        self._lock = threading.RLock()  # callbacks may come in several threads
        self._chance = random.Random()
        self.jobs = Jobs(foreground)
        guarded = self.jobs.guarded
        self.tabs: list[Tab] = [
            Generate(),
            Vary(guarded),
            Interpolate(guarded),
            Inpaint(guarded),
            Loop(),
            BeatTab(),
        ]
        self.keepers = Keepers(self.jobs, Path(folder), self._actions(), self._unkeep)
        self._pages = ipywidgets.Tab([*self.tabs, self.keepers])
        for i, tab in enumerate(self.tabs):
            self._pages.set_title(i, tab.title)
        self._shown = ipywidgets.VBox()
        self._make = self._button("Make", "play", "make sounds with these settings", self.make)
        self._surprise = self._button("Surprise me", "random", "turn the knobs at random, and make", self.surprise)
        self._go_on = ipywidgets.Checkbox(True, description="new seeds after each run", indent=False)
        buttons = ipywidgets.HBox([self._make, self._surprise, self._go_on], layout=_ROW(flex_flow="row wrap"))
        self.jobs.disable_while_busy(self._make, self._surprise)
        super().__init__([self._head(), self._pages, buttons, self.jobs, self._shown, self._below()])
        self._pages.observe(guarded(lambda _: self._turn()), "selected_index")
        self._know(ckpt, source)
        self._turn()
        self._count()
        self.add_class("ddnb-studio")

    # What the buttons do, for cells and tests too

    def make(self) -> None:
        """Make sounds with the settings of the tab that is open."""
        tab = self.tab
        if tab is None:
            return self.jobs.say("Open another tab to make sounds: here are those that you kept.")
        work, ckpt, seeds = tab.work(), self.ckpt, tab.seeds()
        self.jobs.start(tab.title.lower(), lambda **job: work(ckpt, **job), lambda made: self._show(made, tab, seeds))
        return None

    def surprise(self) -> None:
        """Turn the knobs of the open tab at random, and make."""
        if self.tab is not None and not self.jobs.busy:
            self.tab.surprise(self._chance)
        self.make()

    def load(self, source: str) -> None:
        """Take another checkpoint: anything that ``ddnb.load`` takes."""

        def work(on_step: Callable[..., None], cancel: object) -> Checkpoint:
            return load(source, on_progress=on_step)

        self.jobs.start(f"loading {source}", work, lambda ckpt: self._know(ckpt, source), can_cancel=False)

    def vary(self, sound: Clip) -> None:
        """Open the tab Vary with a sound."""
        self.tabs[1].picker.take(sound)
        self._open("Vary")

    def bring(self, sound: Clip | str | Path) -> None:
        """Put a sound of your own into the tabs that take one."""
        for picker in (self.tabs[1].picker, self.tabs[2].a, self.tabs[3].picker):
            picker.take(sound)
        self._open("Vary")

    def keep(self, sound: Clip | Beat) -> None:
        """Put a sound into the keepers."""
        with self._lock:
            if sound not in self.kept:
                self.keepers.add(sound)
                self._count()

    @property
    def kept(self) -> list[Clip | Beat]:
        return self.keepers.sounds

    @property
    def packs(self) -> list[Path]:
        return self.keepers.packs

    @property
    def tab(self) -> Tab | None:
        """The tab that is open; none for the keepers."""
        i = self._pages.selected_index or 0
        return self.tabs[i] if i < len(self.tabs) else None

    @property
    def state(self) -> dict[str, Any]:
        title = "Keepers" if self.tab is None else self.tab.title
        tabs = {tab.title: tab.state for tab in self.tabs}
        return {"ddnb studio": _STATE, "model": self._source, "tab": title, **tabs}

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        if not isinstance(state, Mapping) or state.get("ddnb studio") != _STATE:
            raise ValueError('This is no state of the Studio: it begins with {"ddnb studio": 1.')
        before = self.state
        try:
            self._restore(state)
        except (ValueError, TypeError, AttributeError) as error:
            self._restore(before)  # all of it or nothing
            raise ValueError(f"These settings cannot be taken: {error}") from error
        if state.get("model", self._source) != self._source:
            self._model.value = str(state["model"])
            self.jobs.say(f"These settings are of {state['model']}: press Load to have it.")

    def _restore(self, state: Mapping[str, Any]) -> None:
        for tab in self.tabs:
            if tab.title in state:
                tab.state = state[tab.title]
        self._open(state.get("tab"))

    # What stands around the tabs

    def _head(self) -> ipywidgets.Widget:
        self._model = ipywidgets.Combobox(
            options=list(list_checkpoints()),
            description="model",
            layout=_ROW(width="310px", max_width=FITTING),
        )
        get = self._button(
            "Load", "download", "open this model; a published one is 886 MB", lambda: self.load(self._model.value)
        )
        presets = ipywidgets.Dropdown(
            options=["", *_presets()],
            description="preset",
            layout=_ROW(width="310px", max_width=FITTING),
        )
        presets.observe(self.jobs.guarded(lambda change: self._apply(change["new"])), "value")
        self.jobs.disable_while_busy(get)
        return ipywidgets.HBox([self._model, get, presets], layout=_ROW(flex_flow="row wrap"))

    def _below(self) -> ipywidgets.Widget:
        words = ipywidgets.HTML(help_html(self.tabs))
        text = ipywidgets.Textarea(layout=_ROW(width="100%", height="160px"))
        path = ipywidgets.Text("studio.json", description="file", layout=_ROW(width="310px", max_width=FITTING))

        def show() -> None:
            text.value = json.dumps(self.state, indent=1)

        def apply() -> None:
            self.state = _json(text.value)

        def save() -> None:
            show()
            atomically(_new(path.value), lambda part: part.write_text(text.value + "\n", encoding="utf-8"))
            self.jobs.say(f"Saved as {path.value}.")

        def open_file() -> None:
            text.value = Path(path.value).expanduser().read_text(encoding="utf-8")
            apply()

        row = [
            self._button("Show", "", "write the settings of all tabs into the field", show),
            self._button("Apply", "check", "take the settings from the field", apply),
            path,
            self._button("Save", "save", "write the settings to this file", save),
            self._button("Open", "folder-open", "take the settings from this file", open_file),
        ]
        state = ipywidgets.VBox([text, ipywidgets.HBox(row, layout=_ROW(flex_flow="row wrap"))])
        fold = ipywidgets.Accordion([words, state], selected_index=None)
        fold.set_title(0, "What the controls do")
        fold.set_title(1, "Settings as text: copy, paste, save")
        return fold

    def _button(self, name: str, icon: str, hint: str, press: Callable[[], object]) -> ipywidgets.Button:
        button = ipywidgets.Button(description=name, tooltip=hint, layout=_ROW(width="auto"))
        button.icon = icon
        button.on_click(self.jobs.guarded(lambda _: press()))
        return button

    # What follows from a press

    def _know(self, ckpt: Checkpoint, source: str) -> None:
        self.ckpt, self._source, self._model.value = ckpt, source, source
        for tab in self.tabs:
            tab.know(ckpt)

    def _turn(self) -> None:
        for button in (self._make, self._surprise, self._go_on):
            button.layout.display = "none" if self.tab is None else ""

    def _open(self, title: str | None) -> None:
        titles = [*(tab.title for tab in self.tabs), "Keepers"]
        if title in titles:
            self._pages.selected_index = titles.index(title)

    def _apply(self, name: str) -> None:
        if not name:
            return
        preset = _presets()[name]
        tab = next(tab for tab in self.tabs if tab.title == preset["tab"])
        tab.state = tab.defaults | preset
        self._open(tab.title)

    def _show(self, made: Made, tab: Tab, seeds: tuple[int, int] | None) -> None:
        guarded = self.jobs.guarded
        if isinstance(made, Beat):
            changed = partial(self._heard, tab=tab)
            sequencer = Sequencer(made, self.ckpt, on_change=changed, run=self.jobs.start)
            keep = self._button("Keep this beat", "check", "put it into the keepers", lambda: self.keep(sequencer.beat))
            self.results = [made.clip]
            self._shown.children = [sequencer, ipywidgets.HBox([keep])]
        elif made:
            self.results = made
            self._shown.children = [Player(made, self._actions(), on_keep=guarded(self._kept))]
        else:
            self._shown.children = [ipywidgets.HTML("Nothing was finished.")]
        if made and self._go_on.value:
            tab.go_on(seeds)

    def _heard(self, beat: Beat, tab: Tab) -> None:
        """A step was clicked: the tab remembers the groove."""
        tab.take(beat)
        self.results = [beat.clip]

    def _actions(self) -> dict[str, Callable[[Clip], object]]:
        guarded = self.jobs.guarded
        return {
            "vary this": guarded(self.vary),
            "use as A": guarded(self.tabs[2].a.take),
            "use as B": guarded(self.tabs[2].b.take),
            "fill / extend": guarded(self._edit),
        }

    def _edit(self, clip: Clip) -> None:
        self.tabs[3].picker.take(clip)
        self._open(self.tabs[3].title)

    def _kept(self, clip: Clip, keep: bool) -> None:
        if keep:
            self.keep(clip)
        elif clip in self.kept:
            self._unkeep(clip)

    def _unkeep(self, sound: Clip | Beat) -> None:
        with self._lock:
            self.keepers.remove(sound)
            for player in self._shown.children:
                if isinstance(player, Player):
                    player.untick(sound)
            self._count()

    def _count(self) -> None:
        self._pages.set_title(len(self.tabs), f"Keepers ({len(self.kept)})")


def studio(
    ckpt: Checkpoint | str = "drums", folder: str | Path = "sounds", *, foreground: bool | None = None
) -> Studio:
    """Return the Studio: a panel to make sounds, hear them, keep the good ones and take them to the DAW.

    Args:
        ckpt: the network to begin with: what ``ddnb.load`` returned, or what it takes.
        folder: where packs go.
        foreground: run long work in the cell instead of a thread; by default on Colab, where what a thread changes is
            not shown.
    """
    if isinstance(ckpt, Checkpoint):
        return Studio(ckpt, ckpt.info["source"], folder, foreground)
    return Studio(load(ckpt, on_progress=Progress("downloading")), str(ckpt), folder, foreground)


def _presets() -> dict[str, dict[str, Any]]:
    return _json((ASSETS / "presets.json").read_text(encoding="utf-8"))


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"This text is not JSON: {error}") from error


def _new(text: str) -> Path:
    path = Path(text).expanduser()
    if path.exists():
        raise FileExistsError(f"{path} exists already; choose another name.")
    return path
