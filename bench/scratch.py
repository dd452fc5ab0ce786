"""Train a small network from scratch on recorded one-shots, and compare its sounds with the training data.

    python -m bench.scratch FOLDER OUT [--steps 4000] [--threads 1]

FOLDER holds class folders of drum sounds; OUT is a run of ``ddnb.finetune``, resumed if it exists. Writes
``OUT/scratch.png`` and prints the lines of ``bench/results/scratch.md``.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import torch
from matplotlib.figure import Figure

import ddnb
from ddnb.training import dataset
from ddnb.training.config import TrainingConfig
from ddnb.training.loop import from_scratch
from ddnb.training.trainer import Trainer

NETWORK, RATE, FRAMES = "demo", 16000, 8192
CLIPS = 8
FLOOR_DB = -80.0


def train(folder: Path, out: Path, steps: int) -> float:
    """Train, or resume; return the seconds it took this time."""
    start, began = from_scratch(NETWORK, sample_rate=RATE, frames=FRAMES, device="cpu"), time.perf_counter()
    settings: dict[str, Any] = {
        "steps": steps,
        "batch_size": 4,
        "learning_rate": 2e-3,
        "validate_every": 200,
        "demo_every": 1000,
    }
    for record in ddnb.finetune(start, folder, out, **settings):
        if record.validation_loss is not None:
            print(f"step {record.step}: {record.loss}, validation {record.validation_loss:.4f}", flush=True)
    return time.perf_counter() - began


class Silent(torch.nn.Module):
    """A predictor that always returns 0."""

    def forward(self, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor | None) -> torch.Tensor:
        return torch.zeros_like(x)


def losses(ckpt: ddnb.Checkpoint, data: dataset.Dataset) -> tuple[float | None, ...]:
    """Return the validation losses of the trained network, of one that returns 0, and of a network before training."""
    trainer = Trainer(ckpt, data, TrainingConfig(batch_size=4))
    trained = trainer.validate()
    silent: Any = Silent()
    silent.config = trainer.net.config
    trainer.net = silent
    untrained = from_scratch(NETWORK, sample_rate=RATE, frames=FRAMES, device="cpu")
    return trained, trainer.validate(), Trainer(untrained, data, TrainingConfig(batch_size=4)).validate()


def spectrum_db(sounds: list[np.ndarray]) -> np.ndarray:
    """Return the mean power in 48 mel bands, dB re the strongest."""
    mels = [librosa.feature.melspectrogram(y=s, sr=RATE, n_fft=1024, hop_length=256, n_mels=48).mean(1) for s in sounds]
    mean = np.mean([m / m.sum() for m in mels], axis=0)
    return np.maximum(10 * np.log10(mean / mean.max() + 1e-12), FLOOR_DB)


def envelope_db(sound: np.ndarray) -> np.ndarray:
    """Return the RMS in steps of 256 frames, dB re the loudest step."""
    rms = np.sqrt(np.square(sound[: len(sound) // 256 * 256]).reshape(-1, 256).mean(1))
    return np.maximum(20 * np.log10(rms / rms.max() + 1e-12), FLOOR_DB)


def mono_sounds(data: dataset.Dataset, category: str) -> list[np.ndarray]:
    """Return the sounds of a category, mono, cut or padded to ``FRAMES``."""
    found = [i for i, s in enumerate(data.sounds) if s.category == category]
    sounds = [data.sound(i).mean(0)[:FRAMES] for i in found]
    return [np.pad(s, (0, FRAMES - len(s))) for s in sounds]


def compare(ckpt: ddnb.Checkpoint, data: dataset.Dataset) -> tuple[Figure, list[str]]:
    """Return a figure and a table that compare generated sounds with the data, class by class."""
    figure = Figure(figsize=(3.2 * len(data.categories), 8), dpi=56, layout="constrained")
    axes = figure.subplots(4, len(data.categories))
    lines = ["| class | spectrum, mean difference | envelope, mean difference | end of data | end of made |"]
    lines.append("|---|---|---|---|---|")
    for column, category in enumerate(data.categories):
        real = mono_sounds(data, category)
        made = [clip.audio.mean(0) for clip in ddnb.generate(ckpt, CLIPS, 0, category=category)]
        spectra = [spectrum_db(real), spectrum_db(made)]
        envelopes = [np.median([envelope_db(s) for s in sounds], axis=0) for sounds in (real, made)]
        seconds = np.arange(len(envelopes[0])) * 256 / RATE
        axes[0, column].set_title(category)
        for name, spectrum, envelope in zip(("data", "made"), spectra, envelopes, strict=True):
            axes[0, column].plot(spectrum, label=name)
            axes[1, column].plot(seconds, envelope, label=name)
        axes[0, column].set(xlabel="mel band", ylabel="dB", ylim=(FLOOR_DB, 3))
        axes[1, column].set(xlabel="s", ylabel="dB", ylim=(FLOOR_DB, 3))
        for row, (name, sounds) in enumerate((("data", real), ("made", made)), 2):
            power = librosa.feature.melspectrogram(y=np.concatenate(sounds[:4]), sr=RATE, hop_length=128, n_mels=64)
            image = 10 * np.log10(power / power.max() + 1e-8)
            axes[row, column].imshow(image, origin="lower", aspect="auto", cmap="magma", vmin=-70, vmax=0)
            axes[row, column].set(xticks=[], yticks=[], xlabel=f"4 sounds, {name}")
        gaps = [np.abs(a - b).mean() for a, b in (spectra, envelopes)]
        ends = [np.median([envelope_db(s)[-8:].mean() for s in sounds]) for sounds in (real, made)]
        lines.append(f"| {category} | {gaps[0]:.1f} dB | {gaps[1]:.1f} dB | {ends[0]:.0f} dB | {ends[1]:.0f} dB |")
    axes[0, 0].legend()
    return figure, lines


def main() -> None:
    """Train, compare, and print the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore", UserWarning)  # a finished run warns
    seconds = train(arguments.folder, arguments.out, arguments.steps)
    ckpt = ddnb.load(arguments.out, device="cpu")
    data = dataset.decode(arguments.folder, RATE, 2)
    trained, silent, untrained = losses(ckpt, data)
    figure, lines = compare(ckpt, data)
    figure.savefig(arguments.out / "scratch.png")
    print(f"{arguments.steps} steps of 4 clips, {seconds / 60:.1f} min on {arguments.threads} thread(s), this time")
    print(f"validation loss {trained:.4f}; of the predictor 0 {silent:.4f}; before training {untrained:.4f}")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
