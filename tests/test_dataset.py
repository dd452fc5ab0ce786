"""Folders of sounds: listing, decoding, unusable files."""

import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ddnb.errors import DatasetError
from ddnb.training import dataset
from ddnb.training.dataset import decode

RATE = 8000


def noise(frames=1000, channels=1, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (frames, channels)).astype(np.float32)


def write(path: Path, samples=None, rate=RATE, **kwargs):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise(seed=len(str(path))) if samples is None else samples, rate, **kwargs)
    return path


def by_name(data):
    return {s.name: (s, data.sound(i)) for i, s in enumerate(data.sounds)}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "my sounds [120 bpm]"  # a usual name; glob would interpret the brackets


# --- listing and decoding ---------------------------------------------------------------------------------------


def test_decodes_the_examples_with_their_classes():
    data = decode(dataset.EXAMPLES, 44100)
    assert (len(data.sounds), data.categories) == (12, ("hat", "kick", "snare"))
    assert Counter(s.category for s in data.sounds) == {"hat": 4, "kick": 4, "snare": 4}
    assert data.ignored == ("CREDITS.md",) and data.unusable == {}
    assert data.audio.shape == (sum(s.frames for s in data.sounds), 2)
    for s, sound in by_name(data).values():
        original, rate = soundfile.read(dataset.EXAMPLES / s.name, dtype="float32", always_2d=True)
        assert (rate, original.shape) == (s.sample_rate, (s.frames, s.channels))
        stereo = original.T if s.channels == 2 else np.repeat(original.T, 2, axis=0)
        np.testing.assert_array_equal(sound, stereo)
        assert s.peak_dbfs == pytest.approx(20 * np.log10(np.abs(original).max()), abs=1e-3)
        assert s.dc == pytest.approx(original.mean(), abs=1e-6)


def test_lists_suffixes_in_any_case_but_no_hidden_files(folder):
    """The original code skips .WAV; a zip of a Mac adds ._x.wav and __MACOSX, which are not sounds."""
    for name in ("a.WAV", "b.Flac", "deep/er/c.aIFf"):
        write(folder / name, noise(seed=ord(name[0])), format=Path(name).suffix[1:])
    for name in ("._a.wav", ".hidden/d.wav", "__MACOSX/._a.wav", "__MACOSX/e.wav", ".DS_Store"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"not a sound")
    for name in ("notes.txt", "deep/cover.jpg", "no_suffix"):
        (folder / name).write_text("x")
    data = decode(folder, RATE)
    assert [(s.name, s.category) for s in data.sounds] == [
        ("a.WAV", None),
        ("b.Flac", None),
        ("deep/er/c.aIFf", "deep"),
    ]
    assert set(data.ignored) == {"notes.txt", "deep/cover.jpg", "no_suffix"}
    assert data.unusable == {}


def test_accepts_loose_files_beside_class_folders(folder):
    for name in ("loose.wav", "kick/a.wav", "kick/old/b.wav", "snare/a.wav"):
        write(folder / name, noise(seed=hash_of(name)))
    data = decode(folder, RATE)
    assert {s.name: s.category for s in data.sounds} == {
        "loose.wav": None, "kick/a.wav": "kick", "kick/old/b.wav": "kick", "snare/a.wav": "snare",
    }  # fmt: skip
    assert data.categories == ("kick", "snare")


def hash_of(text):
    return sum(map(ord, text))


def test_uses_exact_copies_once_per_class(folder):
    """A sound twice in a class would count twice, and could be both trained on and held out."""
    one = write(folder / "kick/a.wav", noise(seed=1))
    for name in ("kick/b.wav", "snare/a.wav", "loose.wav"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(one, folder / name)
    data = decode(folder, RATE)
    assert {s.name for s in data.sounds} == {"kick/a.wav", "snare/a.wav", "loose.wav"}
    assert list(data.unusable) == ["kick/b.wav"] and "copy of kick/a.wav" in data.unusable["kick/b.wav"]
    assert decode(folder, RATE).copies == data.copies == ("kick/b.wav",)


@pytest.mark.parametrize("channels", [1, 2, 9])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT", "DOUBLE"])
def test_converts_every_width_and_number_of_channels(channels, subtype, folder):
    samples = noise(channels=channels)
    write(folder / "a.wav", samples, subtype=subtype)
    data = decode(folder, RATE, channels=2)
    ((s, sound),) = by_name(data).values()
    wanted = samples if channels == 2 else np.repeat(samples.mean(axis=1, keepdims=True), 2, axis=1)
    np.testing.assert_allclose(sound, wanted.T, atol=2 ** (-6 if subtype == "PCM_U8" else -14))
    assert (sound.dtype, sound.shape, s.channels, s.sample_rate) == (np.float32, (2, 1000), channels, RATE)


@pytest.mark.parametrize("rate", [8000, 22050, 48000, 96000])
def test_resampling_keeps_length_pitch_and_level(rate, folder):
    seconds, hz = 0.5, 1000
    write(folder / "a.wav", 0.5 * np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate), rate)
    ((s, sound),) = by_name(decode(folder, 44100)).values()
    assert abs(s.frames - seconds * 44100) <= 2
    assert (s.sample_rate, s.duration_s) == (rate, seconds)
    middle = sound[0, 5000:15000]
    expected = 0.5 * np.exp(-2j * np.pi * hz * np.arange(5000, 15000) / 44100)
    assert 2 * abs((middle * expected).mean()) / 0.5 == pytest.approx(0.5, abs=0.005)
    assert np.sqrt((middle**2).mean()) == pytest.approx(0.5 / np.sqrt(2), rel=0.01)  # and nothing beside the tone


def test_measures_flat_tops_dc_and_peak_before_conversion(folder):
    hot = np.clip(3 * np.sin(2 * np.pi * 100 * np.arange(RATE) / RATE), -1, 1)
    single = np.zeros(1000)
    single[::10] = 1.0  # at full scale, but never two in a row: not clipped
    write(folder / "hot.wav", hot)
    write(folder / "single.wav", single, subtype="FLOAT")
    low = 0.99999 * np.sin(
        2 * np.pi * 40 * np.arange(RATE) / RATE
    )  # stays near full scale for long, without a flat top
    write(folder / "low.wav", low, subtype="PCM_24")
    write(folder / "offset.wav", 0.1 + 0.001 * noise())
    found = {name: s for name, (s, _) in by_name(decode(folder, 44100)).items()}
    assert found["hot.wav"].clipped > RATE / 2
    assert found["single.wav"].clipped == found["offset.wav"].clipped == found["low.wav"].clipped == 0
    assert found["offset.wav"].dc == pytest.approx(0.1, abs=1e-3)
    assert found["single.wav"].peak_dbfs == 0


# --- unusable files ----------------------------------------------------------------------------------------


def write_unusable(folder):
    """Write files that cannot be trained on; return a word of the reason for each."""
    write(folder / "good.wav")
    write(folder / "short.wav", noise(3))
    write(folder / "header-only.wav", noise(0))
    (folder / "empty.wav").write_bytes(b"")
    write(folder / "silent.wav", np.zeros(1000))
    write(folder / "nan.wav", np.full(1000, np.nan), subtype="FLOAT")
    write(folder / "late nan.wav", np.append(noise(600_000)[:, 0], np.inf), subtype="FLOAT")
    (folder / "letter.wav").write_text("Dear Sir or Madam")
    (folder / "cut.flac").write_bytes(dataset.EXAMPLES.joinpath("kick/bd_fat.flac").read_bytes()[:60])
    return {
        "short.wav": "too short",
        "header-only.wav": "too short",
        "empty.wav": "is empty",
        "silent.wav": "silent",
        "nan.wav": "not numbers",
        "late nan.wav": "not numbers",
        "letter.wav": "cannot be read",
        "cut.flac": "",
    }


def test_names_each_unusable_file_with_its_reason(folder):
    """The original code skips them silently. No part of such a file gets into the data."""
    expected = write_unusable(folder)
    data = decode(folder, RATE)
    assert [s.name for s in data.sounds] == ["good.wav"]
    assert set(data.unusable) == set(expected)
    for name, word in expected.items():
        assert word in data.unusable[name]
        assert name not in data.unusable[name].split("'")[0], "the caller shows the name beside the reason"
    np.testing.assert_allclose(data.audio[:, 0], noise(seed=len(str(folder / "good.wav")))[:, 0], atol=1e-4)


def test_unusable_file_does_not_displace_the_next_one(folder):
    write(folder / "a.wav", noise(seed=1))
    write(folder / "b.wav", np.append(noise(600_000)[:, 0], np.nan), subtype="FLOAT")
    write(folder / "c.wav", noise(seed=3))
    for name, (_, sound) in by_name(decode(folder, RATE)).items():
        np.testing.assert_allclose(sound[0], noise(seed={"a.wav": 1, "c.wav": 3}[name])[:, 0], atol=1e-4)


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_broken_link_is_unusable(folder):
    write(folder / "a.wav")
    (folder / "b.wav").symlink_to(folder / "gone.wav")
    assert list(decode(folder, RATE).unusable) == ["b.wav"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="every file is readable here")
def test_unreadable_file_is_tried_again_once_it_is_readable(folder):
    write(folder / "a.wav")
    write(folder / "b.wav", noise(seed=7)).chmod(0)
    assert "Permission" in decode(folder, RATE).unusable["b.wav"]
    (folder / "b.wav").chmod(0o644)  # changes neither size nor time of the file
    assert len(decode(folder, RATE).sounds) == 2


def test_file_that_needs_ffmpeg_is_tried_again_once_it_is_installed(folder, monkeypatch):
    """The message says to install it; the cache must not remember the refusal."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    write(folder / "a.wav")
    (folder / "b.m4a").write_bytes(b"something")
    assert "install ffmpeg" in decode(folder, RATE).unusable["b.m4a"]

    def ffmpeg(command, **_):
        write(Path(command[-1]), noise(seed=9))
        return type("Run", (), {"returncode": 0})

    monkeypatch.setattr(shutil, "which", lambda _: "ffmpeg")
    monkeypatch.setattr("subprocess.run", ffmpeg)
    assert [s.name for s in decode(folder, RATE).sounds] == ["a.wav", "b.m4a"]


def test_rejects_folders_without_usable_sounds(folder):
    """The original code recurses without end."""
    with pytest.raises(FileNotFoundError, match="No folder of sounds: .*my sounds.* does not exist"):
        decode(folder, RATE)
    folder.mkdir()
    with pytest.raises(DatasetError, match=r"holds no sound files\. Known suffixes: .*\.wav"):
        decode(folder, RATE)
    (folder / "x.txt").write_text("x")
    with pytest.raises(DatasetError, match=r"only 1 of other kinds, such as x\.txt"):
        decode(folder, RATE)
    expected = write_unusable(folder)
    (folder / "good.wav").unlink()
    for _ in range(2):  # decoded, and from the cache
        with pytest.raises(DatasetError, match="None of the 8 sound files") as raised:
            decode(folder, RATE)
        assert all(f"- {name}: " in str(raised.value) for name in expected)


def test_rejects_a_file_as_folder(folder):
    with pytest.raises(FileNotFoundError, match="is a file: give the folder"):
        decode(write(folder / "a.wav"), RATE)


def test_skips_a_folder_around_the_class_folders(tmp_path):
    """Unpacking a zip creates one, which would turn all categories into a single one."""
    shutil.copytree(dataset.EXAMPLES, tmp_path / "zip" / "my sounds")
    (tmp_path / "zip" / "__MACOSX").mkdir()
    assert decode(tmp_path / "zip", 22050, 1).categories == ("hat", "kick", "snare")
    assert decode(dataset.EXAMPLES.parent / "one-shots" / "kick", 22050, 1).categories == ()
    shutil.copytree(dataset.EXAMPLES / "kick", tmp_path / "one" / "kick")
    assert decode(tmp_path / "one", 22050, 1).categories == ("kick",)
