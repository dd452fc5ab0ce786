"""The report of a judgement: tables in Markdown and a contact sheet of spectrograms."""

from __future__ import annotations

import datetime
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.common import markdown_table
from bench.figures import FULL, KERNELS, MATCHED_DRAWS
from bench.quality import FLOOR_DB, SAMPLE_RATE, log_mel
from bench.sounds import Sounds

SHEET_RECORDED, SHEET_MADE = 4, 6

TARGETS = (
    ("KID, made / recorded", ("distances", "made", "kid", "ratio"), "<=", 3.0),
    ("Gaussian distance, made / recorded", ("distances", "made", "mmd", "ratio"), "<=", 3.0),
    ("class accuracy, made / held out", ("accuracy", "made", "ratio"), ">=", 0.8),
    ("diversity within a class, made / held out, median", ("diversity", "made", "median"), ">=", 0.7),
    ("steady basses", ("tones", "made", "bass", "steady"), ">=", 0.85),
    ("steady synths", ("tones", "made", "synth", "steady"), ">=", 0.85),
    ("steady toms", ("tones", "made", "tom", "steady"), ">=", 0.3),
    ("pitch error of basses, median, cents", ("tones", "made", "bass", "error_cents"), "<=", 10.0),
    ("pitch error of synths, median, cents", ("tones", "made", "synth", "error_cents"), "<=", 10.0),
    ("wobble of basses, median, cents", ("tones", "made", "bass", "wobble_cents"), "<=", 8.0),
    ("wobble of synths, median, cents", ("tones", "made", "synth", "wobble_cents"), "<=", 8.0),
    ("share of near copies", ("copies", "made", "share"), "<", 0.01),
    ("tail of one-shots, median, dB re peak", ("signals", "made", "all", "tail_db"), "<=", -60.0),
    ("share of one-shots that begin within 10 ms", ("signals", "made", "all", "onset_10ms"), ">=", 0.95),
    ("share of sounds over full scale", ("signals", "made", "all", "clipped"), "<=", 0.0),
)


def check_targets(figures: dict) -> list[tuple[str, float | None, str, bool]]:
    """Return for each target its name, its value, its bound and whether it is met."""
    rows = []
    for what, place, relation, bound in TARGETS:
        value: Any = figures
        for key in place:
            value = value.get(key) if isinstance(value, dict) else None
        value = value[0] if isinstance(value, list) else value
        met = value is not None and {"<=": value <= bound, ">=": value >= bound, "<": value < bound}[relation]
        rows.append((what, value, f"{relation} {bound:g}", met))
    return rows


def write_report(figures: dict, name: str, command: str) -> str:
    """Return the figures as Markdown."""
    categories, counts = figures["categories"], figures["counts"]
    titles = {"made": name, "trained on": "training recordings (floor)", "held out": "held-out recordings"}
    titles["noise"] = "white noise (ceiling)"
    few = [c for c, n in zip(categories, counts["held out"], strict=True) if n < FULL]
    lines = [f"# {name} compared with held-out recordings", "", f"{datetime.date.today()}: `{command}`", ""]
    lines += markdown_table(
        ["target", "is", "should be", ""],
        [
            [what, _n(value, 3), bound, "met" if met else "**not met**"]
            for what, value, bound, met in check_targets(figures)
        ],
    )
    lines += [
        "",
        f"## All categories, sounds of {figures['frames'] / SAMPLE_RATE:.2f} s",
        "",
        *_overall_table(figures, titles),
    ]
    lines += ["", *_notes(figures, few), "", "## Each category", "", *_category_table(figures)]
    lines += ["", "Confusion matrix of the made sounds: requested category by predicted category.", ""]
    confusion = figures["accuracy"]["made"]["confusion"]
    lines += markdown_table(
        ["requested \\ predicted", *categories],
        [[c, *(str(n) if n else "" for n in row)] for c, row in zip(categories, confusion, strict=True)],
    )
    lines += ["", "## Nearest recordings", ""]
    lines += [f"A near copy is nearer than {figures['copies']['threshold_db']:.2f} dB.", ""]
    lines += markdown_table(
        ["category", "made", "training recording", "distance"],
        [
            [categories[row["label"]], row["made"], row["recording"], f"{row['distance_db']:.2f} dB"]
            for row in figures["copies"]["nearest"]
        ],
    )
    lines += ["", "## Tones", "", *_tone_table(figures)]
    lines += ["", "## Signals", "", *_signal_tables(figures, titles)]
    return "\n".join(lines) + "\n"


def _overall_table(figures: dict, titles: dict[str, str]) -> list[str]:
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
    return markdown_table(heads, rows)


def _notes(figures: dict, few: list[str]) -> list[str]:
    weights = "Every category has the same weight"
    if few:
        weights += f", except {', '.join(few)}: with n < {FULL} held-out recordings their weight is n / {FULL}"
    sampling = {kernel: figures["distances"]["made"][kernel]["sampling"] for kernel in KERNELS}
    return [
        f"- {weights}. In brackets: the middle 95 % of a bootstrap of all sets. Sounds that share a recording are "
        "never paired, and are drawn together.",
        "- KID (polynomial) and Gaussian: squared kernel distances to the held-out recordings. They are unbiased, so "
        "about 0 or below for two sets of one distribution. The ratio therefore adds to both distances what sampling "
        f"adds to the distance of two finite sets, {sampling['kid']:.3f} and {sampling['mmd']:.4f}. It tells how much "
        "farther the made sounds are than as many recordings of each category would be. The cube in KID lets a few "
        "outliers dominate: its interval shows how much.",
        "- Accuracy: of logistic regression fitted to the training recordings, so their own accuracy means nothing; "
        "the ceiling is that of the held-out recordings. Teaches: accuracy on the held-out recordings of a classifier "
        "fitted to the set.",
        "- Precision, recall, density, coverage: 3 and 5 neighbours, with equally many sounds of each category in each "
        f"set, mean of {MATCHED_DRAWS} draws. Precision and density reward whatever is near one outlying recording, "
        "white noise included: read them together with recall and coverage.",
        "- Diversity: mean distance of two sounds of a category, relative to that of the held-out recordings; median "
        f"of the categories with at least {FULL} of these.",
        "- Near copies: sounds nearer to a training recording than the nearest 1 % of the held-out recordings, in "
        "log-mel distance, whatever the level, the polarity and a shift of up to 20 ms. About 1 % is expected by "
        "chance.",
    ]


def _category_table(figures: dict) -> list[str]:
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
    return markdown_table(heads, rows)


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


TONES = {
    "pitched": ("pitched", 2),
    "steady": ("steady", 2),
    "wobble_cents": ("wobble, cents", 1),
    "error_cents": ("pitch error, cents", 1),
    "hnr_db": ("harmonics to noise, dB", 1),
    "attack_ms": ("attack, ms", 0),
}


def _tone_table(figures: dict) -> list[str]:
    tones = figures["tones"]
    rows = []
    for category in tones["made"]:
        each = [[_n(tones[name][category][key], digits) or "-" for name in tones] for key, (_, digits) in TONES.items()]
        rows.append([category, *(" / ".join(values) for values in each)])
    lines = markdown_table(["category", *(title for title, _ in TONES.values())], rows)
    return [
        "Made / held-out recordings, up to 32 of each category.",
        "",
        *lines,
        "",
        "Pitched: at least 60 % of the frames within 30 dB of the loudest are voiced (pYIN). Wobble: RMS deviation of "
        "the pitch from a straight line. Steady: pitched, and below 25 cents. Pitch error: to the note of the seed.",
    ]


def _signal_tables(figures: dict, titles: dict[str, str]) -> list[str]:
    measured = figures["signals"]
    lines = markdown_table(
        ["", *(title for title, _ in SIGNALS.values())],
        [[title, *(_signal(measured[name]["all"], key) for key in SIGNALS)] for name, title in titles.items()],
    )
    lines += [
        "",
        "Tail (RMS of the last 50 ms) and onset (first sample within 20 dB of the peak) are of one-shots: every "
        "category but texture. Tail, DC and crest are relative to the peak; -120 dB is silence, in which shorter "
        "recordings end. Clipped: a sample at full scale before anything is saved. Made / training recordings:",
        "",
    ]
    rows = []
    for i, category in enumerate(figures["categories"]):
        made, floor = (measured[name]["each"][i] for name in ("made", "trained on"))
        rows.append([category, *(f"{_signal(made, key)} / {_signal(floor, key)}" for key in SIGNALS)])
    return [*lines, *markdown_table(["category", *(title for title, _ in SIGNALS.values())], rows)]


def _signal(measured: dict[str, float | None], key: str) -> str:
    value, unit = measured[key], SIGNALS[key][1]
    if value is None:
        return "-"
    return f"{value:.1%}" if unit == "%" else f"{value:.1f} {unit}"


def _n(value: float | None, digits: int = 2) -> str:
    """Format a number with few digits however large it is, None as an empty cell."""
    if value is None:
        return ""
    return f"{value:.{0 if abs(value) >= 1000 else digits}f}"


def _interval(value: Sequence[float], digits: int = 2) -> str:
    return "{} [{}, {}]".format(*(_n(v, digits) for v in value))


def contact_sheet(made: Sounds, held_out: Sounds, categories: Sequence[str], frames: int, title: str) -> bytes:
    """Draw log-mel spectrograms as a PNG, a row per category: some held-out recordings, then the first made sounds."""
    from matplotlib.figure import Figure
    from PIL import Image

    columns = SHEET_RECORDED + SHEET_MADE
    figure = Figure(figsize=(1.5 * columns + 0.9, 1.05 * len(categories) + 0.9), dpi=90, facecolor="white")
    widths = [*[1] * SHEET_RECORDED, 0.12, *[1] * SHEET_MADE]  # a gap between the two
    height = figure.get_figheight()
    places = {"left": 0.07, "right": 0.995, "top": 1 - 0.6 / height, "bottom": 0.4 / height}
    grid = figure.add_gridspec(len(categories), columns + 1, width_ratios=widths, wspace=0.05, hspace=0.08, **places)
    for row, category in enumerate(categories):
        shown = [(pick_spread(held_out, row, SHEET_RECORDED), held_out, 0)]
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
    words = f"each {seconds:.2f} s from left to right, 30 Hz to 20 kHz upwards on the mel scale, dB re its maximum:"
    figure.text(0.07, 0.17 / height, words, fontsize=9)
    bar = figure.add_axes((0.62, 0.22 / height, 0.2, 0.1 / height))
    figure.colorbar(picture, cax=bar, orientation="horizontal").ax.tick_params(labelsize=7, pad=1, length=2)
    whole, png = io.BytesIO(), io.BytesIO()
    figure.savefig(whole, format="png")
    Image.open(whole).convert("RGB").quantize(128).save(png, format="png", optimize=True)  # a third of the size
    return png.getvalue()


def pick_spread(sounds: Sounds, label: int, n: int) -> np.ndarray:
    """Return the indices of up to ``n`` sounds of a category, each of another recording."""
    mine = np.flatnonzero(sounds.labels == label)
    _, first = np.unique(sounds.groups[mine], return_index=True)
    first = np.sort(first)
    return mine[first[np.unique(np.linspace(0, len(first) - 1, n).round().astype(int))]]
