"""ddnb: Dance Diffusion today. Short sounds from noise, from notebooks, Python or the command line."""

from .checkpoints import Checkpoint, convert, list_checkpoints, load, verify
from .clips import Clip, Clips
from .doctor import DatasetReport, check_dataset
from .formats import CheckpointError
from .training import finetune
from .verbs import generate, remake

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "Clip",
    "Clips",
    "DatasetReport",
    "check_dataset",
    "convert",
    "finetune",
    "generate",
    "list_checkpoints",
    "load",
    "remake",
    "verify",
]
