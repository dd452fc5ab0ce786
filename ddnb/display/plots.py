"""Pictures as PNG: sounds, loops, beats, time grids, training curves. No screen is needed.

They have no background, and their text is legible on light and on dark pages.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np

from ..audio.io import peak_dbfs
from ..runtime import import_librosa, prepare_libraries
from ..schedule import GRIDS, time_grid
from .shown import Shown
from .text import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE = "#3b82f6", "#d97706"
GREY = "#797979"  # contrast of 4.4 on white and on the dark themes' #111
SHEET_COLUMNS = 4
_TITLE = 30  # characters of a name at most
_CURVE_POINTS = 60
_LOWEST_HZ, _HIGHEST_HZ = 20, 20_000
_FREQUENCIES = {100: "100", 1000: "1k", 10_000: "10k"}
_RANGE_DB = (-60, 20)  # of spectrograms; 0 dB is about a full-scale tone


def picture(sound: Shown) -> bytes:
    """Draw waveform and mel spectrogram with axes in seconds, dBFS and Hz; return a PNG of 560 x 300.

    The waveform's axis reaches its peak, the spectrogram's colours span 80 dB. Lines mark where something was filled in
    or added.
    """
    mono, seconds = sound.audio.mean(axis=0), sound.duration_s
    figure = new_figure(5.6, 3.0)
    upper, lower = figure.subplots(2, 1, sharex=True, gridspec_kw={"hspace": 0.06})
    low, high = _envelope(mono, 500)
    upper.fill_between(np.linspace(0, seconds, len(low)), low, high, color=BLUE, linewidth=0.6)
    peak = max(np.abs(low).max(), np.abs(high).max(), 1e-4)
    level = f"{20 * np.log10(peak):.0f} dB".replace("-0 ", "0 ")
    upper.set(xlim=(0, seconds), ylim=(-peak, peak), yticks=(-peak, 0, peak), yticklabels=(level, "", level))
    draw_spectrogram(lower, mono, sound.sample_rate, 500)
    for axes in (upper, lower):
        for place in sound.marks:
            axes.axvline(place * seconds, color=ORANGE, linewidth=1.5)
        style_axes(axes, size=13, grid=False)
    upper.tick_params(labelbottom=False, length=0)
    lower.xaxis.set_major_formatter(lambda second, _: f"{second:g} s")
    lower.xaxis.get_major_locator().set_params(nbins=5)
    figure.subplots_adjust(left=0.11, right=0.975, top=0.97, bottom=0.11)
    return to_png(figure)


def waveform_picture(audio: np.ndarray) -> bytes:
    """Draw a waveform by itself, scaled to its peak; return a PNG of 1120 x 160.

    Args:
        audio: (channels, frames).
    """
    figure = new_figure(11.2, 1.6)
    axes = figure.subplots()
    low, high = _envelope(audio.mean(axis=0), 1120)
    axes.fill_between(np.arange(len(low)), low, high, color=BLUE, linewidth=0.6)
    peak = max(np.abs(low).max(), np.abs(high).max(), 1e-4)
    axes.set(xlim=(0, max(len(low) - 1, 1)), ylim=(-peak, peak))
    axes.axis("off")
    figure.subplots_adjust(0, 0, 1, 1)
    return to_png(figure)


def seam_picture(audio: np.ndarray, sample_rate: int) -> bytes:
    """Draw the last and the first 10 ms of a loop, joined as they are played; return a PNG of 560 x 160."""
    n = min(round(0.01 * sample_rate), audio.shape[-1] // 2)
    around = np.concatenate([audio[:, -n:], audio[:, :n]], axis=1).mean(axis=0)
    figure = new_figure(5.6, 1.6, layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color=ORANGE, linewidth=1.5)
    axes.plot(np.arange(-n, n) / sample_rate * 1000, around, color=BLUE, linewidth=1)
    peak = 1.1 * max(np.abs(around).max(), 1e-4)
    axes.set(xlabel="ms from the seam", ylim=(-peak, peak), xlim=(-10, 10))
    style_axes(axes)
    return to_png(figure)


def beat_picture(tracks: Mapping[str, str]) -> bytes:
    """Draw the steps of a beat, louder ones more solid; return a PNG."""
    from matplotlib.patches import Rectangle

    length, names = max(map(len, tracks.values())), [shortened(track, _TITLE) for track in tracks]
    figure = new_figure(0.9 + 0.22 * length, 0.5 + 0.26 * len(tracks), layout="constrained")
    axes = figure.subplots()
    for row, steps in enumerate(tracks.values()):
        for k in range(length):
            step = steps[k % len(steps)]
            loud = 0.0 if step == "." else 0.25 + 0.75 * int(step) / 9
            color, alpha = (BLUE, loud) if loud else (GREY, 0.15)
            axes.add_patch(Rectangle((k + 0.08, row + 0.12), 0.84, 0.76, color=color, alpha=alpha, linewidth=0))
    for beat in range(0, length + 1, 4):
        axes.axvline(beat, color=GREY, linewidth=1.5 if beat % 16 == 0 else 0.5)
    axes.set(xlim=(0, length), ylim=(len(tracks), 0), yticks=np.arange(len(tracks)) + 0.5, yticklabels=names)
    axes.set(xticks=np.arange(0, length, 4) + 0.5, xticklabels=np.arange(0, length, 4) + 1)
    axes.tick_params(colors=GREY, length=0)
    axes.spines[:].set_visible(False)
    return to_png(figure)


def contact_sheet(sounds: Sequence[Shown]) -> bytes:
    """Draw the spectrograms of sounds side by side, each below its name, length and peak; return a PNG."""
    rows = -(-len(sounds) // SHEET_COLUMNS)
    figure = new_figure(9, 0.2 + 1.5 * rows, dpi=150, layout="constrained")
    for axes, sound in zip_longest(figure.subplots(rows, SHEET_COLUMNS, squeeze=False).flat, sounds):
        if sound is None:
            axes.axis("off")
        else:
            draw_spectrogram(axes, sound.audio.mean(axis=0), sound.sample_rate, 280)
            axes.axis("off")
            about = f"{sound.duration_s:.2f} s, peak {peak_dbfs(sound.audio):.1f} dBFS"
            axes.set_title(f"{shortened(sound.name, _TITLE)}\n{about}", fontsize=8, color=GREY)
    return to_png(figure)


def waveform_sheet(sounds: Sequence[Shown]) -> bytes:
    """Draw the waveforms of sounds side by side, each scaled to its peak, below its name, length and peak; return a
    PNG.
    """
    rows = -(-len(sounds) // SHEET_COLUMNS)
    figure = new_figure(9, 0.8 * rows)
    axes = figure.add_axes(
        (0, 0, 1, 1), xlim=(0, SHEET_COLUMNS), ylim=(rows, 0)
    )  # one for all: hundreds of axes would take seconds
    axes.axis("off")
    for i, sound in enumerate(sounds):
        row, column = divmod(i, SHEET_COLUMNS)
        low, high = _envelope(sound.audio.mean(axis=0), 210)
        height = 0.32 / max(np.abs(low).max(), np.abs(high).max(), 1e-4)
        across = column + np.linspace(0.03, 0.97, len(low))
        axes.fill_between(across, row + 0.65 - height * low, row + 0.65 - height * high, color=BLUE, linewidth=0.6)
        title = f"{shortened(sound.name, _TITLE)}, {sound.duration_s:.2f} s, {peak_dbfs(sound.audio):.0f} dB"
        axes.text(column + 0.5, row + 0.22, title, fontsize=6, color=GREY, ha="center")
    return to_png(figure)


def draw_spectrogram(axes: Axes, mono: np.ndarray, sample_rate: int, columns: int) -> None:
    """Draw a mel spectrogram with seconds on one axis and frequencies on the other."""
    librosa = import_librosa()

    top = min(_HIGHEST_HZ, sample_rate // 2)
    hop = max(32, len(mono) // columns)
    padded = np.pad(mono, (0, max(0, 1024 - len(mono))))
    mel = librosa.feature.melspectrogram(
        y=padded, sr=sample_rate, n_fft=1024, hop_length=hop, n_mels=64, fmin=_LOWEST_HZ, fmax=top
    )
    decibels = 10 * np.log10(np.maximum(mel, 1e-10))
    low, high = librosa.hz_to_mel([_LOWEST_HZ, top])
    axes.imshow(
        decibels,
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=_RANGE_DB[0],
        vmax=_RANGE_DB[1],
        extent=(0, len(padded) / sample_rate, low, high),
    )
    axes.set_xlim(0, len(mono) / sample_rate)
    ticks = [hz for hz in _FREQUENCIES if hz < top]
    axes.set_yticks(librosa.hz_to_mel(ticks), [_FREQUENCIES[hz] for hz in ticks])


def grids_picture(steps: int) -> bytes:
    """Draw the noise level relative to the sound, in dB, after each step of each time grid; return a PNG."""
    figure = new_figure(7, 3.2, layout="constrained")
    axes = figure.subplots()
    for name in GRIDS:
        phi = time_grid(name, steps)[1:-1].numpy() * np.pi / 2  # at the ends it is infinite and zero
        axes.plot(np.arange(1, steps), 20 * np.log10(np.tan(phi)), ".-", label=name)
    axes.set(xlabel="step", ylabel="noise level re sound, dB", xlim=(0, steps))
    axes.legend(frameon=False, labelcolor=GREY)
    style_axes(axes)
    return to_png(figure)


def loss_picture(losses: Sequence[tuple[int, float]], validations: Sequence[tuple[int, float]], steps: int) -> bytes:
    """Draw the training loss, averaged over neighbouring steps, and the validation loss; return a PNG.

    Args:
        losses: (step, loss) of each training step.
        validations: (step, validation loss) of each validation.
        steps: end of the axis.
    """
    from matplotlib.ticker import LogLocator

    figure = new_figure(7, 2.8, layout="constrained")
    axes = figure.subplots()
    axes.set_yscale("log")  # the first steps gain more than all others
    if losses:
        # the loss of a single step varies with the noise levels of its few clips
        groups = np.array_split(np.array(losses), min(_CURVE_POINTS, max(1, len(losses) // 5)))
        axes.plot(*np.array([group.mean(axis=0) for group in groups]).T, ".-", color=BLUE, label="training")
    if validations:
        axes.plot(*zip(*validations, strict=True), "o-", color=ORANGE, markersize=4, label="held-out sounds")
        best = min(validations, key=lambda point: point[1])
        axes.plot(*best, "o", color=ORANGE, markersize=11, fillstyle="none", clip_on=False)
    axes.set(xlabel="step", xlim=(0, steps))
    axes.set_title("loss (lower is better)", color=GREY, fontsize=10, loc="left")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    if losses or validations:
        axes.legend(frameon=False, labelcolor=GREY)
    style_axes(axes)
    return to_png(figure)


def new_figure(width: float, height: float, dpi: int = 100, layout: str | None = None) -> Figure:
    """Return an empty figure of this size in inches, without a screen."""
    prepare_libraries()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=dpi, layout=layout)  # type: ignore[arg-type]


def style_axes(axes: Axes, size: int | None = None, grid: bool = True) -> None:
    """Draw axes in grey, without a frame, legible on light and on dark pages."""
    axes.tick_params(which="both", colors=GREY, labelsize=size)
    axes.xaxis.label.set_color(GREY)
    axes.yaxis.label.set_color(GREY)
    axes.spines[:].set_color(GREY)
    axes.spines[["top", "right"]].set_visible(False)
    if grid:
        axes.grid(alpha=0.3)


def to_png(figure: Figure) -> bytes:
    """Return a figure as PNG with a transparent background. All text is plain: dollars in a name are no mathematics."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_usetex(False)
    png = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # characters that the font lacks are drawn as boxes
        figure.savefig(png, format="png", transparent=True)
    return png.getvalue()


def _envelope(mono: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest sample of each picture column."""
    edges = np.linspace(0, len(mono), min(columns, len(mono)) + 1).astype(int)[:-1]
    return np.minimum.reduceat(mono, edges), np.maximum.reduceat(mono, edges)
