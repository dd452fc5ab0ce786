"""What notebooks show: players, pictures, progress. The only module that knows about a screen.

Players are plain HTML with the sound inside, so they survive in a saved notebook, play while the kernel is busy,
and show level instead of hiding it: no clip is normalised, and one that is turned down says so. Text takes the
theme's own colour. Only widgets that ipywidgets 7.7.1 (Colab) and 8 (JupyterLab) have in common are used.
"""

from __future__ import annotations

import base64
import html
import io
import time
import warnings
from collections.abc import Iterable, Sequence
from itertools import chain, zip_longest

import ipywidgets
import numpy as np
import soundfile
from IPython.display import Image, display
from torch import Tensor

from .audio import CEILING_DBFS, peak_dbfs, resample
from .dataset import Sound
from .doctor import DatasetReport, duration, shown
from .schedule import GRIDS, time_grid
from .verbs import Clip, Clips

OUTPUT_LIMIT_BYTES = 8_000_000
"""Colab refuses a cell output of more than about 10 MB; pictures included. Above this sum players get previews."""

PREVIEW_RATE = 22_050
_PICTURE_BYTES = 150_000  # a spectrogram of noise, the largest there is, as text
_REFRESH_S = 0.1


def player(clips: Clips | Clip | Sequence[Clip]) -> ipywidgets.Box:
    """Show each clip with a player, its waveform and its spectrogram, as widgets.

    Args:
        clips: what a verb returned, or one clip of it.

    Returns:
        A box with one box per clip, to display or to put into a panel.
    """
    cards, note = _cards(_as_list(clips))
    layout = ipywidgets.Layout(width="300px", margin="0 16px 16px 0", align_items="flex-start")
    picture_layout = ipywidgets.Layout(width="280px")
    boxes = [
        ipywidgets.VBox(
            [
                ipywidgets.HTML(_caption(clip) + audio),
                ipywidgets.Image(value=png, format="png", layout=picture_layout),
            ],
            layout=layout,
        )
        for clip, audio, png in cards
    ]
    grid = ipywidgets.Box(boxes, layout=ipywidgets.Layout(flex_flow="row wrap"))
    return ipywidgets.VBox([grid, ipywidgets.HTML(note)]) if note else grid


def clips_html(clips: Clips | Clip | Sequence[Clip]) -> str:
    """Return the same as ``player`` as one piece of HTML, which stays playable in a saved notebook."""
    cards, note = _cards(_as_list(clips))
    boxes = [
        f'<div style="display:inline-block;vertical-align:top;width:300px;margin:0 16px 16px 0">{_caption(clip)}'
        f'{audio}<br><img alt="waveform and spectrogram of {html.escape(clip.name)}" width="280" '
        f'src="data:image/png;base64,{base64.b64encode(png).decode()}"></div>'
        for clip, audio, png in cards
    ]
    return f"<div>{''.join(boxes) or 'No clips: the run was interrupted before the first was finished.'}</div>{note}"


def picture(clip: Clip) -> bytes:
    """Draw the waveform (full scale at the edges) above the mel spectrogram (80 dB); returns a PNG of 560 x 280."""
    from matplotlib.figure import Figure

    mono = clip.audio.mean(axis=0)
    figure = Figure(figsize=(5.6, 2.8), dpi=100)
    figure.patch.set_alpha(0)
    upper, lower = figure.subplots(2, 1, gridspec_kw={"hspace": 0.04})
    low, high = _envelope(mono, 560)
    upper.fill_between(np.arange(len(low)), low, high, color="#3b82f6", linewidth=0.6)
    upper.set(xlim=(0, max(len(low) - 1, 1)), ylim=(-1, 1))
    _draw_spectrogram(lower, mono, clip.sample_rate, 560)
    for axes in (upper, lower):
        axes.axis("off")
    figure.subplots_adjust(0, 0, 1, 1)
    png = io.BytesIO()
    figure.savefig(png, format="png", transparent=True)
    return png.getvalue()


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


def dataset_html(report: DatasetReport) -> str:
    """Return a report on a folder of sounds, with its picture, as one piece of HTML."""
    sections = "".join(
        f"<b>{html.escape(heading)}</b><ul>{''.join(f'<li>{html.escape(line)}</li>' for line in lines)}</ul>"
        for heading, lines in report.sections().items()
    )
    data = base64.b64encode(dataset_picture(report)).decode()
    name = html.escape(shown(report.folder))
    return (
        f"<div><b>Sounds in {name}</b><br>{sections}"
        f'<img alt="lengths and spectrograms of the sounds in {name}" style="width:800px;max-width:100%" '
        f'src="data:image/png;base64,{data}"></div>'
    )


_GREY = "#797979"  # as far from white as from the dark themes' #111: 4.4
_SPECTROGRAMS = 16
_COLUMNS = 4
_SPECTROGRAM_S = 4.0


def dataset_picture(report: DatasetReport) -> bytes:
    """Draw how long the sounds are, and spectrograms of up to 16 of them, from every class; returns a PNG."""
    from matplotlib.figure import Figure

    chosen = _spread(report.data.sounds, _SPECTROGRAMS)
    rows = -(-len(chosen) // _COLUMNS)
    heights = [1.6, *[1.1] * rows]
    figure = Figure(figsize=(9, sum(heights) + 0.7 + 0.3 * rows), dpi=150, layout="constrained")
    figure.patch.set_alpha(0)
    grid = figure.add_gridspec(1 + rows, _COLUMNS, height_ratios=heights)
    _draw_lengths(figure.add_subplot(grid[0, :]), report)
    for place, i in enumerate(chosen):
        axes = figure.add_subplot(grid[1 + place // _COLUMNS, place % _COLUMNS])
        sound, rate = report.data.sounds[i], report.data.sample_rate
        _draw_spectrogram(axes, report.data.sound(i)[:, : int(_SPECTROGRAM_S * rate)].mean(axis=0), rate, 280)
        axes.set_title(_title(sound), fontsize=10, color=_GREY)
        axes.axis("off")
    png = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # boxes for what the font lacks; the text has the names
        figure.savefig(png, format="png", transparent=True)
    return png.getvalue()


def _draw_lengths(axes, report: DatasetReport) -> None:
    """A histogram of lengths, on a logarithmic axis: from a click to a loop."""
    lengths = [s.duration_s for s in report.data.sounds]
    clip_s = report.clip_frames and report.clip_frames / report.data.sample_rate
    ends = [*lengths, clip_s] if clip_s else lengths
    bars = min(40, 10 + len(lengths) // 4)
    axes.hist(lengths, np.geomspace(min(ends) / 1.2, max(ends) * 1.2, bars), color="#3b82f6")
    if clip_s:
        axes.axvline(clip_s, color="#d97706", linewidth=2)
    line = f"; the line: a clip of the checkpoint, {duration(clip_s)}" if clip_s else ""
    axes.set_xscale("log")
    axes.xaxis.get_major_locator().set_params(subs=(1, 2, 5))
    axes.xaxis.set_major_formatter(lambda seconds, _: f"{seconds:g} s")
    axes.xaxis.set_minor_formatter("")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_title(f"how many sounds are how long{line}", color=_GREY, fontsize=10, loc="left")
    axes.tick_params(which="both", colors=_GREY)
    axes.spines[:].set_color(_GREY)
    axes.spines[["top", "right"]].set_visible(False)


def _spread(sounds: Sequence[Sound], n: int) -> list[int]:
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


class Snapshots:
    """Keep the clean estimates of some steps, to hear a sound come out of the noise: ``generate(..., on_step=...)``.

    Meant for one clip; of more clips the first steps are kept.

    Args:
        at: which steps to keep, counted from 1.
    """

    def __init__(self, at: Iterable[int]):
        self.at, self.kept = set(at), {}

    def __call__(self, done: int, total: int, denoised: Tensor) -> None:
        if done in self.at:
            self.kept[done] = denoised[0].float().cpu().numpy()

    def show(self, clips: Clips) -> ipywidgets.Box:
        """Show a player per estimate; ``clips`` is what the run returned."""
        made, frames = clips[0], clips.audio.shape[-1]
        names = {step: {"model": {"name": f"step {step}"}} for step in self.kept}
        return player([Clip(x[:, :frames], made.sample_rate, made.seed, names[i]) for i, x in self.kept.items()])


def draw_grids(steps: int) -> Image:
    """Draw how loud the noise is beside the sound, in dB, after each step of each time grid; returns a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2), dpi=100, layout="constrained")
    axes = figure.subplots()
    for name in GRIDS:
        phi = time_grid(name, steps)[1:-1].numpy() * np.pi / 2  # the ends are infinitely loud and silent
        axes.plot(np.arange(1, steps), 20 * np.log10(np.tan(phi)), ".-", label=name)
    axes.set(xlabel="step", ylabel="noise beside sound, dB", xlim=(0, steps))
    axes.grid(alpha=0.3)
    axes.legend()
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return Image(png.getvalue(), format="png")


class Progress:
    """A bar with the time left, for ``on_step=`` and ``on_progress=``: ``generate(ckpt, on_step=widgets.Progress())``.

    It appears with the first call, and says how to stop.
    """

    def __init__(self, what: str = "generating"):
        self.what, self.bar, self.started, self.shown = html.escape(what), None, 0.0, 0.0

    def __call__(self, done: int, total: int | None, *denoised: object) -> None:
        now = time.monotonic()
        if self.bar is None:
            self.started, self.hint = now, " (the stop button keeps what is finished)" if denoised else ""
            self.bar, self.label = ipywidgets.IntProgress(min=0, max=1000), ipywidgets.HTML()
            display(ipywidgets.HBox([self.bar, self.label]))
        finished = total is not None and done >= total
        if finished or now - self.shown >= _REFRESH_S:
            self.shown = now
            self.bar.value = 1000 * done // total if total else 0
            self.label.value = self._text(done, total, now - self.started)

    def _text(self, done: int, total: int | None, elapsed_s: float) -> str:
        if not total:
            return f"{self.what}: {done / 1e6:.0f} MB"
        if done >= total:
            return f"{self.what}: done in {_words(elapsed_s)}"
        return f"{self.what}: {_words(elapsed_s * (total - done) / max(done, 1))} left{self.hint}"


def _words(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _as_list(clips: Clips | Clip | Sequence[Clip]) -> list[Clip]:
    return [clips] if isinstance(clips, Clip) else list(clips)


def _cards(clips: list[Clip]) -> tuple[list[tuple[Clip, str, bytes]], str]:
    """Clip, player and picture of as many clips as one output can hold, and a note where that took a compromise."""
    whole = sum(clip.audio.size * 2 * 4 / 3 + _PICTURE_BYTES for clip in clips) <= OUTPUT_LIMIT_BYTES
    cards, size = [], 0.0
    for clip in clips:
        audio, png = _audio(clip if whole else _preview(clip)), picture(clip)
        size += len(audio) + len(png) * 4 / 3
        if size > OUTPUT_LIMIT_BYTES:
            break
        cards.append((clip, audio, png))
    left = len(clips) - len(cards)
    note = "" if whole else "Many sounds at once: the players hold mono previews; saved files are whole."
    more = f" {left} more do not fit here: show them as clips[{len(cards)}:]." if left else ""
    return cards, f"<p>{note}{more}</p>" if note else ""


def _preview(clip: Clip) -> Clip:
    rate = min(PREVIEW_RATE, clip.sample_rate)
    mono = resample(clip.audio.mean(axis=0, keepdims=True), clip.sample_rate, rate)
    return Clip(mono, rate, clip.seed, clip.settings)


def _caption(clip: Clip) -> str:
    peak = peak_dbfs(clip.audio)
    over = peak > 0
    level = "silent" if np.isinf(peak) else f"peak {peak:.1f} dBFS"
    clipped = f", turned down by {peak - CEILING_DBFS:.0f} dB to be heard" if over else ""
    name, making = html.escape(clip.name), clip.settings.get("making", {})
    how = f", {making['sampler']}, {making['steps']} steps" if "sampler" in making else ""
    details = f"{clip.duration_s:.2f} s{html.escape(how)}, {level}{clipped}"
    return f"<div><b>{name}</b><br><span style='opacity:.7'>{details}</span></div>"


def _audio(clip: Clip) -> str:
    """An audio element with a 16-bit WAV inside; a clip over full scale is turned down, as ``save`` does it."""
    wav = io.BytesIO()
    peak = np.abs(clip.audio).max(initial=0.0)
    fitting = clip.audio * (10 ** (CEILING_DBFS / 20) / peak) if peak > 1 else clip.audio
    soundfile.write(wav, fitting.T, clip.sample_rate, "PCM_16", format="WAV")
    data = base64.b64encode(wav.getvalue()).decode()
    label = html.escape(f"{clip.name}, {clip.duration_s:.1f} seconds")
    return (
        f'<audio controls preload="auto" aria-label="{label}" style="width:280px" '
        f'src="data:audio/wav;base64,{data}"></audio>'
    )


def _envelope(mono: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest sample of each picture column."""
    edges = np.linspace(0, len(mono), min(columns, len(mono)) + 1).astype(int)[:-1]
    return np.minimum.reduceat(mono, edges), np.maximum.reduceat(mono, edges)
