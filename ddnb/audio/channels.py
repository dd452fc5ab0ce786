"""Convert the number of channels: layouts of several loudspeakers, and channels that cancel each other in mono."""

from __future__ import annotations

import numpy as np

_HALF = 0.5**0.5
_DOWNMIX: dict[int, tuple[tuple[float, ...], ...]] = {
    3: ((1, 0, _HALF), (0, 1, _HALF)),  # left, right, centre
    4: ((1, 0, _HALF, 0), (0, 1, 0, _HALF)),  # left, right, both at the back
    5: ((1, 0, _HALF, _HALF, 0), (0, 1, _HALF, 0, _HALF)),
    6: ((1, 0, _HALF, 0, _HALF, 0), (0, 1, _HALF, 0, 0, _HALF)),  # the fourth is for effects: left out
    7: ((1, 0, _HALF, 0, 0.5, _HALF, 0), (0, 1, _HALF, 0, 0.5, 0, _HALF)),  # the fifth is at the back
    8: ((1, 0, _HALF, 0, _HALF, 0, _HALF, 0), (0, 1, _HALF, 0, 0, _HALF, 0, _HALF)),
}
_HIGH = (_HALF, 0, _HALF, 0), (0, _HALF, 0, _HALF)  # front and back, above
_DOWNMIX |= {n + 4: tuple(low + high for low, high in zip(_DOWNMIX[n], _HIGH, strict=True)) for n in (6, 8)}
"""Channels of a WAV file in their standard order -> left and right. Source: ITU-R BS.775."""

OGG_ORDER = {
    3: (0, 2, 1),
    5: (0, 2, 1, 3, 4),
    6: (0, 2, 1, 5, 3, 4),
    7: (0, 2, 1, 6, 5, 3, 4),
    8: (0, 2, 1, 7, 5, 6, 3, 4),
}
"""Where the channels of a WAV file are in an OGG file. Source: the Vorbis I specification, 4.3.9."""

_CANCELLED = 1e-3  # power of the mean re that of the loudest channel: -30 dB


def to_channels(audio: np.ndarray, channels: int) -> np.ndarray:
    """Return a sound with this many channels, (channels, frames).

    Layouts of 3 to 8, 10 and 12 channels become stereo first. Mono is the mean of the channels, and the loudest of them
    where they cancel each other; it is repeated for several channels.
    """
    if len(audio) == channels:
        return audio
    audio = downmix(audio)
    if len(audio) == channels:
        return audio
    mono = audio.mean(axis=0, keepdims=True)
    if (side := cancelling_side(powers(mono), powers(audio))) is not None:
        mono = audio[side : side + 1]
    return np.repeat(mono, channels, axis=0)


def downmix(audio: np.ndarray) -> np.ndarray:
    """Return a layout of 3 to 8, 10 or 12 channels as stereo, which cannot clip; any other sound as it is."""
    if (weights := _DOWNMIX.get(len(audio))) is None:
        return audio
    matrix = np.asarray(weights, audio.dtype)
    return matrix / matrix.sum(axis=1, keepdims=True) @ audio


def powers(audio: np.ndarray) -> np.ndarray:
    """Return the sum of the squares of each channel, float64."""
    return np.square(audio, dtype=np.float64).sum(axis=1)


def cancelling_side(mono: np.ndarray, channels: np.ndarray) -> int | None:
    """Return the loudest channel of a sound whose channels cancel each other in mono; None for any other.

    Args:
        mono: the power of the mean of the channels, (1,).
        channels: the power of each.
    """
    loudest = int(channels.argmax())
    return loudest if len(channels) > 1 and mono[0] < _CANCELLED * channels[loudest] else None
