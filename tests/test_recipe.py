"""Test the data of the embedded default: procedural sounds, the file of recordings, and the training command."""

import json
import math
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

import ddnb
from ddnb.nets.prior import FLOOR
from ddnb.nets.spectral import SpectralConfig, SpectralUNet
from recipe import fluid, prepare, sources
from recipe.augment import make_variant
from recipe.data import CATEGORIES, FRAMES, LEAD, SAMPLE_RATE, Prepared, load_prepared, pad, save_prepared
from recipe.pool import PEAK, load_pool
from recipe.prior import fit_prior
from recipe.soundfont import SoundFont
from recipe.synth import synthesize, synthesize_labelled
from recipe.tonal import Tonal
from recipe.tune import fit_tones

ROOT = Path(__file__).parent.parent
ONE_SHOTS = [c for c in CATEGORIES if c != "texture"]


def _made(category: str, n: int, seed: int = 0) -> torch.Tensor:
    return synthesize(category, n, torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def sounds() -> dict[str, torch.Tensor]:
    return {category: _made(category, 12) for category in CATEGORIES}


# --- training ---------------------------------------------------------------------------------------------------


def _recording(rng, frames=20_000):
    t = np.arange(frames) / SAMPLE_RATE
    x = np.sin(2 * np.pi * rng.uniform(80, 2000) * t) * np.exp(-t / 0.1) + 0.1 * rng.standard_normal(frames) * np.exp(
        -t / 0.02
    )
    x = np.concatenate([np.zeros(LEAD), x / np.abs(x).max()])
    return (29_000 * x).astype(np.int16)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """Save two recordings of each category, and one more that is held out."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(CATEGORIES)), 3)
    sounds = [_recording(rng) for _ in labels]
    names = [f"test/{i}" for i in range(len(labels))]
    path = tmp_path_factory.mktemp("prepared") / "data.npz"
    held_out = np.arange(len(labels)) % 3 == 2
    save_prepared(path, Prepared(sounds, labels, ["test"] * len(labels), names, names, np.zeros(len(labels)), held_out))
    return path


def test_variants_keep_the_onset_and_differ_from_the_sound():
    rng = np.random.default_rng(0)
    sound = _recording(rng).astype(np.float32) / 32768
    made = [make_variant(sound, "tom", sound, rng) for _ in range(20)]
    for x in made:
        assert np.isfinite(x).all() and np.abs(x).max() == pytest.approx(1)
        assert not x[:LEAD].any() and np.abs(x[LEAD : LEAD + 441]).max() > 0.05
        assert abs(x[-1]) < 0.01
    assert len({len(x) for x in made}) > 10  # transposed
    long = make_variant(np.random.default_rng(1).standard_normal(30_000).astype(np.float32), "texture", None, rng)
    assert abs(np.log(long[:5000].std() / long[-5000:].std())) < 0.3  # a texture keeps its envelope


def test_pool_holds_every_category_at_one_level_and_no_held_out_sound(prepared, tmp_path):
    data = load_pool(tmp_path / "pool", prepared, real=5, procedural=3, seed=0)
    assert Counter(s.category for s in data.sounds) == dict.fromkeys(CATEGORIES, 8)
    peaks = [np.abs(data.sound(i)).max() for i in range(len(data.sounds))]
    assert np.allclose(peaks, PEAK, rtol=0.01)
    recorded = {s.sha256 for s in data.sounds if "/real" in s.name}
    assert len(recorded) == 2 * len(CATEGORIES)  # all variants of a recording share a hash
    again = load_pool(tmp_path / "pool", prepared, real=5, procedural=3, seed=0)
    assert again.fingerprint == data.fingerprint and np.array_equal(again.audio, data.audio)


def test_prior_is_fitted_to_the_levels_of_the_data(prepared, tmp_path):
    data = load_pool(tmp_path / "pool", prepared, real=6, procedural=6, seed=0)
    net = SpectralUNet(SpectralConfig(hop=128, widths=(16, 16, 32), blocks=1, planes=11, envelopes=22, embedding=16))
    fit_prior(net, data)
    levels, shares = net.prior.log_levels, net.prior.log_shares
    assert torch.isfinite(levels).all() and (levels >= np.log(FLOOR) - 1e-6).all() and (levels < 3).all()
    torch.testing.assert_close(shares.exp().sum(1), torch.ones(12))
    assert all((shares[c].exp() > 0).nonzero()[:, 0].tolist() == [2 * c, 2 * c + 1] for c in range(11))
    texture = levels[-2:]
    torch.testing.assert_close(texture, texture[..., :1].expand_as(texture))


@pytest.mark.slow
def test_default_is_trained_with_six_packages_and_resumed(prepared, tmp_path):
    """Training must run on a machine without the packages that only generate, read or show sounds."""
    config = json.loads((ROOT / "recipe" / "default.json").read_text())
    config["pool"] |= {"real": 3, "procedural": 3}
    config["network"] |= {"widths": [16, 16, 32], "blocks": 1, "embedding": 16}
    config["envelopes_per_category"] = 2
    config["training"] |= {"batch_size": 1, "validate_every": 2, "save_every": 2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    absent = ("soundfile", "soxr", "librosa", "matplotlib", "ipywidgets", "IPython", "torchaudio", "gdown")
    code = f"import runpy, sys; sys.modules.update(dict.fromkeys({absent}))"
    code += "; runpy.run_module('recipe.train', run_name='__main__')"
    places = [str(tmp_path / "run"), "--config", str(tmp_path / "config.json"), "--data", str(prepared)]
    for steps in (2, 4):
        command = [sys.executable, "-c", code, *places, "--pool", str(tmp_path / "pool"), "--steps", str(steps)]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240)
        assert run.returncode == 0, run.stderr
    rows = (tmp_path / "run" / "log.csv").read_text().splitlines()
    assert len(rows) == 1 + 5
    ckpt = ddnb.load(tmp_path / "run", device="cpu")
    assert ckpt.categories == CATEGORIES and ckpt.info["training"]["step"] == 4
    assert np.isfinite(ddnb.generate(ckpt, 1, category="tom", steps=2).audio).all()


# --- procedural sounds ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("category", CATEGORIES)
def test_procedural_sounds_are_finite_and_at_legal_peaks(sounds, category):
    x = sounds[category]
    assert x.shape == (12, FRAMES) and x.dtype == torch.float32 and x.isfinite().all()
    peaks = x.abs().amax(-1)
    assert (peaks < 0.9).all() and (peaks > 0.24).all()  # -1 to -12 dBFS
    assert x.mean(-1).abs().max() < 1e-3 * peaks.min()


@pytest.mark.parametrize("category", ONE_SHOTS)
def test_one_shots_begin_at_once_and_end_in_silence(sounds, category):
    x = sounds[category] / sounds[category].abs().amax(-1, keepdim=True)
    assert not x[:, :LEAD].any()
    onset = (x.abs() >= 0.01).float().argmax(-1)
    assert (onset <= LEAD + 0.01 * SAMPLE_RATE).all()
    assert x[:, -256:].abs().max() < 1e-4


def test_textures_loop():
    x = _made("texture", 24, seed=3)
    steps, seam = x.diff(dim=-1).abs(), (x[:, 0] - x[:, -1]).abs()
    assert (seam <= steps.amax(-1)).all()
    assert (seam / steps.square().mean(-1).sqrt()).mean() < 1.5  # 0.8 for normal steps; a jump has about 10


def test_seed_determines_the_sounds_and_any_number_is_made():
    assert torch.equal(_made("snare", 3, 5), _made("snare", 3, 5))
    assert not torch.equal(_made("snare", 3, 5), _made("snare", 3, 6))
    assert _made("closed_hat", 35).shape == (35, FRAMES)  # more than one batch
    assert _made("clap", 0).shape == (0, FRAMES)
    assert synthesize("kick", 2, torch.Generator().manual_seed(0), frames=32_768).shape == (2, 32_768)


def test_no_two_sounds_are_alike():
    x = _made("kick", 12)
    x = x / x.norm(dim=-1, keepdim=True)
    likeness = (x @ x.T).fill_diagonal_(0)
    assert likeness.abs().max() < 0.97


def test_each_category_has_its_spectrum_and_length(sounds):
    def energy(category, low, high):
        power = torch.fft.rfft(sounds[category]).abs().square()
        hz = torch.fft.rfftfreq(FRAMES, 1 / SAMPLE_RATE)
        return float((power[:, (hz >= low) & (hz < high)].sum(-1) / power.sum(-1)).median())

    def length(category):  # time in which 99 % of the energy has arrived
        power = sounds[category].square().cumsum(-1)
        return float((power < 0.99 * power[:, -1:]).sum(-1).float().median()) / SAMPLE_RATE

    assert energy("kick", 0, 200) > 0.6
    assert energy("bass", 0, 500) > 0.6
    assert energy("tom", 50, 500) > 0.6
    assert energy("closed_hat", 3000, 22_050) > 0.6 and energy("open_hat", 3000, 22_050) > 0.6
    assert energy("cymbal", 1500, 22_050) > 0.5
    assert energy("clap", 400, 8000) > 0.6
    assert energy("snare", 0, 200) < energy("kick", 0, 200)
    assert length("closed_hat") < 0.15 < length("open_hat")
    assert length("clap") < 0.3 < length("cymbal")
    assert length("kick") < length("bass") < length("texture")


# --- the prepared file ------------------------------------------------------------------------------------------


def _prepared() -> Prepared:
    rng = np.random.default_rng(0)
    sounds = [
        np.array([0, 32767, -32768, 32767, -1], np.int16),  # differences that wrap around
        rng.integers(-32768, 32768, 1000).astype(np.int16),
        np.round(3000 * np.sin(np.arange(5000) / 50)).astype(np.int16),
        np.array([7], np.int16),
    ]
    names = ["a/1", "b/ü", "b/2", "c/3"]
    peaks, held_out = np.array([-1, -2, -3, -4.5], np.float32), np.array([True, False, False, True])
    return Prepared(sounds, np.array([0, 10, 3, 3]), list("abbc"), list("pqrs"), names, peaks, held_out)


def test_prepared_file_round_trips_exactly(tmp_path):
    data = _prepared()
    save_prepared(tmp_path / "data.npz", data)
    back = load_prepared(tmp_path / "data.npz")
    for ours, theirs in zip(data, back, strict=True):
        if isinstance(ours, np.ndarray):
            np.testing.assert_array_equal(ours, theirs)
            assert ours.dtype == theirs.dtype
        elif isinstance(ours[0], str):
            assert ours == theirs
    for ours, theirs in zip(data.sounds, back.sounds, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert theirs.dtype == np.int16
    x = pad(back, np.array([3, 0]), 8)
    np.testing.assert_array_equal(x[0], np.array([7, 0, 0, 0, 0, 0, 0, 0], np.float32) / 32768)
    assert x.shape == (2, 8) and x.dtype == np.float32 and x[1, 2] == -1


def test_rejects_a_file_of_other_categories(tmp_path, monkeypatch):
    monkeypatch.setattr("recipe.data.CATEGORIES", (*CATEGORIES[:-1], "speech"))
    save_prepared(tmp_path / "data.npz", _prepared())
    monkeypatch.undo()
    with pytest.raises(ValueError, match="speech"):
        load_prepared(tmp_path / "data.npz")


def test_reading_and_synthesis_need_numpy_and_torch_only(tmp_path):
    """Training runs on machines without soundfile and librosa."""
    save_prepared(tmp_path / "data.npz", _prepared())
    code = f"""
import sys
for name in ("soundfile", "soxr", "librosa", "scipy", "numba", "sklearn", "ddnb"):
    sys.modules[name] = None
import torch
from recipe.data import load_prepared
from recipe.synth import synthesize
assert len(load_prepared({str(tmp_path / "data.npz")!r}).sounds) == 4
synthesize("closed_hat", 1, torch.Generator())
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# --- preparing --------------------------------------------------------------------------------------------------


def test_one_shot_is_aligned_and_trimmed():
    t = np.arange(30_000) / SAMPLE_RATE
    tone = np.sin(2 * np.pi * 1000 * t + 1) * np.exp(-t * 40)
    sound = prepare.cut_one_shot(np.concatenate([np.zeros(5000), 0.5 * tone, np.zeros(50_000)]))
    loud = np.flatnonzero(np.abs(sound) >= 0.01 * np.abs(sound).max())
    assert loud[0] == LEAD
    assert abs(len(sound) - LEAD - np.log(10 ** (70 / 20)) / 40 * SAMPLE_RATE) < 100  # -70 dB
    assert sound[-1] == pytest.approx(0, abs=1e-6)
    assert len(prepare.cut_one_shot(np.ones(100_000) * np.sin(np.arange(100_000)))) == FRAMES


def test_low_cut_removes_what_is_below_20_hz():
    t = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    kept = prepare.low_cut(0.2 + np.sin(2 * np.pi * 60 * t))[5000:-5000]
    assert abs(kept.mean()) < 0.01
    assert kept.std() == pytest.approx(np.sqrt(0.5), rel=0.05)


@pytest.mark.parametrize(("frames", "pieces"), [(10_000, 0), (40_000, 1), (FRAMES, 1), (200_000, 2)])
def test_cut_textures_loop(frames, pieces):
    found = prepare.cut_loops(np.random.default_rng(0).normal(size=frames))
    assert len(found) == pieces
    for piece in found:
        assert len(piece) == FRAMES
        assert piece.std() == pytest.approx(1, abs=0.05)
    tone = prepare.cut_loops(np.sin(2 * np.pi * np.arange(frames) / 200))
    assert all(abs(piece[0] - piece[-1]) < 0.05 for piece in tone)  # a step of the tone is 0.03


def test_of_near_copies_the_held_out_one_is_kept():
    rng = np.random.default_rng(0)
    hit = (rng.normal(size=8000) * np.exp(-np.arange(8000) / 1500) * 9000).astype(np.int16)
    other = (np.sin(np.arange(8000) / 9) * np.exp(-np.arange(8000) / 2500) * 9000).astype(np.int16)

    def found(name, held_out):
        return fluid.Recording(hit, "snare", "s", (name,), name, held_out)

    cut = [(found("a", False), hit, -1.0), (found("b", True), hit // 2, -7.0), (found("c", False), other, -1.0)]
    data, dropped = prepare.drop_near_copies(cut, Counter())
    assert sorted(data.names) == ["b", "c"] and dropped["near copies of another"] == 1


def test_midi_file_holds_the_notes_one_after_another():
    notes = [fluid.Note("kick", 128, 25, (36,), 122, 2500), fluid.Note("synth", 8, 62, (48, 55), 100, 90)]
    raw = fluid.midi_file(notes)
    assert raw[:14] == b"MThd" + struct.pack(">IHHH", 6, 0, 1, 500)
    assert struct.unpack(">I", raw[18:22])[0] == len(raw) - 22
    at, time, events = 22, 0, []
    while at < len(raw) - 4:  # an independent reader
        delay = 0
        while raw[at] & 128:
            delay, at = delay << 7 | raw[at] & 127, at + 1
        delay, at = delay << 7 | raw[at], at + 1
        size = 2 if raw[at] >> 4 == 0xC else 3
        time, events, at = time + delay, [*events, (time + delay, *raw[at : at + size])], at + size
    assert raw[at:] == b"\0\xff\x2f\0"
    assert events[:4] == [(0, 0xC9, 25), (0, 0x99, 36, 122), (2500, 0x89, 36, 0), (3100, 0xB9, 120, 0)]
    assert events[4:8] == [(3100, 0xB0, 0, 8), (3100, 0xC0, 62), (3100, 0x90, 48, 100), (3100, 0x90, 55, 100)]
    assert events[-1] == (3790, 0xB0, 120, 0)


def test_sound_font_lists_the_recordings_of_a_note(tmp_path):
    """The file has two instruments: one over all keys for hard hits, a stereo one from key 60 on."""

    def chunk(tag, body):
        return struct.pack("<4sI", tag, len(body)) + body + b"\0" * (len(body) % 2)

    def spans(low, high):
        return low | high << 8

    tables = {
        b"phdr": [("<20sHHHIII", b"Kit", 5, 128, 0, 0, 0, 0), ("<20sHHHIII", b"EOP", 0, 0, 2, 0, 0, 0)],
        b"pbag": [("<HH", 0, 0), ("<HH", 2, 0), ("<HH", 3, 0)],
        b"pgen": [("<HH", 44, spans(100, 127)), ("<HH", 41, 0), ("<HH", 41, 1), ("<HH", 0, 0)],
        b"inst": [("<20sH", b"Hard", 0), ("<20sH", b"High", 1), ("<20sH", b"EOI", 3)],
        b"ibag": [("<HH", 0, 0), ("<HH", 1, 0), ("<HH", 3, 0), ("<HH", 5, 0)],
        b"igen": [("<HH", *g) for g in ((53, 0), (43, spans(60, 127)), (53, 1), (43, spans(60, 127)), (53, 2), (0, 0))],
        b"shdr": [("<20s26x", name) for name in (b"Snare", b"Bell(L)", b"Bell(R", b"EOS")],
    }
    body = b"".join(chunk(tag, b"".join(struct.pack(*r) for r in rows)) for tag, rows in tables.items())
    raw = b"sfbk" + chunk(b"LIST", b"INFO") + chunk(b"LIST", b"pdta" + body)
    (tmp_path / "tiny.sf2").write_bytes(chunk(b"RIFF", raw))
    font = SoundFont(tmp_path / "tiny.sf2")
    assert font.presets == {(128, 5): ("Kit", 0)}
    assert font.samples(128, 5, 36, 120) == ("Snare",)
    assert font.samples(128, 5, 60, 120) == ("Bell", "Snare")
    assert font.samples(128, 5, 60, 90) == ("Bell",)
    assert font.samples(128, 5, 36, 90) == ()


# --- tables and card --------------------------------------------------------------------------------------------


def test_source_tables_are_consistent():
    names = [name for names in sources.SONIC_PI.values() for name in names.split()]
    assert len(names) == len(set(names))
    for table in (sources.SONIC_PI, sources.RUMPF, sources.DRUM_NOTES, sources.PROGRAMS):
        assert set(table) <= set(CATEGORIES)
    held_out = [name for name in names if fluid.matches(name, sources.SONIC_PI_HELD_OUT)]
    assert {c for c, ns in sources.SONIC_PI.items() for n in ns.split() if n in held_out} == set(CATEGORIES)


def test_card_names_every_source_and_has_the_figures_of_the_file():
    card = prepare.CARD.read_text(encoding="utf-8")
    for word in (*sources.PACKAGES, "CC0", "MIT", "CC-BY 3.0", "Frank Wen", "Emanuel Rumpf", *CATEGORIES):
        assert word in card
    file = ROOT / "build" / prepare.FILE
    if file.exists():
        assert prepare.count_table(load_prepared(file)) in card


def test_procedural_tones_know_their_pitch():
    """The strongest line of each is a harmonic of the pitch that was told; chords tell none."""
    for category in ("bass", "synth"):
        x, hz = synthesize_labelled(category, 32, torch.Generator().manual_seed(1), 32_768)
        known = hz > 0
        assert known.all() if category == "bass" else 0 < known.sum() < 32
        spectrum = torch.fft.rfft(x[known] * torch.hann_window(32_768), 1 << 18).abs()
        strongest = spectrum[:, 20:].argmax(-1).add(20) * SAMPLE_RATE / (1 << 18) / hz[known]
        away = (strongest - strongest.round().clamp(min=1)).abs() / strongest
        assert (away < 0.03).float().mean() > 0.85
    assert not synthesize_labelled("snare", 4, torch.Generator())[1].any()
    assert (synthesize_labelled("kick", 4, torch.Generator())[1] > 30).all()
    assert synthesize_labelled("bass", 0, torch.Generator())[1].shape == (0,)


def test_components_of_tones_are_fitted_to_the_sounds():
    """Two timbres at two pitches in two categories; a third category has none."""
    net = SpectralUNet(SpectralConfig(32, (32, 32), 1, 3, 6, (6, 6), 32, tones=4)).requires_grad_(False)
    n = torch.arange(16_384, dtype=torch.float64)
    pitch = torch.tensor([80.0, 81, 160, 161] * 2, dtype=torch.float64) / SAMPLE_RATE
    rolloff = torch.tensor([1.0, 1, 2, 2] * 2)
    k = torch.arange(1, 9)[:, None]
    tone = (0.1 / k ** rolloff[:, None, None] * torch.sin(2 * torch.pi * k * pitch[:, None, None] * n)).sum(1)
    x = tone.float()[:, None] * torch.hann_window(16_384)
    fit_tones(net, Tonal(x, pitch, torch.tensor([0] * 4 + [2] * 4)))
    tones = net.tones
    shares = tones.log_shares.exp()
    assert shares[0].tolist() == pytest.approx([0.5, 0.5, 0, 0]) and shares[2].tolist() == pytest.approx(
        [0, 0, 0.5, 0.5]
    )
    assert shares[3].tolist() == pytest.approx([0.25] * 4)
    means = tones.log_pitch[:2, 0].exp() * SAMPLE_RATE
    assert sorted(means.tolist()) == pytest.approx([80.5, 160.5], abs=0.1)
    falls = tones.log_levels[:2, 0, 6] - tones.log_levels[:2, 3, 6]  # from the first to the fourth harmonic
    expected = math.log(4) * torch.where(means < 100, 1.0, 2.0)
    assert falls.tolist() == pytest.approx(expected.tolist(), abs=0.1)
    assert (tones.correlation[:, 0] > 0.95).all() and (tones.log_residual.exp().amax((1, 2)) < 0.02).all()
