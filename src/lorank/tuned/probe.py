"""A probe: fixed texts scored through a ranker with whatever module it is given."""

import copy
from typing import Any

import numpy as np
from torch import nn

from lorank.ranking.scorers.ranker import TrainableRanker


class Probe:
    """Score a few fixed pairs with whatever module is given, through the ranker's own path."""

    def __init__(self, ranker: TrainableRanker) -> None:
        self.ranker = ranker

    def __call__(self, module: nn.Module) -> np.ndarray:
        """Return float32 scores [n]."""
        ranker: Any = copy.copy(self.ranker)
        ranker.module = module
        if hasattr(ranker, "adapted"):
            ranker.adapted = "both"  # the context without the adapter is of the ranker's own module, not of this one
        return np.asarray(ranker.probe())
