"""Sounds on the screen: players, pads, pictures.

Players are plain HTML with the sound inside: they play while the kernel is busy, and show level instead of hiding it.
No clip is normalised, and one that is turned down says so. Text takes the theme's own colour.
"""

from __future__ import annotations

import base64
import html
import io
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import ipywidgets
import numpy as np
import soundfile
from IPython.display import Image
from torch import Tensor

from ..audio import CEILING_DBFS, peak_dbfs, resample
from ..clips import Clip, Clips
from ..copies import Originality
from ..doctor import DatasetReport, shown
from ..pictures import dataset_picture, grids_picture, picture, seam_picture, spread

OUTPUT_LIMIT_BYTES = 8_000_000
"""Colab refuses a cell output of more than about 10 MB; pictures included. Above this sum players get previews."""

PREVIEW_RATE, PREVIEW_S = 22_050, 60
PAD_KEYS = "12345678qwertyui"
_PICTURE_BYTES = 150_000  # a spectrogram of noise, the largest there is, as text
_CARD = "284px"
_PAIRS = 8

# What a player does by itself, with no trip to Python. Scripts never run in a widget, attributes of elements do.
_LOOP = "this.closest('div').querySelector('audio').loop=this.checked"
_DOWNLOAD = "this.href=this.closest('div').querySelector('audio').src"
_PRESS = (
    "var pad=event.target.closest('button'),one=pad&&document.getElementById(pad.dataset.clip);"
    "if(one){if(one.loop&&!one.paused){one.pause()}else{one.currentTime=0;one.play()}}"
)
_KEY = (
    f"var i='{PAD_KEYS}'.indexOf(event.key.toLowerCase());"
    "if(i>=0&&event.key.length==1&&this.children[i]&&!(event.ctrlKey||event.metaKey||event.altKey))"
    "{this.children[i].focus();this.children[i].click();event.preventDefault();event.stopPropagation()}"
)


class Player(ipywidgets.VBox):
    """Clips, each with a player, its waveform and its spectrogram, and a pad for each to try them out.

    Attributes:
        clips: those that are shown.
        cards: the box of each.
        kept: those whose box "keep" is ticked, in their order: ``ddnb.pack(player.kept, "pack.zip")``.
        picked: the one whose button "vary this" was pressed last: ``ddnb.vary(ckpt, player.picked)``.
        a, b: likewise, "use as A" and "use as B": ``ddnb.interpolate(ckpt, player.a, player.b)``.

    Args:
        clips: what to show.
        actions: other buttons below each clip: what they are called, and what they do with the clip.
        on_keep: called with a clip and whether it is kept now.
        kept: whether the boxes are ticked at first.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        actions: Mapping[str, Callable[[Clip], object]] | None = None,
        on_keep: Callable[[Clip, bool], object] | None = None,
        kept: bool = False,
    ):
        cards, note = cards_of(clips)
        self.picked = self.a = self.b = None
        self._said = ipywidgets.HTML()
        if actions is None:
            picks = {"vary this": "picked", "use as A": "a", "use as B": "b"}
            actions = {what: partial(self._pick, name) for what, name in picks.items()}
        self.clips = [clip for clip, _, _ in cards]
        self._keep = [ipywidgets.Checkbox(value=kept, description="keep", indent=False) for _ in cards]
        for box, clip in zip(self._keep, self.clips, strict=True):
            box.layout = ipywidgets.Layout(width="58px")
            if on_keep is not None:
                box.observe(lambda change, clip=clip: on_keep(clip, change["new"]), "value")
        prefix = f"clip-{uuid.uuid4().hex[:8]}"
        ids = [f"{prefix}-{i}" for i in range(len(cards))]
        away = not note  # a preview is not what one wants to take away
        self.cards = [
            _card(card, name, keep, actions, away) for card, name, keep in zip(cards, ids, self._keep, strict=True)
        ]
        grid = ipywidgets.Box(self.cards, layout=ipywidgets.Layout(flex_flow="row wrap"))
        pads = [ipywidgets.HTML(_pads(self.clips, ids))] if len(cards) > 1 else []
        super().__init__([*pads, grid, self._said, *([ipywidgets.HTML(note)] if note else [])])

    @property
    def kept(self) -> list[Clip]:
        return [clip for clip, box in zip(self.clips, self._keep, strict=True) if box.value]

    def untick(self, clip: Clip) -> None:
        """Take a clip out of those that are kept."""
        for one, box in zip(self.clips, self._keep, strict=True):
            if one is clip:
                box.value = False

    def _pick(self, name: str, clip: Clip) -> None:
        setattr(self, name, clip)
        self._said.value = (
            f"<div role='status'><b>{html.escape(clip.name)}</b> is <code>player.{name}</code> now, "
            "where <code>player = widgets.player(clips)</code>.</div>"
        )


def player(clips: Clips | Clip | Sequence[Clip]) -> Player:
    """Show each clip with a player, its waveform and its spectrogram, and pads that play at a click or a key.

    Args:
        clips: what a verb returned, or one clip of it; a clip may come from ``ddnb.read_clip(path)``.

    Returns:
        A widget to display or to put into a panel; what is kept and picked on the screen are its attributes.
    """
    return Player(_as_list(clips))


def clips_html(clips: Clips | Clip | Sequence[Clip]) -> str:
    """Return players and pictures as one piece of HTML, which stays playable in a saved notebook."""
    cards, note = cards_of(_as_list(clips))
    style = f"display:inline-block;vertical-align:top;width:{_CARD};margin:0 16px 16px 0"
    boxes = [f'<div style="{style}">{card_html(*card)}</div>' for card in cards]
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


def originality_html(report: Originality) -> str:
    """Return what the originality check found as one piece of HTML: nearest first, both players side by side."""
    lines = "<br>".join(html.escape(line) for line in str(report).splitlines())
    compared = [i for i, row in enumerate(report.rows) if row.nearest is not None]
    compared.sort(key=lambda i: report.rows[i].distance)
    pairs = ((report.rows[i].sound, report.nearest_sound(i)) for i in compared[:_PAIRS])
    cards, note = cards_of([clip for pair in pairs for clip in pair], rest="they are named above")
    rows = []
    for i, clip, nearest in zip(compared, cards[::2], cards[1::2], strict=False):
        cells = "".join(f'<td style="text-align:left;vertical-align:top">{card_html(*c)}</td>' for c in (clip, nearest))
        heading = f"<b>{html.escape(report.rows[i].verdict)}</b>"
        rows.append(f'<tr><td colspan="2" style="text-align:left">{heading}</td></tr><tr>{cells}</tr>')
    return f"<div>{lines}<table style='max-width:100%'>{''.join(rows)}</table>{note}</div>"


class Titled(Clip):
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
        clips.append(Titled(data.sound(i)[:, :most], data.sample_rate, 0, {"title": title}))
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


def draw_grids(steps: int) -> Image:
    """Draw how loud the noise is beside the sound, in dB, after each step of each time grid."""
    return Image(grids_picture(steps), format="png")


def _as_list(clips: Clips | Clip | Sequence[Clip]) -> list[Clip]:
    return [clips] if isinstance(clips, Clip) else list(clips)


def _card(
    card: tuple[Clip, str, bytes],
    name: str,
    keep: ipywidgets.Checkbox,
    actions: Mapping[str, Callable[[Clip], object]],
    away: bool,
) -> ipywidgets.VBox:
    clip, sound, png = card
    small = ipywidgets.Layout(width="auto", padding="0 5px", margin="2px 1px")
    buttons = [ipywidgets.Button(description=what, tooltip=f"{what}: {clip.name}", layout=small) for what in actions]
    for button, act in zip(buttons, actions.values(), strict=True):
        button.on_click(lambda _, act=act: act(clip))
    switch = f"<label><input type='checkbox' {'checked ' * clip.loop}onchange=\"{_LOOP}\"> loop</label>"
    link = (
        f'<a download="{html.escape(clip.name)}.wav" href="#" style="text-decoration:underline" '
        f'onclick="{_DOWNLOAD}" title="as 16-bit WAV">download</a>'
    )
    below = f"<span style='display:flex;gap:16px'>{switch}{link if away else ''}</span>"
    text = ipywidgets.HTML(f"<div>{caption(clip)}{sound.replace('<audio ', f'<audio id={name} ', 1)}{below}</div>")
    image = ipywidgets.Image(value=png, format="png", layout=ipywidgets.Layout(width="280px"))
    row = ipywidgets.HBox([keep, *buttons], layout=ipywidgets.Layout(flex_flow="row wrap"))
    layout = ipywidgets.Layout(width=_CARD, max_width="100%", margin="0 12px 16px 0", align_items="flex-start")
    return ipywidgets.VBox([text, image, row], layout=layout)


def _pads(clips: Sequence[Clip], ids: Sequence[str]) -> str:
    """A button per clip that plays the player of this id, at a click or at its key while one of them has the focus.

    Shortcuts of JupyterLab are off inside, where a letter would delete a cell.
    """
    pads = []
    for i, (clip, name) in enumerate(zip(clips, ids, strict=True)):
        key = PAD_KEYS[i] if i < len(PAD_KEYS) else ""
        what = html.escape(f"{clip.name.replace('_seed', ', seed ').replace('_', ' ')}, {clip.duration_s:.1f} s")
        hint = f"; key {key}" if key else ""
        pads.append(
            f'<button type="button" data-clip="{name}" title="{what}{hint}" aria-label="clip {i + 1}, {what}" '
            f'style="flex:1 1 96px;max-width:160px;min-height:44px;cursor:pointer"><b>{key or i + 1}</b> '
            f'<small style="opacity:.7">{_short(clip)}</small></button>'
        )
    grid = "display:flex;flex-wrap:wrap;gap:6px;max-width:840px"
    return (
        "<div><small style='opacity:.7'>Click a pad, or press its key once one of them has the focus.</small>"
        f'<div role="group" aria-label="pads" data-lm-suppress-shortcuts="true" style="{grid};margin:4px 0 12px" '
        f'onclick="{html.escape(_PRESS)}" onkeydown="{html.escape(_KEY)}">{"".join(pads)}</div></div>'
    )


def _short(clip: Clip) -> str:
    """What tells a clip from its neighbours."""
    making = clip.settings.get("making", {})
    if making.get("verb") == "interpolate":
        return html.escape(f"{clip.seed + 1} of {making['asked']}")
    return html.escape(f"{'-'.join(making.get('category') or ())} {clip.seed}".strip()[:16])


def card_html(clip: Clip, audio: str, png: bytes) -> str:
    """Caption, player and picture of a clip as HTML."""
    return (
        f'{caption(clip)}{audio}<br><img alt="waveform and spectrogram of {html.escape(clip.name)}" '
        f'style="width:280px;max-width:100%" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
    )


def cards_of(clips: Sequence[Clip], rest: str = "show them as clips[{}:]") -> tuple[list[tuple[Clip, str, bytes]], str]:
    """Clip, player and picture of as many clips as one output can hold, and a note where that took a compromise."""
    whole = sum(clip.audio.size * 2 * 4 / 3 + _PICTURE_BYTES for clip in clips) <= OUTPUT_LIMIT_BYTES
    cards, size = [], 0.0
    for clip in clips:
        audio, png = audio_html(clip if whole else _preview(clip)), picture(clip)
        size += len(audio) + len(png) * 4 / 3
        if size > OUTPUT_LIMIT_BYTES:
            break
        cards.append((clip, audio, png))
    left = len(clips) - len(cards)
    preview = f"mono previews of up to {PREVIEW_S} s; saved files are whole."
    note = "" if whole else f"Too much for one page: the players hold {preview}"
    more = f" {left} more do not fit here: {rest.format(len(cards))}." if left else ""
    return cards, f"<p>{note}{more}</p>" if note else ""


def _preview(clip: Clip) -> Clip:
    rate = min(PREVIEW_RATE, clip.sample_rate)
    start = clip.audio[:, : PREVIEW_S * clip.sample_rate]
    mono = resample(start.mean(axis=0, keepdims=True), clip.sample_rate, rate)
    return replace(clip, audio=mono, sample_rate=rate)


def caption(clip: Clip) -> str:
    """Return the name of a clip and what is to be known about it, as HTML."""
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
    style = "overflow-wrap:anywhere;line-height:1.4"  # widgets have 28 px a line
    return f"<div style='{style}'><b>{name}</b><br><span style='opacity:.7'>{details}</span></div>"


def audio_html(clip: Clip) -> str:
    """Return an audio element with a 16-bit WAV inside; a clip over full scale is turned down, as ``save`` does it."""
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
