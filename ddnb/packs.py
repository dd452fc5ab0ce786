"""Packs: sounds on their way to a music program, in one ZIP file, with all that is known about them."""

from __future__ import annotations

import csv
import io
import json
import re
import textwrap
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from .audio import SUBTYPES
from .beats import Beat
from .clips import LONGEST_NAME, Clip
from .copies import Originality
from .engine import require_sound, samples_sha256
from .files import atomically, file_sha256, free_name, safe_name
from .finish import LEVELS, apply, gains_db, root_note, trimmed, true_peak_dbfs
from .instruments import Zone, drum_map, dspreset, keys, sfz
from .pictures import waveform_sheet
from .records import PACK, VERSION, read_clip

FORMATS = {"wav": tuple(SUBTYPES), "flac": ("16", "24")}
NOT_KNOWN = "not known"
_UNCHECKED = "not checked"
_SHEET = 400  # waveforms on the contact sheet at most
_WIDTH = 100  # characters of a line in README.txt
_OLDEST = (1980, 1, 1, 0, 0, 0)  # that a ZIP file can say


AnyPacked = Clip | Beat | str | Path


@dataclass(frozen=True)
class _Packed:
    """A finished sound, and what the pack says of it."""

    clip: Clip
    name: str
    true_peak_dbfs: float
    gain_db: float
    midi: bytes | None


def pack(
    clips: AnyPacked | Sequence[AnyPacked],
    path: str | Path,
    *,
    bits: str = "24",
    format: str = "wav",
    level: str = "kept",
    instruments: bool = False,
    chunks: bool = True,
    origins: Originality | None = None,
) -> Path:
    """Pack sounds for a music program: one ZIP file with folders, names, tempo, levels, records and licences.

    One-shots are trimmed from a millisecond before their attack to where they have ended; loops and sounds of exact
    bars stay as long as they are, and sounds of your own as they are. ``ddnb.remake`` makes a pack's sounds again. The
    same sounds give the same file, byte for byte.

    Args:
        clips: clips, a beat (which brings its MIDI file), the path of a saved sound, or several of these.
        path: the ZIP file; where there is one already, the new one gets a number.
        bits: ``"16"``, ``"24"`` or ``"float"``.
        format: ``"wav"``, or ``"flac"`` with 16 or 24 bits; loops and sounds of exact bars are WAV even then, as FLAC
            cannot say where they loop and how fast they are.
        level: ``"kept"`` keeps every level, except that a sound whose peak, between samples too, is above -1 dBFS is
            lowered to that, unless ``bits`` is ``"float"``; ``"each"`` brings every sound to -1 dBFS; ``"together"``
            brings the loudest there, and all others by the same gain.
        instruments: add the sounds on keys, for SFZ players and Decent Sampler, and a drum map.
        chunks: as for ``Clip.save``.
        origins: what ``ddnb.originality(clips, folder)`` returned for the same sounds, in the same order; it goes into
            the records.

    Returns:
        The path of the ZIP file.

    Raises:
        FileNotFoundError: no such sound.
        ValueError: no sound, one that is silent, empty or not finite, unknown ``bits``, ``format`` or ``level``, or
            ``origins`` of other sounds.
        OSError: the file cannot be written. Nothing is left behind then.
    """
    path = Path(path).expanduser()
    _require_options(path, bits, format, level)
    sounds = list(_several(clips))
    if origins is not None:
        _require_same([clip for clip, _ in sounds], [row.clip for row in origins.rows])
    packed = _finished(sounds, level, bits)
    target = free_name(path)
    try:
        atomically(target, lambda part: _write(part, packed, bits, format, chunks, instruments, origins))
    except OSError as error:
        raise OSError(f"{target} could not be written: {error.strerror or error}; choose another place.") from error
    return target


def _require_options(path: Path, bits: str, format: str, level: str) -> None:
    if path.suffix.lower() != ".zip":
        raise ValueError(f"{path.name}: give a file name that ends in .zip.")
    if format not in FORMATS:
        raise ValueError(f"format={format!r}: known are {', '.join(FORMATS)}.")
    if bits not in FORMATS[format]:
        raise ValueError(f"bits={bits!r}: {format} has {', '.join(FORMATS[format])}.")
    if level not in LEVELS:
        raise ValueError(f"level={level!r}: known are {', '.join(LEVELS)}.")


def _require_same(clips: Sequence[Clip], checked: Sequence[Clip]) -> None:
    """Refuse what was found out about other sounds; the same ones need not be the same objects."""
    again = "give what ddnb.originality returned for these sounds, in this order."
    if len(checked) != len(clips):
        raise ValueError(f"origins: {len(checked)} sounds were checked, and {len(clips)} are to be packed: {again}")
    for number, (clip, other) in enumerate(zip(clips, checked, strict=True), 1):
        if clip.sample_rate != other.sample_rate or not np.array_equal(clip.audio, other.audio):
            raise ValueError(f"origins: sound {number}, {clip.name}, is not the one that was checked: {again}")


def _several(clips: Any) -> Iterator[tuple[Clip, bytes | None]]:
    """Each sound, and its MIDI file if it has one."""
    if isinstance(clips, Beat):
        score = io.BytesIO()
        clips.midi().save(file=score)
        yield clips.clip, score.getvalue()
    elif isinstance(clips, Clip):
        yield clips, None
    elif isinstance(clips, str | Path):
        clip, score = read_clip(clips), Path(clips).expanduser().with_suffix(".mid")
        is_beat = clip.settings.get("making", {}).get("verb") == "beat"
        yield clip, score.read_bytes() if is_beat and score.is_file() else None
    elif isinstance(clips, Iterable) and not isinstance(clips, Mapping | np.ndarray):
        for some in clips:
            yield from _several(some)
    else:
        raise ValueError(f"{type(clips).__name__}: give clips, a beat, or the path of a saved sound.")


def _finished(sounds: list[tuple[Clip, bytes | None]], level: str, bits: str) -> list[_Packed]:
    """The sounds as they go out, each with the name that it has in the pack."""
    if not sounds:
        raise ValueError("There is no sound to pack.")
    for number, (clip, _) in enumerate(sounds, 1):
        require_sound(clip.audio, clip.sample_rate, f"sound {number}, {clip.name}")
    clips = [_with_note(_edited(clip, _trim(clip))) for clip, _ in sounds]
    peaks = [true_peak_dbfs(clip.audio, clip.loop) for clip in clips]
    gains = [0.0] * len(clips) if (level, bits) == ("kept", "float") else gains_db(peaks, level)
    clips = [_edited(clip, {"gain_db": gain} if gain else {}) for clip, gain in zip(clips, gains, strict=True)]
    scores = [score for _, score in sounds]
    after = [peak + gain for peak, gain in zip(peaks, gains, strict=True)]
    return [_Packed(*each) for each in zip(clips, _names(clips), after, gains, scores, strict=True)]


def _trim(clip: Clip) -> dict[str, Any]:
    """Loops and bars have their length; of a sound that was brought along nobody knows whether it is one."""
    return trimmed(clip.audio, clip.sample_rate) if clip.kind == "one-shot" else {}


def _edited(clip: Clip, edit: dict[str, Any]) -> Clip:
    if not edit:
        return clip
    edits = [*clip.settings.get("edits", ()), edit]
    return replace(clip, audio=apply(clip.audio, edit), settings={**clip.settings, "edits": edits})


def _with_note(clip: Clip) -> Clip:
    note = root_note(clip.audio, clip.sample_rate) if clip.kind == "one-shot" else None
    return replace(clip, settings={**clip.settings, "root_note": note}) if note else clip


def _names(clips: Sequence[Clip]) -> list[str]:
    """A path without suffix for each, unlike any other on systems that tell no small letters from capitals."""
    taken: set[str] = set()
    names = []
    for clip in clips:
        wanted = f"{_folder(clip)}/{clip.name}"
        tries = (wanted if i == 1 else f"{wanted}-{i}" for i in count(1))
        names.append(next(name for name in tries if name.lower() not in taken))
        taken.add(names[-1].lower())
    return names


def packed_name(name: str) -> str:
    """A sound's path in a pack, without suffix, as it may be used anywhere: anybody may have written the manifest."""
    *folders, last = name.split("/")[-2:]
    stem = last.rpartition(".")[0] or last
    return "/".join(safe_name(part, LONGEST_NAME) for part in (*folders, stem))


def _folder(clip: Clip) -> str:
    """Never with a tempo: some programs look for one there too."""
    if clip.kind in ("loop", "bars"):
        return "loops"
    categories = _categories(clip)
    return safe_name("-".join(categories))[:40] if categories else "oneshots"


def _categories(clip: Clip) -> list[str]:
    making = clip.settings.get("making", {})
    return list(dict.fromkeys([*(making.get("category") or ()), *(making.get("to_category") or ())]))


# --- the ZIP file -----------------------------------------------------------------------------------------------------


def _write(
    part: Path,
    packed: Sequence[_Packed],
    bits: str,
    format: str,
    chunks: bool,
    instruments: bool,
    origins: Originality | None,
) -> None:
    """Write the pack; the sounds, one at a time, beside it first."""
    top = safe_name(part.stem)
    with zipfile.ZipFile(part, "w") as file:  # not compressed: sounds hardly shrink, and zlib's versions differ

        def add(name: str, content: bytes | str) -> None:
            entry = zipfile.ZipInfo(f"{top}/{name}", _OLDEST)
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # the same on every system
            file.writestr(entry, content)

        records = []
        for index, each in enumerate(packed):
            record, content = _sound(each, part.parent / "sound", bits, format, chunks)
            add(record["file"]["name"], content)
            if each.midi:
                record["file"]["midi"] = f"{each.name}.mid"
                add(f"{each.name}.mid", each.midi)
            records.append(record | {"origin": origins.record(index) if origins else {"verdict": _UNCHECKED}})
        add("manifest.json", json.dumps({PACK: VERSION, "name": top, "sounds": records}, indent=2) + "\n")
        add("manifest.csv", _table(records).encode("utf-8-sig"))
        shown = packed[:_SHEET]
        add("contact_sheet.png", waveform_sheet([each.clip for each in shown], [each.name for each in shown]))
        left_out = 0
        if instruments:
            zones = _zones(packed, records)
            left_out = len(packed) - len(zones)
            for name, text in ((f"{top}.sfz", sfz), (f"{top}.dspreset", dspreset), ("drum_map.csv", drum_map)):
                add(name, text(zones))
        add("README.txt", _readme(top, packed, records, chunks, instruments, left_out))


def _sound(packed: _Packed, scratch: Path, bits: str, format: str, chunks: bool) -> tuple[dict[str, Any], bytes]:
    """The record of a sound's file, and the file."""
    wav = scratch.with_suffix(".wav")
    record = packed.clip.write(wav, bits, chunks)
    path = wav
    if format == "flac" and packed.clip.kind not in ("loop", "bars"):
        path = _as_flac(wav, bits)
        # another version of FLAC gives another file of the same samples
        record["file"] |= {"sha256": file_sha256(path), "samples_sha256": file_samples_sha256(path)}
    record["file"]["name"] = f"{packed.name}{path.suffix}"
    record["level"]["true_peak_dbfs"] = round(packed.true_peak_dbfs + record["level"]["gain_db"], 3)
    content = path.read_bytes()
    for left in {wav, path}:
        left.unlink()
    return record, content


def _as_flac(wav: Path, bits: str) -> Path:
    """The same samples as FLAC."""
    import soundfile

    samples, rate = soundfile.read(wav, dtype="int32", always_2d=True)
    flac = wav.with_suffix(".flac")
    soundfile.write(flac, samples, rate, SUBTYPES[bits], format="FLAC")
    return flac


def file_samples_sha256(path: Path) -> str:
    """What the samples of a file are known by, whatever kind of file they are in."""
    import soundfile

    return samples_sha256(soundfile.read(path, dtype="float32", always_2d=True)[0].T)


def _zones(packed: Sequence[_Packed], records: Sequence[dict[str, Any]]) -> list[Zone]:
    """The sounds that have a key; a mixture of categories is in none."""
    loops = [each.clip.loop for each in packed]
    categories = [_categories(each.clip) for each in packed]
    kinds = [None if loop or len(some) != 1 else some[0] for loop, some in zip(loops, categories, strict=True)]
    places = keys(list(zip(kinds, loops, strict=True)))
    files = [(record["file"]["name"], record["file"]["frames"]) for record in records]
    zones = [
        Zone(key, name, kind, loop, frames)
        for key, kind, loop, (name, frames) in zip(places, kinds, loops, files, strict=True)
        if key is not None
    ]
    return sorted(zones, key=lambda zone: zone.key)


def _table(records: Sequence[dict[str, Any]]) -> str:
    """The records as CSV: first what one looks for, then a column per entry; what is deeper is JSON in one cell."""
    rows = [
        _row(record)
        | {
            f"{group}.{key}" if isinstance(values, dict) else group: _cell(value)
            for group, values in record.items()
            for key, value in (values.items() if isinstance(values, dict) else [("", values)])
        }
        for record in records
    ]
    text = io.StringIO()
    table = csv.DictWriter(text, list(dict.fromkeys(column for row in rows for column in row)))
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def _row(record: dict[str, Any]) -> dict[str, Any]:
    """What one looks for in a table of sounds."""
    file, music = record["file"], record["music"]
    return {
        "name": _cell(file["name"]),
        "type": music["type"],
        "seconds": round(file["frames"] / file["sample_rate"], 3),
        "bpm": music.get("bpm", ""),
        "bars": music.get("bars", ""),
        "note": (music.get("root_note") or {}).get("name", ""),
        "seed": record.get("making", {}).get("seed", ""),
        "licence": _cell(record.get("model", {}).get("licence", "")),
    }


def _cell(value: Any) -> Any:
    """A value in a table; a text that a spreadsheet would compute, or take for a date, gets an apostrophe."""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    dangerous = isinstance(value, str) and re.match(r"[=+\-@\t\r]|\d+/\d+$", value)
    return f"'{value}" if dangerous else value


# --- README.txt -------------------------------------------------------------------------------------------------------


def _readme(
    top: str,
    packed: Sequence[_Packed],
    records: Sequence[dict[str, Any]],
    chunks: bool,
    instruments: bool,
    left_out: int,
) -> str:
    """What a musician who gets the pack wants to know."""
    parts = [
        f"{top}: {len(packed)} sound{'s' if len(packed) > 1 else ''}, made with ddnb",
        _wrapped(_about_files(records, chunks)),
        *([_wrapped(_about_instruments(top, left_out))] if instruments else []),
        "SOUNDS\n\n" + "\n".join(_line(each, record) for each, record in zip(packed, records, strict=True)),
        "ORIGIN\n\n" + _wrapped(_about_origins(records)),
        f"AGAIN\n\n  python -m ddnb remake {top}.zip --out again\n\n" + _wrapped(_AGAIN),
        "LICENCES\n\n" + "\n".join(_licences(records)) + "\n\n" + _wrapped(_LICENCES),
    ]
    return "\n\n\n".join(parts) + "\n"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)


_AGAIN = (
    "makes every sound again from manifest.json. That tells of each how it was made, with which network, and what was "
    "done to it since. Sounds of your own that it was made from are looked for beside it, or in --sounds FOLDER."
)
_LICENCES = (
    "The program ddnb is MIT licensed. The weights of a network have a licence of their own, and the sounds that it "
    "learned from may have a third. 'Not known' means: ask before you publish."
)


def _about_files(records: Sequence[dict[str, Any]], chunks: bool) -> str:
    files = [record["file"] for record in records]
    kinds = {(file["name"].rpartition(".")[2].upper(), file["bits"], file["sample_rate"]) for file in files}
    said = [f"{suffix}, {bits}{'' if bits == 'float' else ' bit'}, {rate} Hz" for suffix, bits, rate in sorted(kinds)]
    parts = ["; ".join(said) + "."]
    if any(suffix == "FLAC" for suffix, _, _ in kinds):
        parts.append("FLAC cannot say where a sound loops, its tempo or its note; so loops are WAV files.")
    if chunks:
        parts.append("WAV files say where they loop, their tempo and beats, or that they are one-shots.")
    else:
        parts.append("The WAV files are plain, for machines that refuse loop points and tempo.")
    parts.append("One-shots begin a millisecond before their attack. Loops last exactly their bars.")
    parts.append("manifest.json and manifest.csv tell all about each sound; contact_sheet.png shows them.")
    if len(records) > _SHEET:
        parts.append(f"It shows the first {_SHEET}.")
    return " ".join(parts)


def _about_instruments(top: str, left_out: int) -> str:
    text = f"Play them: {top}.sfz is for SFZ players, {top}.dspreset for Decent Sampler; drum_map.csv lists the keys. "
    text += "The first of each drum lies where General MIDI has it, all others from middle C on, category by "
    text += "category."
    return text + (f" Sounds left out there, as a keyboard has 128 keys: {left_out}." if left_out else "")


def _line(packed: _Packed, record: dict[str, Any]) -> str:
    parts = [f"{packed.clip.duration_s:.2f} s"]
    if "bpm" in record["music"]:
        parts.append(f"{record['music']['bpm']:g} BPM, {record['music']['beats']} beats")
    gain = packed.gain_db + record["level"]["gain_db"]
    parts += [f"gain {gain:+.1f} dB"] if gain else []
    parts.append(f"true peak {record['level']['true_peak_dbfs']:.1f} dBFS")
    return f"  {record['file']['name']}: {', '.join(parts)}"


def _about_origins(records: Sequence[dict[str, Any]]) -> str:
    if any(record["origin"]["verdict"] == _UNCHECKED for record in records):
        return "Not checked: nobody has looked for sounds like these among those that the network learned from."
    return "Each was compared with a folder of sounds: see origin in manifest.json."


def _licences(records: Sequence[dict[str, Any]]) -> list[str]:
    """A line per network, those of the sounds that others were made from too."""
    models: dict[str, dict[str, Any]] = {}
    for record in records:
        for model in _models(record):
            models.setdefault(model.get("weights_sha256", model.get("name", NOT_KNOWN)), model)
    lines = [
        f"  {model.get('name', NOT_KNOWN)}: licence {model.get('licence', NOT_KNOWN)}; "
        f"credit: {model.get('credit', NOT_KNOWN)}; weights from {model.get('source', NOT_KNOWN)}"
        for model in models.values()
        if "weights_sha256" in model
    ]
    if any("weights_sha256" not in model for model in models.values()):
        lines.append("  sounds that were brought along: their own licences")
    return lines


def _models(value: Any) -> Iterator[dict[str, Any]]:
    """Every model in a record, at any depth."""
    if isinstance(value, dict):
        if isinstance(value.get("model"), dict):
            yield value["model"]
        for inner in value.values():
            yield from _models(inner)
