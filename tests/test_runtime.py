"""Devices, precisions and batches."""

import subprocess
import sys
import types

import pytest
import torch

from ddnb import runtime


def cuda(monkeypatch, name, major):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: name)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (major, 5))


@pytest.mark.parametrize(
    ("name", "major", "dtype"),
    [("Tesla P100", 6, torch.float32), ("Tesla T4", 7, torch.float16), ("NVIDIA A100", 8, torch.bfloat16)],
)
def test_every_gpu_gets_the_precision_that_suits_it_and_a_reason(name, major, dtype, monkeypatch):
    cuda(monkeypatch, name, major)
    chosen = runtime.pick()
    assert (chosen.device.type, chosen.dtype) == ("cuda", dtype)
    assert name in chosen.reason
    assert str(dtype).removeprefix("torch.") in chosen.reason


def test_cpu_computes_in_float32():
    assert runtime.pick("cpu")[:2] == (torch.device("cpu"), torch.float32)
    assert runtime.pick("cpu", "float16").dtype == torch.float16


@pytest.mark.parametrize(
    ("device", "message"),
    [("cuda:7", "not available"), ("xpu", "runs on"), ("gpu", "runs on"), ("mps", "not available")],
)
def test_devices_that_are_not_there(device, message):
    with pytest.raises(ValueError, match=message):
        runtime.pick(device)


def test_unknown_precision():
    with pytest.raises(ValueError, match="float32, float16, bfloat16"):
        runtime.pick("cpu", "int8")


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("x"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_out_of_memory_halves_the_batch_and_goes_on(error):
    """Every item must come out once, in order, whatever fits."""
    tried = []

    def work(items):
        tried.append(len(items))
        if len(items) > 3:
            raise error
        return torch.tensor(list(items))

    with pytest.warns(UserWarning, match="continuing with"):
        results = torch.cat(list(runtime.in_batches(work, range(20), 16)))
    assert results.tolist() == list(range(20))
    assert tried[:4] == [16, 8, 4, 2]


def test_not_even_one_fits():
    def work(items):
        raise torch.OutOfMemoryError("x")

    with pytest.raises(MemoryError, match="Not even one"), pytest.warns(UserWarning):
        list(runtime.in_batches(work, range(4), 2))


def test_other_errors_are_not_mistaken_for_it():
    def work(items):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        list(runtime.in_batches(work, range(4), 2))


def test_cache_folder_can_be_chosen(monkeypatch, tmp_path):
    monkeypatch.setenv("DDNB_CACHE", str(tmp_path / "elsewhere"))
    assert runtime.cache_dir() == tmp_path / "elsewhere"
    assert not runtime.cache_dir().exists()
    monkeypatch.delenv("DDNB_CACHE")
    assert runtime.cache_dir().parts[-2:] == (".cache", "ddnb")


def test_colab_is_recognised(monkeypatch):
    assert not runtime.in_colab()
    google = types.ModuleType("google")
    google.__path__ = []
    colab = types.ModuleType("google.colab")
    colab.__spec__ = types.SimpleNamespace()
    monkeypatch.setitem(sys.modules, "google", google)
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    assert runtime.in_colab()


def test_import_is_light_and_silent():
    """Half of what a notebook may use is slow to import, and some of it missing on a small machine."""
    heavy = ["IPython", "ipywidgets", "matplotlib", "librosa", "torchaudio", "gdown", "diffusers", "huggingface_hub"]
    code = f"import sys, ddnb; print([name for name in {heavy} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (run.stdout.strip(), run.stderr) == ("[]", "")


@pytest.mark.parametrize("colab", [True, False])
def test_colab_without_a_graphics_card_says_where_to_get_one(colab, monkeypatch):
    monkeypatch.setattr(runtime, "_best_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(runtime, "in_colab", lambda: colab)
    assert ("Change runtime type" in runtime.summary()) == colab
