"""ddnb: Dance Diffusion today. Short sounds from noise, from notebooks, Python or the command line."""

from .checkpoints import Checkpoint, convert, list_checkpoints, load, verify
from .formats import CheckpointError
from .training import finetune
from .verbs import Clip, Clips, generate, remake

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "Clip",
    "Clips",
    "convert",
    "finetune",
    "generate",
    "list_checkpoints",
    "load",
    "remake",
    "verify",
]
