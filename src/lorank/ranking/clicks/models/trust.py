r"""Trust bias: an irrelevant document is clicked too, the more readily the higher it stands.

    P(c_k = 1) = \alpha_k a_{q d} + \beta_k (1 - a_{q d})

with alpha_k = theta_k eps+_k the clicks on relevant and beta_k = theta_k eps-_k those on other documents [k]. EM has
one hidden bit, the relevance of the shown document: P(R = 1 | c = 1) = alpha a / (alpha a + beta (1 - a)).

Paper: A. Agarwal et al., Addressing Trust Bias for Unbiased Learning-to-Rank, WWW 2019; the affine form after
A. Vardasbi et al., When Inverse Propensity Scoring does not Work, CIKM 2020.

*Deviations*: theta and eps enter clicks only by their products, which are what is estimated. The attraction here is a
probability of relevance of each showing, not of the document once and for all.
"""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.clicks.core.model import ClickModel, click_model, ratio
from lorank.ranking.clicks.core.sessions import Sessions


@click_model("trust", title="Position-based click model with trust bias", aliases=("trust-pbm",))
class TrustBias(ClickModel):
    """The model; ``alpha`` and ``beta`` are float64 [k]."""

    alpha: np.ndarray
    beta: np.ndarray

    def start(self, rows: int) -> np.ndarray:
        """Return a state that says nothing."""
        return np.zeros(rows)

    def probability(self, state: np.ndarray, k: int, pairs: np.ndarray) -> np.ndarray:
        """Return alpha a + beta (1 - a)."""
        k = min(k, len(self.alpha) - 1)
        a = self.attraction[pairs]
        chance: np.ndarray = self.alpha[k] * a + self.beta[k] * (1 - a)
        return chance

    def observe(
        self, state: np.ndarray, k: int, pairs: np.ndarray, clicks: np.ndarray, shown: np.ndarray
    ) -> np.ndarray:
        """Return the state as it is."""
        return state

    def initialise(self, sessions: Sessions) -> None:
        """Begin with relevant documents clicked more than others, and less further down."""
        fall = 1 / (1 + 0.1 * np.arange(sessions.positions))
        self.alpha, self.beta = 0.9 * fall, 0.1 * fall

    def improve(self, sessions: Sessions) -> None:
        """Take one step of EM."""
        a = self.attraction[sessions.pairs]
        yes, no = self.alpha * a, self.beta * (1 - a)
        skipped_yes, skipped_no = (1 - self.alpha) * a, (1 - self.beta) * (1 - a)
        relevant = np.where(sessions.clicks, ratio(yes, yes + no), ratio(skipped_yes, skipped_yes + skipped_no))
        weight = sessions.counts[:, None] * sessions.mask
        clicked = weight * sessions.clicks
        self.alpha = ratio((clicked * relevant).sum(0), (weight * relevant).sum(0))
        self.beta = ratio((clicked * (1 - relevant)).sum(0), (weight * (1 - relevant)).sum(0))
        self.update_attraction(sessions, relevant, np.ones_like(relevant))

    def click_weights(self) -> np.ndarray:
        """Return what a click at each position is worth, P(R = 1 | click) / alpha_k at the mean attraction, [k]."""
        mean = self.attraction[-1]
        worth: np.ndarray = mean / np.maximum(self.alpha * mean + self.beta * (1 - mean), 1e-9)
        return worth

    def parameters(self) -> Mapping[str, Any]:
        """Return alpha and beta."""
        return {"alpha": self.alpha.tolist(), "beta": self.beta.tolist()}

    @classmethod
    def of_relevance(cls, attraction: np.ndarray, positions: int, **options: Any) -> Self:
        """Return a model with theta_k = (1 / k) ** eta, eps+ = 1 - (k + 1) / 100 and eps- = trust / k."""
        made = cls()
        eta, trust = float(options.pop("eta", 1.0)), float(options.pop("trust", 0.65))
        if options:
            raise UsageError(f"the model {cls.name!r} has no option {next(iter(options))!r}; it has eta and trust")
        k = np.arange(1, positions + 1)
        made.alpha = k**-eta * np.maximum(1 - (k + 1) / 100, 0.1)
        made.beta = k**-eta * trust / k
        made.attraction = np.append(attraction, attraction.mean() if len(attraction) else 0.5)
        return made
