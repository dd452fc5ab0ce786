"""Copies are found however they were altered, others are not, and no file is read twice."""

import io
import threading

import numpy as np
import pytest
import soundfile
import torch

import ddnb
from ddnb.cli.main import main
from ddnb.clips.clip import Clip, Clips
from ddnb.clips.provenance import Provenance
from ddnb.errors import Cancelled
from ddnb.similarity import features, index
from ddnb.similarity.check import NEAREST_THRESHOLD, WIDEST_THRESHOLD, originality, threshold_of
from ddnb.similarity.report import NO_COPY

RATE = 24_000


def drum(seed, seconds=0.6):
    """A gliding tone and a hiss, each decaying: no two seeds are alike."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    hz = np.exp(rng.uniform(np.log(50), np.log(3000))) * (1 + rng.uniform(0, 2) * np.exp(-t * rng.uniform(5, 60)))
    tone = np.sin(2 * np.pi * np.cumsum(hz) / RATE) * np.exp(-t * rng.uniform(5, 30))
    hiss = rng.standard_normal(len(t)) * np.exp(-t * rng.uniform(5, 50)) * rng.uniform(0, 0.5)
    return (0.7 * (tone + hiss) / np.abs(tone + hiss).max()).astype(np.float32)


def music(seed, seconds, struck=0.17):
    """Drums one upon another, a new one every ``struck`` seconds, over a drone."""
    rng = np.random.default_rng([seed, 1])
    out = 0.05 * np.sin(2 * np.pi * rng.uniform(80, 300) * np.arange(int(seconds * RATE)) / RATE)
    for k, start in enumerate(range(0, len(out), int(struck * RATE))):
        hit = drum([seed, k], rng.uniform(0.2, 0.6))[: len(out) - start]
        out[start : start + len(hit)] += hit
    return (0.7 * out / np.abs(out).max()).astype(np.float32)


def as_mp3(x):
    buffer = io.BytesIO()
    soundfile.write(buffer, x, RATE, format="MP3")
    buffer.seek(0)
    return soundfile.read(buffer, dtype="float32")[0]


def noisy(x):
    return x + 0.05 * x.std() * np.random.default_rng(0).standard_normal(len(x)).astype(np.float32)


CHANGES = {
    "as it is": lambda x: x,
    "later": lambda x: np.pad(x, (RATE // 100, 0)),
    "much later": lambda x: np.pad(x, (RATE, 0)),
    "lower": lambda x: x / 2,
    "inverted": lambda x: -x,
    "noisy": noisy,
    "mp3": as_mp3,
    "16 bits": lambda x: np.round(x / 2 * 32767) / 32767,
    "followed by silence": lambda x: np.pad(x, (0, RATE)),
    "all at once": lambda x: np.round(as_mp3(noisy(-np.pad(x, (RATE // 100, 0)) / 2)) * 32767) / 32767,
}


def given(x):
    return np.asarray(x, np.float32), RATE


def clip(audio, loop=False):
    settings = {"making": {"verb": "generate", "loop": loop}, "model": {"name": "net"}}
    return Clip(np.atleast_2d(audio).astype(np.float32), RATE, 0, Provenance.from_dict(settings))


@pytest.fixture
def add(tmp_path):
    """Write a training sound."""

    def write(name, samples, rate=RATE, **kwargs):
        path = tmp_path / "sounds" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.asarray(samples).T, rate, **kwargs)
        return path

    return write


@pytest.fixture
def folder(add, tmp_path):
    """Twenty training sounds, some deeper than others."""
    for i in range(20):
        add(f"{'deep/er/' if i % 3 else ''}{i}.wav", drum(i))
    return tmp_path / "sounds"


@pytest.fixture
def reads(monkeypatch):
    """The names of the files that are read."""
    names = []
    original = index.read

    def read(path, *rest):
        names.append(path.name)
        return original(path, *rest)

    monkeypatch.setattr(index, "read", read)
    return names


def calm(monkeypatch):
    """No sample of the folder is read, so that what is read is what is new."""
    monkeypatch.setattr(index, "FEWEST_SOUNDS", 1000)


# --- what is found ----------------------------------------------------------------------------------------------


def test_altered_copies_are_found_where_they_lie_and_others_are_not(folder):
    made = [given(change(drum(i))) for i, change in enumerate(CHANGES.values())]
    report = originality(made + [given(drum(1000 + i)) for i in range(20)], folder)
    for i, row in enumerate(report.rows[: len(CHANGES)]):
        name = f"{'deep/er/' if i % 3 else ''}{i}.wav"
        assert row.near and row.nearest == name and row.verdict == f"near copy of {name}", list(CHANGES)[i]
        late = {"later": 0.01, "much later": 1, "all at once": 0.01}.get(list(CHANGES)[i], 0)
        assert row.clip_at_s - row.at_s == pytest.approx(late, abs=0.03) and row.distance <= report.threshold
    assert [row.verdict for row in report.rows[len(CHANGES) :]] == [NO_COPY] * 20
    assert report.duplicates == () and report.files == 20 and report.skipped == {}


@pytest.mark.parametrize("start", [pytest.param(7.003, marks=pytest.mark.slow), 31.4159, 58.9])
def test_a_second_of_a_long_file_is_found_there(add, tmp_path, start):
    for seed in range(3):
        add(f"{seed}.flac", music(seed, 60 if seed == 1 else 12))
    first = round(start * RATE)
    (row,) = originality(given(music(1, 60)[first : first + RATE]), tmp_path / "sounds").rows
    assert row.near and row.nearest == "1.flac"
    assert row.at_s - row.clip_at_s == pytest.approx(start, abs=0.02)


@pytest.mark.parametrize(
    "start", [3.0, pytest.param(3.1, marks=pytest.mark.slow), 3.25, 3.3777, pytest.param(3.4, marks=pytest.mark.slow)]
)
def test_a_long_clip_that_quotes_one_second_is_a_copy(add, tmp_path, start):
    """Windows that step by half a second meet it on their grid only."""
    path = add("1.wav", music(1, 5))
    long, first = music(2, 6), round(start * RATE)
    long[first : first + RATE] = music(1, 5)[round(1.2 * RATE) : round(2.2 * RATE)]
    (row,) = originality(given(long), path.parent).rows
    assert row.near and row.clip_at_s == pytest.approx(start, abs=0.05)
    assert row.at_s - row.clip_at_s == pytest.approx(1.2 - start, abs=0.02)


@pytest.mark.parametrize("gain_db", [-6, pytest.param(-13, marks=pytest.mark.slow), -20])
@pytest.mark.parametrize("first", [True, False])
def test_a_copy_beside_a_louder_hit_is_found(folder, gain_db, first):
    quiet = drum(7) * 10 ** (gain_db / 20)
    hit = np.pad(drum(1000), (0, RATE // 2))
    sounds = [np.pad(quiet, (0, RATE // 2)), hit] if first else [hit, quiet]
    (row,) = originality(given(np.concatenate(sounds)), folder).rows
    assert row.near and row.nearest == "deep/er/7.wav"


def sub_bass(hz, driven=False, seconds=1.0):
    """A decaying sine; driven, an 808: it glides down at first, and is distorted."""
    t = np.arange(int(seconds * RATE)) / RATE
    tone = np.sin(2 * np.pi * np.cumsum(hz * (1 + driven * 2 * np.exp(-t * 60))) / RATE) * np.exp(-3 * t)
    return (0.7 * np.tanh(4 * tone) if driven else 0.7 * tone).astype(np.float32)


@pytest.mark.parametrize("driven", [False, True])
def test_other_notes_of_a_bass_are_no_copies(add, driven):
    """A window of 21 ms, no period of these, hears them as one."""
    path = add("e.wav", sub_bass(41.2, driven))
    notes = [43.65, 46.25, 49, 55, 61.7]
    report = originality([given(sub_bass(hz, driven)) for hz in notes], path.parent)
    assert not any(row.near for row in report.rows) and report.duplicates == ()
    assert all(row.distance > 0.2 for row in report.rows)


@pytest.mark.slow
@pytest.mark.parametrize("driven", [False, True])
def test_the_same_note_of_a_bass_is_found_among_others_however_altered(add, driven):
    notes = [32.7 * 2 ** (k / 12) for k in range(16)]
    for k, hz in enumerate(notes):
        path = add(f"{k}.wav", sub_bass(hz, driven))
    report = originality([given(change(sub_bass(notes[5], driven))) for change in CHANGES.values()], path.parent)
    assert [row.nearest for row in report.rows if row.near] == ["5.wav"] * len(CHANGES)
    assert len(report.duplicates) == len(CHANGES) * (len(CHANGES) - 1) / 2


@pytest.mark.parametrize("seconds", [0.5, 1.0, 1.7, 4.0])
@pytest.mark.parametrize("turn", [1 / 3, pytest.param(0.71, marks=pytest.mark.slow)])
def test_a_turned_loop_is_found(add, tmp_path, seconds, turn):
    for seed in range(5):
        add(f"{seed}.wav", music(seed, seconds, 0.13))
    loop = music(3, seconds, 0.13)
    turned = np.roll(loop, -round(turn * len(loop)))
    (row,) = originality(clip(turned, loop=True), tmp_path / "sounds").rows
    assert row.near and row.nearest == "3.wav"
    (other,) = originality(clip(music(9, seconds, 0.13), loop=True), tmp_path / "sounds").rows
    assert not other.near


def test_other_rates_channels_and_formats_do_not_matter(add, tmp_path):
    import soxr

    at_44 = soxr.resample(drum(1), RATE, 44100)
    add("1.wav", np.stack([at_44, -0.5 * at_44]), 44100)  # the mean of both sides is another sound, or none
    add("2.ogg", drum(2))
    report = originality([given(drum(1)), given(drum(2))], tmp_path / "sounds")
    assert [row.nearest for row in report.rows if row.near] == ["1.wav", "2.ogg"]


def test_noise_and_silence_are_not_found(folder, add):
    rng = np.random.default_rng(0)
    add("hiss.wav", 0.5 * rng.uniform(-1, 1, RATE) * np.exp(-np.arange(RATE) / 2000))
    add("noise.wav", 0.5 * rng.uniform(-1, 1, RATE))
    made = [clip(0.3 * rng.standard_normal(2 * RATE)), clip(np.zeros(RATE)), clip(np.zeros(0))]
    report = originality(made, folder)
    assert not any(row.near for row in report.rows) and report.duplicates == ()
    assert report.rows[0].verdict == NO_COPY and "silent" in report.rows[1].verdict
    assert report.record(1)["nearest"] is None and "silent" in str(report)


def test_noise_is_not_found_in_the_silence_before_a_sound(add):
    """Where nothing sounds, nothing is above the floor, rather than everything at it."""
    path = add("late.wav", np.pad(drum(0), (round(0.3 * RATE), RATE)))
    hiss = np.random.default_rng(1).standard_normal((8, RATE // 4))
    assert all(row.distance > 0.3 for row in originality([given(0.1 * x) for x in hiss], path.parent).rows)


def test_a_loud_sound_that_is_like_nothing_is_not_called_silent(add):
    t = np.arange(RATE) / RATE
    path = add("low.wav", 0.5 * np.sin(2 * np.pi * 60 * t))
    report = originality(given(0.5 * np.sin(2 * np.pi * 6000 * t)), path.parent)
    (row,) = report.rows
    assert row.verdict == NO_COPY and row.distance == pytest.approx(1, abs=0.05) and not row.near
    assert "silent" not in str(report) and report.record(0)["verdict"] == NO_COPY


def test_a_click_is_no_copy_of_everything(folder):
    click = np.zeros(600)
    click[:5] = 0.9
    assert not originality(given(click), folder).rows[0].near


def test_duplicates_within_a_batch_are_found_even_without_a_folder(folder):
    made = [given(drum(100)), given(drum(101)), given(-0.5 * np.pad(drum(100), (200, 0)))]
    for where in (folder, None):
        (pair,) = originality(made, where).duplicates
        assert pair[:2] == (0, 2) and 0 <= pair[2] < 0.05
    assert originality(made[:2], folder).duplicates == ()


def test_without_the_training_sounds_nothing_is_passed():
    report = originality([given(drum(0))], None)
    assert report.rows[0].verdict == "not checked" and not report.rows[0].near
    assert report.record(0)["verdict"] == "not checked" and report.record(0)["why"]
    assert "not checked" in str(report) and "no near copy" not in str(report)
    with pytest.raises(ValueError, match="compared with no training sound"):
        report.nearest_sound(0)


# --- the scale --------------------------------------------------------------------------------------------------


def test_the_score_is_the_share_of_the_folder_that_is_farther(folder):
    report = originality([given(drum(3)), given(drum(1000))], folder)
    assert report.rows[0].score == 1 and 0 <= report.rows[1].score < 1
    assert "nearer than 100.0 % of the folder's sounds are to their nearest neighbour" in str(report)


def test_few_sounds_have_no_scale_but_copies_are_found(add, tmp_path):
    for i in range(3):
        add(f"{i}.wav", drum(i))
    report = originality([given(drum(1)), given(drum(50))], tmp_path / "sounds")
    assert [row.near for row in report.rows] == [True, False] and report.rows[0].score is None
    assert "fewer than 10 sounds" in str(report)


def test_doubles_in_the_folder_do_not_change_the_scale():
    """A mean, or a plain percentile, would."""
    rng = np.random.default_rng(0)
    alone = np.exp(rng.normal(np.log(0.2), 0.3, 500))
    doubled = np.concatenate([alone, np.full(50, 0.002)])
    low, high = NEAREST_THRESHOLD, WIDEST_THRESHOLD
    assert low < threshold_of(alone) < high
    assert threshold_of(doubled) == pytest.approx(threshold_of(alone), rel=0.3)
    assert threshold_of(np.full(20, 0.9)) == high and threshold_of(np.zeros(20)) == low


# --- the report -------------------------------------------------------------------------------------------------


def test_a_record_names_files_but_no_folder(folder):
    report = originality([given(drum(1)), given(drum(1000))], folder)
    record = report.record(0)
    assert record["verdict"] == "near copy of 1.wav" and record["nearest"] == "1.wav" and record["files"] == 20
    assert record["distance"] < record["threshold"] and record["score"] == 1
    assert report.record(1)["verdict"] == NO_COPY
    assert str(folder.parent) not in str(report) and "deep" not in str(record)


def test_the_nearest_stretch_lines_up_with_the_clip(add, tmp_path):
    song = music(1, 20)
    add("song.wav", song, subtype="FLOAT")
    first = round(7.77 * RATE)
    report = originality(clip(-0.5 * song[first : first + RATE]), tmp_path / "sounds")
    near = report.nearest_sound(0)
    assert near.audio.shape == (1, RATE) and near.sample_rate == RATE and near.settings["source"]["name"] == "song.wav"
    late = round((report.rows[0].at_s - report.rows[0].clip_at_s) * RATE) - first
    assert abs(late) <= 0.02 * RATE
    np.testing.assert_array_equal(near.audio[0], song[first + late : first + late + RATE])


def test_notebook_shows_both_sounds_of_a_near_copy(folder):
    page = originality(given(drum(1)), folder)._repr_html_()
    assert "20 sounds" in page and page.count("<audio") == 2 and "<img" in page


def test_clips_clip_path_and_pair_are_all_taken(folder, tmp_path):
    batch = Clips(np.stack([drum(0)[None], drum(1)[None]]), RATE, [0, 1])
    assert len(originality(batch, folder).rows) == 2
    assert len(originality((folder / "0.wav", str(folder / "3.wav")), folder).rows) == 2
    for one in (batch[0], folder / "0.wav", str(folder / "0.wav"), given(drum(0))):
        (row,) = originality(one, folder).rows
        assert row.near
    with pytest.raises(ValueError, match="none to check"):
        originality([], folder)
    with pytest.raises(FileNotFoundError, match="no sound files"):
        originality(batch, tmp_path / "nothing")


def beat_of(*sounds):
    tracks = {f"track{i}": ("....9..." if i else "9.......") * 2 for i in range(len(sounds))}
    return ddnb.beat(None, {"tracks": tracks}, sounds=dict(zip(tracks, map(given, sounds), strict=True)))


def test_a_beat_of_copies_is_a_copy_and_says_of_which_sound(folder):
    made, own = beat_of(drum(1), drum(2)), beat_of(drum(1000), drum(3))
    report = originality([made, own, beat_of(drum(1001), drum(1002))], folder)
    assert [row.near for row in report.rows] == [True, True, False]
    row = report.rows[1]
    assert row.nearest == "3.wav" and row.track == "track1" and "track1" in row.verdict and "track1" in str(report)
    assert row.clip is own.clip and row.sound is own.sounds["track1"]
    assert report.nearest_sound(1).duration_s == pytest.approx(row.sound.duration_s)
    assert "3.wav" in report.record(1)["verdict"] and originality(made, folder).rows[0].near
    assert originality(made, None).rows[0].clip is made.clip


def test_rows_hold_the_clips_that_were_given(folder):
    """A pack can tell by it that a report belongs to its sounds."""
    made = [clip(drum(1)), clip(np.zeros(RATE)), clip(drum(1000))]
    assert all(row.clip is given for row, given in zip(originality(made, folder).rows, made, strict=True))


# --- the cache --------------------------------------------------------------------------------------------------


def test_only_new_and_changed_files_are_read(folder, add, reads, monkeypatch):
    calm(monkeypatch)
    made = given(drum(1000))
    first = originality(made, folder)
    assert len(reads) == 20
    reads.clear()
    assert originality(made, folder).rows[0].distance == first.rows[0].distance and reads == []
    add("0.wav", drum(1000))
    add("ново/音.wav", drum(1001))
    (folder / "3.wav").unlink()
    report = originality([made, given(drum(1001)), given(drum(3))], folder)
    assert sorted(reads) == ["0.wav", "音.wav"] and report.files == 20
    assert [row.nearest if row.near else None for row in report.rows] == ["0.wav", "ново/音.wav", None]


def test_the_scale_is_kept_and_measured_anew_when_the_folder_changes(folder, add, reads):
    originality(given(drum(1000)), folder)
    assert len(reads) == 40  # once for what they sound like, once as if each were a clip
    reads.clear()
    originality(given(drum(1000)), folder)
    assert reads == []
    add("new.wav", drum(77))
    assert originality(given(drum(77)), folder).rows[0].near and len(reads) == 22


def test_a_damaged_cache_is_made_anew(folder, cache, reads, monkeypatch):
    calm(monkeypatch)
    first = originality(given(drum(2)), folder)
    (kept,) = cache.rglob("*.safetensors")
    whole = kept.read_bytes()
    for damage in (b"", b"nonsense", whole[: len(whole) // 2], whole.replace(b'"layout":"', b'"layout":"9')):
        kept.write_bytes(damage)
        reads.clear()
        assert originality(given(drum(2)), folder).rows[0].distance == first.rows[0].distance
        assert len(reads) == 20


def test_cancelling_keeps_what_was_read(folder, reads, monkeypatch):
    calm(monkeypatch)
    stop, told = threading.Event(), []

    def on_progress(done, total):
        told.append((done, total))
        if done == 7:
            stop.set()

    with pytest.raises(Cancelled, match="7 of 21"):
        originality(given(drum(1)), folder, on_progress=on_progress, cancel=stop)
    assert len(reads) == 7 and told == [(i + 1, 21) for i in range(7)]
    assert originality(given(drum(1)), folder).rows[0].near and len(reads) == 20


def test_what_cannot_be_read_is_named_and_the_rest_is_compared(folder, add):
    (folder / "broken.wav").write_bytes(b"RIFF and then nothing")
    (folder / "empty.wav").write_bytes(b"")
    add("silent.wav", np.zeros(1000))
    with pytest.warns(UserWarning, match=r"Skipped 3 of 23 files .*; the findings name them"):
        report = originality(given(drum(1)), folder)
    assert set(report.skipped) == {"broken.wav", "empty.wav", "silent.wav"} and report.files == 20
    assert report.rows[0].near and "broken.wav" in str(report)


def test_a_folder_of_which_nothing_can_be_read_says_so(add):
    path = add("silent.wav", np.zeros(1000))
    with (
        pytest.warns(UserWarning, match="1 of 1"),
        pytest.raises(ValueError, match=r"None of the 1 files(.|\n)*silent"),
    ):
        originality(given(drum(0)), path.parent)


# --- torchaudio, or not -----------------------------------------------------------------------------------------


def test_without_torchaudio_the_features_are_the_same():
    try:
        import torchaudio  # noqa: F401
    except (ImportError, OSError) as error:  # OSError: built for another torch
        pytest.skip(f"torchaudio cannot be imported here: {error}")
    audio = torch.from_numpy(np.stack([drum(0), drum(1)]))
    features._mels.cache_clear()
    torch.testing.assert_close(features._mels("cpu")(audio), features._plain_mels("cpu")(audio), rtol=1e-3, atol=1e-5)


def test_the_features_are_those_of_librosa():
    """Of the published definition: the Slaney mel scale, frames that begin at each hop, power."""
    import librosa

    expected = librosa.feature.melspectrogram(
        y=drum(0), sr=24_000, n_fft=512, hop_length=240, n_mels=32, fmin=30, fmax=11_000, center=False, power=2
    )
    got = features._plain_mels("cpu")(torch.from_numpy(drum(0))[None])[0]
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-3, atol=1e-5)
    assert expected.any(axis=1).all()  # no band without a bin


@pytest.mark.parametrize("error", [ImportError, OSError])
def test_a_torchaudio_that_cannot_be_imported_is_done_without(folder, monkeypatch, error):
    import builtins

    imported = builtins.__import__

    def without(name, *rest, **kwargs):
        if name.startswith("torchaudio"):
            raise error("not here")
        return imported(name, *rest, **kwargs)

    features._mels.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    assert originality(given(drum(5)), folder).rows[0].nearest == "deep/er/5.wav"
    features._mels.cache_clear()


# --- the command line -------------------------------------------------------------------------------------------


def test_the_command_fails_where_there_is_a_copy(folder, tmp_path, capsys):
    (tmp_path / "new").mkdir()
    for i in range(3):
        soundfile.write(tmp_path / "new" / f"{i}.wav", drum(2000 + i), RATE)
    assert main(["originality", str(tmp_path / "new"), "--data", str(folder)]) == 0
    assert capsys.readouterr().out.count(NO_COPY) == 3
    new, twice = str(tmp_path / "new" / "0.wav"), str(tmp_path / "new")
    assert main(["originality", new, twice, "--data", str(folder)]) == 1  # the same file twice is a duplicate
    assert main(["originality", new, str(folder / "0.wav"), "--data", str(folder)]) == 1
    assert "near copy of 0.wav" in capsys.readouterr().out
    assert main(["originality", str(tmp_path / "none.wav"), "--data", str(folder)]) == 2


def test_sounds_of_the_built_in_network_are_no_copies_of_its_examples(drums):
    from ddnb.training.dataset import EXAMPLES

    made = ddnb.generate(drums, 3, 0, category="kick", steps=4)
    report = originality(made, EXAMPLES)
    assert not any(row.near for row in report.rows) and report.files == 12
    assert all(0 <= row.score < 1 and 0.1 < row.distance <= 1 for row in report.rows)
