"""ddnb: Dance Diffusion today. Short sounds from noise, from notebooks, Python or the command line."""

from __future__ import annotations

from .checkpoints.checkpoint import Checkpoint
from .checkpoints.conversion import convert, verify
from .checkpoints.loading import load
from .checkpoints.registry import list_checkpoints
from .clips.clip import Clip, Clips
from .clips.record import read_clip
from .errors import CheckpointError
from .export.pack import pack
from .generation.beat import Beat, beat, list_patterns
from .generation.extend import extend
from .generation.generate import generate
from .generation.inpaint import inpaint
from .generation.interpolate import interpolate
from .generation.remake import remake
from .generation.vary import vary, vary_folder
from .similarity.check import originality
from .similarity.report import Originality
from .training.loop import finetune
from .training.report import DatasetReport, check_dataset

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
