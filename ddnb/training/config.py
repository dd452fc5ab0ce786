"""How to train: the settings of a run, checked."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor

from ..runtime import DTYPES
from ..schedule import crash_warp, sigma_k_to_t


def log_normal_warp(u: Tensor) -> Tensor:
    """Warp ``u`` in [0, 1]: a fifth of it to even ln sigma_k, the rest to a normal distribution of it around 0.03.

    Source: Karras et al. 2022 (arXiv 2206.00364, section 5); the even part keeps the ends of the grid in training.
    """
    even = math.log(1e-4) + u * 5 * math.log(20 / 1e-4)
    bell = math.log(0.03) + 2.0 * torch.special.ndtri(((u - 0.2) / 0.8).clamp(1e-4, 1 - 1e-4))
    return sigma_k_to_t(torch.where(u < 0.2, even, bell).exp())


TIMES: dict[str, Callable[[Tensor], Tensor]] = {
    "crash": crash_warp,
    "log_normal": log_normal_warp,
    "uniform": lambda u: u,
}


@dataclass(frozen=True)
class Recipe:
    """How to train. What is none is chosen: by the data, the device, or the number of steps.

    Attributes:
        steps: updates of the weights in all.
        batch_size: clips at a time, per process; found by trying on a GPU, counted from the free memory elsewhere.
        accumulate: batches per update.
        learning_rate: of AdamW, whose weight decay is 0.01; 4e-5, with LoRA 2e-4, from scratch 5e-4. It warms up over
            the first tenth (100 steps at most) and falls to 0 over the last fifth.
        seed: of everything that is random.
        crop: draw clips from anywhere in a sound; by default where most sounds are twice as long as a clip. One-shots
            are drawn from their beginning.
        augment: turn upside down half of the time, lower by up to 6 dB, begin up to 5 ms later.
        categories: train class folders as categories; by default where there are two or more.
        class_dropout: share of clips trained as "any sound", which guidance needs.
        lora_rank: train low-rank additions of this rank only, 16 is usual; what training needs beside the weights and
            the activations almost vanishes, and the result is merged.
        recompute_levels: levels of a network of the published kind whose activations are computed twice and not kept;
            4 saves most of the memory.
        ema_decay: of the averaged weights, which are those that are kept.
        ema_on_cpu: keep the average in the computer's memory instead of the GPU's, at the price of a copy per step.
        dtype: of the arithmetic, ``"float32"``, ``"float16"`` or ``"bfloat16"``; what suits the device by default.
        times: ``"crash"``, as the published networks were trained, ``"log_normal"``, as the embedded one was, or
            ``"uniform"``; as the checkpoint was by default.
        shorten: every other batch holds this many times as many clips, cut to as small a part: for one-shots, most of
            which happens at their beginning.
        loop_every: every so many batches are trained as loops, turned on the circle; 0 for none.
        validation: share of the sounds that is held out to measure the loss on, 32 clips at most.
        validate_every: steps between validations; a twentieth of all by default.
        save_every: steps between saved states; as ``validate_every`` by default.
        demo_every: steps between demos; a quarter of all by default.
        demos: sounds per demo, always of the same seeds; 0 for none. Of categories, at least one each of the first 8.
        keep_best: how many checkpoints with the lowest validation loss to keep.
        save_dtype: of the checkpoints, ``"float32"`` or ``"float16"``.
        disk_budget_gb: space that the run folder may take.
        licence: of the result; that of the checkpoint it starts from by default.
        wandb: name of a Weights & Biases project to log to. The log is in ``log.csv`` always, and in TensorBoard where
            that is installed.
    """

    steps: int = 1000
    batch_size: int | None = None
    accumulate: int = 1
    learning_rate: float | None = None
    seed: int = 0
    crop: bool | None = None
    augment: bool = True
    categories: bool | None = None
    class_dropout: float = 0.15
    lora_rank: int | None = None
    recompute_levels: int = 0
    ema_decay: float = 0.999
    ema_on_cpu: bool = False
    dtype: str | None = None
    times: str | None = None
    shorten: int = 1
    loop_every: int = 0
    validation: float = 0.1
    validate_every: int | None = None
    save_every: int | None = None
    demo_every: int | None = None
    demos: int = 4
    keep_best: int = 3
    save_dtype: str = "float32"
    disk_budget_gb: float | None = None
    licence: str | None = None
    wandb: str | None = None

    def __post_init__(self) -> None:
        positive = (
            "steps",
            "batch_size",
            "accumulate",
            "validate_every",
            "save_every",
            "demo_every",
            "lora_rank",
            "shorten",
        )
        for name in (*positive, "seed", "recompute_levels", "demos", "keep_best", "loop_every"):
            value, least = getattr(self, name), 1 if name in positive else 0
            if value is None and getattr(type(self), name) is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name}={value!r}: give a whole number from {least} up.")
        for name in ("class_dropout", "validation", "ema_decay"):
            if not isinstance(getattr(self, name), Real) or not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r}: give a share from 0 to below 1.")
        for name in ("learning_rate", "disk_budget_gb"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, Real) or not 0 < value < math.inf):
                raise ValueError(f"{name}={value!r}: give a number above 0.")
        for name in ("crop", "augment", "categories", "ema_on_cpu"):
            if getattr(self, name) not in (True, False, *([None] if name in ("crop", "categories") else [])):
                raise ValueError(f"{name}={getattr(self, name)!r}: give True or False.")
        choices = {"dtype": (None, *DTYPES), "times": (None, *TIMES), "save_dtype": ("float32", "float16")}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r}: known are {', '.join(filter(None, known))}.")
