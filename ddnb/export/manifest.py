"""The manifest of a pack as a table, for spreadsheets."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from typing import Any

from ..clips.record import SoundRecord


def write_table(records: Sequence[SoundRecord]) -> str:
    """Return the records as CSV: the most wanted columns first, then one per entry; nested entries are JSON."""
    rows = [_first_columns(record) | _all_columns(record.to_dict()) for record in records]
    text = io.StringIO()
    table = csv.DictWriter(text, list(dict.fromkeys(column for row in rows for column in row)))
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def _first_columns(record: SoundRecord) -> dict[str, Any]:
    file, music, provenance = record.file, record.music, record.provenance
    return {
        "name": _to_cell(file.name),
        "type": music.type,
        "seconds": round((file.frames or 0) / (file.sample_rate or 1), 3),
        "bpm": "" if music.bpm is None else music.bpm,
        "bars": "" if music.bars is None else music.bars,
        "note": music.root_note.name if music.root_note else "",
        "seed": provenance.making.seed if provenance.making else "",
        "licence": _to_cell((provenance.model and provenance.model.licence) or ""),
    }


def _all_columns(record: dict[str, Any]) -> dict[str, Any]:
    return {
        f"{group}.{key}" if isinstance(values, dict) else group: _to_cell(value)
        for group, values in record.items()
        for key, value in (values.items() if isinstance(values, dict) else [("", values)])
    }


def _to_cell(value: Any) -> Any:
    """Return a value for a table; a text that a spreadsheet would compute, or read as a date, gets an apostrophe."""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    dangerous = isinstance(value, str) and re.match(r"[=+\-@\t\r]|\d+/\d+$", value)
    return f"'{value}" if dangerous else value
