"""Records that were edited by hand and are wrong now: each error names the file and the place in it."""

import copy
import json
import re

import numpy as np
import pytest
import soundfile

import ddnb
from ddnb.cli.main import main
from ddnb.clips.record import read_record
from ddnb.generation.beat import beat

MISSING = object()

WRONG = {
    "making.steps": ("abc", 'got "abc"; give a whole number'),
    "making.seed": ("3", 'got "3"; give a whole number'),
    "making.frames": (MISSING, "missing"),
    "making.asked": (-1, "got -1, allowed: 0 to 10000"),
    "making.note_hz": (float("nan"), "got NaN, allowed: "),
    "making.category": ("kick", 'got "kick"; give an object'),
    "making.category.kick": ("1", 'got "1"; give a number'),
    "making.guidance_interval": ([0.1, "x"], "making.guidance_interval[1]: got"),
    "making.verb": ("sing", "got 'sing', allowed: generate, "),
    "making": ([], "got []; give an object"),
    "model.sample_rate": (MISSING, "missing"),
    "model.weights_sha256": (5, "got 5; give text"),
    "model.blend": ([{"name": "a"}], "model.blend[0].source: missing"),
    "machine": (3, "got 3; give an object"),
    "machine.dtype": ("abc", "got 'abc', allowed: float32, "),
    "edits[0].gain_db": ("3", "edits[0]: an invalid edit"),
    "edits[0].frames": ({}, "edits[0]: an invalid edit"),
    "music.bpm": ("fast", 'got "fast"; give a number'),
    "level.gain_db": (True, "got true; give a number"),
    "level": (0, "got 0; give an object"),
    "file.frames": (2.5, "got 2.5; give a whole number"),
}

REFUSED = {
    "making.steps": (0, "making: steps=0: give a whole number from 1 to 10000"),
    "making.sampler": ("abc", "making: Unknown sampler 'abc'"),
    "making.grid": ("abc", "making: Unknown time grid 'abc'"),
    "making.width": (2.0, "making: width=2.0: give a number"),
    "making.guidance_scale": (-1e9, "making: "),
    "making.level": ("loud", "making: level='loud'"),
}
"""Values of the right type, which the verb refuses."""


def changed(record, place, value):
    """Return a record with another value at a place, as in ``edits[0].frames``."""
    record = copy.deepcopy(record)
    *parents, last = [int(part) if part.isdecimal() else part for part in re.findall(r"[^.\[\]]+", place)]
    inside = record
    for part in parents:
        inside = inside[part]
    if value is MISSING:
        del inside[last]
    else:
        inside[last] = value
    return record


@pytest.fixture(scope="module")
def saved(drums, tmp_path_factory):
    """A kick and its record."""
    path = ddnb.generate(drums, 1, category="kick", steps=1, duration_s=0.03).save(tmp_path_factory.mktemp("kick"))[0]
    return path, read_record(path)


@pytest.mark.parametrize("place", WRONG)
def test_the_file_and_the_place_are_named(place, saved, drums, tmp_path):
    value, told = WRONG[place]
    record = tmp_path / "mine.json"
    record.write_text(json.dumps(changed(saved[1], place, value)))
    with pytest.raises(ddnb.RecordError) as caught:
        ddnb.remake(record, None if "dtype" in place else drums)
    assert str(caught.value).startswith("mine.json is not a record of a sound made by ddnb: ")
    assert (told if told.startswith(place.partition(".")[0]) else f"{place}: {told}") in str(caught.value)


@pytest.mark.parametrize("place", REFUSED)
def test_what_the_verb_refuses_is_wrong_in_the_record(place, saved, drums, tmp_path):
    """It was an ArgumentError about an argument that nobody had given."""
    value, told = REFUSED[place]
    record = tmp_path / "mine.json"
    record.write_text(json.dumps(changed(saved[1], place, value)))
    with pytest.raises(ddnb.RecordError, match=f"^mine.json is not a record of .*: {re.escape(told)}"):
        ddnb.remake(record, drums)


def test_what_is_given_as_a_sound_is_no_fault_of_the_record(drums, tmp_path):
    """A number among ``sounds`` was told to be wrong in the record."""
    sound = tmp_path / "kick.wav"
    soundfile.write(sound, np.full(2000, 0.1), 44_100)
    path = ddnb.vary(drums, sound, 0.4, 1, steps=1).save(tmp_path)[0]
    sound.unlink()
    with pytest.raises(ddnb.ArgumentError, match="^audio: give a path"):
        ddnb.remake(path, drums, sounds=[3])


def test_the_place_in_a_record_within_a_record(saved, drums, tmp_path):
    clip = ddnb.vary(drums, saved[0], 0.4, 1, steps=1)[0]
    mine = tmp_path / "mine.json"
    for place, value in (("making.source.record.making.steps", "x"), ("making.source.record.making.seed", MISSING)):
        mine.write_text(json.dumps(changed(clip.reproducible().to_dict() | {"file": {}}, place, value)))
        with pytest.raises(ddnb.RecordError, match=f"^mine.json is .*: {re.escape(place)}: "):
            ddnb.remake(mine, drums)
    made = beat(drums, {"tracks": {"kick": "9" + 15 * "."}}, sounds={"kick": saved[0]}, bpm=900).clip
    place = "making.sounds.kick.record.making.frames"
    mine.write_text(json.dumps(changed(made.reproducible().to_dict(), place, None)))
    with pytest.raises(ddnb.RecordError, match=f"^mine.json is .*: {re.escape(place)}: missing"):
        ddnb.remake(mine, drums)


@pytest.mark.parametrize("place", ["making.start_s", "making.end_s", "making.duration_s"])
def test_a_verb_that_lacks_an_argument(place, saved, drums, tmp_path):
    """It was a TypeError of the function."""
    if place == "making.duration_s":
        clip = ddnb.extend(drums, saved[0], 0.05, 1, steps=1)[0]
    else:
        clip = ddnb.inpaint(drums, saved[0], 0.01, 0.02, 1, steps=1)[0]
    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps(changed(clip.reproducible().to_dict(), place, MISSING)))
    with pytest.raises(ddnb.RecordError, match=f"^mine.json is .*: {re.escape(place)}: missing"):
        ddnb.remake(mine, drums)


def test_the_place_in_a_manifest(saved, drums, tmp_path, capsys):
    manifest = {"ddnb pack": 1, "sounds": [saved[1], changed(saved[1], "making.steps", "abc")]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert main(["remake", str(tmp_path / "manifest.json"), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert 'manifest.json is not a record of a sound made by ddnb: sounds[1].making.steps: got "abc"' in told
    manifest["sounds"][1] = changed(saved[1], "making.steps", 0)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ddnb.RecordError, match=r"^manifest\.json is .*: sounds\[1\]\.making: steps=0"):
        ddnb.remake(tmp_path / "manifest.json", drums)
