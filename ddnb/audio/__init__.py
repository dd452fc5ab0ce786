"""Sound files, and what is done to samples: reading, resampling, loops, pitch, trimming, WAV chunks. NumPy arrays only:
nothing here knows about networks or records.
"""

from .io import (
    CEILING_DBFS,
    NO_GAIN_DB,
    SUBTYPES,
    SUFFIXES,
    amplified,
    fit_length,
    opened,
    peak_dbfs,
    quantised,
    read,
    resample,
    sound_files,
    to_channels,
    write_wav,
)
from .loop import closed, fit_circle, from_strongest_onset, loop_frames, seam_db
from .mastering import apply, gains_db, start_frame, trimmed, true_peak_dbfs, widen
from .pitch import note_name, root_note

__all__ = [
    "CEILING_DBFS",
    "NO_GAIN_DB",
    "SUBTYPES",
    "SUFFIXES",
    "amplified",
    "apply",
    "closed",
    "fit_circle",
    "fit_length",
    "from_strongest_onset",
    "gains_db",
    "loop_frames",
    "note_name",
    "opened",
    "peak_dbfs",
    "quantised",
    "read",
    "resample",
    "root_note",
    "seam_db",
    "sound_files",
    "start_frame",
    "to_channels",
    "trimmed",
    "true_peak_dbfs",
    "widen",
    "write_wav",
]
