"""Find a network and what is known of it in the content of a checkpoint, wherever a training code put them.

Tensors are looked for in dictionaries of any depth, and in objects that a training library pickled, such as a whole
module. Sample rate and length are looked for at the top, in the settings one to three levels down, and in JSON files
beside the weights. ``docs/checkpoints.md`` lists the places.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import CheckpointError
from ..nets.spectral import ANCHOR as SPECTRAL_ANCHOR
from ..nets.unet import ANCHOR
from .diffusers import ANCHOR as DIFFUSERS_ANCHOR
from .pickles import StandIn
from .sizes import MOST_TEXT, parse_json, read_json

_NAMES = {
    "sample_rate": ("sample_rate", "sampling_rate", "samplerate"),
    "frames": ("sample_size", "frames"),
}
_DEPTH, _SETTINGS_DEPTH = 64, 3
_OF_MODULES = ("_modules", "_parameters", "_buffers")  # where a pickled module keeps its parts
_RAW = ("online", "online_model")  # beside the EMA in ema-pytorch
_AVERAGES = {"ema", "emas", "swa", "averaged"}
_WORDS = re.compile("[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_MOST_ITEMS = 100  # of a list of dictionaries
_AUTOENCODERS = {"autoencoder", "pretransform", "first_stage_model", "vae"}
_ENCODERS = {"encoder", "encoder_ema", "bottleneck", "quantizer", "quantizer_ema"}
_MOST_CHANNELS = 8
_MOST_PATH = 1000  # characters of the path to a tensor: each tensor has its own
_MOST_VALUES = 1_000_000  # that are looked through for settings
_MOST_NETWORKS = 100
_MOST_DIGITS = 20
_NUMBER = re.compile(r"\s*(\d[\d,_]*)(\.\d+)?\s*(k?)\s*(?:hz)?\s*", re.IGNORECASE)

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


def plain(value: Any) -> Any:
    """Return what a stand-in holds: the settings of omegaconf, argparse and others as dictionaries and values."""
    if not isinstance(value, StandIn):
        return value
    if (number := _numpy_scalar(value)) is not None:
        return number
    state = value.state
    if isinstance(state, dict) and "_val" in state:  # a leaf of omegaconf
        return state["_val"]
    return state.get("_content", state) if isinstance(state, dict) else state


def held_in(value: Any) -> Any:
    """Return what a file holds, and the dictionaries in a list by their numbers; other objects as they are."""
    value = plain(value)
    if isinstance(value, list | tuple) and len(value) <= _MOST_ITEMS:
        items = {str(i): held for i, item in enumerate(value) if isinstance(held := plain(item), dict)}
        return items or value
    return value


def find_tensors(content: Any) -> dict[str, Tensor]:
    """Return all tensors that are in dictionaries under texts, by their path such as ``state_dict.diffusion.net.0``."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()

    def walk(value: Any, path: str, depth: int) -> None:
        value = held_in(value)
        if isinstance(value, Tensor):
            found[path] = Tensor.detach(value)  # without the attributes that a pickle may give it
        elif isinstance(value, dict) and depth < _DEPTH and id(value) not in seen:
            seen.add(id(value))  # a pickle may hold itself
            for name, item in value.items():
                if isinstance(name, str) and len(path) + len(name) < _MOST_PATH:
                    walk(item, path if name in _OF_MODULES else f"{path}.{name}" if path else name, depth + 1)

    walk(content, "", 0)
    return found


def find_facts(content: Any) -> dict[str, int]:
    """Return the sample rate and the length that settings state, the outermost first."""
    facts: dict[str, int] = {}
    for settings in _settings(content):
        for fact, names in _NAMES.items():
            for name in names:
                if fact not in facts and (value := _count(plain(settings.get(name)))) is not None:
                    facts[fact] = value
    return facts


def _settings(content: Any) -> Iterator[Mapping[Any, Any]]:
    level, left = [held_in(content)], MOST_TEXT
    seen: dict[int, Any] = {}
    for _ in range(_SETTINGS_DEPTH + 1):
        found = []
        for value in level:
            if id(value) in seen:  # the same dictionary a thousand times, each with the same one a thousand times
                continue
            seen[id(value)] = value
            if isinstance(value, str) and len(value) <= left and value.lstrip()[:1] == "{":
                left -= len(value)
                value = _parsed(value)
            if isinstance(value, dict):
                found.append(value)
        # the network's settings state both, those of its data may state another rate
        yield from sorted(found, key=_stated, reverse=True)
        level = [held_in(item) for item in islice(chain.from_iterable(map(dict.values, found)), _MOST_VALUES)]


def _stated(settings: Mapping[Any, Any]) -> int:
    return sum(any(name in settings for name in names) for names in _NAMES.values())


def _parsed(text: str) -> Any:
    """Return a dictionary that is stored as a JSON text."""
    try:
        return parse_json(text)
    except ValueError:
        return None


def _count(value: Any) -> int | None:
    """Return a positive whole number: ``44100``, also as ``44100.0``, a text, a tensor, or a scalar of NumPy.

    A text may have separators and a unit: ``"44,100"``, ``"44100 Hz"``, ``"44.1 kHz"``.
    """
    if isinstance(value, Tensor) and value.numel() == 1 and value.layout is torch.strided:
        value = value.item()
    elif isinstance(value, str) and len(value) <= _MOST_DIGITS and (found := _NUMBER.fullmatch(value)):
        number = float(re.sub("[,_]", "", found[1]) + (found[2] or ""))
        value = round(number * 1000, 3) if found[3] else number
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or abs(value) > 2**53:
        return None
    return int(value) if value > 0 and value == int(value) else None


def _numpy_scalar(made: StandIn) -> Any:
    """Return the number that a pickled scalar of NumPy holds; None for any other object."""
    kind, content = made.arguments if len(made.arguments) == 2 else (None, None)
    if type(made).__name__ != "scalar" or not isinstance(kind, StandIn) or not isinstance(content, bytes):
        return None
    code, order = next(iter(kind.arguments), None), kind.state
    if not isinstance(code, str) or not re.fullmatch("[iuf][248]", code) or len(content) != int(code[1]):
        return None
    big = isinstance(order, tuple) and ">" in order[1:2]
    return np.frombuffer(content, ("" if not big else ">") + code)[0].item()


def read_settings(file: Path) -> dict[str, int]:
    """Return the sample rate and the length that a JSON file states.

    Raises:
        CheckpointError: it is damaged.
    """
    try:
        return find_facts(read_json(file))
    except ValueError as error:
        raise CheckpointError(f"{file} is damaged: {error}") from error


def pick_network(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return one network without the path to it: the EMA if there is one, else the one with the shortest path.

    Raises:
        CheckpointError: none is there, or one that does not make sound.
    """
    anchors = (ANCHOR, DIFFUSERS_ANCHOR, SPECTRAL_ANCHOR)
    prefixes = [
        name.removesuffix(anchor) for name in tensors for anchor in anchors if f".{name}".endswith(f".{anchor}")
    ]
    if not prefixes:
        raise not_this_network(path, tensors, f"it has no {ANCHOR}")
    if len(prefixes) > _MOST_NETWORKS:
        raise CheckpointError(f"{path.name} holds {len(prefixes):,} networks; {_MOST_NETWORKS} are possible.")
    prefix = min(prefixes, key=lambda some: (not _is_ema(some), len(some)))
    state = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    if ANCHOR in state:
        state = {name: tensor for name, tensor in state.items() if name.startswith((ANCHOR, "net."))}
    _require_sound(path, state, {name for name in tensors if not name.startswith(tuple(prefixes))})
    return state


def _is_ema(prefix: str) -> bool:
    parts = prefix.split(".")
    words = {word.lower() for part in parts for word in _WORDS.findall(part)}
    return bool(words & _AVERAGES) and not any(part in _RAW for part in parts)


def _require_sound(path: Path, state: Mapping[str, Tensor], others: set[str]) -> None:
    """Raise CheckpointError for a network of the same layers that works on latents or follows an encoder."""
    blocks = [int(found[1]) for name in state if (found := re.fullmatch(r"net\.(\d{1,9})\.main\.3\.weight", name))]
    first, times = state.get("net.0.main.0.weight"), state.get(ANCHOR)
    if first is None or times is None or not blocks:
        return
    last = state[f"net.{max(blocks)}.main.3.weight"]
    if first.ndim < 2 or times.ndim < 1 or last.ndim < 1:
        return
    channels = last.shape[0]
    planes = first.shape[1] - channels - 2 * times.shape[0]
    found_beside = {part for name in others for part in name.split(".")}
    latent, follows = sorted(found_beside & _AUTOENCODERS), sorted(found_beside & _ENCODERS)
    if latent or channels > _MOST_CHANNELS:
        beside = f", which is in the file, too ({', '.join(latent)})" if latent else ""
        raise CheckpointError(
            f"{path.name} is a latent diffusion network: it makes {channels} channels of the latents of an autoencoder"
            f"{beside}. ddnb opens networks that make the waveform itself."
        )
    if follows and planes > 0:
        raise CheckpointError(
            f"{path.name} is the decoder of a diffusion autoencoder: it follows {planes} planes of the encoder in the "
            f"same file ({', '.join(follows)}). ddnb opens networks that make sounds from noise alone."
        )


def not_this_network(path: Path, tensors: Mapping[str, Tensor], why: str) -> CheckpointError:
    """Return the error for another kind of network, with a description of what was found."""
    size = sum(tensor.numel() for tensor in tensors.values()) / 1e6
    likely = next((what for part, what in _FOREIGN.items() if any(part in name for name in tensors)), None)
    looks = f"It looks like {likely}: " if likely else "It holds "
    groups = Counter(".".join(name.split(".")[:2]) for name in tensors)
    named = list(tensors) if len(tensors) <= 4 else [f"{name[:80]} ({count})" for name, count in groups.most_common(4)]
    return CheckpointError(
        f"{path.name} is not a Dance Diffusion network: {why}. "
        f"{looks}{len(tensors)} tensors, {size:.1f} M numbers, such as {', '.join(named)[:500] or 'none'}."
    )
