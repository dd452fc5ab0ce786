"""Sounds that a verb returned: kept together with how they were made, saved, shown."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .audio import peak_dbfs, write_wav
from .checkpoints import Checkpoint, list_checkpoints
from .download import SCHEMES
from .files import atomically, claim_pair, file_sha256, safe_name
from .loops import SHORTEST_SEAM, seam_db


@dataclass(frozen=True, eq=False)
class Clip:
    """One sound: ``audio`` float32 (channels, frames), its rate in Hz, its seed, and how it was made."""

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
        ``my-snare_vary_seed3``, ``a_to_b_2of8``.
        """
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
                parts = ["-".join(category), self.settings["model"]["name"]]
        parts += ["loop"] if making.get("loop") else []
        parts += _tempo(making) if "bpm" in making else []
        return "_".join([safe_name(part)[:40] for part in parts if part] + [f"seed{self.seed}"])

    @property
    def loop(self) -> bool:
        """Whether its end leads into its beginning."""
        making = self.settings.get("making", {})
        return bool(making.get("loop")) or making.get("verb") == "beat"

    @cached_property
    def seam_db(self) -> float | None:
        """How much the seam of a loop sticks out, see ``loops.seam_db``.

        None of what is no loop, or too short; and of beats, where a hit on the first step is meant to stick out.
        """
        made_as_loop = self.settings.get("making", {}).get("loop")
        return seam_db(self.audio) if made_as_loop and self.audio.shape[-1] >= SHORTEST_SEAM else None

    def save(self, folder: str | Path, bits: str = "24") -> Path:
        """Write the sound as WAV, and beside it a JSON file from which ``remake`` makes it again.

        Nothing is overwritten: a name that is taken gets a number. Integer formats lower a clip whose peak
        is above -1 dBFS and say so in the JSON file (``level.gain_db``).

        Args:
            folder: where to; made if need be.
            bits: ``"16"``, ``"24"`` or ``"float"``.

        Returns:
            The path of the WAV file.

        Raises:
            ValueError: a file in place of a folder, or unknown ``bits``; nothing is written.
        """
        folder = Path(folder).expanduser()
        if folder.suffix.lower() in (".wav", ".json") or folder.is_file():
            raise ValueError(f"{folder} is no folder: give the folder to save in, the name is {self.name}.wav.")
        path, beside = claim_pair(folder / f"{self.name}.wav")
        try:
            gain_db = write_wav(path, self.audio, self.sample_rate, bits)
            text = json.dumps(self._record(path, bits, gain_db), indent=2) + "\n"
            atomically(beside, lambda part: part.write_text(text, encoding="utf-8"))
        except BaseException:
            path.unlink(missing_ok=True)
            beside.unlink(missing_ok=True)
            raise
        return path

    def _record(self, path: Path, bits: str, gain_db: float) -> dict[str, Any]:
        channels, frames = self.audio.shape
        shape = {"frames": frames, "sample_rate": self.sample_rate, "channels": channels, "bits": bits}
        level = {
            "peak_dbfs": round(peak_dbfs(self.audio), 3) if self.audio.any() else None,
            "gain_db": round(gain_db, 6),
            "samples_over_full_scale": int((np.abs(self.audio) > 1).sum()),
        }
        if self.seam_db is not None:
            level["seam_db"] = round(self.seam_db, 1)
        return {
            "file": {"name": path.name, "sha256": file_sha256(path), **shape},
            "level": level,
            "making": self.settings["making"] | {"seed": self.seed},
            "model": self.settings["model"],
            "machine": self.settings["machine"],
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

    def save(self, folder: str | Path, bits: str = "24") -> list[Path]:
        """Write every clip, as ``Clip.save`` does; returns the paths of the WAV files."""
        return [clip.save(folder, bits) for clip in self]

    def _repr_html_(self) -> str:
        from .widgets import clips_html  # notebooks only: the one import that points up

        return clips_html(self)

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
