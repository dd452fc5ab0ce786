"""One hostile name through everything that is shown in a page, read with an HTML parser; runs on both widget stacks."""

import importlib
import unicodedata
from dataclasses import replace
from functools import partial
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree
from zipfile import ZipFile

import ipywidgets
import numpy as np
import pytest
import soundfile
from ipywidgets.widgets.widget_description import DescriptionWidget
from named import write_named

import ddnb
from ddnb import notices, widgets
from ddnb.clips.clip import Clip, Clips
from ddnb.clips.provenance import InputRecord, Making, ModelRecord, Provenance, RootNote
from ddnb.display import plots
from ddnb.display.shown import Shown
from ddnb.generation.beat import Beat
from ddnb.widgets import sources
from ddnb.widgets import training as widget_training
from ddnb.widgets.jobs import Jobs
from ddnb.widgets.region import Region
from ddnb.widgets.scripts import attribute
from ddnb.widgets.sequencer import Sequencer

UMLAUTS = unicodedata.normalize("NFC", "ä") + unicodedata.normalize("NFD", "ä")
TEXT = f"<script>alert(1)</script>\"'&$_{{x}},:<img src=x onerror=alert(1)>\u200f🥁{UMLAUTS}".ljust(210, "n")
FILE = TEXT.replace("/", "")
"""The same as a part of a path."""

RUNS = "alert(1)"
SPOKEN = {"alt", "aria-label", "title", "download"}
"""Attributes that hold text."""

PLAIN = {"controls", "loop", "preload", "style", "id", "type", "role", "colspan", "checked", "open", "draggable"}
PLAIN |= {"accept", "data-limit", "data-clip", "data-key", "data-lm-suppress-shortcuts"}
TAGS = {"div", "span", "p", "b", "br", "small", "ul", "li", "table", "tr", "td", "th", "pre", "code", "details"}
TAGS |= {"summary", "audio", "img", "a", "label", "input", "output", "button"}
LINKS = ("data:audio/wav;base64,", "data:image/png;base64,", "data:application/zip;base64,", "#")
HANDLERS = {
    "players.js": ("toggleLoop", "download", "pressPad", "pressKey"),
    "region.js": ("startRegion", "drawRegion", "endRegion"),
    "sources.js": ("readFile",),
}
OWN_CODE = {unescape(attribute(file, name)) for file, names in HANDLERS.items() for name in names}


class Page(HTMLParser):
    """What a browser makes of a piece of HTML."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), "an attribute twice"
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def handle_data(self, data):
        self.texts.append(data)

    def handle_comment(self, data):
        self.tags.append(("comment", {}))

    handle_decl = handle_pi = unknown_decl = handle_comment

    @property
    def shown(self) -> str:
        """All that is text, in attributes as well."""
        spoken = [value for _, attributes in self.tags for key, value in attributes.items() if key in SPOKEN]
        return "\n".join(["".join(self.texts), *spoken])


def checked(text: str) -> str:
    """Check that a page holds this package's own elements, attributes, code and links only; return its text."""
    page = Page(text)
    assert {tag for tag, _ in page.tags} <= TAGS
    for _, attributes in page.tags:
        for key, value in attributes.items():
            if key.startswith("on"):
                assert value in OWN_CODE
            elif key in ("src", "href"):
                assert value.startswith(LINKS)
            else:
                assert key in SPOKEN or (key in PLAIN and RUNS not in value), key
    return page.shown


def every(widget: ipywidgets.Widget):
    """Yield a widget and all that is inside it."""
    yield widget
    for child in getattr(widget, "children", ()):
        yield from every(child)


def checked_options(box: ipywidgets.Combobox) -> None:
    """Check the options of a field, which ipywidgets 7 writes as HTML: ``<option value="${e}"></option>``."""
    if ipywidgets.__version__.startswith("7."):
        page = Page("\n".join(f'<option value="{option}"></option>' for option in box.options))
        assert [(tag, list(attributes)) for tag, attributes in page.tags] == [("option", ["value"])] * len(box.options)


def checked_widgets(*given: ipywidgets.Widget) -> str:
    """Check all that is inside the widgets; return their text.

    Descriptions are HTML in ipywidgets 7, labels are mathematics in both.
    """
    texts = []
    for widget in (inner for each in given for inner in every(each)):
        assert not isinstance(widget, ipywidgets.Label | ipywidgets.HTMLMath)
        if isinstance(widget, DescriptionWidget):
            assert not set(widget.description) & set("<>&$\"'"), widget.description
            assert not getattr(widget, "description_allow_html", False)
        if isinstance(widget, ipywidgets.Combobox):
            checked_options(widget)
        if isinstance(widget, ipywidgets.HTML):
            texts.append(checked(widget.value))
        if isinstance(widget, ipywidgets.Button):  # a text node in both
            texts.append(widget.description)
            assert RUNS not in widget.icon
        assert not any(RUNS in name for name in widget._dom_classes)
        assert RUNS not in str(getattr(widget, "_titles", ())) + str(getattr(widget, "titles", ()))
    return "\n".join(texts)


def noise(frames: int = 5000, seed: int = 0) -> np.ndarray:
    return 0.2 * np.random.default_rng(seed).standard_normal((1, frames)).clip(-3, 3).astype(np.float32)


def write_sounds(folder: Path, n: int = 1, seed: int = 0) -> list[Path]:
    """Write sounds of hostile names into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i}{FILE}.wav" for i in range(n)]
    for i, path in enumerate(paths):
        soundfile.write(path, noise(seed=100 * seed + i).T, 48000, "PCM_16")
    return paths


def recorded(verb: str = "generate", **more) -> Clip:
    """A clip whose record says the name wherever it can."""
    each = {"sampler": TEXT, "method": TEXT, "grid": TEXT, "key": TEXT, "note_from": TEXT, "pattern": TEXT}
    making = Making(verb, category={TEXT: 1.0}, steps=2, asked=1, tracks={TEXT: "9..."}, **each, **more)
    model = ModelRecord(TEXT, TEXT, 48000, 4096, licence=TEXT, credit=TEXT, weights_sha256=TEXT)
    return Clip(noise(), 48000, 1, Provenance(making, None, model, root_note=RootNote(60, TEXT, 0.0, TEXT)))


def uploaded() -> Clip:
    """A sound of one's own with that name."""
    return Clip(noise(), 48000, 0, Provenance(source=InputRecord(FILE + ".wav", "0" * 64), model=ModelRecord(TEXT)))


MADE = {
    "generated": recorded,
    "varied": lambda: recorded("vary", source=InputRecord(TEXT, "0" * 64), strength=0.5),
    "interpolated": lambda: recorded("interpolate", a=InputRecord(TEXT, "0" * 64), b=InputRecord(TEXT, "0" * 64)),
    "loop": lambda: recorded(loop=True, bpm=120.0, bars=1),
    "uploaded": uploaded,
}


@pytest.fixture(autouse=True)
def one_picture(monkeypatch):
    """One picture for all sounds: other tests look at the pictures."""
    png = plots.picture(Shown(noise(), 48000, "any"))
    monkeypatch.setattr("ddnb.display.html.picture", lambda sound: png)


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> ddnb.Checkpoint:
    """A network of this name, with a category of this name, from a folder of this name."""
    folder = tmp_path_factory.mktemp("names") / FILE
    folder.mkdir()
    path = write_named(folder / f"{FILE}.safetensors", [TEXT, "other"], licence=TEXT, credit=TEXT)
    return ddnb.load(path, device="cpu")


@pytest.fixture
def groove() -> Beat:
    sounds, steps = {TEXT: uploaded(), "b": recorded()}, {TEXT: "9...5...9...5...", "b": "....9......9...."}
    return Beat(sounds, steps, 120, 1, 0.5, 48000, 0, pattern=TEXT)


@pytest.fixture
def panel(network, tmp_path):
    panel = widgets.studio(network, tmp_path / FILE, foreground=True)
    for tab in panel.tabs:
        tab.controls["steps"].value = 2
        if "n" in tab.controls:
            tab.controls["n"].value = 2
    return panel


@pytest.mark.parametrize("made", MADE)
def test_players(made):
    clip = MADE[made]()
    checked(clip._repr_html_())
    player = widgets.player([clip, clip], labels=[TEXT, TEXT])
    for button in (one for one in every(player) if isinstance(one, ipywidgets.Button)):
        button.click()
    assert TEXT in checked_widgets(player)
    checked_widgets(widgets.player(clip))


def test_clips_and_beats_in_a_cell(groove):
    clips = Clips(np.stack([noise(), noise()]), 48000, [1, 2], recorded().provenance)
    checked(clips._repr_html_())
    checked(groove._repr_html_())


def test_the_sequencer(groove, network):
    panel = Sequencer(groove, network)
    for button in [one for one in every(panel) if isinstance(one, ipywidgets.Button)][:4]:
        button.click()
    assert TEXT.replace("_", " ") in checked_widgets(panel)
    assert not panel._change(lambda: groove.with_steps(TEXT, TEXT))
    assert RUNS in checked_widgets(panel)


def test_the_message_of_a_job():
    runner = Jobs(foreground=True)

    def work(on_step, cancel):
        on_step(1, 3)
        notices.warn(TEXT)
        raise ValueError(TEXT)

    runner.start(TEXT, work)
    text = checked_widgets(runner)
    assert text.count(TEXT) >= 3  # the error, its traceback, the warning
    runner.start(TEXT, lambda on_step, cancel: [on_step(i, 3) for i in range(4)])
    runner.guard(partial(int, TEXT))()
    checked_widgets(runner)


def test_progress_in_a_cell(monkeypatch):
    shown = []
    monkeypatch.setattr("ddnb.widgets.jobs.display", shown.append)
    widgets.Progress(TEXT)(1, 50)
    assert TEXT in checked_widgets(*shown)


def test_the_choice_of_a_sound(tmp_path):
    runner, region = Jobs(foreground=True), Region()
    picker = sources.SoundPicker("sound", region.show, runner.guard)
    (path,) = write_sounds(tmp_path / FILE)
    for typed in (str(tmp_path / FILE), str(path), str(tmp_path / f"missing{FILE}"), f"~{FILE}"):
        picker.path.value = typed
        checked_widgets(picker, region, runner)
    picker.path.value = str(path)
    assert path.name in checked_widgets(picker, region)
    picker._on_change(uploaded())
    assert FILE in checked_widgets(region)
    for name, content in ((FILE + ".wav", path.read_bytes()), (TEXT, b"no sound"), (TEXT, b"")):
        runner.guard(lambda name=name, content=content: picker.take(sources.clip_of_bytes(name, content)))()
        checked_widgets(picker, region, runner)
    for state in ({"upload": TEXT}, {"path": TEXT}, {"record": recorded().settings}, {TEXT: TEXT}):
        picker.state = state
        checked_widgets(picker, runner)


LESS = [pytest.param(title, marks=pytest.mark.slow) for title in ("Generate", "Interpolate", "Loop")]


@pytest.mark.parametrize("title", ["Vary", "Inpaint / extend", *LESS])
def test_every_tab_of_the_studio(title, panel, tmp_path):
    """Sounds of the category, made from the upload, kept, and named in a message."""
    (path,) = write_sounds(tmp_path / FILE)
    tab = next(tab for tab in panel.tabs if tab.title == title)
    panel._open(title)
    for picker in tab.pickers.values():
        picker.path.value = str(path)
    tab.controls["category"].value = TEXT
    panel.make()
    assert len(panel.results) == 2, panel.jobs.message.value
    for clip in panel.results:
        panel.keep(clip)
    panel.vary(panel.results[0])
    assert panel.tabs[0].controls["category"].options[1] == TEXT
    checked_widgets(panel)


def test_the_beat_of_the_studio(panel, groove):
    panel._show(groove, panel.tabs[5], None)
    panel.keep(groove)
    assert TEXT.replace("_", " ") in checked_widgets(panel)


def test_messages_of_the_studio(panel, tmp_path, monkeypatch):
    """What cannot be loaded or applied is named."""
    monkeypatch.chdir(tmp_path)
    panel.load(TEXT)
    assert RUNS in panel.jobs.message.value
    checked_widgets(panel)
    for broken in ({"model": TEXT}, {"Generate": {"category": TEXT, "steps": TEXT}}, {"Beat": {"pattern": TEXT}}):
        panel.jobs.guard(lambda broken=broken: setattr(panel, "state", {"ddnb studio": 1, **broken}))()
        assert RUNS in panel.jobs.message.value
        checked_widgets(panel)
    buttons = {one.description: one for one in every(panel) if isinstance(one, ipywidgets.Button)}
    file = next(one for one in every(panel) if isinstance(one, ipywidgets.Text) and one.description == "file")
    for file.value in (TEXT, str(tmp_path / f"{FILE}.json")):
        for pressed in ("Open", "Save", "Open", "Save"):
            buttons[pressed].click()
            checked_widgets(panel)


def test_a_preset(network, monkeypatch, tmp_path):
    """Presets are files of a folder in the package: one may be added."""
    module = importlib.import_module("ddnb.widgets.studio")
    monkeypatch.setattr(module, "_presets", lambda: {TEXT: {"tab": "Generate", "category": TEXT, "n": 1}})
    panel = widgets.studio(network, tmp_path, foreground=True)
    presets = next(one for one in every(panel) if isinstance(one, ipywidgets.Dropdown) and one.description == "preset")
    presets.value = TEXT
    assert panel.tabs[0].controls["category"].value == TEXT
    checked_widgets(panel)


def test_a_pack_and_its_instruments(panel, tmp_path):
    """The link to the pack, its originality report, and the XML of its instrument."""
    panel.keep(uploaded())
    panel.keep(recorded())
    keepers = panel.keepers
    write_sounds(tmp_path / "data" / FILE, 2)
    keepers.training.value = str(tmp_path / "data")
    keepers.check.click()
    assert FILE in checked(keepers._found.value), panel.jobs.message.value
    keepers.name.value, keepers.instruments.value = TEXT, True
    keepers.export.click()
    assert FILE in checked(keepers._done.value), panel.jobs.message.value
    checked_widgets(panel)
    with ZipFile(panel.packs[0]) as pack:
        assert all(name.isascii() and RUNS not in name for name in pack.namelist())
        (instrument,) = (pack.read(name) for name in pack.namelist() if name.endswith(".dspreset"))
        assert {element.tag for element in ElementTree.fromstring(instrument).iter()} == {
            *("DecentSampler", "groups", "group", "sample")
        }


def test_the_originality_report(tmp_path, groove):
    write_sounds(tmp_path / FILE, 2)
    (tmp_path / FILE / f"bad{FILE}.wav").write_bytes(b"no sound")
    found = ddnb.originality([uploaded(), groove], tmp_path / FILE)
    named = replace(found, rows=tuple(replace(row, verdict=TEXT, track=TEXT) for row in found.rows))
    assert FILE in checked(found._repr_html_())
    assert TEXT in checked(named._repr_html_())


def test_the_report_on_a_dataset(network, tmp_path):
    for name in (FILE, f"other{FILE}"):
        write_sounds(tmp_path / FILE / name, 3)  # the same in both: near copies
    (tmp_path / FILE / FILE / f"bad{FILE}.wav").write_bytes(b"no sound")
    report = ddnb.check_dataset(tmp_path / FILE)
    assert RUNS in checked(report._repr_html_())
    assert RUNS in checked_widgets(widgets.dataset_player(report))


def test_the_training_panel_and_its_demos(network, tmp_path):
    write_sounds(tmp_path / "data" / FILE, 2)
    (tmp_path / "data" / FILE / f"bad{FILE}.wav").write_bytes(b"no sound")
    run = tmp_path / FILE
    settings = {"steps": 1, "batch_size": 2, "demos": 2, "validation": 0}
    training = widgets.train(network, tmp_path / "data", run, foreground=True, **settings)
    assert RUNS in checked_widgets(training), "the file that cannot be used is not named"
    checked(widgets.demos(run).data)
    write_sounds(run / "demos" / "step000001")
    assert FILE in checked(widgets.demos(run).data)
    view = widget_training._View()
    view.fail(ValueError(TEXT))
    assert TEXT in checked_widgets(view)
    with pytest.raises(FileNotFoundError):
        widgets.train(network, tmp_path / f"missing{FILE}", tmp_path / "other", foreground=True, **settings)


@pytest.mark.parametrize(
    "page", [TEXT, f"<b>{TEXT}</b>", f'<img alt="{TEXT}">', "<a onclick='alert(1)'>", "<!-- x -->"]
)
def test_the_check_sees_what_is_not_escaped(page):
    with pytest.raises(AssertionError):
        checked(page)
