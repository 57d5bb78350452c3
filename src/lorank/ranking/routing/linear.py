"""Routers that are one weight vector per arm over scaled features, learned at one price."""

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.routing.router import Router
from lorank.ranking.routing.scaling import Scaling


class LinearRouter(Router):
    """Chooses argmax_a w_a^T x_q; ``fit`` sets ``weights`` [arms, features], ``scaling`` and ``price``."""

    weights: np.ndarray
    scaling: Scaling
    price: float

    def choose(self, features: np.ndarray, price: float) -> np.ndarray:
        """Return the arm of the highest score; the price must be the one that was learned with."""
        if abs(price - self.price) > 1e-9:
            raise UsageError(f"this router learned with price {self.price:g}, not {price:g}; train it with that price")
        return np.asarray((self.scaling(features) @ self.weights.T).argmax(1))

    def state(self) -> dict[str, np.ndarray]:
        """Return the weights, the scaling and the price."""
        return {
            "weights": self.weights,
            "mean": self.scaling.mean,
            "std": self.scaling.std,
            "price": np.array([self.price]),
        }

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Restore what ``state`` gave."""
        self.scaling = Scaling(state["mean"], state["std"])
        self.weights, self.price = state["weights"], float(state["price"][0])
