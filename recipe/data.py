"""The prepared file of recordings: written by recipe/prepare.py, read with NumPy only.

Sounds are mono int16 at 44.1 kHz, each scaled to a peak of -1 dBFS. The file stores differences from sample to sample,
low and high bytes apart, compressed by xz: lossless, about half the size of the samples.
"""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import NamedTuple

import numpy as np

CATEGORIES = (
    "kick",
    "snare",
    "clap",
    "closed_hat",
    "open_hat",
    "tom",
    "cymbal",
    "perc",
    "bass",
    "synth",
    "texture",
)
SAMPLE_RATE = 44_100
FRAMES = 65_536
"""The maximum length of a sound: 1.49 s."""

LEAD = 64
"""Frames of near silence before the attack of a one-shot: 1.5 ms."""

PEAK_DBFS = -1.0
"""The peak of each sound in the file."""

_PRESET = lzma.PRESET_DEFAULT


class Prepared(NamedTuple):
    """A set of recordings.

    Attributes:
        sounds: int16 (frames,), at most 65,536 frames each; full scale is 32,768.
        labels: int64 (N,), indices into ``CATEGORIES``.
        sources: source of each sound, such as ``fluid``.
        groups: equal for sounds that share a recording, such as a drum at several velocities.
        names: name of each sound, such as ``fluid/Std Kick 2/36/80``.
        peaks_dbfs: float32 (N,), the original peak.
        held_out: bool (N,), True for sounds that are never trained on; they judge what was trained on the others.
    """

    sounds: list[np.ndarray]
    labels: np.ndarray
    sources: list[str]
    groups: list[str]
    names: list[str]
    peaks_dbfs: np.ndarray
    held_out: np.ndarray


def save_prepared(path: str | Path, data: Prepared) -> None:
    """Write recordings to one file."""
    blobs, orders = zip(*(_encode(sound) for sound in data.sounds), strict=True)
    text = {"categories": CATEGORIES, "sources": data.sources, "groups": data.groups, "names": data.names}
    np.savez(
        path,
        text=np.frombuffer(json.dumps(text).encode(), np.uint8),
        frames=np.array([len(s) for s in data.sounds], np.int32),
        orders=np.array(orders, np.uint8),
        blob_bytes=np.array([len(b) for b in blobs], np.int32),
        blobs=np.frombuffer(b"".join(blobs), np.uint8),
        labels=data.labels.astype(np.uint8),
        peaks_dbfs=data.peaks_dbfs.astype(np.float32),
        held_out=data.held_out.astype(bool),
    )


def load_prepared(path: str | Path) -> Prepared:
    """Read what ``save_prepared`` wrote; takes some seconds.

    Raises:
        ValueError: the file was made for other categories than this code has.
    """
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    text = json.loads(arrays["text"].tobytes())
    if text["categories"] != list(CATEGORIES):
        raise ValueError(
            f"{path} has the categories {text['categories']}: expected {list(CATEGORIES)}. Run 'make dataset'."
        )
    ends = np.cumsum(arrays["blob_bytes"], dtype=np.int64)
    blobs = arrays["blobs"]
    sounds = [
        _decode(blobs[end - size : end].tobytes(), int(frames), int(order))
        for end, size, frames, order in zip(ends, arrays["blob_bytes"], arrays["frames"], arrays["orders"], strict=True)
    ]
    labels = arrays["labels"].astype(np.int64)
    return Prepared(
        sounds, labels, text["sources"], text["groups"], text["names"], arrays["peaks_dbfs"], arrays["held_out"]
    )


def pad(data: Prepared, index: np.ndarray, frames: int = FRAMES) -> np.ndarray:
    """Return these sounds as float32 (n, frames) within +-1, cut or padded with silence."""
    out = np.zeros((len(index), frames), np.float32)
    for row, i in zip(out, index, strict=True):
        sound = data.sounds[i][:frames]
        row[: len(sound)] = sound / 32768
    return out


def _encode(sound: np.ndarray) -> tuple[bytes, int]:
    """Compress the differences of the order, 0 to 3, with the smallest sum; lossless because they are modulo 2^16."""
    residuals = [sound]
    for _ in range(3):
        residuals.append(np.diff(residuals[-1], prepend=np.int16(0)))  # int16 wraps around, and so does the sum
    order = int(np.argmin([np.abs(r.astype(np.int64)).sum() for r in residuals]))
    planes = residuals[order].astype("<i2").view(np.uint8).reshape(-1, 2).T
    return lzma.compress(planes.tobytes(), format=lzma.FORMAT_ALONE, preset=_PRESET), order


def _decode(blob: bytes, frames: int, order: int) -> np.ndarray:
    planes = np.frombuffer(lzma.decompress(blob), np.uint8).reshape(2, frames)
    sound = np.ascontiguousarray(planes.T).view("<i2")[:, 0].astype(np.int16)
    for _ in range(order):
        sound = np.cumsum(sound, dtype=np.int16)
    return sound
