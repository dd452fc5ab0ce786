"""Training in several processes, by Hugging Face's ``accelerate``."""

from __future__ import annotations

import datetime
import hashlib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import RunError

if TYPE_CHECKING:
    from accelerate import Accelerator


def start_accelerator() -> Accelerator:
    """Set up ``accelerate`` for one process or for plain data parallelism.

    Raises:
        RunError: it is configured for another kind of parallelism.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs

    timeout = InitProcessGroupKwargs(timeout=datetime.timedelta(hours=2))  # while one process makes demos
    buffers = DistributedDataParallelKwargs(broadcast_buffers=False)  # the network's buffers are constant filters
    accelerator = Accelerator(device_placement=False, mixed_precision="no", kwargs_handlers=[timeout, buffers])
    if (kind := accelerator.distributed_type.value) not in ("NO", "MULTI_GPU", "MULTI_CPU"):
        raise RunError(f"accelerate is configured for {kind}: ddnb trains with plain data parallelism only.")
    return accelerator


def gather(accelerator: Accelerator, value: int, device: torch.device) -> Tensor:
    """Return the values of all processes; all must call it."""
    return accelerator.gather(torch.tensor([value], device=device))


def agree(accelerator: Accelerator, device: torch.device, *values: Any) -> bool:
    """Return whether all processes pass the same values; all must call it."""
    digest = int(hashlib.sha256(repr(values).encode()).hexdigest()[:15], 16)
    return len(set(gather(accelerator, digest, device).tolist())) == 1


def is_set_anywhere(accelerator: Accelerator, device: torch.device, flag: bool) -> bool:
    """Return whether the flag is set in any process; all must call it."""
    return flag if accelerator.num_processes == 1 else bool(gather(accelerator, flag, device).any())
