"""Records: what is written down about a saved sound, in a JSON file beside it or in the manifest of a pack."""

from __future__ import annotations

import json
import reprlib
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ..audio.notes import note_name
from ..errors import RecordError
from .provenance import Plain, Provenance, RootNote, at, not_a_record

PACK = "ddnb pack"
"""The key of a pack's manifest that holds its version."""

VERSION = 1

_MAX_BYTES = 64 << 20  # of JSON: some 30,000 sounds; parsed it takes ten times as much


@dataclass(frozen=True)
class FileFacts(Plain):
    """A sound file: its name, the SHA-256 of its bytes, and its format.

    ``midi`` is the MIDI file beside a beat; ``samples_sha256`` is known of a FLAC file, whose bytes depend on the
    version of the encoder.
    """

    name: str | None = None
    sha256: str | None = None
    frames: int | None = None
    sample_rate: int | None = None
    channels: int | None = None
    bits: str | None = None
    chunks: bool | None = None
    samples_sha256: str | None = None
    midi: str | None = None


@dataclass(frozen=True)
class MusicFacts(Plain):
    """The musical facts of a sound: its kind of sound (see ``Clip.kind``), tempo, exact length, root note."""

    type: str = "own"
    bpm: float | None = None
    bars: int | None = None
    beats_per_bar: int | None = None
    beats: int | None = None
    exact_length_s: str | None = None
    root_note: RootNote | None = None


@dataclass(frozen=True)
class LevelFacts(Plain):
    """Levels of the samples, and the gain of the file.

    ``gain_db`` is not rounded: a file's samples are computed again with it.
    """

    peak_dbfs: float | None = None
    gain_db: float = 0.0
    samples_over_full_scale: int | None = None
    seam_db: float | None = None
    true_peak_dbfs: float | None = None


@dataclass(frozen=True)
class SoundRecord:
    """The complete record of a saved sound; ``origin`` is the finding of the originality check."""

    file: FileFacts
    music: MusicFacts
    level: LevelFacts
    provenance: Provenance
    origin: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        provenance = replace(self.provenance, root_note=None)  # it stands in ``music``
        groups = {"file": self.file, "music": self.music, "level": self.level}
        plain = {name: group.to_dict() for name, group in groups.items()} | provenance.to_dict()
        return plain | ({"origin": dict(self.origin)} if self.origin is not None else {})

    @classmethod
    def from_dict(cls, data: Any) -> SoundRecord:
        """Return the record whose JSON form is ``data``; anybody may have written it.

        Raises:
            RecordError: it is no record, or damaged.
        """
        provenance = Provenance.from_dict(data)
        file, music, level = (_group(data, key) for key in _GROUPS)
        note = music.root_note  # its name becomes part of file names: never take the one in the record
        note = note and replace(note, name=note_name(note.note))
        origin = data.get("origin")
        if not isinstance(origin, Mapping | None):
            raise not_a_record(f"got {reprlib.repr(origin)}; give an object", "origin")
        return cls(file, replace(music, root_note=note), level, replace(provenance, root_note=note), origin)


_GROUPS: dict[str, Any] = {"file": FileFacts, "music": MusicFacts, "level": LevelFacts}


def _group(data: Mapping[str, Any], key: str) -> Any:
    given = data.get(key)
    with at(key):
        return _GROUPS[key].from_dict({} if given is None else given)


def read_record(path: Path) -> dict[str, Any]:
    """Read the JSON record beside a sound, whose path may be given instead, or the manifest of a pack.

    Raises:
        FileNotFoundError: there is no record.
        RecordError: it is a folder, not JSON, too large, or no pack.
    """
    if path.suffix.lower() == ".zip":
        return _read_manifest(path)
    path = path.with_suffix(".json") if path.suffix.lower() == ".wav" else path
    if path.is_dir():
        raise RecordError(f"{path} is a folder: give one of the .json files in it, a sound beside one, or a pack.")
    if not path.is_file():
        raise FileNotFoundError(f"There is no record at {path}.")
    _require_size(path.name, path.stat().st_size)
    return _parse_json(path.name, path.read_bytes())


def records_of(content: Any) -> list[SoundRecord]:
    """Return the records in a manifest, or the one record that this is.

    Raises:
        RecordError: it is no record, damaged, or of a version that is not known.
    """
    if not is_pack(content):
        return [SoundRecord.from_dict(content)]
    if content[PACK] != VERSION:
        raise RecordError(f"This pack has version {content[PACK]!r}; this ddnb reads version {VERSION}. Update ddnb.")
    sounds = content.get("sounds")
    if not isinstance(sounds, list):
        raise not_a_record(f"got {reprlib.repr(sounds)}; give a list", "sounds")
    return [_record_of_pack(number, each) for number, each in enumerate(sounds)]


def _record_of_pack(number: int, data: Any) -> SoundRecord:
    with at(f"sounds[{number}]"):
        record = SoundRecord.from_dict(data)
        if record.file.name is None:
            raise not_a_record("missing", "file.name")
        return record


def is_pack(content: Any) -> bool:
    """Return whether JSON content is the manifest of a pack."""
    return isinstance(content, Mapping) and PACK in content


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"There is no pack at {path}.")
    not_a_pack = f"{path.name} is not a pack made by ddnb:"
    try:
        with zipfile.ZipFile(path) as file:
            entry = next(
                (entry for entry in file.infolist() if PurePosixPath(entry.filename).name == "manifest.json"), None
            )
            if entry is None:
                raise RecordError(f"{not_a_pack} it holds no manifest.json.")
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise RecordError(f"{not_a_pack} its manifest.json is not compressed in the usual way; zip it again.")
            _require_size(f"the manifest.json in {path.name}", entry.file_size)  # no more than that is unpacked
            content = file.read(entry)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:  # the last one: encrypted, or unknown
        raise RecordError(f"{not_a_pack} it cannot be unpacked ({error}).") from error
    manifest = _parse_json(f"The manifest.json in {path.name}", content)
    if not is_pack(manifest):
        raise RecordError(f"{not_a_pack} its manifest.json was written by another program.")
    return manifest


def _require_size(what: str, size: int) -> None:
    if size > _MAX_BYTES:
        raise RecordError(f"{what} has {size >> 20} MB; records and manifests have at most {_MAX_BYTES >> 20} MB.")


def _parse_json(what: str, content: bytes) -> Any:
    try:
        return json.loads(content.decode("utf-8-sig"))
    except RecursionError as error:
        raise RecordError(f"{what} is not a JSON record: it is nested too deeply.") from error
    except ValueError as error:
        raise RecordError(f"{what} is not a JSON record: {error}") from error
