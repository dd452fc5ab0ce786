"""The report on a folder of sounds: faults, near copies, advice."""

import dataclasses
import io
import re
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given
from hypothesis import strategies as st

import ddnb
from ddnb.display.text import duration
from ddnb.errors import DatasetError
from ddnb.training import dataset, report
from ddnb.training.near_copies import compute_feature, find_near_copies
from ddnb.training.report import check_dataset

RATE = 44100


def kick(hz=60, frames=15_000, level=0.8):
    i = np.arange(frames)
    return level * np.sin(2 * np.pi * hz * i / RATE) * np.exp(-i / 3000)


def noise(frames=15_000, decay=3000, seed=0):
    return 0.5 * np.random.default_rng(seed).uniform(-1, 1, frames) * np.exp(-np.arange(frames) / decay)


@pytest.fixture
def add(tmp_path):
    """Write a sound into the folder to examine; return the folder."""

    def write(name, samples, rate=RATE, **kwargs):
        path = tmp_path / "sounds" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples, rate, **kwargs)
        return path.parents[len(path.relative_to(tmp_path / "sounds").parts) - 1]

    return write


@pytest.fixture
def ckpt():
    return ddnb.load("debug", device="cpu")


@pytest.fixture
def timed(monkeypatch):
    """The values of ``crop`` that were measured; a step takes two seconds, without the wait."""
    measured = []

    def measure_step(ckpt, data, *, crop):
        measured.append(crop)
        return 2.0, 4

    monkeypatch.setattr(report, "measure_step", measure_step)
    return measured


def feature(sound):
    sound = np.asarray(sound, np.float32)
    return compute_feature(sound[:, report._find_onset(sound) :], RATE)


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """The twelve sounds that come with the package, float32 (2, frames)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDNB_CACHE", str(tmp_path_factory.mktemp("cache")))
        data = dataset.decode(dataset.EXAMPLES, RATE)
        return [np.array(data.sound(i)) for i in range(len(data.sounds))]


# --- faults -----------------------------------------------------------------------------------------------------


def test_finds_every_fault_and_nothing_else(add):
    folder = add("fine.wav", kick())
    add("clipped.wav", np.clip(4 * kick(70), -1, 1))
    add("quiet.wav", 0.02 * noise(seed=1))
    add("late.wav", np.pad(noise(seed=2, decay=500), (2000, 0)))  # 45 ms
    add("early.wav", np.pad(noise(seed=3, decay=5000), (700, 0)))  # 16 ms, inaudible
    add("offset.wav", 0.2 + 0.5 * kick(200))
    add("full scale.wav", kick(900, level=1.0))  # touches full scale, once: not clipped
    report = check_dataset(folder)
    assert report.clipped == ("clipped.wav",)
    assert report.quiet == ("quiet.wav",)
    assert report.late == ("late.wav",)
    assert report.offset == ("offset.wav",)
    assert report.near_copies == ()
    faults = "\n".join(report.sections()["Worth checking"])
    for name in ("clipped", "quiet", "late", "offset"):
        assert faults.count(f" {name}.wav") == 1
    for name in ("fine", "early", "full scale"):
        assert f"{name}.wav" not in faults


def test_folder_without_faults_has_no_such_heading(add):
    folder = add("a.wav", kick())
    report = check_dataset(folder)
    assert set(report.sections()) == {"Contents", "Advice"}


def test_counts_the_examples_by_class(add):
    report = check_dataset(dataset.EXAMPLES)
    text = str(report)
    assert text.startswith("Sounds in one-shots\n")
    for words in ("12 sounds", "hat (4), kick (4), snare (4)", "44100 Hz.", "mono (10), stereo (2)", "CREDITS.md"):
        assert words in text
    assert report.near_copies == ()
    assert "12 sounds" in repr(report)


def test_lists_unusable_files_copies_and_other_files(add):
    folder = add("kick/a.wav", kick())
    for name in ("kick/copy.wav", "snare/a.wav"):
        add(name, kick())
    add("silent.wav", np.zeros(5000))
    (folder / "broken.wav").write_text("x")
    (folder / "notes.txt").write_text("x")
    lines = check_dataset(folder).sections()["Not used"]
    assert any(line.startswith("silent.wav: is silent") for line in lines)
    assert any(line.startswith("broken.wav: cannot be read") for line in lines)
    assert "Exact copies of other files (1): kick/copy.wav." in lines
    assert "Files of other kinds (1): notes.txt." in lines


def test_shortens_long_lists_in_the_text_only(add, monkeypatch):
    """Names of sounds that were used are shortened; of files that were not, a thousand are listed with reasons."""
    monkeypatch.setattr("ddnb.training.advice._REASONS", 50)
    for i in range(60):
        folder = add(f"{i:02}.wav", 0.001 * noise(1000 + i, seed=i))
        (folder / f"broken {i:02}.wav").write_text("x")
    report = check_dataset(folder)
    assert len(report.quiet) == len(report.data.unusable) == 60
    assert len(str(report).splitlines()) < 80
    assert all(str(report).count(f"broken {i:02}.wav") == 1 for i in range(50))
    assert "04.wav and 55 more" in str(report)
    assert "And 10 more" in str(report)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not allow such names")
def test_prints_hostile_names_safely(add):
    """An escape sequence in a name must not reach the terminal, and an undecodable byte must not raise."""
    folder = add("b.wav", 0.01 * noise(seed=1))
    (folder / "b.wav").rename(folder / "a\x1b[31m\n$x^2$.wav")
    add("c.wav", noise(seed=2))
    (folder / "\udcff.wav").write_text("x")
    text = str(check_dataset(folder))
    assert "quiet: a?[31m?$x^2$.wav" in text
    assert "\n- ?.wav: " in text
    assert "\x1b" not in text
    text.encode("utf-8")


def test_sound_that_cancels_in_mono_is_named_and_its_louder_side_used(add):
    """A mono network was trained on silence, without a word."""
    folder = add("a.wav", np.stack([0.9 * kick(), -kick()], axis=1), subtype="FLOAT")
    add("b.wav", np.stack([kick(), -kick()], axis=1), subtype="FLOAT")
    add("c.wav", noise())
    data = dataset.decode(folder, RATE, 1)
    np.testing.assert_allclose(data.sound(1)[0], kick(), atol=1e-6)
    assert check_dataset(folder).cancelling == ("b.wav",)
    assert "nearly silent in mono: b.wav" in str(check_dataset(folder))


@pytest.mark.parametrize("block", [10, 1000, 1 << 16])
def test_onset_is_the_first_frame_within_40_db_of_the_peak(block, monkeypatch):
    monkeypatch.setattr(report, "_BLOCK", block)
    sound = np.zeros((2, 3000), np.float32)
    sound[1, 1234:] = -0.0101
    sound[0, 2500] = 1.0
    assert report._find_onset(sound) == 1234
    sound[1, 1234:2500] = 0.0099
    assert report._find_onset(sound) == 2500


# --- near copies ------------------------------------------------------------------------------------------------


def encoded(sound, **kwargs):
    file = io.BytesIO()
    soundfile.write(file, sound.T, RATE, **kwargs)
    file.seek(0)
    return soundfile.read(file, always_2d=True)[0].T


COPIES = {
    "20 dB lower, 16 bits": lambda x: np.round(0.1 * x * 32768) / 32768,
    "inverted in polarity": lambda x: -x,
    "7 ms later": lambda x: np.pad(x, ((0, 0), (309, 0))),
    "through 48 kHz": lambda x: soxr.resample(soxr.resample(x.T, RATE, 48000), 48000, RATE).T,
    "through 22 kHz": lambda x: soxr.resample(soxr.resample(x.T, RATE, 22050), 22050, RATE).T,
    "all of these": lambda x: -np.round(0.3 * COPIES["through 48 kHz"](np.pad(x, ((0, 0), (100, 0)))) * 32768) / 32768,
    "with silence after it": lambda x: np.pad(x, ((0, 0), (0, 50_000))),
    "in one channel": lambda x: np.stack([x[0], 0 * x[0]]) if (x[0] == x[1]).all() else x,
    "6 dB louder, floating point": lambda x: encoded(2 * x, format="WAV", subtype="FLOAT"),
}


@pytest.mark.parametrize("change", COPIES)
def test_finds_altered_copies_but_no_different_sounds(examples, change):
    """The examples are 66 pairs of different sounds, several of one drum; each finds its own copy."""
    features = np.stack([feature(x) for x in [*examples, *map(COPIES[change], examples)]])
    assert find_near_copies(features[:12]) == []
    assert find_near_copies(features) == [(12 + i, i) for i in range(12)]


def test_finds_near_copies_across_classes_and_formats(add):
    folder = add("kick/a.wav", kick())
    add("kick/b.flac", 0.3 * kick())
    add("snare/a.wav", kick())
    add("snare/b.wav", noise(), subtype="PCM_24")
    add("snare/c.wav", soxr.resample(noise(), RATE, 48000), 48000)
    report = check_dataset(folder)
    assert report.near_copies == (
        ("kick/b.flac", "kick/a.wav"),
        ("snare/a.wav", "kick/a.wav"),
        ("snare/c.wav", "snare/b.wav"),
    )
    assert "kick/b.flac is like kick/a.wav" in str(report)


def test_two_bursts_of_noise_are_not_copies():
    """They have one envelope and one spectrum, but are different sounds."""
    features = np.stack([feature(noise(20_000, 4000, seed)[None]) for seed in range(10)])
    assert find_near_copies(features) == []


def test_silence_adds_no_likeness():
    """In most of the three seconds, two short sounds are both silent."""
    assert feature(kick(60, 1000)[None]) @ feature(noise(1000)[None]) < 0.9


@given(st.integers(0, 60), st.integers(0, 3))
def test_pairs_match_a_plain_double_loop(n, seed):
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((n, 3)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    expected = []
    for i in range(n):
        likeness = [float(features[i] @ features[j]) for j in range(i)]
        if likeness and max(likeness) >= 0.9:
            expected.append((i, int(np.argmax(likeness))))
    assert find_near_copies(features, 0.9) == expected


def test_compares_thousands_in_blocks():
    """The first of a block is compared with all sounds before it, and none with itself."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((2500, 64)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    for later, earlier in ((1024, 3), (1025, 1024), (2499, 2047)):
        features[later] = features[earlier]
    assert find_near_copies(features) == [(1024, 3), (1025, 3), (2499, 2047)]


# --- advice -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "steps"), [(1, 500), (12, 500), (51, 600), (165, 1700), (1000, 3000)])
def test_suggests_steps_by_the_number_of_sounds(n, steps):
    sounds = (dataset.Sound("x", None, 0, 100, RATE, 1, 1, "", 0, 0, 0),) * n
    assert report._suggest_steps(dataset.Dataset(np.zeros((100, 2)), RATE, sounds, {}, ()), None) == steps


@pytest.mark.parametrize(("n", "words"), [(1, "repeat it"), (3, "repeat them"), (10, "are few"), (30, "variations")])
def test_judges_the_number_of_sounds(n, words, add):
    for i in range(n):
        folder = add(f"{i}.wav", noise(1000, seed=i))
    assert words in check_dataset(folder).advice[0]


def test_crops_long_recordings_but_not_one_shots(add, ckpt, timed):
    """The length of the checkpoint's clip decides: 0.74 s here."""
    for i in range(3):
        short = add(f"short/{i}.wav", noise(30_000, seed=i)) / "short"
        add(f"long/{i}.wav", noise(200_000, 50_000, seed=i))
    report = check_dataset(short, ckpt)
    assert not report.crop and "All fit into a clip" in str(report)
    report = check_dataset(short.parent / "long", ckpt)
    assert report.crop and "crop=True" in str(report)
    assert timed == [False, True]
    add("short/3.wav", noise(50_000, seed=9))
    report = check_dataset(short, ckpt)
    assert not report.crop and "1 of 4 last longer" in str(report)


def test_long_recording_counts_as_many_sounds(add, ckpt, timed):
    folder = add("a.wav", np.tile(noise(8000), 180), 8000)  # 3 minutes: 242 clips
    report = check_dataset(folder, ckpt)
    assert report.steps == 2500
    assert "3 min 0 s of sound" in report.advice[0]


def test_reads_at_the_rate_and_channels_of_the_checkpoint(add, ckpt, timed):
    folder = add("a.wav", noise(5000), 22050)
    other = dataclasses.replace(ckpt, sample_rate=16000)
    report = check_dataset(folder, other)
    assert (report.data.sample_rate, report.data.audio.shape[1], report.clip_frames) == (16000, 2, ckpt.frames)
    assert "lower sample rate" not in str(report)
    assert "1 of 1 have a lower sample rate than this checkpoint's 44100 Hz" in str(check_dataset(folder, ckpt))


def test_reports_the_measured_time(add, ckpt, timed):
    folder = add("a.wav", noise())
    assert "500 steps take about 17 min: 2 s each, with 4 clips at a time" in check_dataset(folder, ckpt).advice[-1]


def test_reports_training_that_does_not_fit(add, ckpt, monkeypatch):
    def fail(*_, **__):
        raise MemoryError("not even one clip")

    monkeypatch.setattr(report, "measure_step", fail)
    assert "does not fit into the memory: not even one clip" in check_dataset(add("a.wav", noise()), ckpt).advice[-1]


def test_measures_nothing_without_a_checkpoint(add, timed):
    report = check_dataset(add("a.wav", noise(1000)))
    assert (timed, report.clip_frames, report.crop) == ([], None, False)
    assert "Give the checkpoint" in report.advice[-1]


def test_reports_classes_that_cannot_be_learned(add, ckpt, timed):
    for i in range(12):
        folder = add(f"hat/{i}.wav", noise(1000, seed=i))
    assert not [line for line in check_dataset(folder, ckpt).advice if "class" in line]
    add("kick/0.wav", kick(frames=1000))
    text = "\n".join(check_dataset(folder, ckpt).advice)
    assert "add to kick" in text
    assert "hat has 12, kick 1" in text
    for i in range(32):
        add(f"class {i:02}/0.wav", noise(1000, seed=100 + i))
    timed.clear()
    assert "34 class folders are more than a network can learn (32)" in "\n".join(check_dataset(folder, ckpt).advice)
    assert timed == []  # training would refuse them


# --- progress, input, durations ---------------------------------------------------------------------------------


def test_progress_rises_from_start_to_end(add):
    folder = add("a.wav", noise())
    add("b.wav", kick())
    (folder / "broken.wav").write_text("x")
    for first in (1, 5):  # with the cache only the second half is work
        calls = []
        check_dataset(folder, on_file=lambda *call: calls.append(call))  # noqa: B023
        assert calls == [(i, 6) for i in (1, 2, 3, 5, 6)[3 * (first == 5) :]]


def test_rejects_bad_input(add, tmp_path):
    with pytest.raises(TypeError, match=r"ddnb\.load\('debug'\)"):
        check_dataset(tmp_path, "debug")
    with pytest.raises(FileNotFoundError):
        check_dataset(tmp_path / "missing")
    (tmp_path / "x.wav").write_text("x")
    with pytest.raises(DatasetError, match=r"x\.wav: cannot be read"):
        check_dataset(tmp_path)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.405, "0.41 s"),
        (9.999, "10.0 s"),
        (59.99, "1 min 0 s"),
        (372, "6 min 12 s"),
        (1499, "25 min"),
        (7500, "2 h 5 min"),
    ],
)
def test_formats_durations(seconds, words):
    assert duration(seconds) == words


@given(st.floats(0.001, 1e6))
def test_durations_never_contain_60(seconds):
    assert not re.search(r"(?<![\d.])60(\.0+)? (s|min)", duration(seconds))


def test_import_is_quick():
    """librosa and matplotlib take seconds, so only a report imports them."""
    code = (
        "import sys, ddnb.training.report; print([m for m in ('librosa', 'matplotlib', 'IPython') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
