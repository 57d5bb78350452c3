r"""Cascade model: the user reads from the top until the first click, and stops there.

    t_k(0) = 1,   t_k(1) = 0

in the chain of `lorank.ranking.clicks.core.chain`. A second click of a session has probability 0; fitting reads a
session down to its first click, where the maximum of the likelihood is clicks over views.

Paper: N. Craswell et al., An Experimental Comparison of Click Position-Bias Models, WSDM 2008.
"""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.clicks.core.chain import ChainModel, Posterior
from lorank.ranking.clicks.core.model import click_model
from lorank.ranking.clicks.core.sessions import Sessions


@click_model("cascade", title="Cascade click model")
class Cascade(ChainModel):
    """The cascade model, which has no parameters but attractions."""

    def continuation(self, k: int, pairs: np.ndarray, clicked: bool) -> np.ndarray:
        """Return 0 after a click and 1 after none."""
        return np.full(len(pairs), 0.0 if clicked else 1.0)

    def update_continuation(self, sessions: Sessions, posterior: Posterior) -> None:
        """There is nothing to update."""

    def posterior(self, sessions: Sessions) -> Posterior:
        """Return that all down to the first click was examined, and nothing below it."""
        before = np.cumsum(sessions.clicks, 1) - sessions.clicks
        examined = (before == 0).astype(np.float64)
        return Posterior(examined, examined * ~sessions.clicks)

    def parameters(self) -> Mapping[str, Any]:
        """Return nothing."""
        return {}

    @classmethod
    def of_relevance(cls, attraction: np.ndarray, positions: int, **options: Any) -> Self:
        """Return a model with the given attractions."""
        if options:
            raise UsageError(f"the model {cls.name!r} has no option {next(iter(options))!r}; it has none")
        made = cls()
        made.attraction = np.append(attraction, attraction.mean() if len(attraction) else 0.5)
        return made
