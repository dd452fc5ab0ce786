"""What a training of the built-in network knows of its sounds before the first step, and after the last.

Before: the components, found among the sounds. The training keeps them, and so learns what they lack. After: the same,
with levels corrected by what the trained network makes of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..checkpoints.checkpoint import Checkpoint
from ..nets.prior import PRIOR, TONES
from ..steps import Event
from .batches import Piece
from .calibration import Wanted
from .dataset import Dataset
from .fit import calibrated, find_components
from .starting import load_full_precision

_WANTED, _CORRECTED = "wanted.", "corrected."  # what their names begin with in a saved state


@dataclass
class Fitting:
    """The components of a network in training; empty for a network that is not fitted.

    Attributes:
        components: those that were found among the sounds.
        wanted: the levels of the sounds of each category, by its number.
        corrected: the components after ``calibrate``; empty before.
    """

    components: dict[str, Tensor] = field(default_factory=dict)
    wanted: dict[int, Wanted] = field(default_factory=dict)
    corrected: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def find(cls, ckpt: Checkpoint, new_categories: int, data: Dataset, pieces: Sequence[Piece]) -> Fitting:
        """Find the components among sounds, as ``fit`` does."""
        exact = load_full_precision(ckpt)
        state = exact.net.with_planes(exact.net.state_dict(), new_categories)
        found = find_components(exact, {name: value.cpu() for name, value in state.items()}, data, pieces)
        return cls(_components(found.state), found.wanted)

    @classmethod
    def of(cls, saved: Mapping[str, Tensor]) -> Fitting:
        """Return what ``tensors`` returned before; empty for the state of an older version."""
        labels: dict[int, dict[int, Tensor]] = {}
        for name, value in saved.items():
            if name.startswith(_WANTED):
                label, part = map(int, name.removeprefix(_WANTED).split("."))
                labels.setdefault(label, {})[part] = value.clone()
        wanted = {label: Wanted.of(*(parts[i] for i in sorted(parts))) for label, parts in labels.items()}
        corrected = {name.removeprefix(_CORRECTED): v for name, v in saved.items() if name.startswith(_CORRECTED)}
        # copies: a file that is still mapped cannot be replaced on Windows
        return cls(_copied(_components(saved)) if wanted else {}, wanted, _copied(corrected))

    def tensors(self) -> dict[str, Tensor]:
        """Return what a resumed run needs."""
        wanted = {
            f"{_WANTED}{label}.{part}": value
            for label, levels in self.wanted.items()
            for part, value in enumerate(levels.tensors())
        }
        return self.components | wanted | {_CORRECTED + name: value for name, value in self.corrected.items()}

    def calibrate(
        self,
        ckpt: Checkpoint,
        state: Mapping[str, Tensor],
        categories: Sequence[str],
        thorough: bool,
        cancel: Event | None,
    ) -> None:
        """Correct the levels by what the network makes of them.

        Args:
            ckpt: the start of the training.
            state: the trained weights.
            categories: their names.
            thorough: see ``calibration``.
            cancel: stops it where it is set.

        Raises:
            Cancelled: stopped before all sounds were made; nothing was changed.
        """
        exact = {name: value.float() for name, value in state.items()} | self.components
        self.corrected = _components(calibrated(ckpt, exact, categories, self.wanted, thorough, cancel).state_dict())

    @contextlib.contextmanager
    def in_network(self, net: nn.Module) -> Iterator[None]:
        """Put the corrected components into a network while the context lasts."""
        buffers = {name: buffer for name, buffer in net.named_buffers() if name in self.corrected}
        before = {name: buffer.clone() for name, buffer in buffers.items()}
        try:
            _copy(self.corrected, buffers)
            yield
        finally:
            _copy(before, buffers)


@torch.no_grad()
def _copy(values: Mapping[str, Tensor], buffers: Mapping[str, Tensor]) -> None:
    for name, buffer in buffers.items():
        buffer.copy_(values[name])


def _copied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in state.items()}


def _components(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if name.startswith((PRIOR, TONES))}
