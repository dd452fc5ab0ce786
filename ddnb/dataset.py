"""The former name of ``ddnb.training.dataset``, for programs that were written for version 0.1."""

import warnings

from .training.dataset import *  # noqa: F403

warnings.warn("ddnb.dataset is now ddnb.training.dataset", DeprecationWarning, stacklevel=2)
