"""The embedded default, what everybody hears first. Its quality is judged in bench/; here is what must never fail."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import ddnb
from ddnb.sampler import invert, iplms
from ddnb.schedule import alpha_sigma, time_grid, v_to_denoised_eps
from ddnb.steps import seeded_noise
from recipe.data import CATEGORIES

ROOT = Path(__file__).parent.parent
ASSET = ROOT / "ddnb" / "assets" / "drums.safetensors"
RATE = 44_100


@pytest.fixture(scope="module")
def sounds(drums):
    """Three of each category, (3, frames) each, as the network makes them."""
    return {name: ddnb.generate(drums, 3, 40, category=name, level="network").audio[:, 0] for name in CATEGORIES}


def test_it_is_small_and_says_what_it_is(drums):
    assert ASSET.stat().st_size <= 16 * 2**20
    assert drums.categories == CATEGORIES
    assert (drums.sample_rate, drums.channels) == (RATE, 1)
    assert drums.frames / RATE >= 1.4
    entry = ddnb.list_checkpoints()["drums"]
    assert entry["licence"] == drums.info["licence"] == "MIT"
    for source in ("Sonic Pi", "Fluid R3", "rumpf_kit"):
        assert source in drums.info["credit"] and source in entry["credit"]
    assert json.dumps(drums.info)  # travels with every sound


def test_it_converts_to_what_can_hold_it(tmp_path, drums):
    for target in ("x.ckpt", "folder"):
        with pytest.raises(ValueError, match="no other tool opens"):
            ddnb.convert("drums", tmp_path / target)
    again = ddnb.load(ddnb.convert("drums", tmp_path / "x.safetensors", dtype="float16"), device="cpu")
    assert again.categories == CATEGORIES and (tmp_path / "x.safetensors").stat().st_size < 16 * 2**20
    x, t = seeded_noise([1], (1, 8192)), torch.tensor([0.4])
    torch.testing.assert_close(again(x, t), drums(x, t))


def test_no_network_and_no_cache_are_needed(cache):
    ddnb.load("drums", device="cpu")
    assert not cache.exists() or not any(cache.rglob("*.safetensors"))


@pytest.mark.slow
def test_levels_are_sane_and_no_file_clips(sounds, drums, tmp_path):
    """Beside the level of the sounds it learned from, all of which have the same peak."""
    trained = 10 ** (drums.info["peak_dbfs"] / 20)
    for name, x in sounds.items():
        peaks = np.abs(x).max(axis=1) / trained
        assert (peaks < 4).all() and np.median(peaks) < 2 and (peaks > 0.1).all(), (name, peaks)
    paths = ddnb.generate(drums, 2, 40, category="snare", steps=10).save(tmp_path)
    for path in paths:
        assert np.abs(soundfile.read(path)[0]).max() < 1


@pytest.mark.slow
def test_one_shots_begin_at_once_and_most_end_in_silence(sounds):
    tails, early = [], []
    for name, x in sounds.items():
        if name == "texture":
            continue
        relative = np.abs(x) / np.abs(x).max(axis=1, keepdims=True)
        early += list((relative > 0.1).argmax(axis=1) <= 0.01 * RATE)
        tails += list(20 * np.log10(np.sqrt((relative[:, -2205:] ** 2).mean(axis=1)) + 1e-9))
    assert np.median(tails) <= -60
    assert np.mean(early) >= 0.9


@pytest.mark.slow
def test_categories_differ_as_their_names_say(sounds):
    """Where half of the energy lies, in Hz; hats are short and open hats are not."""

    def middle(x):
        power = (np.abs(np.fft.rfft(x)) ** 2).cumsum(axis=1)
        return np.median([np.searchsorted(row, row[-1] / 2) for row in power]) * RATE / x.shape[1]

    def length(x):
        level = np.abs(x) / np.abs(x).max(axis=1, keepdims=True)
        return np.median([np.flatnonzero(row > 0.1)[-1] for row in level]) / RATE

    low, high = ("kick", "bass", "tom"), ("closed_hat", "open_hat", "cymbal")
    assert max(middle(sounds[name]) for name in low) < 400 < 2000 < min(middle(sounds[name]) for name in high)
    assert length(sounds["closed_hat"]) < length(sounds["open_hat"])
    assert length(sounds["closed_hat"]) < 0.3 < length(sounds["texture"])


def test_mixtures_any_and_guidance_are_sounds(drums):
    for options in ({"category": {"kick": 1, "snare": 1}}, {}, {"category": "bass", "guidance_scale": 2.0}):
        x = ddnb.generate(drums, 1, 3, steps=8, **options).audio
        assert np.isfinite(x).all() and 0.02 < np.abs(x).max() < 1.5


@pytest.mark.parametrize("duration_s", [0.1, 1.0, 3.0])
def test_any_length(drums, duration_s):
    x = ddnb.generate(drums, 1, 3, category="texture", duration_s=duration_s, steps=4).audio
    assert x.shape[-1] == round(duration_s * RATE)
    thirds = np.array_split(x[0, 0], 3)
    assert min(t.std() for t in thirds) > 0.2 * max(t.std() for t in thirds)


def test_a_loop_has_no_seam(drums):
    """The step over the seam is one of the usual ones; and a turned noise gives the turned sound."""
    cond = torch.eye(11)[CATEGORIES.index("texture")][None, :, None]
    z, ts = seeded_noise([1], (1, 16_384)), time_grid("log_snr", 12)
    turned = iplms(lambda x, t: drums(x, t, cond, circular=True), z.roll(4096, -1), ts)
    loop = iplms(lambda x, t: drums(x, t, cond, circular=True), z, ts)
    torch.testing.assert_close(turned, loop.roll(4096, -1), atol=1e-3, rtol=0)
    steps = loop.diff(dim=-1).abs().flatten()
    assert (loop[..., 0] - loop[..., -1]).abs() <= steps.quantile(0.999)


@pytest.mark.slow
def test_inversion_comes_back(drums):
    """Up to noise and down again by a plain ODE solver: what variation and interpolation stand on."""
    x0 = torch.from_numpy(ddnb.generate(drums, 1, 5, category="snare").audio)[..., :32_768]
    cond = torch.eye(11)[CATEGORIES.index("snare")][None, :, None]
    ts = time_grid("log_snr", 50)
    latent = invert(lambda x, t: drums(x, t, cond), x0, ts)
    back = iplms(lambda x, t: drums(x, t, cond), latent, ts)
    error = (back - x0).square().mean() / x0.square().mean()
    assert error < 0.1


def test_known_parts_stay_in_an_inpainting(drums):
    """Replacing what is known at every step: the rest follows, and joins without a click."""
    x0 = torch.from_numpy(ddnb.generate(drums, 1, 5, category="texture").audio)[..., :32_768]
    cond = torch.eye(11)[CATEGORIES.index("texture")][None, :, None]
    known = torch.ones_like(x0)
    known[..., 12_000:20_000] = 0
    ts = time_grid("log_snr", 20).float()
    x = seeded_noise([2], x0.shape[1:])
    for i, (t, after) in enumerate(pairwise(ts)):
        clean, noise = v_to_denoised_eps(x, drums(x, t[None], cond), t)
        alpha, sigma = alpha_sigma(after)
        fresh = alpha * x0 + sigma * seeded_noise([2], x0.shape[1:], i)
        x = known * fresh + (1 - known) * (alpha * clean + sigma * noise)
    gap = x[..., 12_000:20_000]
    assert torch.isfinite(x).all()
    assert 0.2 < gap.std() / x0.std() < 3
    assert (x[..., 12_000] - x[..., 11_999]).abs() < 6 * x0.diff(dim=-1).std()
