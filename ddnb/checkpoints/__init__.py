"""Checkpoints: from a name, a file or a link to a network ready to call, and back to a file. Imports the networks and
the diffusion core; knows nothing of clips and verbs.
"""

from .checkpoint import Checkpoint, weights_sha256
from .conversion import convert, verify
from .loading import load
from .registry import list_checkpoints

__all__ = ["Checkpoint", "convert", "list_checkpoints", "load", "verify", "weights_sha256"]
