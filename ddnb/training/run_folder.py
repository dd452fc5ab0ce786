"""The resumable folder of a training run, which survives being killed at any moment.

    settings.json                     settings, starting point and data of the run, compared when it is resumed
    state.safetensors                 all that is needed to resume, bit for bit on a CPU
    last.safetensors                  the averaged weights, an ordinary checkpoint
    best-step000400.safetensors ...   the same, of the steps with the lowest validation loss
    log.csv                           a line per step
    demos/step000000/ ...             demos, always from the same seeds

Every file is written completely or not at all. Outputs of steps after the saved state are removed and made again.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..audio.io import write_wav
from ..checkpoints.formats import read_weights, write_safetensors
from ..clips.clip import Clip
from ..errors import ArgumentError, RunError
from ..files import acquire_lock, atomically, expand, free_bytes, remove_scratch
from ..notices import warn

GB = 1e9
_REQUIRED_SETTINGS = {"recipe", "start", "data_sha256"}
_STATE, _SETTINGS, _LOG = "state.safetensors", "settings.json", "log.csv"


class RunFolder:
    """The folder of a new or resumed run.

    Args:
        path: the folder; created by the first write.

    Raises:
        FileExistsError: the folder holds something else, or is a file.
    """

    def __init__(self, path: str | Path):
        self.path = expand(path).absolute()
        things = [p for p in self.path.iterdir() if p.name[0] != "."] if self.path.is_dir() else []
        if self.path.is_file() or (things and not self.settings_path.is_file()):
            raise FileExistsError(f"{self.path} holds something other than a training run: give a new folder.")

    def lock(self) -> BaseFileLock:
        """Lock the folder against other processes until the lock is released.

        Raises:
            FileExistsError: another process has locked it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            return acquire_lock(self.path / ".lock", timeout_s=0)
        except Timeout as error:
            raise FileExistsError(f"{self.path} is in use by another process: wait, or stop that one.") from error

    @property
    def settings_path(self) -> Path:
        """The path of the settings."""
        return self.path / _SETTINGS

    @property
    def state_path(self) -> Path:
        """The path of the state."""
        return self.path / _STATE

    @property
    def last_path(self) -> Path:
        """The path of the last weights."""
        return self.path / "last.safetensors"

    def best_path(self, step: int) -> Path:
        """Return the path of the best weights of a step."""
        return self.path / f"best-step{step:06d}.safetensors"

    def last_step(self) -> int:
        """Return the step of the last weights; -1 where there are none."""
        if not self.last_path.is_file():
            return -1
        return read_weights(self.last_path)[1].get("training", {}).get("step", -1)

    def demo_path(self, step: int) -> Path:
        """Return the folder of the demo of a step."""
        return self.path / "demos" / f"step{step:06d}"

    def settings(self) -> dict[str, Any]:
        """Return the stored settings of the run; empty for a new one.

        Raises:
            RunError: the file is damaged.
            FileExistsError: it belongs to another program.
        """
        if not self.settings_path.is_file():
            return {}
        try:
            settings = json.loads(self.settings_path.read_text(encoding="utf-8-sig"))
        except ValueError as error:  # not UTF-8, or not JSON
            raise RunError(f"{self.settings_path} is damaged ({error}): begin a new run.") from error
        if not isinstance(settings, dict) or not settings.keys() >= _REQUIRED_SETTINGS:
            raise FileExistsError(f"{self.settings_path} does not describe a training run: give a new folder.")
        return settings

    def write_settings(self, settings: Mapping[str, Any]) -> None:
        """Store the settings of the run."""
        text = json.dumps(settings, indent=2) + "\n"
        atomically(self.settings_path, lambda part: part.write_text(text, encoding="utf-8"))

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the tensors and plain values of the saved state; both are empty where nothing was saved yet.

        Raises:
            RunError: the state is damaged, or missing beside weights.
        """
        if not self.state_path.is_file():
            if results := [p.name for p in (self.last_path, *self._best_paths()) if p.is_file()]:
                # starting over would overwrite them
                raise RunError(f"{self.state_path} is missing: begin a new run, from {results[0]} of this one.")
            return {}, {}
        try:
            with safe_open(self.state_path, framework="pt") as file:
                facts = json.loads(file.metadata()["facts"])
            return load_file(self.state_path), facts
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            why = f"{self.state_path} is damaged ({error}): begin a new run from {self.last_path.name}."
            raise RunError(why) from error

    def _best_paths(self) -> list[Path]:
        """List the best checkpoints; one that the user has renamed is not among them, and so is never removed."""
        named = re.compile(r"best-step\d{6,}\.safetensors")
        return [path for path in self.path.glob("best-step*") if named.fullmatch(path.name)]

    def rewind(self, step: int, best: Collection[int]) -> None:
        """Remove what was written after ``step`` (-1: everything), and all best checkpoints but those of ``best``."""
        for target in (self.settings_path, self.state_path, self.last_path, self.path / _LOG):
            remove_scratch(target)
        for path in [*self.path.glob(".best-step*"), *self.path.glob("demos/.step*")]:
            shutil.rmtree(path, ignore_errors=True)
        kept = {self.best_path(at) for at in best}
        for path in self._best_paths():
            if path not in kept:
                path.unlink()
        for path in self.path.glob("demos/step*"):
            if (found := re.fullmatch(r"step(\d{6,})", path.name)) and int(found[1]) > step:
                shutil.rmtree(path, ignore_errors=True)
        self._cut_log(step)

    def save_state(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write the state; the previous one stays until the new one is complete."""
        metadata = {"facts": json.dumps(dict(facts)), "format": "pt"}
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        self._write(self.state_path, lambda: atomically(self.state_path, lambda part: save_file(plain, part, metadata)))

    def save_weights(self, path: Path, state: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write an ordinary checkpoint."""
        self._write(path, lambda: write_safetensors(path, state, facts))

    def save_demo(self, step: int, sounds: Mapping[str, Clip]) -> Path:
        """Write the sounds of a demo as WAV files with these names; return their folder."""
        target = self.demo_path(step)

        def write(part: Path) -> None:
            part.mkdir()
            for name, clip in sounds.items():
                write_wav(part / f"{name}.wav", clip.audio, clip.sample_rate)

        self._write(target, lambda: atomically(target, write))
        return target

    def _write(self, path: Path, write: Callable[[], object]) -> None:
        """Call ``write``; raise an ``OSError`` that says what to do where it fails.

        A folder that is gone is not made again: a drive that comes back would not fit onto it.
        """
        if not self.path.is_dir():
            raise OSError(
                f"{path} could not be written: the folder is gone. Connect its drive again and repeat the same call or "
                "command to resume from what was saved there."
            )
        try:
            write()
        except (OSError, SafetensorError) as error:
            free = free_bytes(self.path)
            room = "" if free is None else f"; {free / GB:.2f} GB are free"
            raise OSError(
                f"{path} could not be written ({getattr(error, 'strerror', None) or error}){room}. What was saved "
                "before is intact: free some space, or connect the drive again, and repeat the same call or command to "
                "resume."
            ) from error

    def log(self, row: Mapping[str, Any]) -> None:
        """Append a line to the log; the keys of the first line are its header."""
        path = self.path / _LOG
        new = not path.is_file()

        def append() -> None:
            with path.open("a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(row))
                if new:
                    writer.writeheader()
                writer.writerow(row)

        self._write(path, append)

    def _cut_log(self, step: int) -> None:
        """Remove the lines after a step, and a last line that a killed process left incomplete."""
        path = self.path / _LOG
        if not path.is_file():
            return
        with path.open(newline="", encoding="utf-8", errors="replace") as file:  # a power cut may leave anything
            reader = csv.DictReader(line.replace("\0", "") for line in file)
            names = reader.fieldnames or []
            rows = [row for row in reader if (row[names[0]] or "").isdigit() and int(row[names[0]]) <= step]
        text = io.StringIO()
        writer = csv.DictWriter(text, names)
        if rows:
            writer.writeheader()
        writer.writerows(row for row in rows if None not in row.values())
        if rows:
            atomically(path, lambda part: part.write_text(text.getvalue(), encoding="utf-8"))
        else:
            path.unlink()

    def count_best_that_fit(self, wanted: int, weights_bytes: int, state_bytes: int, budget_gb: float | None) -> int:
        """Return how many best checkpoints have room beside the state and the last weights; warn where not all have.

        The old and the new version of a file exist together while it is replaced, which is included.

        Args:
            wanted: upper limit.
            weights_bytes: size of one checkpoint.
            state_bytes: size of the state.
            budget_gb: space that the run may take, GB; None for all that is free.

        Raises:
            OSError: not even state and last weights fit on the disk.
            ArgumentError: they do not fit into the budget.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        used = sum(f.stat().st_size for f in self.path.rglob("*") if f.is_file())
        free = shutil.disk_usage(self.path).free + used
        room = free if budget_gb is None else min(free, budget_gb * GB)
        least = weights_bytes + state_bytes + max(weights_bytes, state_bytes)
        if room < least:
            need = f"needs {least / GB:.4g} GB in {self.path}, including a second copy of the file being replaced"
            need += "; LoRA or save_dtype='float16' needs less"
            if budget_gb is not None and budget_gb * GB < least:
                raise ArgumentError(f"disk_budget_gb={budget_gb}: the run {need}.")
            raise OSError(f"{free / GB:.2f} GB are free: the run {need}.")
        fitting = min(wanted, int((room - least) // weights_bytes))
        if fitting < wanted:
            reserve = "after a reserve for replacing the state"
            warn(f"there is room for {fitting} of the {wanted} best checkpoints only, {reserve}", stacklevel=3)
        return fitting
