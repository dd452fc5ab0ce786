"""What notebooks show, without a kernel: runs on both widget stacks."""

import base64
import html
import io
import re
import threading
import time

import ipywidgets
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from safetensors.torch import load_file

import ddnb
from ddnb import check_dataset, finetune, notices, widgets
from ddnb.clips.clip import Clip, Clips
from ddnb.clips.provenance import Provenance
from ddnb.display import plots
from ddnb.training import dataset, loop, report_html
from ddnb.training.loop import TrainingStep, from_scratch
from ddnb.training.trainer import Trainer
from ddnb.widgets import jobs
from ddnb.widgets import training as widget_training

PROVENANCE = Provenance.from_dict({"model": {"name": "model <b>&"}, "making": {"asked": 3}, "machine": {}})


def clips(audio, rate=44100):
    audio = np.asarray(audio, dtype=np.float32)
    return Clips(audio, rate, list(range(len(audio))), PROVENANCE)


@pytest.fixture
def three():
    """A quiet tone, a loud one that goes over full scale, and silence."""
    tone = np.sin(2 * np.pi * 440 * np.arange(22050) / 44100)
    return clips([[0.1 * tone] * 2, [1.5 * tone] * 2, [0 * tone] * 2])


def sounds(page):
    """Decode every player of a page, as a browser would."""
    data = re.findall(r'<audio [^>]*src="data:audio/wav;base64,([^"]+)"', page)
    return [soundfile.read(io.BytesIO(base64.b64decode(one))) for one in data]


def test_every_clip_has_a_player_with_its_own_sound_at_its_own_level(three):
    """A player that normalises hides which clip is loud."""
    page = three._repr_html_()
    heard = sounds(page)
    assert len(heard) == 3
    for (sound, rate), clip in zip(heard, three, strict=True):
        assert rate == 44100
        peak = np.abs(clip.audio).max()
        expected = clip.audio * (10 ** (-1 / 20) / peak if peak > 1 else 1)  # over full scale: to -1 dBFS, and said
        np.testing.assert_allclose(sound.T, expected, atol=1e-4)
    assert "peak -20.0 dBFS" in page
    assert page.count("lowered by 5 dB") == 1
    assert "silent" in page


def test_players_need_no_script_or_style_and_start_nothing(three):
    """Jupyter strips both from a stranger's notebook; browsers and classes of thirty do not want autoplay."""
    page = three._repr_html_()
    for word in ("<script", "<style", "onclick", "autoplay", "<source", "color:"):
        assert word not in page
    assert page.count("aria-label=") == page.count("alt=") == 3


def test_names_are_text_not_html(three):
    assert "<b>&" not in three._repr_html_()


def test_player_is_made_of_widgets_with_the_same_content(three):
    player = widgets.player(three)
    assert len(player.cards) == 3
    for card, clip in zip(player.cards, three, strict=True):
        caption, image, _ = card.children
        assert clip.name in caption.value
        assert len(sounds(caption.value)) == 1
        assert Image.open(io.BytesIO(bytes(image.value))).size == (560, 300)
    assert len(widgets.player(three[0]).cards) == 1


@pytest.mark.slow
def test_many_sounds_stay_below_the_limit_of_one_output():
    """Colab drops an output of more than about 10 MB."""
    many = clips(np.random.default_rng(0).standard_normal((40, 2, 65536)) * 0.1, 48000)
    page = many._repr_html_()
    assert "previews" in page
    assert len(page) < 8_100_000
    shown = page.count("<audio")
    assert 10 < shown < 40
    assert f"clips[{shown}:]" in page
    sound, rate = sounds(page)[0]
    assert rate == 22050
    assert len(sound) / rate == pytest.approx(65536 / 48000, abs=0.01)


def test_the_picture_shows_when_and_how_high():
    """Half a second of silence, then a 5 kHz tone: the left half is dark, and the tone is a line, not everywhere."""
    sound = np.zeros((1, 44100), np.float32)
    sound[0, 22050:] = 0.5 * np.sin(2 * np.pi * 5000 * np.arange(22050) / 44100)
    picture = np.asarray(
        Image.open(io.BytesIO(plots.picture(Clip(sound, 44100, 0, PROVENANCE).shown()))).convert("RGBA")
    )
    spectrogram = picture[145:262, :, :3].sum(axis=-1).astype(float)
    left, right = spectrogram[:, 70:290], spectrogram[:, 315:535]
    assert right.max() > left.max() + 100
    rows = right.mean(axis=1)
    assert rows.max() > 2 * np.median(rows)
    waveform = picture[12:130, :, 3] > 0
    assert waveform[:, 315:535].sum() > 10 * waveform[:, 70:290].sum()


@pytest.mark.parametrize("frames", [1, 10, 600])
def test_very_short_clips_can_be_shown(frames):
    assert len(sounds(clips(np.full((1, 2, frames), 0.1))._repr_html_())) == 1


def test_clips_show_themselves(three):
    assert len(sounds(three[1]._repr_html_())) == 1
    assert "interrupted" in three[:0]._repr_html_()


def shown(report):
    return Image.open(io.BytesIO(report_html.dataset_picture(report.data, report.clip_frames))).convert("RGBA")


def test_a_dataset_report_shows_itself_with_a_picture():
    """The same words as in print, as text; a picture without a background, in a colour that is read on any."""
    report = check_dataset(dataset.EXAMPLES)
    page = report._repr_html_()
    for line in str(report).splitlines():
        assert html.escape(line.removeprefix("- ")) in page
    assert page.count("<img alt=") == 1
    for word in ("<script", "<style", "color:", "$"):
        assert word not in page
    picture = np.asarray(shown(report)).astype(float)
    assert (picture[0, :, 3] == 0).mean() > 0.5
    text = picture[:40, :, :3][picture[:40, :, 3] == 255] / 255  # the heading
    linear = np.where(text <= 0.04045, text / 12.92, ((text + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    dark = 0.0056  # of #111
    assert ((1.05 / (luminance + 0.05)) > 4).all() and (((luminance + 0.05) / (dark + 0.05)) > 4).all()


def test_names_in_a_dataset_report_are_text(tmp_path):
    """Neither HTML nor, in the picture, mathematics: an odd number of dollars would be an error."""
    for name in ("<img src=x onerror=y>", "a$b", "$x^2$ \\frac"):
        (tmp_path / "<i>").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "<i>" / f"{name}.wav", 0.01 * np.random.default_rng(len(name)).random(2000), 44100)
    page = check_dataset(tmp_path)._repr_html_()
    assert "<i>" not in page and "<img src" not in page
    assert "&lt;img src=x" in page


@pytest.mark.parametrize(("sounds", "expected_rows"), [(1, 1), (4, 1), (5, 2), (40, 4)])
def test_the_picture_grows_with_the_sounds_up_to_sixteen(sounds, expected_rows, tmp_path):
    for i in range(sounds):
        soundfile.write(tmp_path / f"{i}.wav", np.random.default_rng(i).uniform(-0.5, 0.5, 500), 44100)
    solid = np.asarray(shown(check_dataset(tmp_path)))[..., 3] == 255
    wide = solid[:, :300].mean(axis=1) > 0.5  # the first column of spectrograms
    assert np.count_nonzero(np.diff(wide.astype(int)) == 1) == expected_rows


def test_every_class_is_in_the_picture():
    sounds = [
        dataset.Sound(f"{c}/{i}", c, 0, 1, 1, 1, 1, "", 0, 0, 0) for c, n in (("a", 90), ("b", 2)) for i in range(n)
    ]
    chosen = report_html.spread(sounds, 16)
    assert len(set(chosen)) == 16 and chosen == sorted(chosen)
    assert {90, 91} <= set(chosen)
    assert max(np.diff(chosen[:14])) < 20  # from all over the big one
    assert report_html.spread(sounds[88:], 16) == [0, 1, 2, 3]


def test_progress_ends_full_and_says_how_to_stop(monkeypatch):
    shown = []
    monkeypatch.setattr(jobs, "display", shown.append)
    progress = widgets.Progress("making <b>")
    assert not shown
    progress(1, 50, None)
    (box,) = shown
    bar, label = box.children
    assert isinstance(bar, ipywidgets.IntProgress)
    assert "stop button" in label.value
    for done in range(2, 51):
        progress(done, 50, None)
    assert bar.value == bar.max
    assert "done in" in label.value
    assert "<b>" not in label.value
    assert len(shown) == 1
    progress(1, 50, None)
    assert len(shown) == 2 and bar.value == bar.max, "the next call has a bar, and a clock, of its own"


def test_progress_of_a_download_of_unknown_size(monkeypatch):
    monkeypatch.setattr(jobs, "display", lambda _: None)
    progress = widgets.Progress("downloading")
    progress(5_000_000, None)
    assert "5 MB" in progress.box.label.value


# Training


@pytest.fixture
def screen(monkeypatch):
    """What was displayed."""
    shown = []
    monkeypatch.setattr(widget_training, "display", shown.append)
    return shown


def parts(screen):
    """Bar, label, curve and notes of the only thing on the screen."""
    (box,) = screen
    head, curve, notes = box.children
    return (*head.children, curve, notes)


def records(first=0, last=50, steps=50, closed=None, **fields):
    """What finetune yields: every tenth step is validated, with the lowest error at step 30."""
    try:
        for step in range(first, last + 1):
            loss = 1 / (1 + step) if step else None
            held_out = 0.1 + abs(step - 30) / 50 if step % 10 == 0 else None
            yield TrainingStep(step, steps, loss, 1e-3, 0.01, 0.9, held_out, **fields)
    finally:
        if closed is not None:
            closed.append(step)


def test_follow_hands_on_every_record_and_ends_full(screen):
    seen = [record.step for record in widgets.follow(records())]
    assert seen == list(range(51))
    bar, label, curve, notes = parts(screen)
    assert bar.value == bar.max
    assert "done in" in label.value and "step 50 of 50" in label.value
    assert "validation loss 0.5000, best 0.1000 at step 30" in label.value
    assert curve.layout.display != "none" and notes.value == ""
    assert Image.open(io.BytesIO(bytes(curve.value))).size == (700, 280)


def test_follow_says_how_long_and_how_to_stop_while_it_runs(screen, monkeypatch):
    """The time left is that of the steps to come; a run that goes on at step 40 has not done 40 in no time."""
    now = [0.0]
    monkeypatch.setattr(widget_training.time, "monotonic", lambda: now[0])
    for record in widgets.follow(records(first=40, last=90, steps=100)):
        now[0] += 30
        if record.step == 60:
            break
        label = parts(screen)[1].value
        assert "stop button" in label and f"step {record.step} of 100" in label
    assert "20 min left" in label  # 41 steps of 30 s
    assert parts(screen)[0].value == 600


def test_follow_is_on_the_screen_before_the_first_step(screen):
    """The first record comes after demos of the untrained network: minutes, of a large one on a CPU."""
    seen = []

    def slow():
        seen.append(parts(screen)[1].value)
        yield from records()

    next(widgets.follow(slow()))
    assert seen == ["training: preparing"]


def test_follow_draws_seldom(screen, monkeypatch):
    """Drawing at every step would take longer than training."""
    drawn = []
    monkeypatch.setattr(widget_training, "loss_picture", lambda *given: drawn.append(given) or b"png")
    for _ in widgets.follow(records(last=2000, steps=2000)):
        pass
    assert 2 <= len(drawn) <= 3
    losses, validations, steps = drawn[-1]
    assert len(losses) == 2000 and len(validations) == 201 and steps == 2000


def test_an_interrupt_while_drawing_saves_and_ends_quietly(screen, monkeypatch):
    closed, interrupts = [], iter([KeyboardInterrupt])

    def draw(losses, validations, steps):
        if len(losses) == 20:
            for interrupt in interrupts:
                raise interrupt
        return b"png"

    monkeypatch.setattr(widget_training, "loss_picture", draw)
    monkeypatch.setattr(
        widget_training._View, "draw_at", property(lambda self: 0.0, lambda self, at: None), raising=False
    )
    seen = [record.step for record in widgets.follow(records(closed=closed))]
    assert seen == list(range(20)) and closed == [20]
    assert "step 20 of 50: stopped; run the same cell again to resume" in parts(screen)[1].value


def test_an_interrupt_in_a_step_is_told_and_gone_on_from(screen, monkeypatch, tmp_path):
    """finetune settles that one itself and ends without an error, as if it were done."""
    step = Trainer.train_step

    def interrupted(trainer):
        if trainer.step == 2:
            raise KeyboardInterrupt
        return step(trainer)

    ckpt = from_scratch("tiny", sample_rate=8000, frames=64)
    recipe = {"steps": 4, "batch_size": 1, "demos": 0, "keep_best": 0, "validate_every": 4}
    monkeypatch.setattr(Trainer, "train_step", interrupted)
    assert [r.step for r in widgets.follow(finetune(ckpt, dataset.EXAMPLES, tmp_path / "run", **recipe))] == [0, 1, 2]
    assert "step 2 of 4: stopped; run the same cell again" in parts(screen)[1].value
    assert "stopped after step 2" in parts(screen)[3].value
    monkeypatch.setattr(Trainer, "train_step", step)
    screen.clear()
    assert [r.step for r in widgets.follow(finetune(ckpt, dataset.EXAMPLES, tmp_path / "run", **recipe))] == [3, 4]
    assert "step 4 of 4: done" in parts(screen)[1].value
    picture = widgets.curve(tmp_path / "run").data
    assert Image.open(io.BytesIO(picture)).size == (700, 280)


TINY = {"batch_size": 1, "demos": 0, "keep_best": 0, "validation": 0.0}


@pytest.fixture
def tiny():
    return from_scratch("tiny", sample_rate=8000, frames=64)


@pytest.mark.parametrize("foreground", [True, False])
def test_training_in_the_background_ends_as_in_the_cell(foreground, screen, tiny, tmp_path):
    panel = widgets.train(tiny, dataset.EXAMPLES, tmp_path / "run", foreground=foreground, steps=4, **TINY)
    assert screen == [panel] and panel.wait() == tmp_path / "run"
    for _ in finetune(tiny, dataset.EXAMPLES, tmp_path / "other", steps=4, **TINY):
        pass
    one, other = (load_file(tmp_path / run / "last.safetensors") for run in ("run", "other"))
    assert all(torch.equal(one[name], other[name]) for name in other)
    assert "step 4 of 4: done" in panel._view.label.value


def test_the_stop_button_saves_and_the_same_call_resumes(screen, tiny, tmp_path):
    panel = widgets.train(tiny, dataset.EXAMPLES, tmp_path / "run", foreground=False, steps=10**5, **TINY)
    while panel._view.last is None:
        time.sleep(0.01)
    panel._stop.click()
    panel.wait()
    reached = panel._view.last.step
    assert 0 <= reached < 10**5 and "run the same cell again to resume" in panel._view.label.value
    again = widgets.train(tiny, dataset.EXAMPLES, tmp_path / "run", foreground=False, steps=10**5, **TINY)
    once_more = widgets.train(tiny, dataset.EXAMPLES, tmp_path / "run", foreground=False, steps=reached + 5, **TINY)
    assert not again._thread.is_alive(), "the same cell, run while it trains, resumes too"
    once_more.wait()
    assert once_more._view.last.step >= reached


def test_an_error_of_a_background_training_is_shown_and_raised_by_wait(screen, tiny, tmp_path):
    panel = widgets.train(tiny, tmp_path / "missing", tmp_path / "run", foreground=False, steps=2)
    with pytest.raises(FileNotFoundError):
        panel.wait()
    assert "missing" in panel._view.below.value and "stopped by an error" in panel._view.label.value
    again = widgets.train(tiny, dataset.EXAMPLES, tmp_path / "run", foreground=False, steps=1, **TINY)
    assert again.wait() == tmp_path / "run", "the same run, with what was wrong put right"


def test_the_stop_button_works_while_sounds_are_read(screen, tiny, tmp_path, monkeypatch):
    """A folder on a slow drive was read to its end first."""
    reading, read = threading.Event(), []

    def slow(path, *arguments):
        read.append(path)
        reading.set()
        time.sleep(0.05)
        return decode_one(path, *arguments)

    decode_one = dataset._decode_one
    monkeypatch.setattr(dataset, "_decode_one", slow)
    panel = widgets.train(tiny, dataset.EXAMPLES, tmp_path / "run", foreground=False, steps=1, **TINY)
    reading.wait(10)
    panel.stop()
    panel.wait()
    assert len(read) < 12 and "stopped; run the same cell again" in panel._view.label.value


def test_a_run_that_trains_in_the_background_is_not_trained_twice(screen, tiny, tmp_path):
    """A ValueError about a generator."""
    inside, go = threading.Event(), threading.Event()

    def steps():
        inside.set()
        go.wait(10)
        yield

    generator = steps()
    loop._unfinished[(tmp_path / "run")] = generator
    thread = threading.Thread(target=lambda: next(generator))
    thread.start()
    inside.wait(10)
    with pytest.raises(FileExistsError, match="in use by another thread"):
        finetune(tiny, dataset.EXAMPLES, tmp_path / "run", steps=1, **TINY)
    go.set()
    thread.join()


def test_breaking_off_closes_the_run(screen):
    closed = []
    for record in widgets.follow(records(closed=closed)):
        if record.step == 7:
            break
    assert closed == [7]
    assert "step 7 of 50: stopped" in parts(screen)[1].value


def test_advice_and_warnings_stand_below_the_curve_once(screen, recwarn):
    """In red below the cell they look like errors, and Python shows the same warning only the first time."""

    def warning():
        for record in records(advice="a <b>"):
            notices.warn("less room")
            yield record

    for _ in widgets.follow(warning()):
        pass
    assert parts(screen)[3].value == "less room<br>a &lt;b&gt;"
    assert not recwarn


def test_an_error_is_not_called_a_stop(screen):
    def failing():
        yield from records(last=3)
        raise FloatingPointError("the loss is nan")

    with pytest.raises(FloatingPointError):
        for _ in widgets.follow(failing()):
            pass
    assert "step 3 of 50: stopped by an error" in parts(screen)[1].value


def test_a_finished_run_has_nothing_to_do(screen):
    assert list(widgets.follow(records(first=1, last=0))) == []
    assert "nothing to do" in parts(screen)[1].value


def colours(png):
    """Share of the pixels that are as blue, as orange as the lines."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA")).astype(int)
    close = [np.abs(pixels - [*bytes.fromhex(c[1:]), 255]).max(axis=-1) < 40 for c in (plots.BLUE, plots.ORANGE)]
    return [float(c.mean()) for c in close]


def test_the_curve_shows_both_errors_and_has_no_background():
    losses = [(i, 1 / i) for i in range(1, 300)]
    validations = [(i, 2 / i) for i in range(10, 300, 10)]
    nothing, blue, both = (plots.loss_picture(*data, 300) for data in (([], []), (losses, []), (losses, validations)))
    assert colours(nothing) == [0, 0]
    assert colours(blue)[0] > 0.003 and colours(blue)[1] == 0
    assert min(colours(both)) > 0.003
    alpha = np.asarray(Image.open(io.BytesIO(both)).convert("RGBA"))[..., 3]
    assert (alpha == 0).mean() > 0.7


def demo_run(folder, steps, names, frames=4000):
    for step in steps:
        (folder / "demos" / f"step{step:06d}").mkdir(parents=True)
        for i, name in enumerate(names):
            tone = 0.1 * np.sin(np.arange(frames) * (0.1 + 0.1 * i)) / (1 + step)
            soundfile.write(folder / "demos" / f"step{step:06d}" / f"{name}.wav", tone, 8000)
    return folder


def test_demos_are_a_row_per_step_and_a_column_per_sound(tmp_path):
    names = ["kick_seed0", "snare_seed0"]
    page = widgets.demos(demo_run(tmp_path, [0, 5, 10], names)).data
    rows = page.split("<tr>")[1:]
    assert [re.search(r"<th[^>]*>(.*?)</th>", row)[1] for row in rows] == [
        "step 0, before training",
        "step 5",
        "step 10",
    ]
    for row, step in zip(rows, (0, 5, 10), strict=True):
        assert re.findall(r"<b>(.*?)</b>", row) == ["kick, seed 0", "snare, seed 0"]
        for (sound, rate), place in zip(sounds(row), (0, 1), strict=True):
            assert rate == 8000
            expected = 0.1 * np.sin(np.arange(4000) * (0.1 + 0.1 * place)) / (1 + step)
            np.testing.assert_allclose(sound, expected, atol=1e-4)
    for word in ("<script", "<style", "onclick", "autoplay", "color:"):
        assert word not in page


def test_of_many_demos_the_first_middle_and_last_are_shown(tmp_path):
    page = widgets.demos(demo_run(tmp_path, range(0, 90, 10), ["seed0"])).data
    assert re.findall(r"<th[^>]*>(.*?)</th>", page) == ["step 0, before training", "step 40", "step 80"]


@pytest.mark.slow
def test_demos_stay_below_the_limit_of_one_output(tmp_path):
    names = [f"class{i}_seed0" for i in range(8)]
    page = widgets.demos(demo_run(tmp_path, range(3), names, frames=100_000)).data
    assert len(page) < 8_100_000
    assert "previews" in page or page.count("<audio") == 24
    page = widgets.demos(demo_run(tmp_path / "long", range(3), names, frames=400_000)).data
    assert len(page) < 8_100_000 and "listen to them in its folder" in page


def test_a_run_without_demos_says_how_to_have_some(tmp_path):
    with pytest.raises(FileNotFoundError, match="no demos"):
        widgets.demos(tmp_path)


def test_sounds_of_a_folder_can_be_heard_before_training(tmp_path):
    report = check_dataset(dataset.EXAMPLES)
    box = widgets.dataset_player(report, 6)
    captions = [card.children[0].value for card in box.cards]
    assert sorted({re.search(r"<b>(\w+)/", text)[1] for text in captions}) == ["hat", "kick", "snare"]
    assert len(captions) == 6 and all(len(sounds(text)) == 1 for text in captions)
    soundfile.write(tmp_path / "long.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 8000 * 12), 8000)
    (card,) = widgets.dataset_player(check_dataset(tmp_path)).cards
    assert "10.00 s" in card.children[0].value and "first 10 s" in card.children[0].value


# --- loops and beats


def looped(seed=0) -> Clip:
    audio = np.random.default_rng(seed).standard_normal((1, 4000)).astype(np.float32) / 10
    making = {"verb": "generate", "sampler": "iplms", "steps": 2, "loop": True, "bpm": 120, "bars": 2}
    return Clip(audio, 8000, seed, Provenance.from_dict({"making": making, "model": {"name": "net"}}))


def test_a_loop_plays_as_one_and_shows_its_seam():
    page = looped()._repr_html_()
    assert "<audio controls loop " in page
    assert "net_loop_120bpm_2bars_seed0" in page and re.search(r"seam [+-]\d+ dB", page)


def test_what_is_no_loop_does_not_repeat():
    clip = Clip(looped().audio, 8000, 0, Provenance.from_dict({"making": {}, "model": {"name": "net"}}))
    assert "<audio controls preload" in clip._repr_html_() and clip.seam_db is None


@pytest.fixture
def groove():
    tone = np.exp(-np.arange(800) / 100).astype(np.float32)[None]
    tracks = {"kick": "9...9...9...9...", "closed_hat": "..5...5...5...5."}
    return ddnb.beat(None, {"tracks": tracks}, sounds={"kick": (tone, 8000), "closed_hat": (tone / 2, 8000)})


def test_a_click_on_a_step_changes_the_beat_and_what_is_heard(groove):
    sequencer = widgets.Sequencer(groove)
    second = sequencer.children[0].children[0].children[2]  # after the track's name and the first step
    heard = sequencer.children[-1].value
    second.click()
    assert sequencer.beat.tracks["kick"] == "99..9...9...9..." and second.description == "9"
    assert sequencer.children[-1].value != heard
    second.click()
    assert sequencer.beat.tracks["kick"][1] == "5"
    second.click()
    assert sequencer.beat.tracks == groove.tracks and second.description == ""
    assert sequencer.children[-1].value == heard


def test_the_last_hit_cannot_be_taken_away(groove):
    """The beat stays as it was, and the panel says why."""
    sequencer = widgets.Sequencer(groove.with_steps("closed_hat", "." * 16).with_steps("kick", "5" + "." * 15))
    step = sequencer.children[0].children[0].children[1]
    step.click()
    assert "No hit" in sequencer.children[-1].value
    assert sequencer.beat.tracks["kick"][0] == "5" and step.description == "5"


def test_tempo_and_swing_of_a_sequencer(groove):
    sequencer = widgets.Sequencer(groove)
    bpm, swing = sequencer.children[-2].children
    bpm.value, swing.value = 90, 0.6
    assert (sequencer.beat.bpm, sequencer.beat.swing) == (90, 0.6)
    assert sequencer.beat.clip.audio.shape[-1] == round(4 * 60 / 90 * 8000)


def test_another_sound_for_a_track():
    ckpt = ddnb.load("drums", device="cpu")
    made = ddnb.beat(ckpt, {"tracks": {"kick": "9..............."}}, steps=1)
    sequencer = widgets.Sequencer(made, ckpt)
    sequencer.children[0].children[0].children[0].click()
    assert sequencer.beat.sounds["kick"].seed == 1
    assert np.abs(sequencer.beat.clip.audio - made.clip.audio).max() > 1e-3


def test_pictures_of_seams_and_beats(groove):
    for shown in (widgets.draw_seam(looped()), widgets.draw_beat(groove)):
        assert shown.data.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "making",
    [
        {"verb": "inpaint", "source": {"name": "x"}, "start_s": [0.1, 0.3], "end_s": [0.2, 0.35]},
        {"verb": "inpaint", "source": {"name": "x"}, "start_s": 0.1, "end_s": 0.2},
        {"verb": "extend", "source": {"name": "x"}, "source_s": 0.2, "backwards": True},
    ],
)
def test_what_was_filled_in_is_marked(making):
    """The same sound without the marks looks otherwise."""
    clip = Clip(looped().audio, 8000, 0, Provenance.from_dict({"making": making, "model": {"name": "net"}}))
    plain = Clip(clip.audio, 8000, 0, Provenance.from_dict({"making": {}, "model": {"name": "net"}}))
    assert plots.picture(clip.shown()) != plots.picture(plain.shown())
