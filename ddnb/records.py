"""Make a sound again from what was written down about it, and take up saved ones."""

from __future__ import annotations

import glob
import json
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, reduce
from pathlib import Path
from typing import Any

from .audio import SUBTYPES
from .beats import beat
from .checkpoints import Checkpoint, list_checkpoints, load
from .clips import Clip, Clips
from .download import SCHEMES
from .edits import extend, inpaint
from .engine import MAX_CLIPS, AnySound, own_clip, source_of, whole, within
from .files import file_sha256
from .finish import apply, note_name
from .formats import CheckpointError
from .interpolation import interpolate
from .runtime import is_available
from .verbs import generate, vary

_SAMPLING = ("category", "guidance_scale", "guidance_interval", "guidance_rescale", "steps", "sampler", "grid")
_TEMPO = ("loop", "bpm", "bars", "beats_per_bar", "start_on_onset")
_ANY_CENTS = 12_000.0  # what a loop cost was accepted then

_LARGEST = 64 << 20  # bytes of JSON: some 30,000 sounds; parsed it is ten times as large
_DEEPEST = 100  # sounds that were made from each other
_FOLDERS_UP = 3  # from a sound of an unpacked pack to its manifest
_GROUPS = ("file", "music", "level", "making", "model", "machine", "source")
_NUMBERS = {"seed": 2**63 - 1, "asked": MAX_CLIPS, "bars": 10_000, "beats_per_bar": 10_000}  # at most

PACK = "ddnb pack"
"""By this key, which holds its version, the manifest of a pack is known."""

VERSION = 1

Networks = Checkpoint | str | Path | Sequence[Checkpoint | str | Path]
"""A checkpoint, what ``load`` takes, or several of them."""

VERBS = {
    "generate": (generate, (), (*_SAMPLING, *_TEMPO, "width")),
    "vary": (vary, ("source",), (*_SAMPLING, *_TEMPO, "strength", "offset_s", "match_level")),
    "interpolate": (interpolate, ("a", "b"), (*_SAMPLING, "to_category", "depth", "exact")),
    "inpaint": (inpaint, ("source",), (*_SAMPLING, "start_s", "end_s", "method", "loop")),
    "extend": (extend, ("source",), (*_SAMPLING, "duration_s", "backwards", "method")),
}
"""Function, sounds and arguments of each verb, by their names in a record."""


def remake(
    record: str | Path | dict[str, Any],
    ckpt: Networks | None = None,
    sounds: Sequence[AnySound] | str | Path | None = None,
) -> Clips | list[Clip]:
    """Make a saved sound again from its JSON file: sample for sample on a CPU, within rounding on a GPU.

    A record may be from anybody: by itself it opens names of ``list_checkpoints()`` and files that lie beside it or in
    the working folder, and never a link.

    Args:
        record: the JSON file beside a WAV file, the WAV file, or the record itself; or a whole pack: its ZIP file, its
            ``manifest.json``, or what that holds.
        ckpt: the checkpoint, where the record's own source is a link, or a file that is not here; several of them for
            sounds of several. Each goes to the sounds that were made with its weights. A path is loaded on the
            record's device, in its precision and format.
        sounds: the sounds that it was made from, or a folder in which they are, at any depth; by default they are
            looked for beside the record. Sounds that were themselves made are made again; one that was brought along
            is found by its SHA-256.

    Returns:
        One clip, before the gain that the file may have got, but after what was done to it earlier (``edits``). Of a
        pack a list of clips, one per record in its order; one that lacks a sound or its checkpoint is left out, with a
        warning.

    Raises:
        FileNotFoundError: no such record, or a sound that it was made from is missing; of a pack, from all of them.
        ValueError: not a record, or a checkpoint with other weights than the record's.
        CheckpointError: the checkpoint cannot be had; pass it as ``ckpt``.
    """
    record, folder = _taken(record)
    if PACK in record:
        return [clip for _, clip in _remake_all(record, _Networks(ckpt, folder), sounds, folder)]
    return _remake(record, _Networks(ckpt, folder), sounds, folder)


def remade(
    record: str | Path | dict[str, Any],
    ckpt: Networks | None = None,
    sounds: Sequence[AnySound] | str | Path | None = None,
) -> list[tuple[dict[str, Any], Clip]]:
    """Each record with its clip, of one sound or of a pack. See ``remake``, also for what is raised."""
    record, folder = _taken(record)
    networks = _Networks(ckpt, folder)
    if PACK in record:
        return _remake_all(record, networks, sounds, folder)
    return [(record, clip) for clip in _remake(record, networks, sounds, folder)]


def _taken(record: str | Path | dict[str, Any]) -> tuple[dict[str, Any], Path | None]:
    """A record that can be worked with, and the folder it was found in."""
    folder = None
    if not isinstance(record, dict):
        folder = Path(record).expanduser().parent
        record = read_record(Path(record).expanduser())
    if isinstance(record, dict) and PACK in record:
        _records_of(record)
    else:
        _require_record(record)
    return record, folder


def _remake_all(
    manifest: dict[str, Any],
    networks: _Networks,
    sounds: Sequence[AnySound] | str | Path | None,
    folder: Path | None,
) -> list[tuple[dict[str, Any], Clip]]:
    """Every sound of a pack, with its record."""
    made: list[tuple[dict[str, Any], Clip]] = []
    refusal: Exception = ValueError("This pack's manifest lists no sound.")
    for record in _records_of(manifest):
        try:
            made += [(record, clip) for clip in _remake(record, networks, sounds, folder)]
        except (FileNotFoundError, CheckpointError, _OtherWeights) as error:
            refusal = error
            warnings.warn(f"{record['file']['name']} is left out: {error}", stacklevel=3)
    if not made:
        raise refusal
    return made


def _remake(
    record: dict[str, Any],
    networks: _Networks,
    sounds: Sequence[AnySound] | str | Path | None,
    folder: Path | None,
) -> Clips:
    """What a record says was made, and then done to it."""
    if "source" in record and "making" not in record:
        clip = own_clip(_sound(record["source"], sounds, folder, networks))
        settings = {k: record[k] for k in ("source", "model") if k in record}
        clips = Clips(clip.audio[None], clip.sample_rate, [clip.seed], settings)
    else:
        clips = _made(record, networks, sounds, folder)
    try:
        edits = record.get("edits") or []
        done = _note(record) | ({"edits": edits} if edits else {})
        audio = [reduce(apply, edits, audio) for audio in clips.audio]
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"This is no record of a sound made by ddnb: its edits are wrong: {error}") from error
    if not done or not audio:
        return clips
    return Clips(audio[0][None], clips.sample_rate, clips.seeds, clips.settings | done)


def _made(
    record: dict[str, Any],
    networks: _Networks,
    sounds: Sequence[AnySound] | str | Path | None,
    folder: Path | None,
) -> Clips:
    try:
        making, model = record["making"], record["model"]
        if making["verb"] == "beat":
            return _beat(record, networks, sounds, folder)
        seed, frames = (whole(k, making[k]) for k in ("seed", "frames"))
        make, takes, arguments = VERBS[making["verb"]]
        given = {"category": None}  # said, or that of the sound it was made from would count
        given |= {name: making[name] for name in arguments if name in making}
        brought = [making[name] for name in takes]
        rate = whole("sample_rate", model["sample_rate"])
    except (KeyError, TypeError, ValueError) as error:
        raise _wrong(error) from error
    ckpt = networks.of(record)
    if make is interpolate and all("seed" in end for end in brought):
        sources = [whole("seed", end["seed"]) for end in brought]
    else:
        sources = [_sound(wanted, sounds, folder, networks) for wanted in brought]
    if make is interpolate:
        given |= {"n": whole("asked", making["asked"]), "places": [seed], "duration_s": frames / rate}
        return make(ckpt, *sources, **given)
    if make in (generate, vary):
        given |= {} if "bpm" in given else {"duration_s": frames / rate}
        given |= {"max_cents": _ANY_CENTS} if "loop" in given else {}
    return make(ckpt, *sources, n=1, seed=seed, **given)


def _beat(record: dict, networks: _Networks, sounds, folder: Path | None) -> Clips:
    try:
        making = record["making"]
        wanted, numbers = dict(making["sounds"]), {k: making[k] for k in ("bpm", "bars", "swing", "seed")}
        tracks, rate = making["tracks"], whole("sample_rate", record["model"]["sample_rate"])
    except (KeyError, TypeError, ValueError) as error:
        raise _wrong(error) from error
    clips = {track: _sound(source, sounds, folder, networks) for track, source in wanted.items()}
    made = beat(None, {"tracks": tracks}, sounds=clips, **numbers)
    clip = replace(made, sample_rate=rate).clip
    settings = {k: v for k, v in record.items() if k in ("making", "model", "machine")}
    return Clips(clip.audio[None], clip.sample_rate, [clip.seed], settings)


class _OtherWeights(ValueError):
    """None of the networks that were given made the sound."""


class _Networks:
    """The networks of records: given, of the registry, or in a file beside the record; each is opened once."""

    def __init__(self, given: Networks | None, folder: Path | None):
        one = given is None or isinstance(given, Checkpoint | str | Path)
        given = [given] if one else list(given)
        # those that are open go first
        self.given = sorted((each for each in given if each is not None), key=lambda g: not isinstance(g, Checkpoint))
        self.folder = folder
        self.opened: dict[tuple[str, str, str], Checkpoint] = {}

    def of(self, record: dict[str, Any]) -> Checkpoint:
        """The network of a record: with its weights, in its format.

        Raises:
            CheckpointError: it cannot be had.
            ValueError: no record; ``_OtherWeights``: those that were given made other sounds.
        """
        try:
            model, machine = record["model"], record["machine"]
            rate, frames = (whole(k, model[k]) for k in ("sample_rate", "frames"))
            name, source, sha256 = (str(model[k]) for k in ("name", "source", "weights_sha256"))
            device, dtype = (str(machine[k]) for k in ("device", "dtype"))
        except (KeyError, TypeError, ValueError) as error:
            raise _wrong(error) from error
        others = []
        for place in self._places(source):
            try:
                ckpt = self._open(place, device, dtype, rate, frames)
            except (FileNotFoundError, CheckpointError) as error:
                raise CheckpointError(f"{_where(source)} {error}") from error
            if ckpt.info["weights_sha256"] == sha256:
                break
            others.append(ckpt.name)
        else:
            if others:
                raise _OtherWeights(
                    f"{others[0]} has other weights than the {name} that made this sound. If it was trained on since, "
                    "one of the best-step files of its run may be the one."
                )
            raise CheckpointError(f"{_where(source)} It is neither beside the record nor in the working folder.")
        here = str(ckpt.device), str(ckpt.dtype).removeprefix("torch.")
        if here != (device, dtype):
            warnings.warn(f"made on {device} in {dtype}, now on {here[0]} in {here[1]}: not exact", stacklevel=3)
        return replace(ckpt, sample_rate=rate, frames=frames)  # the same weights may have been loaded at two rates

    def _places(self, source: str) -> Iterator[Checkpoint | str | Path]:
        """Where it may be. Whoever wrote the record must not choose what is fetched, or opened in other folders."""
        yield from self.given
        if source in list_checkpoints():
            yield source
        elif not source.startswith(SCHEMES) and source not in ("", "..") and Path(source).name == source:
            files = [folder / source for folder in (self.folder, Path()) if folder is not None]
            yield from [file for file in files if file.exists()][:1]

    def _open(self, place: Checkpoint | str | Path, device: str, dtype: str, rate: int, frames: int) -> Checkpoint:
        if isinstance(place, Checkpoint):
            return place
        key = (str(place), device, dtype)
        if key not in self.opened:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".* is used, as you say")  # it may be that of another sound
                here = device if is_available(device) else None
                self.opened[key] = load(place, device=here, dtype=dtype, sample_rate=rate, frames=frames)
        return self.opened[key]


def _where(source: str) -> str:
    """What to do about a checkpoint that a record names."""
    made = f"This sound was made with {source}; "
    if source.startswith(SCHEMES):
        return (
            f"{made}if you trust it, load it and pass it: remake(..., ckpt=ddnb.load({source!r})), on the command line "
            f"--checkpoint {source}."
        )
    return f"{made}say where it is: remake(..., ckpt=PATH), on the command line --checkpoint PATH."


def _sound(wanted: dict, sounds: Sequence[AnySound] | str | Path | None, folder: Path | None, networks: _Networks):
    """A sound that another one was made from."""
    if "record" in wanted:
        return _remake(wanted["record"], networks, sounds, folder)[0]
    name, sha256 = Path(wanted.get("name", "")).name or "?", wanted.get("sha256")  # in no other folder
    if isinstance(sounds, str | Path):
        sounds = Path(sounds).expanduser()
        places = [sounds] if sounds.is_file() else sorted(sounds.rglob(glob.escape(name)))
    else:
        places = [*(sounds or ()), *(place / name for place in (folder, Path()) if place is not None)]
    for place in places:
        if isinstance(place, str | Path) and not Path(place).expanduser().is_file():
            continue
        if _sha256(place) == sha256:
            return place
    raise FileNotFoundError(
        f"This sound was made from {name}, which was not found, or has changed since: say where it is, with "
        "remake(..., sounds=FOLDER), on the command line --sounds FOLDER."
    )


def _sha256(sound: AnySound) -> str | None:
    """What a sound is known by, file or array."""
    if isinstance(sound, str | Path):
        return file_sha256(Path(sound).expanduser())
    return source_of(sound).record.get("sha256")


def read_clip(path: str | Path) -> Clip:
    """Take up a saved sound: the samples of its file, and how they came about.

    That is in the JSON file beside it, or in the manifest of the unpacked pack that it lies in, where the sound is
    still the one that was written: then ``remake`` gives these very samples, with the gain and the rounding of the
    file. Any other sound file is a sound of your own.

    Args:
        path: the sound file.

    Returns:
        The clip, which can be varied, packed and saved like any other.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not readable, empty, silent, or not finite.
    """
    path = Path(path).expanduser()
    clip = own_clip(path)
    record = _record_of(path, clip.settings["source"]["sha256"])
    try:
        bits, gain_db = record["file"]["bits"], float(record["level"]["gain_db"])
        edits = [dict(edit) for edit in record.get("edits", ())]
    except (KeyError, TypeError, ValueError):  # none, or one of something else
        return clip
    if bits not in SUBTYPES:
        return clip
    settings = {k: record[k] for k in ("making", "source", "model", "machine") if k in record}
    making = dict(record.get("making", {}))
    seed = making.pop("seed", 0)
    settings |= ({"making": making} if making else {}) | _note(record)
    edit = ({"gain_db": gain_db} if gain_db else {}) | ({"bits": bits} if bits != "float" else {})
    edits += [edit] if edit else []
    return Clip(clip.audio, clip.sample_rate, seed, settings | ({"edits": edits} if edits else {}))


def _record_of(path: Path, sha256: str) -> dict[str, Any]:
    """What is written down about a sound file, beside it or in the manifest of its pack; nothing if nothing is."""
    folders = path.absolute().parents[:_FOLDERS_UP]
    for place in (path.with_suffix(".json"), *(folder / "manifest.json" for folder in folders)):
        try:
            state = place.stat()
            if record := _by_sha256(place, state.st_size, state.st_mtime_ns).get(sha256):
                return record
        except (OSError, ValueError):  # none, or one of something else
            continue
    return {}


@lru_cache(maxsize=1)  # whoever takes up a thousand sounds of a pack reads its manifest once
def _by_sha256(path: Path, _size: int, _mtime_ns: int) -> dict[str, dict[str, Any]]:
    """The records in a JSON file, by the SHA-256 of their sound files."""
    record = read_record(path)
    if isinstance(record, dict) and PACK in record:
        records = _records_of(record)
    else:
        _require_record(record)
        records = [record]
    return {each["file"]["sha256"]: each for each in records if isinstance(each.get("file", {}).get("sha256"), str)}


def _note(record: dict[str, Any]) -> dict[str, Any]:
    """The note of a sound, where it is one; what it is called goes into file names, so nobody else may say it."""
    note = record.get("music", {}).get("root_note")
    key = note.get("note") if isinstance(note, dict) else None
    if not isinstance(key, int) or isinstance(key, bool) or not 0 <= key <= 127:
        return {}
    return {"root_note": note | {"name": note_name(key)}}


def read_record(path: Path) -> dict[str, Any]:
    """Read the JSON record beside a sound, whose path may be given instead, or the manifest of a pack.

    Raises:
        FileNotFoundError: no record there.
        ValueError: it is not JSON, too large, or no pack.
    """
    if path.suffix.lower() == ".zip":
        return _manifest(path)
    path = path.with_suffix(".json") if path.suffix.lower() == ".wav" else path
    if not path.is_file():
        raise FileNotFoundError(f"No record at {path}.")
    _require_size(path.name, path.stat().st_size)
    return _parsed(path.name, path.read_bytes())


def _manifest(path: Path) -> dict[str, Any]:
    """What the manifest of a packed pack holds."""
    if not path.is_file():
        raise FileNotFoundError(f"No pack at {path}.")
    no_pack = f"{path.name} is no pack made by ddnb:"
    try:
        with zipfile.ZipFile(path) as file:
            entry = next((entry for entry in file.infolist() if entry.filename.endswith("/manifest.json")), None)
            if entry is None:
                raise ValueError(f"{no_pack} there is no manifest.json in it.")
            _require_size(f"the manifest.json in {path.name}", entry.file_size)  # no more than that is unpacked
            content = file.read(entry)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:  # the last one: encrypted, or unknown
        raise ValueError(f"{no_pack} it cannot be unpacked ({error}).") from error
    manifest = _parsed(f"The manifest.json in {path.name}", content)
    if not isinstance(manifest, dict) or PACK not in manifest:
        raise ValueError(f"{no_pack} its manifest.json is another program's.")
    return manifest


def _require_size(what: str, size: int) -> None:
    if size > _LARGEST:
        raise ValueError(f"{what} has {size >> 20} MB: records and manifests have {_LARGEST >> 20} MB at most.")


def _parsed(what: str, content: bytes) -> Any:
    try:
        return json.loads(content.decode("utf-8"))
    except RecursionError as error:
        raise ValueError(f"{what} is not a JSON record: it is nested too deeply.") from error
    except ValueError as error:
        raise ValueError(f"{what} is not a JSON record: {error}") from error


# --- what a record must be: anybody may have written it ---------------------------------------------------------------


def _records_of(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """The records in a manifest.

    Raises:
        ValueError: it is of another version, or damaged.
    """
    if manifest[PACK] != VERSION:
        raise ValueError(f"This pack has version {manifest[PACK]!r}, and this ddnb reads {VERSION}: update ddnb.")
    records = manifest.get("sounds")
    if not isinstance(records, list):
        raise ValueError("This pack's manifest is damaged: 'sounds' is no list.")
    for record in records:
        _require_record(record)
        if not isinstance(record.get("file", {}).get("name"), str):
            raise ValueError("This pack's manifest is damaged: a sound lacks the name of its file.")
    return records


def _require_record(record: Any) -> None:
    """Raise ValueError for what is no record; and for one whose names and numbers no file could have."""
    waiting = [(record, 0)]
    while waiting:  # not by recursion: that has an end, and an attacker would reach it
        each, depth = waiting.pop()
        if depth > _DEEPEST:
            raise ValueError(f"More than {_DEEPEST} sounds were made from each other here; that is too many.")
        waiting += [(inner, depth + 1) for inner in _inner_records(each)]


def _inner_records(record: Any) -> list[Any]:
    """Check a record; return those of the sounds that it was made from."""
    if not isinstance(record, dict):
        raise ValueError("This is no record of a sound made by ddnb.")
    for group in _GROUPS:
        _require(isinstance(record.get(group, {}), dict), group)
    making, model = record.get("making", {}), record.get("model", {})
    _require(isinstance(making.get("verb", ""), str), "verb")
    _require(isinstance(making.get("pattern", ""), str), "pattern")
    _require(isinstance(model.get("name", ""), str), "name")
    for name in ("category", "to_category"):
        _require(isinstance(making.get(name), dict | None), name)
    try:
        for name, most in _NUMBERS.items():
            within(name, whole(name, making.get(name, 1)), 0, most)
        within("bpm", making.get("bpm", 120), 20, 999)
    except ValueError as error:
        raise ValueError(f"This is no record of a sound made by ddnb: {error}") from error
    _require(isinstance(making.get("sounds", {}), dict), "sounds")
    sources = [group[k] for group in (record, making) for k in ("source", "a", "b") if k in group]
    sources += making.get("sounds", {}).values()
    for source in sources:
        _require(isinstance(source, dict), "source")
        by_seed = isinstance(source.get("seed"), int)
        _require(by_seed if "name" not in source else isinstance(source["name"], str), "source")
    return [source["record"] for source in sources if "record" in source]


def _require(right: bool, what: str) -> None:
    if not right:
        raise _wrong(KeyError(what))


def _wrong(error: Exception) -> ValueError:
    return ValueError(f"This is no record of a sound made by ddnb: {error} is missing or wrong.")
