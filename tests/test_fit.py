"""A network fitted to a folder: what changes, what stays, and what cannot be fitted."""

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

import ddnb
from ddnb.audio.pitch import root_note
from ddnb.cli.main import main
from ddnb.errors import ArgumentError, Cancelled, DatasetError, RunError
from ddnb.training import calibration, fitting
from ddnb.training.components import cell_energies
from ddnb.training.run_folder import RunFolder

RATE = 44_100


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DDNB_CACHE", str(tmp_path / "cache"))
    for name, few in (("_ROUNDS", 1), ("_SOUNDS", 2), ("_STEPS", 2)):
        monkeypatch.setattr(calibration, name, few)


def tick(seed, frames=8000):
    """Noise above 5 kHz that dies away within 20 ms."""
    noise = np.random.default_rng(seed).standard_normal(frames)
    spectrum = np.fft.rfft(noise)
    spectrum[: 5000 * frames // RATE] = 0
    return 0.1 * np.fft.irfft(spectrum, frames) * np.exp(-np.arange(frames) / 400)


def tone(hz, seconds=1.2):
    n = np.arange(round(seconds * RATE))
    return sum(0.3 / k * np.sin(2 * np.pi * k * hz * n / RATE) for k in range(1, 6)) * np.exp(-n / RATE)


def write(folder, sounds, gain=1.0):
    folder.mkdir(parents=True)
    for number, sound in enumerate(sounds):
        soundfile.write(folder / f"{number}.wav", gain * sound, RATE, "FLOAT")
    return folder.parent


def above_4_khz(clip):
    power = np.abs(np.fft.rfft(clip.audio[0])) ** 2
    return power[round(4000 * clip.duration_s) :].sum() / power.sum()


def test_sounds_of_the_category_follow_the_folder_and_others_stay(drums, tmp_path):
    fitted = ddnb.fit(drums, write(tmp_path / "sounds" / "kick", map(tick, range(6))))
    assert fitted.categories == drums.categories and fitted.info["fitted_to"] == {"kick": "6 sounds"}
    before, after = (ddnb.generate(ckpt, 4, category="kick", steps=8) for ckpt in (drums, fitted))
    assert max(map(above_4_khz, before)) < 0.1 and min(map(above_4_khz, after)) > 0.9
    for category in ("snare", "synth"):
        one, other = (ddnb.generate(ckpt, 1, 3, category=category, steps=8)[0].audio for ckpt in (drums, fitted))
        np.testing.assert_allclose(one, other, atol=2e-4 * np.abs(one).max())
    weights = dict(drums.net.named_parameters())
    assert all(torch.equal(value, weights[name]) for name, value in fitted.net.named_parameters())


def test_a_folder_without_class_folders_is_a_category_of_its_name(drums, tmp_path):
    write(tmp_path / "my ticks", map(tick, range(3)))
    fitted = ddnb.fit(drums, tmp_path / "my ticks")
    assert fitted.categories == (*drums.categories, "my ticks")
    assert above_4_khz(ddnb.generate(fitted, 1, category="my ticks", steps=8)[0]) > 0.9


def test_a_new_category_of_tones_has_a_pitch(drums, tmp_path):
    fitted = ddnb.fit(drums, write(tmp_path / "sounds" / "bell", map(tone, (220.0, 330.0, 440.0))))
    assert "bell" in fitted.tonal_categories and fitted.info["fitted_to"] == {"bell": "3 sounds, 3 of a certain pitch"}
    clip = ddnb.generate(fitted, 1, category="bell", note="C4")[0]
    found = root_note(clip.audio, RATE)
    assert found["name"] == "C4" and abs(found["cents"]) < 10


def test_the_file_holds_the_same_network(drums, tmp_path):
    write(tmp_path / "sounds" / "bell", map(tone, (220.0, 330.0)))
    fitted = ddnb.fit(drums, tmp_path / "sounds", tmp_path / "mine.safetensors")
    loaded = ddnb.load(tmp_path / "mine.safetensors", device="cpu")
    assert loaded.info == fitted.info and loaded.info["finetuned_from"] == "drums"
    one, other = (ddnb.generate(ckpt, 1, category="bell", steps=3) for ckpt in (fitted, loaded))
    np.testing.assert_array_equal(one.audio, other.audio)
    path = one.save(tmp_path / "made")[0]
    np.testing.assert_array_equal(ddnb.remake(path, tmp_path / "mine.safetensors").audio, one.audio)


def test_fitting_again_changes_nothing_and_the_level_of_the_files_does_not_matter(drums, tmp_path):
    for name, gain in (("loud", 1.0), ("quiet", 0.01)):
        write(tmp_path / name / "snare", [tick(i) + 0.2 * tone(180 + 10 * i)[:8000] for i in range(4)], gain)
        write(tmp_path / name / "bell", map(tone, (220.0, 330.0, 440.0)), gain)
    loud, quiet = tmp_path / "loud", tmp_path / "quiet"
    once = ddnb.fit(drums, loud)
    for again in (ddnb.fit(once, loud), ddnb.fit(drums, quiet)):
        for name, value in once.net.state_dict().items():
            # 0.1 dB: the levels are calibrated by sounds, which a sampler makes the same within rounding
            torch.testing.assert_close(again.net.state_dict()[name], value, atol=0.01, rtol=1e-4)


def test_what_cannot_be_fitted(drums, small, tmp_path):
    sounds = write(tmp_path / "sounds" / "kick", [tick(0)])
    with pytest.raises(ArgumentError, match="cannot be fitted, only 'drums'"):
        ddnb.fit(small, sounds)
    with pytest.raises(ArgumentError, match="end the name in .safetensors"):
        ddnb.fit(drums, sounds, tmp_path / "mine.ckpt")
    (tmp_path / "there.safetensors").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="exists already"):
        ddnb.fit(drums, sounds, tmp_path / "there.safetensors")
    assert (tmp_path / "there.safetensors").read_bytes() == b"mine"
    with pytest.raises(DatasetError, match="None of the 1 sound files"):
        ddnb.fit(drums, write(tmp_path / "silence" / "kick", [np.zeros(9000)]))
    many = [write(tmp_path / "many" / f"class {i}", [tick(i)]) for i in range(22)]
    with pytest.raises(DatasetError, match="33 categories with those of drums: expected at most 32"):
        ddnb.fit(drums, many[0])


def test_one_file_is_enough(drums, tmp_path):
    fitted = ddnb.fit(drums, write(tmp_path / "sounds" / "kick", [tick(0)]))
    assert above_4_khz(ddnb.generate(fitted, 1, category="kick", steps=8)[0]) > 0.9


def test_the_command(tmp_path, capsys, caplog):
    write(tmp_path / "sounds" / "bell", map(tone, (220.0, 330.0)))
    out = tmp_path / "mine.safetensors"
    assert main(["fit", str(tmp_path / "sounds"), "--out", str(out), "--device", "cpu"]) == 0
    assert capsys.readouterr().out.strip() == str(out) and out.is_file()
    assert "bell: fitted to 2 sounds, 2 of a certain pitch" in caplog.text
    assert main(["fit", str(tmp_path / "sounds"), "--out", str(out)]) != 0
    made = tmp_path / "made"
    assert main(["generate", "--checkpoint", str(out), "--steps", "1", "-n", "2", "--out", str(made)]) == 0
    assert [path.name.partition("_")[0] for path in sorted(made.glob("*.wav"))] == ["bell"] * 2


def test_fine_tuning_begins_with_the_fitted_network_and_ends_with_its_levels_corrected(drums, tmp_path):
    sounds = write(tmp_path / "sounds" / "kick", map(tick, range(4)))  # fewer than 5: none is held out
    run = tmp_path / "run"
    options = {"steps": 2, "batch_size": 1, "validation": 0, "demos": 1, "demo_every": 2, "device": "cpu"}
    first = next(iter(ddnb.finetune(drums, sounds, run, **options)))
    clip = ddnb.read_clip(next(first.demo.glob("kick*.wav")))
    assert above_4_khz(clip) > 0.9 and -30 < 20 * np.log10(np.abs(clip.audio).max()) < 0
    begun = ddnb.load(run, device="cpu").net.prior
    *_, last = ddnb.finetune(drums, sounds, run, **options)  # resumed
    trained = ddnb.load(run, device="cpu")
    assert trained.info["peak_dbfs"] == drums.info["peak_dbfs"]
    assert torch.equal(begun.log_shares, trained.net.prior.log_shares)
    assert not torch.equal(begun.log_levels, trained.net.prior.log_levels)
    heard = ddnb.generate(trained, 1, 0, category="kick")[0].audio
    np.testing.assert_allclose(ddnb.read_clip(next(last.demo.glob("kick*.wav"))).audio, heard, atol=1e-3)
    plain = ddnb.finetune(drums, sounds, tmp_path / "plain", fit=False, **options)
    assert above_4_khz(ddnb.read_clip(next(next(iter(plain)).demo.glob("kick*.wav")))) < 0.1


def test_a_training_that_is_stopped_while_its_levels_are_corrected_resumes_there(drums, tmp_path, monkeypatch):
    sounds = write(tmp_path / "sounds" / "kick", map(tick, range(4)))
    options = {"steps": 1, "batch_size": 1, "validation": 0, "demos": 0, "device": "cpu"}
    real = fitting.calibrated

    def stopped(*given):
        raise Cancelled("stopped")

    monkeypatch.setattr(fitting, "calibrated", stopped)
    with pytest.warns(UserWarning, match="repeat the same call or command to resume"):
        list(ddnb.finetune(drums, sounds, tmp_path / "run", **options))
    monkeypatch.setattr(fitting, "calibrated", real)
    assert [step.step for step in ddnb.finetune(drums, sounds, tmp_path / "run", **options)] == [1]
    for _ in ddnb.finetune(drums, sounds, tmp_path / "whole", **options):
        pass
    one, other = (load_file(tmp_path / name / "last.safetensors") for name in ("run", "whole"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_resumed_run_does_not_fit_again_and_ends_as_one_that_was_not_stopped(drums, tmp_path, monkeypatch):
    sounds = write(tmp_path / "sounds" / "kick", map(tick, range(6)))
    options = {"steps": 3, "batch_size": 1, "demos": 0, "validation": 0, "device": "cpu"}
    for name in ("whole", "stopped"):
        for step in ddnb.finetune(drums, sounds, tmp_path / name, **options):
            if name == "stopped" and step.step == 1:
                break
    monkeypatch.setattr(fitting, "find_components", None)
    assert [step.step for step in ddnb.finetune(drums, sounds, tmp_path / "stopped", **options)][-1] == 3
    one, other = (load_file(tmp_path / name / "last.safetensors") for name in ("whole", "stopped"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_examining_a_folder_does_not_fit(drums, tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "find_components", None)
    ddnb.check_dataset(write(tmp_path / "sounds" / "kick", map(tick, range(6))), drums)


def test_a_waveform_network_is_not_fitted(small, tmp_path):
    sounds = write(tmp_path / "sounds" / "kick", map(tick, range(4)))
    for _ in ddnb.finetune(small, sounds, tmp_path / "run", steps=1, batch_size=1, demos=0, validation=0, device="cpu"):
        pass
    with pytest.raises(ArgumentError, match="cannot be fitted; leave it out"):
        list(ddnb.finetune(small, sounds, tmp_path / "other", steps=1, fit=True, device="cpu"))


def test_silence_before_a_sound_and_silent_sounds_do_not_count(drums, tmp_path):
    late = np.concatenate([np.zeros(2 * RATE), tick(0)])
    fitted = ddnb.fit(drums, write(tmp_path / "late" / "snare", [late]))
    plain = ddnb.fit(drums, write(tmp_path / "plain" / "snare", [tick(0)]))
    for name, value in plain.net.state_dict().items():
        torch.testing.assert_close(fitted.net.state_dict()[name], value, atol=0.05, rtol=0.05)
    opposite = np.stack([tick(0), -tick(0)], 1)
    mixed = ddnb.fit(drums, write(tmp_path / "mixed" / "snare", [opposite, tick(1)]))
    assert mixed.info["fitted_to"] == {"snare": "2 sounds"}  # one side of the first


def test_settings_and_runs_that_contradict_the_fit(drums, tmp_path):
    sounds = write(tmp_path / "sounds" / "kick", map(tick, range(3)))
    with pytest.raises(ArgumentError, match="only categories are fitted"):
        ddnb.finetune(drums, sounds, tmp_path / "run", fit=True, categories=False)
    options = {"batch_size": 1, "validation": 0, "demos": 0, "device": "cpu"}
    for _ in ddnb.finetune(drums, sounds, tmp_path / "run", steps=1, **options):
        pass
    (tmp_path / "sounds" / "kick").rename(tmp_path / "sounds" / "boom")
    with pytest.raises(RunError):
        ddnb.finetune(drums, sounds, tmp_path / "run", steps=2, **options)
    flat = write(tmp_path / "flat" / "one", map(tick, range(3))) / "one"
    for _ in ddnb.finetune(drums, flat, tmp_path / "other", steps=1, **options):
        pass
    flat.rename(tmp_path / "flat" / "two")
    with pytest.raises(RunError, match="has the categories .* one, and the folder of sounds now gives .* two"):
        ddnb.finetune(drums, tmp_path / "flat" / "two", tmp_path / "other", steps=2, **options)


def test_calibration_brings_the_levels_nearer_to_those_of_the_folder(drums, tmp_path, monkeypatch):
    """Snares of little high end are what the network was not trained on; without calibration they get too much or too
    little of it."""
    n = np.arange(20_000)
    noise = [np.convolve(np.random.default_rng(i).standard_normal(len(n)), np.ones(12) / 12, "same") for i in range(4)]
    sounds = write(tmp_path / "sounds" / "snare", [0.3 * each * np.exp(-n / 4000) for each in noise])
    monkeypatch.setattr(calibration, "_SOUNDS", 6)
    monkeypatch.setattr(calibration, "_STEPS", 4)
    far = []
    for rounds in (0, 2):
        monkeypatch.setattr(calibration, "_ROUNDS", rounds)
        fitted = ddnb.fit(drums, sounds)
        made = [
            ddnb.generate(fitted, 6, 50, category="snare", level="network", steps=8).audio,
            np.stack(padded(noise, n)),
        ]
        levels = [cell_energies(drums.net.config, calibration.at_level(torch.from_numpy(x), drums)).log() for x in made]
        far.append(float((levels[0].mean(0) - levels[1].mean(0)).square().mean()))
    assert far[1] < 0.8 * far[0]


def padded(noise, n):
    return [np.pad(each * np.exp(-n / 4000), (0, 65_536 - len(n)))[None].astype(np.float32) for each in noise]


def test_a_cancelled_calibration_leaves_no_file(drums, tmp_path, monkeypatch):
    generate = calibration.generate
    monkeypatch.setattr(calibration, "generate", lambda *args, **options: generate(*args, **options)[:1])
    sounds = write(tmp_path / "sounds" / "kick", [tick(0)])
    with pytest.raises(Cancelled, match="stopped while the levels of kick were corrected"):
        ddnb.fit(drums, sounds, tmp_path / "mine.safetensors")
    assert not (tmp_path / "mine.safetensors").exists()


def test_a_file_in_two_classes_changes_both_and_no_other(drums, tmp_path):
    """Its first class must not be corrected in place of the second."""
    write(tmp_path / "sounds" / "kick", [tick(0)])
    write(tmp_path / "sounds" / "perc", [tick(0)])
    fitted = ddnb.fit(drums, tmp_path / "sounds")
    assert set(fitted.info["fitted_to"]) == {"kick", "perc"}


def test_textures_stay_without_a_pitch_when_they_are_fitted_again(drums, tmp_path):
    noise = [np.random.default_rng(i).standard_normal(70_000) * 0.1 for i in range(3)]
    sounds = write(tmp_path / "sounds" / "texture", noise)
    again = ddnb.fit(ddnb.fit(drums, sounds), sounds)
    assert again.tonal_categories == drums.tonal_categories


def test_corrected_levels_survive_a_disk_that_was_full_at_the_last_step(drums, tmp_path, monkeypatch):
    """The repeated call wrote the weights without the correction, and said nothing."""
    for name, few in (("_ROUNDS", 1), ("_SOUNDS", 2), ("_STEPS", 2)):
        monkeypatch.setattr(calibration, name, few)
    sounds = write(tmp_path / "sounds" / "kick", map(tick, range(3)))
    options = {"steps": 2, "batch_size": 1, "validation": 0, "demos": 0, "device": "cpu"}
    for _ in ddnb.finetune(drums, sounds, tmp_path / "whole", **options):
        pass
    save = RunFolder.save_weights

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunFolder, "save_weights", full)
    with pytest.raises(OSError, match="No space"):
        for _ in ddnb.finetune(drums, sounds, tmp_path / "broken", **options):
            pass
    monkeypatch.setattr(RunFolder, "save_weights", save)
    for _ in ddnb.finetune(drums, sounds, tmp_path / "broken", **options):
        pass
    one, other = (load_file(tmp_path / run / "last.safetensors") for run in ("whole", "broken"))
    assert all(torch.equal(one[name], other[name]) for name in one)
