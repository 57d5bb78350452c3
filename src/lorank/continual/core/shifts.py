r"""When a stream of losses has left what it was: a detector at so many standard deviations.

    z_t = (l_t - mean) / sd;   a shift once z > ``sigmas`` at ``patience`` losses in a row

mean and sd are those of the losses since the last shift (Welford's recursion), which an outlying loss does not join.
With Gaussian noise and 3 sigmas one false alarm is due in 4e8 losses at a patience of 3.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lorank.errors import UsageError


@dataclass
class ShiftDetector:
    """The detector, which takes one loss at a time.

    Args:
        sigmas: How many standard deviations are a deviation, above 0.
        patience: How many deviations in a row are a shift, 1 or more.
        least: How many losses are learned from before any counts, 2 or more.

    >>> detector = ShiftDetector(least=4)
    >>> [detector.see(loss) for loss in [1.0, 1.1, 0.9, 1.0, 1.1, 5.0, 5.0, 5.0]].index(True)
    7
    """

    sigmas: float = 3.0
    patience: int = 3
    least: int = 10
    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    run: int = 0

    def __post_init__(self) -> None:
        if not (self.sigmas > 0 and math.isfinite(self.sigmas)) or self.patience < 1 or self.least < 2:
            raise UsageError(
                f"sigmas {self.sigmas!r}, patience {self.patience!r} and least {self.least!r} must be above 0, from 1 "
                "up and from 2 up"
            )

    @property
    def deviation(self) -> float:
        """The standard deviation of the losses that were learned from."""
        return math.sqrt(self.squares / (self.count - 1)) if self.count > 1 else 0.0

    def see(self, loss: float) -> bool:
        """Take a loss, and return whether it completes a shift; the detector then begins anew."""
        if self.count >= self.least and loss > self.mean + self.sigmas * max(self.deviation, 1e-12):
            self.run += 1
            if self.run >= self.patience:
                self.count, self.mean, self.squares, self.run = 0, 0.0, 0.0, 0
                return True
            return False
        self.run = 0
        self.learn(loss)
        return False

    def learn(self, loss: float) -> None:
        """Take a loss as one of what is usual."""
        self.count += 1
        step = loss - self.mean
        self.mean += step / self.count
        self.squares += step * (loss - self.mean)


def shift_of_means(usual: Sequence[float], seen: Sequence[float]) -> float:
    """Return by how many standard errors the mean of ``seen`` losses is above that of the ``usual`` ones.

    The deviation is that of the usual losses; with fewer than two of them nothing is unusual.

    >>> round(shift_of_means([1.0, 1.2, 0.8, 1.0], [1.5, 1.5, 1.5, 1.5]), 2)
    4.33
    """
    if len(usual) < 2 or not seen:
        return 0.0
    error = float(np.std(usual, ddof=1)) * math.sqrt(1 / len(usual) + 1 / len(seen))
    return float(np.mean(seen) - np.mean(usual)) / max(error, 1e-12)
