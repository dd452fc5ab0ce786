"""Provenance: how a sound was made, as frozen dataclasses with a plain JSON form.

A record may come from anybody, so ``from_dict`` checks every value that it takes over: its type, its range, and how
deeply sounds were made from each other. Keys that are not known here are ignored.
"""

from __future__ import annotations

import datetime
import json
import reprlib
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import torch

from ..audio.notes import HIGHEST_HZ, LOWEST_HZ, hz_key, note_name
from ..checkpoints.blend import MOST
from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.download import SCHEMES
from ..checkpoints.registry import list_checkpoints
from ..errors import RecordError

ASKED, DRAWN, TRACKED = "asked for", "drawn by the seed", "tracked in the input"
"""Where the note of a sound is from."""

MAX_CLIPS = 10_000
"""Clips of one call at most."""

_ANOTHER = 0.5  # the strength from which on a variation takes the note that was asked for
_MAX_DEPTH = 100  # sounds made from sounds made from sounds
_RANGES = {
    "seed": (0, 2**63 - 1),
    "asked": (0, MAX_CLIPS),
    "bars": (0, 10_000),
    "beats_per_bar": (0, 10_000),
    "bpm": (20, 999),
    "note": (0, 127),
    "note_hz": (LOWEST_HZ, HIGHEST_HZ),
    "sample_rate": (1000, 768_000),
    "frames": (1, 2**31),
    "gain_db": (-1000, 1000),
    "weight": (0, MOST),
}

_LARGEST = 1e30  # of numbers without a range of their own
_LONGEST_SHOWN = 60  # characters of a value in a message
_JSON_TYPES: dict[Any, str] = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}

T = TypeVar("T")


class Plain:
    """A dataclass that becomes a JSON object without its empty fields, and is read back with every value checked."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; fields that are None or empty are left out."""
        plain = {f.metadata.get("key", f.name): _to_plain(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]
        return {key: value for key, value in plain.items() if value is not None and value != {} and value != []}

    @classmethod
    def from_dict(cls: type[T], data: Any, depth: int = 0) -> T:
        """Return the object whose JSON form is ``data``.

        Raises:
            RecordError: a value of another type or out of its range, a missing one, or records nested too deeply.
        """
        if depth > _MAX_DEPTH:
            raise RecordError(
                f"This record is nested too deeply: at most {_MAX_DEPTH} sounds may be made from each other."
            )
        if not isinstance(data, Mapping):
            raise not_a_record(_wrong(data, "an object"))
        given = {}
        for f in fields(cls):  # type: ignore[arg-type]
            key = f.metadata.get("key", f.name)
            if data.get(key) is not None:
                with at(key):
                    given[f.name] = _parse(_hints(cls)[f.name], data[key], key, depth)  # type: ignore[arg-type]
            elif f.default is MISSING and f.default_factory is MISSING:
                raise not_a_record("missing", key)
        return cls(**given)


@dataclass(frozen=True)
class InputRecord(Plain):
    """The input of a verb: a file or an array known by its SHA-256, a seed, or a sound with a provenance of its own."""

    name: str | None = None
    sha256: str | None = None
    seed: int | None = None
    provenance: Provenance | None = field(default=None, metadata={"key": "record"})

    def __post_init__(self) -> None:
        if self.name is None and self.seed is None:
            raise not_a_record("an input has neither a name nor a seed")


@dataclass(frozen=True)
class Making(Plain):
    """The call that made a sound: the verb, and those of its arguments that determine the samples.

    ``seed`` and ``note_hz`` are those of the clip; ``asked`` is the number of clips of the call, of which fewer may be
    finished.
    """

    verb: str | None = None
    source: InputRecord | None = None
    a: InputRecord | None = None
    b: InputRecord | None = None
    sampler: str | None = None
    method: str | None = None
    grid: str | None = None
    steps: int | None = None
    category: Mapping[str, float] | None = None
    to_category: Mapping[str, float] | None = None
    note_hz: float | None = None
    note_from: str | None = None
    key: str | None = None
    guidance_scale: float | None = None
    guidance_interval: tuple[float, ...] | None = None
    guidance_rescale: float | None = None
    frames: int | None = None
    asked: int | None = None
    duration_s: float | None = None
    bpm: float | None = None
    bars: int | None = None
    beats_per_bar: int | None = None
    loop: bool | None = None
    start_on_onset: bool | None = None
    cents: float | None = None
    width: float | None = None
    strength: float | None = None
    offset_s: float | None = None
    match_level: bool | None = None
    level: str | None = None
    depth: float | None = None
    exact: bool | None = None
    round_trip_db: tuple[float, ...] | None = None
    start_s: float | tuple[float, ...] | None = None
    end_s: float | tuple[float, ...] | None = None
    backwards: bool | None = None
    source_s: float | None = None
    pattern: str | None = None
    tracks: Mapping[str, str] | None = None
    swing: float | None = None
    sounds: Mapping[str, InputRecord] | None = None
    seed: int | None = None

    @property
    def heard_hz(self) -> float | None:
        """The pitch that the sound has: a note asked for changes little of a sound that stays or is only filled in."""
        heard = self.verb == "generate" or self.note_from != ASKED or (self.strength or 0) >= _ANOTHER
        return self.note_hz if heard else None

    @property
    def root_note(self) -> RootNote | None:
        """The note of that pitch."""
        return None if self.heard_hz is None else RootNote.of(self.heard_hz, self.note_from or "")


@dataclass(frozen=True)
class BlendPart(Plain):
    """A checkpoint of a blend, with its weight; the first one is the start, which has none."""

    name: str
    source: str
    weights_sha256: str
    weight: float | None = None


@dataclass(frozen=True)
class ModelRecord(Plain):
    """The checkpoint that made a sound; for input audio its name alone."""

    name: str = "sound"
    source: str | None = None
    sample_rate: int | None = None
    frames: int | None = None
    weights_sha256: str | None = None
    licence: str | None = None
    credit: str | None = None
    converted_from: str | None = None
    finetuned_from: str | None = None
    data_sha256: str | None = None
    peak_dbfs: float | None = None
    blend: tuple[BlendPart, ...] = ()


@dataclass(frozen=True)
class Machine(Plain):
    """The device, precision, versions and date with which a sound was made."""

    ddnb: str | None = None
    torch: str | None = None
    device: str | None = None
    dtype: str | None = None
    date: str | None = None


@dataclass(frozen=True)
class RootNote(Plain):
    """The note on which a sound stands: its MIDI key, the name of that, the deviation, and how it was found."""

    note: int
    name: str = ""
    cents: float = 0.0
    how: str = ""

    @classmethod
    def of(cls, hz: float, how: str) -> RootNote:
        """Return the note of a pitch in Hz."""
        key = hz_key(hz)
        return cls(round(key), note_name(round(key)), round(100 * (key - round(key)), 1), how)


@dataclass(frozen=True)
class Provenance(Plain):
    """The complete description of how a sound was made.

    Attributes:
        making: the call that made it; none for input audio.
        source: the file or array that it is, for input audio.
        model: the checkpoint.
        machine: device, precision, versions, date.
        edits: what was done to the samples since, see ``audio.mastering``, in this order.
        root_note: the note on which it stands, where that is certain.
    """

    making: Making | None = None
    source: InputRecord | None = None
    model: ModelRecord | None = None
    machine: Machine | None = None
    edits: tuple[Mapping[str, Any], ...] = ()
    root_note: RootNote | None = None


class NotARecord(RecordError):
    """JSON that is no record of a sound: what is wrong, at which place, such as ``making.steps``, in which file."""

    def __init__(self, why: str, place: str = "", file: str = ""):
        self.why, self.place, self.file = why, place, file
        told = f"{place}: {why}" if place else why
        super().__init__(f"{file or 'This'} is not a record of a sound made by ddnb: {told}.")


def not_a_record(why: str, place: str = "") -> NotARecord:
    """Return the error for JSON that is no provenance record, or damaged at this place."""
    return NotARecord(why.rstrip("."), place)


@contextmanager
def at(place: str) -> Iterator[None]:
    """Put a place, ``making`` or ``[2]``, before that of an error."""
    try:
        yield
    except NotARecord as error:
        whole = place + ("." if error.place and not error.place.startswith("[") else "") + error.place
        raise NotARecord(error.why, whole, error.file) from error.__cause__


@contextmanager
def in_file(name: str) -> Iterator[None]:
    """Put the name of the file into an error; an empty name is none."""
    try:
        yield
    except NotARecord as error:
        raise NotARecord(error.why, error.place, name) from error.__cause__


def model_record(ckpt: Checkpoint) -> ModelRecord:
    """Describe a checkpoint without revealing a folder of anybody's disk or a token in a link."""
    known = {f.name for f in fields(ModelRecord)}
    facts = {name: value for name, value in ckpt.info.items() if name in known}
    facts |= {"name": ckpt.name, "source": _public_source(ckpt.info["source"])}
    parts = (part | {"source": _public_source(part["source"])} for part in ckpt.info.get("blend", ()))
    facts["blend"] = tuple(BlendPart(**part) for part in parts)
    return ModelRecord(**facts, sample_rate=ckpt.sample_rate, frames=ckpt.frames)


def provenance_of(ckpt: Checkpoint, making: Making) -> Provenance:
    """Return the provenance of sounds that this checkpoint has just made."""
    machine = this_machine(str(ckpt.device), str(ckpt.dtype).removeprefix("torch."))
    return Provenance(making, None, model_record(ckpt), machine)


def this_machine(device: str = "cpu", dtype: str = "float32") -> Machine:
    """Return versions and date, with the device and the precision that were used."""
    date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    return Machine(package_version(), torch.__version__, device, dtype, date)


def _public_source(source: str) -> str:
    if source.startswith(SCHEMES):
        return source.partition("?")[0]
    return source if source in list_checkpoints() else Path(source).name


def package_version() -> str:
    """Return the version of this package."""
    try:
        return version("ddnb")
    except PackageNotFoundError:  # a checkout on the path, not installed
        return "checkout"


# --- between dataclasses and JSON ---


def _to_plain(value: Any) -> Any:
    if isinstance(value, Plain):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {key: _to_plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(each) for each in value]
    return value


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls)


def _parse(kind: Any, value: Any, key: str, depth: int) -> Any:
    """Return a JSON value as the annotation of its field asks for."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        options = [option for option in arguments if option is not type(None)]
        fitting = [option for option in options if _fits(option, value)]
        if not fitting:
            raise not_a_record(_wrong(value, " or ".join(map(_describe, options))))
        return _parse(fitting[0], value, key, depth)
    if not _fits(kind, value):
        raise not_a_record(_wrong(value, _describe(kind)))
    if isinstance(kind, type) and issubclass(kind, Plain):
        return kind.from_dict(value, depth + (kind is Provenance))
    if origin is tuple:
        return tuple(_parse_part(arguments[0], each, key, depth, f"[{i}]") for i, each in enumerate(value))
    if origin is Mapping:
        return {name: _parse_part(arguments[1], each, key, depth, str(name)) for name, each in value.items()}
    if kind in (int, float):
        low, high = _RANGES.get(key, (-_LARGEST, _LARGEST))
        if not low <= value <= high:  # NaN too
            raise not_a_record(f"got {_shown(value)}, allowed: {low:g} to {high:g}")
    return value


def _parse_part(kind: Any, value: Any, key: str, depth: int, place: str) -> Any:
    with at(place):
        return _parse(kind, value, key, depth)


def _fits(kind: Any, value: Any) -> bool:
    """Return whether a JSON value has the outer type of an annotation."""
    origin = get_origin(kind)
    if kind is Any:
        return True
    if origin is tuple:
        return isinstance(value, list | tuple)
    if origin is Mapping or (isinstance(kind, type) and issubclass(kind, Plain)):
        return isinstance(value, Mapping)
    if kind in (int, float):
        return isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
    return isinstance(value, kind)


def _describe(kind: Any) -> str:
    """Return what JSON calls the outer type of an annotation."""
    if get_origin(kind) is tuple:
        return "a list"
    return _JSON_TYPES.get(kind, "an object")


def _wrong(value: Any, wanted: str) -> str:
    return f"got {_shown(value)}; give {wanted}"


def _shown(value: Any) -> str:
    """Return a JSON value as it stands in the file, cut."""
    plain = isinstance(value, str | bool | float) or value is None
    text = json.dumps(value, ensure_ascii=False) if plain else reprlib.repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
