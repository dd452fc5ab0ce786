"""Compare settings of fine-tuning on folders that were never trained on: one change each, at equal steps.

    python -m bench.settings                 two folders, half an hour on two cores
    python -m bench.settings --steps 100

Shares of the way are those of ``bench.folder``. The seconds are processor time of the run, fitting included.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import ddnb
from bench.common import describe_run, markdown_table
from bench.folder import COPY_DB, Kit, load_folders

FOLDERS = ("electronic kicks", "basses")
SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {"augment": False},
    {"learning_rate": 2.5e-4},
    {"learning_rate": 1e-3},
    {"ema_decay": 0.99},
    {"class_dropout": 0.0},
    {"times": "uniform"},
    {"times": "crash"},
    {"shorten": 4},
    {"batch_size": 8},
)


def main() -> None:
    """Train each setting on each folder and write a report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=500, help="steps of each run (default: 500)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "settings.md")
    arguments = parser.parse_args()
    ckpt, kits = ddnb.load("drums", device="cpu"), load_folders()
    rows = []
    with tempfile.TemporaryDirectory() as place:
        chosen = {name: Kit(*kits[name], Path(place, name)) for name in FOLDERS}
        before = {name: kit.judge(ckpt)[0] for name, kit in chosen.items()}
        for settings in SETTINGS:
            row, used = [", ".join(f"{name}={value}" for name, value in settings.items()) or "defaults"], 0.0
            for name, kit in chosen.items():
                with tempfile.TemporaryDirectory() as run:
                    began = time.process_time()
                    for _ in ddnb.finetune(ckpt, kit.place, run, steps=arguments.steps, device="cpu", **settings):
                        pass
                    used += time.process_time() - began
                    far, nearest = kit.judge(ddnb.load(run))
                copies = f", {copied:.0%} copies" if (copied := float(np.mean(nearest < COPY_DB))) else ""
                row.append(f"{kit.share(before[name], far):.0%}{copies}")
            rows.append([*row, f"{used:.0f}"])
            print(*rows[-1], sep=" | ", flush=True)
    heads = ["settings", *FOLDERS, "processor seconds"]
    lines = ["# Settings of fine-tuning", "", f"`python -m bench.settings`: {describe_run()}. {arguments.steps} steps."]
    arguments.out.write_text("\n".join([*lines, "", *markdown_table(heads, rows)]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
