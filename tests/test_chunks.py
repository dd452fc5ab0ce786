"""The chunks of WAV files, read by independent readers: libsndfile, wavinfo, ffmpeg, Python's wave, and a walker."""

import struct
import subprocess
import wave
from dataclasses import replace
from fractions import Fraction

import imageio_ffmpeg
import librosa
import numpy as np
import pytest
import soundfile
import wavinfo
from hypothesis import given
from hypothesis import strategies as st
from oracles import riff_chunks, wav_promises

import ddnb
from ddnb import audio
from ddnb.audio.wav_chunks import acid, smpl
from ddnb.clips.clip import Clip
from ddnb.clips.provenance import Provenance, RootNote

MODEL = {"model": {"name": "x"}, "machine": {}}


def noise(frames, channels=1, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (channels, frames)).astype(np.float32)


def made(frames=1000, channels=1, rate=44_100, **making):
    return Clip(
        noise(frames, channels), rate, 0, Provenance.from_dict({"making": {"verb": "generate", **making}, **MODEL})
    )


# --- what is said of what ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", ["16", "24", "float"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("frames", [82_687, 82_688])
def test_a_loop_of_bars_says_where_it_loops_and_how_fast_it_is(bits, channels, frames, tmp_path):
    """A loop that ends at ``frames`` is dropped by some programs, and read beyond its end by others."""
    clip = made(frames, channels, loop=True, bpm=128.0, bars=2, beats_per_bar=3)
    path = clip.save(tmp_path, bits)
    loop, song = wav_promises(path)
    assert loop == (0, 0, 22_676, 60, 0, 0, 0, 1, 0, 0, 0, 0, frames - 1, 0, 0)
    flags, _, _, _, beats, denominator, numerator, tempo = song
    assert (flags, beats, denominator, numerator, tempo) == (4, 6, 4, 3, 128.0)
    assert list(riff_chunks(path))[-2:] == [b"smpl", b"acid"]  # after the samples
    back, rate = soundfile.read(path, dtype="float32", always_2d=True)
    np.testing.assert_array_equal(back.T, audio.quantise(clip.audio, bits))
    assert rate == 44_100


def test_libsndfile_reads_the_same(tmp_path):
    with soundfile.SoundFile(made(999, loop=True, bpm=120.5, bars=1).save(tmp_path)) as file:
        said = file.extra_info
    assert "Start :     0  End :   998" in said
    for line in ("Flags     : 0x0004", "Beats     : 4", "Meter     : 4/4", "Tempo     : 120.5"):
        assert line in said
    with soundfile.SoundFile(made(999).save(tmp_path)) as file:
        assert "(OneShot,RootNoteInvalid,StretchOff" in file.extra_info and "smpl" not in file.extra_info


def test_wavinfo_reads_the_same(tmp_path):
    info = wavinfo.WavInfoReader(str(made(999, 2, loop=True).save(tmp_path)))
    assert (info.data.frame_count, info.fmt.channel_count) == (999, 2)
    (loop,) = info.smpl.sample_loops
    assert (loop.start, loop.end, loop.repetition_count) == (0, 998, 0)


def test_pythons_wave_reads_the_same(tmp_path):
    with wave.open(str(made(1001, 2, loop=True, bpm=90.0, bars=1).save(tmp_path, "16"))) as file:
        assert (file.getnframes(), file.getnchannels(), file.getsampwidth()) == (1001, 2, 2)
        assert len(file.readframes(5000)) == 1001 * 4


@pytest.mark.parametrize("bits", ["16", "24", "float"])
def test_ffmpeg_has_nothing_to_say(bits, tmp_path):
    """A wrong RIFF size or a missing pad byte is an error there."""
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    for frames in (1001, 1002):
        path = made(frames, loop=True, bpm=90.0, bars=1).save(tmp_path, bits)
        command = [ffmpeg, "-v", "error", "-xerror", "-i", str(path), "-f", "null", "-"]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        assert run.stdout + run.stderr == ""


@pytest.mark.filterwarnings("error::UserWarning", "error::FutureWarning")
@pytest.mark.parametrize("bits", ["16", "24", "float"])
def test_librosa_reads_the_same_without_a_word(bits, tmp_path):
    clip = made(1001, 2, loop=True, bpm=90.0, bars=1)
    audio, rate = librosa.load(clip.save(tmp_path, bits), sr=None, mono=False)
    assert rate == clip.sample_rate
    np.testing.assert_allclose(audio, clip.audio, atol=2**-15)


def test_what_is_not_known_is_not_said(tmp_path):
    """A tempo of 120 that nobody declared would stretch a texture in every song."""
    loop, song = wav_promises(made(loop=True).save(tmp_path))
    assert loop is not None and song is None
    loop, song = wav_promises(made(bpm=100.0, bars=1).save(tmp_path))
    assert loop is None and song[0] == 4
    loop, song = wav_promises(made().save(tmp_path))
    assert loop is None and song[0] == 1 and song[4] == 0
    own = Clip(noise(1000), 44_100, 0, Provenance.from_dict({"source": {"name": "mine.wav", "sha256": "0"}}))
    assert wav_promises(own.save(tmp_path)) == (None, None)


def test_a_note_that_is_known_is_said(tmp_path):
    note = RootNote(29, "F1", 2.0, "measured")
    clip = made()
    clip = replace(clip, provenance=replace(clip.provenance, root_note=note))
    path = clip.save(tmp_path)
    assert "F1" in path.stem.split("_")
    assert wav_promises(path)[1][:2] == (1 | 2, 29)


def test_a_beat_is_a_loop_of_its_tempo(tmp_path):
    click = (np.ones((1, 50), np.float32) / 2, 44_100)
    path, _ = ddnb.beat(None, {"tracks": {"kick": "9" + 15 * "."}}, sounds={"kick": click}, bpm=133.3, bars=3).save(
        tmp_path
    )
    loop, song = wav_promises(path)
    assert loop[12] == soundfile.info(path).frames - 1
    assert (song[0], song[4], song[5], song[6], song[7]) == (4, 12, 4, 4, np.float32(133.3))


def test_plain_files_for_those_who_want_them(tmp_path):
    clip = made(loop=True, bpm=90.0, bars=1)
    assert set(riff_chunks(clip.save(tmp_path, chunks=False))) == {b"fmt ", b"data"}


# --- the bytes --------------------------------------------------------------------------------------------------------


def test_sizes_of_the_chunks():
    assert len(smpl(5, 44_100)) == 8 + 60 and len(acid()) == 8 + 24


@given(
    st.integers(1, 300),
    st.integers(1, 3),
    st.sampled_from([8000, 22_050, 44_100, 48_000, 96_000]),
    st.sampled_from(["16", "24", "float"]),
    st.lists(st.binary(max_size=40), max_size=4),
)
def test_any_chunks_after_any_sound(frames, channels, rate, bits, bodies):
    """Odd lengths of samples and of chunks are each padded by a byte that does not count."""
    import tempfile
    from pathlib import Path

    from ddnb.audio.wav_chunks import _chunk

    chunks = [_chunk(b"tst%d" % i, body) for i, body in enumerate(bodies)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.wav"
        sound = noise(frames, channels)
        audio.write_wav(path, sound, rate, bits, chunks)
        found = riff_chunks(path)
        back, _ = soundfile.read(path, dtype="float32", always_2d=True)
    assert [found[b"tst%d" % i] for i in range(len(bodies))] == bodies
    np.testing.assert_array_equal(back.T, audio.quantise(sound, bits))


@given(st.integers(1, 2**31), st.floats(20, 999), st.integers(1, 64), st.integers(1, 32))
def test_numbers_in_the_chunks(frames, bpm, bars, beats_per_bar):
    assert struct.unpack("<15I", smpl(frames, 48_000)[8:])[12] == frames - 1
    *_, beats, denominator, numerator, tempo = struct.unpack(
        "<IHHfIHHf", acid(bpm, bars * beats_per_bar, beats_per_bar)[8:]
    )
    assert (beats, denominator, numerator) == (bars * beats_per_bar, 4, beats_per_bar)
    assert abs(tempo - bpm) <= bpm * 2**-24


def test_the_same_sound_is_the_same_file_whenever_it_is_written(tmp_path):
    """libsndfile writes the time of day into float files."""
    path = made().save(tmp_path, "float")
    (peak,) = [body for name, body in riff_chunks(path).items() if name == b"PEAK"]
    assert struct.unpack("<II", peak[:8]) == (1, 0)


def test_the_record_is_of_the_finished_file(tmp_path):
    import hashlib
    import json

    path = made(loop=True, bpm=128.0, bars=2).save(tmp_path)
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["file"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert record["music"] == {
        "type": "loop", "bpm": 128.0, "bars": 2, "beats_per_bar": 4, "beats": 8, "exact_length_s": "15/4",
    }  # fmt: skip
    assert Fraction(record["music"]["exact_length_s"]) == Fraction(8 * 60, 128)
