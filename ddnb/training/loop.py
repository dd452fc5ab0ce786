"""Training and fine-tuning: a loop that yields, in a run that goes on where it was killed.

Whatever is random depends on the seed and on the number of the step alone. So a run that is interrupted and gone on
with ends with the same weights, bit for bit on a CPU, and two processes with a batch of b do what one does with 2 b.
Several processes are the business of Hugging Face's ``accelerate``: ``accelerate launch -m ddnb finetune ...``.
"""

from __future__ import annotations

import atexit
import difflib
import hashlib
import importlib.util
import math
import time
import warnings
import weakref
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from ..checkpoints.checkpoint import Checkpoint, weights_sha256
from ..clips.clip import Clip
from ..files import safe_name
from ..generation.generate import generate
from ..nets.unet import UNet, UNetConfig
from ..runtime import pick
from ..sampler import Event
from .config import Recipe
from .dataset import Dataset, OnFile, decode
from .run_folder import RunFolder
from .trainer import Trainer

CONFIGS = {
    "published": UNetConfig(),
    "small": UNetConfig(widths=(24, 32, 48, 64, 96, 128, 192, 256), attention_levels=(7, 8)),
    "demo": UNetConfig(widths=(16, 24, 32, 48, 48, 64, 64, 64), attention_levels=(6, 7, 8)),
    "tiny": UNetConfig(widths=(16, 16, 32, 32), attention_levels=(4,)),
}
"""Networks to train from scratch."""

PATIENCE = 5
"""Validations without a better one after which stopping is advised."""

_DEMO_CATEGORIES = 8
_MAY_CHANGE = {"batch_size", "accumulate", "steps", "dtype", "recompute_levels", "ema_on_cpu", "validate_every"}
_MAY_CHANGE |= {"save_every", "demo_every", "demos", "keep_best", "save_dtype", "disk_budget_gb", "licence", "wandb"}


@dataclass(frozen=True)
class Record:
    """What one step was like; step 0 is the network before training.

    Attributes:
        step: how many updates there have been.
        steps: how many there will be.
        loss: mean squared error of v over the step's clips, or what the network has in its place; none at step 0.
        learning_rate: of this step.
        seconds: that it took, with whatever was validated, played or saved.
        ema_decay: of the averaged weights at this step.
        validation_loss: the same error of the averaged weights, on held-out sounds at fixed times and noises; none
            where it was not measured.
        demo: the folder of the sounds that were made at this step; none where none were.
        advice: something to know, in plain words; none mostly.
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
    """Return an untrained network, to be given to ``finetune``.

    Args:
        config: a key of ``CONFIGS``.
        sample_rate: Hz, of the sounds it shall make.
        frames: of the sounds it shall make; made longer where the network cannot make them.
        seed: of its weights.
        device: where to train; the best there is by default.

    Raises:
        ValueError: unknown name, or a format out of range.
    """
    if config not in CONFIGS:
        raise ValueError(f"Unknown network {config!r}. Known: {', '.join(CONFIGS)}.")
    for what, value in (("sample_rate", sample_rate), ("frames", frames)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{what}={value!r}: give a positive whole number.")
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
    **recipe: Any,
) -> Iterator[Record]:
    """Train a network further on a folder of sounds; the same call again goes on where it was stopped.

    ``for record in finetune(...)`` trains a step at a time. Stopping saves the state: Ctrl-C or the notebook's stop
    button, which end the loop with a warning; ``cancel``; ``break``; an error. So does every twentieth of the way, for
    the case that the machine is taken away.

    The result is ``out/last.safetensors``, an ordinary checkpoint. From class folders (``kick/...``, ``snare/...``) it
    learns categories.

    Args:
        ckpt: what ``load`` returned, or ``training.from_scratch``.
        folder: sound files, or class folders of them; see ``check_dataset``. Or sounds that are in memory already.
        out: the run's folder; see ``runs``.
        device: where to train; where ``ckpt`` is by default. With several processes ``accelerate`` says.
        cancel: anything with ``is_set()``; looked at before each step.
        on_file: called while sounds are read as ``on_file(done, total)``.
        recipe: the attributes of ``recipe.Recipe``, such as ``steps=1000, batch_size=4, seed=0``.

    Yields:
        A ``Record`` per step; the first is of step 0.

    Raises:
        TypeError: an unknown setting.
        ValueError: a setting out of range or at odds with the run that is gone on with, or no usable sound.
        FileNotFoundError: no such folder.
        FileExistsError: ``out`` holds something else, or another process trains in it.
        MemoryError: not even one clip fits.
        FloatingPointError: the loss is no number any more; the last good state is kept.
        OSError: no space; the last good state is kept.
    """
    if not isinstance(ckpt, Checkpoint):
        raise TypeError(f"ckpt={ckpt!r}: pass what ddnb.load('NAME OR FILE') returns, then the sounds, then the run.")
    known = [f.name for f in fields(Recipe)]
    if unknown := sorted(recipe.keys() - set(known)):
        near = difflib.get_close_matches(unknown[0], known, n=1)
        guess = f" Did you mean {near[0]!r}?" if near else ""
        raise TypeError(f"finetune has no setting {unknown[0]!r}.{guess} Known: {', '.join(known)}.")
    if not isinstance(folder, (str, Path, Dataset)) or not isinstance(out, (str, Path)):
        raise TypeError(f"folder={folder!r}, out={out!r}: give the paths of two folders, the sounds' and the run's.")
    wanted, run = Recipe(**recipe), RunFolder(out)
    if not isinstance(folder, Dataset) and run.path.resolve().is_relative_to(Path(folder).expanduser().resolve()):
        raise ValueError(f"{run.path} lies inside the folder of sounds: its demos would be trained on.")
    if wanted.wandb and importlib.util.find_spec("wandb") is None:
        raise ValueError(f"wandb={wanted.wandb!r}: it is not installed; pip install wandb, or leave it out.")
    if run.path in _unfinished:  # a loop of this process that was left, but is still held by somebody
        _unfinished.pop(run.path).close()
    stored = run.settings()
    if not run.state_path.is_file():  # nothing has been trained: what was said then does not bind
        stored = {}
    for name in ("batch_size", "learning_rate", "crop", "categories") if stored else ():
        if getattr(wanted, name) is None:  # found out when the run began, and kept
            wanted = replace(wanted, **{name: stored["recipe"][name]})
    data = folder
    if not isinstance(folder, Dataset):
        data = decode(folder, ckpt.sample_rate, ckpt.channels, on_file)
    trainer = Trainer(ckpt, data, wanted, device)
    settings = trainer.settings()
    if stored:
        _check_same_run(stored, settings, run)
    lock = run.lock() if trainer.is_main else None
    try:
        _prepare(trainer, run, settings)
    except BaseException:  # a notebook keeps the frames of the last error, and with them the lock
        if lock is not None:
            lock.release()
        raise
    if trainer.told >= wanted.steps:
        warnings.warn(f"this run has its {trainer.step} steps already; ask for more steps to go on", stacklevel=2)
    records = _run(trainer, run, cancel, lock)
    _unfinished[run.path] = records
    return records


_unfinished: weakref.WeakValueDictionary[Path, Generator[Record, None, None]] = weakref.WeakValueDictionary()
atexit.register(lambda: [records.close() for records in list(_unfinished.values())])  # while saving still works


def _prepare(trainer: Trainer, run: RunFolder, settings: dict[str, Any]) -> None:
    """Bring network and folder to where the run was left, in all processes.

    Raises:
        ValueError: a damaged state, processes that see different things, or too small a budget.
        OSError: no space.
    """
    tensors, facts = run.state()
    if facts:
        trainer.restore(tensors, facts)
    del tensors
    if not trainer.agree(settings, trainer.step):
        raise ValueError(
            f"The processes see different sounds or runs: is {run.path} shared by all, and are the sounds?"
        )
    if trainer.is_main:
        recipe, sizes = trainer.recipe, (trainer.weights_bytes, trainer.state_bytes)
        trainer.keep_best = run.best_that_fit(recipe.keep_best, *sizes, recipe.disk_budget_gb)
        trainer.best = [moment for moment in trainer.best if run.best_path(moment[0]).is_file()][: trainer.keep_best]
        run.rewind(trainer.told, [at for at, _ in trainer.best])
        run.write_settings(settings)
        if facts and run.last_step() != trainer.step:  # killed between the two
            run.save_weights(run.last_path, *trainer.exported(run.path.name))
    trainer.accelerator.wait_for_everyone()


def _check_same_run(stored: dict[str, Any], settings: dict[str, Any], run: RunFolder) -> None:
    """A run that goes on must be the run that began.

    Raises:
        ValueError: what is different, and what to do.
    """
    if stored["data_sha256"] != settings["data_sha256"]:
        raise ValueError(
            f"The sounds have changed since the run in {run.path} began. To go on with the new ones, begin another run "
            f"from {run.last_path}; to go on with this one, put the old sounds back."
        )
    known = asdict(Recipe())  # what a run of an older version does not say
    before, after = (known | s["recipe"] | {"clips_per_step": s["clips_per_step"]} for s in (stored, settings))
    if changed := [k for k in after if k not in _MAY_CHANGE and before.get(k) != after[k]]:
        what = ", ".join(f"{k}={before.get(k)!r} (now {after[k]!r})" for k in changed)
        raise ValueError(f"The run in {run.path} was begun with {what}. Give the same to go on, or a new folder.")
    if stored["start"] != settings["start"]:
        was, now = (
            f"{s['name']} (weights {s['weights_sha256'][:8]}, {s['frames']} frames at {s['sample_rate']} Hz)"
            for s in (stored["start"], settings["start"])
        )
        raise ValueError(f"The run in {run.path} began from {was}, not from {now}: give that one, or a new folder.")


def _run(
    trainer: Trainer, run: RunFolder, cancel: Event | None, lock: FileLock | None
) -> Generator[Record, None, None]:
    """Train step by step. What belongs to a step (validation, best, demo, log) comes before the state that has it."""
    recipe, trackers = trainer.recipe, _trackers(run, trainer)
    validate_every = recipe.validate_every or math.ceil(recipe.steps / 20)
    save_every = recipe.save_every or validate_every
    demo_every = recipe.demo_every or math.ceil(recipe.steps / 4)
    saved = (trainer.step, trainer.told)

    def save() -> None:
        nonlocal saved
        if trainer.is_main:
            run.save_state(*trainer.state())
            run.save_weights(run.last_path, *trainer.exported(run.path.name))
        saved = (trainer.step, trainer.told)

    def due(every: int) -> bool:
        return trainer.step % every == 0 or trainer.step == recipe.steps

    def tell(started: float) -> Record:
        validation_loss = trainer.validate() if due(validate_every) else None
        advice = _remember_best(trainer, run, validation_loss)
        demo = _demo(trainer, run, cancel) if recipe.demos and due(demo_every) else None
        seconds, decay = time.perf_counter() - started, trainer.ema.decay
        loss, rate = trainer.loss, trainer.last_rate
        record = Record(trainer.step, recipe.steps, loss, rate, seconds, decay, validation_loss, demo, advice)
        if trainer.is_main:
            _log(record, run, trackers)
        trainer.told = trainer.step
        if due(save_every):
            save()
        return record

    try:
        if trainer.told < trainer.step:  # interrupted before it was told, or not begun yet
            yield tell(time.perf_counter())
        while trainer.step < recipe.steps and not trainer.any_of_us(cancel is not None and cancel.is_set()):
            started = time.perf_counter()
            try:
                trainer.train_step()
            except FloatingPointError as error:
                raise FloatingPointError(
                    f"{error}; the state of step {trainer.step} is kept in {run.path}. Begin a new run with a lower "
                    "learning_rate, or go on with dtype='float32' if it was half precision."
                ) from error
            yield tell(started)
        if saved != (trainer.step, trainer.told):
            save()
    except BaseException as stop:  # whatever it is, finished steps are not lost
        if trainer.settled and saved != (trainer.step, trainer.told) and not isinstance(stop, OSError):
            save()
        if not isinstance(stop, KeyboardInterrupt):
            raise
        warnings.warn(f"stopped after step {saved[0]}: the same call goes on from there", stacklevel=2)
    finally:
        for tracker in trackers:
            tracker.finish()
        if lock is not None:
            lock.release()


def _remember_best(trainer: Trainer, run: RunFolder, loss: float | None) -> str | None:
    """Keep the weights if they are among the best so far; advise to stop where better ones have long failed to come."""
    if loss is None or trainer.step == 0:
        return None
    before = [moment for moment in trainer.best if moment[0] != trainer.step]  # this step may be told once more
    best = sorted([*before, (trainer.step, loss)], key=lambda moment: moment[1])[: trainer.keep_best]
    if trainer.is_main and trainer.step in dict(best):
        run.save_weights(run.best_path(trainer.step), *trainer.exported(run.path.name, loss))
    trainer.best = best
    trainer.validations = [m for m in trainer.validations if m[0] != trainer.step] + [(trainer.step, loss)]
    for step in {step for step, _ in before} - dict(best).keys() if trainer.is_main else ():
        run.best_path(step).unlink(missing_ok=True)
    best_step, best_loss = min(trainer.validations, key=lambda moment: moment[1])
    if sum(step > best_step for step, _ in trainer.validations) < PATIENCE:
        return None
    return f"no better than {best_loss:.4f}, at step {best_step}, for {PATIENCE} validations: it may be time to stop"


def _demo(trainer: Trainer, run: RunFolder, cancel: Event | None) -> Path | None:
    """Make the same sounds as at every demo, of the averaged weights, into a folder of their own.

    Returns:
        The folder; none where it was cancelled.

    Raises:
        KeyboardInterrupt: it was interrupted, and so is the training.
    """
    target = run.demo_path(trainer.step)
    if trainer.is_main and not target.is_dir():
        wanted = [None] if not trainer.categories else list(trainer.categories)
        each = max(1, trainer.recipe.demos // len(wanted))
        with trainer.averaged() as ckpt:
            batches = [generate(ckpt, each, category=name, cancel=cancel) for name in wanted[:_DEMO_CATEGORIES]]
        if any(len(clips) < each for clips in batches):
            if cancel is None or not cancel.is_set():
                raise KeyboardInterrupt
            return None

        sounds: dict[str, Clip] = {}
        for clip in (clip for clips in batches for clip in clips):
            name = _demo_name(clip)
            sounds[f"{name}-{len(sounds)}" if name in sounds else name] = clip  # categories may be alike as file names
        run.save_demo(trainer.step, sounds)
    return target


def _demo_name(clip: Clip) -> str:
    category = "-".join(clip.settings["making"].get("category", {}))
    return f"{safe_name(category)}_seed{clip.seed}" if category else f"seed{clip.seed}"


def _log(record: Record, run: RunFolder, trackers: list[Any]) -> None:
    row = {k: v for k, v in asdict(record).items() if k not in ("steps", "demo", "advice")}
    run.log({k: "" if v is None else v for k, v in row.items()})
    for tracker in trackers:
        tracker.log({k: v for k, v in row.items() if v is not None and k != "step"}, step=record.step)


def _trackers(run: RunFolder, trainer: Trainer) -> list[Any]:
    """TensorBoard where it is installed, wandb where it is asked for; both go on with the curves of the run."""
    if not trainer.is_main:
        return []
    from accelerate.tracking import TensorBoardTracker, WandBTracker

    found = []
    if importlib.util.find_spec("tensorboard") is not None:
        found.append(TensorBoardTracker(run.path.name, run.path / "tensorboard", purge_step=trainer.told + 1))
    if trainer.recipe.wandb:
        run_id = hashlib.sha256(str(run.path).encode()).hexdigest()[:16]
        found.append(WandBTracker(trainer.recipe.wandb, name=run.path.name, id=run_id, resume="allow"))
    for tracker in found:
        tracker.start()
    return found


def seconds_per_step(ckpt: Checkpoint, data: Dataset, *, crop: bool) -> tuple[float, int]:
    """Measure a training step on this machine: a few of them are run, and forgotten.

    Args:
        ckpt: what would be trained.
        data: on what.
        crop: as in ``Recipe``.

    Returns:
        Seconds of a step, and the batch size it was measured with.
    """
    trainer = Trainer(ckpt, data, Recipe(crop=crop, validation=0.0))
    trainer.train_step()
    started = time.perf_counter()
    steps = 2
    for _ in range(steps):
        trainer.train_step()
    return (time.perf_counter() - started) / steps, trainer.recipe.batch_size
