"""Add tones to a trained network: ``python -m recipe.tune RUN/last.safetensors drums.safetensors``.

The weights stay as they are; the components of ``ddnb.nets.harmonics.Tones`` are fitted to sounds of known pitch, in
some minutes. It needs the files of ``make dataset``.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import torch

from ddnb.checkpoints.checkpoint import Checkpoint, weights_sha256
from ddnb.checkpoints.formats import write_safetensors
from ddnb.checkpoints.loading import load
from ddnb.nets.envelopes import HOP
from ddnb.nets.prior import IMPOSSIBLE, TONES
from ddnb.nets.spectral import SpectralUNet
from ddnb.training.components import describe_all, find_tones, put

from .data import CATEGORIES, load_prepared
from .prepare import FILE, NOTES_FILE
from .tonal import NOTES, Tonal, gather

COMPONENTS = 384
"""Of all categories with a pitch together."""

_KEPT = ("name", "licence", "credit", "data_sha256", "training", "peak_dbfs")


def add_tones(net: SpectralUNet, components: int) -> SpectralUNet:
    """Return a network with the same weights and room for this number of components."""
    tuned = SpectralUNet(replace(net.config, tones=components)).requires_grad_(False)
    tuned.load_state_dict(tuned.state_dict() | net.state_dict())
    return tuned


def fit_tones(net: SpectralUNet, sounds: Tonal, held: Collection[int] = (), seed: int = 0) -> None:
    """Set the components of a network's tones to those of sounds, equally many for each category that has any.

    Args:
        net: a network with ``tones``.
        sounds: at the level of the network's training data.
        held: the categories that last as long as the asked sound.
    """
    state, present = net.state_dict(), sounds.labels.unique().tolist()
    state[TONES + "log_shares"].fill_(IMPOSSIBLE)
    state[TONES + "held"].fill_(0)[list(held)] = sounds.x.shape[-1] // HOP
    for label in present:
        mine, generator = sounds.labels == label, torch.Generator().manual_seed(seed + label)
        most = net.config.tones // len(present)
        described = describe_all(net.config, sounds.x[mine], sounds.pitch[mine])
        state = put(state, TONES, label, find_tones(described, sounds.pitch[mine], most, generator))
    net.load_state_dict(state)


def main() -> None:
    """Open the network, fit its tones, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained", help="the network, a path or a name")
    parser.add_argument("out", type=Path, help="the file to write")
    parser.add_argument("--data", type=Path, default=Path("build"), help="folder of make dataset (default: build)")
    given = parser.parse_args()
    ckpt = load(given.trained, device="cpu", dtype="float32")
    net = add_tones(ckpt.net, COMPONENTS)
    sounds = gather(load_prepared(given.data / FILE), load_prepared(given.data / NOTES_FILE))
    print(f"{len(sounds.x)} sounds of known pitch")
    fit_tones(net, sounds, held=[CATEGORIES.index(category) for category in NOTES])
    write(given.out, ckpt, net)


def write(path: Path, ckpt: Checkpoint, net: SpectralUNet) -> None:
    """Write a network that was made from a checkpoint."""
    state = {name: value.to(torch.float16) for name, value in net.state_dict().items()}
    facts = {key: value for key, value in ckpt.info.items() if key in _KEPT}
    facts |= {"sample_rate": ckpt.sample_rate, "frames": ckpt.frames, "categories": list(ckpt.categories)}
    write_safetensors(path, state, facts | {"weights_sha256": weights_sha256(state)})


if __name__ == "__main__":
    main()
