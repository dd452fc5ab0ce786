"""What notebooks show, without a kernel: runs on both widget stacks."""

import base64
import html
import io
import re

import ipywidgets
import numpy as np
import pytest
import soundfile
from PIL import Image

from ddnb import check_dataset, dataset, widgets
from ddnb.verbs import Clip, Clips

SETTINGS = {"model": {"name": "model <b>&"}, "making": {"asked": 3}, "machine": {}}


def clips(audio, rate=44100):
    audio = np.asarray(audio, dtype=np.float32)
    return Clips(audio, rate, list(range(len(audio))), SETTINGS)


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
    page = widgets.clips_html(three)
    heard = sounds(page)
    assert len(heard) == 3
    for (sound, rate), clip in zip(heard, three, strict=True):
        assert rate == 44100
        peak = np.abs(clip.audio).max()
        expected = clip.audio * (10 ** (-1 / 20) / peak if peak > 1 else 1)  # over full scale: to -1 dBFS, and said
        np.testing.assert_allclose(sound.T, expected, atol=1e-4)
    assert "peak -20.0 dBFS" in page
    assert page.count("turned down by 5 dB") == 1
    assert "silent" in page


def test_players_need_no_script_or_style_and_start_nothing(three):
    """Jupyter strips both from a stranger's notebook; browsers and classes of thirty do not want autoplay."""
    page = widgets.clips_html(three)
    for word in ("<script", "<style", "onclick", "autoplay", "<source", "color:"):
        assert word not in page
    assert page.count("aria-label=") == page.count("alt=") == 3


def test_names_are_text_not_html(three):
    assert "<b>&" not in widgets.clips_html(three)


def test_player_is_made_of_widgets_with_the_same_content(three):
    box = widgets.player(three)
    assert len(box.children) == 3
    for card, clip in zip(box.children, three, strict=True):
        caption, image = card.children
        assert clip.name in caption.value
        assert len(sounds(caption.value)) == 1
        assert Image.open(io.BytesIO(bytes(image.value))).size == (560, 280)
    assert len(widgets.player(three[0]).children) == 1


def test_many_sounds_stay_below_the_limit_of_one_output():
    """Colab drops an output of more than about 10 MB."""
    many = clips(np.random.default_rng(0).standard_normal((40, 2, 65536)) * 0.1, 48000)
    page = widgets.clips_html(many)
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
    picture = np.asarray(Image.open(io.BytesIO(widgets.picture(Clip(sound, 44100, 0, SETTINGS)))).convert("RGBA"))
    spectrogram = picture[150:, :, :3].sum(axis=-1).astype(float)
    left, right = spectrogram[:, 20:250], spectrogram[:, 310:540]
    assert right.max() > left.max() + 100
    rows = right.mean(axis=1)
    assert rows.max() > 2 * np.median(rows)
    waveform = picture[:135, :, 3] > 0
    assert waveform[:, 300:540].sum() > 10 * waveform[:, 20:260].sum()


@pytest.mark.parametrize("frames", [1, 10, 600])
def test_very_short_clips_can_be_shown(frames):
    assert len(sounds(widgets.clips_html(clips(np.full((1, 2, frames), 0.1))))) == 1


def test_clips_show_themselves(three):
    assert three._repr_html_() == widgets.clips_html(three)
    assert "interrupted" in three[:0]._repr_html_()


def shown(report):
    return Image.open(io.BytesIO(widgets.dataset_picture(report))).convert("RGBA")


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
    chosen = widgets._spread(sounds, 16)
    assert len(set(chosen)) == 16 and chosen == sorted(chosen)
    assert {90, 91} <= set(chosen)
    assert max(np.diff(chosen[:14])) < 20  # from all over the big one
    assert widgets._spread(sounds[88:], 16) == [0, 1, 2, 3]


def test_progress_ends_full_and_says_how_to_stop(monkeypatch):
    shown = []
    monkeypatch.setattr(widgets, "display", shown.append)
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


def test_progress_of_a_download_of_unknown_size(monkeypatch):
    monkeypatch.setattr(widgets, "display", lambda _: None)
    progress = widgets.Progress("downloading")
    progress(5_000_000, None)
    assert "5 MB" in progress.label.value
