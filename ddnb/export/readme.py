"""TODO export/readme."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..clips.clip import Clip

NOT_KNOWN = "not known"
_UNCHECKED = "not checked"
_SHEET = 400  # waveforms on the contact sheet at most
_WIDTH = 100  # characters of a line in README.txt


@dataclass(frozen=True)
class _Packed:
    """A finished sound, and what the pack says of it."""

    clip: Clip
    name: str
    true_peak_dbfs: float
    gain_db: float
    midi: bytes | None


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
