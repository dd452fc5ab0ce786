"""The registry of published checkpoints, ``checkpoints.json``."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..files import ASSETS, PACKAGE
from .sizes import read_json


def list_checkpoints() -> dict[str, dict[str, Any]]:
    """Return the registry: name -> sources, sample_rate, frames, licence, credit, description."""
    here = PACKAGE
    for path in (here / "checkpoints.json", here.parent / "checkpoints.json"):  # installed, or a checkout
        if path.is_file():
            return read_registry(path)
    raise CheckpointError(f"checkpoints.json is missing beside {here}: reinstall ddnb.")


def read_registry(path: Path) -> dict[str, dict[str, Any]]:
    """Read a registry: each entry states its rate, its length, and one place where its weights are.

    Raises:
        CheckpointError: it is damaged; it names the entry.
    """
    try:
        entries = read_json(path)
    except ValueError as error:
        raise CheckpointError(f"{path.name} is damaged ({error}): reinstall ddnb.") from error
    if not isinstance(entries, dict):
        raise CheckpointError(f"{path.name} is damaged (not a table of checkpoints): reinstall ddnb.")
    for name, entry in entries.items():
        if not (isinstance(entry, dict) and _is_right(entry)):
            raise CheckpointError(f"{path.name} is damaged at {name[:100]!r}: correct it, or reinstall ddnb.")
    return entries


def _is_right(entry: Mapping[str, Any]) -> bool:
    numbers = all(type(entry.get(what)) is int and entry[what] > 0 for what in ("sample_rate", "frames"))
    texts = all(isinstance(entry.get(what, ""), str) for what in ("description", "licence", "credit", "asset"))
    return numbers and texts and _has_place(entry)


def _has_place(entry: Mapping[str, Any]) -> bool:
    """Return whether an entry says where its weights are: in the package, elsewhere, or that there are none."""
    if "untrained" in entry:
        settings = entry["untrained"]
        return isinstance(settings, dict) and settings.keys() >= {"widths", "attention_levels", "seed"}
    if "asset" in entry:
        return (ASSETS / entry["asset"]).parent == ASSETS
    sources = entry.get("sources")
    return isinstance(sources, list) and bool(sources) and all(map(_is_source, sources))


def _is_source(source: Any) -> bool:
    return (
        isinstance(source, dict) and isinstance(source.get("from"), str) and isinstance(source.get("sha256", ""), str)
    )


def unknown_checkpoint(name: str) -> CheckpointError:
    """Return the error for a name that is not in the registry, with near matches."""
    known = list(list_checkpoints())
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
    guess = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    return CheckpointError(
        f"Unknown checkpoint {name!r}.{guess} Known: {', '.join(known)}; or give the path of a file or a folder."
    )
