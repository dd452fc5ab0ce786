"""Test the measures of bench/quality.py on cases with a known answer."""

import numpy as np
import pytest
import torch

from bench import quality

# --- features ---------------------------------------------------------------------------------------------------


def test_log_mel_finds_a_tone():
    t = torch.arange(22_050) / 44_100
    mel = quality.log_mel(torch.stack([torch.sin(6.2832 * hz * t) for hz in (200.0, 2000.0, 15_000.0)]))
    assert mel.shape == (3, 64, 22_050 // 220 + 1)
    assert mel.max() == 0 and mel.min() == -80
    middles = quality._mel_bank() @ torch.linspace(0, 22_050, 513)
    found = middles[mel.mean(-1).argmax(-1)]
    assert found.tolist() == pytest.approx([200, 2000, 15_000], rel=0.12)


def test_features_ignore_level_and_polarity():
    x = torch.randn(3, 65_536, generator=torch.Generator().manual_seed(0)) * torch.exp(-torch.arange(65_536) / 9000)
    ours = quality.features(x)
    assert ours.shape == (3, 304)
    np.testing.assert_allclose(quality.features(-0.1 * x), ours, atol=0.02)
    assert np.isfinite(quality.features(torch.zeros(1, 65_536))).all()


def test_features_depend_on_length_and_spectrum():
    x = torch.randn(1, 65_536, generator=torch.Generator().manual_seed(0))
    t = torch.arange(65_536) / 44_100
    short, long = (quality.features(x * torch.exp(-t / s)) for s in (0.02, 0.3))
    assert long[0, 256 + 5] - short[0, 256 + 5] > 30  # dB of the envelope between 0.3 and 0.6 s
    dull = quality.features(torch.cumsum(x, -1) - torch.cumsum(x, -1).mean())
    assert dull[0, :10].mean() - dull[0, 54:64].mean() > 20  # dB, low mels above high ones


def test_scale_standardizes_the_reference():
    x = np.random.default_rng(0).normal(3, 5, (500, 4))
    x[:, 3] = 7
    scaled = quality.fit_scale(x)(x)
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(scaled.std(0), [1, 1, 1, 0], atol=1e-12)


# --- kernel distances -------------------------------------------------------------------------------------------


def test_polynomial_distance_of_two_points():
    """With all of x at a and all of y at b it is (a a + 1)^3 + (b b + 1)^3 - 2 (a b + 1)^3, without uncertainty."""
    d = quality.kernel_distance(np.full((5, 1), 2.0), np.full((7, 1), -1.0))
    assert d.value == pytest.approx(5**3 + 2**3 + 2, rel=1e-12)
    assert d.low == pytest.approx(d.value) and d.high == pytest.approx(d.value)


def test_gaussian_distance_of_two_normals():
    """For unit normals whose means differ by m in each of d features, w = width^2:
    2 (w / (w + 2))^(d / 2) (1 - exp(-d m^2 / (2 (w + 2)))). False alarms: below 1 in 1000, at 4 deviations."""
    d, m, w = 3, 0.8, 3.0
    expected = 2 * (w / (w + 2)) ** (d / 2) * (1 - np.exp(-d * m**2 / (2 * (w + 2))))
    rng = np.random.default_rng(0)
    values = []
    for _ in range(20):
        x, y = rng.normal(size=(100, d)), rng.normal(m, 1, (120, d))
        values.append(quality.kernel_distance(x, y, quality.gaussian, rounds=1).value)
    assert np.mean(values) == pytest.approx(expected, abs=4 * np.std(values) / np.sqrt(20))


@pytest.mark.parametrize("kernel", ["polynomial", "gaussian"])
def test_the_distance_within_one_distribution_is_0_on_average(kernel):
    """The estimate is unbiased: its mean over many draws is 0 although the sets are small. Tested at 4 deviations."""
    rng = np.random.default_rng(1)
    draws = [
        quality.kernel_distance(*rng.normal(size=(2, 10, 5)), getattr(quality, kernel), rounds=1).value
        for _ in range(300)
    ]
    assert abs(np.mean(draws)) < 4 * np.std(draws) / np.sqrt(300)
    assert min(draws) < 0


def test_bootstrap_interval_holds_the_value_and_narrows():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(400, 6)), rng.normal(0.5, 1, (400, 6))
    few, many = quality.kernel_distance(x[:40], y[:40]), quality.kernel_distance(x, y)
    for d in (few, many):
        assert d.low < d.value < d.high
    assert many.high - many.low < 0.5 * (few.high - few.low)
    pair = quality.kernel_distance(x[:2], y[:2])  # a draw without pairs is skipped
    assert np.isfinite(pair).all()


# --- neighbours -------------------------------------------------------------------------------------------------


def test_neighbours_of_equal_and_of_distant_sets():
    x = np.random.default_rng(0).normal(size=(200, 4))
    same = quality.neighbours(x, x)
    assert same.precision == same.recall == same.coverage == 1
    assert 1 <= same.density < 1.4  # each ball of 5 also holds its own centre: 6 / 5
    assert quality.neighbours(x, x + 100) == (0, 0, 0, 0)


def test_neighbours_distinguish_collapse_from_noise():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(300, 3))
    collapsed = quality.neighbours(real, 0.05 * rng.normal(size=(300, 3)))
    assert collapsed.precision > 0.95 and collapsed.recall < 0.05 and collapsed.coverage < 0.2
    noisy = quality.neighbours(real, 6 * rng.normal(size=(300, 3)))
    assert noisy.precision < 0.3 and noisy.recall > 0.9
