"""Sound files from the wild are read whole and judged; one that cannot be used is named, and stops nothing else."""

import os
import re
import shutil
import struct
import subprocess
import sys

import numpy as np
import pytest
import soundfile

import ddnb
from ddnb.__main__ import main
from ddnb.audio import reading
from ddnb.audio.channels import to_channels
from ddnb.audio.io import read
from ddnb.errors import AudioError

RATE = 44_100
TONE = (0.5 * np.sin(np.arange(22_050) * 0.03) * np.exp(-np.arange(22_050) / 6000)).astype(np.float32)
PCM = (TONE * 32767).astype("<i2").tobytes()


def chunk(name, content, order="<", size=None):
    return name + struct.pack(f"{order}I", len(content) if size is None else size) + content


def wav(data_size, riff_size=0, before=b"", name=b"RIFF"):
    form = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16))
    return chunk(name, b"WAVE" + before + form + chunk(b"data", PCM, size=data_size), size=riff_size)


def aiff(frames, data_size):
    rate = bytes.fromhex("400eac44000000000000")
    common = chunk(b"COMM", struct.pack(">HIH", 1, frames, 16) + rate, ">")
    sound = chunk(b"SSND", bytes(8) + np.frombuffer(PCM, "<i2").astype(">i2").tobytes(), ">", data_size)
    return chunk(b"FORM", b"AIFF" + common + sound, ">", 0)


UNFINISHED = {
    "plain.wav": wav(0),
    "junk first.wav": wav(0, before=chunk(b"JUNK", bytes(28)) + chunk(b"bext", bytes(602))),
    "riff size known.wav": wav(0, 44_136),
    "streamed.wav": wav(0xFFFFFFFF, 0xFFFFFFFF),
    "long.wav": wav(0xFFFFFFFF, 0xFFFFFFFF, chunk(b"ds64", bytes(28)), b"RF64"),
    "recorder.aif": aiff(0, 8),
    "nothing stated.aif": aiff(0, 0),
}


@pytest.mark.parametrize("name", UNFINISHED)
def test_a_recording_that_was_not_finished_is_read_to_its_end(name, tmp_path):
    """A recorder that was killed states no samples; all of them are there."""
    (tmp_path / name).write_bytes(UNFINISHED[name])
    audio, rate = read(tmp_path / name)
    assert rate == RATE and audio.shape == (1, len(TONE))
    np.testing.assert_allclose(audio[0], TONE, atol=1e-4)
    assert ddnb.check_dataset(tmp_path).data.sounds[0].duration_s == 0.5


@pytest.mark.parametrize(
    "content",
    [
        wav(0)[:-2],
        wav(0)[: -len(PCM)],
        b"RIFF",
        b"RIFF\0\0\0\0WAVE",
        b"FORM\0\0\0\0AIFF",
        b"ID3",
        b"FORM\0\0\0\0AIFFCOMM\0\0\0\x12\0",
    ],
)
def test_headers_that_end_early_are_errors_of_the_file(content, tmp_path):
    """A struct.error, or an endless walk through chunks."""
    (tmp_path / "a.wav").write_bytes(content)
    if len(content) > 1000:
        assert read(tmp_path / "a.wav")[0].shape[1] == len(TONE) - 1
        return
    with pytest.raises(AudioError, match=r"^a\.wav "):
        read(tmp_path / "a.wav")


def test_a_tag_before_a_sound_costs_nothing(tmp_path):
    """libsndfile loses as many bytes at the end of the file as the tag has."""
    tag = b"ID3\x03\0\0\0\0\0\x0a" + bytes(10)
    (tmp_path / "a.wav").write_bytes(tag + wav(len(PCM), len(PCM) + 36))
    soundfile.write(tmp_path / "b.flac", TONE, RATE, "PCM_16")
    (tmp_path / "a.flac").write_bytes(tag + (tmp_path / "b.flac").read_bytes())
    for name in ("a.wav", "a.flac"):
        np.testing.assert_allclose(read(tmp_path / name)[0][0], TONE, atol=1e-4)


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg writes it")
def test_kinds_that_cannot_be_searched_are_read(tmp_path):
    """GSM in a WAV file ended in a ValueError about frames."""
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=440:d=1", "-ar", "8000", "-c:a", "gsm_ms"]
    subprocess.run([*command, str(tmp_path / "a.wav")], check=True)
    audio, rate = read(tmp_path / "a.wav")
    assert rate == 8000 and abs(audio.shape[1] - 8000) < 700


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg writes it")
def test_names_that_look_like_addresses_reach_ffmpeg(tmp_path, monkeypatch):
    """A relative name with a colon is a protocol to ffmpeg, one that begins with a dash an option."""
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=440:d=1", "-c:a", "aac"]
    subprocess.run([*command, str(tmp_path / "x.m4a")], check=True)
    monkeypatch.chdir(tmp_path)
    for name in ("kick:1.m4a", "-i.m4a", "a b'c.m4a"):
        shutil.copy("x.m4a", tmp_path / name)
        assert read(name)[0].shape[1] > 40_000


@pytest.mark.parametrize("rate", [1, 8, 22, 44, 999, 768_001])
def test_impossible_rates_in_a_header_are_named(rate, tmp_path):
    """A rate of 8, meant as kHz, made of 8 KB of sound 22 million frames, and of 22,050 frames at 1 Hz 22 GB."""
    soundfile.write(tmp_path / "a.wav", TONE[:4000], rate, "PCM_16")
    soundfile.write(tmp_path / "b.wav", TONE, RATE, "PCM_16")
    with pytest.raises(AudioError, match=f"a.wav states a sample rate of {rate} Hz, where 1000 to 768000"):
        ddnb.read_clip(tmp_path / "a.wav")
    data = ddnb.check_dataset(tmp_path).data
    assert [s.name for s in data.sounds] == ["b.wav"] and "sample rate" in data.unusable["a.wav"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda x: x * 127, "integers of 8 bits: divide them by 128"),
        (lambda x: x * 32767, "integers of 16 bits: divide them by 32768"),
        (lambda x: x * 8_388_607, "integers of 24 bits: divide them by 8388608"),
        (lambda x: np.where(np.arange(len(x)) == 900, np.float32(1e29), x), "1 of 22050 samples"),
        (lambda x: np.where(np.arange(len(x)) == 900, np.float32(np.nan), x), "not numbers"),
        (lambda x: np.where(np.arange(len(x)) == 900, np.float32(-np.inf), x), "not numbers"),
    ],
)
def test_samples_off_scale_are_named(change, why, tmp_path):
    """Training ended in NaN and blamed the learning rate; vary blamed the weights."""
    soundfile.write(tmp_path / "odd.wav", change(TONE).astype(np.float32), RATE, "FLOAT")
    soundfile.write(tmp_path / "fine.wav", 3 * TONE, RATE, "FLOAT")
    with pytest.raises(AudioError, match=why):
        ddnb.read_clip(tmp_path / "odd.wav")
    report = ddnb.check_dataset(tmp_path)
    assert why in report.data.unusable["odd.wav"] and why in str(report)
    assert [s.name for s in report.data.sounds] == ["fine.wav"]


def test_a_sound_of_hours_is_not_read_into_the_memory(tmp_path, monkeypatch):
    """A mix of two hours took 5 GB before it was refused."""
    monkeypatch.setattr(reading, "MOST_SAMPLES", 10_000)
    monkeypatch.setattr(reading, "_BLOCK", 4096)
    soundfile.write(tmp_path / "mix.wav", TONE, RATE)
    with pytest.raises(AudioError, match="longer than"):
        read(tmp_path / "mix.wav")
    assert len(ddnb.check_dataset(tmp_path).data.sounds) == 1  # training crops it


def test_what_lies_beside_a_file_does_not_matter(tmp_path):
    """Given a path, libsndfile takes an MP3 beside a Mac's resource fork for Sound Designer II."""
    soundfile.write(tmp_path / "kick.mp3", TONE, RATE, format="MP3")
    double = struct.pack(">II16xH", 0x00051607, 0x00020000, 2) + struct.pack(">III", 9, 50, 32)
    (tmp_path / "._kick.mp3").write_bytes(double + struct.pack(">III", 2, 82, 286) + bytes(32 + 286))
    assert read(tmp_path / "kick.mp3")[0].shape[1] >= len(TONE)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not allow such names")
def test_a_name_that_is_not_utf_8(tmp_path):
    """A name from an old disk ended in a UnicodeEncodeError."""
    soundfile.write(tmp_path / "a.wav", TONE, RATE)
    name = os.fsdecode(b"k\xfcck.wav")
    (tmp_path / "a.wav").rename(tmp_path / name)
    assert read(tmp_path / name)[0].shape == (1, len(TONE))
    assert ddnb.check_dataset(tmp_path).data.sounds[0].name == name


# --- channels -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [3, 4, 5, 6, 8])
def test_layouts_keep_left_and_right_apart(channels):
    """The mean of all channels put the centre of the stage, and the effects, on both sides."""
    for speaker, (left, right) in {0: (True, False), 1: (False, True)}.items():
        audio = np.zeros((channels, 10), np.float32)
        audio[speaker] = 1
        made = to_channels(audio, 2)
        assert (made[0].any(), made[1].any()) == (left, right)
    full = to_channels(np.ones((channels, 10), np.float32), 2)
    np.testing.assert_allclose(full, 1, atol=1e-6)  # it cannot clip


def test_channel_for_effects_is_left_out_and_the_centre_is_in_both():
    """Of 5.1 the fourth channel holds rumble, the third what is in the middle."""
    audio = np.zeros((6, 10), np.float32)
    audio[3] = 1
    assert not to_channels(audio, 2).any()
    audio = np.zeros((6, 10), np.float32)
    audio[2] = 1
    left, right = to_channels(audio, 2)
    np.testing.assert_array_equal(left, right)
    assert left.any()


@pytest.mark.parametrize("scale", [1.0, 0.98, -1.0])
def test_channels_that_cancel_become_the_louder_one(scale):
    """Wide synths are silence in mono."""
    audio = np.stack([TONE, -scale * TONE])
    mono = to_channels(audio, 1)
    wanted = TONE if scale > 0 else (TONE + TONE) / 2
    np.testing.assert_allclose(mono[0], wanted, atol=1e-6)


# --- one bad file stops nothing -------------------------------------------------------------------------------


def bad_files(folder):
    """Files that cannot be used, by name, with a word of the reason."""
    rng = np.random.default_rng(1)
    noise = 0.3 * rng.uniform(-1, 1, 30_000)
    soundfile.write(folder / "cut.flac", noise, RATE, "PCM_16")
    (folder / "cut.flac").write_bytes((folder / "cut.flac").read_bytes()[:20_000])
    (folder / "text.wav").write_text("hello")
    (folder / "nothing.wav").write_bytes(b"")
    soundfile.write(folder / "mute.wav", np.zeros(5000), RATE)
    soundfile.write(folder / "loud.wav", (noise * 32768).astype(np.float32), RATE, "FLOAT")
    soundfile.write(folder / "slow.wav", noise, 8)
    soundfile.write(folder / "nan.wav", np.full(5000, np.nan, np.float32), RATE, "FLOAT")
    (folder / "deep").mkdir()
    (folder / "deep" / "text.wav").write_text("hello again")  # the name alone says nothing
    if sys.platform != "win32":
        os.mkfifo(folder / "pipe.wav")
        (folder / "place.wav").mkdir()
        (folder / "circle.wav").symlink_to(folder / "circle.wav")
        (folder / "gone.wav").symlink_to("elsewhere.wav")
    links = {
        "pipe.wav": "is a pipe",
        "place.wav": "is a folder",
        "circle.wav": "leads back to itself",
        "gone.wav": "does not exist",
    }
    return (links if sys.platform != "win32" else {}) | {
        "deep/text.wav": "cannot be read as sound",
        "cut.flac": "damaged",
        "text.wav": "cannot be read as sound",
        "nothing.wav": "empty",
        "mute.wav": "silent",
        "loud.wav": "off scale",
        "slow.wav": "sample rate",
        "nan.wav": "not numbers",
    }


@pytest.fixture
def mixed(tmp_path):
    folder = tmp_path / "sounds"
    folder.mkdir()
    for i in range(3):
        soundfile.write(
            folder / f"good{i}.wav", np.roll(TONE, 300 * i) * np.random.default_rng(i).uniform(0.2, 1), RATE
        )
    return folder, bad_files(folder)


@pytest.mark.parametrize("command", ["vary", "pack", "originality", "check-dataset", "fit", "finetune"])
def test_bad_files_are_named_once_and_stop_no_command(command, mixed, tmp_path, capfd, caplog):
    """One damaged file in a folder ended hours of work, without its name."""
    folder, bad = mixed
    arguments = {
        "vary": ["vary", folder, "-n", "1", "--steps", "1", "--out", tmp_path / "out"],
        "pack": ["pack", folder, "--out", tmp_path / "kit.zip"],
        "originality": ["originality", folder / "good0.wav", "--data", folder],
        "check-dataset": ["check-dataset", folder],
        "fit": ["fit", folder, "--out", tmp_path / "mine.safetensors"],
        "finetune": [
            "finetune",
            "--data",
            folder,
            "--out",
            tmp_path / "run",
            "--steps",
            "1",
            "--no-fit",
            "--demos",
            "0",
        ],
    }[command]
    assert main([str(word) for word in arguments]) == (1 if command == "originality" else 0)
    out, err = capfd.readouterr()
    said = [line for line in (out + err).splitlines() if any(name in line for name in bad)]
    for name, why in bad.items():
        lines = [line for line in said if re.search(rf"(?<![/\w]){re.escape(name)}", line)]
        assert len(lines) == 1 and why in lines[0], (name, said)


def test_originality_of_a_folder_and_itself_compares_its_sounds_with_one_another(mixed, capfd):
    """Each sound was its own near copy."""
    folder, _ = mixed
    assert main(["originality", str(folder), "--data", str(folder)]) == 1  # the three are alike
    out = capfd.readouterr().out
    assert "nearly the same" in out and "near copy of good0" not in out
