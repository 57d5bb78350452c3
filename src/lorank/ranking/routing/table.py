"""What each arm gave for each query, and what it cost: the table that routers learn from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lorank.errors import UsageError


@dataclass(frozen=True)
class RoutingTable:
    """The quality and the cost of every arm for every query, with what is known of the queries beforehand.

    Attributes:
        arms: The names of the arms.
        features: What is known of each query, float64 [queries, features].
        quality: What each arm gives, float64 [queries, arms].
        cost: What each arm costs, float64 [arms] or [queries, arms].
    """

    arms: Sequence[str]
    features: np.ndarray
    quality: np.ndarray
    cost: np.ndarray

    def __post_init__(self) -> None:
        shape = (len(self.features), len(self.arms))
        if self.quality.shape != shape or self.cost.shape not in (shape, shape[1:]):
            raise UsageError(
                f"quality {self.quality.shape} and cost {self.cost.shape} do not fit {shape[0]} queries and {shape[1]} "
                "arms"
            )
        for name in ("features", "quality", "cost"):
            if not np.isfinite(getattr(self, name)).all():
                raise UsageError(f"{name} holds a number that is NaN or infinite")
        if not all(shape):
            raise UsageError("a table needs a query and an arm")

    def __len__(self) -> int:
        return len(self.features)

    @property
    def costs(self) -> np.ndarray:
        """The cost of every arm for every query, float64 [queries, arms]."""
        return np.broadcast_to(self.cost, self.quality.shape)

    def utility(self, price: float) -> np.ndarray:
        """Return quality - price * cost, float64 [queries, arms]."""
        return np.asarray(self.quality - price * self.costs)

    def oracle(self, price: float) -> np.ndarray:
        """Return the best arm of each query, int64 [queries]; of equal ones the cheaper.

        >>> quality = np.array([[1.0, 1.0], [0.2, 0.9]])
        >>> table = RoutingTable(["none", "dense"], np.zeros((2, 1)), quality, np.array([0.0, 1.0]))
        >>> table.oracle(0.1).tolist(), table.oracle(0.0).tolist(), table.oracle(5.0).tolist()
        ([0, 1], [0, 1], [0, 0])
        """
        return np.lexsort((self.costs, -self.utility(price)), axis=1)[:, 0]

    def best_single(self, price: float) -> int:
        """Return the one arm that serves all queries best."""
        return int(self.utility(price).mean(0).argmax())

    def mean(self, arms: np.ndarray, price: float) -> dict[str, float]:
        """Return the mean quality, cost and utility of a choice of arms int64 [queries]."""
        at = np.arange(len(self)), arms
        parts = {"quality": self.quality, "cost": self.costs, "utility": self.utility(price)}
        return {name: float(values[at].mean()) for name, values in parts.items()}

    def of(self, queries: np.ndarray) -> "RoutingTable":
        """Return the table of some of the queries."""
        cost = self.cost if self.cost.ndim == 1 else self.cost[queries]
        return RoutingTable(self.arms, self.features[queries], self.quality[queries], cost)
