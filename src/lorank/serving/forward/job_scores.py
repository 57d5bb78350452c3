"""What the rows of one job come to."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class JobScores:
    """What one job's rows gave: scores float32 [documents], tokens read, and bool [documents] of cut ones."""

    scores: np.ndarray
    tokens: int
    cut: np.ndarray
