"""Read pickled checkpoints without running anything in them.

PyTorch's restricted unpickler reads the tensors. What else a training library left in the file (settings, callbacks,
dates, arrays) comes in as inert stand-ins: no name in a file is ever imported or called. Files that ask for functions
which run code or touch the system are refused all the same, as no honest checkpoint needs them.
"""

from __future__ import annotations

import _compat_pickle
import pickle
import pickletools
import sys
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch

from ..errors import CheckpointError

_LEGACY_PICKLES = 4  # magic number, protocol, machine, content: the layout before PyTorch 1.6

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
_SELECT = "builtins.getattr"  # harmless, unless what it selects is called
_SYSTEM = {"os", "posix", "nt", "sys", "subprocess"}  # PyTorch refuses even a mention of most of these
_MOST_OPERATIONS = 5_000_000  # of a pickle: those of the published files have 30,000


class StandIn:
    """What stands for an object of a library.

    Attributes:
        state: what its pickle would have set, such as a dictionary of settings; None if nothing.
    """

    state: Any = None

    def __new__(cls, *arguments: Any, **named: Any) -> StandIn:
        return super().__new__(cls)

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
    uses = _Uses()
    with _pickles(path) as streams:
        for stream in streams:
            uses.scan(stream)
    if uses.protocol > 2:
        raise CheckpointError(
            f"{path.name} is a pickle of protocol {uses.protocol}, and only protocol 2, which torch.save writes by "
            "default, is read safely. Ask its author for a safetensors file, or save it again without pickle_protocol=."
        )
    known = set(torch._weights_only_unpickler._get_allowed_globals())
    refused = sorted(
        {name for name in uses.called - known if runs_code(name)} | {name for name in uses.named if _is_system(name)}
    )
    if refused:
        raise CheckpointError(
            f"{path.name} was refused, as opening it could run code. It asks for: {', '.join(refused)}. "
            "Ask its author for a safetensors file, or for one that holds weights only."
        )
    stand_ins: list[Any] = [(_stand_in(name, uses.filled.get(name)), name) for name in sorted(uses.named - known)]
    with torch.serialization.safe_globals(stand_ins):
        try:
            return _torch_load(path)
        except pickle.UnpicklingError as error:
            reason = str(error).partition("WeightsUnpickler error: ")[2].partition("\n")[0] or str(error)
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
        if not zipfile.is_zipfile(file):
            file.seek(0)
            yield (file for _ in range(_LEGACY_PICKLES))
            return
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            yield (archive.open(name) for name in names)


class _Uses:
    """What a pickle does with the names in it, found by walking through its opcodes.

    Attributes:
        named: all names, as ``module.name``.
        called: those that an unpickler would call.
        filled: names whose objects are filled by item -> ``list`` or ``OrderedDict``.
        protocol: the highest one that a pickle states.
    """

    def __init__(self) -> None:
        self.named: set[str] = set()
        self.called: set[str] = set()
        self.filled: dict[str, type] = {}
        self.protocol = 0
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def scan(self, stream: IO[bytes]) -> None:
        """Walk through one pickle.

        Raises:
            ValueError, IndexError, KeyError, EOFError, UnicodeDecodeError: it is damaged.
        """
        self._stack, self._memo = [], {}
        argument: Any
        for number, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if number > _MOST_OPERATIONS:
                raise ValueError(f"a pickle of more than {_MOST_OPERATIONS:,} operations")
            if opcode.name == "PROTO":
                self.protocol = max(self.protocol, argument)
            elif opcode.name in ("GLOBAL", "INST"):
                module, name = argument.split(" ", 1)
                self._push_name(module, name, opcode.name == "INST")
            elif opcode.name == "STACK_GLOBAL":
                name, module = self._stack.pop(), self._stack.pop()
                self._push_name(str(module), str(name))
            elif "PUT" in opcode.name:
                self._memo[argument] = self._stack[-1]
            elif "GET" in opcode.name and argument is not None:
                self._stack.append(self._memo[argument])
            else:
                self._apply(opcode, argument)

    def _push_name(self, module: str, name: str, called: bool = False) -> None:
        module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
        full = f"{_compat_pickle.IMPORT_MAPPING.get(module, module)}.{name}"
        self.named.add(full)
        if called:
            self.called.add(full)
            self._pop_to_mark()
        self._stack.append(_Named(full, called))

    def _apply(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        """Do what an opcode does to the stack; of values only texts matter."""
        before = opcode.stack_before
        if pickletools.stackslice in before:
            items = self._pop_to_mark()
            below = len(before) - 2  # what is under the mark
            target = self._stack.pop() if below > 0 else items[0] if opcode.name == "OBJ" and items else None
        else:
            taken = [self._stack.pop() for _ in before]
            target = taken[-1] if taken else None
        made: Any = argument if isinstance(argument, str) else None
        if isinstance(target, _Named):
            made = self._used(opcode.name, target)
        for kind in opcode.stack_after:
            self._stack.append(pickletools.markobject if kind is pickletools.markobject else made)

    def _used(self, operation: str, target: _Named) -> Any:
        if operation in ("REDUCE", "OBJ") or operation.startswith("NEWOBJ"):
            if target.called or (operation == "REDUCE" and target.name != _SELECT):
                self.called.add(target.name)
            return _Named(target.name, True)
        if operation.startswith("APPEND"):
            self.filled[target.name] = list
        elif operation.startswith("SETITEM"):
            self.filled[target.name] = OrderedDict
        return target if operation in ("BUILD", "APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "DUP") else None

    def _pop_to_mark(self) -> list[Any]:
        items = []
        while (item := self._stack.pop()) is not pickletools.markobject:
            items.append(item)
        return items[::-1]


class _Named:
    """A name on the stack, or what calling it gives."""

    def __init__(self, name: str, called: bool):
        self.name, self.called = name, called


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
