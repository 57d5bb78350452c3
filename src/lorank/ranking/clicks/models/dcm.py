r"""Dependent click model: after a click at position k the user goes on with probability lambda_k, after none always.

    t_k(0) = 1,   t_k(1) = \lambda_k

in the chain of `lorank.ranking.clicks.core.chain`.

Paper: F. Guo, C. Liu and Y. Wang, Efficient Multiple-Click Models in Web Search, WSDM 2009.

*Deviations*: the paper maximises a lower bound (all below the last click counts as not examined); here EM maximises the
likelihood itself.
"""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.clicks.core.chain import ChainModel, Posterior
from lorank.ranking.clicks.core.model import click_model, ratio
from lorank.ranking.clicks.core.sessions import Sessions


@click_model("dcm", title="Dependent click model", aliases=("dependent-click",))
class DependentClick(ChainModel):
    """The dependent click model; ``going_on`` is lambda, float64 [k]."""

    going_on: np.ndarray

    def initialise(self, sessions: Sessions) -> None:
        """Begin with lambda of a half."""
        self.going_on = np.full(sessions.positions, 0.5)

    def continuation(self, k: int, pairs: np.ndarray, clicked: bool) -> np.ndarray:
        """Return lambda_k after a click and 1 after none."""
        return np.full(len(pairs), self.going_on[min(k, len(self.going_on) - 1)] if clicked else 1.0)

    def update_continuation(self, sessions: Sessions, posterior: Posterior) -> None:
        """Set lambda_k to the share of clicks at k after which the user went on; the last position has none below."""
        weight = sessions.counts[:, None] * sessions.clicks
        went_on, clicked = (weight * posterior.went_on).sum(0), (weight * posterior.examined).sum(0)
        self.going_on[:-1] = ratio(went_on, clicked)[:-1]

    def parameters(self) -> Mapping[str, Any]:
        """Return lambda."""
        return {"going_on": self.going_on.tolist()}

    @classmethod
    def of_relevance(cls, attraction: np.ndarray, positions: int, **options: Any) -> Self:
        """Return a model with lambda_k = going_on * (1 / k) ** eta."""
        made = cls()
        eta, first = float(options.pop("eta", 0.5)), float(options.pop("going_on", 0.9))
        if options:
            raise UsageError(f"the model {cls.name!r} has no option {next(iter(options))!r}; it has eta and going_on")
        made.going_on = first * np.arange(1, positions + 1) ** -eta
        made.attraction = np.append(attraction, attraction.mean() if len(attraction) else 0.5)
        return made
