"""ddnb: Dance Diffusion today. Short sounds from noise, from notebooks, Python or the command line."""

from .beats import Beat, beat, list_patterns
from .checkpoints import Checkpoint, convert, list_checkpoints, load, verify
from .clips import Clip, Clips
from .copies import Originality, originality
from .doctor import DatasetReport, check_dataset
from .edits import extend, inpaint
from .formats import CheckpointError
from .interpolation import interpolate
from .packs import pack
from .records import read_clip, remake
from .training import finetune
from .verbs import generate, vary, vary_folder

__all__ = [
    "Beat",
    "Checkpoint",
    "CheckpointError",
    "Clip",
    "Clips",
    "DatasetReport",
    "Originality",
    "beat",
    "check_dataset",
    "convert",
    "extend",
    "finetune",
    "generate",
    "inpaint",
    "interpolate",
    "list_checkpoints",
    "list_patterns",
    "load",
    "originality",
    "pack",
    "read_clip",
    "remake",
    "vary",
    "vary_folder",
    "verify",
]
