"""Distillation: a student makes in a few network calls what its teacher makes in many.

The way from noise to sound is cut into segments, one for each call of the student. From any point of a segment, the
teacher's own path leads to one point at its end; the student learns the ``v`` that takes it there in one step::

    x_s = cos(d) x_t - sin(d) v        d = phi_t - phi_s        so        v = (cos(d) x_t - x_s) / sin(d)

No sounds are needed: the paths begin at noise. What guidance does is built in. A seed keeps its sound, as both follow
one path.

Sources: segments, Heek et al. 2024 (arXiv 2403.06807); regression on the teacher's paths, as in 2509.24526.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import math
from collections.abc import Generator, Iterator
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..checkpoints.checkpoint import Checkpoint, require_teacher, weights_sha256
from ..errors import ArgumentError
from ..generation.length import Length
from ..generation.options import SamplingOptions
from ..generation.sampling import Sampling, resolve
from ..nets.lora import merge_state
from ..runtime import DTYPES
from ..sampler import dpmpp_3m
from ..schedule import SIGMA_MAX, SIGMA_MIN, karras_grid, sigma_k_to_t
from ..steps import Event, derived_seed
from .config import DistillConfig
from .learner import Learner
from .loop import TrainingStep, close_unfinished, parse_settings, start
from .run_folder import RunFolder
from .starting import copy_for_training, load_full_precision

_POINTS = 4  # of the teacher's path in each segment
_LAST_SIGMA = 0.02  # noise that the last call removes at once, -34 dB
_DRAWS = 16  # of each path
_PATHS = 3  # at a time, re the clips of a batch
_FIRST = 0.4  # share of the clips that are in the first segment, which is the hardest
_ANY_SOUND = 0.1  # share of the paths without a category
_HELD_OUT = 8, 2**42  # paths of a validation, and the first of their seeds
_EACH = 4  # points of a held-out path


class Grid(NamedTuple):
    """The points of a teacher's path.

    Attributes:
        times: from 1 to 0.
        ends: for each point but the last, the number of the point at the end of its segment.
    """

    times: Tensor
    ends: tuple[int, ...]

    @property
    def student(self) -> list[float]:
        """The times of the student's calls, and 0."""
        return [float(self.times[i]) for i in (0, *dict.fromkeys(self.ends))]


def path_grid(calls: int) -> Grid:
    """Return the points of a path with so many segments: their ends are a Karras grid, within them ln sigma is even."""
    sigma = torch.tan(karras_grid(calls, sigma_min=_LAST_SIGMA)[:-1] * math.pi / 2).clamp(max=SIGMA_MAX)
    logs = [*sigma.log().tolist(), math.log(SIGMA_MIN)]
    inner = [high + (low - high) * i / _POINTS for high, low in pairwise(logs) for i in range(_POINTS)]
    times = torch.cat([sigma_k_to_t(torch.tensor(inner, dtype=torch.float64).exp()), torch.zeros(1)])
    times[0] = 1.0
    return Grid(times, tuple((i // _POINTS + 1) * _POINTS for i in range(calls * _POINTS)))


class Paths(NamedTuple):
    """Paths of the teacher: states, (paths, points, C, T), and planes of each, (paths, planes, 1) or None."""

    states: Tensor
    cond: Tensor | None


class Distiller(Learner):
    """A student that learns from the paths of its teacher.

    Args:
        ckpt: the teacher.
        config: the settings; those that are None are chosen here.
        device: see ``Learner``.

    Raises:
        ArgumentError: a teacher that is a student itself, or guidance of a network without categories.
        MemoryError: not even one clip fits.
    """

    config: DistillConfig

    def __init__(self, ckpt: Checkpoint, config: DistillConfig, device: str | torch.device | None = None):
        require_teacher(ckpt, "distill again")
        super().__init__(ckpt, device)
        if config.guidance_scale != 1 and not ckpt.categories:
            raise ArgumentError(
                f"guidance_scale={config.guidance_scale}: {ckpt.name} has no categories to follow; leave it out."
            )
        if config.learning_rate is None:
            config = replace(config, learning_rate=1e-3 if config.lora_rank else 2e-4)
        self.categories, self.grid = ckpt.categories, path_grid(config.calls)
        exact = load_full_precision(ckpt)
        if exact.device != self.device:
            exact = replace(exact, net=copy.deepcopy(exact.net).to(self.device), device=self.device)
        self.teacher = exact
        self.begin(copy_for_training(ckpt, 0, config, self.device, {}), config)
        self._round: tuple[int, Paths] | None = None

    def batch_loss(self, micro: int) -> Tensor:
        """Return the loss of clips that are drawn from the present paths, each at a point of its own."""
        number, size, rank = self._number(micro), self.batch_size, self.accelerator.process_index
        paths = self._paths_of(number)
        generator = torch.Generator().manual_seed(derived_seed(self.config.seed, number, rank))
        rows = torch.randint(len(paths.states), (size,), generator=generator)
        points = torch.randint(_POINTS, (size,), generator=generator)
        later = torch.randint(_POINTS, len(self.grid.ends), (size,), generator=generator)
        points = torch.where(torch.rand(size, generator=generator) < _FIRST, points, later)
        return self._loss(self.model, paths, rows, points)

    def trial_loss(self, size: int) -> Tensor:
        states = torch.zeros(1, len(self.grid.times), self.ckpt.channels, self.ckpt.frames, device=self.device)
        rows = torch.zeros(size, dtype=torch.long)
        return self._loss(self.net, Paths(states, None), rows, rows)

    def _paths_of(self, number: int) -> Paths:
        """Return the paths from which batch ``number`` is drawn; they are made anew after some batches."""
        count = _PATHS * self.batch_size
        turn = number // (_PATHS * _DRAWS)
        if self._round is None or self._round[0] != turn:
            first = (turn * self.accelerator.num_processes + self.accelerator.process_index) * count
            seeds = [derived_seed(self.config.seed, first + i) for i in range(count)]
            self._round = turn, self._follow(seeds)
        return self._round[1]

    @torch.inference_mode(False)
    def _follow(self, seeds: list[int]) -> Paths:
        """Let the teacher go the way of these seeds."""
        found = [self._path(seed) for seed in seeds]
        width = max((cond.shape[1] for _, cond in found if cond is not None), default=0)
        padded = [_padded(cond, width) for _, cond in found]
        return Paths(torch.stack([states for states, _ in found]), torch.cat(padded).to(self.device) if width else None)

    def _path(self, seed: int) -> tuple[Tensor, Tensor | None]:
        sampling, length = self._sampling(seed), Length(self.ckpt.frames, self.ckpt.frames)
        cond, states = sampling.cond([seed], length), list[Tensor]()
        model = sampling.model(length, cond)

        def recorded(x: Tensor, t: Tensor) -> Tensor:
            states.append(x[0])
            return model(x, t)

        end = dpmpp_3m(recorded, sampling.starting_noise([seed], length), self.grid.times)
        return torch.stack([*states, end[0]]).clone(), cond

    def _sampling(self, seed: int) -> Sampling:
        """Return the options of a seed's sound: a category, and with it a note, that the seed draws."""
        generator = torch.Generator().manual_seed(derived_seed(seed, 1))
        which, other = torch.rand(2, generator=generator).tolist()
        if not self.categories or other < _ANY_SOUND:
            return resolve(self.teacher, SamplingOptions())
        category = self.categories[int(which * len(self.categories))]
        return resolve(self.teacher, SamplingOptions(category, guidance_scale=self.config.guidance_scale))

    def _loss(self, model: Any, paths: Paths, rows: Tensor, points: Tensor) -> Tensor:
        ends = torch.tensor(self.grid.ends)[points]
        x, target = paths.states[rows, points], paths.states[rows, ends]
        t, s = self.grid.times[points], self.grid.times[ends]
        d = ((t - s) * (math.pi / 2)).float().to(self.device)[:, None, None]
        cond, t = None if paths.cond is None else paths.cond[rows], t.float().to(self.device)
        with self._autocast():
            v = model(x, t, cond, False)
        return self.net.loss(v.float(), (d.cos() * x - target) / d.sin(), x, t, cond, False)

    @functools.cached_property
    def _held_out(self) -> Paths:
        count, first = _HELD_OUT
        return self._follow([first + i for i in range(count)])

    @torch.no_grad()
    def validate(self) -> float | None:
        paths, count = self._held_out, _HELD_OUT[0]
        rows = torch.arange(count).repeat_interleave(_EACH)
        points = (torch.arange(count * _EACH) * 7) % len(self.grid.ends)
        with self.ema.swap():
            losses = [
                self._loss(self.net, paths, *part) for part in zip(rows.split(_EACH), points.split(_EACH), strict=True)
            ]
        loss = float(torch.stack(losses).mean())
        if not math.isfinite(loss):
            raise FloatingPointError(f"the validation loss of step {self.step} is {loss}")
        return loss

    def export(self, name: str, validation_loss: float | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
        with self.ema.swap():
            exact, dtype = merge_state(self.net), DTYPES[self.config.save_dtype]
            state = {key: value.to("cpu", dtype, copy=True) for key, value in exact.items()}
        settings = {k: v for k, v in asdict(self.config).items() if k not in ("wandb", "licence")}
        facts = {k: v for k, v in self.ckpt.info.items() if k not in ("source", "untrained", "training")}
        return state, facts | {
            "name": name,
            "sample_rate": self.ckpt.sample_rate,
            "frames": self.ckpt.frames,
            "licence": self.config.licence or self.ckpt.info["licence"],
            "weights_sha256": weights_sha256(state),
            "finetuned_from": self.ckpt.name,
            "start_sha256": self.ckpt.info["weights_sha256"],
            "student": self.student_facts,
            "training": settings | {"step": self.step, "validation_loss": validation_loss},
        }

    @contextlib.contextmanager
    def averaged_checkpoint(self) -> Iterator[Checkpoint]:
        """Yield the network with its averaged weights as a student."""
        with super().averaged_checkpoint() as ckpt:
            yield replace(ckpt, info=ckpt.info | {"student": self.student_facts})

    @property
    def student_facts(self) -> dict[str, Any]:
        """The times of the student's calls, and the guidance that is built in."""
        return {"times": self.grid.student, "guidance_scale": self.config.guidance_scale}

    def describe_run(self) -> dict[str, Any]:
        start = {"name": self.ckpt.name, "weights_sha256": self.ckpt.info["weights_sha256"]}
        return {
            "recipe": asdict(self.config),
            "start": start | {"sample_rate": self.ckpt.sample_rate, "frames": self.ckpt.frames},
            "categories": list(self.categories),
            "data_sha256": "paths of the teacher",
            "clips_per_step": self.config.accumulate * self.batch_size * self.accelerator.num_processes,
        }

    def finish(self, cancel: Event | None = None) -> None:
        """Nothing follows the last step."""


def _padded(cond: Tensor | None, width: int) -> Tensor:
    """Return planes with zeros for those that are missing: no pitch, or any sound."""
    if cond is None:
        return torch.zeros(1, width, 1)
    return torch.nn.functional.pad(cond.cpu(), (0, 0, 0, width - cond.shape[1]))


def distill(
    ckpt: Checkpoint,
    out: str | Path,
    *,
    device: str | torch.device | None = None,
    cancel: Event | None = None,
    **settings: Any,
) -> Generator[TrainingStep, None, None]:
    """Train a student that makes in a few network calls what ``ckpt`` makes in many; the same call resumes the run.

    It is used like ``finetune``, without sounds: ``for step in distill(ckpt, "runs/fast", calls=6): ...``. The result,
    ``out/last.safetensors``, is a usual checkpoint: ``load`` and ``generate`` use its calls.

    Args:
        ckpt: the teacher, what ``load`` returned.
        out: folder of the run; see ``run_folder``.
        device: where to train; where ``ckpt`` is by default. With several processes ``accelerate`` decides.
        cancel: anything with ``is_set()``; checked before each step.
        settings: attributes of ``DistillConfig``, such as ``calls=6, steps=4000``.

    Yields:
        A ``TrainingStep`` per step, beginning with step 0.

    Raises:
        TypeError: an unknown setting, or an argument of another type.
        ArgumentError: a setting out of range, or a teacher that is a student.
        RunError, FileExistsError, MemoryError, FloatingPointError, OSError: as for ``finetune``.
    """
    config, run = parse_settings(DistillConfig, ckpt, settings), RunFolder(out)
    close_unfinished(run)
    stored = run.settings() if run.state_path.is_file() else {}
    for name in ("batch_size", "learning_rate") if stored else ():
        if getattr(config, name) is None:
            config = replace(config, **{name: stored["recipe"][name]})
    return start(Distiller(ckpt, config, device), run, stored, cancel)
