"""What counts as a sound file of a folder: each once, under a name of its own, whatever it turns out to be."""

import os
import sys

import numpy as np
import pytest
import soundfile

import ddnb
from ddnb.audio import sound_files
from ddnb.audio.listing import list_folder

TONE = 0.5 * np.sin(np.arange(4000) * 0.05)
no_links = pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")


def names(folder):
    return [path.relative_to(folder).as_posix() for path in sound_files(folder)]


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "sounds"
    for name in ("a/kick.wav", "b/kick.wav", "b/snare.wav"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(place / name, TONE * (0.5 + 0.1 * len(name)), 44_100)
    return place


def test_what_is_named_like_a_sound_is_listed_and_nothing_hidden(folder):
    """Verbs and training listed different files of the same folder."""
    for name in (".hidden/x.wav", "__MACOSX/x.wav", "._kick.wav", "notes.txt", "kit.wav/x.aif", "none.wav/x.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
    assert names(folder) == ["a/kick.wav", "b/kick.wav", "b/snare.wav", "kit.wav/x.aif", "none.wav"]
    assert sorted(list_folder(folder).others) == ["none.wav/x.txt", "notes.txt"]


@no_links
def test_links_to_one_file_count_once(folder):
    """A sound that was linked from another folder was varied and packed twice."""
    (folder / "a" / "again.wav").symlink_to(folder / "b" / "snare.wav")
    (folder / "outside").mkdir()
    soundfile.write(folder.parent / "other.wav", TONE, 44_100)
    for name in ("one.wav", "two.wav"):
        (folder / "outside" / name).symlink_to(folder.parent / "other.wav")
    assert names(folder) == ["a/kick.wav", "b/kick.wav", "b/snare.wav", "outside/one.wav"]


@no_links
def test_what_leads_nowhere_is_listed_to_be_named(folder):
    """Broken links were passed over in silence."""
    (folder / "gone.wav").symlink_to(folder / "none.wav")
    (folder / "circle.wav").symlink_to(folder / "circle.wav")
    (folder / "round").symlink_to(folder, target_is_directory=True)
    assert names(folder) == ["a/kick.wav", "b/kick.wav", "b/snare.wav", "circle.wav", "gone.wav"]
    assert list_folder(folder).others == ["round/ (a link)"]


def test_a_folder_that_cannot_be_opened_is_named(folder, monkeypatch):
    """Its sounds were missing without a word."""
    scandir = os.scandir

    def refuse(path="."):
        if str(path).endswith("a"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.warns(UserWarning, match=r"a/ \(cannot be opened: Permission denied\)"):
        assert names(folder) == ["b/kick.wav", "b/snare.wav"]


def test_files_that_cannot_be_opened_are_named_with_their_folder(folder, monkeypatch):
    """Of two files of one name it was not known which was meant. The tests may run as a user who can read all."""
    opened = type(folder).open

    def refuse(path, *rest, **options):
        if path.name == "kick.wav" and path.parent.name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *rest, **options)

    monkeypatch.setattr(type(folder), "open", refuse)
    assert ddnb.check_dataset(folder).data.unusable == {"b/kick.wav": "cannot be opened: Permission denied."}
    with pytest.warns(UserWarning, match="Skipped 1 of 3"):
        found = ddnb.originality((TONE, 44_100), folder)
    assert found.skipped == {"b/kick.wav": "Permission denied"}
