"""Prepare the recordings that the embedded default is trained on and judged by: make dataset.

    python -m recipe.prepare build            download, render and write the files below, some minutes
    python -m recipe.prepare build --card     also rewrite the tables of recipe/DATA.md

``default_data.npz`` holds the recordings, ``default_notes.npz`` notes of known pitch, for training only.

Needs Debian or Ubuntu: apt-get and dpkg for the packages, fluidsynth (apt-get install fluidsynth) for the sound font.
"""

from __future__ import annotations

import argparse
import shutil
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

from ddnb import audio
from ddnb.training.near_copies import compute_feature, find_near_copies

from . import sources
from .data import CATEGORIES, FRAMES, LEAD, PEAK_DBFS, SAMPLE_RATE, Prepared, save_prepared
from .fluid import Recording, all_notes, matches, read, render, run, tonal_notes

CARD = Path(__file__).parent / "DATA.md"
FILE, NOTES_FILE = "default_data.npz", "default_notes.npz"

ONSET_DB, TAIL_DB = -40.0, -70.0
"""A sound begins at its first sample above ONSET_DB re its peak, and ends at its last sample above TAIL_DB."""

FADE = 256
LONG_FADE = 8192
"""Frames of the fade of a sound that is cut before its end, and of the crossfade from a texture's end to its start."""

LOW_CUT_HZ = 20.0


def main(arguments: list[str] | None = None) -> None:
    """Prepare the recordings as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("build"), help="work folder, 1.3 GB")
    parser.add_argument("--card", action="store_true", help="rewrite the tables of recipe/DATA.md")
    options = parser.parse_args(arguments)
    path, (data, dropped) = options.folder / FILE, gather(options.folder)
    save_prepared(path, data)
    save_prepared(options.folder / NOTES_FILE, gather_notes(options.folder))
    text = card_tables(data, dropped, path.stat().st_size)
    print(text)
    if options.card:
        write_card(text)


def gather(folder: Path) -> tuple[Prepared, Counter[str]]:
    """Gather and trim all recordings, without near copies; return them and the number of excluded ones by reason."""
    roots = fetch(folder / "packages")
    found = [*sonic_pi(roots["sonic-pi-samples"]), *render(roots["fluid-soundfont-gm"], folder, all_notes)]
    found += rumpf(roots["hydrogen-drumkits"])
    dropped: Counter[str] = Counter()
    trained = {r for f in found if not f.held_out for r in f.recordings}
    apart = [f for f in found if not (f.held_out and trained & set(f.recordings))]
    dropped["on both sides of the split"] = len(found) - len(apart)
    return drop_near_copies([piece for f in apart for piece in trim(f)], dropped)


def gather_notes(folder: Path) -> Prepared:
    """Gather single notes of the categories with a pitch, without those that are held out."""
    found = render(fetch(folder / "packages")["fluid-soundfont-gm"], folder, tonal_notes)
    return prepared([piece for each in found if not each.held_out for piece in trim(each)])


# --- packages ---------------------------------------------------------------------------------------------------


def fetch(folder: Path) -> dict[str, Path]:
    """Download and unpack the missing packages; package -> root of its files."""
    folder, roots = folder.absolute(), {}
    for package in sources.PACKAGES:
        root = folder / package
        if not root.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            if not list(folder.glob(f"{package}_*.deb")):
                run(["apt-get", "download", package], cwd=folder)
            (deb,) = folder.glob(f"{package}_*.deb")
            part = root.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            run(["dpkg", "-x", str(deb), str(part)], cwd=folder)
            part.rename(root)
        roots[package] = root
    return roots


# --- the sources beside the sound font ---------------------------------------------------------------------------


def sonic_pi(root: Path) -> Iterator[Recording]:
    """Yield the samples of Sonic Pi that have a category."""
    folder = root / "usr/share/sonic-pi/samples"
    for category, names in sources.SONIC_PI.items():
        for name in names.split():
            held_out, label = matches(name, sources.SONIC_PI_HELD_OUT), f"sonic-pi/{name}"
            yield Recording(read(folder / f"{name}.flac"), category, "sonic-pi", (label,), label, held_out)
    for name, start, end, category in sources.SONIC_PI_SLICES:
        label = f"sonic-pi/{name}"
        yield Recording(
            read(folder / f"{name}.flac")[start:end], category, "sonic-pi", (label,), f"{label}/{start}", False
        )


def rumpf(root: Path) -> Iterator[Recording]:
    """Yield the sounds of rumpf_kit, most of them percussion."""
    for path in sorted(root.glob("usr/share/hydrogen/data/drumkits/rumpf_kit*/*.flac")):
        if not matches(path.stem, sources.RUMPF_LEFT_OUT):
            category = next((c for c, names in sources.RUMPF.items() if path.stem in names.split()), "perc")
            name, held_out = f"rumpf/{path.stem}", matches(path.stem, sources.RUMPF_HELD_OUT)
            yield Recording(read(path), category, "rumpf", (name,), name, held_out)


# --- trimming ---------------------------------------------------------------------------------------------------


Piece = tuple[Recording, np.ndarray, float]
"""A trimmed sound: its recording, int16 samples (frames,), and its original peak in dBFS."""


def trim(found: Recording) -> Iterator[Piece]:
    """Yield the pieces of a recording: one of a one-shot, several of a long texture."""
    sound = low_cut(found.audio)
    for piece in cut_loops(sound) if found.category == "texture" else [cut_one_shot(sound)]:
        peak = audio.peak_dbfs(piece)
        if len(piece) >= SAMPLE_RATE // 100 and peak > -60:
            raised = piece * 10 ** ((PEAK_DBFS - peak) / 20)
            yield found, np.round(raised * 32767).astype(np.int16), peak


def low_cut(sound: np.ndarray) -> np.ndarray:
    """Remove DC and everything below 20 Hz with zero phase, so without a delay."""
    spectrum = np.fft.rfft(sound, 2 * len(sound))
    hz = np.fft.rfftfreq(2 * len(sound), 1 / SAMPLE_RATE)
    spectrum *= 1 / (1 + (LOW_CUT_HZ / np.maximum(hz, 1e-3)) ** 4)
    return np.fft.irfft(spectrum)[: len(sound)]


def cut_one_shot(sound: np.ndarray) -> np.ndarray:
    """Cut from 64 frames before the attack to where the tail falls below -70 dB, with short fades."""
    level = np.abs(sound)
    start = int(np.argmax(level >= level.max() * 10 ** (ONSET_DB / 20))) - LEAD
    sound = np.pad(sound, (max(0, -start), 0))[max(0, start) :][:FRAMES]
    loud = np.flatnonzero(np.abs(sound) >= np.abs(sound).max() * 10 ** (TAIL_DB / 20))
    ended = loud[-1] + 1 < FRAMES - LONG_FADE
    sound = sound[: loud[-1] + 1].copy()
    sound[:LEAD] *= _rise(LEAD)
    fade = min(FADE if ended else LONG_FADE, len(sound) // 2)
    sound[len(sound) - fade :] *= _rise(fade)[::-1]
    return sound


def cut_loops(sound: np.ndarray) -> list[np.ndarray]:
    """Cut a texture into loops of 65,536 frames whose end crossfades into their start."""
    loud = np.flatnonzero(np.abs(sound) >= np.abs(sound).max() * 10 ** (ONSET_DB / 20))
    sound = sound[loud[0] : loud[-1] + 1]
    if len(sound) < FRAMES + LONG_FADE:  # repeat a short one; one below 2 crossfades is dropped
        rounds = -(-2 * FRAMES // max(1, len(sound) - LONG_FADE))
        sound = _chain([sound] * (rounds + 1)) if len(sound) > 2 * LONG_FADE else np.zeros(0)
        return [_close_loop(sound[: FRAMES + LONG_FADE])] if len(sound) >= FRAMES + LONG_FADE else []
    step = FRAMES + LONG_FADE
    return [_close_loop(sound[a:b]) for a, b in pairwise(range(0, len(sound) + 1, step))]


def _close_loop(piece: np.ndarray) -> np.ndarray:
    """Crossfade the last frames into the first at constant power, because they are uncorrelated."""
    rise = np.sqrt(_rise(LONG_FADE))
    out = piece[:FRAMES].copy()
    out[:LONG_FADE] = out[:LONG_FADE] * rise + piece[FRAMES:] * rise[::-1]
    return out


def _chain(pieces: list[np.ndarray]) -> np.ndarray:
    out, rise = pieces[0], np.sqrt(_rise(LONG_FADE))
    for piece in pieces[1:]:
        middle = out[-LONG_FADE:] * rise[::-1] + piece[:LONG_FADE] * rise
        out = np.concatenate([out[:-LONG_FADE], middle, piece[LONG_FADE:]])
    return out


def _rise(frames: int) -> np.ndarray:
    return 0.5 - 0.5 * np.cos(np.pi * (np.arange(frames) + 0.5) / frames)


# --- near copies ---------------------------------------------------------------------------------------------------


def drop_near_copies(cut: list[Piece], dropped: Counter[str]) -> tuple[Prepared, Counter[str]]:
    """Exclude near copies; of a pair the held-out one is kept, so that no sound is judged by a training sound."""
    cut = sorted(cut, key=lambda c: not c[0].held_out)
    features = np.stack([compute_feature(sound[None] / np.float32(32768), SAMPLE_RATE) for _, sound, _ in cut])
    copies = {i for i, _ in find_near_copies(features)}
    dropped["near copies of another"] = len(copies)
    kept = sorted((c for i, c in enumerate(cut) if i not in copies), key=lambda c: CATEGORIES.index(c[0].category))
    return prepared(kept), dropped


def prepared(pieces: list[Piece]) -> Prepared:
    """Return trimmed sounds as they are saved."""
    whats = [what for what, _, _ in pieces]
    return Prepared(
        [sound for _, sound, _ in pieces],
        np.array([CATEGORIES.index(w.category) for w in whats]),
        [w.source for w in whats],
        ["+".join(w.recordings) for w in whats],
        [w.name for w in whats],
        np.array([peak for _, _, peak in pieces], np.float32),
        np.array([w.held_out for w in whats]),
    )


# --- the card ---------------------------------------------------------------------------------------------------

_BEGIN, _END = "<!-- tables: written by recipe/prepare.py -->", "<!-- end of tables -->"


def card_tables(data: Prepared, dropped: Counter, size: int) -> str:
    """Return the tables of the card as Markdown."""
    minutes = sum(len(s) for s in data.sounds) / SAMPLE_RATE / 60
    excluded = ", ".join(f"{n} {reason}" for reason, n in sorted(dropped.items()))
    return f"{count_table(data)}\n\n{minutes:.1f} minutes in {size / 2**20:.1f} MiB. Excluded: {excluded}."


def count_table(data: Prepared) -> str:
    """Return the table of the numbers of sounds by category, source and split."""
    names = sorted(set(data.sources))
    lines = ["| category | " + " | ".join(names) + " | trained on | held out | median length |"]
    lines.append("|---" * (len(names) + 4) + "|")
    for number, category in enumerate([*CATEGORIES, "**all**"]):
        chosen = [i for i, label in enumerate(data.labels) if label == number or category == "**all**"]
        held = sum(bool(data.held_out[i]) for i in chosen)
        each = Counter(data.sources[i] for i in chosen)
        length = np.median([len(data.sounds[i]) for i in chosen]) / SAMPLE_RATE if chosen else 0
        counts = " | ".join(str(each[name]) for name in names)
        lines.append(f"| {category} | {counts} | {len(chosen) - held} | {held} | {length:.2f} s |")
    return "\n".join(lines)


def write_card(text: str) -> None:
    """Replace the tables of the data card."""
    card = CARD.read_text(encoding="utf-8")
    before, after = card.split(_BEGIN)[0], card.split(_END)[1]
    CARD.write_text(f"{before}{_BEGIN}\n\n{text}\n\n{_END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
