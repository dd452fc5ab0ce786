"""Load a checkpoint by name, path or link: locate, download, convert once, build the network."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checks import whole
from ..errors import CheckpointError, FormatOverridden
from ..files import ASSETS, cut_name, expand
from ..nets.build import Network, build_network
from ..nets.unet import UNet, UNetConfig
from ..notices import warn
from ..runtime import cache_dir, pick
from .archives import unpacked
from .checkpoint import Checkpoint, weights_sha256
from .contents import not_this_network
from .download import SCHEMES, OnProgress, download_dir, fetch, local_path
from .folders import WEIGHT_FILES
from .formats import facts_in_name, needs_conversion, parts, read_weights, write_safetensors
from .registry import list_checkpoints, unknown_checkpoint

_LIMITS = {"sample_rate": (1_000, 768_000), "frames": (1, 1 << 24)}


def load(
    source: str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    sample_rate: int | None = None,
    frames: int | None = None,
    on_progress: OnProgress | None = None,
) -> Checkpoint:
    """Load a checkpoint of any format from any place. No code in a file is ever run.

    The first time a pickle or a foreign format is opened, its EMA weights are saved as safetensors in the cache folder;
    the next time they load from there.

    Args:
        source: a name of ``list_checkpoints()``; a path of a ``.ckpt``, ``.safetensors``, ``.bin``, a
            diffusers folder or a training run; ``hf:owner/name``; ``drive:ID``; or a link.
        device: ``"cpu"``, ``"cuda"`` or ``"mps"`` (default: the best available).
        dtype: ``"float32"``, ``"float16"`` or ``"bfloat16"`` (default: what suits the device).
        sample_rate: Hz, if neither the registry, nor the file, nor its name (``name_RATE_FRAMES``) states it.
        frames: frames per clip in training, likewise.
        on_progress: called as ``on_progress(bytes_done, bytes_in_all)`` during a download.

    Returns:
        The checkpoint on its device.

    Raises:
        CheckpointError: unknown name, failed download, unsafe or damaged file, another kind of network, or a sample
            rate or length that is not stated anywhere.
        FileNotFoundError: no such file.
        ArgumentError: an impossible device, dtype, sample rate or length.
    """
    runtime, stated = pick(device, dtype), _check_stated(sample_rate, frames)
    net: Network
    facts: dict[str, Any]
    entry = list_checkpoints().get(str(source))
    if entry and "untrained" in entry:
        net = _untrained(entry["untrained"])
        facts = {"untrained": True, "weights_sha256": weights_sha256(net.state_dict())}
    else:
        located = _locate(source, entry, on_progress)
        path = unpacked(located)
        state, facts = _read_fetched(path)
        net = _build(state, path)
        facts = facts_in_name(located) | facts_in_name(path) | {"name": _name_of(source, path)} | facts
    if entry:
        known = ("sample_rate", "frames", "licence", "credit", "categories")
        facts |= {"name": str(source)} | {k: entry[k] for k in known if k in entry}
    for what, value in stated.items():
        low, high = _LIMITS[what]
        if facts.setdefault(what, value) != value and low <= facts[what] <= high:
            text = f"{source} states {what}={facts[what]}; using {value} as requested"
            warn(text, FormatOverridden, stacklevel=2)
        facts[what] = value
    _require_format(source, facts)
    facts.setdefault("licence", "not known")
    if len(facts.get("categories", ())) != net.config.planes:  # one plane each; else the names are of something else
        facts.pop("categories", None)
    dtype = net.in_precision(runtime.dtype)
    net.to(runtime.device).eval().requires_grad_(False)
    rate, length = facts.pop("sample_rate"), facts.pop("frames")
    return Checkpoint(net, rate, length, runtime.device, dtype, facts | {"source": str(source)})


def _check_stated(sample_rate: int | None, frames: int | None) -> dict[str, int]:
    given = {"sample_rate": sample_rate, "frames": frames}
    return {what: whole(what, value, *_LIMITS[what]) for what, value in given.items() if value is not None}


def _locate(source: str | Path, entry: Mapping[str, Any] | None, on_progress: OnProgress | None) -> Path:
    """Return the file or folder behind a name, a path or a link."""
    text = str(source)
    if entry and "asset" in entry:
        return ASSETS / entry["asset"]
    if entry:
        return _first_of(text, entry["sources"], on_progress)
    if text.startswith(SCHEMES):
        return fetch(text, on_progress=on_progress)
    path = expand(text)
    if (path / "last.safetensors").is_file():  # the folder of a training run
        return path.absolute() / "last.safetensors"
    if path.exists():
        return path.absolute()  # not resolved: the name of a link may state the format
    if path.suffix in WEIGHT_FILES or len(path.parts) > 1:
        raise FileNotFoundError(f"No checkpoint at {path}.")
    raise unknown_checkpoint(text)


def _first_of(name: str, sources: list[dict[str, Any]], on_progress: OnProgress | None) -> Path:
    """Download from the first source that works; one that is on this machine already comes first."""
    failures = []
    here = [s for s in sources if not s["from"].startswith("hf:") and local_path(s["from"]).exists()]
    for source in here + [s for s in sources if s not in here]:
        try:
            return fetch(source["from"], sha256=source.get("sha256"), on_progress=on_progress)
        except CheckpointError as error:
            failures.append(f"- {error}")
    raise CheckpointError(f"{name} could not be downloaded from any of {len(sources)} sources:\n" + "\n".join(failures))


def _read_fetched(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read weights; an unusable download is removed, so that the next attempt downloads it again."""
    try:
        return _read_cached(path)
    except CheckpointError as error:
        if download_dir() not in path.parents:
            raise
        path.unlink(missing_ok=True)
        raise CheckpointError(f"{error} The download was removed: try again, or use another source.") from error


def _read_cached(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read weights, through a safetensors copy in the cache if the file itself is slow or of a foreign format.

    The hash of the weights is computed, or taken from a copy of our own.
    """
    if not needs_conversion(path):
        state, facts = read_weights(path)
        return state, facts | {"weights_sha256": weights_sha256(state)}
    cached = _cache_path(path)
    if cached.exists():
        try:
            return read_weights(cached)
        except CheckpointError:  # truncated by a full disk or a power cut; written again below
            cached.unlink(missing_ok=True)
    state, facts = read_weights(path)
    _build(state, path)  # other kinds of networks are not cached
    facts = facts_in_name(path) | facts | {"weights_sha256": weights_sha256(state)}
    try:
        write_safetensors(cached, state, facts)
    except OSError as error:
        warn(f"{cached.parent} cannot be written ({error}): {path.name} opens slowly each time.", stacklevel=4)
        return state, facts
    for stale in cached.parent.glob(f"{glob.escape(cached.stem.rpartition('-')[0])}-*.safetensors"):
        if stale != cached:
            with contextlib.suppress(OSError):  # Windows does not delete a file that another program has open
                stale.unlink()
    return read_weights(cached)


def _cache_path(path: Path) -> Path:
    """Return the path of a file's converted copy; it changes with the size and the time of the file."""
    place = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:12]
    stats = [part.stat() for part in parts(path)]
    state = hashlib.sha256(repr([(s.st_size, s.st_mtime_ns) for s in stats]).encode()).hexdigest()[:12]
    return cache_dir() / "converted" / f"{cut_name(path.stem)}-{place}-{state}.safetensors"


def _build(state: Mapping[str, Tensor], path: Path) -> Network:
    """Build the network of a state dict; its parameters are the tensors of the state dict, not copies."""
    if integers := [name for name, tensor in state.items() if not tensor.is_floating_point()]:
        raise not_this_network(path, state, f"{integers[0]} holds whole numbers")
    try:
        return build_network(state)
    except (KeyError, ValueError, IndexError, TypeError, RuntimeError, ArithmeticError) as error:
        why = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error).partition("\n")[0][:500]
        raise not_this_network(path, state, why) from error


def _untrained(entry: Mapping[str, Any]) -> UNet:
    """Build an untrained network, the same on every machine, whose output is quiet noise.

    The original's random initialisation would give noise far over full scale. Here v is about ``2 x``, through the skip
    connections, so that the noise decays to ``exp(-pi)`` of itself: a hiss, coloured by the other layers.
    """
    config = UNetConfig(widths=tuple(entry["widths"]), attention_levels=tuple(entry["attention_levels"]))
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.random.default_generator.manual_seed(entry["seed"])  # torch.manual_seed would also seed the GPUs
        net: Any = UNet(config)
    audio, wide = torch.arange(config.channels), config.widths[0]
    with torch.no_grad():
        for block in (net.net[i] for i in (0, 1, 2, 4, 5)):
            for parameter in block.main[4].parameters():
                parameter *= 0.1
                parameter[audio] = 0  # nothing is added to the audio channels, as GELU would add an offset
        for index, first, gain in ((0, 0, 1.0), (4, wide, 1.0), (6, 0, 2.0)):  # level 2 is concatenated with its input
            shortcut = net.net[index].skip.weight.zero_()
            shortcut[audio, audio + first] = gain
        last = net.net[6].main[3].weight
        last.copy_(0.1 * (last - last.mean(dim=(1, 2), keepdim=True)))
        net.net[6].main[3].bias.zero_()
    return net


def _name_of(source: str | Path, path: Path) -> str:
    """Return a name for a checkpoint that states none: for a repository of the Hub, its own."""
    if str(source).startswith("hf:") and str(source).count("/") == 1:
        return str(source).rpartition("/")[2]
    return path.stem if path.is_file() else path.name


def _require_format(source: str | Path, facts: Mapping[str, Any]) -> None:
    path, missing = Path(str(source)), [what for what in _LIMITS if what not in facts]
    if missing:
        raise CheckpointError(
            f"{source} does not state its {' and '.join(missing)}: ask its author (common are 48000, 44100 and "
            f"16000 Hz, and 65536 frames). State it, for example with load(..., sample_rate=48000, frames=65536), on "
            f"the command line --sample-rate 48000 --frames 65536, or in its name: {path.stem}_48000_65536{path.suffix}"
        )
    for what, (low, high) in _LIMITS.items():
        if not low <= facts[what] <= high:
            raise CheckpointError(
                f"{source} states {what}={facts[what]}, where {low} to {high} is possible: state the right one, with "
                f"load(..., {what}=...) or --{what.replace('_', '-')}."
            )
