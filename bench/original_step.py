"""The training step and the dataset of the original, to compare ours with. Needs Lightning: pip install lightning."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import soundfile
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    import lightning

LEARNING_RATE = 4e-5


def original_module(net: nn.Module) -> lightning.LightningModule:
    """Return Harmonai's training step (sample-generator, train_uncond.py, MIT), written from its description.

    Adam at 4e-5 with torch's defaults, uniform times from a scrambled Sobol sequence, the crash schedule, the squared
    error of v, and an average of a copy of the network at every update, decay 0.95 in the first 25 epochs, then 0.995.
    """
    import lightning

    class Original(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.diffusion = net
            self.diffusion_ema = copy.deepcopy(net).requires_grad_(False)
            self.sobol = torch.quasirandom.SobolEngine(1, scramble=True)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.diffusion.parameters(), lr=LEARNING_RATE)

        def training_step(self, clips: Tensor, _: int) -> Tensor:
            sigma = torch.sin(self.sobol.draw(len(clips))[:, 0].to(clips) * math.pi / 2) ** 2
            t = torch.atan2(sigma, (1 - sigma**2).sqrt()) * 2 / math.pi
            alpha, sigma = (f(t * math.pi / 2)[:, None, None] for f in (torch.cos, torch.sin))
            noise = torch.randn_like(clips)
            output = self.diffusion(clips * alpha + noise * sigma, t)
            v = getattr(output, "sample", output)  # diffusers wraps its output
            loss = nn.functional.mse_loss(v, noise * alpha - clips * sigma)
            self.log_dict({"train/loss": loss.detach()}, prog_bar=True, on_step=True)
            return loss

        @torch.no_grad()
        def on_before_zero_grad(self, *_: Any) -> None:
            decay = 0.95 if self.current_epoch < 25 else 0.995
            for average, weight in zip(self.diffusion_ema.parameters(), self.diffusion.parameters(), strict=True):
                average.mul_(decay).add_(weight, alpha=1 - decay)
            for kept, buffer in zip(self.diffusion_ema.buffers(), self.diffusion.buffers(), strict=True):
                kept.copy_(buffer)

    return Original()


class OriginalDataset(torch.utils.data.Dataset):
    """A dataset that reads a whole file for every item, crops it at random and inverts its polarity with p = 0.5."""

    def __init__(self, folder: Path, frames: int) -> None:
        self.frames = frames
        self.paths = sorted(folder.glob("*.wav"))

    def __len__(self) -> int:
        return 100_000  # one epoch, whatever the length of the measurement

    def __getitem__(self, index: int) -> Tensor:
        audio = torch.from_numpy(soundfile.read(self.paths[index % len(self.paths)], dtype="float32")[0].T)
        start = int(torch.randint(0, audio.shape[1] - self.frames + 1, ()))
        return audio[:, start : start + self.frames] * (-1 if torch.rand(()) < 0.5 else 1)
