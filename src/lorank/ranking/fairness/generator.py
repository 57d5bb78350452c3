"""Rankings of a chosen unfairness, to see what a measure says of them.

At each place a coin falls on the protected group with probability f; when a group is used up, the other fills the
rest. f = 1 puts the protected first, f = 0 last; their share in all is fair.

Paper: K. Yang and J. Stoyanovich, Measuring Fairness in Ranked Outputs, SSDBM 2017.

*Deviations*: the published docstring calls f = 1 fair; by its own code it is protected-first, as here.
"""

import numpy as np

from lorank.errors import UsageError


def generate_ranking(protected: int, others: int, f: float, rng: np.random.Generator) -> np.ndarray:
    """Return an order, bool [protected + others], True where an item is protected.

    >>> generate_ranking(2, 3, 1.0, np.random.default_rng(0)).tolist()
    [True, True, False, False, False]
    """
    if not 0 <= f <= 1 or min(protected, others) < 0:
        raise UsageError(f"f lies between 0 and 1, and counts are 0 or more; got {f}, {protected} and {others}")
    coins = rng.random(protected + others) < f
    order, left = [], [others, protected]
    for coin in coins.tolist():
        side = int(coin) if left[int(coin)] else 1 - int(coin)
        left[side] -= 1
        order.append(bool(side))
    return np.array(order)
