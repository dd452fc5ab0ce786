"""The small network: an orthonormal front end, a prior that is Bayes' rule, a scale that is exact for Gaussians."""

import math

import pytest
import torch

from ddnb.nets.build import build_empty, build_network
from ddnb.nets.mdct import inverse_mdct, mdct
from ddnb.nets.prior import FLOOR, band_edges, grid, time_edges
from ddnb.nets.spectral import SpectralConfig, SpectralUNet, config_from_shapes, with_planes
from ddnb.sampler import iplms
from ddnb.schedule import alpha_sigma, sigma_k_to_t, time_grid, v_to_denoised_eps
from ddnb.steps import seeded_noise

CONFIG = SpectralConfig(hop=32, widths=(16, 32), blocks=1, planes=3, envelopes=6, cells=(8, 10), embedding=16)
FRAMES = 8192


def shapes_of(net):
    return {name: tuple(p.shape) for name, p in net.state_dict().items()}


@pytest.fixture
def net():
    """Untrained, with two loud or quiet envelopes in each of three categories, and a residual that does something."""
    torch.manual_seed(0)
    net = SpectralUNet(CONFIG).eval().requires_grad_(False)
    net.prior.log_levels.copy_(torch.linspace(-6, -1, 6)[:, None, None].expand(-1, 8, 10))
    net.prior.log_shares.fill_(-1e4)
    for category in range(3):
        net.prior.log_shares[category, 2 * category : 2 * category + 2] = math.log(1 / 2)
    net.prior.log_shares[-1] = math.log(1 / 6)
    for parameter in net.parameters():
        parameter += 0.03 * torch.randn_like(parameter)
    return net


def without_residual(net):
    for parameter in (*net.last.parameters(), *net.partials.leave.parameters(), net.partials.near, net.partials.whole):
        parameter.zero_()


def one(category, n=1):
    return torch.eye(3)[category].expand(n, -1)[..., None]


# --- front end ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("circular", [True, False])
@pytest.mark.parametrize("hop", [16, 64, 128])
def test_the_transform_is_orthonormal(hop, circular):
    x, y = torch.randn(2, 3, 1, 32 * hop, generator=torch.Generator().manual_seed(0))
    a, b = mdct(x, hop, circular), mdct(y, hop, circular)
    assert a.shape == (3, hop, 32)
    torch.testing.assert_close(inverse_mdct(a, circular), x, atol=1e-5, rtol=0)
    torch.testing.assert_close((a * b).sum((1, 2)), (x * y).sum((1, 2)), atol=1e-2, rtol=1e-4)


@pytest.mark.parametrize("circular", [True, False])
def test_white_noise_stays_white(circular):
    spectrum = mdct(torch.randn(64, 1, 4096, generator=torch.Generator().manual_seed(0)), 64, circular)
    for frames in (spectrum, spectrum[..., :1].repeat(1, 1, 64), spectrum[..., -1:].repeat(1, 1, 64)):
        covariance = torch.einsum("bft,bgt->fg", frames, frames) / (64 * 64)
        torch.testing.assert_close(covariance, torch.eye(64), atol=0.1 if frames is spectrum else 0.8, rtol=0)
    following = (spectrum[..., 1:] * spectrum[..., :-1]).mean()
    assert abs(following) < 0.01


def test_on_a_circle_a_shift_by_a_hop_is_a_shift_by_a_frame():
    x = torch.randn(1, 1, 2048, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(mdct(x.roll(3 * 64, -1), 64, True), mdct(x, 64, True).roll(3, -1), atol=1e-5, rtol=0)


def test_the_end_does_not_hear_the_beginning():
    x = torch.zeros(1, 1, 2048)
    x[..., :100] = 1
    assert mdct(x, 64, True)[..., -1].abs().max() > 0.1
    assert not mdct(x, 64, False)[..., 3:].any()
    spectrum = torch.zeros(1, 64, 32)
    spectrum[..., 0] = 1
    assert not inverse_mdct(spectrum, False)[..., 128:].any()


# --- cells --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("points", [3, 100, 512, 3000])
def test_cells_cover_the_axis(points):
    cells = grid(time_edges(18), points, torch.device("cpu"))
    assert cells.points.sum() == points
    torch.testing.assert_close(cells.mean.sum(1), (cells.points > 0).float())
    torch.testing.assert_close(cells.spread.sum(1), torch.ones(points))
    line = torch.arange(18.0)
    assert (cells.spread @ line).diff().min() >= 0


def test_edges_rise_and_bands_end_at_the_last():
    for edges in (time_edges(18), band_edges(15, 64), band_edges(18, 128)):
        assert list(edges) == sorted(set(edges))
    assert band_edges(15, 64)[-1] == 64 and band_edges(18, 128)[-1] == 128


# --- prior --------------------------------------------------------------------------------------------------------


def level(net, x, sigma_k, category=0, circular=False):
    alpha, sigma = alpha_sigma(sigma_k_to_t(torch.tensor([sigma_k])))
    alpha, sigma = alpha[:, None, None], sigma[:, None, None]
    noisy = alpha * x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(9))
    return net.prior(mdct(noisy, 32, circular), alpha, sigma, one(category)[..., 0], circular)


@pytest.mark.parametrize("which", [0, 1])
def test_the_prior_recognizes_its_envelope_when_the_noise_is_low(net, which):
    """Of a category's two levels it finds the right one; under loud noise it is their mean square."""
    loud = net.prior.log_levels[2 + which, 0, 0].exp().item()
    x = loud * torch.randn(1, 1, FRAMES, generator=torch.Generator().manual_seed(1))
    assert level(net, x, loud / 10, 1).median().item() == pytest.approx(loud, rel=0.05)
    both = (2 * net.prior.log_levels[2:4, 0, 0]).exp().mean().sqrt().item()
    assert level(net, torch.zeros(1, 1, FRAMES), 100.0, 1).median().item() == pytest.approx(both, rel=0.05)


def test_the_prior_stays_within_what_the_sound_allows(net):
    """Where the input is louder or quieter than every envelope, it is believed."""
    t = torch.linspace(0, 1, FRAMES)
    x = torch.where(t < 0.5, 2.0, 1e-3) * torch.randn(1, 1, FRAMES, generator=torch.Generator().manual_seed(1))
    found = level(net, x, 3e-3, 2)
    assert 0.7 < found[..., 10:100].median() < 2.1
    assert found[..., 140:250].median() < 1e-2
    assert found.min() >= FLOOR / 2


def test_mixed_categories_have_a_mean_level(net):
    silence = torch.zeros(1, 32, FRAMES // 32)
    alpha, sigma = (torch.full((1, 1, 1), value) for value in alpha_sigma(0.999))
    levels = [
        net.prior(silence, alpha, sigma, shares, False).clamp(max=10) for shares in (one(0)[..., 0], one(2)[..., 0])
    ]
    mixed = net.prior(silence, alpha, sigma, (one(0) + one(2))[..., 0] / 2, False)
    assert (mixed >= torch.minimum(*levels) - 1e-6).all() and (mixed <= torch.maximum(*levels) + 1e-6).all()


# --- network ------------------------------------------------------------------------------------------------------


def test_without_a_residual_it_is_a_wiener_filter(net):
    """For Gaussian sounds of the prior's level this is the best there is, at every noise level."""
    without_residual(net)
    s = net.prior.log_levels[0, 0, 0].exp().item()
    net.prior.log_levels[:] = math.log(s)
    x0 = s * torch.randn(4, 1, FRAMES, generator=torch.Generator().manual_seed(1))
    for sigma_k in (s / 2, s, 2 * s):
        t = sigma_k_to_t(torch.tensor([sigma_k])).expand(4)
        alpha, sigma = alpha_sigma(t[:, None, None])
        x = alpha * x0 + sigma * torch.randn(x0.shape, generator=torch.Generator().manual_seed(2))
        denoised, _ = v_to_denoised_eps(x, net(x, t, one(0, 4)), t[:, None, None])
        best = alpha * s**2 * x / (alpha**2 * s**2 + sigma**2)
        assert (denoised - best).square().mean() < 0.01 * best.square().mean()


def test_it_makes_sounds_of_the_level_of_its_category(net):
    without_residual(net)
    for category, loudest in ((0, 1), (2, 5)):
        made = iplms(
            lambda x, t, c=category: net(x, t, one(c, len(x))),
            seeded_noise(range(2), (1, FRAMES)),
            time_grid("log_snr", 20),
        )
        assert made.std() < 1.5 * net.prior.log_levels[loudest, 0, 0].exp()
        assert made.std() > 0.3 * net.prior.log_levels[loudest - 1, 0, 0].exp()


def test_finite_at_both_ends(net):
    x = torch.randn(2, 1, FRAMES, generator=torch.Generator().manual_seed(0))
    for value in (0.0, 1e-6, 0.5, 1 - 1e-6, 1.0):
        assert torch.isfinite(net(x, torch.full((2,), value), one(1, 2))).all()
    assert torch.isfinite(net(torch.zeros(1, 1, FRAMES), torch.tensor([0.3]))).all()


def test_the_step_does_not_depend_on_its_company(net):
    x, t = torch.randn(3, 1, FRAMES, generator=torch.Generator().manual_seed(0)), torch.tensor([0.2, 0.6, 0.9])
    whole = net(x, t, torch.cat([one(i) for i in range(3)]))
    for i in range(3):
        torch.testing.assert_close(net(x[i : i + 1], t[i : i + 1], one(i)), whole[i : i + 1], atol=1e-5, rtol=1e-4)


def test_a_loop_has_no_beginning(net):
    x, t = torch.randn(1, 1, FRAMES, generator=torch.Generator().manual_seed(0)), torch.tensor([0.4])
    for steps in (1, 5):
        turn = steps * CONFIG.stride
        torch.testing.assert_close(
            net(x.roll(turn, -1), t, circular=True), net(x, t, circular=True).roll(turn, -1), atol=1e-4, rtol=0
        )


def test_a_sound_has_one(net):
    x, t = torch.randn(1, 1, FRAMES, generator=torch.Generator().manual_seed(0)), torch.tensor([0.4])
    turned = net(x.roll(CONFIG.stride, -1), t).roll(-CONFIG.stride, -1)
    assert (turned - net(x, t)).abs().max() > 1e-3


@pytest.mark.parametrize("frames", [CONFIG.stride, 5 * CONFIG.stride, 100 * CONFIG.stride])
def test_any_legal_length(net, frames):
    x = torch.randn(1, 1, frames)
    assert CONFIG.legal_frames(frames - 1) == frames
    assert net(x, torch.tensor([0.5])).shape == x.shape
    with pytest.raises(ValueError, match=f"the next one is {frames + CONFIG.stride}"):
        net(torch.randn(1, 1, frames + 1), torch.tensor([0.5]))


def test_other_planes_are_refused(net):
    with pytest.raises(ValueError, match="cond has 2 planes, this network has 3"):
        net(torch.randn(1, 1, FRAMES), torch.tensor([0.5]), torch.zeros(1, 2, 1))


def test_the_loss_of_the_truth_is_nothing_and_of_a_gaussian_guess_about_one(net):
    x0 = net.prior.log_levels[0, 0, 0].exp() * torch.randn(8, 1, FRAMES, generator=torch.Generator().manual_seed(1))
    t = torch.linspace(0.05, 0.9, 8)
    alpha, sigma = alpha_sigma(t[:, None, None])
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(2))
    x, v = alpha * x0 + sigma * noise, alpha * noise - sigma * x0
    assert net.loss(v, v, x, t, one(0, 8)) == 0
    without_residual(net)
    net.prior.log_levels[:] = net.prior.log_levels[0, 0, 0].clone()
    assert 0.7 < net.loss(net(x, t, one(0, 8)), v, x, t, one(0, 8)) < 1.1


# --- as a file ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [SpectralConfig(), CONFIG, SpectralConfig(hop=128, widths=(32, 64, 64, 96), blocks=3, planes=1, envelopes=4)],
)
def test_the_configuration_is_in_the_shapes(config):
    assert config_from_shapes(shapes_of(build_empty(config))) == config


def test_other_shapes_are_refused(net):
    shapes = shapes_of(net)
    with pytest.raises(ValueError, match="tensors do not fit"):
        config_from_shapes(shapes | {"last.weight": (32, 16, 5)})
    with pytest.raises(KeyError):
        config_from_shapes({k: v for k, v in shapes.items() if k != "first.weight"})


def test_new_categories_begin_as_any_sound(net):
    wide = build_network(with_planes(net.state_dict(), 2)).eval()
    x, t = torch.randn(1, 1, FRAMES, generator=torch.Generator().manual_seed(0)), torch.tensor([0.5])
    new = torch.eye(5)[4][None, :, None]
    torch.testing.assert_close(wide(x, t, new), net(x, t))
    torch.testing.assert_close(wide(x, t, torch.eye(5)[1][None, :, None]), net(x, t, one(1)))
