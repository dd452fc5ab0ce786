"""What several tests share: the reference data, an empty cache folder for each test, no network, one thread.

Property tests run 25 examples each by default. ``--hypothesis-profile thorough`` runs 100 (``make test-slow`` does);
a test that states its own number keeps it.
"""

import os
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read when torch and NumPy are imported
os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported; tests of the Hub run in their own process
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import hypothesis
import pytest
import torch

# No deadline: the first call of an operator in a process is slow.
hypothesis.settings.register_profile("quick", deadline=None, max_examples=25)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=100)
hypothesis.settings.load_profile("quick")
torch.set_num_threads(1)  # tiny networks gain nothing from more, and lose much when another test runs on the other core

DATA = Path(__file__).parent / "data"
FORMAT = {"sample_rate": 48000, "frames": 4096}
"""The format of tests/data/lightning.ckpt, which the file itself does not state."""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """Give every test an empty cache folder; it is created on first use."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("DDNB_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def vectors() -> dict[str, torch.Tensor]:
    """Read inputs and outputs of the original network and samplers, see tests/data/README.md."""
    from safetensors.torch import load_file

    return load_file(DATA / "vectors.safetensors")


@pytest.fixture(scope="session")
def ema_weights() -> dict[str, torch.Tensor]:
    """Read the EMA weights of the genuine Lightning checkpoint without ddnb."""
    state = torch.load(DATA / "lightning.ckpt", weights_only=True)["state_dict"]
    return {k.removeprefix("diffusion_ema."): v for k, v in state.items() if k.startswith("diffusion_ema.")}


@pytest.fixture(scope="session")
def net(ema_weights):
    """Build the reference network with these weights."""
    from ddnb.nets.unet import UNet, config_from_shapes

    net = UNet(config_from_shapes({k: tuple(v.shape) for k, v in ema_weights.items()}))
    net.load_state_dict(ema_weights)
    return net.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def lightning(tmp_path_factory):
    """Load the genuine Lightning checkpoint."""
    import ddnb

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDNB_CACHE", str(tmp_path_factory.mktemp("cache")))
        return ddnb.load(DATA / "lightning.ckpt", device="cpu", **FORMAT)


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """Load an untrained network of the same strides, five times as fast: for tests that hold for any network."""
    from safetensors.torch import save_file

    import ddnb
    from ddnb.nets.unet import UNet, UNetConfig

    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = UNet(UNetConfig(widths=(8, 8, 32, 32), attention_levels=(4,)))
    path = tmp_path_factory.mktemp("small") / "small.safetensors"
    save_file(net.state_dict(), path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDNB_CACHE", str(tmp_path_factory.mktemp("cache")))
        return ddnb.load(path, device="cpu", **FORMAT)


@pytest.fixture(scope="session")
def drums():
    """Load the embedded default."""
    import ddnb

    return ddnb.load("drums", device="cpu")
