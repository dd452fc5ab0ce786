"""Packs: finished sounds in one ZIP file for a music program, with their records, licences and instruments."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from ..audio.io import SUBTYPES
from ..audio.mastering import LEVELS, find_trim, gains_db, rate_edit, true_peak_dbfs
from ..audio.pitch import root_note
from ..clips.clip import LONGEST_NAME, Clip
from ..clips.provenance import RootNote
from ..clips.record import PACK, VERSION, SoundRecord
from ..clips.source import read_clip, require_sound, samples_sha256
from ..display.plots import waveform_sheet
from ..errors import ArgumentError
from ..files import atomically, expand, file_sha256, free_name, safe_name
from ..generation.beat import Beat
from ..notices import warn
from ..similarity.report import Originality
from .instruments import Zone, assign_keys, spread_keys, write_drum_map, write_dspreset, write_sfz
from .manifest import write_table
from .readme import UNCHECKED, Packed, describe_unrecorded, write_readme

FORMATS = {"wav": tuple(SUBTYPES), "flac": ("16", "24")}

MAX_PICTURED = 400
"""Waveforms on the contact sheet at most."""

_BLOCK = 1 << 18  # frames
_OLDEST = (1980, 1, 1, 0, 0, 0)  # the earliest date of a ZIP entry

AnyPacked = Clip | Beat | str | Path


def pack(
    clips: AnyPacked | Sequence[AnyPacked],
    path: str | Path,
    *,
    bits: str = "24",
    to_rate: int | None = None,
    format: str = "wav",
    level: str = "kept",
    instruments: bool = False,
    chunks: bool = True,
    origins: Originality | None = None,
) -> Path:
    """Pack sounds for a music program: one ZIP file with folders, names, tempo, levels, records and licences.

    One-shots are trimmed from a millisecond before their attack to where they have ended; loops, sounds of exact bars
    and input audio keep their length. ``ddnb.remake`` makes a pack's sounds again. The same sounds give the same file,
    byte for byte.

    Args:
        clips: clips, a beat (which brings its MIDI file), the path of a saved sound, or several of these.
        path: the ZIP file; an existing one is kept, and the new one gets a number.
        bits: ``"16"``, ``"24"`` or ``"float"``.
        to_rate: sample rate of all files, Hz, from 8,000 to 192,000 (default: that of each sound).
        format: ``"wav"``, or ``"flac"`` with 16 or 24 bits; loops and sounds of exact bars are WAV in any case, as FLAC
            cannot state loop points and tempo.
        level: ``"kept"`` keeps every level, except that a sound whose true peak is above -1 dBFS is lowered to that,
            unless ``bits`` is ``"float"``; ``"each"`` brings every sound to -1 dBFS; ``"together"`` brings the loudest
            there, and all others by the same gain.
        instruments: add instruments for SFZ players and Decent Sampler, and a drum map.
        chunks: as for ``Clip.save``.
        origins: what ``ddnb.originality(clips, folder)`` returned for the same sounds in the same order; it is written
            into the records.

    Returns:
        The path of the ZIP file.

    Raises:
        FileNotFoundError: no such sound.
        AudioError: a sound that is silent, empty or not finite.
        ArgumentError: no sound, unknown ``bits``, ``format`` or ``level``, a rate out of its range, or ``origins`` of
            other sounds.
        OSError: the file cannot be written; nothing is left behind.
    """
    path = expand(path)
    _require_options(path, bits, format, level)
    if to_rate is not None:
        rate_edit(0, to_rate)  # checked before the sounds are read
    sounds = list(_collect(clips))
    if origins is not None:
        _require_same([clip for clip, _ in sounds], [row.clip for row in origins.rows])
    unrecorded = [clip.name for clip, _ in sounds if clip.provenance.making is None]
    packed = _finish(sounds, level, bits, to_rate)
    if unrecorded:
        warn(f"{describe_unrecorded(unrecorded)}; README.txt says so, too", stacklevel=2)
    target = free_name(path)
    try:
        atomically(target, lambda part: _write(part, packed, bits, format, chunks, instruments, origins))
    except OSError as error:
        raise OSError(f"{target} could not be written: {error.strerror or error}.") from error
    return target


def packed_name(name: str) -> str:
    """Return a sound's path in a pack, without suffix; safe, as anybody may have written the manifest."""
    *folders, last = name.split("/")[-2:]
    stem = last.rpartition(".")[0] or last
    return "/".join(safe_name(part, LONGEST_NAME) for part in (*folders, stem))


def file_samples_sha256(path: Path) -> str:
    """Return a hash of a file's samples, which is the same for WAV and FLAC."""
    import soundfile

    return samples_sha256(soundfile.read(path, dtype="float32", always_2d=True)[0].T)


# --- what goes into it ---


def _require_options(path: Path, bits: str, format: str, level: str) -> None:
    if path.suffix.lower() != ".zip":
        raise ArgumentError(f"{path.name}: give a file name that ends in .zip.")
    if format not in FORMATS:
        raise ArgumentError(f"format={format!r}: known are {', '.join(FORMATS)}.")
    if bits not in FORMATS[format]:
        raise ArgumentError(f"bits={bits!r}: {format} has {', '.join(FORMATS[format])}.")
    if level not in LEVELS:
        raise ArgumentError(f"level={level!r}: known are {', '.join(LEVELS)}.")


def _require_same(clips: Sequence[Clip], checked: Sequence[Clip]) -> None:
    """Refuse findings about other sounds; the same ones need not be the same objects."""
    again = "give what ddnb.originality returned for these sounds, in this order."
    if len(checked) != len(clips):
        raise ArgumentError(f"origins: {len(checked)} sounds were checked, {len(clips)} are to be packed: {again}")
    for number, (clip, other) in enumerate(zip(clips, checked, strict=True), 1):
        if clip.sample_rate != other.sample_rate or not np.array_equal(clip.audio, other.audio):
            raise ArgumentError(f"origins: sound {number}, {clip.name}, is not the one that was checked: {again}")


def _collect(clips: Any) -> Iterator[tuple[Clip, bytes | None]]:
    """Yield each sound, and the content of its MIDI file if it has one."""
    if isinstance(clips, Beat):
        score = io.BytesIO()
        clips.midi().save(file=score)
        yield clips.clip, score.getvalue()
    elif isinstance(clips, Clip):
        yield clips, None
    elif isinstance(clips, str | Path):
        clip, midi = read_clip(clips), expand(clips).with_suffix(".mid")
        yield clip, midi.read_bytes() if clip.making.verb == "beat" and midi.is_file() else None
    elif isinstance(clips, Iterable) and not isinstance(clips, Mapping | np.ndarray):
        for some in clips:
            yield from _collect(some)
    else:
        raise ArgumentError(f"{type(clips).__name__}: give clips, a beat, or the path of a saved sound.")


def _finish(sounds: list[tuple[Clip, bytes | None]], level: str, bits: str, to_rate: int | None) -> list[Packed]:
    """Trim the sounds, set their levels, find their notes, and name them; the list is emptied, to hold each once."""
    if not sounds:
        raise ArgumentError("There is no sound to pack.")
    for number, (clip, _) in enumerate(sounds, 1):
        require_sound(clip.audio, clip.sample_rate, f"sound {number}, {clip.name}")
    clips, scores = [_with_note(_trim(clip.at_rate(to_rate))) for clip, _ in sounds], [score for _, score in sounds]
    sounds.clear()
    peaks = [true_peak_dbfs(clip.audio, clip.loop) for clip in clips]
    gains = [0.0] * len(clips) if (level, bits) == ("kept", "float") else gains_db(peaks, level)
    clips = [clip.edited({"gain_db": gain} if gain else {}) for clip, gain in zip(clips, gains, strict=True)]
    names = _assign_names(clips)
    after = [peak + gain for peak, gain in zip(peaks, gains, strict=True)]
    return [Packed(*each) for each in zip(clips, names, after, gains, scores, strict=True)]


def _trim(clip: Clip) -> Clip:
    """Trim a one-shot; loops and bars have their length, and input audio may be either."""
    return clip.edited(find_trim(clip.audio, clip.sample_rate)) if clip.kind == "one-shot" else clip


def _with_note(clip: Clip) -> Clip:
    """Measure the note of a one-shot, unless it was made at one."""
    wanted = clip.kind == "one-shot" and clip.provenance.root_note is None
    note = root_note(clip.audio, clip.sample_rate) if wanted else None
    return replace(clip, provenance=replace(clip.provenance, root_note=RootNote(**note))) if note else clip


def _assign_names(clips: Sequence[Clip]) -> list[str]:
    """Return a path without suffix for each, unique on systems that ignore the case of letters too."""
    taken: set[str] = set()
    names = []
    for clip in clips:
        wanted = f"{_folder(clip)}/{clip.name}"
        candidates = (wanted if i == 1 else f"{wanted}-{i}" for i in count(1))
        names.append(next(name for name in candidates if name.lower() not in taken))
        taken.add(names[-1].lower())
    return names


def _folder(clip: Clip) -> str:
    """Return the folder of a sound; never with a tempo, as some programs read one from it."""
    if clip.kind in ("loop", "bars"):
        return "loops"
    categories = _categories(clip)
    return safe_name("-".join(categories))[:40] if categories else "oneshots"


def _categories(clip: Clip) -> list[str]:
    making = clip.making
    return list(dict.fromkeys([*(making.category or ()), *(making.to_category or ())]))


# --- the ZIP file ---


def _write(
    part: Path,
    packed: Sequence[Packed],
    bits: str,
    format: str,
    chunks: bool,
    instruments: bool,
    origins: Originality | None,
) -> None:
    """Write the pack; each sound is written beside it first."""
    top = safe_name(part.stem)
    with zipfile.ZipFile(part, "w") as file:  # not compressed: sounds hardly shrink, and zlib's versions differ

        def entry_of(name: str) -> zipfile.ZipInfo:
            entry = zipfile.ZipInfo(f"{top}/{name}", _OLDEST)
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # the same on every system
            return entry

        def add(name: str, content: bytes | str) -> None:
            # names that are not UTF-8 may stand in the texts
            file.writestr(entry_of(name), content.encode("utf-8", "replace") if isinstance(content, str) else content)

        def add_file(name: str, path: Path) -> None:
            entry = entry_of(name)
            entry.file_size = path.stat().st_size
            with path.open("rb") as source, file.open(entry, "w") as target:
                shutil.copyfileobj(source, target)
            path.unlink()

        records = []
        for index, each in enumerate(packed):
            record, written = _write_sound(each, part.parent / "sound", bits, format, chunks)
            origin = origins.record(index) if origins else {"verdict": UNCHECKED}
            records.append(replace(record, origin=origin))
            add_file(str(record.file.name), written)
            if each.midi:
                add(f"{each.name}.mid", each.midi)
        manifest = {PACK: VERSION, "name": top, "sounds": [record.to_dict() for record in records]}
        add("manifest.json", json.dumps(manifest, indent=2) + "\n")
        add("manifest.csv", write_table(records).encode("utf-8-sig", "replace"))
        pictured = [replace(each.clip.shown(), name=each.name) for each in packed[:MAX_PICTURED]]
        add("contact_sheet.png", waveform_sheet(pictured))
        skipped = 0
        if instruments:
            zones = _zones(packed, records)
            skipped = len(packed) - len(zones)
            add(f"{top}.sfz", write_sfz(zones))
            add(f"{top}.dspreset", write_dspreset(zones))
            add("drum_map.csv", write_drum_map(zones))
        add("README.txt", write_readme(top, packed, records, chunks, skipped if instruments else None, MAX_PICTURED))


def _write_sound(packed: Packed, scratch: Path, bits: str, format: str, chunks: bool) -> tuple[SoundRecord, Path]:
    """Write the file of a sound; return its record, and where it is."""
    wav = scratch.with_suffix(".wav")
    record = packed.clip.write(wav, bits, chunks)
    file, path = record.file, wav
    if format == "flac" and packed.clip.kind not in ("loop", "bars"):
        path = _to_flac(wav, bits)
        wav.unlink()
        # another version of FLAC gives another file of the same samples
        file = replace(file, sha256=file_sha256(path), samples_sha256=file_samples_sha256(path))
    file = replace(file, name=f"{packed.name}{path.suffix}", midi=f"{packed.name}.mid" if packed.midi else None)
    true_peak = round(packed.true_peak_dbfs + record.level.gain_db, 3)
    return replace(record, file=file, level=replace(record.level, true_peak_dbfs=true_peak)), path


def _to_flac(wav: Path, bits: str) -> Path:
    """Write the same samples as FLAC."""
    import soundfile

    flac = wav.with_suffix(".flac")
    with (
        soundfile.SoundFile(wav) as source,
        soundfile.SoundFile(flac, "w", source.samplerate, source.channels, SUBTYPES[bits], format="FLAC") as target,
    ):
        for block in source.blocks(_BLOCK, dtype="int32", always_2d=True):
            target.write(block)
    return flac


_IN_TUNE = 10  # cents


def _keybed(packed: Sequence[Packed]) -> list[int] | None:
    """Return the MIDI key of each sound, if they are one sound at several notes."""
    clips = [each.clip for each in packed]
    notes = [clip.provenance.root_note for clip in clips]
    first = replace(clips[0].making, note_hz=None)
    same = all((clip.seed, replace(clip.making, note_hz=None)) == (clips[0].seed, first) for clip in clips)
    keys = [note.note for note in notes if note is not None and abs(note.cents) < _IN_TUNE]
    one = (
        same and clips[0].making.verb == "generate" and clips[0].kind == "one-shot" and len(set(keys)) == len(clips) > 1
    )
    return keys if one else None


def _zones(packed: Sequence[Packed], records: Sequence[SoundRecord]) -> list[Zone]:
    """Return the sounds that have a key, by key; a mixture of categories counts as none.

    A pack of one sound at several notes is an instrument: each is on its own note and those around.
    """
    if (notes := _keybed(packed)) is not None:
        files = [(str(record.file.name), record.file.frames or 0) for record in records]
        return spread_keys(
            [Zone(key, path, "", False, frames) for key, (path, frames) in zip(notes, files, strict=True)]
        )
    loops = [each.clip.loop for each in packed]
    categories = [_categories(each.clip) for each in packed]
    kinds = [None if loop or len(some) != 1 else some[0] for loop, some in zip(loops, categories, strict=True)]
    keys = assign_keys(list(zip(kinds, loops, strict=True)))
    zones = [
        Zone(key, str(record.file.name), kind or "", loop, record.file.frames or 0)
        for key, kind, loop, record in zip(keys, kinds, loops, records, strict=True)
        if key is not None
    ]
    return sorted(zones, key=lambda zone: zone.key)
