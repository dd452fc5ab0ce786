"""Compare the seam of a loop with places inside it by three features: click, step of level, step of spectrum."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import torch
from scipy.signal import lfilter

import ddnb
from bench.common import markdown_table
from bench.recordings import SUSTAINED
from ddnb.audio.loop import seam_db
from ddnb.generation.beat import STEPS as BAR
from ddnb.generation.beat import list_patterns
from ddnb.nets.unet import UNet, UNetConfig
from recipe.data import SAMPLE_RATE

HALF, AROUND, PLACES, ORDER = 256, 1024, 20, 32
"""Frames compared on each side of a seam, frames of context, places inside a loop, order of the prediction."""


def seam_features(audio: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return click, step of level and step of spectrum at places of a loop, (places, 3)."""
    quiet, rng, found = 1e-4 * np.abs(audio).max(), np.random.default_rng(0), []
    audio = audio + quiet * rng.standard_normal(len(audio))  # what is 80 dB below the peak does not count
    window, edges = np.hanning(HALF), np.geomspace(1, HALF // 2 + 1, 13).astype(int)
    for place in places:
        near = audio[(place + np.arange(-AROUND, AROUND)) % len(audio)]
        error = np.abs(lfilter(librosa.lpc(near, order=ORDER), [1.0], near))[ORDER:]
        seam = AROUND - ORDER
        halves = [near[AROUND - HALF : AROUND], near[AROUND : AROUND + HALF]]
        level = [10 * np.log10(np.square(h).mean()) for h in halves]
        power = [np.abs(np.fft.rfft(window * h)) ** 2 for h in halves]
        bands = [10 * np.log10([p[a : max(b, a + 1)].mean() for a, b in pairwise(edges)]) for p in power]
        click = error[seam - 2 : seam + 6].max() / np.median(error)
        found.append((click, abs(level[1] - level[0]), np.abs(bands[1] - bands[0]).mean()))
    return np.array(found)


def auc(seams: np.ndarray, inside: np.ndarray) -> float:
    """Return how often the feature of a seam exceeds that of a place inside; 0.5 if they are alike."""
    return float(((seams[:, None] > inside) + 0.5 * (seams[:, None] == inside)).mean())


def category_seeds(n: int) -> list[tuple[str, int]]:
    """Return ``n`` pairs of category and seed, the sustained categories in turn."""
    return [(SUSTAINED[i % 3], i) for i in range(n)]


def generate_sustained(ckpt: ddnb.Checkpoint, n: int, **options: Any) -> list[np.ndarray]:
    """Generate ``n`` basses, synths and textures, in turn."""
    return [ddnb.generate(ckpt, 1, seed, category=c, **options).audio[0, 0] for c, seed in category_seeds(n)]


def generate_bars(ckpt: ddnb.Checkpoint, n: int) -> list[np.ndarray]:
    """Generate loops of one bar at 70 to 180 BPM, most of them longer than a training sound."""
    return [
        ddnb.generate(ckpt, 1, seed, category=c, loop=True, bpm=70 + 110 * i / n, max_cents=50).audio[0, 0]
        for i, (c, seed) in enumerate(category_seeds(n))
    ]


def generate_published(n: int, widths: tuple[int, ...], frames: int, steps: int) -> list[np.ndarray]:
    """Generate loops with the published architecture and random weights."""
    torch.manual_seed(0)
    net, facts = UNet(UNetConfig(widths=widths)).eval(), {"name": "random", "source": "random", "licence": "MIT"}
    ckpt = ddnb.Checkpoint(net, SAMPLE_RATE, frames, torch.device("cpu"), torch.float32, facts)
    return [clip.audio[0] for clip in ddnb.generate(ckpt, n, 0, loop=True, steps=steps)]


def cut_out(audio: np.ndarray, fade: int = 0) -> np.ndarray:
    """Return a second from the middle of a sound, cut off, or with its end crossfaded into what precedes its start."""
    first, frames = round(0.2 * SAMPLE_RATE), SAMPLE_RATE
    loop = audio[first : first + frames].copy()
    if fade:
        turn = np.linspace(0, np.pi / 2, fade)
        loop[-fade:] = np.cos(turn) * loop[-fade:] + np.sin(turn) * audio[first - fade : first]
    return loop


def generate_beats(ckpt: ddnb.Checkpoint, n: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield beats of three repeats of a pattern, the frames where it repeats, and those where its first drums hit."""
    patterns, rng = list_patterns(), np.random.default_rng(0)
    known = {track for groove in patterns.values() for track in groove["tracks"]}
    sounds = {track: ddnb.generate(ckpt, 6, 0, category=track) for track in sorted(known)}
    for i in range(n):
        name = list(patterns)[i % len(patterns)]
        tracks, swing = patterns[name]["tracks"], patterns[name]["swing"]
        own, bpm = {track: sounds[track][int(rng.integers(6))] for track in tracks}, patterns[name]["bpm"]
        steps = 3 * max(map(len, tracks.values()))
        beat = ddnb.beat(None, name, sounds=own, bpm=bpm * rng.uniform(0.9, 1.1), bars=steps // BAR)
        step = beat.clip.audio.shape[-1] / steps
        first = [track for track in tracks.values() if track[0] != "."]
        same = [k for k in range(1, steps) if all(track[k % len(track)] != "." for track in first)]
        strikes = [round((k + k % 2 * (2 * swing - 1)) * step) for k in same]
        again = [round(steps // 3 * turn * step) for turn in (1, 2)]
        yield beat.clip.audio[0], np.array(again), np.array(strikes)


def seam_row(name: str, loops: list[np.ndarray], inside: list[np.ndarray] | None = None) -> list[str]:
    """Return a row that compares the seams of loops with places inside, random ones by default."""
    rng, seams, others = np.random.default_rng(0), [], []
    for i, loop in enumerate(loops):
        places = rng.integers(AROUND, len(loop) - AROUND, PLACES) if inside is None else inside[i]
        first, *rest = seam_features(np.asarray(loop, np.float64), np.array([0, *places]))
        seams.append(first)
        others += rest
    values = [auc(a, b) for a, b in zip(np.array(seams).T, np.array(others).T, strict=True)]
    clicks = sum(seam_db(loop[None]) > 0 for loop in loops)
    row = [name, str(len(loops)), *(f"{v:.3f}" if 0.4 <= v <= 0.6 else f"**{v:.3f}**" for v in values), str(clicks)]
    print(*row, flush=True)
    return row


def measure_seams(ckpt: ddnb.Checkpoint, n: int, out: Path, full: bool = False) -> list[str]:
    """Return the lines of the report on seams."""
    rows = [seam_row("loops of a bar at 70 to 180 BPM", generate_bars(ckpt, n))]
    rows.append(seam_row("loops of the trained length", generate_sustained(ckpt, n, loop=True)))
    rows.append(
        seam_row("published architecture, narrow, random weights", generate_published(n, (32,) * 14, 32_768, 6))
    )
    if full:
        full_size = UNetConfig().widths
        rows.append(seam_row("published network, random weights, 2 steps", generate_published(n, full_size, 16_384, 2)))
    beats = list(generate_beats(ckpt, n))
    audio = [beat[0] for beat in beats]
    rows.append(seam_row("beats, compared with where the pattern repeats", audio, [beat[1] for beat in beats]))
    rows.append(seam_row("beats, compared with where the same drums hit", audio, [beat[2] for beat in beats]))
    plain = generate_sustained(ckpt, n)
    rows.append(seam_row("not loops: cut off", [cut_out(sound) for sound in plain]))
    rows.append(seam_row("not loops: crossfaded over 512 frames", [cut_out(sound, 512) for sound in plain]))
    heads = ["loops", "number", "click", "level", "spectrum", "clicks above the 99.5th percentile"]
    return [
        f"Share of pairs in which the feature of the seam exceeds that of a place inside (AUC): 0.5 is seamless, "
        f"standard error {math.sqrt(1 / 12 / n):.3f}; bold is outside of 0.40 to 0.60. {PLACES} random places in each "
        "loop; in beats, the places where the pattern repeats or its first drums hit. Equal numbers of textures, "
        "synths and basses.",
        "Click: the largest error of a linear prediction from 32 samples, within 8 samples, re the median. Level and "
        "spectrum: steps in dB from the 256 samples before to the 256 after. The last column counts `seam_db` > 0.",
        *["", *markdown_table(heads, rows)],
    ]
