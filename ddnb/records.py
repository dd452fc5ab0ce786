"""Make a sound again from what was written down about it, and take up saved ones."""

from __future__ import annotations

import glob
import json
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

from .beats import beat
from .checkpoints import Checkpoint, list_checkpoints, load
from .clips import Clip, Clips
from .edits import extend, inpaint
from .engine import AnySound, own_clip, source_of, whole
from .files import file_sha256
from .finish import apply
from .formats import CheckpointError
from .interpolation import interpolate
from .runtime import is_available
from .verbs import generate, vary

_SAMPLING = ("category", "guidance_scale", "guidance_interval", "guidance_rescale", "steps", "sampler", "grid")
_TEMPO = ("loop", "bpm", "bars", "beats_per_bar", "start_on_onset")
_ANY_CENTS = 12_000.0  # what a loop cost was accepted then

PACK = "ddnb pack"
"""By this key, which holds its version, the manifest of a pack is known."""

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
) -> Clips | list[Clip]:
    """Make a saved sound again from its JSON file: sample for sample on a CPU, within rounding on a GPU.

    Args:
        record: the JSON file beside a WAV file, the WAV file, or the record itself; or a whole pack: its ZIP file, its
            ``manifest.json``, or what that holds.
        ckpt: the checkpoint, where the record's own source is a file that is not here; a path is loaded on the
            record's device, in its precision and format.
        sounds: the sounds that it was made from, or a folder in which they are, at any depth; by default they are
            looked for beside the record. Sounds that were themselves made are made again; one that was brought along
            is found by its SHA-256.

    Returns:
        One clip, before the gain that the file may have got, but after what was done to it earlier (``edits``). Of a
        pack a list of clips, one per record in its order; one that lacks a sound is left out, with a warning.

    Raises:
        FileNotFoundError: no such record, or a sound that it was made from is missing; of a pack, from all of them.
        ValueError: not a record, or a checkpoint with other weights than the record's.
        CheckpointError: the checkpoint cannot be had; pass it as ``ckpt``.
    """
    folder = None
    if not isinstance(record, dict):
        folder = Path(record).expanduser().parent
        record = read_record(Path(record).expanduser())
    if isinstance(record, dict) and PACK in record:
        return _remake_all(record, ckpt, sounds, folder)
    return _remake(record, ckpt, sounds, folder)


def _remake_all(
    manifest: dict[str, Any],
    ckpt: Checkpoint | str | Path | None,
    sounds: Sequence[AnySound] | str | Path | None,
    folder: Path | None,
) -> list[Clip]:
    """Every sound of a pack; each network is opened once."""
    made: list[Clip] = []
    opened = [ckpt] if isinstance(ckpt, Checkpoint) else []
    refusal: Exception = ValueError("This pack's manifest lists no sound.")
    for record in manifest.get("sounds") or ():
        try:
            made += _remake(record, _opened(record, ckpt, opened), sounds, folder)
        except FileNotFoundError as error:
            refusal = error
            warnings.warn(f"{record['file']['name']} is left out: {error}", stacklevel=3)
    if not made:
        raise refusal
    return made


def _opened(record: dict, ckpt: Checkpoint | str | Path | None, opened: list[Checkpoint]) -> Checkpoint | None:
    """The network of one record of a pack: one that is open, or a newly opened one."""
    model, machine = (record.get(k, {}) for k in ("model", "machine"))
    if "weights_sha256" not in model:
        return None
    for known in opened:
        as_then = known is ckpt or str(known.dtype).endswith(machine.get("dtype", ""))
        if as_then and known.info["weights_sha256"] == model["weights_sha256"]:
            return known
    theirs = None if isinstance(ckpt, Checkpoint) or model.get("source") in list_checkpoints() else ckpt
    opened.append(_checkpoint(model, machine, theirs))
    return opened[-1]


def _remake(
    record: dict[str, Any],
    ckpt: Checkpoint | str | Path | None,
    sounds: Sequence[AnySound] | str | Path | None,
    folder: Path | None,
) -> Clips:
    """What a record says was made, and then done to it."""
    if isinstance(record, dict) and "source" in record and "making" not in record:
        clip = own_clip(_sound(record["source"], sounds, folder, None))
        settings = {k: record[k] for k in ("source", "model") if k in record}
        clips = Clips(clip.audio[None], clip.sample_rate, [clip.seed], settings)
    else:
        clips = _made(record, ckpt, sounds, folder)
    try:
        edits = record.get("edits") or []
        done = _note(record) | ({"edits": edits} if edits else {})
        audio = [reduce(apply, edits, audio) for audio in clips.audio]
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"This is no record of a sound made by ddnb: its edits are wrong: {error}") from error
    if not done or not audio:
        return clips
    return Clips(audio[0][None], clips.sample_rate, clips.seeds, clips.settings | done)


def _made(
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
    settings = {k: v for k, v in record.items() if k in ("making", "model", "machine")}
    return Clips(clip.audio[None], clip.sample_rate, [clip.seed], settings)


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


def read_clip(path: str | Path) -> Clip:
    """Take up a saved sound: the samples of its file, and how they came about.

    That is in the JSON file beside it, where the sound is still the one that was written: then ``remake`` gives these
    very samples, with the gain and the rounding of the file. Any other sound file is a sound of your own.

    Args:
        path: the sound file.

    Returns:
        The clip, which can be varied, packed and saved like any other.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not readable, empty, silent, or not finite.
    """
    path = Path(path).expanduser()
    clip = own_clip(path)
    try:
        record = read_record(path.with_suffix(".json"))
        if record["file"]["sha256"] != clip.settings["source"]["sha256"]:
            return clip
        bits, gain_db = record["file"]["bits"], record["level"]["gain_db"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # none, or one of something else
        return clip
    settings = {k: record[k] for k in ("making", "source", "model", "machine", "edits") if k in record}
    making = dict(record.get("making", {}))
    seed = making.pop("seed", 0)
    settings |= ({"making": making} if making else {}) | _note(record)
    edit = ({"gain_db": gain_db} if gain_db else {}) | ({"bits": bits} if bits != "float" else {})
    settings |= {"edits": [*settings.get("edits", ()), edit]} if edit else {}
    return Clip(clip.audio, clip.sample_rate, seed, settings)


def _note(record: dict[str, Any]) -> dict[str, Any]:
    note = record.get("music", {}).get("root_note")
    return {"root_note": note} if note else {}


def read_record(path: Path) -> dict[str, Any]:
    """Read the JSON record beside a sound, whose path may be given instead, or the manifest of a pack.

    Raises:
        FileNotFoundError: no record there.
        ValueError: it is not JSON, or no pack.
    """
    if path.suffix.lower() == ".zip":
        return _manifest(path)
    path = path.with_suffix(".json") if path.suffix.lower() == ".wav" else path
    if not path.is_file():
        raise FileNotFoundError(f"No record at {path}.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name} is not a JSON record: {error}") from error


def _manifest(path: Path) -> dict[str, Any]:
    """What the manifest of a packed pack holds."""
    if not path.is_file():
        raise FileNotFoundError(f"No pack at {path}.")
    try:
        with zipfile.ZipFile(path) as file:
            name = next(name for name in file.namelist() if name.endswith("/manifest.json"))
            return json.loads(file.read(name))
    except (zipfile.BadZipFile, StopIteration, ValueError) as error:
        raise ValueError(f"{path.name} is no pack made by ddnb: there is no manifest.json in it.") from error
