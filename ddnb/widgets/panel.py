"""The Studio: one panel to make sounds, hear them, keep the good ones and take them to the DAW."""

from __future__ import annotations

import base64
import html
import json
import random
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import ipywidgets

from ..beats import Beat
from ..checkpoints import Checkpoint, list_checkpoints, load
from ..clips import Clip
from ..copies import Originality, originality
from ..files import atomically, safe_name
from ..packs import pack
from .jobs import FITTING, Jobs, Progress
from .players import OUTPUT_LIMIT_BYTES, Player, originality_html
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


class Keepers(ipywidgets.VBox):
    """The sounds that are kept, and the way to the DAW: a pack of them."""

    def __init__(
        self,
        jobs: Jobs,
        folder: Path,
        actions: Mapping[str, Callable[[Clip], object]],
        on_remove: Callable[[Clip | Beat], object],
    ):
        self._jobs, self._actions, self._on_remove = jobs, actions, on_remove
        self.packs: list[Path] = []
        self._report: Originality | None = None
        self._compared_sounds: list[Clip | Beat] = []
        self._cards: dict[int, tuple[Clip | Beat, ipywidgets.Widget]] = {}
        self._empty = ipywidgets.HTML("Nothing is kept yet: tick 'keep' below a sound.")
        self._list = ipywidgets.Box(layout=_ROW(flex_flow="row wrap"))
        wide = {"width": "310px", "max_width": FITTING}
        self.name = ipywidgets.Text("my-sounds", description="name", layout=_ROW(**wide))
        self.folder = ipywidgets.Text(str(folder), description="folder", layout=_ROW(**wide))
        self.format = ipywidgets.Dropdown(
            options=[*((f"WAV, {bits} bit", ("wav", bits)) for bits in ("24", "16")), ("FLAC, 24 bit", ("flac", "24"))],
            description="files",
            layout=_ROW(**wide),
        )
        levels = [("as they are", "kept"), ("each to -1 dB", "each"), ("together to -1 dB", "together")]
        self.level = ipywidgets.Dropdown(options=levels, description="level", layout=_ROW(**wide))
        self.instruments = ipywidgets.Checkbox(False, description="sampler presets (SFZ, Decent Sampler)", indent=False)
        self.export = ipywidgets.Button(
            description="Export a pack", icon="save", tooltip="write a zip for your DAW", layout=_ROW(width="auto")
        )
        self.export.on_click(jobs.guarded(lambda _: self._export()))
        self.training = ipywidgets.Text(
            description="trained on", placeholder="folder of the training sounds", layout=_ROW(**wide)
        )
        self.check = ipywidgets.Button(
            description="Any copies?",
            tooltip="look for the nearest training sound of each",
            layout=_ROW(width="auto"),
        )
        self.check.on_click(jobs.guarded(lambda _: self._check()))
        jobs.disable_while_busy(self.export, self.check)
        self._done = ipywidgets.HTML()
        self._found = ipywidgets.HTML()
        rows = [[self.name, self.folder, self.format, self.level, self.instruments], [self.export]]
        boxes = [ipywidgets.Box(row, layout=_ROW(flex_flow="row wrap")) for row in rows]
        copies = ipywidgets.Box([self.training, self.check], layout=_ROW(flex_flow="row wrap"))
        super().__init__([self._empty, self._list, *boxes, self._done, copies, self._found])

    def add(self, sound: Clip | Beat) -> None:
        """Show a sound that is kept."""
        clip = sound.clip if isinstance(sound, Beat) else sound
        on_keep = self._jobs.guarded(lambda _, keep: None if keep else self._on_remove(sound))
        card = Player([clip], self._actions, on_keep=on_keep, kept=True)
        self._cards[id(sound)] = (sound, card)
        self._refresh()

    def remove(self, sound: Clip | Beat) -> None:
        """Show it no longer."""
        self._cards.pop(id(sound), None)
        self._refresh()

    def _refresh(self) -> None:
        self._list.children = [card for _, card in self._cards.values()]
        self._empty.layout.display = "none" if self._cards else ""

    @property
    def sounds(self) -> list[Clip | Beat]:
        """What is kept, in its order."""
        return [sound for sound, _ in self._cards.values()]

    def _require(self) -> list[Clip | Beat]:
        if not self._cards:
            raise ValueError("Nothing is kept yet: tick 'keep' below a sound.")
        return self.sounds

    def _export(self) -> None:
        sounds, (kind, bits) = self._require(), self.format.value
        path = Path(self.folder.value).expanduser() / f"{safe_name(self.name.value)}.zip"
        given = {"bits": bits, "format": kind, "level": self.level.value, "instruments": self.instruments.value}
        given["origins"] = self._report if self._compared_sounds == sounds else None
        self._jobs.start("packing", lambda on_step, cancel: pack(sounds, path, **given), self._packed, can_cancel=False)

    def _packed(self, path: Path) -> None:
        self.packs.append(path)
        self._done.value = f"{html.escape(str(path))} is written. {_link(path)}"

    def _check(self) -> None:
        sounds = self._require()
        folder = self.training.value.strip() or None

        def work(on_step: Callable[..., None], cancel: object) -> Any:
            return originality(sounds, folder, on_progress=on_step, cancel=cancel)

        self._jobs.start("comparing", work, lambda report: self._compared(report, sounds))

    def _compared(self, report: Originality, sounds: list[Clip | Beat]) -> None:
        self._report, self._compared_sounds = report, sounds
        self._found.value = originality_html(report)


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
    return _json((Path(__file__).parents[1] / "assets" / "presets.json").read_text(encoding="utf-8"))


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


def _link(path: Path) -> str:
    """A link that hands over a small pack; a page cannot hold a large one."""
    if path.stat().st_size * 4 / 3 > OUTPUT_LIMIT_BYTES:
        return "It is too large to be handed over here: take it from that folder."
    data = base64.b64encode(path.read_bytes()).decode()
    name = html.escape(path.name)
    href = f"data:application/zip;base64,{data}"
    return f'<a download="{name}" style="text-decoration:underline" href="{href}">Download the pack</a>'
