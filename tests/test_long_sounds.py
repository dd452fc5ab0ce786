"""Long sounds: what is done in blocks is the same as at once, and takes less than 1 GB above an idle process."""

import os
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

import ddnb
from ddnb.audio import io, mastering
from ddnb.similarity import features

RATE = 44_100


def noise(frames, channels=2, seed=0):
    return (0.3 * np.random.default_rng(seed).uniform(-1, 1, (channels, frames))).astype(np.float32)


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("frames", [1, 50, 1000, 5000])
def test_the_true_peak_of_blocks_is_that_of_the_whole(frames, loop, monkeypatch):
    sound = noise(frames)
    whole = mastering.true_peak_dbfs(sound, loop)
    monkeypatch.setattr(mastering, "_BLOCK", 300)
    assert mastering.true_peak_dbfs(sound, loop) == whole


@pytest.mark.parametrize("bits", ["16", "24", "float"])
def test_a_file_that_is_written_in_blocks_is_the_same(bits, tmp_path, monkeypatch):
    sound = 4 * noise(5000)  # too loud: it is lowered
    io.write_wav(tmp_path / "whole.wav", sound, RATE, bits)
    monkeypatch.setattr(io, "_BLOCK", 300)
    io.write_wav(tmp_path / "blocks.wav", sound, RATE, bits)
    for dtype in ("int32", "float32"):
        whole, blocks = (soundfile.read(tmp_path / f"{name}.wav", dtype=dtype)[0] for name in ("whole", "blocks"))
        np.testing.assert_array_equal(blocks, whole)


def test_features_of_parts_are_those_of_the_whole(monkeypatch):
    sound = features.normalize(noise(3 * RATE), RATE)
    whole = features.describe(sound)
    monkeypatch.setattr(features, "_FRAMES_AT_ONCE", 70)
    parts = features.describe(sound)
    assert int((parts.frames.int() - whole.frames.int()).abs().max()) <= 1  # rounded to half a dB
    np.testing.assert_allclose(parts.windows.float(), whole.windows.float(), atol=1e-3)


@pytest.mark.parametrize("frames", [1, 10])
def test_a_sound_of_few_frames_is_compared(frames):
    """Its bass had no frame at all, which stopped the comparison of a whole folder."""
    assert len(ddnb.originality((noise(frames), RATE), None).rows) == 1


def test_of_a_slow_sound_no_more_is_resampled_than_can_be_varied(small):
    """Half an hour at 1 kHz took gigabytes for a variation of a second; what follows has no influence."""
    slow = noise(20 * 60 * 1000, channels=1)
    long, short = (ddnb.vary(small, (x, 1000), 0.0, 1, duration_s=1).audio for x in (slow, slow[:, :70_000]))
    np.testing.assert_array_equal(long, short)


def test_peaks_and_files_need_no_copy_of_the_sound(tmp_path):
    """A true peak took twenty times the sound."""
    sound = noise(6_000_000, channels=1)
    for work in (
        lambda: mastering.true_peak_dbfs(sound),
        lambda: io.peak_dbfs(sound),
        lambda: io.write_wav(tmp_path / "a.wav", sound, RATE),
    ):
        tracemalloc.start()
        work()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 0.9 * sound.nbytes


def own_memory(words, cache):
    """Run Python; return the peak of its anonymous memory in bytes, without pages of mapped files."""
    child = subprocess.Popen([sys.executable, *words], env={**os.environ, "DDNB_CACHE": str(cache)})
    peak = 0
    while child.poll() is None:
        status = Path(f"/proc/{child.pid}/status").read_text(encoding="utf-8")
        peak = max([peak, *(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon"))])
        time.sleep(0.02)
    assert child.returncode in (0, 1, 2)
    return peak


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")
@pytest.mark.parametrize("command", ["pack", "flac", "originality", "check-dataset", "vary"])
def test_the_longest_sounds_stay_below_a_gigabyte(command, tmp_path):
    """Twelve minutes of stereo took 4.9 GB to pack; five hours at 1 kHz 9.9 GB to compare, now refused."""
    (tmp_path / "sounds").mkdir()
    long, slow = tmp_path / "sounds" / "long.wav", tmp_path / "sounds" / "slow.wav"
    soundfile.write(long, noise(12 * 60 * RATE).T, RATE, "PCM_16")
    soundfile.write(slow, noise(25 * 60 * 1000 * 12, channels=1).T, 1000, "PCM_16")
    words = {
        "pack": ["pack", str(long), "--out", str(tmp_path / "a.zip")],
        "flac": ["pack", str(long), "--format", "flac", "--out", str(tmp_path / "a.zip")],
        "originality": ["originality", str(slow), "--data", str(tmp_path / "sounds")],
        "check-dataset": ["check-dataset", str(tmp_path / "sounds")],
        "vary": ["vary", str(long), "-n", "1", "--steps", "1", "--duration-s", "1", "--out", str(tmp_path / "out")],
    }[command]
    idle = own_memory(["-c", "import ddnb; ddnb.load('drums', device='cpu')"], tmp_path / "cache")
    assert own_memory(["-m", "ddnb", *words], tmp_path / "cache") - idle < 1e9
