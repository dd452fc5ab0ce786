"""Feed damaged files to every parser of foreign bytes, and demand that each answers with an error of its own kind.

    python -m bench.fuzz --minutes 10         prints inputs and faults of each target

Inputs are mutations of valid files: bytes flipped, cut, repeated and inserted, numbers set to their extremes, JSON
values exchanged. A target may return, or raise the one error of ``ddnb.errors`` that its docstring names, with the name
of the file in its message. Anything else is a fault: another error or message, a hang of more than ten seconds, or more
than 1 GiB of memory. The first input of each is kept.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import os
import random
import resource
import struct
import tempfile
import time
import traceback
import unittest.mock
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import torch
from safetensors.torch import save

from ddnb.audio.io import read, write_wav
from ddnb.audio.wav_chunks import acid, append_chunks, smpl
from ddnb.checkpoints.archives import unpacked
from ddnb.checkpoints.contents import read_settings
from ddnb.checkpoints.formats import read_weights
from ddnb.checkpoints.registry import read_registry
from ddnb.clips.record import read_record, records_of
from ddnb.errors import AudioError, CheckpointError, DdnbError, RecordError
from ddnb.files import cut_name, local_name, safe_name
from ddnb.training import from_scratch


class Target(NamedTuple):
    """A parser, what it is fed with, and how it may answer.

    Attributes:
        parse: it gets the path of a file.
        valid: returns valid contents.
        suffix: of the file.
        change: returns a damaged copy of a content.
        error: the one error that it may raise; None for none.
        names_file: whether its message must hold the name of the file.
    """

    parse: Callable[[Path], object]
    valid: Callable[[], list[bytes]]
    suffix: str
    change: Callable[[bytes, random.Random], bytes]
    error: type[DdnbError] | None
    names_file: bool = True


_EXTREMES = [0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1]
_JSON = [None, True, -1, 0, 10**30, 1e308, float("nan"), "", "x" * 1000, "../../x", [], {}, [[]], {"a": {}}, "\ud800"]
_SLOW_S, _MOST_MIB = 10.0, 1024
_SLICE_S = 0.5  # of each target in turn


def sounds() -> list[bytes]:
    """Return valid sound files of many kinds."""
    x = (0.5 * np.sin(np.arange(3000) * 0.05)).astype(np.float32)
    files = []
    for kind, subtype in (
        *(("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "IMA_ADPCM"), ("WAVEX", "PCM_24"), ("RF64", "PCM_16")),
        *(("AIFF", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III"), ("AU", "PCM_16")),
        *(("CAF", "PCM_16"), ("W64", "PCM_16")),
    ):
        file = io.BytesIO()
        soundfile.write(file, x, 44_100, subtype, format=kind)
        files.append(file.getvalue())
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "a.wav"
        write_wav(path, x[None], 44_100, "16", [smpl(3000, 44_100), acid(120.0, 4)])
        files.append(path.read_bytes())
    return files


def checkpoints() -> list[bytes]:
    """Return valid checkpoint files, small enough for thousands of them."""
    state = from_scratch("tiny", frames=4096).net.state_dict()
    few = {name: tensor[:1].clone() for name, tensor in state.items()}
    content = {"state_dict": few, "hyper_parameters": {"sample_rate": 44_100, "lr": 4e-5}, "date": np.float64(1)}
    files = []
    for new in (True, False):
        file = io.BytesIO()
        torch.save(content, file, _use_new_zipfile_serialization=new)
        files.append(file.getvalue())
    return [*files, save(few, {"ddnb": json.dumps({"sample_rate": 44_100, "frames": 4096, "categories": ["a"]})})]


def archives() -> list[bytes]:
    """Return valid zip archives with a checkpoint."""
    files = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", method) as archive:
            archive.writestr("model/a_48000_4096.ckpt", checkpoints()[0])
            archive.writestr("model/model_config.json", '{"sample_rate": 44100}')
        files.append(file.getvalue())
    return files


def registries() -> list[bytes]:
    """Return the registry."""
    return [(Path(__file__).parents[1] / "checkpoints.json").read_bytes()]


def records() -> list[bytes]:
    """Return valid records and a manifest."""
    here = Path(__file__).parents[1] / "tests" / "data" / "v0.1"
    return [path.read_bytes() for path in sorted(here.glob("*.json"))]


def mutate(content: bytes, chance: random.Random) -> bytes:
    """Return a damaged copy."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        if not data:
            break
        place, kind = chance.randrange(len(data)), chance.randrange(6)
        if chance.random() < 0.7:  # most of what matters is in the headers
            place = min(place, chance.randrange(128))
        if kind == 0:
            data[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del data[place:]
        elif kind == 2:
            data[place:place] = data[max(0, place - 32) : place] * chance.randint(1, 3)
        elif kind == 3:
            del data[place : place + chance.randint(1, 16)]
        elif kind == 4:
            order, form = chance.choice("<>"), chance.choice("BHIQ")
            value = chance.choice(_EXTREMES) & (256 ** struct.calcsize(form) - 1)
            data[place : place + struct.calcsize(form)] = struct.pack(order + form, value)
        else:
            data[place:place] = chance.randbytes(chance.randint(1, 16))
    return bytes(data)


def mutate_json(content: bytes, chance: random.Random) -> bytes:
    """Return a JSON text with other values in some places, or a damaged text."""
    if chance.random() < 0.2:
        return mutate(content, chance)
    value = json.loads(content)
    for _ in range(chance.randint(1, 3)):
        here = value
        while isinstance(here, dict | list) and here:
            keys = list(here) if isinstance(here, dict) else range(len(here))
            key = chance.choice(keys)
            if chance.random() < 0.3 or not isinstance(here[key], dict | list):
                here[key] = copy.deepcopy(chance.choice(_JSON))
                break
            here = here[key]
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _names(path: Path) -> None:
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    for name in (safe_name(text), local_name(text, "x"), cut_name(text)):
        assert "/" not in safe_name(name) and len(safe_name(name)) <= 80
    assert safe_name(text).isascii()


def _with_chunks(path: Path) -> None:
    """Add chunks to a WAV file and read it: what is refused is left as it was."""
    before = path.read_bytes()
    try:
        append_chunks(path, [smpl(3000, 44_100), acid(120.0, 4)])
    except AudioError:
        assert path.read_bytes() == before
        raise
    assert path.read_bytes().endswith(acid(120.0, 4))
    read(path)


TARGETS = {
    "sounds": Target(read, sounds, ".wav", mutate, AudioError),
    "chunks": Target(_with_chunks, lambda: [sounds()[i] for i in (0, 1, 3, -1)], ".wav", mutate, AudioError),
    "checkpoints": Target(read_weights, checkpoints, ".ckpt", mutate, CheckpointError),
    "archives": Target(lambda path: read_weights(unpacked(path)), archives, ".zip", mutate, CheckpointError, False),
    "registry": Target(read_registry, registries, ".json", mutate_json, CheckpointError),
    "records": Target(lambda path: records_of(read_record(path)), records, ".json", mutate_json, RecordError, False),
    "settings": Target(read_settings, records, ".json", mutate_json, CheckpointError),
    "names": Target(_names, lambda: ["kick/Schläge 🥁.wav".encode(), b"CON", b"a" * 300], ".txt", mutate, None),
}


def main() -> None:
    """Fuzz all targets in turn, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"), help="folder for inputs that found a fault")
    arguments = parser.parse_args()
    inputs, faults = fuzz(arguments.minutes, random.Random(arguments.seed), arguments.keep)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for name, number in inputs.items():
        print(f"{name}: {number:,} inputs, {sum(n for (target, _), n in faults.items() if target == name)} faults")
    for (name, fault), number in faults.most_common():
        print(f"FAULT {name}: {fault} ({number} times)")
    print(f"{inputs.total():,} inputs, {faults.total()} faults, peak memory {peak:.0f} MiB")


def fuzz(minutes: float, chance: random.Random, keep: Path) -> tuple[Counter[str], Counter[tuple[str, str]]]:
    """Return how many inputs each target got, and how often each fault was found."""
    inputs: Counter[str] = Counter()
    faults: Counter[tuple[str, str]] = Counter()
    seeds = {name: target.valid() for name, target in TARGETS.items()}
    end = time.monotonic() + 60 * minutes
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings(), _without_ffmpeg(place):
        warnings.simplefilter("ignore")
        while time.monotonic() < end:
            for name, target in TARGETS.items():
                slice_end = time.monotonic() + _SLICE_S
                while time.monotonic() < slice_end:
                    content = target.change(chance.choice(seeds[name]), chance)
                    path = Path(place) / f"input{target.suffix}"
                    path.write_bytes(content)
                    inputs[name] += 1
                    if (fault := _try(target, path)) is not None:
                        faults[name, fault] += 1
                        if faults[name, fault] == 1:
                            keep.mkdir(parents=True, exist_ok=True)
                            (keep / f"{name}-{len(faults)}{target.suffix}").write_bytes(content)
    return inputs, faults


def _without_ffmpeg(cache: str) -> AbstractContextManager:
    """Return a context without ffmpeg, which takes a tenth of a second to refuse, and with a cache of its own."""
    return unittest.mock.patch.dict(os.environ, {"PATH": "", "DDNB_CACHE": cache})


def _try(target: Target, path: Path) -> str | None:
    """Return what is wrong with how a target took an input; None if nothing is."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    try:
        target.parse(path)
    except Exception as error:  # noqa: BLE001 these are what is looked for
        allowed = target.error is not None and isinstance(error, target.error)
        if allowed and target.names_file and path.name not in str(error):
            return f"{type(error).__name__} that does not name the file: {str(error)[:80]}"
        if not allowed:
            last = traceback.extract_tb(error.__traceback__)[-1]
            return f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno}: {str(error)[:80]}"
    if time.monotonic() - began > _SLOW_S:
        return "slow"
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    return "memory" if grown > _MOST_MIB else None


if __name__ == "__main__":
    main()
