"""Measure how near the procedural sounds of the recipe are to recordings, category by category.

    python -m bench.data                 reads build/default_data.npz (make dataset); writes bench/results/data.md

Squared kernel distances (Gaussian, unbiased, so they may be negative) of log-mel statistics, with the middle 95 % of a
bootstrap. Between sets of fewer than 10 sounds they mean little.
"""

from __future__ import annotations

import argparse
import datetime
from pathlib import Path

import numpy as np
import torch

from bench.common import markdown_table
from bench.quality import Scale, features, fit_scale, gaussian, kernel_distance, neighbours
from recipe.data import CATEGORIES, Prepared, load_prepared, pad
from recipe.synth import synthesize

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "data.md"
HEADINGS = ["category", "procedural - trained on", "procedural - held out", "trained on - held out", "Fluid - Sonic Pi"]
HEADINGS += ["nearest other category", "precision", "recall", "density", "coverage"]


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT / "build" / "default_data.npz")
    parser.add_argument("-n", type=int, default=256, help="procedural sounds of each category (default: 256)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = load_prepared(options.data)
    recorded = features(torch.from_numpy(pad(data, np.arange(len(data.sounds)))))
    to_scale = fit_scale(recorded[~data.held_out])
    rows = [row(data, to_scale(recorded), to_scale, category, options.n) for category in CATEGORIES]
    lines = ["# Procedural sounds compared with recordings", "", *(__doc__.strip().splitlines()[-2:]), ""]
    lines += [
        f"{datetime.date.today()}, {options.n} procedural sounds of each category, seed 0: `python -m bench.data`"
    ]
    lines += ["", *markdown_table(HEADINGS, rows)]
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(RESULTS.read_text(encoding="utf-8"))


def row(data: Prepared, recorded: np.ndarray, to_scale: Scale, category: str, n: int) -> list[str]:
    """Return one row of the table; ``recorded`` are the scaled features of all recordings."""
    made = to_scale(features(synthesize(category, n, torch.Generator().manual_seed(0))))
    mine = data.labels == CATEGORIES.index(category)
    trained, held_out = recorded[mine & ~data.held_out], recorded[mine & data.held_out]
    sources = np.array(data.sources)
    pairs = [(made, trained), (made, held_out), (trained, held_out)]
    pairs += [tuple(recorded[mine & (sources == source)] for source in ("fluid", "sonic-pi"))]
    cells = [str(kernel_distance(x, y, gaussian)) for x, y in pairs]
    others = {
        other: kernel_distance(recorded[data.labels == i], recorded[mine], gaussian, rounds=1).value
        for i, other in enumerate(CATEGORIES)
        if other != category
    }
    nearest = min(others, key=others.__getitem__)
    cells += [f"{nearest}: {others[nearest]:.3f}"]
    cells += [f"{value:.2f}" for value in neighbours(recorded[mine], made)]
    return [category, *cells]


if __name__ == "__main__":
    main()
