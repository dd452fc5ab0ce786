"""Where training codes and downloads put a network: averages under other names, folders with companions, odd names."""

import json
import shutil
import tarfile

import pytest
import torch
from conftest import DATA
from safetensors.torch import load_file, save_file

import ddnb
from ddnb import CheckpointError
from ddnb.checkpoints.contents import find_tensors
from ddnb.checkpoints.formats import facts_in_name

SETTINGS = {"sample_rate": 44100, "sample_size": 65536}


def is_that(ckpt, weights):
    name = "net.0.main.0.weight"
    return torch.equal(ckpt.net.state_dict()[name], weights[name]) and (ckpt.sample_rate, ckpt.frames) == (44100, 65536)


@pytest.mark.parametrize(
    "place",
    [
        lambda ema, raw: {"model": raw, "averaged_model": {"module": ema, "n_averaged": torch.tensor(3)}},
        lambda ema, raw: {"model": raw, "swa_model": ema},
        lambda ema, raw: {"model": raw, "modelEma": ema},
        lambda ema, raw: {"MODEL": {"a": raw}, "MODEL_EMA": {"abcdef": ema}},
        lambda ema, raw: {"model": raw, "emas": [{"decay": 0.9, "state": ema}]},
        lambda ema, raw: (ema, {"optimizer": 1}),
    ],
)
def test_averages_are_found_under_every_name(place, ema_weights, tmp_path):
    """The raw weights beside them sound worse, and nothing says so."""
    raw = {name: tensor + 1 for name, tensor in ema_weights.items()}
    torch.save(place(ema_weights, raw), tmp_path / "a_44100_65536.ckpt")
    assert is_that(ddnb.load(tmp_path / "a_44100_65536.ckpt", device="cpu"), ema_weights)


def test_lists_without_end_are_left_alone():
    """Parts in lists in lists would be walked through for ever."""
    content = {"a": [{"b": torch.zeros(1)}]}
    content["a"].append(content)
    assert list(find_tensors(content)) == ["a.0.b"]


@pytest.mark.parametrize(
    "name",
    [
        *(
            "a_44100_65536 (1)",
            "a_44100_65536(2)",
            "a_44100_65536 - Copy",
            "a_44100_65536 copy 2",
            "a_44100_65536.fp16",
        ),
        *("a_44100_65536_ema", "a_44100_65536-ema.v2", "a_44100_65536.ckpt", "a_44.1k_65536", "a_44k_65536"),
        *("a_44100Hz_65536", "a_44.1kHz_65536"),
    ],
)
def test_names_that_state_the_format_may_be_added_to(name, tmp_path):
    """Browsers number downloads, file managers copies."""
    assert facts_in_name(tmp_path / f"{name}.safetensors") == {"sample_rate": 44100, "frames": 65536}


@pytest.mark.parametrize("name", ["a_20221010_123456", "a_44100_65536_x", "a_1_65536", "v2", "(1)"])
def test_other_numbers_in_names_state_nothing(name, tmp_path):
    """Dates, steps and versions are no rates."""
    assert facts_in_name(tmp_path / f"{name}.safetensors") == {}


def shard(folder, weights):
    names = list(weights)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, some in parts.items():
        save_file({name: weights[name] for name in some}, folder / file)
    index = {"weight_map": {name: file for file, some in parts.items() for name in some}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def accelerate(folder, weights):
    save_file(weights, folder / "model.safetensors")
    for name in ("optimizer.bin", "scheduler.bin", "rng_state_0.pth", "training_args.bin", "scaler.pt"):
        torch.save({}, folder / name)


def from_a_mac(folder, weights):
    torch.save(weights, folder / "MODEL.CKPT")
    (folder / "._MODEL.CKPT").write_bytes(b"\0\5\x16\7" + bytes(100))


@pytest.mark.parametrize("write", [shard, accelerate, from_a_mac])
@pytest.mark.parametrize("settings", ["config.json", "model_config.json"])
def test_folders_of_training_codes_open(write, settings, ema_weights, tmp_path):
    """One network in several files, or one file beside what is not a network."""
    folder = tmp_path / "run"
    folder.mkdir()
    write(folder, ema_weights)
    (folder / settings).write_text("\ufeff" + json.dumps(SETTINGS), encoding="utf-8")
    assert is_that(ddnb.load(folder, device="cpu"), ema_weights)


def test_a_part_is_named_for_what_it_is(ema_weights, tmp_path):
    """It was called a latent network, or one without its layers."""
    shard(tmp_path, ema_weights)
    with pytest.raises(CheckpointError, match="one part of a checkpoint in several files: give their folder"):
        ddnb.load(tmp_path / "model-00001-of-00002.safetensors")


def test_the_ema_of_a_diffusers_training_is_used(tmp_path):
    """Its trainer writes it into a folder beside the raw network."""
    shutil.copytree(DATA / "diffusers", tmp_path / "run")
    shutil.copytree(tmp_path / "run/unet", tmp_path / "run/unet_ema")
    file = next((tmp_path / "run/unet").glob("*.safetensors"), None) or next((tmp_path / "run/unet").glob("*.bin"))
    content = load_file(file) if file.suffix == ".safetensors" else torch.load(file, weights_only=True)
    file.unlink()
    changed = {name: tensor + 1 for name, tensor in content.items()}
    save_file(changed, tmp_path / "run/unet/diffusion_pytorch_model.safetensors")
    expected = ddnb.load(DATA / "diffusers", device="cpu").info["weights_sha256"]
    assert ddnb.load(tmp_path / "run", device="cpu").info["weights_sha256"] == expected


def test_a_folder_of_the_cache_of_the_hub_opens(ema_weights, tmp_path):
    """Its files are links to others without suffix; the folder above holds several states."""
    root = tmp_path / "models--someone--drums"
    for name in ("blobs", "refs", "snapshots/one", "snapshots/two"):
        (root / name).mkdir(parents=True)
    save_file(ema_weights, root / "blobs/0123abcd")
    (root / "refs/main").write_text("two")
    (root / "snapshots/two/a_44100_65536.safetensors").symlink_to("../../blobs/0123abcd")
    assert is_that(ddnb.load(root, device="cpu"), ema_weights)


def test_programs_and_other_archives_are_named_for_what_they_are(ema_weights, tmp_path):
    """TorchScript was said to be compressed, a tar file to be a damaged zip archive."""
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "jit.pt"))
    torch.save(ema_weights, tmp_path / "a.ckpt")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(tmp_path / "a.ckpt", "a.ckpt")
    (tmp_path / "a.ckpt.gz").write_bytes(b"\x1f\x8b\x08" + bytes(20))
    for name, what in (("jit.pt", "TorchScript"), ("a.tar", "unpack it"), ("a.ckpt.gz", "unpack it")):
        with pytest.raises(CheckpointError, match=what):
            ddnb.load(tmp_path / name)
