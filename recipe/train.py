"""Train the embedded default: ``python -m recipe.train RUN``; the same command resumes it until it is done.

All settings are in ``recipe/default.json``. It needs the file of ``make dataset`` and the packages torch, numpy, scipy,
safetensors, accelerate and tqdm, on a CPU as on a GPU. The result is ``RUN/last.safetensors``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ddnb.checkpoints.checkpoint import weights_sha256
from ddnb.checkpoints.formats import write_safetensors
from ddnb.checkpoints.loading import load
from ddnb.nets.spectral import SpectralConfig, SpectralUNet
from ddnb.training.dataset import Dataset
from ddnb.training.loop import finetune

from .data import CATEGORIES, FRAMES, SAMPLE_RATE
from .pool import load_pool
from .prior import fit_prior

CREDIT = (
    "Trained on procedural sounds and on recordings: Sonic Pi samples (CC0), Fluid R3 GM by Frank Wen (MIT), "
    "rumpf_kit by Rumpf (CC BY 3.0)"
)


class Deadline:
    """A ``cancel`` event that is set after some minutes."""

    def __init__(self, minutes: float) -> None:
        self.end = time.monotonic() + 60 * minutes

    def is_set(self) -> bool:
        return time.monotonic() >= self.end


def write_start(path: Path, wanted: dict, data: Dataset, name: str) -> None:
    """Write the untrained network with its prior fitted to the data."""
    shape: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in wanted["network"].items()}
    envelopes = wanted["envelopes_per_category"] * len(CATEGORIES)
    torch.manual_seed(wanted["pool"]["seed"])
    net = SpectralUNet(SpectralConfig(**shape, planes=len(CATEGORIES), envelopes=envelopes))
    fit_prior(net, data, wanted["pool"]["seed"])
    facts = {"name": name, "sample_rate": SAMPLE_RATE, "frames": FRAMES, "categories": list(CATEGORIES)}
    facts |= {"licence": wanted["training"]["licence"], "credit": CREDIT}
    facts["weights_sha256"] = weights_sha256(net.state_dict())
    write_safetensors(path, net.state_dict(), facts)


def main() -> None:
    """Train, or resume, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of the run; the checkpoint has its name")
    parser.add_argument("--minutes", type=float, default=1e6, help="stop after this time; the same command resumes")
    parser.add_argument("--config", type=Path, default=Path(__file__).with_name("default.json"))
    parser.add_argument("--data", type=Path, default=Path("build/default_data.npz"))
    parser.add_argument(
        "--pool", type=Path, default=Path("build/pool"), help="folder that keeps the sounds once they are made"
    )
    parser.add_argument("--device")
    parser.add_argument("--steps", type=int, help="replaces the number in the config")
    parser.add_argument("--batch-size", type=int, help="replaces the number in the config; fixed for a run")
    given = parser.parse_args()
    deadline = Deadline(given.minutes)
    wanted = json.loads(given.config.read_text(encoding="utf-8"))
    data = load_pool(given.pool, given.data, **wanted["pool"])
    shape = {k: v for k, v in wanted.items() if k != "training"}
    digest = hashlib.sha256(json.dumps([shape, data.fingerprint]).encode()).hexdigest()[:8]
    first = given.run.with_name(f"{given.run.name}-start-{digest}.safetensors")
    if not first.is_file():
        first.parent.mkdir(parents=True, exist_ok=True)
        write_start(first, wanted, data, given.run.name)
    settings = wanted["training"] | {k: v for k in ("steps", "batch_size") if (v := getattr(given, k)) is not None}
    ckpt = load(first, device=given.device)
    with tqdm(total=settings["steps"], unit="step", mininterval=10, smoothing=0.01) as bar:
        for record in finetune(ckpt, data, given.run, cancel=deadline, **settings):
            bar.update(record.step - bar.n)
            if record.validation_loss is not None:
                bar.write(f"step {record.step}: validation loss {record.validation_loss:.4f}")


if __name__ == "__main__":
    main()
