"""Notes: what is understood and what is refused, and the pitch of sounds of a network that takes one."""

import math
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import DATA, FORMAT
from hypothesis import given
from hypothesis import strategies as st
from test_harmonics import small

import ddnb
from ddnb.audio.notes import hz_key, key_hz, note_name, parse_key, parse_note
from ddnb.checkpoints.checkpoint import Checkpoint
from ddnb.clips.provenance import DRAWN, TRACKED
from ddnb.errors import ArgumentError

RATE = 44_100
QUICK = {"steps": 3}


UNDERSTOOD = [("A4", 440), ("A1", 55), ("a1", 55), ("F#2", 92.499), ("Fs2", 92.499), ("Gb2", 92.499), ("B♭3", 233.082)]
UNDERSTOOD += [
    ("C4", 261.626),
    (69, 440),
    (np.int64(69), 440),
    ("69", 440),
    (55.0, 55),
    ("55 Hz", 55),
    ("1.5kHz", 1500),
]


@pytest.mark.parametrize(("note", "hz"), UNDERSTOOD)
def test_notes_that_are_understood(note, hz):
    assert parse_note(note) == pytest.approx(hz, rel=1e-5)


RANGE = "give a note from 20 to 5000 Hz"
REFUSED = [(note, "no such note") for note in ("H9", "A", "", None, True, "Am")]
REFUSED += [(note, "one note, not several") for note in ("A1 C2 E2", ["A1", "C2"], (33, 36))]
REFUSED += [(note, RANGE) for note in ("5 Hz", "30 kHz", "C9", math.nan, -1.0)] + [(128, "from 0 to 127")]


@pytest.mark.parametrize(("note", "why"), REFUSED)
def test_notes_that_are_refused(note, why):
    with pytest.raises(ArgumentError, match=why):
        parse_note(note)


@given(st.integers(16, 111))
def test_names_and_pitches_of_keys_lead_back(key):
    assert hz_key(key_hz(key)) == pytest.approx(key)
    assert parse_note(note_name(key)) == pytest.approx(key_hz(key)) == pytest.approx(parse_note(key))


def test_keys():
    for name in ("C", "C major", "A minor", "am", "A Minor"):
        assert parse_key(name) == (0, 2, 4, 5, 7, 9, 11)
    assert parse_key("Bb major") == parse_key("A#") == parse_key("G minor")
    for wrong in ("H minor", "A dorian", "A1", "", 5, None):
        with pytest.raises(ArgumentError, match="no such key"):
            parse_key(wrong)


# a network that takes a pitch


@pytest.fixture(scope="module")
def ckpt() -> Checkpoint:
    """A network of two categories: tones around 110 Hz, and one without pitch."""
    net = small()
    net.tones.log_shares[1] = -1e4
    net.tones.log_pitch[:, 0] = torch.tensor([math.log(hz / RATE) for hz in (98.0, 110.0, 131.0)])
    info = {"name": "tones", "source": "tones", "weights_sha256": "0", "categories": ["tone", "noise"]}
    return Checkpoint(net, RATE, 32 * 1024, torch.device("cpu"), torch.float32, info)


def cents_off(audio, hz):
    """Return how far the strongest line of a sound is from the nearest harmonic."""
    spectrum = np.abs(np.fft.rfft(audio[0] * np.hanning(audio.shape[-1]), 1 << 18))
    ratio = spectrum.argmax() * RATE / (1 << 18) / hz
    return 1200 * abs(math.log2(ratio / max(1, round(ratio))))


@pytest.mark.parametrize("note", ["A2", "C#3", 52, 123.4])
def test_a_sound_has_the_asked_note(ckpt, note):
    (clip,) = ddnb.generate(ckpt, 1, category="tone", note=note, steps=8)
    hz = parse_note(note)
    assert cents_off(clip.audio, hz) < 15
    assert clip.making.note_hz == hz and clip.provenance.root_note.note == round(hz_key(hz))
    assert note_name(round(hz_key(hz))) in clip.name.split("_")


def test_the_note_of_a_loop_has_whole_cycles(ckpt):
    (clip,) = ddnb.generate(ckpt, 1, category="tone", note="A2", loop=True, duration_s=0.7, max_cents=100, **QUICK)
    cycles = clip.making.note_hz * clip.duration_s
    assert cycles == pytest.approx(round(cycles)) and clip.making.note_hz == pytest.approx(110, abs=0.8)


def test_seeds_draw_notes_of_the_category_and_of_the_key(ckpt):
    drawn = ddnb.generate(ckpt, 12, category="tone", **QUICK)
    keys = [clip.provenance.root_note.note for clip in drawn]
    assert set(keys) == {43, 45, 48}
    assert {clip.provenance.root_note.how for clip in drawn} == {DRAWN}
    assert np.array_equal(ddnb.generate(ckpt, 1, seed=7, category="tone", **QUICK)[0].audio, drawn[7].audio)
    in_key = ddnb.generate(ckpt, 6, category="tone", key="F# major", **QUICK)
    assert all(clip.provenance.root_note.note % 12 in parse_key("F# major") for clip in in_key)
    assert drawn[:2].pitches_hz == drawn.pitches_hz[:2]


def test_a_record_makes_the_same_note_again(ckpt, tmp_path):
    for asked in ({"note": "C3"}, {"key": "A minor"}, {}):
        clip = ddnb.generate(ckpt, 3, category="tone", **asked, **QUICK)[2]
        (again,) = ddnb.remake(clip.save(tmp_path), ckpt)
        assert np.array_equal(again.audio, clip.audio)
        assert (again.name, again.provenance.root_note) == (clip.name, clip.provenance.root_note)
        assert replace(again.making, asked=3) == clip.making


@pytest.mark.parametrize(
    ("wrong", "why"),
    [({"category": "noise", "note": "A2"}, "noise has no pitch. Categories that have one: tone"),
     ({"note": "A2"}, "any sound has no pitch"),
     ({"category": "tone", "note": "A2", "key": "A minor"}, "give one of them"),
     ({"category": "tone", "note": "H9"}, "no such note")],
)  # fmt: skip
def test_refusals(ckpt, wrong, why):
    with pytest.raises(ArgumentError, match=why):
        ddnb.generate(ckpt, 1, **wrong)


def test_a_loop_that_cannot_hold_the_note_says_so(ckpt):
    with pytest.raises(ArgumentError, match="holds whole cycles of 43.07 Hz, not of 41.20 Hz"):
        ddnb.generate(ckpt, 1, category="tone", note="E1", loop=True, duration_s=4096 / RATE, **QUICK)


def test_a_seed_has_one_sound_in_any_batch(ckpt):
    """Low and high notes in one batch, too."""
    keys = {"category": "tone", "low": "E1", "high": "E4", "step": 12, "seed": 1, **QUICK}
    one, four = (ddnb.keybed(ckpt, batch_size=size, **keys).audio for size in (1, 4))
    np.testing.assert_allclose(four, one, atol=2e-5)


def test_the_part_that_is_varied_is_tracked(ckpt):
    t = np.arange(RATE) / RATE
    both = np.concatenate([np.sin(2 * np.pi * hz * t) + 0.4 * np.sin(4 * np.pi * hz * t) for hz in (123.0, 440.0)])
    sound = (0.3 * both[None].astype(np.float32), RATE)
    for where, hz in (({"offset_s": 1.0}, 440), ({"duration_s": 0.6}, 123)):
        clip = ddnb.vary(ckpt, sound, 0.3, 1, category="tone", **where, **QUICK)[0]
        assert clip.making.note_hz == pytest.approx(hz, rel=0.003)


def test_a_sound_that_stays_keeps_its_own_note(ckpt):
    sound = ddnb.generate(ckpt, 1, category="tone", note="A2", **QUICK)[0]
    kept = [
        ddnb.vary(ckpt, sound, 0.1, 1, note="D3", **QUICK)[0],
        ddnb.inpaint(ckpt, sound, 0.3, 0.4, 1, note="D3", method="replace", **QUICK)[0],
        ddnb.interpolate(ckpt, sound, sound, 2, note="D3", **QUICK)[0],
    ]
    assert all(clip.provenance.root_note is None and "D3" not in clip.name for clip in kept)
    assert ddnb.vary(ckpt, sound, 0.8, 1, note="D3", **QUICK)[0].provenance.root_note.name == "D3"


def test_a_path_to_a_category_without_pitch_takes_a_note(ckpt):
    clips = ddnb.interpolate(ckpt, 1, 2, 3, category="tone", to_category="noise", note="A2", **QUICK)
    assert np.isfinite(clips.audio).all() and clips[0].making.note_hz == 110


def test_networks_without_notes_refuse_them():
    published = ddnb.load(DATA / "lightning.ckpt", device="cpu", **FORMAT)
    with pytest.raises(ArgumentError, match="lightning knows nothing of notes"):
        ddnb.generate(published, 1, note="A2")


def test_without_a_pitch_a_category_is_as_ever(ckpt):
    (clip,) = ddnb.generate(ckpt, 1, category="noise", **QUICK)
    assert clip.making.note_hz is clip.provenance.root_note is None


def test_input_is_tracked(ckpt):
    t = np.arange(32 * 1024) / RATE
    sound = np.sum([0.2 / k * np.sin(2 * np.pi * 220 * k * t) for k in (1, 2, 3)], 0)[None].astype(np.float32)
    for clips in (
        ddnb.vary(ckpt, (sound, RATE), 0.3, 1, category="tone", **QUICK),
        ddnb.inpaint(ckpt, (sound, RATE), 0.3, 0.4, 1, category="tone", method="replace", **QUICK),
        ddnb.extend(ckpt, (sound, RATE), 1.0, 1, category="tone", method="replace", **QUICK),
    ):
        assert clips[0].provenance.root_note.how == TRACKED
        assert clips[0].making.note_hz == pytest.approx(220, rel=0.002)
    rng = np.random.default_rng(0).standard_normal(sound.shape).astype(np.float32) * 0.1
    assert ddnb.vary(ckpt, (rng, RATE), 0.3, 1, category="tone", **QUICK)[0].making.note_hz is None


def test_interpolation_begins_and_ends_with_the_sounds_of_its_seeds(ckpt):
    between = ddnb.interpolate(ckpt, 1, 2, 3, category="tone", **QUICK)
    for end, seed in ((0, 1), (2, 2)):
        whole = ddnb.generate(ckpt, 1, seed=seed, category="tone", **QUICK)[0].audio
        np.testing.assert_allclose(between[end].audio, whole, atol=1e-5)


def test_guidance_keeps_the_pitch(ckpt):
    (clip,) = ddnb.generate(ckpt, 1, category="tone", note="A2", guidance_scale=2.0, steps=8)
    assert cents_off(clip.audio, 110) < 15


# a keyboard


def test_a_keybed_is_the_sound_of_a_seed_at_several_notes(ckpt, tmp_path):
    clips = ddnb.keybed(ckpt, "tone", "A2", "D3", 2, seed=3, **QUICK)
    assert [clip.provenance.root_note.name for clip in clips] == ["A2", "B2", "Cs3"]
    for clip, note in zip(clips, ("A2", "B2", "C#3"), strict=True):
        assert np.array_equal(clip.audio, ddnb.generate(ckpt, 1, 3, category="tone", note=note, **QUICK)[0].audio)
    (again,) = ddnb.remake(clips[1].save(tmp_path), ckpt)
    assert np.array_equal(again.audio, clips[1].audio)
    together = ddnb.keybed(ckpt, "tone", "A2", "D3", 2, 3, batch_size=3, **QUICK)
    np.testing.assert_allclose(together.audio, clips.audio, atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [({"category": "noise"}, "noise has no pitch"), ({"category": None}, "needs a category with a pitch: one of tone"),
     ({"category": "tone", "note": "A2"}, "leave note and key out"), ({"category": "tone", "step": 0}, "step=0"),
     ({"category": "tone", "low": "C4", "high": "C3"}, "give the lowest note first")],
)  # fmt: skip
def test_keybeds_that_are_refused(ckpt, wrong, why):
    with pytest.raises(ArgumentError, match=why):
        ddnb.keybed(ckpt, **wrong)


def test_a_pack_of_a_keybed_is_an_instrument(ckpt, tmp_path):
    clips = ddnb.keybed(ckpt, category="tone", low="A2", high="F3", step=4, **QUICK)
    with zipfile.ZipFile(ddnb.pack(list(clips), tmp_path / "bass.zip", instruments=True)) as file:
        lines = [line for line in file.read("bass/bass.sfz").decode().splitlines() if line.startswith("<region>")]
    keys = [dict(part.split("=", 1) for part in line.split()[1:]) for line in lines]
    assert [int(key["pitch_keycenter"]) for key in keys] == [45, 49, 53]
    assert [(int(key["lokey"]), int(key["hikey"])) for key in keys] == [(0, 47), (48, 51), (52, 127)]
