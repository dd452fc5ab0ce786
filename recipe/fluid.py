"""Notes of the Fluid sound font, rendered by fluidsynth; and the tools to run and to read that it shares."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from ddnb import audio
from ddnb.audio.channels import to_channels

from . import sources
from .data import SAMPLE_RATE
from .soundfont import SoundFont

NOTE_MS = (350, 900)
"""Durations of held notes, used in turn."""

DRUM_MS, TEXTURE_MS = 2500, 5000
GAP_MS = 600
TONAL_STEP, TONAL_VELOCITIES = 3, (112, 75)


class Recording(NamedTuple):
    """A recording before it is trimmed: mono audio (frames,), category, source and name."""

    audio: np.ndarray
    category: str
    source: str
    recordings: tuple[str, ...]
    name: str
    held_out: bool


class Note(NamedTuple):
    """A note to render, or a chord of several keys."""

    category: str
    bank: int
    program: int
    keys: tuple[int, ...]
    velocity: int
    held_ms: int


Plan = Callable[[SoundFont], Iterator[Note]]


def render(root: Path, folder: Path, plan_of: Plan) -> Iterator[Recording]:
    """Yield notes of the sound font, rendered in one pass without reverb and chorus."""
    path = root / "usr/share/sounds/sf2/FluidR3_GM.sf2"
    font = SoundFont(path)
    plan = list(plan_of(font))
    midi, wav = folder / "notes.mid", folder / "notes.wav"
    midi.write_bytes(midi_file(plan))
    flags = f"-niq -R 0 -C 0 -g 0.5 -r {SAMPLE_RATE} -O float -T wav"  # no reverb, no chorus
    run(["fluidsynth", *flags.split(), "-F", str(wav), str(path), str(midi)])
    for note, sound in zip(plan, _cut(wav, plan), strict=True):
        recordings = {r for key in note.keys for r in font.samples(note.bank, note.program, key, note.velocity)}
        held_out = any(matches(r.replace(" ", "?"), sources.FLUID_HELD_OUT) for r in recordings)
        label = f"fluid/{font.presets[note.bank, note.program][0]}/{'+'.join(map(str, note.keys))}/{note.velocity}"
        named = tuple(sorted(f"fluid/{r}" for r in recordings))
        yield Recording(sound, note.category, "fluid", named, label, held_out)
    wav.unlink()  # 600 MB


def _cut(wav: Path, plan: Sequence[Note]) -> Iterator[np.ndarray]:
    with soundfile.SoundFile(wav) as file:
        for note in plan:
            frames = (note.held_ms + GAP_MS) * SAMPLE_RATE // 1000
            yield to_channels(file.read(frames, dtype="float32", always_2d=True).T, 1)[0]


def all_notes(font: SoundFont) -> Iterator[Note]:
    """Yield the notes that stand among the recordings."""
    yield from drum_notes(font)
    yield from program_notes()


def tonal_notes(font: SoundFont) -> Iterator[Note]:
    """Yield single notes of the programs with a pitch, every three semitones, at least over a range of the category."""
    for category, (low, high) in sources.TONAL_RANGES.items():
        for (bank, program), notes in sources.PROGRAMS[category].items():
            keys = [note for note in notes if not isinstance(note, tuple)]
            first, last = min(low, *(key - TONAL_STEP for key in keys)), max(high, *(key + TONAL_STEP for key in keys))
            for i, key in enumerate(range(first, last + 1, TONAL_STEP)):
                for velocity in TONAL_VELOCITIES:
                    yield Note(category, bank, program, (key,), velocity, NOTE_MS[i % 2])


def drum_notes(font: SoundFont) -> Iterator[Note]:
    """Yield the drum notes of all kits, once for kits that play the same recordings."""
    seen = set()
    for bank, kit in sorted(font.presets):
        for category, keys in sources.DRUM_NOTES.items():
            for key in keys:
                for velocity in sources.DRUM_VELOCITIES:
                    recordings = font.samples(bank, kit, key, velocity)
                    new = (category, key, velocity, recordings) not in seen
                    if bank == 128 and recordings and new and (kit, key) not in sources.NOT_AS_MAPPED:
                        seen.add((category, key, velocity, recordings))
                        yield Note(category, bank, kit, (key,), velocity, DRUM_MS)


def program_notes() -> Iterator[Note]:
    """Yield the notes of the other programs."""
    for category, programs in sources.PROGRAMS.items():
        for (bank, program), notes in programs.items():
            for i, note in enumerate(notes):
                keys = note if isinstance(note, tuple) else (note,)
                for velocity in sources.PROGRAM_VELOCITIES[category]:
                    held_ms = TEXTURE_MS if category == "texture" else NOTE_MS[i % 2]
                    yield Note(category, bank, program, keys, velocity, held_ms)


def midi_file(notes: list[Note]) -> bytes:
    """Return a standard MIDI file of one track, 1 ms per tick, in which each note ends before the next begins.

    Drums are on channel 10, for which synthesisers use bank 128, all other notes on channel 1.
    """
    track = bytearray()
    for note in notes:
        channel = 9 if note.bank == 128 else 0
        bank = [] if note.bank == 128 else [(0xB0, 0, note.bank)]
        begin = [*bank, (0xC0, note.program), *((0x90, key, note.velocity) for key in note.keys)]
        silence = [(0xB0, 120, 0)]  # all sound off
        for delay, events in ((0, begin), (note.held_ms, [(0x80, k, 0) for k in note.keys]), (GAP_MS, silence)):
            for i, (status, *values) in enumerate(events):
                track += _variable(0 if i else delay) + bytes([status | channel, *values])
    track += b"\0\xff\x2f\0"  # end of the track
    header = struct.pack(">4sIHHH", b"MThd", 6, 0, 1, 500)  # at 120 beats a minute a quarter note is 500 ms
    return header + struct.pack(">4sI", b"MTrk", len(track)) + bytes(track)


def _variable(ticks: int) -> bytes:
    """Encode a number in groups of 7 bits; the highest bit of a byte says that another follows."""
    return bytes([ticks >> 14 | 128, ticks >> 7 & 127 | 128, ticks & 127]) if ticks >= 128 else bytes([ticks])


def run(command: list[str], cwd: Path | None = None) -> None:
    if shutil.which(command[0]) is None:
        raise SystemExit(f"{command[0]} was not found. On Debian or Ubuntu: apt-get install {command[0]}.")
    if status := subprocess.run(command, cwd=cwd, stdout=subprocess.DEVNULL, check=False).returncode:
        raise SystemExit(f"{' '.join(command)} failed with exit status {status}.")


def matches(name: str, patterns: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns.split())


def read(path: Path) -> np.ndarray:
    return audio.read(path, SAMPLE_RATE, channels=1)[0][0]
