"""The tensors that a resumed training needs: weights, their average, and the moments of AdamW."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .ema import Ema


def collect_tensors(
    trainable: Mapping[str, nn.Parameter], ema: Ema, optimizer: torch.optim.AdamW
) -> tuple[dict[str, Tensor], float]:
    """Return the tensors by name, not copied, and the number of updates that AdamW has made."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in trainable.items():
        tensors |= {f"weight.{name}": parameter, f"average.{name}": ema.values[name]}
        if moments := optimizer.state.get(parameter):  # there are none before the first update
            tensors |= {f"first.{name}": moments["exp_avg"], f"second.{name}": moments["exp_avg_sq"]}
    return tensors, next((float(moments["step"]) for moments in optimizer.state.values()), 0.0)


@torch.no_grad()
def restore_tensors(
    tensors: Mapping[str, Tensor],
    updates: float,
    trainable: Mapping[str, nn.Parameter],
    ema: Ema,
    optimizer: torch.optim.AdamW,
) -> None:
    """Write what ``collect_tensors`` returned back into weights, average and optimizer."""
    for name, parameter in trainable.items():
        parameter.copy_(tensors[f"weight.{name}"])
        ema.values[name].copy_(tensors[f"average.{name}"])
        if updates:
            optimizer.state[parameter] = {
                "step": torch.tensor(updates, device=parameter.device),
                "exp_avg": tensors[f"first.{name}"].to(parameter.device, copy=True),
                "exp_avg_sq": tensors[f"second.{name}"].to(parameter.device, copy=True),
            }
