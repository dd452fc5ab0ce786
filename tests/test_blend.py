"""Blends of a checkpoint with what was trained from it: their ends and middle, their records, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

import ddnb
from ddnb.checkpoints.blend import load_start
from ddnb.cli.main import main
from ddnb.errors import ArgumentError, RecordError
from ddnb.nets.displacement import blend_components
from ddnb.nets.prior import IMPOSSIBLE
from ddnb.training import calibration

RATE = 44_100
FEW = {"steps": 2, "level": "network"}


def write(folder, high, n=5):
    folder.mkdir(parents=True)
    for number in range(n):
        noise = np.random.default_rng(number).standard_normal(8000)
        spectrum = np.fft.rfft(noise)
        spectrum[: high * 8000 // RATE] = 0
        soundfile.write(
            folder / f"{number}.wav", 0.1 * np.fft.irfft(spectrum, 8000) * np.exp(-np.arange(8000) / 400), RATE
        )
    return folder.parent


@pytest.fixture(scope="module")
def files(drums, tmp_path_factory):
    """Fit the embedded network twice: to kicks, and to kicks and a category of its own."""
    place = tmp_path_factory.mktemp("fitted")
    with pytest.MonkeyPatch.context() as patch:
        for name, few in (("_ROUNDS", 1), ("_SOUNDS", 2), ("_STEPS", 2)):
            patch.setattr(calibration, name, few)
        ddnb.fit(drums, write(place / "first" / "kick", 5000), place / "ticks.safetensors")
        write(place / "second" / "kick", 1000)
        write(place / "second" / "zap", 8000)
        ddnb.fit(drums, place / "second", place / "zaps.safetensors")
    return place / "ticks.safetensors", place / "zaps.safetensors"


@pytest.fixture
def ticks(files):
    return ddnb.load(files[0], device="cpu")


@pytest.fixture
def zaps(files):
    return ddnb.load(files[1], device="cpu")


def sound(ckpt, category, seed=3):
    return ddnb.generate(ckpt, 1, seed, category=category, **FEW)[0].audio


@pytest.mark.parametrize("category", ["kick", "bass"])
def test_weight_0_is_the_start_and_weight_1_the_tuned_one_bit_for_bit(drums, ticks, category):
    for weight, end in ((0, drums), (1, ticks)):
        np.testing.assert_array_equal(
            sound(ddnb.blend(drums, ticks, weight), category), sound(end, category), err_msg=f"weight {weight}"
        )


def test_new_categories_and_others_that_do_not_count_change_nothing(drums, ticks, zaps):
    np.testing.assert_allclose(sound(ddnb.blend(drums, zaps, 0), "kick"), sound(drums, "kick"), atol=1e-6)
    for weights, end in (([1, 0], ticks), ([0, 1], zaps)):
        blended = ddnb.blend(drums, [ticks, zaps], weights)
        assert set(blended.categories) == {*drums.categories, "zap"}
        np.testing.assert_allclose(sound(blended, "kick"), sound(end, "kick"), atol=1e-6)
    np.testing.assert_allclose(sound(blended, "zap"), sound(zaps, "zap"), atol=1e-6)


def mean_level(ckpt, category):
    label, prior = ckpt.categories.index(category), ckpt.net.prior
    shares = prior.log_shares[label].double().softmax(0)
    return torch.einsum("k,kbt->bt", shares, prior.log_levels.double())


@pytest.mark.parametrize("weight", [0.25, 0.7, 1.2])
def test_the_mean_level_of_a_category_moves_in_proportion(drums, ticks, weight):
    a, b, blended = (mean_level(each, "kick") for each in (drums, ticks, ddnb.blend(drums, ticks, weight)))
    torch.testing.assert_close(blended, a + weight * (b - a), atol=1e-4, rtol=0)


def test_two_trainings_add_up(drums, ticks, zaps):
    a, b, c = (mean_level(each, "kick") for each in (drums, ticks, zaps))
    blended = mean_level(ddnb.blend(drums, [ticks, zaps], [0.6, 0.3]), "kick")
    torch.testing.assert_close(blended, a + 0.6 * (b - a) + 0.3 * (c - a), atol=1e-4, rtol=0)


def test_categories_that_were_not_fitted_keep_their_components(drums, ticks):
    blended = ddnb.blend(drums, ticks, 0.5)
    label = drums.categories.index("bass")
    for part in ("prior.", "tones."):
        shares = [ckpt.net.state_dict()[part + "log_shares"][label] for ckpt in (blended, drums)]
        levels = [ckpt.net.state_dict()[part + "log_levels"] for ckpt in (blended, drums)]
        mine = [each > IMPOSSIBLE / 10 for each in shares]
        assert torch.equal(levels[0][mine[0]], levels[1][mine[1]])
        torch.testing.assert_close(*(each[own].softmax(0) for each, own in zip(shares, mine, strict=True)))
    one, other = sound(blended, "bass"), sound(drums, "bass")
    np.testing.assert_allclose(one, other, atol=1e-3 * np.abs(one).max())  # sums of other lengths: 2e-4 to 5e-4


def components(draw, planes=2):
    numbers = st.integers(1, 4)
    sizes = [draw(numbers) for _ in range(planes)]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    rows = torch.full((planes + 1, sum(sizes)), IMPOSSIBLE)
    for row, size, end in zip(rows, sizes, np.cumsum(sizes), strict=False):
        row[end - size : end] = torch.rand(size, generator=generator).add(0.01).log().log_softmax(0)
    return {"prior.log_levels": torch.randn(sum(sizes), 3, 2, generator=generator), "prior.log_shares": rows}


@given(st.data(), st.lists(st.floats(0, 1.2), min_size=1, max_size=3))
def test_any_mixtures_blend_into_one_whose_mean_is_between_theirs(data, weights):
    states = [components(data.draw) for _ in range(len(weights) + 1)]
    blended = blend_components(states[0], states[1:], weights)

    def means(state):
        shares = state["prior.log_shares"][:-1].double().exp()
        torch.testing.assert_close(shares.sum(1), torch.ones(2, dtype=torch.float64), atol=1e-4, rtol=0)
        return torch.einsum("pk,kbt->pbt", shares, state["prior.log_levels"].double())

    first, *others = map(means, states)
    expected = first + sum(w * (other - first) for w, other in zip(weights, others, strict=True))
    torch.testing.assert_close(means(blended), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("lora_rank", [None, 2])
def test_weights_of_a_waveform_network_are_averaged(small, tmp_path, lora_rank):
    data = write(tmp_path / "sounds" / "zap", 2000)
    for _ in ddnb.finetune(small, data, tmp_path / "run", steps=2, lora_rank=lora_rank, learning_rate=1e-2, demos=0):
        pass
    tuned = ddnb.load(tmp_path / "run", device="cpu")
    a, b, half = (each.net.state_dict() for each in (small, tuned, ddnb.blend(small, tuned, 0.5)))
    assert any(not torch.equal(a[name], b[name]) for name in a)
    for name in a:
        torch.testing.assert_close(half[name], (a[name] + b[name]) / 2)
    for weight, end in ((0, a), (1, b)):
        same = ddnb.blend(small, tuned, weight).net.state_dict()
        assert all(torch.equal(same[name], end[name]) for name in end)


def test_a_blend_says_what_it_is_of(drums, ticks, zaps):
    blended = ddnb.blend(drums, [ticks, zaps], [0.5, 0.25])
    assert blended.name == "kick-blend50 kick-zap-blend25"
    record = ddnb.generate(blended, 1, category="zap", steps=1).provenance.to_dict()["model"]
    assert [part["name"] for part in record["blend"]] == ["drums", "kick", "kick-zap"]
    assert [part.get("weight") for part in record["blend"]] == [None, 0.5, 0.25]
    assert record["blend"][1]["source"] == "ticks.safetensors"  # without its folder
    other = ddnb.blend(drums, [ticks, zaps], [0.5, 0.26])
    assert other.info["weights_sha256"] != blended.info["weights_sha256"]


def test_a_sound_of_a_blend_is_remade_from_its_parts(drums, ticks, files, tmp_path):
    blended = ddnb.blend(drums, ticks, 0.4)
    clip = ddnb.generate(blended, 1, 5, category="kick", steps=2)[0]
    path = clip.save(tmp_path)
    for network in (files[0], [ticks], blended):
        np.testing.assert_array_equal(ddnb.remake(path, network)[0].audio, clip.audio)
    with pytest.raises(ddnb.CheckpointError, match=r"ticks\.safetensors; say where it is"):
        ddnb.remake(path)
    with pytest.raises(RecordError, match="has other weights than the kick that made"):
        ddnb.remake(path, files[1])


def test_a_record_with_an_impossible_blend_is_refused(drums, ticks, tmp_path):
    path = ddnb.generate(ddnb.blend(drums, ticks, 0.4), 1, category="kick", steps=1)[0].save(tmp_path)
    record = json.loads(path.with_suffix(".json").read_text())
    model = record["model"]
    for blend in ([model["blend"][0]], [*model["blend"][:1], model["blend"][1] | {"weight": 7}], "drums", [5], [{}]):
        with pytest.raises(RecordError):
            ddnb.remake(record | {"model": model | {"blend": blend}}, ticks)


@pytest.mark.parametrize("weight", [-0.1, 1.3, float("nan"), "0.5", None, True, [0.5, 0.5], []])
def test_weights_out_of_range_are_refused(drums, ticks, weight):
    with pytest.raises(ArgumentError, match="weight"):
        ddnb.blend(drums, ticks, weight)


def test_networks_that_are_not_related_are_refused(drums, ticks, small, lightning):
    with pytest.raises(ArgumentError, match="another kind or size|channels at"):
        ddnb.blend(drums, small, 0.5)
    with pytest.raises(ArgumentError, match="another kind or size"):
        ddnb.blend(lightning, small, 0.5)
    with pytest.raises(ArgumentError, match="is a blend"):
        ddnb.blend(ddnb.blend(drums, ticks, 0.5), ticks, 0.5)
    first, other = (ddnb.training.from_scratch("tiny", seed=seed, device="cpu") for seed in (0, 1))
    with pytest.raises(ArgumentError, match="nothing in common"):
        ddnb.blend(first, other, 0.5)


def test_the_command_line_blends(files, tmp_path, capsys):
    ways = (["--checkpoint", str(files[0]), "--blend", "0.5"], ["--blend", f"{files[0]}=0.5"])
    for number, way in enumerate(ways):
        out = tmp_path / str(number)
        assert main(["generate", "-n", "1", "--category", "kick", "--steps", "1", "--out", str(out), *way]) == 0
    made = [soundfile.read(next((tmp_path / str(number)).glob("*.wav")))[0] for number in (0, 1)]
    np.testing.assert_array_equal(*made)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--blend", "x"], "give a number"),
        (["--blend", "2"], "0 to 1.2"),
        (["--blend", "0.5", "--blend", "0.6"], "one number alone"),
        (["--blend", "missing.safetensors=0.5"], "No checkpoint at"),
    ],
)
def test_blends_that_the_command_line_refuses(files, options, message, capsys, caplog):
    try:
        status = main(["generate", "--checkpoint", str(files[0]), *options])
    except SystemExit as stop:  # argparse
        status = stop.code
    assert status in (1, 2)
    assert message in capsys.readouterr().err + caplog.text


def test_a_checkpoint_without_a_known_start_says_how_to_blend_it(small, capsys, caplog):
    assert (
        main(
            [
                "generate",
                "--checkpoint",
                small.info["source"],
                "--sample-rate",
                "48000",
                "--frames",
                "4096",
                "--blend",
                "0.5",
            ]
        )
        != 0
    )
    assert "does not say its start" in capsys.readouterr().err + caplog.text


@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_a_blend_has_one_precision(weight):
    """At 1 it had that of the tuned file, and claimed that of the start."""
    half, exact = (ddnb.load("debug", device="cpu", dtype=dtype) for dtype in ("bfloat16", "float32"))
    for start, tuned in ((half, exact), (exact, half)):
        mixed = ddnb.blend(start, tuned, weight)
        assert {p.dtype for p in mixed.net.net.parameters()} == {start.dtype}
        ddnb.generate(mixed, 1, steps=1, duration_s=0.05)


def test_a_start_of_the_same_name_is_not_taken_for_the_start(drums, ticks):
    """A run in a folder called drums: what was trained from it was blended with the built-in network."""
    assert load_start(ticks, device="cpu").info["weights_sha256"] == drums.info["weights_sha256"]
    other = replace(ticks, info=ticks.info | {"start_sha256": "0" * 64})
    with pytest.raises(ArgumentError, match="another checkpoint that is called drums"):
        load_start(other, device="cpu")


def test_tones_of_a_new_category_are_there_at_any_weight(drums):
    """Up to a half the category that only one network knows had no tone."""
    start, state = drums.net.state_dict(), drums.net.with_planes(drums.net.state_dict(), 1)
    assert state.keys() == start.keys()
    tuned = dict(state)
    for name in ("prior.log_shares", "tones.log_shares"):
        rows = state[name].clone()
        rows[-2] = rows[0]  # the new category, before the row of any sound, is like the first
        tuned[name] = rows
    for weight in (0.2, 0.5, 0.8):
        blended = blend_components(state, [tuned], [weight])
        assert (blended["tones.log_shares"][-2] > IMPOSSIBLE / 10).any()
