r"""Position-based model: whether a document is looked at depends on its position alone.

    P(c_k = 1) = \theta_k a_{q d}

with theta [k] the examination of positions and a the attraction of a (query, document) pair. Only products are
observed, so that the two are known up to one factor; ratios theta_k / theta_1 are the propensities. A log in which no
pair was seen at two positions cannot tell them apart.

Paper: N. Craswell et al., An Experimental Comparison of Click Position-Bias Models, WSDM 2008 (the examination
hypothesis); EM after T. Joachims et al., Unbiased Learning-to-Rank with Biased Feedback, WSDM 2017.
"""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.clicks.core.factor import FactorModel
from lorank.ranking.clicks.core.model import click_model


@click_model("pbm", title="Position-based click model", aliases=("position-based",))
class PositionBased(FactorModel):
    """The position-based model; ``examination`` is theta, float64 [k].

    >>> model = PositionBased.of_relevance(np.array([0.5, 0.2]), 2, eta=1.0)
    >>> model.examination.tolist()
    [1.0, 0.5]
    """

    def places(self, state: np.ndarray, k: int) -> np.ndarray:
        """Return the position; beyond those that were fitted, the last one."""
        return np.full(len(state), min(k, len(self.examination) - 1))

    def count_places(self, positions: int) -> int:
        """Return the number of positions."""
        return positions

    def merge(self, branches: list[tuple[np.ndarray, np.ndarray]]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return one branch: what happened above has no influence."""
        return [(np.sum([mass for mass, _ in branches], axis=0), branches[0][1])]

    def propensities(self) -> np.ndarray:
        """Return theta_k / theta_1, float64 [k]."""
        found: np.ndarray = self.examination / self.examination[0]
        return found

    def parameters(self) -> Mapping[str, Any]:
        """Return theta."""
        return {"examination": self.examination.tolist()}

    @classmethod
    def of_relevance(cls, attraction: np.ndarray, positions: int, **options: Any) -> Self:
        """Return a model with theta_k = (1 / k) ** eta, or the ``examination`` that is given."""
        made = cls()
        given = options.pop("examination", None)
        eta = float(options.pop("eta", 1.0))
        if options:
            raise UsageError(
                f"the model {cls.name!r} has no option {next(iter(options))!r}; it has eta and examination"
            )
        made.examination = np.arange(1, positions + 1) ** -eta if given is None else np.asarray(given, float)
        made.attraction = np.append(attraction, attraction.mean() if len(attraction) else 0.5)
        return made
