"""The registry of published checkpoints, ``checkpoints.json``."""

from __future__ import annotations

import difflib
import json
from typing import Any

from ..errors import CheckpointError
from ..files import PACKAGE


def list_checkpoints() -> dict[str, dict[str, Any]]:
    """Return the registry: name -> sources, sample_rate, frames, licence, credit, description."""
    here = PACKAGE
    for path in (here / "checkpoints.json", here.parent / "checkpoints.json"):  # installed, or a checkout
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))
    raise CheckpointError(f"checkpoints.json is missing beside {here}: reinstall ddnb.")


def unknown_checkpoint(name: str) -> CheckpointError:
    """Return the error for a name that is not in the registry, with near matches."""
    known = list(list_checkpoints())
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
    guess = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    return CheckpointError(
        f"Unknown checkpoint {name!r}.{guess} Known: {', '.join(known)}; or give the path of a file or a folder."
    )
