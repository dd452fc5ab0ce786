"""Test that files written by version 0.1, in tests/data/v0.1, open with this version.

The tests of training resume its run folder.

Samples are compared within 1e-4, since another processor or another PyTorch rounds differently. Where they equal those
of the file after quantization, which is the case on the machine that wrote them, the saved file must have the
manifest's SHA-256, so header and chunks are compared byte for byte.
"""

import importlib
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

import ddnb
from ddnb.files import file_sha256

FILES = Path(__file__).parent / "data" / "v0.1"
SINGLE = sorted(path.with_suffix(".wav") for path in FILES.glob("*.json"))
FORMER = FILES / "drums.safetensors"
"""The network that made them; the one of today makes other sounds of the same seeds."""

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> Path:
    """Unpack the pack."""
    folder = tmp_path_factory.mktemp("v0.1")
    with zipfile.ZipFile(FILES / "pack.zip") as file:
        file.extractall(folder)
    return folder / "pack"


@pytest.fixture(scope="module")
def manifest(pack) -> dict:
    return json.loads((pack / "manifest.json").read_text(encoding="utf-8"))


def check_remade(clip: ddnb.Clip, record: dict, file: Path, folder: Path) -> None:
    """Compare a remade clip with the file of version 0.1."""
    saved = clip.save(folder, record["file"]["bits"], record["file"]["chunks"])
    (theirs, rate), (ours, _) = (soundfile.read(path, always_2d=True) for path in (file, saved))
    assert (len(theirs), rate) == (record["file"]["frames"], record["file"]["sample_rate"])
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < TOLERANCE
    if (ours == theirs).all():
        assert file_sha256(saved) == file_sha256(file) == record["file"]["sha256"]


def check_provenance(clip: ddnb.Clip, record: dict) -> None:
    """Compare what a clip knows about its making and its model with the record; the names of its sources, too."""
    ours, theirs = clip.settings["making"] | {"seed": clip.seed}, record["making"]
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        if key in ("source", "a", "b"):
            assert ours[key].get("name") == value.get("name")
        elif key == "sounds":
            assert ours[key].keys() == value.keys()
        else:
            assert ours[key] == value, key
    for key in ("name", "source", "weights_sha256", "sample_rate", "frames", "licence", "credit"):
        assert clip.settings["model"][key] == record["model"][key], key


def test_a_pack_is_remade(pack, manifest, tmp_path):
    clips = ddnb.remake(FILES / "pack.zip", FORMER, FILES)
    assert len(clips) == len(manifest["sounds"]) == 11
    for clip, record in zip(clips, manifest["sounds"], strict=True):
        check_remade(clip, record, pack / record["file"]["name"], tmp_path)
        assert clip.name == Path(record["file"]["name"]).stem


@pytest.mark.parametrize("file", SINGLE, ids=lambda path: path.stem)
def test_a_sound_is_remade_from_its_record(file, tmp_path):
    record = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    (clip,) = ddnb.remake(file, FORMER)
    check_remade(clip, record, file, tmp_path)


@pytest.mark.parametrize("file", SINGLE, ids=lambda path: path.stem)
def test_a_saved_sound_opens_with_its_record(file):
    record = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    clip = ddnb.read_clip(file)
    audio, rate = soundfile.read(file, dtype="float32", always_2d=True)
    np.testing.assert_array_equal(clip.audio, audio.T)
    assert (clip.sample_rate, clip.seed, clip.name) == (rate, record["making"]["seed"], file.stem)
    check_provenance(clip, record)


def test_every_sound_of_an_unpacked_pack_opens_with_its_record(pack, manifest):
    for record in manifest["sounds"]:
        clip = ddnb.read_clip(pack / record["file"]["name"])
        check_provenance(clip, record)
        assert clip.audio.shape == (record["file"]["channels"], record["file"]["frames"])


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("model", "nets.unet", "UNet"),
        ("formats", "checkpoints.formats", "write_diffusers"),
        ("dataset", "training.dataset", "decode"),
    ],
)
def test_former_names_of_modules_still_answer(old, new, name):
    """A program that was written for version 0.1 ends at its imports."""
    sys.modules.pop(f"ddnb.{old}", None)
    with pytest.warns(DeprecationWarning, match=f"ddnb.{new}"):
        module = importlib.import_module(f"ddnb.{old}")
    assert getattr(module, name) is getattr(importlib.import_module(f"ddnb.{new}"), name)
