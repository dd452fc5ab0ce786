"""Headers of sound files as programs get them wrong: pipes, forgotten bytes, tags before and after."""

import struct

import numpy as np
import pytest
import soundfile

from ddnb.audio.io import read
from ddnb.errors import AudioError

RATE = 44_100
TONE = (0.5 * np.sin(np.arange(22_050) * 0.03) * np.exp(-np.arange(22_050) / 6000)).astype(np.float32)
PCM = (TONE * 32767).astype("<i2").tobytes()
FORMAT = struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16)
TAG = b"ID3\x03\0\0\0\0\0\x0a" + bytes(10)


def chunk(name, content):
    return name + struct.pack("<I", len(content)) + content


def riff(*chunks, kind=b"RIFF"):
    return chunk(kind, b"WAVE" + b"".join(chunks))


ODD_TAG = chunk(b"LIST", b"INFOISFT\5\0\0\0Lavf\0")
PLAIN = chunk(b"fmt ", FORMAT), chunk(b"data", PCM)
HONEST = {
    "odd chunk without its last byte": riff(PLAIN[0], ODD_TAG, PLAIN[1]),
    "two such chunks": riff(chunk(b"bext", bytes(603)), PLAIN[0], ODD_TAG, PLAIN[1]),
    "such a chunk, unfinished": riff(ODD_TAG, PLAIN[0], b"data" + bytes(4) + PCM),
    "long file that became short": riff(chunk(b"JUNK", bytes(28)), *PLAIN, kind=b"BW64"),
    "the same of the older kind": riff(chunk(b"JUNK", bytes(28)), *PLAIN, kind=b"RF64"),
    "two tags before": TAG + TAG + riff(*PLAIN),
}


@pytest.mark.parametrize("name", HONEST)
def test_headers_that_programs_get_wrong_are_read_to_the_last_sample(name, tmp_path, monkeypatch):
    """No ffmpeg is needed for them."""
    monkeypatch.setenv("PATH", "")
    (tmp_path / "a.wav").write_bytes(HONEST[name])
    audio, rate = read(tmp_path / "a.wav")
    assert rate == RATE and audio.shape == (1, len(TONE))
    np.testing.assert_allclose(audio[0], TONE, atol=1e-4)


@pytest.mark.parametrize("after", [chunk(b"LIST", b"INFO" + bytes(range(200))), chunk(b"id3 ", TAG * 40) + b"\0"])
def test_tags_after_no_samples_are_no_sound(after, tmp_path):
    """A recording that was stopped at once has tags all the same; they would be noise."""
    (tmp_path / "a.wav").write_bytes(riff(PLAIN[0], chunk(b"data", b""), after))
    with pytest.raises(AudioError, match="is empty"):
        read(tmp_path / "a.wav")


@pytest.mark.parametrize("frames", [10, 4096, 22_050, 300_001])
@pytest.mark.parametrize("tag", [b"", TAG])
def test_a_flac_file_that_does_not_state_its_length_is_read_whole(frames, tag, tmp_path, monkeypatch):
    """Programs that write into a pipe cannot go back to state it."""
    monkeypatch.setenv("PATH", "")
    rng = np.random.default_rng(0)
    sound = (0.1 * rng.standard_normal((frames, 2))).astype(np.float32)
    soundfile.write(tmp_path / "a.flac", sound, RATE, "PCM_16")
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] &= 0xF0
    content[22:42] = bytes(20)  # the length, and the hash of the samples
    (tmp_path / "a.flac").write_bytes(tag + content)
    audio, _ = read(tmp_path / "a.flac")
    np.testing.assert_allclose(audio.T, sound, atol=1e-4)


def test_flac_files_that_end_nowhere_are_errors_of_the_file(tmp_path):
    """Cut or without any frame, they are named."""
    soundfile.write(tmp_path / "a.flac", TONE, RATE, "PCM_16")
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    for size in (8, 20, 30, 42, 100, len(content) // 2):
        (tmp_path / "a.flac").write_bytes(content[:size])
        with pytest.raises(AudioError, match=r"a\.flac"):
            read(tmp_path / "a.flac")
