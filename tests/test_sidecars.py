"""The record beside a saved sound counts alike wherever the path of the sound is given, and so does its loss."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import ddnb
from ddnb.cli.main import main
from ddnb.clips.record import read_record, records_of
from ddnb.generation.beat import beat

QUICK = {"steps": 2, "n": 1, "seed": 3}

VERBS = {
    "vary": lambda c, a, b: ddnb.vary(c, a, 0.4, **QUICK)[0],
    "vary loop": lambda c, a, b: ddnb.vary(c, a, 0.4, **QUICK, loop=True, max_cents=12_000)[0],
    "interpolate": lambda c, a, b: ddnb.interpolate(c, a, b, 3, steps=2, exact=False)[1],
    "inpaint": lambda c, a, b: ddnb.inpaint(c, a, [0.01], [0.03], **QUICK)[0],
    "extend": lambda c, a, b: ddnb.extend(c, a, 0.15, **QUICK)[0],
    "beat": lambda c, a, b: beat(c, ONE_TRACK, sounds={"kick": a}, bpm=300).clip,
    "beat with": lambda c, a, b: beat(c, ONE_TRACK, sounds={"kick": b}, bpm=300).with_sound("kick", a).clip,
}
ONE_TRACK = {"tracks": {"kick": "9...9...9...9..."}}

COMMANDS = {
    "vary": ["vary", "A", "--strength", "0.4", "-n", "1", "--seed", "3", "--steps", "2"],
    "vary loop": [
        "vary",
        "A",
        "--strength",
        "0.4",
        "-n",
        "1",
        "--seed",
        "3",
        "--steps",
        "2",
        "--loop",
        "--max-cents",
        "12000",
    ],
    "interpolate": ["interpolate", "A", "B", "-n", "3", "--steps", "2", "--no-exact"],
    "inpaint": ["inpaint", "A", "--gap", "0.01", "0.03", "-n", "1", "--seed", "3", "--steps", "2"],
    "extend": ["extend", "A", "--duration-s", "0.15", "-n", "1", "--seed", "3", "--steps", "2"],
    "beat": ["beat", "--pattern", "PATTERN", "--sound", "kick=A", "--bpm", "300"],
}

pytestmark = pytest.mark.filterwarnings("ignore:The way to noise", "ignore:Inverting and sampling")


@pytest.fixture(scope="module")
def made(drums, tmp_path_factory):
    """A bass of a known note and a kick, saved, and their paths."""
    folder = tmp_path_factory.mktemp("made")
    options = {"steps": 2, "duration_s": 0.1}
    bass = ddnb.generate(drums, 1, 1, category="bass", note="F1", **options)
    kick = ddnb.generate(drums, 1, 2, category="kick", **options)
    return [clips.save(folder)[0] for clips in (bass, kick)]


@pytest.fixture
def sounds(made, tmp_path):
    """The two sounds with their records, in a folder of the test's own."""
    folder = tmp_path / "sounds"
    folder.mkdir()
    for path in made:
        shutil.copy(path, folder)
        shutil.copy(path.with_suffix(".json"), folder)
    return [folder / path.name for path in made]


def plain(clip):
    """What a clip's record says, but for the time of its making."""
    record = clip.settings
    record.get("machine", {}).pop("date", None)
    return record


def forget(paths):
    """Delete the records of sounds."""
    for path in paths:
        path.with_suffix(".json").unlink()


def run(verb, sounds, out):
    """Run the command of a verb, and return the clip that it saved, as its file and its record have it."""
    a, b = map(str, sounds)
    pattern = out.parent / "pattern.json"
    pattern.write_text(json.dumps(ONE_TRACK))
    words = {"A": a, "B": b, "kick=A": f"kick={a}", "PATTERN": str(pattern)}
    command = [words.get(word, word) for word in COMMANDS[verb]]
    assert main([*command, "--device", "cpu", "--bits", "float", "--out", str(out)]) == 0
    saved = sorted(out.glob("*.wav"))
    return json.loads(saved[len(saved) // 2].with_suffix(".json").read_text())


def inputs(record):
    """The inputs that a record states."""
    making = record["making"]
    return [making[key] for key in ("source", "a", "b") if key in making] + [*making.get("sounds", {}).values()]


@pytest.mark.parametrize("verb", VERBS)
def test_a_path_counts_as_the_saved_sound_that_it_is(verb, drums, sounds, tmp_path):
    """In Python a path was a file of unknown origin, whose category and note the network did not get.

    As the record of the input is in that of the result, this is made again without the file.
    """
    by_path = VERBS[verb](drums, *sounds)
    by_text = VERBS[verb](drums, *map(str, sounds))
    by_clip = VERBS[verb](drums, *map(ddnb.read_clip, sounds))
    assert plain(by_path) == plain(by_clip) == plain(by_text)
    np.testing.assert_array_equal(by_path.audio, by_clip.audio)
    first = inputs(plain(by_path))[0]["record"]["making"]
    assert first["category"] == {"bass": 1.0} and first["seed"] == 1 and first["note_hz"] > 0
    if "beat" not in verb:
        assert plain(by_path)["making"]["category"] == {"bass": 1.0}
    again = ddnb.remake(by_path.save(tmp_path / "elsewhere"), drums)
    np.testing.assert_array_equal(again[0].audio, by_path.audio)


@pytest.mark.parametrize("verb", VERBS)
def test_a_sound_without_its_record_is_a_sound_of_ones_own(verb, drums, sounds):
    """It is known by its name and its hash, has no category, and is made again from the file."""
    forget(sounds)
    clip = VERBS[verb](drums, *sounds)
    assert all(set(each) == {"name", "sha256"} for each in inputs(plain(clip)))
    assert not plain(clip)["making"].get("category")
    again = ddnb.remake(clip.save(sounds[0].parent), drums)
    np.testing.assert_array_equal(again[0].audio, clip.audio)


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("verb", COMMANDS)
def test_a_command_does_as_its_function(verb, lost, drums, sounds, tmp_path):
    """One of them read the record, the other did not."""
    if lost:
        forget(sounds)
    record, clip = run(verb, sounds, tmp_path / "out"), VERBS[verb](drums, *sounds)
    expected = json.loads(json.dumps(clip.provenance.to_dict()))["making"]
    assert {**record["making"], "seed": 0, "pattern": ""} == {**expected, "seed": 0, "pattern": ""}
    assert all(("record" in each) != lost for each in inputs(record))


def test_every_file_of_a_folder_counts_as_what_it_is(drums, sounds):
    by_name = [clips[0] for clips in ddnb.vary_folder(drums, sounds[0].parent, 0.4, 1, 3, steps=2)]
    assert [plain(clip)["making"]["category"] for clip in by_name] == [{"bass": 1.0}, {"kick": 1.0}]
    forget(sounds[:1])
    lost, kept = (clips[0] for clips in ddnb.vary_folder(drums, sounds[0].parent, 0.4, 1, 3, steps=2))
    assert not plain(lost)["making"].get("category") and plain(kept)["making"]["category"] == {"kick": 1.0}


def test_a_sound_and_its_record_that_were_renamed_together(drums, sounds):
    """The hash decides, not the name."""
    new = sounds[0].with_name("Meine Bässe.wav")
    sounds[0].rename(new)
    sounds[0].with_suffix(".json").rename(new.with_suffix(".json"))
    assert plain(ddnb.vary(drums, new, 0.4, **QUICK)[0])["making"]["category"] == {"bass": 1.0}
    shutil.copy(sounds[1].with_suffix(".json"), new.with_suffix(".json"))  # that of another sound
    assert not plain(ddnb.vary(drums, new, 0.4, **QUICK)[0])["making"].get("category")


def test_a_record_that_was_edited_wrongly_is_told_and_not_believed(drums, sounds, tmp_path, capsys):
    """It was as if it were not there, and nobody knew why the category was gone."""
    beside = sounds[0].with_suffix(".json")
    record = json.loads(beside.read_text())
    record["making"]["steps"] = "abc"
    beside.write_text(json.dumps(record))
    told = re.escape(f'{beside.name} is not a record of a sound made by ddnb: making.steps: got "abc"')
    with pytest.warns(UserWarning, match=rf"{told}.* {re.escape(sounds[0].name)} counts as a sound without a record"):
        clip = ddnb.vary(drums, sounds[0], 0.4, **QUICK)[0]
    assert set(inputs(plain(clip))[0]) == {"name", "sha256"}
    command = ["vary", str(sounds[0]), "-n", "1", "--steps", "1", "--out", str(tmp_path / "out")]
    assert main(command) == 0 and re.search(told, capsys.readouterr().err)


def test_packing_and_the_check_of_originality_see_the_same_sound(sounds, tmp_path):
    report = ddnb.originality(sounds, None)
    assert [plain(row.clip) for row in report.rows] == [plain(ddnb.read_clip(path)) for path in sounds]
    pack = ddnb.pack(sounds, tmp_path / "pack.zip", origins=report)
    assert [plain(clip)["making"]["category"] for clip in ddnb.remake(pack)] == [{"bass": 1.0}, {"kick": 1.0}]


def test_remake_keeps_to_hashes(drums, sounds, tmp_path):
    """A record that names a file by its hash is that of this file, whatever lies beside it meanwhile."""
    away = [shutil.move(path.with_suffix(".json"), tmp_path / f"{path.stem}.json") for path in sounds]
    clip = ddnb.vary(drums, sounds[0], 0.4, **QUICK)[0]
    path = clip.save(sounds[0].parent)
    for record in away:
        shutil.move(record, sounds[0].parent)
    again = ddnb.remake(path, drums)[0]
    np.testing.assert_array_equal(again.audio, clip.audio)
    assert plain(again)["making"]["source"] == plain(clip)["making"]["source"]
    assert records_of(json.loads(path.with_suffix(".json").read_text()))[0].provenance.making.source.sha256


def test_a_pack_is_checked_as_its_sounds_are(sounds, tmp_path, capsys):
    """A ZIP file was no readable sound."""
    data = sounds[0].parent
    pack = ddnb.pack(sounds, tmp_path / "pack.zip")
    rows = ddnb.originality([pack, sounds[0]], data).rows
    assert [next(iter(row.clip.making.category)) for row in rows] == ["bass", "kick", "bass"]
    assert all(row.near for row in rows)
    assert main(["originality", str(pack), "--data", str(data)]) == 1
    assert "bass" in capsys.readouterr().out
    before = pack.read_bytes()
    for damaged in (before[:-100], before.replace(b"pack/bass/", b"pack/bess/"), b"no zip"):
        pack.write_bytes(damaged)
        assert main(["originality", str(pack), "--data", str(data)]) == 2
        assert "pack.zip" in capsys.readouterr().err
        assert pack.read_bytes() == damaged


def test_pack_writes_what_the_check_has_found(sounds, tmp_path, capsys):
    out = tmp_path / "p.zip"
    assert main(["pack", *map(str, sounds), "--data", str(sounds[0].parent), "--out", str(out)]) == 0
    assert capsys.readouterr().out.startswith(str(out))
    found = [record.origin["nearest"] for record in records_of(read_record(out))]
    assert [Path(name).name for name in found] == [path.name for path in sounds]
    assert main(["pack", str(sounds[0]), "--data", str(tmp_path / "none"), "--out", str(tmp_path / "q.zip")]) == 2
    assert not (tmp_path / "q.zip").exists()
