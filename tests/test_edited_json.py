"""JSON that was edited by hand: editors on Windows put a mark of the encoding before it."""

import json
import zipfile

import numpy as np
import pytest

import ddnb
from ddnb.clips.record import read_record
from ddnb.errors import RecordError
from ddnb.generation.beat import list_patterns

BOM = b"\xef\xbb\xbf"


def test_a_mark_of_the_encoding_is_no_error(drums, tmp_path):
    """Records, manifests and patterns."""
    clips = ddnb.generate(drums, n=1, steps=1, duration_s=0.1)
    wav = clips.save(tmp_path / "sounds")[0]
    record = wav.with_suffix(".json")
    expected = read_record(record)
    record.write_bytes(BOM + record.read_bytes())
    assert read_record(record) == expected
    np.testing.assert_array_equal(ddnb.remake(record)[0].audio, clips[0].audio)
    pack = ddnb.pack(clips, tmp_path / "a.zip")
    with zipfile.ZipFile(pack) as before, zipfile.ZipFile(tmp_path / "edited.zip", "w") as after:
        for name in before.namelist():
            after.writestr(name, (BOM if name.endswith("manifest.json") else b"") + before.read(name))
    assert len(read_record(tmp_path / "edited.zip")["sounds"]) == 1
    name, pattern = next(iter(list_patterns().items()))
    for mark, path in ((b"", tmp_path / "plain.json"), (BOM, tmp_path / "marked.json")):
        path.write_bytes(mark + json.dumps(pattern).encode())
    plain, marked = (ddnb.beat(drums, str(tmp_path / f"{n}.json"), steps=1, bars=1) for n in ("plain", "marked"))
    assert plain.tracks == marked.tracks


def test_a_folder_is_not_called_missing(tmp_path):
    """It exists; one of its files was meant."""
    with pytest.raises(RecordError, match=r"is a folder: give one of the \.json files"):
        ddnb.remake(tmp_path)
