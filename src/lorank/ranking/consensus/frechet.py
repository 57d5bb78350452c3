"""Frechet means: predict the label that is nearest to all, by a metric on labels (Loki).

    y* = argmin_y sum_k P_k d(y, k)^2                       (power 2; power 1 gives the median)

With the 0-1 metric this is argmax P; with Kendall's distance between orders and power 1 it is Kemeny's rule.
Roberts et al. 2023, Geometry-Aware Adaptation for Pretrained Models, NeurIPS, arXiv 2307.12226.
"""

import numpy as np

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.ranking.consensus.profile import Floats, Integers


@catalogued(
    "loki-frechet",
    area="aggregate",
    title="Geometry-Aware Adaptation for Pretrained Models",
    reach=(
        "Python alone: it takes probabilities over labels and distances between them, which no run or ranking holds"
    ),
)
def frechet_mean(probabilities: Floats, distances: Floats, *, power: float = 2.0) -> Integers:
    """Return the index of the label nearest to all, int64 [...]; the first of several.

    Args:
        probabilities: [..., k], over the k labels that were observed.
        distances: [labels, k], from every label that may be predicted to the observed ones.
        power: Of the distances.

    >>> path = np.abs(np.arange(3)[:, None] - np.array([0, 2]))       # label 1 was never observed
    >>> int(frechet_mean(np.array([0.5, 0.5]), path))
    1
    """
    probabilities, distances = np.asarray(probabilities, np.float64), np.asarray(distances, np.float64)
    if distances.ndim != 2 or probabilities.shape[-1:] != distances.shape[1:]:
        raise UsageError(
            f"distances {distances.shape} do not fit probabilities {probabilities.shape}; give [labels, k] and [..., k]"
        )
    if (probabilities < 0).any() or (distances < 0).any():
        raise UsageError("probabilities and distances are never below 0")
    return np.asarray(np.argmin(probabilities @ (distances**power).T, axis=-1))
