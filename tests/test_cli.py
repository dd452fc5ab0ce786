"""The command line, as a user meets it: files, messages and exit codes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import soundfile
from conftest import DATA

import ddnb
from ddnb.__main__ import main
from ddnb.dataset import EXAMPLES

REFERENCE = ["--checkpoint", str(DATA / "lightning.ckpt"), "--sample-rate", "48000", "--frames", "4096"]
QUICK = ["--steps", "2", "--duration-s", "0.02"]


def test_eight_sounds_from_a_training_checkpoint(tmp_path, capsys):
    """The main job, in a process of its own, as the README has it."""
    command = [sys.executable, "-m", "ddnb", "generate", *REFERENCE, "-n", "8", "--seed", "0", "--out", str(tmp_path)]
    run = subprocess.run([*command, "--steps", "4"], capture_output=True, text=True, timeout=240, check=False)
    assert run.returncode == 0, run.stderr
    wavs = sorted(tmp_path.glob("*.wav"))
    assert [p.name for p in wavs] == [f"lightning_seed{i}.wav" for i in range(8)]
    assert run.stdout.split() == [str(p) for p in wavs]
    for wav in wavs:
        info = soundfile.info(wav)
        assert (info.frames, info.samplerate, info.channels, info.subtype) == (4096, 48000, 2, "PCM_24")
        assert json.loads(wav.with_suffix(".json").read_text())["making"]["steps"] == 4
    assert "float32" in run.stderr  # says where it runs and why


def test_debug_says_that_it_is_noise(tmp_path, capsys):
    assert main(["generate", "--checkpoint", "debug", "-n", "1", *QUICK, "--out", str(tmp_path)]) == 0
    assert "untrained" in capsys.readouterr().err


def test_by_default_every_category_of_the_built_in_checkpoint(tmp_path, capsys):
    assert main(["generate", "--steps", "2", "--out", str(tmp_path)]) == 0
    output = capsys.readouterr()
    paths = output.out.split()
    assert sorted(paths) == sorted(str(p) for p in tmp_path.glob("*.wav"))
    records = [json.loads(Path(p).with_suffix(".json").read_text()) for p in paths]
    assert [r["making"]["seed"] for r in records] == list(range(16))
    made = Counter(name for r in records for name in r["making"]["category"])
    assert set(made) == set(ddnb.load("drums", device="cpu").categories) and set(made.values()) == {1, 2}
    assert "contact-sheet.png" in output.err and (tmp_path / "contact-sheet.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(("category", "name"), [("snare", "snare_drums_seed3"), ("any", "drums_seed3")])
def test_one_category_or_any(category, name, tmp_path, capsys):
    arguments = ["--seed", "3", "-n", "1", "--width", "0.5", "--category", category, "--out", str(tmp_path)]
    assert main(["generate", *QUICK, *arguments]) == 0
    assert [p.name for p in tmp_path.glob("*.wav")] == [f"{name}.wav"]
    assert soundfile.info(tmp_path / f"{name}.wav").channels == 2
    assert not list(tmp_path.glob("*.png"))


def test_seeds_can_be_listed(tmp_path, capsys):
    assert main(["generate", *REFERENCE, *QUICK, "--seed", "7", "3", "--bits", "16", "--out", str(tmp_path)]) == 0
    assert {p.name for p in tmp_path.glob("*.wav")} == {"lightning_seed7.wav", "lightning_seed3.wav"}


def test_remake_makes_the_same_file(tmp_path, capsys):
    main(["generate", *REFERENCE, *QUICK, "-n", "1", "--out", str(tmp_path / "a")])
    record = str(tmp_path / "a" / "lightning_seed0.json")
    assert main(["remake", record, *REFERENCE[:2], "--out", str(tmp_path / "b")]) == 0
    first, second = (tmp_path / folder / "lightning_seed0.wav" for folder in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_remake_keeps_the_bits_of_the_record(tmp_path, capsys):
    main(["generate", "--checkpoint", "debug", *QUICK, "-n", "1", "--bits", "16", "--out", str(tmp_path / "a")])
    assert main(["remake", str(tmp_path / "a" / "debug_seed0.wav"), "--out", str(tmp_path / "b")]) == 0
    assert (tmp_path / "a/debug_seed0.wav").read_bytes() == (tmp_path / "b/debug_seed0.wav").read_bytes()


def test_checkpoints_lists_every_name(capsys):
    assert main(["checkpoints"]) == 0
    printed = capsys.readouterr().out
    for name in ("glitch-440k", "jmann-small-190k", "jmann-large-580k", "maestro-150k", "unlocked-250k", "honk-140k"):
        assert name in printed


def test_convert_and_generate_from_the_result(tmp_path, capsys):
    for target in ("out.safetensors", "out.ckpt", "folder"):
        assert main(["convert", str(DATA / "lightning.ckpt"), str(tmp_path / target), *REFERENCE[2:]]) == 0
        out = str(tmp_path / f"sounds-{target}")
        assert main(["generate", "--checkpoint", str(tmp_path / target), *QUICK, "-n", "1", "--out", out]) == 0


def test_check_dataset_says_what_is_there_and_how_long_training_takes(capsys, monkeypatch):
    monkeypatch.setattr("ddnb.training.seconds_per_step", lambda *_, **__: (1.5, 4))
    assert main(["check-dataset", str(EXAMPLES)]) == 0
    assert "12 sounds" in capsys.readouterr().out
    assert main(["check-dataset", str(EXAMPLES), "--checkpoint", "debug", "--device", "cpu"]) == 0
    printed = capsys.readouterr()
    assert "500 steps take about 12 min: 1.5 s each" in printed.out
    assert printed.err == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "--checkpoint", "glich-440k"], "Did you mean 'glitch-440k'"),
        (["generate", "--checkpoint", "missing.ckpt"], "No checkpoint at missing.ckpt"),
        (["generate", "--checkpoint", str(DATA / "lightning.ckpt")], "--sample-rate 48000 --frames 65536"),
        (["generate", "--checkpoint", __file__], "not a checkpoint"),
        (["generate", "--steps", "0"], "steps=0"),
        (["generate", "--duration-s", "-1"], "duration_s=-1"),
        (["generate", "--duration-s", "36000"], "up to 60"),
        (["generate", "--device", "cuda:9"], "not available"),
        (["generate", "-n", "0"], "n=0"),
        (["remake", "missing.json"], "No record"),
        (["verify", "unknown"], "Unknown checkpoint"),
        (["check-dataset", "missing"], "No folder of sounds at missing"),
        (["check-dataset", "missing", "--checkpoint", "maestro-150k"], "No folder of sounds at missing"),
        (["check-dataset", str(DATA / "lightning.ckpt")], "No folder"),
        (["check-dataset", "."], "holds no sound files"),
        (["convert", str(DATA / "lightning.ckpt"), "x.onnx"], ".safetensors or .ckpt"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not list(tmp_path.rglob("*.wav")) and not list(tmp_path.rglob("*.json"))


def test_unknown_choices_are_refused_before_any_download(capsys):
    for option, known in (("--sampler", "v-iplms"), ("--grid", "karras")):
        with pytest.raises(SystemExit) as stopped:
            main(["generate", "--checkpoint", "maestro-150k", option, "other"])
        assert stopped.value.code == 2
        assert known in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_said_before_the_work(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert main(["generate", "--out", str(tmp_path / "file" / "sounds")]) == 2
    error = capsys.readouterr().err
    assert "not a folder that can be written to" in error


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_ctrl_c_keeps_the_finished_sounds(tmp_path):
    command = [
        sys.executable,
        "-m",
        "ddnb",
        "generate",
        *REFERENCE,
        "-n",
        "500",
        "--steps",
        "2",
        "--out",
        str(tmp_path),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("*.json")):  # sounds are on the disk as soon as they are finished
        time.sleep(0.1)
        assert process.poll() is None, process.communicate()
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "Traceback" not in error
    wavs = sorted(tmp_path.glob("*.wav"))
    assert 0 < len(wavs) < 500
    assert all(soundfile.info(wav).frames == 4096 for wav in wavs)
    assert len(out.split()) == len(wavs) == len(list(tmp_path.glob("*.json")))
