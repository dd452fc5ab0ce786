"""Make a sound again from what was written down about it."""

from __future__ import annotations

import glob
import json
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .beats import beat
from .checkpoints import Checkpoint, load
from .clips import Clips
from .edits import extend, inpaint
from .engine import AnySound, source_of, whole
from .files import file_sha256
from .formats import CheckpointError
from .interpolation import interpolate
from .runtime import is_available
from .verbs import generate, vary

_SAMPLING = ("category", "guidance_scale", "guidance_interval", "guidance_rescale", "steps", "sampler", "grid")
_TEMPO = ("loop", "bpm", "bars", "beats_per_bar", "start_on_onset")
_ANY_CENTS = 12_000.0  # what a loop cost was accepted then

VERBS = {
    "generate": (generate, (), (*_SAMPLING, *_TEMPO, "width")),
    "vary": (vary, ("source",), (*_SAMPLING, *_TEMPO, "strength", "offset_s", "match_level")),
    "interpolate": (interpolate, ("a", "b"), (*_SAMPLING, "to_category", "depth", "exact")),
    "inpaint": (inpaint, ("source",), (*_SAMPLING, "start_s", "end_s", "method", "loop")),
    "extend": (extend, ("source",), (*_SAMPLING, "duration_s", "backwards", "method")),
}
"""Function, sounds and arguments of each verb, by their names in a record."""


def remake(
    record: str | Path | dict[str, Any],
    ckpt: Checkpoint | str | Path | None = None,
    sounds: Sequence[AnySound] | str | Path | None = None,
) -> Clips:
    """Make a saved sound again from its JSON file: sample for sample on a CPU, within rounding on a GPU.

    Args:
        record: the JSON file beside a WAV file, the WAV file, or the record itself.
        ckpt: the checkpoint, where the record's own source is a file that is not here; a path is loaded on the
            record's device, in its precision and format.
        sounds: the sounds that it was made from, or a folder in which they are, at any depth; by default they are
            looked for beside the record. Sounds that were themselves made are made again.

    Returns:
        One clip, before the gain that the file may have got.

    Raises:
        FileNotFoundError: no such record, or a sound that it was made from is missing.
        ValueError: not a record, or a checkpoint with other weights than the record's.
        CheckpointError: the checkpoint cannot be had; pass it as ``ckpt``.
    """
    folder = None
    if not isinstance(record, dict):
        folder = Path(record).expanduser().parent
        record = read_record(Path(record).expanduser())
    return _remake(record, ckpt, sounds, folder)


def _remake(
    record: dict[str, Any],
    ckpt: Checkpoint | str | Path | None,
    sounds: Sequence[AnySound] | str | Path | None,
    folder: Path | None,
) -> Clips:
    try:
        making, model, machine = record["making"], record["model"], record["machine"]
        if making["verb"] == "beat":
            return _beat(record, ckpt, sounds, folder)
        seed, frames = (whole(k, making[k]) for k in ("seed", "frames"))
        make, takes, arguments = VERBS[making["verb"]]
        given = {"category": None}  # said, or that of the sound it was made from would count
        given |= {name: making[name] for name in arguments if name in making}
        brought = [making[name] for name in takes]
        rate = whole("sample_rate", model["sample_rate"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"This is no record of a sound made by ddnb: {error} is missing or wrong.") from error
    ckpt = _checkpoint(model, machine, ckpt)
    if make is interpolate and all("seed" in end for end in brought):
        sources = [whole("seed", end["seed"]) for end in brought]
    else:
        sources = [_sound(wanted, sounds, folder, ckpt) for wanted in brought]
    if make is interpolate:
        given |= {"n": whole("asked", making["asked"]), "places": [seed], "duration_s": frames / rate}
        return make(ckpt, *sources, **given)
    if make in (generate, vary):
        given |= {} if "bpm" in given else {"duration_s": frames / rate}
        given |= {"max_cents": _ANY_CENTS} if "loop" in given else {}
    return make(ckpt, *sources, n=1, seed=seed, **given)


def _beat(record: dict, ckpt: Checkpoint | str | Path | None, sounds, folder: Path | None) -> Clips:
    making, model, machine = (record.get(k, {}) for k in ("making", "model", "machine"))
    try:
        wanted, numbers = dict(making["sounds"]), {k: making[k] for k in ("bpm", "bars", "swing", "seed")}
    except (KeyError, TypeError) as error:
        raise ValueError(f"This is no record of a sound made by ddnb: {error} is missing or wrong.") from error
    ckpt = _checkpoint(model, machine, ckpt) if "weights_sha256" in model else ckpt
    clips = {track: _sound(source, sounds, folder, ckpt) for track, source in wanted.items()}
    made = beat(None, {"tracks": making["tracks"]}, sounds=clips, **numbers)
    clip = replace(made, sample_rate=whole("sample_rate", model["sample_rate"])).clip
    return Clips(clip.audio[None], clip.sample_rate, [clip.seed], record)


def _checkpoint(model: dict, machine: dict, ckpt: Checkpoint | str | Path | None) -> Checkpoint:
    """The checkpoint of a record, with its weights."""
    try:
        rate, trained = (whole(k, model[k]) for k in ("sample_rate", "frames"))
        name, source, sha256 = (str(model[k]) for k in ("name", "source", "weights_sha256"))
        device, dtype = (str(machine[k]) for k in ("device", "dtype"))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"This is no record of a sound made by ddnb: {error} is missing or wrong.") from error
    if not isinstance(ckpt, Checkpoint):
        here = device if is_available(device) else None
        try:
            ckpt = load(ckpt or source, device=here, dtype=dtype, sample_rate=rate, frames=trained)
        except (FileNotFoundError, CheckpointError) as error:
            where = "say where it is: remake(..., ckpt=PATH), on the command line --checkpoint PATH"
            raise CheckpointError(f"This sound was made with {source}; {where}. {error}") from error
    if ckpt.info["weights_sha256"] != sha256:
        raise ValueError(
            f"{ckpt.name} has other weights than the {name} that made this sound. If it was trained on since, one of "
            "the best-step files of its run may be the one."
        )
    here = str(ckpt.device), str(ckpt.dtype).removeprefix("torch.")
    if here != (device, dtype):
        warnings.warn(f"made on {device} in {dtype}, now on {here[0]} in {here[1]}: not exact", stacklevel=3)
    return ckpt


def _sound(wanted: dict, sounds: Sequence[AnySound] | str | Path | None, folder: Path | None, ckpt):
    """A sound that another one was made from."""
    if "record" in wanted:
        sha256 = wanted["record"].get("model", {}).get("weights_sha256")
        same = not isinstance(ckpt, Checkpoint) or sha256 == ckpt.info["weights_sha256"]
        return _remake(wanted["record"], ckpt if same else None, sounds, folder)[0]
    name, sha256 = wanted.get("name", "?"), wanted.get("sha256")
    if isinstance(sounds, str | Path):
        sounds = Path(sounds).expanduser()
        places = [sounds] if sounds.is_file() else sorted(sounds.rglob(glob.escape(name)))
    else:
        places = [*(sounds or ()), *(place / name for place in (folder, Path()) if place is not None)]
    for place in places:
        if isinstance(place, str | Path) and not Path(place).expanduser().is_file():
            continue
        if _sha256(place) == sha256:
            return place
    raise FileNotFoundError(
        f"This sound was made from {name}, which was not found, or has changed since: say where it is, with "
        "remake(..., sounds=FOLDER), on the command line --sounds FOLDER."
    )


def _sha256(sound: AnySound) -> str | None:
    """What a sound is known by, file or array."""
    if isinstance(sound, str | Path):
        return file_sha256(Path(sound).expanduser())
    return source_of(sound).record.get("sha256")


def read_record(path: Path) -> dict[str, Any]:
    """Read the JSON record beside a sound; ``path`` is that of either.

    Raises:
        FileNotFoundError: no record there.
        ValueError: it is not JSON.
    """
    path = path.with_suffix(".json") if path.suffix.lower() == ".wav" else path
    if not path.is_file():
        raise FileNotFoundError(f"No record at {path}.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name} is not a JSON record: {error}") from error
