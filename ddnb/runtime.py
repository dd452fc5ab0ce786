"""The device and the precision, with the reason for the choice; the cache folder; batches that fit into memory."""

from __future__ import annotations

import atexit
import importlib.util
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

from .errors import ArgumentError
from .files import expand
from .notices import warn

T = TypeVar("T")

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class Runtime(NamedTuple):
    """A device, the precision that suits it, and the reason for both."""

    device: torch.device
    dtype: torch.dtype
    reason: str


def pick(device: str | torch.device | None = None, dtype: str | torch.dtype | None = None) -> Runtime:
    """Choose the device and the precision; the caller may fix either.

    Args:
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``; None takes the best one available.
        dtype: ``"float32"``, ``"float16"`` or ``"bfloat16"``; None takes what suits the device.

    Raises:
        ArgumentError: a device that is not available, or an unknown precision.
    """
    try:
        chosen = torch.device(device) if device is not None else _best_device()
    except RuntimeError as error:
        raise ArgumentError(f"device={device!r}: ddnb runs on 'cpu', 'cuda' and 'mps'.") from error
    if chosen.type not in ("cpu", "cuda", "mps"):
        raise ArgumentError(f"device={device!r}: ddnb runs on 'cpu', 'cuda' and 'mps'.")
    if not is_available(chosen):
        raise ArgumentError(f"device={device!r} is not available here; the best available is '{_best_device()}'.")
    suited, reason = _suited_dtype(chosen)
    if dtype is None:
        return Runtime(chosen, suited, reason)
    return Runtime(chosen, _dtype(dtype), f"{chosen}, {str(_dtype(dtype)).removeprefix('torch.')} as asked")


def _best_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def is_available(device: str | torch.device) -> bool:
    """Return whether this machine has the device; an unknown one counts as not available."""
    try:
        device = torch.device(device)
    except RuntimeError:
        return False
    if device.type == "cuda":
        return torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()
    return device.type == "cpu" or (device.type == "mps" and torch.backends.mps.is_available())


def _suited_dtype(device: torch.device) -> tuple[torch.dtype, str]:
    if device.type == "cuda":
        name, (major, _) = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)
        if major >= 8:
            return torch.bfloat16, f"{name}: bfloat16, the fastest on its tensor cores, and it cannot overflow"
        if major == 7:
            return torch.float16, f"{name}: float16, twice as fast on its tensor cores; it has no bfloat16"
        return torch.float32, f"{name}: float32, as it has no tensor cores"
    if device.type == "mps":
        return torch.float32, "Apple GPU: float32, as half precision is not reliable there"
    return torch.float32, "CPU: float32, as half precision is slower on most CPUs"


def _dtype(dtype: str | torch.dtype) -> torch.dtype:
    if isinstance(dtype, torch.dtype) and dtype in DTYPES.values():
        return dtype
    if dtype not in DTYPES:
        raise ArgumentError(f"dtype={dtype!r}: known are {', '.join(DTYPES)}.")
    return DTYPES[dtype]


def summary() -> str:
    """Return one line with the device and the reason for it, versions, and the cache folder."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "ipywidgets"))
    here = pick()
    hint = "; for a graphics card: Runtime > Change runtime type" if in_colab() and here.device.type == "cpu" else ""
    return f"{here.reason}{hint}; {versions}; cache {cache_dir()}"


def in_colab() -> bool:
    """Return whether the kernel runs on Colab (also when VS Code is attached to it)."""
    try:
        return importlib.util.find_spec("google.colab") is not None
    except ModuleNotFoundError:  # no package named google at all
        return False


def cache_dir() -> Path:
    """Return the cache folder, ``$DDNB_CACHE`` or ``~/.cache/ddnb``; it may not exist yet.

    A user without a home folder, or with one that cannot be written to, as in many containers, gets a temporary one.
    """
    given = os.environ.get("DDNB_CACHE")
    return expand(given) if given else _home_cache() or _temporary_cache()


def _home_cache() -> Path | None:
    """Return the cache folder at home; None where there is no home, or it cannot be made there."""
    try:
        folder = Path.home() / ".cache" / "ddnb"
    except RuntimeError:  # neither HOME nor an entry in /etc/passwd
        return None
    there = next(place for place in (folder, *folder.parents) if place.exists() or place == place.parent)
    return folder if there == folder or os.access(there, os.W_OK) else None


def prepare_libraries() -> None:
    """Give a folder to libraries that do not work without a home: to be called before matplotlib is imported."""
    if _home_cache() is None:
        for variable in ("XDG_CACHE_HOME", "NUMBA_CACHE_DIR", "MPLCONFIGDIR"):
            os.environ.setdefault(variable, str(cache_dir() / "libraries"))


def import_librosa() -> Any:
    """Import librosa, which does not work without a cache folder of its own."""
    prepare_libraries()
    import librosa

    return librosa


@cache
def _temporary_cache() -> Path:
    """Return a folder that is removed when the process ends."""
    folder = tempfile.TemporaryDirectory(prefix="ddnb-", ignore_cleanup_errors=True)
    atexit.register(folder.cleanup)
    warn(
        f"There is no home folder that can be written to, so the cache is in {folder.name} until this process ends: "
        "set DDNB_CACHE to a folder to keep it.",
        stacklevel=4,
    )
    return Path(folder.name)


def open_cache(kind: str) -> Path:
    """Return a folder of the cache, which is created if necessary.

    Raises:
        OSError: it cannot be written; the message says what to do.
    """
    folder = cache_dir() / kind
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"{folder} cannot be written ({error.strerror}): set DDNB_CACHE to a folder that can be."
        ) from error
    return folder


NO_MEMORY = (
    "Not even one clip fits into the memory of this device: make it shorter, use float16, close other programs, or "
    "use device='cpu'."
)


def in_batches(
    work: Callable[[Sequence[T]], torch.Tensor], items: Sequence[T], batch_size: int
) -> Iterator[torch.Tensor]:
    """Run ``work`` over slices of ``items``; when memory runs out, halve the slice and continue.

    Args:
        work: takes a slice of ``items`` and returns one tensor.
        items: the items.
        batch_size: length of a slice, at least 1.

    Yields:
        The results of ``work``, slice by slice, in order.

    Raises:
        MemoryError: not even one item fits.
    """
    start = 0
    while start < len(items):
        batch = items[start : start + batch_size]
        try:
            result = work(batch)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if len(batch) == 1:
                raise MemoryError(NO_MEMORY) from error
            batch_size = (len(batch) + 1) // 2
        else:
            yield result
            start += len(batch)
            continue
        # here, where the error no longer holds references to the tensors of the failed batch
        torch.cuda.empty_cache()
        warn(f"Out of memory: continuing with {batch_size} clips at a time.", stacklevel=2)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether an error means a lack of memory: only CUDA has an exception of its own for it."""
    words = (
        "can't allocate memory",
        "not enough memory",
        "out of memory",
        "ALLOC_FAILED",
        "CUDNN_STATUS_NOT_SUPPORTED",
    )
    return isinstance(error, torch.OutOfMemoryError) or any(w in str(error) for w in words)
