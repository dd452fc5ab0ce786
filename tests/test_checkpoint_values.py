"""Sample rate and length as training codes write them: in NumPy's numbers, tensors, and texts with units."""

import collections

import numpy as np
import pytest
import torch

import ddnb
from ddnb import CheckpointError


@pytest.mark.parametrize(
    ("rate", "frames"),
    [
        (np.int64(44100), np.int32(65536)),
        (np.float64(44100), np.float32(65536)),
        (np.int64(44100).astype(">i8"), np.uint32(65536)),
        (torch.tensor(44100), torch.tensor([65536.0])),
        ("44100.0", " 65536 "),
        ("44_100", "65,536"),
        ("44100 Hz", 65536),
        ("44.1kHz", "65536"),
        ("44.1 k", 65536.0),
    ],
)
def test_numbers_are_read_in_every_spelling(rate, frames, ema_weights, tmp_path):
    """None of them is called."""
    torch.save({"state_dict": ema_weights, "cfg": {"sample_rate": rate, "sample_size": frames}}, tmp_path / "a.ckpt")
    ckpt = ddnb.load(tmp_path / "a.ckpt", device="cpu")
    assert (ckpt.sample_rate, ckpt.frames) == (44100, 65536)


@pytest.mark.parametrize(
    "rate",
    ["", "44.1", "4e4", "-44100", "many Hz", np.array([1, 2]), np.float32("nan"), torch.zeros(2), True, "9" * 30],
)
def test_what_is_no_count_is_not_stated(rate, ema_weights, tmp_path):
    """The message says so."""
    torch.save({"state_dict": ema_weights, "sample_rate": rate, "sample_size": 65536}, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match="does not state its sample_rate"):
        ddnb.load(tmp_path / "a.ckpt", device="cpu")


def test_settings_that_state_both_come_before_others_at_their_depth(ema_weights, tmp_path):
    """The settings of the data, or of an encoder, may state another rate."""
    settings = {"data": {"sample_rate": 16000}, "model": {"sample_rate": 44100, "sample_size": 65536}}
    torch.save({"state_dict": ema_weights, "cfg": settings}, tmp_path / "a.ckpt")
    assert ddnb.load(tmp_path / "a.ckpt", device="cpu").sample_rate == 44100


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_newer_protocols_are_named_for_what_they_are(protocol, ema_weights, tmp_path):
    """Such a file is whole: to download it again would not help."""
    torch.save({"state_dict": collections.OrderedDict(ema_weights)}, tmp_path / "a.ckpt", pickle_protocol=protocol)
    with pytest.raises(CheckpointError, match=f"a pickle of protocol {protocol}"):
        ddnb.load(tmp_path / "a.ckpt", device="cpu")
