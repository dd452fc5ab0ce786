"""What notebooks show: players, pictures, progress, training, the Studio. The only part that knows about a screen.

Only widgets that ipywidgets 7.7.1 (Colab) and 8 (JupyterLab) have in common are used.
"""

from .colab import drive_folder, hand_over, record, upload
from .following import curve, demos, follow
from .jobs import Jobs, Progress
from .panel import Studio, studio
from .players import (
    Player,
    Snapshots,
    clips_html,
    dataset_html,
    dataset_player,
    draw_grids,
    draw_seam,
    originality_html,
    player,
)
from .sequencer import Sequencer, draw_beat

__all__ = [
    "Jobs",
    "Player",
    "Progress",
    "Sequencer",
    "Snapshots",
    "Studio",
    "clips_html",
    "curve",
    "dataset_html",
    "dataset_player",
    "demos",
    "draw_beat",
    "draw_grids",
    "draw_seam",
    "drive_folder",
    "follow",
    "hand_over",
    "originality_html",
    "player",
    "record",
    "studio",
    "upload",
]
