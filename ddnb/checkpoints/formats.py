"""Read checkpoint files of every kind as one state dict under the published names; no code in a file is ever run.

Files of the same network, as found in the wild:

    Lightning training file   ``state_dict`` with ``diffusion.*`` and ``diffusion_ema.*``, optimizer states
    trimmed                   ``state_dict`` with ``diffusion_ema.*`` only
    stable-audio-tools        ``diffusion.model.*`` and ``diffusion_ema.ema_model.*``, or ``model.*``
    plain                     the names alone, in a pickle or in safetensors
    diffusers                 other names, see ``diffusers``; in one file, a variant, or several files with an index

``contents`` finds the network in what is read, by the name of its first parameter.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import CheckpointError
from ..files import atomically
from ..nets.spectral import ANCHOR as SPECTRAL_ANCHOR
from ..nets.unet import ANCHOR, UNetConfig
from .contents import find_facts, find_tensors, held_in, not_this_network, pick_network, read_settings
from .diffusers import ANCHOR as DIFFUSERS_ANCHOR
from .diffusers import diffusers_configs, from_diffusers, to_diffusers
from .folders import DIFFUSERS_CONFIG, DIFFUSERS_STEM, MODEL_CONFIG, settings_beside, shards, weights_file
from .pickles import read_pickle
from .sizes import MOST_TEXT, parse_json, require_stored

METADATA_KEY = "ddnb"
"""Metadata key of our own files; its value is a JSON text: sample_rate, frames, name, licence, ..."""

_PACKED = (
    b"\x1f\x8b",
    b"7z\xbc\xaf",
    b"Rar!",
    b"BZh",
    b"\xfd7zXZ",
    b"\x28\xb5\x2f\xfd",
)  # gzip, 7z, RAR, bzip2, xz, zstd
_MOST_HEADER = 8 << 20  # bytes of a safetensors file: 40,000 names
_NAMED_FORMAT = re.compile(r"_(\d{4,6}|\d{1,3}(?:\.\d+)?k)(?:hz)?_(\d{3,8})$", re.IGNORECASE)
_ADDED = re.compile(
    r"( ?\(\d+\)| - copy| copy( \d+)?|[-_.](non_ema|ema|fp16|fp32|bf16|half|pruned|trimmed|ckpt|pt|safetensors|v\d+))$",
    re.IGNORECASE,
)
"""What browsers, file managers and people put after a name."""
_ROUNDED = {"11k": 11_025, "22k": 22_050, "44k": 44_100, "88k": 88_200, "176k": 176_400}


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _are_plain_values(value: Any) -> bool:
    plain = (str, int, float, bool, type(None))
    return isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, plain) for k, v in value.items())


def _is_student(value: Any) -> bool:
    """Return whether these are the times of a student's calls, and its guidance; see ``training.distill``."""
    if not isinstance(value, dict) or value.keys() != {"times", "guidance_scale"}:
        return False
    times, scale = value["times"], value["guidance_scale"]
    if not isinstance(times, list) or not 2 <= len(times) <= 100 or not all(map(_is_number, (*times, scale))):
        return False
    return times[0] == 1 and times[-1] == 0 and all(a > b for a, b in pairwise(times)) and 0 < scale <= 20


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_level(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -100 <= value <= 0


_FACTS = {
    "sample_rate": _is_count,
    "frames": _is_count,
    "name": _is_text,
    "licence": _is_text,
    "credit": _is_text,
    "categories": _are_texts,
    "weights_sha256": _is_text,
    "peak_dbfs": _is_level,
    "converted_from": _is_text,
    "finetuned_from": _is_text,
    "start_sha256": _is_text,
    "data_sha256": _is_text,
    "training": _are_plain_values,
    "student": _is_student,
    "fitted_to": _are_plain_values,
}


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the weights of a checkpoint of any format.

    Args:
        path: a file, or a diffusers folder.

    Returns:
        The state dict under the published names (EMA weights if there are several networks; tensors are memory-mapped
        if the format allows), and the facts that the file states: ``sample_rate``, ``frames`` and our own metadata.

    Raises:
        CheckpointError: not a checkpoint, damaged, unsafe, or another kind of network.
        FileNotFoundError: no such file.
    """
    weights = weights_file(Path(path))
    tensors, own, stated = _read_shards(weights) if weights.suffix == ".json" else _read_file(weights)
    state, in_name = pick_network(tensors, weights), facts_in_name(weights)
    files = shards(weights) if weights.suffix == ".json" else [weights]
    require_stored(weights, state, sum(file.stat().st_size for file in files))
    beside = {file.name: file for file in settings_beside(weights)}
    if DIFFUSERS_ANCHOR in state:
        if DIFFUSERS_CONFIG in beside:
            in_name |= read_settings(beside[DIFFUSERS_CONFIG])
        try:
            return from_diffusers(state), in_name | own
        except (ValueError, RuntimeError, IndexError) as error:
            raise not_this_network(weights, state, str(error)) from error
    if MODEL_CONFIG in beside and not own:
        stated = read_settings(beside[MODEL_CONFIG]) | stated
    if DIFFUSERS_CONFIG in beside and not own:
        with contextlib.suppress(CheckpointError):  # may be of anything
            stated = read_settings(beside[DIFFUSERS_CONFIG]) | stated
    return state, stated | in_name | own


def facts_in_name(path: Path) -> dict[str, Any]:
    """Return the rate and length in the community's file names, ``name_RATE_FRAMES.ckpt``."""
    stem, before = path.stem, ""
    while stem != before:
        stem, before = _ADDED.sub("", stem), stem
    if (found := _NAMED_FORMAT.search(stem)) is None:
        return {}
    rate = found[1].lower()
    stated = _ROUNDED.get(rate) or (round(float(rate[:-1]) * 1000) if rate.endswith("k") else int(rate))
    return {"sample_rate": stated, "frames": int(found[2])}


def parts(path: Path) -> list[Path]:
    """Return the files of a checkpoint: the weights, in one file or in several, and the settings beside them."""
    weights = weights_file(path)
    return [weights, *(shards(weights) if weights.suffix == ".json" else []), *settings_beside(weights)]


def needs_conversion(path: Path) -> bool:
    """Return whether a safetensors file of our own would load faster than this one."""
    if path.is_dir():
        return True
    try:
        with _open_safetensors(path) as file:
            return not {ANCHOR, SPECTRAL_ANCHOR} & set(file.keys())
    except (SafetensorError, OSError):
        return True


def _open_safetensors(path: Path) -> Any:
    """Open a file; the library itself takes a header of 100 MB, and a hundred times that to list what is in it."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > _MOST_HEADER:
        raise SafetensorError(f"a header of {length / 1e6:.0f} MB, where {_MOST_HEADER >> 20} MiB are read")
    return safe_open(path, framework="pt")


# --- reading one file ---


class _Content(NamedTuple):
    """What a file holds: its tensors by their paths, our own metadata, and what its settings state."""

    tensors: dict[str, Tensor]
    own: dict[str, Any]
    stated: dict[str, Any]


def _read_file(path: Path) -> _Content:
    with path.open("rb") as file:
        head = file.read(512)
    if head[8:9] == b"{":  # first: the eight bytes before it are a length, which may look like any signature
        return _read_safetensors(path)
    if head[:2] == b"PK" or head[:1] == b"\x80":
        return _read_pickle(path)
    text = head.lstrip().lower()
    if head.startswith(_PACKED) or path.suffix == ".tar":
        raise CheckpointError(f"{path.name} is a packed file: unpack it, and give the checkpoint that is in it.")
    if not head:
        why = "the file is empty; download or copy it again"
    elif text.startswith((b"<!doctype", b"<html", b"<?xml")):
        why = "it is a web page that was saved instead of the weights; download it again from the right link"
    elif head.startswith((b"RIFF", b"fLaC", b"OggS", b"ID3", b"FORM")):
        why = "it is a sound file; a checkpoint holds the weights of a network; to start from a sound, use vary"
    elif text.startswith(b"version https://git-lfs"):
        why = "it is a Git LFS pointer, not the weights; run 'git lfs pull' or download the file itself"
    elif all(byte in b"\t\n\r" or 32 <= byte != 127 for byte in head):
        why = "it is a text file, perhaps a note or a link in place of the weights; get the weights themselves"
    else:
        why = "it is neither a torch file nor safetensors; check that it is the right file, and download it again"
    raise CheckpointError(f"{path.name} is not a checkpoint: {why}.")


def _read_safetensors(path: Path) -> _Content:
    try:
        with _open_safetensors(path) as file:
            metadata = file.metadata() or {}
        return _Content(load_file(path), _parse_facts(metadata.get(METADATA_KEY)), find_facts(metadata))
    except SafetensorError as error:
        raise _damaged(path, error) from error


def _read_pickle(path: Path) -> _Content:
    try:
        content = read_pickle(path)
    except CheckpointError:
        raise
    except Exception as error:  # an unpickler may raise anything on damaged bytes
        raise _damaged(path, error) from error
    held = held_in(content)
    if not isinstance(held, dict):
        raise CheckpointError(f"{path.name} holds a {type(content).__name__}, not a dictionary of weights.")
    return _Content(find_tensors(held), _parse_facts(held.get(METADATA_KEY)), find_facts(held))


def _read_shards(index: Path) -> _Content:
    tensors: dict[str, Tensor] = {}
    for file in shards(index):
        tensors |= _read_file(file).tensors
    return _Content(tensors, {}, {})


def _parse_facts(text: Any) -> dict[str, Any]:
    """Return the entries of a file's metadata that have the right type; anybody may have written it."""
    try:
        facts = parse_json(text) if isinstance(text, str) and len(text) <= MOST_TEXT else {}
    except ValueError:
        return {}
    if not isinstance(facts, dict):
        return {}
    return {name: facts[name] for name, is_right in _FACTS.items() if name in facts and is_right(facts[name])}


def _damaged(path: Path, error: Exception) -> CheckpointError:
    size = path.stat().st_size / 1e6
    reason = (str(error) or type(error).__name__).partition("\n")[0][:500]
    return CheckpointError(f"{path.name} is truncated or damaged ({size:.1f} MB): {reason}. Download or copy it again.")


# --- writing ---


def write_safetensors(path: Path, state: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write our own format, atomically: the published names, and the facts as metadata."""
    metadata = {METADATA_KEY: json.dumps(dict(facts)), "format": "pt"}
    contiguous = {name: tensor.contiguous() for name, tensor in state.items()}
    atomically(path, lambda part: save_file(contiguous, part, metadata))


def write_lightning(path: Path, state: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write a trimmed ``.ckpt`` that the original code opens, atomically.

    The original expects raw and EMA weights; both names refer to one storage, which is written once.
    """
    both = {prefix + name: tensor for prefix in ("diffusion.", "diffusion_ema.") for name, tensor in state.items()}
    atomically(path, lambda part: torch.save({"state_dict": both, METADATA_KEY: json.dumps(dict(facts))}, part))


def write_diffusers(folder: Path, state: Mapping[str, Tensor], facts: Mapping[str, Any], config: UNetConfig) -> None:
    """Write a pipeline folder that any version of diffusers' ``DanceDiffusionPipeline`` opens, atomically.

    Raises:
        ArgumentError: a network that diffusers' pipeline cannot hold.
    """
    renamed, configs = to_diffusers(state, config.depth), diffusers_configs(config, facts)

    def write(part: Path) -> None:
        for name, content in configs.items():
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            (part / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        save_file(
            renamed,
            part / "unet" / f"{DIFFUSERS_STEM}.safetensors",
            {"format": "pt", METADATA_KEY: json.dumps(dict(facts))},
        )

    atomically(folder, write)
