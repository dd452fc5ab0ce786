"""TODO clips/record."""

from __future__ import annotations

import json
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..audio.io import SUBTYPES
from ..audio.pitch import note_name
from ..checks import whole, within
from .clip import Clip
from .source import MAX_CLIPS, own_clip

_LARGEST = 64 << 20  # bytes of JSON: some 30,000 sounds; parsed it is ten times as large
_DEEPEST = 100  # sounds that were made from each other
_FOLDERS_UP = 3  # from a sound of an unpacked pack to its manifest
_GROUPS = ("file", "music", "level", "making", "model", "machine", "source")
_NUMBERS = {"seed": 2**63 - 1, "asked": MAX_CLIPS, "bars": 10_000, "beats_per_bar": 10_000}  # at most

PACK = "ddnb pack"
"""By this key, which holds its version, the manifest of a pack is known."""

VERSION = 1


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
