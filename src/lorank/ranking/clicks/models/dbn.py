r"""Dynamic Bayesian network model: a clicked document satisfies with s, and who is not satisfied goes on with gamma.

    t_k(0) = \gamma,   t_k(1) = \gamma (1 - s_{q d})

in the chain of `lorank.ranking.clicks.core.chain`. EM also has the hidden satisfaction S:
P(S = 1 | clicked and stopped) = s / (s + (1 - s) (1 - gamma)). The relevance of a pair is a s.

Paper: O. Chapelle and Y. Zhang, A Dynamic Bayesian Network Click Model for Web Search Ranking, WWW 2009.
"""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.clicks.core.chain import ChainModel, Posterior
from lorank.ranking.clicks.core.model import LEAST, click_model, ratio
from lorank.ranking.clicks.core.sessions import Sessions


@click_model("dbn", title="Dynamic Bayesian network click model", aliases=("dynamic-bayesian",))
class DynamicBayesian(ChainModel):
    """The dynamic Bayesian model; ``gamma`` is one number, ``satisfaction`` float64 [pairs + 1]."""

    gamma: float = 0.9
    satisfaction: np.ndarray

    def initialise(self, sessions: Sessions) -> None:
        """Begin with satisfactions of a half and gamma .9."""
        self.gamma, self.satisfaction = 0.9, np.full(len(self.names) + 1, 0.5)

    def continuation(self, k: int, pairs: np.ndarray, clicked: bool) -> np.ndarray:
        """Return gamma (1 - s) after a click and gamma after none."""
        if not clicked:
            return np.full(len(pairs), self.gamma)
        goes: np.ndarray = self.gamma * (1 - self.satisfaction[pairs])
        return goes

    def update_continuation(self, sessions: Sessions, posterior: Posterior) -> None:
        """Set s and gamma; the last position says nothing of them, as nothing lies below it."""
        inner = np.arange(sessions.positions) < sessions.positions - 1
        weight = sessions.counts[:, None] * inner
        here = weight * posterior.examined
        on = weight * posterior.went_on
        stopped = here - on
        clicked = sessions.clicks & sessions.mask
        s = self.satisfaction[sessions.pairs]
        content = np.where(clicked, ratio(s, s + (1 - s) * (1 - self.gamma)) * stopped, 0.0)
        chose = here - content
        self.gamma = float(on.sum() / max(chose.sum(), LEAST))
        at, size = sessions.pairs[clicked], len(self.names)
        yes, all_of = np.bincount(at, content[clicked], size), np.bincount(at, here[clicked], size)
        mean = yes.sum() / max(all_of.sum(), LEAST)
        self.satisfaction[:-1] = ratio(yes + self.smoothing * mean, all_of + self.smoothing, mean)
        self.satisfaction[-1] = mean

    def relevance(self) -> dict[str, dict[str, float]]:
        """Return a s of each pair, by query and document."""
        found: dict[str, dict[str, float]] = {}
        values = (self.attraction * self.satisfaction)[:-1].tolist()
        for (query, document), value in zip(self.names, values, strict=True):
            found.setdefault(query, {})[document] = value
        return found

    def parameters(self) -> Mapping[str, Any]:
        """Return gamma."""
        return {"gamma": self.gamma}

    @classmethod
    def of_relevance(cls, attraction: np.ndarray, positions: int, **options: Any) -> Self:
        """Return a model with the given gamma, and s = ``satisfaction`` times the attraction."""
        made = cls()
        made.gamma, share = float(options.pop("gamma", 0.9)), float(options.pop("satisfaction", 0.8))
        if options:
            raise UsageError(
                f"the model {cls.name!r} has no option {next(iter(options))!r}; it has gamma and satisfaction"
            )
        made.attraction = np.append(attraction, attraction.mean() if len(attraction) else 0.5)
        made.satisfaction = share * made.attraction
        return made
