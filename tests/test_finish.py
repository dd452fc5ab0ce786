"""What is done to sounds on their way out: levels by physics, trimming that harms nothing, notes of known pitch."""

import json

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import ddnb
from ddnb.audio.io import peak_dbfs, quantise
from ddnb.audio.mastering import FADE_S, LEAD_S, apply_edit, find_trim, gains_db, start_frame, true_peak_dbfs
from ddnb.audio.notes import note_name
from ddnb.audio.pitch import root_note

RATE = 44_100


def seconds(s):
    return np.arange(round(s * RATE)) / RATE


def hit(before=0, decay_s=0.05, after=0, length_s=1.0, seed=0, channels=1):
    """Noise that decays, after so many frames of silence, before so many others."""
    t = seconds(length_s)
    sound = np.random.default_rng(seed).standard_normal((channels, len(t))) * np.exp(-t / decay_s)
    sound[:, 0] = 0.9 * np.abs(sound).max()
    return np.pad(sound / 4, [(0, 0), (before, after)]).astype(np.float32)


# --- true peak --------------------------------------------------------------------------------------------------------


def test_a_sine_whose_peaks_lie_between_the_samples():
    """A quarter of the sample rate at 45 degrees: samples of 0.707, a peak of 1."""
    sine = np.sin(np.pi / 2 * np.arange(4096) + np.pi / 4)[None]
    assert peak_dbfs(sine) == pytest.approx(-3.01, abs=0.01)
    assert true_peak_dbfs(sine, loop=True) == pytest.approx(0, abs=0.1)
    faded = sine * np.hanning(4096)
    assert true_peak_dbfs(faded) == pytest.approx(peak_dbfs(faded) + 3.01, abs=0.1)


@pytest.mark.parametrize("hz", [100, 997, 5000, 12_345])
def test_a_sine_has_the_peak_that_it_has(hz):
    sine = 0.25 * np.sin(2 * np.pi * hz * seconds(0.5))[None] * np.hanning(len(seconds(0.5)))
    assert true_peak_dbfs(sine) == pytest.approx(-12.04, abs=0.3)


@given(st.integers(0, 4095))
def test_a_loop_has_one_peak_wherever_it_begins(by):
    """What rings over the seam counts."""
    sound = hit(length_s=0.1)[:, :4096]
    assert true_peak_dbfs(np.roll(sound, by, -1), loop=True) == pytest.approx(
        true_peak_dbfs(sound, loop=True), abs=1e-6
    )


def test_what_rings_after_the_end_counts():
    """A sound cut off at full level goes on in every converter."""
    cut = np.sin(np.pi / 2 * np.arange(401) + np.pi / 4)[None]
    assert true_peak_dbfs(cut) > 0
    assert true_peak_dbfs(np.zeros((1, 50))) == -np.inf


@given(st.integers(0, 1000), st.booleans())
def test_no_true_peak_is_below_that_of_the_samples(seed, loop):
    sound = np.random.default_rng(seed).uniform(-1, 1, (2, 300))
    assert true_peak_dbfs(sound, loop) >= peak_dbfs(sound)


# --- trimming ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2])
def test_silence_goes_and_the_attack_stays(channels):
    sound = hit(before=2000, after=10_000, channels=channels)
    edit = find_trim(sound, RATE)
    short = apply_edit(sound, edit)
    lead = round(LEAD_S * RATE)
    assert edit["first_frame"] == 2000 - lead
    assert np.abs(short[:, :lead]).max() == 0 and np.abs(short[:, lead]).max() > 0
    body = short.shape[1] - edit["fade_frames"]
    np.testing.assert_array_equal(short[:, :body], sound[:, 2000 - lead :][:, :body])
    assert (short[:, -1] == 0).all()
    gone = sound[:, edit["first_frame"] + body :]  # what was faded, and what was cut
    assert np.abs(gone).max() < 10 ** (-60 / 20) * np.abs(sound).max()


sounds = st.builds(
    hit,
    before=st.integers(0, 3000),
    decay_s=st.floats(0.0005, 3),
    after=st.integers(0, 3000),
    length_s=st.floats(0.001, 0.4),
    seed=st.integers(0, 99),
    channels=st.integers(1, 2),
)


@settings(max_examples=300)
@given(sounds, st.sampled_from(["float", "24", "16"]))
def test_trimming_again_changes_nothing(sound, bits):
    """A fade on a fade, or an end that creeps forward each time that a pack is packed."""
    once = apply_edit(sound, find_trim(sound, RATE))
    assert find_trim(once, RATE) == {}
    if bits != "float":  # rounding may move an end by a little, but never fades again
        assert find_trim(quantise(once, bits), RATE).get("fade_frames", 0) in (0, round(FADE_S * RATE))


@settings(max_examples=300)
@given(sounds)
def test_the_attack_is_never_touched(sound):
    edit = find_trim(sound, RATE)
    short = apply_edit(sound, edit)
    first = edit.get("first_frame", 0)
    onset = int(np.argmax(np.abs(sound).max(0) > 10 ** (-50 / 20) * np.abs(sound).max()))
    assert onset - first <= round(LEAD_S * RATE) and first <= onset
    untouched = short.shape[1] - edit.get("fade_frames", 0)
    quiet = np.abs(sound[:, first + untouched :]).max(initial=0) < 10 ** (-60 / 20) * np.abs(sound).max()
    assert quiet or untouched >= 0.75 * short.shape[1] - 1
    np.testing.assert_array_equal(short[:, :untouched], sound[:, first : first + untouched])


def test_a_sound_that_swells_to_its_end():
    """Its peak lies within the fade: the thresholds of a second look are others."""
    for frames in (30, 300, 3000, 30_000):
        swell = hit(length_s=frames / RATE, decay_s=frames / RATE / 8)[:, ::-1].copy()
        once = apply_edit(swell, find_trim(swell, RATE))
        assert find_trim(once, RATE) == {} and (once[:, -1] == 0).all()


def test_a_spike_before_a_quiet_end():
    """With the spike in the fade, the end that is told from the faded sound must be the one from then on."""
    for place in range(0, 900, 50):
        sound = hit(decay_s=0.01, length_s=0.5)
        sound[0, -1 - place] = 0.01
        once = apply_edit(sound, find_trim(sound, RATE))
        assert find_trim(once, RATE) == {}


@pytest.mark.parametrize("place", [0, 1, 2, 5, 40])
@pytest.mark.parametrize("around", [0.0, 1e-5])
def test_a_click_at_the_very_end(place, around):
    """Faded away it would leave nothing to find the end of: one such sound took a whole pack with it."""
    click = np.full((1, 1000), around, np.float32)
    click[0, -1 - place] = 1
    once = apply_edit(click, find_trim(click, RATE))
    assert np.abs(once).max() == 1 and once.shape[1] <= 45 + place
    assert find_trim(once, RATE) == {}


@pytest.mark.parametrize("frames", [1, 2, 3, 5, 44])
def test_tiny_and_silent_sounds(frames):
    click = np.full((1, frames), 0.5, np.float32)
    assert apply_edit(click, find_trim(click, RATE)).shape[1] >= 1
    assert find_trim(np.zeros((1, frames), np.float32), RATE) == {}


def test_beats_begin_where_trimmed_sounds_do():
    sound = hit(before=777)
    assert start_frame(sound, RATE) == find_trim(sound, RATE)["first_frame"]


# --- edits ------------------------------------------------------------------------------------------------------------


@given(
    st.integers(0, 50),
    st.integers(1, 50),
    st.integers(0, 60),
    st.floats(-60, 20),
    st.sampled_from(["16", "24", "float"]),
)
def test_an_edit_survives_json(first, frames, fade, gain_db, bits):
    sound = hit(length_s=100 / RATE)
    assume(fade <= frames)
    edit = {"first_frame": first, "frames": frames, "fade_frames": fade, "gain_db": gain_db, "bits": bits}
    done = apply_edit(sound, edit)
    assert done.dtype == np.float32 and done.shape == (1, frames)
    np.testing.assert_array_equal(done, apply_edit(sound, json.loads(json.dumps(edit))))


def test_no_edit_is_the_sound_itself():
    assert apply_edit(hit(), {}) is not None
    np.testing.assert_array_equal(apply_edit(hit(), {}), hit())


@pytest.mark.parametrize(
    "edit",
    [
        {"first_frame": -1},
        {"first_frame": 100},
        {"frames": 0},
        {"frames": 101},
        {"fade_frames": 101},
        {"bits": "8"},
        {"reverse": True},
        {"frames": 2.5},
    ],
    ids=str,
)
def test_edits_of_other_sounds(edit):
    with pytest.raises((ValueError, TypeError)):
        apply_edit(hit(length_s=100 / RATE), edit)


# --- levels -----------------------------------------------------------------------------------------------------------


def test_levels():
    peaks = [-20.0, -1.0, 5.0]
    assert gains_db(peaks, "kept") == [0, 0, -6]
    assert gains_db(peaks, "each") == [19, 0, -6]
    assert gains_db(peaks, "together") == [-6, -6, -6]
    assert gains_db([-20.0, -7.0], "together") == [6, 6]
    assert gains_db([-0.9999], "kept") == [0]  # rounding to 16 bits, of a sound that was lowered before
    with pytest.raises(ValueError, match="kept, each, together"):
        gains_db(peaks, "loud")


# --- notes ------------------------------------------------------------------------------------------------------------


def plucked(hz, decay_s=0.4, harmonics=6, length_s=1.0, rate=RATE):
    t = np.arange(round(length_s * rate)) / rate
    tone = sum(np.sin(2 * np.pi * hz * k * t) / k for k in range(1, harmonics + 1) if hz * k < rate / 2)
    return (0.3 * tone * np.exp(-t / decay_s))[None].astype(np.float32)


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
@pytest.mark.parametrize("note", [24, 29, 33, 40, 52, 60, 69, 81, 93])
def test_notes_are_known(note, rate):
    """An octave wrong, or a semitone, would play a whole song wrong."""
    for cents in (-20, 0, 20):
        hz = 440 * 2 ** ((note - 69 + cents / 100) / 12)
        found = root_note(plucked(hz, rate=rate), rate)
        assert found["note"] == note
        assert found["cents"] == pytest.approx(cents, abs=5 if hz < rate / 20 else 12)


def test_names_of_notes():
    assert [note_name(key) for key in (0, 60, 66, 127)] == ["C-1", "C4", "Fs4", "G9"]
    assert [root_note(plucked(hz), RATE)["name"] for hz in (440, 43.654, 46.249, 261.63)] == ["A4", "F1", "Fs1", "C4"]


def test_a_note_with_noise_in_its_attack():
    sound = plucked(110.0)
    sound[:, :400] += 0.3 * np.random.default_rng(0).standard_normal(400).astype(np.float32)
    assert root_note(sound, RATE)["name"] == "A2"


def sweep(start, end, length_s=0.5, settle_s=0.1):
    t = seconds(length_s)
    hz = end + (start - end) * np.exp(-t / settle_s)
    return (np.sin(2 * np.pi * np.cumsum(hz) / RATE) * np.exp(-t / 0.15))[None].astype(np.float32)


@pytest.mark.parametrize(
    "sound",
    [
        np.random.default_rng(0).standard_normal((1, RATE)) / 4,
        np.diff(np.random.default_rng(0).standard_normal((1, RATE)), axis=1) * np.exp(-seconds(1)[1:] / 0.05),
        np.cumsum(np.random.default_rng(0).standard_normal((1, RATE)), axis=1) / 500,
        sweep(200, 45),
        sweep(800, 60, settle_s=0.05),
        sweep(3000, 100, 1.0, 0.3),
        plucked(220.0) + plucked(233.1) + plucked(311.1),
        plucked(110.0, length_s=0.1),
        plucked(5000.0),
        plucked(440.0, decay_s=0.01),
        np.zeros((1, RATE)),
        np.zeros((1, 10)),
    ],
    ids=["noise", "hat", "rumble", "kick", "fast kick", "sweep", "chord", "short", "high", "click", "silent", "tiny"],
)
def test_what_stands_on_no_note(sound):
    assert root_note(sound.astype(np.float32), RATE) is None


def test_drums_of_the_network_stand_on_no_note(drums):
    for category in ("kick", "snare", "clap", "closed_hat", "open_hat", "cymbal", "texture"):
        for clip in ddnb.generate(drums, 2, category=category, steps=4):
            assert root_note(clip.audio, clip.sample_rate) is None
