r"""SAOCP: many SF-OGD cut-offs of different ages, weighted by what each gained; it covers in every stretch of a stream.

At each time t an expert is born that lives for L(t) = g 2^n, 2^n the largest power of two that divides t. With the
prior \pi_i = i^{-2} (1 + \lfloor \log_2 i \rfloor)^{-1} of the expert born at i,

    s_t = \sum_i p_i s_t^i,   p_i ~ \pi_i [w_i]_+  (\pi_i where all w are 0 or below)
    g_i = (l(s_t) - l(s_t^i)) / D,  cut off at 0 from below while w_i <= 0;   l the pinball loss
    w_i <- (\sum_j g_{ij}) (1 + \sum_j w_{ij} g_{ij}) / (age of i)

Paper: A. Bhatnagar, H. Wang, C. Xiong and Y. Bai, Improved Online Conformal Prediction via Strongly Adaptive Online
Learning, ICML 2023.

*Deviations*: an expert begins at the cut-off that stands when it is born, not at 0, so that a young one is never a
jump.
"""

from dataclasses import dataclass, field

from lorank.catalogue import catalogued
from lorank.ranking.calibration.sf_ogd import SFOGD, check_level, pinball

LIFETIME = 8
"""The factor g of an expert's lifetime."""


@dataclass
class _Expert:
    born: int
    dies: int
    cutoff: SFOGD
    weight: float = 0.0
    gains: float = 0.0
    bets: float = 0.0


@catalogued(
    "saocp",
    area="robust",
    title="Improved Online Conformal Prediction via Strongly Adaptive Online Learning",
    reach="no training run, so no recipe key: lorank calibrate RANKER --coverage-at 0.9 --stream saocp",
)
@dataclass
class SAOCP:
    """A cut-off that is strongly adaptive: it covers 1 - alpha of every long enough stretch.

    Args:
        alpha: The share that may be missed, above 0 and below 1.
        scale: D, the range of the nonconformity, above 0.
        start: The first cut-off.

    >>> cutoff = SAOCP(alpha=0.1, scale=1.0)
    >>> for _ in range(50):
    ...     cutoff.update(0.5)
    >>> 0.5 <= cutoff.value < 0.9
    True
    """

    alpha: float
    scale: float
    start: float = 0.0
    _experts: list[_Expert] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        check_level(self.alpha, self.scale)
        self.value, self._time = self.start, 0
        self._begin()

    def update(self, observed: float) -> None:
        """Move the cut-off after ``observed``, the nonconformity that came."""
        loss = pinball(self.value, observed, self.alpha)
        for expert in self._experts:
            gain = (loss - pinball(expert.cutoff.value, observed, self.alpha)) / self.scale
            gain = gain if expert.weight > 0 else max(gain, 0.0)
            expert.gains += gain
            expert.bets += expert.weight * gain
            expert.weight = expert.gains * (1 + expert.bets) / (self._time - expert.born + 1)
            expert.cutoff.update(observed)
        self._begin()

    def _begin(self) -> None:
        """Let the next step begin: the old leave, one is born, and the cut-off is combined."""
        self._time += 1
        life = LIFETIME * (self._time & -self._time)
        self._experts = [expert for expert in self._experts if expert.dies > self._time]
        newborn = SFOGD(self.alpha, self.scale, self.value)
        self._experts.append(_Expert(self._time, self._time + life, newborn))
        shares = [_prior(expert.born) * max(expert.weight, 0.0) for expert in self._experts]
        if sum(shares) <= 0:
            shares = [_prior(expert.born) for expert in self._experts]
        total = sum(shares)
        self.value = (
            sum(share * expert.cutoff.value for share, expert in zip(shares, self._experts, strict=True)) / total
        )


def _prior(born: int) -> float:
    return 1 / (born * born * born.bit_length())
