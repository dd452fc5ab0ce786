"""One step of training: what is drawn, the loss, the gradients, the update and the average of the weights."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from statistics import median
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor, nn

from ..checkpoints.checkpoint import Checkpoint, weights_sha256
from ..checkpoints.loading import load
from ..nets.build import Network, empty
from ..nets.lora import add_columns, add_low_rank, merged
from ..nets.unet import recompute
from ..runtime import DTYPES, is_out_of_memory, pick
from ..sampler import seeded_noise
from ..schedule import alpha_sigma
from .config import TIMES, Recipe
from .dataset import Augment, Dataset, draw, hold_out, pieces
from .ema import Ema
from .memory import activation_bytes

MAX_CATEGORIES = 32

_GRADIENT_NORM = 1.0
_DECAY = 0.01
_WARM_UP = 100
_VALIDATION_CLIPS = 32
_FADE = 64
_ONE_LEVEL_DB = 0.1


class Trainer:
    """A network in training.

    Args:
        ckpt: where it starts; its own weights are not changed.
        data: the sounds.
        recipe: how to train; what is none in it is chosen here.

    Attributes:
        step: how many updates there have been.
        loss, last_rate: of the last step; none and 0 before the first.
        told: the last step that has been validated, played and logged; -1 before the first.
        best: (step, validation loss) of the checkpoints that are kept, the best first.
        validations: (step, validation loss) of all.
    """

    def __init__(self, ckpt: Checkpoint, data: Dataset, recipe: Recipe, device: str | torch.device | None = None):
        from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs

        patient = InitProcessGroupKwargs(timeout=datetime.timedelta(hours=2))  # demos are made by one process
        constant = DistributedDataParallelKwargs(broadcast_buffers=False)  # the filters of the network
        handlers = [patient, constant]
        self.accelerator = Accelerator(device_placement=False, mixed_precision="no", kwargs_handlers=handlers)
        if (how := self.accelerator.distributed_type.value) not in ("NO", "MULTI_GPU", "MULTI_CPU"):
            raise ValueError(f"accelerate is set up for {how}: ddnb trains with plain data parallelism only.")
        several = self.accelerator.num_processes > 1
        self.device = self.accelerator.device if several else pick(device or ckpt.device).device
        self.ckpt, self.data = ckpt, data
        recipe = self._with_choices(recipe)
        new = [name for name in data.categories if name not in ckpt.categories] if recipe.categories else []
        self.categories = (*ckpt.categories, *new)
        if recipe.shorten > 1 and ckpt.frames != recipe.shorten * ckpt.legal_frames(ckpt.frames // recipe.shorten):
            raise ValueError(f"shorten={recipe.shorten}: {ckpt.name} makes no clips of so small a part of its length.")
        if len(self.categories) > MAX_CATEGORIES:
            raise ValueError(f"{len(self.categories)} class folders: at most {MAX_CATEGORIES}, or categories=False.")
        self.net = self._network(len(new), recipe)
        self.model = self.accelerator.prepare(self.net)
        self.trainable = {name: p for name, p in self.net.named_parameters() if p.requires_grad}
        self.ema = Ema(self.trainable, recipe.ema_decay, torch.device("cpu") if recipe.ema_on_cpu else None)
        fused = self.device.type in ("cpu", "cuda")
        matrices, vectors = ([p for p in self.trainable.values() if (p.ndim > 1) == which] for which in (True, False))
        groups = [{"params": matrices, "weight_decay": _DECAY}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=fused)
        self.dtype = pick(self.device, recipe.dtype).dtype
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        found = pieces(data, ckpt.frames, recipe.crop, self.categories if recipe.categories else ())
        self.pieces, self.held_out = hold_out(found, recipe.validation, _VALIDATION_CLIPS, recipe.seed)
        self.step, self.told, self.keep_best = 0, -1, recipe.keep_best
        self._updating = False
        self.loss, self.last_rate = None, 0.0
        self.best: list[tuple[int, float]] = []
        self.validations: list[tuple[int, float]] = []
        self._pool, self._ahead = ThreadPoolExecutor(1), {}
        self.recipe = recipe
        if recipe.batch_size is None:
            self.recipe = replace(recipe, batch_size=self._fitting_batch())

    @property
    def settled(self) -> bool:
        """Whether weights, average and step belong together, as they do except in the middle of an update or a swap."""
        return not (self._updating or self.ema.swapped)

    # --- what it is made of -----------------------------------------------------------------------------------

    @property
    def is_main(self) -> bool:
        return self.accelerator.is_main_process

    def _with_choices(self, recipe: Recipe) -> Recipe:
        """The recipe with its open choices made, except for the batch size, which needs the network."""
        rate = 2e-4 if recipe.lora_rank else 5e-4 if self.ckpt.info.get("untrained") else 4e-5
        lengths = [s.frames for s in self.data.sounds]
        found = len(self.data.categories)
        choices = {
            "learning_rate": rate,
            "times": self.ckpt.net.trained_times,
            "crop": median(lengths) > 2 * self.ckpt.frames,
            "categories": found > 1 or (found == 1 and bool(self.ckpt.categories)),
        }
        return replace(recipe, **{k: v for k, v in choices.items() if getattr(recipe, k) is None})

    def _network(self, new_planes: int, recipe: Recipe) -> Network:
        exact = self._in_full_precision()
        own = not recipe.lora_rank  # frozen weights are only read
        weights = exact.net.state_dict()
        state = {k: v.detach().to(self.device, torch.float32, copy=own) for k, v in weights.items()}
        config = replace(exact.net.config, planes=exact.net.config.planes + new_planes)
        net = empty(config)
        net.load_state_dict(net.with_planes(state, new_planes), assign=True)
        add_columns(net, new_planes)
        if recipe.lora_rank:
            add_low_rank(net, recipe.lora_rank, recipe.seed)
        recompute(net, recipe.recompute_levels)
        return net.train()

    def _in_full_precision(self) -> Checkpoint:
        """The checkpoint in float32: half precision is for making sounds, not for learning from."""
        if self.ckpt.dtype == torch.float32:
            return self.ckpt
        stated = {"sample_rate": self.ckpt.sample_rate, "frames": self.ckpt.frames}
        return load(self.ckpt.info["source"], device="cpu", dtype="float32", **stated)

    def _fitting_batch(self) -> int:
        """The largest batch that fits, up to 32 on a GPU; up to 4 on a CPU, where a larger one brings no speed.

        Raises:
            MemoryError: not even one clip fits.
        """
        recipe = self.recipe
        if self.device.type == "cuda":
            moments = [torch.empty_like(p) for p in self.trainable.values() for _ in range(2)]  # AdamW's, to come
            size = next((size for size in (32, 16, 8, 4, 2, 1) if self._fits(size)), 0)
            del moments
        else:  # not by trying: a system that runs out of memory kills the process
            share = psutil.virtual_memory().available / 2 / self.accelerator.num_processes
            one = activation_bytes(self.net.config, self.ckpt.frames, recipe.recompute_levels)
            size = int(min(4, max(1, (share - self.state_bytes) // one)))
        size = int(self.accelerator.gather(torch.tensor([size], device=self.device)).min())
        if not size:
            raise MemoryError("Not even one clip fits: try lora_rank=16, recompute_levels=4, or ema_on_cpu=True.")
        return size

    def _fits(self, size: int) -> bool:
        """Try a step, twice where gradients pile up; without the other processes, which may fare differently."""
        shape = (size, self.ckpt.channels, self.ckpt.frames)
        try:
            for _ in range(min(2, self.recipe.accumulate)):
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

    def agree(self, *values: Any) -> bool:
        """Whether all processes have the same values."""
        digest = int(hashlib.sha256(repr(values).encode()).hexdigest()[:15], 16)
        return len(set(self.accelerator.gather(torch.tensor([digest], device=self.device)).tolist())) == 1

    def any_of_us(self, flag: bool) -> bool:
        """Whether the flag is set in any process; all must ask."""
        if self.accelerator.num_processes == 1:
            return flag
        return bool(self.accelerator.gather(torch.tensor([flag], device=self.device)).any())

    def settings(self) -> dict[str, Any]:
        """What makes this run this run, as plain values."""
        start = {"name": self.ckpt.name, "weights_sha256": self.ckpt.info["weights_sha256"]}
        return {
            "recipe": asdict(self.recipe),
            "start": start | {"sample_rate": self.ckpt.sample_rate, "frames": self.ckpt.frames},
            "categories": list(self.categories),
            "data_sha256": self.data.fingerprint,
            "clips_per_step": self.recipe.accumulate * self._batch,
            "sounds": {"used": len(self.pieces), "held_out": len(self.held_out), "unusable": len(self.data.unusable)},
        }

    # --- one step ---------------------------------------------------------------------------------------------

    @property
    def _batch(self) -> int:
        """Clips of all processes together."""
        return self.recipe.batch_size * self.accelerator.num_processes

    def train_step(self) -> float:
        """Do one update; returns the mean loss of its clips.

        Raises:
            FloatingPointError: the loss or a gradient is not finite; the weights are as before.
            MemoryError: the batch does not fit.
        """
        try:
            loss = self.gradients()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            size, times = max(1, self.recipe.batch_size // 2), 2 * self.recipe.accumulate
            cure = f"go on with batch_size={size}, accumulate={times}" if self.recipe.batch_size > 1 else "use LoRA"
            raise MemoryError(f"Step {self.step + 1} does not fit into the memory of {self.device}: {cure}.") from error
        self._update(loss)
        return loss

    def gradients(self) -> float:
        """Leave the gradients of the next step in the network; returns the mean loss.

        ``loss = |v - (alpha eps - sigma x0)|^2``, at times that are spread evenly over all clips of the step; a
        network may weigh its parts.

        Sources: Salimans & Ho 2022 (arXiv 2202.00512, section 4); even times, Kingma et al. 2021 (arXiv 2107.00630,
        appendix I).
        """
        total, recipe = 0.0, self.recipe
        for micro in range(recipe.accumulate):
            last = micro == recipe.accumulate - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.model):
                with self._as_loop(self._is_loop(self._number(micro))):
                    loss = self._loss(self.model, *self._draw_step(micro)) / recipe.accumulate
                if micro == 0:  # not before: on a CPU the last step's are kept until here, see _update
                    self.optimizer.zero_grad(set_to_none=True)
                self.scaler.scale(loss).backward()
            total += loss.detach()
        return float(self.accelerator.reduce(total, "mean"))

    @contextlib.contextmanager
    def _as_loop(self, loop: bool) -> Iterator[None]:
        """Let the network take its input as a loop."""
        if loop:
            self.net.circular = True
        try:
            yield
        finally:
            if loop:
                self.net.circular = False

    def _is_loop(self, number: int) -> bool:
        return bool(self.recipe.loop_every) and number % self.recipe.loop_every == 0

    def _number(self, micro: int) -> int:
        """Of a batch, in the whole run."""
        return self.step * self.recipe.accumulate + micro

    def _draw_step(self, micro: int) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """This process's clips, their times, noise and planes. All processes draw alike, and each takes its part."""
        recipe, rank = self.recipe, self.accelerator.process_index
        number = self._number(micro)
        x0, labels = self._clips(number)
        size, batch = len(x0), len(x0) * self.accelerator.num_processes
        seed = int(np.random.SeedSequence([recipe.seed, number]).generate_state(1, np.uint64)[0] >> np.uint64(1))
        generator = torch.Generator(self.device).manual_seed(seed)
        options = {"generator": generator, "device": self.device}
        mine = slice(rank * size, (rank + 1) * size)
        places = torch.arange(batch, device=self.device) * recipe.accumulate + micro
        u = (places + torch.rand(batch, **options)) / (batch * recipe.accumulate)
        noise = torch.randn((batch, *x0.shape[1:]), **options)[mine]
        labels = torch.where(torch.rand(batch, **options)[mine] < recipe.class_dropout, -1, labels)
        return x0, TIMES[recipe.times](u[mine].cpu()).to(self.device), noise, self._planes(labels)

    def _clips(self, number: int) -> tuple[Tensor, Tensor]:
        """Clips and labels of batch ``number``; the next one is read meanwhile."""
        ready: Future = self._ahead.pop(number, None) or self._pool.submit(self._read, number)
        self._ahead = {number + 1: self._pool.submit(self._read, number + 1)}
        clips, labels = ready.result()
        return torch.from_numpy(clips).to(self.device).contiguous(), torch.from_numpy(labels).to(self.device)

    def _read(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        recipe = self.recipe
        parts = recipe.shorten if number % 2 else 1
        size, frames = recipe.batch_size * parts, self.ckpt.frames // parts
        first = number * self._batch * recipe.shorten + self.accelerator.process_index * size
        items = range(first, first + size)
        augment = Augment() if recipe.augment else None
        options = {"crop": recipe.crop, "augment": augment, "seed": recipe.seed}
        clips, labels = draw(self.data, self.pieces, items, frames, **options)
        if parts > 1:  # the end of a short clip is not the end of the sound
            clips[..., -_FADE:] *= np.linspace(1, 0, _FADE, dtype=np.float32)
        if self._is_loop(number):
            turns = (np.random.default_rng([recipe.seed, 4, item]).integers(frames) for item in items)
            clips = np.stack([np.roll(clip, turn, -1) for clip, turn in zip(clips, turns, strict=True)])
        return clips, labels

    def _planes(self, labels: Tensor) -> Tensor | None:
        """One plane per category, 1 in the clip's own; all 0 for a clip without one."""
        if not self.net.config.planes:
            return None
        number = torch.arange(self.net.config.planes, device=labels.device)
        return (labels[:, None] == number).float()[..., None]

    def _loss(self, model: nn.Module, x0: Tensor, t: Tensor, noise: Tensor, cond: Tensor | None) -> Tensor:
        alpha, sigma = alpha_sigma(t[:, None, None])
        x = alpha * x0 + sigma * noise
        with self._autocast():
            v = model(x, t, cond)
        return self.net.loss(v.float(), alpha * noise - sigma * x0, x, t, cond)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def _update(self, loss: float) -> None:
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.trainable.values(), _GRADIENT_NORM)
        overflow = self.scaler.is_enabled() and not math.isfinite(norm)  # the scaler skips such a step
        if not math.isfinite(loss) or (not math.isfinite(norm) and not overflow) or self.scaler.get_scale() < 1e-3:
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
        # On a CPU they stay until the next forward pass is done: else its tensors fill their places, and a step of the
        # published network takes a million more page faults. Where batches are accumulated, the peak does not rise.
        if self.device.type != "cpu" or self.recipe.accumulate == 1:
            self.optimizer.zero_grad(set_to_none=True)

    @property
    def learning_rate(self) -> float:
        """Of the next step: rises over the first tenth (100 steps at most), falls over the last fifth."""
        steps = self.recipe.steps
        rise = (self.step + 1) / min(_WARM_UP, max(1, steps // 10))
        fall = (steps - self.step) / max(1, steps // 5)
        return self.recipe.learning_rate * min(1.0, rise, max(0.0, fall))

    # --- what is measured and kept ----------------------------------------------------------------------------

    @torch.no_grad()
    def validate(self) -> float | None:
        """Mean loss of the averaged weights on held-out sounds, at fixed times and noises; none without such sounds."""
        if not self.held_out:
            return None
        n = _VALIDATION_CLIPS
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        mine = range(n * rank // processes, n * (rank + 1) // processes)
        total = torch.zeros((), device=self.device)
        with self.ema.in_place():
            for first in range(mine.start, mine.stop, self.recipe.batch_size):
                items = range(first, min(first + self.recipe.batch_size, mine.stop))
                clips, labels = draw(
                    self.data, self.held_out, items, self.ckpt.frames, crop=self.recipe.crop, augment=None, seed=0
                )
                t = TIMES[self.recipe.times]((torch.tensor([*items]) + 0.5) / n)
                noise = seeded_noise(items, clips.shape[1:])
                planes = self._planes(torch.from_numpy(labels).to(self.device))
                arrays = (a.to(self.device) for a in (torch.from_numpy(clips).contiguous(), t, noise))
                total += self._loss(self.net, *arrays, planes) * len(items)
        loss = float(self.accelerator.reduce(total, "sum")) / n
        if not math.isfinite(loss):
            raise FloatingPointError(f"the validation loss of step {self.step} is {loss}")
        return loss

    @contextlib.contextmanager
    def averaged(self) -> Iterator[Checkpoint]:
        """The network with its averaged weights, ready to make sound."""
        info = {"name": self.ckpt.name, "source": self.ckpt.name, "categories": list(self.categories)}
        with self.ema.in_place(), self._autocast():
            yield Checkpoint(self.net, self.ckpt.sample_rate, self.ckpt.frames, self.device, torch.float32, info)

    def exported(self, name: str, validation_loss: float | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The averaged weights as an ordinary checkpoint's, and what to write beside them."""
        with self.ema.in_place():
            state = {k: v.to("cpu", DTYPES[self.recipe.save_dtype], copy=True) for k, v in merged(self.net).items()}
        info, recipe = self.ckpt.info, {k: v for k, v in asdict(self.recipe).items() if k not in ("wandb", "licence")}
        facts = {k: info[k] for k in ("credit",) if k in info}
        facts |= {} if info.get("untrained") else {"finetuned_from": self.ckpt.name}
        facts |= {"categories": list(self.categories)} if self.categories else {}
        low, usual, high = np.percentile([sound.peak_dbfs for sound in self.data.sounds], [5, 50, 95])
        if high - low < _ONE_LEVEL_DB and not self.recipe.crop:
            facts["peak_dbfs"] = round(float(usual), 2)
        return state, facts | {
            "name": name,
            "sample_rate": self.ckpt.sample_rate,
            "frames": self.ckpt.frames,
            "licence": self.recipe.licence or info["licence"],
            "weights_sha256": weights_sha256(state),
            "data_sha256": self.data.fingerprint,
            "training": recipe | {"step": self.step, "validation_loss": validation_loss},
        }

    @property
    def weights_bytes(self) -> int:
        numbers = sum(t.numel() for t in empty(self.net.config).state_dict().values())
        return (4 if self.recipe.save_dtype == "float32" else 2) * numbers

    @property
    def state_bytes(self) -> int:
        """Weights, average and AdamW's two moments of what is trained."""
        return 4 * 4 * sum(p.numel() for p in self.trainable.values())

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that ``restore`` needs."""
        tensors: dict[str, Tensor] = {}
        for name, parameter in self.trainable.items():
            tensors |= {f"weight.{name}": parameter, f"average.{name}": self.ema.values[name]}
            if moments := self.optimizer.state.get(parameter):  # none before the first update
                tensors |= {f"first.{name}": moments["exp_avg"], f"second.{name}": moments["exp_avg_sq"]}
        updates = next((float(moments["step"]) for moments in self.optimizer.state.values()), 0.0)
        facts = {"step": self.step, "told": self.told, "loss": self.loss, "last_rate": self.last_rate}
        facts |= {"updates": updates, "scaler": self.scaler.state_dict()}
        return tensors, facts | {"best": self.best, "validations": self.validations}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Go back to where ``state`` was taken, bit for bit on a CPU."""
        for name, parameter in self.trainable.items():
            parameter.copy_(tensors[f"weight.{name}"])
            self.ema.values[name].copy_(tensors[f"average.{name}"])
            if facts["updates"]:
                self.optimizer.state[parameter] = {
                    "step": torch.tensor(facts["updates"], device=parameter.device),
                    "exp_avg": tensors[f"first.{name}"].to(parameter.device, copy=True),
                    "exp_avg_sq": tensors[f"second.{name}"].to(parameter.device, copy=True),
                }
        if facts["scaler"]:  # empty where it ran in float32 or bfloat16 so far
            self.scaler.load_state_dict(facts["scaler"])
        self.step = self.ema.updates = facts["step"]
        self.told, self.loss, self.last_rate = facts["told"], facts["loss"], facts["last_rate"]
        self.best, self.validations = ([tuple(m) for m in facts[k]] for k in ("best", "validations"))
