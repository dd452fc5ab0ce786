"""Processes that are killed at any moment leave whole files under their names, or none, and the next run makes them."""

import hashlib
import multiprocessing
import random
import sys
import time
import zipfile

import pytest
import torch
from safetensors.torch import load_file
from servers import serve

import ddnb
from ddnb.checkpoints.download import fetch, local_path

CONTENT = random.Random(0).randbytes(20_000_000)
KILLS = 50

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="forks")]


def kill_often(work, is_whole, seed):
    """Run ``work`` in processes that are killed at random moments; ``is_whole`` looks at what each left."""
    rng, fork = random.Random(seed), multiprocessing.get_context("fork")
    began = time.perf_counter()
    work()
    took, finished = time.perf_counter() - began, 0
    for _ in range(KILLS):
        process = fork.Process(target=work)
        process.start()
        time.sleep(rng.uniform(0, 1.2 * took))
        process.kill()
        process.join()
        finished += is_whole()
    assert finished < KILLS, "no process was killed before its end"
    work()
    assert is_whole()


@pytest.mark.parametrize("known", [True, False], ids=["hash known", "hash not known"])
def test_downloads(known):
    """A part of a file under its name, or one that is continued with bytes of another."""
    sha256 = hashlib.sha256(CONTENT).hexdigest() if known else None
    with serve({"/model.ckpt": CONTENT}) as server:
        url = f"{server.url}/model.ckpt"
        path = local_path(url)

        def is_whole():
            if not path.exists():
                return False
            assert path.read_bytes() == CONTENT
            path.unlink()
            return True

        kill_often(lambda: fetch(url, sha256=sha256), is_whole, 1)


def test_conversions(tmp_path):
    """Half a network under the name of a whole one."""
    target = tmp_path / "out.safetensors"
    whole = ddnb.load("drums", device="cpu", dtype="float32").net.state_dict()

    def work():
        if not target.exists():
            ddnb.convert("drums", target)

    def is_whole():
        if not target.exists():
            return False
        weights = load_file(target)  # the bytes of two files differ: safetensors writes its metadata in any order
        assert weights.keys() == whole.keys() and all(torch.equal(weights[name], whole[name]) for name in whole)
        target.unlink()
        return True

    kill_often(work, is_whole, 2)


def test_packs(tmp_path):
    """A zip file that ends in the middle of a sound."""
    clips = ddnb.generate(ddnb.load("debug", device="cpu"), 3, steps=1, duration_s=0.2)
    target = tmp_path / "kit.zip"

    def is_whole():
        if not target.exists():
            return False
        with zipfile.ZipFile(target) as archive:
            assert archive.testzip() is None and sum(name.endswith(".wav") for name in archive.namelist()) == 3
        target.unlink()
        return True

    kill_often(lambda: ddnb.pack(clips, target), is_whole, 3)
