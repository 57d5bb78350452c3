r"""User browsing model: the examination of a position depends on where the last click above it was.

    P(c_k = 1 | clicks above) = \gamma_{k, r} a_{q d},   r = position of the last click above k, 0 for none

with gamma [k, r] for r < k.

Paper: G. Dupret and B. Piwowarski, A User Browsing Model to Predict Search Engine Click Data from Past Observations,
SIGIR 2008.
"""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.clicks.core.factor import FactorModel
from lorank.ranking.clicks.core.model import click_model


@click_model("ubm", title="User browsing model", aliases=("user-browsing",))
class UserBrowsing(FactorModel):
    """The user browsing model; ``examination`` holds gamma row by row, [k * (k + 1)]."""

    width: int = 0

    def places(self, state: np.ndarray, k: int) -> np.ndarray:
        """Return the number of (k, r)."""
        k = min(k, self.width - 1)
        found: np.ndarray = k * (self.width + 1) + np.minimum(state, k)
        return found

    def count_places(self, positions: int) -> int:
        """Return the number of pairs of a position and an earlier one, those that cannot be included."""
        self.width = positions
        return positions * (positions + 1)

    def merge(self, branches: list[tuple[np.ndarray, np.ndarray]]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return one branch for each position of the last click."""
        merged: dict[int, np.ndarray] = {}
        for mass, state in branches:
            for last in np.unique(state):
                there = np.where(state == last, mass, 0.0)
                merged[int(last)] = merged.get(int(last), 0.0) + there
        return [(mass, np.full(len(mass), last)) for last, mass in merged.items()]

    def gamma(self) -> np.ndarray:
        """Return gamma [k, r], NaN where r is not above k."""
        table = self.examination.reshape(self.width, self.width + 1)[:, : self.width].copy()
        table[np.triu_indices(self.width, 1)] = np.nan
        return table

    def parameters(self) -> Mapping[str, Any]:
        """Return gamma as rows of growing length."""
        return {"examination": [row[: k + 1].tolist() for k, row in enumerate(self.gamma())]}

    @classmethod
    def of_relevance(cls, attraction: np.ndarray, positions: int, **options: Any) -> Self:
        """Return a model with gamma_{k, r} = (1 / (k - r)) ** eta."""
        made = cls()
        eta = float(options.pop("eta", 1.0))
        if options:
            raise UsageError(f"the model {cls.name!r} has no option {next(iter(options))!r}; it has eta")
        made.examination = np.full(made.count_places(positions), 0.5)
        for k in range(positions):
            for last in range(k + 1):
                made.examination[k * (positions + 1) + last] = (k + 1 - last) ** -eta
        made.attraction = np.append(attraction, attraction.mean() if len(attraction) else 0.5)
        return made
