"""Measure whether the built-in network plays the notes that it is asked for.

    python -m bench.notes [--checkpoint NAME] [--sounds 40] [--out bench/results]

Basses on E1 to E3 and synths on C3 to C6: pitch, steadiness and wobble as in ``bench.tones``. Pads of 6 s: how long
they sound, and whether the places where the length of the training sounds ends stand out (``bench.seams``). Keybeds of
13 notes: pitch, and how much the timbre changes from note to note, compared with other seeds.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import librosa
import numpy as np

import ddnb
from bench.common import describe_run, markdown_table
from bench.seams import AROUND, PLACES, auc, seam_features
from bench.tones import Tone, measure_tone
from ddnb.audio.notes import hz_key, key_hz, parse_note

RANGES = {"bass": (28, 52), "synth": (48, 84)}
"""MIDI keys of E1 to E3 and of C3 to C6."""

KEYBEDS = {"bass": ("E1", "E2"), "synth": ("C4", "C5")}
PAD_S = 6.0
_SOUNDING_DB, _BLOCK_S = -40.0, 0.05
_BANDS, _AUDIBLE_DB = 40, -60.0
_SOUNDS_FOR = 0.7  # of its length a pad should sound
_TONE_HEADS = ("steady", "pitch error, cents: median", "most", "wobble, cents: median", "harmonics to noise, dB")


def main() -> None:
    """Measure all three and write one report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="drums")
    parser.add_argument("--sounds", type=int, default=40, help="basses, and synths; a fourth as many pads of each")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    ckpt, n = ddnb.load(arguments.checkpoint), arguments.sounds
    lines = ["# Notes", "", f"`python -m bench.notes --sounds {n}`: {describe_run()}.", ""]
    lines += ["## Notes that were asked for", "", *measure_notes(ckpt, n)]
    lines += ["", f"## Pads of {PAD_S:.0f} s", "", *measure_pads(ckpt, n // 4)]
    lines += ["", "## Keybeds of 13 notes", "", *measure_keybeds(ckpt)]
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "notes.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def measure_notes(ckpt: ddnb.Checkpoint, n: int) -> list[str]:
    """Return the table of ``n`` sounds of each category, on notes that span its range."""
    rows = []
    for category, (low, high) in RANGES.items():
        keys = np.linspace(low, high, n).round().astype(int)
        clips = [ddnb.generate(ckpt, 1, seed, category=category, note=int(key))[0] for seed, key in enumerate(keys)]
        rows.append([category, *_tone_cells([measure_tone(clip.audio[0]) for clip in clips], keys)])
    return markdown_table(["category", "sounds", *_TONE_HEADS], rows)


def measure_pads(ckpt: ddnb.Checkpoint, n: int) -> list[str]:
    """Return the table of ``n`` long sounds of each category."""
    rows, usual = [], ckpt.frames
    for category, (low, high) in RANGES.items():
        keys = np.linspace(low, high, n).round().astype(int)
        made = [
            ddnb.generate(ckpt, 1, seed, category=category, note=int(key), duration_s=PAD_S)[0].audio[0]
            for seed, key in enumerate(keys)
        ]
        sounding = [_sounding(audio) for audio in made]
        rng, ends, inside = np.random.default_rng(0), [], []
        for audio in made:
            last = round(_SOUNDS_FOR * len(audio))
            places = np.arange(usual, last, usual)
            ends += list(seam_features(audio.astype(np.float64), places))
            inside += list(seam_features(audio.astype(np.float64), rng.integers(AROUND, last, PLACES)))
        stand_out = [f"{auc(a, b):.2f}" for a, b in zip(np.array(ends).T, np.array(inside).T, strict=True)]
        tones = _tone_cells([measure_tone(audio) for audio in made], keys)
        rows.append([category, *tones, f"{np.median(sounding):.0%}", f"{min(sounding):.0%}", " / ".join(stand_out)])
    heads = ["category", "pads", *_TONE_HEADS, "within 40 dB of the peak: median", "least"]
    return markdown_table([*heads, "click / level / spectrum at multiples of the usual length"], rows)


def measure_keybeds(ckpt: ddnb.Checkpoint) -> list[str]:
    """Return the table of one keybed of each category."""
    rows = []
    for category, (low, high) in KEYBEDS.items():
        clips = ddnb.keybed(ckpt, category, low, high, 1)
        first = round(hz_key(parse_note(low)))
        keys = np.arange(first, first + len(clips))
        others = [ddnb.generate(ckpt, 1, seed, category=category, note=int(keys[0]))[0] for seed in range(8)]
        near, far = (
            np.median([_timbre_distance_db(a.audio[0], b.audio[0]) for a, b in pairwise(each)])
            for each in (clips, others)
        )
        tones = _tone_cells([measure_tone(clip.audio[0]) for clip in clips], keys)
        rows.append([category, *tones, f"{near:.1f}", f"{far:.1f}"])
    return markdown_table(["category", "notes", *_TONE_HEADS, "neighbours differ by, dB", "two seeds, dB"], rows)


def _tone_cells(tones: list[Tone], keys: np.ndarray) -> list[str]:
    error = [abs(1200 * np.log2(tone.hz / key_hz(key))) for tone, key in zip(tones, keys, strict=True)]
    wobble, hnr = (np.nanmedian([getattr(tone, name) for tone in tones]) for name in ("wobble_cents", "hnr_db"))
    steady = np.mean([tone.steady for tone in tones])
    return [
        str(len(tones)),
        f"{steady:.2f}",
        f"{np.nanmedian(error):.1f}",
        f"{np.nanmax(error):.0f}",
        f"{wobble:.1f}",
        f"{hnr:.0f}",
    ]


def _sounding(audio: np.ndarray) -> float:
    """Return the share of a sound that is within 40 dB of its loudest 50 ms."""
    block = round(_BLOCK_S * 44_100)
    level = np.square(audio[: len(audio) // block * block].reshape(-1, block)).mean(1)
    return float((level >= level.max() * 10 ** (_SOUNDING_DB / 10)).mean())


def _timbre_distance_db(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean difference of two smooth spectra, over bands that either of them has."""
    both = [librosa.power_to_db(_smooth_spectrum(x), ref=np.max, top_db=None) for x in (a, b)]
    heard = np.maximum(*both) > _AUDIBLE_DB
    first, second = (np.maximum(each[heard], _AUDIBLE_DB) for each in both)
    return float(np.abs(first - second).mean())


def _smooth_spectrum(x: np.ndarray) -> np.ndarray:
    mel = librosa.feature.melspectrogram(y=x, sr=44_100, n_fft=4096, n_mels=_BANDS, fmin=0)
    return np.convolve(mel.mean(1), np.ones(5) / 5, mode="same")  # harmonics fall into other bands at other pitches


if __name__ == "__main__":
    main()
