"""The command line, as a user meets it: files, messages and exit codes."""

import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from conftest import DATA

import ddnb
from ddnb.audio.io import CEILING_DBFS
from ddnb.cli.common import report_saved
from ddnb.cli.main import main
from ddnb.training.dataset import EXAMPLES

STATED = ["--sample-rate", "48000", "--frames", "4096"]
REFERENCE = ["--checkpoint", "SMALL", *STATED]
QUICK = ["--steps", "2", "--duration-s", "0.02"]


@pytest.fixture(autouse=True)
def reference(small):
    """Let the commands use the small network, whose file is written when the tests begin."""
    REFERENCE[1] = small.info["source"]


@pytest.mark.parametrize(
    ("options", "frames", "steps"), [(QUICK, 960, 2), pytest.param(["--steps", "4"], 4096, 4, marks=pytest.mark.slow)]
)
def test_eight_sounds_from_a_training_checkpoint(options, frames, steps, tmp_path, capsys):
    """The main job, in a process of its own, as the README has it."""
    command = [
        sys.executable,
        "-m",
        "ddnb",
        "generate",
        "--checkpoint",
        str(DATA / "lightning.ckpt"),
        *STATED,
        "-n",
        "8",
        "--seed",
        "0",
        "--out",
        str(tmp_path),
    ]
    run = subprocess.run([*command, *options], capture_output=True, text=True, timeout=240, check=False)
    assert run.returncode == 0, run.stderr
    wavs = sorted(tmp_path.glob("*.wav"))
    assert [p.name for p in wavs] == [f"lightning_seed{i}.wav" for i in range(8)]
    assert run.stdout.split() == [str(p) for p in wavs]
    for wav in wavs:
        info = soundfile.info(wav)
        assert (info.frames, info.samplerate, info.channels, info.subtype) == (frames, 48000, 2, "PCM_24")
        assert json.loads(wav.with_suffix(".json").read_text())["making"]["steps"] == steps
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
    assert {p.name for p in tmp_path.glob("*.wav")} == {"small_seed7.wav", "small_seed3.wav"}


def test_remake_makes_the_same_file(tmp_path, capsys):
    main(["generate", *REFERENCE, *QUICK, "-n", "1", "--out", str(tmp_path / "a")])
    record = str(tmp_path / "a" / "small_seed0.json")
    assert main(["remake", record, *REFERENCE[:2], "--out", str(tmp_path / "b")]) == 0
    first, second = (tmp_path / folder / "small_seed0.wav" for folder in "ab")
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
        assert main(["convert", str(DATA / "lightning.ckpt"), str(tmp_path / target), *STATED]) == 0
        out = str(tmp_path / f"sounds-{target}")
        assert main(["generate", "--checkpoint", str(tmp_path / target), *QUICK, "-n", "1", "--out", out]) == 0


def test_check_dataset_says_what_is_there_and_how_long_training_takes(capsys, monkeypatch):
    monkeypatch.setattr("ddnb.training.report.measure_step", lambda *_, **__: (1.5, 4))
    assert main(["check-dataset", str(EXAMPLES)]) == 0
    assert "12 sounds" in capsys.readouterr().out
    assert main(["check-dataset", str(EXAMPLES), "--checkpoint", "debug", "--device", "cpu"]) == 0
    printed = capsys.readouterr()
    assert "500 steps take about 12 min: 1.5 s each" in printed.out
    assert printed.err == "ddnb: Checked 12 sound files\n"


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
        (["remake", "missing.json"], "no record"),
        (["verify", "unknown"], "Unknown checkpoint"),
        (["check-dataset", "missing"], "no folder of sounds at missing"),
        (["check-dataset", "missing", "--checkpoint", "maestro-150k"], "no folder of sounds at missing"),
        (["check-dataset", str(DATA / "lightning.ckpt")], "no folder"),
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


@pytest.mark.slow
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
    # a shell lets what it starts in the background ignore the signal
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=heed)
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


def made(folder, *arguments):
    """Run a command that is to work; the WAV files that it names, in its folder."""
    assert main([*arguments, "--out", str(folder)]) == 0
    return sorted(folder.glob("*.wav"))


@pytest.fixture
def sound(tmp_path) -> Path:
    """A file at another rate than the network's, in stereo."""
    rng = np.random.default_rng(0)
    path = tmp_path / "my sound.wav"
    soundfile.write(path, 0.1 * rng.standard_normal((1500, 2)), 44_100)
    return path


def test_a_loop_at_a_tempo(tmp_path, capsys):
    paths = made(tmp_path, "generate", *REFERENCE, "--steps", "1", "-n", "1", "--loop", "--bpm", "900", "--bars", "2")
    assert [p.name for p in paths] == ["small_loop_900bpm_2bars_seed0.wav"]
    assert soundfile.info(paths[0]).frames == round(2 * 4 * 60 / 900 * 48000)
    assert "seam_db" in json.loads(paths[0].with_suffix(".json").read_text())["level"]


def test_a_pitch_shift_is_refused_where_nobody_can_be_asked(tmp_path, capsys):
    short = ["generate", *REFERENCE, "--steps", "1", "-n", "1", "--loop", "--duration-s", "0.0004"]
    assert main([*short, "--out", str(tmp_path / "out")]) == 2
    assert "cents off in pitch" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert len(made(tmp_path / "out", *short, "--max-cents", "400")) == 1


def test_a_pitch_shift_is_asked_about_at_a_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    short = ["generate", *REFERENCE, "--steps", "1", "-n", "1", "--loop", "--duration-s", "0.0004"]
    asked = []
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or "n")
    assert main([*short, "--out", str(tmp_path)]) == 2
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or "y")
    assert len(made(tmp_path, *short)) == 1
    assert len(asked) == 2 and "cents" in asked[0]


def test_vary_a_file_and_a_folder(sound, tmp_path, capsys):
    quick = [*REFERENCE, "--steps", "2", "--strength", "0.3"]
    paths = made(tmp_path / "one", "vary", str(sound), *quick, "-n", "2")
    assert [p.name for p in paths] == ["my-sound_vary_seed0.wav", "my-sound_vary_seed1.wav"]
    (tmp_path / "notes.wav").write_text("no sound at all")
    soundfile.write(tmp_path / "other.flac", 0.1 * np.ones(400), 8000)
    capsys.readouterr()
    paths = made(tmp_path / "all", "vary", str(tmp_path), *quick, "-n", "1")
    assert {"my-sound_vary_seed0.wav", "other_vary_seed0.wav"} <= {p.name for p in paths}
    assert "Skipped notes.wav" in capsys.readouterr().err


def test_interpolate_files_and_seeds(sound, tmp_path, capsys):
    quick = [*REFERENCE, "--steps", "2", "-n", "3"]
    assert len(made(tmp_path / "seeds", "interpolate", "3", "7", *quick, "--duration-s", "0.02")) == 3
    paths = made(tmp_path / "files", "interpolate", str(sound), str(sound), *quick, "--exact")
    assert [p.name for p in paths] == [f"my-sound_to_my-sound_{i}of3.wav" for i in (1, 2, 3)]
    assert "reproduces the ends within" in capsys.readouterr().err


def test_inpaint_and_extend_keep_the_format_of_the_file(sound, tmp_path, capsys):
    quick = [*REFERENCE, "--steps", "2", "-n", "1"]
    filled = made(tmp_path / "a", "inpaint", str(sound), "--gap", "0.01", "0.02", *quick)
    longer = made(tmp_path / "b", "extend", str(sound), "--duration-s", "0.05", "--backwards", *quick)
    for path, frames in ((filled[0], 1500), (longer[0], 2205)):
        info = soundfile.info(path)
        assert (info.frames, info.samplerate, info.channels) == (frames, 44_100, 2)


def test_a_beat_and_its_notes(sound, tmp_path, capsys):
    arguments = ["--pattern", "techno", "--bars", "1", "--steps", "1", "--sound", f"kick={sound}"]
    paths = made(tmp_path / "beat", "beat", *arguments)
    assert [p.name for p in paths] == ["techno_beat_130bpm_1bar_seed0.wav"] and paths[0].with_suffix(".mid").is_file()
    assert soundfile.info(paths[0]).frames == round(4 * 60 / 130 * 44100)
    again = made(tmp_path / "again", "remake", str(paths[0]), "--sounds", str(tmp_path))
    assert again[0].read_bytes() == paths[0].read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["vary", "missing.wav"], "no sound file at missing.wav"),
        (["vary", "SOUND", "--strength", "1.5"], "strength=1.5"),
        (["inpaint", "SOUND", "--gap", "0", "9"], "lasts 0.034 s"),
        (["inpaint", "SOUND", "--gap", "0", "0.03401360544"], "Nothing is left"),
        (["extend", "SOUND", "--duration-s", "0.01"], "duration_s=0.01"),
        (["interpolate", "SOUND", "12"], "A seed and a sound"),
        (["beat", "--pattern", "polka"], "Unknown pattern 'polka'. Known: techno"),
        (["beat", "--sound", "kick"], "TRACK=FILE"),
        (["generate", "--bpm", "5"], "from 20 to 999"),
        (["generate", "--bpm", "120", "--bars", "0"], "bars=0"),
        (["generate", "--bpm", "120", "--duration-s", "1"], "give one of them"),
        (["generate", "--start-on-onset"], "add loop=True"),
    ],
)
def test_bad_input_of_the_verbs(arguments, words, sound, tmp_path, capsys):
    """Exit code 2, a sentence, and nothing left behind."""
    arguments = [str(sound) if a == "SOUND" else a for a in arguments]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_beat_of_own_sounds_alone(sound, tmp_path, capsys):
    """Nothing is generated, so there is no progress to show."""
    own = [f"--sound={track}={sound}" for track in ddnb.list_patterns()["house"]["tracks"]]
    assert len(made(tmp_path / "own", "beat", "--pattern", "house", *own)) == 1


def test_an_interrupted_beat_ends_quietly(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("ddnb.generation.beat.generate", lambda *_, **__: [])
    assert main(["beat", "--out", str(tmp_path)]) == 130
    assert "stopped after 0 of" in capsys.readouterr().err


def test_notes_and_keys(tmp_path, capsys):
    quick = ["--steps", "2", "--duration-s", "0.1"]
    (wav,) = made(tmp_path / "a", "generate", "--category", "bass", "--note", "A1", "-n", "1", *quick)
    assert wav.name == "bass_A1_drums_seed0.wav"
    every = made(tmp_path / "b", "generate", "--key", "C major", "-n", "4", *quick)
    assert {wav.name.split("_")[0] for wav in every} == {"kick", "tom", "bass", "synth"}, "those with a pitch"
    assert not any("s" in wav.name.split("_")[1] for wav in every), "no sharps in C major"
    keys = made(tmp_path / "c", "keybed", "--category", "synth", "--low", "C4", "--high", "G4", "--step", "4", *quick)
    assert sorted(wav.name.split("_")[1] for wav in keys) == ["C4", "E4"]
    capsys.readouterr()
    for wrong in (["--note", "H9"], ["--note", "5 Hz"], ["--key", "H minor"], ["--category", "snare", "--note", "A1"]):
        assert main(["generate", *wrong, *quick, "--out", str(tmp_path / "d")]) == 2
        assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


def test_version_is_printed(capsys):
    """The first thing that is asked in a report of a fault."""
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0 and re.fullmatch(r"ddnb \S+\n", capsys.readouterr().out)


@pytest.mark.parametrize(("option", "value"), [("--sample-rate", "48000"), ("--frames", "1000")])
def test_a_format_that_contradicts_the_network_is_refused(option, value, tmp_path, caplog):
    """Sounds at another pitch and speed, where another output rate was meant."""
    arguments = ["generate", "-n", "1", "--steps", "1", "--out", str(tmp_path), option, value]
    assert main(arguments) == 2
    assert "drums states" in caplog.text and "--to-rate 48000" in caplog.text
    assert not list(tmp_path.glob("*.wav"))


def test_finetune_at_another_rate_than_that_of_the_network_is_refused(tmp_path, caplog):
    """It trained a network that played everything at another pitch, and only warned."""
    data = str(DATA.parents[1] / "ddnb" / "assets" / "one-shots")
    arguments = ["finetune", "--data", data, "--out", str(tmp_path / "run"), "--steps", "1", "--sample-rate", "48000"]
    assert main(arguments) == 2
    assert "drums states sample_rate=44100: leave --sample-rate and --frames out." in caplog.text
    assert "--to-rate" not in caplog.text and not (tmp_path / "run").exists()


def test_any_category_and_another_one(tmp_path, caplog):
    """It was an unknown category, where it was known alone."""
    arguments = ["generate", "-n", "1", "--category", "kick", "--category", "any", "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert "--category any means none in particular: give it alone, or only kick." in caplog.text


def test_pack_of_sounds_without_records_says_what_that_costs(tmp_path, caplog):
    """A pack that cannot be remade looked like any other."""
    clips = ddnb.generate(ddnb.load("debug"), 2, steps=1, duration_s=0.05)
    one, other = clips.save(tmp_path)
    other.with_suffix(".json").unlink()
    assert main(["pack", str(one), str(other), "--out", str(tmp_path / "kit.zip")]) == 0
    assert f"1 sound without a record cannot be made again; keep the WAV or FLAC files: {other.stem}" in caplog.text
    with zipfile.ZipFile(tmp_path / "kit.zip") as archive:
        (readme,) = (name for name in archive.namelist() if name.endswith("README.txt"))
        text = " ".join(archive.read(readme).decode().split())
    assert "1 sound without a record cannot be made again; keep the WAV or FLAC files:" in text


@pytest.mark.parametrize(("over_db", "said"), [(0.01, False), (0.5, True)])
def test_a_sound_lowered_by_nothing_audible_is_not_reported(over_db, said, caplog, capsys):
    """Each of eight resampled sounds "was lowered by 0.0 dB"."""
    caplog.set_level("INFO", logger="ddnb")
    audio = np.full((1, 100), 10 ** ((CEILING_DBFS + over_db) / 20), dtype=np.float32)
    report_saved(Path("x.wav"), SimpleNamespace(name="x", audio=audio, seam_db=None), "16")
    assert ("was lowered by" in caplog.text) == said


def test_finetune_interrupted_outside_a_step_says_how_to_go_on(tmp_path, caplog, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    (tmp_path / "sounds").mkdir()
    monkeypatch.setattr("ddnb.cli.training.finetune", interrupted)
    arguments = ["finetune", "--scratch", "tiny", "--data", str(tmp_path / "sounds"), "--out", str(tmp_path / "run")]
    assert main(arguments) == 130
    assert "interrupted; repeat the same command to resume" in caplog.text


@pytest.mark.parametrize(
    "command", ["generate", "vary", "inpaint", "interpolate", "extend", "beat", "keybed", "remake"]
)
def test_help_of_the_commands_does_not_speak_of_python(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert not re.findall(r"ckpt\.|None|\{'|SAMPLERS|schedule\.", capsys.readouterr().out)
