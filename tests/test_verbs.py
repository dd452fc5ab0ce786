"""Generate, save, remake."""

import json
import math
import threading

import numpy as np
import pytest
import soundfile
import torch
from conftest import DATA, FORMAT

import ddnb
from ddnb.clips.clip import Clip
from ddnb.clips.provenance import Provenance, _public_source
from ddnb.sampler import SAMPLERS
from ddnb.steps import seeded_noise


@pytest.fixture(scope="module")
def ckpt(small):
    return small


def generate(ckpt, *args, **kwargs):
    return ddnb.generate(ckpt, *args, **({"steps": 4, "duration_s": 0.01} | kwargs))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_clips_made_in_one_tensor_do_not_mix(sampler, ckpt):
    """Rounding differs with the batch; noise or history taken from a neighbour would differ by 1.

    The first step of v-iplms and of its like divides by a rounding error, and so makes more of it.
    """
    together = generate(ckpt, seed=[5, 7, 9], batch_size=3, sampler=sampler)
    alone = generate(ckpt, seed=[7], sampler=sampler)
    tolerance = 0.2 if sampler == "v-iplms" else 1e-3
    np.testing.assert_allclose(together.audio[1], alone.audio[0], atol=tolerance)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_seed_sounds_the_same_alone_and_among_others(sampler, ckpt):
    """Bitwise on a CPU. Samplers that draw noise on the way must draw it per clip as well."""
    together = generate(ckpt, 8, seed=0, sampler=sampler)
    alone = generate(ckpt, 1, seed=7, sampler=sampler)
    np.testing.assert_array_equal(together.audio[7], alone.audio[0])
    assert together.seeds == list(range(8))


def test_seeds_make_different_sounds(ckpt):
    clips = generate(ckpt, 3)
    assert np.abs(clips.audio[0] - clips.audio[1]).max() > 0.01


@pytest.mark.parametrize("frames", [1, 23, 24, 100, 4096, 5001])
def test_any_length_comes_out_exactly(frames, ckpt):
    clips = generate(ckpt, 1, duration_s=frames / ckpt.sample_rate)
    assert clips.audio.shape == (1, 2, frames)
    assert clips.audio.dtype == np.float32


def test_the_length_of_training_is_the_default(ckpt):
    assert ddnb.generate(ckpt, 1, steps=1).audio.shape == (1, 2, 4096)


def test_default_is_the_sampler_by_hand(ckpt):
    from ddnb.sampler import iplms
    from ddnb.schedule import time_grid

    ours = ddnb.generate(ckpt, 1, seed=3, duration_s=512 / 48000, steps=12, level="network").audio
    by_hand = iplms(ckpt, seeded_noise([3], (2, 512)), time_grid("log_snr", 12))
    np.testing.assert_array_equal(ours, by_hand.numpy())


def test_progress_counts_over_the_whole_call(ckpt):
    seen = []
    generate(ckpt, 3, on_step=lambda done, total, denoised: seen.append((done, total)))
    assert seen == [(i, 12) for i in range(1, 13)]


@pytest.mark.filterwarnings("ignore:interrupted")
@pytest.mark.parametrize("how", ["cancel", "interrupt"])
def test_stopping_keeps_the_finished_clips(how, ckpt):
    cancel = threading.Event()

    def stop(done, total, denoised):
        if done == 10:  # in the third clip
            cancel.set()
            if how == "interrupt":
                raise KeyboardInterrupt

    clips = generate(ckpt, 5, on_step=stop, cancel=cancel)
    assert len(clips) == 2
    assert clips.seeds == [0, 1]
    assert clips.settings["making"]["asked"] == 5
    np.testing.assert_array_equal(clips.audio, generate(ckpt, 2).audio)


def test_stopping_before_the_first_clip_gives_none(ckpt):
    cancel = threading.Event()
    cancel.set()
    clips = generate(ckpt, 5, cancel=cancel)
    assert len(clips) == 0
    assert clips.save("unused") == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n": 0}, "n=0"),
        ({"n": -3}, "n=-3"),
        ({"n": 10**6}, "1 to 10000"),
        ({"seed": -1}, "2\\*\\*63"),
        ({"seed": 2**63}, "2\\*\\*63"),
        ({"seed": []}, "one seed per clip"),
        ({"n": 3, "seed": [1, 2]}, "2 seeds for n=3"),
        ({"n": 2.0}, "n=2.0: give a whole number"),
        ({"seed": "42"}, "whole number"),
        ({"seed": [1.7]}, "seed=1.7: give a whole number"),
        ({"steps": 2.5}, "steps=2.5"),
        ({"duration_s": "1"}, "duration_s='1'"),
        ({"batch_size": 2.0}, "batch_size=2.0"),
        ({"steps": 0}, "steps=0"),
        ({"steps": -5}, "steps=-5"),
        ({"duration_s": 0}, "above 0"),
        ({"duration_s": -1.0}, "above 0"),
        ({"duration_s": 36_000}, "up to 60"),
        ({"duration_s": math.nan}, "above 0"),
        ({"duration_s": math.inf}, "up to 60"),
        ({"sampler": "euler"}, "Known: iplms"),
        ({"grid": "cosine"}, "Known: log_snr"),
        ({"batch_size": 0}, "batch_size=0"),
    ],
)
def test_numbers_out_of_range_are_refused(wrong, message, ckpt):
    with pytest.raises(ValueError, match=message):
        generate(ckpt, **wrong)


def test_output_that_is_not_finite_is_an_error_not_a_click(ckpt):
    class Broken:
        def __getattr__(self, name):
            return getattr(ckpt, name)

        def __call__(self, x, t, cond=None):
            return torch.full_like(x, torch.nan)

    with pytest.raises(FloatingPointError, match="not finite.*damaged"):
        generate(Broken(), 1)


def test_an_error_in_a_later_clip_keeps_the_earlier_ones(ckpt):
    """Half precision may overflow in clip 9 of 10: the eight before it were paid for."""

    class Fails:
        calls = 0

        def __getattr__(self, name):
            return getattr(ckpt, name)

        def __call__(self, x, t, cond=None):
            self.calls += 1
            return torch.full_like(x, torch.nan) if self.calls > 8 else ckpt(x, t)

    with pytest.warns(UserWarning, match="after 2 of 5 clips.*not finite"):
        clips = generate(Fails(), 5)
    np.testing.assert_array_equal(clips.audio, generate(ckpt, 2).audio)


def test_clips_are_a_sequence(ckpt):
    clips = generate(ckpt, 4)
    assert [clip.seed for clip in clips] == [0, 1, 2, 3]
    np.testing.assert_array_equal(clips[3].audio, clips.audio[3])
    assert clips[1:3].seeds == [1, 2]
    assert clips[3].duration_s == pytest.approx(0.01)
    assert "4 clips of 0.01 s at 48000 Hz" in repr(clips)
    with pytest.raises(IndexError):
        clips[4]


# --- saving and making again ----------------------------------------------------------------------------------


def test_saved_files_and_their_records_agree(ckpt, tmp_path):
    clips = generate(ckpt, 2)
    paths = clips.save(tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["small_seed0.wav", "small_seed1.wav"]
    for clip, path in zip(clips, paths, strict=True):
        record = json.loads(path.with_suffix(".json").read_text())
        sound, rate = soundfile.read(path)
        gain = 10 ** (record["level"]["gain_db"] / 20)
        np.testing.assert_allclose(sound.T, clip.audio * gain, atol=1e-6)
        assert rate == record["file"]["sample_rate"] == 48000
        assert record["file"]["sha256"] == __import__("hashlib").sha256(path.read_bytes()).hexdigest()
        assert record["making"]["seed"] == clip.seed
        assert str(DATA) not in json.dumps(record)  # nobody's folders travel with a sound


def test_saving_twice_overwrites_nothing(ckpt, tmp_path):
    clip = generate(ckpt, 1)[0]
    first, second, third = (clip.save(tmp_path) for _ in range(3))
    assert [p.name for p in (first, second, third)] == [
        "small_seed0.wav",
        "small_seed0-2.wav",
        "small_seed0-3.wav",
    ]
    assert len(list(tmp_path.glob("*.json"))) == 3


@pytest.mark.parametrize("sampler", ["iplms", "dpmpp_2m_sde", "v-iplms"])
def test_a_clip_is_made_again_from_its_record(sampler, ckpt, tmp_path):
    clips = generate(ckpt, 3, seed=11, sampler=sampler, duration_s=0.0123)
    path = clips[2].save(tmp_path)
    for record in (path, path.with_suffix(".json"), json.loads(path.with_suffix(".json").read_text())):
        again = ddnb.remake(record, ckpt)
        np.testing.assert_array_equal(again.audio[0], clips.audio[2])


def test_a_clip_of_a_known_checkpoint_needs_nothing_but_its_record(tmp_path):
    clips = ddnb.generate(ddnb.load("debug"), 1, seed=5, steps=1, duration_s=0.05)
    np.testing.assert_array_equal(ddnb.remake(clips.save(tmp_path)[0]).audio, clips.audio)


def test_a_record_without_its_sound_is_kept(ckpt, tmp_path):
    """The WAV was converted to MP3 and deleted: its record is the only way back to it."""
    clip = generate(ckpt, 1)[0]
    first = clip.save(tmp_path)
    record = first.with_suffix(".json").read_bytes()
    first.unlink()
    assert clip.save(tmp_path).name == "small_seed0-2.wav"
    assert first.with_suffix(".json").read_bytes() == record


def test_two_that_save_at_once_get_two_names(ckpt, tmp_path):
    clip = generate(ckpt, 1)[0]
    paths = []
    threads = [threading.Thread(target=lambda: paths.append(clip.save(tmp_path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(paths)) == len(list(tmp_path.glob("*.wav"))) == len(list(tmp_path.glob("*.json"))) == 8


def test_a_file_name_is_no_folder(ckpt, tmp_path):
    with pytest.raises(ValueError, match=r"kick\.wav is not a folder.*small_seed0\.wav"):
        generate(ckpt, 1)[0].save(tmp_path / "kick.wav")
    with pytest.raises(TypeError, match=r"ddnb\.load\('debug'\)"):
        ddnb.generate("debug")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_save_leaves_nothing(ckpt, tmp_path):
    with pytest.raises(ValueError, match="known are"):
        generate(ckpt, 1)[0].save(tmp_path, bits="32")
    assert list(tmp_path.iterdir()) == []


def test_remake_computes_as_the_record_says(tmp_path):
    """In float16 the samples are others: a record of a float16 sound must be remade in float16."""
    half = ddnb.load(DATA / "lightning.ckpt", dtype="float16", **FORMAT)
    clips = generate(half, 1)
    path = clips.save(tmp_path)[0]
    np.testing.assert_array_equal(ddnb.remake(path, DATA / "lightning.ckpt").audio, clips.audio)
    with pytest.warns(UserWarning, match="float16.*float32: not exact"):
        ddnb.remake(path, ddnb.load(DATA / "lightning.ckpt", **FORMAT))


@pytest.mark.parametrize("device", [None, "cuda:63", "abacus"])
def test_a_record_of_another_machine_is_remade_on_this_one(device, ckpt, tmp_path):
    clips = generate(ckpt, 1)
    record = json.loads(clips.save(tmp_path)[0].with_suffix(".json").read_text())
    record["machine"]["device"] = device
    with pytest.warns(UserWarning, match="now on cpu"):
        again = ddnb.remake(record, ckpt.info["source"])
    np.testing.assert_array_equal(again.audio, clips.audio)


def test_a_converted_checkpoint_is_its_own_source(tmp_path):
    target = ddnb.convert(DATA / "lightning.ckpt", tmp_path / "mine.safetensors", dtype="float16", **FORMAT)
    clips = generate(ddnb.load(target), 1)
    assert clips.settings["model"]["source"] == "mine.safetensors"
    assert clips.settings["model"]["converted_from"] == "lightning.ckpt"
    np.testing.assert_array_equal(ddnb.remake(clips.save(tmp_path)[0], target).audio, clips.audio)


@pytest.mark.parametrize(
    ("source", "public"),
    [
        ("~/private/hh.ckpt", "hh.ckpt"),
        ("/home/me/hh.ckpt", "hh.ckpt"),
        ("https://host/hh.ckpt?token=secret", "https://host/hh.ckpt"),
        ("hf:owner/name", "hf:owner/name"),
        ("maestro-150k", "maestro-150k"),
    ],
)
def test_no_folder_and_no_token_travels_with_a_sound(source, public):
    assert _public_source(source) == public


def test_remake_refuses_other_weights_and_other_files(ckpt, tmp_path):
    path = generate(ckpt, 1)[0].save(tmp_path)
    with pytest.raises(ValueError, match="other weights"):
        ddnb.remake(path, ddnb.load("debug"))
    with pytest.raises(ddnb.CheckpointError, match=r"made with small\.safetensors; say where"):
        ddnb.remake(path)
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(ValueError, match="not a JSON record"):
        ddnb.remake(tmp_path / "x.json")
    for other in ("[]", "{}", '{"making": {}, "model": 3}'):
        (tmp_path / "x.json").write_text(other)
        with pytest.raises(ValueError, match="not a record"):
            ddnb.remake(tmp_path / "x.json")
    with pytest.raises(FileNotFoundError, match="no record"):
        ddnb.remake(tmp_path / "missing.wav")


@pytest.mark.parametrize(
    ("sampler", "steps", "grid"), [("iplms", 9, "karras"), ("iplms", 10, "log_snr"), ("v-ddim", 50, "crash")]
)
def test_the_grid_follows_the_sampler_and_the_steps(sampler, steps, grid, ckpt):
    clips = generate(ckpt, 1, sampler=sampler, steps=steps)
    assert clips.settings["making"]["grid"] == grid


def test_file_names_are_safe_whatever_the_checkpoint_is_called(ckpt):
    clip = generate(ckpt, 1)[0]
    settings = clip.settings | {"model": clip.settings["model"] | {"name": "../../etc/pass wd\\:*?<é>" + "x" * 300}}
    name = Clip(clip.audio, clip.sample_rate, 7, Provenance.from_dict(settings)).name
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
    assert len(name) < 120
