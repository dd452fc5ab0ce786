"""Tones of a known pitch: envelopes of harmonics, their posterior, and what the network does with a pitch."""

import math

import pytest
import torch

from ddnb.errors import ArgumentError
from ddnb.nets.build import build_network
from ddnb.nets.envelopes import HARMONICS, HOP, audible, demodulate, exchange, gram, modulate, restore
from ddnb.nets.harmonics import Tones, smooth
from ddnb.nets.spectral import SpectralConfig, SpectralUNet, with_planes

FRAMES = 32 * HOP
A2 = 110 / 44100
ON_A_CIRCLE = round(A2 * FRAMES) / FRAMES


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pitches(value, n=1):
    return torch.full((n,), value, dtype=torch.float64)


def tone(pitch, frames=FRAMES, harmonics=(1.0, 0.5, 0.25)):
    n = torch.arange(frames, dtype=torch.float64)
    parts = (a * torch.cos(2 * math.pi * k * pitch * n + k) for k, a in enumerate(harmonics, 1))
    return 0.25 * sum(parts).float()[None, None]


@pytest.mark.parametrize(("pitch", "circular"), [(A2, False), (ON_A_CIRCLE, True)])
def test_white_noise_stays_white(pitch, circular):
    found = demodulate(draw(64, 1, FRAMES), pitches(pitch, 64), circular)
    assert found.shape == (64, HARMONICS, FRAMES // HOP + (not circular))
    power = found.abs().square().mean(0)
    assert power.mean().item() == pytest.approx(1, abs=0.02)
    assert power.mean(0).min() > 0.85 and power.mean(0).max() < 1.15, "the ends too"


@pytest.mark.parametrize(("pitch", "circular"), [(A2, False), (ON_A_CIRCLE, True)])
def test_a_tone_lies_in_its_harmonics(pitch, circular):
    x = tone(pitch)
    envelopes = demodulate(x, pitches(pitch), circular)
    there_and_back = modulate(envelopes, pitches(pitch), circular)
    inside = slice(HOP, -HOP) if not circular else slice(None)  # a tone that is cut off is none at the cut
    error = (there_and_back - x)[..., inside].square().mean() / x.square().mean()
    assert 10 * error.log10() < -30
    levels = envelopes[0, :, 4:-4].abs().mean(-1)
    assert (levels[:3] / levels[0]).tolist() == pytest.approx([1, 0.5, 0.25], rel=0.02)
    assert levels[3:].max() < 0.02 * levels[0]


def test_modulate_is_twice_the_transpose_of_demodulate():
    x, pitch = draw(1, 1, FRAMES), pitches(A2)
    envelopes = torch.complex(
        draw(1, HARMONICS, FRAMES // HOP + 1, seed=1), draw(1, HARMONICS, FRAMES // HOP + 1, seed=2)
    )
    there = (demodulate(x, pitch, False) * envelopes.conj()).real.sum()
    back = (x * modulate(envelopes, pitch, False)).sum()
    assert back.item() == pytest.approx(2 * there.item(), rel=1e-3)


def test_harmonics_above_the_nyquist_frequency_and_of_no_pitch_are_zero():
    x = draw(2, 1, FRAMES)
    high = demodulate(x, torch.tensor([0.1, 0.0], dtype=torch.float64), False)
    assert (high[0].abs().sum(-1) > 0).tolist() == [k * 0.1 < 0.4955 for k in range(1, HARMONICS + 1)]
    assert not high[1].any() and not audible(pitches(0.0)).any()


def test_on_a_circle_a_shift_turns_frames_and_phases_only():
    x, pitch = draw(1, 1, FRAMES), pitches(ON_A_CIRCLE)
    there = demodulate(x, pitch, True).abs()
    torch.testing.assert_close(demodulate(x.roll(3 * HOP, -1), pitch, True).abs(), there.roll(3, -1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("circular", [False, True])
def test_smoothing_is_the_mean_of_the_gaussian(circular):
    """Conditional mean from the whole covariance, by linear algebra in float64."""
    n, alpha, sigma = 12, 0.6, 0.8
    level = torch.full((1, 1, n), 1.7) if circular else draw(1, 1, n).exp()
    rho = torch.full((1, 1, n), 0.9) if circular else draw(1, 1, n, seed=3).sigmoid()
    noisy = torch.complex(draw(1, 1, n, seed=1), draw(1, 1, n, seed=2))
    if circular:
        beside = torch.eye(n, dtype=torch.float64).roll(1, 0)
        unit = torch.linalg.inv(((1 + 0.9**2) * torch.eye(n) - 0.9 * (beside + beside.T)) / (1 - 0.9**2))
    else:  # a Markov chain: the correlation of two frames is the product of those in between
        product = torch.cat([torch.ones(1), rho[0, 0, :-1]]).double().cumprod(0)
        ratio = product[:, None] / product
        unit = torch.minimum(ratio, 1 / ratio)
    clean = level[0, 0, :, None] * unit * level[0, 0]
    clean, seen = (each.to(torch.cdouble) for each in (clean, alpha**2 * clean + sigma**2 * torch.eye(n)))
    expected = alpha * clean @ torch.linalg.solve(seen, noisy[0, 0].to(torch.cdouble))
    found = smooth(noisy, level, rho, *(torch.tensor(v).view(1, 1, 1) for v in (alpha, sigma)), circular)[0, 0]
    torch.testing.assert_close(found, expected.to(torch.cfloat), atol=1e-5, rtol=1e-4)


# the network


def small(tones=3, planes=2):
    """An untrained network whose components are tones of 1.5 s with hardly anything beside them."""
    torch.manual_seed(0)
    net = SpectralUNet(SpectralConfig(32, (32, 32), 1, planes, 4, (6, 6), 32, tones)).eval().requires_grad_(False)
    net.prior.log_levels += math.log(0.05)
    if net.tones is not None:
        k = torch.arange(net.tones.log_levels.shape[1])[:, None]
        net.tones.log_levels += (1 - 0.5 * k).clamp(min=-6)
        net.tones.log_residual += math.log(1e-3)
        net.tones.correlation[:] = 0.99
        net.tones.log_pitch[:, 0] = math.log(A2)
    return net


def conditions(pitch, shares=(1.0, 0.0)):
    return torch.tensor([*shares, pitch])[None, :, None]


@pytest.mark.parametrize("circular", [False, True])
def test_without_a_pitch_nothing_changes(circular):
    with_tones, without = small(), small(tones=0)
    x, t = draw(1, 1, FRAMES), torch.tensor([0.6])
    expected = without(x, t, torch.tensor([[[1.0], [0.0]]]), circular)
    for cond in (torch.tensor([[[1.0], [0.0]]]), conditions(0.0)):
        assert torch.equal(with_tones(x, t, cond, circular), expected)
    mixed = with_tones(x.expand(2, -1, -1), t.expand(2), torch.cat([conditions(0.0), conditions(A2)]), circular)
    torch.testing.assert_close(mixed[:1], expected, atol=1e-5, rtol=0)
    assert (mixed[1:] - expected).abs().max() > 1e-3


@pytest.mark.parametrize("circular", [False, True])
def test_a_noisy_tone_is_found_where_its_pitch_is_known(circular):
    net, t = small(), torch.tensor([0.5])
    alpha = sigma = math.sqrt(0.5)
    x = tone(ON_A_CIRCLE)
    noisy = alpha * x + sigma * draw(1, 1, FRAMES)
    errors = []
    for pitch in (0.0, ON_A_CIRCLE * 2 ** (6 / 12), ON_A_CIRCLE):
        clean = alpha * noisy - sigma * net(noisy, t, conditions(pitch), circular)
        errors.append(float((clean - x).square().mean() / x.square().mean()))
    assert errors[2] < 0.1 * errors[0] and errors[2] < 0.1 * errors[1]


def test_a_loop_does_not_depend_on_where_it_begins():
    net, x, t = small(), draw(1, 1, FRAMES), torch.tensor([0.7])
    shift = net.config.stride
    v = net(x, t, conditions(ON_A_CIRCLE), circular=True)
    turned = net(x.roll(shift, -1), t, conditions(ON_A_CIRCLE), circular=True).roll(-shift, -1)
    assert (v - turned).abs().max() < 1e-4 * v.abs().max()


def test_gradients_pass_and_the_ends_of_time_are_finite():
    net = small()
    for t in (0.0, 1e-3, 0.5, 1.0):
        x = draw(1, 1, FRAMES).requires_grad_()
        v = net(x, torch.tensor([t]), conditions(A2))
        assert torch.isfinite(v).all()
        assert torch.isfinite(torch.autograd.grad(v.square().sum(), x)[0]).all()


@pytest.mark.parametrize("circular", [False, True])
def test_the_shortest_sound_takes_a_pitch(circular):
    net = small()
    assert net.config.min_frames % HOP == 0
    x = draw(1, 1, net.config.min_frames)
    assert torch.isfinite(net(x, torch.tensor([0.5]), conditions(A2), circular)).all()


def test_rejects_invalid_planes():
    x, t = draw(1, 1, FRAMES), torch.tensor([0.5])
    with pytest.raises(ArgumentError, match="cond has 3 planes, this network has 2"):
        small(tones=0)(x, t, conditions(A2))
    with pytest.raises(ArgumentError, match="cond has 4 planes, this network has 2"):
        small()(x, t, torch.zeros(1, 4, 1))


def test_the_configuration_is_read_off_the_file_and_categories_can_be_added():
    net = small()
    again = build_network(net.state_dict())
    assert again.config == net.config and isinstance(again.tones, Tones)
    grown = build_network(with_planes(net.state_dict(), 2))
    assert grown.config.planes == 4
    x, t = draw(1, 1, FRAMES), torch.tensor([0.5])
    torch.testing.assert_close(grown(x, t, conditions(A2, (1.0, 0, 0, 0))), net(x, t, conditions(A2)))


@pytest.mark.parametrize("hz", [38.0, 110.0, 440.0])
@pytest.mark.parametrize("circular", [False, True])
def test_noise_with_other_envelopes_stays_white(hz, circular):
    pitch = round(hz / 44100 * FRAMES) / FRAMES if circular else hz / 44100
    envelopes = torch.complex(*(draw(48, HARMONICS, FRAMES // HOP + (not circular), seed=k) for k in (1, 2))) / 2**0.5
    x = exchange(draw(48, 1, FRAMES), envelopes, pitches(pitch, 48), circular)
    power = torch.fft.rfft(x[:, 0]).abs().square().mean(0) / FRAMES
    bands = power[1:-1].unfold(0, 64, 64).mean(-1)
    assert bands.min() > 0.88 and bands.max() < 1.12
    if hz > 100:  # harmonics do not overlap
        found = demodulate(x, pitches(pitch, 48), circular)
        assert ((found - envelopes) * audible(pitches(pitch, 48))).abs().square().mean() < 0.01


def test_long_sounds_keep_their_beginning_and_held_ones_are_stretched():
    """Three times as long, the same level is reached three times as late, but not within the first 0.1 s."""
    net = small()
    times = net.tones.log_levels.shape[-1]
    net.tones.log_levels += -0.7 * torch.arange(times)
    held, plain = torch.tensor([[1.0, 0, 0]]), torch.tensor([[0, 1.0, 0]])
    net.tones.held[0] = 32
    weights = torch.zeros(1, 3, 3)
    weights[0, 0, 0] = 1

    def level(frames, shares):
        grids = net.tones._times(times, frames, HOP, shares, False)
        return net.tones._mean_level(weights, net.tones.log_levels, grids, False)[0, 0] @ grids.spread[0].T

    usual, longer = level(33, held), level(97, held)
    torch.testing.assert_close(longer[:4], usual[:4])
    late = 4 + (torch.arange(33) - 4).clamp(min=0) * 93 / 29
    torch.testing.assert_close(longer[late.round().long()][4:], usual[4:], atol=0.3, rtol=0)
    torch.testing.assert_close(level(97, plain)[:33], usual)


@pytest.mark.parametrize("circular", [False, True])
def test_long_whitening_equals_that_of_the_whole_matrix(circular, monkeypatch):
    from ddnb.nets import envelopes

    patched = envelopes._whitening.__wrapped__(160, circular, torch.device("cpu"))
    monkeypatch.setattr(envelopes, "_FEW", 160)
    whole = envelopes._whitening.__wrapped__(160, circular, torch.device("cpu"))
    torch.testing.assert_close(patched, whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize("hz", [38.0, 55.0, 90.0, 220.0])
def test_what_overlapping_harmonics_share_is_counted_once(hz):
    """The projection amplifies nothing, not even at the ends, and keeps a tone."""
    pitch = pitches(hz / 44100)
    x = draw(1, 1, FRAMES)
    for _ in range(20):
        x = x / x.norm()
        x = restore(demodulate(x, pitch, False), pitch, False)
    assert x.norm() < 1.3
    sound = tone(hz / 44100)
    error = restore(demodulate(sound, pitch, False), pitch, False) - sound
    assert error.square().mean() < 0.01 * sound.square().mean()


@pytest.mark.parametrize("circular", [False, True], ids=["line", "circle"])
def test_the_products_of_neighbouring_frames_are_the_round_trip(circular):
    """What ``exchange`` applies fifty times: the same as a sound made and measured, in any mode of autograd."""
    pitch, values = torch.tensor([33 / 65536, 0.0, 180 / 65536], dtype=torch.float64), 64 if circular else 65
    envelopes = torch.randn(3, HARMONICS, values, dtype=torch.cfloat)
    with torch.inference_mode():
        expected = demodulate(modulate(envelopes, pitch, circular), pitch, circular)
        assert torch.allclose(gram(envelopes, pitch, circular), expected, atol=1e-5)
    envelopes.requires_grad_(True)
    gram(envelopes, pitch, circular).abs().sum().backward()  # the products were made in inference mode
    assert torch.isfinite(envelopes.grad.abs()).all()
