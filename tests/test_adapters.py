"""Low-rank additions and new columns: nothing at first, trainable, and gone once merge_state."""

import pytest
import torch
from safetensors.torch import save_file

import ddnb
from ddnb.nets.lora import PLANE_RATE, LowRank, NewColumns, add_columns, add_low_rank, merge_state
from ddnb.nets.unet import UNet, UNetConfig, config_from_shapes, recompute, with_planes

CONFIG = UNetConfig(widths=(16, 32, 32), attention_levels=(3,))


def network(planes=0):
    torch.manual_seed(0)
    state = with_planes(UNet(CONFIG).state_dict(), planes)
    net = UNet(config_from_shapes({k: tuple(v.shape) for k, v in state.items()}))
    net.load_state_dict(state)
    return net


def answer(net, cond=None):
    generator = torch.Generator().manual_seed(1)
    x, t = torch.randn(2, 2, 256, generator=generator), torch.rand(2, generator=generator)
    return net(x, t, cond)


def train_a_little(net, cond=None):
    """Two steps, so that both factors of every low-rank addition have moved."""
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.3)
    for _ in range(2):
        optimizer.zero_grad()
        answer(net, cond).square().mean().backward()
        optimizer.step()


def test_nothing_changes_before_training():
    before = answer(network(2), torch.ones(2, 2, 1))
    net = network(2)
    add_columns(net, 2)
    add_low_rank(net, 4)
    torch.testing.assert_close(answer(net, torch.ones(2, 2, 1)), before, rtol=0, atol=0)


def test_merged_is_an_ordinary_network_with_the_same_sound(tmp_path):
    """Bitwise: the additions are inside the weights already while training."""
    net, cond = network(2), torch.eye(2)[..., None]
    add_columns(net, 2)
    add_low_rank(net, 4)
    untouched = {k: v.clone() for k, v in network(2).state_dict().items()}
    train_a_little(net, cond)
    state = merge_state(net)
    assert state.keys() == untouched.keys()
    moved = [k for k in state if not torch.equal(state[k], untouched[k])]
    assert moved == [k for k in state if k.endswith(".weight") and state[k].ndim == 3]
    path = tmp_path / "merge_state.safetensors"
    save_file(state, path, {"ddnb": '{"sample_rate": 8000, "frames": 256}'})
    again = ddnb.load(path, device="cpu")
    torch.testing.assert_close(answer(again.net, cond), answer(net, cond), rtol=0, atol=0)


def test_only_the_additions_learn():
    net = network()
    add_low_rank(net, 4)
    trainable = [name for name, p in net.named_parameters() if p.requires_grad]
    assert trainable and all(name.endswith((".up", ".down")) for name in trainable)
    whole = sum(p.numel() for p in network().parameters())
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) < whole / 2


def test_low_rank_gradients_are_those_of_the_full_weight():
    """d/dB = G A^T and d/dA = B^T G, with G the gradient that full training would follow."""
    full, small = network(), network()
    add_low_rank(small, 4, seed=3)
    answer(full).square().mean().backward()
    answer(small).square().mean().backward()
    for name in ("net.0.main.0", "net.3.main.2.qkv_proj", "net.6.main.3"):
        if "main.2" in name:  # attention sits on the lowest level
            name = "net.3.main.7.main.2.qkv_proj"
        gradient = full.get_submodule(name).weight.grad.flatten(1)
        addition = small.get_submodule(name).parametrizations.weight[0]
        torch.testing.assert_close(addition.up.grad, gradient @ addition.down.T, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(addition.down.grad, addition.up.T @ gradient)


def test_a_rank_is_never_above_that_of_the_weight():
    addition = LowRank(torch.zeros(2, 8, 5), 16, torch.Generator())
    assert addition.up.shape == (2, 2) and addition.down.shape == (2, 40)
    with pytest.raises(ValueError, match="1 or more"):
        add_low_rank(network(), 0)


def test_new_columns_learn_fast_and_stay_trainable_beside_low_rank():
    net = network(3)
    add_columns(net, 3)
    add_low_rank(net, 2)
    columns = [m for m in net.modules() if isinstance(m, NewColumns)]
    assert len(columns) == 2 and all(c.columns.requires_grad for c in columns)
    weight = net.net[0].main[0].weight.detach().clone()
    with torch.no_grad():
        columns[0].columns += 1
    change = net.net[0].main[0].weight - weight
    assert (change[:, -3:] == PLANE_RATE).all() and (change[:, :-3] == 0).all()


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_recomputed_activations_give_the_same_gradients(levels):
    """Memory for time, and nothing else: bitwise on a CPU."""
    plain, frugal = network(), network()
    recompute(frugal, levels)
    for net in (plain, frugal):
        answer(net).square().mean().backward()
    for (name, a), b in zip(plain.named_parameters(), frugal.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad), name


@pytest.mark.slow
def test_recomputation_keeps_less():
    from ddnb.training.memory import activation_bytes

    sizes = [activation_bytes(UNetConfig(), 65536, levels) for levels in (0, 2, 4, 14)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[2] < 0.5 * sizes[0]


def test_the_reference_checkpoint_can_be_adapted(ema_weights, net):
    other = UNet(net.config)
    other.load_state_dict(ema_weights)
    add_low_rank(other, 2)
    x, t = torch.randn(1, 2, 4096), torch.tensor([0.5])
    torch.testing.assert_close(other(x, t), net(x, t), rtol=0, atol=0)
