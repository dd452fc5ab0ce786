"""The report on a folder of sounds as HTML, with a picture of lengths and spectrograms."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

import numpy as np

from ..display.html import escape
from ..display.plots import BLUE, GREY, ORANGE, SHEET_COLUMNS, draw_spectrogram, new_figure, style_axes, to_png
from ..display.text import duration, shortened, shown
from .dataset import Dataset, Sound

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SPECTROGRAMS = 16
_SPECTROGRAM_S = 4.0


def dataset_picture(data: Dataset, clip_frames: int | None) -> bytes:
    """Draw a histogram of lengths, and spectrograms of up to 16 sounds from all classes; return a PNG."""
    chosen = spread(data.sounds, _SPECTROGRAMS)
    rows = -(-len(chosen) // SHEET_COLUMNS)
    heights = [1.6, *[1.1] * rows]
    figure = new_figure(9, sum(heights) + 0.7 + 0.3 * rows, dpi=150, layout="constrained")
    grid = figure.add_gridspec(1 + rows, SHEET_COLUMNS, height_ratios=heights)
    _draw_lengths(figure.add_subplot(grid[0, :]), data, clip_frames)
    for place, i in enumerate(chosen):
        axes = figure.add_subplot(grid[1 + place // SHEET_COLUMNS, place % SHEET_COLUMNS])
        sound, rate = data.sounds[i], data.sample_rate
        draw_spectrogram(axes, data.sound(i)[:, : int(_SPECTROGRAM_S * rate)].mean(axis=0), rate, 280)
        axes.set_title(_title(sound), fontsize=10, color=GREY)
        axes.axis("off")
    return to_png(figure)


def _draw_lengths(axes: Axes, data: Dataset, clip_frames: int | None) -> None:
    """Draw a histogram of lengths on a logarithmic axis, which has room for clicks and loops."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    lengths = [s.duration_s for s in data.sounds]
    clip_s = clip_frames / data.sample_rate if clip_frames else None
    ends = [*lengths, clip_s] if clip_s else lengths
    bars = min(40, 10 + len(lengths) // 4)
    axes.hist(lengths, np.geomspace(min(ends) / 1.2, max(ends) * 1.2, bars).tolist(), color=BLUE)
    if clip_s:
        axes.axvline(clip_s, color=ORANGE, linewidth=2)
    line = f"; line: a clip of the checkpoint, {duration(clip_s)}" if clip_s else ""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda seconds, _: f"{seconds:g} s")
    axes.xaxis.set_minor_formatter("")
    axes.yaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))
    axes.set_title(f"number of sounds by length{line}", color=GREY, fontsize=10, loc="left")
    style_axes(axes)
    axes.grid(visible=False)


def spread(sounds: Sequence[Sound], n: int) -> list[int]:
    """Choose up to ``n`` sounds, in turn from each class and spread over it; return their numbers, sorted."""
    classes: dict[str | None, list[int]] = {}
    for i, sound in enumerate(sounds):
        classes.setdefault(sound.category, []).append(i)
    # the first few of each list lie far apart in the class
    strides = [sorted(found, key=lambda i: (i - found[0]) * 0.618034 % 1) for found in classes.values()]
    turns = chain.from_iterable(zip_longest(*strides))
    return sorted([i for i in turns if i is not None][:n])


def _title(sound: Sound, most: int = 24) -> str:
    """Return its name, shortened in the middle, above its class and length."""
    name = shortened(sound.name.split("/")[-1], most)
    category = f"{shortened(sound.category, most)}, " if sound.category else ""
    first = f"first {_SPECTROGRAM_S:.0f} s of " if sound.duration_s > _SPECTROGRAM_S else ""
    return f"{name}\n{category}{first}{duration(sound.duration_s)}"


def dataset_html(folder: str, sections: Mapping[str, list[str]], data: Dataset, clip_frames: int | None) -> str:
    """Return a report on a folder of sounds and its picture as HTML."""
    text = "".join(
        f"<b>{escape(heading)}</b><ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"
        for heading, lines in sections.items()
    )
    picture = base64.b64encode(dataset_picture(data, clip_frames)).decode()
    name = escape(shown(folder))
    return (
        f"<div><b>Sounds in {name}</b><br>{text}"
        f'<img alt="lengths and spectrograms of the sounds in {name}" style="width:800px;max-width:100%" '
        f'src="data:image/png;base64,{picture}"></div>'
    )
