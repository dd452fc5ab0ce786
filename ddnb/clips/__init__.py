"""Clips: audio with its provenance, input audio, and the records that are saved beside a sound. Knows no verb."""

from .clip import Clip, Clips
from .record import read_clip
from .source import AnySound, Source, source_of

__all__ = ["AnySound", "Clip", "Clips", "Source", "read_clip", "source_of"]
