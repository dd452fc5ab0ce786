"""README.txt of a pack: what a musician who receives it wants to know."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..clips.clip import Clip
from ..clips.provenance import InputRecord, ModelRecord, Provenance
from ..clips.record import SoundRecord
from ..display.text import counted

NOT_KNOWN = "not known"
UNCHECKED = "not checked"
_WIDTH = 100  # characters per line
_LISTED = 20  # names

_REMAKE = (
    "makes every sound again from manifest.json, which states for each how it was made, with which network, and how it "
    "was edited since. Input audio of yours is looked for beside it, or in --sounds FOLDER."
)
_LICENCES = (
    "The program ddnb is MIT licensed. The weights of a network have a licence of their own, and its training data may "
    "have a third. 'Not known' means: ask before you publish."
)


@dataclass(frozen=True)
class Packed:
    """A finished sound and its place in the pack: its path without suffix, its true peak in dBFS, the gain it got in
    dB, and the content of its MIDI file.
    """

    clip: Clip
    name: str
    true_peak_dbfs: float
    gain_db: float
    midi: bytes | None


def write_readme(
    top: str,
    packed: Sequence[Packed],
    records: Sequence[SoundRecord],
    chunks: bool,
    skipped: int | None,
    max_pictured: int,
) -> str:
    """Return the text.

    Args:
        top: name of the pack.
        packed, records: its sounds and their records.
        chunks: whether the WAV files have chunks with loop points and tempo.
        skipped: sounds without a key in the instruments; None where there are no instruments.
        max_pictured: sounds on the contact sheet at most.
    """
    sounds = "\n".join(_describe_sound(each, record) for each, record in zip(packed, records, strict=True))
    parts = [
        f"{top}: {len(packed)} sound{'s' if len(packed) > 1 else ''}, made with ddnb",
        _wrap(_describe_files(records, chunks, max_pictured)),
        *([_wrap(_describe_instruments(top, skipped))] if skipped is not None else []),
        f"SOUNDS\n\n{sounds}",
        f"ORIGIN\n\n{_wrap(_describe_origins(records))}",
        f"REMAKE\n\n  python -m ddnb remake {top}.zip --out again\n\n{_wrap(_describe_remake(records))}",
        "LICENCES\n\n" + "\n".join(_describe_licences(records)) + f"\n\n{_wrap(_LICENCES)}",
    ]
    return "\n\n\n".join(parts) + "\n"


def describe_unrecorded(names: Sequence[str]) -> str:
    """Say which sounds cannot be made again, as there is no record beside their files."""
    listed = ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
    return f"{counted(len(names), 'sound')} without a record cannot be made again; keep the WAV or FLAC files: {listed}"


def _describe_remake(records: Sequence[SoundRecord]) -> str:
    names = [str(record.file.name) for record in records if record.provenance.making is None]
    return _REMAKE + (f" {describe_unrecorded(names)}." if names else "")


def _wrap(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)


def _describe_files(records: Sequence[SoundRecord], chunks: bool, max_pictured: int) -> str:
    files = [record.file for record in records]
    kinds = {(str(file.name).rpartition(".")[2].upper(), file.bits, file.sample_rate) for file in files}
    formats = [
        f"{suffix}, {bits}{'' if bits == 'float' else ' bit'}, {rate} Hz" for suffix, bits, rate in sorted(kinds)
    ]
    parts = ["; ".join(formats) + "."]
    if any(suffix == "FLAC" for suffix, _, _ in kinds):
        parts.append("FLAC cannot state loop points, tempo or notes, so loops are WAV files.")
    if chunks:
        parts.append("WAV files state their loop points, their tempo and beats, or that they are one-shots.")
    else:
        parts.append("The WAV files are plain, for machines that refuse loop points and tempo.")
    parts.append("One-shots begin a millisecond before their attack. Loops last exactly their bars.")
    parts.append("manifest.json and manifest.csv describe each sound completely; contact_sheet.png shows them.")
    if len(records) > max_pictured:
        parts.append(f"It shows the first {max_pictured}.")
    return " ".join(parts)


def _describe_instruments(top: str, skipped: int) -> str:
    text = (
        f"Instruments: {top}.sfz is for SFZ players, {top}.dspreset for Decent Sampler; drum_map.csv lists the keys. "
        "The first sound of each drum is on its General MIDI key, the others from middle C upwards, by category."
    )
    return text + (f" Without a key, as a keyboard has 128: {skipped} sounds." if skipped else "")


def _describe_sound(packed: Packed, record: SoundRecord) -> str:
    parts = [f"{packed.clip.duration_s:.2f} s"]
    if record.music.bpm is not None:
        parts.append(f"{record.music.bpm:g} BPM, {record.music.beats} beats")
    gain = packed.gain_db + record.level.gain_db
    parts += [f"gain {gain:+.1f} dB"] if gain else []
    parts.append(f"true peak {record.level.true_peak_dbfs:.1f} dBFS")
    return f"  {record.file.name}: {', '.join(parts)}"


def _describe_origins(records: Sequence[SoundRecord]) -> str:
    if any(record.origin is None or record.origin["verdict"] == UNCHECKED for record in records):
        return "Not checked: these sounds have not been compared with the network's training data."
    return "Each sound was compared with a folder of sounds: see origin in manifest.json."


def _describe_licences(records: Sequence[SoundRecord]) -> list[str]:
    """Return a line per network, including those that made the inputs of other sounds."""
    models: dict[str, ModelRecord] = {}
    for record in records:
        for model in _find_models(record.provenance):
            models.setdefault(model.weights_sha256 or model.name, model)
    lines = [
        f"  {model.name}: licence {model.licence or NOT_KNOWN}; credit: {model.credit or NOT_KNOWN}; "
        f"weights from {model.source or NOT_KNOWN}"
        for model in models.values()
        if model.weights_sha256
    ]
    if any(not model.weights_sha256 for model in models.values()):
        lines.append("  input audio of your own: its own licences")
    return lines


def _find_models(provenance: Provenance) -> Iterator[ModelRecord]:
    """Yield every model of a provenance, including those of its inputs."""
    if provenance.model is not None:
        yield provenance.model
    making = provenance.making
    inputs: list[InputRecord | None] = [provenance.source]
    if making is not None:
        inputs += [making.source, making.a, making.b, *(making.sounds or {}).values()]
    for each in inputs:
        if each is not None and each.provenance is not None:
            yield from _find_models(each.provenance)
