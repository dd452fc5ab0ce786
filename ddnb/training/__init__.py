"""Training and fine-tuning: data sets and the report on them, the trainer, the resumable loop and its folder."""

from .config import Recipe
from .loop import CONFIGS, Record, finetune, from_scratch

__all__ = ["CONFIGS", "Recipe", "Record", "finetune", "from_scratch"]
