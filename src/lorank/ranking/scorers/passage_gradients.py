r"""Long documents in training: the score of a document that is read in passages, with its gradient.

    max:    s(q, d) = \max_p s(q, d_p)               ds = ds(q, d_p*),  p* = \arg\max_p s(q, d_p)
    mean:   s(q, d) = \frac{1}{n} \sum_p s(q, d_p)   ds = \frac{1}{n} \sum_p ds(q, d_p)

The gradient of the best passage's score is all that training needs, so that passages are first scored without one, in
batches, and only the best of each document is read with it. The mean keeps every passage of a batch in memory.

Paper: Dai & Callan 2019, Deeper Text Understanding for IR with Contextual Neural Language Modeling, arXiv:1905.09217.

*Deviations*: the paper trains each passage with its document's label and aggregates in ranking alone; here what is
trained is the aggregate, by which documents are ranked. Where dropout is on, the best passage is the one without it.
"""

import numpy as np
import torch
from torch import Tensor


def best_passages(scores: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Return the row of the best passage of each owner, the first of equals.

    Args:
        scores: The scores [passages].
        owner: The int64 [passages] owner of each, ascending from 0 without gaps.

    >>> best_passages(np.array([1.0, 3.0, 2.0, 2.0]), np.array([0, 0, 1, 1])).tolist()
    [1, 2]
    """
    begins = np.searchsorted(owner, np.arange(owner[-1] + 1))
    best = np.maximum.reduceat(scores, begins)
    rows = np.flatnonzero(scores == best[owner])
    return rows[np.searchsorted(owner[rows], np.arange(len(begins)))]


def mean_passages(values: Tensor, owner: np.ndarray) -> Tensor:
    """Return the mean of the values [passages, ...] of each owner, with its gradient; ``owner`` ascends from 0.

    >>> mean_passages(torch.tensor([1.0, 3.0, 2.0]), np.array([0, 0, 1])).tolist()
    [2.0, 2.0]
    """
    counts = torch.from_numpy(np.bincount(owner)).to(values)
    sums = values.new_zeros(len(counts), *values.shape[1:])
    sums = sums.index_add(0, torch.from_numpy(owner).to(values.device), values)
    return sums / counts.reshape(-1, *(1,) * (values.dim() - 1))
