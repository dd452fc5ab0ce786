"""What several tests share: the reference data, a cache folder of their own, no network."""

import os
from pathlib import Path

import hypothesis
import pytest
import torch

hypothesis.settings.register_profile("ddnb", deadline=None)  # the first call of an operator in a process is slow
hypothesis.settings.load_profile("ddnb")
torch.set_num_threads(1)  # tiny networks gain nothing from more, and lose much when something else runs beside

os.environ["OMP_NUM_THREADS"] = "1"  # the same for the processes that tests start
os.environ["HF_HUB_OFFLINE"] = (
    "1"  # read when huggingface_hub is imported; tests of the Hub run in a process of their own
)
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

DATA = Path(__file__).parent / "data"
FORMAT = {"sample_rate": 48000, "frames": 4096}
"""What tests/data/lightning.ckpt does not say about itself."""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """Every test has an empty cache folder of its own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("DDNB_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def vectors() -> dict[str, torch.Tensor]:
    """Inputs and outputs of the original network and samplers, see tests/data/README.md."""
    from safetensors.torch import load_file

    return load_file(DATA / "vectors.safetensors")


@pytest.fixture(scope="session")
def ema_weights() -> dict[str, torch.Tensor]:
    """The EMA weights of the genuine Lightning checkpoint, read without ddnb."""
    state = torch.load(DATA / "lightning.ckpt", weights_only=True)["state_dict"]
    return {k.removeprefix("diffusion_ema."): v for k, v in state.items() if k.startswith("diffusion_ema.")}


@pytest.fixture(scope="session")
def net(ema_weights):
    """The reference network with these weights."""
    from ddnb.nets.unet import UNet, config_from_shapes

    net = UNet(config_from_shapes({k: tuple(v.shape) for k, v in ema_weights.items()}))
    net.load_state_dict(ema_weights)
    return net.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def lightning(tmp_path_factory):
    """The genuine Lightning checkpoint, opened."""
    import ddnb

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDNB_CACHE", str(tmp_path_factory.mktemp("cache")))
        return ddnb.load(DATA / "lightning.ckpt", device="cpu", **FORMAT)


@pytest.fixture(scope="session")
def drums():
    """The embedded default."""
    import ddnb

    return ddnb.load("drums", device="cpu")
