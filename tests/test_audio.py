"""Sound files in and out, judged by independent readers and by physics."""

import shutil
import struct
import subprocess
import wave

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from ddnb import audio


def tone(hz, rate, seconds=0.5, channels=2):
    wave = np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate).astype(np.float32)
    return np.stack([0.5 * wave] * channels)


def tone_db(sound, hz, rate):
    """Level of one frequency in the middle of a sound, dB re a full-scale sine."""
    middle = sound[0, len(sound[0]) // 4 : 3 * len(sound[0]) // 4]
    window = np.hanning(len(middle))
    spectrum = np.exp(-2j * np.pi * hz * np.arange(len(middle)) / rate)
    return 20 * np.log10(abs((middle * window * spectrum).sum()) / (window.sum() / 2) + 1e-12)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff"])
def test_reads_what_musicians_have(suffix, tmp_path):
    path = tmp_path / f"tone.{suffix.upper()}"
    soundfile.write(path, tone(440, 44100).T, 44100, format=suffix)
    sound, rate = audio.read(path)
    assert (sound.dtype, sound.shape[0], rate) == (np.float32, 2, 44100)
    assert tone_db(sound, 440, rate) == pytest.approx(-6, abs=0.5)


def test_resampling_keeps_a_tone_and_removes_what_does_not_fit(tmp_path):
    """1 kHz must stay; 15 kHz cannot exist at 16 kHz and would come back as an alias at 1 kHz."""
    soundfile.write(tmp_path / "low.wav", tone(1000, 48000).T, 48000)
    soundfile.write(tmp_path / "high.wav", tone(15000, 48000).T, 48000)
    low, rate = audio.read(tmp_path / "low.wav", sample_rate=16000)
    high, _ = audio.read(tmp_path / "high.wav", sample_rate=16000)
    assert (rate, low.shape[1]) == (16000, 8000)
    assert tone_db(low, 1000, 16000) == pytest.approx(-6, abs=0.1)
    assert tone_db(high, 1000, 16000) < -90


@pytest.mark.parametrize(("there", "wanted"), [(1, 2), (2, 1), (2, 2), (6, 2)])
def test_channels(there, wanted, tmp_path):
    soundfile.write(tmp_path / "x.wav", tone(440, 44100, channels=there).T, 44100)
    sound, rate = audio.read(tmp_path / "x.wav", channels=wanted)
    assert len(sound) == wanted
    assert tone_db(sound, 440, rate) == pytest.approx(-6, abs=0.1)


@pytest.mark.parametrize("width", [0.0, 0.3, 1.0])
def test_wide_sounds_are_mono_in_mono_and_in_the_bass(width):
    t = np.arange(44_100) / 44_100
    low, high = np.sin(2 * np.pi * 60 * t)[None], np.sin(2 * np.pi * 3000 * t)[None]
    for sound, most in ((low, 0.15), (high, 2.5)):
        left, right = audio.widen(sound.astype(np.float32), width)
        np.testing.assert_allclose((left + right) / 2, sound[0], atol=1e-6)
        assert np.abs(left - right)[4000:-4000].max() / 2 <= most * width + 1e-6
    burst = np.zeros((1, 44_100), np.float32)
    burst[0, 10_000:12_000] = 1
    left, right = audio.widen(burst, width)
    assert np.abs(left - right)[:10_000].max() < 1e-6 and np.abs(left - right)[12_882:].max() < 1e-6
    noise = np.random.default_rng(0).standard_normal((1, 44_100)).astype(np.float32)
    left, right = audio.widen(noise, width)
    assert (left - right).std() / 2 == pytest.approx(width * noise.std(), rel=0.1, abs=1e-9)


def test_fit_length_cuts_and_pads():
    sound = np.arange(10, dtype=np.float32)[None]
    assert audio.fit_length(sound, 4, offset=3).tolist() == [[3, 4, 5, 6]]
    assert audio.fit_length(sound, 4, offset=8).tolist() == [[8, 9, 0, 0]]
    with pytest.raises(ValueError, match="frames 0 to 9"):
        audio.fit_length(sound, 4, offset=10)


@pytest.mark.parametrize(("name", "content", "message"), [
    ("empty.wav", b"", "empty"),
    ("text.wav", b"this is no sound" * 50, "cannot be read as sound"),
    ("cut.wav", b"RIFF\x24\x00\x00\x00WAVE", "cannot be read as sound"),
])  # fmt: skip
def test_unreadable_files_are_named(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}.*{message}"):
        audio.read(tmp_path / name)


@pytest.mark.parametrize(("value", "message"), [(np.nan, "not numbers"), (np.inf, "not numbers"), (0.0, "silent")])
def test_useless_sounds_are_named(value, message, tmp_path):
    soundfile.write(tmp_path / "x.wav", np.full((100, 2), value), 44100, "FLOAT")
    with pytest.raises(ValueError, match=message):
        audio.read(tmp_path / "x.wav")
    soundfile.write(tmp_path / "none.wav", np.zeros((0, 2)), 44100)
    with pytest.raises(ValueError, match="0 frames"):
        audio.read(tmp_path / "none.wav")
    with pytest.raises(FileNotFoundError):
        audio.read(tmp_path / "missing.wav")


def test_without_ffmpeg_other_formats_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    (tmp_path / "x.m4a").write_bytes(b"\x00\x00\x00\x1cftypM4A " + bytes(100))
    with pytest.raises(ValueError, match="install ffmpeg"):
        audio.read(tmp_path / "x.m4a")


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_with_ffmpeg_other_formats_are_read(tmp_path):
    soundfile.write(tmp_path / "tone.wav", tone(440, 44100).T, 44100)
    subprocess.run(["ffmpeg", "-v", "error", "-i", tmp_path / "tone.wav", tmp_path / "tone.m4a"], check=True)
    sound, rate = audio.read(tmp_path / "tone.m4a")
    assert tone_db(sound, 440, rate) == pytest.approx(-6, abs=0.5)


# --- writing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "width"), [("16", 2), ("24", 3)])
@pytest.mark.parametrize("channels", [1, 2])
def test_integers_survive_to_one_step(bits, width, channels, tmp_path):
    """Read back by Python's own wave module, which knows nothing of our writer."""
    sound = (np.random.default_rng(0).uniform(-0.8, 0.8, (channels, 999))).astype(np.float32)
    assert audio.write_wav(tmp_path / "x.wav", sound, 44100, bits) == 0
    with wave.open(str(tmp_path / "x.wav")) as file:
        assert (file.getsampwidth(), file.getnchannels(), file.getframerate(), file.getnframes()) == (
            width, channels, 44100, 999,
        )  # fmt: skip
        raw = file.readframes(999)
    words = [int.from_bytes(raw[i : i + width], "little", signed=True) for i in range(0, len(raw), width)]
    back = np.array(words).reshape(999, channels).T / 2 ** (8 * width - 1)
    assert np.abs(back - sound).max() <= 1 / 2 ** (8 * width - 1)


def test_float_is_exact_and_never_lowered(tmp_path):
    sound = 3 * np.random.default_rng(0).standard_normal((2, 100)).astype(np.float32)
    assert audio.write_wav(tmp_path / "x.wav", sound, 48000, "float") == 0
    back, _ = soundfile.read(tmp_path / "x.wav", dtype="float32")
    np.testing.assert_array_equal(back.T, sound)
    assert struct.unpack("<H", (tmp_path / "x.wav").read_bytes()[20:22]) == (3,)  # WAVE_FORMAT_IEEE_FLOAT


@given(st.floats(0.01, 20))
def test_loud_clips_are_lowered_never_clipped_and_quiet_ones_left(peak):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.wav"
        sound = tone(100, 8000, 0.1) * 2 * peak
        gain_db = audio.write_wav(path, sound, 8000)
        back, _ = soundfile.read(path)
    assert gain_db <= 0
    assert (gain_db < 0) == (audio.peak_dbfs(sound) > audio.CEILING_DBFS + audio.NO_GAIN_DB)
    assert np.abs(back).max() <= 10 ** (audio.CEILING_DBFS / 20) + 1e-4
    np.testing.assert_allclose(back.T, sound * 10 ** (gain_db / 20), atol=2e-6)


@pytest.mark.parametrize("bad", [np.full((2, 9), np.nan), np.full((1, 9), np.inf), np.zeros((2, 0))])
def test_what_cannot_be_written_leaves_no_file(bad, tmp_path):
    with pytest.raises(ValueError, match="not written"):
        audio.write_wav(tmp_path / "x.wav", bad.astype(np.float32), 44100)
    with pytest.raises(ValueError, match="16, 24, float"):
        audio.write_wav(tmp_path / "x.wav", tone(1, 100), 44100, "32")
    assert list(tmp_path.iterdir()) == []


def test_existing_files_are_never_overwritten(tmp_path):
    (tmp_path / "x.wav").write_text("mine")
    with pytest.raises(FileExistsError):
        audio.write_wav(tmp_path / "x.wav", tone(440, 44100), 44100)
    assert (tmp_path / "x.wav").read_text() == "mine"


def test_a_full_disk_leaves_no_half_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(soundfile.SoundFile, "write", full)
    with pytest.raises(OSError, match="No space left"):
        audio.write_wav(tmp_path / "x.wav", tone(440, 44100), 44100)
    assert list(tmp_path.iterdir()) == []
