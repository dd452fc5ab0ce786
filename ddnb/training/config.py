"""The settings of a training run, each with its help text and the values that it allows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import ArgumentError
from ..runtime import DTYPES
from ..schedule import crash_warp, sigma_k_to_t


def log_normal_warp(u: Tensor) -> Tensor:
    """Warp ``u`` in [0, 1] to times: a fifth uniform in ln sigma_k, the rest normal in ln sigma_k around ln 0.03.

    Source: Karras et al. 2022 (arXiv 2206.00364, section 5); the uniform part keeps the ends of the grid in training.
    """
    uniform = math.log(1e-4) + u * 5 * math.log(20 / 1e-4)
    normal = math.log(0.03) + 2.0 * torch.special.ndtri(((u - 0.2) / 0.8).clamp(1e-4, 1 - 1e-4))
    return sigma_k_to_t(torch.where(u < 0.2, uniform, normal).exp())


TIMES: dict[str, Callable[[Tensor], Tensor]] = {
    "crash": crash_warp,
    "log_normal": log_normal_warp,
    "uniform": lambda u: u,
}
"""Distributions of the training times: functions that warp uniform numbers in [0, 1] to t."""


class Range(NamedTuple):
    """The values that a setting allows: in words, and as a test."""

    words: str
    contains: Callable[[Any], bool]


def _whole_from(least: int) -> Range:
    def contains(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= least

    return Range(f"a whole number from {least} up", contains)


def _one_of(*names: str) -> Range:
    return Range(f"one of {', '.join(names)}", lambda value: value in names)


_COUNT, _COUNT_OR_ZERO = _whole_from(1), _whole_from(0)
_SEED = Range("a whole number from 0 to 2**63 - 1", lambda value: _COUNT_OR_ZERO.contains(value) and value < 2**63)
_SHARE = Range("a number from 0 to below 1", lambda value: isinstance(value, Real) and 0 <= float(value) < 1)
_POSITIVE = Range("a number above 0", lambda value: isinstance(value, Real) and 0 < float(value) < math.inf)
_FLAG = Range("True or False", lambda value: value in (True, False))
_TEXT = Range("a text", lambda value: isinstance(value, str))


def _setting(default: Any, allowed: Range, words: str) -> Any:
    return field(default=default, metadata={"help": words, "range": allowed})


@dataclass(frozen=True)
class LearningConfig:
    """The settings that every training run has; where None is the default, the device or the steps decide.

    Raises:
        ArgumentError: a value that its setting does not allow.
    """

    steps: int = _setting(1000, _COUNT, "updates of the weights in all")
    batch_size: int | None = _setting(
        None,
        _COUNT,
        "clips per batch and process; by default the largest of up to 32 that fits on a GPU, found by trying, and "
        "elsewhere up to 4, computed from the free memory",
    )
    accumulate: int = _setting(1, _COUNT, "batches per update")
    learning_rate: float | None = _setting(
        None,
        _POSITIVE,
        "peak learning rate of AdamW, whose weight decay is 0.01; by default 4e-5, with LoRA 2e-4; of networks below "
        "20 million parameters 2e-4 and 1e-3; from scratch and for the built-in network 5e-4. "
        "It warms up over the first tenth of the steps (100 at most) and decays to 0 over the last fifth",
    )
    seed: int = _setting(0, _SEED, "seed of everything that is random")
    lora_rank: int | None = _setting(
        None,
        _COUNT,
        "train low-rank additions (LoRA) of this rank only; 16 is usual. Little memory is needed beside the weights "
        "and the activations, and the result is merged into the weights",
    )
    recompute_levels: int = _setting(
        0,
        _COUNT_OR_ZERO,
        "levels of a network of the published kind whose activations are recomputed in the backward pass, not stored; "
        "4 saves most of the memory",
    )
    ema_decay: float = _setting(
        0.999, _SHARE, "decay of the exponential moving average (EMA) of the weights, which is what is saved"
    )
    ema_on_cpu: bool = _setting(
        False, _FLAG, "keep the EMA in main memory, not in the GPU's, at the cost of a copy per step"
    )
    dtype: str | None = _setting(
        None, _one_of(*DTYPES), f"precision of the computation: {', '.join(DTYPES)}; by default what suits the device"
    )
    validate_every: int | None = _setting(
        None, _COUNT, "steps between validations; by default a twentieth of all, or what 2.5 % of the time allows"
    )
    save_every: int | None = _setting(
        None, _COUNT, "steps between saved states; by default a twentieth of all, or what 2 % of the time allows"
    )
    demo_every: int | None = _setting(
        None, _COUNT, "steps between demos; by default a quarter of all, or what 3 % of the time allows"
    )
    demos: int = _setting(
        4,
        _COUNT_OR_ZERO,
        "sounds per demo, always of the same seeds; 0 for none. With categories, at least one of each of the first 8; "
        "fewer in a run so short that they would take more than 15 % of its time",
    )
    keep_best: int = _setting(3, _COUNT_OR_ZERO, "number of checkpoints with the lowest validation loss to keep")
    save_dtype: str = _setting(
        "float32", _one_of("float32", "float16"), "precision of the saved checkpoints: float32 or float16"
    )
    disk_budget_gb: float | None = _setting(
        None, _POSITIVE, "disk space that the run folder may take, GB; by default all that is free"
    )
    licence: str | None = _setting(
        None, _TEXT, "licence of the result; by default that of the checkpoint it starts from"
    )
    wandb: str | None = _setting(
        None,
        _TEXT,
        "name of a Weights & Biases project to log to; log.csv is always written, and a TensorBoard log where that is "
        "installed",
    )

    def __post_init__(self) -> None:
        for setting in fields(self):
            value, allowed = getattr(self, setting.name), setting.metadata["range"]
            if not (value is None and setting.default is None) and not allowed.contains(value):
                raise ArgumentError(f"{setting.name}={value!r}: expected {allowed.words}.")


@dataclass(frozen=True)
class TrainingConfig(LearningConfig):
    """The settings of a training on sounds; where None is the default, the data, the device or the steps decide.

    Raises:
        ArgumentError: a value that its setting does not allow.
    """

    crop: bool | None = _setting(
        None,
        _FLAG,
        "cut clips from anywhere in a sound, not from its beginning only (which suits one-shots); by default where the "
        "median sound is more than twice as long as a clip",
    )
    augment: bool = _setting(
        True, _FLAG, "invert polarity with p = 0.5, lower the level by up to 6 dB, start up to 5 ms later"
    )
    categories: bool | None = _setting(
        None,
        _FLAG,
        "train class folders as categories; by default where there are two or more, or one and a checkpoint that has "
        "categories",
    )
    fit: bool | None = _setting(
        None,
        _FLAG,
        "begin by fitting the network to the sounds, see the command fit; by default where there are categories and it "
        "is the built-in network or made from it",
    )
    class_dropout: float = _setting(
        0.15, _SHARE, "share of the clips that are trained without their category, which guidance needs"
    )
    times: str | None = _setting(
        None,
        _one_of(*TIMES),
        "distribution of the training times: crash, as the published networks were trained, log_normal, as the "
        "embedded one was, or uniform; by default as the checkpoint was",
    )
    shorten: int = _setting(
        1,
        _COUNT,
        "make every second batch this many times as many clips, each shorter by the same factor: for one-shots, most "
        "of which happens at their beginning",
    )
    loop_every: int = _setting(
        0, _COUNT_OR_ZERO, "train every n-th batch as loops, shifted circularly by a random length; 0 for none"
    )
    validation: float = _setting(
        0.1, _SHARE, "share of the sounds that is held out to measure the validation loss on, 32 clips at most"
    )


_CALLS = Range("a whole number from 2 to 16", lambda value: value in range(2, 17) and not isinstance(value, bool))


@dataclass(frozen=True)
class DistillConfig(LearningConfig):
    """The settings of a distillation; where None is the default, the device or the steps decide.

    Raises:
        ArgumentError: a value that its setting does not allow.
    """

    steps: int = _setting(4000, _COUNT, "updates of the weights in all")
    learning_rate: float | None = _setting(
        None, _POSITIVE, "peak learning rate of AdamW; by default 2e-4, with LoRA 1e-3"
    )
    calls: int = _setting(6, _CALLS, "network calls of the student")
    guidance_scale: float = _setting(1.0, _POSITIVE, "guidance of the teacher, which the student then has built in")


def _document(config: type[LearningConfig]) -> None:
    """Add the attributes of a configuration to its docstring."""
    listed = "\n".join(f"        {f.name}: {f.metadata['help']} (default: {f.default})." for f in fields(config))
    config.__doc__ = f"{config.__doc__}\n    Attributes:\n{listed}\n"


_document(TrainingConfig)
_document(DistillConfig)
