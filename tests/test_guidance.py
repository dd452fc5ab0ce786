"""Categories and guidance, against closed forms."""

import math

import pytest
import torch
from conftest import DATA, FORMAT
from oracles import gaussian_v
from safetensors.torch import save_file

import ddnb
from ddnb.cli.common import parse_category as parsed
from ddnb.cli.main import main
from ddnb.guidance import Guidance, guided, planes, shares
from ddnb.nets.unet import UNet, config_from_shapes, with_planes
from ddnb.schedule import v_to_denoised_eps

CATEGORIES = ["hat", "kick"]


def two_gaussians(x, t, cond):
    """The exact v of categories that are Gaussians of deviation 0.2 (hat) and 0.6 (kick); of any sound, 0.4."""
    scale = 0.4 - 0.2 * cond[:, :1, :1] + 0.2 * cond[:, 1:, :1]
    return torch.cat([gaussian_v(s.item())(x[i : i + 1], t[i : i + 1]) for i, s in enumerate(scale[:, 0, 0])])


def state(at=0.5):
    torch.manual_seed(0)
    return torch.randn(2, 1, 64), torch.full((2,), at)


def test_scale_1_is_the_conditional_model_and_0_the_unconditional_one():
    (x, t), kick = state(), planes(CATEGORIES, {"kick": 1.0})
    plain = two_gaussians(x, t, kick.expand(2, -1, -1))
    torch.testing.assert_close(guided(two_gaussians, kick, Guidance())(x, t), plain, rtol=0, atol=0)
    any_sound = two_gaussians(x, t, torch.zeros(2, 2, 1))
    torch.testing.assert_close(guided(two_gaussians, kick, Guidance(0.0))(x, t), any_sound)
    twice = guided(two_gaussians, kick, Guidance(2.0))(x, t)
    torch.testing.assert_close(twice, 2 * plain - any_sound)


def test_outside_the_interval_the_second_call_is_saved():
    sizes = []

    def counted(x, t, cond):
        sizes.append(len(x))
        return two_gaussians(x, t, cond)

    follow = guided(counted, planes(CATEGORIES, {"kick": 1.0}), Guidance(3.0, interval=(0.2, 0.6)))
    for at in (0.1, 0.4, 0.9):
        follow(*state(at))
    assert sizes == [2, 4, 2]


@pytest.mark.parametrize("at", [0.02, 0.3, 0.7, 1.0])
def test_full_rescale_gives_the_conditional_level(at):
    (x, t), kick = state(at), planes(CATEGORIES, {"kick": 1.0})
    v = guided(two_gaussians, kick, Guidance(5.0, rescale=1.0))(x, t)
    plain, _ = v_to_denoised_eps(x, two_gaussians(x, t, kick.expand(2, -1, -1)), at)
    got, _ = v_to_denoised_eps(x, v, at)
    torch.testing.assert_close(got.std(dim=-1), plain.std(dim=-1), rtol=1e-3, atol=1e-4)


def test_rescale_stays_finite_at_the_clean_end_and_on_silence():
    follow = guided(two_gaussians, planes(CATEGORIES, {"kick": 1.0}), Guidance(5.0, rescale=0.7))
    for x, t in (state(0.0), (torch.zeros(2, 1, 64), torch.full((2,), 0.5))):
        assert torch.isfinite(follow(x, t)).all()


def test_shares_sum_to_1_in_the_order_of_the_network():
    assert shares(CATEGORIES, "kick") == {"kick": 1.0}
    mixed = shares(CATEGORIES, {"kick": 3, "hat": 1})
    assert mixed == {"kick": 0.75, "hat": 0.25}
    assert planes(CATEGORIES, mixed)[0, :, 0].tolist() == [0.25, 0.75]


@pytest.mark.parametrize(
    ("category", "message"),
    [
        ("snare", "Known: hat, kick"),
        ({"kick": 0}, "above 0"),
        ({"kick": -1, "hat": 2}, "above 0"),
        ({"kick": math.nan}, "above 0"),
        ({}, "above 0"),
    ],
)
def test_impossible_categories_are_explained(category, message):
    with pytest.raises(ValueError, match=message):
        shares(CATEGORIES, category)
    with pytest.raises(ValueError, match="no categories"):
        shares([], "kick")


@pytest.mark.parametrize(
    "wrong",
    [
        {"scale": -1},
        {"scale": math.nan},
        {"scale": "2"},
        {"interval": (0.5, 0.5)},
        {"interval": (0, 2)},
        {"rescale": 2},
    ],
)
def test_impossible_guidance_is_explained(wrong):
    with pytest.raises(ValueError, match=f"guidance_{next(iter(wrong))}"):
        Guidance(**wrong)


@pytest.fixture
def conditional(tmp_path, ema_weights):
    """The reference network with two planes, whose columns mean something."""
    state = with_planes(ema_weights, 2)
    torch.manual_seed(0)
    state["net.0.main.0.weight"][:, -2:] = 0.3 * torch.randn_like(state["net.0.main.0.weight"][:, -2:])
    path = tmp_path / "pair.safetensors"
    facts = '{"sample_rate": 48000, "frames": 4096, "categories": ["hat", "kick"]}'
    save_file(state, path, {"ddnb": facts})
    return ddnb.load(path, device="cpu")


def test_new_planes_change_nothing_before_training(ema_weights, net, vectors):
    """Bitwise, whatever the planes hold: fine-tuning with categories starts exactly where the checkpoint was."""
    state = with_planes(ema_weights, 3)
    wide = UNet(config_from_shapes({k: tuple(v.shape) for k, v in state.items()})).eval()
    wide.load_state_dict(state)
    assert wide.config.planes == 3
    x, t = torch.randn(2, 2, 4096, generator=torch.Generator().manual_seed(1)), torch.tensor([0.1, 0.9])
    with torch.no_grad():
        for cond in (None, torch.ones(2, 3, 1), torch.randn(2, 3, 7)):
            torch.testing.assert_close(wide(x, t, cond), net(x, t), rtol=0, atol=0)


def test_generate_by_category(conditional):
    make = {"steps": 3, "duration_s": 0.05, "seed": [3]}
    kick, hat, either = (ddnb.generate(conditional, category=c, **make) for c in ("kick", "hat", None))
    mixed = ddnb.generate(conditional, category={"kick": 1, "hat": 1}, guidance_scale=2, **make)
    sounds = [clips.audio for clips in (kick, hat, either, mixed)]
    assert all(abs(a - b).max() > 1e-4 for i, a in enumerate(sounds) for b in sounds[:i])
    assert [c[0].name for c in (kick, mixed, either)] == ["kick_pair_seed3", "kick-hat_pair_seed3", "pair_seed3"]
    assert (ddnb.generate(conditional, category="kick", guidance_scale=0, **make).audio == either.audio).all()


def test_a_category_is_remade(conditional, tmp_path):
    clips = ddnb.generate(
        conditional,
        1,
        category={"kick": 3, "hat": 1},
        guidance_scale=1.5,
        guidance_interval=(0.1, 0.8),
        guidance_rescale=0.5,
        steps=3,
        duration_s=0.05,
    )
    (path,) = clips.save(tmp_path / "out")
    assert (ddnb.remake(path, conditional).audio == clips.audio).all()


def test_what_cannot_be_followed_is_refused(conditional):
    with pytest.raises(ValueError, match="Known: hat, kick"):
        ddnb.generate(conditional, category="snare")
    with pytest.raises(ValueError, match="say which"):
        ddnb.generate(conditional, guidance_scale=2)
    unconditional = ddnb.load(DATA / "lightning.ckpt", device="cpu", **FORMAT)
    with pytest.raises(ValueError, match="no categories"):
        ddnb.generate(unconditional, category="kick")


def test_names_that_do_not_fit_the_planes_are_not_believed(tmp_path, ema_weights):
    """Metadata may be anybody's: a name without a plane would ask for nothing."""
    path = tmp_path / "one.safetensors"
    facts = '{"sample_rate": 48000, "frames": 4096, "categories": ["a", "b"]}'
    save_file(with_planes(ema_weights, 1), path, {"ddnb": facts})
    assert ddnb.load(path, device="cpu").categories == ()


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("kick", "kick"),
        ("closed hat", "closed hat"),
        ("kick:2,snare:1", {"kick": 2.0, "snare": 1.0}),
        ("kick, snare", {"kick": 1.0, "snare": 1.0}),
        ("kick:0.5,snare", {"kick": 0.5, "snare": 1.0}),
    ],
)
def test_categories_on_the_command_line(text, category):
    assert parsed(text) == category


def test_the_command_line_makes_a_category(conditional, tmp_path, capsys):
    options = ["--category", "hat:3,kick:1", "--guidance-scale", "2", "--guidance-interval", "0.1", "0.9"]
    common = ["--checkpoint", conditional.info["source"], "-n", "1", "--steps", "2", "--device", "cpu"]
    assert main(["generate", *common, *options, "--out", str(tmp_path / "out")]) == 0
    (path,) = (tmp_path / "out").glob("*.wav")
    assert path.name == "hat-kick_pair_seed0.wav"
    assert main(["generate", *common, "--category", "tom", "--out", str(tmp_path / "out")]) == 2
    assert "Known: hat, kick" in capsys.readouterr().err
