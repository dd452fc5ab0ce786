"""Folders of sounds as training data: found, decoded once into one memory-mapped file, drawn from without delay.

What is drawn depends on the seed and on the number of the item alone, never on what was drawn before: a run that was
interrupted goes on with the sounds that would have come, and several processes share a batch without talking.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from io import RawIOBase
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock

from ..audio.io import SUFFIXES, opened, peak_dbfs, to_channels
from ..files import ASSETS, atomically, file_sha256
from ..runtime import cache_dir

EXAMPLES = ASSETS / "one-shots"
"""Twelve real drum sounds in class folders, CC0, that come with the package."""

COPY = "an exact copy of "
"""How the reason begins for which a copy is not used."""

MIN_DURATION_S = 0.01
FULL_SCALE = 0.999
_BLOCK = 1 << 18
_LAYOUT = 2  # of the files in the cache; another number makes them anew
_LONG = 8  # a file this many times as long as a clip is cut into pieces of half of that

OnFile = Callable[[int, int], object]


@dataclass(frozen=True)
class Sound:
    """A file that can be trained on.

    Attributes:
        name: its path inside the folder, with ``/``.
        category: the folder at the top of that path; none for a file that lies in no folder.
        start, frames: where it lies in ``Dataset.audio``.
        sample_rate, channels, duration_s: of the file itself.
        sha256: of the file itself.
        peak_dbfs: its highest sample.
        dc: its mean, of full scale.
        clipped: samples at full scale that equal the one before them: flat tops.
    """

    name: str
    category: str | None
    start: int
    frames: int
    sample_rate: int
    channels: int
    duration_s: float
    sha256: str
    peak_dbfs: float
    dc: float
    clipped: int


@dataclass(frozen=True, eq=False)
class Dataset:
    """A folder of sounds at one rate.

    Attributes:
        audio: float32 (frames of all sounds, channels), memory-mapped.
        sample_rate: Hz.
        sounds: the files that can be trained on, by name.
        unusable: name -> reason of the sound files that cannot.
        ignored: names of files that are no sounds by their suffix.
    """

    audio: np.ndarray
    sample_rate: int
    sounds: tuple[Sound, ...]
    unusable: dict[str, str]
    ignored: tuple[str, ...]

    @property
    def categories(self) -> tuple[str, ...]:
        """The class folders, sorted."""
        return tuple(sorted({s.category for s in self.sounds if s.category is not None}))

    @property
    def fingerprint(self) -> str:
        """A hash of what is trained on: names and contents of the usable files."""
        return hashlib.sha256(json.dumps([[s.name, s.sha256] for s in self.sounds]).encode()).hexdigest()

    def sound(self, index: int) -> np.ndarray:
        """The whole of one sound, float32 (channels, frames)."""
        s = self.sounds[index]
        return self.audio[s.start : s.start + s.frames].T


def decode(folder: str | Path, sample_rate: int, channels: int = 2, on_file: OnFile | None = None) -> Dataset:
    """Read a folder of sounds, with its subfolders, into the cache; the next time they come from there.

    Args:
        folder: sound files, or class folders of them: the folders at its top are the categories. One folder around
            all of those is looked through.
        sample_rate: Hz, to which everything is resampled.
        channels: to which everything is converted, see ``audio.to_channels``.
        on_file: called after each file as ``on_file(done, total)``.

    Returns:
        The data. Files that cannot be used are in ``unusable``, with reasons; exact copies are among them.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: nothing in it can be used; the message says why.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        what = "is a file: give the folder it is in" if folder.is_file() else "is not there"
        raise FileNotFoundError(f"No folder of sounds: {folder} {what}.")
    folder = _unwrapped(folder)
    names, ignored = _list(folder)
    if not names:
        others = f"; what it holds is of other kinds: {len(ignored)}, such as {ignored[0]}" if ignored else ""
        raise ValueError(f"{folder} holds no sound files{others}. Known: {' '.join(sorted(SUFFIXES))}.")
    place = f"{folder.name[:40]}-{_hash(str(folder.resolve()), sample_rate, channels, _LAYOUT)}"
    # what ffmpeg or a permission has kept out is tried again once it is there
    state = _hash([(name, *_state(folder / name)) for name in names], shutil.which("ffmpeg") is not None)
    cached = cache_dir() / "datasets" / f"{place}-{state}"
    cached.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(cached.parent / f"{place}.lock"):  # of several processes, one decodes
        if not (cached / "index.json").is_file():
            for pattern in (f"{glob.escape(place)}-*", f".{glob.escape(place)}-*"):  # the hidden ones: of killed runs
                for stale in cached.parent.glob(pattern):
                    shutil.rmtree(stale, ignore_errors=True)
            atomically(cached, lambda part: _decode_all(part, folder, names, sample_rate, channels, on_file))
        index = json.loads((cached / "index.json").read_text(encoding="utf-8"))
        audio = np.memmap(cached / "audio.f32", np.float32, "r") if index["sounds"] else np.zeros(0, np.float32)
    if not index["sounds"]:
        reasons = [f"- {name}: {reason}" for name, reason in list(index["unusable"].items())[:10]]
        raise ValueError(f"None of the {len(names)} sound files in {folder} can be used:\n" + "\n".join(reasons))
    sounds = tuple(Sound(**s) for s in index["sounds"])
    return Dataset(audio.reshape(-1, channels), sample_rate, sounds, index["unusable"], ignored)


def _unwrapped(folder: Path) -> Path:
    """The folder of class folders, where an unpacked zip has put another one around it."""
    while True:
        inside = [p for p in folder.iterdir() if p.name[0] != "." and p.name != "__MACOSX"]
        wrapper = len(inside) == 1 and inside[0].is_dir() and not inside[0].is_symlink()
        if not wrapper or not any(p.is_dir() and p.name[0] != "." for p in inside[0].iterdir()):
            return folder
        folder = inside[0]


def _list(folder: Path) -> tuple[list[str], tuple[str, ...]]:
    """Names of the sound files, and of the others; what a system hides or adds by itself is neither."""
    found, ignored = [], []
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f != "__MACOSX")
        # links are not followed: they may go in circles
        links = [Path(here) / f for f in folders if (Path(here) / f).is_symlink()]
        ignored += [f"{link.relative_to(folder).as_posix()}/ (a link)" for link in links]
        for file in sorted(f for f in files if not f.startswith(".")):
            name = (Path(here) / file).relative_to(folder).as_posix()
            (found if Path(file).suffix.lower() in SUFFIXES else ignored).append(name)
    return found, tuple(ignored)


def _state(path: Path) -> tuple[int, int, bool]:
    """What changes when a file does."""
    if not path.exists():  # a link that leads nowhere
        return 0, 0, False
    return path.stat().st_size, path.stat().st_mtime_ns, os.access(path, os.R_OK)


def _hash(*values: Any) -> str:
    return hashlib.sha256(repr(values).encode()).hexdigest()[:12]


def _decode_all(part: Path, folder: Path, names: list[str], sample_rate: int, channels: int, on_file) -> None:
    import soundfile  # here, as in ``audio``

    part.mkdir()
    sounds: list[Sound] = []
    seen: dict[tuple[str | None, str], str] = {}
    unusable: dict[str, str] = {}
    with (part / "audio.f32").open("wb", buffering=0) as out:  # a full disk shows at once, not when it is closed
        for done, name in enumerate(names, 1):
            start = out.tell()
            category = name.split("/")[0] if "/" in name else None
            try:
                sha256 = file_sha256(folder / name)
                if first := seen.get((category, sha256)):
                    raise ValueError(f"{COPY}{first}, which is used.")
                facts = _decode_one(folder / name, out, sample_rate, channels)
                frames = (out.tell() - start) // (4 * channels)
                sounds.append(Sound(name, category, start // (4 * channels), frames, sha256=sha256, **facts))
                seen[category, sha256] = name
            except (ValueError, OSError, soundfile.LibsndfileError) as error:
                if out.tell() != start:
                    out.truncate(out.seek(start))
                unusable[name] = _reason(error, name.split("/")[-1])
            if on_file is not None:
                on_file(done, len(names))
    index = {"sounds": [asdict(s) for s in sounds], "unusable": unusable}
    (part / "index.json").write_text(json.dumps(index), encoding="utf-8")


def _reason(error: Exception, file: str) -> str:
    """What is wrong with a file, without its name, which stands beside it, and without its folder."""
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be opened: {error.strerror}."
    return str(error).removeprefix(f"{file} ")


def _append(out: RawIOBase, block: np.ndarray) -> None:
    rest = memoryview(np.asarray(block, np.float32).tobytes())
    try:
        while rest:  # without a buffer a write may be a part of it
            rest = rest[out.write(rest) :]
    except OSError as error:  # not the fault of the file that is being read
        where = cache_dir() / "datasets"
        raise RuntimeError(
            f"{where} cannot be written ({error.strerror}): free disk space, or set DDNB_CACHE to a folder elsewhere."
        ) from error


def _decode_one(path: Path, out: RawIOBase, sample_rate: int, channels: int) -> dict[str, Any]:
    """Append a file to the cache, a block at a time: an hour's recording does not fill the memory."""
    import soxr

    peak, total, frames, clipped = 0.0, 0.0, 0, 0
    with opened(path) as file:
        rate = file.samplerate
        stream = None if rate == sample_rate else soxr.ResampleStream(rate, sample_rate, channels, "float32", "HQ")
        for block in file.blocks(_BLOCK, dtype="float32", always_2d=True):
            if not np.isfinite(block).all():
                raise ValueError("holds values that are not numbers (NaN or infinity); export it again.")
            peak = max(peak, float(np.abs(block).max()))
            total += float(block.mean(axis=1, dtype=np.float64).sum())
            # equal neighbours: a low tone that merely touches full scale stays near it for many samples as well
            clipped += int(((np.abs(block[1:]) >= FULL_SCALE) & (block[1:] == block[:-1])).sum())
            frames += len(block)
            wanted = to_channels(block.T, channels).T
            _append(out, stream.resample_chunk(wanted) if stream else wanted)
        if stream:
            _append(out, stream.resample_chunk(np.zeros((0, channels), np.float32), last=True))
        facts = {"sample_rate": rate, "channels": file.channels, "duration_s": frames / rate, "clipped": clipped}
    if frames < MIN_DURATION_S * rate:
        raise ValueError(f"holds {frames} frames ({1000 * frames / rate:.1f} ms): too short to be a sound.")
    if not peak:
        raise ValueError("is silent throughout.")
    return facts | {"peak_dbfs": peak_dbfs(np.array([peak])), "dc": total / frames}


# --- drawing ----------------------------------------------------------------------------------------------------


class Piece(NamedTuple):
    """A stretch of ``Dataset.audio`` to draw from, the number of its category (-1 for none) and that of its sound."""

    start: int
    frames: int
    label: int
    sound: int


def pieces(data: Dataset, frames: int, crop: bool, categories: Sequence[str] = ()) -> list[Piece]:
    """Return what can be drawn, sound by sound; with ``crop``, long recordings in several pieces.

    So a recording of an hour weighs more than one of a second, and a part of it can be held out.

    Args:
        data: what ``decode`` returned.
        frames: length of a clip.
        crop: draw from anywhere in a sound, not from its beginning only.
        categories: names in the order of their numbers; sounds of other categories get -1.
    """
    found, first = [], {}  # a sound that lies in two classes is one sound
    for index, sound in enumerate(data.sounds):
        label = categories.index(sound.category) if sound.category in categories else -1
        n = max(1, sound.frames // (frames * _LONG // 2)) if crop and sound.frames >= frames * _LONG else 1
        edges = [sound.start + sound.frames * i // n for i in range(n + 1)]
        found += [Piece(a, b - a, label, first.setdefault(sound.sha256, index)) for a, b in pairwise(edges)]
    return found


def hold_out(found: Sequence[Piece], share: float, most: int, seed: int) -> tuple[list[Piece], list[Piece]]:
    """Split into (to train on, held out), sound by sound; of fewer than 5 sounds, piece by piece.

    No category loses its last piece; of fewer than 5 pieces nothing is held out.

    Args:
        found: what ``pieces`` returned.
        share: of the pieces to hold out, at least one if it is above 0.
        most: pieces to hold out at most.
        seed: of the choice.
    """
    by_sound: dict[int, list[int]] = {}
    for i, piece in enumerate(found):
        by_sound.setdefault(piece.sound, []).append(i)
    units = list(by_sound.values()) if len(by_sound) >= 5 else [[i] for i in range(len(found))]
    wanted = min(most, max(1, round(share * len(found)))) if share and len(units) >= 5 else 0
    order = np.random.default_rng([seed, 1]).permutation(len(units)).tolist()
    left, held = Counter(p.label for p in found), set()
    for unit in [units[k] for k in order] + [min(units, key=len)] if wanted else []:
        labels = Counter(found[i].label for i in unit)
        fits = len(held) + len(unit) <= wanted or (not held and unit is min(units, key=len))
        if fits and not held & set(unit) and all(left[label] > n for label, n in labels.items()):
            held |= set(unit)
            left -= labels
    return [p for i, p in enumerate(found) if i not in held], [found[i] for i in sorted(held)]


class Augment(NamedTuple):
    """How a drawn sound is changed: the same sound to the ear, another one to the network."""

    invert: bool = True
    """Turn the waveform upside down, half of the time."""
    quieter_db: float = 6.0
    """Lower it by up to this."""
    shift_s: float = 0.005
    """Let it begin up to this much later; not where it is cropped anyway."""


def draw(
    data: Dataset,
    found: Sequence[Piece],
    items: range,
    frames: int,
    *,
    crop: bool,
    augment: Augment | None,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw training clips; each pass over the data has an order of its own.

    Args:
        data: what ``decode`` returned.
        found: what to draw from.
        items: numbers of the clips in the whole run, from 0 on.
        frames: length of a clip; shorter sounds are followed by silence.
        crop: begin anywhere in a sound, else at its beginning.
        augment: how to change the clips; none leaves them as they are.
        seed: of the order and of the changes.

    Returns:
        Clips, float32 (B, channels, frames), and the numbers of their categories, int64 (B,).
    """
    clips = np.zeros((len(items), frames, data.audio.shape[1]), np.float32)
    labels = np.empty(len(items), np.int64)
    for clip, row, item in zip(clips, range(len(items)), items, strict=True):
        epoch, place = divmod(item, len(found))
        piece = found[_order(len(found), seed, epoch)[place]]
        rng = np.random.default_rng([seed, 3, item])
        spare, late, gain = piece.frames - frames, 0, 1.0
        offset = int(rng.integers(spare + 1)) if crop and spare > 0 else 0
        if augment is not None:
            most = min(round(augment.shift_s * data.sample_rate), frames // 4)
            late = 0 if crop and spare > 0 else int(rng.integers(most + 1))
            gain = 10 ** (-rng.uniform(0, augment.quieter_db) / 20)
            gain *= -1 if augment.invert and rng.random() < 0.5 else 1
        start, length = piece.start + offset, min(piece.frames - offset, frames - late)
        clip[late : late + length] = data.audio[start : start + length]
        clip *= gain
        labels[row] = piece.label
    return clips.transpose(0, 2, 1), labels


@lru_cache(maxsize=4)
def _order(n: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, 2, epoch]).permutation(n)
