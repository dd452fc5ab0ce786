"""Disks that are no ordinary ones: without permissions, sync or locks, full, read-only, gone; users without a home."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import DATA, FORMAT

import ddnb
from ddnb import files, runtime
from ddnb.checkpoints.download import fetch, local_path
from ddnb.cli.main import main
from ddnb.files import acquire_lock, atomically, locked, remove_scratch
from ddnb.runtime import cache_dir
from ddnb.training import dataset, from_scratch
from ddnb.training.dataset import EXAMPLES, decode
from ddnb.training.run_folder import RunFolder

LIGHTNING = DATA / "lightning.ckpt"
SETTINGS = {"steps": 2, "batch_size": 2, "demos": 0, "validation": 0, "save_every": 1}


def refusing(code: int):
    """Return a function of the system that refuses."""

    def refused(*_, **__):
        raise OSError(code, os.strerror(code))

    return refused


def made(n: int = 1, frames: int = 4800) -> list[ddnb.clips.Clip]:
    """Return clips of noise."""
    audio = [0.2 * np.random.default_rng(i).standard_normal((2, frames)).clip(-3, 3) for i in range(n)]
    return [ddnb.read_clip(path) for path in _saved(audio)]


def _saved(sounds):
    folder = cache_dir().parent / "made"
    folder.mkdir(exist_ok=True)
    for i, audio in enumerate(sounds):
        soundfile.write(folder / f"{i}.wav", audio.T, 48000, "FLOAT")
        yield folder / f"{i}.wav"


def everything(folder: Path) -> dict:
    """Return all that writes files, by name."""
    clip = made()[0]
    return {
        "save": lambda: clip.save(folder),
        "pack": lambda: ddnb.pack(clip, folder / "kit.zip"),
        "safetensors": lambda: ddnb.convert(LIGHTNING, folder / "a.safetensors", **FORMAT),
        "lightning": lambda: ddnb.convert(LIGHTNING, folder / "a.ckpt", **FORMAT),
        "diffusers": lambda: ddnb.convert(LIGHTNING, folder / "a", **FORMAT),
        "train": lambda: list(ddnb.finetune(from_scratch("tiny", frames=4096), EXAMPLES, folder / "run", **SETTINGS)),
    }


WRITERS = ["save", "pack", "safetensors", "lightning", "diffusers", "train"]


@pytest.fixture
def mounted(tmp_path):
    """Return a function that mounts a disk in memory of so many bytes, or remounts it with other options."""
    place, there = tmp_path / "disk", []

    def mount(size: int = 1 << 20, options: str = "") -> Path:
        place.mkdir(exist_ok=True)
        more = f"remount,{options}" if there else f"size={size}"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", more, "tmpfs", str(place)], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("disks cannot be mounted here")
        there.append(place)
        return place

    if shutil.which("mount") is None:
        pytest.skip("disks cannot be mounted here")
    yield mount
    if there:
        subprocess.run(["umount", "-l", str(place)], check=False)


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
def test_disks_without_permissions_take_everything(code, tmp_path, monkeypatch):
    """Mounted buckets and SMB refuse chmod, while writing works; then nothing at all could be saved."""
    for name in ("chmod", "fchmod"):
        monkeypatch.setattr(os, name, refusing(code))
    for work in everything(tmp_path / "out").values():
        work()
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"kit.zip", "a.ckpt", "a.safetensors", "a", "run"}


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_disks_that_cannot_sync_take_everything(code, tmp_path, monkeypatch):
    """Some network drives refuse fsync; the file is written all the same."""
    monkeypatch.setattr(os, "fsync", refusing(code))
    for name in ("save", "pack", "lightning"):
        everything(tmp_path / "out")[name]()


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_sync_that_fails_is_no_success(code, tmp_path, monkeypatch):
    """What a disk lost while it was written must not get the name of a whole file."""
    monkeypatch.setattr(os, "fsync", refusing(code))
    with pytest.raises(OSError, match=r"a\.txt") as error:
        atomically(tmp_path / "a.txt", lambda part: part.write_text("x"))
    assert error.value.errno == code and not [p for p in tmp_path.iterdir() if p.name != "cache"]


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
def test_disks_without_locks(code, tmp_path, monkeypatch):
    """filelock tries for ever where locking is refused with a number that it does not know."""
    monkeypatch.setattr(fcntl, "flock", refusing(code))
    worker = threading.Thread(target=decode, args=(EXAMPLES, 22050), daemon=True)
    worker.start()
    worker.join(30)
    assert not worker.is_alive()
    list(ddnb.finetune(from_scratch("tiny", frames=4096), EXAMPLES, tmp_path / "run", **SETTINGS))
    ddnb.originality(made(), EXAMPLES)


def test_a_lock_that_cannot_be_had_is_not_waited_for(tmp_path, monkeypatch):
    """Versions of filelock differ in the refusals that they know; Colab's may be an older one."""
    monkeypatch.setattr(fcntl, "flock", refusing(errno.ENOLCK))
    monkeypatch.setattr(files.FileLock, "acquire", lambda *_, **__: pytest.fail("waits for ever"))
    with locked(tmp_path / "a.lock"):
        pass
    RunFolder(tmp_path / "run").lock().release()


def test_locks_hold_where_disks_have_them(tmp_path):
    """Looking whether a disk can lock must not take or free the lock itself."""
    with locked(tmp_path / "a.lock"):
        with pytest.raises(TimeoutError):
            acquire_lock(tmp_path / "a.lock", 0)
        with locked(tmp_path / "b.lock"):
            pass
    acquire_lock(tmp_path / "a.lock", 0).release()
    run = RunFolder(tmp_path / "run")
    lock = run.lock()
    with pytest.raises(FileExistsError, match="in use"):
        RunFolder(tmp_path / "run").lock()
    lock.release()


@pytest.mark.parametrize("what", WRITERS)
def test_a_full_disk_is_named_and_keeps_nothing_half(what, mounted):
    """Libraries that write files have errors of their own for a full disk, which do not say so, or not of which."""
    place = mounted(1 << 16)
    (place / "mine").write_bytes(bytes(40_000))
    with pytest.raises(OSError, match=r"(?i)no space|GB are free") as error:
        everything(place / "out")[what]()
    assert str(place) in str(error.value)
    left = [path for path in place.rglob("*") if path.is_file() and path.name not in ("mine", ".lock")]
    assert not left
    assert (place / "mine").stat().st_size == 40_000


def test_the_command_line_names_a_full_disk(mounted, capsys):
    """A traceback, or a message without the file, leaves a user with the wrong culprit."""
    place = mounted(1 << 16)
    assert main(["generate", "--category", "kick", "-n", "1", "--steps", "2", "--out", str(place)]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert str(place) in told and "No space left" in told and "free some space" in told


def test_a_read_only_cache_is_read(mounted, monkeypatch):
    """A cache on a read-only disk, as in an image of a container, holds what was put there before."""
    place = mounted(64 << 20)
    monkeypatch.setenv("DDNB_CACHE", str(place / "cache"))
    link = "https://nowhere.invalid/a.safetensors"
    local_path(link).parent.mkdir(parents=True)
    local_path(link).write_bytes(b"x")
    before = decode(EXAMPLES, 22050)
    first, second = made(2)
    ddnb.originality(first, EXAMPLES)
    mounted(options="ro")
    assert fetch(link) == local_path(link)
    assert decode(EXAMPLES, 22050).fingerprint == before.fingerprint
    ddnb.originality(second, EXAMPLES)
    with pytest.warns(UserWarning, match="DDNB_CACHE"):
        ddnb.originality(second, EXAMPLES / "kick")


@pytest.mark.parametrize("what", WRITERS)
def test_a_read_only_disk_is_named(what, mounted):
    """Nothing can be written; the message names the place, not a temporary one."""
    place = mounted(64 << 20)
    work = everything(place / "out")[what]
    mounted(options="ro")
    with pytest.raises(OSError, match="Read-only") as error:
        work()
    assert str(place) in str(error.value)


def test_a_cache_that_cannot_be_written_is_named(mounted, monkeypatch):
    """The cure for a cache that cannot be written is another one."""
    place = mounted()
    mounted(options="ro")
    monkeypatch.setenv("DDNB_CACHE", str(place / "cache"))
    with pytest.raises(OSError, match="DDNB_CACHE"):
        decode(EXAMPLES, 22050)
    with pytest.raises(ddnb.CheckpointError, match="DDNB_CACHE"):
        fetch("https://nowhere.invalid/a.safetensors")


def test_a_drive_that_fails_while_sounds_are_read_is_read_again(tmp_path, monkeypatch):
    """What a drive refused for a moment must not count as unusable for ever."""
    for i in range(3):
        soundfile.write(tmp_path / f"{i}.wav", 0.1 * np.random.default_rng(i).standard_normal(5000), 48000)
    with monkeypatch.context() as patch:
        patch.setattr(dataset, "file_sha256", lambda path: (_ for _ in ()).throw(OSError(errno.ENOTCONN, "gone")))
        with pytest.raises(ddnb.DatasetError, match="gone"):
            decode(tmp_path, 48000)
    assert len(decode(tmp_path, 48000).sounds) == 3


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    """Sounds that are missing without a word are found missing after the training."""
    for name in ("kick", "snare"):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "a.wav", 0.1 * np.random.default_rng(len(name)).standard_normal(5000), 48000)
    scan = os.scandir

    def broken(path):
        if str(path).endswith("snare"):
            raise OSError(errno.EIO, "Input/output error", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", broken)
    assert decode(tmp_path, 48000).ignored == ("snare/ (cannot be opened: Input/output error)",)


@pytest.mark.parametrize("step", [0, 1])
def test_a_run_whose_drive_goes_away_says_so_and_builds_no_other(step, tmp_path):
    """A folder made again where a drive was keeps that drive from coming back."""
    steps = ddnb.finetune(from_scratch("tiny", frames=4096), EXAMPLES, tmp_path / "drive/run", **SETTINGS)
    while next(steps).step < step:
        pass
    (tmp_path / "drive").rename(tmp_path / "away")
    with pytest.raises(OSError, match=r"gone.*same call"):
        list(steps)
    assert not (tmp_path / "drive").exists()
    (tmp_path / "away").rename(tmp_path / "drive")
    done = [*ddnb.finetune(from_scratch("tiny", frames=4096), EXAMPLES, tmp_path / "drive/run", **SETTINGS)]
    assert done[-1].step == 2


def test_errors_of_the_writer_stay_what_they_are(tmp_path):
    """Only what the disk refuses is told as that; a fault of ours must look like one."""
    for error in (KeyError("x"), FileExistsError("mine"), ddnb.AudioError("silent")):
        with pytest.raises(type(error)) as got:
            atomically(tmp_path / "a", lambda part, error=error: (_ for _ in ()).throw(error))
        assert got.value is error


@pytest.mark.parametrize("name", ["🥁" * 63, "キ" * 84, "n" * 250])
def test_long_names_in_other_scripts_can_be_written(name, tmp_path):
    """The name of the temporary folder was cut in letters, which have up to four bytes."""
    atomically(tmp_path / name, lambda part: part.write_text("x"))
    assert (tmp_path / name).read_text() == "x"
    (tmp_path / f".{files.cut_name(name)}.01234567").mkdir()
    remove_scratch(tmp_path / name)
    assert [p.name for p in tmp_path.iterdir() if p.name != "cache"] == [name]


@pytest.mark.parametrize(
    "link", ["https://x/..", "https://x/%2e%2e", "https://x/a%3Ab%3Fc.ckpt", f"https://x/{'n' * 400}.ckpt"]
)
def test_links_of_any_name_have_a_place_in_the_cache(link, cache):
    """The last part of a link may be no name of a file, or too long for one."""
    place = local_path(link)
    assert place.parent.parent == cache / "downloads" and place.name not in ("", ".", "..")
    assert len(place.name) < 200 and not set(place.name) & set(':?*"<>|')


@pytest.fixture
def homeless(monkeypatch):
    """Take the user's home away."""
    monkeypatch.delenv("DDNB_CACHE")
    monkeypatch.delenv("HOME", raising=False)
    for name in ("XDG_CACHE_HOME", "NUMBA_CACHE_DIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, "x")  # restored afterwards
        monkeypatch.delenv(name)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: (_ for _ in ()).throw(KeyError(uid)))
    runtime._temporary_cache.cache_clear()
    yield
    runtime._temporary_cache.cache_clear()


def test_users_without_a_home_have_a_cache(homeless):
    """Containers with a user of no name ended with "Could not determine home directory."."""
    with pytest.warns(UserWarning, match="DDNB_CACHE"):
        folder = cache_dir()
    assert folder == cache_dir() and folder.is_dir()
    assert "cache" in runtime.summary()
    assert len(ddnb.check_dataset(EXAMPLES).data.sounds) == 12
    ddnb.load(LIGHTNING, **FORMAT)
    assert any((folder / "converted").iterdir())


def test_libraries_have_a_folder_where_there_is_no_home(homeless):
    """librosa and numba cannot be imported without one."""
    with pytest.warns(UserWarning, match="DDNB_CACHE"):
        runtime.prepare_libraries()
    assert {os.environ[name] for name in ("XDG_CACHE_HOME", "NUMBA_CACHE_DIR")} == {str(cache_dir() / "libraries")}


def test_a_home_that_cannot_be_written_counts_as_none(homeless, monkeypatch, tmp_path):
    """Containers set HOME to / or to a folder that does not exist."""
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    assert cache_dir() == tmp_path / "nobody/.cache/ddnb"
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.warns(UserWarning, match="no home folder"):
        assert tmp_path not in cache_dir().parents
    (tmp_path / "nobody/.cache/ddnb").mkdir(parents=True)  # may be read
    assert cache_dir() == tmp_path / "nobody/.cache/ddnb"


@pytest.mark.slow
def test_a_nameless_user_generates_with_pictures(tmp_path):
    """The whole path, as ``docker run --user 1234`` takes it: pictures need librosa, which needs a home."""
    code = """
import pwd, sys

def nobody(uid):
    raise KeyError(uid)

pwd.getpwuid = nobody
from ddnb.__main__ import main
sys.exit(main())
"""
    environment = {name: text for name, text in os.environ.items() if name not in ("HOME", "DDNB_CACHE")}
    generate = ["generate", "--category", "kick", "-n", "2", "--steps", "2", "--out", str(tmp_path)]
    command = [sys.executable, "-c", code, *generate]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "contact-sheet.png").is_file()
