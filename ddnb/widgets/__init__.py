"""Players, pictures, progress bars, training views and the Studio, for notebooks.

Only widgets common to ipywidgets 7.7.1 (Colab) and 8 (JupyterLab) are used.
"""

from __future__ import annotations

from .colab import download, drive_folder, record_microphone, upload
from .jobs import Jobs, Progress
from .players import Player, Snapshots, dataset_player, draw_grids, draw_seam, player
from .sequencer import Sequencer, draw_beat
from .studio import Studio, studio
from .training import curve, demos, follow, train

__all__ = [
    "Jobs",
    "Player",
    "Progress",
    "Sequencer",
    "Snapshots",
    "Studio",
    "curve",
    "dataset_player",
    "demos",
    "download",
    "draw_beat",
    "draw_grids",
    "draw_seam",
    "drive_folder",
    "follow",
    "player",
    "record_microphone",
    "studio",
    "train",
    "upload",
]
