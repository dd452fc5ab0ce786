"""Every file in the wild opens, safely, as the same network; nothing that is not one gets in."""

import argparse
import collections
import functools
import json
import os
import pathlib
import pickle
import shutil
import sys
import types

import pytest
import torch
from conftest import DATA, FORMAT
from safetensors.torch import load_file, save_file

import ddnb
from ddnb import CheckpointError
from ddnb.nets.unet import UNet

LIGHTNING = DATA / "lightning.ckpt"
DIFFUSERS = DATA / "diffusers"


@pytest.fixture(scope="module")
def raw():
    """Everything in the genuine Lightning file."""
    return torch.load(LIGHTNING, weights_only=True)


def prefixed(weights, prefix):
    return {prefix + name: tensor for name, tensor in weights.items()}


def write(kind, path, raw, ema):
    """Write the reference weights as ``kind`` of file; the raw weights beside them are others."""
    other = {name: tensor + 1 for name, tensor in ema.items()}
    if kind == "lightning":
        shutil.copy(LIGHTNING, path)
    elif kind == "trimmed":
        torch.save({"state_dict": prefixed(ema, "diffusion_ema.")}, path)
    elif kind == "trimmed fp16":
        torch.save({"state_dict": prefixed({k: v.half() for k, v in ema.items()}, "diffusion_ema.")}, path)
    elif kind == "stable-audio-tools training":
        counters = {"diffusion_ema.initted": torch.tensor(True), "diffusion_ema.step": torch.tensor(9)}
        online = prefixed(other, "diffusion_ema.online_model.")
        state = prefixed(other, "diffusion.model.") | online | counters | prefixed(ema, "diffusion_ema.ema_model.")
        torch.save({"state_dict": state, "optimizer_states": raw["optimizer_states"]}, path)
    elif kind == "stable-audio-tools unwrapped":
        torch.save({"state_dict": prefixed(ema, "model.")}, path)
    elif kind == "raw only":
        torch.save({"state_dict": prefixed(ema, "diffusion.")}, path)
    elif kind == "plain state dict":
        torch.save(ema, path)
    elif kind == "old torch layout":
        torch.save({"state_dict": prefixed(ema, "diffusion_ema.")}, path, _use_new_zipfile_serialization=False)
    elif kind == "safetensors":
        save_file(ema, path)
    elif kind == "prefixed safetensors":
        save_file(prefixed(ema, "diffusion_ema.") | prefixed(other, "diffusion."), path)
    elif kind == "diffusers safetensors":
        shutil.copy(DIFFUSERS / "unet/diffusion_pytorch_model.safetensors", path)
    elif kind == "diffusers bin":
        shutil.copy(DIFFUSERS / "unet/diffusion_pytorch_model.bin", path)


KINDS = [
    "lightning",
    "trimmed",
    "trimmed fp16",
    "stable-audio-tools training",
    "stable-audio-tools unwrapped",
    "raw only",
    "plain state dict",
    "old torch layout",
    "safetensors",
    "prefixed safetensors",
    "diffusers safetensors",
    "diffusers bin",
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_is_the_same_network(kind, tmp_path, raw, ema_weights, vectors):
    """Judged by the original network's own output; fp16 files within their rounding. Twice: the second time cached."""
    path = tmp_path / ("model.safetensors" if "safetensors" in kind else "model.ckpt")
    write(kind, path, raw, ema_weights)
    tolerance = 2e-3 if "fp16" in kind else 1e-5
    for _ in range(2):
        ckpt = ddnb.load(path, device="cpu", **FORMAT)
        v = ckpt(vectors["noise"], vectors["t"])
        torch.testing.assert_close(v, vectors["unet_v"], atol=tolerance, rtol=0)
        assert (ckpt.sample_rate, ckpt.frames, ckpt.channels) == (48000, 4096, 2)


@pytest.mark.parametrize("weights", ["diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"])
@pytest.mark.parametrize("stated", [None, 16])
@pytest.mark.parametrize("whole", [True, False], ids=["pipeline", "unet alone"])
def test_diffusers_folders_open_with_either_file_and_any_config(weights, stated, whole, tmp_path, vectors):
    unet = tmp_path / ("pipeline/unet" if whole else "unet_only")
    unet.mkdir(parents=True)
    shutil.copy(DIFFUSERS / "unet" / weights, unet)
    config = json.loads((DIFFUSERS / "unet/config.json").read_text())
    config |= {} if stated is None else {"time_embedding_dim": stated}
    (unet / "config.json").write_text(json.dumps(config))
    ckpt = ddnb.load(unet.parent if whole else unet, device="cpu")
    torch.testing.assert_close(ckpt(vectors["noise"], vectors["t"]), vectors["unet_v"], atol=1e-5, rtol=0)
    assert (ckpt.sample_rate, ckpt.frames) == (48000, 4096)


@pytest.mark.parametrize("length", [0x8080, 0x4B50 | 0x10000])
def test_safetensors_whose_header_length_looks_like_another_format(length, tmp_path, ema_weights, vectors):
    """The file starts with that number: 0x80 is also how a pickle starts, 0x4B50 how a zip does."""
    path = tmp_path / "model.safetensors"
    save_file(ema_weights, path, {"ddnb": json.dumps(FORMAT), "pad": ""})
    short = int.from_bytes(path.read_bytes()[:8], "little")
    save_file(ema_weights, path, {"ddnb": json.dumps(FORMAT), "pad": "x" * (length - short)})
    assert int.from_bytes(path.read_bytes()[:8], "little") == length
    ckpt = ddnb.load(path)
    torch.testing.assert_close(ckpt(vectors["noise"], vectors["t"]), vectors["unet_v"], atol=1e-5, rtol=0)


def test_weights_have_one_hash_in_every_container(tmp_path, raw, ema_weights):
    hashes = set()
    for kind in ("lightning", "safetensors", "diffusers bin", "stable-audio-tools training"):
        path = tmp_path / kind
        write(kind, path, raw, ema_weights)
        hashes.add(ddnb.load(path, **FORMAT).info["weights_sha256"])
    hashes.add(ddnb.load(DIFFUSERS).info["weights_sha256"])
    assert len(hashes) == 1


# --- the format of the sound ----------------------------------------------------------------------------------


def test_file_name_states_the_format(tmp_path):
    path = tmp_path / "kicks_48000_4096.ckpt"
    shutil.copy(LIGHTNING, path)
    ckpt = ddnb.load(path)
    assert (ckpt.sample_rate, ckpt.frames) == (48000, 4096)
    with pytest.warns(UserWarning, match="states sample_rate=48000; using 44100"):
        assert ddnb.load(path, sample_rate=44100).sample_rate == 44100  # what the user says goes first


def test_a_diffusers_file_has_its_config_beside_it():
    ckpt = ddnb.load(DIFFUSERS / "unet/diffusion_pytorch_model.bin")
    assert (ckpt.sample_rate, ckpt.frames) == (48000, 4096)


def test_missing_format_says_how_to_state_it():
    with pytest.raises(CheckpointError, match=r"sample_rate and frames.*--sample-rate.*lightning_48000_65536"):
        ddnb.load(LIGHTNING)
    with pytest.raises(CheckpointError, match="does not state its frames"):
        ddnb.load(LIGHTNING, sample_rate=48000)


@pytest.mark.parametrize("wrong", [{"sample_rate": 0}, {"sample_rate": -1}, {"frames": 1.5}, {"frames": "4096"}])
def test_impossible_formats_are_refused(wrong):
    with pytest.raises(ValueError, match="whole number from 1(000)? to"):
        ddnb.load(LIGHTNING, **(FORMAT | wrong))


def test_nonsense_in_a_files_metadata_is_as_good_as_none(tmp_path, ema_weights):
    for i, text in enumerate(['{"sample_rate": "fast", "frames": -1}', '{"sample_rate": true}', "[1]", "no json"]):
        save_file(ema_weights, tmp_path / f"{i}.safetensors", {"ddnb": text})
        with pytest.raises(CheckpointError, match="does not state"):
            ddnb.load(tmp_path / f"{i}.safetensors")


# --- hostile and broken files ---------------------------------------------------------------------------------


class Evil:
    """Unpickling this creates a file, if it is allowed to."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("old_layout", [False, True], ids=["zip", "old layout"])
@pytest.mark.parametrize("function", [os.mkdir, exec, pickle.loads, pathlib.Path.touch])
def test_code_in_a_pickle_is_never_run(function, old_layout, tmp_path, ema_weights):
    trap = tmp_path / "trap"
    argument = {exec: f"import os; os.mkdir({str(trap)!r})", pickle.loads: pickle.dumps(Evil(os.mkdir, str(trap)))}
    arguments = (argument.get(function, pathlib.Path(trap) if function is pathlib.Path.touch else str(trap)),)
    path = tmp_path / "evil_48000_4096.ckpt"
    content = {"state_dict": ema_weights, "hyper_parameters": Evil(function, *arguments)}
    torch.save(content, path, _use_new_zipfile_serialization=not old_layout)
    with pytest.raises(CheckpointError, match="run.* code"):
        ddnb.load(path)
    assert not trap.exists()


def test_refusal_names_what_was_found(tmp_path, ema_weights):
    path = tmp_path / "evil_48000_4096.ckpt"
    torch.save({"state_dict": ema_weights, "x": Evil(exec, "1")}, path)
    with pytest.raises(CheckpointError, match=r"builtins\.exec.*safetensors"):
        ddnb.load(path)


def test_harmless_things_of_old_lightning_files_become_stand_ins(tmp_path, ema_weights, vectors, monkeypatch):
    """Lightning of 2022 kept callbacks, hparams and paths in its files; they must neither block nor be imported."""
    names = ["pytorch_lightning", "pytorch_lightning.callbacks", "pytorch_lightning.callbacks.model_checkpoint"]
    for name in names:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    callback = type("ModelCheckpoint", (), {"__module__": names[-1]})
    sys.modules[names[-1]].ModelCheckpoint = callback
    path = tmp_path / "old_48000_4096.ckpt"
    content = {
        "state_dict": prefixed(ema_weights, "diffusion_ema."),
        "callbacks": {callback: {"best_model_path": pathlib.PurePosixPath("/home/someone/best.ckpt")}},
        "hyper_parameters": argparse.Namespace(lr=4e-5, folder=pathlib.PosixPath("/data")),
        "lr_schedulers": [functools.partial(collections.OrderedDict)],
    }
    torch.save(content, path)
    for name in names:
        monkeypatch.delitem(sys.modules, name)
    ckpt = ddnb.load(path)
    torch.testing.assert_close(ckpt(vectors["noise"], vectors["t"]), vectors["unet_v"], atol=1e-5, rtol=0)
    assert not any(name in sys.modules for name in names)


@pytest.mark.parametrize("keep", [0.0, 0.001, 0.5, 0.999])
@pytest.mark.parametrize("kind", ["trimmed", "old torch layout", "safetensors"])
def test_truncated_files_say_so(kind, keep, tmp_path, raw, ema_weights, cache):
    path = tmp_path / "cut_48000_4096.ckpt"
    write(kind, path, raw, ema_weights)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(CheckpointError, match="empty|truncated|not a checkpoint"):
        ddnb.load(path)
    assert not list(cache.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty; download or copy it again"),
        (b"<!DOCTYPE html><title>Quota exceeded</title>", "web page"),
        (b"\n <html>404", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "Git LFS"),
        (b"RIFF\x00\x00\x00\x00WAVE", "sound file"),
        (b"shopping: milk, bread\n", "text file.*get the weights themselves"),
        ("écrit à la main".encode(), "text file"),
        (b"GIF89a\x00 and so on", "neither a torch file nor safetensors.*right file"),
        (bytes(range(1, 65)), "not a checkpoint"),
    ],
)
def test_other_files_are_named_for_what_they_are(content, message, tmp_path):
    path = tmp_path / "x_48000_4096.ckpt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        ddnb.load(path)


def test_another_network_is_described(tmp_path, ema_weights, cache):
    foreign = {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(320, 4, 3, 3), "betas": torch.zeros(9)}
    torch.save({"state_dict": foreign}, tmp_path / "sd_48000_4096.ckpt")
    with pytest.raises(CheckpointError, match=r"Stable Diffusion.*2 tensors.*input_blocks"):
        ddnb.load(tmp_path / "sd_48000_4096.ckpt")
    broken = ema_weights | {"net.6.main.3.weight": torch.zeros(2, 32, 9)}
    torch.save(broken, tmp_path / "wide_48000_4096.ckpt")
    with pytest.raises(CheckpointError, match=r"net\.6\.main\.3\.weight.*\(2, 32, 9\)"):
        ddnb.load(tmp_path / "wide_48000_4096.ckpt")
    torch.save([1, 2], tmp_path / "list_48000_4096.ckpt")
    with pytest.raises(CheckpointError, match="holds a list"):
        ddnb.load(tmp_path / "list_48000_4096.ckpt")
    assert not list(cache.rglob("*.safetensors"))


@pytest.mark.parametrize(
    "state",
    [
        {"time_proj.weight": torch.zeros(8), "down_blocks.3000000.resnets.0.conv_1.weight": torch.zeros(1)},
        {"time_proj.weight": torch.zeros(8), "down_blocks.x.down.kernel": torch.zeros(8)},
        {"timestep_embed.weight": torch.zeros(8, 1), "net.0.main.0.weight": torch.zeros(32, 2, 5)},
        {"timestep_embed.weight": torch.zeros(8, 1, dtype=torch.int8)},
    ],
    ids=["deep", "odd name", "few tensors", "integers"],
)
def test_absurd_networks_are_refused_at_once(state, tmp_path):
    """The first once filled the memory with names of levels."""
    save_file(state, tmp_path / "absurd_48000_4096.safetensors")
    with pytest.raises(CheckpointError, match="not a Dance Diffusion network"):
        ddnb.load(tmp_path / "absurd_48000_4096.safetensors")


def test_empty_folder_says_what_it_lacks(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(CheckpointError, match=r"diffusion_pytorch_model.*it holds notes\.txt"):
        ddnb.load(tmp_path)


# --- names ----------------------------------------------------------------------------------------------------


def test_unknown_name_offers_the_nearest():
    with pytest.raises(CheckpointError, match=r"glich-440k.*Did you mean 'glitch-440k'.*Known: .*maestro-150k"):
        ddnb.load("glich-440k")


@pytest.mark.parametrize("path", ["missing.ckpt", "no/such/folder", "~/nothing/here.safetensors"])
def test_a_missing_file_is_a_missing_file(path):
    with pytest.raises(FileNotFoundError, match="No checkpoint at"):
        ddnb.load(path)


def test_registry_holds_what_is_known_of_the_published_six():
    entries = ddnb.list_checkpoints()
    published = {name: entry for name, entry in entries.items() if "sources" in entry}
    assert len(published) == 6
    for name, entry in published.items():
        assert [s["from"].partition(":")[0] for s in entry["sources"]] == ["hf", "https"]
        assert entry["sources"][0]["from"] == f"hf:harmonai/{name}"
        assert len(bytes.fromhex(entry["sources"][1]["sha256"])) == 32
        assert entry["licence"] in ("MIT", "not known")
    assert published["jmann-large-580k"]["frames"] == 131072


def test_debug_is_the_same_everywhere_and_leaves_the_random_state_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, second = ddnb.load("debug"), ddnb.load("debug")
    assert torch.equal(torch.get_rng_state(), before)
    assert first.info["weights_sha256"] == second.info["weights_sha256"]


# --- the cache ------------------------------------------------------------------------------------------------


def test_second_load_does_not_open_the_pickle_again(monkeypatch, cache):
    first = ddnb.load(LIGHTNING, **FORMAT)
    monkeypatch.setattr(torch, "load", None)  # whoever calls it fails
    second = ddnb.load(LIGHTNING, **FORMAT)
    assert second.info["weights_sha256"] == first.info["weights_sha256"]
    assert len(list(cache.rglob("*.safetensors"))) == 1


def test_a_changed_file_is_read_anew_and_its_old_copy_removed(tmp_path, ema_weights, cache):
    path = tmp_path / "model_48000_4096.ckpt"
    torch.save(ema_weights, path)
    ddnb.load(path)
    torch.save({name: tensor + 1 for name, tensor in ema_weights.items()}, path)
    os.utime(path, (1, 1))
    changed = ddnb.load(path).net.state_dict()["net.0.main.0.bias"]
    torch.testing.assert_close(changed, ema_weights["net.0.main.0.bias"] + 1)
    assert len(list(cache.rglob("*.safetensors"))) == 1


def test_a_cache_that_cannot_be_written_costs_speed_not_the_sound(tmp_path, monkeypatch, vectors):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DDNB_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="cannot be written"):
        ckpt = ddnb.load(LIGHTNING, **FORMAT)
    torch.testing.assert_close(ckpt(vectors["noise"], vectors["t"]), vectors["unet_v"], atol=1e-5, rtol=0)


def test_a_damaged_copy_is_made_anew(cache, vectors):
    """Cut short by a full disk or a power cut, it must not block its file for ever."""
    ddnb.load(LIGHTNING, **FORMAT)
    (cached,) = cache.rglob("*.safetensors")
    cached.write_bytes(cached.read_bytes()[:100_000])
    ckpt = ddnb.load(LIGHTNING, **FORMAT)
    torch.testing.assert_close(ckpt(vectors["noise"], vectors["t"]), vectors["unet_v"], atol=1e-5, rtol=0)


def test_a_hash_in_a_strangers_file_is_not_believed(tmp_path, ema_weights):
    changed = {name: tensor + 1 for name, tensor in ema_weights.items()}
    save_file(changed, tmp_path / "a.safetensors", {"ddnb": json.dumps(FORMAT | {"weights_sha256": "0" * 64})})
    assert ddnb.load(tmp_path / "a.safetensors").info["weights_sha256"] != "0" * 64


def test_links_long_names_and_brackets(tmp_path, cache):
    (tmp_path / "snare_48000_4096.ckpt").symlink_to(LIGHTNING)
    assert ddnb.load(tmp_path / "snare_48000_4096.ckpt").frames == 4096
    for name in ("x" * 240 + "_48000_4096.ckpt", "kit[1]_48000_4096.ckpt"):
        name = name[-250:]
        shutil.copy(LIGHTNING, tmp_path / name)
        assert ddnb.load(tmp_path / name).frames == 4096
    os.utime(tmp_path / name, (1, 1))
    ddnb.load(tmp_path / name)
    assert len([p for p in cache.rglob("*.safetensors") if p.name.startswith("kit")]) == 1


def test_other_files_in_a_diffusers_folder_do_not_matter(tmp_path, cache):
    shutil.copytree(DIFFUSERS, tmp_path / "folder")
    ddnb.load(tmp_path / "folder")
    (tmp_path / "folder/sound.wav").write_bytes(b"x")
    ddnb.load(tmp_path / "folder")
    assert len(list(cache.rglob("*.safetensors"))) == 1


def test_only_the_ema_weights_are_kept(cache):
    ddnb.load(LIGHTNING, **FORMAT)
    (cached,) = cache.rglob("*.safetensors")
    assert cached.stat().st_size < LIGHTNING.stat().st_size / 3


# --- conversion -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["out.safetensors", "out.ckpt", "folder"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_conversions_open_again_without_being_told_anything(name, dtype, tmp_path, vectors):
    target = ddnb.convert(LIGHTNING, tmp_path / name, dtype=dtype, **FORMAT)
    ckpt = ddnb.load(target, device="cpu", dtype="float32")
    tolerance = 1e-5 if dtype == "float32" else 2e-3
    torch.testing.assert_close(ckpt(vectors["noise"], vectors["t"]), vectors["unet_v"], atol=tolerance, rtol=0)
    assert (ckpt.sample_rate, ckpt.frames) == (48000, 4096)


def test_half_precision_stays_close_to_the_original(vectors):
    """Also keeps the noise level's features in float32: in float16 they alone would be off by more."""
    ckpt = ddnb.load(LIGHTNING, dtype="float16", **FORMAT)
    assert ckpt.net.timestep_embed.weight.dtype == torch.float32
    torch.testing.assert_close(ckpt(vectors["noise"], vectors["t"]), vectors["unet_v"], atol=5e-3, rtol=0)


def test_trimmed_ckpt_opens_in_the_original_code(tmp_path, net):
    """The original loads strictly into a module with ``diffusion`` and ``diffusion_ema``; one copy is stored."""
    target = ddnb.convert(LIGHTNING, tmp_path / "out.ckpt", **FORMAT)
    original = torch.nn.Module()
    original.diffusion, original.diffusion_ema = UNet(net.config), UNet(net.config)
    original.load_state_dict(torch.load(target, weights_only=True)["state_dict"])
    weights = sum(p.numel() * 4 for p in net.state_dict().values())
    assert weights < target.stat().st_size < 1.3 * weights


def test_half_precision_halves_the_file(tmp_path):
    whole = ddnb.convert(LIGHTNING, tmp_path / "a.safetensors", **FORMAT).stat().st_size
    half = ddnb.convert(LIGHTNING, tmp_path / "b.safetensors", dtype="float16", **FORMAT).stat().st_size
    assert half < 0.6 * whole


@pytest.mark.parametrize("steps", [6, pytest.param(20, marks=pytest.mark.slow)])
def test_todays_diffusers_opens_the_folder_and_makes_the_same_sound(steps, tmp_path):
    """diffusers' own pipeline, from the same noise; what the published folders no longer do."""
    diffusers = pytest.importorskip("diffusers")
    from ddnb.sampler import diffusers_ipndm
    from ddnb.schedule import crash_grid
    from ddnb.steps import seeded_noise

    folder = ddnb.convert(LIGHTNING, tmp_path / "folder", **FORMAT)
    pipeline = diffusers.DanceDiffusionPipeline.from_pretrained(folder, low_cpu_mem_usage=False)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(3)
    theirs = pipeline(num_inference_steps=steps, generator=generator).audios
    ours = diffusers_ipndm(ddnb.load(folder, device="cpu"), seeded_noise([3], (2, 4096)), crash_grid(steps))
    torch.testing.assert_close(ours.clamp(-1, 1), torch.from_numpy(theirs), atol=1e-3, rtol=0)


def test_convert_overwrites_nothing_and_knows_its_formats(tmp_path):
    (tmp_path / "there.ckpt").write_text("mine")
    with pytest.raises(FileExistsError, match="exists already"):
        ddnb.convert(LIGHTNING, tmp_path / "there.ckpt", **FORMAT)
    assert (tmp_path / "there.ckpt").read_text() == "mine"
    with pytest.raises(ValueError, match=r"\.safetensors or \.ckpt"):
        ddnb.convert(LIGHTNING, tmp_path / "out.onnx", **FORMAT)
    with pytest.raises(ValueError, match="bfloat16"):
        ddnb.convert(LIGHTNING, tmp_path / "out.ckpt", dtype="bfloat16", **FORMAT)


def test_an_interrupted_conversion_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("ddnb.checkpoints.formats.save_file", interrupted)
    source = tmp_path / "plain_48000_4096.safetensors"
    save_file(load_file(DIFFUSERS / "unet/diffusion_pytorch_model.safetensors"), source)
    with pytest.raises(KeyboardInterrupt):
        ddnb.convert(source, tmp_path / "out.safetensors")
    assert [p.name for p in tmp_path.iterdir() if p.name != "cache"] == [source.name]


# --- verify ---------------------------------------------------------------------------------------------------


def test_verify_compares_with_the_published_numbers(tmp_path, monkeypatch, net):
    """A registry entry of our own, with numbers computed here from the plain network, right and wrong."""
    sine = torch.arange(4096, dtype=torch.float32).sin().expand(1, 2, -1)
    v = net(sine, torch.ones(1)).abs()
    entry = {
        "sample_rate": 48000,
        "frames": 4096,
        "licence": "MIT",
        "sources": [{"from": "https://example.invalid/x.ckpt"}],
        "fingerprint": {"sine": {"frames": 4096, "t": 1, "sum_abs_v": [v.sum().item(), 0.5], "max_abs_v": [9.0, 0.1]}},
    }
    (tmp_path / "checkpoints.json").write_text(json.dumps({"mine": entry}))
    monkeypatch.setattr("ddnb.checkpoints.registry.PACKAGE", tmp_path)
    monkeypatch.setattr("ddnb.checkpoints.loading.fetch", lambda *_, **__: LIGHTNING)
    right, wrong = ddnb.verify("mine")
    assert right["ok"]
    assert not wrong["ok"]
    assert wrong["got"] == pytest.approx(v.max().item(), abs=1e-4)
    with pytest.raises(CheckpointError, match="Unknown checkpoint 'other'"):
        ddnb.verify("other")


def test_verify_makes_the_published_sample_when_asked(tmp_path, monkeypatch, net):
    from ddnb.sampler import diffusers_ipndm
    from ddnb.schedule import crash_grid
    from ddnb.steps import seeded_noise

    end = diffusers_ipndm(net, seeded_noise([0], (2, 512)), crash_grid(5))[0, :, -2:].tolist()
    wanted = {"frames": 512, "sampler": "diffusers-ipndm", "steps": 5, "seed": 0, "tolerance": 0.01, "last": end}
    wanted["last"] = [end[0], [end[1][0], 99.0]]
    entry = {"sample_rate": 48000, "frames": 1, "sources": [{"from": "x"}], "fingerprint": {"sample": wanted}}
    (tmp_path / "checkpoints.json").write_text(json.dumps({"mine": entry}))
    monkeypatch.setattr("ddnb.checkpoints.registry.PACKAGE", tmp_path)
    monkeypatch.setattr("ddnb.checkpoints.loading.fetch", lambda *_, **__: LIGHTNING)
    assert ddnb.verify("mine") == []
    assert [check["ok"] for check in ddnb.verify("mine", full=True)] == [True, True, True, False]
