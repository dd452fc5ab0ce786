"""One training step: clips, loss, gradients, update and moving average; the validation, and what is saved."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..checkpoints.checkpoint import Checkpoint, weights_sha256
from ..display.text import counted
from ..nets.build import build_empty
from ..nets.lora import merge_state
from ..runtime import DTYPES, is_out_of_memory, pick
from ..schedule import alpha_sigma
from ..steps import Event, derived_seed, seeded_noise
from .batches import BatchReader, draw, hold_out, pieces
from .config import TIMES, TrainingConfig
from .dataset import Dataset
from .ema import Ema
from .fitting import Fitting
from .memory import activation_bytes, cpu_batch_size
from .processes import gather, start_accelerator
from .starting import check_sizes, choose_settings, copy_for_training, make_optimizer
from .state import collect_tensors, restore_tensors

_GRADIENT_NORM = 1.0
_WARM_UP = 100  # steps
VALIDATION_CLIPS = 32
"""Clips of a validation, of all processes together."""
_GPU_BATCHES = (32, 16, 8, 4, 2, 1)
_SAME_LEVEL_DB = 0.1
_LONG = 200  # steps of a run that is worth a thorough calibration
_MIN_SCALE = 1e-3  # of the gradient scaler: below it no step has been finite for long


class Trainer:
    """A network in training.

    Args:
        ckpt: the starting point; its own weights are not changed.
        data: the sounds.
        config: the settings; those that are None are chosen here.
        device: where to train; where ``ckpt`` is by default. With several processes ``accelerate`` decides.
        saved: the tensors of ``state``, from which a resumed run takes what was found among the sounds.

    Attributes:
        config: the settings, complete.
        categories: names of the categories by their numbers; those of the checkpoint come first.
        step: number of updates so far.
        loss, last_rate: loss and learning rate of the last step; None and 0 before the first.
        reported_step: the last step that has been validated, demonstrated and logged; -1 before the first.
        best: (step, validation loss) of the checkpoints that are kept, the best first.
        validations: (step, validation loss) of all validations.

    Raises:
        ArgumentError: ``shorten`` does not fit the network's lengths.
        DatasetError: too many class folders.
        RunError: ``accelerate`` is set up for another kind of parallelism.
        MemoryError: not even one clip fits.
    """

    def __init__(
        self,
        ckpt: Checkpoint,
        data: Dataset,
        config: TrainingConfig,
        device: str | torch.device | None = None,
        saved: Mapping[str, Tensor] | None = None,
    ):
        self.accelerator = start_accelerator()
        several = self.accelerator.num_processes > 1
        self.device = self.accelerator.device if several else pick(device or ckpt.device).device
        self.ckpt, self.data = ckpt, data
        config = choose_settings(config, ckpt, data)
        new = [name for name in data.categories if name not in ckpt.categories] if config.categories else []
        self.categories = (*ckpt.categories, *new)
        check_sizes(config, ckpt, len(self.categories))
        found = pieces(data, ckpt.frames, bool(config.crop), self.categories if config.categories else ())
        self.pieces, self.held_out = hold_out(found, config.validation, VALIDATION_CLIPS, config.seed)
        self.fitting = Fitting.of(saved or {})
        if config.fit and not self.fitting.components:
            self.fitting = Fitting.find(ckpt, len(new), data, found)
        self.net = copy_for_training(ckpt, len(new), config, self.device, self.fitting.components)
        self.model = self.accelerator.prepare(self.net)
        self.trainable = {name: p for name, p in self.net.named_parameters() if p.requires_grad}
        self.ema = Ema(self.trainable, config.ema_decay, torch.device("cpu") if config.ema_on_cpu else None)
        self.warp_times, self.peak_rate = TIMES[str(config.times)], float(config.learning_rate or 0)
        self.optimizer = make_optimizer(self.trainable.values(), self.peak_rate, self.device)
        self.dtype = pick(self.device, config.dtype).dtype
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        self.step, self.reported_step, self.keep_best = 0, -1, config.keep_best
        self._updating = False
        self.loss: float | None = None
        self.last_rate = 0.0
        self.best: list[tuple[int, float]] = []
        self.validations: list[tuple[int, float]] = []
        self.batch_size = config.batch_size or self._fitting_batch(config)
        self.config = replace(config, batch_size=self.batch_size)
        place = self.accelerator.process_index, self.accelerator.num_processes
        self.level_dbfs = ckpt.info.get("peak_dbfs") if config.fit else None
        self.batches = BatchReader(data, self.pieces, self.config, ckpt.frames, *place, self.level_dbfs)

    @property
    def is_consistent(self) -> bool:
        """False in the middle of an update or a swap, when weights, average and step do not belong together."""
        return not (self._updating or self.ema.swapped)

    @property
    def is_main(self) -> bool:
        """True in the one process that writes files."""
        return self.accelerator.is_main_process

    def _fitting_batch(self, config: TrainingConfig) -> int:
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
        shape = (size, self.ckpt.channels, self.ckpt.frames)
        try:
            for _ in range(min(2, accumulate)):
                x0, noise = torch.zeros(2, *shape, device=self.device)
                labels = torch.zeros(size, dtype=torch.long, device=self.device)
                t = torch.full((size,), 0.5, device=self.device)
                self._loss(self.net, x0, t, noise, self._planes(labels)).backward()
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
        """Compute the gradients of the next step into the network; return the mean loss.

        ``loss = |v - (alpha eps - sigma x0)|^2``, at times that are stratified over all clips of the step; a network
        may weight its parts.

        Sources: Salimans & Ho 2022 (arXiv 2202.00512, section 4); stratified times, Kingma et al. 2021 (arXiv
        2107.00630, appendix I).
        """
        total, config = torch.zeros((), device=self.device), self.config
        for micro in range(config.accumulate):
            last = micro == config.accumulate - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.model):
                loop = self.batches.is_loop(self._number(micro))
                loss = self._loss(self.model, *self._draw_step(micro), circular=loop) / config.accumulate
                if micro == 0:  # not earlier: on a CPU the last step's gradients are kept until here, see _update
                    self.optimizer.zero_grad(set_to_none=True)
                self.scaler.scale(loss).backward()
            total += loss.detach()
        return float(self.accelerator.reduce(total, "mean"))

    def _number(self, micro: int) -> int:
        """Return the number, in the whole run, of a batch of this step."""
        return self.step * self.config.accumulate + micro

    def _draw_step(self, micro: int) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Draw clips, times, noise and planes: the same in all processes, of which each takes its part."""
        config, rank = self.config, self.accelerator.process_index
        number = self._number(micro)
        x0, labels = self._clips(number)
        size, batch = len(x0), len(x0) * self.accelerator.num_processes
        seed = derived_seed(config.seed, number)
        generator = torch.Generator(self.device).manual_seed(seed)
        options: dict[str, Any] = {"generator": generator, "device": self.device}
        mine = slice(rank * size, (rank + 1) * size)
        places = torch.arange(batch, device=self.device) * config.accumulate + micro
        u = (places + torch.rand(batch, **options)) / (batch * config.accumulate)
        noise = torch.randn((batch, *x0.shape[1:]), **options)[mine]
        labels = torch.where(torch.rand(batch, **options)[mine] < config.class_dropout, -1, labels)
        return x0, self.warp_times(u[mine].cpu()).to(self.device), noise, self._planes(labels)

    def _clips(self, number: int) -> tuple[Tensor, Tensor]:
        """Return the clips and labels of batch ``number``, on the device."""
        clips, labels = self.batches.get(number)
        return torch.from_numpy(clips).to(self.device).contiguous(), torch.from_numpy(labels).to(self.device)

    def _planes(self, labels: Tensor) -> Tensor | None:
        """Return one plane per category, 1 in the clip's own; all 0 for a clip without a category."""
        if not self.net.config.planes:
            return None
        numbers = torch.arange(self.net.config.planes, device=labels.device)
        return (labels[:, None] == numbers).float()[..., None]

    def _loss(
        self, model: nn.Module, x0: Tensor, t: Tensor, noise: Tensor, cond: Tensor | None, circular: bool = False
    ) -> Tensor:
        alpha, sigma = alpha_sigma(t[:, None, None])
        x = alpha * x0 + sigma * noise
        with self._autocast():
            v = model(x, t, cond, circular)
        return self.net.loss(v.float(), alpha * noise - sigma * x0, x, t, cond, circular)

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

    # --- validation and saving --------------------------------------------------------------------------------

    @torch.no_grad()
    def validate(self) -> float | None:
        """Return the mean loss of the averaged weights on held-out sounds at fixed times and noises; None without any.

        Raises:
            FloatingPointError: it is not finite.
        """
        if not self.held_out:
            return None
        n = VALIDATION_CLIPS
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        mine = range(n * rank // processes, n * (rank + 1) // processes)
        total = torch.zeros((), device=self.device)
        with self.ema.swap():
            for first in range(mine.start, mine.stop, self.batch_size):
                items = range(first, min(first + self.batch_size, mine.stop))
                options: dict[str, Any] = {"crop": self.config.crop, "augment": None, "seed": 0}
                options["level_dbfs"] = self.level_dbfs
                clips, labels = draw(self.data, self.held_out, items, self.ckpt.frames, **options)
                t = self.warp_times((torch.tensor([*items]) + 0.5) / n)
                noise = seeded_noise(items, clips.shape[1:])
                planes = self._planes(torch.from_numpy(labels).to(self.device))
                x0, t, noise = (a.to(self.device) for a in (torch.from_numpy(clips).contiguous(), t, noise))
                total += self._loss(self.net, x0, t, noise, planes) * len(items)
        loss = float(self.accelerator.reduce(total, "sum")) / n
        if not math.isfinite(loss):
            raise FloatingPointError(f"the validation loss of step {self.step} is {loss}")
        return loss

    @contextlib.contextmanager
    def averaged_checkpoint(self) -> Iterator[Checkpoint]:
        """Yield the network with its averaged weights as a checkpoint to generate with."""
        info = {"name": self.ckpt.name, "source": self.ckpt.name, "categories": list(self.categories)}
        with self.ema.swap(), self.fitting.in_network(self.net), self._autocast():
            yield Checkpoint(self.net, self.ckpt.sample_rate, self.ckpt.frames, self.device, torch.float32, info)

    def calibrate(self, cancel: Event | None = None) -> None:
        """Correct the levels of a fitted network, for demos and for what is saved.

        Raises:
            Cancelled: stopped before it was done.
        """
        thorough = self.config.steps >= _LONG
        self.fitting.calibrate(self.ckpt, self.export("")[0], self.categories, thorough, cancel)

    def export(self, name: str, validation_loss: float | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the averaged weights as those of an ordinary checkpoint, and its metadata."""
        with self.ema.swap():
            exact, dtype = merge_state(self.net) | self.fitting.corrected, DTYPES[self.config.save_dtype]
            state = {name: value.to("cpu", dtype, copy=True) for name, value in exact.items()}
        info, settings = self.ckpt.info, {k: v for k, v in asdict(self.config).items() if k not in ("wandb", "licence")}
        facts = {k: info[k] for k in ("credit",) if k in info}
        if not info.get("untrained"):
            facts |= {"finetuned_from": self.ckpt.name, "start_sha256": info["weights_sha256"]}
        facts |= {"categories": list(self.categories)} if self.categories else {}
        if self.config.fit:
            counts = Counter(sound.category for sound in self.data.sounds)
            facts["fitted_to"] = {name: counted(counts[name], "sound") for name in self.data.categories}
        low, usual, high = np.percentile([sound.peak_dbfs for sound in self.data.sounds], [5, 50, 95])
        if self.level_dbfs is not None:
            facts["peak_dbfs"] = self.level_dbfs
        elif high - low < _SAME_LEVEL_DB and not self.config.crop:
            facts["peak_dbfs"] = round(float(usual), 2)
        return state, facts | {
            "name": name,
            "sample_rate": self.ckpt.sample_rate,
            "frames": self.ckpt.frames,
            "licence": self.config.licence or info["licence"],
            "weights_sha256": weights_sha256(state),
            "data_sha256": self.data.fingerprint,
            "training": settings | {"step": self.step, "validation_loss": validation_loss},
        }

    def describe_run(self) -> dict[str, Any]:
        """Return what identifies this run, as the plain values of settings.json."""
        start = {"name": self.ckpt.name, "weights_sha256": self.ckpt.info["weights_sha256"]}
        return {
            "recipe": asdict(self.config),
            "start": start | {"sample_rate": self.ckpt.sample_rate, "frames": self.ckpt.frames},
            "categories": list(self.categories),
            "data_sha256": self.data.fingerprint,
            "clips_per_step": self.config.accumulate * self.batch_size * self.accelerator.num_processes,
            "sounds": {"used": len(self.pieces), "held_out": len(self.held_out), "unusable": len(self.data.unusable)},
        }

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
        return tensors | self.fitting.tensors(), {
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
