"""Use the Studio at random for hours, in one process, and log what the process holds.

    python -m bench.soak --minutes 120        writes results/soak.md and soak.png

Random jobs of all tabs, with cancels, errors, kept sounds, packs, originality checks and other checkpoints, as a
hurried user would start them. Every minute the resident memory, threads, open files and files in the temporary folder
are counted. After a warm-up, memory must stay within five per cent, and at the end nothing may be left.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import statistics
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from bench.common import describe_run, markdown_table

_WARM_UP = 1 / 6  # share of the time after which memory is compared
_WITHIN = 0.05
_MOST_KEPT = 8
_STEPS = 2


class Sample(NamedTuple):
    """What the process holds, minutes after the start, and the jobs so far; handles are open files."""

    minutes: float
    resident_mib: float
    threads: int
    handles: int
    temporary: int
    jobs: int


def main() -> None:
    """Run the soak and write its report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as place:
        os.environ["DDNB_CACHE"] = str(Path(place) / "cache")
        temporary = Path(place) / "tmp"
        temporary.mkdir()
        tempfile.tempdir = str(temporary)
        samples, done = soak(Path(place), temporary, arguments.minutes, random.Random(arguments.seed))
    arguments.out.mkdir(exist_ok=True)
    (arguments.out / "soak.png").write_bytes(picture(samples))
    (arguments.out / "soak.md").write_text(report(samples, done, arguments.minutes), encoding="utf-8")


def soak(place: Path, temporary: Path, minutes: float, chance: random.Random) -> tuple[list[Sample], Counter[str]]:
    """Use one panel at random; return what was counted, and how often each job ran and how it ended."""
    import ddnb
    from ddnb import widgets

    bad = place / "bad.wav"
    bad.write_bytes(b"RIFF")
    tone = place / "tone.wav"
    soundfile.write(tone, 0.5 * np.sin(np.arange(44_100) * 0.03) * np.exp(-np.arange(44_100) / 9000), 44_100)
    panel = widgets.studio(ddnb.load("drums", device="cpu"), place / "packs", foreground=False)
    panel.use_sound(tone)
    panel.tabs[2].b.take(tone)
    done: Counter[str] = Counter()
    samples = [measure(0, temporary, done)]
    began = time.monotonic()
    while (now := (time.monotonic() - began) / 60) < minutes:
        step(panel, place, chance, done, (tone, bad))
        if now >= samples[-1].minutes + 1:
            samples.append(measure(now, temporary, done))
            print(*(f"{value:.1f}" for value in samples[-1]), flush=True)
    panel.jobs.wait(60)
    panel.close()
    samples.append(measure(minutes, temporary, done))
    return samples, done


def step(panel, place: Path, chance: random.Random, done: Counter[str], sounds: tuple[Path, Path]) -> None:
    """Do one random thing."""
    panel.jobs.wait(120)
    what = chance.choices(("make", "surprise", "keep", "export", "check", "error", "load"), (40, 20, 15, 5, 3, 10, 2))[
        0
    ]
    panel._pages.selected_index = chance.randrange(len(panel.tabs))
    for tab in panel.tabs:
        tab.controls["steps"].value = _STEPS
        if "n" in tab.controls:
            tab.controls["n"].value = max(tab.controls["n"].min, 2)
    if what == "make":
        panel.make()
    elif what == "surprise":
        panel.surprise()
    elif what == "keep" and panel.results:
        panel.keep(chance.choice(panel.results))
        while len(panel.kept) > _MOST_KEPT:
            panel._unkeep(panel.kept[0])
    elif what in ("export", "check"):
        panel.keepers.training.value = str(sounds[0].parent)
        (panel.keepers.export if what == "export" else panel.keepers.check).click()
    elif what == "error":
        panel.tabs[1].picker.path.value = str(chance.choice([sounds[1], place / "missing.wav"]))
        panel.tabs[1].picker.path.value = str(sounds[0])
    elif what == "load":
        panel.load(chance.choice(["drums", "debug", "no such checkpoint"]))
    if chance.random() < 0.2:
        time.sleep(chance.random() / 2)
        panel.jobs.cancel.click()
        what += ", cancelled"
    panel.jobs.wait(120)
    for pack in panel.packs:
        pack.unlink(missing_ok=True)
    done[what] += 1


def measure(minutes: float, temporary: Path, done: Counter[str]) -> Sample:
    """Return what the process holds now."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    resident = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    handles, left = len([*Path("/proc/self/fd").iterdir()]), sum(path.is_file() for path in temporary.rglob("*"))
    return Sample(minutes, resident, threading.active_count(), handles, left, done.total())


def verdict(samples: list[Sample]) -> list[tuple[str, str, bool]]:
    """Return each demand, what was found, and whether it is met."""
    settled = [sample for sample in samples[:-1] if sample.minutes >= samples[-1].minutes * _WARM_UP] or samples
    part = max(1, len(settled) // 5)
    before = statistics.median(sample.resident_mib for sample in settled[:part])
    after = statistics.median(sample.resident_mib for sample in settled[-part:])
    first, last = settled[0], samples[-1]
    return [
        (
            "memory within 5 %",
            f"{before:.0f} to {after:.0f} MiB ({after / before - 1:+.1%})",
            after <= before * (1 + _WITHIN),
        ),
        ("no thread left", f"{first.threads} to {last.threads}", last.threads <= first.threads),
        ("no open file left", f"{first.handles} to {last.handles}", last.handles <= first.handles),
        ("no temporary file left", f"{last.temporary}", last.temporary == 0),
    ]


def report(samples: list[Sample], done: Counter[str], minutes: float) -> str:
    """Return the report as Markdown."""
    rows = [[what, found, "yes" if met else "NO"] for what, found, met in verdict(samples)]
    jobs = ", ".join(f"{what} {n}" for what, n in sorted(done.items()))
    every = max(1, len(samples) // 12)
    table = [[f"{value:.0f}" for value in sample] for sample in samples[::every]]
    lines = [
        f"# The Studio used at random for {minutes:g} minutes",
        "",
        f"`python -m bench.soak --minutes {minutes:g}`. {describe_run()}.",
        "",
        f"{done.total()} jobs: {jobs}.",
        "",
        *markdown_table(["demand", "found", "met"], rows),
        "",
        *markdown_table(["minutes", "resident MiB", "threads", "open files", "temporary files", "jobs"], table),
        "",
        "![Memory and open files](soak.png)",
    ]
    return "\n".join(lines) + "\n"


def picture(samples: list[Sample]) -> bytes:
    """Draw memory and open files over time; return a PNG."""
    import io

    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    memory, files = figure.subplots(2, sharex=True)
    minutes = [sample.minutes for sample in samples]
    memory.plot(minutes, [sample.resident_mib for sample in samples])
    memory.set(ylabel="resident, MiB", ylim=(0, None))
    files.plot(minutes, [sample.handles for sample in samples], label="open files")
    files.plot(minutes, [sample.threads for sample in samples], label="threads")
    files.set(xlabel="minutes", ylim=(0, None))
    files.legend()
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=100)
    return content.getvalue()


if __name__ == "__main__":
    main()
