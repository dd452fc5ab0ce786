"""Pictures, as PNG: sounds, folders of sounds, time grids, how a training goes. No screen is needed.

They have no background, and what is written in them is read on a light and on a dark one.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import zip_longest

import numpy as np

from ..audio.io import peak_dbfs
from ..schedule import GRIDS, time_grid
from .shown import Shown

BLUE, ORANGE = "#3b82f6", "#d97706"
GREY = "#797979"  # as far from white as from the dark themes' #111: 4.4
_COLUMNS = 4
_CURVE_POINTS = 60


def picture(sound: Shown) -> bytes:
    """Draw the waveform (full scale at the edges) above the mel spectrogram (80 dB); returns a PNG of 560 x 280.

    Lines mark where something was filled in or added.
    """
    from matplotlib.figure import Figure

    mono = sound.audio.mean(axis=0)
    figure = Figure(figsize=(5.6, 2.8), dpi=100)
    upper, lower = figure.subplots(2, 1, gridspec_kw={"hspace": 0.04})
    low, high = _envelope(mono, 560)
    upper.fill_between(np.arange(len(low)), low, high, color=BLUE, linewidth=0.6)
    upper.set(xlim=(0, max(len(low) - 1, 1)), ylim=(-1, 1))
    _draw_spectrogram(lower, mono, sound.sample_rate, 560)
    for axes in (upper, lower):
        axes.axis("off")
        for place in sound.marks:
            first, last = axes.get_xlim()
            axes.axvline(first + place * (last - first), color=ORANGE, linewidth=1.5)
    figure.subplots_adjust(0, 0, 1, 1)
    return _png(figure)


def waveform_picture(audio: np.ndarray) -> bytes:
    """Draw a waveform by itself, as high as it goes; returns a PNG of 1120 x 160.

    Args:
        audio: (channels, frames).
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.2, 1.6), dpi=100)
    axes = figure.subplots()
    low, high = _envelope(audio.mean(axis=0), 1120)
    axes.fill_between(np.arange(len(low)), low, high, color=BLUE, linewidth=0.6)
    most = max(np.abs(low).max(), np.abs(high).max(), 1e-4)
    axes.set(xlim=(0, max(len(low) - 1, 1)), ylim=(-most, most))
    axes.axis("off")
    figure.subplots_adjust(0, 0, 1, 1)
    return _png(figure)


def seam_picture(audio: np.ndarray, sample_rate: int) -> bytes:
    """Draw the last and the first 10 ms of a loop, joined as they are heard; returns a PNG of 560 x 160."""
    from matplotlib.figure import Figure

    n = min(round(0.01 * sample_rate), audio.shape[-1] // 2)
    around = np.concatenate([audio[:, -n:], audio[:, :n]], axis=1).mean(axis=0)
    figure = Figure(figsize=(5.6, 1.6), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color=ORANGE, linewidth=1.5)
    axes.plot(np.arange(-n, n) / sample_rate * 1000, around, color=BLUE, linewidth=1)
    most = 1.1 * max(np.abs(around).max(), 1e-4)
    axes.set(xlabel="ms from the seam", ylim=(-most, most), xlim=(-10, 10))
    _in_grey(axes)
    return _png(figure)


def beat_picture(tracks: Mapping[str, str]) -> bytes:
    """Draw the steps of a beat, louder ones more solid; returns a PNG."""
    from matplotlib.figure import Figure

    length = max(map(len, tracks.values()))
    figure = Figure(figsize=(0.9 + 0.22 * length, 0.5 + 0.26 * len(tracks)), dpi=100, layout="constrained")
    axes = figure.subplots()
    for row, steps in enumerate(tracks.values()):
        for k in range(length):
            step = steps[k % len(steps)]
            loud = 0.0 if step == "." else 0.25 + 0.75 * int(step) / 9
            axes.add_patch(_square(k, row, BLUE if loud else GREY, loud or 0.15))
    for beat in range(0, length + 1, 4):
        axes.axvline(beat, color=GREY, linewidth=1.5 if beat % 16 == 0 else 0.5)
    axes.set(xlim=(0, length), ylim=(len(tracks), 0), yticks=np.arange(len(tracks)) + 0.5, yticklabels=tracks)
    axes.set(xticks=np.arange(0, length, 4) + 0.5, xticklabels=np.arange(0, length, 4) + 1)
    axes.tick_params(colors=GREY, length=0)
    axes.spines[:].set_visible(False)
    return _png(figure)


def _square(column: int, row: int, color: str, alpha: float):
    from matplotlib.patches import Rectangle

    return Rectangle((column + 0.08, row + 0.12), 0.84, 0.76, color=color, alpha=alpha, linewidth=0)


def contact_sheet(sounds: Sequence[Shown]) -> bytes:
    """Draw what sounds look like, side by side: each spectrogram below its name and peak; returns a PNG."""
    from matplotlib.figure import Figure

    rows = -(-len(sounds) // _COLUMNS)
    figure = Figure(figsize=(9, 0.2 + 1.5 * rows), dpi=150, layout="constrained")
    for axes, sound in zip_longest(figure.subplots(rows, _COLUMNS, squeeze=False).flat, sounds):
        axes.axis("off")
        if sound is not None:
            _draw_spectrogram(axes, sound.audio.mean(axis=0), sound.sample_rate, 280)
            axes.set_title(f"{sound.name}\npeak {peak_dbfs(sound.audio):.1f} dBFS", fontsize=8, color=GREY)
    return _png(figure)


def waveform_sheet(sounds: Sequence[Shown]) -> bytes:
    """Draw the waveforms of sounds side by side, each as high as it goes, below its name and peak; returns a PNG."""
    from matplotlib.figure import Figure

    rows = -(-len(sounds) // _COLUMNS)
    figure = Figure(figsize=(9, 0.8 * rows), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, _COLUMNS), ylim=(rows, 0))  # one for all: hundreds take seconds
    axes.axis("off")
    for i, sound in enumerate(sounds):
        row, column = divmod(i, _COLUMNS)
        low, high = _envelope(sound.audio.mean(axis=0), 210)
        height = 0.32 / max(np.abs(low).max(), np.abs(high).max(), 1e-4)
        across = column + np.linspace(0.03, 0.97, len(low))
        axes.fill_between(across, row + 0.65 - height * low, row + 0.65 - height * high, color=BLUE, linewidth=0.6)
        name = sound.name if len(sound.name) <= 36 else f"{sound.name[:18]}…{sound.name[-17:]}"
        title = f"{name}, {peak_dbfs(sound.audio):.0f} dB"
        axes.text(column + 0.5, row + 0.22, title, fontsize=6, color=GREY, ha="center")
    return _png(figure)


def _draw_spectrogram(axes, mono: np.ndarray, sample_rate: int, columns: int) -> None:
    import librosa

    top = min(20_000, sample_rate // 2)
    hop = max(32, len(mono) // columns)
    long_enough = np.pad(mono, (0, max(0, 1024 - len(mono))))
    mel = librosa.feature.melspectrogram(
        y=long_enough, sr=sample_rate, n_fft=1024, hop_length=hop, n_mels=64, fmin=20, fmax=top
    )
    decibels = 10 * np.log10(np.maximum(mel, 1e-10))  # one scale for all: 0 dB is about a full-scale tone
    axes.imshow(decibels, origin="lower", aspect="auto", cmap="magma", vmin=-60, vmax=20)


def grids_picture(steps: int) -> bytes:
    """Draw how loud the noise is beside the sound, in dB, after each step of each time grid; returns a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2), dpi=100, layout="constrained")
    axes = figure.subplots()
    for name in GRIDS:
        phi = time_grid(name, steps)[1:-1].numpy() * np.pi / 2  # the ends are infinitely loud and silent
        axes.plot(np.arange(1, steps), 20 * np.log10(np.tan(phi)), ".-", label=name)
    axes.set(xlabel="step", ylabel="noise beside sound, dB", xlim=(0, steps))
    axes.legend(frameon=False, labelcolor=GREY)
    _in_grey(axes)
    return _png(figure)


def loss_picture(losses: Sequence[tuple[int, float]], validations: Sequence[tuple[int, float]], steps: int) -> bytes:
    """Draw how the error falls: means of neighbouring steps, and what was measured on held-out sounds; returns a PNG.

    Args:
        losses: (step, loss) of each step of training.
        validations: (step, validation loss), where there is one.
        steps: where the axis ends.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.8), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.set_yscale("log")  # the first steps gain more than all the others
    if losses:
        # a step's own loss jumps, as it depends on how noisy its few clips were made
        groups = np.array_split(np.array(losses), min(_CURVE_POINTS, max(1, len(losses) // 5)))
        axes.plot(*np.array([group.mean(axis=0) for group in groups]).T, ".-", color=BLUE, label="training")
    if validations:
        axes.plot(*zip(*validations, strict=True), "o-", color=ORANGE, markersize=4, label="held-out sounds")
        best = min(validations, key=lambda point: point[1])
        axes.plot(*best, "o", color=ORANGE, markersize=11, fillstyle="none", clip_on=False)
    axes.set(xlabel="step", xlim=(0, steps))
    axes.set_title("error of the network: down is better", color=GREY, fontsize=10, loc="left")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.yaxis.get_minor_locator().set_params(subs=(2, 5))
    if losses or validations:
        axes.legend(frameon=False, labelcolor=GREY)
    _in_grey(axes)
    return _png(figure)


def _in_grey(axes) -> None:
    axes.tick_params(which="both", colors=GREY)
    axes.xaxis.label.set_color(GREY)
    axes.yaxis.label.set_color(GREY)
    axes.spines[:].set_color(GREY)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)


def _png(figure) -> bytes:
    png = io.BytesIO()
    figure.savefig(png, format="png", transparent=True)
    return png.getvalue()


def _envelope(mono: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest sample of each picture column."""
    edges = np.linspace(0, len(mono), min(columns, len(mono)) + 1).astype(int)[:-1]
    return np.minimum.reduceat(mono, edges), np.maximum.reduceat(mono, edges)
