"""Packs: sounds on their way to a music program, in one ZIP file, with all that is known about them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from ..audio.io import SUBTYPES
from ..audio.mastering import LEVELS, apply, gains_db, trimmed, true_peak_dbfs
from ..audio.pitch import root_note
from ..clips.clip import LONGEST_NAME, Clip
from ..clips.record import PACK, VERSION, read_clip
from ..clips.source import require_sound, samples_sha256
from ..display.plots import waveform_sheet
from ..files import atomically, file_sha256, free_name, safe_name
from ..generation.beat import Beat
from ..similarity.report import Originality
from .instruments import Zone, drum_map, dspreset, keys, sfz
from .manifest import _table
from .readme import _SHEET, _UNCHECKED, _Packed, _readme

FORMATS = {"wav": tuple(SUBTYPES), "flac": ("16", "24")}
_OLDEST = (1980, 1, 1, 0, 0, 0)  # that a ZIP file can say


AnyPacked = Clip | Beat | str | Path


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
        add("contact_sheet.png", waveform_sheet([replace(each.clip.shown(), name=each.name) for each in shown]))
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
