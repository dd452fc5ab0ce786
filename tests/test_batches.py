"""Training clips: what is drawn from a data set, and what is held out."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddnb.training.batches import Augment, Piece, draw, hold_out, pieces
from ddnb.training.dataset import Dataset, Sound

RATE = 8000


def make_data(*lengths, channels=1, categories=None, rate=RATE):
    """Return data in which sample i has the value i + 1, so that a clip shows where it comes from."""
    starts = np.cumsum([0, *lengths]).tolist()
    sounds = tuple(
        Sound(f"{i}.wav", categories[i] if categories else None, start, n, rate, channels, n / rate, str(i), 0, 0, 0)
        for i, (start, n) in enumerate(zip(starts, lengths, strict=False))
    )
    audio = np.repeat(np.arange(1, starts[-1] + 1, dtype=np.float32)[:, None], channels, axis=1)
    return Dataset(audio, rate, sounds, {}, ())


def draw_clips(data, items, frames, crop=False, augment=None, seed=0, categories=()):
    return draw(data, pieces(data, frames, crop, categories), items, frames, crop=crop, augment=augment, seed=seed)


@given(st.integers(1, 9), st.integers(0, 20), st.integers(0, 20), st.booleans(), st.integers(0, 3))
def test_clip_depends_on_its_seed_and_number_only(n, first, more, crop, seed):
    """Otherwise a resumed run, another batch size or a second process would train on other clips."""
    data = make_data(*range(50, 50 + 10 * n, 10), channels=2)
    options = {"frames": 60, "crop": crop, "augment": Augment(shift_s=0.001), "seed": seed}
    whole, labels = draw_clips(data, range(first + more), **options)
    a, la = draw_clips(data, range(first), **options)
    b, lb = draw_clips(data, range(first, first + more), **options)
    np.testing.assert_array_equal(whole, np.concatenate([a, b]))
    np.testing.assert_array_equal(labels, np.concatenate([la, lb]))
    assert whole.shape == (first + more, 2, 60) and whole.dtype == np.float32 and labels.dtype == np.int64


@pytest.mark.parametrize("seed", [0, 1])
def test_each_epoch_has_every_sound_once_in_another_order(seed):
    data = make_data(*[5] * 30)
    clips, _ = draw_clips(data, range(90), 5, seed=seed)
    orders = (clips[:, 0, 0].reshape(3, 30) // 5).tolist()
    assert all(sorted(order) == list(range(30)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3  # fails by chance with p = 1 / 30!


def test_seeds_give_different_orders():
    data = make_data(*[5] * 30)
    assert (draw_clips(data, range(30), 5, seed=0)[0] != draw_clips(data, range(30), 5, seed=1)[0]).any()


def test_few_files_fill_a_batch():
    """The loader of the original code returns no batch at all."""
    clips, labels = draw_clips(make_data(*[5] * 5, categories="aabbb"), range(8), 5, categories=("a", "b"))
    assert Counter((clips[:5, 0, 0] // 5).tolist()) == dict.fromkeys(range(5), 1)
    assert len(clips) == len(labels) == 8


def test_clip_is_the_beginning_followed_by_silence():
    data = make_data(20, 7, channels=2)
    clips, _ = draw_clips(data, range(2), 10)
    long, short = sorted(clips, key=lambda clip: clip[0, 0])
    np.testing.assert_array_equal(long, [list(range(1, 11))] * 2)
    np.testing.assert_array_equal(short, [[21, 22, 23, 24, 25, 26, 27, 0, 0, 0]] * 2)


def test_labels_number_the_given_categories():
    data = make_data(5, 5, 5, 5, categories=["kick", "hat", "noise", None])
    clips, labels = draw_clips(data, range(4), 5, categories=("hat", "kick"))
    assert {int(c[0, 0] // 5): int(n) for c, n in zip(clips, labels, strict=True)} == {0: 1, 1: 0, 2: -1, 3: -1}


def test_crops_cover_their_sound_and_nothing_else():
    data = make_data(100, 40, 10)
    clips, _ = draw_clips(data, range(3000), 40, crop=True)
    starts = {0: set(), 1: set(), 2: set()}
    for clip in clips[:, 0]:
        which = int(np.searchsorted([101, 141], clip[0], side="right"))
        starts[which].add(int(clip[0]))
        filled = clip[clip > 0]
        np.testing.assert_array_equal(filled, np.arange(clip[0], clip[0] + len(filled)))
        assert filled[-1] <= (100, 140, 150)[which] and len(filled) == (40, 40, 10)[which]
    assert starts == {0: set(range(1, 62)), 1: {101}, 2: {141}}  # 1000 draws of 61: almost surely all


def test_augmentation_stays_within_its_documented_limits():
    """Up to 6 dB quieter, up to 5 ms later, inverted with p = 0.5; never louder, and nothing else."""
    augment = Augment()
    data = make_data(1000)
    data.audio[:] = 1
    clips, _ = draw_clips(data, range(2000), 900, augment=augment)
    late = (clips[:, 0] == 0).sum(axis=1)
    gain = clips[:, 0, -1]
    assert late.min() == 0 and late.max() == round(0.005 * RATE)
    assert all(
        (clip[lag:] == g).all() and not clip[:lag].any() for clip, lag, g in zip(clips[:, 0], late, gain, strict=True)
    )
    decibels = 20 * np.log10(np.abs(gain))
    assert -6 <= decibels.min() < -5.9 and -0.1 < decibels.max() <= 1e-6
    assert 800 < (gain < 0).sum() < 1200  # 9 sigma


@pytest.mark.parametrize(
    ("augment", "expected"),
    [
        (Augment(False, 0, 0), {(0, 1.0)}),
        (Augment(True, 0, 0), {(0, 1.0), (0, -1.0)}),
        (Augment(False, 0, 1 / RATE), {(0, 1.0), (1, 1.0)}),
    ],
)
def test_each_augmentation_works_alone(augment, expected):
    data = make_data(50)
    data.audio[:] = 1
    clips, _ = draw_clips(data, range(60), 50, augment=augment)
    assert {(int((clip == 0).sum()), float(clip[-1])) for clip in clips[:, 0]} == expected


def test_crop_is_not_shifted():
    clips, _ = draw_clips(make_data(1000), range(50), 100, crop=True, augment=Augment(quieter_db=0))
    assert (clips != 0).all()


def test_drawing_does_not_change_the_data():
    data = make_data(50)
    before = data.audio.copy()
    draw_clips(data, range(20), 40, crop=True, augment=Augment())
    np.testing.assert_array_equal(data.audio, before)


# --- pieces and what is held out --------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=10), st.integers(1, 100), st.booleans())
def test_pieces_cover_every_frame_once(lengths, frames, crop):
    data = make_data(*lengths)
    found = pieces(data, frames, crop)
    covered = np.concatenate([np.arange(p.start, p.start + p.frames) for p in found])
    np.testing.assert_array_equal(covered, np.arange(sum(lengths)))
    if not crop:
        assert [p.frames for p in found] == lengths
    edges = {s.start for s in data.sounds}
    for p in found:  # no piece spans two sounds, and one of a long recording leaves room to crop
        assert not any(p.start < edge < p.start + p.frames for edge in edges)
        assert p.start in edges or p.frames >= 4 * frames


def test_long_recording_weighs_more_than_a_short_sound():
    found = pieces(make_data(100, 4000), 100, crop=True)
    assert len([p for p in found if p.start >= 100]) == 10


@given(
    st.lists(st.tuples(st.sampled_from([-1, 0, 1, 2]), st.integers(0, 12)), max_size=40),
    st.floats(0, 0.5),
    st.integers(0, 5),
)
def test_held_out_pieces_are_not_trained_on_and_no_class_is_lost(kinds, share, seed):
    """Where there are enough sounds, no other piece of a held-out sound is trained on."""
    found = [Piece(i, 1, label, sound) for i, (label, sound) in enumerate(kinds)]
    train, held = hold_out(found, share, 32, seed)
    assert sorted(train + held) == found and not set(train) & set(held)
    assert (train, held) == hold_out(found, share, 32, seed)
    assert {p.label for p in train} == {label for label, _ in kinds}
    sounds = [{p.sound for p in part} for part in (train, held)]
    if len(sounds[0] | sounds[1]) >= 5:
        assert not sounds[0] & sounds[1]
        smallest = min(sum(p.sound == s for p in found) for s in sounds[0] | sounds[1])
        assert len(held) <= max(1, round(share * len(found)), smallest)
    else:
        assert len(held) <= max(1, round(share * len(found)))
    if len(found) < 5 or not share:
        assert held == []


def test_holds_out_at_least_one_piece_where_possible():
    alone = [Piece(i, 1, -1, i) for i in range(5)]
    assert [len(part) for part in hold_out(alone, 0.01, 32, 0)] == [4, 1]
    long = [Piece(20 * s + i, 1, -1, s) for s in range(5) for i in range(20)]  # each sound is more than a tenth of all
    assert len({p.sound for p in hold_out(long, 0.1, 32, 0)[1]}) == 1
    mixed = [Piece(i, 1, -1, 0) for i in range(600)] + [Piece(600 + i, 1, -1, 1 + i) for i in range(40)]
    assert {p.sound for p in hold_out(mixed, 0.05, 32, 0)[1]} and len(hold_out(mixed, 0.05, 32, 0)[1]) == 32
    assert 0 not in {p.sound for p in hold_out(mixed, 0.05, 32, 0)[1]}  # the long recording stays in training


def test_seeds_hold_out_different_pieces():
    found = [Piece(i, 1, -1, i) for i in range(100)]
    assert hold_out(found, 0.1, 32, 0)[1] != hold_out(found, 0.1, 32, 1)[1]
    assert len(hold_out(found, 0.1, 32, 0)[1]) == 10
    assert len(hold_out(found, 0.5, 32, 0)[1]) == 32
