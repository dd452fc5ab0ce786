"""Players, captions and pictures of sounds as HTML that stays playable in a saved notebook. Knows no ipywidgets."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..audio.io import CEILING_DBFS, peak_dbfs, resample
from .plots import picture
from .shown import Shown

OUTPUT_LIMIT_BYTES = 8_000_000
"""Limit of a cell output: Colab refuses more than about 10 MB, pictures included. Above it, players hold previews."""

PREVIEW_RATE, PREVIEW_S = 22_050, 60
_PICTURE_BYTES = 170_000  # as text, of a spectrogram of noise, the largest
_CARD = "284px"


def escape(text: str) -> str:
    """Return text for HTML and its attributes; halves of characters, as in names that are not UTF-8, are replaced.

    A page that holds them cannot be sent or saved.
    """
    return html.escape(text.encode("utf-8", "replace").decode("utf-8"))


def sounds_html(sounds: Sequence[Shown]) -> str:
    """Return players and pictures as one piece of HTML, which stays playable in a saved notebook."""
    cards, note = cards_of(sounds)
    style = f"display:inline-block;vertical-align:top;width:{_CARD};margin:0 16px 16px 0"
    boxes = [f'<div style="{style}">{card_html(*card)}</div>' for card in cards]
    return f"<div>{''.join(boxes) or 'No clips: the call was interrupted before the first was finished.'}</div>{note}"


def card_html(shown: Shown, audio: str, png: bytes) -> str:
    """Return caption, player and picture of a sound as HTML."""
    return (
        f'{caption(shown)}{audio}<br><img alt="{escape(_alt(shown))}" '
        f'style="width:280px;max-width:100%" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
    )


def cards_of(
    sounds: Sequence[Shown], rest: str = "show them as clips[{}:]"
) -> tuple[list[tuple[Shown, str, bytes]], str]:
    """Return sound, player and picture of as many sounds as one output can hold, and a note if some are missing."""
    whole = sum(sound.audio.size * 2 * 4 / 3 + _PICTURE_BYTES for sound in sounds) <= OUTPUT_LIMIT_BYTES
    cards, size = [], 0.0
    for sound in sounds:
        audio, png = audio_html(sound if whole else _preview(sound)), picture(sound)
        size += len(audio) + len(png) * 4 / 3
        if size > OUTPUT_LIMIT_BYTES:
            break
        cards.append((sound, audio, png))
    left = len(sounds) - len(cards)
    preview = f"mono previews of up to {PREVIEW_S} s. Saved files are complete."
    note = "" if whole else f"This is too large for one page: the players hold {preview}"
    more = f" {left} more do not fit: {rest.format(len(cards))}." if left else ""
    return cards, f"<p>{note}{more}</p>" if note else ""


def _preview(sound: Shown) -> Shown:
    rate = min(PREVIEW_RATE, sound.sample_rate)
    start = sound.audio[:, : PREVIEW_S * sound.sample_rate]
    mono = resample(start.mean(axis=0, keepdims=True), sound.sample_rate, rate)
    return replace(sound, audio=mono, sample_rate=rate)


def _alt(sound: Shown) -> str:
    return (
        f"waveform and spectrogram of {sound.name}: {sound.duration_s:.2f} s, peak {peak_dbfs(sound.audio):.0f} dBFS, "
        "colours span 80 dB"
    )


def caption(sound: Shown) -> str:
    """Return the name of a sound, its length, level and details as HTML."""
    peak = peak_dbfs(sound.audio)
    level = "silent" if np.isinf(peak) else f"peak {peak:.1f} dBFS"
    level += f", lowered by {peak - CEILING_DBFS:.0f} dB for playback" if peak > 0 else ""
    seam = ", loop" if sound.loop else ""
    seam += "" if sound.seam_db is None else f", seam {sound.seam_db:+.0f} dB"
    how = f", {sound.details}" if sound.details else ""
    details = escape(f"{sound.duration_s:.2f} s{how}, {level}{seam}")
    style = "overflow-wrap:anywhere;line-height:1.4"  # widgets have 28 px a line
    name = escape(sound.name)
    return f"<div style='{style}'><b>{name}</b><br><span style='opacity:.7'>{details}</span></div>"


def audio_html(sound: Shown) -> str:
    """Return an audio element with a 16-bit WAV inside; a sound over full scale is lowered, as by ``save``."""
    import soundfile

    wav = io.BytesIO()
    peak = np.abs(sound.audio).max(initial=0.0)
    fitting = sound.audio * (10 ** (CEILING_DBFS / 20) / peak) if peak > 1 else sound.audio
    soundfile.write(wav, fitting.T, sound.sample_rate, "PCM_16", format="WAV")
    data = base64.b64encode(wav.getvalue()).decode()
    label = escape(f"{sound.name}, {sound.duration_s:.1f} seconds")
    again = " loop" if sound.loop else ""
    return (
        f'<audio controls{again} preload="auto" aria-label="{label}" style="width:280px;max-width:100%" '
        f'src="data:audio/wav;base64,{data}"></audio>'
    )
