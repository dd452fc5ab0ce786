"""Send folders of good and broken sound files through five commands: does each finish, and name every bad file once?

    python -m bench.mixed                   three folders of 1,000 files, an hour on two cores
    python -m bench.mixed --files 100       a tenth of that

Of each folder 70 % are one-shots of all formats, rates and widths, 30 % are broken in as many ways as are listed below.
Memory is what belongs to the process alone (``RssAnon``), above that of a process with the built-in network loaded;
pages of the memory-mapped cache, which the system takes back when it needs them, do not count.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile

from bench.common import describe_run, markdown_table

FORMATS = [
    *((".wav", "WAV", each) for each in ("PCM_U8", "PCM_16", "PCM_24", "FLOAT", "DOUBLE", "IMA_ADPCM")),
    *((".flac", "FLAC", "PCM_16"), (".ogg", "OGG", "VORBIS"), (".mp3", "MP3", "MPEG_LAYER_III")),
    *((".aiff", "AIFF", "PCM_16"), (".caf", "CAF", "PCM_24"), (".au", "AU", "PCM_16"), (".w64", "W64", "FLOAT")),
    (".wav", "FLAC", "PCM_16"),  # the wrong suffix does not matter
]
RATES = (8000, 16_000, 22_050, 44_100, 48_000)
FAST = (88_200, 96_000, 192_000)  # not in OGG and MP3
CLASSES = ("kick", "snare", "hat", "deep/er")
_LIMIT_S = 3600.0
_PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20


def main() -> None:
    """Build the folders, run the commands, and write a report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000, help="files of each folder (default: 1000)")
    parser.add_argument("--folders", type=int, default=3, help="number of folders (default: 3)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as place:
        idle = measure(["-c", "import ddnb; ddnb.load('drums', device='cpu')"], Path(place))[2]
        for number in range(arguments.folders):
            folder, work = Path(place) / f"sounds {number}", Path(place) / f"work {number}"
            bad = build(folder, arguments.files, np.random.default_rng(number))
            for name, words in commands(folder, work).items():
                rows.append([str(number + 1), name, *check(words, bad, idle, work)])
                print(*rows[-1], sep="  ", flush=True)
    options = f" --files {arguments.files}" if arguments.files != 1000 else ""
    options += f" --folders {arguments.folders}" if arguments.folders != 3 else ""
    (arguments.out / "mixed.md").write_text(report(options, rows, idle), encoding="utf-8")


def report(options: str, rows: Sequence[Sequence[str]], idle: float) -> str:
    """Return the report as Markdown."""
    heads = ["folder", "command", "seconds", "exit", "bad files", "named once, with the reason", "named twice or more"]
    heads += ["not named", "MiB above idle"]
    lines = ["# Folders of good and broken files", "", f"`python -m bench.mixed{options}`. {describe_run()}.", ""]
    lines += [*markdown_table(heads, rows), "", f"An idle process has {idle:.0f} MiB of its own. Kinds of bad files:"]
    lines += [
        f"{', '.join(BROKEN)}. `originality` compares one of the good files, and exits with 1: it is its own copy."
    ]
    if "locked.wav" not in BROKEN:
        lines += ["Files without permission to read are not among them: this user may read everything."]
    return "\n".join(lines) + "\n"


def commands(folder: Path, work: Path) -> dict[str, list[str]]:
    """Return the words of each command."""
    work.mkdir()
    good = next(path for path in sorted(folder.rglob("good*.wav")))
    quick = ["-n", "1", "--steps", "1", "--checkpoint", "debug"]
    training = ["--steps", "2", "--no-fit", "--demos", "0"]
    return {
        "check-dataset": ["check-dataset", str(folder)],
        "vary": ["vary", str(folder), *quick, "--out", str(work / "varied")],
        "pack": ["pack", str(folder), "--out", str(work / "kit.zip")],
        "originality": ["originality", str(good), "--data", str(folder)],
        "finetune": ["finetune", "--data", str(folder), "--out", str(work / "run"), *training],
    }


# --- files ---


def build(folder: Path, files: int, chance: np.random.Generator) -> dict[str, str]:
    """Write a folder; return its bad files, by their paths inside it, with a pattern of the reason."""
    bad: dict[str, str] = {}
    kinds = [(name, *each) for name, each in BROKEN.items()]
    for number in range(files):
        place = folder / CLASSES[number % len(CLASSES)]
        place.mkdir(parents=True, exist_ok=True)
        if number % 10 < 7:
            write_good(place / f"good {number // len(CLASSES)}", number, chance)
            continue
        name, reason, write = kinds[len(bad) % len(kinds)]
        stem, _, suffix = name.partition(".")
        path = place / f"{stem} {number // len(CLASSES)}.{suffix}"  # the same name in several folders
        write(path)
        bad[path.relative_to(folder).as_posix()] = reason
    return bad


def one_shot(chance: np.random.Generator, rate: int, channels: int) -> np.ndarray:
    """Return noise and a tone that decay, (frames, channels), up to 0.6 s."""
    seconds = np.arange(int(rate * chance.uniform(0.1, 0.6))) / rate
    tone = np.sin(2 * np.pi * chance.uniform(60, 2000) * seconds)[:, None] * chance.uniform(0.2, 1, channels)
    sound = tone + chance.uniform(0, 1) * chance.standard_normal((len(seconds), channels))
    sound *= np.exp(-seconds / chance.uniform(0.03, 0.2))[:, None]
    return sound * chance.uniform(0.1, 0.9) / np.abs(sound).max()


def write_good(path: Path, number: int, chance: np.random.Generator) -> None:
    """Write a one-shot in one of the formats."""
    suffix, kind, subtype = FORMATS[number % len(FORMATS)]
    rate = chance.choice(RATES if kind in ("OGG", "MP3", "FLAC") else RATES + FAST)
    channels = 1 if subtype == "IMA_ADPCM" else int(chance.choice([1, 2] if kind == "MP3" else [1, 2, 2, 3, 6]))
    offset = 0.05 if number % 50 == 0 else 0.0
    soundfile.write(f"{path}{suffix}", one_shot(chance, int(rate), channels) + offset, rate, subtype, format=kind)


def encoded(kind: str) -> bytes:
    """Return a noise of a second as a file of this format."""
    file = io.BytesIO()
    soundfile.write(file, 0.3 * np.random.default_rng(0).uniform(-1, 1, 44_100), 44_100, format=kind)
    return file.getvalue()


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("a.wav", encoded("WAV")[:5000])
    return file.getvalue()


def _bytes(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def _samples(samples: np.ndarray, rate: int = 44_100) -> Callable[[Path], object]:
    return lambda path: soundfile.write(path, samples.astype(np.float32), rate, "FLOAT")


def _bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as plug, tempfile.TemporaryDirectory() as short:
        plug.bind(f"{short}/s")  # the name of a socket is short
        Path(short, "s").rename(path)


def _lock(path: Path) -> None:
    path.write_bytes(encoded("WAV"))
    path.chmod(0)


_NOISE = 0.3 * np.random.default_rng(0).uniform(-1, 1, 4000)
UNREADABLE = "cannot be read as sound"
BROKEN: dict[str, tuple[str, Callable[[Path], object]]] = {
    "no bytes.wav": ("is empty", _bytes(b"")),
    "header only.wav": ("empty|too short", _samples(np.zeros(0))),
    "zero bytes.wav": (UNREADABLE, _bytes(bytes(5000))),
    "text.wav": (UNREADABLE, _bytes(b"Dear Sir or Madam,\n" * 50)),
    "web page.mp3": (UNREADABLE, _bytes(b"<!DOCTYPE html><html><body>404</body></html>\n" * 20)),
    "picture.wav": (UNREADABLE, _bytes(_PICTURE)),
    "archive.aiff": (UNREADABLE, _bytes(_zip())),
    "random.flac": (UNREADABLE, _bytes(np.random.default_rng(1).bytes(5000))),
    "random.m4a": (UNREADABLE, _bytes(np.random.default_rng(2).bytes(5000))),
    "riff alone.wav": (UNREADABLE, _bytes(b"RIFF\x00\x10\x00\x00WAVE")),
    "cut.aiff": (UNREADABLE, _bytes(encoded("AIFF")[:24])),
    "cut.flac": ("damaged or cut short", _bytes(encoded("FLAC")[:30_000])),
    "cut.ogg": ("cut short", _bytes(encoded("OGG")[:4200])),
    "cut.mp3": (UNREADABLE, _bytes(encoded("MP3")[:100])),
    "endless tag.mp3": ("its ID3 tag", _bytes(b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + encoded("MP3"))),
    "not a number.wav": ("not numbers", _samples(np.where(np.arange(4000) == 900, np.nan, _NOISE))),
    "infinite.wav": ("not numbers", _samples(np.where(np.arange(4000) == 900, np.inf, _NOISE))),
    "integers.wav": ("off scale", _samples(_NOISE * 32_768)),
    "silence.wav": ("silent", _samples(np.zeros(4000))),
    "slow.wav": ("sample rate", _samples(_NOISE, 8)),
    "fast.wav": ("sample rate", _samples(_NOISE, 900_000)),
    "many channels.wav": ("40 channels", _samples(np.repeat(_NOISE[:, None], 40, 1))),
    "thousand channels.wav": ("1000 channels", _samples(np.repeat(_NOISE[:500, None], 1000, 1))),
    "folder.wav": ("is a folder", lambda path: path.mkdir()),
}
if sys.platform != "win32":
    BROKEN |= {
        "pipe.wav": ("is a pipe", lambda path: os.mkfifo(path)),
        "socket.wav": ("is a socket", _bind),
        "circle.wav": ("leads back to itself", lambda path: path.symlink_to(path)),
        "gone.wav": ("does not exist", lambda path: path.symlink_to("elsewhere.wav")),
    }
    BROKEN |= {"locked.wav": ("Permission denied", _lock)} if os.geteuid() else {}


# --- commands ---


def check(words: list[str], bad: dict[str, str], idle: float, work: Path) -> list[str]:
    """Run a command; return seconds, exit status, bad files, how many were named how often, and memory."""
    status, seconds, memory, said = measure(["-m", "ddnb", *words], work)
    lines = {name: [line for line in said if re.search(rf"(?<![/\w]){re.escape(name)}", line)] for name in bad}
    once = sum(len(found) == 1 and re.search(bad[name], found[0]) is not None for name, found in lines.items())
    twice, never = (sum(test(len(found)) for found in lines.values()) for test in (lambda n: n > 1, lambda n: n == 0))
    counts = (len(bad), once, twice, never)
    return [f"{seconds:.0f}", str(status), *map(str, counts), f"{memory - idle:.0f}"]


def measure(words: Sequence[str], work: Path) -> tuple[int, float, float, list[str]]:
    """Run Python; return the exit status, seconds, the peak of its own memory in MiB, and the lines that it wrote."""
    began, peak = time.monotonic(), 0.0
    environment = {**os.environ, "DDNB_CACHE": str(work / "cache")}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        child = subprocess.Popen([sys.executable, *words], stdout=said, stderr=subprocess.STDOUT, env=environment)
        while child.poll() is None and time.monotonic() - began < _LIMIT_S:
            peak = max(peak, own_memory(child.pid))
            time.sleep(0.02)
        child.kill()
        status = child.wait()
        said.seek(0)
        return status, time.monotonic() - began, peak, said.read().splitlines()


def own_memory(process: int) -> float:
    """Return the anonymous memory of a process in MiB; 0 where it has ended, or the system does not tell."""
    try:
        text = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    found = re.search(r"RssAnon:\s+(\d+)", text)
    return int(found[1]) / 1024 if found else 0.0


if __name__ == "__main__":
    main()
