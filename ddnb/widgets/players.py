"""Players, pads and pictures of sounds.

Players are plain HTML with the sound embedded, so they play while the kernel is busy. Sounds are not normalised; one
that is attenuated for playback says so. Text takes the colour of the theme.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import ipywidgets
import numpy as np
from IPython.display import Image
from torch import Tensor

from ..clips.clip import Clip, Clips
from ..display.html import _CARD, caption, cards_of, escape
from ..display.plots import grids_picture, seam_picture
from ..display.shown import Shown
from ..display.text import shown
from ..training.report import DatasetReport
from ..training.report_html import spread
from .scripts import attribute

PAD_KEYS = "12345678qwertyui"
_JS = "players.js"


def discard(*given: ipywidgets.Widget) -> None:
    """Close widgets and all that is inside them: until then the kernel and the page keep each with its sound."""
    for widget in given:
        discard(*getattr(widget, "children", ()))
        for part in ("layout", "style"):
            if isinstance(beside := getattr(widget, part, None), ipywidgets.Widget):
                beside.close()
        widget.close()


class Player(ipywidgets.VBox):
    """A widget with a card for each clip (player, waveform, spectrogram) and a pad for each to play it.

    Attributes:
        clips: the clips that are shown.
        cards: the card of each.
        kept: the clips whose box "keep" is ticked, in order: ``ddnb.pack(player.kept, "pack.zip")``.
        picked: the clip whose button "vary this" was pressed last: ``ddnb.vary(ckpt, player.picked)``.
        a, b: likewise for "use as A" and "use as B": ``ddnb.interpolate(ckpt, player.a, player.b)``.

    Args:
        clips: the clips to show.
        actions: other buttons below each clip: their names, and functions of the clip.
        on_keep: called with a clip and whether its box is ticked now.
        kept: whether the boxes are ticked initially.
        labels: a heading for each clip, in place of its name.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        actions: Mapping[str, Callable[[Clip], object]] | None = None,
        on_keep: Callable[[Clip, bool], object] | None = None,
        kept: bool = False,
        labels: Sequence[str] | None = None,
    ):
        shown = _shown(clips, labels)
        cards, note = cards_of(shown)
        self.picked = self.a = self.b = None
        self._status = ipywidgets.HTML()
        if actions is None:
            picks = {"vary this": "picked", "use as A": "a", "use as B": "b"}
            actions = {what: partial(self._pick, name) for what, name in picks.items()}
        self.clips = list(clips[: len(cards)])
        self._keep = [ipywidgets.Checkbox(value=kept, description="keep", indent=False) for _ in cards]
        for box, clip in zip(self._keep, self.clips, strict=True):
            box.layout.width = "58px"
            if on_keep is not None:
                box.observe(lambda change, clip=clip: on_keep(clip, change["new"]), "value")
        prefix = f"clip-{uuid.uuid4().hex[:8]}"
        ids = [f"{prefix}-{i}" for i in range(len(cards))]
        away = not note  # a preview is not offered as a download
        self.cards = [
            _card(clip, card, name, keep, actions, away)
            for clip, card, name, keep in zip(self.clips, cards, ids, self._keep, strict=True)
        ]
        grid = ipywidgets.Box(self.cards, layout=ipywidgets.Layout(flex_flow="row wrap"))
        pads = [ipywidgets.HTML(_pads(self.clips, [card[0].name for card in cards], ids))] if len(cards) > 1 else []
        super().__init__([*pads, grid, self._status, *([ipywidgets.HTML(note)] if note else [])])

    @property
    def kept(self) -> list[Clip]:
        return [clip for clip, box in zip(self.clips, self._keep, strict=True) if box.value]

    def untick(self, clip: object) -> None:
        """Untick the box of a clip."""
        for one, box in zip(self.clips, self._keep, strict=True):
            if one is clip:
                box.value = False

    def _pick(self, name: str, clip: Clip) -> None:
        setattr(self, name, clip)
        self._status.value = (
            f"<div role='status'>Selected <b>{escape(clip.name)}</b>: use it as <code>player.{name}</code>, after "
            "<code>player = widgets.player(clips)</code>.</div>"
        )


def _shown(clips: Sequence[Clip], labels: Sequence[str] | None) -> list[Shown]:
    shown = [clip.shown() for clip in clips]
    if labels is None:
        return shown
    if len(labels) != len(shown):
        raise ValueError(f"{len(labels)} labels for {len(shown)} clips: give one for each.")
    return [replace(sound, name=label) for sound, label in zip(shown, labels, strict=True)]


def player(clips: Clips | Clip | Sequence[Clip], labels: Sequence[str] | None = None) -> Player:
    """Show each clip with a player, its waveform and its spectrogram, and pads that play it by click or key.

    Args:
        clips: what a verb returned, or one clip of it; also clips from ``ddnb.read_clip(path)``.
        labels: a heading for each clip, in place of its name.

    Returns:
        A widget to display or to put into a panel; its attributes hold what was ticked and selected.
    """
    return Player([clips] if isinstance(clips, Clip) else list(clips), labels=labels)


def dataset_player(report: DatasetReport, n: int = 6) -> ipywidgets.Box:
    """Show up to ``n`` sounds of a report, from every class, with players; at most 10 s of each."""
    data, most = report.data, 10 * report.data.sample_rate
    clips, labels = [], []
    for i in spread(data.sounds, n):
        name = shown(data.sounds[i].name)
        labels.append(f"{name}, the first 10 s" if data.sounds[i].frames > most else name)
        clips.append(Clip(data.sound(i)[:, :most], data.sample_rate, 0))
    return player(clips, labels)


class Snapshots:
    """Keep the denoised estimates of some steps, to play how a sound emerges: ``generate(...,
    on_step=Snapshots([1]))``.

    Meant for one clip.

    Args:
        at: the steps to keep, counted from 1.
    """

    def __init__(self, at: Iterable[int]):
        self.at = set(at)
        self.kept: dict[int, np.ndarray] = {}

    def __call__(self, done: int, total: int, denoised: Tensor) -> None:
        if done in self.at:
            self.kept[done] = denoised[0].float().cpu().numpy()

    def show(self, clips: Clips) -> ipywidgets.Box:
        """Show a player for each estimate; ``clips`` is what the call returned."""
        made, frames = clips[0], clips.audio.shape[-1]
        estimates = [Clip(x[:, :frames], made.sample_rate, made.seed) for x in self.kept.values()]
        return player(estimates, [f"step {step}" for step in self.kept])


def draw_seam(clip: Clip) -> Image:
    """Draw the last and the first 10 ms of a loop, joined as they are played."""
    return Image(seam_picture(clip.audio, clip.sample_rate), format="png")


def draw_grids(steps: int) -> Image:
    """Draw the noise level relative to the sound, in dB, after each step of each time grid."""
    return Image(grids_picture(steps), format="png")


def _card(
    clip: Clip,
    card: tuple[Shown, str, bytes],
    name: str,
    keep: ipywidgets.Checkbox,
    actions: Mapping[str, Callable[[Clip], object]],
    away: bool,
) -> ipywidgets.VBox:
    shown, audio, png = card
    small = ipywidgets.Layout(width="auto", padding="0 5px", margin="2px 1px")
    buttons = [ipywidgets.Button(description=what, tooltip=f"{what}: {shown.name}", layout=small) for what in actions]
    for button, act in zip(buttons, actions.values(), strict=True):
        button.on_click(lambda _, act=act: act(clip))
    switch = f"<label><input type='checkbox' {'checked ' * shown.loop}aria-label='loop {escape(shown.name)}' "
    switch += f'onchange="{attribute(_JS, "toggleLoop")}"> loop</label>'
    link = (
        f'<a download="{escape(shown.name)}.wav" href="#" style="text-decoration:underline" '
        f'onclick="{attribute(_JS, "download")}" title="as 16-bit WAV">download</a>'
    )
    below = f"<span style='display:flex;gap:16px'>{switch}{link if away else ''}</span>"
    text = ipywidgets.HTML(f"<div>{caption(shown)}{audio.replace('<audio ', f'<audio id={name} ', 1)}{below}</div>")
    image = ipywidgets.Image(value=png, format="png", layout=ipywidgets.Layout(width="280px"))
    row = ipywidgets.HBox([keep, *buttons], layout=ipywidgets.Layout(flex_flow="row wrap"))
    layout = ipywidgets.Layout(width=_CARD, max_width="100%", margin="0 12px 16px 0", align_items="flex-start")
    return ipywidgets.VBox([text, image, row], layout=layout)


def _pads(clips: Sequence[Clip], labels: Sequence[str], ids: Sequence[str]) -> str:
    """Return a button per clip that plays the player of this id, by click, or by its key while a pad has the focus.

    JupyterLab's shortcuts are off inside, as a letter would delete a cell.
    """
    pads = []
    for i, (clip, label, name) in enumerate(zip(clips, labels, ids, strict=True)):
        key = PAD_KEYS[i] if i < len(PAD_KEYS) else ""
        what = escape(f"{label.replace('_seed', ', seed ').replace('_', ' ')}, {clip.duration_s:.1f} s")
        hint = f"; key {key}" if key else ""
        pads.append(
            f'<button type="button" data-clip="{name}" data-key="{key}" title="{what}{hint}" '
            f'aria-label="clip {i + 1}, {what}" '
            f'style="flex:1 1 96px;max-width:160px;min-height:44px;cursor:pointer"><b>{key or i + 1}</b> '
            f'<small style="opacity:.7">{_short(clip)}</small></button>'
        )
    grid = "display:flex;flex-wrap:wrap;gap:6px;max-width:840px"
    return (
        "<div><small style='opacity:.7'>Click a pad, or press its key while a pad has the focus.</small>"
        f'<div role="group" aria-label="pads" data-lm-suppress-shortcuts="true" style="{grid};margin:4px 0 12px" '
        f'onclick="{attribute(_JS, "pressPad")}" onkeydown="{attribute(_JS, "pressKey")}">{"".join(pads)}</div></div>'
    )


def _short(clip: Clip) -> str:
    """Return a short text that distinguishes a clip from its neighbours."""
    making = clip.making
    if making.verb == "interpolate":
        return escape(f"{clip.seed + 1} of {making.asked}")
    return escape(f"{'-'.join(making.category or ())} {clip.seed}".strip()[:16])
