"""Measure training: speed compared with the original's step, memory of the published network, reading of clips.

    python -m bench.training                     all parts; writes bench/results/training.md
    python -m bench.training --device cuda       only memory and speed, on a GPU; writes bench/results/training_cuda.md
    python -m bench.training step PAIR FOLDER    one comparison of steps, a key of PAIRS, on a folder of sounds
    python -m bench.training update NETWORK      only the update of the weights, after the gradients
    python -m bench.training memory ROW          one row of the table of memory: settings of TrainingConfig as JSON
    python -m bench.training reader FOLDER       clips read per second

Each part prints one line of JSON and runs in its own process, so that its peak of memory is its own. The comparison
needs Lightning, which the project itself does not: pip install lightning.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor, nn

from bench.common import describe_machine
from bench.full_size import Memory
from bench.original_step import LEARNING_RATE, OriginalDataset, original_module
from ddnb.checkpoints.checkpoint import Checkpoint
from ddnb.checkpoints.diffusers import diffusers_configs, to_diffusers
from ddnb.nets.unet import UNet
from ddnb.training.batches import Augment, draw, pieces
from ddnb.training.config import TrainingConfig
from ddnb.training.dataset import Dataset, decode
from ddnb.training.loop import from_scratch
from ddnb.training.memory import activation_bytes
from ddnb.training.trainer import Trainer

SAMPLE_RATE, FRAMES = 48_000, 65_536
FILES, FILE_SECONDS = 40, 20
ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"

PAIRS = {  # name -> network, implementation that the original's step trains, batch, accumulated batches, rounds
    "small": ("small", "ddnb", 2, 4, 8),
    "published": ("published", "ddnb", 1, 2, 9),
    "published-diffusers": ("published", "diffusers", 1, 1, 3),
}


# --- the parts, each in its own process -------------------------------------------------------------------


def compare_steps(pair: str, folder: Path) -> dict[str, Any]:
    """Train the same network with the original's step and with ours, alternately.

    Args:
        pair: key of ``PAIRS``.
        folder: folder of sounds.

    Returns:
        Median wall and CPU seconds of an update, ``ours`` and ``original``; the ``ratios`` of every round for both
        clocks; the last ``losses``.
    """
    import lightning

    network, implementation, batch, accumulate, rounds = PAIRS[pair]
    ckpt = _untrained(network, "cpu")
    recipe: dict[str, Any] = {"crop": True, "validation": 0.0, "ema_decay": 0.995, "learning_rate": LEARNING_RATE}
    ours = Trainer(ckpt, decode(folder, SAMPLE_RATE), TrainingConfig(batch_size=batch, accumulate=accumulate, **recipe))
    theirs = original_module(
        (_in_diffusers(ckpt) if implementation == "diffusers" else ckpt.net).requires_grad_(True).train()
    )
    times: dict[str, list[np.ndarray]] = {"ours": [], "original": []}
    losses: dict[str, float] = {}

    class InTurns(lightning.Callback):
        def on_train_start(self, *_: Any) -> None:
            self.begun = _clocks()

        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, clips: Tensor, number: int) -> None:
            if (number + 1) % accumulate:
                return
            ended = _clocks()
            times["original"].append(ended - self.begun)
            losses.update(original=float(trainer.callback_metrics["train/loss"]), ours=ours.train_step())
            self.begun = _clocks()
            times["ours"].append(self.begun - ended)

    loader = torch.utils.data.DataLoader(
        OriginalDataset(folder, FRAMES), batch, shuffle=True, num_workers=2, persistent_workers=True
    )
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "callbacks": [InTurns()]}
    lightning.Trainer(accelerator="cpu", max_steps=rounds + 1, accumulate_grad_batches=accumulate, **quiet).fit(
        theirs, loader
    )
    return _summarize(times) | {"losses": losses}


def compare_updates(network: str, rounds: int = 5) -> dict[str, Any]:
    """Update the weights and their average with the original's step and with ours, alternately, gradients given."""
    ckpt = _untrained(network, "cpu")
    settings = TrainingConfig(batch_size=1, crop=True, validation=0.0, ema_decay=0.995, learning_rate=LEARNING_RATE)
    ours, theirs = Trainer(ckpt, _noise_data(), settings), original_module(ckpt.net.requires_grad_(True))
    optimizer = theirs.configure_optimizers()
    times: dict[str, list[np.ndarray]] = {"ours": [], "original": []}
    for _ in range(rounds + 1):
        for weight in (*ours.trainable.values(), *theirs.diffusion.parameters()):
            weight.grad = torch.full_like(weight, 1e-3)
        marks = [_clocks()]
        optimizer.step()
        theirs.on_before_zero_grad()
        marks.append(_clocks())
        ours._update(0.0)
        marks.append(_clocks())
        for name, before, after in zip(("original", "ours"), marks, marks[1:], strict=False):
            times[name].append(after - before)
    return _summarize(times)


def _summarize(times: dict[str, list[np.ndarray]]) -> dict[str, Any]:
    """Return medians and ratios without the first round, which is a warm-up."""
    ours, original = (np.array(times[name][1:]) for name in ("ours", "original"))
    medians = {"ours": np.median(ours, axis=0).tolist(), "original": np.median(original, axis=0).tolist()}
    return medians | {"ratios": (original / ours).T.tolist()}


def _clocks() -> np.ndarray:
    """Return the wall time and the CPU time of this process."""
    return np.array([time.perf_counter(), time.process_time()])


def training_memory(row: dict[str, Any], device: str) -> dict[str, Any]:
    """Train the published network for two steps.

    Args:
        row: settings of ``TrainingConfig``.
        device: ``"cpu"`` or ``"cuda"``.

    Returns:
        ``peak`` and ``predicted`` bytes, and ``seconds`` and ``cpu_seconds`` of the second step.
    """
    data = _noise_data()
    with Memory() as memory:
        trainer = Trainer(_untrained("published", device), data, TrainingConfig(crop=True, validation=0.0, **row))
        trainer.train_step()
        _wait_for(device)
        start = _clocks()
        trainer.train_step()
        _wait_for(device)
        seconds, cpu_seconds = (_clocks() - start).tolist()
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else memory.report()["peak"]
    return {"peak": peak, "predicted": _predicted(trainer), "seconds": seconds, "cpu_seconds": cpu_seconds}


def _predicted(trainer: Trainer) -> int:
    """Return the bytes of weights, average, moments, gradients and activations, in float32."""
    trained = sum(p.numel() for p in trainer.trainable.values())
    every = sum(p.numel() for p in trainer.ckpt.net.parameters())
    kept = 4 * every * (2 if trainer.config.lora_rank else 1)  # the initial weights; for LoRA also the added ones
    activations = activation_bytes(trainer.net.config, FRAMES, trainer.config.recompute_levels)
    return kept + trainer.state_bytes + 4 * trained + (trainer.config.batch_size or 1) * activations


def read_clips(folder: Path) -> dict[str, Any]:
    """Draw batches of 8 for five seconds on one core; return ``clips_per_second`` and ``bytes`` of the data."""
    data = decode(folder, SAMPLE_RATE)
    found = pieces(data, FRAMES, True)
    options: dict[str, Any] = {"crop": True, "augment": Augment(), "seed": 0}
    start, batches = time.perf_counter(), 0
    while time.perf_counter() < start + 5:
        draw(data, found, range(8 * batches, 8 * batches + 8), FRAMES, **options)
        batches += 1
    return {"clips_per_second": 8 * batches / (time.perf_counter() - start), "bytes": data.audio.nbytes}


def _untrained(network: str, device: str) -> Checkpoint:
    return from_scratch(network, sample_rate=SAMPLE_RATE, frames=FRAMES, device=device)


def _in_diffusers(ckpt: Checkpoint) -> nn.Module:
    """Return the same network of diffusers, which resamples with dense matrices, as the original does."""
    from diffusers import UNet1DModel

    facts = {"sample_rate": ckpt.sample_rate, "frames": ckpt.frames}
    assert isinstance(ckpt.net, UNet)
    settings = diffusers_configs(ckpt.net.config, facts)["unet/config.json"]
    theirs = UNet1DModel.from_config({k: v for k, v in settings.items() if v is not None})
    theirs.load_state_dict(to_diffusers(ckpt.net.state_dict(), ckpt.net.config.depth))
    return theirs


def _noise_data() -> Dataset:
    """Decode two files of noise."""
    with tempfile.TemporaryDirectory(prefix="ddnb-bench-") as scratch:
        write_noise(Path(scratch), 2)
        return decode(scratch, SAMPLE_RATE)


def write_noise(folder: Path, files: int) -> None:
    """Write stereo files of noise."""
    for i in range(files):
        noise = np.random.default_rng(i).uniform(-0.5, 0.5, (FILE_SECONDS * SAMPLE_RATE, 2))
        soundfile.write(folder / f"{i:03}.wav", noise, SAMPLE_RATE)


def _wait_for(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


# --- all of them -----------------------------------------------------------------------------------------------


def memory_rows(device: str) -> list[dict[str, Any]]:
    """Return the measured settings of ``TrainingConfig``."""
    kinds = [{}, {"recompute_levels": 4}, {"lora_rank": 16}, {"lora_rank": 16, "recompute_levels": 4}]
    if device == "cpu":
        sizes, dtypes = [(1, 2), (1, 2, 4), (1,), (1,)], ["float32"]
    else:
        sizes, dtypes = (
            [(1, 2, 4, 8)] * 4,
            ["float32", "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"],
        )
    return [
        kind | {"batch_size": size, "dtype": dtype}
        for dtype in dtypes
        for kind, each in zip(kinds, sizes, strict=True)
        for size in each
    ]


def in_own_process(*words: str) -> Any:
    """Run one part in a fresh process; return what it printed, or None if it failed."""
    command = [sys.executable, "-m", "bench.training", *words]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    print(*words, done.stdout or done.stderr, flush=True)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def measure(device: str, threads: int) -> dict[str, Any]:
    """Run all parts; on a GPU only memory and speed."""
    results: dict[str, Any] = {"memory": []}
    options = ("--device", device, "--threads", str(threads))
    with tempfile.TemporaryDirectory(prefix="ddnb-bench-") as scratch:
        os.environ["DDNB_CACHE"] = str(Path(scratch) / "cache")
        if device == "cpu":
            folder = Path(scratch) / "noise"
            folder.mkdir()
            write_noise(folder, FILES)
            results["reader"] = in_own_process("reader", str(folder))
            results["steps"] = {pair: in_own_process("step", pair, str(folder), *options) for pair in PAIRS}
            results["updates"] = {name: in_own_process("update", name, *options) for name in ("small", "published")}
        for row in memory_rows(device):
            measured = in_own_process("memory", json.dumps(row), *options)
            results["memory"].append((row, measured))
    return results


def report(results: dict[str, Any], device: str, threads: int) -> str:
    """Return the results as Markdown."""
    packages = ("torch", "diffusers", "lightning") if device == "cpu" else ("torch",)
    versions = ", ".join([f"Python {platform.python_version()}", *(f"{p} {version(p)}" for p in packages)])
    where = (
        f"{describe_machine()}, {threads} thread{'s' * (threads > 1)}"
        if device == "cpu"
        else torch.cuda.get_device_name()
    )
    lines = [
        "# Training",
        "",
        f"{datetime.date.today()}, {where}, {versions}.",
        f"Command: `python -m bench.training --device {device} --threads {threads}`.",
        f"Clips of {FRAMES:,} stereo frames of noise at {SAMPLE_RATE:,} Hz.",
    ]
    lines += _report_steps(results) if device == "cpu" else []
    return "\n".join([*lines, *_report_memory(results["memory"], device)]) + "\n"


def _report_steps(results: dict[str, Any]) -> list[str]:
    lines = [
        "",
        "## Our step compared with the original's",
        "",
        "The original's training step, with Lightning and Adam, and ours train the same network alternately; medians,",
        'float32. With "ddnb" both train our implementation of the network; with "diffusers" the original\'s step',
        "trains diffusers', which resamples with dense matrices, as the original does. CPU time is that of the",
        "process: on one thread, other work of the machine hardly affects it.",
        "",
        "| network | the original trains | batch x accumulated | rounds | ours | original | original / ours (range) "
        "| in CPU time (range) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for pair, r in results["steps"].items():
        network, implementation, batch, accumulate, rounds = PAIRS[pair]
        lines.append(f"| {network} | {implementation} | {batch} x {accumulate} | {rounds} {_cells(r)} |")
    lines += [
        "",
        "Only the update of the weights and of their average, where the two differ; once per step:",
        "",
        "| network | ours | original | original / ours (range) | in CPU time (range) |",
        "|---|---|---|---|---|",
        *(f"| {network} {_cells(r)} |" for network, r in results["updates"].items()),
    ]
    reader, small = results["reader"], results["steps"]["small"]
    _, _, batch, accumulate, _ = PAIRS["small"]
    return [
        *lines,
        "",
        f"Reading: {reader['clips_per_second']:,.0f} clips per second in batches of 8, on one core, from a data set of "
        f"{reader['bytes'] / 1e6:.0f} MB in the page cache; the small network uses "
        f"{batch * accumulate / small['ours'][0]:.1f} per second here.",
    ]


def _cells(r: dict[str, Any]) -> str:
    ratios = " | ".join(f"{statistics.median(x):.2f} ({min(x):.2f} to {max(x):.2f})" for x in r["ratios"])
    return f"| {r['ours'][0]:.2f} s | {r['original'][0]:.2f} s | {ratios}"


def _report_memory(rows: list[tuple[dict[str, Any], dict[str, Any] | None]], device: str) -> list[str]:
    lines = [
        "",
        "## Memory of the published network",
        "",
        "221 M parameters. Peak of the process (GPU: of the allocator) over two updates, and the time of the second.",
        "Predicted: initial and trained weights, average, AdamW's moments, gradients, activations.",
        "",
        "| trained | recomputed levels | dtype | batch | peak memory | predicted, float32 | an update | in CPU time |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row, r in rows:
        trained = f"LoRA of rank {row['lora_rank']}" if "lora_rank" in row else "all"
        cells = [trained, row.get("recompute_levels", 0), row["dtype"], row["batch_size"]]
        figures = (
            [
                f"{r['peak'] / 1e9:.2f} GB",
                f"{r['predicted'] / 1e9:.2f} GB",
                f"{r['seconds']:.1f} s",
                f"{r['cpu_seconds']:.1f} s",
            ]
            if r
            else ["did not run", "", "", ""]
        )
        lines.append("| " + " | ".join(map(str, cells + figures)) + " |")
    return lines if device == "cuda" else [*lines, "", "Not measured: GPUs, half precision."]


def main() -> None:
    """Run one part, or all of them in fresh processes and write the report."""
    parts = {
        "step": lambda a: compare_steps(a.words[0], Path(a.words[1])),
        "update": lambda a: compare_updates(a.words[0]),
        "memory": lambda a: training_memory(json.loads(a.words[0]), a.device),
        "reader": lambda a: read_clips(Path(a.words[0])),
    }
    parser = argparse.ArgumentParser(description="Measure training.")
    parser.add_argument("part", nargs="?", choices=parts, help="run this part only")
    parser.add_argument("words", nargs="*", help="arguments of the part")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.part:
        print(json.dumps(parts[args.part](args)))
        return
    text = report(measure(args.device, args.threads), args.device, args.threads)
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / ("training.md" if args.device == "cpu" else "training_cuda.md")).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
