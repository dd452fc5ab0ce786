"""Learning from sounds: clips, loss, validation, and what is saved with the weights."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..checkpoints.checkpoint import Checkpoint, weights_sha256
from ..display.text import counted
from ..nets.lora import merge_state
from ..runtime import DTYPES
from ..schedule import alpha_sigma
from ..steps import Event, derived_seed, seeded_noise
from .advice import suggest_next
from .batches import BatchReader, draw, hold_out, pieces
from .config import TIMES, TrainingConfig
from .dataset import Dataset
from .fitting import Fitting
from .learner import VALIDATION_CLIPS, Learner
from .starting import check_sizes, choose_settings, copy_for_training

_SAME_LEVEL_DB = 0.1
_LONG = 200  # steps of a run that is worth a thorough calibration


class Trainer(Learner):
    """A network that learns from sounds.

    ``loss = |v - (alpha eps - sigma x0)|^2``, at times that are stratified over all clips of a step; a network may
    weight its parts.

    Sources: Salimans & Ho 2022 (arXiv 2202.00512, section 4); stratified times, Kingma et al. 2021 (arXiv 2107.00630,
    appendix I).

    Args:
        ckpt, device: see ``Learner``.
        data: the sounds.
        config: the settings; those that are None are chosen here.
        saved: the tensors of ``state``, from which a resumed run takes what was found among the sounds.

    Raises:
        ArgumentError: ``shorten`` does not fit the network's lengths.
        DatasetError: too many class folders.
        RunError: ``accelerate`` is set up for another kind of parallelism.
        MemoryError: not even one clip fits.
    """

    config: TrainingConfig

    def __init__(
        self,
        ckpt: Checkpoint,
        data: Dataset,
        config: TrainingConfig,
        device: str | torch.device | None = None,
        saved: Mapping[str, Tensor] | None = None,
    ):
        super().__init__(ckpt, device)
        self.data = data
        config = choose_settings(config, ckpt, data)
        new = [name for name in data.categories if name not in ckpt.categories] if config.categories else []
        self.categories = (*ckpt.categories, *new)
        check_sizes(config, ckpt, len(self.categories))
        found = pieces(data, ckpt.frames, bool(config.crop), self.categories if config.categories else ())
        self.pieces, self.held_out = hold_out(found, config.validation, VALIDATION_CLIPS, config.seed)
        self.fitting = Fitting.of(saved or {})
        if config.fit and not self.fitting.components:
            self.fitting = Fitting.find(ckpt, len(new), data, found)
        self.warp_times = TIMES[str(config.times)]
        self.begin(copy_for_training(ckpt, len(new), config, self.device, self.fitting.components), config)
        place = self.accelerator.process_index, self.accelerator.num_processes
        self.level_dbfs = ckpt.info.get("peak_dbfs") if config.fit else None
        self.batches = BatchReader(data, self.pieces, self.config, ckpt.frames, *place, self.level_dbfs)

    @property
    def own_categories(self) -> tuple[str, ...]:
        return self.data.categories if self.config.categories else ()

    def suggest_next(self) -> str | None:
        return suggest_next(self.validations, self.config)

    def batch_loss(self, micro: int) -> Tensor:
        loop = self.batches.is_loop(self._number(micro))
        return self._loss(self.model, *self._draw_step(micro), circular=loop)

    def trial_loss(self, size: int) -> Tensor:
        x0, noise = torch.zeros(2, size, self.ckpt.channels, self.ckpt.frames, device=self.device)
        labels = torch.zeros(size, dtype=torch.long, device=self.device)
        return self._loss(self.net, x0, torch.full((size,), 0.5, device=self.device), noise, self._planes(labels))

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

    def _loss(
        self, model: nn.Module, x0: Tensor, t: Tensor, noise: Tensor, cond: Tensor | None, circular: bool = False
    ) -> Tensor:
        alpha, sigma = alpha_sigma(t[:, None, None])
        x = alpha * x0 + sigma * noise
        with self._autocast():
            v = model(x, t, cond, circular)
        return self.net.loss(v.float(), alpha * noise - sigma * x0, x, t, cond, circular)

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
        """Yield the network with its averaged weights, and with the corrected levels of a fitted one."""
        with self.fitting.in_network(self.net), super().averaged_checkpoint() as ckpt:
            yield ckpt

    def finish(self, cancel: Event | None = None) -> None:
        """Correct the levels of a fitted network, for demos and for what is saved.

        Raises:
            Cancelled: stopped before it was done.
        """
        if self.fitting.components:
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

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, facts = super().state()
        return tensors | self.fitting.tensors(), facts
