"""TODO widgets/keepers."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ipywidgets

from ..clips.clip import Clip
from ..display.html import OUTPUT_LIMIT_BYTES
from ..export.pack import pack
from ..files import safe_name
from ..generation.beat import Beat
from ..similarity.check import originality
from ..similarity.report import Originality, originality_html
from .jobs import FITTING, Jobs
from .players import Player

_ROW = ipywidgets.Layout


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


def _link(path: Path) -> str:
    """A link that hands over a small pack; a page cannot hold a large one."""
    if path.stat().st_size * 4 / 3 > OUTPUT_LIMIT_BYTES:
        return "It is too large to be handed over here: take it from that folder."
    data = base64.b64encode(path.read_bytes()).decode()
    name = html.escape(path.name)
    href = f"data:application/zip;base64,{data}"
    return f'<a download="{name}" style="text-decoration:underline" href="{href}">Download the pack</a>'
