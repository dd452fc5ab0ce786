"""Walk through a pickle without unpickling it: which names it uses, what it calls, and what memory it would take.

A pickle of kilobytes can make gigabytes: it calls what copies its arguments, again and again, or makes objects from
the numbers of a tensor that repeats one number. So each operation is charged with what it may take at most, before
any of them is done.
"""

from __future__ import annotations

import _compat_pickle
import pickletools
from collections import OrderedDict
from collections.abc import Collection, Iterable
from typing import IO, Any

_MOST_BYTES = 400 << 20  # that the objects of a file may take without its tensors; the published files' take 4 MB
_MOST_READ = 64 << 20  # bytes of a file's pickles
_OPERATION, _CALL = 400, 2000  # bytes that one takes at most, without what it copies
_COLLIDES, _COLLISION = 1 << 53, 100_000  # whole numbers from here on can be keys of one hash: of few, or time runs out
_MOST_NAMES, _MOST_LOOKUPS = 2000, 20_000_000  # PyTorch looks through all names of a file at each call
_MOST_TUPLES = 100  # in one another: Python's hash of them goes down without end

_MOST_SIZE = 1 << 40  # a list that holds itself has no end
_SELECT = "builtins.getattr"  # harmless, unless what it selects is called
_MADE_OF_OTHERS = {
    *(f"torch._utils._rebuild_{kind}" for kind in ("tensor", "tensor_v2", "tensor_v3")),
    *(f"torch._utils._rebuild_{kind}" for kind in ("parameter", "parameter_with_state")),
    *("torch._tensor._rebuild_from_type_v2", "torch.nn.parameter.Parameter"),
}
"""What PyTorch calls with tensors or storages, and takes no copy."""
_OTHER_TENSORS = "torch._utils._rebuild_", "torch.sparse."
_ENCODE = "_codecs.encode"  # how a pickle of protocol 2 holds bytes
_ENCODINGS = {"latin1", "latin-1", "utf-8", "utf8", "ascii"}


class Refused(ValueError):
    """A pickle that would take too much memory or time."""


class Value:
    """What the walk knows of an object.

    Attributes:
        name: of the global that it is or was made by; empty for others.
        called: whether it was made by a call.
        size: bytes that a copy of it and of all that is in it takes, about.
        items: of a tuple.
        tuples: how many tuples are in one another here.
    """

    __slots__ = ("called", "items", "name", "size", "tuples")

    def __init__(self, name: str = "", called: bool = False, size: int = 8, items: tuple[Any, ...] = ()):
        self.name, self.called, self.size, self.items = name, called, size, items
        self.tuples = 0

    def filled(self, items: Iterable[Any]) -> Value:
        """Return this object with further items in it."""
        self.size = min(self.size + _total(items), _MOST_SIZE)
        return self


class Uses:
    """What the pickles of a file do, found by walking through their opcodes.

    Args:
        known: names that PyTorch's unpickler calls itself; all others are of stand-ins.

    Attributes:
        named: all names, as ``module.name``.
        called: those that an unpickler would call.
        filled: names whose objects are filled by item -> ``list`` or ``OrderedDict``.
        protocol: the highest one that a pickle states.
    """

    def __init__(self, known: Collection[str]):
        self._known = known
        self.named: set[str] = set()
        self.called: set[str] = set()
        self.filled: dict[str, type] = {}
        self.protocol = 0
        self._bytes = self._calls = 0
        self._left = _MOST_READ
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def scan(self, stream: IO[bytes]) -> None:
        """Walk through one pickle; the limits are those of all of them together.

        Raises:
            Refused: it would take too much memory or time.
            ValueError, IndexError, KeyError, EOFError, UnicodeDecodeError: it is damaged.
        """
        self._stack, self._memo = [], {}
        limited: Any = _Limited(stream, self._left)
        argument: Any
        for opcode, argument, _ in pickletools.genops(limited):
            self._charge(_OPERATION)
            name = opcode.name
            if name == "PROTO":
                self.protocol = max(self.protocol, argument)
            elif name in ("GLOBAL", "INST"):
                module, name = argument.split(" ", 1)
                self._push_name(module, name, opcode.name == "INST")
            elif name == "STACK_GLOBAL":
                name, module = self._stack.pop(), self._stack.pop()
                self._push_name(str(module), str(name))
            elif "PUT" in name:
                self._memo[argument] = self._stack[-1]
            elif "GET" in name and argument is not None:
                self._stack.append(self._memo[argument])
            else:
                self._apply(opcode, argument)
        self._left = limited.left
        if self._calls * len(self.named) > _MOST_LOOKUPS:
            raise Refused(f"a pickle of {self._calls:,} calls with {len(self.named):,} names")

    def _charge(self, size: int) -> None:
        self._bytes += size
        if self._bytes > _MOST_BYTES:
            raise Refused(f"its objects would take more than {_MOST_BYTES >> 20} MiB beside its tensors")

    def _push_name(self, module: str, name: str, called: bool = False) -> None:
        module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
        full = f"{_compat_pickle.IMPORT_MAPPING.get(module, module)}.{name}"
        self.named.add(full)
        self._calls += 1
        if len(self.named) > _MOST_NAMES:
            raise Refused(f"a pickle of more than {_MOST_NAMES:,} names")
        if called:
            self.called.add(full)
            self._pop_to_mark()
        self._stack.append(Value(full, called))

    def _apply(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        """Do what an opcode does to the stack."""
        before = opcode.stack_before
        if pickletools.stackslice in before:
            items = self._pop_to_mark()
            below = len(before) - 2  # what is under the mark
            target = self._stack.pop() if below > 0 else items[0] if opcode.name == "OBJ" and items else None
        else:
            taken = [self._stack.pop() for _ in before]
            target, items = (taken[-1] if taken else None), taken[-2::-1]
        made = self._made(opcode.name, argument, target, items)
        for kind in opcode.stack_after:
            self._stack.append(pickletools.markobject if kind is pickletools.markobject else made)

    def _made(self, operation: str, argument: Any, target: Any, items: list[Any]) -> Any:
        """Return what an opcode leaves on the stack."""
        if isinstance(argument, int) and not isinstance(argument, bool) and abs(argument) >= _COLLIDES:
            self._charge(_COLLISION)
        if argument is not None:
            return argument if isinstance(argument, str | int) else Value(size=_size(argument))
        if operation.startswith("TUPLE"):
            return self._tuple(items if operation == "TUPLE" else [target, *items])
        if isinstance(target, Value) and target.name:
            return self._used(operation, target, items)
        if isinstance(target, Value) and operation != "BINPERSID":
            return target.filled(items)
        return Value(called=operation == "BINPERSID", size=_total(items))

    def _tuple(self, items: list[Any]) -> Value:
        made = Value(size=_total(items), items=tuple(items))
        made.tuples = 1 + max((item.tuples for item in items if isinstance(item, Value)), default=0)
        if made.tuples > _MOST_TUPLES:
            raise Refused(f"more than {_MOST_TUPLES} tuples in one another")
        return made

    def _used(self, operation: str, target: Value, items: list[Any]) -> Any:
        if operation in ("REDUCE", "OBJ") or operation.startswith("NEWOBJ"):
            if target.called or (operation == "REDUCE" and target.name != _SELECT):
                self.called.add(target.name)
            self._call(target.name, items[-1].items if items and isinstance(items[-1], Value) else (), items)
            return Value(target.name, True, _total(items))
        if operation == "BUILD":
            self._call(target.name, tuple(items), items)
        elif operation.startswith("APPEND"):
            self.filled[target.name] = list
        elif operation.startswith("SETITEM"):
            self.filled[target.name] = OrderedDict
        kept = ("BUILD", "APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "DUP")
        return target.filled(items) if operation in kept else Value()

    def _call(self, name: str, arguments: tuple[Any, ...], items: list[Any]) -> None:
        """Charge a call with a copy of its arguments, and refuse what takes more than that."""
        self._calls += 1
        self._charge(_CALL)
        if name not in self._known:
            return  # a stand-in copies nothing
        self._charge(_total(items))
        if name.startswith(_OTHER_TENSORS) and name not in _MADE_OF_OTHERS:
            raise Refused(f"sparse, quantized or other tensors that no such network has ({name})")
        made = [item for item in arguments if isinstance(item, Value) and item.called and item.name != _ENCODE]
        if made and name not in _MADE_OF_OTHERS:
            raise Refused(f"{name} is made from {made[0].name or 'a storage'}, item by item")
        if name == "builtins.bytearray":
            self._charge(sum(abs(item) for item in arguments if isinstance(item, int)))
        if name == _ENCODE and arguments[1:] and arguments[1] not in _ENCODINGS:
            raise Refused(f"a text in the encoding {arguments[1]!r}")
        if name == "torch._tensor._rebuild_from_type_v2":
            function = arguments[0] if arguments else None
            if not isinstance(function, Value) or function.name not in _MADE_OF_OTHERS:
                raise Refused(f"{name} calls {getattr(function, 'name', '') or 'what is no function of tensors'}")

    def _pop_to_mark(self) -> list[Any]:
        items = []
        while (item := self._stack.pop()) is not pickletools.markobject:
            items.append(item)
        return items[::-1]


class _Limited:
    """A stream that gives no more than so many bytes, whatever length a pickle states."""

    def __init__(self, stream: IO[bytes], left: int):
        self._stream, self.left = stream, left

    def read(self, size: int) -> bytes:
        self._take(size)
        return self._stream.read(size)

    def readline(self) -> bytes:
        line = self._stream.readline(self.left + 1)
        self._take(len(line))
        return line

    def _take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise Refused(f"its pickles are longer than {_MOST_READ >> 20} MiB")


def _total(items: Iterable[Any]) -> int:
    return min(8 + sum(map(_size, items)), _MOST_SIZE)


def _size(item: Any) -> int:
    if isinstance(item, Value):
        return item.size
    return len(item) + 50 if isinstance(item, str | bytes | bytearray) else 8
