"""JavaScript of the widgets, from the ``.js`` files beside this module.

A ``<script>`` inside a widget's HTML never runs, but event attributes do: a handler ``function name(event)`` of a
file becomes the code of an attribute, with ``this`` as the element.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from ..display.html import escape


@cache
def read_script(name: str) -> str:
    """Return the content of a ``.js`` file, without its leading comment."""
    text = (Path(__file__).parent / name).read_text(encoding="utf-8")
    return "\n".join(line for line in text.splitlines() if not line.startswith("//")).strip()


@cache
def attribute(name: str, function: str) -> str:
    """Return the code of an event attribute that calls a function of a file, escaped for HTML."""
    found = re.search(rf"^function {function}\(event\) \{{\n.*?^\}}$", read_script(name), re.M | re.S)
    if found is None:
        raise KeyError(f"{name} has no function {function}(event)")
    code = " ".join(line.strip() for line in found[0].splitlines())
    return escape(f"({code}).call(this, event)")
