"""Choose a sound in a panel: from a path, a folder, an upload or another clip."""

from __future__ import annotations

import base64
import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ipywidgets

from ..audio.io import read
from ..audio.listing import sound_files
from ..checkpoints.checkpoint import Checkpoint
from ..clips.clip import Clip
from ..clips.provenance import InputRecord, ModelRecord, Provenance
from ..clips.source import input_name, input_record, read_clip, require_sound
from ..display.html import escape
from ..errors import ArgumentError
from ..files import expand, safe_name
from ..generation.remake import remake
from ..runtime import in_colab
from .jobs import FITTING
from .scripts import attribute

UPLOAD_LIMIT_BYTES = 7_000_000
"""Jupyter's websocket silently drops messages above 10 MiB, and base64 is a third longer than the file."""

_LISTED = 500


class SoundPicker(ipywidgets.VBox):
    """Let the user choose a sound: type a path, pick from a folder, upload a file, or press a button of a clip.

    Args:
        label: the role of the sound.
        on_change: called with the chosen sound, or None, after each change.
        guard: wraps callbacks so that their errors are shown.
    """

    def __init__(self, label: str, on_change: Callable[[Clip | None], object], guard: Callable[..., Any]):
        self._on_change = on_change
        self._sound: Clip | Mapping[str, Any] | None = None
        self._path = ""
        self.path = ipywidgets.Combobox(
            description=label,
            placeholder="path of a sound file, or of a folder",
            ensure_option=False,
            continuous_update=False,
            layout=ipywidgets.Layout(width="460px", max_width=FITTING),
        )
        self.path.observe(guard(lambda change: self._open_path(change["new"])), "value")
        self._name = ipywidgets.HTML()
        row = [self.path]
        if not in_colab():  # whose message limit is smaller
            row.append(Upload(guard(lambda name, content: self.take(clip_of_bytes(name, content)))))
        super().__init__([ipywidgets.HBox(row, layout=ipywidgets.Layout(flex_flow="row wrap")), self._name])
        self._show(None)

    def chosen(self) -> Callable[[Checkpoint], Clip]:
        """Return a function of the checkpoint that gives the chosen sound, remade first if only its record is known.

        Raises:
            ArgumentError: no sound is chosen.
        """
        if self._sound is None:
            raise ArgumentError("Choose a sound first: type a path, upload a file, or press a button below a clip.")
        return partial(self._resolve, self._sound)

    def _resolve(self, chosen: Clip | Mapping[str, Any], ckpt: Checkpoint) -> Clip:
        if not isinstance(chosen, Mapping):
            return chosen
        same = chosen["model"].get("weights_sha256") == ckpt.info["weights_sha256"]
        clip = remake(dict(chosen), ckpt if same else None)[0]
        if self._sound is chosen:  # no other was chosen meanwhile
            self.take(clip)
        return clip

    def take(self, sound: Clip | str | Path) -> None:
        """Choose a clip or a file; the record beside a file gives its provenance."""
        clip = sound if isinstance(sound, Clip) else read_clip(sound)
        require_sound(clip.audio, clip.sample_rate, "audio")
        self._sound, self._path = clip, "" if clip is sound else str(sound)
        self.path.value = self._path
        self._show(clip)

    @property
    def state(self) -> dict[str, Any]:
        """The choice as JSON-ready dictionary: a path, or the record of a clip."""
        if self._path:
            return {"path": self._path}
        if isinstance(self._sound, Mapping):
            return {"record": dict(self._sound)}
        if self._sound is None:
            return {}
        record = input_record(self._sound)
        return {"upload": record.name} if record.provenance is None else {"record": _short(record.provenance.to_dict())}

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        if state == self.state:
            return
        if "path" in state:
            self.path.value = str(state["path"])
            return
        self._sound, self._path = state.get("record"), ""
        self.path.value = ""
        self._show(None)
        if "record" in state:
            self._name.value = "A clip of these settings, to be remade when needed."
        elif "upload" in state:
            self._name.value = escape(f"{state['upload']} was an upload: upload it again.")

    def _open_path(self, text: str) -> None:
        text = text.strip().strip("\"'")
        if not text:
            return
        path = expand(text)
        if path.is_dir():
            self.path.options = _options(sound_files(path)[:_LISTED])
            self._name.value = f"{len(self.path.options)} sounds in this folder: clear the field to choose one"
            return
        if str(path) != self._path:
            self.take(path)

    def _show(self, source: Clip | None) -> None:
        if source is None:
            self._name.value = "<span style='opacity:.7'>No sound yet.</span>"
        else:
            what = f"{input_name(source)}, {source.duration_s:.2f} s, {source.sample_rate} Hz"
            self._name.value = escape(what)
        self._on_change(source)


class Upload(ipywidgets.VBox):
    """Upload a file from the user's computer and call ``on_file(name, content)``."""

    def __init__(self, on_file: Callable[[str, bytes], object]):
        limit = f"up to {UPLOAD_LIMIT_BYTES / 1e6:.0f} MB"
        choose = ipywidgets.HTML(
            f"<div><label>upload, {limit}: <input type='file' accept='audio/*' style='color:inherit;max-width:100%' "
            f'data-limit="{UPLOAD_LIMIT_BYTES}" onchange="{attribute("sources.js", "readFile")}"></label> '
            "<output></output></div>"
        )
        self._field = ipywidgets.Text(continuous_update=False, layout=ipywidgets.Layout(display="none"))
        self._field.add_class("ddnb-file")
        self._field.observe(lambda change: self._arrived(change["new"]), "value")
        self._on_file = on_file
        super().__init__([choose, self._field])
        self.add_class("ddnb-upload")

    def _arrived(self, text: str) -> None:
        if text:
            self._field.value = ""
            name, content = json.loads(text)
            self._on_file(str(name), base64.b64decode(content))


def _options(paths: Sequence[Path]) -> list[str]:
    """Return paths as options of a Combobox, which ipywidgets 7 writes into the page as HTML."""
    texts = [str(path) for path in paths]
    return [escape(text) for text in texts] if ipywidgets.__version__.startswith("7.") else texts


def _short(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with only the fields that remaking its sound needs."""
    needed = ("name", "source", "sample_rate", "frames", "weights_sha256")
    return {**record, "model": {k: v for k, v in record["model"].items() if k in needed}}


def clip_of_bytes(name: str, content: bytes, limit_bytes: int | None = UPLOAD_LIMIT_BYTES) -> Clip:
    """Return the content of a sound file as a clip with the file's name, without its folders.

    Raises:
        ArgumentError: the content is larger than ``limit_bytes`` or not audio.
    """
    name = Path(name.replace("\\", "/")).name
    if limit_bytes is not None and len(content) > limit_bytes:
        raise ArgumentError(
            f"{name} has {len(content) / 1e6:.0f} MB; the limit of uploads is {limit_bytes / 1e6:.0f} MB. Copy it to "
            "the machine of the notebook and type its path."
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / (safe_name(Path(name).stem) + Path(name).suffix[:8])
        path.write_bytes(content)
        try:
            audio, rate = read(path)
        except ValueError as error:
            raise ArgumentError(str(error).replace(path.name, name)) from error
    source = InputRecord(name, hashlib.sha256(content).hexdigest())
    return Clip(audio, rate, 0, Provenance(source=source, model=ModelRecord(Path(name).stem)))
