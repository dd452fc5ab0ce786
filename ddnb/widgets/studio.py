"""The Studio: one panel to make sounds, listen, keep the good ones and export them for a DAW."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import ipywidgets

from ..checkpoints.blend import MOST
from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.loading import load
from ..checkpoints.registry import list_checkpoints
from ..checks import within
from ..clips.clip import Clip
from ..errors import ArgumentError
from ..files import ASSETS, atomically, expand
from ..generation.beat import Beat
from .blending import Blending
from .jobs import FITTING, Jobs, Progress
from .keepers import Keepers
from .players import Player, discard
from .sequencer import Sequencer
from .tabs import BeatTab, Generate, Inpaint, Interpolate, Loop, Made, Tab, Vary

_ROW = ipywidgets.Layout
_STATE = 1


class Studio(ipywidgets.VBox):
    """The panel that ``studio()`` returns.

    Attributes:
        ckpt: the current checkpoint.
        results: the clips made last.
        kept: the kept clips and beats: ``ddnb.pack(panel.kept, "pack.zip")``.
        packs: the paths of exported packs.
        state: the settings of all controls as a JSON-ready dictionary, readable and writable.
        jobs: the runner of long work; ``panel.jobs.wait()`` waits for it.
    """

    def __init__(self, ckpt: Checkpoint, source: str, folder: str | Path, foreground: bool | None):
        self.ckpt = ckpt
        self.results: list[Clip] = []
        self._lock = threading.RLock()  # callbacks may run in several threads
        self._random = random.Random()
        self.jobs = Jobs(foreground)
        guard = self.jobs.guard
        self.tabs: list[Tab] = [
            Generate(),
            Vary(guard),
            Interpolate(guard),
            Inpaint(guard),
            Loop(),
            BeatTab(),
        ]
        self.keepers = Keepers(self.jobs, Path(folder), self._actions(), self._unkeep)
        self._pages = ipywidgets.Tab([*self.tabs, self.keepers])
        for i, tab in enumerate(self.tabs):
            self._pages.set_title(i, tab.title)
        self._shown = ipywidgets.VBox()
        self._make = self._button("Make", "play", "make sounds with these settings", self.make)
        self._surprise = self._button("Surprise me", "random", "choose random settings and make sounds", self.surprise)
        self._new_seeds = ipywidgets.Checkbox(True, description="new seeds after each run", indent=False)
        buttons = ipywidgets.HBox([self._make, self._surprise, self._new_seeds], layout=_ROW(flex_flow="row wrap"))
        self.jobs.disable_while_busy(self._make, self._surprise)
        self._blending = Blending(ckpt)
        super().__init__([self._header(), self._blending, self._pages, buttons, self.jobs, self._shown, self._footer()])
        self._pages.observe(guard(lambda _: self._tab_changed()), "selected_index")
        self._use_checkpoint(ckpt, source)
        self._tab_changed()
        self._update_count()
        self.add_class("ddnb-studio")

    # The actions of the buttons, which cells and tests may call

    def make(self) -> None:
        """Make sounds with the settings of the open tab."""
        tab = self.tab
        if tab is None:
            return self.jobs.show_message("Open another tab to make sounds: this one lists those you kept.")
        work, seeds = self._blending.work(tab.work()), tab.seeds()
        self.jobs.start(tab.title.lower(), work, lambda made: self._show(made, tab, seeds))
        return None

    def surprise(self) -> None:
        """Choose random settings in the open tab and make sounds."""
        if self.tab is not None and not self.jobs.busy:
            self.tab.surprise(self._random)
        self.make()

    def load(self, source: str) -> None:
        """Load another checkpoint: anything that ``ddnb.load`` accepts."""

        def work(on_step: Callable[..., None], cancel: object) -> Checkpoint:
            return load(source, on_progress=on_step)

        self.jobs.start(f"loading {source}", work, lambda ckpt: self._use_checkpoint(ckpt, source), can_cancel=False)

    def vary(self, sound: Clip) -> None:
        """Open the Vary tab with a sound."""
        self.tabs[1].picker.take(sound)
        self._open("Vary")

    def use_sound(self, sound: Clip | str | Path) -> None:
        """Choose a sound of your own in all tabs that take one."""
        for picker in (self.tabs[1].picker, self.tabs[2].a, self.tabs[3].picker):
            picker.take(sound)
        self._open("Vary")

    def keep(self, sound: Clip | Beat) -> None:
        """Keep a sound."""
        with self._lock:
            if sound not in self.kept:
                self.keepers.add(sound)
                self._update_count()

    @property
    def kept(self) -> list[Clip | Beat]:
        return self.keepers.sounds

    @property
    def packs(self) -> list[Path]:
        return self.keepers.packs

    @property
    def tab(self) -> Tab | None:
        """The open tab; None for the list of kept sounds."""
        i = self._pages.selected_index or 0
        return self.tabs[i] if i < len(self.tabs) else None

    @property
    def state(self) -> dict[str, Any]:
        title = "Keepers" if self.tab is None else self.tab.title
        tabs = {tab.title: tab.state for tab in self.tabs}
        training = self._blending.slider.value
        return {"ddnb studio": _STATE, "model": self._source, "training": training, "tab": title, **tabs}

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        if not isinstance(state, Mapping) or state.get("ddnb studio") != _STATE:
            raise ArgumentError('Not a state of the Studio, which begins with {"ddnb studio": 1.')
        before = self.state
        try:
            self._restore(state)
        except (ValueError, TypeError, AttributeError) as error:
            self._restore(before)  # all or nothing
            raise ArgumentError(f"These settings are invalid: {error}") from error
        if state.get("model", self._source) != self._source:
            self._model.value = str(state["model"])
            self.jobs.show_message(f"These settings use the model {state['model']}: press Load to open it.")

    def _restore(self, state: Mapping[str, Any]) -> None:
        for tab in self.tabs:
            if tab.title in state:
                tab.state = state[tab.title]
        self._blending.slider.value = within("training", state.get("training", self._blending.slider.value), 0, MOST)
        self._open(state.get("tab"))

    # The parts around the tabs

    def _header(self) -> ipywidgets.Widget:
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
        presets.observe(self.jobs.guard(lambda change: self._apply(change["new"])), "value")
        self.jobs.disable_while_busy(get)
        return ipywidgets.HBox([self._model, get, presets], layout=_ROW(flex_flow="row wrap"))

    def _footer(self) -> ipywidgets.Widget:
        words = ipywidgets.HTML(_help_html(self.tabs))
        text = ipywidgets.Textarea(layout=_ROW(width="100%", height="160px"))
        path = ipywidgets.Text("studio.json", description="file", layout=_ROW(width="310px", max_width=FITTING))

        def show() -> None:
            text.value = json.dumps(self.state, indent=1)

        def apply() -> None:
            self.state = _json(text.value)

        def save() -> None:
            show()
            atomically(_unused_path(path.value), lambda part: part.write_text(text.value + "\n", encoding="utf-8"))
            self.jobs.show_message(f"Wrote {path.value}.")

        def open_file() -> None:
            try:
                text.value = expand(path.value).read_text(encoding="utf-8-sig")
            except UnicodeDecodeError as error:
                raise ArgumentError(f"{path.value} is not JSON: {error}") from error
            apply()

        row = [
            self._button("Show", "", "write the settings of all tabs into the field", show),
            self._button("Apply", "check", "apply the settings in the field", apply),
            path,
            self._button("Save", "save", "write the settings to this file", save),
            self._button("Open", "folder-open", "read the settings from this file", open_file),
        ]
        state = ipywidgets.VBox([text, ipywidgets.HBox(row, layout=_ROW(flex_flow="row wrap"))])
        fold = ipywidgets.Accordion([words, state], selected_index=None)
        fold.set_title(0, "What the controls do")
        fold.set_title(1, "Settings as text: copy, paste, save")
        return fold

    def _button(self, name: str, icon: str, hint: str, press: Callable[[], object]) -> ipywidgets.Button:
        button = ipywidgets.Button(description=name, tooltip=hint, layout=_ROW(width="auto"))
        button.icon = icon
        button.on_click(self.jobs.guard(lambda _: press()))
        return button

    # Results of the actions

    def _use_checkpoint(self, ckpt: Checkpoint, source: str) -> None:
        self.ckpt, self._source, self._model.value = ckpt, source, source
        self._blending.use(ckpt)
        for tab in self.tabs:
            tab.adapt_to(ckpt)

    def _tab_changed(self) -> None:
        for button in (self._make, self._surprise, self._new_seeds):
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
        guard = self.jobs.guard
        if isinstance(made, Beat):
            changed = partial(self._beat_changed, tab=tab)
            sequencer = Sequencer(made, self._blending.last, on_change=changed, run=self.jobs.start)
            keep = self._button("Keep this beat", "check", "keep this beat", lambda: self.keep(sequencer.beat))
            self.results = [made.clip]
            shown: list[ipywidgets.Widget] = [sequencer, ipywidgets.HBox([keep])]
        elif made:
            self.results = made
            shown = [Player(made, self._actions(), on_keep=guard(self._keep_changed))]
        else:
            shown = [ipywidgets.HTML("No clip was finished.")]
        before, self._shown.children = self._shown.children, shown
        discard(*before)
        if made and self._new_seeds.value:
            tab.advance_seed(seeds)

    def _beat_changed(self, beat: Beat, tab: Tab) -> None:
        """Store a beat whose steps were edited in the tab."""
        tab.take(beat)
        self.results = [beat.clip]

    def _actions(self) -> dict[str, Callable[[Clip], object]]:
        guard = self.jobs.guard
        return {
            "vary this": guard(self.vary),
            "use as A": guard(self.tabs[2].a.take),
            "use as B": guard(self.tabs[2].b.take),
            "fill / extend": guard(self._edit),
        }

    def _edit(self, clip: Clip) -> None:
        self.tabs[3].picker.take(clip)
        self._open(self.tabs[3].title)

    def _keep_changed(self, clip: Clip, keep: bool) -> None:
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
            self._update_count()

    def _update_count(self) -> None:
        self._pages.set_title(len(self.tabs), f"Keepers ({len(self.kept)})")


def studio(
    ckpt: Checkpoint | str = "drums", folder: str | Path = "sounds", *, foreground: bool | None = None
) -> Studio:
    """Return the Studio: a panel to make sounds, listen, keep the good ones and export them for a DAW.

    Args:
        ckpt: the checkpoint to begin with: a result or an argument of ``ddnb.load``.
        folder: the folder for packs.
        foreground: run long work in the cell instead of a thread; by default on Colab, which does not show what a
            thread changes.
    """
    if isinstance(ckpt, Checkpoint):
        return Studio(ckpt, ckpt.info["source"], folder, foreground)
    return Studio(load(ckpt, on_progress=Progress("downloading")), str(ckpt), folder, foreground)


def _presets() -> dict[str, dict[str, Any]]:
    return _json((ASSETS / "presets.json").read_text(encoding="utf-8"))


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArgumentError(f"This text is not JSON: {error}") from error


def _unused_path(text: str) -> Path:
    path = expand(text)
    if path.exists():
        raise FileExistsError(f"{path} exists already; choose another name.")
    return path


def _help_html(tabs: Iterable[Tab]) -> str:
    """Return the help texts of all controls as HTML: tooltips need a mouse."""
    lines = []
    for tab in tabs:
        items = "".join(f"<li><b>{tab.controls[name].description}</b>: {hint}</li>" for name, hint in tab.hints.items())
        lines.append(f"<b>{tab.title}</b><ul>{items}</ul>")
    return "".join(lines)
