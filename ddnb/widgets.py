"""What notebooks show: players, pictures, progress, training. The only module that knows about a screen.

Players are plain HTML with the sound inside, so they survive in a saved notebook, play while the kernel is busy,
and show level instead of hiding it: no clip is normalised, and one that is turned down says so. Text takes the
theme's own colour. Only widgets that ipywidgets 7.7.1 (Colab) and 8 (JupyterLab) have in common are used.
"""

from __future__ import annotations

import base64
import csv
import html
import io
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import ipywidgets
import numpy as np
import soundfile
from IPython.display import HTML, Image, display
from torch import Tensor

from .audio import CEILING_DBFS, peak_dbfs, resample
from .beats import Beat
from .checkpoints import Checkpoint
from .clips import Clip, Clips
from .doctor import DatasetReport, shown
from .loops import BPM
from .pictures import (
    BLUE,
    beat_picture,
    dataset_picture,
    grids_picture,
    loss_picture,
    picture,
    seam_picture,
    spread,
)
from .training import Record
from .verbs import generate

OUTPUT_LIMIT_BYTES = 8_000_000
"""Colab refuses a cell output of more than about 10 MB; pictures included. Above this sum players get previews."""

PREVIEW_RATE = 22_050
_PICTURE_BYTES = 150_000  # a spectrogram of noise, the largest there is, as text
_REFRESH_S = 0.1
_REDRAW_S = 2.0


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
    style = "display:inline-block;vertical-align:top;width:300px;margin:0 16px 16px 0"
    boxes = [f'<div style="{style}">{_card_html(*card)}</div>' for card in cards]
    return f"<div>{''.join(boxes) or 'No clips: the run was interrupted before the first was finished.'}</div>{note}"


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


class _Titled(Clip):
    """A sound that is called what its settings say."""

    @property
    def name(self) -> str:
        return self.settings["title"]


def dataset_player(report: DatasetReport, n: int = 6) -> ipywidgets.Box:
    """Show up to ``n`` of the sounds that a report is about, from every class, with players; 10 s of each at most."""
    data, most = report.data, 10 * report.data.sample_rate
    clips = []
    for i in spread(data.sounds, n):
        name = shown(data.sounds[i].name)
        title = f"{name}, the first 10 s" if data.sounds[i].frames > most else name
        clips.append(_Titled(data.sound(i)[:, :most], data.sample_rate, 0, {"title": title}))
    return player(clips)


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


def draw_seam(clip: Clip) -> Image:
    """Draw the last and the first 10 ms of a loop, joined as they are heard."""
    return Image(seam_picture(clip), format="png")


def draw_beat(beat: Beat) -> Image:
    """Draw the steps of a beat, louder ones more solid."""
    return Image(beat_picture(beat.tracks), format="png")


class Sequencer(ipywidgets.VBox):
    """A beat to be changed by clicking: each change renders it anew.

    A step goes from silent to loud to soft and back. With a checkpoint, the button beside a track makes another sound
    for it.

    Attributes:
        beat: the beat as it is now; ``sequencer.beat.save("out")`` keeps it.

    Args:
        beat: what ``ddnb.beat`` returned.
        ckpt: to make other sounds with.
    """

    def __init__(self, beat: Beat, ckpt: Checkpoint | None = None):
        self.beat, self._ckpt, self._lock = beat, ckpt, threading.RLock()
        self._seeds = {track: clip.seed for track, clip in beat.sounds.items()}
        self._bpm = ipywidgets.BoundedFloatText(
            value=beat.bpm, min=BPM[0], max=BPM[1], step=1, description="BPM", layout=ipywidgets.Layout(width="160px")
        )
        self._swing = ipywidgets.FloatSlider(value=beat.swing, min=0.5, max=0.75, step=0.01, description="swing")
        self._bpm.observe(lambda change: self._change(lambda: self.beat.with_(bpm=change["new"])), "value")
        self._swing.observe(lambda change: self._change(lambda: self.beat.with_(swing=change["new"])), "value")
        self._player = ipywidgets.HTML()
        rows = [self._row(track, steps) for track, steps in beat.tracks.items()]
        super().__init__([*rows, ipywidgets.HBox([self._bpm, self._swing]), self._player])
        self._change(lambda: self.beat)

    def _row(self, track: str, steps: str) -> ipywidgets.HBox:
        name = ipywidgets.Button(
            description=track.replace("_", " "),
            icon="random" if self._can_make(track) else "",
            tooltip=f"another {track.replace('_', ' ')}" if self._can_make(track) else track,
            disabled=not self._can_make(track),
            layout=ipywidgets.Layout(width="120px"),
        )
        name.on_click(lambda _: self._change(lambda: self._another(track)))
        return ipywidgets.HBox([name, *(self._step(track, k, step) for k, step in enumerate(steps))])

    def _step(self, track: str, k: int, step: str) -> ipywidgets.Button:
        margin = "0 1px 0 6px" if k % 4 == 0 else "0 1px"
        layout = ipywidgets.Layout(width="24px", padding="0", margin=margin)
        button = ipywidgets.Button(layout=layout, tooltip=f"{track.replace('_', ' ')}, step {k + 1}")
        self._paint(button, step)

        def turn(_: ipywidgets.Button) -> None:
            steps = self.beat.tracks[track]
            new = {".": "9"}.get(steps[k], "5" if steps[k] > "5" else ".")
            if self._change(lambda: self.beat.with_steps(track, steps[:k] + new + steps[k + 1 :])):
                self._paint(button, new)

        button.on_click(turn)
        return button

    def _paint(self, button: ipywidgets.Button, step: str) -> None:
        button.description = "" if step == "." else step
        button.style.button_color = None if step == "." else BLUE if step > "5" else "#93c5fd"

    def _can_make(self, track: str) -> bool:
        return self._ckpt is not None and track in self._ckpt.categories

    def _another(self, track: str) -> Beat:
        clips = generate(self._ckpt, 1, self._seeds[track] + 1, category=track)
        if not clips:
            raise RuntimeError("interrupted: the sound is as it was")
        self._seeds[track] += 1
        return self.beat.with_sound(track, clips[0])

    def _change(self, make: Callable[[], Beat]) -> bool:
        """Take over a new beat; one that cannot be is told about instead. A click may come in another thread."""
        with self._lock:
            try:
                beat = make()
                self._player.value = f"{_caption(beat.clip)}{_audio(beat.clip)}"
            except (ValueError, RuntimeError, MemoryError, ArithmeticError) as error:
                self._player.value = f"<b>{html.escape(str(error))}</b>"
                return False
            self.beat = beat
            return True


def draw_grids(steps: int) -> Image:
    """Draw how loud the noise is beside the sound, in dB, after each step of each time grid."""
    return Image(grids_picture(steps), format="png")


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


def follow(records: Generator[Record, None, None]) -> Iterator[Record]:
    """Show a training while it runs: how far it is, its curve, what is to be known.

    ``for _ in widgets.follow(ddnb.finetune(...)): pass``. The notebook's stop button ends the loop without an
    error; what is learned is kept, and the same cell goes on with it.

    Args:
        records: what ``ddnb.finetune`` returned.

    Yields:
        The same records.
    """
    view, how = _Training(), "stopped; run the same cell again to go on"
    try:
        while True:
            with warnings.catch_warnings(record=True) as said:  # else they stand below the cell, in red
                warnings.simplefilter("always")
                record = next(records, None)
            view.note(*(str(warning.message) for warning in said))
            if record is None:
                break
            view.add(record)
            yield record
    except KeyboardInterrupt:  # while drawing: one inside of finetune is settled there
        pass
    except Exception:
        how = "stopped by an error, see below"
        raise
    finally:
        records.close()  # saves what is learned
        view.end(how)


def curve(run: str | Path) -> Image:
    """Draw the whole curve of a run, from its log: of yesterday's too, and while another process trains."""
    with Path(run, "log.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    losses, validations = (
        [(int(row["step"]), float(row[name])) for row in rows if row[name]] for name in ("loss", "validation_loss")
    )
    return Image(loss_picture(losses, validations, int(rows[-1]["step"])), format="png")


def demos(run: str | Path) -> HTML:
    """Show what a run sounded like on its way: a row per step (first, middle and last of many), a column per sound.

    A column is always made from the same noise, so what differs from row to row was learned.

    Args:
        run: the run's folder.

    Raises:
        FileNotFoundError: there are no demos in it.
    """
    steps = sorted(Path(run, "demos").glob("step*"))
    if not steps:
        raise FileNotFoundError(f"{Path(run)} holds no demos; finetune(..., demos=4) makes some.")
    chosen = steps if len(steps) <= 3 else [steps[0], steps[len(steps) // 2], steps[-1]]
    files = [sorted(folder.glob("*.wav")) for folder in chosen]
    cards, note = _cards([_demo(path) for row in files for path in row], rest="listen to them in its folder")
    pictured = iter(cards)
    rows = []
    for folder, row in zip(chosen, files, strict=True):
        cells = (_card_html(*card) for _, card in zip(row, pictured, strict=False))
        step = int(folder.name.removeprefix("step"))
        style = 'style="text-align:left;vertical-align:top"'
        heading = f"step {step}" if step else "step 0, before"
        columns = "".join(f"<td {style}>{cell}</td>" for cell in cells)
        rows.append(f'<tr><th style="width:60px;text-align:left">{heading}</th>{columns}</tr>')
    return HTML(f'<table style="table-layout:fixed;width:100%;max-width:1000px">{"".join(rows)}</table>{note}')


def _demo(path: Path) -> Clip:
    audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return _Titled(audio.T, rate, 0, {"title": path.stem.replace("_seed", ", seed ")})


class _Training:
    """The widgets of ``follow``."""

    def __init__(self):
        self.losses: list[tuple[int, float]] = []
        self.validations: list[tuple[int, float]] = []
        self.notes: dict[str, None] = {}
        self.first = self.last = None
        self.started, self.draw_at, self.refresh_at = time.monotonic(), 0.0, 0.0
        self.bar, self.label = ipywidgets.IntProgress(min=0, max=1000), ipywidgets.HTML()
        self.curve = ipywidgets.Image(format="png", layout=ipywidgets.Layout(width="700px", display="none"))
        self.below = ipywidgets.HTML()
        self.label.value = "training: getting ready"
        self.curve.value = loss_picture([], [], 1)  # the first one takes a second: not while it is measured
        display(ipywidgets.VBox([ipywidgets.HBox([self.bar, self.label]), self.curve, self.below]))

    def add(self, record: Record) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first, self.started = record.step, now
        self.last = record
        if record.loss is not None:
            self.losses.append((record.step, record.loss))
        if record.validation_loss is not None:
            self.validations.append((record.step, record.validation_loss))
        if record.advice:
            self.note(record.advice)
        if now >= self.refresh_at:
            self.refresh_at = now + _REFRESH_S
            self._say(f"{self._left(now)}the stop button keeps what is learned")
        if now >= self.draw_at:
            self._draw()
            took = time.monotonic() - now
            self.draw_at = now + max(_REDRAW_S, 10 * took)  # a slow computer is to train, not to draw

    def note(self, *texts: str) -> None:
        """Show sentences below the curve, each once."""
        self.notes |= dict.fromkeys(texts)
        if texts:
            self.below.value = "<br>".join(map(html.escape, self.notes))

    def end(self, how: str) -> None:
        """Say how it ended, with the last curve; ``how`` is for one that did not come to its last step."""
        if self.last is None:
            self.label.value = f"training: {how if self.notes else 'nothing to do'}"
            return
        done = self.last.step == self.last.steps
        self._say(f"done in {_words(time.monotonic() - self.started)}" if done else how)
        self._draw()

    def _left(self, now: float) -> str:
        done = self.last.step - self.first
        return f"{_words((now - self.started) / done * (self.last.steps - self.last.step))} left; " if done else ""

    def _say(self, words: str) -> None:
        step, steps = self.last.step, self.last.steps
        self.bar.value = 1000 * step // steps
        measured = ""
        if self.validations:
            best_step, best = min(self.validations, key=lambda point: point[1])
            measured = f"<br>held-out error {self.validations[-1][1]:.4f}, the best {best:.4f} at step {best_step}"
        self.label.value = f"training, step {step} of {steps}: {words}{measured}"

    def _draw(self) -> None:
        self.curve.value = loss_picture(self.losses, self.validations, self.last.steps)
        self.curve.layout.display = ""


def _words(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _as_list(clips: Clips | Clip | Sequence[Clip]) -> list[Clip]:
    return [clips] if isinstance(clips, Clip) else list(clips)


def _card_html(clip: Clip, audio: str, png: bytes) -> str:
    return (
        f'{_caption(clip)}{audio}<br><img alt="waveform and spectrogram of {html.escape(clip.name)}" '
        f'style="width:280px;max-width:100%" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
    )


def _cards(clips: list[Clip], rest: str = "show them as clips[{}:]") -> tuple[list[tuple[Clip, str, bytes]], str]:
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
    more = f" {left} more do not fit here: {rest.format(len(cards))}." if left else ""
    return cards, f"<p>{note}{more}</p>" if note else ""


def _preview(clip: Clip) -> Clip:
    rate = min(PREVIEW_RATE, clip.sample_rate)
    mono = resample(clip.audio.mean(axis=0, keepdims=True), clip.sample_rate, rate)
    return replace(clip, audio=mono, sample_rate=rate)


def _caption(clip: Clip) -> str:
    peak = peak_dbfs(clip.audio)
    over = peak > 0
    level = "silent" if np.isinf(peak) else f"peak {peak:.1f} dBFS"
    clipped = f", turned down by {peak - CEILING_DBFS:.0f} dB to be heard" if over else ""
    name, making = html.escape(clip.name), clip.settings.get("making", {})
    how = f", {making['sampler']}, {making['steps']} steps" if "sampler" in making else ""
    how += f", strength {making['strength']:g}" if "strength" in making else ""
    how += f", {making['method']}, {making['steps']} steps" if "method" in making else ""
    seam = ", loop" if clip.loop else ""
    seam += "" if clip.seam_db is None else f", seam {clip.seam_db:+.0f} dB"
    details = f"{clip.duration_s:.2f} s{html.escape(how)}, {level}{clipped}{seam}"
    return f"<div style='overflow-wrap:anywhere'><b>{name}</b><br><span style='opacity:.7'>{details}</span></div>"


def _audio(clip: Clip) -> str:
    """An audio element with a 16-bit WAV inside; a clip over full scale is turned down, as ``save`` does it."""
    wav = io.BytesIO()
    peak = np.abs(clip.audio).max(initial=0.0)
    fitting = clip.audio * (10 ** (CEILING_DBFS / 20) / peak) if peak > 1 else clip.audio
    soundfile.write(wav, fitting.T, clip.sample_rate, "PCM_16", format="WAV")
    data = base64.b64encode(wav.getvalue()).decode()
    label = html.escape(f"{clip.name}, {clip.duration_s:.1f} seconds")
    again = " loop" if clip.loop else ""
    return (
        f'<audio controls{again} preload="auto" aria-label="{label}" style="width:280px;max-width:100%" '
        f'src="data:audio/wav;base64,{data}"></audio>'
    )
