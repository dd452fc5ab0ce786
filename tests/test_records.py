"""Every verb made again from what was written down."""

import json
import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from conftest import DATA, FORMAT

import ddnb
from ddnb.audio import mastering
from ddnb.cli.main import main
from ddnb.clips.clip import Clip
from ddnb.errors import Interrupted
from ddnb.generation import remake as remake_module
from ddnb.generation.beat import beat
from ddnb.generation.remake import VERBS

RATE = 48_000
pytestmark = pytest.mark.filterwarnings("ignore:The way to noise")


def sound(seed=0, frames=480, channels=2, level=0.2):
    return level * np.random.default_rng(seed).standard_normal((channels, frames)).astype(np.float32)


@pytest.fixture(scope="module")
def ckpt(small):
    return small


@pytest.fixture
def files(tmp_path):
    """Two sounds of one's own."""
    folder = tmp_path / "sounds"
    folder.mkdir()
    for seed, name in enumerate(("a.wav", "b.wav")):
        soundfile.write(folder / name, sound(seed).T, RATE, "FLOAT")
    return folder


CASES = {
    "generate": lambda c, a, b: ddnb.generate(c, 3, 5, steps=2, duration_s=0.01),
    "generate loop": lambda c, a, b: ddnb.generate(c, 2, steps=1, loop=True, bpm=999, beats_per_bar=1, bars=1),
    "generate onset": lambda c, a, b: ddnb.generate(
        c, 2, steps=1, loop=True, duration_s=0.0123, start_on_onset=True, max_cents=500
    ),
    "generate bars": lambda c, a, b: ddnb.generate(c, 1, steps=1, bpm=997.5, beats_per_bar=2),
    "vary": lambda c, a, b: ddnb.vary(c, a, 0.4, 3, steps=2),
    "vary part": lambda c, a, b: ddnb.vary(c, a, 0.4, 2, steps=2, offset_s=0.002, duration_s=0.005, sampler="ddpm"),
    "vary level": lambda c, a, b: ddnb.vary(c, a, 0.6, 2, steps=2, match_level=True, grid="crash"),
    "vary loop": lambda c, a, b: ddnb.vary(c, a, 0.6, 2, steps=2, loop=True, start_on_onset=True),
    "vary bpm": lambda c, a, b: ddnb.vary(c, a, 0.6, 1, steps=1, loop=True, bpm=999, beats_per_bar=1),
    "vary 0": lambda c, a, b: ddnb.vary(c, a, 0, 2),
    "vary 1": lambda c, a, b: ddnb.vary(c, a, 1, 2, seed=[4, 9], steps=2),
    "interpolate": lambda c, a, b: ddnb.interpolate(c, a, b, 4, steps=2),
    "interpolate exact": lambda c, a, b: ddnb.interpolate(c, a, b, 3, steps=3, exact=True, depth=0.5),
    "interpolate short": lambda c, a, b: ddnb.interpolate(c, a, b, 3, steps=2, duration_s=0.004),
    "interpolate seeds": lambda c, a, b: ddnb.interpolate(c, 3, np.int64(9), 4, steps=2, duration_s=0.01),
    "interpolate places": lambda c, a, b: ddnb.interpolate(c, a, b, 5, steps=2, places=[3, 1]),
    "inpaint": lambda c, a, b: ddnb.inpaint(c, a, 0.004, 0.006, 2, steps=2),
    "inpaint many": lambda c, a, b: ddnb.inpaint(c, a, [0, 0.004], [0.002, 0.005], 1, steps=2, method="guide"),
    "inpaint loop": lambda c, a, b: ddnb.inpaint(c, a, 0.009, 0.001, 1, steps=2, method="replace", loop=True),
    "extend": lambda c, a, b: ddnb.extend(c, a, 0.03, 2, steps=1),
    "extend back": lambda c, a, b: ddnb.extend(c, a, 0.02, 1, steps=1, backwards=True, method="replace"),
}


@pytest.mark.parametrize("case", CASES)
def test_every_verb_is_made_again_from_the_record_beside_its_sounds(case, ckpt, files, tmp_path):
    clips = CASES[case](ckpt, files / "a.wav", files / "b.wav")
    for clip, path in zip(clips, clips.save(files), strict=True):
        for record in (path, path.with_suffix(".json")):
            again = ddnb.remake(record, ckpt)
        assert again.sample_rate == clip.sample_rate
        np.testing.assert_array_equal(again.audio, clip.audio[None])
        text = path.with_suffix(".json").read_text()
        assert str(tmp_path) not in text and "NaN" not in text
        assert len(again.save(tmp_path / "again")) == 1


def test_the_cases_are_all_the_verbs():
    assert {case.partition(" ")[0] for case in CASES} == set(VERBS)


@pytest.mark.parametrize("case", ["generate", "vary", "interpolate", "inpaint", "extend"])
def test_a_sound_that_was_made_again_is_made_again(case, ckpt, files, tmp_path):
    """The record of the second is as good as that of the first."""
    first = CASES[case](ckpt, files / "a.wav", files / "b.wav")[1]
    second = ddnb.remake(first.save(files), ckpt)[0]
    third = ddnb.remake(second.save(files), ckpt)
    np.testing.assert_array_equal(third.audio[0], first.audio)


# --- where sounds are looked for --------------------------------------------------------------------------------------


def looked_for(ckpt, files, tmp_path):
    """A saved variation and a saved walk, away from what they were made from."""
    vary = ddnb.vary(ckpt, files / "a.wav", 0.4, 1, steps=1)
    walk = ddnb.interpolate(ckpt, files / "a.wav", files / "b.wav", 3, steps=1, places=[1])
    return [(clips, clips.save(tmp_path / "out")[0]) for clips in (vary, walk)]


def test_in_the_folder_that_is_said_or_among_the_sounds_that_are_given(ckpt, files, tmp_path):
    for clips, path in looked_for(ckpt, files, tmp_path):
        for sounds in (files, str(files), [files / "b.wav", files / "a.wav"], [str(files / "a.wav"), files / "b.wav"]):
            np.testing.assert_array_equal(ddnb.remake(path, ckpt, sounds=sounds).audio, clips.audio)
    with pytest.raises(FileNotFoundError, match=r"made from b\.wav"):
        ddnb.remake(path, ckpt, sounds=files / "a.wav")  # one file for two sounds


def test_a_file_that_was_renamed_is_known_by_what_is_in_it(ckpt, files, tmp_path):
    clips, path = looked_for(ckpt, files, tmp_path)[0]
    (files / "a.wav").rename(files / "renamed.wav")
    for sounds in (files / "renamed.wav", [files / "b.wav", files / "renamed.wav"]):
        np.testing.assert_array_equal(ddnb.remake(path, ckpt, sounds=sounds).audio, clips.audio)
    with pytest.raises(FileNotFoundError, match=r"a\.wav.*sounds=FOLDER.*--sounds FOLDER"):
        ddnb.remake(path, ckpt, sounds=files)


def test_in_the_folder_one_is_in(ckpt, files, tmp_path, monkeypatch):
    clips, path = looked_for(ckpt, files, tmp_path)[1]
    monkeypatch.chdir(files)
    np.testing.assert_array_equal(ddnb.remake(path, ckpt).audio, clips.audio)


@pytest.mark.parametrize("what", ["moved", "changed"])
def test_a_sound_that_is_not_there_as_it_was(what, ckpt, files, tmp_path):
    for _, path in looked_for(ckpt, files, tmp_path):
        shutil.copy(path, files)
        shutil.copy(path.with_suffix(".json"), files)
        here = files / path.name
        ddnb.remake(here, ckpt)
        original = (files / "a.wav").read_bytes()
        if what == "moved":
            (files / "a.wav").unlink()
        else:
            soundfile.write(files / "a.wav", sound(7).T, RATE, "FLOAT")
        words = r"made from a\.wav, which was not found, or has changed since.*sounds=FOLDER"
        with pytest.raises(FileNotFoundError, match=words):
            ddnb.remake(here, ckpt)
        (files / "a.wav").write_bytes(original)


def test_arrays_are_known_by_their_samples(ckpt, files, tmp_path):
    a, b = (sound(0), RATE), (sound(1), RATE)
    for clips, needs in (
        (ddnb.vary(ckpt, a, 0.4, 1, steps=1), [a]),
        (ddnb.interpolate(ckpt, a, b, 3, steps=1, places=[1]), [a, b]),
        (ddnb.interpolate(ckpt, files / "a.wav", b, 3, steps=1, places=[1]), [files / "a.wav", b]),
    ):
        path = clips.save(tmp_path)[0]
        for given in (needs, [b, *reversed(needs)], (*needs, files / "b.wav")):
            np.testing.assert_array_equal(ddnb.remake(path, ckpt, sounds=given).audio, clips.audio)
        with pytest.raises(FileNotFoundError):
            ddnb.remake(path, ckpt, sounds=[(sound(5), RATE)])
        with pytest.raises(FileNotFoundError):
            ddnb.remake(path, ckpt)


# --- sounds that were themselves made ---------------------------------------------------------------------------------


def test_chains_go_back_to_their_beginning(ckpt, files):
    """A file is varied, the variation extended, walked from to a seed's sound, and a gap of that filled."""
    varied = ddnb.vary(ckpt, files / "a.wav", 0.3, 2, seed=3, steps=1)[1]
    longer = ddnb.extend(ckpt, varied, 0.012, 1, seed=8, steps=1, method="replace")[0]
    other = ddnb.generate(ckpt, 2, 6, steps=1, duration_s=0.012)[1]
    between = ddnb.interpolate(ckpt, longer, other, 5, steps=2, places=[2])[0]
    filled = ddnb.inpaint(ckpt, between, 0.004, 0.006, 1, seed=2, steps=1)
    path = filled.save(files)[0]
    np.testing.assert_array_equal(ddnb.remake(path, ckpt).audio, filled.audio)
    assert '"sha256"' in path.with_suffix(".json").read_text()


def test_a_chain_of_two_networks(ckpt, drums, tmp_path):
    """The embedded one is found by its name; the other is given."""
    kick = ddnb.generate(drums, 2, 1, category="kick", steps=1, duration_s=0.02)[1]
    clips = ddnb.vary(ckpt, kick, 0.4, 1, steps=1)
    path = clips.save(tmp_path)[0]
    np.testing.assert_array_equal(ddnb.remake(path, ckpt).audio, clips.audio)
    np.testing.assert_array_equal(ddnb.remake(path, ckpt.info["source"]).audio, clips.audio)
    with pytest.raises(ddnb.CheckpointError, match=r"made with small\.safetensors; say where"):
        ddnb.remake(path)


@pytest.mark.parametrize("category", ["bass", "kick"])
def test_an_input_that_is_made_again_has_the_note_it_was_made_with(category, drums):
    """Also where no note can be measured: the same variation is made of the clip and of its record."""
    clip = ddnb.generate(drums, 1, 0, steps=3, category=category)[0]
    again = ddnb.remake(clip.reproducible().to_dict(), drums)[0]
    assert (again.name, again.provenance.root_note) == (clip.name, clip.provenance.root_note)
    one, other = (ddnb.vary(drums, each, 0.3, 1, steps=3)[0] for each in (clip, again))
    assert one.making.note_hz == other.making.note_hz == clip.making.note_hz
    np.testing.assert_array_equal(one.audio, other.audio)


def test_no_category_is_not_that_of_the_clip(drums, tmp_path):
    kick = ddnb.generate(drums, 1, category="kick", steps=1, duration_s=0.02)[0]
    for options in ({}, {"category": None}, {"category": {"snare": 3, "tom": 1}, "guidance_scale": 2}):
        for clips in (
            ddnb.vary(drums, kick, 0.6, 1, steps=1, **options),
            ddnb.inpaint(drums, kick, 0.01, 0.015, 1, steps=1, **options),
            ddnb.extend(drums, kick, 0.03, 1, steps=1, **options),
        ):
            path = clips.save(tmp_path)[0]
            np.testing.assert_array_equal(ddnb.remake(path).audio, clips.audio)


@pytest.mark.parametrize(
    "options",
    [
        {"category": "kick"},
        {"category": "kick", "to_category": "tom"},
        {"to_category": {"tom": 1, "snare": 1}},
        {},
        {"category": "kick", "guidance_scale": 1.5, "guidance_rescale": 0.5},
    ],
    ids=str,
)
def test_a_walk_between_categories(options, drums, tmp_path):
    clips = ddnb.interpolate(drums, 1, 2, 3, steps=1, duration_s=0.02, **options)
    for clip, path in zip(clips, clips.save(tmp_path), strict=True):
        np.testing.assert_array_equal(ddnb.remake(path).audio[0], clip.audio)


def test_a_wide_loop_and_numbers_of_numpy(drums, tmp_path):
    """What numpy counts with can be written down as well."""
    clips = ddnb.generate(
        drums,
        1,
        np.int64(3),
        steps=np.int32(1),
        loop=True,
        bpm=np.float32(125),
        bars=np.int64(1),
        width=np.float64(0.5),
        category="kick",
        guidance_scale=np.float32(1.5),
    )
    path = clips.save(tmp_path)[0]
    np.testing.assert_array_equal(ddnb.remake(path).audio, clips.audio)
    varied = ddnb.vary(drums, clips[0], np.float32(0.5), 1, steps=1, offset_s=np.float32(0.1), duration_s=0.1)
    np.testing.assert_array_equal(ddnb.remake(varied.save(tmp_path)[0]).audio, varied.audio)


# --- beats ------------------------------------------------------------------------------------------------------------


def at(*steps):
    return "".join("9" if k in steps else "." for k in range(16))


def test_a_beat_of_generated_sounds_and_of_ones_own(drums, files, tmp_path):
    tracks = {"kick": at(0, 8), "snare": at(4), "zap": at(7), "boom": at(3)}
    boom = (sound(4, 3000, 1), 44_100)
    made = beat(drums, {"tracks": tracks}, sounds={"zap": files / "a.wav", "boom": boom}, bpm=133.3, bars=2, steps=1)
    made = made.with_sound("snare", ddnb.vary(drums, files / "b.wav", 0.4, 1, steps=1)[0])
    path, _ = made.save(tmp_path)
    again = ddnb.remake(path, sounds=[files / "a.wav", boom, files / "b.wav"])
    np.testing.assert_array_equal(again.audio[0], made.clip.audio)
    assert again[0].name == made.clip.name
    with pytest.raises(FileNotFoundError, match=r"a\.wav|boom|b\.wav"):
        ddnb.remake(path)


@pytest.mark.parametrize("with_network", [False, True])
def test_a_beat_of_files_has_its_rate_again(with_network, drums, files):
    """That of the network, where one was given but made nothing."""
    made = beat(drums if with_network else None, {"tracks": {"kick": at(0)}}, sounds={"kick": files / "a.wav"}, seed=4)
    assert made.sample_rate == (44_100 if with_network else RATE)
    again = ddnb.remake(made.save(files)[0])
    assert again.sample_rate == made.sample_rate and again.seeds == [4]
    np.testing.assert_array_equal(again.audio[0], made.clip.audio)


def test_a_variation_of_a_beat(drums, files):
    made = beat(drums, {"tracks": {"kick": at(0), "zap": at(4)}}, sounds={"zap": files / "a.wav"}, bpm=300, steps=1)
    clips = ddnb.vary(drums, made.clip, 0.3, 1, steps=1, duration_s=0.1)
    np.testing.assert_array_equal(ddnb.remake(clips.save(files)[0]).audio, clips.audio)
    one = ddnb.vary(drums, made.sounds["zap"], 0.3, 1, steps=1)
    assert one.settings["making"]["source"]["name"] == "a.wav"
    np.testing.assert_array_equal(ddnb.remake(one.save(files)[0]).audio, one.audio)


# --- saved sounds, taken up again -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", ["16", "24", "float"])
@pytest.mark.parametrize("loud", [False, True])
def test_a_saved_sound_is_the_samples_of_its_file_and_made_again_as_these(bits, loud, ckpt, files, tmp_path):
    """Its gain and its rounding are part of it: what is made from it is made from the file, not from the network."""
    clip = ddnb.vary(ckpt, (sound(level=4.0 if loud else 0.2), RATE), 0, 1)[0]
    path = clip.save(tmp_path, bits)
    back = ddnb.read_clip(path)
    np.testing.assert_array_equal(back.audio, soundfile.read(path, dtype="float32")[0].T)
    assert (back.name, back.seed, back.sample_rate) == (clip.name, clip.seed, clip.sample_rate)
    assert ("edits" in back.settings) == (bits != "float")
    again = back.save(tmp_path / "again", bits)
    assert again.read_bytes() == path.read_bytes()  # not lowered, and not rounded, a second time
    for made in (again, ddnb.vary(ckpt, back, 0.4, 1, steps=1).save(tmp_path / "varied")[0]):
        record = json.loads(made.with_suffix(".json").read_text())
        remade = ddnb.remake(made, ckpt, sounds=[(sound(level=4.0 if loud else 0.2), RATE)])
        assert remade[0].save(tmp_path / "remade", record["file"]["bits"]).read_bytes() == made.read_bytes()


def test_a_file_that_is_not_as_it_was_saved_is_a_sound_of_ones_own(ckpt, files):
    path = ddnb.generate(ckpt, 1, steps=1, duration_s=0.01).save(files)[0]
    assert "making" in ddnb.read_clip(path).settings
    soundfile.write(path, sound(9).T, RATE, "FLOAT")
    for place in (path, files / "a.wav"):
        clip = ddnb.read_clip(place)
        assert clip.settings["source"]["name"] == place.name and "making" not in clip.settings
        assert clip.name == place.stem and clip.kind == "own"
    for text in ("[]", "{}", "no json", '{"file": {"sha256": "0"}}', '{"file": 5}'):
        (files / "a.json").write_text(text)
        assert ddnb.read_clip(files / "a.wav").kind == "own"
    with pytest.raises(FileNotFoundError):
        ddnb.read_clip(files / "missing.wav")


def test_a_sound_of_ones_own_is_found_again_by_what_is_in_it(ckpt, files, tmp_path):
    """Nobody has made it, so it is looked for; what was done to it is done again."""
    clip = ddnb.read_clip(files / "a.wav")
    edit = {"first_frame": 7, "frames": 400, "gain_db": -3.0}
    edited = replace(clip.provenance, edits=(edit,))
    clip = replace(clip, audio=mastering.apply_edit(clip.audio, edit), provenance=edited)
    path = clip.save(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"a\.wav"):
        ddnb.remake(path)
    for made in (path, ddnb.vary(ckpt, clip, 0.3, 1, steps=1).save(tmp_path)[0], ddnb.read_clip(path).save(tmp_path)):
        again = ddnb.remake(made, ckpt, sounds=files)[0]
        assert again.save(tmp_path / "again").read_bytes() == made.read_bytes()


@pytest.mark.parametrize("edits", [5, ["cut"], [{"frames": 10**9}], [{"louder": 3}], [{"fade_frames": "x"}], [[]]])
def test_edits_that_are_none(edits, ckpt, files):
    path = ddnb.generate(ckpt, 1, steps=1, duration_s=0.01).save(files)[0].with_suffix(".json")
    with pytest.raises(ValueError, match="not a record of a sound made by ddnb: .*edits"):
        ddnb.remake(json.loads(path.read_text()) | {"edits": edits}, ckpt)


# --- what a record may open -------------------------------------------------------------------------------------------


LINKS = ["https://example.org/net.ckpt", "http://127.0.0.1/net.ckpt", "hf:somebody/net", "drive:123"]


@pytest.mark.parametrize("source", LINKS)
@pytest.mark.parametrize("how", ["record", "chain", "pack"])
def test_no_link_in_a_record_is_ever_opened(source, how, ckpt, files, monkeypatch):
    """Whoever writes a record could have made others fetch from anywhere, before anything was checked."""
    monkeypatch.setattr("ddnb.checkpoints.loading.fetch", lambda *_, **__: pytest.fail("fetched"))
    clip = ddnb.generate(ckpt, 1, steps=1, duration_s=0.01)[0]
    clip = ddnb.vary(ckpt, clip, 0.4, 1, steps=1)[0] if how == "chain" else clip
    record = json.loads(clip.save(files).with_suffix(".json").read_text())
    inner = record["making"]["source"]["record"] if how == "chain" else record
    inner["model"] |= {"source": source, "weights_sha256": "0" * 64 if how == "chain" else ckpt.info["weights_sha256"]}
    given = None
    if how == "pack":
        record = {"ddnb pack": 1, "sounds": [record]}
    if how == "chain":
        given = ckpt
        with pytest.raises(ValueError, match="other weights"):
            ddnb.remake(record, given)
        record = inner
    words = rf"made with {source}; if you trust it, load it and pass it: remake\(\.\.\., ckpt=ddnb\.load\('{source}'\)"
    with pytest.raises(ddnb.CheckpointError, match=words), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ddnb.remake(record)
    if how != "chain":
        np.testing.assert_array_equal(ddnb.remake(record, ckpt)[0].audio, clip.audio)


@pytest.mark.parametrize("source", ["../net.safetensors", "..", "", "ABSOLUTE", "~/net.safetensors"])
def test_no_file_in_another_folder_is_opened(source, ckpt, files, monkeypatch):
    monkeypatch.setattr("ddnb.generation.remake.load", lambda *_, **__: pytest.fail("opened"))
    shutil.copy(DATA / "lightning.ckpt", files.parent / "net.safetensors")
    path = ddnb.generate(ckpt, 1, steps=1, duration_s=0.01)[0].save(files).with_suffix(".json")
    record = json.loads(path.read_text())
    record["model"]["source"] = str(files.parent / "net.safetensors") if source == "ABSOLUTE" else source
    path.write_text(json.dumps(record))
    with pytest.raises(ddnb.CheckpointError, match="say where it is"):
        ddnb.remake(path)


def test_a_network_of_ones_own_beside_the_record_is_found(files):
    """Wherever one works; and in the working folder too."""
    own = ddnb.convert(DATA / "lightning.ckpt", files / "mine.safetensors", **FORMAT)
    clips = ddnb.generate(ddnb.load(own, device="cpu"), 1, steps=1, duration_s=0.01)
    path = clips.save(files)[0]
    np.testing.assert_array_equal(ddnb.remake(path).audio, clips.audio)


def test_no_sound_in_another_folder_is_opened(ckpt, files):
    clips = ddnb.vary(ckpt, files / "a.wav", 0.4, 1, steps=1)
    path = clips.save(files / "deep")[0].with_suffix(".json")
    record = json.loads(path.read_text())
    for name in ("../a.wav", str(files / "a.wav")):
        record["making"]["source"]["name"] = name
        path.write_text(json.dumps(record))
        with pytest.raises(FileNotFoundError, match=r"made from a\.wav"):
            ddnb.remake(path, ckpt)
        np.testing.assert_array_equal(ddnb.remake(path, sounds=files, ckpt=ckpt).audio, clips.audio)


# --- several networks -------------------------------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path):
    """Two networks that are files of the user, each with a sound; and a sound of both."""
    from safetensors.torch import load_file, save_file

    first = ddnb.convert(DATA / "lightning.ckpt", tmp_path / "one" / "first.safetensors", **FORMAT)
    weights = {name: tensor * 0.99 for name, tensor in load_file(first).items()}
    second = tmp_path / "two" / "second_48000_4096.safetensors"
    second.parent.mkdir()
    save_file(weights, second)
    networks = [ddnb.load(path, device="cpu") for path in (first, second)]
    clips = [ddnb.generate(network, 1, steps=1, duration_s=0.01)[0] for network in networks]
    clips.append(ddnb.vary(networks[1], clips[0], 0.4, 1, steps=1)[0])
    return [first, second], networks, clips


@pytest.mark.slow
def test_sounds_of_two_networks_of_ones_own(two, tmp_path):
    files, networks, clips = two
    path = ddnb.pack(clips, tmp_path / "p.zip", bits="float")
    whole = [clip.name for clip in clips]
    for given in (files, files[::-1], networks, [files[1], networks[0]], tuple(map(str, files))):
        again = ddnb.remake(path, given)
        assert [clip.name for clip in again] == whole
        np.testing.assert_array_equal(ddnb.remake(clips[2].save(tmp_path), given).audio[0], clips[2].audio)
    for given, left, words in ((files[0], [0], "other weights"), (networks[1], [1], "other weights")):
        with pytest.warns(UserWarning, match=rf"Skipped .*{words}"):
            assert [clip.name for clip in ddnb.remake(path, given)] == [whole[i] for i in left]
    with pytest.warns(UserWarning, match="Skipped"), pytest.raises(ddnb.CheckpointError, match="say where"):
        ddnb.remake(path)
    arguments = [f"--checkpoint={file}" for file in files]
    assert main(["remake", str(path), *arguments, "--out", str(tmp_path / "again")]) == 0
    assert len(list((tmp_path / "again").rglob("*.wav"))) == 3


def test_the_same_weights_at_two_rates(tmp_path):
    """They were taken for one network: the sounds of the second came out at the rate of the first."""
    rates = (48_000, 24_000)
    clips = []
    for rate in rates:
        network = ddnb.load(DATA / "lightning.ckpt", device="cpu", sample_rate=rate, frames=4096)
        clips.append(ddnb.generate(network, 1, rate, steps=1, duration_s=0.02)[0])
    path = ddnb.pack(clips, tmp_path / "p.zip", bits="float")
    for given in (DATA / "lightning.ckpt", network):
        again = ddnb.remake(path, given)
        assert [clip.sample_rate for clip in again] == list(rates)
        for clip, first in zip(again, clips, strict=True):
            assert clip.duration_s == pytest.approx(first.duration_s, abs=0.012)  # trimmed


def test_the_same_weights_in_two_precisions(tmp_path):
    """bfloat16 ends as float16 does."""
    clips = []
    for dtype in ("bfloat16", "float16"):
        network = ddnb.load(DATA / "lightning.ckpt", device="cpu", dtype=dtype, **FORMAT)
        clips.append(ddnb.generate(network, 1, steps=1, duration_s=0.02)[0])
    path = ddnb.pack(clips, tmp_path / "p.zip", bits="float")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = ddnb.remake(path, DATA / "lightning.ckpt")
    dtypes = [clip.settings["machine"]["dtype"] for clip in again]
    assert dtypes == ["bfloat16", "float16"]


# --- what is no record ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_rejects_incomplete_records(verb, ckpt, files):
    clips = CASES[verb](ckpt, files / "a.wav", files / "b.wav")
    whole = json.loads(clips.save(files)[0].with_suffix(".json").read_text())
    for key in {"verb", "seed", "frames", "source", "a"} & whole["making"].keys():
        record = whole | {"making": {k: v for k, v in whole["making"].items() if k != key}}
        missing = "making.verb: got None" if key == "verb" else f"making.{key}: missing"
        with pytest.raises(ddnb.RecordError, match=f"not a record of a sound made by ddnb: {missing}"):
            ddnb.remake(record, ckpt)


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"making": 3},
        {"making": {"verb": "beat"}},
        {"making": {"verb": "sing", "seed": 0, "frames": 5}, "model": {"sample_rate": 1}, "machine": {}},
        {"making": {"verb": ["vary"]}, "model": {}, "machine": {}},
        {"making": {"verb": "beat", "sounds": {}}, "model": {}, "machine": {}},
        {
            "making": {"verb": "beat", "sounds": 5, "bpm": 1, "bars": 1, "swing": 0.5, "seed": 0},
            "model": {},
            "machine": {},
        },
    ],
    ids=str,
)
def test_other_json(record, ckpt, tmp_path):
    with pytest.raises(ValueError, match="not a record"):
        ddnb.remake(record, ckpt)
    (tmp_path / "x.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="not a record"):
        ddnb.remake(tmp_path / "x.json", ckpt)


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": "/../x"},
        {"seed": -1},
        {"seed": 2**63},
        {"seed": 0.5},
        {"asked": "../x"},
        {"bpm": "x"},
        {"bpm": float("nan")},
        {"bars": "9" * 99},
        {"beats_per_bar": []},
        {"source": {}},
        {"source": 5},
        {"a": {"seed": "/.."}},
        {"b": {"name": 5}},
        {"sounds": {"kick": 5}},
        {"category": "kick"},
        {"pattern": 5},
    ],
    ids=str,
)
def test_numbers_and_names_that_no_sound_has(wrong, drums, tmp_path):
    """They would go into names of files: no record is remade with them, and no file believed to have them."""
    path = ddnb.generate(drums, 1, category="kick", steps=1, duration_s=0.02)[0].save(tmp_path)
    record = json.loads(path.with_suffix(".json").read_text())
    record["making"] |= wrong
    with pytest.raises(ValueError, match="not a record"):
        ddnb.remake(record)
    path.with_suffix(".json").write_text(json.dumps(record))
    assert ddnb.read_clip(path).kind == "own"


def test_sounds_made_from_each_other_without_end(ckpt, files):
    clip = ddnb.vary(ckpt, files / "a.wav", 0, 1)[0]
    record = clip.provenance.to_dict()
    for _ in range(300):
        record = record | {"making": record["making"] | {"source": {"name": "x", "record": record}}}
    with pytest.raises(ValueError, match="at most 100"):
        ddnb.remake(record, ckpt)


def test_a_clip_without_a_record_is_an_array(ckpt, tmp_path):
    clip = Clip(sound(), RATE, 0)
    clips = ddnb.vary(ckpt, clip, 0.4, 1, steps=1)
    path = clips.save(tmp_path)[0]
    np.testing.assert_array_equal(ddnb.remake(path, ckpt, sounds=[clip]).audio, clips.audio)


@pytest.mark.parametrize("gain_db", [float("nan"), 1e9, 10**400], ids=["nan", "large", "huge"])
def test_rejects_edits_with_an_absurd_gain(gain_db, ckpt, files):
    clips = CASES["vary 0"](ckpt, files / "a.wav", files / "b.wav")
    record = json.loads(clips.save(files)[0].with_suffix(".json").read_text())
    with pytest.raises(ddnb.RecordError, match=r"edits\[0\]: an invalid edit"):
        ddnb.remake(record | {"edits": [{"gain_db": gain_db}]}, ckpt, sounds=files)


def test_rejects_input_without_a_hash(ckpt, files):
    """A record with neither hash nor provenance of its input matched any sound that has no hash."""
    clips = CASES["vary"](ckpt, files / "a.wav", files / "b.wav")
    record = json.loads(clips.save(files)[0].with_suffix(".json").read_text())
    del record["making"]["source"]["sha256"]
    with pytest.raises(ddnb.RecordError, match=r"making\.source\.sha256: missing"):
        ddnb.remake(record, ckpt, sounds=[clips[0]])


def test_interrupt_of_a_pack_keeps_the_finished_sounds(drums, tmp_path, monkeypatch):
    pack = ddnb.pack(ddnb.generate(drums, 3, category="kick", steps=1, duration_s=0.1), tmp_path / "p.zip")
    original, calls = remake_module._Maker.remake, iter((False, True, True))

    def interrupted(self, provenance):
        if next(calls):
            raise ddnb.Cancelled("interrupted before the sound was finished")
        return original(self, provenance)

    monkeypatch.setattr(remake_module._Maker, "remake", interrupted)
    with pytest.warns(Interrupted, match="interrupted after 1 sound"):
        assert len(ddnb.remake(pack, drums)) == 1
