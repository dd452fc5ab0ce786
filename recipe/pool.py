"""The training data of the embedded default: recordings, variants of them, and procedural sounds, as one data set."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from ddnb.audio.io import peak_dbfs
from ddnb.files import atomically
from ddnb.training.dataset import Dataset, Sound

from .augment import make_variant
from .data import CATEGORIES, FRAMES, SAMPLE_RATE, Prepared, load_prepared
from .synth import synthesize

PEAK = 0.25
"""The peak of every sound: 12 dB of headroom for outputs louder than the training data."""

_VERSION = 2  # of variants and synthesis: a new number rebuilds the pool
_END = 128
_SILENT_DB = -66.0


def load_pool(folder: Path, prepared: Path, real: int, procedural: int, seed: int) -> Dataset:
    """Return the pool; it is made once and kept in ``folder``.

    Args:
        folder: folder of the pool: 100 kB per sound.
        prepared: the file of recordings, see ``make dataset``.
        real: number of recordings and variants of them per category.
        procedural: number of synthesized sounds per category.
        seed: seed of variants and synthesis.
    """
    wanted: dict[str, int | str] = {"real": real, "procedural": procedural, "seed": seed, "version": _VERSION}
    wanted["prepared_sha256"] = hashlib.sha256(prepared.read_bytes()).hexdigest()
    if not (folder / "index.json").is_file() or json.loads((folder / "index.json").read_text())["made"] != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        atomically(folder, lambda part: _make(part, load_prepared(prepared), wanted))
    index = json.loads((folder / "index.json").read_text())
    audio = np.memmap(folder / "audio.f16", np.float16, "r").reshape(-1, 1)
    return Dataset(audio, SAMPLE_RATE, tuple(Sound(**s) for s in index["sounds"]), {}, ())


def _make(part: Path, data: Prepared, made: dict) -> None:
    part.mkdir(parents=True)
    sounds: list[Sound] = []
    with (part / "audio.f16").open("wb") as out:
        for name, origin, x in _all(data, made["real"], made["procedural"], made["seed"]):
            x = _trim_and_level(x)
            start = out.tell() // 2
            out.write(x.tobytes())
            # variants of one recording share a hash, so that a split never separates them
            sha256 = hashlib.sha256(json.dumps([made, origin]).encode()).hexdigest()
            category = name.split("/")[0]
            seconds = len(x) / SAMPLE_RATE
            sounds.append(Sound(name, category, start, len(x), SAMPLE_RATE, 1, seconds, sha256, peak_dbfs(x), 0.0, 0))
    index = {"made": made, "sounds": [s.__dict__ for s in sounds]}
    (part / "index.json").write_text(json.dumps(index), encoding="utf-8")


def _all(data: Prepared, real: int, procedural: int, seed: int) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield name, origin and samples of each sound, category by category."""
    for label, category in enumerate(CATEGORIES):
        mine = np.flatnonzero((data.labels == label) & ~data.held_out)
        rng = np.random.default_rng([seed, label])
        plain = [data.sounds[i].astype(np.float32) / 32768 for i in mine]
        for number in range(real):
            place = number % len(mine)
            x = plain[place]
            if number >= len(mine):
                other = plain[rng.integers(len(mine))] if len(mine) > 1 else None
                x = make_variant(x, category, other, rng)
            yield f"{category}/real{number:05d}", data.groups[mine[place]], x
        generator = torch.Generator().manual_seed(seed * len(CATEGORIES) + label)
        for number, x in enumerate(synthesize(category, procedural, generator).numpy()):
            yield f"{category}/procedural{number:05d}", f"{category}{number}", x


def _trim_and_level(x: np.ndarray) -> np.ndarray:
    """Scale to the common peak and remove the silence at the end; a sound cut at the maximum length fades out."""
    x = x[:FRAMES] * (PEAK / np.abs(x).max())
    loud = np.flatnonzero(np.abs(x) > PEAK * 10 ** (_SILENT_DB / 20))
    x = x[: loud[-1] + 1]
    if len(x) > FRAMES - _END:
        x[-_END:] *= np.linspace(1, 0, _END, dtype=np.float32)
    return x.astype(np.float16)
