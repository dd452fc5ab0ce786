"""Measure the published network at full size: opening its 3.5 GB training file, making a clip, one forward pass.

    python -m bench.full_size                    all parts; writes bench/results/full_size.md
    python -m bench.full_size write FILE         write only the training file, with random weights
    python -m bench.full_size open FILE          open it (or its copy in the cache), report time and memory
    python -m bench.full_size generate FILE      open it and make one clip in 12 steps
    python -m bench.full_size forward FILE       one forward pass, compared with diffusers' network of the same weights
    python -m bench.full_size profile FILE       time of a forward pass by operation

Each part prints one line of JSON and runs in its own process, so that its peak of memory is its own. Memory is counted
in two kinds: ``anon`` belongs to the process, ``file`` are pages of memory-mapped files, which the system reclaims when
it needs them. Only Linux distinguishes them.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

from bench.common import describe_machine

PARAMETERS = 221_389_322
FRAMES = 65_536
FILE_NAME = f"full_48000_{FRAMES}.ckpt"
STEPS = 12
PEAK_LIMIT = 2.2e9
"""Limit of the peak memory of the first opening, in bytes."""
SECOND_LOAD_LIMIT_S = 5.0
RESULTS = Path(__file__).parent / "results" / "full_size.md"
_STATUS = Path("/proc/self/status")


# --- the parts, each in its own process ------------------------------------------------------------------


def write_training_file(path: Path, seed: int = 0) -> dict[str, Any]:
    """Write a training file of PyTorch Lightning of the published network with random weights.

    Args:
        path: target file; a name of the form ``name_RATE_FRAMES.ckpt`` states its format.
        seed: seed of the weights.

    Returns:
        ``parameters``, ``bytes`` and ``fingerprint`` of the EMA weights.
    """
    import torch

    from ddnb.nets.unet import UNet, UNetConfig

    torch.manual_seed(seed)
    net = UNet(UNetConfig())
    parameters = dict(net.named_parameters())
    with torch.no_grad():
        for name, parameter in parameters.items():
            if name.startswith("net."):
                parameter.mul_(0.5)  # as the original initializes
    ema = {k: v.detach() for k, v in net.state_dict().items()}
    drift = {k: 1e-3 * torch.randn_like(v) if k in parameters else torch.zeros_like(v) for k, v in ema.items()}
    state = OrderedDict((f"diffusion.{k}", v + drift[k]) for k, v in ema.items())
    state.update((f"diffusion_ema.{k}", v) for k, v in ema.items())
    moments = {
        i: {"step": torch.tensor(20.0), "exp_avg": drift[name], "exp_avg_sq": drift[name].square()}
        for i, name in enumerate(parameters)
    }
    adam = {"lr": 4e-5, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0, "amsgrad": False, "maximize": False}
    progress = {"total": {"ready": 20, "completed": 20}, "current": {"ready": 20, "completed": 20}}
    content = {
        "epoch": 0,
        "global_step": 20,
        "pytorch-lightning_version": "1.7.7",
        "state_dict": state,
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": progress, "epoch_loop.batch_progress": progress}},
        "callbacks": {"ModelCheckpoint": {"monitor": None, "best_model_score": None, "best_model_path": FILE_NAME}},
        "optimizer_states": [{"state": moments, "param_groups": [adam | {"params": list(moments)}]}],
        "lr_schedulers": [],
    }
    torch.save(content, path)
    count = sum(p.numel() for p in parameters.values())
    return {"parameters": count, "bytes": path.stat().st_size, "fingerprint": fingerprint(ema)}


def open_file(path: Path) -> dict[str, Any]:
    """Open a checkpoint on the CPU and measure it.

    Returns:
        ``seconds``, memory (see ``Memory.report``), ``parameters``, ``weights_sha256`` and ``fingerprint``.
    """
    with Memory() as memory:
        ckpt, seconds = _open(path)
    result = {"seconds": seconds, **memory.report(), "parameters": sum(p.numel() for p in ckpt.net.parameters())}
    state = ckpt.net.state_dict()  # after the measurement, because it reads every weight
    return result | {"weights_sha256": ckpt.info["weights_sha256"], "fingerprint": fingerprint(state)}


def make_clip(path: Path) -> dict[str, Any]:
    """Open a checkpoint and make one clip in ``STEPS`` steps of the default sampler and grid.

    Returns:
        ``seconds`` of the generation, memory, and ``shape``, ``rms`` and ``finite`` of the sound.
    """
    import numpy as np

    import ddnb

    with Memory() as memory:
        ckpt, _ = _open(path)
        start = time.perf_counter()
        audio = ddnb.generate(ckpt, 1, steps=STEPS).audio
        seconds = time.perf_counter() - start
    sound = {
        "shape": audio.shape,
        "rms": float(np.sqrt(np.square(audio).mean())),
        "finite": bool(np.isfinite(audio).all()),
    }
    return {"seconds": seconds, **memory.report(), **sound}


def compare_forward(path: Path, rounds: int) -> list[dict[str, Any]]:
    """Time one forward pass of our network and of diffusers' with the same weights, alternately.

    Returns:
        For 1 and 2 threads: ``threads``, median seconds ``ours`` and ``diffusers``, the ``ratios`` of every
        round, and ``max_difference`` of the outputs.
    """
    import torch
    from diffusers import UNet1DModel

    from ddnb.checkpoints.diffusers import diffusers_configs, to_diffusers

    ckpt, _ = _open(path)
    facts = {"sample_rate": ckpt.sample_rate, "frames": ckpt.frames}
    settings = diffusers_configs(ckpt.net.config, facts)["unet/config.json"]
    theirs = UNet1DModel.from_config({k: v for k, v in settings.items() if v is not None})
    theirs.load_state_dict(to_diffusers(ckpt.net.state_dict(), ckpt.net.config.depth))
    theirs.eval()
    x = torch.randn(1, ckpt.channels, ckpt.frames, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.7])
    models = {"ours": lambda: ckpt.net(x, t), "diffusers": lambda: theirs(x, t).sample}
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        seconds: dict[str, list[float]] = {name: [] for name in models}
        with torch.inference_mode():
            outputs = [model() for model in models.values()]
            for i in range(rounds):
                for name in list(models)[:: 1 if i % 2 else -1]:
                    start = time.perf_counter()
                    models[name]()
                    seconds[name].append(time.perf_counter() - start)
        results.append(
            {
                "threads": threads,
                **{name: statistics.median(times) for name, times in seconds.items()},
                "ratios": [b / a for a, b in zip(seconds["ours"], seconds["diffusers"], strict=True)],
                "max_difference": (outputs[0] - outputs[1]).abs().max().item(),
                "max_output": outputs[1].abs().max().item(),
            }
        )
    return results


def profile_forward(path: Path) -> dict[str, Any]:
    """Return the share of a forward pass's time by operation, on one thread, largest first."""
    import torch

    ckpt, _ = _open(path)
    torch.set_num_threads(1)
    x, t = torch.randn(1, ckpt.channels, ckpt.frames), torch.tensor([0.7])
    with torch.inference_mode():
        ckpt.net(x, t)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            ckpt.net(x, t)
    times = {event.key: (event.self_cpu_time_total, event.count) for event in profile.key_averages()}
    total = sum(time_us for time_us, _ in times.values())
    first = sorted(times.items(), key=lambda item: -item[1][0])[:10]
    return {"total_s": total / 1e6, "share": {key: [us / total, count] for key, (us, count) in first}}


def fingerprint(state: dict[str, Any]) -> str:
    """Return a hash of the name and the sum of every tensor."""
    sums = [(name, state[name].double().sum().item()) for name in sorted(state)]
    return hashlib.sha256(repr(sums).encode()).hexdigest()[:16]


class Memory:
    """A context that samples the memory of this process every 5 ms."""

    def __enter__(self) -> Memory:
        self._highest: dict[str, int] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._look()

    def report(self) -> dict[str, int | None]:
        """Return ``peak``, ``peak_anon`` and ``peak_file`` in bytes; None where the system does not report it."""
        kinds = {"peak": "VmHWM", "peak_anon": "RssAnon", "peak_file": "RssFile"}
        report = {ours: self._highest.get(theirs) for ours, theirs in kinds.items()}
        return report | {"peak": report["peak"] or _ru_maxrss()}

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self._look()

    def _look(self) -> None:
        # VmHWM rather than ru_maxrss, which starts at the peak of the parent after fork and exec.
        if _STATUS.exists():
            for line in _STATUS.read_text(encoding="ascii").splitlines():
                name, _, value = line.partition(":")
                if name in ("VmHWM", "RssAnon", "RssFile"):
                    self._highest[name] = max(self._highest.get(name, 0), 1024 * int(value.split()[0]))


def _ru_maxrss() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _open(path: Path):
    import ddnb

    start = time.perf_counter()
    ckpt = ddnb.load(path, device="cpu")
    return ckpt, time.perf_counter() - start


# --- all of them ----------------------------------------------------------------------------------------------


def in_own_process(part: str, path: Path, cache: Path, *options: str) -> Any:
    """Run one part in a fresh process and return what it printed.

    Args:
        part: ``write``, ``open``, ``generate``, ``forward`` or ``profile``.
        path: the checkpoint.
        cache: cache folder for it.
        options: further arguments of the command line.

    Raises:
        subprocess.CalledProcessError: the part failed.
    """
    command = [sys.executable, "-m", "bench.full_size", part, str(path), *options]
    root = str(Path(__file__).resolve().parent.parent)
    search = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"DDNB_CACHE": str(cache), "PYTHONPATH": search}
    output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def measure(folder: Path, rounds: int) -> dict[str, Any]:
    """Run all parts; their files, 5 GB, stay in the folder."""
    path, cache = folder / FILE_NAME, folder / "cache"
    results = {"write": in_own_process("write", path, cache)}
    assert results["write"]["parameters"] == PARAMETERS, results["write"]
    _leave_page_cache(path)
    results["first"] = in_own_process("open", path, cache)
    results["second"] = in_own_process("open", path, cache)
    for result in (results["first"], results["second"]):
        assert result["fingerprint"] == results["write"]["fingerprint"], "opened weights differ from the EMA weights"
    results["generate"] = in_own_process("generate", path, cache)
    results["forward"] = in_own_process("forward", path, cache, "--rounds", str(rounds))
    results["profile"] = in_own_process("profile", path, cache)
    return results


def _leave_page_cache(path: Path) -> None:
    """Drop a file from the page cache, so that it is read from the disk; do nothing where the system cannot."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def report(results: dict[str, Any], command: str) -> str:
    """Return the results as Markdown."""

    def gb(value: int | None) -> str:
        return "unknown" if value is None else f"{value / 1e9:.2f} GB"

    def row(what: str, result: dict[str, Any], wanted: str) -> str:
        memory = " | ".join(gb(result[kind]) for kind in ("peak", "peak_anon", "peak_file"))
        return f"| {what} | {result['seconds']:.1f} s | {memory} | {wanted} |"

    lines = [
        "# The published network at full size",
        "",
        f"{datetime.date.today()}, {describe_machine()}, {_versions()}. Command: `{command}`.",
        f"Random weights: {PARAMETERS:,} parameters, training file of {gb(results['write']['bytes'])}.",
        "",
        "| what | time | peak memory | anonymous | mapped files | target |",
        "|---|---|---|---|---|---|",
        row("first opening, from the disk", results["first"], f"peak below {gb(int(PEAK_LIMIT))}"),
        row("second opening, from the cache", results["second"], f"below {SECOND_LOAD_LIMIT_S:g} s"),
        row(f"{STEPS} steps of one clip of {FRAMES:,} frames", results["generate"], ""),
        "",
        "The peaks of anonymous memory and of mapped files need not occur at the same time.",
        "",
        "One forward pass (1, 2, 65536), float32, ours and diffusers' `UNet1DModel` alternately; medians:",
        "",
        "| threads | ours | diffusers | diffusers / ours, median (range) | largest difference | largest output |",
        "|---|---|---|---|---|---|",
    ]
    for r in results["forward"]:
        ratios = r["ratios"]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} rounds)"
        lines.append(
            f"| {r['threads']} | {r['ours']:.2f} s | {r['diffusers']:.2f} s | {spread} "
            f"| {r['max_difference']:.1e} | {r['max_output']:.2f} |"
        )
    lines += [
        "",
        f"Time of a forward pass by operation, one thread ({results['profile']['total_s']:.1f} s):",
        "",
        "| operation | calls | share |",
        "|---|---|---|",
    ]
    lines += [f"| `{key}` | {n} | {share:.1%} |" for key, (share, n) in results["profile"]["share"].items()]
    return "\n".join(lines) + "\n"


def _versions() -> str:
    from importlib.metadata import version

    return ", ".join(
        [f"Python {platform.python_version()}", *(f"{p} {version(p)}" for p in ("torch", "safetensors", "diffusers"))]
    )


def main() -> None:
    """Run one part, or all of them in fresh processes and write the report."""
    parts = {
        "write": lambda a: write_training_file(a.file),
        "open": lambda a: open_file(a.file),
        "generate": lambda a: make_clip(a.file),
        "forward": lambda a: compare_forward(a.file, a.rounds),
        "profile": lambda a: profile_forward(a.file),
    }
    parser = argparse.ArgumentParser(description="Measure the published network at full size.")
    parser.add_argument("part", nargs="?", choices=parts, help="run this part only, on FILE")
    parser.add_argument("file", nargs="?", type=Path, help="the checkpoint of a part")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of the comparison of forward passes (default: 7)")
    parser.add_argument("--folder", type=Path, help="keep the 5 GB of files in this folder (default: remove them)")
    args = parser.parse_args()
    if args.part and args.file is None:
        parser.error(f"{args.part} needs a FILE")
    if args.part:
        print(json.dumps(parts[args.part](args)))
        return
    with tempfile.TemporaryDirectory(prefix="ddnb-bench-") as scratch:
        folder = args.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        text = report(measure(folder, args.rounds), f"python -m bench.full_size --rounds {args.rounds}")
    print(text)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
