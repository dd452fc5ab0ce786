"""Runs: what they leave, how they go on, what stops them."""

import contextlib
import csv
import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import DATA, FORMAT
from safetensors.torch import load_file
from test_trainer import launch

import ddnb
from ddnb.training import loop, run_folder
from ddnb.training.dataset import EXAMPLES
from ddnb.training.loop import from_scratch
from ddnb.training.trainer import Trainer

FRAMES = 1024
TINY = {"batch_size": 2, "steps": 6, "demos": 0, "save_every": 2, "validate_every": 3}


@pytest.fixture(scope="module")
def start():
    return from_scratch("tiny", sample_rate=22050, frames=FRAMES, device="cpu")


def finetune(start, out, folder=EXAMPLES, **recipe):
    return ddnb.finetune(start, folder, out, **(TINY | recipe))


def weights(out):
    return load_file(out / "last.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    """A run that was never interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDNB_CACHE", str(tmp_path_factory.mktemp("cache")))
        out = tmp_path_factory.mktemp("runs") / "whole"
        records = list(finetune(start, out, demos=2, demo_every=3))
    return out, records


def test_records_tell_each_step(whole):
    _, records = whole
    assert [r.step for r in records] == list(range(7)) and {r.steps for r in records} == {6}
    assert records[0].loss is None and all(r.loss > 0 for r in records[1:])
    assert [r.step for r in records if r.validation_loss is not None] == [0, 3, 6]
    assert [r.step for r in records if r.demo is not None] == [0, 3, 6]
    assert all(r.seconds > 0 and 0 < r.ema_decay < 1 for r in records)
    assert records[1].learning_rate == pytest.approx(5e-4) and records[6].learning_rate > 0


def test_the_folder_holds_what_is_promised(whole):
    out, records = whole
    names = {p.name for p in out.iterdir()}
    assert names >= {"settings.json", "state.safetensors", "last.safetensors", "log.csv", "demos"}
    assert {n for n in names if n.startswith("best")} == {"best-step000003.safetensors", "best-step000006.safetensors"}
    with (out / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(7))
    assert float(rows[4]["loss"]) == records[4].loss and rows[4]["validation_loss"] == ""
    for step in (0, 3, 6):
        demos = sorted((out / "demos" / f"step{step:06d}").iterdir())
        assert [d.name for d in demos] == ["hat_seed0.wav", "kick_seed0.wav", "snare_seed0.wav"]
        assert soundfile.info(demos[0]).frames == FRAMES


def test_the_result_is_a_checkpoint_like_any_other(whole, tmp_path):
    out, records = whole
    ckpt = ddnb.load(out / "last.safetensors", device="cpu")
    assert (ckpt.name, ckpt.sample_rate, ckpt.frames) == ("whole", 22050, FRAMES)
    assert ckpt.categories == ("hat", "kick", "snare")
    assert ckpt.info["licence"] == "not stated" and len(ckpt.info["data_sha256"]) == 64
    assert ckpt.info["training"]["step"] == 6 and ckpt.info["training"]["batch_size"] == 2
    best = ddnb.load(out / "best-step000006.safetensors", device="cpu")
    assert best.info["training"]["validation_loss"] == records[6].validation_loss
    kick = ddnb.generate(ckpt, 1, category="kick", steps=2)
    demo, _ = soundfile.read(out / "demos" / "step000006" / "kick_seed0.wav", dtype="float32")
    again = ddnb.generate(ckpt, 1, category="kick").audio[0]
    gain = min(1.0, 10 ** (-1 / 20) / np.abs(again).max())
    np.testing.assert_allclose(demo.T, again * gain, atol=1e-6)  # the demo was made with the weights that were kept
    assert kick.audio.shape == (1, 2, FRAMES)
    ddnb.convert(out / "last.safetensors", tmp_path / "half.safetensors", dtype="float16")


def test_an_unconditional_result_opens_in_diffusers_and_the_original_format(tmp_path):
    """From a genuine checkpoint, through a step of training, into the other tools' formats."""
    start = ddnb.load(DATA / "lightning.ckpt", device="cpu", **FORMAT)
    out = tmp_path / "tuned"
    list(finetune(start, out, steps=1, batch_size=1, categories=False, save_dtype="float16"))
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
    original = torch.load(DATA / "lightning.ckpt", weights_only=True)["state_dict"]
    ours = {k for k in original if k.startswith(("diffusion.", "diffusion_ema."))}
    assert state.keys() == ours


# --- going on -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_after", [1, 3, 4])
def test_a_run_that_is_left_goes_on(start, whole, tmp_path, stop_after):
    """``break`` in the caller's loop keeps every step that was made."""
    out = tmp_path / "run"
    for record in finetune(start, out):
        if record.step == stop_after:
            break
    del record
    rest = [r.step for r in finetune(start, out)]
    assert rest == list(range(stop_after + 1, 7))
    assert same(weights(out), weights(whole[0]))
    with (out / "log.csv").open(newline="") as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == list(range(7))


def test_cancel_keeps_what_is_made(start, whole, tmp_path):
    out, cancel = tmp_path / "run", threading.Event()
    for record in finetune(start, out, cancel=cancel):
        if record.step == 3:
            cancel.set()
    assert record.step == 3 and (out / "last.safetensors").is_file()
    assert [r.step for r in finetune(start, out)] == [4, 5, 6]
    assert same(weights(out), weights(whole[0]))


def everything(out):
    """What a run leaves, except for what depends on the clock and on the number of its beginnings."""
    with (out / "log.csv").open(newline="") as file:
        log = [(r["step"], r["loss"], r["validation_loss"], r["learning_rate"]) for r in csv.DictReader(file)]
    names = sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if "tensorboard" not in str(p))
    facts = run_folder.RunFolder(out).state()[1]
    return log, names, {k: facts[k] for k in ("step", "told", "best", "validations")}


PLACES = {
    "gradients": (Trainer, "gradients"),
    "update": (Trainer, "_update"),
    "validation": (Trainer, "validate"),
    "best": (run_folder.RunFolder, "save_weights"),
    "demo": (run_folder.RunFolder, "save_demo"),
    "log": (run_folder.RunFolder, "log"),
    "state": (run_folder.RunFolder, "save_state"),
}


@pytest.mark.parametrize("when", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("where", PLACES)
def test_an_interrupt_anywhere_loses_nothing(start, whole, tmp_path, monkeypatch, where, when):
    """The notebook's stop button: the loop ends, a warning says how to go on, and the result is the same in all."""
    out, (owner, name) = tmp_path / "whole", PLACES[where]
    original, calls = getattr(owner, name), itertools.count(1)

    def interrupted(self, *args):
        if next(calls) == when:
            raise KeyboardInterrupt
        return original(self, *args)

    monkeypatch.setattr(owner, name, interrupted)
    with pytest.warns(UserWarning, match="the same call goes on"):
        list(finetune(start, out, demos=2, demo_every=3))
    monkeypatch.undo()
    list(finetune(start, out, demos=2, demo_every=3))
    assert same(weights(out), weights(whole[0]))
    assert everything(out) == everything(whole[0])


@pytest.mark.parametrize("error", [RuntimeError("cuBLAS"), SystemExit(1)])
def test_any_other_error_keeps_the_finished_steps(start, whole, tmp_path, monkeypatch, error):
    out, original = tmp_path / "run", Trainer.train_step

    def broken(self):
        if self.step == 5:
            raise error
        return original(self)

    monkeypatch.setattr(Trainer, "train_step", broken)
    with pytest.raises(type(error)):
        list(finetune(start, out))
    monkeypatch.undo()
    assert [r.step for r in finetune(start, out)] == [6]
    assert same(weights(out), weights(whole[0]))


def test_a_loop_that_somebody_still_holds_is_closed_first(start, whole, tmp_path):
    """A notebook keeps the frames of the last error, and with them a loop that was left."""
    out = tmp_path / "run"
    held = finetune(start, out)
    for record in held:
        if record.step == 3:
            break
    assert [r.step for r in finetune(start, out)] == [4, 5, 6]
    assert list(held) == []
    assert same(weights(out), weights(whole[0]))


def test_a_refusal_lets_go_of_the_run(start, tmp_path):
    """A notebook keeps the frames of the last error: the corrected cell must not meet a lock of its own."""
    with pytest.raises(ValueError, match="disk_budget_gb") as kept:
        finetune(start, tmp_path / "run", disk_budget_gb=1e-6)
    assert len(list(finetune(start, tmp_path / "run", steps=1))) == 2
    assert kept


def test_a_loop_that_never_began_lets_go_of_the_run(start, tmp_path):
    held = finetune(start, tmp_path / "run", steps=1)
    assert len(list(finetune(start, tmp_path / "run", steps=1))) == 2
    assert list(held) == []


def test_two_processes_do_not_share_a_run(start, tmp_path):
    out = tmp_path / "run"
    list(finetune(start, out, steps=1))
    lock = run_folder.RunFolder(out).lock()
    other = subprocess.run(command(out, 2, "--demos", "0"), capture_output=True, text=True)
    assert other.returncode == 2 and "another process" in other.stderr
    lock.release()


def test_memory_that_runs_out_while_training_is_explained(start, tmp_path, monkeypatch):
    def full(self):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(Trainer, "gradients", full)
    with pytest.raises(MemoryError, match="batch_size=1, accumulate=2"):
        list(finetune(start, tmp_path / "run"))


def test_an_interrupt_within_the_update_goes_back_to_the_saved_state(start, whole, tmp_path, monkeypatch):
    """Half-updated weights must never be saved."""
    out, original = tmp_path / "run", torch.optim.AdamW.step

    def interrupted(self, *args, **kwargs):
        original(self, *args, **kwargs)
        if self.state and next(iter(self.state.values()))["step"] == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(torch.optim.AdamW, "step", interrupted)
    with pytest.warns(UserWarning, match="stopped after step 2"):
        list(finetune(start, out))
    monkeypatch.undo()
    assert [r.step for r in finetune(start, out)] == [3, 4, 5, 6]
    assert same(weights(out), weights(whole[0]))


COMMAND = [sys.executable, "-m", "ddnb", "finetune", "--scratch", "tiny", "--sample-rate", "22050", "--device", "cpu"]
OPTIONS = ["--frames", str(FRAMES), "--batch-size", "2", "--demos", "2", "--demo-every", "5", "--keep-best", "2"]


def command(out, steps, *more):
    return [*COMMAND, *OPTIONS, "--data", str(EXAMPLES), "--out", str(out), "--steps", str(steps), *more]


def kill_again_and_again(out, steps, kills, seed):
    """Start the run, kill it with SIGKILL at a random moment after it began to train, and so on; then let it end."""
    rng = random.Random(seed)
    for _ in range(kills):
        run = subprocess.Popen(command(out, steps), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        log = out / "log.csv"
        before = log.stat().st_mtime_ns if log.is_file() else 0
        while run.poll() is None and not (log.is_file() and log.stat().st_mtime_ns > before):
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.6))
        run.send_signal(signal.SIGKILL)
        run.communicate()
    subprocess.run(command(out, steps), check=True, capture_output=True)


def check_killed(whole_out, out):
    assert same(weights(whole_out), weights(out))
    assert same(load_file(whole_out / "state.safetensors"), load_file(out / "state.safetensors"))
    assert everything(whole_out) == everything(out)


def test_a_killed_run_ends_with_the_same_weights(tmp_path):
    """kill -9 at a random step, resume: bitwise the weights, state, log and files of an uninterrupted run."""
    subprocess.run(command(tmp_path / "through", 40), check=True, capture_output=True)
    kill_again_and_again(tmp_path / "killed", 40, kills=1, seed=1)
    check_killed(tmp_path / "through", tmp_path / "killed")


@pytest.mark.slow
def test_twenty_kills_in_a_row_lose_nothing(tmp_path):
    subprocess.run(command(tmp_path / "through", 400), check=True, capture_output=True)
    kill_again_and_again(tmp_path / "killed", 400, kills=20, seed=2)
    check_killed(tmp_path / "through", tmp_path / "killed")


def test_a_kill_while_saving_leaves_the_state_before(start, whole, tmp_path, monkeypatch):
    """The moment between the temporary file and its name: what lies there is removed, the old state is used."""
    out, real = tmp_path / "run", run_folder.save_file

    def killed(tensors, path, metadata):
        real(tensors, path, metadata)
        if json.loads(metadata["facts"])["step"] == 4:
            path.with_name("half-written").write_bytes(b"x")
            monkeypatch.setattr(shutil, "rmtree", lambda *a, **k: None)  # a killed process tidies nothing
            raise SystemExit

    monkeypatch.setattr(run_folder, "save_file", killed)
    with pytest.raises(SystemExit):
        list(finetune(start, out))
    monkeypatch.undo()
    assert list(out.glob(".state*"))
    assert next(finetune(start, out)).step == 3
    list(finetune(start, out))
    assert not list(out.glob(".*.????????"))
    assert same(weights(out), weights(whole[0]))


def test_more_steps_can_be_asked_for(start, tmp_path):
    out = tmp_path / "run"
    list(finetune(start, out, steps=2))
    with pytest.warns(UserWarning, match="2 steps already"):
        assert list(finetune(start, out, steps=2)) == []
    assert [r.step for r in finetune(start, out, steps=4)] == [3, 4]


def test_what_was_chosen_at_first_stays_chosen(start, tmp_path, monkeypatch):
    """A batch size found by trying must not change because another program takes memory now."""
    out = tmp_path / "run"
    list(finetune(start, out, batch_size=None, steps=2))
    stored = json.loads((out / "settings.json").read_text())["recipe"]
    assert stored["batch_size"] and stored["learning_rate"] == 5e-4

    class Full:
        available = 0

    monkeypatch.setattr("psutil.virtual_memory", Full)
    list(finetune(start, out, batch_size=None, steps=3))
    assert json.loads((out / "settings.json").read_text())["recipe"]["batch_size"] == stored["batch_size"]


@pytest.mark.parametrize("change", [{"seed": 1}, {"learning_rate": 1e-3}, {"batch_size": 3}, {"lora_rank": 2}])
def test_another_recipe_is_another_run(start, tmp_path, change):
    out = tmp_path / "run"
    list(finetune(start, out, steps=2))
    before = weights(out)
    name = "clips_per_step" if "batch_size" in change else next(iter(change))
    with pytest.raises(ValueError, match=f"{name}=.*Give the same to go on, or a new folder"):
        finetune(start, out, **change)
    assert same(weights(out), before)


def test_half_the_batch_twice_is_the_same_run(start, tmp_path):
    """A smaller machine may go on: the clips of a step are the same ones."""
    out = tmp_path / "run"
    list(finetune(start, out, steps=2))
    assert [r.step for r in finetune(start, out, steps=3, batch_size=1, accumulate=2)] == [3]


def test_another_start_or_other_sounds_are_another_run(start, tmp_path):
    out, folder = tmp_path / "run", tmp_path / "sounds"
    shutil.copytree(EXAMPLES, folder)
    list(finetune(start, out, folder, steps=2))
    other = from_scratch("tiny", sample_rate=22050, frames=FRAMES, device="cpu", seed=1)
    with pytest.raises(ValueError, match="began from tiny"):
        finetune(other, out, folder)
    (folder / "kick" / "bd_fat.flac").unlink()
    with pytest.raises(ValueError, match="sounds have changed.*last.safetensors"):
        finetune(start, out, folder)


def test_a_folder_that_changes_while_training_does_not_matter(start, whole, tmp_path):
    out, folder = tmp_path / "run", tmp_path / "sounds"
    shutil.copytree(EXAMPLES, folder)
    for record in finetune(start, out, folder):
        if record.step == 1:
            shutil.rmtree(folder)
    assert same(weights(out), weights(whole[0]))


# --- what stops it --------------------------------------------------------------------------------------------


def test_files_of_the_user_in_a_run_stay(start, tmp_path):
    """Renaming a checkpoint is how one protects it."""
    out = tmp_path / "run"
    list(finetune(start, out, steps=3))
    mine = ["best-step000003-favourite.safetensors", "best-stepback.safetensors", "notes.txt", "demos/step1/song.wav"]
    for name in mine:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("mine")
    list(finetune(start, out))
    assert all((out / name).read_text() == "mine" for name in mine)


@pytest.mark.parametrize("content", ["{}", '{"theme": "dark"}', "[]"])
def test_settings_of_another_program_are_no_run(start, tmp_path, content):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "settings.json").write_text(content)
    (tmp_path / "mine" / "log.csv").write_text("a,b\n")
    with pytest.raises(FileExistsError, match="new folder"):
        finetune(start, tmp_path / "mine")
    assert (tmp_path / "mine" / "log.csv").read_text() == "a,b\n"


def test_rubbish_in_the_log_does_not_keep_a_run_from_going_on(start, tmp_path):
    out = tmp_path / "run"
    list(finetune(start, out, steps=2))
    with (out / "log.csv").open("ab") as file:
        file.write(b"\xff\x00\x00,,\x00")
    list(finetune(start, out, steps=3))
    with (out / "log.csv").open(newline="") as file:
        assert [r["step"] for r in csv.DictReader(file)] == ["0", "1", "2", "3"]


def test_only_a_run_or_a_new_folder_is_written_to(start, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "song.txt").write_text("precious")
    for out in (tmp_path / "mine", tmp_path / "mine" / "song.txt"):
        with pytest.raises(FileExistsError, match="new folder"):
            finetune(start, out)
    assert (tmp_path / "mine" / "song.txt").read_text() == "precious"


def test_nothing_is_left_where_nothing_began(start, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no sound files"):
        finetune(start, tmp_path / "run", tmp_path / "empty")
    with pytest.raises(FileNotFoundError):
        finetune(start, tmp_path / "run", tmp_path / "nowhere")
    with pytest.raises(TypeError, match="'stepz'.*Did you mean 'steps'.*Known: steps"):
        finetune(start, tmp_path / "run", stepz=3)
    with pytest.raises(TypeError, match=r"ddnb\.load"):
        ddnb.finetune("debug", EXAMPLES, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_no_number_stops_and_keeps_the_state(start, whole, tmp_path, monkeypatch):
    out, original = tmp_path / "run", Trainer._loss

    def broken(self, *args):
        loss = original(self, *args)
        return loss * float("nan") if self.step == 3 and torch.is_grad_enabled() else loss

    monkeypatch.setattr(Trainer, "_loss", broken)
    with pytest.raises(FloatingPointError, match=r"step 4 is nan.*state of step 3 is kept.*lower learning_rate"):
        list(finetune(start, out))
    monkeypatch.undo()
    assert all(torch.isfinite(t).all() for t in weights(out).values())
    list(finetune(start, out))
    assert same(weights(out), weights(whole[0]))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="limits of this kind are Unix's")
def test_a_full_disk_stops_and_keeps_the_state(tmp_path):
    """The kernel itself refuses to let a file grow, in a process of its own; afterwards the run goes on."""
    out = tmp_path / "run"
    subprocess.run(command(out, 2, "--demos", "0"), check=True, capture_output=True)
    size = (out / "state.safetensors").stat().st_size

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))

    stopped = subprocess.run(command(out, 6, "--demos", "0"), capture_output=True, text=True, preexec_fn=limit)
    assert stopped.returncode == 2
    assert "could not be written" in stopped.stderr and "go on from there" in stopped.stderr
    assert not list(out.glob(".*.????????"))
    subprocess.run(command(out, 6, "--demos", "0"), check=True, capture_output=True)
    subprocess.run(command(tmp_path / "through", 2, "--demos", "0"), check=True, capture_output=True)
    subprocess.run(command(tmp_path / "through", 6, "--demos", "0"), check=True, capture_output=True)
    assert same(weights(out), weights(tmp_path / "through"))


def test_the_disk_budget_is_kept(start, tmp_path):
    """Never above it, not even while a file is replaced."""
    trainer = Trainer(start, ddnb.training.dataset.decode(EXAMPLES, 22050, 2), loop.Recipe(batch_size=1))
    least = trainer.weights_bytes + 2 * trainer.state_bytes
    budget = (least + 1.5 * trainer.weights_bytes + 60_000) / 1e9  # one best, and the small files
    out, seen, stop = tmp_path / "run", [], threading.Event()

    def watch():
        while not stop.is_set():
            sizes = []
            for folder, _, files in os.walk(out):
                for name in files:
                    with contextlib.suppress(OSError):  # gone meanwhile
                        sizes.append((Path(folder) / name).stat().st_size)
            seen.append(sum(sizes))

    watcher = threading.Thread(target=watch)
    watcher.start()
    with pytest.warns(UserWarning, match="room for 1 of the 3"):
        list(finetune(start, out, steps=12, validate_every=1, save_every=1, disk_budget_gb=budget))
    stop.set()
    watcher.join()
    assert len(list(out.glob("best-*"))) == 1
    assert 0 < max(seen) <= budget * 1e9
    with pytest.raises(ValueError, match=r"disk_budget_gb=0\.0001.*needs"):
        finetune(start, tmp_path / "other", disk_budget_gb=0.0001)


def test_a_disk_without_room_is_noticed_at_the_start(start, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(OSError, match="are free: the run needs"):
        finetune(start, tmp_path / "run")


def test_a_run_without_its_state_is_not_begun_again(start, tmp_path):
    """Somebody made room by removing the largest file; beginning again would remove the best checkpoints as well."""
    out = tmp_path / "run"
    list(finetune(start, out, steps=3))
    (out / "state.safetensors").unlink()
    with pytest.raises(ValueError, match=r"missing: begin a new run, from last\.safetensors"):
        finetune(start, out)
    (out / "last.safetensors").rename(tmp_path / "moved.safetensors")
    with pytest.raises(ValueError, match=r"missing: begin a new run, from best-step000003\.safetensors"):
        finetune(start, out)
    assert list(out.glob("best-*"))


def test_a_kill_between_state_and_weights_is_mended(start, whole, tmp_path, monkeypatch):
    out, original = tmp_path / "run", run_folder.RunFolder.save_weights

    def killed(self, path, *args):
        if path == self.last_path:
            raise SystemExit
        original(self, path, *args)

    list(finetune(start, out, steps=2))
    monkeypatch.setattr(run_folder.RunFolder, "save_weights", killed)
    with pytest.raises(SystemExit):
        list(finetune(start, out))
    monkeypatch.undo()
    finetune(start, out)  # looks at the folder before the first step
    assert ddnb.load(out, device="cpu").info["training"]["step"] == 4
    list(finetune(start, out))
    assert same(weights(out), weights(whole[0]))


def test_a_run_among_the_sounds_is_refused(start, tmp_path):
    folder = tmp_path / "sounds"
    shutil.copytree(EXAMPLES, folder)
    for out in (folder, folder / "runs" / "first"):
        with pytest.raises((ValueError, FileExistsError), match="inside the folder|new folder"):
            finetune(start, out, folder)


def test_a_damaged_state_is_named(start, tmp_path):
    out = tmp_path / "run"
    list(finetune(start, out, steps=2))
    (out / "state.safetensors").write_bytes((out / "state.safetensors").read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"state\.safetensors is damaged.*last\.safetensors"):
        finetune(start, out)
    (out / "settings.json").write_text("{")
    with pytest.raises(ValueError, match=r"settings\.json is damaged"):
        finetune(start, out)


# --- what it says ---------------------------------------------------------------------------------------------


def test_the_best_are_the_best(start, tmp_path, monkeypatch):
    losses = iter([9.0, 5.0, 3.0, 4.0, 2.0, 6.0, 7.0, 8.0, 8.0, 8.0, 8.0])
    monkeypatch.setattr(Trainer, "validate", lambda self: next(losses))
    records = list(finetune(start, tmp_path / "run", steps=10, validate_every=1, keep_best=2))
    kept = sorted(p.name for p in (tmp_path / "run").glob("best-*"))
    assert kept == ["best-step000002.safetensors", "best-step000004.safetensors"]
    advised = [r.step for r in records if r.advice]
    assert advised == [9, 10] and "at step 4" in records[9].advice


def test_few_files_are_all_trained_on(start, tmp_path):
    folder = tmp_path / "sounds"
    folder.mkdir()
    for path in list(EXAMPLES.glob("kick/*.flac"))[:3]:
        shutil.copy(path, folder)
    records = list(finetune(start, tmp_path / "run", folder, batch_size=8, steps=2, validate_every=1))
    assert all(r.validation_loss is None for r in records)
    assert not list((tmp_path / "run").glob("best-*"))


def test_tensorboard_gets_the_numbers_where_it_is_installed(start, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    records = list(finetune(start, tmp_path / "run", steps=3)) + list(finetune(start, tmp_path / "run", steps=5))
    folder = tmp_path / "run" / "tensorboard" / "run"
    events = accumulator.EventAccumulator(str(folder)).Reload()
    assert [e.step for e in events.Scalars("loss")] == [1, 2, 3, 4, 5]
    assert events.Scalars("loss")[0].value == pytest.approx(records[1].loss)


def test_wandb_is_never_touched_unasked(start, tmp_path, monkeypatch):
    """No account, no import; where it is asked for and not there, that is said before anything is trained."""
    monkeypatch.setitem(sys.modules, "wandb", None)
    list(finetune(start, tmp_path / "run", steps=1))
    monkeypatch.setattr(loop.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install wandb"):
        list(finetune(start, tmp_path / "other", steps=1, wandb="mine"))


@pytest.mark.slow
def test_the_command_line_in_two_processes(tmp_path):
    """One log, one set of files, the loss of the whole batch."""
    arguments = ["-m", *command(tmp_path / "two", 2)[2:]]
    launch(*arguments)
    out = tmp_path / "one"
    one = [word if word != str(tmp_path / "two") else str(out) for word in command(tmp_path / "two", 2)]
    one[one.index("--batch-size") + 1] = "4"
    subprocess.run(one, check=True, capture_output=True)
    logs = []
    for folder in (tmp_path / "two", out):
        with (folder / "log.csv").open(newline="") as file:
            logs.append([float(r["loss"]) for r in csv.DictReader(file) if r["loss"]])
    assert len(logs[0]) == 2
    assert logs[0] == pytest.approx(logs[1], rel=1e-4)
    assert (tmp_path / "two" / "demos" / "step000002").is_dir()


def test_from_scratch_is_seeded_and_explains_itself():
    a, b, c = (from_scratch("tiny", device="cpu", seed=s) for s in (0, 0, 1))
    assert a.info["weights_sha256"] == b.info["weights_sha256"] != c.info["weights_sha256"]
    before = torch.get_rng_state()
    from_scratch("tiny", device="cpu")
    assert torch.equal(before, torch.get_rng_state())
    with pytest.raises(ValueError, match="Known: published"):
        from_scratch("huge")
    with pytest.raises(ValueError, match="frames"):
        from_scratch("tiny", frames=0)
    assert from_scratch("tiny", frames=1001, device="cpu").frames == 1008
