r"""LTRR: arms are ranked for each query as documents are, by a ranker of feature rows.

    row of (q, a):  (x_q, one-hot a)        label:  u(q, a) - \min_b u(q, b),   u = quality - price * cost

Any model and any loss of the learning-to-rank trainer do it: pointwise (``mse``), pairwise (``ranknet``), listwise
(``softmax``, ``lambda``), trees where they are installed. An arm that retrieves nothing is an arm like any other.

Paper: Kim, Diaz 2025, *LTRR: Learning To Rank Retrievers for LLMs*, arXiv:2506.13743.

*Deviations*: the paper's label is the gain over no retrieval, ours that over the query's worst arm, which differs by a
constant per query and is not below 0; features of what arms retrieved are part of x_q where the caller gives them.
"""

from pathlib import Path
from typing import Any

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.routing.router import Router, router
from lorank.ranking.routing.table import RoutingTable
from lorank.ranking.scorers.features import FeatureLists, feature_model
from lorank.registration import catalogued

MODEL = "model"


@router("ltrr")
@catalogued(
    "ltrr",
    area="route",
    title="LTRR: Learning To Rank Retrievers for LLMs",
    reach="lorank route train --method ltrr; routing trains no ranker of documents, so it has no recipe",
)
class RankerRouter(Router):
    """A ranker over arms.

    Args:
        model: A feature model: mlp, linear, boosted, lightgbm, ...
        loss: The loss, of models that take one; None is the model's own.
        seed: The seed of the model.
    """

    def __init__(self, model: str = "mlp", loss: str | None = None, seed: int = 0) -> None:
        self.model, self.loss, self.seed = model, loss, seed
        self.ranker: Any = feature_model(model, seed=seed)
        if loss is not None and not getattr(self.ranker, "takes_loss", True):
            raise UsageError(f"loss={loss!r}: {model} learns by an objective of its own; leave the loss out")

    def fit(self, table: RoutingTable, price: float, rng: np.random.Generator) -> None:
        """Learn the order of the arms; a fifth of the queries decides when to stop."""
        utility = table.utility(price)
        self.arms, self.price = len(table.arms), price
        order = rng.permutation(len(table))
        held = max(1, len(table) // 5)
        parts = (order[held:], order[:held]) if len(table) >= 10 else (order, order)
        lists = [self._lists(table.features[at], utility[at] - utility[at].min(1, keepdims=True)) for at in parts]
        more = {} if self.loss is None else {"loss": self.loss}
        self.ranker.fit(*lists, **more)

    def _lists(self, features: np.ndarray, labels: np.ndarray) -> FeatureLists:
        queries, arms = len(features), self.arms
        rows = np.concatenate([np.repeat(features, arms, 0), np.tile(np.eye(arms), (queries, 1))], 1)
        return FeatureLists(
            rows.astype(np.float32), labels.reshape(-1).astype(np.float32), np.arange(queries + 1) * arms
        )

    def choose(self, features: np.ndarray, price: float) -> np.ndarray:
        """Return the arm that is ranked first; the price must be the one that was learned with."""
        if abs(price - self.price) > 1e-9:
            raise UsageError(f"this router learned with price {self.price:g}, not {price:g}; train it with that price")
        lists = self._lists(features, np.zeros((len(features), self.arms)))
        return np.asarray(self.ranker.score_lists(lists).reshape(len(features), self.arms).argmax(1))

    def state(self) -> dict[str, np.ndarray]:
        """Return the number of arms and the price; the model has a folder of its own."""
        return {"arms": np.array([self.arms]), "price": np.array([self.price])}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Restore what ``state`` gave."""
        self.arms, self.price = int(state["arms"][0]), float(state["price"][0])

    def save(self, folder: Path) -> None:
        """Write the model beside the arrays."""
        super().save(folder)
        self.ranker.save(folder / MODEL)

    def load(self, folder: Path) -> None:
        """Read what ``save`` wrote."""
        super().load(folder)
        self.ranker = type(self.ranker).load(folder / MODEL)
