"""``remake``: make a saved sound, or a whole pack, again from its record.

A record may come from anybody. By itself it opens names of ``list_checkpoints()`` and files beside it or in the working
folder, and never a link.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from ..checkpoints.blend import blend
from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.download import SCHEMES
from ..checkpoints.loading import load
from ..checkpoints.registry import list_checkpoints
from ..clips.clip import Clip, Clips
from ..clips.provenance import InputRecord, Making, ModelRecord, Plain, Provenance, at, in_file, not_a_record
from ..clips.record import SoundRecord, is_pack, read_record, records_of
from ..clips.source import AnySound, bare_clip, input_clip, input_record
from ..display.text import counted
from ..errors import ArgumentError, Cancelled, CheckpointError, FormatOverridden, Interrupted, RecordError
from ..files import expand, file_sha256
from ..notices import ignore_warnings, warn
from ..runtime import DTYPES, is_available
from .beat import beat
from .extend import extend
from .generate import generate
from .inpaint import inpaint
from .interpolate import interpolate
from .length import LoopOptions
from .levels import NETWORK
from .options import SamplingOptions
from .vary import vary

Networks = Checkpoint | str | Path | Sequence[Checkpoint | str | Path]
"""A checkpoint, what ``load`` takes, or several of them."""

Sounds = Sequence[AnySound] | str | Path

_FORMER = {
    "2798e3db132531e46c45d3403085e454e0174b53ec33c34450c0284239cdfec8": "the drums network of version 0.1, which is "
    "tests/data/v0.1/drums.safetensors in the repository of ddnb"
}
"""Networks that were once part of the package, by the hash of their weights."""

_MAX_EDITS = 100
_ANY_CENTS = 12_000.0  # the pitch shift of a loop was accepted when it was made

_SAMPLING = tuple(f.name for f in fields(SamplingOptions))
_LOOP = tuple(f.name for f in fields(LoopOptions))

VERBS: dict[str, tuple[Callable[..., Clips], tuple[str, ...], tuple[str, ...]]] = {
    "generate": (generate, (), (*_SAMPLING, *_LOOP, "width")),
    "vary": (vary, ("source",), (*_SAMPLING, *_LOOP, "strength", "offset_s", "match_level")),
    "interpolate": (interpolate, ("a", "b"), (*_SAMPLING, "to_category", "depth", "exact")),
    "inpaint": (inpaint, ("source",), (*_SAMPLING, "start_s", "end_s", "method", "loop")),
    "extend": (extend, ("source",), (*_SAMPLING, "duration_s", "backwards", "method")),
}
"""The function, the inputs and the arguments of each verb, by their names in ``Making``."""


_REQUIRED = {"inpaint": ("start_s", "end_s"), "extend": ("duration_s",)}
"""The arguments without which a verb cannot be called."""


def remake(
    record: str | Path | dict[str, Any], ckpt: Networks | None = None, sounds: Sounds | None = None
) -> Clips | list[Clip]:
    """Make a saved sound again from its JSON record: sample for sample on a CPU, within rounding on a GPU.

    Args:
        record: the JSON file beside a WAV file, the WAV file, or the record itself; or a whole pack: its ZIP file, its
            ``manifest.json``, or the content of that.
        ckpt: the checkpoint, where the record's own source is a link, or a file that is not here; several of them for
            sounds of several. Each is used for the sounds that were made with its weights. A path is loaded on the
            record's device, in its precision and format.
        sounds: the input audio of the record, or a folder that holds it, at any depth; by default it is looked for
            beside the record. Input that was itself made by ddnb is remade; other input is found by its SHA-256.

    Returns:
        One clip, before the gain that the file may have got, but with its earlier edits applied. For a pack a list of
        clips, one per record in its order; one that lacks an input or its checkpoint is skipped with a warning.

    Raises:
        FileNotFoundError: no such record, or an input is missing (for a pack: of all its sounds).
        RecordError: not a record, or a checkpoint with other weights than the record's.
        CheckpointError: the checkpoint cannot be opened; pass it as ``ckpt``.
    """
    made = remake_all(record, ckpt, sounds)
    if is_pack(_read(record)[0]):
        return [clip for _, clip in made]
    clip = made[0][1]
    return Clips(clip.audio[None], clip.sample_rate, [clip.seed], clip.provenance)


def remake_all(
    record: str | Path | dict[str, Any], ckpt: Networks | None = None, sounds: Sounds | None = None
) -> list[tuple[SoundRecord, Clip]]:
    """Return each record of a sound or of a pack with its clip. See ``remake``, also for what is raised."""
    content, folder, name = _read(record)
    if sounds is not None and not isinstance(sounds, str | Path):  # what is no sound is no fault of the record
        sounds = [each if isinstance(each, str | Path) else input_clip(each) for each in sounds]
    maker = _Maker(_Networks(ckpt, folder), sounds, folder)
    with in_file(name):
        records = records_of(content)
        if is_pack(content):
            return _remake_pack(maker, records)
        return [(records[0], maker.remake(records[0].provenance))]


def _remake_pack(maker: _Maker, records: Sequence[SoundRecord]) -> list[tuple[SoundRecord, Clip]]:
    made: list[tuple[SoundRecord, Clip]] = []
    refusal: Exception = RecordError("This pack's manifest lists no sound.")
    for number, each in enumerate(records):
        try:
            with at(f"sounds[{number}]"):
                made.append((each, maker.remake(each.provenance)))
        except (FileNotFoundError, CheckpointError, _OtherWeights) as error:
            refusal = error
            warn(f"Skipped {each.file.name}: {error}", stacklevel=3)
        except Cancelled as error:
            if not made:
                raise
            warn(f"interrupted after {counted(len(made), 'sound')} ({error})", Interrupted, stacklevel=3)
            break
    if not made:
        raise refusal
    return made


def _read(record: str | Path | dict[str, Any]) -> tuple[Any, Path | None, str]:
    """Return the content of a record, the folder it was found in, and its name."""
    if isinstance(record, str | Path):
        path = expand(record)
        name = path.with_suffix(".json").name if path.suffix.lower() == ".wav" else path.name
        return read_record(path), path.parent, name
    return record, None, ""


class _OtherWeights(RecordError):
    """None of the networks that were given made the sound."""


@dataclass
class _Maker:
    """Makes the sounds of records: with these networks, from input in these places."""

    networks: _Networks
    sounds: Sounds | None
    folder: Path | None

    def remake(self, provenance: Provenance) -> Clip:
        """Make what a provenance describes, and apply its edits."""
        if provenance.making is None:
            if provenance.source is None:
                raise not_a_record("it has neither 'making' nor 'source'")
            with at("source"):
                clip = input_clip(self._find_input(provenance.source))
            clip = replace(clip, provenance=Provenance(source=provenance.source, model=provenance.model))
        else:
            clip = self._make(provenance, provenance.making)
        edited = _apply_edits(clip, provenance)
        making = clip.provenance.making
        if making is not None and provenance.making is not None:  # the note was given to it, whatever it was from
            making = replace(making, note_from=provenance.making.note_from, key=provenance.making.key)
        note = provenance.root_note or (making.root_note if making else None)  # the record of an input has none
        made_by = replace(clip.provenance, making=making, edits=provenance.edits, root_note=note)
        return replace(edited, provenance=made_by)

    def _make(self, provenance: Provenance, making: Making) -> Clip:
        """Make a sound by its verb; what the verb refuses is wrong in the record."""
        try:
            return self._make_beat(provenance, making) if making.verb == "beat" else self._make_by(provenance, making)
        except ArgumentError as error:
            raise not_a_record(str(error), "making") from error

    def _make_by(self, provenance: Provenance, making: Making) -> Clip:
        if making.verb not in VERBS:
            raise not_a_record(f"got {making.verb!r}, allowed: {', '.join(VERBS)}, beat", "making.verb")
        make, inputs, names = VERBS[making.verb]
        given = {name: value for name in names if (value := getattr(making, name, None)) is not None}
        given = {"category": {}} | given  # stated, or that of the input would count
        wanted: list[InputRecord] = [getattr(making, name) for name in inputs]
        _require("making", making, "seed", "frames", *inputs, *_REQUIRED.get(making.verb, ()))
        rate = _sample_rate(provenance)
        ckpt = self.networks.find(provenance)
        if make is interpolate and all(end.seed is not None for end in wanted):
            sources: list[Any] = [end.seed for end in wanted]
        else:
            sources = [self._find_part(f"making.{name}", each) for name, each in zip(inputs, wanted, strict=True)]
        if making.note_hz is not None:
            given |= {"note": float(making.note_hz), "key": None}
        duration_s = (making.frames or 0) / rate
        if make in (generate, vary, interpolate):  # whose level is among the edits, or as vary was asked for
            given["level"] = making.level or NETWORK
        if make is interpolate:
            given |= {"n": making.asked, "places": [making.seed], "duration_s": duration_s}
            return _first(make(ckpt, *sources, **given))
        if make in (generate, vary):
            given |= {} if making.bpm is not None else {"duration_s": duration_s}
            given |= {"max_cents": _ANY_CENTS} if making.loop else {}
        return _first(make(ckpt, *sources, n=1, seed=making.seed, **given))

    def _make_beat(self, provenance: Provenance, making: Making) -> Clip:
        _require("making", making, "tracks", "sounds")
        rate = _sample_rate(provenance)
        parts = (making.sounds or {}).items()
        clips = {track: self._find_part(f"making.sounds.{track}", source) for track, source in parts}
        numbers: dict[str, Any] = {"bpm": making.bpm, "bars": making.bars, "swing": making.swing}
        made = beat(None, {"tracks": making.tracks}, sounds=clips, seed=making.seed or 0, level=NETWORK, **numbers)
        return replace(replace(made, sample_rate=rate).clip, provenance=provenance)

    def _find_part(self, place: str, wanted: InputRecord) -> AnySound:
        with at(place):
            return self._find_input(wanted)

    def _find_input(self, wanted: InputRecord) -> AnySound:
        """Return the input of another sound: made again, or found by its SHA-256."""
        if wanted.provenance is not None:
            with at("record"):
                return self.remake(wanted.provenance)
        _require("", wanted, "name", "sha256")
        name = Path(wanted.name or "").name or "?"  # in no other folder
        if isinstance(self.sounds, str | Path):
            sounds = expand(self.sounds)
            places: list[Any] = [sounds] if sounds.is_file() else sorted(sounds.rglob(glob.escape(name)))
        else:
            beside = [place / name for place in (self.folder, Path()) if place is not None]
            places = [*(self.sounds or ()), *beside]
        for place in places:
            if isinstance(place, str | Path) and not expand(place).is_file():
                continue
            if _sha256(place) == wanted.sha256:  # what the record calls it counts, not a record beside it
                return bare_clip(place) if isinstance(place, str | Path) else place
        raise FileNotFoundError(
            f"This sound was made from {name}, which was not found, or has changed since: say where it is, with "
            "remake(..., sounds=FOLDER), on the command line --sounds FOLDER."
        )


def _apply_edits(clip: Clip, provenance: Provenance) -> Clip:
    if len(provenance.edits) > _MAX_EDITS:
        raise not_a_record(f"{len(provenance.edits)} edits, allowed: {_MAX_EDITS}", "edits")
    for number, edit in enumerate(provenance.edits):
        try:
            clip = clip.edited(edit)
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            raise not_a_record(f"an invalid edit ({str(error).rstrip('.')})", f"edits[{number}]") from error
    return clip


def _require(place: str, part: Plain, *names: str) -> None:
    for name in names:
        if getattr(part, name) is None:
            raise not_a_record("missing", f"{place}.{name}" if place else name)


def _sample_rate(provenance: Provenance) -> int:
    model = provenance.model or ModelRecord()
    _require("model", model, "sample_rate")
    return model.sample_rate or 0


def _first(clips: Clips) -> Clip:
    if not clips:
        raise Cancelled("interrupted before the sound was finished")
    return clips[0]


def _sha256(sound: AnySound) -> str | None:
    if isinstance(sound, str | Path):
        return file_sha256(expand(sound))
    return input_record(input_clip(sound)).sha256


class _Format(NamedTuple):
    """How a checkpoint was loaded, by the arguments of ``load``."""

    device: str
    dtype: str
    sample_rate: int
    frames: int


@dataclass
class _Networks:
    """The networks of records: given, of the registry, or in a file beside the record; each is opened once."""

    given: Any
    folder: Path | None
    opened: dict[tuple[str, str, str], Checkpoint] = field(default_factory=dict)

    def __post_init__(self) -> None:
        one = self.given is None or isinstance(self.given, Checkpoint | str | Path)
        given = [self.given] if one else list(self.given)
        # those that are open come first
        self.given = sorted((each for each in given if each is not None), key=lambda g: not isinstance(g, Checkpoint))

    def find(self, provenance: Provenance) -> Checkpoint:
        """Return the network of a record: with its weights, in its format.

        Raises:
            CheckpointError: it cannot be opened.
            RecordError: damaged; or the networks that were given made other sounds.
        """
        model, machine = provenance.model, provenance.machine
        if model is None or machine is None or None in (model.source, model.weights_sha256, model.frames):
            raise not_a_record("it does not state its checkpoint and machine")
        if machine.dtype not in DTYPES:
            raise not_a_record(f"got {machine.dtype!r}, allowed: {', '.join(DTYPES)}", "machine.dtype")
        here = _Format(str(machine.device), str(machine.dtype), model.sample_rate or 0, model.frames or 0)
        if model.blend:
            ckpt = self._find_blend(model, here)
        else:
            ckpt = self._find_one(model.name, str(model.source), str(model.weights_sha256), here)
        found = str(ckpt.device), str(ckpt.dtype).removeprefix("torch.")
        if found != (here.device, here.dtype):
            warn(f"made on {here.device} in {here.dtype}, now on {found[0]} in {found[1]}: not exact", stacklevel=2)
        # the same weights may have been loaded at two rates
        return replace(ckpt, sample_rate=here.sample_rate, frames=here.frames)

    def _find_blend(self, model: ModelRecord, here: _Format) -> Checkpoint:
        """Return a blend: one that was given, or made again of its parts."""
        for given in self.given:
            if isinstance(given, Checkpoint) and given.info["weights_sha256"] == model.weights_sha256:
                return given
        parts = [self._find_one(part.name, part.source, part.weights_sha256, here) for part in model.blend]
        if len(parts) < 2:
            raise not_a_record("a blend of fewer than two checkpoints")
        try:
            return blend(parts[0], parts[1:], [part.weight or 0.0 for part in model.blend[1:]])
        except ArgumentError as error:
            raise not_a_record(f"its blend is impossible: {error}") from error

    def _find_one(self, name: str, source: str, sha256: str, here: _Format) -> Checkpoint:
        others = []
        for place in self._places(source):
            try:
                ckpt = self._open(place, here)
            except (FileNotFoundError, CheckpointError) as error:
                raise CheckpointError(f"{_advice(source)} {error}") from error
            if ckpt.info["weights_sha256"] == sha256:
                return ckpt
            others.append(ckpt.name)
        if not others:
            raise CheckpointError(f"{_advice(source)} It is neither beside the record nor in the working folder.")
        if sha256 in _FORMER:
            raise _OtherWeights(
                f"This sound was made with {_FORMER[sha256]}: pass that file, as remake(..., ckpt=PATH), on the "
                "command line --checkpoint PATH."
            )
        raise _OtherWeights(
            f"{others[0]} has other weights than the {name} that made this sound. If it was trained further since, "
            "one of the best-step files of its run may be the right one."
        )

    def _places(self, source: str) -> Iterator[Checkpoint | str | Path]:
        """Yield where it may be; the author of a record must not choose what is downloaded, or opened elsewhere."""
        yield from self.given
        if source in list_checkpoints():
            yield source
        elif not source.startswith(SCHEMES) and source not in ("", "..") and Path(source).name == source:
            files = [folder / source for folder in (self.folder, Path()) if folder is not None]
            yield from [file for file in files if file.exists()][:1]

    def _open(self, place: Checkpoint | str | Path, here: _Format) -> Checkpoint:
        if isinstance(place, Checkpoint):
            return place
        key = (str(place), here.device, here.dtype)
        if key not in self.opened:
            with ignore_warnings(FormatOverridden):  # the format may be that of another sound
                options = here._asdict() | {"device": here.device if is_available(here.device) else None}
                self.opened[key] = load(place, **options)
        return self.opened[key]


def _advice(source: str) -> str:
    """Return what to do about a checkpoint that a record names."""
    made = f"This sound was made with {source}; "
    if source.startswith(SCHEMES):
        return (
            f"{made}if you trust it, load it and pass it: remake(..., ckpt=ddnb.load({source!r})), on the command line "
            f"--checkpoint {source}."
        )
    return f"{made}say where it is: remake(..., ckpt=PATH), on the command line --checkpoint PATH."
