"""Sounds that a verb returned: kept together with how they were made, saved, shown."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..audio.io import peak_dbfs, write_wav
from ..audio.loop import SHORTEST_SEAM, seam_db
from ..audio.wav_chunks import acid, smpl
from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.download import SCHEMES
from ..checkpoints.registry import list_checkpoints
from ..display.html import sounds_html
from ..display.shown import Shown
from ..files import atomically, claim_pair, file_sha256, safe_name

LONGEST_NAME = 140
"""Characters of a clip's name, so that a suffix and a number still fit into what every system takes."""


@dataclass(frozen=True, eq=False)
class Clip:
    """One sound: ``audio`` float32 (channels, frames), its rate in Hz, its seed, and how it was made.

    ``settings`` may hold ``making`` (or ``source``, of a sound that was brought along), ``model``, ``machine``,
    ``edits`` (what was done to the sound since, see ``finish``) and ``root_note``.
    """

    audio: np.ndarray
    sample_rate: int
    seed: int
    settings: dict[str, Any]

    @property
    def duration_s(self) -> float:
        return self.audio.shape[-1] / self.sample_rate

    @property
    def name(self) -> str:
        """A file name without suffix: ``kick_drums_seed7``, ``texture_drums_loop_128bpm_2bars_seed0``,
        ``my-snare_vary_seed3``, ``a_to_b_2of8``; with its note where that is known, ``bass_drums_seed1_F1``.
        """
        note = self.settings.get("root_note")
        # as a whole: its parts may be from a record that anybody has written
        return safe_name(f"{self._name}_{note['name']}" if note else self._name, LONGEST_NAME)

    @property
    def _name(self) -> str:
        if "source" in self.settings:
            return _end(self.settings["source"])
        making = self.settings.get("making", {})
        match making.get("verb"):
            case "beat":
                parts = [making["pattern"], "beat"]
            case "interpolate":
                return "_".join([*map(_end, (making["a"], "to", making["b"])), f"{self.seed + 1}of{making['asked']}"])
            case "vary" | "inpaint" | "extend" as verb:
                parts = [_end(making["source"]), verb]
            case _:
                category = making.get("category") or {}
                parts = ["-".join(category), self.settings.get("model", {}).get("name", "sound")]
        parts += ["loop"] if making.get("loop") else []
        parts += _tempo(making) if "bpm" in making else []
        return "_".join([safe_name(part)[:40] for part in parts if part] + [f"seed{self.seed}"])

    @property
    def loop(self) -> bool:
        """Whether its end leads into its beginning."""
        making = self.settings.get("making", {})
        return bool(making.get("loop")) or making.get("verb") == "beat"

    @property
    def kind(self) -> str:
        """``"loop"``, ``"bars"`` (of exact bars, but its end is an end), ``"one-shot"``; a sound that was brought along
        may be anything: ``"own"``.
        """
        if "making" not in self.settings:
            return "own"
        return "loop" if self.loop else "bars" if "bpm" in self.settings["making"] else "one-shot"

    @property
    def provenance(self) -> dict[str, Any]:
        """What ``remake`` needs to make the sound again."""
        kept = {k: self.settings[k] for k in ("making", "source", "model", "machine", "edits") if k in self.settings}
        return kept | ({"making": kept["making"] | {"seed": self.seed}} if "making" in kept else {})

    @cached_property
    def seam_db(self) -> float | None:
        """How much the seam of a loop sticks out, see ``loops.seam_db``.

        None of what is no loop, or too short; and of beats, where a hit on the first step is meant to stick out.
        """
        made_as_loop = self.settings.get("making", {}).get("loop")
        return seam_db(self.audio) if made_as_loop and self.audio.shape[-1] >= SHORTEST_SEAM else None

    def shown(self) -> Shown:
        """What notebooks display of it."""
        making = self.settings.get("making", {})
        details = [f"{making[key]}, {making['steps']} steps" for key in ("sampler", "method") if key in making]
        details += [f"strength {making['strength']:g}"] if "strength" in making else []
        return Shown(
            self.audio, self.sample_rate, self.name, ", ".join(details), self.loop, self.seam_db, tuple(self._marks())
        )

    def _marks(self) -> list[float]:
        """Where gaps begin and end, or a sound was made longer, as shares of its length."""
        making = self.settings.get("making", {})
        seconds: list[float] = []
        match making.get("verb"):
            case "inpaint":
                seconds = [float(s) for side in ("start_s", "end_s") for s in np.atleast_1d(making[side])]
            case "extend":
                added = self.duration_s - making["source_s"]
                seconds = [added if making["backwards"] else making["source_s"]]
        return [s / self.duration_s for s in seconds]

    def save(self, folder: str | Path, bits: str = "24", chunks: bool = True) -> Path:
        """Write the sound as WAV, and beside it a JSON file from which ``remake`` makes it again.

        Nothing is overwritten: a name that is taken gets a number. Integer formats lower a clip whose peak
        is above -1 dBFS and say so in the JSON file (``level.gain_db``).

        Args:
            folder: where to; made if need be.
            bits: ``"16"``, ``"24"`` or ``"float"``.
            chunks: say in the WAV file where it loops, its tempo, or that it is a one-shot. Samplers made of hardware
                that refuse such a file want a plain one.

        Returns:
            The path of the WAV file.

        Raises:
            ValueError: a file in place of a folder, or unknown ``bits``; nothing is written.
        """
        folder = Path(folder).expanduser()
        if folder.suffix.lower() in (".wav", ".json") or folder.is_file():
            raise ValueError(f"{folder} is no folder: give the folder to save in, the name is {self.name}.wav.")
        return self.save_as(folder / f"{self.name}.wav", bits, chunks)

    def save_as(self, path: Path, bits: str = "24", chunks: bool = True) -> Path:
        """Write the sound and its JSON file under a name of your own; where that is taken, with a number. See ``save``.

        Raises:
            ValueError: unknown ``bits``; nothing is written.
        """
        path, beside = claim_pair(path)
        try:
            text = json.dumps(self.write(path, bits, chunks), indent=2) + "\n"
            atomically(beside, lambda part: part.write_text(text, encoding="utf-8"))
        except BaseException:
            path.unlink(missing_ok=True)
            beside.unlink(missing_ok=True)
            raise
        return path

    def write(self, path: Path, bits: str = "24", chunks: bool = True) -> dict[str, Any]:
        """Write the sound as WAV to a path that is free; return its record. See ``save``, and ``audio.write_wav``."""
        gain_db = write_wav(path, self.audio, self.sample_rate, bits, self._chunks() if chunks else ())
        return self._record(path, bits, chunks, gain_db)

    def _chunks(self) -> list[bytes]:
        """What other programs are told about the sound: what is known, and nothing else.

        Of a loop without a tempo that is where it loops. A program guesses its tempo better than a default would.
        """
        note, frames = self.settings.get("root_note"), self.audio.shape[-1]
        told = [smpl(frames, self.sample_rate)] if self.loop else []
        if tempo := self._tempo:
            told.append(acid(tempo["bpm"], tempo["beats"], tempo["beats_per_bar"]))
        elif self.kind == "one-shot":
            told.append(acid(note=note and note["note"]))
        return told

    @property
    def _tempo(self) -> dict[str, Any]:
        """What was declared about it; nothing where nothing was."""
        making = self.settings.get("making", {})
        if "bpm" not in making:
            return {}
        bars, beats_per_bar = making["bars"], making.get("beats_per_bar", 4)
        return {"bpm": making["bpm"], "bars": bars, "beats_per_bar": beats_per_bar, "beats": bars * beats_per_bar}

    def _music(self) -> dict[str, Any]:
        tempo, length_s = self._tempo, Fraction(self.audio.shape[-1], self.sample_rate)
        if tempo:  # before it was rounded to whole frames
            length_s = Fraction(60 * tempo["beats"]) / Fraction(tempo["bpm"])
        note = self.settings.get("root_note")
        return {"type": self.kind, **tempo, "exact_length_s": str(length_s)} | ({"root_note": note} if note else {})

    def _record(self, path: Path, bits: str, chunks: bool, gain_db: float) -> dict[str, Any]:
        channels, frames = self.audio.shape
        shape = {"frames": frames, "sample_rate": self.sample_rate, "channels": channels}
        form = {"bits": bits, "chunks": chunks}
        level = {
            "peak_dbfs": round(peak_dbfs(self.audio), 3) if self.audio.any() else None,
            "gain_db": gain_db,  # not rounded: by it a file's samples are made again
            "samples_over_full_scale": int((np.abs(self.audio) > 1).sum()),
        }
        if self.seam_db is not None:
            level["seam_db"] = round(self.seam_db, 1)
        return {
            "file": {"name": path.name, "sha256": file_sha256(path), **shape, **form},
            "music": self._music(),
            "level": level,
            **self.provenance,
        }


@dataclass(frozen=True, eq=False)
class Clips(Sequence[Clip]):
    """Sounds made in one go: ``audio`` float32 (B, channels, frames), one seed each, and how they were made."""

    audio: np.ndarray
    sample_rate: int
    seeds: list[int]
    settings: dict[str, Any]

    def __len__(self) -> int:
        return len(self.audio)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return Clips(self.audio[index], self.sample_rate, self.seeds[index], self.settings)
        return Clip(self.audio[index], self.sample_rate, self.seeds[index], self.settings)

    def save(self, folder: str | Path, bits: str = "24", chunks: bool = True) -> list[Path]:
        """Write every clip, as ``Clip.save`` does; returns the paths of the WAV files."""
        return [clip.save(folder, bits, chunks) for clip in self]

    def _repr_html_(self) -> str:
        return sounds_html([clip.shown() for clip in self])

    def __repr__(self) -> str:
        seconds = self.audio.shape[-1] / self.sample_rate
        return f"<{len(self)} clips of {seconds:.2f} s at {self.sample_rate} Hz, seeds {self.seeds}>"


def settings_of(ckpt: Checkpoint, making: dict[str, Any]) -> dict[str, Any]:
    """What a record says about the making, the model and the machine."""
    model = {"name": ckpt.name, "sample_rate": ckpt.sample_rate, "frames": ckpt.frames} | ckpt.info
    model["source"] = _public_source(ckpt.info["source"])
    machine = {
        "ddnb": _version(),
        "torch": torch.__version__,
        "device": str(ckpt.device),
        "dtype": str(ckpt.dtype).removeprefix("torch."),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }
    return {"making": making, "model": model, "machine": machine}


def _tempo(making: dict[str, Any]) -> list[str]:
    """Bars, and the tempo where it is a whole number: some programs take ``120.75bpm`` for 75."""
    bpm, bars = making["bpm"], making["bars"]
    return [f"{bpm:.0f}bpm"] * (bpm == int(bpm)) + [f"{bars}bar{'s' if bars > 1 else ''}"]


def _end(source: dict[str, Any] | str) -> str:
    """A sound that was brought along, in a name."""
    name = source if isinstance(source, str) else source.get("name") or f"seed{source['seed']}"
    return safe_name(Path(name).stem)[:40]


def _public_source(source: str) -> str:
    """A source that may travel with a sound: no folder of anybody's disk, no token in a link."""
    if source.startswith(SCHEMES):
        return source.partition("?")[0]
    return source if source in list_checkpoints() else Path(source).name


def _version() -> str:
    try:
        return version("ddnb")
    except PackageNotFoundError:  # a checkout on the path, not installed
        return "checkout"
