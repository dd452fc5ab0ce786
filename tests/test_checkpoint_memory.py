"""A checkpoint of kilobytes takes neither the memory nor the time of gigabytes; it is refused for what it is."""

import itertools
import json
import pickle
import re
import struct
import sys
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path

import pytest
import torch
from conftest import FORMAT
from safetensors.torch import save_file
from torch._utils import _rebuild_device_tensor_from_cpu_tensor

import ddnb
from ddnb import CheckpointError
from ddnb.checkpoints.formats import read_weights

FIRST = "timestep_embed.weight"
MOST_MIB = 1000

# --- a peak of memory, and pickles by hand ---------------------------------------------------------------------


def peak_mib(what):
    status = re.search(rf"{what}:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(status[1]) / 1024


def refused(path, match, most_mib=MOST_MIB):
    """Demand that a file is refused for this reason, in little memory."""
    measured = sys.platform == "linux"
    if measured:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
        before = peak_mib("VmRSS")
    with pytest.raises(CheckpointError, match=match) as caught:
        ddnb.load(path, device="cpu", **FORMAT)
    assert len(str(caught.value)) < 3000
    if measured:
        assert peak_mib("VmHWM") - before < most_mib


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def torch_zip(path, pickled, method=zipfile.ZIP_STORED):
    """Write a file of torch.save's layout around a pickle."""
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", b"3\n")
    return path


def text(length):
    return b"X" + struct.pack("<I", length)


def put(number):
    return b"r" + struct.pack("<I", number)


def get(number):
    return b"j" + struct.pack("<I", number)


def nested(kind, deep):
    return b"\x80\x02" + {"tuple": b")" + b"\x85" * deep, "list": b"]" * deep + b"a" * (deep - 1)}[kind] + b"."


# --- pickles ---------------------------------------------------------------------------------------------------

BOMBS = {
    "bytearray": (lambda: Call(bytearray, 3 * 10**9), "objects would take more than 400 MiB"),
    "items of a tensor": (lambda: Call(set, torch.zeros(1).expand(10**8)), "item by item"),
    "counted tensor": (lambda: Call(Counter, torch.zeros(1).expand(10**8)), "item by item"),
    "tensor moved": (
        lambda: Call(_rebuild_device_tensor_from_cpu_tensor, torch.zeros(1).expand(10**9), torch.float64, "cpu", False),
        "tensors that no such network has",
    ),
    "sparse": (lambda: torch.zeros(3).to_sparse(), "tensors that no such network has"),
    "encoding": (lambda: Call(__import__("_codecs").encode, "a" * 10**6, "punycode"), "encoding 'punycode'"),
}


@pytest.mark.parametrize(("kind", "old_layout"), [*((kind, False) for kind in BOMBS), ("bytearray", True)])
def test_a_pickle_that_would_fill_the_memory_is_refused(kind, old_layout, tmp_path):
    """A file of one kilobyte took 3 GB, as PyTorch's unpickler calls bytearray with any number."""
    content, message = BOMBS[kind]
    torch.save({"x": content()}, tmp_path / "a.pt", _use_new_zipfile_serialization=not old_layout)
    refused(tmp_path / "a.pt", message)


PICKLES = {
    "copies of a text": (
        b"c_codecs\nencode\nq\x00" + text(10**6) + b"a" * 10**6 + b"q\x01X\x06\0\0\0latin1q\x02" + b"]("
        b"" + b"h\x00h\x01h\x02\x86R" * 2000 + b"e.",
        "objects would take more than",
    ),
    "copies of a dictionary": (
        b"ccollections\nOrderedDict\nq\x00}q\x01("
        + b"".join(b"J" + struct.pack("<i", i) + b"N" for i in range(50_000))
        + b"u0]("
        + b"h\x00h\x01\x85R" * 2000
        + b"e.",
        "objects would take more than",
    ),
    "many lists": (b"](" + b"]" * 1_100_000 + b"e.", "objects would take more than"),
    "many calls": (
        b"ccollections\nOrderedDict\nq\x00](" + b"h\x00)R" * 500_000 + b"e.",
        "objects would take more than",
    ),
    "many names": (b"](" + b"".join(b"ca\nb%d\n" % i for i in range(100_000)) + b"e.", "more than 2,000 names"),
    "keys of one hash": (
        b"}("
        + b"".join(b"\x8a\x0b" + (i * (2**61 - 1)).to_bytes(11, "little") + b"N" for i in range(1, 50_000))
        + b"u.",
        "objects would take more than",
    ),
    "long text": (text(0xFFFFFFF0) + b"a.", "longer than 64 MiB"),
    "long bytes": (b"\x8e" + struct.pack("<Q", 2**40) + b".", "longer than 64 MiB"),
    "long number": (b"\x8b" + struct.pack("<i", 2**31 - 1) + b".", "longer than 64 MiB"),
    "tuples in tuples as a key": (b"})" + b"\x85" * 200_000 + b"Ns.", "100 tuples in one another"),
    "lists in lists": (b"]" * 200_000 + b"a" * 199_999 + b".", "holds a list"),
    "a list that holds itself": (b"]" + b"2a" * 3000 + b".", "holds|cannot be read"),
    "laughs": (
        b"}q\x00"
        + b"".join(
            b"}r%s(" % struct.pack("<I", n) + b"".join(b"K" + bytes([k]) + get(n - 1) for k in range(200)) + b"u"
            for n in range(1, 8)
        )
        + b".",
        "not a Dance Diffusion network",
    ),
    "names of tensors": (
        b"}" + text(10**6) + b"a" * 10**6 + b"}(" + b"".join(text(5) + b"%05d}" % i for i in range(10_000)) + b"us.",
        "not a Dance Diffusion network",
    ),
    "digits": (b"}X\x0b\0\0\0sample_rate" + text(100_000) + b"1" * 100_000 + b"s.", "not a Dance Diffusion network"),
    "a deep JSON text": (
        b"}X\x06\0\0\0config" + text(600_000) + b'{"a":' * 120_000 + b"s.",
        "not a Dance Diffusion network",
    ),
}


LONG = {"many lists", "many calls", "lists in lists"}


@pytest.mark.parametrize(
    ("kind", "old_layout"), [*((kind, False) for kind in PICKLES if kind not in LONG), ("long text", True)]
)
def test_pickles_of_endless_content_are_refused(kind, old_layout, tmp_path):
    """What is repeated, copied, nested or only announced costs its author nothing."""
    pickled, message = PICKLES[kind]
    if old_layout:
        head = b"".join(pickle.dumps(x, 2) for x in (0x1950A86A20F9469CFC6C, 1001, {}))
        (tmp_path / "a.pt").write_bytes(head + b"\x80\x02" + pickled + pickle.dumps([], 2))
    else:
        torch_zip(tmp_path / "a.pt", b"\x80\x02" + pickled)
    refused(tmp_path / "a.pt", message)


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(LONG))
def test_pickles_of_a_million_operations_are_refused(kind, tmp_path):
    """Those at the limit, which take seconds."""
    pickled, message = PICKLES[kind]
    refused(torch_zip(tmp_path / "a.pt", b"\x80\x02" + pickled), message)


def test_a_torchscript_program_is_called_so(tmp_path):
    """The code in it is compressed, by torch.jit.save itself: it was told to be packed again."""
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(str(tmp_path / "a.pt"))
    refused(tmp_path / "a.pt", "a TorchScript program")


def test_compressed_pickles_are_refused(tmp_path):
    """A pickle of 200 MB came out of 200 kB."""
    torch_zip(tmp_path / "a.pt", b"\x80\x02X" + struct.pack("<I", 10**7) + bytes(10**7) + b".", zipfile.ZIP_DEFLATED)
    refused(tmp_path / "a.pt", r"packed again: archive/data\.pkl")


def test_python_and_torch_see_the_same_pickle(tmp_path):
    """A pickle under a name that only PyTorch takes for its own, before a zip archive, or in a second directory."""
    bomb = pickle.dumps({"x": Call(bytearray, 3 * 10**9)}, 2)
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("archive/DATA.PKL", bomb)
        archive.writestr("archive/version", b"3\n")
    with pytest.raises(CheckpointError, match="objects would take more than"):
        read_weights(tmp_path / "a.pt")
    harmless = torch_zip(tmp_path / "b.pt", pickle.dumps({}, 2)).read_bytes()
    (tmp_path / "b.pt").write_bytes(torch_zip(tmp_path / "c.pt", bomb).read_bytes()[:-22] + harmless)
    refused(tmp_path / "b.pt", "its directory is not where it should be")
    head = b"".join(pickle.dumps(x, 2) for x in (0x1950A86A20F9469CFC6C, 1001, {}))
    (tmp_path / "c.pt").write_bytes(head + bomb + pickle.dumps([], 2) + harmless)
    refused(tmp_path / "c.pt", "objects would take more than|directory")


def test_a_long_directory_is_not_read(tmp_path):
    """A million files of no bytes in a zip archive took a gigabyte to list."""
    content = torch_zip(tmp_path / "a.pt", b"\x80\x02}.").read_bytes()
    end = content.rindex(b"PK\5\6")
    offset = struct.unpack_from("<I", content, end + 16)[0]
    many = content[offset:end] * (20_000_000 // (end - offset))
    last = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, len(many), offset, 0)
    (tmp_path / "a.pt").write_bytes(content[:offset] + many + last)
    refused(tmp_path / "a.pt", "its directory takes 20 MB")


# --- tensors, headers, settings --------------------------------------------------------------------------------


TENSORS = {
    "repeated": lambda: {FIRST: torch.zeros(1).expand(10**9)},
    "overlapping": lambda: {FIRST: torch.zeros(2 * 10**4).as_strided((10**4, 10**4), (1, 1))},
    "no numbers": lambda: {FIRST: torch.zeros(0, 10**12)},
    "on no device": lambda: {FIRST: torch.zeros(10**9, device="meta")},
}


@pytest.mark.parametrize("kind", TENSORS)
def test_tensors_that_are_larger_than_their_file_are_refused(kind, tmp_path):
    """A network of 10 kB, whose layers repeated one number, took 1.9 GB as soon as they were hashed."""
    torch.save(TENSORS[kind](), tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "tensors would take more than that|tensors that no such network has")


def test_a_tensor_without_a_side_is_another_network(tmp_path):
    """Numbers instead of tensors were an IndexError."""
    names = ("timestep_embed.weight", "net.0.main.0.weight", "net.0.main.3.weight")
    save_file({name: torch.tensor(1.0) for name in names}, tmp_path / "a.safetensors")
    refused(tmp_path / "a.safetensors", "not a Dance Diffusion network")
    save_file({"time_proj.weight": torch.tensor(1.0)}, tmp_path / "b.safetensors")
    refused(tmp_path / "b.safetensors", "not a Dance Diffusion network")


def test_attributes_of_a_tensor_are_left_out(tmp_path, ema_weights):
    """A pickle may set any attribute of a tensor, also one that hides a method."""
    odd = torch.zeros(2)
    odd.numel = 5
    torch.save({"state_dict": ema_weights, "x": odd}, tmp_path / "a_48000_4096.pt")
    assert ddnb.load(tmp_path / "a_48000_4096.pt", device="cpu").frames == 4096
    torch.save({"x": odd}, tmp_path / "b.pt")
    refused(tmp_path / "b.pt", "not a Dance Diffusion network.*2 tensors|1 tensors")


def safetensors_with(header):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


NO_NUMBERS = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
HEADERS = {
    "many names": ({f"{i:06d}": NO_NUMBERS for i in range(150_000)}, "header of"),
    "long": ({"__metadata__": {"a": "a" * 20_000_000}}, "header of"),
    "deep": ({"__metadata__": {"ddnb": "[" * 100_000, "config": '{"a":' * 100_000}}, "not a Dance Diffusion network"),
    "networks": ({f"{i}.{FIRST}": NO_NUMBERS for i in range(30_000)}, "30,000 networks"),
    "tensors": ({"time_proj.weight": NO_NUMBERS} | {f"{i:06d}": NO_NUMBERS for i in range(30_000)}, "30,001 tensors"),
    "categories": (
        {
            "prior.log_levels": NO_NUMBERS | {"shape": [0, 1, 1]},
            "category.weight": NO_NUMBERS | {"shape": [0, 10**9]},
            "first.weight": NO_NUMBERS | {"shape": [64, 0, 3]},
            "last.weight": NO_NUMBERS | {"shape": [128, 0, 3]},
        },
        "tensors would take more than that",
    ),
    "levels": (
        {
            "prior.log_levels": NO_NUMBERS | {"shape": [0, 1, 1]},
            "category.weight": NO_NUMBERS | {"shape": [0, 1]},
            "first.weight": NO_NUMBERS | {"shape": [32, 0, 3]},
            "last.weight": NO_NUMBERS | {"shape": [128, 0, 3]},
            **{f"narrow.{i}.weight": NO_NUMBERS | {"shape": [32, 0]} for i in range(1000)},
            **{f"down.0.{i}.enter.weight": NO_NUMBERS for i in range(1000)},
        },
        "1001 levels of 1000 blocks",
    ),
    "depth": (
        {FIRST: NO_NUMBERS, "net.0.main.0.weight": NO_NUMBERS | {"shape": [0, 2]}}
        | {f"net.3.main.{'7.main.' * i}1.main.0.weight": NO_NUMBERS for i in range(500)},
        "at a depth",
    ),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_headers_of_endless_content_are_refused(kind, tmp_path):
    """The library lists 100 MB of names in gigabytes, and networks were built for any numbers."""
    header, message = HEADERS[kind]
    (tmp_path / "a.safetensors").write_bytes(safetensors_with(header))
    refused(tmp_path / "a.safetensors", message)


@pytest.mark.parametrize(
    ("content", "message"),
    [("[" * 100_000, "nested too deeply"), ('{"a": "' + "a" * 9_000_000 + '"}', "9 MB long, where 8 MiB")],
    ids=["deep", "long"],
)
def test_settings_of_endless_content_are_refused(content, message, tmp_path, ema_weights):
    """They were read whole, and deep ones were a RecursionError."""
    save_file(ema_weights, tmp_path / "model.safetensors")
    (tmp_path / "model_config.json").write_text(content)
    refused(tmp_path / "model.safetensors", message)
    (tmp_path / "model_config.json").unlink()
    (tmp_path / "diffusion_pytorch_model.safetensors.index.json").write_text(content)
    refused(tmp_path / "diffusion_pytorch_model.safetensors.index.json", message)


def test_an_index_of_many_files_is_short_to_read(tmp_path):
    """All of 50,000 missing files were named."""
    names = {f"x{i}": f"{i}.safetensors" for i in range(50_000)}
    index = tmp_path / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": names}))
    refused(index, "lacks 0.safetensors, .* of 50000 files")
    index.write_text(json.dumps({"weight_map": dict.fromkeys(names, "0.safetensors")}))
    refused(index, "lacks 0.safetensors of 1 files")


# --- archives --------------------------------------------------------------------------------------------------


def packed(path, files, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_archives_that_become_gigabytes_are_refused(tmp_path, cache):
    """They filled the disk up to its last 64 MB."""
    refused(packed(tmp_path / "a.zip", {"a.ckpt": bytes(150_000_000)}), "would become 0.15 GB from 0.146 MB")
    refused(packed(tmp_path / "b.zip", {f"{i}.json": "" for i in range(2000)} | {"a.ckpt": ""}), "holds 2,001 files")
    refused(packed(tmp_path / "c.zip", {"a.ckpt": b"abc"}, zipfile.ZIP_LZMA), "packed in a way")
    assert not (cache / "unpacked").exists() or not list((cache / "unpacked").iterdir())


def test_an_archive_in_an_archive_is_opened_once(tmp_path, cache):
    """An archive that holds archives that hold archives has no end."""
    inner = packed(tmp_path / "inner.zip", {"a.ckpt": b"abc"}).read_bytes()
    refused(
        packed(tmp_path / "a.zip", {"b.ckpt": inner}),
        "b.ckpt is a zip archive of other files than torch.save writes: it holds a.ckpt",
    )


def test_damaged_archives_are_named(tmp_path, cache):
    """A flipped bit in a compressed file was a zlib.error."""
    content = bytearray(packed(tmp_path / "a.zip", {"a.ckpt": bytes(range(256)) * 100}).read_bytes())
    content[40:60] = b"\xff" * 20
    (tmp_path / "a.zip").write_bytes(content)
    refused(tmp_path / "a.zip", "a.zip is a zip archive that cannot be unpacked")


# --- honest files ----------------------------------------------------------------------------------------------


def test_what_honest_files_hold_is_far_below_the_limits(tmp_path, ema_weights):
    """A history of 100,000 losses, an optimizer of ten networks, a thousand scalars of numpy."""
    import numpy as np

    states = {i: {"m": tensor, "v": tensor} for i, tensor in enumerate(itertools.chain(*[ema_weights.values()] * 10))}
    content = {
        "state_dict": OrderedDict(ema_weights),
        "optimizer": states,
        "losses": [i / 7 for i in range(100_000)],
        "scores": [np.float64(i) for i in range(1000)],
        "seed": 2**63 - 1,
        "buffer": bytearray(b"abc"),
    }
    torch.save(content, tmp_path / "a_48000_4096.ckpt")
    assert ddnb.load(tmp_path / "a_48000_4096.ckpt", device="cpu").sample_rate == 48000
