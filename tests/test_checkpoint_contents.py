"""A file is read whole: the network, its sample rate and its length are found wherever a training code put them."""

import argparse
import collections
import datetime
import enum
import json
import pathlib
import pickle
import shutil
import subprocess
import sys
import types
import zipfile

import numpy as np
import pytest
import torch
from conftest import DATA
from safetensors.torch import load_file, save_file

import ddnb
from ddnb import CheckpointError
from ddnb.checkpoints.pickles import read_pickle
from ddnb.nets.unet import UNet, UNetConfig

DIFFUSERS = DATA / "diffusers"
SETTINGS = {"sample_rate": 44100, "sample_size": 65536}


def under(prefix, weights):
    return {prefix + name: tensor for name, tensor in weights.items()}


def is_that(ckpt, weights):
    name = "net.0.main.0.weight"
    return torch.equal(ckpt.net.state_dict()[name], weights[name])


@pytest.fixture
def other(ema_weights):
    """Weights that must not be taken: those beside the EMA."""
    return {name: tensor + 1 for name, tensor in ema_weights.items()}


# --- where the network is -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place",
    [
        lambda ema, raw: {"model": raw, "ema": ema},
        lambda ema, raw: {"model": raw, "model_ema": ema, "epoch": 3},
        lambda ema, raw: {"generator": {"net": raw, "net_ema": ema}},
        lambda ema, raw: {"state": {"ema": {"module": ema}, "module": raw}, "optimizer": {"state": {0: {"m": raw}}}},
        lambda ema, raw: under("module.", ema),
        lambda ema, raw: under("diffusion._orig_mod.", raw) | under("diffusion_ema._orig_mod.", ema),
        lambda ema, raw: under("diffusion.module.", raw) | under("diffusion_ema.module.", ema),
        lambda ema, raw: {"state_dict": under("ema.online_model.", raw) | under("ema.ema_model.", ema)},
        lambda ema, raw: {"state_dict": under("schema.", raw) | under("schema_ema.", ema)},
    ],
)
def test_the_ema_is_found_under_any_wrapper(place, tmp_path, ema_weights, other):
    """A network one level down, beside others, or behind the prefixes of DDP, torch.compile and ema-pytorch."""
    torch.save(place(ema_weights, other), tmp_path / "a_48000_4096.ckpt")
    assert is_that(ddnb.load(tmp_path / "a_48000_4096.ckpt", device="cpu"), ema_weights)


def test_a_whole_pickled_module_gives_its_weights(tmp_path, net, ema_weights):
    """``torch.save(model)``: its classes are never imported, its parameters are used."""
    torch.save({"model": net.train()}, tmp_path / "a_48000_4096.pt")
    net.eval()
    assert is_that(ddnb.load(tmp_path / "a_48000_4096.pt", device="cpu"), ema_weights)


def test_a_file_that_holds_itself_is_read_once(tmp_path, ema_weights):
    """A dictionary in itself would be walked through for ever."""
    content = {"state_dict": ema_weights}
    content["again"] = {"deeper": content}
    torch.save(content, tmp_path / "a_48000_4096.pt")
    assert is_that(ddnb.load(tmp_path / "a_48000_4096.pt", device="cpu"), ema_weights)


def test_the_error_counts_what_is_there(tmp_path):
    """It said "0 tensors" of a file with thousands, one level down."""
    content = {"encoder_state": {f"block.{i}.weight": torch.zeros(3) for i in range(50)}, "epoch": 1}
    torch.save({"nets": content}, tmp_path / "x_48000_4096.pt")
    with pytest.raises(CheckpointError, match=r"50 tensors.*nets\.encoder_state \(50\)"):
        ddnb.load(tmp_path / "x_48000_4096.pt")


# --- where rate and length are --------------------------------------------------------------------------------


def omegaconf_like(values):
    """Objects of the names and the inner layout of omegaconf's."""
    module = types.ModuleType("omegaconf")
    for name in ("DictConfig", "AnyNode"):
        setattr(module, name, type(name, (), {"__module__": "omegaconf"}))

    def made(kind, **state):
        thing = getattr(module, kind)()
        thing.__dict__.update(state)
        return thing

    leaves = {key: made("AnyNode", _val=value) for key, value in values.items()}
    return module, made("DictConfig", _metadata=None, _content=leaves)


@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        {"model_config": SETTINGS},
        {"model_config": json.dumps(SETTINGS)},
        {"hyper_parameters": argparse.Namespace(**SETTINGS)},
        {"hyper_parameters": {"config": {"data": SETTINGS}}},
        {"args": {"sample_rate": "44100", "sample_size": 65536.0}},
        {"config": {"sampling_rate": 44100}, "training": {"frames": 65536}},
    ],
)
def test_rate_and_length_are_found_in_the_settings(settings, tmp_path, ema_weights):
    """A file that states them in its own way was said not to state them."""
    torch.save({"state_dict": ema_weights, **settings}, tmp_path / "a.ckpt")
    ckpt = ddnb.load(tmp_path / "a.ckpt", device="cpu")
    assert (ckpt.sample_rate, ckpt.frames) == (44100, 65536)


def test_settings_of_omegaconf_are_read(tmp_path, ema_weights, monkeypatch):
    """Its objects are stand-ins, and what they hold is still read."""
    module, settings = omegaconf_like(SETTINGS)
    monkeypatch.setitem(sys.modules, "omegaconf", module)
    torch.save({"state_dict": ema_weights, "hyper_parameters": settings}, tmp_path / "a.ckpt")
    monkeypatch.delitem(sys.modules, "omegaconf")
    assert ddnb.load(tmp_path / "a.ckpt", device="cpu").sample_rate == 44100
    assert "omegaconf" not in sys.modules


def test_what_the_name_states_counts_more_than_settings(tmp_path, ema_weights):
    """A file of version 0.1, known by its name, must not become another because of its settings."""
    torch.save({"state_dict": ema_weights, "config": SETTINGS}, tmp_path / "a_48000_4096.ckpt")
    (tmp_path / "model_config.json").write_text(json.dumps({"sample_rate": 16000}))
    ckpt = ddnb.load(tmp_path / "a_48000_4096.ckpt", device="cpu")
    assert (ckpt.sample_rate, ckpt.frames) == (48000, 4096)


def test_rate_and_length_are_found_beside_the_file(tmp_path, ema_weights):
    """stable-audio-tools writes them into model_config.json; a config.json of something else is not asked."""
    torch.save({"state_dict": under("model.", ema_weights)}, tmp_path / "model.ckpt")
    (tmp_path / "config.json").write_text("no json at all")
    (tmp_path / "model_config.json").write_text(json.dumps({"sample_rate": 44100, "model": {"sample_size": 65536}}))
    for source in (tmp_path / "model.ckpt", tmp_path):
        ckpt = ddnb.load(source, device="cpu")
        assert (ckpt.sample_rate, ckpt.frames) == (44100, 65536)


@pytest.mark.parametrize("rate", [8, 44, 999, 768_001, 10**12])
def test_an_impossible_rate_is_named(rate, tmp_path, ema_weights):
    """A rate of 8 Hz, noted in kHz, was believed."""
    torch.save({"state_dict": ema_weights, "sample_rate": rate, "sample_size": 65536}, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=f"sample_rate={rate}, where 1000 to 768000"):
        ddnb.load(tmp_path / "a.ckpt")
    assert ddnb.load(tmp_path / "a.ckpt", sample_rate=48000, device="cpu").sample_rate == 48000


def test_an_absurd_length_is_named(tmp_path, ema_weights):
    """The default duration of a clip would fill the memory."""
    torch.save({"state_dict": ema_weights, "sample_rate": 48000, "sample_size": 10**11}, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match="frames=100000000000, where 1 to 16777216"):
        ddnb.load(tmp_path / "a.ckpt")


# --- folders, variants, archives ------------------------------------------------------------------------------


def variant(folder, kind):
    """Rename the weights of a diffusers folder as ``save_pretrained`` does for this kind."""
    stem, unet = "diffusion_pytorch_model", folder / "unet"
    weights = load_file(unet / f"{stem}.safetensors")
    (unet / f"{stem}.safetensors").unlink()
    (unet / f"{stem}.bin").unlink(missing_ok=True)
    if kind == "sharded":
        halves = {f"{stem}-0000{i + 1}-of-00002.safetensors": list(weights)[i::2] for i in range(2)}
        for name, keys in halves.items():
            save_file({key: weights[key] for key in keys}, unet / name)
        index = {"weight_map": {key: name for name, keys in halves.items() for key in keys}}
        (unet / f"{stem}.safetensors.index.json").write_text(json.dumps(index))
        return
    names = {"fp16": ("fp16",), "non_ema": ("non_ema",), "non_ema beside fp16": ("non_ema", "fp16")}[kind]
    for name in names:
        scaled = {k: v + 1 for k, v in weights.items()} if name == "non_ema" and len(names) > 1 else weights
        save_file(scaled, unet / f"{stem}.{name}.safetensors")


@pytest.mark.parametrize("kind", ["fp16", "non_ema", "non_ema beside fp16", "sharded"])
def test_variants_and_shards_of_diffusers_folders_open(kind, tmp_path, ema_weights):
    """Only two file names were known."""
    shutil.copytree(DIFFUSERS, tmp_path / "folder")
    variant(tmp_path / "folder", kind)
    ckpt = ddnb.load(tmp_path / "folder", device="cpu")
    assert is_that(ckpt, ema_weights) and ckpt.sample_rate == 48000


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"weight_map": {"a": "../../secret.safetensors"}}, "not an index"),
        ({"weight_map": {"a": "gone.safetensors"}}, "lacks gone"),
        ([1], "not an index"),
        ({"weight_map": {"a": 3}}, "not an index"),
    ],
)
def test_a_broken_index_says_so(index, message, tmp_path):
    """An index may list anything, also files elsewhere."""
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=message):
        ddnb.load(tmp_path)


def test_a_folder_with_one_checkpoint_is_that_checkpoint(tmp_path, ema_weights):
    """A folder had to be one of diffusers; with several files it must ask which."""
    torch.save({"state_dict": ema_weights}, tmp_path / "a_48000_4096.ckpt")
    save_file(ema_weights, tmp_path / "a_48000_4096.safetensors")  # the same in another format
    assert is_that(ddnb.load(tmp_path, device="cpu"), ema_weights)
    torch.save({"state_dict": ema_weights}, tmp_path / "b_48000_4096.ckpt")
    with pytest.raises(CheckpointError, match=r"several checkpoints.*a_48000_4096\.ckpt.*b_48000_4096\.ckpt"):
        ddnb.load(tmp_path)


@pytest.mark.parametrize("kind", ["file in a folder", "diffusers folder", "zip states the format"])
def test_a_checkpoint_in_a_zip_archive_opens(kind, tmp_path, ema_weights, cache):
    """Drive zips every folder; such a file was called damaged."""
    path = tmp_path / ("kicks_48000_4096.zip" if kind == "zip states the format" else "download.zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        if kind == "diffusers folder":
            for file in DIFFUSERS.rglob("*"):
                archive.write(file, f"model/{file.relative_to(DIFFUSERS)}")
        else:
            name = "model.ckpt" if kind == "zip states the format" else "kicks_48000_4096.ckpt"
            torch.save({"state_dict": ema_weights}, tmp_path / name)
            archive.write(tmp_path / name, f"models/{name}")
            archive.writestr("__MACOSX/models/._x.ckpt", "junk")
            archive.writestr("models/readme.txt", "hello")
    for _ in range(2):
        ckpt = ddnb.load(path, device="cpu")
        assert is_that(ckpt, ema_weights) and (ckpt.sample_rate, ckpt.frames) == (48000, 4096)
    assert len(list((cache / "unpacked").iterdir())) == 1


def test_other_zip_archives_are_named_for_what_they_are(tmp_path, ema_weights, cache):
    """A pack of sounds, several checkpoints, or names that lead out of the folder."""
    for name, files, message in (
        ("pack", {"kick.wav": b"RIFF"}, "without a checkpoint: it holds kick.wav"),
        ("two", {"a.ckpt": b"a", "b.ckpt": b"b"}, "several checkpoints"),
        ("out", {"../../escaped.ckpt": b"a"}, "without a checkpoint"),
    ):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            for inside, content in files.items():
                archive.writestr(inside, content)
        with pytest.raises(CheckpointError, match=message):
            ddnb.load(tmp_path / f"{name}.zip")
    assert not list(tmp_path.parent.rglob("escaped.ckpt"))


def test_folders_that_diffusers_builds_otherwise_open(tmp_path):
    """diffusers changes a width under attention in the first block of the way up, the original in the last."""
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    unet = diffusers.UNet1DModel(
        sample_rate=44100,
        sample_size=4096,
        extra_in_channels=16,
        time_embedding_type="fourier",
        time_embedding_dim=16,
        flip_sin_to_cos=True,
        use_timestep_embedding=False,
        down_block_types=["DownBlock1DNoSkip", "DownBlock1D", "AttnDownBlock1D", "AttnDownBlock1D"],
        up_block_types=["AttnUpBlock1D", "AttnUpBlock1D", "UpBlock1D", "UpBlock1DNoSkip"],
        block_out_channels=[32, 32, 64, 96],
    ).eval()
    unet.save_pretrained(tmp_path / "theirs" / "unet")
    ckpt = ddnb.load(tmp_path / "theirs", device="cpu")
    x, t = torch.randn(2, 2, 4096), torch.tensor([0.2, 0.9])
    with torch.no_grad():
        theirs = torch.cat([unet(x[i : i + 1], t[i]).sample for i in range(2)])
    torch.testing.assert_close(ckpt(x, t), theirs, atol=1e-4, rtol=1e-4)
    again = ddnb.load(ddnb.convert(tmp_path / "theirs", tmp_path / "ours"), device="cpu")
    assert torch.equal(again(x, t), ckpt(x, t))


def test_a_network_that_diffusers_cannot_hold_is_refused(tmp_path):
    """The folder was written, and diffusers did not open it."""
    state = UNet(UNetConfig(widths=(8, 32, 64, 64), attention_levels=(3, 4))).state_dict()
    save_file(state, tmp_path / "a_48000_4096.safetensors")
    with pytest.raises(ddnb.ArgumentError, match="Level 3 has attention"):
        ddnb.convert(tmp_path / "a_48000_4096.safetensors", tmp_path / "folder")


# --- shape is not identity ------------------------------------------------------------------------------------


def shaped(**shape):
    return UNet(UNetConfig(widths=(32, 32, 64), attention_levels=(3,), **shape)).state_dict()


CODER = {"layers.0.weight": torch.zeros(4, 2, 7)}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            under("diffusion.", shaped(channels=32)) | under("autoencoder.encoder.", CODER),
            "latent.*32 channels.*autoencoder",
        ),
        (
            under("model.", shaped(channels=64)) | under("pretransform.model.", CODER),
            "latent.*64 channels.*pretransform",
        ),
        (shaped(channels=32), "latent.*32 channels"),
        (under("diffusion.", shaped()) | under("first_stage_model.", CODER), "latent.*first_stage_model"),
        (under("diffusion_ema.", shaped(planes=32)) | under("encoder_ema.", CODER), "decoder.*32 planes.*encoder_ema"),
        (under("diffusion.", shaped(planes=8)) | under("quantizer.", CODER), "decoder.*8 planes.*quantizer"),
    ],
)
def test_networks_of_the_same_layers_that_make_no_sound_are_refused(state, message, tmp_path):
    """Latents of 32 channels were written as WAV files of 32 channels."""
    torch.save({"state_dict": state}, tmp_path / "x_48000_65536.ckpt")
    with pytest.raises(CheckpointError, match=message):
        ddnb.load(tmp_path / "x_48000_65536.ckpt")


# --- harmless objects -----------------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = 1


class Settings(dict):
    """A dictionary of a library of somebody's own."""


class Called:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


HARMLESS = {
    "array": np.arange(3.0),
    "scalar": np.float64(1),
    "generator": np.random.default_rng(0),
    "date": datetime.datetime(2023, 1, 1),
    "class": torch.optim.AdamW,
    "defaultdict": collections.defaultdict(list, a=[1]),
    "deque": collections.deque([1, 2], 5),
    "enum": Colour.RED,
    "dictionary": Settings(a=1),
    "path": pathlib.PurePosixPath("/x"),
    "frozenset": frozenset([1]),
    "slice": slice(1, 2),
    "activation": torch.relu,
    "method": str.upper,
}


@pytest.mark.parametrize("old_layout", [False, True], ids=["zip", "old layout"])
@pytest.mark.parametrize("kind", HARMLESS)
def test_harmless_objects_do_not_hinder(kind, old_layout, tmp_path):
    """They were refused, as code that "would run"."""
    content = {"w": torch.ones(2), "x": HARMLESS[kind]}
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=not old_layout)
    assert torch.equal(read_pickle(tmp_path / "a.pt")["w"], torch.ones(2))


@pytest.mark.parametrize("old_layout", [False, True], ids=["zip", "old layout"])
@pytest.mark.parametrize(
    "thing",
    [
        Called(shutil.rmtree, "/nowhere"),
        Called(subprocess.Popen, "true"),
        Called(eval, "1"),
        Called(__import__, "this"),
        Called(torch.load, "x"),
        Called(torch.hub.load, "x"),
        Called(pickle.loads, b"N."),
        Called(pathlib.Path.touch, pathlib.Path("/nowhere/x")),
        Called(print, "hello"),
    ],
    ids=lambda thing: thing.function.__qualname__,
)
def test_what_would_run_code_is_refused(thing, old_layout, tmp_path):
    """The rule for harmless names must let none of these in."""
    content = {"w": torch.ones(2), "x": thing}
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=not old_layout)
    with pytest.raises(CheckpointError, match="could run code. It asks for"):
        read_pickle(tmp_path / "a.pt")


def test_a_stand_in_calls_nothing(tmp_path, monkeypatch):
    """A name that is not known is neither imported nor called, whatever it is."""
    module = types.ModuleType("somebodys_library")
    module.build = lambda path: pathlib.Path(path).touch()
    module.build.__module__, module.build.__qualname__ = "somebodys_library", "build"
    monkeypatch.setitem(sys.modules, "somebodys_library", module)
    torch.save({"w": torch.ones(2), "x": Called(module.build, str(tmp_path / "trap"))}, tmp_path / "a.pt")
    assert torch.equal(read_pickle(tmp_path / "a.pt")["w"], torch.ones(2))
    monkeypatch.delitem(sys.modules, "somebodys_library")
    assert torch.equal(read_pickle(tmp_path / "a.pt")["w"], torch.ones(2))
    assert not (tmp_path / "trap").exists() and "somebodys_library" not in sys.modules


def test_other_protocols_are_named(tmp_path):
    """A pickle of protocol 4 was called damaged, and its owner sent to download it again."""
    torch.save({"w": torch.ones(2)}, tmp_path / "a.pt", pickle_protocol=4)
    with pytest.raises(CheckpointError, match="protocol 4"):
        read_pickle(tmp_path / "a.pt")
