"""Measure the verbs on recordings: inversion round trips, filled gaps, variations; and the seams of loops.

    python -m bench.verbs inversion      SNR of sounds inverted to noise and sampled again, by sampler and grid
    python -m bench.verbs gaps           filled gaps compared with the original, by method, at equal network calls
    python -m bench.verbs variation      distance of variations from their sound, by strength
    python -m bench.verbs seams          seams of loops compared with places inside, by three features

Uses held-out recordings (build/default_data.npz, make dataset) and the embedded default, or ``--checkpoint``; some
minutes of one core each. Writes a table, and for variation a plot, to bench/results/verbs.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import librosa
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

import ddnb
from bench.common import describe_run, markdown_table
from bench.recordings import SUSTAINED, Recording, describe_counts, draw_recordings
from bench.seams import measure_seams
from ddnb import inpainting
from ddnb.generation.interpolate import FAITHFUL_DB
from ddnb.generation.levels import level_gain
from ddnb.generation.options import SamplingOptions
from ddnb.generation.sampling import resolve
from ddnb.inversion import bdia_generate, bdia_invert, snr_db
from ddnb.sampler import ddim, heun, invert, iplms, v_iplms
from ddnb.schedule import time_grid
from recipe.data import SAMPLE_RATE

ROOT = Path(__file__).parent.parent
HOP, WINDOW, MELS, FLOOR_DB = 128, 512, 48, -60.0
STEPS = 25
GAP_S, GAP_AT_S, LATER_S, SHORT_S, SEEDS = 0.1, 0.06, 0.35, 0.74, 2
STRENGTHS, TAKES = tuple(i / 10 for i in range(11)), 3


def format_mean(values: Sequence[float] | np.ndarray, digits: int = 2) -> str:
    """Format the mean and its standard error."""
    values = np.asarray(values, float)
    return f"{values.mean():.{digits}f} ± {values.std(ddof=1) / math.sqrt(len(values)):.{digits}f}"


@lru_cache(maxsize=1)
def _bank() -> Tensor:
    return torch.from_numpy(librosa.filters.mel(sr=SAMPLE_RATE, n_fft=WINDOW, n_mels=MELS, fmin=100, fmax=20_000))


def mels(audio: np.ndarray) -> Tensor:
    """Return the power in mel bands, (bands, steps of 3 ms)."""
    x = torch.from_numpy(np.ascontiguousarray(audio, np.float32))
    spectrum = torch.stft(x, WINDOW, HOP, window=torch.hann_window(WINDOW), pad_mode="constant", return_complex=True)
    return _bank() @ spectrum.abs().square()


def distance_db(true: np.ndarray, made: np.ndarray, start: int = 0, end: int | None = None) -> float:
    """Return the mean difference of log-mel spectrograms between two frames, dB; floored 60 dB below the true peak."""
    (a, b), part = (mels(true), mels(made)), slice(-(-start // HOP), end and end // HOP)
    a, b = (10 * torch.log10((x / a.max()).clamp(min=10 ** (FLOOR_DB / 10)))[:, part] for x in (a, b))
    return float((a - b).abs().mean())


# --- inversion ---------------------------------------------------------------------------------------------


def round_trip(solver: Callable, grid: str, model: Callable, x: Tensor, steps: int = STEPS) -> Tensor:
    """Invert sounds to noise and sample them again."""
    ts = time_grid(grid, steps)
    return solver(model, invert(model, x, ts, sampler=solver), ts)


def bdia(model: Callable, x: Tensor, clean: bool = False) -> Tensor:
    """Invert sounds exactly and sample them again."""
    ts = time_grid("log_snr", STEPS)
    return bdia_generate(model, bdia_invert(model, x, ts), ts, clean=clean)


PLAIN, EXACT = (
    "iplms, order 3, log_snr: first choice of interpolate",
    "exact (BDIA) with a clean end: second choice",
)
INVERSIONS: dict[str, Callable] = {
    PLAIN: partial(round_trip, iplms, "log_snr"),
    "the original: v-iplms, crash": partial(round_trip, v_iplms, "crash"),
    "ddim, log_snr": partial(round_trip, ddim, "log_snr"),
    "ddim, crash": partial(round_trip, ddim, "crash"),
    "heun, log_snr (twice the calls)": partial(round_trip, heun, "log_snr"),
    EXACT: partial(bdia, clean=True),
    "exact (BDIA), log_snr": bdia,
}


def batches(ckpt: ddnb.Checkpoint, sounds: list[Recording]) -> Iterator[tuple[Callable, Tensor]]:
    """Yield the model of each category and its recordings, (n, 1, frames), at the level of the training data."""
    for category in dict.fromkeys(s.category for s in sounds):
        x = np.zeros((sum(s.category == category for s in sounds), 1, ckpt.frames), np.float32)
        for row, sound in zip(x, (s for s in sounds if s.category == category), strict=True):
            audio = sound.audio[: ckpt.frames]
            row[0, : len(audio)] = audio * level_gain(ckpt, audio)
        yield resolve(ckpt, SamplingOptions(category=category)).model(), torch.from_numpy(x)


def measure_inversion(ckpt: ddnb.Checkpoint, n: int, out: Path) -> list[str]:
    """Return the lines of the report on inversion."""
    sounds, found, rows = draw_recordings(n), {}, []
    with torch.inference_mode():
        for name, way in INVERSIONS.items():
            began = time.process_time()
            found[name] = np.concatenate([snr_db(x, way(model, x)).numpy() for model, x in batches(ckpt, sounds)])
            rows.append([name, *_spread(found[name]), f"{(time.process_time() - began) / len(sounds):.1f} s"])
            print(*rows[-1], flush=True)
    chosen = np.where(found[PLAIN] < FAITHFUL_DB, found[EXACT], found[PLAIN])
    rows.insert(
        0,
        [
            "**default of interpolate: the next row, or the last but one where that is below 20 dB**",
            *_spread(chosen),
            "",
        ],
    )
    lines = [f"{describe_counts(sounds)}; {STEPS} steps each way, with their category. SNR of the reconstruction:"]
    lines += [
        "",
        *markdown_table(["sampler and grid", "median", "10th percentile", "below 20 dB", "CPU time of a sound"], rows),
    ]
    labels = np.array([s.category for s in sounds])
    names = [list(INVERSIONS)[i] for i in (0, 1, 2, 5)]
    rows = [
        [c, str((labels == c).sum())]
        + [f"{np.median(db):.1f} ({db.min():.1f})" for db in (found[name][labels == c] for name in names)]
        for c in dict.fromkeys(labels)
    ]
    return [*lines, "", "Median (lowest), dB:", "", *markdown_table(["category", "sounds", *names], rows)]


def _spread(db: np.ndarray) -> list[str]:
    return [f"{np.median(db):.1f} dB", f"{np.quantile(db, 0.1):.1f} dB", f"{(db < FAITHFUL_DB).mean():.0%}"]


# --- gaps -------------------------------------------------------------------------------------------------------


def guide_with_weight(w: float, *arguments: Any, **options: Any) -> Tensor:
    """Fill a gap by reconstruction guidance of another weight."""
    with patch.object(inpainting, "_PULL", w):
        return inpainting.guide(*arguments, **options)


def guide_without_noise(*arguments: Any, **options: Any) -> Tensor:
    """Fill a gap by reconstruction guidance with eta = 0."""

    def step(denoised: Tensor, eps: Tensor, t: float, s: float, z: Tensor) -> Tensor:
        return math.cos(s * math.pi / 2) * denoised + math.sin(s * math.pi / 2) * eps

    with patch.object(inpainting, "_ancestral", step):
        return inpainting.guide(*arguments, **options)


GAPS = {  # name -> method, steps, calls
    "replace, 125 steps": (inpainting.replace, 125, 125),
    "resample, R = 5, 27 steps": (inpainting.resample, 27, 127),
    f"**guide, w = {inpainting._PULL:g}, 42 steps (default, but for 25 steps)**": (inpainting.guide, 42, 126),
    "guide, w = 4, 42 steps": (partial(guide_with_weight, 4.0), 42, 126),
    "replace, 36 steps": (inpainting.replace, 36, 36),
    "resample, R = 5, 9 steps": (inpainting.resample, 9, 37),
    "resample, R = 3, 13 steps": (partial(inpainting.resample, passes=3), 13, 35),
    "guide, w = 2, 12 steps": (partial(guide_with_weight, 2.0), 12, 36),
    "guide, w = 4, 12 steps": (partial(guide_with_weight, 4.0), 12, 36),
    "guide, w = 2, eta 0, 12 steps": (guide_without_noise, 12, 36),
}


def gap_cases(n: int) -> list[tuple[Recording, float]]:
    """Return recordings of at most 0.74 s, longer ones faded out over the last 50 ms, and the start of each gap."""
    frames, fade = round(SHORT_S * SAMPLE_RATE), round(0.05 * SAMPLE_RATE)
    cases = []
    for sound in draw_recordings(n):
        audio = sound.audio[:frames].copy()
        if len(audio) < len(sound.audio):
            audio[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
        audio = np.pad(audio, (0, frames - len(audio)))
        later = [LATER_S] if sound.category in SUSTAINED else []
        cases += [(Recording(audio, sound.category), at) for at in (GAP_AT_S, *later)]
    return cases


def measure_gaps(ckpt: ddnb.Checkpoint, n: int, out: Path) -> list[str]:
    """Return the lines of the report on filled gaps."""
    cases, found, rows = gap_cases(n), {}, []
    for name, (method, steps, _) in GAPS.items():
        began, per_case = time.process_time(), []
        with patch.dict(inpainting.METHODS, bench=method):
            for sound, at in cases:
                options: dict[str, Any] = {
                    "steps": steps,
                    "category": sound.category,
                    "method": "bench",
                    "batch_size": SEEDS,
                }
                clips = ddnb.inpaint(ckpt, (sound.audio, SAMPLE_RATE), at, at + GAP_S, SEEDS, **options)
                per_case.append(np.median([distance_db(sound.audio, made[0], *_edges(at)) for made in clips.audio]))
        found[name] = np.array(per_case), (time.process_time() - began) / len(cases) / SEEDS
        print(name, format_mean(per_case), f"{found[name][1]:.1f} s", flush=True)
    cut_out = [distance_db(s.audio, np.zeros_like(s.audio), *_edges(at)) for s, at in cases]
    found["nothing: silence"] = np.array(cut_out), 0.0
    default = next(db for name, (db, _) in found.items() if "default" in name)
    early = np.array([at == GAP_AT_S for _, at in cases])
    held = np.array([sound.category in SUSTAINED for sound, _ in cases])
    parts = {"drums": early & ~held, "sustained": early & held, "sustained, later": ~early}
    parts = {name: chosen for name, chosen in parts.items() if chosen.sum() > 1}
    for name, (db, seconds) in found.items():
        calls = str(GAPS[name][2]) if name in GAPS else "0"
        row = [
            name,
            calls,
            format_mean(db),
            format_mean(db - default),
            *(format_mean(db[chosen]) for chosen in parts.values()),
        ]
        rows.append([*row, f"{seconds:.1f} s"])
    heads = ["method", "calls", "all, dB", "minus the default's", *parts, "time"]
    return [
        f"{describe_counts(draw_recordings(n))}, {SHORT_S} s of each. A gap of {GAP_S * 1000:.0f} ms at "
        f"{GAP_AT_S * 1000:.0f} ms; in {', '.join(SUSTAINED)} (sustained) another one at {LATER_S * 1000:.0f} ms.",
        "Log-spectral distance to the original inside the gap: mean over the cases and its standard error, each case "
        f"the median of {SEEDS} seeds. A step of guide counts as three calls; time is CPU time per filled gap.",
        *["", *markdown_table(heads, rows)],
    ]


def _edges(at: float) -> list[int]:
    return [round(seconds * SAMPLE_RATE) for seconds in (at, at + GAP_S)]


# --- variation --------------------------------------------------------------------------------------------------


def measure_variation(ckpt: ddnb.Checkpoint, n: int, out: Path) -> list[str]:
    """Return the lines of the report on variations, and save the plot."""
    sounds = draw_recordings(n)
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
        rows.append([f"{strength:g}", sigma, format_mean(far[:, j], 1), format_mean(alike[:, j]), more])
    heads = ["strength", "noise re full scale (sigma)", "distance, dB", "correlation", "farther than the row above"]
    return [
        f"{describe_counts(sounds)}; {TAKES} variations of each, {STEPS} steps, at the sound's peak. Log-spectral "
        "distance to the sound over its length and correlation with it, mean and standard error.",
        f"The largest decrease of the mean from one row to the next is {max(0.0, -steps.mean(0).min()):.2f} dB.",
        *["", *markdown_table(heads, rows), "", "![Distance against strength](variation.png)"],
    ]


# --- the command ------------------------------------------------------------------------------------------------

DEFAULTS = {"inversion": 44, "gaps": 22, "variation": 20, "seams": 60}
TITLES = {
    "inversion": "Inversion round trips",
    "gaps": "Filled gaps",
    "variation": "Strength of a variation",
    "seams": "Seams of loops",
}


def main() -> None:
    """Run one measurement and write its report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=DEFAULTS)
    parser.add_argument("--sounds", type=int, help=", ".join(f"{name} {n}" for name, n in DEFAULTS.items()))
    parser.add_argument("--checkpoint", default="drums")
    parser.add_argument("--full", action="store_true", help="seams: also the published network, some minutes")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "verbs")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    began, n = time.process_time(), given.sounds or DEFAULTS[given.what]
    ckpt = ddnb.load(given.checkpoint, device="cpu")
    measures = {"inversion": measure_inversion, "gaps": measure_gaps, "variation": measure_variation}
    measures["seams"] = partial(measure_seams, full=given.full)
    lines = measures[given.what](ckpt, n, given.out)
    report = [f"# {TITLES[given.what]}", ""]
    report.append(f"{describe_run()}, {(time.process_time() - began) / 60:.1f} min of CPU time.")
    report.append(f"Command: `python -m bench.verbs {shlex.join(sys.argv[1:])}`.")
    report += [f"Checkpoint: {ckpt.name}, weights {ckpt.info['weights_sha256'][:16]}.", "", *lines]
    path = given.out / f"{given.what}.md"
    path.write_text("\n".join(report) + "\n", encoding="utf-8")
    print(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
