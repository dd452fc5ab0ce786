"""Time and samples of the built-in network beside other work, on one core and on several.

    python -m bench.threads [--rounds 5] [--other FOLDER]

FOLDER is another checkout of ddnb to compare with. All times are of fresh processes, imports excluded, in alternating
rounds; the table has medians and their ratios. Writes ``bench/results/threads.md``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

from .common import describe_machine, markdown_table

REPORT = Path(__file__).parent / "results" / "threads.md"
ONE, EIGHT = 1, 8

_GENERATE = """
import sys, time, ddnb
ckpt = ddnb.load("drums", device="cpu")
began = time.perf_counter()
ddnb.generate(ckpt, int(sys.argv[1]), category="kick")
print(time.perf_counter() - began)
"""

_SAMPLES = """
import hashlib, torch, ddnb
from ddnb.nets.unet import UNet, UNetConfig
ckpt = ddnb.load("drums", device="cpu")
torch.manual_seed(0)
net, x, t = UNet(UNetConfig()).eval().requires_grad_(False), torch.randn(1, 2, 65536), torch.tensor([0.5])
outputs = []
for threads in (1, 2, 4):
    torch.set_num_threads(threads)
    clips = ddnb.generate(ckpt, 2, category="kick", steps=5)
    print(threads, hashlib.sha256(clips.audio.tobytes()).hexdigest()[:12])
    outputs.append(net(x, t))
print("difference", max(float((o - outputs[0]).abs().max()) for o in outputs), float(outputs[0].abs().max()))
"""


def _run(code: str, *arguments: str, checkout: Path, threads: int | None = None) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"} | {"PYTHONPATH": str(checkout)}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    command = [sys.executable, "-c", code, *arguments]
    # Python looks for ddnb in the working folder first
    return subprocess.run(command, env=environment, cwd=checkout, capture_output=True, text=True, check=True).stdout


def _seconds(clips: int, checkout: Path, threads: int | None = None, loops: int = 0) -> float:
    """Return the time of a call, with so many busy loops beside it."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    try:
        return float(_run(_GENERATE, str(clips), checkout=checkout, threads=threads))
    finally:
        for process in busy:
            process.kill()
            process.wait()


def measure(checkout: Path) -> tuple[float, float, float, float]:
    """Return seconds of one kick alone and beside busy loops, and of eight on one thread and on all cores."""
    alone, beside = _seconds(ONE, checkout), _seconds(ONE, checkout, loops=os.cpu_count() or 1)
    return alone, beside, _seconds(EIGHT, checkout, threads=1), _seconds(EIGHT, checkout)


def summarize(rounds: list[tuple[float, float, float, float]]) -> list[str]:
    """Return the cells of a row: medians, and ratios of medians."""
    alone, beside, single, spread = (median(times) for times in zip(*rounds, strict=True))
    return [f"{x:.2f}" for x in (alone, beside, beside / alone, single, spread, single / spread)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--other", type=Path, help="another checkout to compare with")
    given = parser.parse_args()
    here, cores = Path(__file__).parents[1], os.cpu_count() or 1
    checkouts = {"this version": here} | ({"other checkout": given.other} if given.other else {})
    times: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in checkouts}
    for _ in range(given.rounds):
        for name, checkout in checkouts.items():
            times[name].append(measure(checkout))
    rows = [[name, *summarize(rounds)] for name, rounds in times.items()]
    heads = [
        "",
        "1 kick, s",
        f"beside {cores} busy loops, s",
        "ratio",
        "8 kicks on 1 thread, s",
        f"{cores} threads, s",
        "speed-up",
    ]
    *hashes, difference = _run(_SAMPLES, checkout=here).splitlines()
    _, largest, peak = difference.split()
    command = f"python -m bench.threads --rounds {given.rounds}{' --other FOLDER' if given.other else ''}"
    lines = [
        "# CPU threads",
        "",
        f"`{command}`, {describe_machine()}. Medians.",
        "",
        *markdown_table(heads, rows),
        "",
        "SHA-256 of two kicks on 1, 2 and 4 threads: " + ", ".join(line.split()[1] for line in hashes) + ".",
        "",
        "The published network (random weights, 65,536 frames), on 1, 2 and 4 threads: outputs differ by up to "
        f"{float(largest):.1e}, where the largest value is {float(peak):.2g}.",
    ]
    REPORT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
