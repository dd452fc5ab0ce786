"""Disks that are no POSIX disks: without permissions, locks, a home folder, space, or gone in the middle."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile

import ddnb
from ddnb import files
from ddnb.audio.io import write_wav
from ddnb.checkpoints.loading import load
from ddnb.files import atomically, can_lock, locked
from ddnb.training.run_folder import RunFolder

RATE = 44_100
TONE = np.sin(np.arange(4000) * 0.05, dtype=np.float32)[None]


def refusing(code):
    def refuse(*_, **__):
        raise OSError(code, os.strerror(code))

    return refuse


@pytest.mark.parametrize("name", ["chmod", "fchmod", "fsync"])
@pytest.mark.parametrize("code", [errno.EPERM, errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_what_a_disk_does_not_have_does_not_hinder_writing(name, code, tmp_path, monkeypatch):
    """On a mounted cloud chmod fails, while writing works: not a sound could be saved there."""
    monkeypatch.setattr(os, name, refusing(code))
    write_wav(tmp_path / "a.wav", TONE, RATE)
    assert soundfile.info(tmp_path / "a.wav").frames == 4000
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["a.wav"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_disk_that_fails_is_told_and_nothing_is_left(code, tmp_path, monkeypatch):
    """A file that is not on the disk must not be taken for written."""
    monkeypatch.setattr(os, "fsync", refusing(code))
    with pytest.raises(OSError, match=os.strerror(code)):
        atomically(tmp_path / "a.txt", lambda part: part.write_text("x"))
    assert not [path for path in tmp_path.iterdir() if path.name != "cache"]


@pytest.mark.skipif(sys.platform == "win32", reason="flock is of POSIX systems")
@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL])
def test_folders_whose_files_cannot_be_locked_are_used_without(code, tmp_path, monkeypatch):
    """A lock that never comes was waited for, or said to be held by another process."""
    import fcntl

    monkeypatch.setattr(fcntl, "flock", refusing(code))
    soundfile.write(tmp_path / "a.wav", TONE[0], RATE)
    with locked(tmp_path / "x.lock"):
        pass
    lock = RunFolder(tmp_path / "run").lock()
    lock.release()
    assert len(ddnb.check_dataset(tmp_path).data.sounds) == 1


def test_a_lock_is_held_where_files_can_be_locked(tmp_path):
    """Two processes must not decode or train at once."""
    assert can_lock(tmp_path)
    lock = RunFolder(tmp_path / "run").lock()
    with pytest.raises(FileExistsError, match="in use by another process"):
        RunFolder(tmp_path / "run").lock()
    lock.release()
    assert not list(tmp_path.glob(".*.lock"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has a profile for everybody")
def test_users_without_a_home(tmp_path):
    """In a container without HOME and passwd entry, imports of other libraries ended every command."""
    code = (
        "import pwd, sys\n"
        "def nobody(uid): raise KeyError(uid)\n"
        "pwd.getpwuid = nobody\n"
        "from ddnb.__main__ import main\n"
        "from ddnb.training.dataset import EXAMPLES\n"
        "sys.exit(main(['check-dataset', str(EXAMPLES)]))\n"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "DDNB_CACHE", "XDG_CACHE_HOME")}
    environment["TMPDIR"] = str(tmp_path)
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0 and "12 sounds" in run.stdout, run.stderr
    assert list((tmp_path / "cache" / "ddnb").iterdir())


def test_a_cache_that_cannot_be_written_says_what_to_do(tmp_path, monkeypatch, drums):
    """An error about a hidden folder that the user has never heard of."""
    (tmp_path / "in the way").write_text("")
    monkeypatch.setenv("DDNB_CACHE", str(tmp_path / "in the way" / "cache"))
    soundfile.write(tmp_path / "a.wav", TONE[0], RATE)
    for work in (lambda: ddnb.check_dataset(tmp_path), lambda: ddnb.originality(tmp_path / "a.wav", tmp_path)):
        with pytest.raises(OSError, match="cannot be written.*DDNB_CACHE"):
            work()


def test_a_full_disk_leaves_no_half_files(tmp_path, monkeypatch):
    """A pack, a sound or a model of which a part is missing, under its name."""
    clips = ddnb.generate(load("debug"), 1, steps=1, duration_s=0.05)
    monkeypatch.setattr(files, "_settle", lambda part, mode: refusing(errno.ENOSPC)())
    for work in (
        lambda: clips.save(tmp_path / "out"),
        lambda: ddnb.pack(clips, tmp_path / "kit.zip"),
        lambda: ddnb.convert("debug", tmp_path / "a.safetensors"),
    ):
        with pytest.raises(OSError, match="(?i)no space"):
            work()
    left = [path for path in tmp_path.rglob("*") if path.is_file() and "cache" not in path.parts]
    assert not left
