"""Variations: from the sound itself to a sound from noise."""

import math
import threading
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import gaussian_v, process_v, toy

import ddnb
from ddnb.audio.loop import loop_frames, seam_db
from ddnb.clips.clip import Clip
from ddnb.clips.provenance import Provenance
from ddnb.clips.source import input_clip, samples_sha256
from ddnb.generation.levels import level_gain
from ddnb.generation.vary import vary_folder
from ddnb.sampler import SAMPLERS
from ddnb.schedule import GRIDS, time_grid

RATE = 48_000


def sound(seed=0, frames=480, channels=2, level=0.2):
    return level * np.random.default_rng(seed).standard_normal((channels, frames)).astype(np.float32)


@pytest.fixture(scope="module")
def ckpt(small):
    return small


@pytest.fixture
def gaussian():
    return toy(gaussian_v(0.3), frames=256)


def vary(ckpt, audio, strength=0.5, n=1, seed=0, rate=None, **options):
    audio = (audio, rate or ckpt.sample_rate) if isinstance(audio, np.ndarray) else audio
    return ddnb.vary(ckpt, audio, strength, n, seed, **({"steps": 3, "level": "network"} | options))


# --- both ends of the scale -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("frames", [10, 100, 4099])
def test_strength_0_is_the_sound_to_the_bit(frames, channels, drums):
    x = sound(frames=frames, channels=channels)
    clips = vary(drums, x, 0, 3)
    np.testing.assert_array_equal(clips.audio, np.stack([x] * 3))
    assert clips.seeds == [0, 1, 2]


def test_strength_0_in_stereo_and_at_a_level(ckpt):
    x = sound()
    loud = replace(ckpt, info=ckpt.info | {"peak_dbfs": -1.0})
    for net in (ckpt, loud):
        for options in ({}, {"match_level": True}, {"sampler": "ddpm"}):
            np.testing.assert_array_equal(vary(net, x, 0, **options).audio[0], x)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_strength_1_is_what_generate_makes_to_the_bit(sampler, ckpt):
    """Nothing is left of the sound, whatever it was and however loud."""
    made = ddnb.generate(ckpt, 1, 7, steps=3, sampler=sampler, duration_s=300 / RATE, level="network")
    for x in (sound(frames=300), 100 * sound(1, 300)):
        np.testing.assert_array_equal(vary(ckpt, x, 1, seed=7, sampler=sampler).audio, made.audio)


def test_strength_1_on_a_mono_network(drums):
    made = ddnb.generate(drums, 1, 7, steps=3, category="snare", duration_s=3000 / 44_100, level="network").audio
    for channels in (1, 2, 3):
        clips = vary(drums, sound(frames=3000, channels=channels), 1.0, seed=7, category="snare")
        wanted = np.repeat(made[0], channels, 0)
        np.testing.assert_allclose(clips.audio[0], wanted, atol=0 if channels == 1 else 1e-4)  # they are a batch


def test_strength_1_of_a_loop(ckpt):
    ckpt = replace(ckpt, frames=512)
    made = ddnb.generate(ckpt, 1, 7, steps=3, loop=True, duration_s=512 / RATE, level="network")
    np.testing.assert_array_equal(vary(ckpt, sound(frames=512), 1, seed=7, loop=True).audio, made.audio)


@pytest.mark.parametrize("sampler", ["iplms", "ddpm"])
def test_the_more_strength_the_farther_away(sampler, gaussian):
    """Of a sound that is like the data; and at the end as far as two sounds of the data are from each other."""
    x = sound(frames=4000, channels=1, level=0.3)
    far = [np.abs(vary(gaussian, x, s / 10, steps=50, sampler=sampler).audio - x).std() for s in range(11)]
    assert far[0] == 0 and (np.diff(far)[:5] > 0.005).all() and (np.diff(far) > -0.005).all()
    difference = (vary(gaussian, x, 1, steps=50, sampler=sampler).audio - x).std()
    assert difference == pytest.approx(0.3 * math.sqrt(2), rel=0.1)


@pytest.mark.parametrize("strength", [0.1, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("sampler", ["iplms", "dpmpp_2m", "heun", "ddpm"])
def test_what_is_like_the_data_stays_like_the_data(sampler, strength):
    """Noise of the right level is put on a Gaussian sound, and taken off again: it is as loud as before."""
    spectrum = np.geomspace(0.6, 0.05, 2049)
    x = np.fft.irfft(spectrum * np.fft.rfft(np.random.default_rng(0).standard_normal((1, 4096)))).astype(np.float32)
    made = vary(toy(process_v(spectrum), frames=4096), x, strength, steps=100, sampler=sampler).audio[0]
    before, after = (np.square(np.abs(np.fft.rfft(y[0]))).reshape(-1)[1:].reshape(8, -1).mean(1) for y in (x, made))
    np.testing.assert_allclose(10 * np.log10(after / before), 0, atol=1.5)


def test_the_noise_level_is_the_tangent(gaussian):
    """What the network first sees: alpha x0 + sigma z at t = strength."""
    seen = []
    net = toy(lambda x, t: seen.append((x, t)) or 0 * x)
    x = sound(frames=256, channels=1)
    vary(net, x, 0.25, seed=3)
    z = torch.randn(1, 256, generator=torch.Generator().manual_seed(3))
    phi = 0.25 * math.pi / 2
    torch.testing.assert_close(seen[0][0][0], math.cos(phi) * torch.from_numpy(x) + math.sin(phi) * z)
    assert [t.item() for _, t in seen] == pytest.approx(time_grid("karras", 3, 0.25)[:3].tolist())


@given(st.sampled_from(sorted(GRIDS)), st.integers(1, 60), st.floats(1e-6, 1))
def test_times_fall_strictly_from_the_strength_to_0(grid, steps, start):
    ts = time_grid(grid, steps, start)
    assert ts.shape == (steps + 1,) and ts[0] == start and ts[-1] == 0 and (ts.diff() < 0).all()


@pytest.mark.parametrize("start", [0, -0.1, 1.1, math.nan])
def test_rejects_invalid_times(start):
    with pytest.raises(ValueError, match="start="):
        time_grid("log_snr", 5, start)


# --- samplers, seeds, lengths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("strength", [1e-6, 0.3, 0.9, 1 - 1e-9])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_at_any_strength(sampler, strength, ckpt):
    audio = vary(ckpt, sound(frames=100), strength, sampler=sampler).audio
    assert np.isfinite(audio).all() and audio.shape == (1, 2, 100) and audio.dtype == np.float32
    if strength < 1e-3:
        np.testing.assert_allclose(audio[0], sound(frames=100), atol=1e-3)


@pytest.mark.parametrize("sampler", ["iplms", "ddpm", "dpmpp_2m_sde"])
def test_a_seed_sounds_the_same_alone_and_among_others(sampler, ckpt):
    together = vary(ckpt, sound(), n=8, sampler=sampler)
    np.testing.assert_array_equal(together.audio[7], vary(ckpt, sound(), seed=7, sampler=sampler).audio[0])
    batch = vary(ckpt, sound(), n=8, sampler=sampler, batch_size=8)
    np.testing.assert_allclose(batch.audio, together.audio, atol=1e-3)
    assert np.abs(together.audio[0] - together.audio[1]).max() > 0.01


def test_the_channels_of_a_mono_network_in_a_batch(gaussian):
    """Rows of clips and of channels: each clip has both of its own."""
    x = sound(channels=2, frames=300)
    both = vary(gaussian, x, n=3, batch_size=3).audio
    for channel in range(2):
        np.testing.assert_allclose(both[:, channel], vary(gaussian, x[channel], n=3).audio[:, 0], atol=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("rate", [8000, 44_100, 96_000])
@pytest.mark.parametrize("network", ["ckpt", "drums"])
def test_any_rate_and_channels_keep_their_length(network, rate, channels, request):
    net = request.getfixturevalue(network)
    clips = vary(net, sound(frames=rate // 50, channels=channels), 0.4, rate=rate, steps=1)
    wide = channels if net.channels == 1 else 2
    assert clips.sample_rate == net.sample_rate
    assert clips.audio.shape == (1, wide, round(net.sample_rate / 50))
    assert np.isfinite(clips.audio).all()


def test_a_tone_of_another_rate_keeps_its_pitch(gaussian):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100)[None]
    made = vary(gaussian, tone, 0.05, rate=44_100).audio[0, 0]
    assert made.shape == (8000,) and np.abs(np.fft.rfft(made)).argmax() == 440


@pytest.mark.parametrize("rate", [8000, 96_000])
def test_ten_samples(rate, ckpt, gaussian):
    for net in (ckpt, gaussian):
        for strength in (0, 0.5, 1):
            clips = vary(net, sound(frames=10), strength, rate=rate)
            assert clips.audio.shape[-1] == round(10 * net.sample_rate / rate) and np.isfinite(clips.audio).all()


def test_less_than_a_sample(gaussian):
    with pytest.raises(ValueError, match="too short|1 frames"):
        vary(gaussian, sound(frames=1), rate=768_000)


def test_a_part_of_a_sound(gaussian):
    x = sound(frames=4000, channels=1)
    np.testing.assert_array_equal(vary(gaussian, x, 0, offset_s=0.25).audio[0], x[:, 2000:])
    np.testing.assert_array_equal(vary(gaussian, x, 0, offset_s=0.25, duration_s=0.1).audio[0], x[:, 2000:2800])
    longer = vary(gaussian, x, 0, duration_s=0.75).audio[0]
    np.testing.assert_array_equal(longer, np.pad(x, ((0, 0), (0, 2000))))
    assert vary(gaussian, x, 0.5, bpm=150, bars=1).audio.shape[-1] == loop_frames(150, 1, 8000)


def test_ten_minutes_need_a_part(gaussian):
    x = sound(frames=600 * 8000 + 8, channels=1)
    with pytest.raises(ValueError, match=r"audio lasts 600 s.*offset_s and duration_s"):
        vary(gaussian, x)
    with pytest.raises(ValueError, match=r"audio lasts 600 s"):
        vary(gaussian, x, loop=True)
    assert vary(gaussian, x, offset_s=590, steps=1).audio.shape[-1] == 80_008
    clips = vary(gaussian, x, 0, offset_s=300, duration_s=1)
    np.testing.assert_array_equal(clips.audio[0], x[:, 2_400_000:2_408_000])
    assert clips.settings["making"]["offset_s"] == 300.0


# --- levels ---------------------------------------------------------------------------------------------------------


def rms_db(x):
    return 10 * math.log10(np.square(x, dtype=np.float64).mean())


@pytest.mark.parametrize("strength", [0.3, 0.7, 1.0])
def test_a_variation_as_loud_as_the_sound(strength, gaussian):
    x = sound(frames=2000, channels=1, level=0.02)
    made = vary(gaussian, x, strength, 2, match_level=True)
    for audio in made.audio:
        assert rms_db(audio) == pytest.approx(rms_db(x), abs=1e-3)
    assert made.settings["making"]["match_level"] is True
    free = vary(gaussian, x, strength, 2)
    shape = [audio / np.abs(audio).max() for audio in (made.audio[0], free.audio[0])]
    np.testing.assert_allclose(*shape, atol=1e-5)


def test_a_network_of_one_level_is_asked_at_that_level():
    """And the level of the result goes from that of the sound to the network's own as strength goes from 0 to 1."""
    seen = []
    net = toy(lambda x, t: seen.append(x) or gaussian_v(0.3)(x, t), peak_dbfs=-6.0)
    x = sound(frames=4000, channels=1, level=0.001)
    levels = [rms_db(vary(net, x, strength, steps=30).audio) for strength in (0, 1e-3, 0.25, 0.5, 0.75, 1)]
    assert seen[0].abs().max() == pytest.approx(10 ** (-6 / 20), rel=0.05)
    assert levels[0] == pytest.approx(rms_db(x)) and levels[1] == pytest.approx(rms_db(x), abs=0.2)
    assert levels[-1] == pytest.approx(20 * math.log10(0.3), abs=0.5)
    assert (np.diff(levels[1:]) > 5).all()


@given(st.floats(-40, 0), st.floats(1e-3, 10))
def test_the_gain_sets_the_peak(peak_dbfs, level):
    x = sound(level=level)
    assert np.abs(x).max() * level_gain(toy(None, peak_dbfs=peak_dbfs), x) == pytest.approx(10 ** (peak_dbfs / 20))
    assert level_gain(toy(None), x) == 1


def test_silence_has_no_level():
    assert level_gain(toy(None, peak_dbfs=-6.0), np.zeros((1, 5), np.float32)) == 1


def test_a_sound_whose_part_is_silent_is_varied(gaussian):
    """The first half second of a recording: there is nothing yet."""
    net = replace(gaussian, info=gaussian.info | {"peak_dbfs": -6.0})
    x = np.pad(sound(frames=2000, channels=1), ((0, 0), (4000, 0)))
    assert np.isfinite(vary(net, x, 0.5, duration_s=0.25, match_level=True).audio).all()


# --- loops ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strength", [0, 0.2, 0.6, 1])
def test_loops_stay_closed_and_cut_sounds_become_loops(strength):
    """Of a process on a circle; what it is made from does not close."""
    spectrum = np.geomspace(0.6, 0.002, 2049)
    net = toy(process_v(spectrum), frames=4096)
    x = np.fft.irfft(spectrum * np.fft.rfft(np.random.default_rng(0).standard_normal((1, 4096)))).astype(np.float32)
    cut = np.roll(x, 2048, -1)
    cut[:, :2048] += np.linspace(0, 0.5, 2048, dtype=np.float32)
    cut = np.roll(cut, 2048, -1)[:, 2048:]
    cut = np.concatenate([cut, -cut + 0.3 * x[:, :2048]], -1)
    assert seam_db(x) < 1 < 6 < seam_db(cut)
    for source in (x, cut):
        assert seam_db(vary(net, source, strength, loop=True, steps=20).audio[0]) < 1.5
    if not strength:
        np.testing.assert_array_equal(vary(net, x, 0, loop=True).audio[0], x)


def test_a_loop_of_a_network_is_closed(ckpt):
    clip = vary(replace(ckpt, frames=512), sound(frames=3000), 0.7, loop=True)[0]
    assert seam_db(clip.audio) < 1 and clip.settings["making"]["loop"] is True


@pytest.mark.parametrize("strength", [0, 0.5])
def test_a_loop_that_starts_on_its_onset(strength, gaussian):
    x = sound(frames=4000, channels=1, level=0.001)
    x[:, 1000:1400] += 0.9
    plain, turned = (vary(gaussian, x, strength, loop=True, start_on_onset=on).audio[0] for on in (False, True))
    by = int(np.flatnonzero(plain[0] == turned[0, 0])[0])
    np.testing.assert_array_equal(turned, np.roll(plain, -by, -1))
    assert strength or abs(by - 1000) <= 2


@pytest.mark.parametrize("frames", [10, 100, 2000])
def test_short_loops(frames, gaussian):
    clips = vary(gaussian, sound(frames=frames, channels=1), 0.5, loop=True, max_cents=12_000)
    assert clips.audio.shape == (1, 1, frames) and np.isfinite(clips.audio).all()


# --- input audio ------------------------------------------------------------------------------------


def test_a_path_a_clip_and_an_array_are_the_same(ckpt, tmp_path):
    x = sound()
    soundfile.write(tmp_path / "door.wav", x.T, RATE, "FLOAT")
    clip = Clip(x, RATE, 0, Provenance.from_dict({"making": {"verb": "generate"}, "model": {"name": "net"}}))
    made = [
        vary(ckpt, s)
        for s in (x, tmp_path / "door.wav", str(tmp_path / "door.wav"), clip, Clip(x, RATE, 0, Provenance()))
    ]
    for clips in made[1:]:
        np.testing.assert_array_equal(clips.audio, made[0].audio)
    records = [clips.settings["making"]["source"] for clips in made]
    assert records[0] == {"name": "audio", "sha256": samples_sha256(x)} == records[4]
    assert records[1]["name"] == "door.wav" and len(records[1]["sha256"]) == 64
    assert records[3]["record"]["making"] == {"verb": "generate", "seed": 0}
    assert str(tmp_path) not in str(records)


def test_hashes_of_samples_know_the_samples():
    x = sound()
    assert samples_sha256(x) == samples_sha256(x.astype(np.float64)) == samples_sha256(np.asfortranarray(x))
    assert samples_sha256(x) != samples_sha256(x + np.float32(1e-7)) and len(samples_sha256(x)) == 64


def test_the_sound_that_was_given_is_left_alone(ckpt):
    x = sound()
    before = x.copy()
    clips = vary(ckpt, x, 0)
    clips.audio[:] = 0
    vary(ckpt, x, 0.5, loop=True)
    np.testing.assert_array_equal(x, before)


def test_a_clip_brings_its_category(drums):
    kick = ddnb.generate(drums, 1, category="kick", steps=2, duration_s=0.1)[0]
    told, asked, none = (vary(drums, kick, **o) for o in ({}, {"category": "kick"}, {"category": {}}))
    np.testing.assert_array_equal(told.audio, asked.audio)
    assert told.settings["making"]["category"] == {"kick": 1.0} and "category" not in none.settings["making"]
    assert np.abs(none.audio - told.audio).max() > 0
    assert "category" not in vary(toy(gaussian_v(0.3)), kick).settings["making"]  # it knows none


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        ((np.zeros((2, 100)), RATE), "audio: its audio is empty or silent"),
        ((np.zeros((2, 0)), RATE), "empty or silent"),
        ((np.zeros(0), RATE), "empty or silent"),
        ((np.full((2, 100), np.nan), RATE), r"not numbers \(NaN or infinity\)"),
        ((np.full((2, 100), np.inf), RATE), "NaN or infinity"),
        ((np.ones((100, 2, 2)), RATE), r"shape \(100, 2, 2\).*\(channels, frames\)"),
        ((sound().T, RATE), r"shape \(480, 2\).*\(channels, frames\)"),
        ((sound(), 48_000.5), "sample rate is 48000.5"),
        ((sound(), 0), "1000 to 768000"),
        ((sound(), "48k"), "sample rate is '48k'"),
        (((30_000 * sound()).astype(np.int16), RATE), "int16.*floating-point"),
        (sound(), "give a path, a clip, or"),
        (None, "got NoneType"),
        (7, "got int"),
        (Clip(np.zeros((1, 100), np.float32), RATE, 0, Provenance()), "silent"),
        (Clip(np.full((1, 100), np.nan, np.float32), RATE, 0, Provenance()), "NaN"),
        (Clip(np.ones((1, 100), np.float32), 44_100.5, 0, Provenance()), "sample rate"),
    ],
    ids=str,
)
def test_rejects_invalid_audio(audio, message, ckpt):
    for refuses in (lambda: ddnb.vary(ckpt, audio, steps=1), lambda: input_clip(audio)):
        with pytest.raises(ValueError, match=message):
            refuses()


def test_integers_from_the_right_dtype(ckpt):
    """An array of another floating type or without a channel axis is a sound."""
    for dtype in (np.float16, np.float64):
        assert vary(ckpt, (sound().astype(dtype), np.int32(RATE))).audio.shape == (1, 2, 480)
    assert vary(ckpt, (sound()[0], RATE)).audio.shape == (1, 2, 480)


def test_files_that_are_no_sounds(ckpt, tmp_path):
    (tmp_path / "text.wav").write_text("this is not a sound")
    (tmp_path / "empty.wav").write_bytes(b"")
    soundfile.write(tmp_path / "silent.wav", np.zeros((100, 2)), RATE)
    soundfile.write(tmp_path / "none.wav", np.zeros((0, 2)), RATE)
    soundfile.write(tmp_path / "nan.wav", np.full((100, 2), np.nan), RATE, "FLOAT")
    for name in ("text", "empty", "silent", "none", "nan"):
        with pytest.raises(ValueError, match=rf"{name}\.wav"):
            vary(ckpt, tmp_path / f"{name}.wav")
    with pytest.raises(FileNotFoundError, match="missing.wav"):
        vary(ckpt, tmp_path / "missing.wav")
    with pytest.raises(ValueError, match="is a folder.*vary_folder"):
        vary(ckpt, tmp_path)


def test_several_clips_are_not_a_sound(ckpt):
    with pytest.raises(TypeError, match=r"clips\[0\]"):
        vary(ckpt, ddnb.generate(ckpt, 2, steps=1, duration_s=0.01))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"strength": -0.1}, "strength=-0.1.*0 to 1"),
        ({"strength": 1.1}, "strength=1.1"),
        ({"strength": math.nan}, "strength=nan"),
        ({"strength": "0.5"}, "strength='0.5'"),
        ({"strength": True}, "strength=True"),
        ({"offset_s": -1}, "offset_s=-1"),
        ({"offset_s": 5}, "offset_s=5"),
        ({"offset_s": "1"}, "offset_s='1'"),
        ({"offset_s": 0.01}, "silent from there on"),
        ({"duration_s": 0}, "duration_s=0"),
        ({"duration_s": 61}, "up to 60"),
        ({"duration_s": 1, "bpm": 120}, "give one of them"),
        ({"bars": 2}, "give a tempo too"),
        ({"start_on_onset": True}, "add loop=True"),
        ({"n": 0}, "n=0"),
        ({"seed": -1}, "seed=-1"),
        ({"steps": 0}, "steps=0"),
        ({"sampler": "euler"}, "Known: iplms"),
        ({"category": "kick"}, "no categories"),
    ],
    ids=str,
)
def test_rejects_invalid_variations(wrong, message, ckpt):
    with pytest.raises(ValueError, match=message):
        vary(ckpt, **({"audio": sound()} | wrong))


# --- stopping, folders ------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:interrupted")
@pytest.mark.parametrize("how", ["cancel", "interrupt"])
def test_stopping_keeps_the_finished_clips(how, ckpt):
    cancel, seen = threading.Event(), []

    def stop(done, total, denoised):
        seen.append((done, total))
        if done == 7:
            cancel.set()
            if how == "interrupt":
                raise KeyboardInterrupt

    clips = vary(ckpt, sound(), n=5, on_step=stop, cancel=cancel)
    assert clips.seeds == [0, 1] and clips.settings["making"]["asked"] == 5
    assert seen == [(i, 15) for i in range(1, 8)]
    np.testing.assert_array_equal(clips.audio, vary(ckpt, sound(), n=2).audio)


def folder(path, **sounds):
    for name, x in sounds.items():
        file = path / name.replace("__", "/").replace("_wav", ".wav")
        file.parent.mkdir(exist_ok=True, parents=True)
        soundfile.write(file, x.T, RATE)
    return path


def test_a_folder_file_by_file(ckpt, tmp_path):
    folder(tmp_path, b_wav=sound(1), a__c_wav=sound(2), a_wav=sound(3))
    (tmp_path / "notes.txt").write_text("no sound")
    made = list(vary_folder(ckpt, tmp_path, 0.4, 2, steps=1, level="network"))
    names = [clips.settings["making"]["source"]["name"] for clips in made]
    assert names == ["c.wav", "a.wav", "b.wav"] and [len(clips) for clips in made] == [2, 2, 2]
    np.testing.assert_array_equal(made[2].audio, vary(ckpt, tmp_path / "b.wav", 0.4, 2, steps=1).audio)


def test_skips_unusable_files_and_names_them(gaussian, tmp_path):
    folder(tmp_path, good_wav=sound(), silent_wav=0 * sound(), long_wav=sound(frames=61 * RATE, channels=1))
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.warns(UserWarning) as warned:
        made = list(vary_folder(gaussian, tmp_path, steps=1))
    assert [clips.settings["making"]["source"]["name"] for clips in made] == ["good.wav"]
    said = "\n".join(str(warning.message) for warning in warned)
    assert all(f"Skipped {name}.wav" in said for name in ("silent", "long", "text")) and "61 s" in said


def test_rejects_a_folder_without_usable_files(ckpt, tmp_path):
    with pytest.raises(FileNotFoundError, match="no sound files"):
        list(vary_folder(ckpt, tmp_path))
    with pytest.raises(FileNotFoundError, match="no sound files"):
        list(vary_folder(ckpt, tmp_path / "missing"))
    folder(tmp_path, good_wav=sound())
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="strength=3"):
        list(vary_folder(ckpt, tmp_path, 3))


def test_a_folder_is_left_when_cancelled(ckpt, tmp_path):
    folder(tmp_path, a_wav=sound(), b_wav=sound(), c_wav=sound())
    cancel = threading.Event()
    made = []
    for clips in vary_folder(ckpt, tmp_path, cancel=cancel, steps=1):
        made.append(len(clips))
        cancel.set()
    assert made == [1, 0]


# --- the level of training --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("peaks", "known"), [((0.5, 0.5), True), ((0.5, 0.4), False), ((1.4, 1.4), None)])
def test_training_on_sounds_of_one_peak_writes_it_down(peaks, known, tmp_path):
    """Only then: a network that was shown sounds as they came knows all levels. The file is one that loads."""
    from ddnb.checkpoints.formats import write_safetensors
    from ddnb.training.config import TrainingConfig
    from ddnb.training.dataset import decode
    from ddnb.training.loop import from_scratch
    from ddnb.training.trainer import Trainer

    for i, peak in enumerate(peaks):
        x = sound(i, 22_050, channels=1)
        soundfile.write(tmp_path / f"{i}.wav", (x / np.abs(x).max() * peak).T, 22_050, "FLOAT")
    blank = from_scratch("tiny", sample_rate=22_050, frames=2048, device="cpu")
    settings = TrainingConfig(batch_size=1, steps=1, crop=False)
    learner = Trainer(blank, decode(tmp_path, 22_050, blank.channels), settings)
    write_safetensors(tmp_path / "net.safetensors", *learner.export("net"))
    told = ddnb.load(tmp_path / "net.safetensors", device="cpu").info.get("peak_dbfs")
    if known is not None:
        assert told == (pytest.approx(20 * math.log10(0.5), abs=0.01) if known else None)
