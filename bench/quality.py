"""Measures of sets of short sounds: features, distances, overlap, classes, copies, signals.

NumPy and PyTorch only, no download. Sounds are mono, float32 (n, frames) at 44.1 kHz. ``bench/judge.py`` puts the
measures together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

SAMPLE_RATE = 44_100
HOP, WINDOW, MELS, TOP_HZ = 220, 1024, 64, 20_000
FLOOR_DB = -80.0
"""Everything this far below the loudest mel band of a sound counts as silence."""

POINTS_S = (0.0, 0.01, 0.03, 0.07, 0.15, 0.3, 0.6, 1.0, 1.4)
"""Edges of the eight intervals of the envelope."""

BANDS = 5
"""Groups of mel bands, each with its own envelope."""

COPY_FLOOR_DB = -50.0
"""Only what is above this level is compared for copies: a copy with some noise added is still one."""

PENALTY = 0.03
"""Weight decay of the classifier; 0.003 to 0.03 do equally well in cross-validation on the recordings."""

ONSET_DB, END_S, HIGH_HZ = -20.0, 0.05, 10_000
FULL_SCALE = 32_767 / 32_768
"""The largest sample of a 16-bit file: a sound that reaches it is clipped, or will be when it is saved."""

SILENCE_DB = -120.0
"""Lower levels are reported as this one."""

_ATTACK_S, _TAIL_S = 0.05, (0.3, 0.8)
_BATCH = 64


# --- features ---------------------------------------------------------------------------------------------------


def log_mel(audio: Tensor) -> Tensor:
    """Return the mel spectrogram in dB re its own maximum, from -80 to 0; (n, frames) -> (n, 64, steps of 5 ms)."""
    window = torch.hann_window(WINDOW, device=audio.device)
    padded = torch.nn.functional.pad(audio, (WINDOW // 2, WINDOW // 2))  # with silence: reflection would add sound
    spectrum = torch.stft(padded, WINDOW, HOP, WINDOW, window, center=False, return_complex=True)
    power = _mel_bank().to(audio.device) @ spectrum.abs().square()
    decibels = 10 * torch.log10(power.clamp(min=1e-14))
    return (decibels - decibels.amax((-2, -1), keepdim=True)).clamp(min=FLOOR_DB)


@lru_cache(maxsize=1)
def _mel_bank() -> Tensor:
    """Return triangles of equal area, evenly spaced on the HTK mel scale from 30 Hz to 20 kHz; (mels, bins)."""
    top, low = 2595 * math.log10(1 + TOP_HZ / 700), 2595 * math.log10(1 + 30 / 700)
    edges = 700 * (10 ** (torch.linspace(low, top, MELS + 2, dtype=torch.float64) / 2595) - 1)
    hz = torch.linspace(0, SAMPLE_RATE / 2, WINDOW // 2 + 1, dtype=torch.float64)
    left, middle, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    bank = torch.minimum((hz - left) / (middle - left), (right - hz) / (right - middle)).clamp(min=0)
    nearest = (hz[None] - middle).abs() == (hz[None] - middle).abs().amin(1, keepdim=True)
    bank = torch.where(bank.sum(1, keepdim=True) > 0, bank, nearest.double())  # narrow ones may lie between two bins
    return (bank / bank.sum(1, keepdim=True)).float()


def features(audio: Tensor) -> np.ndarray:
    """Return features of sounds that do not depend on their level; float64 (n, 304).

    They are taken from the log-mel spectrogram: mean and standard deviation over time, mean of the first 50 ms and of
    0.3 to 0.8 s (64 each); envelope of the whole and of 5 groups of mel bands in 8 intervals (48).
    """
    return np.concatenate([_features(part) for part in audio.float().split(_BATCH)])


def _features(audio: Tensor) -> np.ndarray:
    mel = log_mel(audio)
    start, end = (round(s * SAMPLE_RATE / HOP) for s in _TAIL_S)
    pooled = [mel.mean(-1), mel.std(-1), mel[..., : round(_ATTACK_S * SAMPLE_RATE / HOP)].mean(-1)]
    pooled.append(mel[..., start:end].mean(-1))
    power = 10 ** (mel / 10)
    groups = [power.mean(1), *(part.mean(1) for part in power.chunk(BANDS, 1))]
    steps = [round(s * SAMPLE_RATE / HOP) for s in POINTS_S]
    for group in groups:
        levels = [group[:, a : max(b, a + 1)].mean(-1) for a, b in pairwise(steps)]
        pooled.append(10 * torch.log10(torch.stack(levels, -1).clamp(min=10 ** (FLOOR_DB / 10))))
    return torch.cat(pooled, 1).double().cpu().numpy()


class Scale(NamedTuple):
    """A map of features to mean 0 and standard deviation 1 over a reference set."""

    mean: np.ndarray
    deviation: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return (x - self.mean) / self.deviation


def fit_scale(reference: np.ndarray) -> Scale:
    """Fit a scale to a reference set; a feature that hardly varies (below 0.1 dB) is not magnified."""
    return Scale(reference.mean(0), np.maximum(reference.std(0), 0.1))


# --- kernel distances -------------------------------------------------------------------------------------------


Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Distance(NamedTuple):
    """The distance of two sets, and the middle 95 % of its bootstrap."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def polynomial(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the kernel of KID, (x.y / d + 1)^3."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def gaussian(x: np.ndarray, y: np.ndarray, width: float | None = None) -> np.ndarray:
    """Return exp(-|x - y|^2 / (2 width^2)); the default width is the square root of the number of features."""
    squares = (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * x @ y.T
    return np.exp(-np.maximum(squares, 0) / (2 * (width**2 if width else x.shape[1])))


def kernel_distance(
    x: np.ndarray, y: np.ndarray, kernel: Kernel = polynomial, rounds: int = 200, seed: int = 0
) -> Distance:
    """Return the unbiased squared maximum mean discrepancy of two sets.

    For two sets of one distribution its mean is 0, so it may be negative. With the polynomial kernel it is KID. The
    bootstrap redraws the sounds of both sets; a sound is never compared with itself, which would add a bias.

    Args:
        x, y: features on one scale, (n, features) and (m, features), at least 2 each.
        kernel: ``polynomial`` or ``gaussian``.
        rounds: draws of the bootstrap.
        seed: seed of the bootstrap.

    Source: A. Gretton et al., A Kernel Two-Sample Test, JMLR 13, 2012, equation 3; M. Binkowski et al., Demystifying
    MMD GANs, 2018, arXiv 1801.01401.
    """
    xx, yy, xy = kernel(x, x), kernel(y, y), kernel(x, y)
    rng, values = np.random.default_rng(seed), []
    for _ in range(rounds):
        i, j = rng.integers(len(x), size=len(x)), rng.integers(len(y), size=len(y))
        if np.ptp(i) and np.ptp(j):  # a draw of one sound only has no pairs
            values.append(_within(xx, i) + _within(yy, j) - 2 * xy[np.ix_(i, j)].mean())
    value = _within(xx, np.arange(len(x))) + _within(yy, np.arange(len(y))) - 2 * xy.mean()
    return Distance(float(value), *(float(q) for q in np.quantile(values, [0.025, 0.975])))


def _within(k: np.ndarray, index: np.ndarray) -> float:
    """Return the mean over pairs of two different items."""
    pairs = index[:, None] != index[None]
    return float((k[np.ix_(index, index)] * pairs).sum() / pairs.sum())


# --- neighbours -------------------------------------------------------------------------------------------------


class Neighbours(NamedTuple):
    """The overlap of two sets.

    Attributes:
        precision: share of the made sounds inside the real set.
        recall: share of the real sounds inside the made set.
        density: number of real neighbourhoods that hold a made sound, over k; 1 if the sets are equally distributed.
        coverage: share of the real sounds with a made sound in their neighbourhood.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def neighbours(real: np.ndarray, made: np.ndarray, k: int = 3, k_coverage: int = 5) -> Neighbours:
    """Compare two sets by neighbourhoods: balls around each sound that reach to the k-th nearest of its own set.

    Source: T. Kynkaanniemi et al., Improved Precision and Recall Metric, 2019, arXiv 1904.06991; M. F. Naeem et al.,
    Reliable Fidelity and Diversity Metrics, 2020, arXiv 2002.09797.
    """
    within_real, within_made, between = (_distances(a, b) for a, b in ((real, real), (made, made), (real, made)))
    ball, ball_made, ball_wide = (_kth(within_real, k), _kth(within_made, k), _kth(within_real, k_coverage))
    return Neighbours(
        float((between <= ball[:, None]).any(0).mean()),
        float((between <= ball_made[None]).any(1).mean()),
        float((between <= ball_wide[:, None]).sum(0).mean() / k_coverage),
        float((between.min(1) <= ball_wide).mean()),
    )


def _distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum((x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * x @ y.T, 0))


def _kth(distances: np.ndarray, k: int) -> np.ndarray:
    """Return the distance to the k-th nearest of the same set; the nearest of all is the sound itself."""
    return np.sort(distances, 1)[:, min(k, distances.shape[1] - 1)]


# --- sets of several categories ---------------------------------------------------------------------------------


def draw_bootstrap(labels: np.ndarray, groups: np.ndarray, rounds: int = 400, seed: int = 0) -> np.ndarray:
    """Redraw a set for the bootstrap; return how often each draw holds each sound, (1 + rounds, n), first row ones.

    Whole groups are drawn, because sounds of one recording are not independent, and each category keeps its number of
    groups. A category with two groups has one usable draw, which holds both, so its spread does not show.

    Raises:
        ValueError: a category with fewer than two groups.
    """
    rng, counts = np.random.default_rng(seed), np.ones((rounds + 1, len(labels)))
    for category in np.unique(labels):
        mine = np.flatnonzero(labels == category)
        names, which = np.unique(groups[mine], return_inverse=True)
        if len(names) < 2:
            raise ValueError(f"Category {category} has {len(names)} group of sounds: expected at least 2.")
        for row in counts[1:]:
            chosen = rng.integers(len(names), size=len(names))
            while not np.ptp(chosen):  # one group alone has no pairs
                chosen = rng.integers(len(names), size=len(names))
            row[mine] = np.bincount(chosen, minlength=len(names))[which]
    return counts


def block_means(
    values: np.ndarray,
    counts: tuple[np.ndarray, np.ndarray],
    labels: tuple[np.ndarray, np.ndarray],
    pairs: np.ndarray | None = None,
) -> np.ndarray:
    """Return the mean over the pairs of each two categories; (draws, categories, categories).

    Args:
        values: a value for each pair, (n, m).
        counts: draws of the two sets, (draws, n) and (draws, m), from ``draw_bootstrap``.
        labels: labels of the two sets, from 0 without a gap.
        pairs: bool (n, m), the pairs that count; default: all.
    """
    values, mask = (values, np.ones(values.shape)) if pairs is None else (values * pairs, pairs.astype(float))
    rows = np.eye(labels[0].max() + 1)[labels[0]]
    columns = []
    for category in range(labels[1].max() + 1):
        mine = labels[1] == category
        totals = [(counts[0] * (counts[1][:, mine] @ v[:, mine].T)) @ rows for v in (values, mask)]
        columns.append(totals[0] / totals[1])
    return np.stack(columns, -1)


def apart(groups: np.ndarray) -> np.ndarray:
    """Return the pairs of two different groups, bool (n, n); sounds of one group are similar for a trivial reason."""
    return groups[:, None] != groups[None]


# --- classes ----------------------------------------------------------------------------------------------------


class Classifier(NamedTuple):
    """A logistic regression: ``x @ weights + bias``, (features, categories) and (categories,)."""

    weights: np.ndarray
    bias: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Predict the category of each sound; int (n,)."""
        return (x @ self.weights + self.bias).argmax(1)


def fit_classifier(x: np.ndarray, labels: np.ndarray, penalty: float = PENALTY) -> Classifier:
    """Fit a classifier with equal weight for each category, however many sounds it has; labels from 0 without a gap."""
    inputs, targets = torch.from_numpy(x), torch.from_numpy(labels)
    share = (1 / torch.bincount(targets).double())[targets]
    share /= share.sum()
    weights = torch.zeros(x.shape[1], int(labels.max()) + 1, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(weights.shape[1], dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([weights, bias], max_iter=300, tolerance_grad=1e-6, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        errors = torch.nn.functional.cross_entropy(inputs @ weights + bias, targets, reduction="none")
        value = share @ errors + penalty / 2 * weights.square().sum()
        value.backward()
        return value

    solver.step(loss)
    return Classifier(weights.detach().numpy(), bias.detach().numpy())


# --- copies -----------------------------------------------------------------------------------------------------


def find_nearest(made: Tensor, known: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest of the known sounds, whatever the level, the polarity and a shift of up to 20 ms.

    The distance is the RMS difference in dB of two log-mel spectrograms re their maxima, over the cells above -50 dB in
    either, at the best shift in steps of 2.5 ms. A copy is at 0 to 2.5 dB; two recordings of one kind are at 5 to
    15 dB, whether short or long, because shared silence does not count.

    Args:
        made: (n, frames).
        known: (m, frames).

    Returns:
        The distance in dB and the index of the nearest, (n,) each.
    """
    theirs = _above_floor(known)
    their_mask, their_squares = (theirs > 0).float(), theirs.square().sum(1)
    best = torch.full((len(made), len(known)), math.inf)
    for late in (0, HOP // 2):
        whole = _above_floor(torch.nn.functional.pad(made, (late, 0))[:, : made.shape[1]]).view(len(made), MELS, -1)
        for steps in range(-4, 5 - (late > 0)):
            ours = torch.nn.functional.pad(whole, (steps, -steps)).flatten(1)
            mask = (ours > 0).float()
            squares = ours.square().sum(1)[:, None] + their_squares - 2 * ours @ theirs.T
            either = mask.sum(1)[:, None] + their_mask.sum(1) - mask @ their_mask.T
            best = torch.minimum(best, squares.clamp(min=0) / either.clamp(min=1))
    value, index = best.min(1)
    return value.sqrt().double().numpy(), index.numpy()


def _above_floor(audio: Tensor) -> Tensor:
    """Return flat log-mel spectrograms in dB above ``COPY_FLOOR_DB``, 0 below it, starting 25 ms before the sound."""
    led = torch.nn.functional.pad(audio, (5 * HOP, 0))  # a window reaches ahead of an attack
    return torch.cat([(log_mel(part) - COPY_FLOOR_DB).clamp(min=0).flatten(1) for part in led.split(_BATCH)])


# --- signals ----------------------------------------------------------------------------------------------------


class Signals(NamedTuple):
    """Measures of each sound by itself; (n,) each.

    Attributes:
        tail_db: RMS of the last 50 ms re the peak.
        onset_ms: time of the first sample within 20 dB of the peak.
        peak_dbfs: the largest magnitude.
        clipped: True if the sound reaches full scale.
        dc_db: magnitude of the mean re the peak.
        crest_db: the peak re the RMS of the whole sound.
        high: share of the energy above 10 kHz.
    """

    tail_db: np.ndarray
    onset_ms: np.ndarray
    peak_dbfs: np.ndarray
    clipped: np.ndarray
    dc_db: np.ndarray
    crest_db: np.ndarray
    high: np.ndarray


def measure_signals(audio: Tensor) -> Signals:
    """Measure sounds (n, frames); silence has a tail of -120 dB, a crest of 0 dB and no energy above 10 kHz."""
    parts = [_signals(part.double()) for part in audio.split(_BATCH)]
    return Signals(*(torch.cat(values).numpy() for values in zip(*parts, strict=True)))


def _signals(audio: Tensor) -> tuple[Tensor, ...]:
    peak = audio.abs().amax(1)
    safe = peak.clamp(min=1e-12)
    rms = audio.square().mean(1).sqrt()
    tail = audio[:, -round(END_S * SAMPLE_RATE) :].square().mean(1).sqrt()
    onset = (audio.abs() >= safe[:, None] * 10 ** (ONSET_DB / 20)).double().argmax(1)
    power = torch.fft.rfft(audio).abs().square()
    hz = torch.linspace(0, SAMPLE_RATE / 2, power.shape[1])
    return (
        _db(tail / safe),
        onset * 1000 / SAMPLE_RATE,
        _db(peak),
        peak >= FULL_SCALE,
        _db(audio.mean(1).abs() / safe),
        torch.where(peak > 0, -_db(rms / safe), 0),
        power[:, hz >= HIGH_HZ].sum(1) / power.sum(1).clamp(min=1e-24),
    )


def _db(ratio: Tensor) -> Tensor:
    return 20 * torch.log10(ratio.clamp(min=10 ** (SILENCE_DB / 20)))
