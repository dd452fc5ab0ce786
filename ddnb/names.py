"""Names that people give: which of the known ones is meant, and one spelling for those that are alike.

The same letters can be written in two ways in Unicode: Macs store "ä" as two characters, keyboards send one. And file
systems differ in whether "Kick" and "kick" are one folder, and in whether "kick " has its space. None of these makes
another name here.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence


def canonical(name: str) -> str:
    """Return a name in the form in which keyboards send it, Unicode's NFC."""
    return unicodedata.normalize("NFC", name)


def find_name(name: str, known: Sequence[str]) -> str | None:
    """Return which of the known names is meant: the same one, else the same letters, else the same but for the case.

    Returns:
        The known name as it is spelled there; None where there is none, or where several differ in their case only.
    """
    if name in known:
        return name
    for form in (canonical, _folded):
        if alike := [other for other in known if form(other) == form(name)]:
            return alike[0] if len(alike) == 1 else None
    return None


def unify_names(names: Iterable[str], known: Sequence[str] = ()) -> dict[str, str]:
    """Return one spelling for each name: that of a known one which is alike, else of the first of those alike."""
    spellings, found = list(known), dict[str, str]()
    for name in names:
        if (same := find_name(name, spellings)) is None:
            same = canonical(name)
            spellings.append(same)
        found[name] = same
    return found


def _folded(name: str) -> str:
    return canonical(canonical(name).casefold()).strip() or name
