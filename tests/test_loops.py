"""Loops: exact lengths, networks on a circle, windows, seams."""

import functools
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import gaussian_v, toy
from scipy.signal import lfilter

import ddnb
from ddnb.audio.loop import close_loop, fit_circle, from_strongest_onset, loop_frames, predict_linearly, seam_db
from ddnb.audio.mastering import widen
from ddnb.generation.length import LoopOptions, loop_length
from ddnb.nets.unet import UNet, UNetConfig
from ddnb.windows import rolled, windowed

RATE = 48_000


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def periodic(frames, lines, seed=0, channels=1):
    """Noise whose period is its length, of so many lines."""
    rng = np.random.default_rng(seed)
    spectrum = np.zeros((channels, frames // 2 + 1), complex)
    spectrum[:, 1 : lines + 1] = rng.standard_normal((channels, lines)) + 1j * rng.standard_normal((channels, lines))
    sound = np.fft.irfft(spectrum, frames)
    return (sound / np.abs(sound).max()).astype(np.float32)


@pytest.fixture(scope="module")
def ckpt(small):
    return small


# --- lengths ------------------------------------------------------------------------------------------------------


@settings(max_examples=2000)
@given(
    st.floats(20, 999) | st.integers(20, 999),
    st.integers(1, 64),
    st.sampled_from([8_000, 16_000, 22_050, 44_100, 48_000, 96_000]),
    st.integers(1, 32),
)
def test_bars_are_rounded_once_to_whole_frames(bpm, bars, rate, beats):
    frames = loop_frames(bpm, bars, rate, beats)
    assert frames == round(bars * beats * 60 / bpm * rate)
    assert type(frames) is int
    assert abs(frames - Fraction(bars * beats * 60 * rate) / Fraction(bpm)) <= 0.5 + 1e-6


def test_common_tempos():
    assert loop_frames(120, 1, 48_000) == 96_000
    assert loop_frames(90, 2, 44_100) == 235_200
    assert loop_frames(120, 1, 44_100, beats_per_bar=3) == 66_150


@pytest.mark.parametrize("number", [np.float32(124.7), np.float64(124.7), Fraction(1247, 10)])
def test_short_numbers_of_numpy_count_in_full(number):
    """In numpy's float32 a minute of frames is rounded to multiples of 4."""
    exact = Fraction(64 * 4 * 60 * 48_000) / Fraction(float(number))
    assert loop_frames(number, np.int8(64), 48_000) == round(exact)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"bpm": b}, "bpm=.*20 to 999") for b in (5, 1000, -120, math.nan, math.inf, True, "120", None)]
    + [({"bars": b}, "bars=.*1 to 64") for b in (0, 65, -1, 1.5, 2.0, True, "2", None)]
    + [({"beats_per_bar": b}, "beats_per_bar=.*1 to 32") for b in (0, 33, 4.0, False, "4")],
)
def test_tempos_that_are_none(wrong, message):
    with pytest.raises(ValueError, match=message):
        loop_frames(**({"bpm": 120, "bars": 1, "sample_rate": RATE} | wrong))


@given(st.integers(1, 100_000), st.sampled_from([(8, 4096), (8192, 65_536), (2048, 65_536), (8, 4097)]))
def test_what_the_network_makes_is_legal_and_nearest_in_pitch(frames, network):
    stride, trained = network
    config = toy(None, stride=stride).net.config
    length = loop_length(frames, config, trained)
    assert length.frames == frames and length.loop
    if frames > trained:
        assert length.made == frames and length.window == config.legal_frames(trained) and length.cents == 0
        return
    assert length.window is None
    assert length.made % stride == 0 and length.made >= config.min_loop_frames
    assert length.cents == pytest.approx(1200 * math.log2(length.made / frames))
    for other in (length.made - stride, length.made + stride):
        if other >= config.min_loop_frames:
            assert abs(math.log2(other / frames)) >= abs(math.log2(length.made / frames))


# --- the circle ---------------------------------------------------------------------------------------------------


def turned_difference(model, frames, by, channels=2, cond=None, t=0.6):
    """How far turning the input is from turning the output, re the output."""
    x, time = noise(1, channels, frames), torch.tensor([t])
    given = () if cond is None else (cond,)
    with torch.inference_mode():
        plain, turned = model(x, time, *given), model(x.roll(by, -1), time, *given)
    return ((turned - plain.roll(by, -1)).norm() / plain.norm()).item()


def on_circle(model):
    """Call a network or a checkpoint with loops."""
    return functools.partial(model, circular=True)


def random_unet(widths, attention, seed=0, planes=0):
    torch.manual_seed(seed)
    return UNet(UNetConfig(2, widths, attention, planes)).eval().requires_grad_(False)


@pytest.mark.parametrize("by", [8192, 2 * 8192])
def test_the_published_architecture_on_a_circle_knows_no_beginning(by):
    """All 14 levels with their kernels, padding and attention; fewer channels."""
    net = random_unet((4,) * 7 + (32,) * 7, (9, 10, 11, 12, 13, 14))
    assert turned_difference(on_circle(net), 3 * 8192, by) <= 1e-4
    assert turned_difference(net, 3 * 8192, by) > 1e-3


@pytest.mark.slow
def test_the_full_size_network_on_its_shortest_circle():
    net = random_unet(UNetConfig().widths, UNetConfig().attention_levels)
    assert turned_difference(on_circle(net), net.config.min_loop_frames, 8192) <= 1e-4


@pytest.mark.parametrize("by", [8, 16, 248, 504])
def test_a_small_network_on_a_circle(by, ckpt):
    assert turned_difference(on_circle(ckpt), 512, by) <= 1e-4
    assert turned_difference(ckpt, 512, by) > 1e-3


@pytest.mark.parametrize("category", [0, 5, None])
@pytest.mark.parametrize("t", [0.2, 0.9])
def test_the_embedded_network_on_a_circle(t, category, drums):
    cond = None if category is None else torch.eye(len(drums.categories))[category][None, :, None]
    assert turned_difference(on_circle(drums), 6144, 2048, channels=1, cond=cond, t=t) <= 1e-4


@pytest.mark.parametrize("frames", [8, 15, 17, 513])
def test_circles_of_a_length_that_is_not_legal_are_refused(frames, ckpt):
    with pytest.raises(ValueError, match="multiples of 8 from 16"):
        ckpt(noise(1, 2, frames), torch.tensor([0.5]), circular=True)


def test_the_shortest_circle_is_legal_on_a_circle_only(ckpt):
    assert torch.isfinite(ckpt(noise(1, 2, 16), torch.tensor([0.5]), circular=True)).all()
    with pytest.raises(ValueError, match="multiples of 8 from 24"):
        ckpt(noise(1, 2, 16), torch.tensor([0.5]))


def test_a_circle_is_differentiable(ckpt):
    x = noise(1, 2, 64).requires_grad_()
    ckpt(x, torch.tensor([0.5]), circular=True).sum().backward()
    assert x.grad.abs().min() > 0


# --- windows ------------------------------------------------------------------------------------------------------

POINTWISE = gaussian_v(0.3)


@given(st.integers(64, 700), st.booleans(), st.sampled_from([64, 48]))
def test_windows_of_a_pointwise_model_are_the_model(frames, loop, window):
    """What is averaged are the model's own answers, and the weights sum to one everywhere."""
    x, t = noise(2, 2, frames), torch.tensor([0.3, 0.8])
    torch.testing.assert_close(windowed(POINTWISE, window, loop)(x, t), POINTWISE(x, t), atol=1e-5, rtol=1e-4)


@given(st.integers(64, 1000), st.booleans())
def test_windows_are_of_their_length_and_overlap_by_half(frames, loop):
    seen = []

    def model(x, t):
        seen.append(x[0, 0])
        return x

    windowed(model, 64, loop)(torch.arange(frames).float()[None, None], torch.zeros(1))
    assert all(len(window) == 64 for window in seen)
    heard = torch.cat(seen).long().bincount(minlength=frames)
    assert heard.min() >= 1
    steps = torch.stack(seen)[:, 0].diff() % frames
    assert len(seen) == 1 or (steps.max() <= 33 and steps.min() > 0)
    if loop:
        assert heard.min() >= 2
        assert all(((window.diff() - 1) % frames == 0).all() for window in seen)  # over the end into the beginning


def test_a_loop_in_windows_is_equivariant_to_their_hop(ckpt):
    model = windowed(ckpt, 128, loop=True)
    assert turned_difference(model, 512, 64) <= 1e-4
    assert turned_difference(model, 512, 192) <= 1e-4


def test_windows_have_no_step_where_they_begin_and_end():
    """A model that says another number in each window: the mean changes by no more than the weights do."""
    said = iter(range(100))

    def model(x, t):
        return torch.full_like(x, next(said) % 2)

    mean = windowed(model, 64, loop=True)(torch.zeros(1, 1, 256), torch.zeros(1))[0, 0]
    assert (mean - mean.roll(1)).abs().max() < math.pi / 64 * 1.01


def test_a_turned_model_gives_back_what_it_took():
    def shifting(x, t):
        seen.append(x.clone())
        return 2 * x

    seen, x = [], noise(1, 2, 512)
    model = rolled(shifting)
    for _ in range(4):
        torch.testing.assert_close(model(x, torch.zeros(1)), 2 * x, atol=0, rtol=0)
    assert len({tensor[0, 0, 0].item() for tensor in seen}) == 4  # each time from another place
    again = rolled(shifting)
    for first in seen[:4]:
        again(x, torch.zeros(1))
        torch.testing.assert_close(seen[-1], first, atol=0, rtol=0)  # the same places in every run


# --- resampling a circle ------------------------------------------------------------------------------------------


@given(st.integers(50, 400), st.integers(50, 400), st.integers(0, 5))
def test_a_periodic_sound_is_resampled_exactly(frames, other, seed):
    lines = min(frames, other) // 2 - 1
    fitted = fit_circle(periodic(frames, lines, seed, channels=2), other)
    assert fitted.shape == (2, other) and fitted.dtype == np.float32
    spectrum = np.fft.rfft(periodic(frames, lines, seed, channels=2).astype(float))
    t = np.arange(other) / other
    exact = sum(2 / frames * (spectrum[:, k, None] * np.exp(2j * np.pi * k * t)).real for k in range(1, lines + 1))
    np.testing.assert_allclose(fitted, exact, atol=1e-5)
    np.testing.assert_allclose(fit_circle(fitted, frames), periodic(frames, lines, seed, channels=2), atol=1e-5)


def test_turned_before_or_after_fitting():
    x = periodic(300, 90)
    np.testing.assert_allclose(fit_circle(np.roll(x, 100, -1), 240), np.roll(fit_circle(x, 240), 80, -1), atol=1e-5)


def test_a_loop_of_the_right_length_is_left_alone():
    x = periodic(300, 140)
    np.testing.assert_array_equal(fit_circle(x, 300), x)


# --- seams --------------------------------------------------------------------------------------------------------


def tone(cycles, frames=RATE, level=1.0):
    return (level * np.sin(2 * np.pi * cycles * np.arange(frames) / frames)).astype(np.float32)[None]


@pytest.mark.parametrize("seed", range(6))
def test_periodic_noise_closes_and_cut_noise_does_not(seed):
    """0 dB is what 99.5 % of the places inside stay below, so a seam that is like them is above once in 200."""
    frames = 20_000
    assert seam_db(periodic(frames, 4000, seed)) <= 0.5
    assert seam_db(periodic(2 * frames, 8000, seed)[:, :frames]) > 6


@pytest.mark.parametrize(("cycles", "closes"), [(100, True), (440, True), (440.5, False), (100.25, False)])
def test_a_tone_closes_after_whole_cycles(cycles, closes):
    assert (seam_db(tone(cycles)) <= 0) == closes


def test_the_worst_channel_counts():
    good, bad = tone(100), tone(100.5)
    assert seam_db(np.vstack([good, bad])) == pytest.approx(seam_db(bad))
    assert seam_db(np.vstack([good, 0 * good])) == pytest.approx(seam_db(good))


@pytest.mark.parametrize(("radius", "angle"), [(0.9, 0.3), (0.99, 1.0), (0.5, 2.5)])
def test_linear_prediction_finds_the_resonance_of_a_signal_and_stays_stable(radius, angle):
    resonance = np.array([1, -2 * radius * np.cos(angle), radius**2])
    signal = lfilter([1.0], resonance, np.random.default_rng(0).standard_normal(20_000))
    np.testing.assert_allclose(predict_linearly(signal, 2), resonance, atol=0.03)
    assert np.abs(np.roots(predict_linearly(signal[:200], 32))).max() < 1


@settings(max_examples=15)
@given(st.floats(1e-3, 30))
def test_the_level_does_not_matter(gain):
    x = periodic(20_000, 8000)[:, :9000]
    assert seam_db(np.float32(gain) * x) == pytest.approx(seam_db(x), abs=0.1)


def test_seams_of_silence_and_of_a_constant():
    assert seam_db(np.zeros((2, 4096), np.float32)) == 0
    assert seam_db(np.ones((1, 4096), np.float32)) <= 1


def test_a_seam_in_a_moment_is_not_measured():
    with pytest.raises(ValueError, match=r"2047 frames.*2,?048"):
        seam_db(np.ones((1, 2047)))


@pytest.mark.parametrize("seed", range(4))
def test_a_cut_sound_is_closed_by_its_last_10_ms(seed):
    sound = periodic(60_000, 6000, seed, channels=2)[:, :20_000]
    made = close_loop(sound, RATE)
    assert made.shape == sound.shape and made.dtype == np.float32
    np.testing.assert_array_equal(made[:, :-480], sound[:, :-480])
    assert seam_db(sound) > 6 and seam_db(made) < 1
    assert np.abs(made).max() <= 1.2 * np.abs(sound).max()


@pytest.mark.parametrize("cycles", [20.4, 100.5, 440.25, 3000.7])
def test_a_cut_tone_is_closed(cycles):
    made = close_loop(tone(cycles), RATE)
    assert seam_db(tone(cycles)) > 20 and seam_db(made) < 3
    assert np.abs(made).max() < 1.05


def test_one_silent_channel_stays_silent():
    made = close_loop(np.vstack([tone(100.5), tone(100, level=0)]), RATE)
    assert not made[1].any() and made[0, -480:].any()


def test_a_loop_is_not_closed_once_more():
    for loop in (periodic(20_000, 4000), tone(100), np.zeros((1, 4096), np.float32)):
        np.testing.assert_array_equal(close_loop(loop, RATE), loop)


@pytest.mark.parametrize("frames", [1, 2, 3, 10, 500, 2047])
def test_what_is_too_short_to_measure_is_closed(frames):
    sound = np.linspace(-1, 1, frames, dtype=np.float32)[None]
    made = close_loop(sound, RATE)
    assert made.shape == sound.shape and np.isfinite(made).all()
    if frames > 100:
        assert abs(made[0, -1] - made[0, 0]) < 0.1
        np.testing.assert_array_equal(made[0, : frames // 2], sound[0, : frames // 2])


# --- onsets -------------------------------------------------------------------------------------------------------


@given(st.integers(0, 30_000), st.integers(20_000, 30_000), st.sampled_from([8_000, 44_100, 48_000]))
def test_a_loop_begins_on_its_attack(by, frames, rate):
    """Wherever it was: in the last odd frames of the loop as well."""
    decay = np.float32(np.exp(-np.arange(frames) / 2000))
    made = from_strongest_onset(np.roll(decay, by)[None], rate)
    np.testing.assert_array_equal(made[0], decay)


@pytest.mark.parametrize("place", [0, 1, 10_000, 21_999, 22_000, 22_019, 22_020, 22_108])
def test_a_click_begins_where_it_is(place):
    """101 cells of 220 frames, and half a cell that belongs to none."""
    sound = np.zeros((1, 22_110), np.float32)
    sound[0, place] = 1
    made = from_strongest_onset(sound, 44_100)
    assert made[0, 0] == 1 and made.sum() == 1


@given(st.integers(1, 400))
def test_turning_keeps_every_sample(seed):
    rng = np.random.default_rng(seed)
    sound = rng.standard_normal((2, int(rng.integers(10, 5000)))).astype(np.float32)
    made = from_strongest_onset(sound, RATE)
    by = int(np.flatnonzero(sound[0] == made[0, 0])[0])
    np.testing.assert_array_equal(made, np.roll(sound, -by, -1))


def test_the_stronger_of_two_attacks_counts():
    sound = np.zeros((2, 48_000), np.float32)
    sound[0, 5_000:9_000], sound[1, 30_000:31_000] = 0.3, 0.5
    made = from_strongest_onset(sound, RATE)
    np.testing.assert_array_equal(made, np.roll(sound, -30_000, -1))


# --- loops that are generated -------------------------------------------------------------------------------------


def make(ckpt, **options):
    return ddnb.generate(ckpt, **({"n": 1, "steps": 2, "loop": True} | options))


@pytest.mark.parametrize("loop", [True, False])
@pytest.mark.parametrize(("bpm", "bars", "beats"), [(120, 1, 4), (97.3, 2, 3), (999, 1, 1)])
def test_a_tempo_gives_exactly_its_bars(bpm, bars, beats, loop):
    ckpt = toy(gaussian_v(0.3), frames=4096, sample_rate=44_100)
    clip = make(ckpt, bpm=bpm, bars=bars, beats_per_bar=beats, loop=loop, max_cents=1200)[0]
    assert clip.audio.shape == (1, round(bars * beats * 60 / bpm * 44_100))
    making = clip.settings["making"]
    assert (making["bpm"], making["bars"], making["beats_per_bar"]) == (bpm, bars, beats)
    assert making.get("loop", False) == loop


@pytest.mark.parametrize("frames", [16, 100, 1000, 4096, 4100, 7777])
def test_any_length_of_loop(frames, ckpt):
    clip = make(ckpt, duration_s=frames / 48_000, max_cents=12_000, steps=1)[0]
    assert clip.audio.shape == (2, frames) and np.isfinite(clip.audio).all()


@pytest.mark.parametrize("sampler", ["iplms", "ddpm", "heun", "dpmpp_2m_sde"])
@pytest.mark.parametrize("trained", [4096, 1024])
def test_loops_close(trained, sampler, ckpt):
    """In one piece, and in windows."""
    clip = make(replace(ckpt, frames=trained), duration_s=4096 / 48_000, sampler=sampler, steps=3)[0]
    assert seam_db(clip.audio) < 1


def test_loops_of_the_embedded_network_close(drums):
    clips = make(drums, n=2, category={"kick": 1, "open_hat": 1}, steps=4)
    assert max(seam_db(clip.audio) for clip in clips) < 1
    plain = make(drums, n=2, category="kick", steps=4, loop=False)
    assert max(seam_db(clip.audio) for clip in plain) > 6


def test_a_turned_noise_makes_the_turned_loop(ckpt):
    """The whole run, sampler and all, lives on the circle."""
    from ddnb.sampler import iplms
    from ddnb.schedule import time_grid

    x, ts = noise(1, 2, 512), time_grid("log_snr", 5)
    plain, turned = iplms(on_circle(ckpt), x, ts), iplms(on_circle(ckpt), x.roll(80, -1), ts)
    torch.testing.assert_close(turned, plain.roll(80, -1), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("sampler", ["iplms", "ddim", "ddpm", "dpmpp_2m_sde"])
@pytest.mark.parametrize("frames", [512, 700])
def test_a_loop_depends_on_its_seed_alone(frames, sampler, ckpt):
    ckpt = replace(ckpt, frames=512)
    options = {"duration_s": frames / 48_000, "sampler": sampler, "steps": 2}
    together = make(ckpt, n=3, seed=5, **options)
    np.testing.assert_array_equal(together.audio[2], make(ckpt, seed=7, **options).audio[0])
    batch = make(ckpt, n=3, seed=5, batch_size=3, **options)
    np.testing.assert_allclose(batch.audio, together.audio, atol=1e-3)


def test_starting_on_the_onset_only_turns(ckpt):
    plain, turned = (make(ckpt, duration_s=0.05, start_on_onset=on, level="network").audio[0] for on in (False, True))
    by = int(np.flatnonzero(plain[0] == turned[0, 0])[0])
    np.testing.assert_array_equal(turned, np.roll(plain, -by, -1))
    np.testing.assert_array_equal(turned, from_strongest_onset(plain, 48_000))


def test_a_loop_off_pitch_is_refused_or_accepted(drums):
    with pytest.raises(ValueError, match=r"-12\d cents.*max_cents=1\d\d"):
        make(drums, duration_s=0.2)
    clip = make(drums, duration_s=0.2, max_cents=129, steps=1)[0]
    assert clip.audio.shape[1] == 8820
    assert clip.settings["making"]["cents"] == pytest.approx(1200 * math.log2(8192 / 8820), abs=1e-3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"bars": 2}, "give a tempo too"),
        ({"bpm": 120, "duration_s": 1.0}, "give one of them"),
        ({"bpm": 5}, "bpm=5"),
        ({"bpm": math.nan}, "bpm=nan"),
        ({"bpm": "120"}, "bpm='120'"),
        ({"bpm": 120, "bars": 0}, "bars=0"),
        ({"bpm": 120, "bars": True}, "bars=True"),
        ({"bpm": 120, "beats_per_bar": 99}, "beats_per_bar=99"),
        ({"bpm": 20, "bars": 64}, "longer than 600 s"),
        ({"bpm": 60, "bars": 16, "loop": False}, "longer than 60 s"),
        ({"duration_s": 601}, "up to 600"),
        ({"duration_s": 0}, "above 0"),
        ({"max_cents": -1}, "max_cents=-1"),
        ({"max_cents": math.nan}, "max_cents=nan"),
        ({"loop": False, "start_on_onset": True}, "add loop=True"),
    ],
)
def test_rejects_invalid_loops(wrong, message, ckpt):
    with pytest.raises(ValueError, match=message):
        make(ckpt, **wrong)


def test_zero_seconds_are_not_the_length_of_the_sound(ckpt):
    with pytest.raises(ValueError, match="duration_s=0"):
        LoopOptions().length(ckpt, 0, default=100)


def test_a_wide_loop_closes():
    """The copy that is added and subtracted goes on around the circle, so turning and widening can be swapped."""
    x = periodic(6000, 1500)
    np.testing.assert_allclose(
        widen(np.roll(x, 1234, -1), 0.7, True), np.roll(widen(x, 0.7, True), 1234, -1), atol=1e-5
    )
    np.testing.assert_allclose(widen(x, 0.7, True).mean(0), x[0], atol=1e-6)
    assert seam_db(widen(x, 1.0, True)) <= 0.5
    clip = make(toy(gaussian_v(0.3), frames=4096), width=0.5, duration_s=4096 / 8000)[0]
    assert clip.audio.shape == (2, 4096)
    assert replace(clip).settings["making"]["width"] == 0.5
