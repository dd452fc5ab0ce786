"""What the verbs do to recorded sounds: ways to noise and back, filled gaps, variations; and whether loops have seams.

    python -m bench.verbs inversion      how near sounds come back from noise, by sampler and grid
    python -m bench.verbs gaps           filled gaps beside what was there, by method, at equal network calls
    python -m bench.verbs variation      how far variations are from their sound, by strength
    python -m bench.verbs seams          whether the seam of a loop can be told from its inside, by three features

Held-out recordings (build/default_data.npz, make dataset) and the embedded default, some minutes of one core each;
``--checkpoint`` takes another one. Writes a table, and for variation a picture, to bench/results/verbs.
"""

from __future__ import annotations

import argparse
import datetime
import math
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import librosa
import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.signal import lfilter
from torch import Tensor

import ddnb
from bench.full_size import machine
from ddnb import inpainting
from ddnb.audio.loop import seam_db
from ddnb.generation.beat import STEPS as BAR
from ddnb.generation.beat import list_patterns
from ddnb.generation.interpolate import FAITHFUL_DB
from ddnb.generation.options import level_gain, sampling
from ddnb.inversion import bdia_generate, bdia_invert, snr_db
from ddnb.nets.unet import UNet, UNetConfig
from ddnb.sampler import ddim, heun, invert, iplms, v_iplms
from ddnb.schedule import time_grid
from recipe.data import CATEGORIES, SAMPLE_RATE, load_prepared

ROOT = Path(__file__).parent.parent
HOP, WINDOW, MELS, FLOOR_DB = 128, 512, 48, -60.0
STEPS = 25
SUSTAINED = ("bass", "synth", "texture")
GAP_S, GAP_AT_S, LATER_S, SHORT_S, SEEDS = 0.1, 0.06, 0.35, 0.74, 2
STRENGTHS, TAKES = tuple(i / 10 for i in range(11)), 3
HALF, AROUND, PLACES, ORDER = 256, 1024, 20, 32  # frames beside a seam; places inside a loop


class Recording(NamedTuple):
    """A held-out recording: ``audio`` float32 (frames,) at 44.1 kHz."""

    audio: np.ndarray
    category: str


def held_out(n: int) -> list[Recording]:
    """Draw ``n`` recordings, the categories in turn as long as they last, no two from one group."""
    data, rng, each = load_prepared(ROOT / "build" / "default_data.npz"), np.random.default_rng(0), []
    for label in range(len(CATEGORIES)):
        mine = rng.permutation(np.flatnonzero(data.held_out & (data.labels == label)))
        _, first = np.unique(np.array(data.groups)[mine], return_index=True)
        each.append(mine[np.sort(first)])
    drawn = [i for turn in zip_longest(*each) for i in turn if i is not None][:n]
    drawn.sort(key=lambda i: data.labels[i])
    return [Recording(data.sounds[i] / np.float32(32768), CATEGORIES[data.labels[i]]) for i in drawn]


def counted(sounds: list[Recording]) -> str:
    """How many recordings of which category."""
    numbers = {c: sum(s.category == c for s in sounds) for c in CATEGORIES}
    return f"{len(sounds)} held-out recordings: " + ", ".join(f"{n} {c}" for c, n in numbers.items() if n)


def table(heads: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|", *("| " + " | ".join(r) + " |" for r in rows)]


def mean(values, digits: int = 2) -> str:
    """Mean and its standard error."""
    values = np.asarray(values, float)
    return f"{values.mean():.{digits}f} ± {values.std(ddof=1) / math.sqrt(len(values)):.{digits}f}"


@lru_cache(maxsize=1)
def _bank() -> Tensor:
    return torch.from_numpy(librosa.filters.mel(sr=SAMPLE_RATE, n_fft=WINDOW, n_mels=MELS, fmin=100, fmax=20_000))


def mels(audio: np.ndarray) -> Tensor:
    """Power in mel bands, (bands, steps of 3 ms)."""
    x = torch.from_numpy(np.ascontiguousarray(audio, np.float32))
    spectrum = torch.stft(x, WINDOW, HOP, window=torch.hann_window(WINDOW), pad_mode="constant", return_complex=True)
    return _bank() @ spectrum.abs().square()


def distance_db(true: np.ndarray, made: np.ndarray, start: int = 0, end: int | None = None) -> float:
    """Mean difference of the log-mel spectrograms from one frame to another, dB; below -60 dB re the true peak is 0."""
    (a, b), part = (mels(true), mels(made)), slice(-(-start // HOP), end and end // HOP)
    a, b = (10 * torch.log10((x / a.max()).clamp(min=10 ** (FLOOR_DB / 10)))[:, part] for x in (a, b))
    return float((a - b).abs().mean())


# --- there and back ---------------------------------------------------------------------------------------------


def round_trip(solver: Callable, grid: str, model, x: Tensor, steps: int = STEPS) -> Tensor:
    ts = time_grid(grid, steps)
    return solver(model, invert(model, x, ts, sampler=solver), ts)


def bdia(model, x: Tensor, clean: bool = False) -> Tensor:
    ts = time_grid("log_snr", STEPS)
    return bdia_generate(model, bdia_invert(model, x, ts), ts, clean=clean)


PLAIN, EXACT = (
    "iplms, order 3, log_snr: what interpolate tries first",
    "exact (BDIA) with a clean end: what it tries then",
)
INVERSIONS = {
    PLAIN: partial(round_trip, iplms, "log_snr"),
    "the original: v-iplms, crash": partial(round_trip, v_iplms, "crash"),
    "ddim, log_snr": partial(round_trip, ddim, "log_snr"),
    "ddim, crash": partial(round_trip, ddim, "crash"),
    "heun, log_snr (twice the calls)": partial(round_trip, heun, "log_snr"),
    EXACT: partial(bdia, clean=True),
    "exact (BDIA), log_snr": bdia,
}


def batches(ckpt, sounds: list[Recording]) -> Iterator[tuple[Callable, Tensor]]:
    """The recordings of each category, (n, 1, frames), at the level that the network knows, and its model of these."""
    for category in dict.fromkeys(s.category for s in sounds):
        x = np.zeros((sum(s.category == category for s in sounds), 1, ckpt.frames), np.float32)
        for row, sound in zip(x, (s for s in sounds if s.category == category), strict=True):
            audio = sound.audio[: ckpt.frames]
            row[0, : len(audio)] = audio * level_gain(ckpt, audio)
        yield sampling(ckpt, category=category).model(), torch.from_numpy(x)


def inversion(ckpt, n: int, out: Path) -> list[str]:
    sounds, found, rows = held_out(n), {}, []
    with torch.inference_mode():
        for name, way in INVERSIONS.items():
            began = time.process_time()
            found[name] = np.concatenate([snr_db(x, way(model, x)).numpy() for model, x in batches(ckpt, sounds)])
            rows.append([name, *_spread(found[name]), f"{(time.process_time() - began) / len(sounds):.1f} s"])
            print(*rows[-1], flush=True)
    chosen = np.where(found[PLAIN] < FAITHFUL_DB, found[EXACT], found[PLAIN])
    rows.insert(0, ["**the default of interpolate, from the next row and the last but one**", *_spread(chosen), ""])
    lines = [f"{counted(sounds)}; {STEPS} steps there and as many back, with their category. SNR of what came back:"]
    lines += ["", *table(["sampler and grid", "median", "10th percentile", "below 20 dB", "CPU time of a sound"], rows)]
    labels = np.array([s.category for s in sounds])
    names = [list(INVERSIONS)[i] for i in (0, 1, 2, 5)]
    rows = [
        [c, str((labels == c).sum())]
        + [f"{np.median(db):.1f} ({db.min():.1f})" for db in (found[name][labels == c] for name in names)]
        for c in dict.fromkeys(labels)
    ]
    return [*lines, "", "Median (lowest), dB:", "", *table(["category", "sounds", *names], rows)]


def _spread(db: np.ndarray) -> list[str]:
    return [f"{np.median(db):.1f} dB", f"{np.quantile(db, 0.1):.1f} dB", f"{(db < FAITHFUL_DB).mean():.0%}"]


# --- gaps -------------------------------------------------------------------------------------------------------


def pulled(w: float, *given, **options) -> Tensor:
    with patch.object(inpainting, "_PULL", w):
        return inpainting.guide(*given, **options)


def without_noise(*given, **options) -> Tensor:
    def turned(denoised: Tensor, eps: Tensor, t: float, s: float, z: Tensor) -> Tensor:
        return math.cos(s * math.pi / 2) * denoised + math.sin(s * math.pi / 2) * eps

    with patch.object(inpainting, "_ancestral", turned):
        return inpainting.guide(*given, **options)


GAPS = {  # name -> method, steps, calls
    "replace, 125 steps": (inpainting.replace, 125, 125),
    "resample, R = 5, 27 steps": (inpainting.resample, 27, 127),
    f"**guide, w = {inpainting._PULL:g}, 42 steps (default, but for 25 steps)**": (inpainting.guide, 42, 126),
    "guide, w = 4, 42 steps": (partial(pulled, 4.0), 42, 126),
    "replace, 36 steps": (inpainting.replace, 36, 36),
    "resample, R = 5, 9 steps": (inpainting.resample, 9, 37),
    "resample, R = 3, 13 steps": (partial(inpainting.resample, passes=3), 13, 35),
    "guide, w = 2, 12 steps": (partial(pulled, 2.0), 12, 36),
    "guide, w = 4, 12 steps": (partial(pulled, 4.0), 12, 36),
    "guide, w = 2, eta 0, 12 steps": (without_noise, 12, 36),
}


def gap_cases(n: int) -> list[tuple[Recording, float]]:
    """Recordings of at most 0.74 s, longer ones faded out over the last 50 ms, and where the gap begins."""
    frames, fade = round(SHORT_S * SAMPLE_RATE), round(0.05 * SAMPLE_RATE)
    cases = []
    for sound in held_out(n):
        audio = sound.audio[:frames].copy()
        if len(audio) < len(sound.audio):
            audio[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
        audio = np.pad(audio, (0, frames - len(audio)))
        later = [LATER_S] if sound.category in SUSTAINED else []
        cases += [(Recording(audio, sound.category), at) for at in (GAP_AT_S, *later)]
    return cases


def gaps(ckpt, n: int, out: Path) -> list[str]:
    cases, found, rows = gap_cases(n), {}, []
    for name, (method, steps, _) in GAPS.items():
        began, per_case = time.process_time(), []
        with patch.dict(inpainting.METHODS, bench=method):
            for sound, at in cases:
                options = {"steps": steps, "category": sound.category, "method": "bench", "batch_size": SEEDS}
                clips = ddnb.inpaint(ckpt, (sound.audio, SAMPLE_RATE), at, at + GAP_S, SEEDS, **options)
                per_case.append(np.median([distance_db(sound.audio, made[0], *_edges(at)) for made in clips.audio]))
        found[name] = np.array(per_case), (time.process_time() - began) / len(cases) / SEEDS
        print(name, mean(per_case), f"{found[name][1]:.1f} s", flush=True)
    cut_out = [distance_db(s.audio, np.zeros_like(s.audio), *_edges(at)) for s, at in cases]
    found["nothing: silence"] = np.array(cut_out), 0.0
    default = next(db for name, (db, _) in found.items() if "default" in name)
    early = np.array([at == GAP_AT_S for _, at in cases])
    held = np.array([sound.category in SUSTAINED for sound, _ in cases])
    parts = {"drums": early & ~held, "sustained": early & held, "sustained, later": ~early}
    parts = {name: chosen for name, chosen in parts.items() if chosen.sum() > 1}
    for name, (db, seconds) in found.items():
        calls = str(GAPS[name][2]) if name in GAPS else "0"
        row = [name, calls, mean(db), mean(db - default), *(mean(db[chosen]) for chosen in parts.values())]
        rows.append([*row, f"{seconds:.1f} s"])
    heads = ["method", "calls", "all, dB", "less the default's", *parts, "time"]
    return [
        f"{counted(held_out(n))}, {SHORT_S} s of each. A gap of {GAP_S * 1000:.0f} ms at {GAP_AT_S * 1000:.0f} ms, in "
        f"{', '.join(SUSTAINED)} (sustained) another one at {LATER_S * 1000:.0f} ms.",
        "Log-spectral distance in the gap to what was there: mean over the cases and its standard error, each case "
        f"the median of {SEEDS} seeds. A step of guide counts as three calls; time is CPU time of one filling.",
        *["", *table(heads, rows)],
    ]


def _edges(at: float) -> list[int]:
    return [round(seconds * SAMPLE_RATE) for seconds in (at, at + GAP_S)]


# --- variation --------------------------------------------------------------------------------------------------


def variation(ckpt, n: int, out: Path) -> list[str]:
    sounds = held_out(n)
    far, alike = np.zeros((n, len(STRENGTHS))), np.zeros((n, len(STRENGTHS)))
    for i, sound in enumerate(sounds):
        audio = sound.audio[: ckpt.frames]
        for j, strength in enumerate(STRENGTHS):
            clips = ddnb.vary(ckpt, (audio, SAMPLE_RATE), strength, TAKES, 10 * i, category=sound.category)
            for made in clips.audio[:, 0]:
                alike[i, j] += np.dot(audio, made) / max(np.linalg.norm(audio) * np.linalg.norm(made), 1e-9) / TAKES
                far[i, j] += distance_db(audio, made * np.abs(audio).max() / max(np.abs(made).max(), 1e-9)) / TAKES
        print(sound.category, *(f"{db:.1f}" for db in far[i]), flush=True)
    figure = Figure(figsize=(7, 4.2), dpi=110, layout="constrained", facecolor="white")
    axes, error = figure.subplots(), far.std(0, ddof=1) / math.sqrt(n)
    axes.plot(STRENGTHS, far.T, color="0.8", linewidth=0.8)
    axes.errorbar(STRENGTHS, far.mean(0), error, color="tab:blue", marker="o", linewidth=2, capsize=3)
    axes.set(xlabel="strength", ylabel="distance to the sound, dB", xlim=(-0.02, 1.02), ylim=(0, None))
    axes.set_title(f"Variations of {n} held-out recordings: each, mean and standard error", fontsize=10)
    axes.grid(color="0.92")
    figure.savefig(out / "variation.png")
    steps = np.diff(far, axis=1)
    rows = []
    for j, strength in enumerate(STRENGTHS):
        sigma = f"{math.tan(strength * math.pi / 2):.2f}" if strength < 1 else "all noise"
        more = f"{(steps[:, j - 1] >= 0).mean():.0%}" if j else ""
        rows.append([f"{strength:g}", sigma, mean(far[:, j], 1), mean(alike[:, j]), more])
    heads = ["strength", "noise re full scale (sigma)", "distance, dB", "correlation", "farther than the row above"]
    return [
        f"{counted(sounds)}; {TAKES} variations of each, {STEPS} steps, at the sound's peak. Log-spectral distance "
        "to the sound over its length and correlation with it, mean and standard error.",
        f"On average it falls from one row to the next by {max(0.0, -steps.mean(0).min()):.2f} dB at most.",
        *["", *table(heads, rows), "", "![Distance against strength](variation.png)"],
    ]


# --- seams ------------------------------------------------------------------------------------------------------


def places_of(audio: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Click, step of level and step of spectrum at places of a loop, (places, 3)."""
    quiet, rng, found = 1e-4 * np.abs(audio).max(), np.random.default_rng(0), []
    audio = audio + quiet * rng.standard_normal(len(audio))  # what is 80 dB down counts for nothing
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
    """How often a seam sticks out more than a place inside; 0.5 if they are alike."""
    return float(((seams[:, None] > inside) + 0.5 * (seams[:, None] == inside)).mean())


def tracked(n: int) -> list[tuple[str, int]]:
    return [(SUSTAINED[i % 3], i) for i in range(n)]


def generated(ckpt, n: int, **options) -> list[np.ndarray]:
    """``n`` textures, synths and basses, in turn."""
    return [ddnb.generate(ckpt, 1, seed, category=c, **options).audio[0, 0] for c, seed in tracked(n)]


def in_bars(ckpt, n: int) -> list[np.ndarray]:
    """Loops of one bar at 70 to 180 BPM, most of them longer than a sound in training."""
    return [
        ddnb.generate(ckpt, 1, seed, category=c, loop=True, bpm=70 + 110 * i / n, max_cents=50).audio[0, 0]
        for i, (c, seed) in enumerate(tracked(n))
    ]


def published(n: int, widths: tuple[int, ...], frames: int, steps: int) -> list[np.ndarray]:
    """Loops of the published architecture with random weights."""
    torch.manual_seed(0)
    net, facts = UNet(UNetConfig(widths=widths)).eval(), {"name": "random", "source": "random", "licence": "MIT"}
    ckpt = ddnb.Checkpoint(net, SAMPLE_RATE, frames, torch.device("cpu"), torch.float32, facts)
    return [clip.audio[0] for clip in ddnb.generate(ckpt, n, 0, loop=True, steps=steps)]


def cut(audio: np.ndarray, fade: int = 0) -> np.ndarray:
    """A second out of the midst of a sound, cut off, or its end faded into what is before its beginning."""
    first, frames = round(0.2 * SAMPLE_RATE), SAMPLE_RATE
    loop = audio[first : first + frames].copy()
    if fade:
        turn = np.linspace(0, np.pi / 2, fade)
        loop[-fade:] = np.cos(turn) * loop[-fade:] + np.sin(turn) * audio[first - fade : first]
    return loop


def drum_loops(ckpt, n: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Beats that play their pattern three times: where it begins again, and where the drums of its beginning strike."""
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
    """How the seams of loops compare with places inside, chance ones unless they are given."""
    rng, seams, others = np.random.default_rng(0), [], []
    for i, loop in enumerate(loops):
        places = rng.integers(AROUND, len(loop) - AROUND, PLACES) if inside is None else inside[i]
        first, *rest = places_of(np.asarray(loop, np.float64), np.array([0, *places]))
        seams.append(first)
        others += rest
    values = [auc(a, b) for a, b in zip(np.array(seams).T, np.array(others).T, strict=True)]
    clicks = sum(seam_db(loop[None]) > 0 for loop in loops)
    row = [name, str(len(loops)), *(f"{v:.3f}" if 0.4 <= v <= 0.6 else f"**{v:.3f}**" for v in values), str(clicks)]
    print(*row, flush=True)
    return row


def seams(ckpt, n: int, out: Path, full: bool = False) -> list[str]:
    rows = [seam_row("loops of a bar at 70 to 180 BPM", in_bars(ckpt, n))]
    rows.append(seam_row("loops of the trained length", generated(ckpt, n, loop=True)))
    rows.append(seam_row("published architecture, narrow, random weights", published(n, (32,) * 14, 32_768, 6)))
    if full:
        full_size = UNetConfig().widths
        rows.append(seam_row("published network, random weights, 2 steps", published(n, full_size, 16_384, 2)))
    beats = list(drum_loops(ckpt, n))
    audio = [beat[0] for beat in beats]
    rows.append(seam_row("beats, beside where the pattern begins again", audio, [beat[1] for beat in beats]))
    rows.append(seam_row("beats, beside where the same drums strike", audio, [beat[2] for beat in beats]))
    plain = generated(ckpt, n)
    rows.append(seam_row("no loops: cut off", [cut(sound) for sound in plain]))
    rows.append(seam_row("no loops: faded over 512 frames", [cut(sound, 512) for sound in plain]))
    heads = ["loops", "number", "click", "level", "spectrum", "clicks above the 99.5th percentile"]
    return [
        f"Share of pairs in which the seam sticks out more than a place inside (AUC): 0.5 is seamless, standard error "
        f"{math.sqrt(1 / 12 / n):.3f}; bold is outside of 0.40 to 0.60. {PLACES} places by chance in each loop, in "
        "beats where the pattern begins again, or the drums of its beginning strike. Textures, synths and basses "
        "in equal numbers.",
        "Click: the largest error of a linear prediction from 32 samples, within 8 samples, re the median; level and "
        "spectrum: steps in dB from the 256 samples before to those after. The last column counts `seam_db` > 0.",
        *["", *table(heads, rows)],
    ]


# --- the command ------------------------------------------------------------------------------------------------

DEFAULTS = {"inversion": 44, "gaps": 22, "variation": 20, "seams": 60}
TITLES = {"inversion": "From sound to noise and back", "gaps": "Filled gaps", "variation": "Strength of a variation"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=DEFAULTS)
    parser.add_argument("--sounds", type=int, help=", ".join(f"{name} {n}" for name, n in DEFAULTS.items()))
    parser.add_argument("--checkpoint", default="drums")
    parser.add_argument("--full", action="store_true", help="seams: the published network too, some minutes")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "verbs")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    began, n = time.process_time(), given.sounds or DEFAULTS[given.what]
    ckpt = ddnb.load(given.checkpoint, device="cpu")
    measure = {"inversion": inversion, "gaps": gaps, "variation": variation, "seams": partial(seams, full=given.full)}
    lines = measure[given.what](ckpt, n, given.out)
    report = [f"# {TITLES.get(given.what, 'Seams of loops')}", ""]
    report.append(
        f"{datetime.date.today()}, {machine()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}, "
        f"{(time.process_time() - began) / 60:.1f} min of CPU time."
    )
    report.append(f"Command: `python -m bench.verbs {shlex.join(sys.argv[1:])}`.")
    report += [f"Checkpoint: {ckpt.name}, weights {ckpt.info['weights_sha256'][:16]}.", "", *lines]
    path = given.out / f"{given.what}.md"
    path.write_text("\n".join(report) + "\n", encoding="utf-8")
    print(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
