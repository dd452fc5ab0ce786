"""Read pickled checkpoints without running anything in them.

PyTorch's restricted unpickler reads the tensors. What else a training library left in the file (settings, callbacks,
dates, arrays) comes in as inert stand-ins: no name in a file is ever imported or called. Files that ask for functions
which run code or touch the system are refused all the same, as no honest checkpoint needs them.
"""

from __future__ import annotations

import io
import pickle
import sys
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch

from ..errors import CheckpointError
from .scan import Refused, Uses
from .zips import open_zip

_ZIP = b"PK\x03\x04"
_LEGACY_PICKLES = 5  # magic number, protocol, machine, content, keys of storages: the layout before PyTorch 1.6

_HARMLESS_MODULES = set(
    "argparse array calendar collections copyreg datetime decimal enum fractions ipaddress logging numbers pathlib "  # noqa: SIM905
    "random re string time types typing uuid zoneinfo _codecs".split()
)
_HARMLESS = {"functools.partial", "inspect.Parameter", "inspect.Signature"}
_RUN_CODE = {
    *("dill", "cloudpickle", "joblib", "numpy.load", "numpy.f2py", "pandas.read_pickle", "torch.hub", "torch.jit"),
    *("torch.load", "torch.package", "torch.serialization", "torch.storage._load_from_bytes"),
    "torch.utils.cpp_extension",
}
_SYSTEM = {"os", "posix", "nt", "sys", "subprocess"}  # PyTorch refuses even a mention of most of these


class StandIn:
    """What stands for an object of a library.

    Attributes:
        state: what its pickle would have set, such as a dictionary of settings; None if nothing.
        arguments: what it would have been called with.
    """

    state: Any = None
    arguments: tuple[Any, ...] = ()

    def __new__(cls, *arguments: Any, **named: Any) -> StandIn:
        made = super().__new__(cls)
        made.arguments = arguments
        return made

    def __init__(self, *arguments: Any, **named: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


def read_pickle(path: Path) -> Any:
    """Return the content of a file that ``torch.save`` wrote, in any layout.

    Raises:
        CheckpointError: it asks for what would run code, or the restricted unpickler cannot read it.
        Exception: an unpickler may raise anything on damaged bytes.
    """
    known = set(torch._weights_only_unpickler._get_allowed_globals())
    uses = Uses(known)
    with _pickles(path) as streams:
        for stream in streams:
            try:
                uses.scan(stream)
            except Refused as error:
                raise CheckpointError(
                    f"{path.name} was refused, as opening it could take all memory or hours: {error}. Ask its author "
                    "for a safetensors file, or for one that holds weights only."
                ) from error
            except (KeyError, IndexError, ValueError):
                if uses.protocol <= 2:
                    raise
                break  # opcodes that only the newer protocols have
    if uses.protocol > 2:
        raise CheckpointError(
            f"{path.name} is a pickle of protocol {uses.protocol}, and only protocol 2, which torch.save writes by "
            "default, is read safely. Ask its author for a safetensors file, or save it again without pickle_protocol=."
        )
    refused = sorted(
        {name for name in uses.called - known if runs_code(name)} | {name for name in uses.named if _is_system(name)}
    )
    if refused:
        raise CheckpointError(
            f"{path.name} was refused, as opening it could run code. It asks for: {', '.join(refused[:10])[:500]}. "
            "Ask its author for a safetensors file, or for one that holds weights only."
        )
    stand_ins: list[Any] = [(_stand_in(name, uses.filled.get(name)), name) for name in sorted(uses.named - known)]
    with torch.serialization.safe_globals(stand_ins):
        try:
            return _torch_load(path)
        except pickle.UnpicklingError as error:
            reason = str(error).partition("WeightsUnpickler error: ")[2].partition("\n")[0] or str(error)
            reason = reason[:500]
            raise CheckpointError(
                f"{path.name} holds objects that cannot be read without running code: {reason}"
            ) from error


def runs_code(name: str) -> bool:
    """Return whether calling something of this dotted name, as an ordinary unpickler does, could run code."""
    module, _, last = name.rpartition(".")
    root = module.partition(".")[0]
    if _is_system(name) or any(name == some or name.startswith(f"{some}.") for some in _RUN_CODE):
        return True
    if root == "builtins":
        import builtins

        return not isinstance(getattr(builtins, last, None), type)
    return root in sys.stdlib_module_names and root not in _HARMLESS_MODULES and name not in _HARMLESS


def _is_system(name: str) -> bool:
    return bool(_SYSTEM & set(name.split(".")[:-1]))


@contextmanager
def _pickles(path: Path) -> Iterator[Iterator[IO[bytes]]]:
    """Give the pickles of a file, each at its beginning."""
    with path.open("rb") as file:
        if file.read(len(_ZIP)) != _ZIP:  # as PyTorch decides it
            file.seek(0)
            yield (file for _ in range(_LEGACY_PICKLES))
            return
    with open_zip(path) as archive:
        found = [info for info in archive.infolist() if info.filename.lower().endswith("data.pkl")]  # as PyTorch looks
        if not found:
            names = ", ".join(archive.namelist()[:4])[:500]
            raise CheckpointError(
                f"{path.name} is a zip archive of other files than torch.save writes: it holds {names or 'nothing'}."
            )
        if any(info.filename.endswith("constants.pkl") for info in archive.infolist()):
            raise CheckpointError(
                f"{path.name} is a TorchScript program, not weights alone. Ask its author for the state dict."
            )
        _require_stored(archive, path)
        yield (io.BufferedReader(archive.open(info)) for info in found)  # type: ignore[type-var]


def _require_stored(archive: zipfile.ZipFile, path: Path) -> None:
    """Raise CheckpointError for programs, and for compressed content, of which kilobytes may become gigabytes."""
    if any(name.endswith("/constants.pkl") for name in archive.namelist()):
        raise CheckpointError(
            f"{path.name} is a TorchScript program, not weights: ask its author for a file of torch.save."
        )
    for info in archive.infolist():
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise CheckpointError(
                f"{path.name} was packed again: {info.filename[:100]} in it is compressed, as torch.save never does. "
                "Ask its author for the file as it was saved."
            )


def _stand_in(name: str, filled: type | None) -> type:
    """Return a class for a name; PyTorch's unpickler fills nothing but plain lists and dictionaries by item."""
    methods = {} if filled is None else {"__new__": lambda cls, *arguments, **named: filled()}
    return type(name.rpartition(".")[2], (StandIn,), methods)


def _torch_load(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old files use storage classes that torch now calls deprecated
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap can only be used" not in str(error):
                raise
            return torch.load(path, map_location="cpu", weights_only=True)
