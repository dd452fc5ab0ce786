"""Judge what a checkpoint makes beside recordings that were held out of its training.

    python -m bench.quality CKPT                 32 sounds of each category, at the checkpoint's own settings
    python -m bench.quality CKPT --per-category 64 --seed 1 --steps 12 --guidance-scale 1.5 --out FOLDER
    python -m bench.quality FOLDER               a folder of class folders of WAV files: kick/, snare/, ...
    python -m bench.quality real|noise           the recordings that were trained on; white noise

Reads build/default_data.npz (make dataset). Writes quality.md (the tables), quality.json (their figures, to compare
runs) and quality.png (spectrograms) to the folder. The same command gives the same figures.
"""

from __future__ import annotations

import argparse
import datetime
import io
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import ddnb
from bench.quality import (
    FLOOR_DB,
    SAMPLE_RATE,
    Distance,
    apart,
    block_means,
    classifier,
    draws,
    features,
    gaussian,
    log_mel,
    nearest,
    neighbours,
    polynomial,
    scale,
    signals,
)
from ddnb.audio.io import fit_length, read, resample
from ddnb.sampler import SAMPLERS
from ddnb.schedule import GRIDS
from recipe.data import CATEGORIES, FRAMES, Prepared, load_prepared, padded

ROOT = Path(__file__).parent.parent
FAMILIES = {"drums": CATEGORIES[:8], "bass": ("bass",), "synth": ("synth",), "texture": ("texture",)}
KERNELS = {"kid": polynomial, "mmd": gaussian}
FULL = 10
"""A category with fewer held-out recordings counts less, in proportion: of two or three nothing can be concluded."""

MATCHED_DRAWS = 10
SHEET_RECORDED, SHEET_MADE = 4, 6

TARGETS = (
    ("KID, made / recorded", ("distances", "made", "kid", "ratio"), "<=", 3.0),
    ("Gaussian distance, made / recorded", ("distances", "made", "mmd", "ratio"), "<=", 3.0),
    ("class accuracy, made / held out", ("accuracy", "made", "ratio"), ">=", 0.8),
    ("diversity within a class, made / held out, median", ("diversity", "made", "median"), ">=", 0.7),
    ("share of near copies", ("copies", "made", "share"), "<", 0.01),
    ("tail of one-shots, median, dB re peak", ("signals", "made", "all", "tail_db"), "<=", -60.0),
    ("share of one-shots that begin within 10 ms", ("signals", "made", "all", "onset_10ms"), ">=", 0.95),
    ("share of sounds over full scale", ("signals", "made", "all", "clipped"), "<=", 0.0),
)


class Sounds(NamedTuple):
    """A set of sounds.

    Attributes:
        audio: float32 (n, 65,536), mono at 44.1 kHz, cut or followed by silence.
        labels: int64 (n,), numbers in the categories that are judged.
        groups: (n,), sounds of one group share a recording.
        names: what each is.
    """

    audio: Tensor
    labels: np.ndarray
    groups: np.ndarray
    names: list[str]


class Set(NamedTuple):
    """Sounds, their features on the scale (n, features), and the draws of the bootstrap (draws, n)."""

    sounds: Sounds
    x: np.ndarray
    counts: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        return self.sounds.labels


# --- sounds to judge --------------------------------------------------------------------------------------------


Found = dict[str, list[tuple[str, np.ndarray]]]
"""Category -> name and mono audio (frames,) at 44.1 kHz of each sound."""


def from_checkpoint(
    source: str, known: Sequence[str], n: int, seed: int, options: dict[str, Any], opening: dict[str, Any]
) -> Found:
    """Make ``n`` sounds of each of the known categories that it has; no two sounds share a seed.

    ``options`` are those of ``ddnb.generate``, ``opening`` those of ``ddnb.load``.

    Raises:
        ValueError: the checkpoint has none of the categories.
        RuntimeError: interrupted, or out of memory, with sounds missing.
    """
    ckpt, made = ddnb.load(source, **opening), {}
    for i, category in enumerate(c for c in known if c in ckpt.categories):
        clips = ddnb.generate(ckpt, n, seed + i * n, category=category, **options)
        if len(clips) < n:
            raise RuntimeError(f"{category}: {len(clips)} of {n} sounds were made.")
        made[category] = [
            (f"seed {clip.seed}", resample(clip.audio.mean(0, keepdims=True), clip.sample_rate, SAMPLE_RATE)[0])
            for clip in clips
        ]
        print(f"{category}: {n} sounds", flush=True)
    if not made:
        raise ValueError(f"{source} has the categories {list(ckpt.categories)}, none of {list(known)}.")
    return made


def from_folder(folder: Path, known: Sequence[str], n: int) -> Found:
    """Read the first ``n`` WAV files of each class folder, in the order of their names."""
    found = {category: sorted((folder / category).glob("*.wav"))[:n] for category in known}
    return {
        category: [(path.name, read(path, SAMPLE_RATE, 1)[0][0]) for path in paths]
        for category, paths in found.items()
        if paths
    }


def white_noise(counts: dict[str, int], frames: int, seed: int) -> Found:
    """Make so many sounds of white noise at -20 dBFS for each category."""
    generator = torch.Generator().manual_seed(seed)
    return {
        category: [(f"noise {i}", 0.1 * torch.randn(frames, generator=generator).numpy()) for i in range(n)]
        for category, n in counts.items()
    }


def gathered(made: Found) -> Sounds:
    """Put sounds into one set, each a group of its own; the labels are numbers in the keys."""
    rows = [(i, name, audio) for i, sounds in enumerate(made.values()) for name, audio in sounds]
    labels = np.array([i for i, _, _ in rows])
    audio = torch.from_numpy(np.stack([fit_length(audio, FRAMES) for _, _, audio in rows]).astype(np.float32))
    return Sounds(audio, labels, np.arange(len(rows)), [name for _, name, _ in rows])


def recorded(data: Prepared, held_out: bool, categories: Sequence[str], frames: int) -> Sounds:
    """Return the recordings of these categories from one side of the split, cut to ``frames``."""
    numbers = [CATEGORIES.index(category) for category in categories]
    index = np.flatnonzero((data.held_out == held_out) & np.isin(data.labels, numbers))
    audio = torch.from_numpy(padded(data, index))
    audio[:, frames:] = 0
    labels = np.array([numbers.index(label) for label in data.labels[index]])
    return Sounds(audio, labels, np.array(data.groups)[index], [data.names[i] for i in index])


def some(sounds: Sounds, n: int, seed: int) -> Sounds:
    """Draw up to ``n`` sounds of each category."""
    rng = np.random.default_rng(seed)
    index = _draw(sounds.labels, np.minimum(np.bincount(sounds.labels), n), rng)
    return Sounds(sounds.audio[index], sounds.labels[index], sounds.groups[index], [sounds.names[i] for i in index])


def _draw(labels: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Numbers of ``counts[c]`` sounds of each category c, none twice."""
    chosen = [rng.choice(np.flatnonzero(labels == c), count, replace=False) for c, count in enumerate(counts)]
    return np.sort(np.concatenate(chosen))


# --- the judgement ----------------------------------------------------------------------------------------------


def judge(made: Sounds, data: Prepared, categories: Sequence[str], frames: int = FRAMES, seed: int = 0) -> dict:
    """Measure sounds beside the held-out recordings, with the recordings trained on and white noise beside them.

    Args:
        made: the sounds, at least two of each category.
        data: the recordings, at least two groups of each category on each side.
        categories: what the labels of ``made`` are numbers of.
        frames: how long the sounds are; the recordings are cut to this.
        seed: of the bootstrap, the draws and the white noise.

    Returns:
        Figures by name, as written to quality.json. [value, low, high] is a value and the middle 95 % of its
        bootstrap, in which all sets are drawn anew, the held-out recordings the same for all that is compared.
    """
    trained, held_out = (recorded(data, side, categories, frames) for side in (False, True))
    counts = dict(zip(categories, np.bincount(made.labels).tolist(), strict=True))
    noise = gathered(white_noise(counts, frames, seed))
    sets = {"made": made, "trained on": trained, "held out": held_out, "noise": noise}
    measured = {name: features(sounds.audio) for name, sounds in sets.items()}
    to_scale = scale(measured["trained on"])
    sets = {
        name: Set(sounds, to_scale(measured[name]), draws(sounds.labels, sounds.groups, seed=seed + i))
        for i, (name, sounds) in enumerate(sets.items())
    }
    weights = np.minimum(np.bincount(held_out.labels), FULL)
    weights = weights / weights.sum()
    full = np.bincount(held_out.labels) >= FULL
    figures = {
        "categories": list(categories),
        "frames": frames,
        "counts": {name: np.bincount(s.labels).tolist() for name, s in sets.items()},
        "weights": weights.tolist(),
        "distances": _distances(sets, weights),
        "accuracy": _accuracy(sets, weights, categories),
        "overlap": _overlap(sets, seed),
        "diversity": _diversity(sets, full if full.any() else np.ones_like(full)),
        "copies": _copies(made, trained, held_out),
        "signals": {name: _signals(s.sounds, categories, frames) for name, s in sets.items()},
    }
    return _rounded(figures)


def _figure(values: np.ndarray) -> Distance:
    """The value, which is that of the first draw, and the middle 95 % of the others."""
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return Distance(float(values[0]), float(low), float(high))


def _figures(values: np.ndarray) -> list[Distance]:
    return [_figure(column) for column in values.T]


def _within(of: Set, values: np.ndarray) -> np.ndarray:
    """Means over the pairs of a set that share no recording; (draws, categories, categories)."""
    return block_means(values, (of.counts,) * 2, (of.labels,) * 2, apart(of.sounds.groups))


def _distances(sets: dict[str, Set], weights: np.ndarray) -> dict:
    """Squared kernel distances to the held-out recordings: of all, the categories mixed by weight, and of each.

    They are unbiased, and of the recordings trained on about zero or below, so that a ratio of them says nothing. What
    can be asked is how much farther the made sounds are than a set of recordings as large would be found to be. A
    finite set looks farther by (k(x, x) - k(x, x')) / n, what a sound's likeness to itself exceeds that to another by,
    over the number of sounds; for both sets together that is the ``sampling`` term. Hence

        ratio = (max(made, 0) + sampling) / (max(recorded, 0) + sampling).
    """
    held_out, trained = sets["held out"], sets["trained on"]
    others = {name: x for name, x in sets.items() if x is not held_out}
    in_set = np.minimum(np.bincount(trained.labels), np.bincount(sets["made"].labels))
    figures: dict[str, Any] = {name: {} for name in others}
    for kernel_name, kernel in KERNELS.items():
        inner = {name: _within(x, kernel(x.x, x.x)) for name, x in sets.items()}
        excess = {name: _own(x, kernel) - inner[name][0].diagonal() for name, x in sets.items()}
        sampling = excess["trained on"] / in_set + excess["held out"] / np.bincount(held_out.labels)
        overall, each = {}, {}
        for name, x in others.items():
            between = block_means(kernel(x.x, held_out.x), (x.counts, held_out.counts), (x.labels, held_out.labels))
            blocks = inner[name] + inner["held out"] - between - between.transpose(0, 2, 1)
            overall[name] = np.einsum("a,rab,b->r", weights, blocks, weights)
            each[name] = blocks.diagonal(axis1=1, axis2=2)
        for name, found in figures.items():
            found[kernel_name] = {
                "all": _figure(overall[name]),
                "ratio": _figure(_ratio(overall[name], overall["trained on"], weights**2 @ sampling)),
                "each": _figures(each[name]),
                "each ratio": _figures(_ratio(each[name], each["trained on"], sampling)),
                "sampling": float(weights**2 @ sampling),
            }
    return figures


def _own(x: Set, kernel) -> np.ndarray:
    """Mean likeness of a sound to itself, by category."""
    return np.bincount(x.labels, kernel(x.x, x.x).diagonal()) / np.bincount(x.labels)


def _ratio(made: np.ndarray, floor: np.ndarray, sampling: np.ndarray) -> np.ndarray:
    return (np.maximum(made, 0) + sampling) / (np.maximum(floor, 0) + sampling)


def _accuracy(sets: dict[str, Set], weights: np.ndarray, categories: Sequence[str]) -> dict:
    """How often a classifier of the recordings trained on hears the category that was asked for.

    ``taught``: how often one that learned from the set hears the held-out recordings' category.
    """
    listener = classifier(sets["trained on"].x, sets["trained on"].labels)
    families = np.array([next(i for i, f in enumerate(FAMILIES.values()) if c in f) for c in categories])
    pooled = np.eye(len(FAMILIES))[families] * weights[:, None]
    pooled = (pooled / pooled.sum(0).clip(1e-12))[:, pooled.any(0)].mean(1)  # each family counts the same
    held_out, figures, by_name = sets["held out"], {}, {}
    for name, x in sets.items():
        heard = listener(x.x)
        right = _shares(x, heard == x.labels), _shares(x, families[heard] == families[x.labels])
        by_name[name] = right[0] @ weights, right[1] @ pooled
        confusion = np.zeros((len(categories),) * 2, int)
        np.add.at(confusion, (x.labels, heard), 1)
        taught = classifier(x.x, x.labels)(held_out.x) == held_out.labels
        figures[name] = {
            "all": _figure(by_name[name][0]),
            "families": _figure(by_name[name][1]),
            "each": _figures(right[0]),
            "taught": None if name == "held out" else _figure(_shares(held_out, taught) @ weights),
            "confusion": confusion.tolist(),
        }
    for name, found in figures.items():
        ceiling = [np.maximum(values, 1e-12) for values in by_name["held out"]]
        found["ratio"], found["families ratio"] = map(_figure, (by_name[name][i] / ceiling[i] for i in range(2)))
    return figures


def _shares(x: Set, right: np.ndarray) -> np.ndarray:
    """How many are right, by category; (draws, categories)."""
    rows = np.eye(x.labels.max() + 1)[x.labels]
    return (x.counts * right) @ rows / (x.counts @ rows)


def _overlap(sets: dict[str, Set], seed: int) -> dict:
    """Precision, recall, density and coverage, with the same number of sounds of each category in every set."""
    others = {name: x for name, x in sets.items() if name != "held out"}
    counts = np.min([np.bincount(x.labels) for x in others.values()], 0)
    figures = {}
    for name, x in others.items():
        rng = np.random.default_rng(seed)
        drawn = [neighbours(sets["held out"].x, x.x[_draw(x.labels, counts, rng)]) for _ in range(MATCHED_DRAWS)]
        figures[name] = dict(zip(drawn[0]._fields, np.mean(drawn, 0).tolist(), strict=True))
    return figures


def _diversity(sets: dict[str, Set], full: np.ndarray) -> dict:
    """Mean distance of two sounds of a category over that of the held-out recordings; the number of either is free.

    The median is over the categories with enough held-out recordings.
    """
    spread = {}
    for name, x in sets.items():
        squares = (x.x**2).sum(1)
        gaps = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * x.x @ x.x.T, 0))
        spread[name] = _within(x, gaps).diagonal(axis1=1, axis2=2)
    ratios = {name: values / spread["held out"] for name, values in spread.items()}
    return {
        name: {"each": _figures(ratio), "median": _figure(np.median(ratio[:, full], 1))}
        for name, ratio in ratios.items()
    }


def _copies(made: Sounds, trained: Sounds, held_out: Sounds) -> dict:
    """How near each sound comes to a recording trained on, and the share that comes nearer than 1 % of the held out.

    One threshold for all categories: most have too few held-out recordings for a percentile of their own, and the
    distance is made to be alike for short and long, noisy and tonal sounds.
    """
    held_out_db, _ = nearest(held_out.audio, trained.audio)
    made_db, index = nearest(made.audio, trained.audio)
    threshold = float(np.percentile(held_out_db, 1))
    figures: dict[str, Any] = {"threshold_db": threshold}
    for name, sounds, distance in (("made", made, made_db), ("held out", held_out, held_out_db)):
        near = distance < threshold
        figures[name] = {
            "share": float(near.mean()),
            "count": int(near.sum()),
            "median_db": float(np.median(distance)),
            "each_median_db": [float(np.median(distance[sounds.labels == c])) for c in np.unique(sounds.labels)],
            "each_count": [int(near[sounds.labels == c].sum()) for c in np.unique(sounds.labels)],
        }
    order = np.argsort(made_db, kind="stable")[: max(5, min(20, figures["made"]["count"]))]
    figures["nearest"] = [
        {
            "label": int(made.labels[i]),
            "made": made.names[i],
            "recording": trained.names[index[i]],
            "distance_db": float(made_db[i]),
        }
        for i in order
    ]
    return figures


def _signals(sounds: Sounds, categories: Sequence[str], frames: int) -> dict:
    """Levels and shares of the whole set, each category with the same weight, and of each category."""
    measured = signals(sounds.audio[:, :frames])
    one_shot = np.array([categories[label] != "texture" for label in sounds.labels])
    share = (1 / np.bincount(sounds.labels))[sounds.labels]

    def summary(chosen: np.ndarray) -> dict[str, float | None]:
        w, hits = share[chosen], one_shot[chosen]
        m = {name: values[chosen] for name, values in measured._asdict().items()}
        return {
            "tail_db": _median(m["tail_db"][hits], w[hits]),
            "tail_above_60": _mean(m["tail_db"][hits] > -60, w[hits]),
            "onset_10ms": _mean(m["onset_ms"][hits] <= 10, w[hits]),
            "peak_dbfs": _median(m["peak_dbfs"], w),
            "peak_max_dbfs": float(m["peak_dbfs"].max()),
            "clipped": _mean(m["clipped"], w),
            "dc_db": _median(m["dc_db"], w),
            "dc_max_db": float(m["dc_db"].max()),
            "crest_db": _median(m["crest_db"], w),
            "above_10k": _mean(m["high"], w),
        }

    each = [summary(sounds.labels == c) for c in range(len(categories))]
    return {"all": summary(np.ones(len(sounds.labels), bool)), "each": each}


def _mean(values: np.ndarray, weights: np.ndarray) -> float | None:
    return float(np.average(values, weights=weights)) if len(values) else None


def _median(values: np.ndarray, weights: np.ndarray) -> float | None:
    """The value below which half of the weight lies; none of no values."""
    if not len(values):
        return None
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def _rounded(value: Any) -> Any:
    """Figures as JSON has them, with six digits: what comes after them depends on the machine."""
    if isinstance(value, dict):
        return {str(k): _rounded(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(v) for v in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


# --- the report -------------------------------------------------------------------------------------------------


def verdicts(figures: dict) -> list[tuple[str, float, str, bool]]:
    """Each target: what, its value, its bound, whether it is met."""
    rows = []
    for what, place, relation, bound in TARGETS:
        value: Any = figures
        for key in place:
            value = value[key]
        value = value[0] if isinstance(value, list) else value
        met = value is not None and {"<=": value <= bound, ">=": value >= bound, "<": value < bound}[relation]
        rows.append((what, value, f"{relation} {bound:g}", met))
    return rows


def report(figures: dict, name: str, command: str) -> str:
    """Write the figures as Markdown."""
    categories, counts = figures["categories"], figures["counts"]
    titles = {"made": name, "trained on": "recordings trained on (floor)", "held out": "held-out recordings"}
    titles["noise"] = "white noise (ceiling)"
    few = [c for c, n in zip(categories, counts["held out"], strict=True) if n < FULL]
    lines = [f"# {name} beside held-out recordings", "", f"{datetime.date.today()}: `{command}`", ""]
    lines += _table(
        ["target", "is", "should be", ""],
        [[what, _n(value, 3), bound, "met" if met else "**not met**"] for what, value, bound, met in verdicts(figures)],
    )
    lines += [
        "",
        f"## All categories, sounds of {figures['frames'] / SAMPLE_RATE:.2f} s",
        "",
        *_overall(figures, titles),
    ]
    lines += ["", *_notes(figures, few), "", "## Each category", "", *_each(figures)]
    lines += ["", "Accuracy, and what was heard in place of what was asked for, of the made sounds:", ""]
    confusion = figures["accuracy"]["made"]["confusion"]
    lines += _table(
        ["asked for \\ heard", *categories],
        [[c, *(str(n) if n else "" for n in row)] for c, row in zip(categories, confusion, strict=True)],
    )
    lines += ["", "## Nearest recordings", ""]
    lines += [f"Copies are looked for below {figures['copies']['threshold_db']:.2f} dB.", ""]
    lines += _table(
        ["category", "made", "recording trained on", "distance"],
        [
            [categories[row["label"]], row["made"], row["recording"], f"{row['distance_db']:.2f} dB"]
            for row in figures["copies"]["nearest"]
        ],
    )
    lines += ["", "## Signals", "", *_signal_tables(figures, titles)]
    return "\n".join(lines) + "\n"


def _overall(figures: dict, titles: dict[str, str]) -> list[str]:
    heads = ["", "sounds", "KID", "ratio", "Gaussian", "ratio", "accuracy", "ratio", "4 families", "ratio", "teaches"]
    heads += ["precision", "recall", "density", "coverage", "diversity", "near copies", "nearest, median"]
    rows = []
    for name, title in titles.items():
        row = [title, str(sum(figures["counts"][name]))]
        for kernel in KERNELS:
            found = figures["distances"].get(name, {}).get(kernel)
            row += (
                [_interval(found["all"], 4 if kernel == "mmd" else 3), _interval(found["ratio"])] if found else ["", ""]
            )
        found = figures["accuracy"][name]
        for key in ("all", "families"):
            row += [_interval(found[key]), _n(found["ratio" if key == "all" else "families ratio"][0])]
        row += [_n(found["taught"][0]) if found["taught"] else ""]
        row += [_n(value) for value in figures["overlap"].get(name, dict.fromkeys("1234")).values()]
        row += [_interval(figures["diversity"][name]["median"])]
        found = figures["copies"].get(name)
        row += [f"{found['share']:.1%}, {found['count']}", f"{found['median_db']:.1f} dB"] if found else ["", ""]
        rows.append(row)
    return _table(heads, rows)


def _notes(figures: dict, few: list[str]) -> list[str]:
    balanced = "Every category counts the same"
    if few:
        balanced += f", but for {', '.join(few)}: with n < {FULL} held-out recordings they count n / {FULL}"
    sampling = {kernel: figures["distances"]["made"][kernel]["sampling"] for kernel in KERNELS}
    return [
        f"- {balanced}. In brackets: the middle 95 % of a bootstrap of all sets. Sounds that share a recording are "
        "never paired, and are drawn together.",
        "- KID (polynomial) and Gaussian: squared kernel distances to the held-out recordings, unbiased, so of like "
        "sets about 0 or below. Therefore the ratio is not of them alone: what sampling adds to the distance of two "
        f"finite sets, {sampling['kid']:.3f} and {sampling['mmd']:.4f}, is added to both. It says how much farther the "
        "made sounds are than recordings, as many of each category, would be found to be. KID's cube lets a few "
        "outlying sounds decide: its interval says how much.",
        "- Accuracy: of logistic regression on the recordings trained on, so for these themselves it says nothing; "
        "the ceiling is that of the held-out ones. Teaches: accuracy on the held-out ones of one taught by the set.",
        "- Precision, recall, density, coverage: 3 and 5 neighbours, with the same number of sounds of each category "
        f"in each set, mean of {MATCHED_DRAWS} draws. Precision and density reward whatever is within reach of one "
        "outlying recording, white noise too: read them with the other two.",
        "- Diversity: mean distance of two sounds of a class, over that of the held-out ones; median of the categories "
        f"with {FULL} and more of these.",
        "- Near copies: sounds nearer to a recording trained on than all but 1 % of the held-out ones are, in log-mel "
        "distance, whatever the level, the polarity and a shift of up to 20 ms. About 1 % is what chance gives.",
    ]


def _each(figures: dict) -> list[str]:
    heads = ["category", "made", "held out", "KID", "recorded", "ratio", "Gaussian", "recorded", "ratio", "accuracy"]
    heads += ["held out", "diversity", "near copies", "nearest, median", "held out"]
    rows = []
    for i, category in enumerate(figures["categories"]):
        row = [category, str(figures["counts"]["made"][i]), str(figures["counts"]["held out"][i])]
        for kernel in KERNELS:
            made, floor = (figures["distances"][name][kernel] for name in ("made", "trained on"))
            row += [_interval(made["each"][i]), _interval(floor["each"][i]), _n(made["each ratio"][i][0])]
        row += [_n(figures["accuracy"][name]["each"][i][0]) for name in ("made", "held out")]
        row += [_n(figures["diversity"]["made"]["each"][i][0])]
        made, held_out = (figures["copies"][name] for name in ("made", "held out"))
        row += [str(made["each_count"][i]), f"{made['each_median_db'][i]:.1f} dB"]
        row += [f"{held_out['each_median_db'][i]:.1f} dB"]
        rows.append(row)
    return _table(heads, rows)


SIGNALS = {
    "tail_db": ("tail, median", "dB"),
    "tail_above_60": ("tail above -60 dB", "%"),
    "onset_10ms": ("onset within 10 ms", "%"),
    "peak_dbfs": ("peak, median", "dBFS"),
    "peak_max_dbfs": ("peak, highest", "dBFS"),
    "clipped": ("clipped", "%"),
    "dc_db": ("DC, median", "dB"),
    "dc_max_db": ("DC, highest", "dB"),
    "crest_db": ("crest, median", "dB"),
    "above_10k": ("energy above 10 kHz", "%"),
}


def _signal_tables(figures: dict, titles: dict[str, str]) -> list[str]:
    measured = figures["signals"]
    lines = _table(
        ["", *(title for title, _ in SIGNALS.values())],
        [[title, *(_signal(measured[name]["all"], key) for key in SIGNALS)] for name, title in titles.items()],
    )
    lines += [
        "",
        "Tail (root mean square of the last 50 ms) and onset (first within 20 dB of the peak) are of one-shots, all "
        "but textures; tail, DC and crest re the peak; -120 dB is silence, in which shorter recordings end. Clipped: a "
        "sample at full scale before anything is written. Made / trained on:",
        "",
    ]
    rows = []
    for i, category in enumerate(figures["categories"]):
        made, floor = (measured[name]["each"][i] for name in ("made", "trained on"))
        rows.append([category, *(f"{_signal(made, key)} / {_signal(floor, key)}" for key in SIGNALS)])
    return [*lines, *_table(["category", *(title for title, _ in SIGNALS.values())], rows)]


def _signal(measured: dict[str, float | None], key: str) -> str:
    value, unit = measured[key], SIGNALS[key][1]
    if value is None:
        return "-"
    return f"{value:.1%}" if unit == "%" else f"{value:.1f} {unit}"


def _table(heads: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|", *("| " + " | ".join(r) + " |" for r in rows)]


def _n(value: float | None, digits: int = 2) -> str:
    """A number, in few digits however large."""
    if value is None:
        return ""
    return f"{value:.{0 if abs(value) >= 1000 else digits}f}"


def _interval(value: Sequence[float], digits: int = 2) -> str:
    return "{} [{}, {}]".format(*(_n(v, digits) for v in value))


def contact_sheet(made: Sounds, held_out: Sounds, categories: Sequence[str], frames: int, title: str) -> bytes:
    """Draw log-mel spectrograms, a row per category: some held-out recordings, then the first made sounds; a PNG."""
    from matplotlib.figure import Figure
    from PIL import Image

    columns = SHEET_RECORDED + SHEET_MADE
    figure = Figure(figsize=(1.5 * columns + 0.9, 1.05 * len(categories) + 0.9), dpi=90, facecolor="white")
    widths = [*[1] * SHEET_RECORDED, 0.12, *[1] * SHEET_MADE]  # a gap between the two
    height = figure.get_figheight()
    places = {"left": 0.07, "right": 0.995, "top": 1 - 0.6 / height, "bottom": 0.4 / height}
    grid = figure.add_gridspec(len(categories), columns + 1, width_ratios=widths, wspace=0.05, hspace=0.08, **places)
    for row, category in enumerate(categories):
        shown = [(spread_over(held_out, row, SHEET_RECORDED), held_out, 0)]
        shown += [(np.flatnonzero(made.labels == row)[:SHEET_MADE], made, SHEET_RECORDED + 1)]
        for index, sounds, first in shown:
            for column, i in enumerate(index, first):
                axes = figure.add_subplot(grid[row, column])
                mel = log_mel(sounds.audio[i : i + 1, :frames])[0].numpy()
                picture = axes.imshow(mel, origin="lower", aspect="auto", cmap="magma", vmin=FLOOR_DB, vmax=0)
                axes.set(xticks=[], yticks=[])
                if column == 0:
                    axes.set_ylabel(category, rotation=0, ha="right", va="center", fontsize=10)
    figure.text(0.07, 1 - 0.5 / height, "held-out recordings", fontsize=11)
    figure.text(0.07 + 0.925 * (SHEET_RECORDED + 0.12) / (columns + 0.12), 1 - 0.5 / height, title, fontsize=11)
    seconds = frames / SAMPLE_RATE
    words = f"each {seconds:.2f} s from left to right, 30 Hz to 20 kHz upwards on the mel scale, dB re its loudest:"
    figure.text(0.07, 0.17 / height, words, fontsize=9)
    bar = figure.add_axes((0.62, 0.22 / height, 0.2, 0.1 / height))
    figure.colorbar(picture, cax=bar, orientation="horizontal").ax.tick_params(labelsize=7, pad=1, length=2)
    whole, png = io.BytesIO(), io.BytesIO()
    figure.savefig(whole, format="png")
    Image.open(whole).convert("RGB").quantize(128).save(png, format="png", optimize=True)  # a third of the size
    return png.getvalue()


def spread_over(sounds: Sounds, label: int, n: int) -> np.ndarray:
    """Numbers of up to ``n`` sounds of a category, of as many recordings."""
    mine = np.flatnonzero(sounds.labels == label)
    _, first = np.unique(sounds.groups[mine], return_index=True)
    first = np.sort(first)
    return mine[first[np.unique(np.linspace(0, len(first) - 1, n).round().astype(int))]]


# --- the command ------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> None:
    """Judge one source of sounds; writes three files."""
    argv = sys.argv[1:] if argv is None else list(argv)
    arguments = _parser().parse_args(argv)
    data = load_prepared(arguments.data)
    name, made, categories, frames = _to_judge(arguments, data)
    command = f"python -m bench.quality {shlex.join(argv)}"
    figures = {"command": command, "name": name, "seed": arguments.seed}
    figures |= judge(made, data, categories, frames, arguments.seed)
    text = report(figures, name, command)
    sheet = contact_sheet(made, recorded(data, True, categories, frames), categories, frames, name)
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    (out / "quality.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    (out / "quality.md").write_text(text, encoding="utf-8")
    (out / "quality.png").write_bytes(sheet)
    print(text.partition("\n## Each category")[0])
    print("\n".join(str(out / f"quality.{suffix}") for suffix in ("md", "json", "png")))


def _to_judge(arguments: argparse.Namespace, data: Prepared) -> tuple[str, Sounds, tuple[str, ...], int]:
    """What to call the sounds, the sounds, their categories, and how long they are in frames."""
    source, n, seed = arguments.source, arguments.per_category, arguments.seed
    options, opening = (
        {k: v for k in names if (v := getattr(arguments, k)) is not None} for names in (_GENERATE, _LOAD)
    )
    known = tuple(c for i, c in enumerate(CATEGORIES) if i in data.labels)
    is_folder = any((Path(source) / c).is_dir() for c in known)
    if (is_folder or source in ("real", "noise")) and (options or opening):
        raise SystemExit(f"{', '.join(options | opening)}: only for a checkpoint; {source} is none.")
    if source == "real":
        return "recordings trained on", some(recorded(data, False, known, FRAMES), n, seed), known, FRAMES
    if source == "noise":
        found = white_noise(dict.fromkeys(known, n), FRAMES, seed + 1)  # other noise than the ceiling's
    elif is_folder:
        found = from_folder(Path(source), known, n)
    else:
        found = from_checkpoint(source, known, n, seed, options, opening)
    frames = min(FRAMES, max(len(audio) for sounds in found.values() for _, audio in sounds))
    return Path(source).name, gathered(found), tuple(found), frames


_GENERATE = ("steps", "sampler", "grid", "guidance_scale", "guidance_interval", "guidance_rescale", "duration_s")
_GENERATE += ("batch_size",)
_LOAD = ("device", "dtype")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.quality", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", metavar="CKPT", help="a checkpoint, a folder of class folders, 'real' or 'noise'")
    parser.add_argument("--data", type=Path, default=ROOT / "build" / "default_data.npz", help="the recordings")
    parser.add_argument("--per-category", type=int, default=32, metavar="N", help="sounds of each category (32)")
    parser.add_argument("--seed", type=int, default=0, help="of the sounds and of all that is drawn (0)")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "quality", help="folder of the report")
    make = parser.add_argument_group("of a checkpoint", "the checkpoint's own settings unless given")
    make.add_argument("--steps", type=int)
    make.add_argument("--sampler", choices=tuple(SAMPLERS))
    make.add_argument("--grid", choices=tuple(GRIDS))
    make.add_argument("--guidance-scale", type=float)
    make.add_argument("--guidance-interval", type=float, nargs=2, metavar=("FROM", "TO"))
    make.add_argument("--guidance-rescale", type=float)
    make.add_argument("--duration-s", type=float)
    make.add_argument("--batch-size", type=int)
    make.add_argument("--device")
    make.add_argument("--dtype")
    return parser
