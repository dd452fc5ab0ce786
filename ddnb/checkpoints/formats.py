"""Read checkpoint files of every kind as one state dict under the published names; no code in a file is ever run.

Files of the same network, as found in the wild:

    Lightning training file   ``state_dict`` with ``diffusion.*`` and ``diffusion_ema.*``, optimizer states
    trimmed                   ``state_dict`` with ``diffusion_ema.*`` only
    stable-audio-tools        ``diffusion.model.*`` and ``diffusion_ema.ema_model.*``, or ``model.*``
    plain                     the names alone, in a pickle or in safetensors
    diffusers                 other names, see ``diffusers``

The network's first parameter, ``timestep_embed.weight``, identifies the prefix; of several networks the EMA is used.
"""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import CheckpointError
from ..files import atomically
from ..nets.spectral import ANCHOR as SPECTRAL_ANCHOR
from ..nets.unet import ANCHOR, UNetConfig
from .diffusers import ANCHOR as DIFFUSERS_ANCHOR
from .diffusers import WEIGHTS_FILES, diffusers_configs, from_diffusers, to_diffusers

METADATA_KEY = "ddnb"
"""Metadata key of our own files; its value is a JSON text: sample_rate, frames, name, licence, ..."""


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _are_plain_values(value: Any) -> bool:
    plain = (str, int, float, bool, type(None))
    return isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, plain) for k, v in value.items())


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
    "data_sha256": _is_text,
    "training": _are_plain_values,
    "fitted_to": _are_plain_values,
}

# Harmless globals in old Lightning files. They are replaced by empty stand-ins, never imported.
_HARMLESS_GLOBALS = (
    "argparse.Namespace",
    "functools.partial",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.PurePosixPath",
    "pathlib.WindowsPath",
    "pathlib._local.Path",  # the same in files written by Python 3.13
    "pathlib._local.PosixPath",
    "pathlib._local.PurePosixPath",
    "pathlib._local.WindowsPath",
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
    "pytorch_lightning.callbacks.lr_monitor.LearningRateMonitor",
    "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "_codecs.encode",
)


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
    path = Path(path)
    facts: dict[str, Any] = {}
    if path.is_dir():
        path, facts = _diffusers_weights(path)
    state, stated = _read_file(path)
    if DIFFUSERS_ANCHOR in state:
        facts = facts or _config_facts(path.with_name("config.json"))
        try:
            return from_diffusers(state), facts | stated
        except (ValueError, RuntimeError) as error:
            raise not_this_network(path, state, str(error)) from error
    return _published_names(state, path), facts | stated


def parts(path: Path) -> list[Path]:
    """Return the files of a checkpoint: itself, or the weights and the config of a diffusers folder."""
    if not path.is_dir():
        return [path]
    weights, _ = _diffusers_weights(path)
    return [weights, weights.with_name("config.json")] if weights.with_name("config.json").is_file() else [weights]


def needs_conversion(path: Path) -> bool:
    """Return whether a safetensors file of our own would load faster than this one."""
    if path.is_dir():
        return True
    try:
        with safe_open(path, framework="pt") as file:
            return not {ANCHOR, SPECTRAL_ANCHOR} & set(file.keys())
    except (SafetensorError, OSError):
        return True


# --- reading one file ---


def _read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with path.open("rb") as file:
        head = file.read(512)
    if head[8:9] == b"{":  # first: the eight bytes before it are a length, which may look like any signature
        return _read_safetensors(path)
    if head[:2] == b"PK" or head[:1] == b"\x80":
        return _read_pickle(path)
    text = head.lstrip().lower()
    if not head:
        why = "the file is empty"
    elif text.startswith((b"<!doctype", b"<html", b"<?xml")):
        why = "it is a web page that was saved instead of the weights; download it again from the right link"
    elif head.startswith((b"RIFF", b"fLaC", b"OggS", b"ID3", b"FORM")):
        why = "it is a sound file; a checkpoint holds the weights of a network"
    elif text.startswith(b"version https://git-lfs"):
        why = "it is a Git LFS pointer, not the weights; run 'git lfs pull' or download the file itself"
    else:
        why = f"it starts with {head[:8]!r}, which is neither a torch file nor safetensors"
    raise CheckpointError(f"{path.name} is not a checkpoint: {why}.")


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        return load_file(path), _parse_facts(metadata.get(METADATA_KEY))
    except SafetensorError as error:
        raise _damaged(path, error) from error


def _read_pickle(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        content = _load_pickle(path)
    except CheckpointError:
        raise
    except Exception as error:  # an unpickler may raise anything on damaged bytes
        raise _damaged(path, error) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path.name} holds a {type(content).__name__}, not a dictionary of weights.")
    state = content.get("state_dict", content)
    items = state.items() if isinstance(state, dict) else ()
    tensors = {k: v for k, v in items if isinstance(k, str) and isinstance(v, Tensor)}
    return tensors, _parse_facts(content.get(METADATA_KEY))


def _load_pickle(path: Path) -> Any:
    """Load with torch's restricted unpickler; known harmless globals become inert stand-ins."""
    try:
        return _torch_load(path)
    except pickle.UnpicklingError as error:
        try:
            found = set(torch.serialization.get_unsafe_globals_in_checkpoint(path))
        except ValueError:  # files of the layout before 2020 cannot be inspected
            raise CheckpointError(f"{path.name} was refused, as opening it could run code: {error}") from error
        except pickle.UnpicklingError:
            raise _damaged(path, error) from error
        if refused := sorted(found - set(_HARMLESS_GLOBALS)):
            raise CheckpointError(
                f"{path.name} was refused, as opening it would run code. It asks for: {', '.join(refused)}. "
                "Ask its author for a safetensors file, or for one that holds weights only."
            ) from error
        with torch.serialization.safe_globals([(_stand_in(name), name) for name in found]):
            try:
                return _torch_load(path)
            except (pickle.UnpicklingError, TypeError, AttributeError) as again:
                raise CheckpointError(f"{path.name} could not be opened without running its code: {again}") from again


def _torch_load(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old files use storage classes that torch now calls deprecated
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap can only be used" not in str(error):
                raise
            return torch.load(path, map_location="cpu", weights_only=True)


def _stand_in(name: str) -> type:
    """Return an empty class that ignores whatever a pickle does with its instances."""

    def ignore(self: Any, *args: Any, **kwargs: Any) -> None:
        return None

    return type(name.rpartition(".")[2], (), {"__init__": ignore, "__setstate__": ignore})


def _parse_facts(text: Any) -> dict[str, Any]:
    """Return the entries of a file's metadata that have the right type; anybody may have written it."""
    try:
        facts = json.loads(text) if isinstance(text, str) else {}
    except json.JSONDecodeError:
        return {}
    if not isinstance(facts, dict):
        return {}
    return {name: facts[name] for name, is_right in _FACTS.items() if name in facts and is_right(facts[name])}


def _damaged(path: Path, error: Exception) -> CheckpointError:
    size = path.stat().st_size / 1e6
    reason = str(error).partition("\n")[0]
    return CheckpointError(f"{path.name} is truncated or damaged ({size:.1f} MB): {reason}. Download or copy it again.")


# --- names ---


def _published_names(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return one network without its prefix: the EMA if there is one, else the one with the shortest prefix."""
    if SPECTRAL_ANCHOR in state:  # only this package writes this kind
        return state
    prefixes = [name.removesuffix(ANCHOR) for name in state if name.endswith(ANCHOR)]
    if not prefixes:
        raise not_this_network(path, state, "it has no timestep_embed.weight")
    prefix = min(prefixes, key=lambda p: ("ema" not in p or "online" in p, len(p)))
    names = (ANCHOR, "net.")
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in state.items()
        if name.startswith(prefix) and name.removeprefix(prefix).startswith(names)
    }


def not_this_network(path: Path, state: Mapping[str, Tensor], why: str) -> CheckpointError:
    """Return the error for another kind of network, with a description of its state dict."""
    size = sum(t.numel() for t in state.values()) / 1e6
    likely = next((what for part, what in _FOREIGN.items() if any(part in name for name in state)), None)
    looks = f"It looks like {likely}: " if likely else "It holds "
    return CheckpointError(
        f"{path.name} is not a Dance Diffusion network: {why}. "
        f"{looks}{len(state)} tensors, {size:.1f} M numbers, such as {', '.join(list(state)[:4]) or 'none'}."
    )


_FOREIGN = {
    "model.diffusion_model.input_blocks": "a Stable Diffusion checkpoint",
    "transformer.layers": "a Stable Audio (transformer) checkpoint",
    "pretransform.": "a Stable Audio checkpoint",
    "unet.downsamples": "an audio-diffusion-pytorch network",
    "lora": "a LoRA adapter",
    "optimizer": "an optimizer's state",
    "first_stage_model": "a latent diffusion checkpoint",
    "encoder.layers": "an autoencoder",
}


def _diffusers_weights(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Return the weights file of a pipeline or U-Net folder, and what its config states."""
    unet = folder / "unet" if (folder / "unet").is_dir() else folder
    weights = next((unet / name for name in WEIGHTS_FILES if (unet / name).is_file()), None)
    if weights is None:
        there = ", ".join(sorted(p.name for p in unet.iterdir())) or "nothing"
        raise CheckpointError(
            f"{folder} is not a diffusers folder: {unet} should hold {' or '.join(WEIGHTS_FILES)}; it holds {there}."
        )
    return weights, _config_facts(unet / "config.json")


def _config_facts(config: Path) -> dict[str, Any]:
    """Return the rate and length stated by a diffusers config, if there is one."""
    if not config.is_file():
        return {}
    try:
        stated = json.loads(config.read_text(encoding="utf-8"))
        known = {"sample_rate": stated.get("sample_rate"), "frames": stated.get("sample_size")}
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"{config} is damaged: {error}") from error
    return {name: value for name, value in known.items() if _is_count(value)}


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
        save_file(renamed, part / "unet" / WEIGHTS_FILES[0], {"format": "pt", METADATA_KEY: json.dumps(dict(facts))})

    atomically(folder, write)
