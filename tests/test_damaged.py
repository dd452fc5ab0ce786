"""Damaged files, and what is no file: refused by name and at once, and nothing is printed."""

import errno
import io
import os
import random
import socket
import sys
import tempfile

import numpy as np
import pytest
import soundfile

from ddnb.audio import reading
from ddnb.audio.io import read
from ddnb.audio.quiet import without_chatter
from ddnb.audio.views import View
from ddnb.errors import AudioError

RATE = 44_100
TONE = (0.5 * np.sin(np.arange(22_050) * 0.03) * np.exp(-np.arange(22_050) / 6000)).astype(np.float32)


def encoded(kind):
    """A noise of half a second in a format, as bytes."""
    file = io.BytesIO()
    noise = 0.3 * np.random.default_rng(0).uniform(-1, 1, 20_000)
    soundfile.write(file, noise, RATE, format=kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "FLAC", "OGG", "MP3", "CAF", "W64", "AU"])
def test_damaged_files_print_nothing(kind, tmp_path, capfd, monkeypatch):
    """An error in a callback of libsndfile was printed as a traceback, and libmpg123 prints what it thinks."""
    monkeypatch.setenv("PATH", "")  # ffmpeg takes a tenth of a second to refuse
    whole, chance = encoded(kind), random.Random(0)
    damaged = [whole[: len(whole) * i // 30] for i in range(1, 30)] + [whole[:i] for i in range(1, 200, 9)]
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 5)):
            place = chance.randrange(128) if chance.random() < 0.6 else chance.randrange(len(data))
            data[place] = chance.choice([0, 0x7F, 0x80, 0xFF, chance.randrange(256)])
        damaged.append(bytes(data))
    refused = 0
    for data in damaged:
        (tmp_path / "x.wav").write_bytes(data)
        try:
            read(tmp_path / "x.wav")
        except AudioError as error:
            refused += 1
            assert str(error).startswith("x.wav ")
    assert refused
    assert capfd.readouterr() == ("", "")


def test_what_others_print_while_an_mp3_is_decoded_is_not_lost(capfd):
    """The standard error stream belongs to the whole process."""
    with without_chatter():
        os.write(2, b"[src/libmpg123/parse.c:do_readahead():1083] warning: a one-frame stream?\nfrom elsewhere\n")
    assert capfd.readouterr().err == "from elsewhere\n"


def test_an_mp3_file_is_read_where_no_temporary_file_can_be_made(tmp_path, monkeypatch):
    """Full disks refuse them; the file was called one that cannot be opened."""

    def refuse(**_):
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    (tmp_path / "a.mp3").write_bytes(encoded("MP3"))
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    assert read(tmp_path / "a.mp3")[0].any()


@pytest.mark.parametrize("end", [4000, 5000, 6000])
def test_an_ogg_file_that_ends_before_its_sound_is_cut_short(end, tmp_path):
    """It was called empty, or too short."""
    (tmp_path / "a.ogg").write_bytes(encoded("OGG")[:end])
    soundfile.write(tmp_path / "none.ogg", np.zeros(0), RATE)
    with pytest.raises(AudioError, match=r"^a\.ogg is cut short"):
        read(tmp_path / "a.ogg")
    with pytest.raises(AudioError, match=r"^none\.ogg is empty"):
        read(tmp_path / "none.ogg")


def test_a_disk_that_fails_is_no_damaged_file(tmp_path, monkeypatch):
    """libsndfile takes what a disk refused for the end of the file."""
    soundfile.write(tmp_path / "a.wav", np.tile(TONE, 20), RATE)

    class Failing(io.BytesIO):
        def readinto(self, buffer):
            if self.tell() > 10_000:
                raise OSError(errno.EIO, "Input/output error")
            return super().readinto(buffer)

    content = (tmp_path / "a.wav").read_bytes()
    monkeypatch.setattr(reading, "finished", lambda file, name: View(Failing(content), 0))
    with pytest.raises(OSError, match="Input/output error"):
        read(tmp_path / "a.wav")


def test_a_tag_longer_than_the_file_is_refused_at_once(tmp_path):
    """libmpg123 looked for the sound through all of the stated length."""
    (tmp_path / "a.mp3").write_bytes(b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + encoded("MP3"))
    with pytest.raises(AudioError, match=r"^a\.mp3 is damaged: its ID3 tag states 268435465 bytes, the file has"):
        read(tmp_path / "a.mp3")


def test_channels_are_counted_before_samples_are_read(tmp_path, monkeypatch):
    """A second of 1,024 channels took 1.1 GB."""
    soundfile.write(tmp_path / "most.wav", np.tile(TONE[:2000, None], 32), RATE)
    soundfile.write(tmp_path / "many.wav", np.tile(TONE[:2000, None], 33), RATE)
    assert read(tmp_path / "most.wav")[0].shape == (32, 2000)
    monkeypatch.setattr(soundfile.SoundFile, "read", None)
    with pytest.raises(AudioError, match=r"^many\.wav states 33 channels, where 1 to 32 are possible"):
        read(tmp_path / "many.wav")


def test_a_slow_sound_is_limited_by_its_length(tmp_path, monkeypatch):
    """Five hours at 1 kHz are few samples, but 40 times as many when they are compared with others."""
    monkeypatch.setattr(reading, "MOST_S", 5)
    soundfile.write(tmp_path / "slow.wav", TONE, 4000)
    with pytest.raises(AudioError, match="longer than 0 minutes"):
        read(tmp_path / "slow.wav")


# --- what is no file -------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such files")
def test_only_files_are_opened(tmp_path, monkeypatch):
    """A pipe named like a sound kept its reader waiting for ever."""
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    (tmp_path / "gone.wav").symlink_to("elsewhere.wav")
    (tmp_path / "device.wav").symlink_to("/dev/zero")
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as plug:
        plug.bind("plug.wav")
    reasons = {
        "pipe.wav": "is a pipe, not a sound file",
        "folder.wav": "is a folder, not a sound file",
        "plug.wav": "is a socket, not a sound file",
        "device.wav": "is a device, not a sound file",
        "loop.wav": "is a link that leads back to itself",
        "gone.wav": "is a link to elsewhere.wav, which does not exist",
    }
    for name, reason in reasons.items():
        with pytest.raises(AudioError, match=f"^{name} {reason}"):
            read(tmp_path / name)
    for name in ("none.wav", "no\0thing.wav"):
        with pytest.raises(FileNotFoundError, match="no sound file"):
            read(tmp_path / name)
