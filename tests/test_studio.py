"""The Studio and what it is made of, without a kernel; runs on both widget stacks."""

import ast
import base64
import copy
import dataclasses
import html.parser
import importlib.util
import io
import json
import random
import sys
import threading
import time
import types
import warnings
from pathlib import Path

import ipywidgets
import numpy as np
import pytest
import soundfile

import ddnb
from ddnb import notices, widgets
from ddnb.clips.clip import Clip
from ddnb.clips.provenance import Provenance
from ddnb.clips.source import input_clip
from ddnb.display import plots
from ddnb.display.shown import Shown
from ddnb.errors import Cancelled
from ddnb.generation.beat import Beat
from ddnb.widgets import colab, jobs, sources
from ddnb.widgets.jobs import Jobs
from ddnb.widgets.region import Region

WAIT_S = 30


# One job at a time


@pytest.fixture(params=[True, False], ids=["foreground", "thread"])
def runner(request):
    return Jobs(foreground=request.param)


def test_a_job_hands_over_its_result_and_ends_full(runner):
    got = []
    assert runner.start("counting", lambda on_step, cancel: [on_step(i, 5) for i in range(6)] and 7, got.append)
    runner.wait(WAIT_S)
    assert got == [7] and not runner.busy
    assert runner.progress.bar.value == runner.progress.bar.max
    assert "done" in runner.progress.label.value and runner.message.value == ""


def test_an_error_is_shown_and_the_panel_lives_on(runner):
    """A dead button after the first typing error; a traceback that nobody sees."""
    button = ipywidgets.Button()
    runner.disable_while_busy(button)

    def broken(on_step, cancel):
        assert button.disabled
        raise ValueError("no <b>such</b> sound")

    runner.start("breaking", broken)
    runner.wait(WAIT_S)
    assert "no &lt;b&gt;such&lt;/b&gt; sound" in runner.message.value
    assert "<details>" in runner.message.value and "broken" in runner.message.value
    assert not button.disabled and not runner.busy and runner.cancel.disabled
    runner.start("again", lambda on_step, cancel: None)
    runner.wait(WAIT_S)
    assert "done" in runner.progress.label.value and runner.message.value == ""


@pytest.mark.parametrize("error", [Cancelled("enough"), KeyboardInterrupt()])
def test_a_stop_is_no_error(runner, error):
    def stopped(on_step, cancel):
        raise error

    runner.start("stopping", stopped)
    runner.wait(WAIT_S)
    assert "cancelled" in runner.progress.label.value and "<details>" not in runner.message.value
    assert not runner.busy


def test_an_error_while_showing_the_result_does_not_block_the_panel(runner):
    def show(result):
        raise RuntimeError("cannot draw")

    runner.start("drawing", lambda on_step, cancel: 1, show)
    runner.wait(WAIT_S)
    assert "cannot draw" in runner.message.value and not runner.busy


def test_warnings_of_a_job_are_read_in_the_panel(runner):
    runner.start("warning", lambda on_step, cancel: notices.warn("half of it is silent"))
    runner.wait(WAIT_S)
    assert "Half of it is silent." in runner.message.value


@pytest.mark.parametrize("error", [ValueError("no sound"), Cancelled("enough")])
def test_warnings_before_an_error_or_a_stop_are_read_in_the_panel(runner, error):
    def stopped(on_step, cancel):
        notices.warn("half of it is silent")
        raise error

    runner.start("warning", stopped)
    runner.wait(WAIT_S)
    assert "Half of it is silent." in runner.message.value
    assert ("no sound" in runner.message.value) == isinstance(error, ValueError)


def test_cancel_ends_a_job_at_its_next_step():
    runner, steps = Jobs(foreground=False), []

    def long(on_step, cancel):
        for i in range(10_000):
            if cancel.is_set():
                raise Cancelled("stopped")
            steps.append(i)
            on_step(i, 10_000)
            time.sleep(0.01)

    runner.start("long", long)
    while len(steps) < 3:
        time.sleep(0.01)
    assert not runner.cancel.disabled
    runner.cancel.click()
    began = time.monotonic()
    runner.wait(WAIT_S)
    assert time.monotonic() - began < 2 and len(steps) < 1000
    assert "cancelled" in runner.progress.label.value


def test_the_cancel_of_one_job_does_not_reach_the_next(runner):
    runner.cancel.click()  # nothing runs: a late click
    seen = []
    runner.start("next", lambda on_step, cancel: seen.append(cancel.is_set()))
    runner.wait(WAIT_S)
    assert seen == [False]


def test_of_two_clicks_one_counts():
    """Two jobs at once share a network and a screen; the second click is answered, not queued."""
    runner, go, ran = Jobs(foreground=False), threading.Event(), []

    def work(on_step, cancel):
        ran.append(1)
        go.wait(WAIT_S)

    assert runner.start("first", work)
    assert not runner.start("second", work)
    assert "Another job is running" in runner.message.value
    go.set()
    runner.wait(WAIT_S)
    assert ran == [1]


def test_a_hundred_clicks_from_many_threads_run_one_job_at_a_time():
    """JupyterLab serves clicks in several threads."""
    runner, running, most, begun = Jobs(foreground=False), [], [], []

    def work(on_step, cancel):
        running.append(1)
        most.append(len(running))
        time.sleep(0.002)
        running.pop()

    def click():
        for _ in range(25):
            begun.append(runner.start("work", work))
            time.sleep(0.001)

    threads = [threading.Thread(target=click) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while runner.busy:
        time.sleep(0.01)
    assert set(most) == {1} and sum(begun) == len(most) >= 2


def test_colab_starts_no_thread(monkeypatch):
    """What a thread changes is not shown there."""
    monkeypatch.delenv("DDNB_FOREGROUND", raising=False)
    monkeypatch.setattr(jobs, "in_colab", lambda: True)
    monkeypatch.setattr(threading, "Thread", None)
    runner, ran = Jobs(), []
    assert runner.foreground and runner.cancel.layout.display == "none"
    runner.start("here", lambda on_step, cancel: ran.append(threading.current_thread()))
    assert ran == [threading.main_thread()]


def test_voila_always_has_a_thread(monkeypatch):
    """A page has no stop button for a cell."""
    monkeypatch.setenv("SERVER_SOFTWARE", "voila/0.5.13")
    monkeypatch.setenv("DDNB_FOREGROUND", "1")
    assert not Jobs().foreground


def test_an_interrupted_job_in_a_cell_is_not_called_done(drums):
    """The verbs take the stop button for a cancel and return what is finished."""
    runner, made = Jobs(foreground=True), []

    def stop(*given):
        raise KeyboardInterrupt

    runner.start("making", lambda on_step, cancel: ddnb.generate(drums, 3, steps=2, on_step=stop), made.append)
    assert "cancelled" in runner.progress.label.value and len(made[0]) == 0
    assert "0 of 3 clips are finished" in runner.message.value


def test_a_job_that_does_not_look_at_cancel_has_none():
    """A click would be answered with "cancelled", over a pack that was written."""
    runner, go = Jobs(foreground=False), threading.Event()
    runner.start("packing", lambda on_step, cancel: go.wait(WAIT_S), can_cancel=False)
    assert runner.cancel.disabled
    runner.cancel.click()
    go.set()
    runner.wait(WAIT_S)
    assert "done" in runner.progress.label.value


def test_warnings_of_other_threads_stay_theirs():
    """catch_warnings is one for the whole process: a cell's own warnings would be lost, during the job and after it."""
    runner, go = Jobs(foreground=False), threading.Event()
    runner.start("working", lambda on_step, cancel: go.wait(WAIT_S))
    with pytest.warns(UserWarning, match="of the cell"):
        warnings.warn("of the cell", stacklevel=1)
    go.set()
    runner.wait(WAIT_S)
    with pytest.warns(UserWarning, match="later"):
        warnings.warn("later", stacklevel=1)
    assert runner.message.value == ""


def test_the_screen_is_not_flooded(monkeypatch):
    runner, values = Jobs(foreground=True), []
    runner.progress.bar.observe(lambda change: values.append(change["new"]), "value")
    runner.start("fast", lambda on_step, cancel: [on_step(i, 100_000) for i in range(1, 100_001)])
    assert len(values) < 100


# Sounds that come in


@pytest.fixture
def wav(tmp_path) -> Path:
    path = tmp_path / "my snare.wav"
    soundfile.write(path, 0.5 * np.sin(np.arange(8000) / 5), 16000)
    return path


def picker(shown=None, said=None):
    runner = Jobs(foreground=True)
    chosen = sources.SoundPicker("sound", (lambda s: None) if shown is None else shown.append, runner.guard)
    return (chosen, runner) if said else chosen


def test_a_path_is_a_sound(wav):
    shown = []
    chosen = picker(shown)
    chosen.path.value = f' "{wav}" '  # as Windows copies it
    assert chosen.chosen()(None).duration_s == 0.5 and shown[-1].duration_s == 0.5
    assert chosen.state == {"path": str(wav)}


def test_a_folder_offers_its_sounds(wav):
    chosen = picker()
    chosen.path.value = str(wav.parent)
    assert chosen.path.options == (str(wav),)
    with pytest.raises(ValueError, match="Choose a sound first"):
        chosen.chosen()


@pytest.mark.parametrize("path", ["nowhere.wav", "text.wav"])
def test_a_bad_path_is_told_and_keeps_what_was_chosen(path, wav, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("text.wav").write_text("no sound")
    chosen, runner = picker(said=True)
    chosen.path.value = str(wav)
    chosen.path.value = path
    assert path in runner.message.value
    assert chosen.chosen()(None).settings["source"]["name"] == wav.name


def test_a_file_that_ddnb_saved_is_known_by_its_record(drums, tmp_path):
    """A variation of a saved kick would forget that it is one, and could not be made again."""
    saved = ddnb.generate(drums, 1, 7, category="kick", steps=2).save(tmp_path)[0]
    chosen = picker()
    chosen.path.value = str(saved)
    assert chosen.state == {"path": str(saved)}
    varied = ddnb.vary(drums, chosen.chosen()(drums), 0.3, 1, steps=2)
    assert varied.settings["making"]["category"] == {"kick": 1.0}
    record = varied.save(tmp_path)[0]
    saved.unlink()
    np.testing.assert_array_equal(ddnb.remake(record).audio, varied.audio)


def test_an_upload_arrives_whole_and_leaves_no_trace_in_the_page(wav):
    files = []
    upload = sources.Upload(lambda *file: files.append(file))
    for name in ("a.wav", "a.wav"):  # the same file twice is two uploads
        upload._field.value = json.dumps([name, base64.b64encode(wav.read_bytes()).decode()])
    assert files == [("a.wav", wav.read_bytes())] * 2 and upload._field.value == ""


def test_on_colab_nothing_is_uploaded_by_the_panel(monkeypatch):
    """Its messages are smaller; there is a cell for it."""
    monkeypatch.setattr(sources, "in_colab", lambda: True)
    assert len(picker().children[0].children) == 1
    monkeypatch.setattr(sources, "in_colab", lambda: False)
    assert len(picker().children[0].children) == 2


@pytest.mark.parametrize(
    "name", ["a/b.wav", "..\\..\\c.wav", 'it\'s "one".wav', "🥁é.wav", "x" * 300 + ".wav", "noname"]
)
def test_an_upload_with_any_name_is_read_and_written_nowhere(name, wav, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    clip = sources.clip_of_bytes(name, wav.read_bytes())
    assert clip.duration_s == 0.5 and sorted(tmp_path.rglob("*")) == before
    assert "/" not in clip.settings["source"]["name"] and "\\" not in clip.settings["source"]["name"]
    assert widgets.player(clip).cards  # can be shown


def test_an_upload_that_is_too_large_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr(sources, "read", None)
    with pytest.raises(ValueError, match=r"huge\.wav has 300 MB; the limit of uploads is 7 MB"):
        sources.clip_of_bytes("huge.wav", bytes(300_000_000))


def test_an_upload_that_is_no_sound_is_called_by_its_own_name():
    with pytest.raises(ValueError, match="take 'é'.wav cannot be read as sound"):
        sources.clip_of_bytes("take 'é'.wav", b"text")


def test_the_stretch_follows_drags_and_survives_another_sound(wav):
    region = Region()
    region.value = (0.1, 0.2)  # of a loaded state, before its sound is there
    region.show(input_clip(str(wav)))
    assert region.value == (0.1, 0.2)
    region._span.value = "0.5 0.9"
    assert region.value == pytest.approx((0.25, 0.45))
    region._span.value = "nonsense"
    assert region.value == pytest.approx((0.25, 0.45))
    region.show(input_clip((np.ones((1, 100), np.float32), 1000)))
    assert 0 <= region.value[0] < region.value[1] <= 0.1
    assert "left:50.00%" in region._wave.value


# The panel


@pytest.fixture(scope="module")
def one_picture():
    return plots.picture(Shown(np.zeros((1, 100), np.float32), 44100, "any"))


@pytest.fixture
def panel(drums, tmp_path, monkeypatch, one_picture):
    """A panel that shows one picture for all sounds: test_widgets.py looks at the pictures."""
    monkeypatch.setattr("ddnb.display.html.picture", lambda sound: one_picture)
    panel = widgets.studio(drums, tmp_path / "packs", foreground=True)
    for tab in panel.tabs:
        tab.controls["steps"].value = 2
        if "n" in tab.controls:
            tab.controls["n"].value = 2
    return panel


def said(panel) -> str:
    return panel.jobs.message.value


def go(panel, title):
    panel._open(title)
    panel.make()
    assert said(panel) == ""
    return panel.results


def test_every_tab_makes_what_its_function_makes(panel, drums):
    """Controls that are read wrongly, or not at all."""
    made = go(panel, "Generate")
    expected = ddnb.generate(drums, 2, 0, category="kick", steps=2)
    assert [clip.seed for clip in made] == [0, 1]
    np.testing.assert_array_equal(made[1].audio, expected[1].audio)

    panel.vary(made[1])
    varied = go(panel, "Vary")
    np.testing.assert_array_equal(varied[0].audio, ddnb.vary(drums, expected[1], 0.5, 1, 0, steps=2)[0].audio)

    panel.tabs[2].a.take(made[0])
    panel.tabs[2].b.take(varied[0])
    panel.tabs[2].controls["n"].value = 3
    walked = go(panel, "Interpolate")
    np.testing.assert_array_equal(walked[0].audio, made[0].audio)
    np.testing.assert_array_equal(walked[2].audio, varied[0].audio)

    panel.tabs[3].picker.take(made[0])
    panel.tabs[3].region.value = (0.2, 0.3)
    filled = go(panel, "Inpaint / extend")
    outside = np.r_[0 : round(0.18 * 44100), round(0.32 * 44100) : 65536]
    np.testing.assert_array_equal(filled[0].audio[:, outside], made[0].audio[:, outside])
    for way, part in ((1, slice(0, 60000)), (2, slice(-60000, None))):
        panel.tabs[3].way.value = panel.tabs[3].WAYS[way]
        longer = go(panel, "Inpaint / extend")
        assert longer[0].audio.shape[-1] == 65536 + 44100
        np.testing.assert_array_equal(longer[0].audio[:, part], made[0].audio[:, part])

    panel.tabs[4].controls["bars"].value = 1
    (loop, _) = go(panel, "Loop")
    assert loop.loop and loop.audio.shape[-1] == round(4 * 60 / 128 * 44100)

    (beat,) = go(panel, "Beat")
    expected = ddnb.beat(drums, "house", bars=2, steps=2)
    assert beat.audio.shape == expected.clip.audio.shape
    np.testing.assert_array_equal(beat.audio, expected.clip.audio)


def test_a_variation_of_a_loop_is_a_loop(panel):
    panel.tabs[4].controls["bars"].value = 1
    loop = go(panel, "Loop")[0]
    panel.vary(loop)
    varied = go(panel, "Vary")[0]
    assert varied.loop and varied.audio.shape == loop.audio.shape
    assert "128bpm" in varied.name


def test_seeds_go_on_so_that_each_press_brings_new_sounds(panel):
    assert [c.seed for c in go(panel, "Generate")] == [0, 1]
    assert [c.seed for c in go(panel, "Generate")] == [2, 3]
    panel._new_seeds.value = False
    assert [c.seed for c in go(panel, "Generate")] == [4, 5] == [c.seed for c in go(panel, "Generate")]


def test_what_is_no_longer_shown_is_forgotten(panel):
    """Each result stayed in the kernel and in the page with its sounds: after an hour of work, gigabytes."""
    registry = ipywidgets.widgets.widget
    alive = registry._instances if hasattr(registry, "_instances") else ipywidgets.Widget.widgets  # since version 8
    counts = []
    for _ in range(4):
        for title in ("Generate", "Beat"):
            go(panel, title)
        sound = panel.results[0]
        panel.keep(sound)
        panel._unkeep(sound)
        go(panel, "Generate")
        counts.append(len(alive))
    assert counts[-1] == counts[1]


def test_keeping_and_taking_back(panel):
    made = go(panel, "Generate")
    (player,) = panel._shown.children
    player._keep[1].value = True
    assert panel.kept == [made[1]] and player.kept == [made[1]]
    panel.keep(made[1])
    assert len(panel.kept) == 1, "kept twice"
    (card,) = panel.keepers._list.children
    card._keep[0].value = False
    assert panel.kept == [] and player.kept == [] and not panel.keepers._list.children
    player._keep[0].value = True
    go(panel, "Generate")
    assert panel.kept == [made[0]], "lost with the next run"


def test_a_beat_is_kept_with_its_steps(panel):
    go(panel, "Beat")
    sequencer, row = panel._shown.children
    sequencer._change(lambda: sequencer.beat.with_steps("kick", "9" * 16))
    row.children[0].click()
    (kept,) = panel.kept
    assert isinstance(kept, Beat) and kept.tracks["kick"] == "9" * 16
    assert panel.state["Beat"]["groove"]["tracks"]["kick"] == "9" * 16
    again = go(panel, "Beat")
    assert again[0].settings["making"]["tracks"]["kick"] == "9" * 16


def test_the_state_is_json_and_comes_back_whole(panel, drums, tmp_path, wav):
    made = go(panel, "Generate")
    panel.vary(made[0])
    panel.tabs[2].a.path.value = str(wav)
    panel.tabs[3].picker.take(made[1])
    panel.tabs[3].region.value = (0.25, 0.5)
    panel.tabs[0].controls["category"].value = "snare"
    state = json.loads(json.dumps(panel.state))
    other = widgets.studio(drums, foreground=True)
    other.state = state
    assert other.state == state and other.tab.title == "Vary"
    np.testing.assert_array_equal(go(other, "Vary")[0].audio, go(panel, "Vary")[0].audio)
    assert len(json.dumps(state)) < 10_000


BAD_STATES = [
    {},
    [],
    {"ddnb studio": 2},
    {"ddnb studio": 1, "Generate": {"seed": 99, "n": "many"}},
    {"ddnb studio": 1, "Generate": {"seed": 99}, "Beat": {"pattern": "no such"}},
    {"ddnb studio": 1, "Generate": {"seed": 99}, "Inpaint / extend": {"way": "sideways"}},
    {"ddnb studio": 1, "Generate": {"seed": 99}, "Vary": 7},
    {"ddnb studio": 1, "Generate": {"seed": 99}, "training": 3},
]


@pytest.mark.parametrize("state", BAD_STATES)
def test_a_bad_state_is_told_and_changes_nothing(panel, state):
    before = panel.state
    with pytest.raises(ValueError):
        panel.state = state
    assert panel.state == before


def test_a_state_waits_for_its_network(panel, drums):
    """Its categories are not there before the network is loaded."""
    panel.tabs[0].controls["category"].value = "snare"
    state = panel.state
    other = widgets.studio("debug", foreground=True)
    other.state = state
    assert "press Load" in said(other) and other._model.value == "drums"
    other.load(other._model.value)
    assert other.state == state


def test_the_slider_of_a_training_blends_and_compares_with_the_start(drums):
    facts = drums.info | {"finetuned_from": "drums", "name": "louder", "source": "louder"}
    net = copy.deepcopy(drums.net)
    net.prior.log_levels += 1
    tuned = dataclasses.replace(drums, net=net, info=facts)
    panel = widgets.studio(tuned, foreground=True)
    panel.tabs[0].controls["n"].value = 1
    panel.tabs[0].controls["steps"].value = 1
    panel._new_seeds.value = False
    assert panel._blending.layout.display != "none"
    after = go(panel, "Generate")[0]
    panel._blending.slider.value = 0.5
    state = panel.state
    panel._blending.beside.value = True
    before, half = go(panel, "Generate")
    blended = ddnb.blend(drums, tuned, 0.5)
    for clip, ckpt in ((before, drums), (half, blended), (after, tuned)):
        expected = ddnb.generate(ckpt, 1, before.seed, category=panel.tabs[0].controls["category"].value, steps=1)[0]
        np.testing.assert_array_equal(clip.audio, expected.audio)
    assert [clip.provenance.model.name for clip in (before, half)] == ["drums", "louder-blend50"]
    assert state["training"] == 0.5 and widgets.studio(drums, foreground=True)._blending.layout.display == "none"


def test_a_state_names_the_checkpoint_that_was_loaded_not_what_is_typed(panel):
    panel._model.value = "glitch-440k"
    assert panel.state["model"] == "drums"


def test_a_state_comes_back_into_a_panel_that_was_used(panel, drums, wav, tmp_path):
    panel.vary(go(panel, "Generate")[0])
    panel.tabs[3].picker.take(panel.results[0])
    panel.tabs[3].region.value = (1.0, 1.2)
    panel.tabs[2].a.path.value = str(wav)
    panel.tabs[5].controls["pattern"].value = "techno"
    panel.tabs[5].controls["bpm"].value = 111
    state = json.loads(json.dumps(panel.state, sort_keys=True))  # as some editors write it
    short = tmp_path / "short.wav"
    soundfile.write(short, 0.1 * np.ones(4000), 8000)
    for chosen in (panel.tabs[1].picker, panel.tabs[2].a, panel.tabs[3].picker):
        chosen.take(str(short))
    panel.tabs[2].a.take(panel.results[1])
    panel.state = state
    assert panel.state == state and panel.state["Beat"]["bpm"] == 111
    assert go(panel, "Inpaint / extend")[0].settings["making"]["start_s"] == pytest.approx(1.0, abs=0.01)
    panel.state = {"ddnb studio": 1, "Vary": {"sound": {}}}
    with pytest.raises(ValueError, match="Choose a sound"):
        panel.tabs[1].picker.chosen()


def test_a_sound_of_a_state_does_not_push_aside_one_chosen_later(panel, drums):
    first, second = go(panel, "Generate")
    chosen = panel.tabs[1].picker
    chosen.take(first)
    state = chosen.state
    chosen.take(second)
    chosen.state = state
    get = chosen.chosen()
    chosen.take(second)  # while the first is being made again
    np.testing.assert_array_equal(get(drums).audio, first.audio)
    assert chosen.chosen()(drums) is second


def test_an_upload_in_a_state_asks_for_itself_again(wav):
    chosen, other = picker(), picker()
    chosen.take(sources.clip_of_bytes("my.wav", wav.read_bytes()))
    other.state = json.loads(json.dumps(chosen.state))
    assert "my.wav was an upload" in other._name.value


def test_presets_do_not_inherit_from_each_other(panel):
    panel._apply("wide textures")
    panel._apply("anything goes")
    state = panel.state["Generate"]
    assert (state["duration_s"], state["width"], state["guidance_scale"], state["n"]) == (0, 0, 1, 16)


def test_a_seed_typed_while_a_job_runs_stays(panel):
    tab = panel.tabs[0]
    seeds = tab.seeds()
    tab.controls["seed"].value = 500
    tab.advance_seed(seeds)
    assert tab.controls["seed"].value == 500


def test_tempo_and_steps_that_were_clicked_are_those_of_the_next_beat(panel):
    go(panel, "Beat")
    sequencer, _ = panel._shown.children
    sequencer._bpm.value = 90
    (again,) = go(panel, "Beat")
    assert again.settings["making"]["bpm"] == 90
    panel._apply("house beat")
    assert "groove" not in panel.state["Beat"] and panel.state["Beat"]["bpm"] == 124


def test_another_sound_of_a_beat_is_a_job_like_any_other(panel):
    """Two calls of one network at a time, and no way to stop the second."""
    go(panel, "Beat")
    sequencer, _ = panel._shown.children
    asked = []
    sequencer._run = lambda what, work, then: asked.append(what)
    sequencer.children[0].children[0].children[0].click()
    assert asked == ["another kick"]


class Tags(html.parser.HTMLParser):
    """Every element of a page, with its attributes."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def test_what_a_record_says_is_text(drums):
    """A record may come from a stranger's pack."""
    clip = ddnb.generate(drums, 1, steps=1)[0]
    evil = '"><img src=x onerror=alert(1)>'
    making = {"verb": "interpolate", "a": {"name": evil}, "b": {"name": evil}, "asked": 2, "sampler": evil}
    other = {"verb": "generate", "category": {evil: 1.0}, "method": evil}
    records = [Provenance.from_dict({**clip.settings, "making": each}) for each in (making, other)]
    clips = [Clip(clip.audio, 44100, 0, record) for record in records]
    player = widgets.player(clips)
    player._pick("a", clips[0])
    values = [player.children[0].value, player._status.value, *(card.children[0].value for card in player.cards)]
    for page in [*values, clips[0]._repr_html_()]:
        for tag, attributes in Tags(page).found:
            assert tag != "img" or attributes["src"].startswith("data:image/png")
            assert "onerror" not in attributes


def test_a_loop_of_minutes_can_be_heard_and_kept(drums):
    provenance = ddnb.generate(drums, 1, steps=1)[0].provenance
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, (2, 44100 * 200)).astype(np.float32)
    (card,) = widgets.player(Clip(noise, 44100, 0, provenance)).cards
    assert "base64" in card.children[0].value and len(card.children[0].value) < 8_000_000


def test_settings_are_saved_and_opened_but_never_overwritten(panel, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, state = panel.children[-1].children
    text, row = state.children
    _, apply, _, save, open_file = row.children
    panel.tabs[0].controls["seed"].value = 77
    save.click()
    assert json.loads(Path("studio.json").read_text())["Generate"]["seed"] == 77
    save.click()
    assert "exists already" in said(panel)
    panel.tabs[0].controls["seed"].value = 1
    open_file.click()
    assert panel.tabs[0].controls["seed"].value == 77
    text.value = "{"
    apply.click()
    assert "not JSON" in said(panel)


def test_every_preset_can_be_chosen(panel):
    presets = json.loads((Path(ddnb.__file__).parent / "assets" / "presets.json").read_text())
    assert len(presets) >= 8
    for name, preset in presets.items():
        panel._apply(name)
        assert panel.tab.title == preset["tab"]
        state = panel.state[preset["tab"]]
        assert all(state[k] == v for k, v in preset.items() if k != "tab"), name


@pytest.mark.parametrize(
    "title",
    ["Generate", pytest.param("Vary", marks=pytest.mark.slow), pytest.param("Loop", marks=pytest.mark.slow), "Beat"],
)
def test_surprises_are_valid_and_differ(panel, title, drums):
    panel.tabs[1].picker.take(ddnb.generate(drums, 1, steps=1)[0])
    panel._open(title)
    seen = set()
    for _ in range(3):
        panel.surprise()
        assert said(panel) == ""
        seen.add(panel.results[0].seed)
    assert len(seen) == 3


def test_without_a_sound_the_panel_says_what_to_do(panel):
    for title in ("Vary", "Interpolate", "Inpaint / extend"):
        panel._open(title)
        panel._make.click()
        assert "Choose a sound first" in said(panel)


def test_every_control_has_a_hint_on_both_stacks(panel):
    for tab in panel.tabs:
        for name, control in tab.controls.items():
            trait = "tooltip" if control.has_trait("tooltip") else "description_tooltip"
            assert getattr(control, trait) == tab.hints[name] and len(tab.hints[name]) > 12
            assert control.description
    help_text = panel.children[-1].children[0].value
    assert all(hint in help_text for tab in panel.tabs for hint in tab.hints.values())


def test_a_network_without_categories(panel, tmp_path):
    """The published ones have none: the control is off, and nothing is asked for."""
    panel.load("debug")
    assert panel.ckpt.name == "debug" and panel.tabs[0].controls["category"].disabled
    assert "category" not in go(panel, "Generate")[0].settings["making"]
    panel.load("no-such-model")
    assert "no-such-model" in said(panel) and panel.ckpt.name == "debug"


def test_packs_of_what_is_kept(panel, tmp_path):
    panel.keepers.export.click()
    assert "Nothing is kept" in said(panel)
    for clip in go(panel, "Generate"):
        panel.keep(clip)
    panel.keepers.name.value = 'a/b "c" 🥁'
    panel.keepers.export.click()
    panel.keepers.export.click()
    assert said(panel) == "" and len(set(panel.packs)) == 2
    assert all(path.parent == tmp_path / "packs" and path.is_file() for path in panel.packs)
    again = ddnb.remake(panel.packs[0])
    assert len(again) == 2
    assert base64.b64encode(panel.packs[1].read_bytes()).decode() in panel.keepers._done.value


def test_reports_a_folder_that_is_not_writable(panel, tmp_path):
    (tmp_path / "file").touch()
    panel.keep(go(panel, "Generate")[0])
    panel.keepers.folder.value = str(tmp_path / "file" / "inside")
    panel.keepers.export.click()
    assert said(panel) and panel.packs == []
    assert not panel.jobs.busy


@pytest.mark.slow
def test_copies_are_looked_for_among_training_sounds(panel, tmp_path):
    made = go(panel, "Generate")
    for clip in made:
        panel.keep(clip)
    folder = tmp_path / "training"
    made[0].save(folder, "float")
    for seed in range(12):
        ddnb.generate(panel.ckpt, 1, 100 + seed, category="synth", steps=4)[0].save(folder)
    panel.keepers.training.value = str(folder)
    panel.keepers.check.click()
    assert said(panel) == ""
    found = panel.keepers._found.value
    assert "near copy" in found and found.count("<audio") >= 2


def test_a_player_hands_picks_to_the_next_cell(drums):
    clips = ddnb.generate(drums, 3, steps=1)
    player = widgets.player(clips)
    buttons = {button.description: button for button in player.cards[1].children[2].children[1:]}
    for name, button in (("picked", "vary this"), ("a", "use as A"), ("b", "use as B")):
        assert getattr(player, name) is None
        buttons[button].click()
        assert getattr(player, name) is player.clips[1]
    assert player.kept == []
    player._keep[2].value = True
    assert player.kept == [player.clips[2]]


def test_sixteen_clips_stay_below_the_limit_of_colab(drums):
    clips = ddnb.generate(drums, 16, steps=1)
    stereo = [Clip(np.repeat(clip.audio, 2, 0), 44100, clip.seed, clip.provenance) for clip in clips]
    player = widgets.player(stereo)
    size = 0
    for card in player.cards:
        text, image, _ = card.children
        size += len(text.value) + len(bytes(image.value)) * 4 / 3
    assert len(player.cards) == 16 and size < 8_000_000


def test_pads_say_what_they_are_and_hold_no_second_copy_of_the_sound(drums):
    clips = ddnb.generate(drums, 3, 19, category="kick", steps=1)
    player = widgets.player(clips)
    pads = player.children[0].value
    assert pads.count("<button") == 3 and "base64" not in pads
    note = clips[0].provenance.root_note.name
    assert f'aria-label="clip 1, kick {note} drums, seed 19, 1.5 s"' in pads
    for i, card in enumerate(player.cards):
        (name,) = [word.split("=")[1] for word in card.children[0].value.split() if word.startswith("id=")]
        assert f'data-clip="{name}"' in pads.split("<button")[i + 1]


# Colab


@pytest.fixture
def google(monkeypatch, tmp_path):
    """A stand-in for Colab's package, which writes down what it is asked."""
    asked = []
    package, module = types.ModuleType("google"), types.ModuleType("google.colab")
    package.colab = module
    package.__path__ = module.__path__ = []
    module.__spec__ = importlib.util.spec_from_loader("google.colab", None)
    module.drive = types.SimpleNamespace(mount=lambda where: asked.append(("mount", where)))
    module.files = types.SimpleNamespace(download=lambda path: asked.append(("download", path)), upload=dict)
    module.output = types.ModuleType("google.colab.output")
    for name, value in (("google", package), ("google.colab", module), ("google.colab.output", module.output)):
        monkeypatch.setitem(sys.modules, name, value)
    monkeypatch.setattr(colab, "DRIVE", tmp_path / "drive")
    module.asked = asked
    return module


def test_colab_functions_say_so_elsewhere():
    for call in (colab.upload, colab.record_microphone, colab.drive_folder, lambda: colab.download("a.zip")):
        with pytest.raises(RuntimeError, match="on Colab only"):
            call()


def test_drive_is_mounted_and_has_a_folder(google, tmp_path):
    folder = widgets.drive_folder()
    assert folder == tmp_path / "drive" / "MyDrive" / "ddnb" and folder.is_dir()
    assert google.asked == [("mount", str(tmp_path / "drive"))]


def test_files_come_and_go_through_the_browser(google, tmp_path, wav, monkeypatch):
    monkeypatch.chdir(tmp_path)
    google.files.upload = lambda: {"my snare (1).wav": wav.read_bytes()}
    Path("my snare (1).wav").write_bytes(b"the copy that Colab leaves")
    first, second = widgets.upload()[0], widgets.upload()[0]
    assert first.read_bytes() == second.read_bytes() == wav.read_bytes() and first != second
    assert not Path("my snare (1).wav").exists()
    google.files.upload = lambda: {"text.wav": b"no sound", "good.wav": wav.read_bytes()}
    with pytest.raises(ValueError, match=r"text\.wav cannot be read.*Saved in uploads: good\.wav"):
        widgets.upload()
    assert (tmp_path / "uploads" / "good.wav").is_file()
    google.files.upload = dict
    with pytest.raises(ValueError, match="Nothing was uploaded"):
        widgets.upload()
    widgets.download(first)
    assert google.asked == [("download", str(first))]


def test_a_recording_arrives_as_a_file(google, tmp_path, wav):
    scripts = []

    def eval_js(script, timeout_sec):
        scripts.append((script, timeout_sec))
        return base64.b64encode(wav.read_bytes()).decode()

    google.output.eval_js = eval_js
    path = widgets.record_microphone(tmp_path / "take.wav", seconds=2)
    assert path.read_bytes() == wav.read_bytes()
    assert widgets.record_microphone(tmp_path / "take.wav", seconds=2).name == "take-2.wav"
    assert scripts[0][0].endswith("(2)") and scripts[0][1] > 2
    google.output.eval_js = lambda script, timeout_sec: "refused: Permission denied"
    with pytest.raises(RuntimeError, match="Permission denied.*Allow the microphone"):
        widgets.record_microphone(tmp_path / "no.wav")
    silence = io.BytesIO()
    soundfile.write(silence, np.zeros(1000), 48000, format="WAV")
    google.output.eval_js = lambda script, timeout_sec: base64.b64encode(silence.getvalue()).decode()
    with pytest.raises(ValueError, match="silent"):
        widgets.record_microphone(tmp_path / "no.wav")
    assert not (tmp_path / "no.wav").exists()
    with pytest.raises(ValueError, match="seconds=0"):
        widgets.record_microphone(seconds=0)


def test_only_this_package_knows_a_screen():
    """An import of widgets anywhere else would load them with every ddnb."""
    root = Path(ddnb.__file__).parent
    for path in root.glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name.partition(".")[0] for alias in node.names}
                assert not {"ipywidgets", "IPython", "widgets"} & names, path.name


def test_the_note_field_takes_a_note_or_a_key(drums):
    panel = widgets.studio(drums, foreground=True)
    tab = panel.tabs[0]
    for name, value in {"steps": 2, "n": 2, "category": "bass", "note": "A1", "duration_s": 0.1}.items():
        tab.controls[name].value = value
    assert [clip.provenance.root_note.name for clip in go(panel, "Generate")] == ["A1", "A1"]
    tab.controls["note"].value = "C major"
    assert all("s" not in clip.provenance.root_note.name for clip in go(panel, "Generate"))
    tab.controls["note"].value = "H9"
    panel._make.click()
    assert "no such note" in said(panel)
    tab.surprise(random.Random(0))
    assert tab.controls["note"].value == ""
