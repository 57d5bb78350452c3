r"""TAILOR: which way of choosing serves best is learned from the labels that come, by Thompson sampling.

    reward of a label of class c:   r = 1 / (classes^2 * share of c among all labels so far), at most 1
    strategy k:                     \theta_k ~ Beta(1 + \sum r, 1 + \sum (1 - r)) over the labels that it asked for
    each place of a batch goes to the strategy with the largest draw

so that on imbalanced data, where relevant documents are rare, the strategies that find them are used.

Paper: Zhang, Shao, Verma, Nowak 2023, *Algorithm Selection for Deep Active Learning with Imbalanced Datasets*,
arXiv:2302.07317.

*Deviations*: classes are relevant (a grade above 0) and not relevant. The paper draws one label's strategy after
another within a round from the same posterior, as here; rewards are capped at 1 so that a Beta fits.
"""

from collections.abc import Sequence

import numpy as np

from lorank.errors import UsageError
from lorank.registration import catalogued

CLASSES = 2


@catalogued(
    "tailor",
    area="active",
    title="Algorithm Selection for Deep Active Learning with Imbalanced Datasets",
    reach="lorank label --strategy tailor --judged FILE; it proposes what to judge and trains nothing, so no recipe",
)
class Tailor:
    """A choice among strategies that learns from the labels of what each has asked for.

    >>> tailor = Tailor(["by-score", "at-random"])
    >>> for _ in range(30):
    ...     tailor.learn("by-score", True)
    ...     tailor.learn("at-random", False)
    ...     tailor.learn("at-random", False)
    >>> tailor.draw(100, np.random.default_rng(0)).count("by-score") > 80
    True
    """

    def __init__(self, strategies: Sequence[str]) -> None:
        if not strategies or len(set(strategies)) != len(strategies):
            raise UsageError("give the names of the strategies, one or more, each once")
        self.strategies = list(strategies)
        self.labels: list[tuple[int, bool]] = []

    def learn(self, strategy: str, relevant: bool) -> None:
        """Take in the label of a document that ``strategy`` asked for; of an unknown one it counts for shares alone."""
        at = self.strategies.index(strategy) if strategy in self.strategies else -1
        self.labels.append((at, bool(relevant)))

    def posterior(self) -> np.ndarray:
        """Return the two numbers of each strategy's Beta, float64 [strategies, 2]."""
        found = np.ones((len(self.strategies), 2))
        total = len(self.labels)
        counts = {kind: sum(label is kind for _, label in self.labels) for kind in (True, False)}
        for at, label in self.labels:
            if at >= 0:
                reward = min(1.0, total / (CLASSES * counts[label]) / CLASSES)
                found[at] += reward, 1 - reward
        return found

    def draw(self, count: int, rng: np.random.Generator) -> list[str]:
        """Return the strategy of each place of a batch of ``count``."""
        a, b = self.posterior().T
        draws = rng.beta(a, b, size=(count, len(a)))
        return [self.strategies[i] for i in draws.argmax(1).tolist()]
