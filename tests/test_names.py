"""Names that users give, from folders, patterns and files, through every verb and every way out."""

import io
import json
import os
import re
import subprocess
import sys
import unicodedata
import zipfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from named import write_named
from PIL import Image

import ddnb
from ddnb.cli.common import merge_categories, parse_category, split_pair
from ddnb.cli.main import build_parser, main
from ddnb.display.html import card_html, cards_of, escape
from ddnb.display.plots import beat_picture, contact_sheet, waveform_sheet
from ddnb.display.shown import Shown
from ddnb.display.text import shortened, shown
from ddnb.files import cut_name, expand, local_name, safe_name
from ddnb.guidance import shares
from ddnb.names import find_name, unify_names
from ddnb.training import from_scratch
from ddnb.training.artifacts import name_demos
from ddnb.training.dataset import decode

NFC, NFD = (unicodedata.normalize(form, "Schläge") for form in ("NFC", "NFD"))
AWKWARD = {
    "dollars": "$$bass$$",
    "dollar": "ca$h $tack",
    "tex": r"\frac{a}_b^c $x$",
    "comma": "low, deep",
    "colon": "kick:2",
    "comma and colon": "tom: 1,snare:3",
    "equals": "=SUM(A1)",
    "quotes": 'it\'s "loud"',
    "emoji": "🥁👩\u200d🎤",
    "umlauts, Mac": NFD,
    "Japanese": "キック",
    "right to left": "תוף \u202eضرب",
    "script": "<script>alert(1)<script>",
    "Windows": "CON",
    "percent": "100% %s {0}",
    "line break": "a\nb",
    "dash": "-n",
    "any": "any",
    "pattern": "[a-z]*?",
    "tilde": "~nobody-of-this-name",
}
LONG = {"300 characters": "n" * 300, "300 emoji": "🥁" * 300, "slash": "</script>/../x"}
NAMES = AWKWARD | LONG
FEW = {"dollars", "comma and colon", "Japanese", "script", "300 emoji"}


def each_of(names: dict[str, str]) -> list:
    """Return the names as parameters; most of them are slow."""
    marks = {name: () if name in FEW else pytest.mark.slow for name in names}
    return [pytest.param(text, id=name, marks=marks[name]) for name, text in names.items()]


def noise(frames=5000, seed=0):
    return 0.2 * np.random.default_rng(seed).standard_normal(frames).clip(-3, 3).astype(np.float32)


def write_sounds(folder: Path, n: int = 1, seed: int = 0) -> None:
    """Write different sounds into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        soundfile.write(folder / f"{i}.wav", noise(seed=100 * seed + i), 48000, "PCM_16")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    """Write a network whose categories have all these names; its weights are those of the reference network."""
    path = tmp_path_factory.mktemp("names") / "names.safetensors"
    return str(write_named(path, list(NAMES.values())))


@pytest.fixture(scope="module")
def network(checkpoint) -> ddnb.Checkpoint:
    return ddnb.load(checkpoint, device="cpu")


def run(*arguments: object) -> int:
    """Run a command in this process."""
    return main([str(argument) for argument in arguments])


@pytest.mark.parametrize("name", each_of(NAMES))
def test_every_verb_takes_the_name_of_a_category(name, network, checkpoint, tmp_path, capsys):
    """A name that some way out takes for something else ends a verb, or names another file, picture or page."""
    make = {"category": name, "steps": 2}
    clips = ddnb.generate(network, 2, duration_s=0.05, **make)
    varied = ddnb.vary(network, clips[0], 0.5, 1, **make)
    ends = ddnb.interpolate(network, 1, 2, 3, to_category=name, duration_s=0.05, **make)
    longer = ddnb.extend(network, clips[0], 0.08, 1, **make)
    filled = ddnb.inpaint(network, clips[0], [0.01], [0.02], 1, **make)
    everything = [*clips, *varied, *ends, *longer, *filled]
    saved = [clip.save(tmp_path / "saved") for clip in everything]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]{1,120}", path.name) for path in saved)
    assert (ddnb.remake(saved[0], network).audio == clips[:1].audio).all()
    page = clips._repr_html_()
    page.encode("utf-8")
    assert "<script" not in page
    packed = ddnb.pack(saved, tmp_path / "kit.zip", instruments=True)
    with zipfile.ZipFile(packed) as file:
        assert all(entry.isascii() and ".." not in entry for entry in file.namelist())
        assert len({entry.lower() for entry in file.namelist()}) == len(file.namelist())
        assert json.loads(file.read("kit/manifest.json"))["sounds"]
    common = ("--checkpoint", checkpoint, "-n", "2", "--steps", "2", f"--category={name}", "--device", "cpu")
    assert run("generate", *common, "--duration-s", "0.05", "--out", tmp_path / "out") == 0, capsys.readouterr().err
    assert (tmp_path / "out" / "contact-sheet.png").is_file()
    made = sorted((tmp_path / "out").glob("*.wav"))
    records = [json.loads(path.with_suffix(".json").read_text())["making"]["category"] for path in made]
    assert records == [{name: 1.0}] * 2
    assert run("vary", made[0], *common, "--out", tmp_path / "out2") == 0


@pytest.mark.parametrize("name", each_of(AWKWARD))
def test_class_folders_of_any_name_are_trained_on(name, tmp_path, capsys):
    """A class folder that training takes, but the command or the picture afterwards does not, is lost work."""
    write_sounds(tmp_path / "data" / name, 2)
    write_sounds(tmp_path / "data" / "other", 2, seed=1)
    report = ddnb.check_dataset(tmp_path / "data")
    assert unicodedata.normalize("NFC", name) in report.data.categories
    assert "<script" not in report._repr_html_()
    settings = {"steps": 1, "batch_size": 2, "demos": 2, "validation": 0}
    list(ddnb.finetune(from_scratch("tiny", frames=4096), tmp_path / "data", tmp_path / "run", **settings))
    options = ("--checkpoint", tmp_path / "run", "--steps", "2", "-n", "2", f"--category={name}")
    assert run("generate", *options, "--out", tmp_path / "out") == 0, capsys.readouterr().err


@pytest.mark.parametrize("name", each_of(NAMES))
def test_pictures_show_any_name_as_plain_text(name, monkeypatch):
    """Dollars are mathematics to matplotlib, unless it is told otherwise, and a name may be wider than its picture."""
    import matplotlib

    sounds = [Shown(noise()[None], 48000, name)] * 2
    for picture in (contact_sheet(sounds), waveform_sheet(sounds), beat_picture({name: "9...", "b": "9..."})):
        assert Image.open(io.BytesIO(picture)).width <= 1350
    with matplotlib.rc_context({"text.usetex": True}):  # a user's own setting
        contact_sheet(sounds[:1])


def test_the_same_dollar_is_drawn_in_every_name():
    """An escaped dollar must not be drawn with its backslash."""
    plain, dollars = (contact_sheet([Shown(noise()[None], 48000, name)]) for name in ("a$b$", r"a\$b\$"))
    assert plain != dollars


@pytest.mark.parametrize(
    ("text", "known", "category"),
    [
        ("a,b", ["a,b", "a", "b"], "a,b"),
        ("a,b:2,a", ["a,b", "a"], {"a,b": 2.0, "a": 1.0}),
        ("kick:2", ["kick:2", "kick"], "kick:2"),
        ("kick:2:3,kick", ["kick:2", "kick"], {"kick:2": 3.0, "kick": 1.0}),
        ("kick:2", ["kick"], {"kick": 2.0}),
        ("tom: 1,snare:3:0.5", ["tom: 1,snare:3"], {"tom: 1,snare:3": 0.5}),
        (f"{NFC}:2,KICK", [NFD, "kick"], {NFD: 2.0, "kick": 1.0}),
        ("nobody:1,kick", ["kick"], {"nobody": 1.0, "kick": 1.0}),
    ],
)
def test_names_with_commas_and_colons_are_found_in_lists(text, known, category):
    """What separates names may stand in a name; the network's own names decide."""
    assert parse_category(text, known) == category


def test_a_list_that_is_none_is_explained():
    """A weight that is no number must not become a name or a traceback."""
    with pytest.raises(ddnb.ArgumentError, match="NAME:WEIGHT.*Known names: kick, snare"):
        parse_category("kick:loud", ["kick", "snare"])


def test_signs_in_tracks_and_files_are_told_apart_by_the_files(tmp_path):
    """The name of a track and the path of a file may both hold the sign between them."""
    for name in ("x.wav", "y=z.wav"):
        (tmp_path / name).touch()
    assert split_pair(f"a=b={tmp_path}/x.wav") == ("a=b", f"{tmp_path}/x.wav")
    assert split_pair(f"a={tmp_path}/y=z.wav") == ("a", f"{tmp_path}/y=z.wav")
    assert split_pair("a=missing=1.wav") == ("a", "missing=1.wav")
    assert split_pair("a") == ("a", "")


def test_names_that_are_alike_are_one():
    """Another Unicode form or case makes another name only where the known ones differ in nothing else."""
    assert find_name(NFC, [NFD]) == NFD and find_name("KICK", ["kick"]) == "kick"
    assert find_name("Kick", ["kick", "Kick"]) == "Kick" and find_name("KICK", ["kick", "Kick"]) is None
    assert find_name("STRASSE", ["straße"]) == "straße" and find_name("", ["a"]) is None
    assert unify_names(["Kick", "kick", NFD, NFC]) == {"Kick": "Kick", "kick": "Kick", NFD: NFC, NFC: NFC}
    assert unify_names(["Kick", NFC], ["kick", NFD]) == {"Kick": "kick", NFC: NFD}
    assert shares(["kick", "snare"], {"Kick": 1, "kick": 1, "SNARE": 2}) == {"kick": 0.5, "snare": 0.5}


def test_folders_that_are_alike_are_one_class(tmp_path):
    """Two folders of one name, as a sync between systems makes them, must not be two classes of half the sounds."""
    for i, name in enumerate(("Kick", "kick", NFD, NFC)):
        write_sounds(tmp_path / name, seed=i)
    data = decode(tmp_path, 48000)
    assert data.categories == ("Kick", NFC) and len(data.sounds) == 4
    assert "One class, Kick: the folders Kick and kick." in str(ddnb.check_dataset(tmp_path))


def test_a_folder_trains_the_category_that_it_is_like(network, tmp_path):
    """``Windows`` beside a category ``windows`` became a new class, which began from nothing."""
    write_sounds(tmp_path / "data" / "con", 2)
    write_sounds(tmp_path / "data" / NFC.upper(), 2, seed=1)
    settings = {"steps": 1, "batch_size": 2, "demos": 0, "validation": 0}
    list(ddnb.finetune(network, tmp_path / "data", tmp_path / "run", **settings))
    assert ddnb.load(tmp_path / "run").categories == network.categories


def test_the_category_of_input_audio_is_known_in_any_spelling(network):
    """A sound of another network, whose category differs in its case, was varied as any sound."""
    clip = ddnb.generate(network, 1, category="CON", steps=2, duration_s=0.05)[0]
    other = replace(clip, provenance=replace(clip.provenance, making=replace(clip.making, category={"con": 1.0})))
    assert ddnb.vary(network, other, 0.5, 1, steps=2)[0].making.category == {"CON": 1.0}


def test_demos_of_case_twins_are_all_kept(network):
    """On Windows and Macs, ``Kick_seed0.wav`` and ``kick_seed0.wav`` are one file."""
    clips = [ddnb.generate(network, 1, category="CON", steps=2, duration_s=0.05)[0]] * 2
    twin = replace(
        clips[0], provenance=replace(clips[0].provenance, making=replace(clips[0].making, category={"con": 1.0}))
    )
    names = [name.lower() for name in name_demos([*clips, twin])]
    assert len(set(names)) == 3


@pytest.mark.slow
def test_fit_takes_the_category_that_a_folder_is_like(tmp_path):
    """As for training: the built-in kick is fitted to a folder ``Kick``."""
    drums = ddnb.load("drums")
    write_sounds(tmp_path / "data" / "Kick", 2)
    fitted = ddnb.fit(drums, tmp_path / "data")
    assert fitted.categories == drums.categories and fitted.own_categories == ("kick",)


@pytest.mark.parametrize(
    "encoding", ["cp1252", *[pytest.param(name, marks=pytest.mark.slow) for name in ("ascii", "cp932", "utf-8")]]
)
def test_consoles_of_any_encoding(encoding, tmp_path):
    """A file or pipe on Windows lacks most letters; a report must not end with an error about them."""
    for i, name in enumerate(("キック", NFD, "🥁", "x")):
        write_sounds(tmp_path / "data" / name, seed=i)
    (tmp_path / "data" / "bad-\udcff").mkdir()
    (tmp_path / "data" / "bad-\udcff" / "notes.txt").touch()
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    command = [sys.executable, "-m", "ddnb", "check-dataset", str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 0 and b"4 sounds" in done.stdout, done.stderr


def test_the_console_is_as_it_was_afterwards(monkeypatch):
    """``main`` is called from notebooks and programs too, whose streams are their own."""
    stream = io.TextIOWrapper(io.BytesIO(), "cp1252")
    monkeypatch.setattr(sys, "stdout", stream)
    assert run("checkpoints") == 0
    assert stream.errors == "strict"


def test_half_characters_reach_no_page_and_no_pack(network, tmp_path):
    """Names that are not UTF-8 come in as halves of characters, which no page, table or archive can hold."""
    escape("a\udcff<b>").encode("utf-8")
    assert escape("a\udcff<b>") == "a?&lt;b&gt;"
    path = tmp_path / "sn\udcffare.wav"
    write_sounds(tmp_path / "x")
    (tmp_path / "x" / "0.wav").rename(path)
    clips = ddnb.vary(network, (noise()[None], 48000), 0.5, 1, steps=2)
    info = network.info | {"credit": "\udcff", "source": "/\udcff/\udcfe"}
    odd = ddnb.generate(ddnb.Checkpoint(network.net, 48000, 4096, network.device, network.dtype, info), 1, steps=2)
    clips[0]._repr_html_().encode("utf-8")
    assert ddnb.pack([odd[0], clips[0]], tmp_path / "kit.zip").is_file()


def test_patterns_of_any_name_make_a_midi_file(tmp_path):
    """The name of a track of a MIDI file is Latin-1 by default, which the name of a pattern's file need not be."""
    for name in ("キック", "pat\udcff", NFD):
        (tmp_path / f"{name}.json").write_text(json.dumps({"tracks": {"a=b $x$": "9..............."}}))
        made = ddnb.beat(None, tmp_path / f"{name}.json", sounds={"a=b $x$": (noise()[None], 48000)})
        wav, midi = replace(made, pattern=name).save(tmp_path / "out")
        assert wav.is_file() and midi.is_file()
        made._repr_html_().encode("utf-8")


@pytest.mark.parametrize("name", [*NAMES.values(), "COM¹", "nul", "..", ". .", "a\udcffb", "ﬁ½"])
def test_file_names_are_safe_on_every_system(name):
    """Accents are dropped in both forms; what Windows reserves, also in disguise, never comes out."""
    safe = safe_name(name)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,81}", safe)
    assert safe.upper() not in {"CON", "NUL", "COM1"}
    local = local_name(name + ".ckpt", "checkpoint")
    assert local.endswith("ckpt") and len(os.fsencode(local)) < 200
    assert not set(local) & set('<>:"/\\|?*\n') and local not in {".", "..", "CON.ckpt", "nul.ckpt"}
    assert len(os.fsencode(cut_name(name))) <= 80
    assert "?" not in shown(NFD) and len(shortened(name, 30)) <= 30


def test_both_forms_of_a_name_are_one_file():
    """A Mac's umlaut and a keyboard's must not be two files, of which one system sees one."""
    assert safe_name(NFC) == safe_name(NFD) == "Schlage"


def test_a_name_that_begins_with_a_tilde_is_no_home(tmp_path, monkeypatch):
    """``~old`` is a user's home to Python, which fails where there is no such user."""
    monkeypatch.chdir(tmp_path)
    write_sounds(tmp_path / "~old", 1)
    assert expand("~old") == Path("~old")
    assert len(ddnb.check_dataset("~old").data.sounds) == 1
    assert ddnb.generate(ddnb.load("drums"), 1, steps=2).save("~new")[0].is_file()


@pytest.mark.parametrize("name", each_of(AWKWARD))
def test_no_name_is_html(name):
    """A name that runs in the page."""
    cards, _ = cards_of([Shown(np.zeros((1, 100), np.float32), 44_100, name)], rest="")
    tags: list[tuple[str, dict]] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append((tag, dict(attributes)))
    parser.feed(card_html(*cards[0]))
    assert {tag for tag, _ in tags} <= {"div", "b", "br", "span", "audio", "img"}
    assert not any(key in attributes for _, attributes in tags for key in ("onerror", "onload", "onclick"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["kick"], {"kick": 1.0}),
        (["kick", "snare"], {"kick": 0.5, "snare": 0.5}),
        (["kick:2", "snare"], {"kick": 2 / 3, "snare": 1 / 3}),
        (["kick,snare", "kick"], {"kick": 2 / 3, "snare": 1 / 3}),
    ],
)
def test_repeated_categories_are_a_mixture(words, expected):
    """The last one won, without a word."""
    given = build_parser().parse_args(["generate", *(part for word in words for part in ("--category", word))])
    mixture = merge_categories([parse_category(text, ["kick", "snare"]) for text in given.category])
    assert shares(["kick", "snare"], mixture) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "guess"),
    [("hat", "closed_hat or open_hat"), ("kik", "kick"), ("Hat", "closed_hat or open_hat"), ("kicks", "kick")],
)
def test_an_unknown_category_is_answered_with_those_that_may_be_meant(name, guess):
    """A list of eleven names to search through."""
    with pytest.raises(ddnb.ArgumentError, match=rf"Unknown category '{name}'\. Did you mean {guess}\? Known: "):
        shares(["kick", "closed_hat", "open_hat"], name)


@pytest.mark.parametrize("wrong", [3, ["kick"], 1.5])
def test_a_category_of_another_type_is_refused(wrong):
    """A TypeError about iteration."""
    with pytest.raises(ddnb.ArgumentError, match="give a name, or names with weights"):
        shares(["kick"], wrong)
