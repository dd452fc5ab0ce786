"""Folders of sounds: what is found, what is refused and why, what is drawn."""

import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from ddnb.training import dataset
from ddnb.training.dataset import Augment, Dataset, Piece, Sound, decode, draw, hold_out, pieces

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
    return tmp_path / "my sounds [120 bpm]"  # as people name them; the brackets mean something to glob


# --- what is found ----------------------------------------------------------------------------------------------


def test_real_sounds_with_their_classes():
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


def test_the_suffix_counts_in_any_case_and_hidden_files_do_not(folder):
    """The original skips .WAV; a zip made on a Mac adds ._x.wav and __MACOSX, which are no sounds."""
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


def test_class_folders_beside_loose_files(folder):
    for name in ("loose.wav", "kick/a.wav", "kick/old/b.wav", "snare/a.wav"):
        write(folder / name, noise(seed=hash_of(name)))
    data = decode(folder, RATE)
    assert {s.name: s.category for s in data.sounds} == {
        "loose.wav": None, "kick/a.wav": "kick", "kick/old/b.wav": "kick", "snare/a.wav": "snare",
    }  # fmt: skip
    assert data.categories == ("kick", "snare")


def hash_of(text):
    return sum(map(ord, text))


def test_an_exact_copy_is_used_once_but_may_be_in_two_classes(folder):
    """Twice in a class it would weigh twice, and be in the training and in the held-out part."""
    one = write(folder / "kick/a.wav", noise(seed=1))
    for name in ("kick/b.wav", "snare/a.wav", "loose.wav"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(one, folder / name)
    data = decode(folder, RATE)
    assert {s.name for s in data.sounds} == {"kick/a.wav", "snare/a.wav", "loose.wav"}
    assert list(data.unusable) == ["kick/b.wav"] and "copy of kick/a.wav" in data.unusable["kick/b.wav"]


@pytest.mark.parametrize("channels", [1, 2, 8])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT", "DOUBLE"])
def test_every_width_and_number_of_channels(channels, subtype, folder):
    samples = noise(channels=channels)
    write(folder / "a.wav", samples, subtype=subtype)
    data = decode(folder, RATE, channels=2)
    ((s, sound),) = by_name(data).values()
    wanted = samples if channels == 2 else np.repeat(samples.mean(axis=1, keepdims=True), 2, axis=1)
    np.testing.assert_allclose(sound, wanted.T, atol=2 ** (-6 if subtype == "PCM_U8" else -14))
    assert (sound.dtype, sound.shape, s.channels, s.sample_rate) == (np.float32, (2, 1000), channels, RATE)


@pytest.mark.parametrize("rate", [8000, 22050, 48000, 96000])
def test_another_rate_keeps_length_pitch_and_level(rate, folder):
    seconds, hz = 0.5, 1000
    write(folder / "a.wav", 0.5 * np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate), rate)
    ((s, sound),) = by_name(decode(folder, 44100)).values()
    assert abs(s.frames - seconds * 44100) <= 2
    assert (s.sample_rate, s.duration_s) == (rate, seconds)
    middle = sound[0, 5000:15000]
    expected = 0.5 * np.exp(-2j * np.pi * hz * np.arange(5000, 15000) / 44100)
    assert 2 * abs((middle * expected).mean()) / 0.5 == pytest.approx(0.5, abs=0.005)
    assert np.sqrt((middle**2).mean()) == pytest.approx(0.5 / np.sqrt(2), rel=0.01)  # and nothing beside the tone


def test_flat_tops_dc_and_peak_are_those_of_the_file(folder):
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


# --- what cannot be used ----------------------------------------------------------------------------------------


def rubbish(folder):
    """Files that no tool can train on -> a word of the reason."""
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


def test_every_unusable_file_is_named_with_its_reason(folder):
    """The original swallows what it cannot read; here nothing of such a file gets among the others' sound either."""
    expected = rubbish(folder)
    data = decode(folder, RATE)
    assert [s.name for s in data.sounds] == ["good.wav"]
    assert set(data.unusable) == set(expected)
    for name, word in expected.items():
        assert word in data.unusable[name]
        assert name not in data.unusable[name].split("'")[0], "the name stands beside the reason already"
    np.testing.assert_allclose(data.audio[:, 0], noise(seed=len(str(folder / "good.wav")))[:, 0], atol=1e-4)


def test_sounds_after_an_unusable_file_lie_where_they_should(folder):
    write(folder / "a.wav", noise(seed=1))
    write(folder / "b.wav", np.append(noise(600_000)[:, 0], np.nan), subtype="FLOAT")
    write(folder / "c.wav", noise(seed=3))
    for name, (_, sound) in by_name(decode(folder, RATE)).items():
        np.testing.assert_allclose(sound[0], noise(seed={"a.wav": 1, "c.wav": 3}[name])[:, 0], atol=1e-4)


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_a_link_that_leads_nowhere_is_one_unusable_file(folder):
    write(folder / "a.wav")
    (folder / "b.wav").symlink_to(folder / "gone.wav")
    assert list(decode(folder, RATE).unusable) == ["b.wav"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="everything may be read here")
def test_a_file_that_may_not_be_read(folder):
    write(folder / "a.wav")
    write(folder / "b.wav", noise(seed=7)).chmod(0)
    assert "Permission" in decode(folder, RATE).unusable["b.wav"]
    (folder / "b.wav").chmod(0o644)  # changes neither size nor time of the file
    assert len(decode(folder, RATE).sounds) == 2


def test_a_file_that_needs_ffmpeg_is_tried_again_once_there_is_ffmpeg(folder, monkeypatch):
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


def test_folders_without_any_usable_sound(folder):
    """The original recurses until Python gives up."""
    with pytest.raises(FileNotFoundError, match="No folder of sounds: .*my sounds.* is not there"):
        decode(folder, RATE)
    folder.mkdir()
    with pytest.raises(ValueError, match=r"holds no sound files\. Known: .*\.wav"):
        decode(folder, RATE)
    (folder / "x.txt").write_text("x")
    with pytest.raises(ValueError, match=r"of other kinds: 1, such as x\.txt"):
        decode(folder, RATE)
    expected = rubbish(folder)
    (folder / "good.wav").unlink()
    for _ in range(2):  # decoded, and from the cache
        with pytest.raises(ValueError, match="None of the 8 sound files") as raised:
            decode(folder, RATE)
        assert all(f"- {name}: " in str(raised.value) for name in expected)


def test_a_file_in_place_of_a_folder(folder):
    with pytest.raises(FileNotFoundError, match="No folder"):
        decode(write(folder / "a.wav"), RATE)


# --- the cache --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [RATE, 11025])
def test_a_long_file_is_the_same_in_one_block_and_in_many(rate, folder, monkeypatch):
    """Streamed resampling that restarts with every block clicks at its edges."""
    write(folder / "a.wav", noise(50_001, channels=2), rate)
    whole = decode(folder, RATE)
    monkeypatch.setattr(dataset, "_BLOCK", 777)
    monkeypatch.setattr(dataset, "_LAYOUT", -1)
    parts = decode(folder, RATE)
    np.testing.assert_array_equal(whole.audio, parts.audio)
    assert parts.sounds[0].dc == pytest.approx(whole.sounds[0].dc, abs=1e-9)
    assert parts.sounds[0].peak_dbfs == whole.sounds[0].peak_dbfs


@pytest.mark.skipif(sys.platform != "linux", reason="counts in Linux's units")
def test_a_long_recording_does_not_fill_the_memory(folder):
    """20 minutes at 8 kHz become 420 MB at 44.1 kHz in stereo; measured in a process of its own."""
    write(folder / "a.flac", np.tile(noise(RATE)[:, 0], 1200))
    code = (
        "import resource, sys, soxr, numpy; from ddnb.dataset import decode\n"
        "class Done(Exception): pass\n"
        "def stop(*_): raise Done\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: decode(sys.argv[1], 44100, on_file=stop)\n"
        "except Done: print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    run = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 200  # MiB; no less than the blocks want, far less than the whole


def counted(folder, **kwargs):
    """The data, and how many files were decoded for it."""
    calls = []
    return decode(folder, RATE, on_file=lambda done, total: calls.append((done, total)), **kwargs), calls


def test_the_second_time_nothing_is_decoded(folder):
    for i in range(3):
        write(folder / f"{i}.wav", noise(seed=i))
    first, calls = counted(folder)
    assert calls == [(1, 3), (2, 3), (3, 3)]
    again, calls = counted(folder)
    assert calls == []
    assert (again.sounds, again.unusable, again.fingerprint) == (first.sounds, first.unusable, first.fingerprint)
    np.testing.assert_array_equal(again.audio, first.audio)
    assert not again.audio.flags.writeable


def test_a_changed_folder_is_decoded_anew_and_its_old_cache_goes(folder, cache):
    """Otherwise one trains on yesterday's files, or fills the disk with every day's."""

    def entries():
        return [p for p in (cache / "datasets").iterdir() if p.is_dir()]

    write(folder / "a.wav", noise(seed=1))
    write(folder.parent / "other/x.wav", noise(seed=8))
    decode(folder.parent / "other", RATE)
    counted(folder)
    assert len(entries()) == 2
    for change in (
        lambda: write(folder / "b.wav", noise(seed=2)),
        lambda: write(folder / "b.wav", noise(1001, seed=3)),
        lambda: (write(folder / "b.wav", noise(1001, seed=4)), os.utime(folder / "b.wav", ns=(1, 1))),
        lambda: (folder / "b.wav").rename(folder / "c.wav"),
        lambda: (folder / "c.wav").unlink(),
    ):
        change()
        data, calls = counted(folder)
        assert len(calls) == len(data.sounds) == len(list(folder.iterdir()))
        assert len(entries()) == 2
    assert counted(folder.parent / "other")[1] == []


def test_rates_and_channels_are_cached_side_by_side(folder):
    write(folder / "a.wav")
    shapes = [decode(folder, *key).audio.shape for key in ((8000, 2), (16000, 2), (8000, 1))]
    assert shapes == [(1000, 2), (2000, 2), (1000, 1)]
    assert counted(folder)[1] == []


def test_an_interrupted_decode_leaves_nothing_behind(folder, cache):
    for i in range(3):
        write(folder / f"{i}.wav", noise(seed=i))

    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode(folder, RATE, on_file=stop)
    assert [p for p in (cache / "datasets").iterdir() if p.is_dir()] == []
    assert len(counted(folder)[1]) == 3


def test_what_a_killed_decode_has_left_is_removed(folder, cache, monkeypatch):
    """Gigabytes that nobody would ever find, also when the folder has changed since."""
    write(folder / "a.wav", noise(seed=1))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("ddnb.files.shutil.rmtree", lambda *_, **__: None)  # killed: no time to tidy

        def stop(*_):
            raise KeyboardInterrupt

        decode(folder, RATE, on_file=stop)
    assert list((cache / "datasets").rglob("audio.f32"))
    write(folder / "b.wav", noise(seed=2))
    decode(folder, RATE)
    assert len(list((cache / "datasets").rglob("audio.f32"))) == 1


def test_of_several_at_once_one_decodes(folder):
    for i in range(5):
        write(folder / f"{i}.wav", noise(seed=i))
    calls, results = [], []

    def work():
        results.append(decode(folder, RATE, on_file=lambda done, _: calls.append(done)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [1, 2, 3, 4, 5]
    assert [len(r.sounds) for r in results] == [5] * 4


@pytest.mark.skipif(os.name == "nt", reason="limits file sizes in the way of POSIX")
@pytest.mark.parametrize("rate", [RATE, 16000])
def test_a_full_disk_is_not_the_fault_of_the_files(rate, folder, cache):
    """Taken for unusable files, a full disk would quietly train on what fitted before."""
    import resource

    for i in range(4):
        write(folder / f"{i}.wav", noise(2000, seed=i), rate)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # one or two of the files fit
    try:
        with pytest.raises(RuntimeError, match=r"datasets cannot be written .*free disk space, or set DDNB_CACHE"):
            decode(folder, RATE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [p for p in (cache / "datasets").iterdir() if p.is_dir()] == []
    assert len(decode(folder, RATE).sounds) == 4


def test_the_fingerprint_is_of_names_and_contents_only(folder):
    """A run is resumed on another machine, where the folder lies elsewhere and was unzipped today."""
    for name in ("a.wav", "kick/b.wav"):
        write(folder / name, noise(seed=hash_of(name)))
    there = folder.parent / "elsewhere"
    shutil.copytree(folder, there)
    os.utime(there / "a.wav", (1, 1))
    (there / "notes.txt").write_text("ignored")
    (there / "broken.wav").write_text("unusable")
    first = decode(folder, RATE).fingerprint
    assert decode(there, RATE).fingerprint == decode(folder, 16000).fingerprint == first
    (there / "a.wav").rename(there / "kick/a.wav")
    moved = decode(there, RATE).fingerprint
    write(folder / "a.wav", noise(seed=99))
    assert len({first, moved, decode(folder, RATE).fingerprint}) == 3


# --- drawing ----------------------------------------------------------------------------------------------------


def made(*lengths, channels=1, categories=None, rate=RATE):
    """Data whose every sample is different, so that a clip says where it comes from: sample i has the value i + 1."""
    starts = np.cumsum([0, *lengths]).tolist()
    sounds = tuple(
        Sound(f"{i}.wav", categories[i] if categories else None, start, n, rate, channels, n / rate, str(i), 0, 0, 0)
        for i, (start, n) in enumerate(zip(starts, lengths, strict=False))
    )
    audio = np.repeat(np.arange(1, starts[-1] + 1, dtype=np.float32)[:, None], channels, axis=1)
    return Dataset(audio, rate, sounds, {}, ())


def drawn(data, items, frames, crop=False, augment=None, seed=0, categories=()):
    return draw(data, pieces(data, frames, crop, categories), items, frames, crop=crop, augment=augment, seed=seed)


@given(st.integers(1, 9), st.integers(0, 20), st.integers(0, 20), st.booleans(), st.integers(0, 3))
def test_a_clip_depends_on_the_seed_and_its_number_alone(n, first, more, crop, seed):
    """Otherwise a resumed run, another batch size or a second process trains on other clips."""
    data = made(*range(50, 50 + 10 * n, 10), channels=2)
    options = {"frames": 60, "crop": crop, "augment": Augment(shift_s=0.001), "seed": seed}
    whole, labels = drawn(data, range(first + more), **options)
    a, la = drawn(data, range(first), **options)
    b, lb = drawn(data, range(first, first + more), **options)
    np.testing.assert_array_equal(whole, np.concatenate([a, b]))
    np.testing.assert_array_equal(labels, np.concatenate([la, lb]))
    assert whole.shape == (first + more, 2, 60) and whole.dtype == np.float32 and labels.dtype == np.int64


@pytest.mark.parametrize("seed", [0, 1])
def test_every_sound_once_per_epoch_in_another_order_each_time(seed):
    data = made(*[5] * 30)
    clips, _ = drawn(data, range(90), 5, seed=seed)
    orders = (clips[:, 0, 0].reshape(3, 30) // 5).tolist()
    assert all(sorted(order) == list(range(30)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3  # 1 / 30! by chance


def test_another_seed_another_order():
    data = made(*[5] * 30)
    assert (drawn(data, range(30), 5, seed=0)[0] != drawn(data, range(30), 5, seed=1)[0]).any()


def test_fewer_files_than_a_batch_still_fill_it():
    """The original's loader gives no batch at all."""
    clips, labels = drawn(made(*[5] * 5, categories="aabbb"), range(8), 5, categories=("a", "b"))
    assert Counter((clips[:5, 0, 0] // 5).tolist()) == dict.fromkeys(range(5), 1)
    assert len(clips) == len(labels) == 8


def test_without_changes_it_is_the_beginning_then_silence():
    data = made(20, 7, channels=2)
    clips, _ = drawn(data, range(2), 10)
    long, short = sorted(clips, key=lambda clip: clip[0, 0])
    np.testing.assert_array_equal(long, [list(range(1, 11))] * 2)
    np.testing.assert_array_equal(short, [[21, 22, 23, 24, 25, 26, 27, 0, 0, 0]] * 2)


def test_labels_are_numbers_in_the_order_asked_for():
    data = made(5, 5, 5, 5, categories=["kick", "hat", "noise", None])
    clips, labels = drawn(data, range(4), 5, categories=("hat", "kick"))
    assert {int(c[0, 0] // 5): int(n) for c, n in zip(clips, labels, strict=True)} == {0: 1, 1: 0, 2: -1, 3: -1}


def test_crops_stay_inside_their_sound_and_reach_all_of_it():
    data = made(100, 40, 10)
    clips, _ = drawn(data, range(3000), 40, crop=True)
    starts = {0: set(), 1: set(), 2: set()}
    for clip in clips[:, 0]:
        which = int(np.searchsorted([101, 141], clip[0], side="right"))
        starts[which].add(int(clip[0]))
        filled = clip[clip > 0]
        np.testing.assert_array_equal(filled, np.arange(clip[0], clip[0] + len(filled)))
        assert filled[-1] <= (100, 140, 150)[which] and len(filled) == (40, 40, 10)[which]
    assert starts == {0: set(range(1, 62)), 1: {101}, 2: {141}}  # 1000 draws of 61: all but surely


def test_changes_stay_within_what_the_user_was_told():
    """Up to 6 dB quieter, up to 5 ms later, upside down half of the time; never louder, never anything else."""
    augment = Augment()
    data = made(1000)
    data.audio[:] = 1
    clips, _ = drawn(data, range(2000), 900, augment=augment)
    late = (clips[:, 0] == 0).sum(axis=1)
    gain = clips[:, 0, -1]
    assert late.min() == 0 and late.max() == round(0.005 * RATE)
    assert all(
        (clip[lag:] == g).all() and not clip[:lag].any() for clip, lag, g in zip(clips[:, 0], late, gain, strict=True)
    )
    decibels = 20 * np.log10(np.abs(gain))
    assert -6 <= decibels.min() < -5.9 and -0.1 < decibels.max() <= 1e-6
    assert 800 < (gain < 0).sum() < 1200  # 9 sigma


@pytest.mark.parametrize(
    ("augment", "expected"),
    [
        (Augment(False, 0, 0), {(0, 1.0)}),
        (Augment(True, 0, 0), {(0, 1.0), (0, -1.0)}),
        (Augment(False, 0, 1 / RATE), {(0, 1.0), (1, 1.0)}),
    ],
)
def test_each_change_can_be_had_by_itself(augment, expected):
    data = made(50)
    data.audio[:] = 1
    clips, _ = drawn(data, range(60), 50, augment=augment)
    assert {(int((clip == 0).sum()), float(clip[-1])) for clip in clips[:, 0]} == expected


def test_a_crop_is_not_shifted_as_well():
    clips, _ = drawn(made(1000), range(50), 100, crop=True, augment=Augment(quieter_db=0))
    assert (clips != 0).all()


def test_the_data_itself_is_never_changed():
    data = made(50)
    before = data.audio.copy()
    drawn(data, range(20), 40, crop=True, augment=Augment())
    np.testing.assert_array_equal(data.audio, before)


# --- pieces and what is held out --------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=10), st.integers(1, 100), st.booleans())
def test_pieces_cover_every_frame_exactly_once(lengths, frames, crop):
    data = made(*lengths)
    found = pieces(data, frames, crop)
    covered = np.concatenate([np.arange(p.start, p.start + p.frames) for p in found])
    np.testing.assert_array_equal(covered, np.arange(sum(lengths)))
    if not crop:
        assert [p.frames for p in found] == lengths
    edges = {s.start for s in data.sounds}
    for p in found:  # no piece is of two sounds, and one cut from a long recording still leaves room to crop
        assert not any(p.start < edge < p.start + p.frames for edge in edges)
        assert p.start in edges or p.frames >= 4 * frames


def test_a_long_recording_weighs_more_than_a_short_sound():
    found = pieces(made(100, 4000), 100, crop=True)
    assert len([p for p in found if p.start >= 100]) == 10


@given(
    st.lists(st.tuples(st.sampled_from([-1, 0, 1, 2]), st.integers(0, 12)), max_size=40),
    st.floats(0, 0.5),
    st.integers(0, 5),
)
def test_what_is_held_out_is_not_trained_on_and_no_class_is_lost(kinds, share, seed):
    """Not even another piece of the same sound, where there are sounds enough."""
    found = [Piece(i, 1, label, sound) for i, (label, sound) in enumerate(kinds)]
    train, held = hold_out(found, share, 32, seed)
    assert sorted(train + held) == found and not set(train) & set(held)
    assert (train, held) == hold_out(found, share, 32, seed)
    assert {p.label for p in train} == {label for label, _ in kinds}
    sounds = [{p.sound for p in part} for part in (train, held)]
    if len(sounds[0] | sounds[1]) >= 5:
        assert not sounds[0] & sounds[1]
        smallest = min(sum(p.sound == s for p in found) for s in sounds[0] | sounds[1])
        assert len(held) <= max(1, round(share * len(found)), smallest)
    else:
        assert len(held) <= max(1, round(share * len(found)))
    if len(found) < 5 or not share:
        assert held == []


def test_something_is_held_out_where_it_can_be():
    alone = [Piece(i, 1, -1, i) for i in range(5)]
    assert [len(part) for part in hold_out(alone, 0.01, 32, 0)] == [4, 1]
    long = [Piece(20 * s + i, 1, -1, s) for s in range(5) for i in range(20)]  # each more than a tenth of all
    assert len({p.sound for p in hold_out(long, 0.1, 32, 0)[1]}) == 1
    mixed = [Piece(i, 1, -1, 0) for i in range(600)] + [Piece(600 + i, 1, -1, 1 + i) for i in range(40)]
    assert {p.sound for p in hold_out(mixed, 0.05, 32, 0)[1]} and len(hold_out(mixed, 0.05, 32, 0)[1]) == 32
    assert 0 not in {p.sound for p in hold_out(mixed, 0.05, 32, 0)[1]}  # nor is the long recording lost to training


def test_another_seed_holds_out_others():
    found = [Piece(i, 1, -1, i) for i in range(100)]
    assert hold_out(found, 0.1, 32, 0)[1] != hold_out(found, 0.1, 32, 1)[1]
    assert len(hold_out(found, 0.1, 32, 0)[1]) == 10
    assert len(hold_out(found, 0.5, 32, 0)[1]) == 32


def test_a_folder_around_the_class_folders_is_looked_through(tmp_path):
    """What unpacking a zip leaves; with it all categories would become one."""
    shutil.copytree(dataset.EXAMPLES, tmp_path / "zip" / "my sounds")
    (tmp_path / "zip" / "__MACOSX").mkdir()
    assert decode(tmp_path / "zip", 22050, 1).categories == ("hat", "kick", "snare")
    assert decode(dataset.EXAMPLES.parent / "one-shots" / "kick", 22050, 1).categories == ()
    shutil.copytree(dataset.EXAMPLES / "kick", tmp_path / "one" / "kick")
    assert decode(tmp_path / "one", 22050, 1).categories == ("kick",)


def test_a_file_is_no_folder():
    with pytest.raises(FileNotFoundError, match="is a file: give the folder"):
        decode(next(dataset.EXAMPLES.rglob("*.flac")), 22050, 1)
