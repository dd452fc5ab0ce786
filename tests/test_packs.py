"""Packs: what is in the ZIP file, that it is safe on every system, and that everything in it can be made again."""

import csv
import hashlib
import io
import json
import re
import subprocess
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import PurePosixPath
from xml.etree import ElementTree

import imageio_ffmpeg
import mido
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from oracles import true_peak, wav_promises

import ddnb
from ddnb.audio.io import quantise
from ddnb.audio.mastering import find_trim
from ddnb.cli.main import main
from ddnb.clips.clip import Clip
from ddnb.clips.provenance import Provenance, RootNote
from ddnb.clips.source import input_record
from ddnb.export.instruments import assign_keys
from ddnb.files import safe_name

RATE = 44_100
READS_LOW_DB = 0.1
"""What four times oversampling may miss of the peak of sounds with little near half the sample rate."""

pytestmark = pytest.mark.filterwarnings("ignore:The way to noise")


def at(*steps):
    return "".join("9" if k in steps else "." for k in range(16))


def hit(level=0.5, frames=8000, seed=0, channels=1):
    decay = np.exp(-np.arange(frames) / 800)
    return (level * np.random.default_rng(seed).uniform(-1, 1, (channels, frames)) * decay).astype(np.float32)


def dull(audio):
    """Without what is above 0.8 of half the sample rate: of white noise four times oversampling misses up to 1 dB."""
    spectrum = np.fft.rfft(audio)
    spectrum[:, int(0.8 * spectrum.shape[-1]) :] = 0
    return np.fft.irfft(spectrum, audio.shape[-1]).astype(np.float32)


def made(audio=None, seed=0, category="kick", name="net", **making):
    """A clip as a network makes it, without one."""
    making = {"verb": "generate", "category": {category: 1.0}} | making
    settings = {"making": making, "model": {"name": name, "source": name}, "machine": {}}
    return Clip(hit(seed=seed) if audio is None else audio, RATE, seed, Provenance.from_dict(settings))


class Pack:
    """A pack, unpacked by Python's zipfile."""

    def __init__(self, path, folder):
        with zipfile.ZipFile(path) as file:
            assert file.testzip() is None
            self.names = file.namelist()
            file.extractall(folder)
        (self.top,) = {PurePosixPath(name).parts[0] for name in self.names}
        self.folder = folder / self.top
        self.manifest = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
        self.sounds = self.manifest["sounds"]
        self.files = [self.folder / sound["file"]["name"] for sound in self.sounds]
        self.readme = (self.folder / "README.txt").read_text(encoding="utf-8")

    def audio(self, i):
        return soundfile.read(self.files[i], dtype="float32", always_2d=True)[0].T


@pytest.fixture
def packed(tmp_path):
    def make(clips, **options):
        path = ddnb.pack(clips, tmp_path / "pack.zip", **options)
        return Pack(path, tmp_path / f"unpacked-{path.stem}")

    return make


@pytest.fixture(scope="module")
def everything(drums, tmp_path_factory):
    """A sound of each kind that there is, with the files that some were made from."""
    folder = tmp_path_factory.mktemp("everything")
    own = folder / "mine.wav"
    soundfile.write(own, dull(hit(0.9, 20_000, seed=5)).T, RATE, "PCM_24")
    few = {"steps": 4}
    kicks = ddnb.generate(drums, 2, category="kick", **few)
    saved = kicks[1].save(folder / "saved", "16")
    trimmed_kick = ddnb.remake(ddnb.pack(kicks[0], folder / "first.zip"))[0]
    clips = [
        kicks,
        ddnb.generate(drums, 1, 3, category={"snare": 1, "clap": 1}, width=0.4, **few),
        ddnb.generate(drums, 1, loop=True, bpm=128, bars=2, category="texture", **few),
        ddnb.generate(drums, 1, loop=True, duration_s=2.0, category="texture", width=0.4, **few),
        ddnb.generate(drums, 1, bpm=100, bars=1, category="closed_hat", **few),
        ddnb.beat(drums, {"tracks": {"kick": at(0, 8), "zap": at(4)}}, sounds={"zap": own}, bpm=133.3, steps=2),
        ddnb.vary(drums, kicks[0], 0.4, 1, **few),
        ddnb.vary(drums, trimmed_kick, 0.4, 1, 7, **few),
        ddnb.vary(drums, ddnb.read_clip(saved), 0.4, 1, 8, **few),
        ddnb.vary(drums, own, 0.9, 1, **few)[0],
        ddnb.interpolate(drums, 1, 2, 3, category="tom", to_category="kick", duration_s=0.3, **few),
        saved,
        own,
        trimmed_kick,
    ]
    return folder, clips


# --- made again -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        *(
            pytest.param(o, marks=pytest.mark.slow)
            for o in ({"bits": "16", "level": "each"}, {"bits": "float", "level": "together"}, {"chunks": False})
        ),
    ],
    ids=str,
)
def test_every_sound_of_a_pack_is_made_again_and_saved_again_as_the_same_file(options, everything, tmp_path):
    folder, clips = everything
    path = ddnb.pack(clips, tmp_path / "all.zip", **options)
    pack = Pack(path, tmp_path)
    again = ddnb.remake(path, sounds=folder)
    assert len(again) == len(pack.sounds) == 17
    for i, (clip, record) in enumerate(zip(again, pack.sounds, strict=True)):
        np.testing.assert_array_equal(quantise(clip.audio, record["file"]["bits"]), pack.audio(i))
        saved = clip.save(tmp_path / "again", record["file"]["bits"], options.get("chunks", True))
        assert saved.read_bytes() == pack.files[i].read_bytes()
        assert hashlib.sha256(saved.read_bytes()).hexdigest() == record["file"]["sha256"]
    text = json.dumps(pack.manifest)
    assert str(folder) not in text and "NaN" not in text and "Infinity" not in text


def test_from_the_zip_the_manifest_or_what_it_holds(everything, tmp_path, drums):
    _, clips = everything
    path = ddnb.pack(clips[0], tmp_path / "two.zip")
    pack = Pack(path, tmp_path)
    for record in (path, str(path), pack.folder / "manifest.json", pack.manifest):
        for ckpt in (None, drums, "drums"):
            again = ddnb.remake(record, ckpt)
            assert [clip.seed for clip in again] == [0, 1] and all(isinstance(clip, Clip) for clip in again)


def test_skips_what_cannot_be_remade_with_a_warning(everything, tmp_path):
    folder, clips = everything
    path = ddnb.pack([folder / "mine.wav", clips[0]], tmp_path / "x.zip")
    with pytest.warns(UserWarning, match=r"Skipped oneshots/mine\.wav.*mine\.wav, which was not found"):
        again = ddnb.remake(path)
    assert len(again) == 2
    alone = ddnb.pack(folder / "mine.wav", tmp_path / "alone.zip")
    with pytest.warns(UserWarning), pytest.raises(FileNotFoundError, match=r"mine\.wav"):
        ddnb.remake(alone)
    assert ddnb.remake(alone, sounds=folder)[0].name == "mine"


@pytest.mark.slow
def test_a_pack_of_a_pack_is_the_same_sounds(everything, tmp_path):
    """What is trimmed is not trimmed again, what was lowered not lowered again."""
    folder, clips = everything
    for level in ("kept", "each"):
        first = ddnb.pack(clips, tmp_path / f"{level}.zip", level=level)
        second = ddnb.pack(ddnb.remake(first, sounds=folder), tmp_path / "again.zip", level=level)
        one, two = (Pack(path, tmp_path / path.stem).sounds for path in (first, second))
        assert [record["file"] for record in one if "midi" not in record["file"]] == [
            record["file"] for record in two if record.get("making", {}).get("verb") != "beat"
        ]
        assert {record["file"]["sha256"] for record in one} == {record["file"]["sha256"] for record in two}


# --- what is in it ----------------------------------------------------------------------------------------------------


def test_the_same_sounds_are_the_same_pack(everything, tmp_path):
    """Times, orders and libraries' own names of the day would make it another."""
    _, clips = everything
    one, two = (ddnb.pack(clips, tmp_path / place / "p.zip", instruments=True) for place in "ab")
    assert one.read_bytes() == two.read_bytes()


def test_what_is_in_a_pack(everything, tmp_path):
    _, clips = everything
    pack = Pack(ddnb.pack(clips, tmp_path / "My pack.zip", instruments=True), tmp_path)
    assert pack.top == "My-pack"
    inside = [name.removeprefix("My-pack/") for name in pack.names]
    assert Counter(name.partition("/")[0] for name in inside if name.endswith(".wav")) == {
        "kick": 7, "snare-clap": 1, "loops": 4, "oneshots": 2, "tom-kick": 3,
    }  # fmt: skip
    assert {name for name in inside if "/" not in name} == {
        "manifest.json", "manifest.csv", "contact_sheet.png", "README.txt", "My-pack.sfz", "My-pack.dspreset",
        "drum_map.csv",
    }  # fmt: skip
    assert (pack.folder / "contact_sheet.png").read_bytes().startswith(b"\x89PNG")
    (midi,) = pack.folder.rglob("*.mid")
    assert mido.MidiFile(midi).length == pytest.approx(2 * 60 / 133.3 * 2, rel=1e-3)
    assert not [name for name in inside if re.search(r"bpm.*/", name, re.I)]
    for name in inside:
        assert re.fullmatch(r"([A-Za-z0-9_-]+/)?[A-Za-z0-9_.-]+", name) and len(name) < 200


def test_every_file_is_as_its_record_says(everything, tmp_path):
    _, clips = everything
    pack = Pack(ddnb.pack(clips, tmp_path / "p.zip"), tmp_path)
    for i, (record, path) in enumerate(zip(pack.sounds, pack.files, strict=True)):
        file, music = record["file"], record["music"]
        info = soundfile.info(path)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == file["sha256"]
        assert (info.frames, info.samplerate, info.channels) == (file["frames"], file["sample_rate"], file["channels"])
        assert info.subtype == "PCM_24"
        loop, song = wav_promises(path)
        assert (loop is not None) == (music["type"] == "loop")
        assert (song is not None) == (music["type"] in ("one-shot", "bars") or "bpm" in music)
        if "bpm" in music:
            assert song[7] == np.float32(music["bpm"])
        peak = true_peak(pack.audio(i), music["type"] == "loop")
        assert record["level"]["true_peak_dbfs"] == pytest.approx(peak, abs=READS_LOW_DB) and peak <= -1 + READS_LOW_DB
        assert record["origin"] == {"verdict": "not checked"}
        assert file["name"] in pack.readme


@pytest.mark.parametrize("bits", ["16", "24", "float"])
def test_ffmpeg_reads_every_file_without_a_word(bits, everything, tmp_path):
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    _, clips = everything
    pack = Pack(ddnb.pack(clips[1:6], tmp_path / "p.zip", bits=bits), tmp_path)
    for path in pack.files:
        command = [ffmpeg, "-v", "error", "-xerror", "-i", str(path), "-f", "null", "-"]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        assert run.stdout + run.stderr == ""


def test_loops_and_bars_and_ones_own_sounds_keep_their_length(everything, tmp_path):
    _, clips = everything
    pack = Pack(ddnb.pack(clips, tmp_path / "p.zip"), tmp_path)
    frames = {record["file"]["frames"] for record in pack.sounds if record["music"]["type"] in ("loop", "bars")}
    assert frames == {165_375, 88_200, 105_840, round(2 * 4 * 60 / 133.3 * RATE / 2)}
    (mine,) = [record for record in pack.sounds if record["file"]["name"] == "oneshots/mine.wav"]
    assert mine["file"]["frames"] == 20_000 and mine["music"]["type"] == "own"


def test_one_shots_are_trimmed(packed):
    padded = np.pad(hit(), [(0, 0), (3000, 9000)])
    pack = packed(made(padded))
    assert find_trim(pack.audio(0), RATE) == {}
    assert pack.audio(0).shape[1] < 8500
    (edit,) = pack.sounds[0]["edits"]
    assert edit["first_frame"] == 3000 - 44


def test_a_note_is_in_the_name_the_chunk_and_the_record(packed):
    t = np.arange(RATE) / RATE
    bass = np.sin(2 * np.pi * 46.249 * t) * np.exp(-t)
    pack = packed([made(bass[None].astype(np.float32) / 2, category="bass"), made()])
    assert pack.sounds[0]["file"]["name"] == "bass/bass_Fs1_net_seed0.wav"
    assert wav_promises(pack.files[0])[1][:2] == (3, 30)
    assert pack.sounds[0]["music"]["root_note"]["note"] == 30 and "root_note" not in pack.sounds[1]["music"]


@pytest.mark.slow
def test_flac_for_one_shots_and_wav_for_loops(everything, tmp_path):
    folder, clips = everything
    pack = Pack(ddnb.pack(clips, tmp_path / "p.zip", format="flac", bits="16"), tmp_path)
    again = ddnb.remake(pack.folder / "manifest.json", sounds=folder)
    for i, record in enumerate(pack.sounds):
        timed = record["music"]["type"] in ("loop", "bars")
        assert pack.files[i].suffix == (".wav" if timed else ".flac")
        assert hashlib.sha256(pack.files[i].read_bytes()).hexdigest() == record["file"]["sha256"]
        np.testing.assert_array_equal(quantise(again[i].audio, "16"), pack.audio(i))
    assert "FLAC cannot state" in pack.readme


# --- levels -----------------------------------------------------------------------------------------------------------


def test_levels_of_a_pack(packed):
    clips = [made(dull(hit(level, seed=i))) for i, level in enumerate((0.05, 0.5, 1.9))]
    before = [true_peak(clip.audio) for clip in clips]
    for level in ("kept", "each", "together"):
        pack = packed(clips, level=level)
        after = [true_peak(pack.audio(i)) for i in range(3)]
        assert after[2] == pytest.approx(-1, abs=READS_LOW_DB)
        match level:
            case "kept":
                assert after[:2] == pytest.approx(before[:2], abs=0.03)
            case "each":
                assert after == pytest.approx([-1, -1, -1], abs=READS_LOW_DB)
            case "together":
                assert np.diff(after) == pytest.approx(np.diff(before), abs=0.03)
        for i, record in enumerate(pack.sounds):
            gain = sum(edit.get("gain_db", 0) for edit in record.get("edits", ()))
            assert gain == pytest.approx(after[i] - before[i], abs=0.03)
            assert (f"gain {gain:+.1f} dB" in pack.readme) or not gain


def test_float_keeps_what_is_too_loud(packed):
    pack = packed(made(hit(3.0)), bits="float")
    assert np.abs(pack.audio(0)).max() > 2
    assert pack.sounds[0]["level"]["samples_over_full_scale"] > 0


# --- names ------------------------------------------------------------------------------------------------------------

NAMES = [
    "a/b\\c",
    'say "x" <y>|*?',
    "kick 🥁",
    "x" * 300,
    "CON",
    "nul",
    "LPT1",
    "..",
    " ",
    "=1+1",
    "Ünï",
    "-",
    "aux.wav",
    "/../../../ESCAPED",
    "C:\\..\\x",
    "\n\x00\x1b",
]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_safe(name, packed):
    clips = [made(name=name), made(category=name, seed=1), made(name=name, category=name, loop=True)]
    clips.append(
        Clip(
            hit(),
            RATE,
            0,
            Provenance.from_dict({"source": {"name": f"{name}.wav", "sha256": "0"}, "model": {"name": "own"}}),
        )
    )
    clips.append(made(verb="interpolate", a={"name": name}, b={"seed": 1}, asked=2))
    clip = made()
    clips.append(replace(clip, provenance=replace(clip.provenance, root_note=RootNote(40, name))))
    pack = packed(clips, instruments=True)
    assert len(pack.sounds) == len(set(pack.names) & {f"{pack.top}/{s['file']['name']}" for s in pack.sounds}) == 6
    for path in pack.names:
        for part in PurePosixPath(path).parts:
            assert re.fullmatch(r"[A-Za-z0-9_.-]+", part) and len(part) < 150
            assert not re.fullmatch(r"(CON|PRN|AUX|NUL|COM\d|LPT\d)(\..*)?", part, re.I)
            assert not part.endswith((".", " "))
    assert ElementTree.parse(pack.folder / f"{pack.top}.dspreset").getroot().tag == "DecentSampler"


def test_equal_names_get_numbers_whatever_their_capitals(packed):
    """On Windows and macOS the second would take the place of the first."""
    pack = packed([made(), made(), made(name="NET"), made(category="Kick")])
    names = [record["file"]["name"].lower() for record in pack.sounds]
    assert len(set(names)) == 4 and names[1] == "kick/kick_net_seed0-2.wav"


@given(st.text(max_size=120))
def test_safe_names(text):
    name = safe_name(text)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,81}", name)
    assert not re.fullmatch(r"CON|PRN|AUX|NUL|COM\d|LPT\d", name, re.I)
    assert safe_name(name) == name or len(name) > 80


def test_the_table_is_what_the_manifest_says_and_computes_nothing(packed):
    """In a spreadsheet a name that begins with = is run."""
    evil = Clip(
        hit(),
        RATE,
        0,
        Provenance.from_dict({"source": {"name": '=HYPERLINK("x")', "sha256": "+1"}, "model": {"name": "@SUM"}}),
    )
    pack = packed([made(), evil])
    text = (pack.folder / "manifest.csv").read_bytes().decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["file.sha256"] for row in rows] == [record["file"]["sha256"] for record in pack.sounds]
    assert float(rows[0]["level.true_peak_dbfs"]) == pack.sounds[0]["level"]["true_peak_dbfs"]
    assert json.loads(rows[0]["making.category"]) == {"kick": 1.0}
    for row in rows:
        for cell in row.values():
            assert not cell.startswith(("=", "+", "@")) and (not cell.startswith("-") or float(cell) < 0)
            assert not re.fullmatch(r"\d+/\d+", cell), "15/4 seconds would become a day in April"


# --- licences and origins ---------------------------------------------------------------------------------------------


def test_licences_of_all_networks_are_stated(everything, tmp_path, lightning):
    folder, clips = everything
    chain = ddnb.vary(lightning, clips[0][0], 0.4, 1, steps=1, duration_s=0.02)  # of a sound by another network
    pack = Pack(ddnb.pack([chain, folder / "mine.wav"], tmp_path / "p.zip"), tmp_path)
    licences = pack.readme.split("LICENCES")[1]
    assert "drums: licence MIT; credit: ddnb" in licences
    assert re.search(r"lightning: licence not known; credit: not known", licences)
    assert "input audio of your own: its own licences" in licences
    assert pack.sounds[0]["making"]["source"]["record"]["model"]["licence"] == "MIT"


def test_origins_go_into_the_records(packed, tmp_path):
    for i in range(3):
        soundfile.write(tmp_path / f"{i}.wav", hit(seed=i).T, RATE, "FLOAT")
    clips = [made(seed=1), made(hit(seed=9), seed=9)]
    pack = packed(clips, origins=ddnb.originality(clips, tmp_path))
    origins = [record["origin"] for record in pack.sounds]
    assert origins[0]["verdict"] == "near copy of 1.wav" and origins[1]["verdict"].startswith("no near copy")
    assert [origin["files"] for origin in origins] == [3, 3]
    assert "compared with a folder" in pack.readme


def test_origins_of_what_is_packed_in_whatever_form(drums, packed, tmp_path):
    """Each look into Clips gives another clip, and each reading of a file."""
    clips = ddnb.generate(drums, 2, category="kick", steps=1)
    beat = ddnb.beat(drums, {"tracks": {"kick": at(0)}}, steps=1)
    path = clips[1].save(tmp_path)
    pack = packed([clips, beat, path], origins=ddnb.originality([*clips, beat.clip, path], None))
    assert [record["origin"]["verdict"] for record in pack.sounds] == ["not checked"] * 4


def test_origins_of_other_sounds_are_refused(tmp_path):
    """By number alone, a pack would say of one sound what was found out about another."""
    clips = [made(seed=i) for i in range(3)]
    origins = ddnb.originality(clips, None)
    for others in (clips[::-1], [*clips[:2], made(seed=7)], [*clips[:2], replace(clips[2], sample_rate=48_000)]):
        with pytest.raises(ValueError, match=r"origins: sound \d, kick_net_seed\d, is not the one that was checked"):
            ddnb.pack(others, tmp_path / "p.zip", origins=origins)
    for others in (clips[:2], [*clips, made(seed=7)]):
        with pytest.raises(ValueError, match="origins: 3 sounds were checked, . are to be packed"):
            ddnb.pack(others, tmp_path / "p.zip", origins=origins)
    assert list(tmp_path.iterdir()) == []


# --- instruments ------------------------------------------------------------------------------------------------------


def read_sfz(path):
    regions = [line for line in path.read_text().splitlines() if line.startswith("<region>")]
    return [dict(part.split("=") for part in region.split()[1:]) for region in regions]


def test_instruments(everything, tmp_path):
    _, clips = everything
    hats = [made(category="closed_hat"), made(category="open_hat"), made(category="open_hat", seed=1)]
    pack = Pack(ddnb.pack([clips, hats], tmp_path / "p.zip", instruments=True), tmp_path)
    regions = read_sfz(pack.folder / "p.sfz")
    assert len({region["key"] for region in regions}) == len(regions) == len(pack.sounds)
    by_name = {region["sample"]: region for region in regions}
    for record in pack.sounds:
        region, loop = by_name[record["file"]["name"]], record["music"]["type"] == "loop"
        assert (pack.folder / region["sample"]).is_file()
        assert region["loop_mode"] == ("loop_continuous" if loop else "one_shot")
        if loop:
            assert int(region["loop_end"]) == record["file"]["frames"] - 1
    assert by_name[pack.sounds[0]["file"]["name"]]["key"] == "36"
    assert by_name["open_hat/open_hat_net_seed0.wav"]["key"] == "46"
    closed, opened, other = (
        by_name[f"{clip.settings['making']['category'].copy().popitem()[0]}/{clip.name}.wav"] for clip in hats
    )
    assert opened["off_by"] == other["off_by"] == closed["group"] == opened["group"] and "off_by" not in closed
    samples = ElementTree.parse(pack.folder / "p.dspreset").findall("groups/group/sample")
    assert {s.get("path"): s.get("rootNote") for s in samples} == {r["sample"]: r["key"] for r in regions}
    assert all(s.get("loNote") == s.get("hiNote") == s.get("rootNote") for s in samples)
    rows = list(csv.DictReader((pack.folder / "drum_map.csv").open(newline="")))
    assert {row["file"]: row["note"] for row in rows} == {r["sample"]: r["key"] for r in regions}


@given(st.lists(st.tuples(st.sampled_from([None, "kick", "snare", "bass", "open_hat"]), st.booleans()), max_size=200))
def test_keys(sounds):
    """No key twice, none off the keyboard, none free while a sound is left out."""
    places = assign_keys(sounds)
    used = [key for key in places if key is not None]
    assert len(set(used)) == len(used) == min(len(sounds), 128) and set(used) <= set(range(128))
    if ("kick", False) in sounds:
        assert places[sounds.index(("kick", False))] == 36
    if len(sounds) < 100:  # a snare that is not there is not played by another sound
        assert (38 in used) == (("snare", False) in sounds)


def test_more_sounds_than_keys(packed):
    clips = [made(hit(frames=200, seed=i), seed=i) for i in range(130)]
    pack = packed(clips, instruments=True)
    assert len(read_sfz(pack.folder / "pack.sfz")) == 128
    assert "128" in pack.readme and len(pack.sounds) == 130


# --- what goes wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clips", "options", "message"),
    [
        ([], {}, "no sound to pack"),
        ([made(), made(np.full((1, 99), np.nan, np.float32), seed=4)], {}, "sound 2, kick_net_seed4.*NaN"),
        ([made(np.zeros((1, 99), np.float32))], {}, "sound 1, .*silent"),
        ([made(np.zeros((1, 0), np.float32))], {}, "sound 1, .*empty"),
        ([made(), 5], {}, "int: give clips"),
        ([(np.zeros(5), 44_100)], {}, "ndarray: give clips"),
        ([made()], {"bits": "8"}, "16, 24, float"),
        ([made()], {"bits": "float", "format": "flac"}, "flac has 16, 24"),
        ([made()], {"format": "mp3"}, "wav, flac"),
        ([made()], {"level": "loud"}, "kept, each, together"),
    ],
    ids=str,
)
def test_what_cannot_be_packed_leaves_no_file(clips, options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        ddnb.pack(clips, tmp_path / "p.zip", **options)
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match="could not be written"):
        ddnb.pack(made(), tmp_path / "file" / "p.zip")
    with pytest.raises(ValueError, match=r"ends in \.zip"):
        ddnb.pack(made(), tmp_path / "p.wav")
    with pytest.raises(FileNotFoundError, match=r"missing\.wav"):
        ddnb.pack([made(), tmp_path / "missing.wav"], tmp_path / "p.zip")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(OSError, match="No space left"):
        ddnb.pack(made(), tmp_path / "p.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_nothing_is_overwritten(tmp_path):
    first = ddnb.pack(made(), tmp_path / "p.zip")
    content = first.read_bytes()
    second = ddnb.pack(made(seed=1), tmp_path / "p.zip")
    assert second.name == "p-2.zip" and first.read_bytes() == content
    assert zipfile.ZipFile(second).namelist()[0].startswith("p-2/")


@pytest.mark.parametrize("content", [b"", b"PK", b"no zip at all"])
def test_a_zip_that_is_no_pack(content, tmp_path):
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.zip is not a pack"):
        ddnb.remake(tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "y.zip", "w") as file:
        file.writestr("a/b.txt", "x")
    with pytest.raises(ValueError, match=r"y\.zip is not a pack"):
        ddnb.remake(tmp_path / "y.zip")
    with pytest.raises(FileNotFoundError, match=r"z\.zip"):
        ddnb.remake(tmp_path / "z.zip")
    with pytest.raises(ValueError, match="lists no sound"):
        ddnb.remake({"ddnb pack": 1, "sounds": []})


def pack_of(manifest, path):
    """A pack with such a manifest, an object or a text."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("p/manifest.json", manifest if isinstance(manifest, str) else json.dumps(manifest))
    return path


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("x", "not a JSON record"),
        ('{"a": 1, "b": 2}', "another program"),
        ("[]", "another program"),
        ({"ddnb pack": 99, "sounds": []}, "has version 99; this ddnb reads version 1"),
        ({"ddnb pack": 1, "sounds": {"a": 1}}, "sounds: got {'a': 1}; give a list"),
        ({"ddnb pack": 1}, "sounds: got None; give a list"),
        ({"ddnb pack": 1, "sounds": [1]}, "not a record"),
        ({"ddnb pack": 1, "sounds": [{"file": {"name": "a.wav"}, "model": None, "making": {}}]}, "not a record"),
        ({"ddnb pack": 1, "sounds": [{"file": [], "making": {}}]}, r"sounds\[0\]\.file: got \[\]; give an object"),
        ({"ddnb pack": 1, "sounds": [{"making": {}}]}, r"sounds\[0\]\.file\.name: missing"),
        ({"ddnb pack": 1, "sounds": [{"file": {"name": "a.wav"}}]}, "neither 'making' nor 'source'"),
        ({"ddnb pack": 1, "sounds": [{"file": {"name": "a.wav"}, "making": {"verb": "beat"}}]}, "not a record"),
        (
            {"ddnb pack": 1, "sounds": [{"file": {"name": "a.wav"}, "origin": "own"}]},
            r"origin: got 'own'; give an",
        ),
    ],
    ids=str,
)
def test_a_manifest_that_anybody_may_have_written(manifest, message, tmp_path):
    """A sentence, where there was a RecursionError, an AttributeError or a TypeError."""
    path = pack_of(manifest, tmp_path / "p.zip")
    with pytest.raises(ValueError, match=message):
        ddnb.remake(path)
    (tmp_path / "manifest.json").write_text(manifest if isinstance(manifest, str) else json.dumps(manifest))
    with pytest.raises(ValueError, match=message if "another" not in message else "not a record"):
        ddnb.remake(tmp_path / "manifest.json")
    soundfile.write(tmp_path / "a.wav", hit().T, RATE)
    assert ddnb.read_clip(tmp_path / "a.wav").kind == "own"


def test_a_manifest_is_not_unpacked_without_end(tmp_path):
    """Four hundred kilobytes of ZIP file took more than a gigabyte."""
    path = pack_of(" " * (65 << 20), tmp_path / "p.zip")
    assert path.stat().st_size < 1e6
    with pytest.raises(ValueError, match=r"manifest\.json in p\.zip has 65 MB; .* at most 64 MB"):
        ddnb.remake(path)


def test_rejects_a_pack_that_is_compressed_in_an_unusual_way(tmp_path):
    """Damaged LZMA or BZIP2 data would end in errors of their libraries."""
    with zipfile.ZipFile(tmp_path / "p.zip", "w", zipfile.ZIP_LZMA) as file:
        file.writestr("p/manifest.json", "{}")
    with pytest.raises(ValueError, match=r"p\.zip is not a pack .* zip it again"):
        ddnb.remake(tmp_path / "p.zip")


def test_no_name_in_a_manifest_leads_out_of_a_folder(drums, tmp_path, capsys):
    """The name of a note, and that of the file, went into the path as they were."""
    pack = Pack(ddnb.pack(ddnb.generate(drums, 2, category="kick", steps=1), tmp_path / "p.zip"), tmp_path / "inside")
    first, second = pack.sounds
    first["music"]["root_note"] = {"note": 40, "name": "/../../../ESCAPED"}
    first["file"]["name"] = "../../../ESCAPED.wav"
    second["file"]["name"] = "/ESCAPED/..\\ESCAPED"
    path = pack_of(pack.manifest, tmp_path / "q.zip")
    one, two = ddnb.remake(path)
    assert one.name == "kick_E2_drums_seed0" and two.name.startswith("kick_") and two.name.endswith("_drums_seed1")
    before = {place for place in tmp_path.rglob("*") if place.is_file()}
    out = tmp_path / "a" / "b" / "c" / "out"
    assert main(["remake", str(path), "--out", str(out)]) == 0
    written = {place for place in tmp_path.rglob("*") if place.is_file()} - before
    assert len(written) == 4 and all(out in place.parents for place in written)


@pytest.mark.parametrize("format", ["wav", "flac"])
def test_the_sounds_of_an_unpacked_pack_are_what_they_were(format, drums, tmp_path):
    """They were taken for sounds of one's own: without their seed, their network and their licence."""
    clips = [*ddnb.generate(drums, 2, category="kick", steps=2), made(hit(3.0), seed=4)]
    pack = Pack(ddnb.pack(clips, tmp_path / "p.zip", format=format), tmp_path)
    for i, (path, record) in enumerate(zip(pack.files, pack.sounds, strict=True)):
        back = ddnb.read_clip(path)
        np.testing.assert_array_equal(back.audio, pack.audio(i))
        assert back.name == path.stem == clips[i].name and back.kind == "one-shot" and back.seed == clips[i].seed
        assert back.settings["model"] == record["model"]
    again = Pack(ddnb.pack(pack.files, tmp_path / "again.zip", format=format), tmp_path)
    assert [r["file"]["sha256"] for r in again.sounds] == [r["file"]["sha256"] for r in pack.sounds]
    deeper = pack.folder / "kick" / "a" / "b" / "c"
    deeper.mkdir(parents=True)
    assert ddnb.read_clip(pack.files[0].rename(deeper / pack.files[0].name)).kind == "own"
    other = pack.folder / "mine.wav"
    soundfile.write(other, hit(seed=8).T, RATE)
    assert ddnb.read_clip(other).kind == "own"


# --- the command line -------------------------------------------------------------------------------------------------


def test_pack_and_remake_from_the_command_line(drums, tmp_path, capsys):
    folder = tmp_path / "sounds"
    ddnb.generate(drums, 2, category="kick", steps=2).save(folder)
    ddnb.beat(drums, {"tracks": {"kick": at(0)}}, steps=2).save(folder)
    argv = ["pack", str(folder), "--out", str(tmp_path / "p.zip"), "--level", "each", "--no-chunks", "--instruments"]
    assert main(argv) == 0
    path = capsys.readouterr().out.strip()
    pack = Pack(path, tmp_path)
    assert len(pack.sounds) == 3 and len(list(pack.folder.rglob("*.mid"))) == 1
    assert wav_promises(pack.files[0]) == (None, None)
    assert main(["remake", path, "--out", str(tmp_path / "again")]) == 0
    assert "3 of 3 are the same file" in capsys.readouterr().err
    for file in pack.files:
        assert (tmp_path / "again" / file.relative_to(pack.folder)).read_bytes() == file.read_bytes()
    assert main(["pack", str(tmp_path / "nothing.wav"), "--out", str(tmp_path / "q.zip")]) == 2
    assert "no sound file" in capsys.readouterr().err


def test_remake_of_a_flac_pack_compares_samples(drums, tmp_path, capsys):
    """The files are WAV then, so none is the same; and equal names in two folders must not become one and a -2."""
    clips = [*ddnb.generate(drums, 1, category="kick", steps=2), *ddnb.generate(drums, 1, category="snare", steps=2)]
    clips += ddnb.generate(drums, 1, category="texture", steps=2, loop=True, bpm=120)
    pack = Pack(ddnb.pack([*clips, clips[0]], tmp_path / "p.zip", format="flac"), tmp_path)
    assert main(["remake", str(tmp_path / "p.zip"), "--out", str(tmp_path / "again")]) == 0
    said = capsys.readouterr().err
    assert "1 of 4 are the same file, byte for byte; 3, which were FLAC, are the same sound, sample for sample" in said
    for i, file in enumerate(pack.files):
        again = tmp_path / "again" / file.relative_to(pack.folder).with_suffix(".wav")
        np.testing.assert_array_equal(soundfile.read(again, dtype="float32", always_2d=True)[0].T, pack.audio(i))
    alone = ddnb.pack(clips[0], tmp_path / "one.zip", format="flac")
    assert main(["remake", str(alone), "--out", str(tmp_path / "other")]) == 0
    assert "the same sound, sample for sample" in capsys.readouterr().err


def test_a_source_with_edits_is_known_by_its_record(drums):
    """A variation of a trimmed sound must not be made again from the sound before it was trimmed."""
    clip = made(np.pad(hit(), [(0, 0), (500, 0)]))
    clip = replace(clip, provenance=replace(clip.provenance, edits=({"first_frame": 10, "frames": 100},)))
    assert input_record(clip).provenance.edits == ({"first_frame": 10, "frames": 100},)


def test_skips_a_bad_file_in_a_folder_with_a_warning(tmp_path, capsys):
    made().save(tmp_path / "sounds")
    (tmp_path / "sounds" / "text.wav").write_text("no sound")
    assert main(["pack", str(tmp_path / "sounds"), "--out", str(tmp_path / "kit.zip")]) == 0
    assert "Skipped text.wav: cannot be read" in capsys.readouterr().err
    with zipfile.ZipFile(tmp_path / "kit.zip") as file:
        assert sum(name.endswith(".wav") for name in file.namelist()) == 1
