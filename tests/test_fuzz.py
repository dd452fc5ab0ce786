"""Damaged files of every kind are answered with errors of this package; ``bench.fuzz`` does it for any time."""

import json
import os
import random
from pathlib import Path

import pytest

from bench.fuzz import TARGETS, _try, fuzz
from ddnb import AudioError, CheckpointError
from ddnb.audio.wav_chunks import acid, append_chunks
from ddnb.checkpoints.registry import read_registry

REGISTRY = Path(__file__).parents[1] / "checkpoints.json"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_no_parser_is_surprised(seed, tmp_path):
    """A traceback of a library, a hang, or the whole memory, for a file that somebody damaged."""
    minutes = float(os.environ.get("DDNB_FUZZ_MINUTES", "0.5"))
    inputs, faults = fuzz(minutes, random.Random(seed), tmp_path)
    assert not faults
    assert inputs.keys() == TARGETS.keys() and min(inputs.values()) > 100 * minutes


def test_an_error_of_another_kind_or_without_the_file_is_a_fault(tmp_path):
    """Errors of libraries such as JSONDecodeError were let through for all parsers."""
    target, path = TARGETS["settings"], tmp_path / "input.json"
    path.write_text("{")
    assert _try(target, path) is None
    assert "JSONDecodeError" in str(_try(target._replace(parse=lambda path: json.loads(path.read_text())), path))

    def nameless(path):
        raise CheckpointError("it is damaged")

    assert "does not name the file" in str(_try(target._replace(parse=nameless), path))


@pytest.mark.parametrize("name", TARGETS)
def test_what_the_fuzzer_changes_is_valid_before(name, tmp_path, cache):
    """Damage to what was refused anyway would find nothing."""
    target = TARGETS[name]
    for content in target.valid():
        (tmp_path / f"input{target.suffix}").write_bytes(content)
        try:
            target.parse(tmp_path / f"input{target.suffix}")
        except CheckpointError as error:
            assert "tensors do not fit" in str(error) or "not a Dance Diffusion" in str(error)


@pytest.mark.parametrize(
    "entry",
    [
        None,
        {},
        {"sample_rate": 48000, "frames": 65536},
        {"sample_rate": "48000", "frames": 65536, "asset": "drums.safetensors"},
        {"sample_rate": 48000, "frames": 65536, "asset": "../../secret.safetensors"},
        {"sample_rate": 48000, "frames": 65536, "sources": []},
        {"sample_rate": 48000, "frames": 65536, "sources": [{"from": 3}]},
        {"sample_rate": 48000, "frames": 65536, "sources": [{"from": "hf:a/b", "sha256": None}]},
        {"sample_rate": 48000, "frames": 65536, "untrained": {"widths": [16]}},
    ],
)
def test_a_damaged_registry_names_its_entry(entry, tmp_path):
    """It was a KeyError somewhere in load, or in list."""
    entries = json.loads(REGISTRY.read_text(encoding="utf-8"))
    path = tmp_path / "checkpoints.json"
    path.write_text(json.dumps(entries))
    assert read_registry(path) == entries
    path.write_text(json.dumps(entries | {"mine": entry}))
    with pytest.raises(CheckpointError, match=r"checkpoints\.json is damaged at 'mine'"):
        read_registry(path)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"RIFF\0\0\0\0WAVEfmt \4\0\0\0abcd", b"OggS" + bytes(100)])
def test_chunks_are_added_to_wav_files_only(content, tmp_path):
    """A file without samples was lengthened, and then a struct.error."""
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(AudioError, match=r"a\.wav is not a WAV file with samples"):
        append_chunks(tmp_path / "a.wav", [acid()])
    assert (tmp_path / "a.wav").read_bytes() == content
