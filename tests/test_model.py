"""The network is the published one: same numbers, same names."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ddnb.checkpoints.diffusers import diffusers_configs, to_diffusers
from ddnb.nets.unet import Downsample1d, UNet, UNetConfig, Upsample1d, config_from_shapes


def shapes_of(config):
    with torch.device("meta"):
        return {name: tuple(p.shape) for name, p in UNet(config).state_dict().items()}


configs = st.integers(2, 6).flatmap(
    lambda depth: st.builds(
        UNetConfig,
        channels=st.integers(1, 2),
        widths=st.lists(st.sampled_from([32, 64, 96]), min_size=depth, max_size=depth).map(tuple),
        attention_levels=st.sets(st.integers(2, depth)).map(lambda levels: tuple(sorted(levels))),
        planes=st.integers(0, 12),
        time_features=st.sampled_from([8, 16]),
    )
)


def test_agrees_with_the_original_network(net, vectors):
    torch.testing.assert_close(net(vectors["noise"], vectors["t"]), vectors["unet_v"], atol=1e-5, rtol=0)


def test_published_networks_have_their_published_size():
    assert sum(torch.Size(s).numel() for n, s in shapes_of(UNetConfig()).items() if "kernel" not in n) == 221_389_322
    assert UNetConfig().stride == 8192
    assert UNetConfig().min_frames == 24_576


@settings(max_examples=40)
@given(configs)
def test_configuration_is_read_off_names_and_shapes(config):
    """A level, an attention block or a plane that is overlooked would load into the wrong network."""
    assert config_from_shapes(shapes_of(config)) == config


@settings(max_examples=10)
@given(configs, st.data())
def test_a_wrong_shape_is_named(config, data):
    shapes = shapes_of(config)
    name = data.draw(st.sampled_from(sorted(n for n in shapes if n.endswith("main.0.bias"))))
    shapes[name] = (7,)
    with pytest.raises(ValueError, match="do not fit"):
        config_from_shapes(shapes)


@settings(max_examples=50)
@given(configs, st.integers(1, 5000))
def test_legal_length_is_the_next_one_that_works(config, frames):
    legal = config.legal_frames(frames)
    assert legal >= frames
    assert legal % config.stride == 0
    assert legal == config.min_frames or legal - config.stride < frames


def test_shortest_legal_length_runs_and_a_shorter_one_says_so(net):
    shortest = net.config.min_frames
    assert net(torch.randn(1, 2, shortest), torch.ones(1)).shape == (1, 2, shortest)
    with pytest.raises(ValueError, match=f"the next one is {shortest}"):
        net(torch.randn(1, 2, shortest - net.config.stride), torch.ones(1))
    with pytest.raises(ValueError, match="multiples of 8"):
        net(torch.randn(1, 2, 1001), torch.ones(1))


@pytest.mark.parametrize(("module", "padding"), [(Downsample1d(), 3), (Upsample1d(), 2)])
def test_depthwise_resampling_equals_the_dense_identity_kernels(module, padding):
    """The original spreads the taps on the diagonal of a dense kernel; the sound must not change."""
    x = F.pad(torch.randn(2, 6, 64), (padding, padding), "reflect")
    dense = torch.zeros(6, 6, 8)
    dense[range(6), range(6)] = module.kernel
    if isinstance(module, Downsample1d):
        expected = F.conv1d(x, dense, stride=2)
    else:
        expected = F.conv_transpose1d(x, dense, stride=2, padding=7)
    torch.testing.assert_close(module(x[:, :, None, padding:-padding])[:, :, 0], expected)


def test_resampling_keeps_a_constant():
    """Filters that do not sum to one change the level from one half of the network to the other."""
    x = torch.ones(1, 3, 1, 64)
    torch.testing.assert_close(Downsample1d()(x), x[..., :32])
    torch.testing.assert_close(Upsample1d()(x)[..., 4:-4], x.repeat(1, 1, 1, 2)[..., 4:-4])


def test_planes_default_to_zeros_and_are_stretched():
    torch.manual_seed(0)
    net = UNet(UNetConfig(widths=(32, 32), attention_levels=(2,), planes=3)).eval()
    x, t = torch.randn(2, 2, 64), torch.rand(2)
    torch.testing.assert_close(net(x, t), net(x, t, torch.zeros(2, 3, 64)))
    torch.testing.assert_close(net(x, t, torch.ones(2, 3, 1)), net(x, t, torch.ones(2, 3, 64)))
    with pytest.raises(ValueError, match="2 planes, this network has 3"):
        net(x, t, torch.zeros(2, 2, 1))


def test_agrees_with_diffusers(net, ema_weights):
    """An independent implementation of the same network, at another length and batch than the stored vectors."""
    diffusers = pytest.importorskip("diffusers")
    config = diffusers_configs(net.config, {"sample_rate": 48000, "frames": 4096})["unet/config.json"]
    theirs = diffusers.UNet1DModel.from_config(config)
    theirs.load_state_dict(to_diffusers(ema_weights, net.config.depth))
    x = torch.randn(1, 2, 1024)
    with torch.no_grad():
        for t in (0.0, 0.3, 1.0):
            t = torch.tensor([t])
            torch.testing.assert_close(net(x, t), theirs(x, t).sample, atol=1e-5, rtol=0)
