"""Features on one scale, with a constant: what linear routers read."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scaling:
    """The mean and the deviation of each feature over the queries that a router learned from."""

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> "Scaling":
        """Return the scaling of features [queries, features]; a feature that does not vary stays at 0."""
        std = features.std(0)
        return cls(features.mean(0), np.where(std > 1e-12, std, np.inf))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Return scaled features with a constant 1 before them, float64 [queries, features + 1].

        >>> Scaling.of(np.array([[1.0, 5.0], [3.0, 5.0]]))(np.array([[3.0, 7.0]])).tolist()
        [[1.0, 1.0, 0.0]]
        """
        scaled = (features - self.mean) / self.std
        return np.concatenate([np.ones((len(features), 1)), scaled], 1)
