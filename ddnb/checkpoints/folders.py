"""Which file of a folder, a repository or an archive holds the weights."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from ..errors import CheckpointError
from .sizes import read_json

WEIGHT_FILES = {".ckpt", ".safetensors", ".bin", ".pt", ".pth"}
"""Suffixes of files with weights."""

_BESIDE = re.compile(r"(optimizer|scheduler|scaler|sampler|training_args|rng_state|random_states|dataloader)[_\d]*")
"""Stems of what training codes put beside the weights."""
_PART = re.compile(r"-\d+-of-\d+$")

DIFFUSERS_STEM = "diffusion_pytorch_model"
DIFFUSERS_CONFIG, MODEL_CONFIG = "config.json", "model_config.json"
"""Settings beside the weights, as diffusers and stable-audio-tools write them."""


def weights_file(path: Path) -> Path:
    """Return the file with the weights of a checkpoint: the path itself, or the one in a folder.

    Of weights in several files it is the index.

    Raises:
        CheckpointError: a folder with no weights, or with those of several checkpoints.
    """
    if not path.is_dir():
        if _PART.search(path.stem):
            raise CheckpointError(f"{path.name} is one part of a checkpoint in several files: give their folder.")
        return path
    path = _snapshot(path)
    places = [folder for folder in (path / "unet_ema", path / "unet", path) if folder.is_dir()]
    for folder in places:
        if name := choose_weights(file.name for file in folder.iterdir() if file.is_file()):
            return folder / name
    there = sorted(file.name for file in places[0].iterdir())
    several = [name for name in there if _is_of_network(name)]
    if several:
        raise CheckpointError(
            f"{path} holds several checkpoints: {', '.join(several[:6])}. Give the path of one of them."
        )
    raise CheckpointError(
        f"{path} is not the folder of a checkpoint: {places[0]} should hold {DIFFUSERS_STEM}.safetensors or .bin, or a "
        f"single {', '.join(sorted(WEIGHT_FILES))} file; it holds {', '.join(there[:8]) or 'nothing'}."
    )


def _snapshot(path: Path) -> Path:
    """Return what a repository's folder in the cache of the Hub shows of it; any other folder as it is."""
    if not (path / "snapshots").is_dir() or not (path / "blobs").is_dir():
        return path
    there = sorted(folder for folder in (path / "snapshots").iterdir() if folder.is_dir())
    main = path / "refs" / "main"
    named = main.read_text(encoding="utf-8", errors="replace")[:100].strip() if main.is_file() else ""
    return next((folder for folder in there if folder.name == named), there[0] if len(there) == 1 else path)


def choose_weights(names: Iterable[str]) -> str | None:
    """Return which of the files of one folder holds the weights; None if there is no single one.

    Files of diffusers come first: in full precision before variants such as ``fp16``, the EMA before ``non_ema``, and
    safetensors before pickles.
    """
    names = sorted(names)
    theirs = [n for n in names if n.startswith(DIFFUSERS_STEM) and "-of-" not in n and _holds_weights(n)]
    if theirs:
        return min(theirs, key=lambda n: ("non_ema" in n, ".fp16" in n, ".safetensors" not in n, n.count("."), n))
    weights = [name for name in names if _is_of_network(name)]
    stems = {PurePosixPath(name).stem for name in weights}
    if weights and all(map(_PART.search, stems)):
        indices = [name for name in names if name.endswith(".index.json")]
        return indices[0] if len(indices) == 1 else None
    if len(stems) != 1:
        return None
    return next((name for name in weights if name.lower().endswith(".safetensors")), weights[0])


def _is_of_network(name: str) -> bool:
    place = PurePosixPath(name)
    return place.suffix.lower() in WEIGHT_FILES and name[0] != "." and not _BESIDE.fullmatch(place.stem)


def _holds_weights(name: str) -> bool:
    return PurePosixPath(name).suffix in WEIGHT_FILES or (".index" in name and name.endswith(".json"))


def shards(index: Path, there: bool = True) -> list[Path]:
    """Return the files that an index lists.

    Args:
        index: the file.
        there: whether all of them must be there.

    Raises:
        CheckpointError: it is damaged, lists files elsewhere, or files that are missing.
    """
    try:
        names = sorted(set(read_json(index)["weight_map"].values()))
        files = [index.with_name(name) for name in names]  # ValueError for a path
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} is not an index of weights: {repr(error)[:500]}") from error
    if there and (missing := [file.name for file in files if not file.is_file()]):
        raise CheckpointError(
            f"{index.parent} lacks {', '.join(missing[:4])[:500]} of {len(files)} files: download it again."
        )
    return files


def settings_beside(weights: Path) -> list[Path]:
    """Return the JSON files with settings that are beside the weights."""
    return [file for name in (DIFFUSERS_CONFIG, MODEL_CONFIG) if (file := weights.with_name(name)).is_file()]
