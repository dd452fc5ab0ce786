"""Clips: audio with its provenance, input audio, and the records that are saved beside a sound. Knows no verb."""

from .clip import Clip, Clips
from .provenance import Provenance
from .source import AnySound, input_clip, read_clip

__all__ = ["AnySound", "Clip", "Clips", "Provenance", "input_clip", "read_clip"]
