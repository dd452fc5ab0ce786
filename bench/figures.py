"""The figures of a judgement: generated sounds measured against held-out recordings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from bench.quality import (
    Distance,
    Kernel,
    apart,
    block_means,
    draw_bootstrap,
    features,
    find_nearest,
    fit_classifier,
    fit_scale,
    gaussian,
    measure_signals,
    neighbours,
    polynomial,
)
from bench.sounds import Sounds, draw_each, gather, make_noise, select_recordings
from bench.tones import measure_tones
from recipe.data import CATEGORIES, FRAMES, Prepared

FAMILIES = {"drums": CATEGORIES[:8], "bass": ("bass",), "synth": ("synth",), "texture": ("texture",)}
KERNELS = {"kid": polynomial, "mmd": gaussian}
FULL = 10
"""A category with fewer held-out recordings counts less, in proportion: two or three do not allow a conclusion."""

MATCHED_DRAWS = 10


class Set(NamedTuple):
    """A set of sounds, its scaled features (n, features), and the draws of its bootstrap (draws, n)."""

    sounds: Sounds
    x: np.ndarray
    counts: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        return self.sounds.labels


def measure(made: Sounds, data: Prepared, categories: Sequence[str], frames: int = FRAMES, seed: int = 0) -> dict:
    """Measure sounds against the held-out recordings, and for comparison the training recordings and white noise.

    Args:
        made: the sounds, at least two of each category.
        data: the recordings, at least two groups of each category on each side of the split.
        categories: the categories that the labels of ``made`` index.
        frames: length of the sounds; the recordings are cut to it.
        seed: seed of the bootstrap, the draws and the white noise.

    Returns:
        Figures by name, as written to quality.json. [value, low, high] is a value and the middle 95 % of its
        bootstrap, which redraws every set; all comparisons share the draws of the held-out recordings.
    """
    trained, held_out = (select_recordings(data, side, categories, frames) for side in (False, True))
    counts = dict(zip(categories, np.bincount(made.labels).tolist(), strict=True))
    noise = gather(make_noise(counts, frames, seed))
    sources = {"made": made, "trained on": trained, "held out": held_out, "noise": noise}
    measured = {name: features(sounds.audio) for name, sounds in sources.items()}
    to_scale = fit_scale(measured["trained on"])
    sets = {
        name: Set(sounds, to_scale(measured[name]), draw_bootstrap(sounds.labels, sounds.groups, seed=seed + i))
        for i, (name, sounds) in enumerate(sources.items())
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
        "tones": {name: measure_tones(sets[name].sounds, categories) for name in ("made", "held out")},
        "signals": {name: _signals(s.sounds, categories, frames) for name, s in sets.items()},
    }
    return _round(figures)


def _figure(values: np.ndarray) -> Distance:
    """Return the value of the first draw, which is the set itself, and the middle 95 % of the others."""
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return Distance(float(values[0]), float(low), float(high))


def _figures(values: np.ndarray) -> list[Distance]:
    return [_figure(column) for column in values.T]


def _within(of: Set, values: np.ndarray) -> np.ndarray:
    """Return means over the pairs of a set that share no recording; (draws, categories, categories)."""
    return block_means(values, (of.counts,) * 2, (of.labels,) * 2, apart(of.sounds.groups))


def _distances(sets: dict[str, Set], weights: np.ndarray) -> dict:
    """Return squared kernel distances to the held-out recordings: of all categories, mixed by weight, and of each.

    They are unbiased, and about zero or below for the training recordings, so a plain ratio of them means nothing.
    The question is how much farther the made sounds are than a set of as many recordings would be. A finite set looks
    farther by (k(x, x) - k(x, x')) / n: the excess of a sound's similarity to itself over its similarity to another,
    divided by the number of sounds. For both sets together that is the ``sampling`` term. Hence

        ratio = (max(made, 0) + sampling) / (max(recorded, 0) + sampling).
    """
    held_out, trained = sets["held out"], sets["trained on"]
    others = {name: x for name, x in sets.items() if x is not held_out}
    in_set = np.minimum(np.bincount(trained.labels), np.bincount(sets["made"].labels))
    figures: dict[str, Any] = {name: {} for name in others}
    for kernel_name, kernel in KERNELS.items():
        inner = {name: _within(x, kernel(x.x, x.x)) for name, x in sets.items()}
        excess = {name: _self_similarity(x, kernel) - inner[name][0].diagonal() for name, x in sets.items()}
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


def _self_similarity(x: Set, kernel: Kernel) -> np.ndarray:
    """Return the mean kernel value of a sound with itself, by category."""
    return np.bincount(x.labels, kernel(x.x, x.x).diagonal()) / np.bincount(x.labels)


def _ratio(made: np.ndarray, floor: np.ndarray, sampling: np.ndarray) -> np.ndarray:
    return (np.maximum(made, 0) + sampling) / (np.maximum(floor, 0) + sampling)


def _accuracy(sets: dict[str, Set], weights: np.ndarray, categories: Sequence[str]) -> dict:
    """Return how often a classifier fitted to the training recordings predicts the requested category.

    ``taught`` is the accuracy on the held-out recordings of a classifier fitted to the set.
    """
    classify = fit_classifier(sets["trained on"].x, sets["trained on"].labels)
    families = np.array([next(i for i, f in enumerate(FAMILIES.values()) if c in f) for c in categories])
    pooled = np.eye(len(FAMILIES))[families] * weights[:, None]
    pooled = (pooled / pooled.sum(0).clip(1e-12))[:, pooled.any(0)].mean(1)  # each family counts the same
    held_out, figures, by_name = sets["held out"], {}, {}
    for name, x in sets.items():
        predicted = classify(x.x)
        right = _shares(x, predicted == x.labels), _shares(x, families[predicted] == families[x.labels])
        by_name[name] = right[0] @ weights, right[1] @ pooled
        confusion = np.zeros((len(categories),) * 2, int)
        np.add.at(confusion, (x.labels, predicted), 1)
        taught = fit_classifier(x.x, x.labels)(held_out.x) == held_out.labels
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
    """Return the share of correct predictions by category; (draws, categories)."""
    rows = np.eye(x.labels.max() + 1)[x.labels]
    return (x.counts * right) @ rows / (x.counts @ rows)


def _overlap(sets: dict[str, Set], seed: int) -> dict:
    """Return precision, recall, density and coverage, with equally many sounds of each category in every set."""
    others = {name: x for name, x in sets.items() if name != "held out"}
    counts = np.min([np.bincount(x.labels) for x in others.values()], 0)
    figures = {}
    for name, x in others.items():
        rng = np.random.default_rng(seed)
        drawn = [neighbours(sets["held out"].x, x.x[draw_each(x.labels, counts, rng)]) for _ in range(MATCHED_DRAWS)]
        figures[name] = dict(zip(drawn[0]._fields, np.mean(drawn, 0).tolist(), strict=True))
    return figures


def _diversity(sets: dict[str, Set], full: np.ndarray) -> dict:
    """Return the mean distance of two sounds of a category relative to that of two held-out recordings.

    It does not depend on the number of sounds. The median is over the categories with enough held-out recordings.
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
    """Return the distance of each sound to its nearest training recording, and the share of near copies.

    A near copy is nearer than the nearest 1 % of the held-out recordings. One threshold serves all categories: most
    have too few held-out recordings for their own percentile, and the distance is comparable for short and long, noisy
    and tonal sounds.
    """
    held_out_db, _ = find_nearest(held_out.audio, trained.audio)
    made_db, index = find_nearest(made.audio, trained.audio)
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
    """Return levels and shares of the whole set, with equal weight for each category, and of each category."""
    measured = measure_signals(sounds.audio[:, :frames])
    one_shot = np.array([categories[label] != "texture" for label in sounds.labels])
    share = (1 / np.bincount(sounds.labels))[sounds.labels]

    def summarize(chosen: np.ndarray) -> dict[str, float | None]:
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

    each = [summarize(sounds.labels == c) for c in range(len(categories))]
    return {"all": summarize(np.ones(len(sounds.labels), bool)), "each": each}


def _mean(values: np.ndarray, weights: np.ndarray) -> float | None:
    return float(np.average(values, weights=weights)) if len(values) else None


def _median(values: np.ndarray, weights: np.ndarray) -> float | None:
    """Return the value below which half of the weight lies, or None if there are no values."""
    if not len(values):
        return None
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def _round(value: Any) -> Any:
    """Convert figures to JSON types with six digits: further digits depend on the machine."""
    if isinstance(value, dict):
        return {str(k): _round(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_round(v) for v in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
