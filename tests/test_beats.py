"""Beats: the grid, the circle, levels, chokes, MIDI, records."""

import hashlib
import json
import threading
from dataclasses import replace
from fractions import Fraction

import mido
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

import ddnb
from ddnb.audio.loop import loop_frames
from ddnb.clips.clip import Clip
from ddnb.clips.provenance import Provenance
from ddnb.errors import Cancelled
from ddnb.generation.beat import Beat, beat, list_patterns

RATE = 48_000
PATTERNS = list_patterns()
CATEGORIES = ("kick", "snare", "clap", "closed_hat", "open_hat", "tom", "cymbal", "perc")
STEPS = st.text(".123456789", min_size=16, max_size=16)
PEAK = 10 ** (-6 / 20)


def impulse(frames=RATE // 1000) -> tuple[np.ndarray, int]:
    """One sample, then silence: what a beat does with it is where and how loud it strikes."""
    return np.eye(1, frames), RATE


def noise(seed=0, frames=2000, channels=1, rate=RATE) -> tuple[np.ndarray, int]:
    return np.random.default_rng(seed).uniform(-1, 1, (channels, frames)), rate


def drums(tracks, seed=0, **shape) -> dict[str, tuple[np.ndarray, int]]:
    return {track: noise(seed + i, **shape) for i, track in enumerate(tracks)}


def own(tracks, sounds=None, **numbers) -> Beat:
    return beat(None, {"tracks": tracks}, sounds=sounds or drums(tracks), level="network", **numbers)


def audio(tracks, sounds=None, **numbers) -> np.ndarray:
    return own(tracks, sounds, **numbers).clip.audio


def at(*steps: int, length=16) -> str:
    return "".join("9" if k in steps else "." for k in range(length))


# the length, and the same samples every time


@given(st.floats(20, 999), st.integers(1, 4), st.sampled_from([8_000, 44_100, 48_000]))
def test_the_loop_is_exactly_as_long_as_its_bars(bpm, bars, rate):
    made = own({"kick": at(0)}, {"kick": noise(rate=rate)}, bpm=bpm, bars=bars).clip
    assert made.audio.shape == (1, loop_frames(bpm, bars, rate)) and made.sample_rate == rate
    assert made.audio.dtype == np.float32


@pytest.mark.parametrize("name", PATTERNS)
def test_rendered_twice_it_is_the_same_to_the_bit(name):
    first, second = (beat(None, name, sounds=drums(PATTERNS[name]["tracks"], channels=2)) for _ in range(2))
    assert first.clip.audio.any()
    np.testing.assert_array_equal(first.clip.audio, second.clip.audio)


def test_saved_twice_the_files_are_the_same_and_none_is_overwritten(tmp_path):
    made = own({"kick": at(0, 7)}, bpm=124)
    first, second = made.save(tmp_path), made.save(tmp_path)
    assert [path.name for path in first] == ["own_beat_124bpm_1bar_seed0.wav", "own_beat_124bpm_1bar_seed0.mid"]
    assert [path.name for path in second] == ["own_beat_124bpm_1bar_seed0-2.wav", "own_beat_124bpm_1bar_seed0-2.mid"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_a_midi_file_that_is_there_stays(tmp_path):
    there = tmp_path / "own_beat_120bpm_1bar_seed0.mid"
    there.write_bytes(b"mine")
    _, score = own({"kick": at(0)}).save(tmp_path)
    assert there.read_bytes() == b"mine" and score != there


# the circle


@given(st.dictionaries(st.sampled_from(CATEGORIES), STEPS, min_size=1), st.integers(0, 15), st.sampled_from([0.5, 0.6]))
def test_turned_steps_turn_the_sound(tracks, by, swing):
    """Tails, chokes and all: nothing knows where the loop begins. 6000 frames a step; swing knows even from odd."""
    if not any(steps.strip(".") for steps in tracks.values()):
        tracks["kick"] = at(0)
    by = by if swing == 0.5 else by // 2 * 2
    sounds = drums(tracks, frames=150_000)  # longer than the bar of 96,000
    turned = {track: steps[-by:] + steps[:-by] for track, steps in tracks.items()}
    plain = audio(tracks, sounds, swing=swing)
    np.testing.assert_allclose(audio(turned, sounds, swing=swing), np.roll(plain, by * 6000, -1), atol=1e-5)


@given(STEPS.filter(lambda steps: steps.strip(".")), st.integers(48, 300_000), st.integers(0, 9))
def test_what_rings_on_is_added_around_the_circle(steps, length, seed):
    """Against the definition: the sum over all hits and samples, each at its place modulo the length."""
    sound, _ = noise(seed, length)
    sound[0, 0] = 1.0
    made = audio({"kick": steps}, {"kick": (sound, RATE)}, bpm=240)
    expected = np.zeros(48_000)
    for k, mark in enumerate(steps):
        if mark != ".":
            place = (k * 3000 + np.arange(length)) % 48_000
            np.add.at(expected, place, PEAK * (int(mark) / 9) ** 2 * sound[0].astype(np.float32))
    np.testing.assert_allclose(made[0], expected, atol=1e-5)


def test_more_bars_repeat_the_pattern_and_fewer_cut_it():
    tracks = {"kick": at(0, 21, length=32), "snare": at(4)}
    sounds = {"kick": impulse(), "snare": impulse()}
    once, four, first = (audio(tracks, sounds, bars=bars) for bars in (None, 4, 1))
    assert once.shape[1] == 2 * 96_000
    np.testing.assert_array_equal(four, np.tile(once, 2))
    np.testing.assert_array_equal(first, once[:, :96_000])
    assert np.count_nonzero(once) == 4


# the grid


@given(st.floats(20, 300), st.floats(0.5, 0.75), st.integers(1, 5), st.sampled_from([44_100, 48_000]))
def test_hits_are_within_half_a_sample_of_the_grid(bpm, swing, bars, rate):
    """Counted in fractions. A place that is rounded from the one before it would drift."""
    sound = (np.eye(1, 100), rate)
    made = audio({"kick": "9" * 16}, {"kick": sound}, bpm=bpm, swing=swing, bars=bars)
    sixteenth = Fraction(made.shape[1], 16 * bars)
    exact = [(k + k % 2 * (2 * Fraction(swing) - 1)) * sixteenth for k in range(16 * bars)]
    assert all(abs(got - want) <= 0.5001 for got, want in zip(np.flatnonzero(made[0]), exact, strict=True))


@pytest.mark.parametrize(("swing", "late"), [(0.5, 0), (2 / 3, 2000), (0.75, 3000)])
def test_swing_delays_every_other_step(swing, late):
    made = audio({"kick": at(2, 3)}, {"kick": impulse()}, swing=swing)
    assert list(np.flatnonzero(made[0])) == [12_000, 18_000 + late]


def test_silence_before_the_attack_is_skipped_and_the_attack_is_whole():
    """The recording has hiss 60 dB below its peak, then a swell: its first millisecond stays below -50 dB."""
    attack, _ = noise(1, 4000)
    attack *= np.minimum(1, np.linspace(0, 1, 4000) ** 2 * 4)
    attack /= np.abs(attack).max()
    crossing = int(np.argmax(np.abs(attack[0]) >= 10 ** (-50 / 20)))
    assert crossing > 48
    hiss = noise(2, 10_000)[0] * 1e-3
    made = audio({"kick": at(0)}, {"kick": (np.hstack([hiss, attack]), RATE)}, bpm=60)
    whole = PEAK * attack[0, crossing - 48 :]
    np.testing.assert_allclose(made[0, : len(whole)], whole, atol=1e-6)
    assert not made[0, len(whole) :].any()


# levels


@given(st.floats(1e-4, 10))
def test_the_level_of_a_sound_does_not_matter(gain):
    sound, rate = noise()
    loud, soft = (audio({"kick": at(0)}, {"kick": (x, rate)}) for x in (sound, gain * sound))
    np.testing.assert_allclose(loud, soft, atol=1e-6)
    assert np.abs(loud).max() == pytest.approx(PEAK)


def test_velocity_follows_its_law():
    peaks = [np.abs(audio({"kick": f"{v}" + at()[1:]}, {"kick": impulse()})).max() for v in range(1, 10)]
    np.testing.assert_allclose(20 * np.log10(peaks), -6 + 40 * np.log10(np.arange(1, 10) / 9), atol=1e-3)


def test_tracks_have_levels_and_one_of_ones_own_has_none():
    peaks = {t: np.abs(audio({t: at(0)}, {t: impulse()})).max() for t in (*CATEGORIES, "cowbell")}
    assert peaks["cowbell"] == peaks["kick"] == pytest.approx(PEAK)
    assert all(PEAK * 10 ** (-12 / 20) <= peak < PEAK for t, peak in peaks.items() if t not in ("kick", "cowbell"))
    assert max(peaks["closed_hat"], peaks["open_hat"]) < peaks["clap"] < peaks["snare"]


def test_one_stereo_sound_makes_the_beat_stereo():
    right = np.vstack([0 * impulse()[0], impulse()[0]])
    tracks = {"kick": at(0), "snare": at(4)}
    made = audio(tracks, {"kick": (right, RATE), "snare": impulse()})
    assert made.shape == (2, 96_000)
    assert made[0, 0] == 0 and made[1, 0] == pytest.approx(PEAK) and made[0, 24_000] == made[1, 24_000] > 0
    assert audio(tracks).shape[0] == 1


def test_sounds_of_another_rate_keep_their_pitch_and_length():
    tone = np.sin(2 * np.pi * 1000 * np.arange(24_000) / 24_000)[None]
    made = own({"kick": at(0), "snare": at(8)}, {"kick": (tone, 24_000), "snare": impulse()}, bpm=60)
    assert made.sample_rate == RATE  # the highest there is
    heard = made.clip.audio[0, 1000:25_000]
    assert np.fft.rfftfreq(24_000, 1 / RATE)[np.abs(np.fft.rfft(heard)).argmax()] == 1000
    assert np.abs(made.clip.audio[0, 47_000:47_900]).max() > 0.4 and not made.clip.audio[0, 48_100:90_000].any()


# chokes


@given(st.integers(0, 15), st.integers(0, 15), st.sampled_from(["closed_hat", "open_hat"]))
def test_the_next_hat_cuts_an_open_one_wherever_the_seam_is(opened, closed, by):
    """The closed hat is a click of one sample; of an open hat that lasts for ever nothing is left 5 ms after it."""
    hum = (np.ones((1, 500_000)), RATE)
    tracks, sounds = {"open_hat": at(opened)}, {"open_hat": hum}
    if by == "closed_hat":
        tracks[by], sounds[by] = at(closed), impulse()
    made = audio(tracks, sounds)[0].astype(float)
    gap = ((closed - opened - 1) % 16 + 1) * 6000 if by == "closed_hat" else 96_000  # without, itself cuts it
    if by == "closed_hat":
        made[closed * 6000] -= PEAK * 10 ** (-7 / 20)
    made = np.roll(made, -opened * 6000)
    level = PEAK * 10 ** (-9 / 20)
    if gap < 96_000:
        np.testing.assert_allclose(made[:gap], level, atol=1e-5)
        assert not made[gap + 240 :].any()
        assert np.abs(np.diff(made[gap - 1 : gap + 241])).max() < 1.1 * level / 239  # it fades, no click
    else:
        np.testing.assert_allclose(made[240:], level, atol=1e-5)
        assert made.max() < 2.01 * level


def test_nothing_else_is_cut():
    tracks = {"kick": at(0), "closed_hat": at(4), "cymbal": at(0)}
    sounds = drums(tracks, frames=60_000)
    together, alone = audio(tracks, sounds), [audio({t: tracks[t]}, {t: sounds[t]}) for t in tracks]
    np.testing.assert_allclose(together, sum(alone), atol=1e-6)


# the patterns that come with it


@pytest.mark.parametrize("name", PATTERNS)
def test_patterns_are_whole(name):
    tracks = PATTERNS[name]["tracks"]
    assert set(tracks) <= set(CATEGORIES) and all(steps.strip(".") for steps in tracks.values())
    made = beat(None, name, sounds=drums(tracks))
    assert (made.bpm, made.swing) == (PATTERNS[name]["bpm"], PATTERNS[name]["swing"])
    assert made.bars == max(map(len, tracks.values())) // 16
    assert made.tracks["kick"][0] == "9"
    hats = {k for k, mark in enumerate(tracks["open_hat"]) if mark != "."}
    assert not hats & {k for k, mark in enumerate(tracks["closed_hat"]) if mark != "."}  # one pair of hats
    backbeat = tracks["snare" if "9" in tracks.get("snare", "") else "clap"]
    assert all(backbeat[k] != "." for k in ([8] if name == "trap" else [4, 12]))


def test_there_are_the_patterns_that_are_promised():
    assert set(PATTERNS) == {"techno", "house", "hip-hop", "drum-and-bass", "breakbeat", "trap"}
    list_patterns()["house"]["tracks"].clear()
    assert list_patterns()["house"]["tracks"]  # nobody can spoil them


# MIDI

KEYS = dict(zip(CATEGORIES, (36, 38, 39, 42, 46, 45, 49, 56), strict=True))


def events(path) -> tuple[dict, list[tuple[int, int, int]], list[tuple[int, int]], int]:
    """Meta messages by type, (tick, note, velocity) of what begins, (tick, note) of what ends, the last tick."""
    file = mido.MidiFile(path)
    assert file.type == 0 and len(file.tracks) == 1 and file.ticks_per_beat == 480
    now, meta, ons, offs = 0, {}, [], []
    for message in file.tracks[0]:
        now += message.time
        if message.is_meta:
            meta[message.type] = message
        elif message.type == "note_on" and message.velocity:
            assert message.channel == 9
            ons.append((now, message.note, message.velocity))
        else:
            offs.append((now, message.note))
    return meta, ons, offs, now


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("numbers", [{}, {"bars": 3, "swing": 0.62, "bpm": 93.7}], ids=["plain", "changed"])
def test_the_midi_file_holds_exactly_the_grid(name, numbers, tmp_path):
    tracks = PATTERNS[name]["tracks"]
    made = beat(None, name, sounds=drums(tracks, frames=50), **numbers)
    meta, ons, offs, end = events(made.save(tmp_path)[1])
    expected = []
    for track, steps in tracks.items():
        for k in range(16 * made.bars):
            if (mark := steps[k % len(steps)]) != ".":
                late = (2 * made.swing - 1) * 120 if k % 2 else 0
                expected.append((round(k * 120 + late), KEYS[track], round(int(mark) / 9 * 127)))
    assert sorted(ons) == sorted(expected)
    assert sorted(offs) == sorted((tick + 60, note) for tick, note, _ in expected)
    assert end == made.bars * 4 * 480
    assert meta["set_tempo"].tempo == pytest.approx(60e6 / made.bpm, abs=0.5)
    assert (meta["time_signature"].numerator, meta["time_signature"].denominator) == (4, 4)
    assert meta["track_name"].name == name
    assert mido.MidiFile(made.save(tmp_path)[1]).length == pytest.approx(made.clip.duration_s, abs=1e-3)


def test_a_track_of_ones_own_plays_claves():
    score = own({"cowbell": at(0)}).midi()
    assert [message.note for message in score.tracks[0] if message.type == "note_on"] == [75]


@given(STEPS.filter(lambda steps: steps.strip(".")), st.floats(0.5, 0.75))
def test_no_note_begins_before_it_has_ended(steps, swing):
    sounding = False
    for message in own({"kick": steps}, {"kick": impulse()}, swing=swing).midi().tracks[0]:
        if message.type in ("note_on", "note_off"):
            assert sounding == (message.type == "note_off")
            sounding = not sounding
    assert not sounding


# changing one thing


def test_other_steps_change_that_track_alone():
    tracks = {"kick": at(0, 8), "snare": at(4)}
    made = own(tracks)
    before = made.clip.audio.copy()
    changed = made.with_steps("snare", at(12))
    np.testing.assert_array_equal(made.clip.audio, before)
    assert made.tracks == tracks and changed.tracks == tracks | {"snare": at(12)}
    difference = np.flatnonzero((changed.clip.audio - before)[0]) // 6000
    assert set(difference) == {4, 12}


def test_another_sound_changes_that_track_alone():
    made = own({"kick": at(0, 8), "snare": at(4)})
    before = made.clip.audio.copy()
    changed = made.with_sound("snare", noise(7))
    np.testing.assert_array_equal(made.clip.audio, before)
    assert set(np.flatnonzero((changed.clip.audio - before)[0]) // 6000) == {4}


def test_a_new_track_brings_its_sound():
    made = own({"kick": at(0)})
    assert list(made.with_steps("tom", at(4), noise(3)).sounds) == ["kick", "tom"]
    with pytest.raises(ValueError, match="No sound for tom"):
        made.with_steps("tom", at(4))
    with pytest.raises(ValueError, match=r"No track for the sound of tom.*kick"):
        made.with_sound("tom", noise())


def test_tempo_length_and_swing_change_together_or_alone():
    made = own({"kick": at(0, 3)})
    other = made.with_(bpm=90, bars=2, swing=0.6)
    assert (other.bpm, other.bars, other.swing) == (90, 2, 0.6) and (made.bpm, made.bars, made.swing) == (120, 1, 0.5)
    assert other.clip.audio.shape[1] == loop_frames(90, 2, RATE)
    np.testing.assert_array_equal(other.with_(bpm=120, bars=1).with_(swing=0.5).clip.audio, made.clip.audio)


# where sounds come from, and what is written down


def test_the_record_says_what_was_played(tmp_path):
    """Names and hashes, but no folder of anybody's disk."""
    path = tmp_path / "secret" / "boom.wav"
    path.parent.mkdir()
    soundfile.write(path, noise()[0].T, 44_100)
    clip = Clip(
        noise(1)[0].astype(np.float32),
        RATE,
        5,
        Provenance.from_dict({"making": {"verb": "generate"}, "model": {"name": "net"}}),
    )
    tracks = {"kick": at(0), "snare": at(4), "tom": at(7)}
    made = own(tracks, {"kick": str(path), "snare": clip, "tom": noise(2)}, bpm=120.5, seed=3)
    wav, _ = made.save(tmp_path / "out")
    assert wav.name == "own_beat_1bar_seed3.wav"  # 120.5bpm might be read as 5
    text = wav.with_suffix(".json").read_text()
    record = json.loads(text)
    making = record["making"]
    assert (making["verb"], making["pattern"], making["tracks"]) == ("beat", "own", tracks)
    assert (making["bpm"], making["bars"], making["swing"], making["seed"]) == (120.5, 1, 0.5, 3)
    assert making["frames"] == record["file"]["frames"] == made.clip.audio.shape[1] == soundfile.info(wav).frames
    assert making["sounds"]["kick"]["name"] == "boom.wav" and len(making["sounds"]["kick"]["sha256"]) == 64
    whole = {"making": {"verb": "generate", "seed": 5}, "model": {"name": "net"}}
    assert making["sounds"]["snare"] == {"name": "net_seed5", "record": whole}
    samples = noise(2)[0].astype("<f4").tobytes()
    assert making["sounds"]["tom"] == {"name": "tom", "sha256": hashlib.sha256(samples).hexdigest()}
    assert record["model"]["name"] == "own-sounds" and record["machine"]["ddnb"]
    assert "secret" not in text


def test_a_record_or_a_file_is_a_pattern(tmp_path):
    made = beat(None, "hip-hop", sounds=drums(PATTERNS["hip-hop"]["tracks"]))
    record = made.save(tmp_path)[0].with_suffix(".json")
    again = beat(None, record, sounds=drums(PATTERNS["hip-hop"]["tracks"]))
    np.testing.assert_array_equal(again.clip.audio, made.clip.audio)
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"tracks": {"kick": at(0)}, "bpm": 99}))
    assert beat(None, str(file), sounds={"kick": noise()}).bpm == 99


def test_a_later_change_of_the_array_changes_nothing():
    sound, _ = noise()
    made = own({"kick": at(0)}, {"kick": (sound, RATE)})
    sound[:] = np.nan
    assert np.isfinite(made.clip.audio).all()


def test_it_shows_itself():
    made = own({"kick": at(0)}, bpm=124)
    assert "own_beat_124bpm_1bar_seed0" in made._repr_html_()
    assert repr(made) == "<own beat at 124 BPM, 1 bar: kick>"


# the network


@pytest.fixture(scope="module")
def network():
    return ddnb.load("drums", device="cpu")


@pytest.fixture(scope="module")
def house(network):
    return beat(network, "house", seed=7, steps=2)


def test_the_built_in_network_plays_every_pattern(network, house, tmp_path):
    assert all(set(pattern["tracks"]) <= set(network.categories) for pattern in PATTERNS.values())
    assert house.sample_rate == network.sample_rate
    kick = ddnb.generate(network, 1, 7, category="kick", steps=2)
    np.testing.assert_array_equal(house.sounds["kick"].audio, kick.audio[0])
    assert house.clip.name == "house_beat_124bpm_2bars_seed7"
    record = json.loads(house.save(tmp_path)[0].with_suffix(".json").read_text())
    assert record["model"]["weights_sha256"] == network.info["weights_sha256"]
    source = record["making"]["sounds"]["snare"]
    making = source["record"]["making"]
    assert (source["name"], source["record"]["model"]["name"]) == ("snare_drums_seed7", "drums")
    assert (making["category"], making["seed"], making["steps"]) == ({"snare": 1.0}, 7, 2)


def test_own_sounds_and_seeds_per_category_mix_with_generated_ones(network, house):
    tracks = {"kick": at(0), "snare": at(4), "zap": at(7)}
    made = beat(network, {"tracks": tracks}, sounds={"zap": impulse()}, seed={"kick": 7, "snare": 8}, steps=2)
    assert made.sample_rate == network.sample_rate  # not that of the zap
    np.testing.assert_array_equal(made.sounds["kick"].audio, house.sounds["kick"].audio)
    assert made.sounds["snare"].seed == 8 and made.clip.seed == 0


def test_a_network_that_made_nothing_is_not_in_the_record(network):
    made = beat(network, {"tracks": {"kick": at(0)}}, sounds={"kick": noise()})
    assert made.clip.settings["model"]["name"] == "own-sounds" and made.sample_rate == network.sample_rate


def test_what_is_wrong_is_said_before_anything_is_generated(network, monkeypatch):
    monkeypatch.setattr("ddnb.generation.beat.generate", lambda *_, **__: pytest.fail("seconds were spent"))
    tracks = {"kick": at(0), "snare": at(4)}
    for wrong in ({"bpm": 5}, {"swing": 1}, {"sounds": {"kick": (np.zeros((1, 500)), RATE)}}, {"seed": {"kick": 1}}):
        refused(r"bpm|swing|silent|give one for snare", network, {"tracks": tracks}, **wrong)
    refused("No hit", network, {"tracks": {"kick": at()}})


def test_progress_is_counted_over_all_sounds(network):
    seen = []
    beat(
        network,
        {"tracks": {"kick": at(0), "tom": at(4)}},
        steps=2,
        on_step=lambda done, total, _: seen.append((done, total)),
    )
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_cancelled_there_is_no_half_a_beat(network):
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled, match="0 of 6"):
        beat(network, "house", steps=2, cancel=cancel)


# what cannot be


def refused(message, *args, error=ValueError, **kwargs):
    with pytest.raises(error, match=message):
        beat(*args, **kwargs)


def test_unknown_patterns_list_the_known_ones(tmp_path):
    refused(r"Unknown pattern 'hous'.*techno, house", None, "hous")
    with pytest.raises(FileNotFoundError):
        beat(None, tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    refused("bad.json is not JSON", None, tmp_path / "bad.json")
    for wrong in ({}, {"tracks": 5}, {"tracks": {"kick": [9]}}):
        refused("no tracks", None, wrong)


@pytest.mark.parametrize("steps", ["", "9...", at(0) + ".", "x" * 16, "0" * 16, "\uff19" * 16, at(0)[:-1] + "\n"])
def test_steps_that_are_none(steps):
    refused("kick: .* steps", None, {"tracks": {"kick": steps}}, sounds={"kick": noise()})


def test_a_beat_without_a_hit():
    refused("No hit", None, {"tracks": {"kick": at()}}, sounds={"kick": noise()})
    refused("No hit in 1 bar:", None, {"tracks": {"kick": at(16, length=32)}}, sounds={"kick": noise()}, bars=1)
    with pytest.raises(ValueError, match="No hit"):
        own({"kick": at(0)}).with_steps("kick", at())


@pytest.mark.parametrize(
    "numbers",
    [{"swing": s} for s in (0.49, 0.76, float("nan"), "0.6")]
    + [{"bpm": b} for b in (19, 1000)]
    + [{"bars": 0}, {"bars": 65}],
    ids=str,
)
def test_numbers_out_of_range(numbers):
    refused(next(iter(numbers)), None, {"tracks": {"kick": at(0)}}, sounds={"kick": noise()}, **numbers)
    with pytest.raises(ValueError, match=next(iter(numbers))):
        own({"kick": at(0)}).with_(**numbers)


@pytest.mark.parametrize(
    ("sound", "message"),
    [
        ((np.zeros((1, 500)), RATE), "silent"),
        ((np.zeros((1, 0)), RATE), "silent"),
        ((np.full((1, 500), 1e-40), RATE), "silent"),
        ((np.ones((1, 20)), RATE), "shorter"),
        ((np.full((1, 500), np.nan), RATE), "NaN"),
        ((np.full((1, 500), np.inf), RATE), "infinity"),
        ((np.ones((500, 2)), RATE), "channels, frames"),
        ((np.ones((1, 1, 500)), RATE), "channels, frames"),
        ((np.ones((1, 500)), 44_100.5), "sample rate"),
        ((np.ones((1, 500)), 0), "sample rate"),
    ],
)
def test_rejects_invalid_audio(sound, message):
    refused(f"kick.*{message}", None, {"tracks": {"kick": at(0)}}, sounds={"kick": sound})
    with pytest.raises(ValueError, match=message):
        own({"kick": at(0)}).with_sound("kick", sound)


@pytest.mark.parametrize("rate", [44_100.5, 0, "48000", None])
def test_a_clip_needs_a_sample_rate_that_is_one(rate):
    clip = Clip(np.ones((1, 500), np.float32), rate, 0)
    refused("kick.*sample rate", None, {"tracks": {"kick": at(0)}}, sounds={"kick": clip})


def test_an_array_without_a_channel_axis_is_mono():
    made = own({"kick": at(0)}, {"kick": (np.ones(500), RATE)})
    assert made.clip.audio.shape[0] == 1


def test_tracks_that_nothing_can_play(network):
    refused("No sound for kick, clap.*no network", None, "house", sounds={"snare": noise()})
    refused("drums has no category.*'zap': 'file.wav'", network, {"tracks": {"kick": at(0), "zap": at(1)}})
    refused("No track for the sound of tom.*kick", network, "house", sounds={"tom": noise()})
    refused("give one for kick", network, {"tracks": {"kick": at(0)}}, seed={"snare": 1})
    refused("leave out steps", None, {"tracks": {"kick": at(0)}}, sounds={"kick": noise()}, steps=2)
    refused("ddnb.load", "house", error=TypeError)
    clips = ddnb.Clips(np.ones((1, 1, 500), np.float32), RATE, [0])
    refused("clips.0., not all of them", None, {"tracks": {"kick": at(0)}}, sounds={"kick": clips}, error=TypeError)


def test_a_beat_of_ones_own_making_is_checked_as_well():
    made = own({"kick": at(0)})
    with pytest.raises(ValueError, match="silent"):
        replace(made, sounds={"kick": replace(made.sounds["kick"], audio=np.zeros((1, 500), np.float32))})
