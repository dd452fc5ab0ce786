"""The published network at full size, from the training file as it was published to a sound."""

import importlib.util
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import ddnb
from ddnb.checkpoints.checkpoint import Checkpoint
from ddnb.nets.unet import UNet, UNetConfig

_SCRIPT = Path(__file__).parent.parent / "bench" / "full_size.py"


@pytest.fixture(scope="module")
def bench():
    """The benchmark as a module; every part it runs has a process, and so a peak of memory, of its own."""
    spec = importlib.util.spec_from_file_location("bench_full_size", _SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def big(tmp_path):
    """A folder that is emptied even when the test fails: pytest itself keeps the last few, 5 GB each."""
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.mark.slow
def test_training_file_to_sound(bench, big):
    """Catches: reading all of a 3.5 GB file into memory, the raw weights in place of the EMA, a cache that is not used.

    Three minutes, 5 GB of disk. No chance is involved: the weights come from a seed.
    """
    path, cache = big / bench.FILE_NAME, big / "cache"
    written = bench.in_own_process("write", path, cache)
    assert written["parameters"] == bench.PARAMETERS == 221_389_322
    assert written["bytes"] > 3.4e9

    first = bench.in_own_process("open", path, cache)
    assert first["parameters"] == bench.PARAMETERS
    assert first["fingerprint"] == written["fingerprint"], "not the EMA weights"
    assert first["peak"] < bench.PEAK_LIMIT == 2.2e9

    _hollow_out(path)  # from here on only the copy in the cache can give the weights
    second = bench.in_own_process("open", path, cache)
    assert second["fingerprint"] == written["fingerprint"]
    assert second["weights_sha256"] == first["weights_sha256"]
    assert len(list(cache.rglob("*.safetensors"))) == 1

    clip = bench.in_own_process("generate", path, cache)
    assert clip["shape"] == [1, 2, bench.FRAMES]
    assert clip["finite"]
    assert clip["rms"] > 0.01, "silent"


@pytest.fixture(scope="module")
def published():
    """The published architecture with random weights, as ``load`` would return it."""
    torch.manual_seed(0)
    net = UNet(UNetConfig()).eval().requires_grad_(False)
    facts = {"name": "random", "licence": "none", "source": "random", "weights_sha256": "0" * 64}
    return Checkpoint(net, 48_000, 65_536, torch.device("cpu"), torch.float32, facts)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["iplms", "dpmpp_2m_sde", "v-iplms"])
def test_variations_at_full_size(sampler, published):
    sound = ddnb.generate(published, 1, duration_s=0.5, steps=2)[0]
    varied = ddnb.vary(published, sound, 0.5, 1, steps=2, sampler=sampler)
    assert varied.audio.shape == (1, 2, 24_000) and np.isfinite(varied.audio).all()


@pytest.mark.slow
def test_the_other_verbs_at_full_size(published):
    """Two steps of each on the shortest lengths: a minute or two."""
    sound = ddnb.generate(published, 1, duration_s=0.5, steps=2)[0]
    walk = ddnb.interpolate(published, sound, (sound.audio[:, ::-1].copy(), 48_000), 3, steps=2)
    np.testing.assert_array_equal(walk.audio[0], sound.audio)
    for method in ("resample", "guide", "replace"):
        filled = ddnb.inpaint(published, sound, 0.1, 0.2, 1, steps=2, method=method).audio[0]
        np.testing.assert_array_equal(filled[:, :4300], sound.audio[:, :4300])
        assert np.isfinite(filled).all()
    longer = ddnb.extend(published, sound, 0.7, 1, steps=2, method="replace").audio[0]
    assert longer.shape == (2, 33_600)
    np.testing.assert_array_equal(longer[:, :23_500], sound.audio[:, :23_500])
    loop = ddnb.generate(published, 1, loop=True, duration_s=24_576 / 48_000, steps=2)[0]
    assert loop.audio.shape == (2, 24_576) and loop.seam_db < 6


@pytest.mark.slow
def test_the_full_network_on_a_circle_turns_with_its_input(published):
    x, t = torch.randn(1, 2, 16_384, generator=torch.Generator().manual_seed(0)), torch.tensor([0.5])
    v = published(x, t, circular=True)
    turned = published(x.roll(8192, -1), t, circular=True).roll(-8192, -1)
    assert (v - turned).abs().max() <= 1e-4 * v.abs().max()


def _hollow_out(path: Path) -> None:
    """Replace the content by zeros that take no room; size and time, by which the cache knows the file, stay."""
    before = path.stat()
    os.truncate(path, 0)
    os.truncate(path, before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
