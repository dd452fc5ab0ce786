"""The report on a folder of sounds as HTML, with a picture of its lengths and spectrograms."""

from __future__ import annotations

import base64
import html
import warnings
from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest

import numpy as np

from ..display.plots import _COLUMNS, BLUE, GREY, ORANGE, _draw_spectrogram, _in_grey, _png
from ..display.text import duration, shown
from .dataset import Dataset, Sound

_SPECTROGRAMS = 16
_SPECTROGRAM_S = 4.0


def dataset_picture(data: Dataset, clip_frames: int | None) -> bytes:
    """Draw how long the sounds are, and spectrograms of up to 16 of them, from every class; returns a PNG."""
    from matplotlib.figure import Figure

    chosen = spread(data.sounds, _SPECTROGRAMS)
    rows = -(-len(chosen) // _COLUMNS)
    heights = [1.6, *[1.1] * rows]
    figure = Figure(figsize=(9, sum(heights) + 0.7 + 0.3 * rows), dpi=150, layout="constrained")
    grid = figure.add_gridspec(1 + rows, _COLUMNS, height_ratios=heights)
    _draw_lengths(figure.add_subplot(grid[0, :]), data, clip_frames)
    for place, i in enumerate(chosen):
        axes = figure.add_subplot(grid[1 + place // _COLUMNS, place % _COLUMNS])
        sound, rate = data.sounds[i], data.sample_rate
        _draw_spectrogram(axes, data.sound(i)[:, : int(_SPECTROGRAM_S * rate)].mean(axis=0), rate, 280)
        axes.set_title(_title(sound), fontsize=10, color=GREY)
        axes.axis("off")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # boxes for what the font lacks; the text has the names
        return _png(figure)


def _draw_lengths(axes, data: Dataset, clip_frames: int | None) -> None:
    """A histogram of lengths, on a logarithmic axis: from a click to a loop."""
    lengths = [s.duration_s for s in data.sounds]
    clip_s = clip_frames and clip_frames / data.sample_rate
    ends = [*lengths, clip_s] if clip_s else lengths
    bars = min(40, 10 + len(lengths) // 4)
    axes.hist(lengths, np.geomspace(min(ends) / 1.2, max(ends) * 1.2, bars), color=BLUE)
    if clip_s:
        axes.axvline(clip_s, color=ORANGE, linewidth=2)
    line = f"; the line: a clip of the checkpoint, {duration(clip_s)}" if clip_s else ""
    axes.set_xscale("log")
    axes.xaxis.get_major_locator().set_params(subs=(1, 2, 5))
    axes.xaxis.set_major_formatter(lambda seconds, _: f"{seconds:g} s")
    axes.xaxis.set_minor_formatter("")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_title(f"how many sounds are how long{line}", color=GREY, fontsize=10, loc="left")
    _in_grey(axes)
    axes.grid(visible=False)


def spread(sounds: Sequence[Sound], n: int) -> list[int]:
    """Numbers of up to ``n`` sounds, in turn from each class, from its beginning to its end; sorted."""
    classes: dict[str | None, list[int]] = {}
    for i, sound in enumerate(sounds):
        classes.setdefault(sound.category, []).append(i)
    # in an order that spreads: the first few of it lie far apart in the class
    strides = [sorted(found, key=lambda i: (i - found[0]) * 0.618034 % 1) for found in classes.values()]
    turns = chain.from_iterable(zip_longest(*strides))
    return sorted([i for i in turns if i is not None][:n])


def _title(sound: Sound, most: int = 24) -> str:
    """Its name, shortened in the middle, above its class and length."""
    name = shown(sound.name.split("/")[-1])
    name = name if len(name) <= most else f"{name[: most // 2]}…{name[-most // 2 :]}"
    category = f"{shown(sound.category)[:most]}, " if sound.category else ""
    first = f"first {_SPECTROGRAM_S:.0f} s of " if sound.duration_s > _SPECTROGRAM_S else ""
    return f"{name}\n{category}{first}{duration(sound.duration_s)}".replace("$", r"\$")  # not mathematics


def dataset_html(folder: str, sections: Mapping[str, list[str]], data: Dataset, clip_frames: int | None) -> str:
    """Return a report on a folder of sounds, with its picture, as one piece of HTML."""
    sections = "".join(
        f"<b>{html.escape(heading)}</b><ul>{''.join(f'<li>{html.escape(line)}</li>' for line in lines)}</ul>"
        for heading, lines in sections.items()
    )
    data = base64.b64encode(dataset_picture(data, clip_frames)).decode()
    name = html.escape(shown(folder))
    return (
        f"<div><b>Sounds in {name}</b><br>{sections}"
        f'<img alt="lengths and spectrograms of the sounds in {name}" style="width:800px;max-width:100%" '
        f'src="data:image/png;base64,{data}"></div>'
    )
