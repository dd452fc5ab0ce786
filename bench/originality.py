"""Measure how well and how fast copies of training sounds are found.

    python -m bench.originality rates       copies found and false alarms, on recordings and generated sounds
    python -m bench.originality speed       a folder of 10,000 files: indexing, and a second query of 16 clips

``rates`` uses build/default_data.npz (make dataset) and the built-in network. Folders of 20, 100 and 500 recordings
are drawn at random. Each draw has a batch of 5 altered copies of their sounds among 45 sounds that are not copies:
held-out recordings (of other instruments than those trained on) and generated sounds. Writes a section of
bench/results/originality.md.
"""

from __future__ import annotations

import argparse
import io
import re
import resource
import shlex
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import soundfile

import ddnb
from bench.common import describe_run, markdown_table
from ddnb.similarity.report import Originality
from recipe.data import CATEGORIES, SAMPLE_RATE, load_prepared

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results" / "originality.md"
SIZES = (20, 100, 500)
COPIES, OTHERS = 5, 45
FILES, CLIPS, PLANTED = 10_000, 16, 50
Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


# --- changes ----------------------------------------------------------------------------------------------------


def delay(x: np.ndarray, _: np.random.Generator) -> np.ndarray:
    return np.pad(x, (round(0.01 * SAMPLE_RATE), 0))


def attenuate(x: np.ndarray, _: np.random.Generator) -> np.ndarray:
    return x * np.float32(10 ** (-6 / 20))


def invert(x: np.ndarray, _: np.random.Generator) -> np.ndarray:
    return -x


def add_noise(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return x + 0.05 * x.std() * rng.standard_normal(len(x)).astype(np.float32)


def encode_mp3(x: np.ndarray, _: np.random.Generator) -> np.ndarray:
    buffer = io.BytesIO()
    soundfile.write(buffer, x, SAMPLE_RATE, format="MP3")
    buffer.seek(0)
    return soundfile.read(buffer, dtype="float32")[0]


def quantize(x: np.ndarray, _: np.random.Generator) -> np.ndarray:
    return np.round(x * 32767).astype(np.float32) / 32767


def change_all(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    for change in (delay, attenuate, invert, add_noise, encode_mp3, quantize):
        x = change(x, rng)
    return x


CHANGES: dict[str, Change] = {
    "10 ms later": delay,
    "6 dB lower": attenuate,
    "inverted": invert,
    "5 % noise": add_noise,
    "MP3": encode_mp3,
    "16 bits": lambda x, rng: quantize(attenuate(x, rng), rng),
    "all at once": change_all,
}


# --- rates ------------------------------------------------------------------------------------------------------


def measure_rates(draws: int) -> list[str]:
    """Return the table of copies found and false alarms."""
    data = load_prepared(ROOT / "build" / "default_data.npz")
    sounds = [s.astype(np.float32) / 32768 for s in data.sounds]
    trained, held_out = np.flatnonzero(~data.held_out), np.flatnonzero(data.held_out)
    ckpt = ddnb.load("drums", device="cpu")
    made = [clip.audio[0] for c in CATEGORIES for clip in ddnb.generate(ckpt, 20, 1000, category=c, steps=12)]
    rng, rows, twins = np.random.default_rng(0), [], []
    for size in SIZES:
        found: dict[str, list[bool]] = defaultdict(list)
        alarms: dict[str, list[bool]] = defaultdict(list)
        thresholds, batches = [], []
        for draw in range(draws):
            members = rng.choice(trained, size, replace=False)
            others = [sounds[i] for i in rng.choice(held_out, OTHERS // 2, replace=False)]
            others += [made[i] for i in rng.choice(len(made), OTHERS - OTHERS // 2, replace=False)]
            planted = rng.choice(members, COPIES, replace=False)
            kinds = [list(CHANGES)[(COPIES * draw + i) % len(CHANGES)] for i in range(COPIES)]
            copies = [CHANGES[kind](sounds[i], rng) for kind, i in zip(kinds, planted, strict=True)]
            report = check(copies + others, [sounds[i] for i in members])
            thresholds.append(report.threshold)
            for kind, i, row in zip(kinds, planted, report.rows, strict=False):
                found[kind].append(row.near and members[int(Path(str(row.nearest)).stem)] == i)
            near = [row.near for row in report.rows[COPIES:]]
            alarms["held out"] += near[: OTHERS // 2]
            alarms["generated"] += near[OTHERS // 2 :]
            batches.append((all(row.near for row in report.rows[:COPIES]), sum(near)))
            twins.append(sum(i >= COPIES for i, _, _ in report.duplicates))
        cells = [f"{np.mean(found[kind]):.1%} of {len(found[kind])}" for kind in CHANGES]
        cells += [f"{np.mean(alarms[kind]):.2%} of {len(alarms[kind])}" for kind in ("held out", "generated")]
        cells += [f"{np.mean([whole and few <= 1 for whole, few in batches]):.0%} of {len(batches)}"]
        rows.append([str(size), *cells, f"{np.median(thresholds):.3f}"])
        print(*rows[-1], flush=True)
    heads = ["sounds in the folder", *CHANGES, "false: held out", "false: generated", "batches correct", "threshold"]
    return [
        *markdown_table(heads, rows),
        "",
        f"{draws} draws of each size. A batch is correct if all {COPIES} copies are found with at most one false "
        f"alarm among {OTHERS}. A copy is found if the file itself is named. Of the {len(twins)} batches, of "
        f"{OTHERS * (OTHERS - 1) // 2} pairs of other sounds each, {sum(map(bool, twins))} had pairs reported "
        f"as duplicates, {sum(twins)} pairs in all (the recordings include different notes and strokes of one "
        "instrument).",
    ]


def check(clips: list[np.ndarray], folder: list[np.ndarray]) -> Originality:
    """Check clips against a temporary folder of sounds."""
    with tempfile.TemporaryDirectory() as place, patch.dict("os.environ", DDNB_CACHE=f"{place}/cache"):
        (Path(place) / "sounds").mkdir()
        for i, sound in enumerate(folder):
            soundfile.write(Path(place) / "sounds" / f"{i:04d}.wav", sound, SAMPLE_RATE, "FLOAT")
        return ddnb.originality([(clip, SAMPLE_RATE) for clip in clips], Path(place) / "sounds")


# --- speed ------------------------------------------------------------------------------------------------------


def measure_speed(files: int) -> list[str]:
    """Return the table of times of a check against a large folder."""
    rng, lines = np.random.default_rng(0), []
    with tempfile.TemporaryDirectory() as place, patch.dict("os.environ", DDNB_CACHE=f"{place}/cache"):
        folder = Path(place) / "sounds"
        for i in range(files):
            path = folder / f"{i % 16:02d}" / f"{i:05d}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, make_one_shot(rng), SAMPLE_RATE, "PCM_16")
        clips = [(make_one_shot(rng), SAMPLE_RATE) for _ in range(CLIPS)]
        for what in ("first check, all files read", "second check", "after a change of one file"):
            began = time.perf_counter()
            report = ddnb.originality(clips, folder)
            lines.append(f"| {what} | {time.perf_counter() - began:.1f} s |")
            if len(lines) == 2:
                soundfile.write(folder / "00" / "00000.wav", make_one_shot(rng), SAMPLE_RATE, "PCM_16")
        planted = sorted(folder.rglob("*.wav"))[:: max(1, files // PLANTED)][:PLANTED]
        copies = [(change_all(soundfile.read(path, dtype="float32")[0], rng), SAMPLE_RATE) for path in planted]
        rows = ddnb.originality(copies, folder).rows
        named = sum(row.near and str(row.nearest).endswith(path.name) for row, path in zip(rows, planted, strict=True))
        size = sum(path.stat().st_size for path in Path(place, "cache").rglob("*") if path.is_file())
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return [
        f"| {CLIPS} clips against {report.files} files of 0.2 to 1 s | |",
        "|---|---|",
        *lines,
        "",
        f"Files and clips are synthetic, 0.2 to 1 s long. Of {len(planted)} files altered in all ways at once "
        f"{named} are found and named, {len(planted) - named} missed. Of the {CLIPS} clips, none of them a copy, "
        f"{sum(row.near for row in report.rows)} are reported as copies: all sounds are of one narrow family, far "
        f"denser than recordings are, and the threshold is {report.threshold:.3f}.",
        f"Peak memory {most:.2f} GiB, with Python and torch; {size / 2**20:.0f} MiB in the cache. After a change of "
        "one file, the distances within the folder are measured again.",
    ]


def make_one_shot(rng: np.random.Generator) -> np.ndarray:
    """Make a decaying mixture of a gliding tone and noise."""
    t = np.arange(int(rng.uniform(0.2, 1.0) * SAMPLE_RATE)) / SAMPLE_RATE
    hz = np.exp(rng.uniform(np.log(40), np.log(4000))) * (1 + rng.uniform(0, 2) * np.exp(-t * rng.uniform(5, 80)))
    tone = np.sin(2 * np.pi * np.cumsum(hz) / SAMPLE_RATE) * np.exp(-t * rng.uniform(3, 40))
    hiss = rng.standard_normal(len(t)) * np.exp(-t * rng.uniform(3, 60)) * rng.uniform(0, 0.5)
    x = (tone + hiss).astype(np.float32)
    return 0.7 * x / np.abs(x).max()


# --- the command ------------------------------------------------------------------------------------------------

TITLES = {"rates": "Copies found, and false alarms", "speed": "Speed"}


def main() -> None:
    """Run one measurement and write its section of the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=TITLES)
    parser.add_argument("--draws", type=int, default=42, help="rates: folders of each size (default: 42)")
    parser.add_argument("--files", type=int, default=FILES, help=f"speed: files in the folder (default: {FILES})")
    given = parser.parse_args()
    lines = measure_rates(given.draws) if given.what == "rates" else measure_speed(given.files)
    title, command = TITLES[given.what], f"python -m bench.originality {shlex.join(sys.argv[1:])}"
    section = [f"## {title}", "", f"{describe_run()}.", f"Command: `{command}`.", "", *lines, ""]
    write_section(title, "\n".join(section))


def write_section(title: str, section: str) -> None:
    """Replace the section of this title in the results."""
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else "# Near copies\n"
    text = re.sub(rf"\n## {re.escape(title)}\n.*?(?=\n## |\Z)", "", text, flags=re.S)
    RESULTS.write_text(text.rstrip("\n") + "\n\n" + section, encoding="utf-8")
    print(section)


if __name__ == "__main__":
    main()
