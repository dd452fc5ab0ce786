"""Folders as systems, shops and network drives leave them, and channels in the orders of other formats."""

import numpy as np
import pytest
import soundfile

import ddnb
from ddnb.audio.channels import to_channels
from ddnb.audio.io import read
from ddnb.names import unify_names

RATE = 48_000


def write(path, seed=0):
    sound = np.random.default_rng(seed).standard_normal(4000).astype(np.float32) / 8
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound, RATE, format="WAV")


@pytest.mark.parametrize("beside", ["desktop.ini", "license.txt", "cover.png", "$RECYCLE.BIN/old.wav", "@eaDir/x.wav"])
def test_a_folder_around_the_classes_is_skipped_whatever_lies_beside_it(beside, tmp_path):
    """The classes were lost, or what was deleted was one of them."""
    write(tmp_path / "Pack" / "Kick" / "a.wav", 1)
    write(tmp_path / "Pack" / "Snare" / "b.wav", 2)
    write(tmp_path / beside, 3)
    data = ddnb.check_dataset(tmp_path).data
    assert data.categories == ("Kick", "Snare") and len(data.sounds) == 2 and not data.unusable


def test_recorders_suffixes_are_those_of_sounds(tmp_path):
    """Each file opened by its name, and was left out of its folder."""
    for seed, suffix in enumerate(("bwf", "rf64", "oga", "snd", "BWF")):
        write(tmp_path / f"{seed}.{suffix}", seed)
    assert len(ddnb.check_dataset(tmp_path).data.sounds) == 5


def test_a_space_at_the_end_makes_no_other_name():
    """Some systems drop it."""
    assert unify_names(["kick ", "Kick", "kick", " "]) == {"kick ": "kick ", "Kick": "kick ", "kick": "kick ", " ": " "}


@pytest.mark.parametrize(("channels", "left", "right"), [(7, 5, 6), (10, 8, 9), (12, 10, 11)])
def test_large_layouts_keep_left_and_right_apart(channels, left, right):
    """They became mono."""
    for one, side in ((0, 0), (1, 1), (left, 0), (right, 1)):
        sound = np.zeros((channels, 4), np.float32)
        sound[one] = 1
        stereo = to_channels(sound, 2)
        assert stereo[side].min() > 0.1 and not stereo[1 - side].any()


@pytest.mark.parametrize(
    ("channels", "order"),
    [(3, "FL FC FR"), (5, "FL FC FR BL BR"), (6, "FL FC FR BL BR LFE"), (8, "FL FC FR SL SR BL BR LFE")],
)
def test_channels_of_ogg_files_come_in_the_order_of_wav_files(channels, order, tmp_path):
    """The centre was taken for the right, and the bass for one at the back."""
    wav = ["FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"]
    there = order.split()
    hz = {name: 300 * (i + 1) for i, name in enumerate(wav)} | {"LFE": 60}
    sound = np.array([0.2 * np.sin(2 * np.pi * hz[name] * np.arange(RATE) / RATE) for name in there])
    soundfile.write(tmp_path / "a.ogg", sound.T, RATE, "VORBIS", format="OGG")
    audio, _ = read(tmp_path / "a.ogg")
    peaks = np.abs(np.fft.rfft(audio[:, :RATE])).argmax(axis=1)
    assert audio.shape[0] == channels and list(peaks) == [hz[name] for name in wav if name in there]
