"""Sampling options: one list of them, from which the verbs' signatures, the command line and the records are made."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeVar, get_type_hints

from ..audio.notes import Note
from ..guidance import Category
from ..steps import Event, OnStep

FILLING_STEPS = 25

Result = TypeVar("Result")


class OptionGroup:
    """A frozen dataclass whose fields are keyword arguments of several functions; ``metadata["help"]`` documents
    each."""


def option(default: Any, text: str) -> Any:
    """Return a dataclass field with its documentation."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class SamplingOptions(OptionGroup):
    """Options of sampling that all verbs share; their documentation is that of each field."""

    category: Category | None = option(
        None,
        "one of ckpt.categories, or several with weights, {'kick': 2, 'snare': 1}; None asks for any sound, or, where "
        "there is input audio that was made with a category, for that one; {} asks for any sound always",
    )
    note: Note | None = option(
        None,
        "the pitch, for categories that have one (ckpt.tonal_categories): a name with its octave ('A1', 'F#2'; A4 is "
        "440 Hz), a MIDI number (33) or Hz ('55 Hz', 55.0); None: that of the input audio, else each seed draws a note "
        "that the category plays",
    )
    key: str | None = option(None, "draw the notes from a scale: 'A minor', 'F# major'")
    guidance_scale: float | None = option(
        None, "how strongly to follow the category: 1 as learned (default), 2 more strongly, 0 not at all"
    )
    guidance_interval: tuple[float, float] | None = option(
        None, "(from, to) in t, 0 = clean, 1 = noise: the times at which guidance_scale acts (default: all)"
    )
    guidance_rescale: float | None = option(
        None, "share from 0 (default) to 1 of the level added by strong guidance that is taken back"
    )
    steps: int | None = option(
        None,
        f"network calls per sound (default: ckpt.default_steps, or {FILLING_STEPS} to fill in; the sampler heun needs "
        "twice that); more is cleaner",
    )
    sampler: str | None = option(None, "a key of sampler.SAMPLERS (default: ckpt.default_sampler)")
    grid: str | None = option(
        None,
        "a key of schedule.GRIDS (default: log_snr, up to 9 steps karras, and crash for the samplers that repeat an "
        "original tool)",
    )
    batch_size: int | None = option(
        None, "sounds per network call (default: 8 on a GPU, 1 on a CPU); halved when memory runs out"
    )
    on_step: OnStep | None = option(
        None, "called after each step as on_step(done, total, denoised), for the whole call"
    )
    cancel: Event | None = option(None, "an event with is_set(); when it is set, the finished sounds are returned")


def flatten_options(function: Callable[..., Result]) -> Callable[..., Result]:
    """Let callers pass the fields of a function's option groups as keyword arguments of their own.

    ``def generate(ckpt, *, options: SamplingOptions)`` becomes ``generate(ckpt, *, category=None, steps=None, ...)``,
    in its signature and its documentation too. A ready group is taken as well: ``generate(ckpt,
    options=SamplingOptions())``. A field that is a parameter of the function as well is left to that.
    """
    hints = get_type_hints(function)
    groups = {name: kind for name, kind in hints.items() if isinstance(kind, type) and issubclass(kind, OptionGroup)}
    owner = {f.name: group for group, kind in groups.items() for f in fields(kind) if f.name not in hints}  # type: ignore[arg-type]

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        given: dict[str, dict[str, Any]] = {group: {} for group in groups if group not in named}
        for name in [name for name in named if owner.get(name) in given]:
            given[owner[name]][name] = named.pop(name)
        return function(*arguments, **named, **{group: groups[group](**values) for group, values in given.items()})

    signature = inspect.signature(function)
    kept = [parameter for parameter in signature.parameters.values() if parameter.name not in groups]
    flat = [
        inspect.Parameter(
            f.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if f.default is MISSING else f.default,
            annotation=f.type,
        )
        for kind in groups.values()
        for f in fields(kind)  # type: ignore[arg-type]
        if f.name in owner
    ]
    call.__signature__ = signature.replace(parameters=[*kept, *flat])  # type: ignore[attr-defined]
    documented = [f"    {p.name}: {_help(groups[owner[p.name]], p.name)}" for p in flat]
    call.__doc__ = inspect.cleandoc(function.__doc__ or "") + "\n\nOptions:\n" + "\n".join(documented) + "\n"
    return call


def _help(group: type, name: str) -> str:
    return next(f.metadata["help"] for f in fields(group) if f.name == name)  # type: ignore[arg-type]
