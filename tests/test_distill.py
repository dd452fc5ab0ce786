"""Distillation: a student follows its teacher's paths in a few calls, and is used as any checkpoint."""

import json
import math

import pytest
import torch
from training_runs import FRAMES, SAMPLE_RATE, same, tiny, weights

import ddnb
from ddnb.checkpoints.formats import read_weights, write_safetensors
from ddnb.cli.main import main
from ddnb.sampler import ddim
from ddnb.training.config import DistillConfig
from ddnb.training.distill import Distiller, Paths, path_grid

SETTINGS = {"calls": 3, "batch_size": 2, "demos": 0, "seed": 1}


def distill(ckpt, out, **settings):
    """Run a distillation to its end; return the student."""
    steps = list(ddnb.distill(ckpt, out, **(SETTINGS | settings)))
    return ddnb.load(out, device="cpu"), steps


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    """A student of the tiny network after four steps."""
    return distill(tiny(), tmp_path_factory.mktemp("student") / "run", steps=4)[0]


@pytest.mark.parametrize("calls", [2, 6, 16])
def test_a_path_falls_from_noise_to_sound_in_as_many_segments_as_calls(calls):
    times, ends = path_grid(calls)
    assert times[0] == 1 and times[-1] == 0 and (times.diff() < 0).all()
    assert len(ends) == len(times) - 1 and all(i < end <= i + 4 for i, end in enumerate(ends))
    assert len(path_grid(calls).student) == calls + 1


def test_a_perfect_student_has_no_loss_and_reaches_the_end_of_the_path():
    """The target of a point takes it to the end of its segment in one DDIM step: with another sign it would not."""
    learner = Distiller(tiny(), DistillConfig(**SETTINGS))
    paths, (times, ends) = learner._follow([5]), learner.grid
    at = {float(t): i for i, t in enumerate(times.float())}

    def exact(x, t):
        i = at[float(t[0])]
        d = float(times[i] - times[ends[i]]) * math.pi / 2
        return (math.cos(d) * paths.states[:1, i] - paths.states[:1, ends[i]]) / math.sin(d)

    points = torch.arange(len(ends))
    states = Paths(paths.states, None)
    for some in points.split(1):
        loss = learner._loss(lambda x, t, cond, circular: exact(x, t), states, torch.zeros(1, dtype=int), some)
        assert loss < 1e-6  # rounding where a step is small
    made = ddim(exact, paths.states[:1, 0], torch.tensor(learner.grid.student, dtype=torch.float64))
    assert torch.allclose(made, paths.states[:1, -1], atol=1e-4)


def test_the_path_is_the_teachers_own_sound():
    """The end of a path is what the teacher generates on these times from the same seed."""
    teacher = ddnb.load("drums", device="cpu")
    learner = Distiller(teacher, DistillConfig(**SETTINGS))
    sampling = learner._sampling(7)
    states, _ = learner._path(7)
    assert len(states) == len(learner.grid.times) and torch.isfinite(states).all()
    if sampling.shares:
        clips = ddnb.generate(teacher, seed=[7], category=sampling.shares, level="network", steps=25)
        made, audio = states[-1], torch.from_numpy(clips.audio[0])
        assert (made - audio[..., : made.shape[-1]]).square().mean() < 0.05 * audio.square().mean()


def test_training_brings_the_student_nearer(tmp_path):
    _, steps = distill(tiny(), tmp_path / "run", steps=60, learning_rate=2e-3, validate_every=60, ema_decay=0.9)
    losses = [step.validation_loss for step in steps if step.validation_loss is not None]
    assert losses[-1] < 0.9 * losses[0]


def test_a_resumed_run_ends_with_the_same_weights(tmp_path):
    distill(tiny(), tmp_path / "whole", steps=6)
    for step in ddnb.distill(tiny(), tmp_path / "cut", **SETTINGS, steps=6):
        if step.step == 3:
            break
    distill(tiny(), tmp_path / "cut", steps=6)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


def test_a_student_generates_in_its_own_calls_and_its_sounds_are_remade(student, tmp_path, monkeypatch):
    calls, call = [], type(student).__call__
    monkeypatch.setattr(
        type(student), "__call__", lambda self, x, t, *more: calls.append(len(x)) or call(self, x, t, *more)
    )
    clips = ddnb.generate(student, 1, duration_s=FRAMES / SAMPLE_RATE, level="network")
    assert len(calls) == student.default_steps == 3
    assert clips[0].settings["making"]["grid"] == "student"
    again = ddnb.remake(clips[0].save(tmp_path).with_suffix(".json"), student)
    assert (again[0].audio == clips[0].audio).all()
    done = []
    ddnb.vary(student, clips[0], 0.3, 1, on_step=lambda n, total, _: done.append((n, total)))
    assert done[-1][0] == done[-1][1] < 3


@pytest.mark.parametrize(
    ("work", "named"),
    [
        (lambda ckpt, out: ddnb.generate(ckpt, 1, steps=7), "steps"),
        (lambda ckpt, out: ddnb.generate(ckpt, 1, sampler="dpmpp_3m"), "sampler"),
        (lambda ckpt, out: ddnb.generate(ckpt, 1, grid="karras"), "grid"),
        (lambda ckpt, out: ddnb.interpolate(ckpt, 1, 2), "interpolate with tiny"),
        (lambda ckpt, out: ddnb.blend(tiny(), ckpt), "blend with tiny"),
        (lambda ckpt, out: next(ddnb.finetune(ckpt, out, out / "run")), "fine-tune with tiny"),
        (lambda ckpt, out: next(ddnb.distill(ckpt, out / "run")), "distill again with tiny"),
    ],
    ids=["steps", "sampler", "grid", "interpolate", "blend", "finetune", "distill"],
)
def test_what_a_student_cannot_do_is_said(student, work, named, tmp_path):
    with pytest.raises(ddnb.ArgumentError, match=named):
        work(student, tmp_path)


def test_guidance_is_built_in(tmp_path):
    with pytest.raises(ddnb.ArgumentError, match="no categories to follow"):
        next(ddnb.distill(tiny(), tmp_path / "run", guidance_scale=2.0))


@pytest.mark.parametrize(
    "times",
    [[1, 0.5, 0.5, 0], [1, 0.2], [0, 1], [1, float("nan"), 0], [1, "a", 0], [1] + [0.5] * 200 + [0], 5, [True, 0]],
)
def test_times_that_no_student_has_are_no_fact_of_a_file(student, times, tmp_path):
    """A stranger's file would choose the number of calls, or break the sampler."""
    file = tmp_path / "x.safetensors"
    facts = {k: v for k, v in student.info.items() if k != "source"} | {
        "student": {"times": times, "guidance_scale": 1.0}
    }
    write_safetensors(file, student.net.state_dict(), facts)
    assert "student" not in read_weights(file)[1]


def test_the_command_trains_and_resumes(tmp_path, capsys):
    file = ddnb.convert("debug", tmp_path / "teacher.safetensors")
    words = ["distill", "--checkpoint", str(file), "--out", str(tmp_path / "run"), "--device", "cpu", "--calls", "2"]
    words += ["--batch-size", "1", "--demos", "0", "--ema-decay", "0.5"]
    assert main([*words, "--steps", "1"]) == 0
    assert main([*words, "--steps", "2"]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "run" / "last.safetensors")] * 2
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["recipe"]["calls"] == 2
    assert ddnb.load(tmp_path / "run").default_steps == 2
