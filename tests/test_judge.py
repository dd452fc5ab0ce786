"""Test the judge of the embedded default, bench/judge.py, on sets with a known answer."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bench import figures as figures_of
from bench import judge, quality, sounds
from bench.figures import measure
from bench.sounds import Sounds, select_recordings
from ddnb.audio.io import write_wav
from ddnb.clips.clip import Clips
from recipe.data import CATEGORIES, FRAMES, Prepared, load_prepared, save_prepared

KINDS = ("kick", "closed_hat", "texture")
RATE = 44_100


def _sound(kind: str, rng: np.random.Generator, frames: int = 24_000) -> np.ndarray:
    """Make a falling sine, a burst of bright noise, or a sustained chord; peak -1 dBFS."""
    t = np.arange(frames) / RATE
    if kind == "kick":
        hz = rng.uniform(40, 300)
        phase = 2 * np.pi * (hz * t + rng.uniform(2, 8) * (1 - np.exp(-t / rng.uniform(0.01, 0.05))))
        x = np.sin(phase) * np.exp(-t / rng.uniform(0.03, 0.12))
    elif kind == "closed_hat":
        noise = np.fft.rfft(rng.normal(size=frames))
        noise[: int(rng.uniform(3000, 9000) * frames / RATE)] = 0
        x = np.fft.irfft(noise, frames) * np.exp(-t / rng.uniform(0.01, 0.04))
    else:
        hz, levels = rng.uniform(100, 3000, (4, 1)), rng.uniform(0.2, 1, (4, 1))
        x = (levels * np.sin(2 * np.pi * hz * t)).sum(0)
    return 0.89 * x / np.abs(x).max()


def _prepared(n: int = 8) -> Prepared:
    """Make ``n`` sounds of each kind on each side of the split; in training, pairs share a recording."""
    rng, rows = np.random.default_rng(0), []
    for kind in KINDS:
        for i in range(2 * n):
            held_out = i >= n
            group = f"{kind}{i}" if held_out else f"{kind}{i // 2 + 100}"
            rows.append((np.round(_sound(kind, rng) * 32_768).astype(np.int16), kind, group, f"{kind}/{i}", held_out))
    sounds, kinds, groups, names, held_out = zip(*rows, strict=True)
    labels = np.array([CATEGORIES.index(kind) for kind in kinds])
    return Prepared(
        list(sounds), labels, ["test"] * len(rows), list(groups), list(names), np.zeros(len(rows)), np.array(held_out)
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "data.npz"
    save_prepared(path, _prepared())
    return path


@pytest.fixture(scope="module")
def data(path) -> Prepared:
    return load_prepared(path)


@pytest.fixture(scope="module")
def trained(data) -> Sounds:
    return select_recordings(data, False, KINDS, FRAMES)


# --- sets of several categories ---------------------------------------------------------------------------------


def _blocks(x, y, labels_x, labels_y, pairs=None):
    return quality.block_means(x @ y.T, (np.ones((1, len(x))), np.ones((1, len(y)))), (labels_x, labels_y), pairs)[0]


def test_one_category_gives_the_unbiased_kernel_distance():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(9, 4)), rng.normal(1, 1, (7, 4))
    labels = [np.zeros(n, int) for n in (9, 7)]
    found = [
        quality.block_means(quality.gaussian(a, b), (np.ones((1, len(a))), np.ones((1, len(b)))), (la, lb), pairs)
        for a, b, la, lb, pairs in (
            (x, x, labels[0], labels[0], quality.apart(np.arange(9))),
            (y, y, labels[1], labels[1], quality.apart(np.arange(7))),
            (x, y, *labels, None),
        )
    ]
    expected = quality.kernel_distance(x, y, quality.gaussian, rounds=1).value
    assert (found[0] + found[1] - 2 * found[2]).item() == pytest.approx(expected, rel=1e-12)


def test_blocks_are_means_over_pairs():
    x, y = np.array([[1.0], [2.0], [3.0], [10.0]]), np.array([[1.0], [5.0]])
    labels_x, labels_y = np.array([0, 0, 0, 1]), np.array([0, 1])
    np.testing.assert_allclose(_blocks(x, y, labels_x, labels_y), [[2, 10], [10, 50]])
    groups = np.array([7, 7, 8, 9])  # 1 and 2 share a recording: only 1 x 3 and 2 x 3 are pairs
    within = _blocks(x[:3], x[:3], labels_x[:3], labels_x[:3], quality.apart(groups[:3]))
    assert within.item() == pytest.approx((3 + 6) / 2)


def test_draws_keep_groups_together_and_categories_apart():
    labels, groups = np.array([0] * 6 + [1] * 3), np.array([1, 1, 2, 2, 3, 3, 4, 5, 6])
    counts = quality.draw_bootstrap(labels, groups, rounds=50)
    assert counts.shape == (51, 9) and (counts[0] == 1).all()
    assert (counts[:, :6:2] == counts[:, 1:6:2]).all()
    assert (counts[:, :6].sum(1) == 6).all() and (counts[:, 6:].sum(1) == 3).all()
    assert ((counts[:, 6:] > 0).sum(1) >= 2).all() and len(np.unique(counts, axis=0)) > 20
    np.testing.assert_array_equal(counts, quality.draw_bootstrap(labels, groups, rounds=50))
    with pytest.raises(ValueError, match="at least 2"):
        quality.draw_bootstrap(labels, np.array([1, 1, 2, 2, 3, 3, 4, 4, 4]))


def test_bootstrap_weights_equal_repeated_sounds():
    """A sound drawn twice counts as two sounds of one group: it is not paired with itself."""
    rng = np.random.default_rng(3)
    x, counts = rng.normal(size=(4, 2)), np.array([[2.0, 0, 1, 1]])
    labels = np.zeros(4, int)
    ours = quality.block_means(x @ x.T, (counts, counts), (labels, labels), quality.apart(np.arange(4))).item()
    i = np.array([0, 0, 2, 3])
    assert ours == pytest.approx(quality._within(x @ x.T, i))


# --- classes ----------------------------------------------------------------------------------------------------


def test_classifier_separates_categories_of_unequal_size():
    rng = np.random.default_rng(0)
    labels = np.array([0] * 150 + [1] * 10 + [2] * 10)
    x = rng.normal(size=(170, 5)) + 6 * np.eye(3, 5)[labels]
    classify = quality.fit_classifier(x, labels)
    assert (classify(x) == labels).mean() > 0.99
    between = (np.eye(3, 5)[[0]] + np.eye(3, 5)[[1]]) * 3  # halfway: 150 sounds against 10 must not tip the balance
    scores = between @ classify.weights + classify.bias
    assert abs(scores[0, 0] - scores[0, 1]) < 1


# --- copies -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift_ms", [-10, 0, 2.5, 19])
def test_shifted_softer_and_inverted_copies_are_found(trained, shift_ms):
    def late(audio, ms):
        frames = max(0, round(ms * RATE / 1000))
        return torch.nn.functional.pad(audio, (frames, -frames))

    chosen = [0, 5, 9, 14, 17, 23]
    copies = -0.5 * late(trained.audio[chosen], shift_ms)
    copies += 1e-4 * torch.randn(copies.shape, generator=torch.Generator().manual_seed(0))
    distance, index = quality.find_nearest(copies, late(trained.audio, -shift_ms))
    assert index.tolist() == chosen
    assert (distance < 2.5).all()


def test_other_sounds_are_no_copies(data, trained):
    held_out = select_recordings(data, True, KINDS, FRAMES)
    distance, index = quality.find_nearest(held_out.audio, trained.audio)
    assert distance.min() > 2.5
    assert (trained.labels[index] == held_out.labels).mean() > 0.9
    exact, itself = quality.find_nearest(trained.audio[:4], trained.audio)
    assert exact.max() < 0.1 and itself.tolist() == [0, 1, 2, 3]


# --- signals ----------------------------------------------------------------------------------------------------


def test_signals_of_sounds_with_known_answers():
    t = torch.arange(FRAMES) / RATE
    sine = torch.sin(2 * math.pi * 441 * t)
    late, clipped, offset, dying = torch.zeros(FRAMES), 1.2 * sine, 0.5 * sine + 0.1, 0.5 * sine.clone()
    late[882:] = 0.5 * sine[:-882]  # 20 ms
    dying[-2205:] *= 1e-3
    bright = 0.3 * torch.sin(2 * math.pi * 15_000 * t) + 0.6 * sine
    found = quality.measure_signals(
        torch.stack([0.5 * sine, late, clipped, offset, dying, bright, torch.zeros(FRAMES)])
    )
    half = 20 * math.log10(0.5**0.5)
    assert found.tail_db[[0, 1, 2, 4, 6]] == pytest.approx([half, half, half, half - 60, -120], abs=0.01)
    assert found.onset_ms[:2] == pytest.approx([0, 20], abs=0.2)  # a tenth of the peak is reached 0.04 ms later
    assert found.peak_dbfs[[0, 2, 6]] == pytest.approx([20 * math.log10(0.5), 20 * math.log10(1.2), -120], abs=0.01)
    assert found.clipped.tolist() == [False, False, True, False, False, False, False]
    assert found.dc_db[3] == pytest.approx(20 * math.log10(0.1 / 0.6), abs=0.1) and found.dc_db[6] == -120
    assert found.crest_db[[0, 6]] == pytest.approx([-half, 0], abs=0.01)
    assert found.high[[0, 5, 6]] == pytest.approx([0, 0.09 / 0.45, 0], abs=1e-3)


def test_a_clipped_16_bit_file_is_detected():
    x = torch.zeros(2, FRAMES)
    x[0, 100], x[1, 100] = 32_767 / 32_768, 32_700 / 32_768
    assert quality.measure_signals(x).clipped.tolist() == [True, False]


def test_medians_give_categories_equal_weight():
    values, labels = np.array([1.0, 1, 1, 1, 5, 7]), np.array([0, 0, 0, 0, 1, 2])
    weights = (1 / np.bincount(labels))[labels]
    assert figures_of._median(values, weights) == 5 and figures_of._median(values[:0], weights[:0]) is None
    assert figures_of._mean(values, weights) == pytest.approx((1 + 5 + 7) / 3)


# --- the judgement ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def figures(data, trained) -> dict:
    return measure(trained, data, KINDS)


def test_training_recordings_are_at_the_floor(figures):
    for kernel in ("kid", "mmd"):
        made, floor = (figures["distances"][name][kernel] for name in ("made", "trained on"))
        assert made["ratio"][0] == floor["ratio"][0] == 1
        assert made["all"][1] < floor["all"][0] < made["all"][2]
    assert figures["accuracy"]["made"]["all"][0] == figures["accuracy"]["made"]["families"][0] == 1
    assert figures["overlap"]["made"] == figures["overlap"]["trained on"]
    assert 0.7 < figures["diversity"]["made"]["median"][0] < 1.4
    assert figures["copies"]["made"]["share"] == 1  # every one of them is a copy
    assert figures["counts"]["made"] == [8, 8, 8]


def test_white_noise_is_at_the_ceiling(figures):
    for kernel in ("kid", "mmd"):
        assert figures["distances"]["noise"][kernel]["ratio"][0] > 20
        each = figures["distances"]["noise"][kernel]["each"]
        assert all(low > 0 for _, low, _ in each)
    assert figures["accuracy"]["noise"]["all"][0] == pytest.approx(1 / 3, abs=0.1)
    assert figures["overlap"]["noise"]["coverage"] == 0
    noise = figures["signals"]["noise"]["all"]
    assert noise["tail_db"] > -20 and noise["tail_above_60"] == 1
    assert noise["above_10k"] == pytest.approx(1 - 10_000 / 22_050, abs=0.01)


def test_held_out_recordings_reach_the_ceiling_of_accuracy(data, figures):
    """The judged sounds are the held-out recordings themselves."""
    held_out = select_recordings(data, True, KINDS, FRAMES)
    ours = measure(held_out, data, KINDS)
    accuracy = ours["accuracy"]
    assert accuracy["made"]["all"][0] == accuracy["held out"]["all"][0] > 0.9
    assert accuracy["made"]["ratio"][0] == accuracy["made"]["families ratio"][0] == 1
    assert ours["diversity"]["made"]["median"][0] == 1
    assert ours["copies"]["made"] == ours["copies"]["held out"]
    assert ours["overlap"]["made"] | {"density": 1} == {"precision": 1, "recall": 1, "density": 1, "coverage": 1}
    assert ours["distances"]["made"]["mmd"]["all"][0] < 0 < figures["distances"]["noise"]["mmd"]["all"][0]


def test_a_repeated_sound_has_no_diversity(data, trained):
    held_out = select_recordings(data, True, KINDS, FRAMES)
    alike = trained.audio[[0, 8, 16]].repeat_interleave(4, 0)
    labels = np.repeat(np.arange(3), 4)
    sets = {
        name: figures_of.Set(s, quality.features(s.audio), quality.draw_bootstrap(s.labels, s.groups, 5))
        for name, s in (("made", Sounds(alike, labels, np.arange(12), [""] * 12)), ("held out", held_out))
    }
    assert figures_of._diversity(sets, np.ones(3, bool))["made"]["median"][0] == pytest.approx(0, abs=1e-4)


def test_planted_copies_are_counted_and_named(data, trained):
    """Two recordings, 10 ms late, 6 dB softer and inverted, among held-out ones, of which chance names one."""
    held_out = select_recordings(data, True, KINDS, FRAMES)
    audio = held_out.audio.clone()
    audio[[3, 21]] = -0.5 * torch.nn.functional.pad(trained.audio[[7, 18]], (441, -441))
    copies = figures_of._copies(held_out._replace(audio=audio), trained, held_out)
    assert copies["made"]["count"] - copies["held out"]["count"] == 2
    assert {row["recording"] for row in copies["nearest"][:2]} == {trained.names[7], trained.names[18]}
    assert {row["made"] for row in copies["nearest"][:2]} == {held_out.names[3], held_out.names[21]}
    assert copies["nearest"][1]["distance_db"] < 2 < copies["threshold_db"]


# --- the command ------------------------------------------------------------------------------------------------


def test_judging_a_folder_is_reproducible(path, tmp_path, capsys):
    rng = np.random.default_rng(5)
    for kind in KINDS[:2]:
        (tmp_path / "made" / kind).mkdir(parents=True)
        for i in range(3):
            write_wav(tmp_path / "made" / kind / f"{i}.wav", _sound(kind, rng)[None].astype(np.float32), RATE)
    texts = []
    for out in (tmp_path / "a", tmp_path / "b"):
        judge.main([str(tmp_path / "made"), "--data", str(path), "--per-category", "2", "--out", str(out)])
        texts.append((out / "quality.json").read_text().replace(str(out), "OUT"))
    assert texts[0] == texts[1]
    found = json.loads(texts[0])
    assert found["categories"] == ["kick", "closed_hat"] and found["counts"]["made"] == [2, 2]
    assert found["frames"] == 24_000  # as long as the files
    report = (tmp_path / "a" / "quality.md").read_text()
    for part in ("`python -m bench.judge ", "white noise (ceiling)", "| kick | 2 | 8 |", "## Signals", "| met |"):
        assert part in report
    assert {line.count("|") for line in report.split("## Signals")[1].splitlines() if line.startswith("|")} == {12}
    assert (tmp_path / "a" / "quality.png").read_bytes().startswith(b"\x89PNG")
    assert "quality.png" in capsys.readouterr().out.splitlines()[-1]


def _stand_in(monkeypatch, categories, made=None):
    asked = []

    def generate(ckpt, n, seed, **options):
        asked.append((n, seed, options))
        audio = np.ones((n if made is None else made, 2, 1000), np.float32)
        return Clips(audio * [[0.25], [0.75]], 22_050, list(range(seed, seed + len(audio))))

    monkeypatch.setattr(sounds.ddnb, "load", lambda source, **_: SimpleNamespace(categories=categories))
    monkeypatch.setattr(sounds.ddnb, "generate", generate)
    return asked


def test_generates_each_known_category_with_new_seeds(monkeypatch):
    asked = _stand_in(monkeypatch, ("texture", "kick", "voice"))
    found = sounds.generate_each("some", CATEGORIES, 3, 100, {"steps": 12}, {})
    given = {"level": "network", "steps": 12}
    assert list(found) == ["kick", "texture"]  # in the order of the recordings
    assert asked == [(3, 100, {"category": "kick"} | given), (3, 103, {"category": "texture"} | given)]
    name, audio = found["texture"][2]
    assert name == "seed 105" and audio.shape == (2000,)  # mono, at 44.1 kHz
    assert audio[1000] == pytest.approx(0.5, abs=1e-3)


def test_rejects_a_checkpoint_without_known_categories_and_missing_sounds(monkeypatch):
    _stand_in(monkeypatch, ("voice",))
    with pytest.raises(ValueError, match="voice"):
        sounds.generate_each("some", CATEGORIES, 3, 0, {}, {})
    _stand_in(monkeypatch, ("kick",), made=1)
    with pytest.raises(RuntimeError, match="kick: 1 of 3"):
        sounds.generate_each("some", CATEGORIES, 3, 0, {}, {})


def test_rejects_checkpoint_options_for_other_sounds(path):
    with pytest.raises(SystemExit, match=r"guidance_scale.*real is none"):
        judge.main(["real", "--data", str(path), "--guidance-scale", "2"])
