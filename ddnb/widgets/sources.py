"""Sounds that come into a panel: from a path, a folder, an upload or another clip; and a stretch of one."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import ipywidgets

from ..audio.io import read, sound_files
from ..checkpoints.checkpoint import Checkpoint
from ..clips.clip import Clip
from ..clips.record import read_clip
from ..clips.source import Source, source_of
from ..files import safe_name
from ..generation.remake import remake
from ..runtime import in_colab
from .jobs import FITTING

UPLOAD_LIMIT_BYTES = 7_000_000
"""Jupyter's websocket takes messages of 10 MiB, a file is a third longer as text; more would be dropped silently."""

_LISTED = 500


class SoundPicker(ipywidgets.VBox):
    """Choose a sound: type a path, pick from a folder, upload a file, or be handed a clip.

    Args:
        label: what the sound is for.
        on_change: called with the sound, or none, whenever another one is chosen.
        guarded: wraps callbacks so that their errors are shown.
    """

    def __init__(self, label: str, on_change: Callable[[Source | None], object], guarded: Callable[..., Any]):
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
        self.path.observe(guarded(lambda change: self._go_to(change["new"])), "value")
        self._name = ipywidgets.HTML()
        row = [self.path]
        if not in_colab():  # where messages are smaller still
            row.append(Upload(guarded(lambda name, content: self.take(clip_of_bytes(name, content)))))
        super().__init__([ipywidgets.HBox(row, layout=ipywidgets.Layout(flex_flow="row wrap")), self._name])
        self._show(None)

    def chosen(self) -> Callable[[Checkpoint], Clip]:
        """Return a function that gives what is chosen now; a clip of loaded settings is made again by it.

        Raises:
            ValueError: nothing is chosen.
        """
        if self._sound is None:
            raise ValueError("Choose a sound first: type a path, upload a file, or press a button below a clip.")
        return partial(self._made, self._sound)

    def _made(self, chosen: Clip | Mapping[str, Any], ckpt: Checkpoint) -> Clip:
        if not isinstance(chosen, Mapping):
            return chosen
        same = chosen["model"].get("weights_sha256") == ckpt.info["weights_sha256"]
        clip = remake(dict(chosen), ckpt if same else None)[0]
        if self._sound is chosen:  # and nothing else since
            self.take(clip)
        return clip

    def take(self, sound: Clip | str | Path) -> None:
        """Choose a clip or a file; what ddnb made is known by the record beside it."""
        clip = sound if isinstance(sound, Clip) else read_clip(sound)
        source = source_of(clip)
        self._sound, self._path = clip, "" if clip is sound else str(sound)
        self.path.value = self._path
        self._show(source)

    @property
    def state(self) -> dict[str, Any]:
        """What is chosen, as JSON: a path, or the record of a clip."""
        if self._path:
            return {"path": self._path}
        if isinstance(self._sound, Mapping):
            return {"record": dict(self._sound)}
        if self._sound is None:
            return {}
        record = source_of(self._sound).record
        return {"record": _short(record["record"])} if "record" in record else {"upload": record["name"]}

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
            self._name.value = "A clip of these settings: it is made again when it is needed."
        elif "upload" in state:
            self._name.value = html.escape(f"{state['upload']} was uploaded: please do it again.")

    def _go_to(self, text: str) -> None:
        text = text.strip().strip("\"'")
        if not text:
            return
        path = Path(text).expanduser()
        if path.is_dir():
            self.path.options = [str(p) for p in sound_files(path)[:_LISTED]]
            self._name.value = f"{len(self.path.options)} sounds in this folder: empty the field to pick one of them"
            return
        if str(path) != self._path:
            self.take(path)

    def _show(self, source: Source | None) -> None:
        if source is None:
            self._name.value = "<span style='opacity:.7'>No sound yet.</span>"
        else:
            what = f"{source.name}, {source.duration_s:.2f} s, {source.sample_rate} Hz"
            self._name.value = html.escape(what)
        self._on_change(source)


# Scripts never run in a widget, attributes of elements do. This one looks at the size first: ipywidgets' own FileUpload
# sends whatever is chosen, the connection drops what is too large, and the widget waits for an answer for ever.
_READ = (
    "var file=this.files[0],said=this.closest('div').querySelector('output');if(!file)return;"
    "if(file.size>LIMIT){said.textContent=file.name+' has '+Math.round(file.size/1e6)+' MB; uploads go up to '+"
    "LIMIT/1e6+' MB. Put it into a folder that the notebook sees, and type its path.';this.value='';return}"
    "said.textContent='';"
    "var reader=new FileReader(),field=this.closest('.ddnb-upload').querySelector('.ddnb-file input');"
    "reader.onload=function(){field.value=JSON.stringify([file.name,reader.result.split(',')[1]||'']);"
    "field.dispatchEvent(new Event('change',{bubbles:true}))};reader.readAsDataURL(file)"
).replace("LIMIT", str(UPLOAD_LIMIT_BYTES))


class Upload(ipywidgets.VBox):
    """A file of the visitor's computer; ``on_file(name, content)`` is called with each."""

    def __init__(self, on_file: Callable[[str, bytes], object]):
        limit = f"up to {UPLOAD_LIMIT_BYTES / 1e6:.0f} MB"
        choose = ipywidgets.HTML(
            f"<div><label>upload, {limit}: <input type='file' accept='audio/*' style='color:inherit;max-width:100%' "
            f'onchange="{html.escape(_READ)}"></label> <output></output></div>'
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


def _short(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record without what is not needed to make its sound again."""
    needed = ("name", "source", "sample_rate", "frames", "weights_sha256")
    return {**record, "model": {k: v for k, v in record["model"].items() if k in needed}}


def clip_of_bytes(name: str, content: bytes, limit_bytes: int | None = UPLOAD_LIMIT_BYTES) -> Clip:
    """Return a sound file that came as bytes as a clip; its name is kept, wherever it pretends to lie.

    Raises:
        ValueError: it is larger than ``limit_bytes``, or no sound.
    """
    name = Path(name.replace("\\", "/")).name
    if limit_bytes is not None and len(content) > limit_bytes:
        raise ValueError(
            f"{name} has {len(content) / 1e6:.0f} MB; uploads go up to {limit_bytes / 1e6:.0f} MB. Put it into a "
            "folder that the notebook sees, and type its path."
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / (safe_name(Path(name).stem) + Path(name).suffix[:8])
        path.write_bytes(content)
        try:
            audio, rate = read(path)
        except ValueError as error:
            raise ValueError(str(error).replace(path.name, name)) from error
    source = {"name": name, "sha256": hashlib.sha256(content).hexdigest()}
    return Clip(audio, rate, 0, {"source": source, "model": {"name": Path(name).stem}})
