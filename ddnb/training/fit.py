"""``fit``: give the built-in network the sound of a folder at once, without training.

What the network knows of its categories beside its weights, envelopes and tones, is found again among the user's files.
It is the first step of every fine-tuning of such a network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..audio.io import fit_length
from ..audio.notes import key_hz
from ..audio.pitch import root_note, tail_hz
from ..checkpoints.checkpoint import Checkpoint, require_teacher, weights_sha256
from ..checkpoints.formats import write_safetensors
from ..display.text import counted
from ..errors import ArgumentError, DatasetError
from ..files import expand, safe_name
from ..generation.levels import SUSTAINED
from ..names import canonical
from ..nets.prior import IMPOSSIBLE, PRIOR, TONES
from ..nets.spectral import SpectralConfig, SpectralUNet, with_planes
from ..steps import Event
from .batches import Piece, pieces, should_crop
from .calibration import Wanted, at_level, calibrate, measure
from .components import describe_all, find_envelopes, find_tones, put, sizes_of, tune
from .dataset import MAX_CATEGORIES, Dataset, OnFile, decode, in_known_classes, warn_of_unusable

MOST_SOUNDS = 200
"""Sounds of a category that are used at most."""

_ENVELOPES, _TONES = 16, 96
_CENTS = (12.0, 6.0)
_MOST_TONAL = 48  # sounds whose tones are described: it takes most of the time
_TAIL_AFTER_S = 0.06
_RANGE = 2.0  # deviations of ln(pitch) around the components that a category has
_IN_TUNE = (0.6, 0.75)  # share of the energy in harmonics, correlation of neighbouring frames: else it is no tone
_ONSET, _SILENT, _LEAD = 0.01, 1e-4, 64  # re the peak; re full scale; frames before it, as in training
_MOSTLY = 0.5  # share of the sounds that must have a pitch: with fewer, all would be made like these
_TAILS_HZ = (60.0, 1200.0)  # of a category whose pitch nobody has found yet


def fit(
    ckpt: Checkpoint, folder: str | Path, out: str | Path | None = None, on_file: OnFile | None = None
) -> Checkpoint:
    """Return a checkpoint that sounds like a folder, in about ten seconds a category: nothing is trained.

    The levels and tones of each category are found again among the files. Class folders (``kick/...``) set the
    categories of these names; other names become new categories. A folder without class folders is one category, of
    its own name.

    Args:
        ckpt: the built-in network, or one that was fitted or fine-tuned from it.
        folder: sound files, or class folders of them, see ``check_dataset``.
        out: a new ``.safetensors`` file to write.
        on_file: called while sounds are read as ``on_file(done, total)``.

    Raises:
        ArgumentError: another kind of network, or ``out`` with another suffix.
        DatasetError: no usable sound, or too many class folders.
        FileNotFoundError: no such folder.
        FileExistsError: ``out`` exists.
        Cancelled: interrupted; nothing is written.
    """
    require_fittable(ckpt)
    target = None if out is None else require_new_file(out)
    data = decode(folder, ckpt.sample_rate, ckpt.channels, on_file)
    warn_of_unusable(data)
    data = in_known_classes(in_classes(data, expand(folder).resolve().name), ckpt.categories)
    categories = tuple(dict.fromkeys((*ckpt.categories, *data.categories)))
    if len(categories) > MAX_CATEGORIES:
        raise DatasetError(
            f"{len(categories)} categories with those of {ckpt.name}: expected at most {MAX_CATEGORIES}; merge some."
        )
    exact = {name: value.cpu() for name, value in ckpt.net.state_dict().items()}
    state = with_planes(exact, len(categories) - len(ckpt.categories))
    found = pieces(data, ckpt.frames, should_crop(data, ckpt.frames), categories)
    fitted = find_components(ckpt, state, data, found)
    net = calibrated(ckpt, fitted.state, categories, fitted.wanted)
    facts = _facts(ckpt, data, categories, fitted.counts) | {"weights_sha256": weights_sha256(net.state_dict())}
    if target is not None:
        shape = {"sample_rate": ckpt.sample_rate, "frames": ckpt.frames}
        write_safetensors(target, net.state_dict(), facts | shape)
    facts["source"] = str(target or f"fit:{facts['name']}")
    return replace(ckpt, net=net.to(ckpt.device).eval().requires_grad_(False), info=facts)


def require_fittable(ckpt: Checkpoint) -> SpectralUNet:
    """Return the network of a checkpoint; raise ArgumentError for one that has nothing to fit."""
    require_teacher(ckpt, "fit")
    if not isinstance(ckpt.net, SpectralUNet):
        raise ArgumentError(f"{ckpt.name} cannot be fitted, only 'drums' and what was made from it: use finetune.")
    return ckpt.net


def require_new_file(out: str | Path) -> Path:
    """Return the path of a checkpoint that can be written.

    Raises:
        ArgumentError: another suffix.
        FileExistsError: it exists.
    """
    path = expand(out)
    if path.suffix != ".safetensors":
        raise ArgumentError(f"{path.name}: end the name in .safetensors.")
    if path.exists():
        raise FileExistsError(f"{path} exists already; remove it or choose another name.")
    return path


def in_classes(data: Dataset, name: str) -> Dataset:
    """Return the data with a class for each sound: where there are no class folders, one of this name."""
    if data.categories:
        return data
    return replace(data, sounds=tuple(replace(sound, category=canonical(name)) for sound in data.sounds))


def _facts(ckpt: Checkpoint, data: Dataset, categories: tuple[str, ...], counts: dict[str, str]) -> dict[str, Any]:
    kept = {name: ckpt.info[name] for name in ("licence", "credit", "peak_dbfs") if name in ckpt.info}
    return kept | {
        "name": safe_name(" ".join(data.categories))[:40] or "fitted",
        "categories": list(categories),
        "finetuned_from": ckpt.name,
        "start_sha256": ckpt.info["weights_sha256"],
        "data_sha256": data.fingerprint,
        "fitted_to": counts,
    }


def network_of(net: SpectralUNet, state: dict[str, Tensor]) -> SpectralUNet:
    """Return a network of such a state dict, which may have other numbers of components and categories."""
    planes = state["category.weight"].shape[1]
    made = SpectralUNet(replace(net.config, planes=planes, **sizes_of(state)))
    made.load_state_dict(state)
    return made


class Found(NamedTuple):
    """What a folder's sounds say about a network.

    Attributes:
        state: the state dict with their components.
        counts: for each category how many sounds, and how many with a pitch.
        wanted: the levels of the sounds of each category, by its number, for ``calibrated``.
    """

    state: dict[str, Tensor]
    counts: dict[str, str]
    wanted: dict[int, Wanted]


def find_components(ckpt: Checkpoint, state: dict[str, Tensor], data: Dataset, found: Sequence[Piece]) -> Found:
    """Find the components of each category among sounds.

    Args:
        ckpt: the checkpoint that the state dict is from.
        state: with planes for all categories, on the CPU.
        data: the sounds.
        found: the pieces of them to use, with the labels of their categories; those without one are not used.
    """
    config, counts, wanted = ckpt.net.config, {}, dict[int, Wanted]()
    assert isinstance(config, SpectralConfig) and isinstance(ckpt.net, SpectralUNet)
    names = list(dict.fromkeys((*ckpt.categories, *data.categories)))
    for label in sorted({piece.label for piece in found} - {-1}):
        generator = torch.Generator().manual_seed(label)
        mine = [piece for piece in found if piece.label == label]
        mine = [mine[i] for i in torch.randperm(len(mine), generator=generator)[:MOST_SOUNDS].tolist()]
        x = _read(ckpt, data, mine)
        stationary = names[label] == SUSTAINED or _is_stationary(state, label)
        state = put(state, PRIOR, label, find_envelopes(config, x, _ENVELOPES, generator))
        counts[names[label]] = counted(len(x), "sound")
        tonal = None
        if TONES + "log_shares" in state:
            some = x[:_MOST_TONAL]
            pitch, certain = _find_pitches(state, label, some, ckpt.sample_rate, stationary)
            has = pitch > 0
            if has.double().mean() >= _MOSTLY:
                tonal = describe_all(config, some[has], pitch[has])
            state = put(state, TONES, label, tonal and find_tones(tonal, pitch[has], _TONES, generator))
            counts[names[label]] += f", {int(certain.sum())} of a certain pitch" if certain.any() else ""
        wanted[label] = measure(ckpt.net, x, tonal)
    return Found(state, counts, wanted)


def calibrated(
    ckpt: Checkpoint,
    state: dict[str, Tensor],
    categories: Sequence[str],
    wanted: Mapping[int, Wanted],
    thorough: bool = False,
    cancel: Event | None = None,
) -> SpectralUNet:
    """Return the network of a state dict, on the CPU, with its levels corrected by what it makes of them.

    See ``calibrate``.

    Raises:
        Cancelled: stopped before all sounds were made.
    """
    assert isinstance(ckpt.net, SpectralUNet)
    net = network_of(ckpt.net, state).eval().requires_grad_(False)
    info = ckpt.info | {"categories": list(categories)}
    made = replace(ckpt, net=net, device=torch.device("cpu"), dtype=torch.float32, info=info)
    for label, levels in wanted.items():
        calibrate(made, label, levels, thorough, cancel)
    return net


def _read(ckpt: Checkpoint, data: Dataset, found: Sequence[Piece]) -> Tensor:
    """Return the beginnings of pieces, without silence before them, at the level of the network's training, (n, 1, T).

    Raises:
        DatasetError: all are silent, such as stereo files whose channels cancel each other.
    """
    rows = []
    for piece in found:
        sound = np.asarray(data.audio[piece.start : piece.start + piece.frames]).T
        loud = np.abs(sound[0]) > max(_ONSET * float(np.abs(sound).max()), _SILENT)
        if loud.any():
            led = np.pad(sound, [(0, 0), (_LEAD, 0)])
            rows.append(fit_length(led, ckpt.frames, int(loud.argmax())))
    if not rows:
        raise DatasetError(f"All sounds of {data.sounds[found[0].sound].category} are silent in mono.")
    return at_level(torch.from_numpy(np.stack(rows).astype(np.float32)), ckpt)


def _is_stationary(state: dict[str, Tensor], label: int) -> bool:
    """Return whether the envelopes of a category do not change in time."""
    shares = state[PRIOR + "log_shares"]
    levels = state[PRIOR + "log_levels"][shares[label] > IMPOSSIBLE / 10]
    return bool((levels == levels[..., :1]).all())


def _find_pitches(
    state: dict[str, Tensor], label: int, x: Tensor, sample_rate: int, stationary: bool
) -> tuple[Tensor, Tensor]:
    """Return the pitch of each sound in cycles per sample, float64, 0 for none, and whether it is certain; both (n,).

    Where it is not certain it is that of the tail, near which most of a drum's tone is. Where sounds do not change, or
    last as long as one asks, they must then be in tune with it, or noise would become a tone.
    """
    notes = [root_note(sound, sample_rate) for sound in x.numpy()]
    between = _range_hz(state, label, sample_rate)
    hz = [
        key_hz(note["note"] + note["cents"] / 100) if note else tail_hz(sound, sample_rate, _TAIL_AFTER_S, between)
        for note, sound in zip(notes, x[:, 0].numpy(), strict=True)
    ]
    tuned = tune(x, torch.tensor(hz, dtype=torch.float64) / sample_rate, _CENTS)
    certain = torch.tensor([note is not None for note in notes])
    if stationary or state[TONES + "held"][label] > 0:
        in_tune = (tuned.share >= _IN_TUNE[0]) & (tuned.correlation >= _IN_TUNE[1])
        return torch.where(certain | in_tune, tuned.pitch, 0.0), certain
    return tuned.pitch, certain


def _range_hz(state: dict[str, Tensor], label: int, sample_rate: int) -> tuple[float, float]:
    """Return the range of the pitches of a category, in Hz; a usual one where it has none."""
    known = state[TONES + "log_shares"][label] > IMPOSSIBLE / 10
    if not known.any():
        return _TAILS_HZ
    mean, deviation = state[TONES + "log_pitch"][known].double().unbind(1)
    low, high = (mean - _RANGE * deviation).min(), (mean + _RANGE * deviation).max()
    return float(low.exp()) * sample_rate, float(high.exp()) * sample_rate
