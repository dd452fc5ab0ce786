"""Names of users travel safely: through pictures, options, archives, consoles, pages and Unicode's forms."""

import io
import json
import os
import subprocess
import sys
import unicodedata
import warnings
import zipfile
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile

import ddnb
from ddnb.cli.common import parse_category
from ddnb.cli.main import build_parser
from ddnb.display.html import card_html, cards_of
from ddnb.display.plots import contact_sheet
from ddnb.display.shown import Shown
from ddnb.guidance import find_category, shares
from ddnb.training import from_scratch

RATE = 44_100
AWKWARD = [
    "$$bass$$",
    "ca$h $tack \\frac{",
    "a, b",
    "kick:2",
    "a:b",
    '"quoted"',
    "it's",
    "🥁 drums",
    unicodedata.normalize("NFC", "Schläge"),
    unicodedata.normalize("NFD", "Schläge"),
    "キック",
    "طبل",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "x" * 120,
    "CON",
    "nul",
    "-rf",
    "--out",
    "a\tb",
    "100%",
    "{name}",
    " spaced ",
    "#hash & more",
]
"""Names that users have given their folders, or could."""

ON_DISK = [name for name in AWKWARD if "/" not in name and len(name.encode()) < 250]


def tone(i=0):
    return (0.3 * np.random.default_rng(i).standard_normal(5000).clip(-3, 3) * np.exp(-np.arange(5000) / 900)).astype(
        "f4"
    )


def shown_sound(name):
    return Shown(tone()[None], RATE, name)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on class folders of all these names but one of the two forms of one name."""
    place = tmp_path_factory.mktemp("names")
    names = [name for name in ON_DISK if name == unicodedata.normalize("NFC", name)]
    for i, name in enumerate(names):
        (place / "data" / name).mkdir(parents=True)
        soundfile.write(place / "data" / name / f"{name[:40]}.wav", tone(i), RATE, "PCM_16")
    net = from_scratch("tiny", frames=4096)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in ddnb.finetune(net, place / "data", place / "run", steps=1, batch_size=2, demos=0, validation=0):
            pass
    return ddnb.load(place / "run"), names, place


def test_every_name_is_a_category(trained):
    """A class folder that becomes no category, or another."""
    ckpt, names, _ = trained
    assert set(ckpt.categories) == set(names)


@pytest.mark.parametrize("name", ON_DISK)
def test_sounds_of_any_category_are_made_saved_packed_and_remade(name, trained, tmp_path):
    """A name that breaks a file, a record, a pack, a player or a picture."""
    ckpt, _, place = trained
    clips = ddnb.generate(ckpt, 1, category=name, steps=1, duration_s=0.05)
    assert clips.provenance.making.category == {unicodedata.normalize("NFC", name): 1.0}
    (path,) = clips.save(tmp_path / "out")
    assert path.name.isascii() and len(path.name) < 120
    with zipfile.ZipFile(ddnb.pack(clips, tmp_path / "kit.zip", instruments=True)) as archive:
        assert all(inside.isascii() for inside in archive.namelist())
        assert json.loads(archive.read(next(n for n in archive.namelist() if n.endswith("manifest.json"))))
    again = ddnb.remake(path.with_suffix(".json"), place / "run")
    np.testing.assert_allclose(again[0].audio, ddnb.read_clip(path).audio, atol=1e-3)


@pytest.mark.parametrize("name", AWKWARD)
def test_every_name_is_drawn_as_it_is(name):
    """Dollars were mathematics to Matplotlib, and long names overlapped."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of glyphs that its font lacks
        assert contact_sheet([shown_sound(name), shown_sound(name)])[:4] == b"\x89PNG"


@pytest.mark.parametrize("name", AWKWARD)
def test_no_name_is_html(name):
    """A name that runs in the page."""
    cards, _ = cards_of([shown_sound(name)], rest="")
    page = card_html(*cards[0])
    tags: list[tuple[str, dict]] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append((tag, dict(attributes)))
    parser.feed(page)
    assert {tag for tag, _ in tags} <= {"div", "b", "br", "span", "audio", "img"}
    assert not any(key in attributes for _, attributes in tags for key in ("onerror", "onload"))
    assert any(name.strip() in str(attributes.get("alt")) for _, attributes in tags)


@pytest.mark.parametrize("name", AWKWARD)
def test_every_name_can_be_given_on_the_command_line(name):
    """A comma or a colon in a name made it a mixture of others."""
    quoted = f'"{name.replace(chr(34), chr(34) * 2)}":1'
    parsed = parse_category(quoted)
    assert shares([name, "kick"], parsed) == {name: 1.0}
    if not any(mark in name for mark in ',:"'):
        assert shares([name, "kick"], parse_category(name)) == {name: 1.0}
    assert shares(["a:b"], parse_category("a:b")) == {"a:b": 1.0}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--category", "kick", "--category", "snare"], {"kick": 0.5, "snare": 0.5}),
        (["--category", "kick:2", "--category", "snare"], {"kick": 2 / 3, "snare": 1 / 3}),
        (["--category", "kick,snare", "--category", "kick"], {"kick": 2 / 3, "snare": 1 / 3}),
        (["--category", "kick:2,snare:1"], {"kick": 2 / 3, "snare": 1 / 3}),
        (["--category", "kick"], {"kick": 1.0}),
    ],
)
def test_repeated_categories_are_a_mixture(words, expected):
    """The last one won, without a word."""
    given = build_parser().parse_args(["generate", *words]).category
    assert shares(["kick", "snare"], given) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", ",", "kick,,snare", ":2", "kick:2,:1", "kick:x,snare:1"])
def test_categories_that_are_none_are_refused(text):
    """An empty name, or a weight that is no number."""
    with pytest.raises((ddnb.ArgumentError, Exception), match="NAME|Unknown category"):
        shares(["kick", "snare"], parse_category(text))


def test_case_and_unicode_form_do_not_matter_unless_they_tell_categories_apart():
    """``Kick`` was another category than ``kick``; a Mac's name another than that from a keyboard."""
    mac, keyboard = (unicodedata.normalize(form, "Schläge") for form in ("NFD", "NFC"))
    assert find_category("Kick", ["kick", "snare"]) == "kick"
    assert find_category(mac, [keyboard]) == keyboard and find_category(keyboard, [mac]) == mac
    assert find_category("Kick", ["kick", "KICK"]) is None and find_category("KICK", ["kick", "KICK"]) == "KICK"
    with pytest.raises(ddnb.ArgumentError, match=r"Unknown category 'hat'. Did you mean closed_hat or open_hat\?"):
        shares(["kick", "closed_hat", "open_hat"], "hat")
    with pytest.raises(ddnb.ArgumentError, match="Did you mean kick"):
        shares(["kick", "snare"], "kik")


def test_class_folders_that_differ_in_form_or_case_are_one_class(tmp_path):
    """They became two categories, of half the sounds each."""
    for i, name in enumerate(("Kick", "kick", *(unicodedata.normalize(form, "Schläge") for form in ("NFC", "NFD")))):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / f"{i}.wav", tone(i), RATE)
    assert ddnb.check_dataset(tmp_path).data.categories == ("Kick", "Schläge")


def test_class_folders_take_the_names_of_the_network(drums, tmp_path):
    """``Kick`` became a twelfth category beside ``kick``."""
    for name in ("Kick", "SNARE"):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "a.wav", tone(len(name)), RATE)
    fitted = ddnb.fit(drums, tmp_path)
    assert fitted.categories == drums.categories and set(fitted.info["fitted_to"]) == {"kick", "snare"}


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "cp437", "utf-8"])
def test_consoles_of_any_encoding_take_any_name(encoding, tmp_path):
    """Output into a file on Windows ended in a UnicodeEncodeError, and an empty file."""
    names = ["キック", "🥁", "Schläge", *([os.fsdecode(b"k\xfcck")] if sys.platform == "linux" else [])]
    for i, name in enumerate(names):
        (tmp_path / "data" / name).mkdir(parents=True)
        soundfile.write(io.BytesIO(), tone(), RATE, format="WAV")
        with (tmp_path / "data" / name / f"{i}.wav").open("wb") as file:
            soundfile.write(file, tone(i), RATE, format="WAV")
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    command = [sys.executable, "-m", "ddnb", "check-dataset", str(tmp_path / "data")]
    run = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    assert f"{len(names)} sounds".encode() in run.stdout
