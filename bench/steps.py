"""Measure how near each sampler and grid come to the converged sound for a number of network calls.

    python -m bench.steps                        the reference network and an exact-score model, some minutes
    python -m bench.steps --checkpoint NAME      your checkpoint in place of the reference network

From the same noise, each combination is compared with 200 steps of Heun's method (every sampler here solves the
same equation). A cell is ``SNR / spectral error``, both in dB, medians over the clips: the signal-to-error ratio,
which the loud parts dominate (higher is better), and the mean difference of the log spectrogram down to 80 dB below
its peak, in which hiss in a quiet tail counts as much as an error in the attack (lower is better).

The exact-score model has no network error, so it shows only the error of the solver. Its data are a mixture of three
Gaussians in a block cosine basis: a kick, a snare and a hi-hat, each a spectrum that decays by 60 dB.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import ddnb
from bench.common import markdown_table
from ddnb.sampler import heun, sampler
from ddnb.schedule import time_grid
from ddnb.steps import seeded_noise

CALLS = (6, 8, 12, 16, 25, 50)
COMBINATIONS = [
    *(
        (name, grid)
        for grid in ("log_snr", "karras", "crash")
        for name in ("iplms", "dpmpp_2m", "dpmpp_3m", "heun", "ddim")
    ),
    ("v-iplms", "crash"),
    ("v-ddim", "crash"),
]
HERE = Path(__file__).parent
REFERENCE = HERE.parent / "tests/data/lightning.ckpt"


def drum_mixture(blocks: int = 32, bins: int = 128) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the exact v of a mixture of three zero-mean Gaussians; x is (B, 1, blocks * bins), cosine coefficients."""
    time, place = torch.linspace(0, 1, blocks)[:, None], torch.linspace(0, 1, bins)[None]
    kick = 4 * torch.exp(-place * 60 - 7 * time)
    snare = 0.4 * torch.exp(-((place - 0.1) ** 2) * 30 - (7 + 20 * place) * time)
    hat = 0.3 * torch.sigmoid((place - 0.35) * 30) * torch.exp(-25 * time)
    scales = torch.stack([kick, snare, hat]).clamp(min=1e-4).view(3, 1, 1, -1)

    def model(x: Tensor, t: Tensor) -> Tensor:
        phi = t.view(-1, 1, 1) * torch.pi / 2
        a, s = phi.cos(), phi.sin()
        variance = (a * scales) ** 2 + s**2  # of x under each component
        log_likelihood = (-(x**2) / variance - variance.log()).sum(dim=(-2, -1), keepdim=True) / 2
        weight = log_likelihood.softmax(dim=0)
        denoised = (weight * a * scales**2 / variance * x).sum(dim=0)
        eps = (weight * s / variance * x).sum(dim=0)
        return a * eps - s * denoised

    return model


def from_cosines(x: Tensor, bins: int = 128) -> Tensor:
    """Convert coefficients of the orthonormal block cosine transform to a waveform."""
    n, k = torch.arange(bins)[None], torch.arange(bins)[:, None]
    basis = (torch.pi / bins * (n + 0.5) * k).cos() * (2 / bins) ** 0.5
    basis[0] /= 2**0.5
    return (x.unflatten(-1, (-1, bins)) @ basis).flatten(-2)


def log_spectrum(wave: Tensor) -> Tensor:
    """Return the spectrogram in dB, floored 80 dB below its peak; (B, C, T) -> (B, C, frequencies, frames)."""
    window = torch.hann_window(128, device=wave.device)
    power = torch.stft(wave.flatten(0, 1), 128, 64, window=window, return_complex=True).abs() ** 2
    power = power.unflatten(0, wave.shape[:2])
    return 10 * power.clamp(min=1e-8 * power.amax(dim=(1, 2, 3), keepdim=True)).log10()


def errors_db(
    model: Callable, noise: Tensor, truth: Tensor, name: str, grid: str, calls: int, to_wave: Callable[[Tensor], Tensor]
) -> tuple[float, float]:
    """Return SNR and difference of the log spectrograms, dB, medians over the clips, for about ``calls`` calls."""
    steps = calls if name != "heun" else max(1, (calls + 2) // 2)  # two calls per step, except the first and the last
    x = sampler(name)(model, noise, time_grid(grid, steps))
    ratio = 10 * ((truth**2).sum(dim=(1, 2)) / ((x - truth) ** 2).sum(dim=(1, 2))).log10()
    spectral = (log_spectrum(to_wave(x)) - log_spectrum(to_wave(truth))).abs().mean(dim=(1, 2, 3))
    return statistics.median(ratio.tolist()), statistics.median(spectral.tolist())


def sweep(title: str, model: Callable, noise: Tensor, to_wave: Callable[[Tensor], Tensor] = lambda x: x) -> str:
    """Return the section of one model: its title and the table of errors."""
    truth = heun(model, noise, time_grid("log_snr", 200))
    rows = []
    for name, grid in COMBINATIONS:
        errors = [errors_db(model, noise, truth, name, grid, calls, to_wave) for calls in CALLS]
        rows.append([name, grid, *(f"{snr:.1f} / {spectral:.1f}" for snr, spectral in errors)])
    heads = ["sampler", "grid", *(f"{calls} calls" for calls in CALLS)]
    return "\n".join([f"## {title}", "", *markdown_table(heads, rows)]) + "\n"


def main() -> None:
    """Run the sweep and print its report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", help="a name, file or folder (default: the reference network of the tests)")
    parser.add_argument("--sample-rate", type=int)
    parser.add_argument("--frames", type=int)
    parser.add_argument("--clips", type=int, default=4)
    arguments = parser.parse_args()
    stated = {"sample_rate": arguments.sample_rate, "frames": arguments.frames}
    if arguments.checkpoint is None:
        arguments.checkpoint, stated = REFERENCE, {"sample_rate": 48000, "frames": 4096}
    ckpt = ddnb.load(arguments.checkpoint, **stated)
    frames = min(ckpt.frames, ckpt.legal_frames(1024))
    seeds = range(arguments.clips)
    head = (
        f"# Step sweep\n\n`python -m bench.steps`, {datetime.date.today()}, {platform.machine()}, "
        f"torch {torch.__version__}, {ckpt.device}, {ckpt.dtype}, {arguments.clips} clips.\n"
        "SNR / spectral error in dB against 200 steps of Heun's method.\n"
    )
    with torch.inference_mode():
        tables = [
            sweep("Exact score of a drum-like mixture", drum_mixture(), seeded_noise(seeds, (1, 4096)), from_cosines),
            sweep(f"{ckpt.name}, {frames} frames", ckpt, seeded_noise(seeds, (ckpt.channels, frames)).to(ckpt.device)),
        ]
    report = "\n".join([head, *tables])
    print(report)
    if arguments.checkpoint == REFERENCE:  # the committed report; that of another checkpoint is only printed
        (HERE / "results").mkdir(exist_ok=True)
        (HERE / "results/steps.md").write_text(report, encoding="utf-8")


if __name__ == "__main__":
    main()
