r"""SF-OGD: a cut-off that follows a drifting stream so that it covers 1 - \alpha of it in the long run.

    s_{t+1} = s_t + \eta (e_t - \alpha) / \sqrt{\sum_{i <= t} (e_i - \alpha)^2},     e_t = 1[S_t > s_t],   \eta = D /
    \sqrt 3

S_t is the nonconformity of what came (minus the score of a query's relevant document), s_t the cut-off that was stated
before it came, D the range of S. It is online gradient descent on the pinball loss, whose gradient is \alpha - e_t, at
a scale-free rate. Nothing is assumed of how the stream came about.

Paper: A. Bhatnagar, H. Wang, C. Xiong and Y. Bai, Improved Online Conformal Prediction via Strongly Adaptive Online
Learning, ICML 2023; F. Orabona and D. Pal, Scale-free online learning, 2018.
"""

import math
from dataclasses import dataclass

from lorank.errors import UsageError


@dataclass
class SFOGD:
    """A cut-off under scale-free online gradient descent.

    Args:
        alpha: The share that may be missed, above 0 and below 1.
        scale: D, the range of the nonconformity, above 0.
        start: The first cut-off.

    >>> cutoff = SFOGD(alpha=0.1, scale=1.0)
    >>> cutoff.update(5.0)               # missed: the cut-off rises by D / sqrt(3), as the first step is scale-free
    >>> round(cutoff.value, 4)
    0.5774
    """

    alpha: float
    scale: float
    start: float = 0.0

    def __post_init__(self) -> None:
        check_level(self.alpha, self.scale)
        self.value, self._squares = self.start, 0.0

    def update(self, observed: float) -> None:
        """Move the cut-off after ``observed``, the nonconformity that came."""
        slope = float(observed > self.value) - self.alpha
        self._squares += slope * slope
        self.value += self.scale / math.sqrt(3) * slope / math.sqrt(self._squares)


def pinball(cutoff: float, observed: float, alpha: float) -> float:
    """Return the loss whose least expectation is at the 1 - alpha quantile.

    >>> round(pinball(1.0, 3.0, 0.1), 4), round(pinball(3.0, 1.0, 0.1), 4)
    (1.8, 0.2)
    """
    return (1 - alpha) * (observed - cutoff) if observed > cutoff else alpha * (cutoff - observed)


def check_level(alpha: float, scale: float) -> None:
    """Raise UsageError for a share outside of (0, 1), and a range that is not above 0."""
    if not (0 < alpha < 1 and 0 < scale < math.inf):
        raise UsageError(f"alpha lies between 0 and 1, scale above 0; got {alpha} and {scale}")
