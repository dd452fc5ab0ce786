"""Sound files, and what is done to samples: reading, resampling, loops, pitch, trimming, WAV chunks. NumPy arrays only:
nothing here knows about networks or records.
"""

from .channels import to_channels
from .io import (
    CEILING_DBFS,
    NO_GAIN_DB,
    SUBTYPES,
    amplify,
    fit_length,
    peak_dbfs,
    quantise,
    read,
    resample,
    write_wav,
)
from .listing import SUFFIXES, sound_files
from .loop import close_loop, fit_circle, from_strongest_onset, loop_frames, seam_db
from .mastering import apply_edit, find_trim, gains_db, start_frame, true_peak_dbfs, widen
from .notes import note_name
from .pitch import root_note
from .reading import open_sound

__all__ = [
    "CEILING_DBFS",
    "NO_GAIN_DB",
    "SUBTYPES",
    "SUFFIXES",
    "amplify",
    "apply_edit",
    "close_loop",
    "find_trim",
    "fit_circle",
    "fit_length",
    "from_strongest_onset",
    "gains_db",
    "loop_frames",
    "note_name",
    "open_sound",
    "peak_dbfs",
    "quantise",
    "read",
    "resample",
    "root_note",
    "seam_db",
    "sound_files",
    "start_frame",
    "to_channels",
    "true_peak_dbfs",
    "widen",
    "write_wav",
]
