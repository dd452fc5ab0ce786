"""The former name of ``ddnb.checkpoints.formats``, for programs that were written for version 0.1."""

import warnings

from .checkpoints.formats import *  # noqa: F403

warnings.warn("ddnb.formats is now ddnb.checkpoints.formats", DeprecationWarning, stacklevel=2)
