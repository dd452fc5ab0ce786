"""A network that learns, whatever from: gradients, update, moving average, and the state that a resumed run needs."""

from __future__ import annotations

import abc
import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints.checkpoint import Checkpoint
from ..nets.build import Network, build_empty
from ..runtime import is_out_of_memory, pick
from ..steps import Event
from .config import LearningConfig
from .ema import Ema
from .memory import activation_bytes, cpu_batch_size
from .processes import gather, start_accelerator
from .starting import make_optimizer
from .state import collect_tensors, restore_tensors

VALIDATION_CLIPS = 32
"""Clips of a validation, of all processes together."""
_GRADIENT_NORM = 1.0
_WARM_UP = 100  # steps
_GPU_BATCHES = (32, 16, 8, 4, 2, 1)
_MIN_SCALE = 1e-3  # of the gradient scaler: below it no step has been finite for long


class Learner(abc.ABC):
    """A network in training; what it learns from is said by subclasses, which call ``begin`` when they are ready.

    Args:
        ckpt: the starting point; its own weights are not changed.
        device: where to train; where ``ckpt`` is by default. With several processes ``accelerate`` decides.

    Attributes:
        config: the settings, complete.
        categories: names of the categories by their numbers; those of the checkpoint come first.
        net: the network that learns; ``model`` is the same, prepared for several processes.
        step: number of updates so far.
        loss, last_rate: loss and learning rate of the last step; None and 0 before the first.
        reported_step: the last step that has been validated, demonstrated and logged; -1 before the first.
        best: (step, validation loss) of the checkpoints that are kept, the best first.
        validations: (step, validation loss) of all validations.

    Raises:
        RunError: ``accelerate`` is set up for another kind of parallelism.
    """

    config: LearningConfig
    categories: tuple[str, ...]

    def __init__(self, ckpt: Checkpoint, device: str | torch.device | None = None):
        self.accelerator = start_accelerator()
        several = self.accelerator.num_processes > 1
        self.device = self.accelerator.device if several else pick(device or ckpt.device).device
        self.ckpt = ckpt
        self.step, self.reported_step = 0, -1
        self._updating = False
        self.loss: float | None = None
        self.last_rate = 0.0
        self.best: list[tuple[int, float]] = []
        self.validations: list[tuple[int, float]] = []

    def begin(self, net: Network, config: LearningConfig) -> None:
        """Make network, optimizer and average ready for the first step.

        Raises:
            MemoryError: not even one clip fits.
        """
        self.net, self.model = net, self.accelerator.prepare(net)
        self.trainable = {name: p for name, p in net.named_parameters() if p.requires_grad}
        self.ema = Ema(self.trainable, config.ema_decay, torch.device("cpu") if config.ema_on_cpu else None)
        self.peak_rate = float(config.learning_rate or 0)
        self.optimizer = make_optimizer(self.trainable.values(), self.peak_rate, self.device)
        self.dtype = pick(self.device, config.dtype).dtype
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        self.keep_best, self.config = config.keep_best, config
        self.batch_size = config.batch_size or self._fitting_batch(config)
        self.config = replace(config, batch_size=self.batch_size)

    # --- what it learns from ----------------------------------------------------------------------------------

    @abc.abstractmethod
    def batch_loss(self, micro: int) -> Tensor:
        """Return the mean loss of batch ``micro`` of this step, over this process's clips."""

    @abc.abstractmethod
    def trial_loss(self, size: int) -> Tensor:
        """Return the loss of ``size`` clips of silence, to see whether they fit into the memory."""

    @abc.abstractmethod
    def validate(self) -> float | None:
        """Return the mean loss of the averaged weights on what is held out; None without any.

        Raises:
            FloatingPointError: it is not finite.
        """

    @abc.abstractmethod
    def export(self, name: str, validation_loss: float | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the averaged weights as those of an ordinary checkpoint, and its metadata."""

    @abc.abstractmethod
    def describe_run(self) -> dict[str, Any]:
        """Return what identifies this run, as the plain values of settings.json."""

    @abc.abstractmethod
    def finish(self, cancel: Event | None = None) -> None:
        """Do what follows the last step, in the main process.

        Raises:
            Cancelled: stopped before it was done.
        """

    @property
    def own_categories(self) -> tuple[str, ...]:
        """The categories that this training is about; empty for all of them."""
        return ()

    def suggest_next(self) -> str | None:
        """Say what to try next where the whole run has hardly changed the network; else return None."""
        return None

    @property
    def is_consistent(self) -> bool:
        """False in the middle of an update or a swap, when weights, average and step do not belong together."""
        return not (self._updating or self.ema.swapped)

    @property
    def is_main(self) -> bool:
        """True in the one process that writes files."""
        return self.accelerator.is_main_process

    def _fitting_batch(self, config: LearningConfig) -> int:
        """Return the largest batch size that fits all processes: of up to 32 on a GPU, of up to 4 on a CPU.

        Raises:
            MemoryError: not even one clip fits.
        """
        if self.device.type == "cuda":
            moments = [torch.empty_like(p) for p in self.trainable.values() for _ in range(2)]  # those of AdamW
            size = next((size for size in _GPU_BATCHES if self._fits(size, config.accumulate)), 0)
            del moments
        else:
            clip_bytes = activation_bytes(self.net.config, self.ckpt.frames, config.recompute_levels)
            size = cpu_batch_size(clip_bytes, self.state_bytes, self.accelerator.num_processes)
        size = int(gather(self.accelerator, size, self.device).min())
        if not size:
            raise MemoryError("Not even one clip fits: try lora_rank=16, recompute_levels=4, or ema_on_cpu=True.")
        return size

    def _fits(self, size: int, accumulate: int = 1) -> bool:
        """Try a step in this process alone; two batches of it where gradients are accumulated."""
        try:
            for _ in range(min(2, accumulate)):
                self.trial_loss(size).backward()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return False
        finally:
            self.optimizer.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
        return True

    # --- one step ---------------------------------------------------------------------------------------------

    def train_step(self) -> float:
        """Update the weights once; return the mean loss of the clips.

        Raises:
            FloatingPointError: the loss or a gradient is not finite; the weights are unchanged.
            MemoryError: the batch does not fit.
        """
        try:
            loss = self.compute_gradients()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            size, times = max(1, self.batch_size // 2), 2 * self.config.accumulate
            cure = f"resume with batch_size={size}, accumulate={times}" if self.batch_size > 1 else "use LoRA"
            raise MemoryError(f"Step {self.step + 1} does not fit into the memory of {self.device}: {cure}.") from error
        self._update(loss)
        return loss

    def compute_gradients(self) -> float:
        """Compute the gradients of the next step into the network; return the mean loss."""
        total, config = torch.zeros((), device=self.device), self.config
        for micro in range(config.accumulate):
            last = micro == config.accumulate - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.model):
                loss = self.batch_loss(micro) / config.accumulate
                if micro == 0:  # not earlier: on a CPU the last step's gradients are kept until here, see _update
                    self.optimizer.zero_grad(set_to_none=True)
                self.scaler.scale(loss).backward()
            total += loss.detach()
        return float(self.accelerator.reduce(total, "mean"))

    def _number(self, micro: int) -> int:
        """Return the number, in the whole run, of a batch of this step."""
        return self.step * self.config.accumulate + micro

    def _planes(self, labels: Tensor) -> Tensor | None:
        """Return one plane per category, 1 in the clip's own; all 0 for a clip without a category."""
        if not self.net.config.planes:
            return None
        numbers = torch.arange(self.net.config.planes, device=labels.device)
        return (labels[:, None] == numbers).float()[..., None]

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def _update(self, loss: float) -> None:
        """Apply the gradients to the weights and the weights to their average.

        Raises:
            FloatingPointError: the loss or a gradient is not finite; nothing was changed.
        """
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.trainable.values(), _GRADIENT_NORM)
        overflow = self.scaler.is_enabled() and not math.isfinite(norm)  # the scaler skips such a step
        if (
            not math.isfinite(loss)
            or (not math.isfinite(norm) and not overflow)
            or self.scaler.get_scale() < _MIN_SCALE
        ):
            self.optimizer.zero_grad(set_to_none=True)
            raise FloatingPointError(f"the loss of step {self.step + 1} is {loss}, its gradient {float(norm)}")
        rate = self.learning_rate
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self._updating = True
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.ema.update()
        self.step += 1
        self.loss, self.last_rate = loss, rate
        self._updating = False
        # On a CPU with accumulated batches the gradients stay until the next forward pass is done: else its tensors
        # take their place, and a step of the published network has a million more page faults. The peak does not rise.
        if self.device.type != "cpu" or self.config.accumulate == 1:
            self.optimizer.zero_grad(set_to_none=True)

    @property
    def learning_rate(self) -> float:
        """The rate of the next step: it rises over the first tenth (100 steps at most), falls over the last fifth."""
        steps = self.config.steps
        rise = (self.step + 1) / min(_WARM_UP, max(1, steps // 10))
        fall = (steps - self.step) / max(1, steps // 5)
        return self.peak_rate * min(1.0, rise, max(0.0, fall))

    # --- averaging and saving ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def averaged_checkpoint(self) -> Iterator[Checkpoint]:
        """Yield the network with its averaged weights as a checkpoint to generate with."""
        info = {"name": self.ckpt.name, "source": self.ckpt.name, "categories": list(self.categories)}
        with self.ema.swap(), self._autocast():
            yield Checkpoint(self.net, self.ckpt.sample_rate, self.ckpt.frames, self.device, torch.float32, info)

    @property
    def weights_bytes(self) -> int:
        """Size of one saved checkpoint."""
        numbers = sum(t.numel() for t in build_empty(self.net.config).state_dict().values())
        return (4 if self.config.save_dtype == "float32" else 2) * numbers

    @property
    def state_bytes(self) -> int:
        """Size of the weights that are trained, their average, and the two moments of AdamW."""
        return 4 * 4 * sum(p.numel() for p in self.trainable.values())

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return all that ``restore`` needs: tensors, and plain values."""
        tensors, updates = collect_tensors(self.trainable, self.ema, self.optimizer)
        return tensors, {
            "step": self.step,
            "told": self.reported_step,
            "loss": self.loss,
            "last_rate": self.last_rate,
            "updates": updates,
            "scaler": self.scaler.state_dict(),
            "best": self.best,
            "validations": self.validations,
        }

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Return to the moment when ``state`` was called, bit for bit on a CPU."""
        restore_tensors(tensors, facts["updates"], self.trainable, self.ema, self.optimizer)
        if facts["scaler"]:  # empty after steps in float32 or bfloat16
            self.scaler.load_state_dict(facts["scaler"])
        self.step = self.ema.updates = facts["step"]
        self.reported_step, self.loss, self.last_rate = facts["told"], facts["loss"], facts["last_rate"]
        self.best, self.validations = ([(step, loss) for step, loss in facts[k]] for k in ("best", "validations"))
