"""Make short sounds by diffusion with Dance Diffusion's networks, in notebooks, Python or on the command line."""

from __future__ import annotations

import os

# Waiting threads of OpenMP spin by default, which slows everything else on the machine. Read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from .checkpoints.blend import blend
from .checkpoints.checkpoint import Checkpoint
from .checkpoints.conversion import convert, verify
from .checkpoints.loading import load
from .checkpoints.registry import list_checkpoints
from .clips.clip import Clip, Clips
from .clips.source import read_clip
from .errors import (
    ArgumentError,
    AudioError,
    Cancelled,
    CheckpointError,
    DatasetError,
    DdnbError,
    RecordError,
    RunError,
)
from .export.pack import pack
from .generation.beat import Beat, beat, list_patterns
from .generation.extend import extend
from .generation.generate import generate
from .generation.inpaint import inpaint
from .generation.interpolate import interpolate
from .generation.keybed import keybed
from .generation.remake import remake
from .generation.vary import vary, vary_folder
from .similarity.check import originality
from .similarity.report import Originality
from .training.distill import distill
from .training.fit import fit
from .training.loop import finetune
from .training.report import DatasetReport, check_dataset

__all__ = [
    "ArgumentError",
    "AudioError",
    "Beat",
    "Cancelled",
    "Checkpoint",
    "CheckpointError",
    "Clip",
    "Clips",
    "DatasetError",
    "DatasetReport",
    "DdnbError",
    "Originality",
    "RecordError",
    "RunError",
    "beat",
    "blend",
    "check_dataset",
    "convert",
    "distill",
    "extend",
    "finetune",
    "fit",
    "generate",
    "inpaint",
    "interpolate",
    "keybed",
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
