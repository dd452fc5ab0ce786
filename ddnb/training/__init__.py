"""Training and fine-tuning: data sets and reports on them, the trainer, the resumable loop and its folder.

It must not import ``ddnb.export``, ``ddnb.widgets`` or ``ddnb.cli``.
"""

from .config import TrainingConfig
from .loop import CONFIGS, TrainingStep, finetune, from_scratch

__all__ = ["CONFIGS", "TrainingConfig", "TrainingStep", "finetune", "from_scratch"]
