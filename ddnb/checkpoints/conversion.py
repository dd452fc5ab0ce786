"""Convert checkpoints to other formats, and verify them against published numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..errors import ArgumentError
from ..files import expand
from ..nets.spectral import SpectralUNet
from ..runtime import DTYPES
from ..sampler import sampler
from ..schedule import time_grid
from ..steps import seeded_noise
from .checkpoint import weights_sha256
from .download import OnProgress
from .formats import write_diffusers, write_lightning, write_safetensors
from .loading import load
from .registry import list_checkpoints, unknown_checkpoint


def convert(source: str | Path, target: str | Path, *, dtype: str = "float32", **stated: Any) -> Path:
    """Write a checkpoint in another format, for other tools or to reduce its size.

    Args:
        source: anything that ``load`` takes.
        target: a new ``.safetensors`` (our own format), a new ``.ckpt`` (trimmed; the original code opens it), or a new
            folder (diffusers). The community states the format in the name, ``name_RATE_FRAMES.ckpt``.
        dtype: ``"float32"`` or ``"float16"`` (half the size).
        stated: ``sample_rate`` and ``frames``, as for ``load``.

    Returns:
        The path that was written.

    Raises:
        FileExistsError: the target exists already.
        ArgumentError: an unknown suffix or precision, or a network that the format cannot hold.
        CheckpointError, FileNotFoundError: as for ``load``.
    """
    target = expand(target)
    if target.exists():
        raise FileExistsError(f"{target} exists already; remove it or choose another name.")
    if target.suffix not in ("", ".safetensors", ".ckpt"):
        raise ArgumentError(
            f"{target.name}: end it in .safetensors or .ckpt, or give a folder (no suffix) for diffusers."
        )
    if dtype not in ("float32", "float16"):
        raise ArgumentError(f"dtype={dtype!r}: a file holds 'float32' or 'float16'.")
    ckpt = load(source, device="cpu", dtype=dtype, **stated)
    state = ckpt.net.state_dict()
    if isinstance(ckpt.net, SpectralUNet):
        if target.suffix != ".safetensors":
            raise ArgumentError(
                f"{ckpt.name} is a network of ddnb's own kind, which no other tool opens: use .safetensors."
            )
        state = {name: tensor.to(DTYPES[dtype]) for name, tensor in state.items()}
    facts = ckpt.info | {"sample_rate": ckpt.sample_rate, "frames": ckpt.frames}
    facts |= {"converted_from": Path(str(source)).name, "weights_sha256": weights_sha256(state)}
    if target.suffix == ".safetensors":
        write_safetensors(target, state, facts)
    elif target.suffix == ".ckpt":
        write_lightning(target, state, facts)
    else:
        write_diffusers(target, state, facts, ckpt.net.config)  # type: ignore[arg-type]
    return target


def verify(name: str, *, full: bool = False, on_progress: OnProgress | None = None) -> list[dict[str, Any]]:
    """Check a published checkpoint against the numbers published for it.

    Args:
        name: a name of the registry.
        full: also generate the published sample (100 steps; minutes on a CPU).
        on_progress: as for ``load``.

    Returns:
        One dictionary per check: ``what``, ``expected``, ``got``, ``tolerance``, ``ok``. Empty if nothing is published.

    Raises:
        CheckpointError: unknown name, or weights that cannot be downloaded.
    """
    if name not in list_checkpoints():
        raise unknown_checkpoint(name)
    ckpt = load(name, device="cpu", dtype="float32", on_progress=on_progress)
    published = list_checkpoints()[name].get("fingerprint", {})
    checks = []
    if sine := published.get("sine"):
        x = torch.arange(sine["frames"], dtype=torch.float32).sin().expand(1, ckpt.channels, -1)
        v = ckpt(x, torch.tensor([float(sine["t"])])).abs()
        for what, got in (("sum_abs_v", v.sum().item()), ("max_abs_v", v.max().item())):
            checks.append(_check(f"{what} of a sine", got, *sine[what]))
    if full and (wanted := published.get("sample")):
        noise = seeded_noise([wanted["seed"]], (ckpt.channels, wanted["frames"]))
        x = sampler(wanted["sampler"])(ckpt, noise, time_grid("crash", wanted["steps"]))
        for channel, values in enumerate(wanted["last"]):
            for value, got in zip(values, x[0, channel, -len(values) :].tolist(), strict=True):
                checks.append(_check(f"end of channel {channel}", got, value, wanted["tolerance"]))
    return checks


def _check(what: str, got: float, expected: float, tolerance: float) -> dict[str, Any]:
    ok = abs(got - expected) <= tolerance
    return {"what": what, "expected": expected, "got": got, "tolerance": tolerance, "ok": ok}
