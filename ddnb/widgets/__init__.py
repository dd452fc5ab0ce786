"""What notebooks show: players, pictures, progress, training, the Studio. The only part that knows about a screen.

Only widgets that ipywidgets 7.7.1 (Colab) and 8 (JupyterLab) have in common are used.
"""

from __future__ import annotations

from .colab import drive_folder, hand_over, record, upload
from .jobs import Jobs, Progress
from .players import Player, Snapshots, dataset_player, draw_grids, draw_seam, player
from .sequencer import Sequencer, draw_beat
from .studio import Studio, studio
from .training import curve, demos, follow

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
    "draw_beat",
    "draw_grids",
    "draw_seam",
    "drive_folder",
    "follow",
    "hand_over",
    "player",
    "record",
    "studio",
    "upload",
]
