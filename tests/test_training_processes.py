"""Training runs in processes of their own: kill -9, locks, a full disk, two processes."""

import multiprocessing
import random
import resource
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file
from training_runs import FRAMES, launch, outputs, read_log, same, weights

from ddnb.cli.main import main
from ddnb.training.dataset import EXAMPLES
from ddnb.training.run_folder import RunFolder


def arguments(out, steps, *more):
    """Return the arguments of ``python -m ddnb`` for a short run."""
    words = ["finetune", "--scratch", "tiny", "--sample-rate", "22050", "--device", "cpu", "--frames", str(FRAMES)]
    words += ["--batch-size", "2", "--keep-best", "2", "--data", str(EXAMPLES), "--out", str(out)]
    return [*words, "--steps", str(steps), *more]


@pytest.fixture(autouse=True)
def handler():
    """``main`` lets SIGTERM interrupt the process, which must not outlive the test."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


DEMOS = ["--no-categories", "--demos", "1", "--demo-every", "6", "--validate-every", "4", "--save-every", "2"]


def kill_repeatedly(out, steps, kills, seed, step_s):
    """Start the run, kill it with SIGKILL at a random moment after its first step, and so on; then let it finish.

    A step takes about ``step_s``, so that no run reaches its end before the last kill, however fast the machine.
    """
    rng, fork = random.Random(seed), multiprocessing.get_context("fork")  # the packages are imported once
    for kill in range(kills):
        log = out / "log.csv"
        before = log.stat().st_size if log.is_file() else 0
        run = fork.Process(target=main, args=(arguments(out, steps, *DEMOS),))
        run.start()
        while run.is_alive() and not (log.is_file() and log.stat().st_size > before):
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.7 * (steps / kills - 1) * step_s))
        run.kill()
        run.join()
        assert RunFolder(out).last_step() < steps, f"the run ended before kill {kill}"
    assert main(arguments(out, steps, *DEMOS)) == 0


@pytest.mark.parametrize(("steps", "kills"), [(12, 1), pytest.param(60, 20, id="twenty times")])
@pytest.mark.slow
def test_killed_run_resumes_bit_for_bit(tmp_path, steps, kills):
    """After kill -9 at random moments, weights, state, log and files are those of an uninterrupted run."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(arguments(whole, steps, *DEMOS)) == 0
    step_s = sum(float(row["seconds"]) for row in read_log(whole)[1:]) / steps
    kill_repeatedly(killed, steps, kills, kills, step_s)
    assert same(weights(whole), weights(killed))
    assert same(load_file(whole / "state.safetensors"), load_file(killed / "state.safetensors"))
    assert outputs(whole) == outputs(killed)


@pytest.mark.slow
def test_second_process_is_refused(tmp_path):
    lock = RunFolder(tmp_path / "run").lock()
    command = [sys.executable, "-m", "ddnb", *arguments(tmp_path / "run", 2, "--demos", "0")]
    other = subprocess.run(command, capture_output=True, text=True)
    lock.release()
    assert other.returncode == 2 and "another process" in other.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="uses limits of Unix")
def test_full_disk_stops_the_run_and_keeps_the_state(tmp_path):
    """The kernel refuses to let a file grow in a process of its own; afterwards the run resumes."""
    out, whole = tmp_path / "run", tmp_path / "whole"
    assert main(arguments(out, 2, "--demos", "0")) == 0
    size = (out / "state.safetensors").stat().st_size

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))

    command = [sys.executable, "-m", "ddnb", *arguments(out, 6, "--demos", "0")]
    stopped = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit)
    assert stopped.returncode == 2
    assert "could not be written" in stopped.stderr and "repeat the same call or command to resume" in stopped.stderr
    assert not list(out.glob(".*.????????"))
    assert main(arguments(out, 6, "--demos", "0")) == 0
    for steps in (2, 6):
        assert main(arguments(whole, steps, "--demos", "0")) == 0
    assert same(weights(out), weights(whole))


@pytest.mark.slow
def test_two_processes_write_one_run(tmp_path):
    """There is one log and one set of files, with the loss of the whole batch."""
    two, one = tmp_path / "two", tmp_path / "one"
    launch("-m", "ddnb", *arguments(two, 2, "--demos", "2"))
    assert main(arguments(one, 2, "--demos", "0", "--batch-size", "4")) == 0
    losses = [[float(row["loss"]) for row in read_log(out) if row["loss"]] for out in (two, one)]
    assert len(losses[0]) == 2
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert (two / "demos" / "step000002").is_dir()


@pytest.mark.slow
def test_two_processes_correct_the_levels_once(tmp_path):
    """The categories of a fitted network have the levels that one process finds, not twice the correction."""
    found = {}
    for name, batch, start in (("two", 1, launch), ("one", 2, run_alone)):
        out = tmp_path / name
        words = ["finetune", "--data", str(EXAMPLES / "kick"), "--out", str(out), "--device", "cpu", "--demos", "0"]
        start("-m", "ddnb", *words, "--steps", "1", "--batch-size", str(batch))
        found[name] = weights(out)
    assert found["one"].keys() == found["two"].keys()
    for part in ("prior.log_levels", "tones.log_levels", "tones.log_residual"):
        assert torch.allclose(found["one"][part], found["two"][part], atol=0.05), part


def run_alone(*words):
    """Run Python in one process."""
    subprocess.run([sys.executable, *words], check=True)
