"""Training: speed beside the original's step, memory of the published network, and how fast clips are read.

    python bench/training.py                     everything; writes bench/results/training.md
    python bench/training.py --device cuda       memory and speed on a GPU only; writes bench/results/training_cuda.md
    python bench/training.py step PAIR FOLDER    one comparison of steps, a key of PAIRS, on a folder of sounds
    python bench/training.py update NETWORK      the update of the weights alone, after the gradients
    python bench/training.py memory ROW          one row of the table of memory: Recipe's settings as JSON
    python bench/training.py reader FOLDER       clips read per second

Each part prints one line of JSON and runs in a process of its own, so that its peak of memory is its own.
The comparison needs Lightning, which the project itself does not: pip install lightning.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import json
import math
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
from full_size import Memory, machine
from torch import Tensor, nn

from ddnb.checkpoints.checkpoint import Checkpoint
from ddnb.checkpoints.diffusers import diffusers_configs, to_diffusers
from ddnb.training.config import Recipe
from ddnb.training.dataset import Augment, decode, draw, pieces
from ddnb.training.loop import from_scratch
from ddnb.training.memory import activation_bytes
from ddnb.training.trainer import Trainer

SAMPLE_RATE, FRAMES = 48_000, 65_536
LEARNING_RATE = 4e-5
FILES, FILE_SECONDS = 40, 20
RESULTS = Path(__file__).parent / "results"

PAIRS = {  # name -> network, whose implementation the original's step trains, batch, accumulated batches, rounds
    "small": ("small", "ddnb", 2, 4, 8),
    "published": ("published", "ddnb", 1, 2, 9),
    "published-diffusers": ("published", "diffusers", 1, 1, 3),
}


# --- the original's step ---------------------------------------------------------------------------------------


def original(net: nn.Module):
    """Harmonai's training step (sample-generator, train_uncond.py, MIT) after its description, for Lightning 2.

    Adam at 4e-5 in torch's default form, even times from a scrambled Sobol sequence, the crash schedule, the error of
    v, and the average of a copy of the network, 0.95 in the first 25 epochs and 0.995 then, at every update.
    """
    import lightning

    class Original(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.diffusion = net
            self.diffusion_ema = copy.deepcopy(net).requires_grad_(False)
            self.sobol = torch.quasirandom.SobolEngine(1, scramble=True)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.diffusion.parameters(), lr=LEARNING_RATE)

        def training_step(self, clips: Tensor, _: int) -> Tensor:
            sigma = torch.sin(self.sobol.draw(len(clips))[:, 0].to(clips) * math.pi / 2) ** 2
            t = torch.atan2(sigma, (1 - sigma**2).sqrt()) * 2 / math.pi
            alpha, sigma = (f(t * math.pi / 2)[:, None, None] for f in (torch.cos, torch.sin))
            noise = torch.randn_like(clips)
            output = self.diffusion(clips * alpha + noise * sigma, t)
            v = getattr(output, "sample", output)  # diffusers wraps it
            loss = nn.functional.mse_loss(v, noise * alpha - clips * sigma)
            self.log_dict({"train/loss": loss.detach()}, prog_bar=True, on_step=True)
            return loss

        @torch.no_grad()
        def on_before_zero_grad(self, *_: Any) -> None:
            decay = 0.95 if self.current_epoch < 25 else 0.995
            for average, weight in zip(self.diffusion_ema.parameters(), self.diffusion.parameters(), strict=True):
                average.mul_(decay).add_(weight, alpha=1 - decay)
            for average, buffer in zip(self.diffusion_ema.buffers(), self.diffusion.buffers(), strict=True):
                average.copy_(buffer)

    return Original()


class OriginalDataset(torch.utils.data.Dataset):
    """Every item reads a whole file, crops it anywhere and turns it upside down half of the time."""

    def __init__(self, folder: Path):
        self.paths = sorted(folder.glob("*.wav"))

    def __len__(self) -> int:
        return 100_000  # one epoch, however long it is measured

    def __getitem__(self, index: int) -> Tensor:
        audio = torch.from_numpy(soundfile.read(self.paths[index % len(self.paths)], dtype="float32")[0].T)
        start = int(torch.randint(0, audio.shape[1] - FRAMES + 1, ()))
        return audio[:, start : start + FRAMES] * (-1 if torch.rand(()) < 0.5 else 1)


# --- the parts, each in a process of its own -------------------------------------------------------------------


def compare_steps(pair: str, folder: Path) -> dict[str, Any]:
    """Train the same network by the original's step and by ours, an update of each in turn.

    Args:
        pair: key of ``PAIRS``.
        folder: of sounds.

    Returns:
        Median seconds of an update and of the processor's work for it, ``ours`` and ``original``; the ``ratios`` of
        every round, of both; the last ``losses``.
    """
    import lightning

    network, implementation, batch, accumulate, rounds = PAIRS[pair]
    ckpt = _untrained(network, "cpu")
    recipe = {"crop": True, "validation": 0.0, "ema_decay": 0.995, "learning_rate": LEARNING_RATE}
    ours = Trainer(ckpt, decode(folder, SAMPLE_RATE), Recipe(batch_size=batch, accumulate=accumulate, **recipe))
    theirs = original((_in_diffusers(ckpt) if implementation == "diffusers" else ckpt.net).requires_grad_(True).train())
    times: dict[str, list[np.ndarray]] = {"ours": [], "original": []}
    losses = {}

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
        OriginalDataset(folder), batch, shuffle=True, num_workers=2, persistent_workers=True
    )
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "callbacks": [InTurns()]}
    lightning.Trainer(accelerator="cpu", max_steps=rounds + 1, accumulate_grad_batches=accumulate, **quiet).fit(
        theirs, loader
    )
    return _in_turn(times) | {"losses": losses}


def compare_updates(network: str, rounds: int = 5) -> dict[str, Any]:
    """Update the weights and their average by the original's step and by ours, in turn, gradients given."""
    ckpt = _untrained(network, "cpu")
    settings = Recipe(batch_size=1, crop=True, validation=0.0, ema_decay=0.995, learning_rate=LEARNING_RATE)
    ours, theirs = Trainer(ckpt, _noise_data(), settings), original(ckpt.net.requires_grad_(True))
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
    return _in_turn(times)


def _in_turn(times: dict[str, list[np.ndarray]]) -> dict[str, Any]:
    """Medians and ratios, without the first round, which is a warm-up."""
    ours, original = (np.array(times[name][1:]) for name in ("ours", "original"))
    medians = {"ours": np.median(ours, axis=0).tolist(), "original": np.median(original, axis=0).tolist()}
    return medians | {"ratios": (original / ours).T.tolist()}


def _clocks() -> np.ndarray:
    """Time, and the processor's time for this process."""
    return np.array([time.perf_counter(), time.process_time()])


def training_memory(row: dict[str, Any], device: str) -> dict[str, Any]:
    """Train the published network for two steps.

    Args:
        row: settings of ``Recipe``.
        device: ``"cpu"`` or ``"cuda"``.

    Returns:
        ``peak`` and ``predicted`` bytes, and of the second step ``seconds`` and ``cpu_seconds``.
    """
    data = _noise_data()
    with Memory() as memory:
        trainer = Trainer(_untrained("published", device), data, Recipe(crop=True, validation=0.0, **row))
        trainer.train_step()
        _wait_for(device)
        start = _clocks()
        trainer.train_step()
        _wait_for(device)
        seconds, cpu_seconds = (_clocks() - start).tolist()
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else memory.report()["peak"]
    return {"peak": peak, "predicted": _predicted(trainer), "seconds": seconds, "cpu_seconds": cpu_seconds}


def _predicted(trainer: Trainer) -> int:
    """Weights, average, moments and gradients of what is trained, and the activations, in float32."""
    trained = sum(p.numel() for p in trainer.trainable.values())
    every = sum(p.numel() for p in trainer.ckpt.net.parameters())
    kept = 4 * every * (2 if trainer.recipe.lora_rank else 1)  # where it starts; LoRA: that, and what is added to it
    activations = activation_bytes(trainer.net.config, FRAMES, trainer.recipe.recompute_levels)
    return kept + trainer.state_bytes + 4 * trained + trainer.recipe.batch_size * activations


def read_clips(folder: Path) -> dict[str, Any]:
    """Draw batches of 8 for five seconds on one core; returns ``clips_per_second`` and ``bytes`` of the data."""
    data = decode(folder, SAMPLE_RATE)
    found = pieces(data, FRAMES, True)
    options = {"crop": True, "augment": Augment(), "seed": 0}
    start, batches = time.perf_counter(), 0
    while time.perf_counter() < start + 5:
        draw(data, found, range(8 * batches, 8 * batches + 8), FRAMES, **options)
        batches += 1
    return {"clips_per_second": 8 * batches / (time.perf_counter() - start), "bytes": data.audio.nbytes}


def _untrained(network: str, device: str) -> Checkpoint:
    return from_scratch(network, sample_rate=SAMPLE_RATE, frames=FRAMES, device=device)


def _in_diffusers(ckpt: Checkpoint) -> nn.Module:
    """The same network, as diffusers computes it: with resampling filters as dense matrices, as the original."""
    from diffusers import UNet1DModel

    facts = {"sample_rate": ckpt.sample_rate, "frames": ckpt.frames}
    settings = diffusers_configs(ckpt.net.config, facts)["unet/config.json"]
    theirs = UNet1DModel.from_config({k: v for k, v in settings.items() if v is not None})
    theirs.load_state_dict(to_diffusers(ckpt.net.state_dict(), ckpt.net.config.depth))
    return theirs


def _noise_data():
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
    """What is measured: settings of ``Recipe``."""
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
    """Run one part in a fresh process and return what it printed; its error, where it failed."""
    command = [sys.executable, str(Path(__file__).resolve()), *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    print(*words, done.stdout or done.stderr, flush=True)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def measure(device: str, threads: int) -> dict[str, Any]:
    """Measure everything; on a GPU only what it takes of it."""
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
    """The results in Markdown."""
    packages = ("torch", "diffusers", "lightning") if device == "cpu" else ("torch",)
    versions = ", ".join([f"Python {platform.python_version()}", *(f"{p} {version(p)}" for p in packages)])
    where = f"{machine()}, {threads} thread{'s' * (threads > 1)}" if device == "cpu" else torch.cuda.get_device_name()
    lines = [
        "# Training",
        "",
        f"{datetime.date.today()}, {where}, {versions}.",
        f"Command: `python bench/training.py --device {device} --threads {threads}`.",
        f"Clips of {FRAMES:,} stereo frames of noise at {SAMPLE_RATE:,} Hz.",
    ]
    lines += _report_steps(results) if device == "cpu" else []
    return "\n".join([*lines, *_report_memory(results["memory"], device)]) + "\n"


def _report_steps(results: dict[str, Any]) -> list[str]:
    lines = [
        "",
        "## A step beside the original's",
        "",
        "The original's training step, with Lightning and Adam, on the same network, a step of each in turn;",
        'medians, float32. With "ddnb" both train our implementation of the network, with "diffusers" the original\'s',
        "step trains diffusers', which resamples with dense matrices, as the original does. CPU time is that of the",
        "process: what else the machine does hardly enters it, on one thread.",
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
        "The update of the weights and of their average alone, which is where the two differ; it comes once in a step:",
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
        f"{reader['bytes'] / 1e6:.0f} MB in the page cache; the small network consumes "
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
        "Predicted: weights where it starts and in training, average, AdamW's moments, gradients, activations.",
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
    parser.add_argument("words", nargs="*", help="what the part needs")
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
