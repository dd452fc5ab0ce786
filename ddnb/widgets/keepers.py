"""The list of kept sounds, its export as a pack and its originality check."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ipywidgets

from ..clips.clip import Clip
from ..display.html import OUTPUT_LIMIT_BYTES, escape
from ..errors import ArgumentError
from ..export.pack import pack
from ..files import expand, safe_name
from ..generation.beat import Beat
from ..similarity.check import originality
from ..similarity.report import Originality, originality_html
from ..steps import Event
from .jobs import FITTING, Jobs
from .players import Player, discard

_ROW = ipywidgets.Layout


class Keepers(ipywidgets.VBox):
    """List the kept sounds, export them as a pack and compare them with training sounds."""

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
            description="Export a pack", icon="save", tooltip="write a zip file for your DAW", layout=_ROW(width="auto")
        )
        self.export.on_click(jobs.guard(lambda _: self._export()))
        self.training = ipywidgets.Text(
            description="trained on", placeholder="folder of the training sounds", layout=_ROW(**wide)
        )
        self.check = ipywidgets.Button(
            description="Check originality",
            tooltip="find the nearest training sound of each kept sound",
            layout=_ROW(width="auto"),
        )
        self.check.on_click(jobs.guard(lambda _: self._check()))
        jobs.disable_while_busy(self.export, self.check)
        self._done = ipywidgets.HTML()
        self._found = ipywidgets.HTML()
        rows = [[self.name, self.folder, self.format, self.level, self.instruments], [self.export]]
        boxes = [ipywidgets.Box(row, layout=_ROW(flex_flow="row wrap")) for row in rows]
        copies = ipywidgets.Box([self.training, self.check], layout=_ROW(flex_flow="row wrap"))
        super().__init__([self._empty, self._list, *boxes, self._done, copies, self._found])

    def add(self, sound: Clip | Beat) -> None:
        """Add a sound to the list."""
        clip = sound.clip if isinstance(sound, Beat) else sound
        on_keep = self._jobs.guard(lambda _, keep: None if keep else self._on_remove(sound))
        card = Player([clip], self._actions, on_keep=on_keep, kept=True)
        self._cards[id(sound)] = (sound, card)
        self._refresh()

    def remove(self, sound: Clip | Beat) -> None:
        """Remove a sound from the list."""
        _, card = self._cards.pop(id(sound), (None, None))
        self._refresh()
        if card is not None:
            discard(card)

    def _refresh(self) -> None:
        self._list.children = [card for _, card in self._cards.values()]
        self._empty.layout.display = "none" if self._cards else ""

    @property
    def sounds(self) -> list[Clip | Beat]:
        """The kept sounds, in order."""
        return [sound for sound, _ in self._cards.values()]

    def _require(self) -> list[Clip | Beat]:
        if not self._cards:
            raise ArgumentError("Nothing is kept yet: tick 'keep' below a sound.")
        return self.sounds

    def _export(self) -> None:
        sounds, (kind, bits) = self._require(), self.format.value
        path = expand(self.folder.value) / f"{safe_name(self.name.value)}.zip"
        options = {"bits": bits, "format": kind, "level": self.level.value, "instruments": self.instruments.value}
        options["origins"] = self._report if self._compared_sounds == sounds else None
        self._jobs.start(
            "packing", lambda on_step, cancel: pack(sounds, path, **options), self._show_pack, can_cancel=False
        )

    def _show_pack(self, path: Path) -> None:
        self.packs.append(path)
        self._done.value = f"Wrote {escape(str(path))}. {_link(path)}"

    def _check(self) -> None:
        sounds = self._require()
        folder = self.training.value.strip() or None

        def work(on_step: Callable[..., None], cancel: Event) -> Any:
            return originality(sounds, folder, on_progress=on_step, cancel=cancel)

        self._jobs.start("comparing", work, lambda report: self._show_report(report, sounds))

    def _show_report(self, report: Originality, sounds: list[Clip | Beat]) -> None:
        self._report, self._compared_sounds = report, sounds
        self._found.value = originality_html(report)


def _link(path: Path) -> str:
    """Return a download link for a pack small enough to embed in the page."""
    if path.stat().st_size * 4 / 3 > OUTPUT_LIMIT_BYTES:
        return "It is too large to download here: copy it from that folder."
    data = base64.b64encode(path.read_bytes()).decode()
    name = escape(path.name)
    href = f"data:application/zip;base64,{data}"
    return f'<a download="{name}" style="text-decoration:underline" href="{href}">Download the pack</a>'
