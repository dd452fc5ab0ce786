"""The levels at which sounds leave, and the rate and format of their files."""

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

import ddnb
from ddnb.audio.io import peak_dbfs
from ddnb.audio.loop import loop_frames
from ddnb.audio.mastering import CEILING_DBFS, LOUDNESS_LUFS, STARTS_HARD, apply_edit, loudness_lufs, normalize
from ddnb.cli.main import main
from ddnb.clips.provenance import Making, Provenance
from ddnb.errors import ArgumentError, RecordError

RATE = 44_100
ONE_SHOTS = ("kick", "snare", "closed_hat", "tom", "perc", "bass", "synth")
FEW = {"steps": 6}


def test_a_sine_has_the_loudness_of_the_standard():
    """ITU-R BS.1770-4: a full-scale sine of 997 Hz in one channel has -3.01 LUFS."""
    sine = np.sin(2 * np.pi * 997 * np.arange(RATE) / RATE)[None]
    assert loudness_lufs(sine, RATE) == pytest.approx(-3.01, abs=0.05)
    assert loudness_lufs(sine[:, :4410], RATE) == pytest.approx(-3.01, abs=0.1)
    assert loudness_lufs(sine / 10, RATE) == pytest.approx(-23.01, abs=0.05)


@settings(max_examples=25)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 30_000),
    st.integers(0, 3000),
    st.floats(-90, 30),
    st.booleans(),
    st.booleans(),
)
def test_normalized_sounds_keep_their_length_and_have_one_level(seed, frames, silent, level_db, align, by_loudness):
    draws = np.random.default_rng(seed)
    sound = draws.standard_normal((1, frames)) * np.exp(-np.arange(frames) / draws.uniform(10, 30_000))
    sound[:, : min(silent, frames - 1)] = 0
    sound = np.pad(sound * 10 ** (level_db / 20), [(0, 0), (0, 50)]).astype(np.float32)  # it ends by itself
    done = apply_edit(sound, normalize(sound, RATE, align=align, by_loudness=by_loudness))
    assert done.shape == sound.shape
    assert peak_dbfs(done) < CEILING_DBFS + 0.001
    if by_loudness:
        assert loudness_lufs(done, RATE) < LOUDNESS_LUFS + 0.05
    else:
        assert peak_dbfs(done) == pytest.approx(CEILING_DBFS, abs=0.001)
    if align and frames > 100:
        assert np.abs(done[:, 0]).max() <= STARTS_HARD * np.abs(done).max()
        attack = int((np.abs(done) > 0.01 * np.abs(done).max()).any(0).argmax())
        assert attack <= 0.002 * RATE
    again = normalize(done, RATE, align=align, by_loudness=by_loudness)
    np.testing.assert_allclose(apply_edit(done, again), done, atol=1e-3)


def test_silence_has_no_level():
    assert normalize(np.zeros((2, 100), np.float32), RATE, align=True, by_loudness=True) == {}


@pytest.mark.parametrize("category", ONE_SHOTS)
def test_one_shots_peak_at_one_decibel_below_full_scale(drums, category):
    clips = ddnb.generate(drums, 3, 20, category=category, **FEW)
    for clip in clips:
        assert peak_dbfs(clip.audio) == pytest.approx(-1, abs=0.01)
        assert np.abs(clip.audio[:, 0]).max() < 0.01 * np.abs(clip.audio).max()


def test_textures_and_loops_have_one_loudness(drums):
    made = [
        *ddnb.generate(drums, 2, 0, category="texture", **FEW),
        *ddnb.generate(drums, 2, 0, category="kick", loop=True, bpm=120, bars=1, **FEW),
        ddnb.beat(drums, **FEW).clip,
    ]
    for clip in made:
        loudness, peak = loudness_lufs(clip.audio, clip.sample_rate), peak_dbfs(clip.audio)
        assert loudness == pytest.approx(-18, abs=0.05) or (loudness < -18 and peak == pytest.approx(-1, abs=0.01))


def test_what_was_done_is_in_the_record_and_nothing_else_was(drums):
    raw = ddnb.generate(drums, 2, 3, category="snare", level="network", **FEW)
    for clip, before in zip(ddnb.generate(drums, 2, 3, category="snare", **FEW), raw, strict=True):
        (edit,) = clip.provenance.edits
        np.testing.assert_array_equal(clip.audio, apply_edit(before.audio, edit))
        assert before.provenance.edits == () and edit["gain_db"] > 0
    timed = ddnb.generate(drums, 1, 3, category="kick", bpm=120, bars=1, **FEW)[0]
    assert "first_frame" not in timed.provenance.edits[0], "a sound of exact bars was moved"


def test_sounds_are_remade_at_the_level_they_had(drums, tmp_path):
    """With the level of today, and from records without one, which are those of earlier versions."""
    sound = ddnb.generate(drums, 1, 3, category="bass", **FEW)[0]
    wide = ddnb.generate(drums, 1, 3, category="texture", width=0.5, **FEW)[0]
    raw = ddnb.generate(drums, 1, 3, category="bass", level="network", **FEW)[0]
    beat = ddnb.beat(drums, bars=1, **FEW).clip
    keys = ddnb.keybed(drums, "bass", "C2", "E2", **FEW)[1]
    between = ddnb.interpolate(drums, 1, 2, 3, category="kick", to_category="texture", **FEW)[1]
    varied = ddnb.vary(drums, sound, 0.5, 1, **FEW)[0]
    old = ddnb.vary(drums, sound, 0.5, 1, level="network", **FEW)[0]
    for clip in (sound, wide, raw, beat, keys, between, varied, old):
        again = ddnb.remake(clip.save(tmp_path, bits="float"))
        np.testing.assert_array_equal(again.audio[0], clip.audio, err_msg=clip.name)
        assert again[0].provenance.edits == clip.provenance.edits


def test_interpolated_seeds_end_as_the_sounds_of_the_seeds(drums):
    ends = ddnb.interpolate(drums, 1, 2, 3, category="kick", to_category="texture", places=[0, 2], **FEW)
    for clip, (seed, category) in zip(ends, ((1, "kick"), (2, "texture")), strict=True):
        np.testing.assert_array_equal(
            clip.audio, ddnb.generate(drums, 1, seed, category=category, **FEW).audio[0], err_msg=category
        )


@pytest.mark.parametrize("gain", [2.0**-8, 4.0])
def test_strength_means_the_same_for_quiet_and_loud_input(drums, small, gain):
    sound = ddnb.generate(drums, 1, 3, category="snare", **FEW)[0]
    other = replace(sound, audio=sound.audio * np.float32(gain))
    for ckpt in (drums, small):
        varied, other_varied = (ddnb.vary(ckpt, x, 0.5, 1, **FEW).audio for x in (sound, other))
        np.testing.assert_allclose(other_varied / gain, varied, atol=2e-4)
        assert peak_dbfs(varied) == pytest.approx(peak_dbfs(ddnb.vary(ckpt, sound, 0, 1).audio), abs=0.01)


def test_unknown_levels_are_refused_before_the_work(drums):
    calls = [
        lambda: ddnb.generate(drums, level="loud"),
        lambda: ddnb.keybed(drums, "bass", level="loud"),
        lambda: ddnb.vary(drums, (np.ones((1, 100), np.float32), RATE), level="loud"),
        lambda: ddnb.interpolate(drums, 1, 2, level="loud"),
        lambda: ddnb.beat(drums, level="loud"),
    ]
    for call in calls:
        with pytest.raises(ArgumentError, match="normalized, network"):
            call()


# --- rate and format --------------------------------------------------------------------------------------------------


def tone(frames, hz=1000, rate=RATE):
    return np.sin(2 * np.pi * hz * np.arange(frames) / rate)[None].astype(np.float32) / 2


@pytest.mark.parametrize("rate", [16_000, 22_050, 44_100])
@pytest.mark.parametrize("to_rate", [44_100, 48_000, 96_000, 192_000])
def test_loops_of_any_tempo_have_their_exact_bars_at_any_rate(rate, to_rate):
    for bpm in (60, 77, 93.7, 120, 133, 181):
        making = Making("generate", loop=True, bpm=bpm, bars=1, beats_per_bar=4)
        clip = ddnb.Clip(tone(loop_frames(bpm, 1, rate), rate=rate), rate, 0, Provenance(making))
        assert clip.at_rate(to_rate).audio.shape[-1] == loop_frames(bpm, 1, to_rate)


def test_a_sound_that_is_cut_off_while_it_sounds_is_not_moved():
    """Silence after its end would be a click that nobody fades."""
    late = np.pad(tone(5000), [(0, 0), (2000, 0)])
    assert "first_frame" not in normalize(late, RATE, align=True, by_loudness=False)
    ended = np.pad(late, [(0, 0), (0, 100)])
    assert normalize(ended, RATE, align=True, by_loudness=False)["first_frame"] > 1900


@pytest.mark.parametrize("to_rate", [8000, 48_000, 96_000])
@pytest.mark.parametrize("bits", ["16", "24", "float"])
def test_files_have_the_rate_and_the_bits_that_were_asked_for(tmp_path, to_rate, bits):
    clip = ddnb.Clip(tone(RATE), RATE, 0)
    path = clip.save(tmp_path, bits=bits, to_rate=to_rate)
    info = soundfile.info(path)
    assert (info.samplerate, info.frames) == (to_rate, to_rate)
    assert info.subtype == {"16": "PCM_16", "24": "PCM_24", "float": "FLOAT"}[bits]
    read = soundfile.read(path)[0]
    inside = slice(to_rate // 10, -to_rate // 10)
    np.testing.assert_allclose(read[inside], tone(to_rate, rate=to_rate)[0][inside], atol=1e-3)


def test_a_file_at_another_rate_is_remade_and_so_is_a_pack(drums, tmp_path):
    loop = ddnb.generate(drums, 1, 0, category="texture", loop=True, bpm=133, bars=1, **FEW)[0]
    shot = ddnb.generate(drums, 1, 0, category="kick", **FEW)[0]
    for clip in (loop, shot):
        path = clip.save(tmp_path, bits="float", to_rate=48_000)
        again = ddnb.remake(path)
        assert again.sample_rate == 48_000
        np.testing.assert_array_equal(again.audio[0], soundfile.read(path, dtype="float32", always_2d=True)[0].T)
    frames = soundfile.info(tmp_path / f"{loop.name}.wav").frames
    assert frames == loop_frames(133, 1, 48_000), "the loop has not exactly its bars any more"
    packed = ddnb.pack([loop, shot, ddnb.beat(drums, bars=1, **FEW)], tmp_path / "all.zip", to_rate=48_000, bits="16")
    remade = ddnb.remake(packed)
    assert [clip.sample_rate for clip in remade] == [48_000] * 3
    assert max(peak_dbfs(clip.audio) for clip in remade) < -0.99


def test_a_loop_stays_a_loop_at_another_rate():
    """A periodic tone, sampled more often, is that tone, across the seam too."""
    clip = ddnb.Clip(tone(4410), RATE, 0)
    looped = replace(
        clip, provenance=replace(clip.provenance, making=ddnb.clips.provenance.Making("generate", loop=True))
    )
    np.testing.assert_allclose(looped.at_rate(48_000).audio, tone(4800, rate=48_000), atol=1e-5)


def test_impossible_rates_are_refused(drums, tmp_path, capsys):
    clip = ddnb.Clip(tone(100), RATE, 0)
    for rate in (0, -48_000, 44_100.5, "48000", True, 1_000_000):
        with pytest.raises(ArgumentError, match="8000 to 192000"):
            clip.save(tmp_path, to_rate=rate)
        with pytest.raises(ArgumentError, match="8000 to 192000"):
            ddnb.pack([clip], tmp_path / "x.zip", to_rate=rate)
    assert not any(tmp_path.iterdir())
    assert main(["generate", "-n", "1", "--to-rate", "0", "--out", str(tmp_path / "none")]) == 2
    assert "8000 to 192000" in capsys.readouterr().err and not (tmp_path / "none").exists()


def test_edits_of_records_are_bounded():
    """A record may come from anybody: it must not fill the memory."""
    sound = tone(1000)
    for edit in (
        {"to_rate": 10**9},
        {"to_rate": 48_000, "circle_frames": 10**9},
        {"first_frame": 10, "frames": 10**9},
        {"fade_in_frames": -1},
        {"fade_in_frames": 1001},
        {"circle_frames": 1000},
    ):
        with pytest.raises(RecordError):
            apply_edit(sound, edit, RATE)
    with pytest.raises(RecordError):
        apply_edit(sound, {"to_rate": 48_000})


def test_commands_write_the_rate_the_bits_and_the_level(tmp_path):
    made = ["generate", "--category", "kick", "-n", "1", "--steps", "6", "--out", str(tmp_path)]
    assert main([*made, "--to-rate", "48000", "--bits", "16", "--level", "network"]) == 0
    (path,) = tmp_path.glob("*.wav")
    assert (soundfile.info(path).samplerate, soundfile.info(path).subtype) == (48_000, "PCM_16")
    assert peak_dbfs(soundfile.read(path)[0]) < -6
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["edits"] == [{"to_rate": 48_000}]
    assert main(["remake", str(path), "--out", str(tmp_path / "again")]) == 0
    (again,) = (tmp_path / "again").glob("*.wav")
    assert again.read_bytes() == path.read_bytes()
