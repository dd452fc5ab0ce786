"""The resumable training loop: a generator that yields after each step.

All randomness depends on the seed and the number of the step only. So an interrupted and resumed run ends with the same
weights, bit for bit on a CPU, and two processes with batches of b do what one does with batches of 2 b. Hugging Face's
``accelerate`` starts several processes: ``accelerate launch -m ddnb finetune ...``.
"""

from __future__ import annotations

import atexit
import contextlib
import difflib
import importlib.util
import time
import weakref
from collections.abc import Generator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from filelock import BaseFileLock

from ..checkpoints.checkpoint import Checkpoint, require_teacher, weights_sha256
from ..errors import ArgumentError, Cancelled, RunError
from ..files import expand
from ..names import canonical
from ..nets.spectral import SpectralUNet
from ..nets.unet import UNet, UNetConfig
from ..notices import warn
from ..runtime import pick
from ..steps import Event
from .artifacts import keep_best, make_demo, start_trackers
from .config import LearningConfig, TrainingConfig
from .dataset import Dataset, OnFile, cancellable, decode, in_known_classes, warn_of_unusable
from .fit import in_classes
from .intervals import SAVING, choose_intervals
from .learner import Learner
from .processes import agree, is_set_anywhere
from .resuming import BEFORE_0_2, check_same_run, is_same
from .run_folder import RunFolder
from .trainer import Trainer

CONFIGS = {
    "published": UNetConfig(),
    "small": UNetConfig(widths=(24, 32, 48, 64, 96, 128, 192, 256), attention_levels=(7, 8)),
    "demo": UNetConfig(widths=(16, 24, 32, 48, 48, 64, 64, 64), attention_levels=(6, 7, 8)),
    "tiny": UNetConfig(widths=(16, 16, 32, 32), attention_levels=(4,)),
}
"""Networks to train from scratch."""

_KEPT_CHOICES = ("batch_size", "learning_rate", "crop", "categories", "fit")
"""Settings that, once chosen for a run, are not chosen anew when it is resumed."""

_UNSAVED_S, _UNSAVED_MOST_S = 10.0, 600.0
"""Seconds of a run that a power failure may cost, from its beginning and later: a stop saves them."""


Config = TypeVar("Config", bound=LearningConfig)


@dataclass(frozen=True)
class TrainingStep:
    """One step of a training; step 0 is the network before training.

    Attributes:
        step: number of updates so far.
        steps: number of updates in all.
        loss: mean squared error of v over the clips of the step, or the network's own loss; None at step 0.
        learning_rate: learning rate of this step.
        seconds: duration of the step with its validation, demo and saving.
        ema_decay: decay of the averaged weights at this step.
        validation_loss: the same loss of the averaged weights, on held-out sounds at fixed times and noises; None
            where it was not measured.
        demo: folder of the demo that was made at this step; None where none was.
        advice: a hint for the user; usually None.
    """

    step: int
    steps: int
    loss: float | None
    learning_rate: float
    seconds: float
    ema_decay: float
    validation_loss: float | None = None
    demo: Path | None = None
    advice: str | None = None


def from_scratch(
    config: str = "small",
    *,
    sample_rate: int = 44100,
    frames: int = 32768,
    seed: int = 0,
    device: str | torch.device | None = None,
) -> Checkpoint:
    """Return an untrained network to pass to ``finetune``.

    Args:
        config: a key of ``CONFIGS``.
        sample_rate: Hz, of the sounds to generate.
        frames: length of the sounds to generate; rounded up to a length that the network can make.
        seed: seed of the initial weights.
        device: where to train; the best available device by default.

    Raises:
        ArgumentError: an unknown name, or a format out of range.
    """
    if config not in CONFIGS:
        raise ArgumentError(f"Unknown network {config!r}. Known: {', '.join(CONFIGS)}.")
    for name, value in (("sample_rate", sample_rate), ("frames", frames)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ArgumentError(f"{name}={value!r}: expected a whole number from 1 up.")
    where = pick(device, "float32")
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.random.default_generator.manual_seed(seed)
        net = UNet(CONFIGS[config])
    facts = {"name": config, "licence": "not stated", "untrained": True, "source": f"scratch:{config}"}
    facts["weights_sha256"] = weights_sha256(net.state_dict())
    net.to(where.device).eval().requires_grad_(False)
    return Checkpoint(net, sample_rate, net.config.legal_frames(frames), where.device, where.dtype, facts)


def finetune(
    ckpt: Checkpoint,
    folder: str | Path | Dataset,
    out: str | Path,
    *,
    device: str | torch.device | None = None,
    cancel: Event | None = None,
    on_file: OnFile | None = None,
    **settings: Any,
) -> Generator[TrainingStep, None, None]:
    """Train a network further on a folder of sounds; the same call resumes a run that was stopped.

    ``for step in finetune(...)`` trains one step at a time. The state is saved 20 times during a run, or every ten
    minutes where saving is slow, and when it is stopped: by Ctrl-C or the notebook's stop button, which end the loop
    with a warning, by ``cancel``, ``break`` or an error. The result is ``out/last.safetensors``, a usual checkpoint.
    From class folders (``kick/...``, ``snare/...``) it learns categories.

    Args:
        ckpt: what ``load`` or ``training.from_scratch`` returned.
        folder: sound files, or class folders of them, see ``check_dataset``; or decoded sounds.
        out: folder of the run; see ``run_folder``.
        device: where to train; where ``ckpt`` is by default. With several processes ``accelerate`` decides.
        cancel: anything with ``is_set()``; checked before each step.
        on_file: called while sounds are read as ``on_file(done, total)``.
        settings: attributes of ``TrainingConfig``, such as ``steps=1000, batch_size=4, seed=0``.

    Yields:
        A ``TrainingStep`` per step, beginning with step 0.

    Raises:
        TypeError: an unknown setting, or an argument of another type.
        ArgumentError: a setting out of range.
        DatasetError: no usable sound, or too many class folders.
        Cancelled: stopped while the sounds were read.
        RunError: a run that cannot be resumed with these arguments, or whose files are damaged.
        FileNotFoundError: no such folder of sounds.
        FileExistsError: ``out`` holds something else, or another process trains in it.
        MemoryError: not even one clip fits.
        FloatingPointError: the loss is not finite; the last good state is kept.
        OSError: no space; the last good state is kept.
    """
    config = parse_settings(TrainingConfig, ckpt, settings)
    require_teacher(ckpt, "fine-tune")
    if not isinstance(folder, (str, Path, Dataset)) or not isinstance(out, (str, Path)):
        raise TypeError(f"folder={folder!r}, out={out!r}: expected the paths of the sounds' folder and the run's.")
    run = RunFolder(out)
    on_file = cancellable(on_file, cancel)
    if not isinstance(folder, Dataset) and run.path.resolve().is_relative_to(expand(folder).resolve()):
        raise RunError(f"{run.path} lies inside the folder of sounds, so its demos would be trained on: move the run.")
    close_unfinished(run)
    trainer, stored = _make_trainer(ckpt, folder, run, config, device, on_file)
    steps = start(trainer, run, stored, cancel)
    if trainer.is_main:
        warn_of_unusable(trainer.data)
    return steps


def close_unfinished(run: RunFolder) -> None:
    """Close the steps of a run that a ``break`` left, but that are still referenced.

    Raises:
        FileExistsError: another thread is in the middle of one.
    """
    if (unfinished := _unfinished.get(run.path)) is not None:
        try:
            unfinished.close()
        except ValueError as error:  # it is executing
            raise FileExistsError(f"{run.path} is in use by another thread: stop that training first.") from error


def start(
    learner: Learner, run: RunFolder, stored: dict[str, Any], cancel: Event | None
) -> Generator[TrainingStep, None, None]:
    """Return the steps of a run from its last saved state on.

    Args:
        learner: the network before the first step.
        run: the folder of the run.
        stored: the settings that it began with; empty for a new one.
        cancel: as for ``finetune``.

    Raises:
        RunError, FileExistsError, ArgumentError, OSError: as for ``finetune``.
    """
    settings = learner.describe_run()
    if stored:
        check_same_run(stored, settings, run)
    lock = run.lock() if learner.is_main else None
    try:
        _restore(learner, run, settings)
    except BaseException:  # a notebook keeps the frames of the last error, and with them the lock
        if lock is not None:
            lock.release()
        raise
    if learner.reported_step >= learner.config.steps:
        warn(f"this run already has its {learner.step} steps; raise steps (--steps) to train further", stacklevel=3)
    steps = _unfinished[run.path] = _Loop(learner, run, cancel).run(lock)
    return steps


_unfinished: weakref.WeakValueDictionary[Path, Generator[TrainingStep, None, None]] = weakref.WeakValueDictionary()


@atexit.register  # while saving still works
def _close_unfinished() -> None:
    for steps in list(_unfinished.values()):
        steps.close()


def parse_settings(kind: type[Config], ckpt: Checkpoint, settings: dict[str, Any]) -> Config:
    """Return the settings of a training, after a look at the types of the arguments."""
    if not isinstance(ckpt, Checkpoint):
        raise TypeError(f"ckpt={ckpt!r}: pass what ddnb.load('NAME OR FILE') returns, then the sounds, then the run.")
    known = [f.name for f in fields(kind)]
    if unknown := sorted(settings.keys() - set(known)):
        near = difflib.get_close_matches(unknown[0], known, n=1)
        guess = f" Did you mean {near[0]!r}?" if near else ""
        raise TypeError(f"This training has no setting {unknown[0]!r}.{guess} Known: {', '.join(known)}.")
    config = kind(**settings)
    if config.wandb and importlib.util.find_spec("wandb") is None:
        raise ArgumentError(f"wandb={config.wandb!r}: it is not installed; pip install wandb, or omit the setting.")
    return config


def _make_trainer(
    ckpt: Checkpoint,
    folder: str | Path | Dataset,
    run: RunFolder,
    config: TrainingConfig,
    device: str | torch.device | None,
    on_file: OnFile | None,
) -> tuple[Trainer, dict[str, Any]]:
    """Return a trainer before its first step, and the settings that the run began with; empty for a new one."""
    stored = run.settings()
    if not run.state_path.is_file():  # settings do not bind before anything is trained
        stored = {}
    for name in _KEPT_CHOICES if stored else ():
        if getattr(config, name) is None:
            config = replace(config, **{name: stored["recipe"].get(name, BEFORE_0_2.get(name))})
    data = folder if isinstance(folder, Dataset) else decode(folder, ckpt.sample_rate, ckpt.channels, on_file)
    can_fit = isinstance(ckpt.net, SpectralUNet) and config.fit is not False and config.categories is not False
    if can_fit and not isinstance(folder, Dataset):
        data = in_classes(data, expand(folder).resolve().name)
    data = in_known_classes(data, [*map(canonical, stored.get("categories") or ()), *ckpt.categories])
    saved = run.state()[0] if can_fit and is_same(stored, ckpt, data) else None
    return Trainer(ckpt, data, config, device, saved), stored


def _restore(trainer: Learner, run: RunFolder, settings: dict[str, Any]) -> None:
    """Bring network and folder to the last saved state, in all processes.

    Raises:
        RunError: a damaged state, or processes that see different sounds or runs.
        ArgumentError: too small a budget.
        OSError: no space.
    """
    tensors, facts = run.state()
    if facts:
        trainer.restore(tensors, facts)
    del tensors
    if not agree(trainer.accelerator, trainer.device, settings, trainer.step):
        raise RunError(f"The processes see different sounds or runs: share {run.path} and the sounds between them.")
    if trainer.is_main:
        sizes = trainer.weights_bytes, trainer.state_bytes
        trainer.keep_best = run.count_best_that_fit(trainer.config.keep_best, *sizes, trainer.config.disk_budget_gb)
        trainer.best = [moment for moment in trainer.best if run.best_path(moment[0]).is_file()][: trainer.keep_best]
        run.rewind(trainer.reported_step, [step for step, _ in trainer.best])
        run.write_settings(settings)
        if facts and run.last_step() != trainer.step:  # killed between saving the state and the weights
            run.save_weights(run.last_path, *trainer.export(run.path.name))
    trainer.accelerator.wait_for_everyone()


class _Loop:
    """The loop of a run. The outputs of a step (validation, best, demo, log) precede the state that includes them."""

    def __init__(self, trainer: Learner, folder: RunFolder, cancel: Event | None):
        self.trainer, self.folder, self.cancel = trainer, folder, cancel
        self.every = choose_intervals(trainer)
        self.trackers: list[Any] = []
        self.saved = self.position
        self.save_at = time.perf_counter() + _UNSAVED_S  # not earlier, by the clock

    @property
    def position(self) -> tuple[int, int]:
        """The last step that was trained, and the last one that was reported."""
        return self.trainer.step, self.trainer.reported_step

    def run(self, lock: BaseFileLock | None) -> Generator[TrainingStep, None, None]:
        """Train step by step; save what is finished, however the loop ends."""
        trainer = self.trainer
        try:
            self.trackers = start_trackers(self.folder, trainer)
            if trainer.reported_step < trainer.step:  # step 0 of a new run, or interrupted before the report
                yield self._report(time.perf_counter())
            while trainer.step < trainer.config.steps and not self._is_cancelled():
                started = time.perf_counter()
                self._train_step()
                yield self._report(started)
            if self.saved != self.position:
                self._save()
        except BaseException as stop:
            if trainer.is_consistent and self.saved != self.position:
                with contextlib.suppress(*[OSError] if isinstance(stop, OSError) else []):  # the disk may be full
                    self._save()
            if not isinstance(stop, KeyboardInterrupt):
                raise
            warn(f"stopped after step {self.saved[0]}; repeat the same call or command to resume", stacklevel=2)
        finally:
            with contextlib.ExitStack() as stack:  # all of it, whatever fails
                if lock is not None:
                    stack.callback(lock.release)
                for tracker in self.trackers:
                    stack.callback(tracker.finish)

    def _is_cancelled(self) -> bool:
        flag = self.cancel is not None and self.cancel.is_set()
        return is_set_anywhere(self.trainer.accelerator, self.trainer.device, flag)

    def _train_step(self) -> None:
        try:
            self.trainer.train_step()
        except FloatingPointError as error:
            raise FloatingPointError(
                f"{error}; the state of step {self.trainer.step} is kept in {self.folder.path}. Begin a new run with a "
                "lower learning_rate, or, if this one was in half precision, resume it with dtype='float32'."
            ) from error

    def _is_due(self, every: int) -> bool:
        return self.trainer.step % every == 0 or self.trainer.step == self.trainer.config.steps

    def _report(self, started: float) -> TrainingStep:
        """Validate, make a demo, log and save, where these are due after the present step."""
        trainer, config, every = self.trainer, self.trainer.config, self.every
        later = trainer.step > 0
        validated = self._is_due(every.validate) and (later or every.first_validation)
        validation_loss = trainer.validate() if validated else None
        advice = keep_best(trainer, self.folder, validation_loss)
        if trainer.step == config.steps and trainer.is_main:
            self._finish()
        shown = every.sounds and self._is_due(every.demo) and (later or every.first_demo)
        demo = make_demo(trainer, self.folder, every.sounds, self.cancel) if shown else None
        seconds, decay = time.perf_counter() - started, trainer.ema.decay
        numbers = trainer.step, config.steps, trainer.loss, trainer.last_rate, seconds, decay, validation_loss
        step = TrainingStep(*numbers, demo, advice)
        if trainer.is_main:
            self._log(step)
        trainer.reported_step = trainer.step
        if self._is_due(every.save) and (config.save_every or (later and time.perf_counter() >= self.save_at)):
            self._save()
        return step

    def _finish(self) -> None:
        try:
            self.trainer.finish(self.cancel)
        except Cancelled as stop:  # what a stop button or an event stopped, the same call resumes
            raise KeyboardInterrupt from stop

    def _log(self, step: TrainingStep) -> None:
        row = {k: v for k, v in asdict(step).items() if k not in ("steps", "demo", "advice")}
        self.folder.log({k: "" if v is None else v for k, v in row.items()})
        for tracker in self.trackers:
            tracker.log({k: v for k, v in row.items() if v is not None and k != "step"}, step=step.step)

    def _save(self) -> None:
        started = time.perf_counter()
        if self.trainer.is_main:
            self.folder.save_state(*self.trainer.state())
            self.folder.save_weights(self.folder.last_path, *self.trainer.export(self.folder.path.name))
        self.saved, ended = self.position, time.perf_counter()
        self.save_at = ended + min((ended - started) / SAVING, _UNSAVED_MOST_S)
