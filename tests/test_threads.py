"""CPU threads: samples do not depend on their number, and clips made side by side are reported like others."""

import threading

import numpy as np
import pytest
import torch

import ddnb
from ddnb.errors import Interrupted
from ddnb.steps import seeded_noise
from ddnb.threads import available, single_thread


@pytest.fixture(params=[2, 4])
def threads(request):
    """Let torch use several threads, as it does outside of the tests."""
    torch.set_num_threads(request.param)
    yield request.param
    assert torch.get_num_threads() == request.param, "not restored"
    torch.set_num_threads(1)


def kicks(drums, n=5, **options):
    return ddnb.generate(drums, n, 3, category="kick", **({"steps": 2, "duration_s": 0.3} | options))


@pytest.fixture(scope="module")
def alone(drums):
    torch.set_num_threads(1)
    return kicks(drums).audio


def test_samples_are_the_same_on_any_number_of_threads(drums, threads, alone):
    """Sums that are split among threads are rounded in another way."""
    np.testing.assert_array_equal(kicks(drums).audio, alone)
    np.testing.assert_array_equal(kicks(drums, batch_size=2).audio, kicks(drums, batch_size=2).audio)


def test_a_call_of_the_network_is_the_same_on_any_number_of_threads(drums, threads):
    x, t = seeded_noise([0], (1, 32_768)), torch.tensor([0.5])
    several = drums(x, t)
    with single_thread():
        assert torch.equal(drums(x, t), several)


def test_progress_is_reported_by_the_caller_and_rises_to_its_total(drums, threads):
    seen, places = [], set()

    def on_step(done, total, denoised):
        seen.append((done, total))
        places.add(threading.get_ident())

    kicks(drums, on_step=on_step)
    assert seen == [(i + 1, 10) for i in range(10)]
    assert places == {threading.get_ident()}


def test_cancel_keeps_the_finished_clips(drums, threads, alone):
    cancel = threading.Event()
    clips = kicks(drums, n=40, cancel=cancel, on_step=lambda done, *_: cancel.set() if done == 11 else None)
    assert 1 <= len(clips) < 40
    for seed, audio in zip(clips.seeds, clips.audio, strict=True):
        if seed < 8:
            np.testing.assert_array_equal(audio, alone[seed - 3])


def test_interrupt_keeps_the_finished_clips(drums, threads):
    def stop(done, *_):
        if done == 11:
            raise KeyboardInterrupt

    with pytest.warns(Interrupted, match="of 40 clips are finished"):
        clips = kicks(drums, n=40, on_step=stop)
    assert 1 <= len(clips) < 40


def test_errors_of_the_callers_own_function_reach_the_caller(drums, threads):
    def broken(done, *_):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        kicks(drums, on_step=broken)


def test_contexts_nest_and_overlap(threads):
    inside, leave = threading.Event(), threading.Event()

    def other():
        with single_thread() as cores:
            assert cores == threads and torch.get_num_threads() == 1
            inside.set()
            leave.wait(20)

    thread = threading.Thread(target=other)
    with single_thread() as cores, single_thread() as again:
        assert cores == again == threads == available()
        thread.start()
        inside.wait(20)
    assert torch.get_num_threads() == threads  # in this Python thread
    leave.set()
    thread.join()
    assert available() == threads
