"""Training runs: their outputs, what is refused at the start, what stops them."""

import contextlib
import os
import shutil
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from training_runs import FRAMES, WITH_DEMOS, quick_training, read_log, same, tiny, weights

import ddnb
from ddnb.training import loop
from ddnb.training.advice import suggest_next
from ddnb.training.config import TrainingConfig
from ddnb.training.dataset import EXAMPLES, decode
from ddnb.training.loop import from_scratch
from ddnb.training.trainer import Trainer


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    yield from quick_training(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def whole(train, tmp_path_factory):
    """The folder and the steps of a run that was never interrupted."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    return out, list(train(out, **WITH_DEMOS))


@pytest.fixture
def sounds(tmp_path):
    """A copy of the examples that a test may change."""
    return Path(shutil.copytree(EXAMPLES, tmp_path / "sounds"))


# --- outputs --------------------------------------------------------------------------------------------------


def test_yields_one_record_per_step(whole):
    _, steps = whole
    assert [s.step for s in steps] == list(range(7)) and {s.steps for s in steps} == {6}
    assert steps[0].loss is None and all(s.loss > 0 for s in steps[1:])
    assert [s.step for s in steps if s.validation_loss is not None] == [0, 3, 6]
    assert [s.step for s in steps if s.demo is not None] == [0, 3, 6]
    assert all(s.seconds > 0 and 0 < s.ema_decay < 1 for s in steps)
    assert steps[1].learning_rate == pytest.approx(5e-4) and steps[6].learning_rate > 0


def test_writes_state_weights_log_and_demos(whole):
    out, steps = whole
    names = {p.name for p in out.iterdir()}
    assert names >= {"settings.json", "state.safetensors", "last.safetensors", "log.csv", "demos"}
    assert {n for n in names if n.startswith("best")} == {"best-step000003.safetensors", "best-step000006.safetensors"}
    rows = read_log(out)
    assert [int(row["step"]) for row in rows] == list(range(7))
    assert float(rows[4]["loss"]) == steps[4].loss and rows[4]["validation_loss"] == ""
    for step in (0, 3, 6):
        demos = sorted((out / "demos" / f"step{step:06d}").iterdir())
        assert [d.name for d in demos] == ["hat_seed0.wav", "kick_seed0.wav", "snare_seed0.wav"]
        assert soundfile.info(demos[0]).frames == FRAMES


def test_result_is_an_ordinary_checkpoint(whole, tmp_path):
    out, steps = whole
    ckpt = ddnb.load(out / "last.safetensors", device="cpu")
    assert (ckpt.name, ckpt.sample_rate, ckpt.frames) == ("whole", 22050, FRAMES)
    assert ckpt.categories == ("hat", "kick", "snare")
    assert ckpt.info["licence"] == "not stated" and len(ckpt.info["data_sha256"]) == 64
    assert ckpt.info["training"]["step"] == 6 and ckpt.info["training"]["batch_size"] == 2
    best = ddnb.load(out / "best-step000006.safetensors", device="cpu")
    assert best.info["training"]["validation_loss"] == steps[6].validation_loss
    ddnb.convert(out / "last.safetensors", tmp_path / "half.safetensors", dtype="float16")


def test_demo_is_made_with_the_saved_weights(whole):
    out, _ = whole
    demo, _ = soundfile.read(out / "demos" / "step000006" / "kick_seed0.wav", dtype="float32")
    again = ddnb.generate(ddnb.load(out, device="cpu"), 1, category="kick", steps=2).audio[0]
    np.testing.assert_allclose(demo.T, again, atol=1e-6)


def test_unconditional_result_opens_in_diffusers_and_the_original_format(train, lightning, ema_weights, tmp_path):
    """A genuine checkpoint goes through one step of training into the formats of other tools."""
    out = tmp_path / "tuned"
    settings = {"steps": 1, "batch_size": 1, "categories": False, "validation": 0.0, "save_dtype": "float16"}
    list(train(out, EXAMPLES, lightning, **settings))
    tuned = ddnb.load(out / "last.safetensors", device="cpu")
    assert tuned.info["finetuned_from"] == "lightning" and tuned.categories == ()
    assert {t.dtype for t in weights(out).values()} == {torch.float16}
    ddnb.convert(out / "last.safetensors", tmp_path / "folder")
    ddnb.convert(out / "last.safetensors", tmp_path / "original.ckpt")
    from diffusers import UNet1DModel

    other = UNet1DModel.from_pretrained(tmp_path / "folder" / "unet")
    x, t = torch.randn(1, 2, 4096), torch.tensor([0.5])
    with torch.no_grad():
        theirs = other(x, t).sample
    torch.testing.assert_close(theirs, tuned(x, t), rtol=0, atol=1e-4)
    state = torch.load(tmp_path / "original.ckpt", weights_only=True)["state_dict"]
    assert state.keys() == {f"{part}.{name}" for part in ("diffusion", "diffusion_ema") for name in ema_weights}


def test_keeps_the_best_checkpoints_and_advises_to_stop(train, tmp_path, monkeypatch):
    losses = iter([9.0, 5.0, 3.0, 4.0, 2.0, 6.0, 7.0, 8.0, 8.0, 8.0, 8.0])
    monkeypatch.setattr(Trainer, "validate", lambda self: next(losses))
    steps = list(train(tmp_path / "run", steps=10, validate_every=1, keep_best=2))
    kept = sorted(p.name for p in (tmp_path / "run").glob("best-*"))
    assert kept == ["best-step000002.safetensors", "best-step000004.safetensors"]
    assert [s.step for s in steps if s.advice] == [9] and "2.0000 at step 4" in steps[9].advice


def test_trains_on_all_of_few_sounds(train, tmp_path):
    (tmp_path / "sounds").mkdir()
    for path in list(EXAMPLES.glob("kick/*.flac"))[:3]:
        shutil.copy(path, tmp_path / "sounds")
    steps = list(train(tmp_path / "run", tmp_path / "sounds", batch_size=8, steps=2, validate_every=1))
    assert all(s.validation_loss is None for s in steps)
    assert not list((tmp_path / "run").glob("best-*"))


def test_logs_to_tensorboard_where_it_is_installed(train, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    steps = list(train(tmp_path / "run", steps=3)) + list(train(tmp_path / "run", steps=5))
    events = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard" / "run")).Reload()
    assert [e.step for e in events.Scalars("loss")] == [1, 2, 3, 4, 5]
    assert events.Scalars("loss")[0].value == pytest.approx(steps[1].loss)


def test_imports_wandb_only_on_request(train, tmp_path, monkeypatch):
    """No account, no import; a request for a missing package is refused before anything is trained."""
    monkeypatch.setitem(sys.modules, "wandb", None)
    list(train(tmp_path / "run", steps=1))
    monkeypatch.setattr(loop.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ddnb.errors.ArgumentError, match="pip install wandb"):
        train(tmp_path / "other", steps=1, wandb="mine")


def test_from_scratch_depends_on_its_seed_only():
    a, b, c = (from_scratch("tiny", device="cpu", seed=s) for s in (0, 0, 1))
    assert a.info["weights_sha256"] == b.info["weights_sha256"] != c.info["weights_sha256"]
    before = torch.get_rng_state()
    from_scratch("tiny", device="cpu")
    assert torch.equal(before, torch.get_rng_state())


def test_from_scratch_checks_its_arguments():
    with pytest.raises(ddnb.errors.ArgumentError, match="Known: published"):
        from_scratch("huge")
    with pytest.raises(ddnb.errors.ArgumentError, match="frames=0: expected a whole number"):
        from_scratch("tiny", frames=0)
    assert from_scratch("tiny", frames=1001, device="cpu").frames == 1008


# --- refusals at the start ------------------------------------------------------------------------------------


def test_refused_arguments_leave_no_folder(train, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ddnb.errors.DatasetError, match="no sound files"):
        train(tmp_path / "run", tmp_path / "empty")
    with pytest.raises(FileNotFoundError):
        train(tmp_path / "run", tmp_path / "missing")
    with pytest.raises(TypeError, match="'stepz'.*Did you mean 'steps'.*Known: steps"):
        train(tmp_path / "run", stepz=3)
    with pytest.raises(TypeError, match=r"ddnb\.load"):
        ddnb.finetune("debug", EXAMPLES, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", ["{}", '{"theme": "dark"}', "[]"])
def test_rejects_settings_of_another_program(train, tmp_path, content):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "settings.json").write_text(content)
    (tmp_path / "mine" / "log.csv").write_text("a,b\n")
    with pytest.raises(FileExistsError, match="new folder"):
        train(tmp_path / "mine")
    assert (tmp_path / "mine" / "log.csv").read_text() == "a,b\n"


def test_rejects_folders_with_other_files(train, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "song.txt").write_text("precious")
    for out in (tmp_path / "mine", tmp_path / "mine" / "song.txt"):
        with pytest.raises(FileExistsError, match="new folder"):
            train(out)
    assert (tmp_path / "mine" / "song.txt").read_text() == "precious"


def test_rejects_a_run_inside_the_sounds(train, sounds):
    with pytest.raises(FileExistsError, match="new folder"):
        train(sounds, sounds)
    with pytest.raises(ddnb.errors.RunError, match="inside the folder of sounds"):
        train(sounds / "runs" / "first", sounds)


def test_refused_run_is_unlocked(train, tmp_path):
    """A notebook keeps the frames of the last error: the corrected cell must not meet a lock of its own."""
    with pytest.raises(ddnb.errors.ArgumentError, match=r"disk_budget_gb=1e-06.*needs") as kept:
        train(tmp_path / "run", disk_budget_gb=1e-6)
    assert len(list(train(tmp_path / "run", steps=1))) == 2
    assert kept


def test_rejects_a_disk_without_room(train, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(OSError, match="are free: the run needs"):
        train(tmp_path / "run")


# --- during a run ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_stays_within_the_disk_budget(train, tmp_path):
    """The space is never above the budget, not even while a file is replaced."""
    trainer = Trainer(tiny(), decode(EXAMPLES, 22050, 2), TrainingConfig(batch_size=1))
    least = trainer.weights_bytes + 2 * trainer.state_bytes
    budget = (least + 1.5 * trainer.weights_bytes + 60_000) / 1e9  # one best checkpoint, and the small files
    out, seen, stop = tmp_path / "run", [], threading.Event()

    def watch():
        while not stop.is_set():
            sizes = []
            for folder, _, files in os.walk(out):
                for name in files:
                    with contextlib.suppress(OSError):  # removed meanwhile
                        sizes.append((Path(folder) / name).stat().st_size)
            seen.append(sum(sizes))
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with pytest.warns(UserWarning, match="room for 1 of the 3"):
        list(train(out, steps=5, validate_every=1, save_every=1, disk_budget_gb=budget))
    stop.set()
    watcher.join()
    assert len(list(out.glob("best-*"))) == 1
    assert 0 < max(seen) <= budget * 1e9


def test_trains_on_although_the_folder_of_sounds_disappears(train, whole, tmp_path, sounds):
    for step in train(tmp_path / "run", sounds):
        if step.step == 1:
            shutil.rmtree(sounds)
    assert same(weights(tmp_path / "run"), weights(whole[0]))


def test_keeps_files_that_the_user_adds(train, tmp_path):
    """Renaming a checkpoint is a way to protect it."""
    out = tmp_path / "run"
    list(train(out, steps=3))
    mine = ["best-step000003-favourite.safetensors", "best-stepback.safetensors", "notes.txt", "demos/step1/song.wav"]
    for name in mine:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("mine")
    list(train(out))
    assert all((out / name).read_text() == "mine" for name in mine)


def test_explains_memory_that_runs_out(train, tmp_path, monkeypatch):
    def fail(self):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(Trainer, "compute_gradients", fail)
    with pytest.raises(MemoryError, match="batch_size=1, accumulate=2"):
        list(train(tmp_path / "run"))


def test_stops_at_a_loss_that_is_not_finite_and_keeps_the_state(train, whole, tmp_path, monkeypatch):
    out, original = tmp_path / "run", Trainer._loss

    def broken(self, *args, **options):
        loss = original(self, *args, **options)
        return loss * float("nan") if self.step == 3 and torch.is_grad_enabled() else loss

    monkeypatch.setattr(Trainer, "_loss", broken)
    with pytest.raises(FloatingPointError, match=r"step 4 is nan.*state of step 3 is kept.*lower learning_rate"):
        list(train(out))
    monkeypatch.undo()
    assert all(torch.isfinite(t).all() for t in weights(out).values())
    list(train(out))
    assert same(weights(out), weights(whole[0]))


SETTINGS_OF_ADVICE = TrainingConfig(steps=500, learning_rate=4e-5)


@pytest.mark.parametrize(
    ("last", "settings", "words"),
    [
        (0.499, {}, "learning_rate of 0.0002"),
        (0.499, {"lora_rank": 16, "learning_rate": 2e-4}, "0.001 and without lora_rank"),
        (0.499, {"learning_rate": 1e-3}, "steps=1500"),
        (0.6, {}, "learning_rate of 8e-06"),
        (0.3, {}, None),
    ],
)
def test_a_run_that_changed_little_names_the_next_thing_to_try(last, settings, words):
    advice = suggest_next([(0, 0.4995), (250, 0.499), (500, last)], replace(SETTINGS_OF_ADVICE, **settings))
    assert (advice is None) if words is None else words in advice
    assert suggest_next([(250, 0.4995), (500, last)], SETTINGS_OF_ADVICE) is None, "nothing is known of the start"
