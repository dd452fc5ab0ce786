"""Independent answers to compare with: closed forms, and k-diffusion's samplers."""

import importlib
import importlib.util
import struct
import sys
import types
from functools import cache

import numpy as np
import pytest
import torch

from ddnb.checkpoints.checkpoint import Checkpoint


def gaussian_v(scale):
    """The exact v of data that are independent Gaussians of standard deviation ``scale``.

    ``D = alpha S^2 x / (alpha^2 S^2 + sigma^2)`` and ``E = sigma x / (alpha^2 S^2 + sigma^2)``, so
    ``v = alpha sigma (1 - S^2) x / (alpha^2 S^2 + sigma^2)``, and the exact path is
    ``x(t) = x(1) sqrt(alpha^2 S^2 + sigma^2)``.
    """

    def v(x, t):
        phi = t.double().view(-1, 1, 1) * torch.pi / 2
        a, s = phi.cos(), phi.sin()
        return (a * s * (1 - scale**2) / (a**2 * scale**2 + s**2) * x.double()).to(x)

    return v


def gaussian_path(scale, t):
    """``sqrt(alpha^2 S^2 + sigma^2)``: how large the exact path is at ``t``, where it is 1 at t = 1."""
    phi = torch.as_tensor(t, dtype=torch.float64) * torch.pi / 2
    return (phi.cos() ** 2 * scale**2 + phi.sin() ** 2).sqrt()


def process_v(spectrum):
    """The exact v of a stationary Gaussian process on a circle: white noise, times ``spectrum`` line by line.

    As above for each line, (T / 2 + 1,): the lines of its transform are independent.
    """
    square = torch.as_tensor(spectrum, dtype=torch.float64).square()

    def v(x, t):
        phi = t.double().view(-1, 1, 1) * torch.pi / 2
        a, s = phi.cos(), phi.sin()
        gain = a * s * (1 - square) / (a**2 * square + s**2)
        return torch.fft.irfft(gain * torch.fft.rfft(x.double()), x.shape[-1]).to(x)

    return v


class Toy:
    """A network that is a formula, ``v(x, t)``."""

    def __init__(self, v, channels=1, stride=8, anchored=False):
        self.v, self.anchored, self.config = v, anchored, self
        self.single_threaded, self.tones, self.sampling = True, None, ("iplms", 25)
        self.channels, self.stride, self.min_loop_frames, self.min_frames = channels, stride, 2 * stride, 3 * stride

    def legal_frames(self, frames):
        return max(-(-frames // self.stride) * self.stride, self.min_frames)

    def __call__(self, x, t, cond=None, circular=False):
        if x.shape[-1] % self.stride or x.shape[-1] < (self.min_loop_frames if circular else self.min_frames):
            raise ValueError(f"{x.shape[-1]} frames")
        return self.v(x, t)


def toy(v, *, channels=1, sample_rate=8000, frames=256, stride=8, anchored=False, **info):
    """A checkpoint of such a network."""
    info = {"name": "toy", "source": "toy.ckpt", "weights_sha256": "0" * 64, "licence": "CC0"} | info
    net = Toy(v, channels, stride, anchored)
    return Checkpoint(net, sample_rate, frames, torch.device("cpu"), torch.float32, info)


@cache
def k_sampling():
    """k-diffusion's ``sampling`` module alone: its package imports wandb, CLIP and torchvision."""
    if (spec := importlib.util.find_spec("k_diffusion")) is None:
        pytest.skip("k-diffusion is not installed")
    package, utils = types.ModuleType("k_diffusion"), types.ModuleType("k_diffusion.utils")
    package.__path__, package.utils = list(spec.submodule_search_locations), utils
    utils.append_dims = lambda x, n: x[(...,) + (None,) * (n - x.ndim)]
    sys.modules |= {"k_diffusion": package, "k_diffusion.utils": utils}
    missing = {name: types.ModuleType(name) for name in ("torchdiffeq", "torchsde") if name not in sys.modules}
    for module in missing.values():  # used by samplers that are not compared
        module.odeint = None
    sys.modules |= missing
    sampling = importlib.import_module("k_diffusion.sampling")
    for name in missing:  # diffusers looks for torchsde, too
        del sys.modules[name]
    return sampling


def k_denoiser(model):
    """A v-model as k-diffusion wants it: variance exploding, called with sigma."""

    def denoise(x, sigma):
        c_in = 1 / (sigma**2 + 1) ** 0.5
        v = model(x * c_in.view(-1, 1, 1), torch.atan(sigma) * 2 / torch.pi)
        return x * c_in.view(-1, 1, 1) ** 2 - v * (sigma * c_in).view(-1, 1, 1)

    return denoise


def true_peak(audio, loop=False):
    """The largest magnitude between the samples too, dB re full scale: eight times as many, by the Fourier transform.

    Of a loop that is exact; any other sound has silence around it, so that it does not ring into its own beginning.
    """
    padded = audio if loop else np.pad(audio, [(0, 0), (1000, 1000)])
    frames = padded.shape[-1]
    between = 8 * np.fft.irfft(np.fft.rfft(padded.astype(np.float64)), 8 * frames)
    return 20 * np.log10(np.abs(between).max())


def riff_chunks(path):
    """The chunks of a file, by name, as the standard says they lie; fails where sizes or paddings are wrong."""
    content = path.read_bytes()
    riff, size, kind = struct.unpack("<4sI4s", content[:12])
    assert (riff, kind, size) == (b"RIFF", b"WAVE", len(content) - 8)
    place, found = 12, {}
    while place < len(content):
        name, size = struct.unpack("<4sI", content[place : place + 8])
        assert name not in found and place + 8 + size <= len(content)
        found[name] = content[place + 8 : place + 8 + size]
        place += 8 + size + size % 2
    assert place == len(content)
    return found


def wav_promises(path):
    """The numbers of a WAV file's loop and of its tempo; None where it has none."""
    found = riff_chunks(path)
    loop = struct.unpack("<15I", found[b"smpl"]) if b"smpl" in found else None
    song = struct.unpack("<IHHfIHHf", found[b"acid"]) if b"acid" in found else None
    return loop, song
