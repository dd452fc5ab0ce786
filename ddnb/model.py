"""The former name of ``ddnb.nets.unet``, for programs that were written for version 0.1."""

import warnings

from .nets.unet import *  # noqa: F403

warnings.warn("ddnb.model is now ddnb.nets.unet", DeprecationWarning, stacklevel=2)
