"""Stopped training runs: what is saved, how they resume, and which ones are refused."""

import itertools
import json
import shutil
import threading
from pathlib import Path

import pytest
import torch
from conftest import DATA
from training_runs import WITH_DEMOS, outputs, quick_training, read_log, same, tiny, weights

import ddnb
from ddnb.errors import RunError
from ddnb.training import run_folder
from ddnb.training.dataset import EXAMPLES
from ddnb.training.loop import from_scratch
from ddnb.training.trainer import Trainer


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    yield from quick_training(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def whole(train, tmp_path_factory):
    """The folder of a run that was never interrupted."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    list(train(out, **WITH_DEMOS))
    return out


@pytest.fixture(scope="module")
def three_steps(train, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    for step in train(out):
        if step.step == 3:
            break
    return out


@pytest.fixture
def stopped(three_steps, tmp_path):
    """A copy of a run that was stopped after step 3 of 6."""
    return Path(shutil.copytree(three_steps, tmp_path / "run"))


def numbers(steps):
    return [s.step for s in steps]


# --- resuming -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_after", [0, 3, pytest.param(4, marks=pytest.mark.slow)])
def test_run_left_by_break_resumes(train, whole, tmp_path, stop_after):
    """Every finished step is kept."""
    out = tmp_path / "run"
    for step in train(out):
        if step.step == stop_after:
            break
    del step
    assert numbers(train(out)) == list(range(stop_after + 1, 7))
    assert same(weights(out), weights(whole))
    assert [int(row["step"]) for row in read_log(out)] == list(range(7))


def test_cancelled_run_resumes(train, whole, tmp_path):
    out, cancel = tmp_path / "run", threading.Event()
    for step in train(out, cancel=cancel):
        if step.step == 3:
            cancel.set()
    assert step.step == 3 and (out / "last.safetensors").is_file()
    assert numbers(train(out)) == [4, 5, 6]
    assert same(weights(out), weights(whole))


PLACES = {
    "gradients": (Trainer, "compute_gradients"),
    "update": (Trainer, "_update"),
    "validation": (Trainer, "validate"),
    "best": (run_folder.RunFolder, "save_weights"),
    "demo": (run_folder.RunFolder, "save_demo"),
    "log": (run_folder.RunFolder, "log"),
    "state": (run_folder.RunFolder, "save_state"),
}


@pytest.mark.parametrize("call", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "place", [p if p in ("gradients", "best", "state") else pytest.param(p, marks=pytest.mark.slow) for p in PLACES]
)
def test_run_interrupted_anywhere_resumes(train, whole, tmp_path, monkeypatch, place, call):
    """The notebook's stop button ends the loop with a warning; the resumed run has all outputs of a whole one."""
    out, (owner, name) = tmp_path / "whole", PLACES[place]
    original, calls = getattr(owner, name), itertools.count(1)

    def interrupted(self, *args):
        if next(calls) == call:
            raise KeyboardInterrupt
        return original(self, *args)

    monkeypatch.setattr(owner, name, interrupted)
    with pytest.warns(UserWarning, match="repeat the same call or command to resume"):
        list(train(out, **WITH_DEMOS))
    monkeypatch.undo()
    list(train(out, **WITH_DEMOS))
    assert same(weights(out), weights(whole))
    assert outputs(out) == outputs(whole)


@pytest.mark.parametrize(
    "error", [RuntimeError("cuBLAS"), OSError("of a tracker"), pytest.param(SystemExit(1), marks=pytest.mark.slow)]
)
def test_run_stopped_by_an_error_resumes(train, whole, tmp_path, monkeypatch, error):
    out, original = tmp_path / "run", Trainer.train_step

    def broken(self):
        if self.step == 5:
            raise error
        return original(self)

    monkeypatch.setattr(Trainer, "train_step", broken)
    with pytest.raises(type(error)):
        list(train(out))
    monkeypatch.undo()
    assert numbers(train(out)) == [6]
    assert same(weights(out), weights(whole))


def test_interrupt_within_the_update_returns_to_the_saved_state(train, whole, tmp_path, monkeypatch):
    """Half-updated weights must never be saved."""
    out, original = tmp_path / "run", torch.optim.AdamW.step

    def interrupted(self, *args, **kwargs):
        original(self, *args, **kwargs)
        if self.state and next(iter(self.state.values()))["step"] == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(torch.optim.AdamW, "step", interrupted)
    with pytest.warns(UserWarning, match="stopped after step 2"):
        list(train(out))
    monkeypatch.undo()
    assert numbers(train(out)) == [3, 4, 5, 6]
    assert same(weights(out), weights(whole))


def test_loop_that_is_still_referenced_is_closed_first(train, whole, tmp_path):
    """A notebook keeps the frames of the last error, and with them a loop that was left."""
    out = tmp_path / "run"
    held = train(out)
    for step in held:
        if step.step == 3:
            break
    assert numbers(train(out)) == [4, 5, 6]
    assert list(held) == []
    assert same(weights(out), weights(whole))


def test_loop_that_never_began_is_closed_first(train, tmp_path):
    held = train(tmp_path / "run", steps=1)
    assert len(list(train(tmp_path / "run", steps=1))) == 2
    assert list(held) == []


def test_kill_while_saving_leaves_the_previous_state(train, whole, tmp_path, monkeypatch):
    """Between writing a temporary file and renaming it: the file is removed, the old state is used."""
    out, real = tmp_path / "run", run_folder.save_file

    def killed(tensors, path, metadata):
        real(tensors, path, metadata)
        if json.loads(metadata["facts"])["step"] == 4:
            path.with_name("half-written").write_bytes(b"x")
            monkeypatch.setattr(shutil, "rmtree", lambda *a, **k: None)  # a killed process cleans up nothing
            raise SystemExit

    monkeypatch.setattr(run_folder, "save_file", killed)
    with pytest.raises(SystemExit):
        list(train(out))
    monkeypatch.undo()
    assert list(out.glob(".state*"))
    assert next(train(out)).step == 3
    list(train(out))
    assert not list(out.glob(".*.????????"))
    assert same(weights(out), weights(whole))


def test_kill_between_state_and_weights_is_repaired(train, whole, tmp_path, monkeypatch):
    out, original = tmp_path / "run", run_folder.RunFolder.save_weights

    def killed(self, path, *args):
        if path == self.last_path:
            raise SystemExit
        original(self, path, *args)

    list(train(out, steps=2))
    monkeypatch.setattr(run_folder.RunFolder, "save_weights", killed)
    with pytest.raises(SystemExit):
        list(train(out))
    monkeypatch.undo()
    train(out)  # repairs the folder before the first step
    assert ddnb.load(out, device="cpu").info["training"]["step"] == 4
    list(train(out))
    assert same(weights(out), weights(whole))


def test_garbage_in_the_log_is_removed(train, stopped):
    with (stopped / "log.csv").open("ab") as file:
        file.write(b"\xff\x00\x00,,\x00")
    list(train(stopped, steps=4))
    assert [row["step"] for row in read_log(stopped)] == ["0", "1", "2", "3", "4"]


def test_finished_run_accepts_more_steps(train, stopped):
    with pytest.warns(UserWarning, match="already has its 3 steps"):
        assert list(train(stopped, steps=3)) == []
    assert numbers(train(stopped, steps=4)) == [4]


def test_half_the_batch_twice_resumes_the_run(train, stopped):
    """A smaller machine may continue: the clips of a step are the same."""
    assert numbers(train(stopped, steps=4, batch_size=1, accumulate=2)) == [4]


def test_choices_of_a_run_are_kept(train, tmp_path, monkeypatch):
    """A batch size found by trying must not change because another program takes memory now."""
    out = tmp_path / "run"
    list(train(out, batch_size=None, steps=1))
    stored = json.loads((out / "settings.json").read_text())["recipe"]
    assert stored["batch_size"] and stored["learning_rate"] == 5e-4

    class NoMemory:
        available = 0

    monkeypatch.setattr("psutil.virtual_memory", NoMemory)
    list(train(out, batch_size=None, steps=2))
    assert json.loads((out / "settings.json").read_text())["recipe"]["batch_size"] == stored["batch_size"]


def test_run_of_version_0_1_resumes(tmp_path):
    """Its state may come from another processor, so the weights are close to those of today, not equal."""
    start = from_scratch("tiny", sample_rate=22050, frames=2048, seed=1, device="cpu")
    settings = {"steps": 6, "batch_size": 2, "demos": 1, "demo_every": 6, "keep_best": 0, "lora_rank": 1}
    settings |= {"validation": 0.0, "save_dtype": "float16", "seed": 3}
    old = shutil.copytree(DATA / "v0.1" / "run", tmp_path / "run")
    assert numbers(ddnb.finetune(start, EXAMPLES, old, **settings)) == [4, 5, 6]
    settings["learning_rate"] = 2e-4  # the usual one of that version, which the old run keeps
    assert numbers(ddnb.finetune(start, EXAMPLES, tmp_path / "new", **settings)) == list(range(7))
    resumed, today = weights(old), weights(tmp_path / "new")
    assert resumed.keys() == today.keys()
    for name, tensor in today.items():
        torch.testing.assert_close(resumed[name], tensor, rtol=2e-3, atol=1e-4)
    losses = [[float(row["loss"]) for row in read_log(out)[1:]] for out in (old, tmp_path / "new")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    demos = [sorted(p.name for p in (out / "demos" / "step000006").iterdir()) for out in (old, tmp_path / "new")]
    assert demos[0] == demos[1] == ["hat_seed0.wav", "kick_seed0.wav", "snare_seed0.wav"]


# --- refusals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{"seed": 1}, {"learning_rate": 1e-3}, {"batch_size": 3}, {"lora_rank": 2}])
def test_rejects_other_settings(train, stopped, change):
    before = weights(stopped)
    name = "clips_per_step" if "batch_size" in change else next(iter(change))
    with pytest.raises(RunError, match=f"{name}=.*Give the same to resume it, or a new folder"):
        train(stopped, **change)
    assert same(weights(stopped), before)


def test_rejects_another_start(train, stopped):
    with pytest.raises(RunError, match="began from tiny"):
        train(stopped, ckpt=tiny(seed=1))


def test_rejects_other_sounds(train, stopped, tmp_path):
    shutil.copytree(EXAMPLES, tmp_path / "sounds")
    (tmp_path / "sounds" / "kick" / "bd_fat.flac").unlink()
    with pytest.raises(RunError, match="sounds have changed.*last.safetensors"):
        train(stopped, tmp_path / "sounds")


def test_rejects_damaged_files(train, stopped):
    (stopped / "state.safetensors").write_bytes((stopped / "state.safetensors").read_bytes()[:1000])
    with pytest.raises(RunError, match=r"state\.safetensors is damaged.*last\.safetensors"):
        train(stopped)
    (stopped / "settings.json").write_text("{")
    with pytest.raises(RunError, match=r"settings\.json is damaged"):
        train(stopped)


def test_rejects_a_run_without_its_state(train, stopped, tmp_path):
    """Users make room by removing the largest file; starting over would remove the best checkpoints as well."""
    (stopped / "state.safetensors").unlink()
    with pytest.raises(RunError, match=r"missing: begin a new run, from last\.safetensors"):
        train(stopped)
    (stopped / "last.safetensors").rename(tmp_path / "moved.safetensors")
    with pytest.raises(RunError, match=r"missing: begin a new run, from best-step000003\.safetensors"):
        train(stopped)
    assert list(stopped.glob("best-*"))
