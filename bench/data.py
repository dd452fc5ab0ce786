"""How near the procedural sounds of the recipe are to recorded ones, category by category.

    python bench/data.py                 reads build/default_data.npz (make dataset); writes bench/results/data.md

Squared kernel distances (gaussian, unbiased, so that they may be below zero) of log-mel statistics, with the middle
95 % of a bootstrap. Between sets of fewer than 10 sounds they say next to nothing.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from quality import Scale, features, gaussian, kernel_distance, neighbours, scale  # noqa: E402

from recipe.data import CATEGORIES, Prepared, load_prepared, padded  # noqa: E402
from recipe.synth import synthesize  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "data.md"
HEADINGS = ["category", "procedural - trained on", "procedural - held out", "trained on - held out", "Fluid - Sonic Pi"]
HEADINGS += ["nearest other category", "precision", "recall", "density", "coverage"]


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT / "build" / "default_data.npz")
    parser.add_argument("-n", type=int, default=256, help="procedural sounds of each category")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = load_prepared(options.data)
    recorded = features(torch.from_numpy(padded(data, np.arange(len(data.sounds)))))
    to_scale = scale(recorded[~data.held_out])
    rows = [row(data, to_scale(recorded), to_scale, category, options.n) for category in CATEGORIES]
    lines = ["# Procedural sounds beside recorded ones", "", *(__doc__.strip().splitlines()[-2:]), ""]
    lines += [
        f"{datetime.date.today()}, {options.n} procedural sounds of each category, seed 0: `python bench/data.py`"
    ]
    lines += ["", "| " + " | ".join(HEADINGS) + " |", "|---" * len(HEADINGS) + "|", *rows]
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(RESULTS.read_text(encoding="utf-8"))


def row(data: Prepared, recorded: np.ndarray, to_scale: Scale, category: str, n: int) -> str:
    """Return one line of the table; ``recorded`` are the features of all recordings, on the scale."""
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
    return f"| {category} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
