"""From sound to sound: the sphere, the exact way back, ends that are the inputs."""

import math
import threading
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import gaussian_path, gaussian_v, process_v, toy

import ddnb
from ddnb.inversion import bdia_generate, bdia_invert, slerp, snr_db
from ddnb.sampler import SAMPLERS, STOCHASTIC_SAMPLERS, invert
from ddnb.schedule import time_grid

RATE = 48_000


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def sound(seed=0, frames=480, channels=2, level=0.2):
    return level * np.random.default_rng(seed).standard_normal((channels, frames)).astype(np.float32)


@pytest.fixture(scope="module")
def ckpt(small):
    return small


@pytest.fixture
def gaussian():
    """Every way to noise and back is known for it, and every solver follows it well."""
    return toy(gaussian_v(0.3), channels=2, sample_rate=RATE, frames=480)


# --- the sphere ---------------------------------------------------------------------------------------------------


def test_the_ends_of_the_arc_are_the_latents_to_the_bit():
    a, b = noise(2, 2, 100), noise(2, 2, 100, seed=1)
    torch.testing.assert_close(slerp(a, b, 0), a, atol=0, rtol=0)
    torch.testing.assert_close(slerp(a, b, 1.0), b, atol=0, rtol=0)


@given(st.floats(0, 1), st.integers(0, 100), st.floats(0.1, 10))
def test_the_length_goes_from_one_to_the_other(share, seed, scale):
    a, b = noise(1, 2, 50, seed=seed), scale * noise(1, 2, 50, seed=seed + 1)
    expected = (1 - share) * a.norm() + share * b.norm()
    torch.testing.assert_close(slerp(a, b, share).norm(), expected, atol=0, rtol=1e-4)


@given(st.floats(0, 1), st.integers(0, 100))
def test_back_is_the_same_way(share, seed):
    a, b = noise(2, 1, 40, seed=seed), noise(2, 1, 40, seed=seed + 1)
    torch.testing.assert_close(slerp(a, b, share), slerp(b, a, 1 - share), atol=1e-5, rtol=1e-4)


@given(st.floats(0, 1))
def test_orthonormal_latents_turn_by_cosine_and_sine(share):
    a, b = torch.eye(6).view(6, 1, 2, 3)[:2]
    expected = math.cos(math.pi / 2 * share) * a + math.sin(math.pi / 2 * share) * b
    torch.testing.assert_close(slerp(a, b, share), expected, atol=1e-6, rtol=0)


@given(st.floats(0, 1), st.floats(0.05, 3.0))
def test_the_angle_is_divided_evenly(share, angle):
    a, side = torch.eye(2, dtype=torch.float64).view(2, 1, 1, 2)
    b = math.cos(angle) * a + math.sin(angle) * side
    expected = math.cos(share * angle) * a + math.sin(share * angle) * side
    torch.testing.assert_close(slerp(a, b, share), expected, atol=1e-7, rtol=0)


@given(st.floats(0, 1), st.floats(0.1, 10))
def test_parallel_latents_only_change_their_length(share, scale):
    a = noise(2, 2, 30)
    torch.testing.assert_close(slerp(a, scale * a, share), (1 - share + share * scale) * a, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(slerp(a, a, share), a, atol=1e-6, rtol=1e-5)


def test_opposite_and_empty_latents_give_numbers():
    a = noise(1, 2, 30)
    for b in (-a, 0 * a):
        assert torch.isfinite(torch.stack([slerp(a, b, share) for share in (0.25, 0.5, 0.75)])).all()


def test_each_clip_of_a_batch_turns_by_itself():
    a, b = noise(3, 2, 30), noise(3, 2, 30, seed=1)
    together = slerp(a, b, 0.3)
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], slerp(a[i : i + 1], b[i : i + 1], 0.3), atol=1e-6, rtol=1e-5)


@given(st.floats(-40, 90))
def test_nearness_is_in_decibels(db):
    x = noise(2, 2, 100).double()
    again = x * (1 + 10 ** (-db / 20))
    np.testing.assert_allclose(snr_db(x, again), db, atol=1e-3)
    assert (snr_db(x, x) > 250).all()


# --- to noise and back --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [1.0, 0.5])
@pytest.mark.parametrize(("steps", "grid"), [(1, "log_snr"), (2, "crash"), (9, "karras"), (25, "log_snr")])
def test_bdia_comes_back_whatever_the_network_says(steps, grid, start, ckpt):
    """The network is not even a good one: what a step adds, the other way takes away."""
    x, ts = torch.from_numpy(sound(frames=64))[None], time_grid(grid, steps, start)
    latent = bdia_invert(ckpt, x, ts)
    again = bdia_generate(ckpt, latent, ts)
    assert [state.shape for state in latent] == [x.shape, x.shape]
    size = max(1.0, max(state.abs().max().item() for state in latent))
    assert (again - x).abs().max() <= 1e-4 * size


def test_bdia_finds_the_noise_of_a_gaussian():
    """The exact path ends at x / S, the noise that it would be made from."""
    x = 0.3 * noise(4, 1, 100).double()
    _, latent = bdia_invert(gaussian_v(0.3), x, time_grid("linear", 400))
    torch.testing.assert_close(latent, x / 0.3, atol=0.02, rtol=0)


@pytest.mark.parametrize("sampler", [s for s in SAMPLERS if s not in (*STOCHASTIC_SAMPLERS, "diffusers-ipndm")])
@pytest.mark.parametrize("start", [1.0, 0.6])
def test_any_sampler_upside_down_finds_the_noise_of_a_gaussian(sampler, start):
    x, ts = 0.3 * noise(2, 1, 200), time_grid("crash" if sampler.startswith("v-") else "log_snr", 200, start)
    latent = invert(gaussian_v(0.3), x, ts, sampler=SAMPLERS[sampler])
    torch.testing.assert_close(latent, x / 0.3 * gaussian_path(0.3, start).float(), atol=0.15, rtol=0)
    again = SAMPLERS[sampler](gaussian_v(0.3), latent, ts)
    assert snr_db(x, again).min() > 25


def test_bdia_reports_and_stops(ckpt):
    seen, ts, cancel = [], time_grid("log_snr", 5), threading.Event()
    x = torch.from_numpy(sound(frames=64))[None]
    bdia_invert(ckpt, x, ts, on_step=lambda done, total, _: seen.append((done, total)))
    assert seen == [(i, 4) for i in range(1, 5)]
    cancel.set()
    with pytest.raises(ddnb.errors.Cancelled):
        bdia_invert(ckpt, x, ts, cancel=cancel)
    with pytest.raises(ddnb.errors.Cancelled):
        bdia_generate(ckpt, (x, x), ts, cancel=cancel)


# --- between sounds -----------------------------------------------------------------------------------------------


def walk(ckpt, a, b, n=3, **options):
    return ddnb.interpolate(ckpt, a, b, n, **({"steps": 4} | options))


quiet = pytest.mark.filterwarnings("ignore:The way to noise")


@quiet
@pytest.mark.parametrize(
    "options", [{}, {"depth": 0.3}, {"exact": True}, {"sampler": "ddim", "batch_size": 4}], ids=str
)
def test_the_ends_are_the_inputs_to_the_bit(options, ckpt):
    a, b = sound(0), sound(1)
    clips = walk(ckpt, (a, RATE), (b, RATE), **options)
    assert clips.audio.shape == (3, 2, 480) and clips.seeds == [0, 1, 2]
    np.testing.assert_array_equal(clips.audio[0], a)
    np.testing.assert_array_equal(clips.audio[2], b)
    assert np.isfinite(clips.audio).all()
    assert min(np.abs(clips.audio[1] - end).max() for end in (a, b)) > 0.01


@quiet
def test_a_mono_network_takes_stereo_channel_by_channel(drums):
    """A mono sound and a stereo one: both become stereo."""
    a, b = sound(0, 2000, 2), sound(1, 1500, 1)
    clips = walk(drums, (a, 44_100), (b, 44_100), steps=2)
    assert clips.audio.shape == (3, 2, 2000)
    np.testing.assert_array_equal(clips.audio[0], a)
    np.testing.assert_array_equal(clips.audio[2], np.pad(np.repeat(b, 2, 0), ((0, 0), (0, 500))))


def test_ends_of_other_rates_are_resampled(gaussian):
    t = np.arange(9600) / 96_000
    a = np.stack([0.3 * np.sin(2 * np.pi * 1000 * t)] * 2).astype(np.float32)
    clips = walk(gaussian, (a, 96_000), (sound(1, 4800), RATE), steps=25)
    assert clips.sample_rate == RATE and clips.audio.shape == (3, 2, 4800)
    exact = 0.3 * np.sin(2 * np.pi * 1000 * np.arange(4800) / RATE)
    np.testing.assert_allclose(clips.audio[0, 0, 200:-200], exact[200:-200], atol=1e-3)


@pytest.mark.parametrize("exact", [False, True])
def test_between_two_gaussian_sounds_it_is_the_arc(exact, gaussian):
    """The way to noise is a multiplication, so the arc between the noises is that between the sounds."""
    a, b = sound(0, level=0.3), sound(1, level=0.3)
    clips = walk(gaussian, (a, RATE), (b, RATE), 5, steps=60, exact=exact)
    for place in range(5):
        expected = slerp(torch.from_numpy(a)[None], torch.from_numpy(b)[None], place / 4)[0]
        np.testing.assert_allclose(clips.audio[place], expected, atol=0.02)
    levels = np.square(clips.audio).mean((1, 2)) ** 0.5
    assert levels.min() > 0.95 * 0.3  # a crossfade would be 3 dB down in the middle


@pytest.mark.filterwarnings("error")
def test_the_exact_way_comes_back_exactly(ckpt):
    clips = walk(ckpt, (sound(0, 64), RATE), (sound(1, 64), RATE), exact=True, steps=9, depth=0.5)
    assert min(clips.settings["making"]["round_trip_db"]) > 50


def test_what_does_not_come_back_is_said_by_its_name(ckpt, tmp_path):
    soundfile.write(tmp_path / "door.wav", sound(0).T, RATE)
    with pytest.warns(UserWarning, match=r"loses door\.wav \(-?\d+ dB\) and b \(-?\d+ dB\).*exact=True"):
        clips = walk(ckpt, tmp_path / "door.wav", (sound(1), RATE), steps=3, exact=False)
    assert len(clips) == 3 and max(clips.settings["making"]["round_trip_db"]) < 20


@quiet
def test_by_default_the_exact_way_is_gone_where_the_other_one_loses_a_sound(ckpt, gaussian):
    ends = (sound(0, 64), RATE), (sound(1, 64), RATE)
    chosen, exact = walk(ckpt, *ends, 5), walk(ckpt, *ends, 5, exact=True)
    assert min(walk(ckpt, *ends, 5, exact=False).settings["making"]["round_trip_db"]) < 20
    assert chosen.settings["making"]["exact"] is True
    np.testing.assert_array_equal(chosen.audio, exact.audio)
    assert walk(gaussian, *ends, steps=25).settings["making"]["exact"] is False


@quiet
def test_nothing_on_the_way_is_much_louder_than_the_ends(ckpt):
    quiet_one, loud_one = 0.01 * sound(0, 256), sound(1, 256)
    clips = walk(ckpt, (quiet_one, RATE), (loud_one, RATE), 7, steps=4)
    peaks = [np.abs(x).max() for x in (quiet_one, loud_one)]
    for place, audio in enumerate(clips.audio):
        between = peaks[0] ** (1 - place / 6) * peaks[1] ** (place / 6)
        assert np.abs(audio).max() <= 1.42 * between


@pytest.mark.filterwarnings("error")
def test_what_comes_back_needs_no_word(gaussian):
    clips = walk(gaussian, (sound(0), RATE), (sound(1), RATE), steps=25)
    assert min(clips.settings["making"]["round_trip_db"]) > 20


@quiet
@pytest.mark.parametrize("places", [[1], [3, 1], [0], [4, 2, 4]])
@pytest.mark.parametrize("exact", [False, True])
def test_some_places_are_those_of_the_whole_way(places, exact, ckpt):
    ends = (sound(0, 64), RATE), (sound(1, 64), RATE)
    whole = walk(ckpt, *ends, 5, exact=exact)
    some = walk(ckpt, *ends, 5, exact=exact, places=places)
    assert some.seeds == places
    np.testing.assert_array_equal(some.audio, whole.audio[places])


@quiet
def test_less_depth_keeps_more_of_both(ckpt):
    """In the middle, so near to the crossfade that a depth of almost none would be."""
    a, b = sound(0, 256), sound(1, 256)
    crossfade = 0.5 * (a + b)

    def far(depth):
        middle = walk(ckpt, (a, RATE), (b, RATE), depth=depth, steps=9).audio[1].ravel()
        return 1 - abs(np.corrcoef(middle, crossfade.ravel())[0, 1])

    assert far(0.01) < far(0.5) < 1


@quiet
def test_lengths(ckpt):
    ends = (sound(0, 300), RATE), (sound(1, 411), RATE)
    assert walk(ckpt, *ends).audio.shape == (3, 2, 411)
    np.testing.assert_array_equal(walk(ckpt, *ends).audio[0], np.pad(ends[0][0], ((0, 0), (0, 111))))
    short = walk(ckpt, *ends, duration_s=100 / RATE)
    assert short.audio.shape == (3, 2, 100)
    np.testing.assert_array_equal(short.audio[2], ends[1][0][:, :100])


@quiet
def test_sounds_at_the_level_of_training(gaussian):
    """A network that was shown one peak is asked at that peak; the ends and the levels between are the inputs'."""
    ckpt = replace(gaussian, info=gaussian.info | {"peak_dbfs": 0.0})
    a, b = sound(0, level=0.01), sound(1, level=0.04)
    clips = walk(ckpt, (a, RATE), (b, RATE), 5, steps=25)
    np.testing.assert_array_equal(clips.audio[[0, 4]], [a, b])
    levels = 20 * np.log10(np.square(clips.audio).mean((1, 2)) ** 0.5)
    np.testing.assert_allclose(np.diff(levels), 20 * math.log10(4) / 4, atol=1.5)


# --- between seeds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"duration_s": 300 / RATE}, {"sampler": "dpmpp_2m"}], ids=str)
def test_the_ends_of_two_seeds_are_their_sounds_to_the_bit(options, ckpt):
    options = {"duration_s": 0.01} | options
    clips = walk(ckpt, 7, 11, 4, **options)
    made = ddnb.generate(ckpt, seed=[7, 11], steps=4, **options)
    np.testing.assert_array_equal(clips.audio[[0, 3]], made.audio)
    assert clips.settings["making"]["a"] == {"seed": 7} and clips.settings["making"]["b"] == {"seed": 11}


def test_seeds_may_be_numbers_of_numpy(ckpt):
    clips = walk(ckpt, np.int64(7), np.int32(11), duration_s=0.01)
    np.testing.assert_array_equal(clips.audio, walk(ckpt, 7, 11, duration_s=0.01).audio)


def test_the_way_between_seeds_is_the_arc_of_their_noises():
    ckpt = toy(gaussian_v(0.3), frames=256)
    clips = walk(ckpt, 0, 1, 3, steps=50, level="network")
    z = [torch.randn(1, 1, 256, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    np.testing.assert_allclose(clips.audio[1], 0.3 * slerp(*z, 0.5)[0], atol=0.02)


# --- categories ---------------------------------------------------------------------------------------------------


def test_categories_are_walked_too(drums):
    """The ends are those of their categories alone; the middle is asked for half of each."""
    options = {"steps": 2, "duration_s": 4096 / 44_100}
    clips = walk(drums, 3, 4, category="snare", to_category="closed_hat", **options)
    for place, seed, category in ((0, 3, "snare"), (2, 4, "closed_hat")):
        alone = ddnb.generate(drums, 1, seed, category=category, **options)
        np.testing.assert_array_equal(clips.audio[place], alone.audio[0])
    same = walk(drums, 3, 3, category="snare", to_category="closed_hat", **options)
    half = ddnb.generate(drums, 1, 3, category={"snare": 1, "closed_hat": 1}, **options)
    np.testing.assert_allclose(same.audio[1], half.audio[0], atol=1e-4)
    making = clips.settings["making"]
    assert (making["category"], making["to_category"]) == ({"snare": 1.0}, {"closed_hat": 1.0})


def test_one_category_is_that_of_both(drums):
    options = {"steps": 2, "duration_s": 4096 / 44_100}
    one, both = (walk(drums, 3, 4, category="tom", **more, **options) for more in ({}, {"to_category": "tom"}))
    np.testing.assert_array_equal(one.audio, both.audio)


@quiet
def test_a_clip_brings_its_category(drums):
    kick, hat = (ddnb.generate(drums, 1, 0, category=c, steps=2, duration_s=0.1)[0] for c in ("snare", "closed_hat"))
    told = walk(drums, kick, hat, category="snare", to_category="closed_hat", steps=2)
    np.testing.assert_array_equal(walk(drums, kick, hat, steps=2).audio, told.audio)
    assert np.abs(walk(drums, kick, hat, category="tom", to_category="tom", steps=2).audio[1] - told.audio[1]).max() > 0


# --- stopping -----------------------------------------------------------------------------------------------------


@quiet
@pytest.mark.filterwarnings("ignore:interrupted")
@pytest.mark.parametrize("how", ["cancel", "interrupt"])
@pytest.mark.parametrize(("at", "left"), [(1, 0), (6, 0), (10, 0), (13, 0), (17, 2), (21, 3), (27, 4)])
def test_stopped_it_returns_what_is_finished(at, left, how, ckpt):
    """Two ways to noise of 4 steps each, then both ends, then the rest: 28 in all."""
    cancel = threading.Event()

    def stop(done, total, denoised):
        assert total == 28
        if done == at:
            cancel.set()
            if how == "interrupt":
                raise KeyboardInterrupt

    ends = (sound(0, 64), RATE), (sound(1, 64), RATE)
    clips = walk(ckpt, *ends, 5, on_step=stop, cancel=cancel, exact=False)
    assert len(clips) == left
    whole = walk(ckpt, *ends, 5, exact=False).audio
    np.testing.assert_array_equal(clips.audio, whole[clips.seeds] if left else whole[:0])


@pytest.mark.parametrize("exact", [False, True])
@quiet
def test_progress_rises_to_its_total(exact, ckpt):
    seen = []
    ends = (sound(0, 64), RATE), (sound(1, 64), RATE)
    walk(ckpt, *ends, 4, exact=exact, batch_size=3, on_step=lambda done, total, _: seen.append((done, total)))
    steps = 3 if exact else 4
    assert [total for _, total in seen] == [6 * steps] * len(seen)
    assert sorted(done for done, _ in seen) == [done for done, _ in seen] and seen[-1][0] == 6 * steps


# --- what cannot be -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n": 1}, "n=1.*2 to 1000"),
        ({"n": 1001}, "n=1001"),
        ({"n": 3.0}, "n=3.0"),
        ({"depth": 0}, "depth=0"),
        ({"depth": 1.1}, "depth=1.1"),
        ({"depth": math.nan}, "depth=nan"),
        ({"depth": True}, "depth=True"),
        ({"places": []}, r"places=\[\]"),
        ({"places": [3]}, "from 0 to 2"),
        ({"places": [-1]}, "from 0 to 2"),
        ({"places": [1.5]}, "places=1.5"),
        ({"duration_s": 61}, "up to 60"),
        ({"duration_s": -1}, "above 0"),
        ({"sampler": "euler"}, "Known: iplms"),
        ({"category": "kick"}, "no categories"),
        ({"a": 3}, "A seed and a sound"),
        ({"a": "missing.wav", "error": FileNotFoundError}, "missing.wav"),
        ({"a": (np.zeros((2, 100)), RATE)}, "a: its audio is empty or silent"),
        ({"b": (np.full((2, 100), np.nan), RATE)}, "b: its audio holds values"),
        ({"b": sound()}, "b: give a path, a clip, or"),
        ({"b": None}, "b: give a path"),
    ]
    + [({"sampler": sampler}, f"{sampler} adds noise.*cannot be inverted") for sampler in STOCHASTIC_SAMPLERS],
    ids=str,
)
def test_rejects_invalid_interpolations(wrong, message, ckpt):
    given = {"a": (sound(0), RATE), "b": (sound(1), RATE), "n": 3, "error": ValueError} | wrong
    error = given.pop("error")
    with pytest.raises(error, match=message):
        walk(ckpt, **given)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"depth": 0.5}, "leave depth and exact out"),
        ({"exact": True}, "leave depth and exact out"),
        ({"sampler": "ddpm"}, "cannot be inverted"),
        ({"a": -1}, r"2\*\*63"),
    ],
)
def test_rejects_invalid_interpolations_of_seeds(wrong, message, ckpt):
    with pytest.raises(ValueError, match=message):
        walk(ckpt, **({"a": 1, "b": 2, "duration_s": 0.01} | wrong))


def test_followed_more_strongly_a_sound_does_not_come_back(drums):
    with pytest.raises(ValueError, match="guidance_scale is for seeds"):
        walk(drums, (sound(0, 2000, 1), 44_100), (sound(1, 2000, 1), 44_100), category="kick", guidance_scale=2)
    clips = walk(drums, 1, 2, category="kick", guidance_scale=2, steps=1, duration_s=0.05)
    assert len(clips) == 3


def test_a_process_comes_back_at_the_default():
    """A quiet and a loud band, as sounds have them: 25 steps of the default are enough for most."""
    spectrum = np.geomspace(0.5, 0.005, 129)
    x = np.fft.irfft(spectrum * np.fft.rfft(np.random.default_rng(0).standard_normal((2, 256))))
    clips = ddnb.interpolate(toy(process_v(spectrum)), (x[:1], 8000), (x[1:], 8000), 3)
    assert min(clips.settings["making"]["round_trip_db"]) > 30
