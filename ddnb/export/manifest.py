"""TODO export/manifest."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from typing import Any


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
