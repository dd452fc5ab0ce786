"""Solvers against exact solutions, against independent implementations, and against the original tools."""

import math
import threading
from itertools import pairwise

import pytest
import torch
from conftest import DATA, FORMAT
from oracles import gaussian_path, gaussian_v, k_denoiser, k_sampling

import ddnb
from ddnb import sampler as samplers
from ddnb.errors import Cancelled
from ddnb.sampler import SAMPLERS, invert, sampler
from ddnb.schedule import GRIDS, alpha_sigma, crash_grid, sigma_k_to_t, time_grid
from ddnb.steps import seeded_noise

DETERMINISTIC = ["iplms", "dpmpp_2m", "dpmpp_3m", "heun", "ddim", "v-ddim", "v-iplms", "diffusers-ipndm"]
STOCHASTIC = ["ddpm", "dpmpp_2m_sde"]
REPAIRED = [name for name in SAMPLERS if name not in samplers.PARITY_SAMPLERS]
SCALE = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64).view(1, 3, 1)


@pytest.mark.parametrize("name", DETERMINISTIC + STOCHASTIC)
@pytest.mark.parametrize("grid", GRIDS)
def test_every_sampler_on_every_grid_makes_the_right_distribution(name, grid):
    """From unit noise, exact scores of a Gaussian must give that Gaussian: its standard deviation within 10 %.

    Chance of a false alarm: 30,000 draws have a relative standard error of 0.4 %; the rest is for solver error.
    """
    steps = 400 if name in STOCHASTIC or grid == "linear" else 100
    noise = torch.randn(1, 3, 10_000, generator=torch.Generator().manual_seed(0))
    draws = torch.Generator().manual_seed(1)
    x = sampler(name)(
        gaussian_v(SCALE), noise, time_grid(grid, steps), noise=lambda i: torch.randn(noise.shape, generator=draws)
    )
    torch.testing.assert_close(x.double().std(dim=-1), SCALE[..., 0], rtol=0.1, atol=0)


@pytest.mark.parametrize(
    ("solve", "order"),
    [
        (samplers.ddim, 1),
        (lambda *a: samplers.iplms(*a, order=1), 1),
        (lambda *a: samplers.iplms(*a, order=2), 2),
        (lambda *a: samplers.iplms(*a, order=3), 2),
        (samplers.heun, 2),
        (samplers.dpmpp_2m, 2),
        (samplers.dpmpp_3m, 2),
    ],
    ids=["ddim", "iplms1", "iplms2", "iplms3", "heun", "dpmpp_2m", "dpmpp_3m"],
)
def test_order_of_convergence(solve, order):
    """The error of order-k solvers falls like steps^-k on the log-SNR grid; a wrong coefficient costs the order."""
    x = torch.ones(1, 1, 1, dtype=torch.float64)
    errors = []
    for steps in (50, 100, 200, 400):
        ts = sigma_k_to_t(torch.logspace(math.log10(20), math.log10(0.02), steps + 1, dtype=torch.float64))
        got = solve(gaussian_v(0.3), x * gaussian_path(0.3, ts[0]), ts)
        errors.append(abs(got.item() / gaussian_path(0.3, ts[-1]).item() - 1))
    slopes = [math.log2(a / b) for a, b in pairwise(errors)]
    assert slopes[-1] == pytest.approx(order, abs=0.25), slopes


@pytest.mark.parametrize("name", ["iplms", "dpmpp_2m", "dpmpp_3m", "heun", "ddim"])
def test_inversion_finds_the_exact_latent_and_comes_back(name):
    """The path of a Gaussian is known in closed form: a sound x0 comes from the noise x0 / S."""
    x0 = SCALE * torch.randn(1, 3, 100, dtype=torch.float64)
    ts = time_grid("log_snr", 400)
    latent = invert(gaussian_v(SCALE), x0, ts, sampler=sampler(name))
    tolerance = 0.05 if name == "ddim" else 5e-3
    torch.testing.assert_close(latent, x0 / SCALE, rtol=tolerance, atol=0)
    torch.testing.assert_close(sampler(name)(gaussian_v(SCALE), latent, ts), x0, rtol=tolerance, atol=0)


@pytest.mark.parametrize("t_s", [(1.0, 0.7), (0.8, 0.5), (0.3, 0.001)])
def test_eta_one_is_textbook_ancestral_sampling(t_s):
    """The posterior q(x_s | x_t, x0 = D) of the forward process, from its definition (Kingma et al. 2021)."""
    t, s = torch.tensor(t_s, dtype=torch.float64)
    (a_t, s_t), (a_s, s_s) = alpha_sigma(t), alpha_sigma(s)
    x, v, z = torch.randn(3, 2, 2, 8, dtype=torch.float64)
    denoised = a_t * x - s_t * v
    forward = s_t**2 - (a_t / a_s) ** 2 * s_s**2
    mean = a_t / a_s * s_s**2 / s_t**2 * x + a_s * forward / s_t**2 * denoised
    expected = mean + (forward * s_s**2 / s_t**2).sqrt() * z
    ts = torch.stack([t, s])
    for name in ("ddpm", "dpmpp_2m_sde"):  # the first step of the latter is first order, and so the same
        got = sampler(name)(lambda *_: v, x, ts, noise=lambda i: z)
        torch.testing.assert_close(got, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("eta", [0.3, 0.7, 1.0])
def test_eta_adds_the_variance_it_takes_away(eta):
    """Unit Gaussian data have v = 0 and stay unit Gaussian; each step is ``x_s = k x + g z`` with k in closed form.

    With small steps the variance must stay 1 whatever eta: noise that is added but not made room for makes it grow.
    Chance of a false alarm: 100,000 draws have a standard error of 0.4 %.
    """
    noise = torch.randn(1, 1, 100_000, generator=torch.Generator().manual_seed(0))
    draws = torch.Generator().manual_seed(1)
    ts = torch.linspace(1, 0.1, 300, dtype=torch.float64)
    fresh = lambda i: torch.randn(noise.shape, generator=draws)  # noqa: E731
    x = samplers.ddim(lambda x, t: torch.zeros_like(x), noise, ts, eta=eta, noise=fresh)
    assert x.var().item() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(
    ("name", "theirs", "options"),
    [
        ("ddim", "sample_euler", {}),
        ("heun", "sample_heun", {}),
        ("dpmpp_2m", "sample_dpmpp_2m", {}),
        ("dpmpp_3m", "sample_dpmpp_3m_sde", {"eta": 0.0}),
        ("dpmpp_2m_sde", "sample_dpmpp_2m_sde", {"eta": 1.0}),
    ],
)
def test_agrees_with_k_diffusion(net, name, theirs, options):
    """The same solver by other hands, over the real network: our rotation form, their variance-exploding form."""
    sigmas = torch.cat([torch.logspace(1.5, -2, 15, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)])
    noise, fresh = seeded_noise([0], (2, 512)), [seeded_noise([i], (2, 512)) for i in range(1, 16)]
    draws = iter(fresh)
    if "sde" in theirs:
        options = options | {"noise_sampler": lambda *_: next(draws)}
    call = getattr(k_sampling(), theirs)
    expected = call(k_denoiser(net), noise * sigmas[0].float(), sigmas.float(), disable=True, **options)
    start = noise * (sigmas[0] / (1 + sigmas[0] ** 2).sqrt()).float()
    got = sampler(name)(net, start, sigma_k_to_t(sigmas), noise=lambda i: fresh[i])
    torch.testing.assert_close(got, expected, atol=1e-3, rtol=0)


# --- the original tools' own outputs --------------------------------------------------------------------------


@pytest.fixture(params=[slice(1), pytest.param(slice(None), marks=pytest.mark.slow)], ids=["first", "all"])
def rows(request):
    """The clips of a batch that are made: the first one alone, or all of them."""
    return request.param


@pytest.mark.parametrize(
    ("name", "key"),
    [("v-ddim", "ddim"), ("ddim", "ddim"), ("v-iplms", "iplms")],
)
def test_trajectories_of_the_original(net, vectors, rows, name, key):
    got = sampler(name)(net, vectors["noise"][rows], crash_grid(20))
    torch.testing.assert_close(got, vectors[key][rows], atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", ["v-ddim", "v-iplms", "ddim"])
def test_inversions_of_the_original(net, vectors, rows, name):
    got = invert(net, vectors["audio"][rows], crash_grid(20), sampler=sampler(name))
    torch.testing.assert_close(got, vectors[f"{name.removeprefix('v-')}_inverse"][rows], atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", ["v-ddim", "v-iplms"])
@pytest.mark.parametrize("level", ["0.3", "0.7"])
def test_variations_of_the_original(net, vectors, rows, name, level):
    """The original's "regenerate": the crash times below the level, from the input noised at the largest."""
    up = vectors["steps_up"].double()
    ts = up[up < float(level)].flip(0)
    alpha, sigma = alpha_sigma(ts[0])
    got = sampler(name)(net, (alpha * vectors["audio"] + sigma * vectors["noise"])[rows], ts)
    expected = vectors[f"variation_{name.removeprefix('v-')}_{level}"][rows]
    torch.testing.assert_close(got, expected, atol=1e-3, rtol=0)


def test_interpolation_of_the_original(net, vectors, rows):
    got = sampler("v-iplms")(net, vectors["slerp"][rows], crash_grid(20))
    torch.testing.assert_close(got, vectors["interpolation_iplms"][rows], atol=1e-3, rtol=0)


@pytest.mark.parametrize(("name", "key"), [("ddim", "k_euler"), ("heun", "k_heun"), ("dpmpp_2m", "k_dpmpp_2m")])
def test_trajectories_of_k_diffusion(net, vectors, rows, name, key):
    sigmas = vectors["karras_sigmas"].double()
    start = vectors["noise"][rows] * (sigmas[0] / (1 + sigmas[0] ** 2).sqrt())
    got = sampler(name)(net, start.float(), sigma_k_to_t(sigmas))
    torch.testing.assert_close(got, vectors[key][rows], atol=1e-3, rtol=0)


# --- the contract ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLERS)
def test_reports_every_step_once(name):
    seen = []
    ts = time_grid("log_snr", 7)
    sampler(name)(gaussian_v(0.5), torch.randn(2, 1, 16), ts, on_step=lambda *step: seen.append(step))
    assert [(done, total) for done, total, _ in seen] == [(i, 7) for i in range(1, 8)]
    assert all(denoised.shape == (2, 1, 16) for *_, denoised in seen)


@pytest.mark.parametrize("name", SAMPLERS)
def test_calls_the_network_as_often_as_it_says(name):
    calls = []

    def model(x, t):
        calls.append(t)
        return gaussian_v(0.5)(x, t)

    sampler(name)(model, torch.randn(2, 1, 16), time_grid("log_snr", 6))
    assert len(calls) == (6 + 4 if name == "heun" else 6)  # heun: not from t = 1, nor in the jump to 0
    assert all(t.shape == (2,) and t.dtype == torch.float32 for t in calls)


@pytest.mark.parametrize("name", SAMPLERS)
def test_cancel_stops_before_the_next_call(name):
    cancel, calls = threading.Event(), []

    def model(x, t):
        calls.append(t)
        if len(calls) == 1:
            cancel.set()
        return torch.zeros_like(x)

    with pytest.raises(Cancelled):
        sampler(name)(model, torch.randn(1, 1, 16), time_grid("linear", 9), cancel=cancel)
    assert len(calls) == 1


@pytest.fixture(scope="module", params=["small", pytest.param("genuine", marks=pytest.mark.slow)])
def half(request, small):
    source = small.info["source"] if request.param == "small" else DATA / "lightning.ckpt"
    return ddnb.load(source, device="cpu", dtype="float16", **FORMAT)


@pytest.mark.parametrize("name", SAMPLERS)
def test_finite_from_t_one_in_half_precision(name, half):
    """alpha is 0 at t = 1, and float16 turns what is divided by it into infinity; the state must stay float32."""
    grid = "crash" if name in samplers.PARITY_SAMPLERS else "log_snr"
    x = sampler(name)(half, seeded_noise([0], (2, 512)), time_grid(grid, 8))
    assert x.dtype == torch.float32
    assert torch.isfinite(x).all()


@pytest.mark.parametrize("name", REPAIRED)
def test_first_step_keeps_the_networks_estimate(name):
    """The original loses its first clean estimate to a division by a rounding error; here a model that knows the
    sound at once must bring it out exactly."""
    truth = torch.randn(1, 1, 64)
    model = lambda x, t: (alpha_sigma(t.double())[0] * x - truth) / alpha_sigma(t.double())[1]  # noqa: E731, D = truth
    x = sampler(name)(lambda x, t: model(x, t).float(), torch.randn(1, 1, 64), torch.tensor([1.0, 0.9, 0.0]))
    torch.testing.assert_close(x, truth, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", STOCHASTIC)
def test_stochastic_samplers_cannot_be_inverted(name):
    with pytest.raises(ValueError, match="inverted"):
        invert(gaussian_v(0.5), torch.randn(1, 1, 16), time_grid("log_snr", 5), sampler=sampler(name))


@pytest.mark.parametrize("ts", [[0.5], [1.0, 0.5, 0.5, 0.0], [0.0, 1.0, 0.5], [1.5, 0.0]])
def test_impossible_times_are_refused(ts):
    with pytest.raises(ValueError, match="imes must"):
        samplers.ddim(gaussian_v(0.5), torch.randn(1, 1, 16), torch.tensor(ts))


@pytest.mark.parametrize("call", [lambda *a: samplers.ddim(*a, eta=1.5), lambda *a: samplers.iplms(*a, order=5)])
def test_options_out_of_range_are_refused(call):
    with pytest.raises(ValueError, match="give a number|has orders"):
        call(gaussian_v(0.5), torch.randn(1, 1, 16), torch.tensor([1.0, 0.0]))


def test_unknown_sampler_lists_the_known_ones():
    with pytest.raises(ValueError, match="iplms, dpmpp_2m"):
        sampler("euler")


def test_noise_of_a_seed_is_its_own():
    """A clip that depends on its neighbours cannot be made again alone."""
    together = seeded_noise([3, 7, 2**63 - 1], (2, 1000))
    torch.testing.assert_close(together[1:2], seeded_noise([7], (2, 1000)), rtol=0, atol=0)
    torch.manual_seed(7)
    torch.testing.assert_close(together[1], torch.randn(2, 1000), rtol=0, atol=0)
    steps = torch.stack([seeded_noise([7], (2, 1000), step)[0] for step in (None, 0, 1, 2)])
    correlation = torch.corrcoef(steps.flatten(1)) - torch.eye(4)
    assert correlation.abs().max() < 0.12  # 2,000 independent draws: five standard errors
