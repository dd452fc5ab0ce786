"""The folder of a training run: what is in it, within which space, and how it survives being killed at any moment.

    settings.json           what the run is: asked for when it goes on
    state.safetensors       all that is needed to go on, bit for bit
    last.safetensors        the EMA weights, an ordinary checkpoint
    best-step000400.safetensors ...   the same, of the best moments by validation
    log.csv                 a line per step
    demos/step000000/ ...   the same seeds, again and again

Every file is written whole or not at all. What lies beside the state from later steps is made again.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import warnings
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..audio.io import write_wav
from ..checkpoints.formats import read_weights, write_safetensors
from ..clips.clip import Clip
from ..files import atomically, remove_scratch

GB = 1e9
_SETTINGS_OF_A_RUN = {"recipe", "start", "data_sha256"}
_STATE, _SETTINGS, _LOG = "state.safetensors", "settings.json", "log.csv"


class RunFolder:
    """A run's folder, new or gone on with.

    Args:
        path: the folder; made if need be.

    Raises:
        FileExistsError: a folder that holds other things.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path).expanduser().absolute()
        things = [p for p in self.path.iterdir() if p.name[0] != "."] if self.path.is_dir() else []
        if self.path.is_file() or (things and not self.settings_path.is_file()):
            raise FileExistsError(f"{self.path} holds something that is no run of ddnb: give a new folder.")

    def lock(self) -> FileLock:
        """Keep other processes out of the folder until the lock is released.

        Raises:
            FileExistsError: another process is in it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise FileExistsError(f"{self.path} is being trained in by another process: wait, or stop that.") from error
        except NotImplementedError:  # a file system without locks, as some network drives are
            pass
        return lock

    @property
    def settings_path(self) -> Path:
        return self.path / _SETTINGS

    @property
    def state_path(self) -> Path:
        return self.path / _STATE

    @property
    def last_path(self) -> Path:
        return self.path / "last.safetensors"

    def best_path(self, step: int) -> Path:
        return self.path / f"best-step{step:06d}.safetensors"

    def last_step(self) -> int:
        """The step of the last weights; -1 where there are none."""
        if not self.last_path.is_file():
            return -1
        return read_weights(self.last_path)[1].get("training", {}).get("step", -1)

    def demo_path(self, step: int) -> Path:
        return self.path / "demos" / f"step{step:06d}"

    def settings(self) -> dict[str, Any]:
        """What the run was begun with; empty for a new one.

        Raises:
            ValueError: the file is damaged.
            FileExistsError: it is that of another program.
        """
        if not self.settings_path.is_file():
            return {}
        try:
            settings = json.loads(self.settings_path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{self.settings_path} is damaged ({error}): begin a new run.") from error
        if not isinstance(settings, dict) or not settings.keys() >= _SETTINGS_OF_A_RUN:
            raise FileExistsError(f"{self.settings_path} is not that of a run of ddnb: give a new folder.")
        return settings

    def write_settings(self, settings: Mapping[str, Any]) -> None:
        text = json.dumps(settings, indent=2) + "\n"
        atomically(self.settings_path, lambda part: part.write_text(text, encoding="utf-8"))

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the tensors and the facts to go on with; both are empty where nothing was saved yet.

        Raises:
            ValueError: the state is damaged.
        """
        if not self.state_path.is_file():
            if results := [p.name for p in (self.last_path, *self._best_paths()) if p.is_file()]:
                # beginning again would put them in danger
                raise ValueError(f"{self.state_path} is missing: begin a new run, from {results[0]} of this one.")
            return {}, {}
        try:
            with safe_open(self.state_path, framework="pt") as file:
                facts = json.loads(file.metadata()["facts"])
            return load_file(self.state_path), facts
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            why = f"{self.state_path} is damaged ({error}): begin a new run from {self.last_path.name}."
            raise ValueError(why) from error

    def _best_paths(self) -> list[Path]:
        """Those of our own names: a copy that somebody keeps under another name is theirs."""
        named = re.compile(r"best-step\d{6,}\.safetensors")
        return [path for path in self.path.glob("best-step*") if named.fullmatch(path.name)]

    def rewind(self, step: int, best: Collection[int]) -> None:
        """Put the folder back to the moment after ``step``, when ``best`` were the best; -1 is before the first."""
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
        """Write what is needed to go on; the state before stays until this one is complete."""
        metadata = {"facts": json.dumps(dict(facts)), "format": "pt"}
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        self._keep(self.state_path, lambda: atomically(self.state_path, lambda part: save_file(plain, part, metadata)))

    def save_weights(self, path: Path, state: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write an ordinary checkpoint."""
        self._keep(path, lambda: write_safetensors(path, state, facts))

    def save_demo(self, step: int, sounds: Mapping[str, Clip]) -> Path:
        """Write the sounds of a moment as WAV files of these names; returns their folder."""
        target = self.demo_path(step)

        def write(part: Path) -> None:
            part.mkdir()
            for name, clip in sounds.items():
                write_wav(part / f"{name}.wav", clip.audio, clip.sample_rate)

        self._keep(target, lambda: atomically(target, write))
        return target

    def _keep(self, path: Path, write: Callable[[], object]) -> None:
        try:
            write()
        except (OSError, SafetensorError) as error:
            free = shutil.disk_usage(self.path).free / GB
            raise OSError(
                f"{path} could not be written ({error}); {free:.2f} GB are free. What was saved before is whole: "
                "free some space and run the same again to go on from there."
            ) from error

    def log(self, row: Mapping[str, Any]) -> None:
        """Append a line to the log; the names of the first are its header."""
        path = self.path / _LOG
        new = not path.is_file()

        def append() -> None:
            with path.open("a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(row))
                if new:
                    writer.writeheader()
                writer.writerow(row)

        self._keep(path, append)

    def _cut_log(self, step: int) -> None:
        """Drop the lines after a step, and one that a kill cut short."""
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

    def best_that_fit(self, wanted: int, weights_bytes: int, state_bytes: int, budget_gb: float | None) -> int:
        """How many best moments there is room for, beside the state and the last weights.

        While a file is replaced, the old one and the new one are there both; that is counted in.

        Args:
            wanted: as many at most.
            weights_bytes: of one checkpoint.
            state_bytes: of the state.
            budget_gb: space that the run may take, GB; none is all that is free.

        Raises:
            OSError: not even state and last weights fit.
            ValueError: they do not fit into the budget.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        used = sum(f.stat().st_size for f in self.path.rglob("*") if f.is_file())
        free = shutil.disk_usage(self.path).free + used
        room = free if budget_gb is None else min(free, budget_gb * GB)
        least = weights_bytes + state_bytes + max(weights_bytes, state_bytes)
        if room < least:
            what = f"needs {least / GB:.4g} GB in {self.path}, a replaced file being there twice"
            what += "; LoRA or save_dtype='float16' needs less"
            if budget_gb is not None and budget_gb * GB < least:
                raise ValueError(f"disk_budget_gb={budget_gb}: the run {what}.")
            raise OSError(f"{free / GB:.2f} GB are free: the run {what}.")
        fitting = min(wanted, int((room - least) // weights_bytes))
        if fitting < wanted:
            why = "with a reserve for replacing the state"
            warnings.warn(f"there is room for {fitting} of the {wanted} best checkpoints only, {why}", stacklevel=3)
        return fitting
