"""Make a sound again from what was written down about it, and take up saved ones."""

from __future__ import annotations

import glob
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

from ..audio.mastering import apply
from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.download import SCHEMES
from ..checkpoints.loading import load
from ..checkpoints.registry import list_checkpoints
from ..checks import whole
from ..clips.clip import Clip, Clips
from ..clips.record import PACK, _note, _records_of, _require_record, _wrong, read_record
from ..clips.source import AnySound, own_clip, source_of
from ..errors import CheckpointError
from ..files import file_sha256
from ..runtime import is_available
from .beat import beat
from .extend import extend
from .generate import generate
from .inpaint import inpaint
from .interpolate import interpolate
from .vary import vary

_SAMPLING = ("category", "guidance_scale", "guidance_interval", "guidance_rescale", "steps", "sampler", "grid")
_TEMPO = ("loop", "bpm", "bars", "beats_per_bar", "start_on_onset")
_ANY_CENTS = 12_000.0  # what a loop cost was accepted then

Networks = Checkpoint | str | Path | Sequence[Checkpoint | str | Path]
"""A checkpoint, what ``load`` takes, or several of them."""

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
    ckpt: Networks | None = None,
    sounds: Sequence[AnySound] | str | Path | None = None,
) -> Clips | list[Clip]:
    """Make a saved sound again from its JSON file: sample for sample on a CPU, within rounding on a GPU.

    A record may be from anybody: by itself it opens names of ``list_checkpoints()`` and files that lie beside it or in
    the working folder, and never a link.

    Args:
        record: the JSON file beside a WAV file, the WAV file, or the record itself; or a whole pack: its ZIP file, its
            ``manifest.json``, or what that holds.
        ckpt: the checkpoint, where the record's own source is a link, or a file that is not here; several of them for
            sounds of several. Each goes to the sounds that were made with its weights. A path is loaded on the
            record's device, in its precision and format.
        sounds: the sounds that it was made from, or a folder in which they are, at any depth; by default they are
            looked for beside the record. Sounds that were themselves made are made again; one that was brought along
            is found by its SHA-256.

    Returns:
        One clip, before the gain that the file may have got, but after what was done to it earlier (``edits``). Of a
        pack a list of clips, one per record in its order; one that lacks a sound or its checkpoint is left out, with a
        warning.

    Raises:
        FileNotFoundError: no such record, or a sound that it was made from is missing; of a pack, from all of them.
        ValueError: not a record, or a checkpoint with other weights than the record's.
        CheckpointError: the checkpoint cannot be had; pass it as ``ckpt``.
    """
    record, folder = _taken(record)
    if PACK in record:
        return [clip for _, clip in _remake_all(record, _Networks(ckpt, folder), sounds, folder)]
    return _remake(record, _Networks(ckpt, folder), sounds, folder)


def remade(
    record: str | Path | dict[str, Any],
    ckpt: Networks | None = None,
    sounds: Sequence[AnySound] | str | Path | None = None,
) -> list[tuple[dict[str, Any], Clip]]:
    """Each record with its clip, of one sound or of a pack. See ``remake``, also for what is raised."""
    record, folder = _taken(record)
    networks = _Networks(ckpt, folder)
    if PACK in record:
        return _remake_all(record, networks, sounds, folder)
    return [(record, clip) for clip in _remake(record, networks, sounds, folder)]


def _taken(record: str | Path | dict[str, Any]) -> tuple[dict[str, Any], Path | None]:
    """A record that can be worked with, and the folder it was found in."""
    folder = None
    if not isinstance(record, dict):
        folder = Path(record).expanduser().parent
        record = read_record(Path(record).expanduser())
    if isinstance(record, dict) and PACK in record:
        _records_of(record)
    else:
        _require_record(record)
    return record, folder


def _remake_all(
    manifest: dict[str, Any],
    networks: _Networks,
    sounds: Sequence[AnySound] | str | Path | None,
    folder: Path | None,
) -> list[tuple[dict[str, Any], Clip]]:
    """Every sound of a pack, with its record."""
    made: list[tuple[dict[str, Any], Clip]] = []
    refusal: Exception = ValueError("This pack's manifest lists no sound.")
    for record in _records_of(manifest):
        try:
            made += [(record, clip) for clip in _remake(record, networks, sounds, folder)]
        except (FileNotFoundError, CheckpointError, _OtherWeights) as error:
            refusal = error
            warnings.warn(f"{record['file']['name']} is left out: {error}", stacklevel=3)
    if not made:
        raise refusal
    return made


def _remake(
    record: dict[str, Any],
    networks: _Networks,
    sounds: Sequence[AnySound] | str | Path | None,
    folder: Path | None,
) -> Clips:
    """What a record says was made, and then done to it."""
    if "source" in record and "making" not in record:
        clip = own_clip(_sound(record["source"], sounds, folder, networks))
        settings = {k: record[k] for k in ("source", "model") if k in record}
        clips = Clips(clip.audio[None], clip.sample_rate, [clip.seed], settings)
    else:
        clips = _made(record, networks, sounds, folder)
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
    networks: _Networks,
    sounds: Sequence[AnySound] | str | Path | None,
    folder: Path | None,
) -> Clips:
    try:
        making, model = record["making"], record["model"]
        if making["verb"] == "beat":
            return _beat(record, networks, sounds, folder)
        seed, frames = (whole(k, making[k]) for k in ("seed", "frames"))
        make, takes, arguments = VERBS[making["verb"]]
        given = {"category": None}  # said, or that of the sound it was made from would count
        given |= {name: making[name] for name in arguments if name in making}
        brought = [making[name] for name in takes]
        rate = whole("sample_rate", model["sample_rate"])
    except (KeyError, TypeError, ValueError) as error:
        raise _wrong(error) from error
    ckpt = networks.of(record)
    if make is interpolate and all("seed" in end for end in brought):
        sources = [whole("seed", end["seed"]) for end in brought]
    else:
        sources = [_sound(wanted, sounds, folder, networks) for wanted in brought]
    if make is interpolate:
        given |= {"n": whole("asked", making["asked"]), "places": [seed], "duration_s": frames / rate}
        return make(ckpt, *sources, **given)
    if make in (generate, vary):
        given |= {} if "bpm" in given else {"duration_s": frames / rate}
        given |= {"max_cents": _ANY_CENTS} if "loop" in given else {}
    return make(ckpt, *sources, n=1, seed=seed, **given)


def _beat(record: dict, networks: _Networks, sounds, folder: Path | None) -> Clips:
    try:
        making = record["making"]
        wanted, numbers = dict(making["sounds"]), {k: making[k] for k in ("bpm", "bars", "swing", "seed")}
        tracks, rate = making["tracks"], whole("sample_rate", record["model"]["sample_rate"])
    except (KeyError, TypeError, ValueError) as error:
        raise _wrong(error) from error
    clips = {track: _sound(source, sounds, folder, networks) for track, source in wanted.items()}
    made = beat(None, {"tracks": tracks}, sounds=clips, **numbers)
    clip = replace(made, sample_rate=rate).clip
    settings = {k: v for k, v in record.items() if k in ("making", "model", "machine")}
    return Clips(clip.audio[None], clip.sample_rate, [clip.seed], settings)


class _OtherWeights(ValueError):
    """None of the networks that were given made the sound."""


class _Networks:
    """The networks of records: given, of the registry, or in a file beside the record; each is opened once."""

    def __init__(self, given: Networks | None, folder: Path | None):
        one = given is None or isinstance(given, Checkpoint | str | Path)
        given = [given] if one else list(given)
        # those that are open go first
        self.given = sorted((each for each in given if each is not None), key=lambda g: not isinstance(g, Checkpoint))
        self.folder = folder
        self.opened: dict[tuple[str, str, str], Checkpoint] = {}

    def of(self, record: dict[str, Any]) -> Checkpoint:
        """The network of a record: with its weights, in its format.

        Raises:
            CheckpointError: it cannot be had.
            ValueError: no record; ``_OtherWeights``: those that were given made other sounds.
        """
        try:
            model, machine = record["model"], record["machine"]
            rate, frames = (whole(k, model[k]) for k in ("sample_rate", "frames"))
            name, source, sha256 = (str(model[k]) for k in ("name", "source", "weights_sha256"))
            device, dtype = (str(machine[k]) for k in ("device", "dtype"))
        except (KeyError, TypeError, ValueError) as error:
            raise _wrong(error) from error
        others = []
        for place in self._places(source):
            try:
                ckpt = self._open(place, device, dtype, rate, frames)
            except (FileNotFoundError, CheckpointError) as error:
                raise CheckpointError(f"{_where(source)} {error}") from error
            if ckpt.info["weights_sha256"] == sha256:
                break
            others.append(ckpt.name)
        else:
            if others:
                raise _OtherWeights(
                    f"{others[0]} has other weights than the {name} that made this sound. If it was trained on since, "
                    "one of the best-step files of its run may be the one."
                )
            raise CheckpointError(f"{_where(source)} It is neither beside the record nor in the working folder.")
        here = str(ckpt.device), str(ckpt.dtype).removeprefix("torch.")
        if here != (device, dtype):
            warnings.warn(f"made on {device} in {dtype}, now on {here[0]} in {here[1]}: not exact", stacklevel=3)
        return replace(ckpt, sample_rate=rate, frames=frames)  # the same weights may have been loaded at two rates

    def _places(self, source: str) -> Iterator[Checkpoint | str | Path]:
        """Where it may be. Whoever wrote the record must not choose what is fetched, or opened in other folders."""
        yield from self.given
        if source in list_checkpoints():
            yield source
        elif not source.startswith(SCHEMES) and source not in ("", "..") and Path(source).name == source:
            files = [folder / source for folder in (self.folder, Path()) if folder is not None]
            yield from [file for file in files if file.exists()][:1]

    def _open(self, place: Checkpoint | str | Path, device: str, dtype: str, rate: int, frames: int) -> Checkpoint:
        if isinstance(place, Checkpoint):
            return place
        key = (str(place), device, dtype)
        if key not in self.opened:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".* is used, as you say")  # it may be that of another sound
                here = device if is_available(device) else None
                self.opened[key] = load(place, device=here, dtype=dtype, sample_rate=rate, frames=frames)
        return self.opened[key]


def _where(source: str) -> str:
    """What to do about a checkpoint that a record names."""
    made = f"This sound was made with {source}; "
    if source.startswith(SCHEMES):
        return (
            f"{made}if you trust it, load it and pass it: remake(..., ckpt=ddnb.load({source!r})), on the command line "
            f"--checkpoint {source}."
        )
    return f"{made}say where it is: remake(..., ckpt=PATH), on the command line --checkpoint PATH."


def _sound(wanted: dict, sounds: Sequence[AnySound] | str | Path | None, folder: Path | None, networks: _Networks):
    """A sound that another one was made from."""
    if "record" in wanted:
        return _remake(wanted["record"], networks, sounds, folder)[0]
    name, sha256 = Path(wanted.get("name", "")).name or "?", wanted.get("sha256")  # in no other folder
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
