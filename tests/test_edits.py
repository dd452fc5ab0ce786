"""Gaps and continuations: what was known stays, what was unknown does not leak, what is made fits."""

import math
import threading
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import gaussian_v, process_v, toy

import ddnb
from ddnb.audio.loop import seam_db
from ddnb.errors import Cancelled
from ddnb.generation import extend, inpaint
from ddnb.inpainting import METHODS
from ddnb.schedule import time_grid
from ddnb.steps import seeded_noise

RATE = 8000
FADE = 80  # frames in 10 ms


def sound(seed=0, frames=1000, channels=1, level=0.2):
    return level * np.random.default_rng(seed).standard_normal((channels, frames)).astype(np.float32)


@pytest.fixture
def ckpt():
    return toy(gaussian_v(0.2))


def fill(ckpt, audio, start_s, end_s, n=1, rate=RATE, **options):
    return ddnb.inpaint(ckpt, (audio, rate), start_s, end_s, n, **({"steps": 3} | options))


# --- filling: what is known ---------------------------------------------------------------------------------------


def near(frames, gaps, reach, loop=False):
    """Which frames may change: those in gaps and ``reach`` around them."""
    place, changed = np.arange(frames), np.zeros(frames, bool)
    for first, last in gaps:
        for turn in (-frames, 0, frames) if loop else (0,):
            changed |= (place >= first - reach + turn) & (place < last + reach + turn)
    return changed


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("rate", [8000, 16_000, 44_100, 5000])
def test_outside_of_gaps_every_bit_stays(rate, channels, method, ckpt):
    """Whatever the rate and the channels of the sound: those of the network do not matter."""
    audio = sound(channels=channels, frames=1003)
    clips = fill(ckpt, audio, 300 / rate, 500 / rate, 2, rate, method=method)
    assert clips.sample_rate == rate and clips.audio.shape == (2, channels, 1003)
    changed = near(1003, [(300, 500)], round(0.01 * rate))
    for made in clips.audio:
        np.testing.assert_array_equal(made[:, ~changed], audio[:, ~changed])
        assert (made[:, 300:500] != audio[:, 300:500]).mean() > 0.99
        assert np.isfinite(made).all() and made.dtype == np.float32
    assert np.abs(clips.audio[0] - clips.audio[1])[:, 300:500].max() > 0.01


@pytest.mark.parametrize("rate", [48_000, 22_050])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_stereo_network_fills_any_sound(channels, rate, small):
    audio = sound(channels=channels, frames=600)
    made = fill(small, audio, 200 / rate, 300 / rate, 1, rate, steps=1).audio[0]
    changed = near(600, [(200, 300)], round(0.01 * rate))
    np.testing.assert_array_equal(made[:, ~changed], audio[:, ~changed])
    assert np.isfinite(made).all() and (made[:, 200:300] != audio[:, 200:300]).any()


def test_the_embedded_network_fills_in_its_category(drums):
    clip = ddnb.generate(drums, 1, category="kick", steps=2, duration_s=0.2)[0]
    made = ddnb.inpaint(drums, clip, 0.05, 0.1, 1, steps=2)
    assert made.settings["making"]["category"] == {"kick": 1.0}
    changed = near(8820, [(2205, 4410)], 441)
    np.testing.assert_array_equal(made.audio[0][:, ~changed], clip.audio[:, ~changed])


@pytest.mark.parametrize(
    "gaps", [[(0, 200)], [(800, 1000)], [(100, 200), (500, 700)], [(300, 500), (400, 600)]], ids=str
)
@pytest.mark.parametrize("rate", [8000, 12_000])
def test_gaps_at_either_end_and_several_of_them(gaps, rate, ckpt):
    audio = sound()
    made = fill(ckpt, audio, *([edge / rate for edge in side] for side in zip(*gaps, strict=True)), rate=rate).audio[0]
    changed = near(1000, gaps, round(0.01 * rate))
    np.testing.assert_array_equal(made[:, ~changed], audio[:, ~changed])
    inside = near(1000, gaps, 0)
    assert (made[:, inside] != audio[:, inside]).mean() > 0.99
    assert np.abs(made[:, inside]).mean() > 0.01  # no silence at the ends


def test_overlapping_gaps_are_one(ckpt):
    apart = fill(ckpt, sound(), [300 / RATE, 400 / RATE], [500 / RATE, 600 / RATE])
    np.testing.assert_array_equal(apart.audio, fill(ckpt, sound(), 300 / RATE, 600 / RATE).audio)


def test_a_gap_across_the_seam_of_a_loop(ckpt):
    audio = sound()
    made = fill(ckpt, audio, 900 / RATE, 100 / RATE, loop=True).audio[0]
    changed = near(1000, [(900, 1100)], FADE, loop=True)
    assert 340 < changed.sum() <= 360
    np.testing.assert_array_equal(made[:, ~changed], audio[:, ~changed])
    assert (made[:, :100] != audio[:, :100]).all() and (made[:, 900:] != audio[:, 900:]).all()


def test_the_fade_of_a_loop_goes_around_its_end(ckpt):
    audio = sound()
    made = fill(ckpt, audio, 20 / RATE, 100 / RATE, loop=True).audio[0]
    changed = near(1000, [(20, 100)], FADE, loop=True)
    np.testing.assert_array_equal(made[:, ~changed], audio[:, ~changed])
    assert (made[:, 960:] != audio[:, 960:]).any()


@pytest.mark.parametrize("method", METHODS)
def test_a_filled_seam_closes(method):
    """A cut of a process that lives on a circle is a click; the part around it is made anew, and it is one no more."""
    frames = 4096
    spectrum = 0.2 * np.exp(-np.linspace(0, 6, frames // 2 + 1))
    ckpt = toy(process_v(spectrum), frames=frames)
    x = np.fft.irfft(spectrum * np.fft.rfft(np.random.default_rng(0).standard_normal((1, frames)))).astype(np.float32)
    x[:, frames // 2 :] *= -1
    x = np.roll(x, frames // 2, -1)
    assert seam_db(x) > 10
    made = fill(ckpt, x, 3900 / RATE, 200 / RATE, loop=True, method=method, steps=25).audio[0]
    assert seam_db(made) < 10 if method == "replace" else seam_db(made) < 1


def test_the_fade_is_a_fade(ckpt):
    """Share of the made sound: none 10 ms away, all at the gap, never back."""
    ones = np.ones((1, 1000), np.float32)
    share = 1 - inpaint.merge_known(inpaint.input_clip((ones, RATE)), 0 * ones, near(1000, [(400, 500)], 0), RATE)[0]
    assert not share[: 400 - FADE].any() and not share[500 + FADE :].any()
    assert (share[400:500] == 1).all()
    assert (np.diff(share[:450]) >= 0).all() and (np.diff(share[450:]) <= 0).all()
    assert np.abs(np.diff(share)).max() < 2 * math.pi / 2 / FADE


# --- filling: what is unknown -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("rate", [8000, 11_025])
def test_what_was_in_the_gap_does_not_matter(rate, loop, method, ckpt):
    """To the bit: it may be a click or a cough 40 dB above the rest; a resampler or a level would tell of it."""
    ckpt = replace(ckpt, info=ckpt.info | {"peak_dbfs": -6.0})
    quiet, loud = sound(), sound()
    loud[:, 400:600] = 50 * sound(1, 200)
    made = [fill(ckpt, x, 400 / rate, 600 / rate, rate=rate, loop=loop, method=method).audio for x in (quiet, loud)]
    np.testing.assert_array_equal(*made)
    assert np.abs(made[0]).max() < 2


def test_seeds_and_batches(small):
    options = {"rate": 48_000, "steps": 2, "method": "replace"}
    together = fill(small, sound(channels=2), 0.005, 0.01, 3, seed=5, **options)
    assert together.seeds == [5, 6, 7]
    alone = fill(small, sound(channels=2), 0.005, 0.01, 1, seed=7, **options)
    np.testing.assert_array_equal(together.audio[2], alone.audio[0])
    batch = fill(small, sound(channels=2), 0.005, 0.01, 3, seed=5, batch_size=3, **options)
    np.testing.assert_allclose(batch.audio, together.audio, atol=1e-4)


def test_the_channels_of_a_mono_network_have_the_same_noise(ckpt):
    both = np.repeat(sound(), 2, 0)
    made = fill(ckpt, both, 0.05, 0.08).audio[0]
    np.testing.assert_array_equal(made[0], made[1])
    np.testing.assert_array_equal(made[:1], fill(ckpt, sound(), 0.05, 0.08).audio[0])


# --- filling: against Bayes' rule ---------------------------------------------------------------------------------

FRAMES, GAP = 256, slice(96, 160)


@pytest.fixture(scope="module")
def process():
    """A tone that drifts and a band of noise: power per line, and covariance."""
    line = np.arange(FRAMES // 2 + 1)
    spectrum = 1.2 * np.exp(-(((line - 12) / 1.5) ** 2)) + 0.25 * np.exp(-(((line - 40) / 12) ** 2)) + 0.02
    rows = np.fft.irfft(spectrum**2, FRAMES)
    return spectrum, np.stack([np.roll(rows, k) for k in range(FRAMES)])


@pytest.fixture(scope="module")
def filled(process):
    """The error of the conditional mean re the unconditional spread, and the ratio of spreads, per method."""
    spectrum, covariance = process
    known = np.ones(FRAMES, bool)
    known[GAP] = False
    gain = covariance[~known][:, known] @ np.linalg.inv(covariance[known][:, known])
    posterior = covariance[~known][:, ~known] - gain @ covariance[known][:, ~known]
    n, found = 48, {}
    for method, fill_gap in METHODS.items():
        errors, spreads = [], []
        for signal in range(3):
            white = np.random.default_rng(signal).standard_normal(FRAMES)
            y = np.fft.irfft(spectrum * np.fft.rfft(white))
            made = (
                fill_gap(
                    process_v(spectrum),
                    seeded_noise(range(n), (1, FRAMES)),
                    time_grid("log_snr", 25),
                    known=torch.from_numpy(y).float().expand(n, 1, -1),
                    mask=torch.from_numpy(known).float(),
                    noise=lambda step: seeded_noise(range(n), (1, FRAMES), step),
                )[:, 0, GAP]
                .double()
                .numpy()
            )
            errors.append(np.square(made.mean(0) - gain @ y[known]).mean() / np.trace(covariance) * FRAMES)
            spreads.append(made.var(0).mean() / np.diag(posterior).mean())
        found[method] = np.sqrt(np.mean(errors)), np.sqrt(np.mean(spreads))
    return found


@pytest.mark.slow
def test_resampling_and_guidance_know_more_than_replacing(filled):
    """Plain replacement loses half of what is known; perfect sampling would be at 0.1, the error of a mean of 48."""
    assert filled["resample"][0] < 0.7 * filled["replace"][0]
    assert filled["guide"][0] < 0.8 * filled["replace"][0]
    assert filled["resample"][0] < 0.35


def test_fillings_are_as_various_as_they_should_be(filled):
    for method, (_, spread) in filled.items():
        assert 0.6 < spread < 1.4, method


@pytest.mark.parametrize("method", METHODS)
def test_with_independent_samples_a_gap_is_like_the_data(method):
    """What is known tells nothing; the spread in the gap is that of the data, and the rest comes back."""
    y = 0.3 * torch.randn(1, 1, 2000, generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(2000) < 1000).float()
    made = METHODS[method](
        gaussian_v(0.3),
        seeded_noise([0], (1, 2000)),
        time_grid("log_snr", 50),
        known=y,
        mask=mask,
        noise=lambda step: seeded_noise([0], (1, 2000), step),
    )
    assert made[..., 1000:].std().item() == pytest.approx(0.3, rel=0.1)
    torch.testing.assert_close(made[..., :1000], y[..., :1000], atol=0.05, rtol=0)


def test_one_pass_is_replacing(ckpt):
    given = {"known": torch.zeros(1, 1, 64), "mask": (torch.arange(64) < 32).float()}
    noise = lambda step: seeded_noise([0], (1, 64), step)  # noqa: E731
    x, ts = seeded_noise([0], (1, 64)), time_grid("log_snr", 5)
    one = METHODS["resample"](ckpt, x, ts, noise=noise, passes=1, **given)
    torch.testing.assert_close(one, METHODS["replace"](ckpt, x, ts, noise=noise, **given), atol=0, rtol=0)


@pytest.mark.parametrize(("method", "calls"), [("replace", 4), ("resample", 2 + 2 * 5), ("guide", 4)])
def test_what_a_method_costs(method, calls):
    """No going over at t = 1, from where there is no way back, nor at the last step, where nothing is left to do."""
    seen = []

    def counted(x, t):
        seen.append(t[0].item())
        return gaussian_v(0.2)(x, t)

    ddnb.inpaint(toy(counted), (sound(), RATE), 0.05, 0.08, 1, method=method, steps=4)
    assert len(seen) == calls


# --- filling long sounds ------------------------------------------------------------------------------------------


def watched(seen, frames=256, **shape):
    def v(x, t):
        seen.append(x.shape[-1])
        return gaussian_v(0.2)(x, t)

    return toy(v, frames=frames, **shape)


def test_of_a_long_sound_only_the_neighbourhood_is_looked_at():
    """100 s through a network of 32 ms: it sees 4 times that, and the gap."""
    seen, audio = [], sound(frames=800_000)
    made = fill(watched(seen), audio, 50.0, 50.01, 1, method="replace", steps=1).audio[0]
    assert max(seen) <= 4 * 256 + 80 + 8 and seen
    changed = near(800_000, [(400_000, 400_080)], FADE)
    np.testing.assert_array_equal(made[:, ~changed], audio[:, ~changed])
    assert (made[:, 400_000:400_080] != audio[:, 400_000:400_080]).all()


def test_gaps_far_apart_are_filled_one_by_one_and_near_ones_together():
    for gaps, pieces in (((1.0, 5.0), 2), ((1.0, 1.1), 1), ((0.0, 9.99), 2)):
        seen, counted, audio = [], [], sound(frames=80_000)
        clips = fill(
            watched(seen),
            audio,
            list(gaps),
            [gap + 0.01 for gap in gaps],
            2,
            method="replace",
            steps=2,
            on_step=lambda done, total, _, to=counted: to.append((done, total)),
        )
        assert len(seen) == 2 * 2 * pieces
        assert counted == [(i, 4 * pieces) for i in range(1, 4 * pieces + 1)]
        changed = near(80_000, [(round(gap * RATE), round(gap * RATE) + 80) for gap in gaps], FADE)
        np.testing.assert_array_equal(clips.audio[:, :, ~changed], np.stack([audio[:, ~changed]] * 2))


def test_a_gap_of_more_than_a_minute_is_refused(ckpt):
    with pytest.raises(ValueError, match="exceed 60 s.*one after the other"):
        fill(ckpt, sound(frames=800_000), 10, 80)


@pytest.mark.parametrize(("at", "left"), [(1, 0), (3, 0), (5, 1), (7, 1), (8, 2)])
@pytest.mark.filterwarnings("ignore:interrupted")
@pytest.mark.parametrize("how", ["cancel", "interrupt"])
def test_stopped_it_returns_what_is_finished(how, at, left):
    """Two gaps, two clips, two steps each: a clip is finished when its second gap is, and is so before the next one."""
    cancel, audio = threading.Event(), sound(frames=80_000)
    ckpt, gaps = watched([]), ([1.0, 5.0], [1.01, 5.01])

    def stop(done, total, denoised):
        assert total == 8
        if done == at:
            cancel.set()
            if how == "interrupt" and done < 8:
                raise KeyboardInterrupt

    clips = fill(ckpt, audio, *gaps, 2, method="replace", steps=2, on_step=stop, cancel=cancel)
    assert len(clips) == left and clips.settings["making"]["asked"] == 2
    np.testing.assert_array_equal(clips.audio, fill(ckpt, audio, *gaps, 2, method="replace", steps=2).audio[:left])


@pytest.mark.parametrize("method", METHODS)
def test_methods_look_at_cancel(method, ckpt):
    cancel = threading.Event()
    cancel.set()
    given = {"known": torch.zeros(1, 1, 64), "mask": torch.ones(64), "noise": lambda step: torch.zeros(1, 1, 64)}
    with pytest.raises(Cancelled):
        METHODS[method](ckpt, torch.zeros(1, 1, 64), time_grid("log_snr", 5), cancel=cancel, **given)


# --- gaps that cannot be ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start_s", "end_s", "message"),
    [
        (0.1, 0.2, r"a gap from 0.1 to 0.2 s: audio lasts 0.125 s"),
        (-0.01, 0.1, "-0.01"),
        (0.13, 0.14, "lasts"),
        (0.0, 0.125, "Nothing is left outside"),
        ([0.0, 0.05], [0.06, 0.125], "Nothing is left outside"),
        (0.1, 0.05, "only a loop has gaps across its end"),
        (0.05, 0.05, "0.05 to 0.05"),
        (0.05, 0.05001, "shorter than a frame"),
        (math.nan, 0.1, "nan"),
        (0.05, math.nan, "nan"),
        (0.05, math.inf, "inf"),
        ([0.01, 0.05], [0.02], "as many beginnings as ends"),
        (0.01, [0.02, 0.03], "as many beginnings as ends"),
        ([], [], "as many beginnings as ends"),
        ("soon", 0.1, "soon|string"),
        (None, 0.1, "nan"),
    ],
    ids=str,
)
def test_rejects_invalid_gaps(start_s, end_s, message, ckpt):
    with pytest.raises(ValueError, match=message):
        fill(ckpt, sound(), start_s, end_s)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"method": "ddnm"}, "Unknown method 'ddnm'. Known: guide, resample, replace"),
        ({"sampler": "iplms"}, "gaps are filled by a method"),
        ({"steps": 0}, "steps=0"),
        ({"n": 0}, "n=0"),
        ({"seed": -1}, "seed=-1"),
        ({"category": "kick"}, "no categories"),
    ],
)
def test_rejects_invalid_options(wrong, message, ckpt):
    with pytest.raises(ValueError, match=message):
        ddnb.inpaint(ckpt, (sound(), RATE), 0.05, 0.06, **wrong)
    with pytest.raises(ValueError, match=message):
        ddnb.extend(ckpt, (sound(), RATE), 0.2, **wrong)


def test_a_loop_may_be_off_no_more_than_it_is(ckpt):
    """A loop of any length is filled; the network's own length is behind it."""
    for frames in (20, 257, 999, 3001):
        made = fill(ckpt, sound(frames=frames), 5 / RATE, 12 / RATE, loop=True).audio
        assert made.shape == (1, 1, frames) and np.isfinite(made).all()


# --- going on -----------------------------------------------------------------------------------------------------


def grow(ckpt, audio, frames, n=1, rate=RATE, **options):
    return ddnb.extend(ckpt, (audio, rate), frames / rate, n, **({"steps": 2, "method": "replace"} | options))


@settings(max_examples=25)
@given(
    st.integers(10, 700),
    st.integers(1, 900),
    st.booleans(),
    st.sampled_from([8000, 11_025, 96_000, 5000]),
    st.sampled_from([1, 2, 3]),
    st.booleans(),
)
def test_a_sound_goes_on_to_the_frame_and_what_was_stays(frames, more, backwards, rate, channels, anchored):
    audio = sound(frames=frames, channels=channels)
    ckpt = toy(gaussian_v(0.2), anchored=anchored)
    made = grow(ckpt, audio, frames + more, rate=rate, backwards=backwards)
    assert made.sample_rate == rate and made.audio.shape == (1, channels, frames + more)
    assert np.isfinite(made.audio).all()
    kept = frames - round(0.01 * rate)
    if kept > 0:
        was, now = (
            (audio[:, -kept:], made.audio[0][:, -kept:]) if backwards else (audio[:, :kept], made.audio[0][:, :kept])
        )
        np.testing.assert_array_equal(now, was)
    new = made.audio[0][:, :more] if backwards else made.audio[0][:, frames:]
    assert more * 8000 < 3 * rate or (new != 0).mean() > 0.6


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("backwards", [False, True])
def test_window_by_window_it_sounds_like_the_data(backwards, method):
    """Half of each window is what was made before. A process of a band goes on as the same process."""
    spectrum = 0.3 * np.exp(-(((np.arange(129) - 20) / 8.0) ** 2)) + 1e-3
    seen = []

    def v(x, t):
        seen.append(x.shape[-1])
        return process_v(spectrum)(x, t)

    x = np.fft.irfft(spectrum * np.fft.rfft(np.random.default_rng(0).standard_normal((1, 256)))).astype(np.float32)
    made = grow(toy(v), x, 256 + 8 * 128, method=method, steps=20, backwards=backwards).audio[0, 0]
    assert set(seen) == {256}
    new = made[: 8 * 128] if backwards else made[256:]
    power = np.square(np.abs(np.fft.rfft(new * np.hanning(len(new)))))
    band = np.fft.rfftfreq(len(new)) * 256
    assert power[(band > 5) & (band < 40)].sum() > 0.97 * power.sum()
    assert 20 * np.log10(new.std() / x.std()) == pytest.approx(0, abs=2.5)


def adaptive_v(spectrum, loss):
    """The v of a process of unknown level: it goes by the level of what it is shown, and falls a bit short of it."""
    square = torch.as_tensor(spectrum, dtype=torch.float64).square()
    power = torch.fft.irfft(square, 2 * (len(square) - 1))[0]

    def v(x, t):
        phi = t.double().view(-1, 1, 1) * torch.pi / 2
        a, s = phi.cos(), phi.sin()
        halves = x.double().unflatten(-1, (2, -1)).square().mean((1, 3)).amax(1)[:, None, None]  # one is known
        level = ((halves - s**2) / a**2 / power).clamp(1e-2, 1)
        own = loss**2 * level * square
        gain = a * s * (1 - own) / (a**2 * own + s**2)
        return torch.fft.irfft(gain * torch.fft.rfft(x.double()), x.shape[-1]).to(x)

    return v


def levels_of(sound, window=128):
    return 20 * np.log10(sound.reshape(-1, window).std(axis=1))


@pytest.mark.slow
@pytest.mark.parametrize("backwards", [False, True])
def test_errors_of_level_do_not_add_up(backwards, monkeypatch):
    """A network that is a bit too quiet each time would be 20 dB down after 14 windows, at the default steps."""
    spectrum = np.full(257, 0.3)
    x = sound(frames=512, level=0.3)
    ckpt = toy(adaptive_v(spectrum, 0.97), frames=512)

    def drift():
        made = grow(ckpt, x, 512 + 14 * 256, n=3, method="resample", steps=25, backwards=backwards).audio[:, 0]
        levels = np.stack([levels_of(y[::-1] if backwards else y, 256) for y in made]).mean(0)
        return levels[-3:].mean() - levels[2]

    assert abs(drift()) < 1.5
    monkeypatch.setattr(extend, "_MAX_GAIN", 1.0)
    assert drift() < -6


@pytest.mark.parametrize("backwards", [False, True])
def test_windows_join_without_a_step(backwards):
    """Also where the level is corrected, by the most that it ever is. In so low a sound steps would stand out."""
    spectrum = np.where(np.arange(257) < 12, 0.5, 1e-4)
    white = np.random.default_rng(3).standard_normal((1, 512))
    x = np.fft.irfft(spectrum * np.fft.rfft(white)).astype(np.float32)
    ckpt = toy(adaptive_v(spectrum, 0.8), frames=512)
    made = grow(ckpt, x, 512 + 8 * 256, method="resample", steps=12, backwards=backwards).audio[0, 0]
    made = made[::-1] if backwards else made
    bends = np.abs(np.diff(made, 2))
    joins = np.concatenate([bends[512 + k * 256 - 3 : 512 + k * 256 + 2] for k in range(1, 8)])
    level = np.sqrt(np.square(made[512:]).mean())
    inside = np.delete(bends, np.concatenate([np.arange(512 + k * 256 - 90, 512 + k * 256 + 5) for k in range(8)]))
    assert joins.max() < max(3 * inside.max(), 0.02 * level)


def test_an_anchored_network_makes_it_in_one_piece():
    """It knows where sounds begin: shown the middle of one it would take it for a beginning."""
    seen = []
    ckpt = watched(seen, anchored=True)
    grow(ckpt, sound(frames=300), 2000, steps=3)
    assert seen == [2000] * 3


def test_each_window_has_noise_of_its_own(ckpt):
    made = grow(ckpt, sound(frames=256), 256 + 5 * 128).audio[0, 0, 256:].reshape(5, 128)
    correlation = np.corrcoef(made)
    assert np.abs(correlation[~np.eye(5, dtype=bool)]).max() < 0.4


@pytest.mark.parametrize("backwards", [False, True])
def test_a_continuation_depends_on_its_seed_alone(backwards):
    """Also its level, which is corrected window by window: not by that of the batch."""
    ckpt = toy(adaptive_v(np.full(129, 0.3), 1.0))
    options = {"method": "resample", "steps": 25, "backwards": backwards}
    together = grow(ckpt, sound(frames=256), 900, 4, seed=4, batch_size=4, **options)
    alone = grow(ckpt, sound(frames=256), 900, 1, seed=7, **options)
    np.testing.assert_allclose(together.audio[3], alone.audio[0], atol=1e-5)


def test_each_channel_keeps_its_level():
    audio = sound(frames=256, channels=2) * np.array([[1.0], [0.2]], np.float32)
    made = grow(toy(adaptive_v(np.full(129, 0.3), 1.0)), audio, 2000, method="resample", steps=25).audio[0]
    now, was = made[:, 1000:].std(axis=1), audio.std(axis=1)
    np.testing.assert_allclose(20 * np.log10(now / was), 0, atol=3)


def test_it_goes_on_from_what_was_there():
    """A tone goes on in phase: what is made is nearer to its continuation than to silence or to another phase."""
    spectrum = np.full(129, 1e-3)
    spectrum[15:18] = 3
    tone = np.sin(2 * np.pi * 16 / 256 * np.arange(256 + 60) + 1)[None].astype(np.float32)
    made = grow(toy(process_v(spectrum)), tone[:, :256], 316, 4, method="resample", steps=25).audio[:, 0, 256:]
    for part in made:
        assert np.corrcoef(part, tone[0, 256:])[0, 1] > 0.9


def test_progress_and_stopping(ckpt):
    seen, cancel = [], threading.Event()
    grow(ckpt, sound(frames=256), 256 + 3 * 128, 2, on_step=lambda done, total, _: seen.append((done, total)))
    assert seen == [(i, 12) for i in range(1, 13)]

    def stop(done, total, denoised):
        if done == 8:
            cancel.set()

    clips = grow(ckpt, sound(frames=256), 256 + 3 * 128, 2, on_step=stop, cancel=cancel)
    assert clips.seeds == [0]
    np.testing.assert_array_equal(clips.audio, grow(ckpt, sound(frames=256), 256 + 3 * 128, 1).audio)


def test_a_category_and_a_beginning(drums):
    clip = ddnb.generate(drums, 1, category="open_hat", steps=2, duration_s=0.1)[0]
    clips = ddnb.extend(drums, clip, 0.3, 1, steps=2)
    assert clips.settings["making"]["category"] == {"open_hat": 1.0}
    np.testing.assert_array_equal(clips.audio[0][:, : 4410 - 441], clip.audio[:, : 4410 - 441])
    assert clips.audio.shape == (1, 1, 13_230)


@pytest.mark.parametrize(
    ("duration_s", "anchored", "message"),
    [
        (0.1, False, "duration_s=0.1: give a number from 0.125 to 600"),
        (0.125, False, "audio is that long already"),
        (0.125001, False, "audio is that long already"),
        (601, False, "to 600"),
        (61, True, "to 60"),
        (math.nan, False, "duration_s=nan"),
        ("1", False, "duration_s='1'"),
        (None, False, "duration_s=None"),
    ],
)
def test_rejects_invalid_continuations(duration_s, anchored, message):
    with pytest.raises(ValueError, match=message):
        ddnb.extend(toy(gaussian_v(0.2), anchored=anchored), (sound(), RATE), duration_s)


def test_a_file_goes_on_and_its_record_can_be_saved(ckpt, tmp_path):
    soundfile.write(tmp_path / "rain.flac", sound(channels=2).T, RATE)
    clips = ddnb.extend(ckpt, tmp_path / "rain.flac", np.float32(0.25), 1, steps=1)
    clips.save(tmp_path / "out")
    filled = ddnb.inpaint(ckpt, tmp_path / "rain.flac", np.array([0.01], np.float32), np.array([0.02]), 1, steps=1)
    filled.save(tmp_path / "out")
    assert filled.settings["making"]["end_s"] == [0.02]
    assert filled.settings["making"]["source"]["name"] == "rain.flac"


def test_going_back_loses_no_attack():
    """A network that knows where sounds begin begins the result, whatever length it can make of it."""
    ckpt = ddnb.load("drums", device="cpu")
    seen = []

    def first_frame(model, x, ts, *, known, mask, noise, **_):
        seen.append(x.shape[-1])
        made = torch.zeros_like(x)
        made[..., 0] = 1.0
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, "first", first_frame)
        audio = (sound(0, 22_050, channels=1), 44_100)
        clips = ddnb.extend(ckpt, audio, 1.0, 1, backwards=True, method="first")
    assert seen == [45_056] and clips.audio.shape[-1] == 44_100
    assert clips.audio[0, 0, 0] > 0.1


def test_a_network_that_knows_beginnings_looks_from_the_beginning_on():
    ckpt, seen = ddnb.load("drums", device="cpu"), []

    def watch(model, x, ts, *, known, mask, noise, **_):
        seen.append((x.shape[-1], int(mask.argmin())))
        return known

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, "watch", watch)
        audio = (sound(0, 20 * 44_100, channels=1), 44_100)
        ddnb.inpaint(ckpt, audio, [2, 15], [2.1, 15.1], 1, method="watch")
    ((frames, gap),) = seen
    assert gap == 2 * 44_100 and frames > 15.1 * 44_100
