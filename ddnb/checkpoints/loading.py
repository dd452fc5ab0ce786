"""Checkpoints by name or by file: found, fetched, converted once, ready to call."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..files import ASSETS
from ..nets.build import Network, network
from ..nets.unet import UNet, UNetConfig
from ..runtime import cache_dir, pick
from .checkpoint import Checkpoint, weights_sha256
from .download import SCHEMES, OnProgress, download_dir, fetch, local_path
from .formats import needs_conversion, not_this_network, parts, read_weights, write_safetensors
from .registry import _unknown, list_checkpoints

_NAMED_FORMAT = re.compile(r"_(\d{4,6})_(\d{3,8})$")
_WEIGHT_FILES = {".ckpt", ".safetensors", ".bin", ".pt", ".pth"}


def load(
    source: str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    sample_rate: int | None = None,
    frames: int | None = None,
    on_progress: OnProgress | None = None,
) -> Checkpoint:
    """Open a checkpoint, whatever wrote it and wherever it lies. No code of a file is ever run.

    The first time a pickle or a foreign format is opened, its EMA weights are kept as safetensors in the
    cache folder; the next time they load from there.

    Args:
        source: a name of ``list_checkpoints()``; a path of a ``.ckpt``, ``.safetensors``, ``.bin``, a
            diffusers folder or a training run; ``hf:owner/name``; ``drive:ID``; or a link.
        device: ``"cpu"``, ``"cuda"``, ``"mps"``; the best there is by default.
        dtype: ``"float32"``, ``"float16"``, ``"bfloat16"``; what suits the device by default.
        sample_rate: Hz, where neither the registry, nor the file, nor its name (``name_RATE_FRAMES``) says so.
        frames: frames per clip in training, likewise.
        on_progress: ``on_progress(bytes_done, bytes_in_all)`` while a download arrives.

    Returns:
        The checkpoint on its device.

    Raises:
        CheckpointError: unknown name, failed download, unsafe or damaged file, another network, or a sample
            rate or length that is nowhere stated.
        FileNotFoundError: no such file.
        ValueError: an impossible device, dtype, sample rate or length.
    """
    runtime = pick(device, dtype)
    stated = {"sample_rate": sample_rate, "frames": frames}
    for what, value in stated.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ValueError(f"{what}={value!r}: give a positive whole number.")
    entry = list_checkpoints().get(str(source))
    if entry and "untrained" in entry:
        net = _untrained(entry["untrained"])
        facts = {"untrained": True, "weights_sha256": weights_sha256(net.state_dict())}
    else:
        path = _locate(source, entry, on_progress)
        state, facts = _read_fetched(path)
        net = _build(state, path)
        facts = _facts_in_name(path) | {"name": _name_of(source, path)} | facts
    if entry:
        known = ("sample_rate", "frames", "licence", "credit", "categories")
        facts |= {"name": str(source)} | {k: entry[k] for k in known if k in entry}
    for what, value in stated.items():
        if value is not None and facts.setdefault(what, value) != value:
            warnings.warn(f"{source} states {what}={facts[what]}; {value} is used, as you say", stacklevel=2)
            facts[what] = value
    _require_format(source, facts)
    facts.setdefault("licence", "not known")
    if len(facts.get("categories", ())) != net.config.planes:  # one plane each, or the names belong to something else
        facts.pop("categories", None)
    dtype = net.in_precision(runtime.dtype)
    net.to(runtime.device).eval().requires_grad_(False)
    rate, length = facts.pop("sample_rate"), facts.pop("frames")
    return Checkpoint(net, rate, length, runtime.device, dtype, facts | {"source": str(source)})


def _locate(source: str | Path, entry: Mapping[str, Any] | None, on_progress: OnProgress | None) -> Path:
    """The file or folder behind a name, a path or a link."""
    text = str(source)
    if entry and "asset" in entry:
        return ASSETS / entry["asset"]
    if entry:
        return _first_of(text, entry["sources"], on_progress)
    if text.startswith(SCHEMES):
        return fetch(text, on_progress=on_progress)
    path = Path(text).expanduser()
    if (path / "last.safetensors").is_file():  # the folder of a training run
        return path.absolute() / "last.safetensors"
    if path.exists():
        return path.absolute()  # not resolved: the name of a link may state the format
    if path.suffix in _WEIGHT_FILES or len(path.parts) > 1:
        raise FileNotFoundError(f"No checkpoint at {path}.")
    raise _unknown(text)


def _first_of(name: str, sources: list[dict[str, Any]], on_progress: OnProgress | None) -> Path:
    """Fetch from the first source that works; one that is on this machine already goes first."""
    failures = []
    here = [s for s in sources if not s["from"].startswith("hf:") and local_path(s["from"]).exists()]
    for source in here + [s for s in sources if s not in here]:
        try:
            return fetch(source["from"], sha256=source.get("sha256"), on_progress=on_progress)
        except CheckpointError as error:
            failures.append(f"- {error}")
    raise CheckpointError(f"{name} could not be had from any of its {len(sources)} sources:\n" + "\n".join(failures))


def _read_fetched(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read weights; a download that turns out to be useless is removed, so that the next try fetches it anew."""
    try:
        return _read_cached(path)
    except CheckpointError as error:
        if download_dir() not in path.parents:
            raise
        path.unlink(missing_ok=True)
        raise CheckpointError(f"{error} The download was removed: try again, or from another source.") from error


def _read_cached(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read weights, through a safetensors copy in the cache where the file itself is slow or foreign.

    The hash of the weights is computed, and believed only from a copy of our own.
    """
    if not needs_conversion(path):
        state, facts = read_weights(path)
        return state, facts | {"weights_sha256": weights_sha256(state)}
    cached = _cache_path(path)
    if cached.exists():
        try:
            return read_weights(cached)
        except CheckpointError:  # cut short by a full disk or a power cut; made anew below
            cached.unlink(missing_ok=True)
    state, facts = read_weights(path)
    _build(state, path)  # a network of another kind does not enter the cache
    facts = _facts_in_name(path) | facts | {"weights_sha256": weights_sha256(state)}
    try:
        write_safetensors(cached, state, facts)
    except OSError as error:
        warnings.warn(f"{cached.parent} cannot be written ({error}): {path.name} opens slowly each time.", stacklevel=4)
        return state, facts
    for stale in cached.parent.glob(f"{glob.escape(cached.stem.rpartition('-')[0])}-*.safetensors"):
        if stale != cached:
            with contextlib.suppress(OSError):  # Windows keeps a file that another program has open
                stale.unlink()
    return read_weights(cached)


def _cache_path(path: Path) -> Path:
    """Where the converted copy of a file lies; another size or time of the file gives another name."""
    place = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    stats = [part.stat() for part in parts(path)]
    state = hashlib.sha256(repr([(s.st_size, s.st_mtime_ns) for s in stats]).encode()).hexdigest()[:12]
    return cache_dir() / "converted" / f"{path.stem[:80]}-{place}-{state}.safetensors"


def _build(state: Mapping[str, Tensor], path: Path) -> Network:
    """The network of a state dict; its parameters are the tensors of the state dict, not copies."""
    if whole := [name for name, tensor in state.items() if not tensor.is_floating_point()]:
        raise not_this_network(path, state, f"{whole[0]} holds whole numbers")
    try:
        return network(state)
    except (KeyError, ValueError, IndexError) as error:
        why = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise not_this_network(path, state, why) from error


def _untrained(entry: Mapping[str, Any]) -> UNet:
    """A network that knows nothing, the same on every machine, and easy on the ears.

    Random weights as the original draws them would give noise far over full scale. Here v is about ``2 x``, carried
    by the shortcuts, so that the noise falls to ``exp(-2 pi/2)`` of itself: a hiss, coloured by what the rest adds.
    """
    config = UNetConfig(widths=tuple(entry["widths"]), attention_levels=tuple(entry["attention_levels"]))
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.random.default_generator.manual_seed(entry["seed"])  # torch.manual_seed would reseed the GPUs as well
        net = UNet(config)
    audio, wide = torch.arange(config.channels), config.widths[0]
    with torch.no_grad():
        for block in (net.net[i] for i in (0, 1, 2, 4, 5)):
            for parameter in block.main[4].parameters():
                parameter *= 0.1
                parameter[audio] = 0  # nothing is added to the lanes of the audio: GELU would add an offset
        for index, first, gain in (
            (0, 0, 1.0),
            (4, wide, 1.0),
            (6, 0, 2.0),
        ):  # beside the inner levels lies their input
            shortcut = net.net[index].skip.weight.zero_()
            shortcut[audio, audio + first] = gain
        last = net.net[6].main[3].weight
        last.copy_(0.1 * (last - last.mean(dim=(1, 2), keepdim=True)))
        net.net[6].main[3].bias.zero_()
    return net


def _name_of(source: str | Path, path: Path) -> str:
    """What to call a checkpoint that does not say its name; a folder of the Hub's cache is named by a hash."""
    if str(source).startswith("hf:") and path.is_dir():
        return str(source).rpartition("/")[2]
    return path.stem if path.is_file() else path.name


def _facts_in_name(path: Path) -> dict[str, int]:
    """Rate and length stated by the community's file names, ``name_RATE_FRAMES.ckpt``."""
    found = _NAMED_FORMAT.search(path.stem)
    return {"sample_rate": int(found[1]), "frames": int(found[2])} if found else {}


def _require_format(source: str | Path, facts: Mapping[str, Any]) -> None:
    if missing := [k for k in ("sample_rate", "frames") if not isinstance(facts.get(k), int) or facts[k] < 1]:
        path = Path(str(source))
        raise CheckpointError(
            f"{source} does not state its {' and '.join(missing)}: ask whoever trained it (common are 48000, 44100 and "
            f"16000 Hz, and 65536 frames). Say so, for example with load(..., sample_rate=48000, frames=65536), on the "
            f"command line --sample-rate 48000 --frames 65536, or in its name: {path.stem}_48000_65536{path.suffix}"
        )
