"""The sound files of a folder, and what is said about those that cannot be used."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from ..files import expand
from ..notices import warn

SUFFIXES = {".wav", ".wave", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64"}
SUFFIXES |= {".bwf", ".rf64", ".oga", ".snd"}
SUFFIXES |= {".m4a", ".aac", ".mp4", ".wma", ".webm"}  # through ffmpeg

_OF_SYSTEMS = {"__MACOSX", "$RECYCLE.BIN", "System Volume Information", "@eaDir", "#recycle", "lost+found"}
"""Folders that systems and network drives add; deleted sounds may be in them."""


@dataclass
class Listing:
    """What a folder and its subfolders hold: paths inside it, with ``/``, in the order of the folders.

    Attributes:
        sounds: named like sound files, whatever they are.
        others: of other kinds, links to folders among them, which are not followed: they may form a cycle.
        closed: folders that cannot be opened, with reasons.
    """

    sounds: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)


def list_folder(folder: Path) -> Listing:
    """List a folder and its subfolders, without what is hidden or added by the system.

    A folder that is named like a sound file, and holds none, counts as one that cannot be used.
    """
    found = Listing()

    def refuse(error: OSError) -> None:
        name = Path(os.path.relpath(error.filename or folder, folder)).as_posix()
        found.closed.append(f"{name}/ (cannot be opened: {error.strerror})")

    named_so: list[str] = []
    for here, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(f for f in folders if not is_hidden(f))
        inside = {f: (Path(here) / f).relative_to(folder).as_posix() for f in folders}
        named_so += [name for f, name in inside.items() if is_sound(f)]
        found.others += [f"{name}/ (a link)" for f, name in inside.items() if (Path(here) / f).is_symlink()]
        for file in sorted(f for f in files if not f.startswith(".")):
            name = (Path(here) / file).relative_to(folder).as_posix()
            (found.sounds if is_sound(file) else found.others).append(name)
    found.sounds += [each for each in named_so if not any(name.startswith(f"{each}/") for name in found.sounds)]
    return found


def is_hidden(folder: str) -> bool:
    """Return whether a folder is hidden, or one that the system added."""
    return folder.startswith(".") or folder in _OF_SYSTEMS


def is_sound(name: str) -> bool:
    """Return whether a file is named like a sound."""
    return Path(name).suffix.lower() in SUFFIXES


def sound_files(folder: str | Path) -> list[Path]:
    """Return what is named like a sound file in a folder and its subfolders, by name; some may not be readable.

    Of several links to one file, and of a file and links to it, only the first is listed, a file before links. A
    subfolder that cannot be opened is warned of.

    Raises:
        FileNotFoundError: no such folder, or no sound in it.
    """
    folder = expand(folder)
    listing = list_folder(folder)
    if listing.closed and folder.is_dir():
        warn(f"In {folder.name} were left out: {', '.join(listing.closed)}.", stacklevel=2)
    if not listing.sounds:
        raise FileNotFoundError(f"There are no sound files in {folder}.")
    return _without_repeats(sorted(folder / name for name in listing.sounds))


def _without_repeats(paths: list[Path]) -> list[Path]:
    """Leave out links to files that are listed already."""
    links = [path for path in paths if path.is_symlink()]
    if not links:
        return paths
    seen = {_identity(path) for path in paths if not path.is_symlink()}
    repeated = set()
    for link in links:
        if (file := _identity(link)) is not None and file in seen:
            repeated.add(link)
        seen.add(file)
    return [path for path in paths if path not in repeated]


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from all others; None where that is not known."""
    try:
        state = path.stat()
    except OSError:
        return None
    return (state.st_dev, state.st_ino) if state.st_ino else None


def reason_of(error: Exception, file: str) -> str:
    """Return what is wrong with a file, without its name and folder, which the caller shows beside the reason."""
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be opened: {error.strerror}."
    return str(error).removeprefix(f"{file} ")
