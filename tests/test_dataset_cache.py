"""The cache of decoded folders: blocks, reuse, interrupted and parallel decoding, a full disk."""

import os
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
from test_dataset import RATE, hash_of, noise, write

from ddnb.training import dataset
from ddnb.training.dataset import decode


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "my sounds [120 bpm]"


@pytest.mark.parametrize("rate", [RATE, 11025])
def test_blocks_leave_no_seams(rate, folder, monkeypatch):
    """Streamed resampling that restarts with every block clicks at its edges."""
    write(folder / "a.wav", noise(50_001, channels=2), rate)
    whole = decode(folder, RATE)
    monkeypatch.setattr("ddnb.audio.reading._BLOCK", 777)
    monkeypatch.setattr(dataset, "_LAYOUT", -1)
    parts = decode(folder, RATE)
    np.testing.assert_array_equal(whole.audio, parts.audio)
    assert parts.sounds[0].dc == pytest.approx(whole.sounds[0].dc, abs=1e-9)
    assert parts.sounds[0].peak_dbfs == whole.sounds[0].peak_dbfs


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts in Linux's units")
def test_long_recording_does_not_fill_the_memory(folder):
    """20 minutes at 8 kHz become 420 MB at 44.1 kHz in stereo; the memory is measured in a process of its own."""
    write(folder / "a.flac", np.tile(noise(RATE)[:, 0], 1200))
    code = (
        "import resource, sys, soxr, numpy; from ddnb.training.dataset import decode\n"
        "class Done(Exception): pass\n"
        "def stop(*_): raise Done\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: decode(sys.argv[1], 44100, on_file=stop)\n"
        "except Done: print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    run = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 200  # MiB: the blocks need some, the whole file needs far more


def decode_counting(folder, **kwargs):
    """Decode a folder; return the data and the calls of ``on_file``."""
    calls = []
    return decode(folder, RATE, on_file=lambda done, total: calls.append((done, total)), **kwargs), calls


def test_unchanged_folder_is_read_from_the_cache(folder):
    for i in range(3):
        write(folder / f"{i}.wav", noise(seed=i))
    first, calls = decode_counting(folder)
    assert calls == [(1, 3), (2, 3), (3, 3)]
    again, calls = decode_counting(folder)
    assert calls == []
    assert (again.sounds, again.unusable, again.fingerprint) == (first.sounds, first.unusable, first.fingerprint)
    np.testing.assert_array_equal(again.audio, first.audio)
    assert not again.audio.flags.writeable


def test_changed_folder_replaces_its_cache(folder, cache):
    """Otherwise a run would use old files, or old caches would fill the disk."""

    def entries():
        return [p for p in (cache / "datasets").iterdir() if p.is_dir()]

    write(folder / "a.wav", noise(seed=1))
    write(folder.parent / "other/x.wav", noise(seed=8))
    decode(folder.parent / "other", RATE)
    decode_counting(folder)
    assert len(entries()) == 2
    for change in (
        lambda: write(folder / "b.wav", noise(seed=2)),
        lambda: write(folder / "b.wav", noise(1001, seed=3)),
        lambda: (write(folder / "b.wav", noise(1001, seed=4)), os.utime(folder / "b.wav", ns=(1, 1))),
        lambda: (folder / "b.wav").rename(folder / "c.wav"),
        lambda: (folder / "c.wav").unlink(),
    ):
        change()
        data, calls = decode_counting(folder)
        assert len(calls) == len(data.sounds) == len(list(folder.iterdir()))
        assert len(entries()) == 2
    assert decode_counting(folder.parent / "other")[1] == []


def test_rates_and_channels_are_cached_side_by_side(folder):
    write(folder / "a.wav")
    shapes = [decode(folder, *key).audio.shape for key in ((8000, 2), (16000, 2), (8000, 1))]
    assert shapes == [(1000, 2), (2000, 2), (1000, 1)]
    assert decode_counting(folder)[1] == []


def test_interrupted_decode_leaves_no_files(folder, cache):
    for i in range(3):
        write(folder / f"{i}.wav", noise(seed=i))

    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode(folder, RATE, on_file=stop)
    assert [p for p in (cache / "datasets").iterdir() if p.is_dir()] == []
    assert len(decode_counting(folder)[1]) == 3


def test_files_of_a_killed_decode_are_removed(folder, cache, monkeypatch):
    """They are gigabytes that nobody would find, also where the folder has changed since."""
    write(folder / "a.wav", noise(seed=1))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("ddnb.files.shutil.rmtree", lambda *_, **__: None)  # a killed process cleans up nothing

        def stop(*_):
            raise KeyboardInterrupt

        decode(folder, RATE, on_file=stop)
    assert list((cache / "datasets").rglob("audio.f32"))
    write(folder / "b.wav", noise(seed=2))
    decode(folder, RATE)
    assert len(list((cache / "datasets").rglob("audio.f32"))) == 1


def test_only_one_of_several_threads_decodes(folder):
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


@pytest.mark.skipif(os.name == "nt", reason="uses limits of POSIX")
@pytest.mark.parametrize("rate", [RATE, 16000])
def test_full_disk_is_not_blamed_on_the_files(rate, folder, cache):
    """With the remaining files marked as unusable, a run would silently train on a part of the data."""
    import resource

    for i in range(4):
        write(folder / f"{i}.wav", noise(2000, seed=i), rate)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # one or two of the files fit
    try:
        with pytest.raises(OSError, match=r"datasets cannot be written .*free disk space, or set DDNB_CACHE"):
            decode(folder, RATE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [p for p in (cache / "datasets").iterdir() if p.is_dir()] == []
    assert len(decode(folder, RATE).sounds) == 4


def test_fingerprint_depends_on_names_and_contents_only(folder):
    """A run may be resumed on another machine, with the folder in another place and unzipped anew."""
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
