r"""Private recommendation where few tasks have most of the data: each user's budget goes to the items that lack it.

    u_i = argmin_u sum_{j in O_i} (y_ij - <u, v_j>)^2 + l |u|^2,    scaled to |u_i| <= 1        (stays with the user)
    A_j = sum_i w_ij u_i u_i^T + E_j,    b_j = sum_i w_ij y_ij u_i + e_j,    v_j = (A_j + l I)^-1 b_j
    w_ij = n_j^-p / sqrt(sum_{k in O_i} n_k^-2p)

y lies in [-1, 1], O_i are the items that user i rated, and n_j is a noisy count of the users of item j. As a user's
weights have norm 1, all that one user adds to all A_j has norm at most 1, and so has what it adds to all b_j; E
(symmetric) and e are Gaussian of standard deviation sigma. Counts and 2 T releases in T rounds are 2 T + 1 Gaussian
mechanisms of noise multiplier sigma at the level of users, and epsilon is that of their composition
(`lorank.federated.privacy`). p = 0 gives all of a user's items the same budget. Without noise nothing is bounded, all
weights are 1, and this is plain ALS.

Krichene et al., Multi-Task Differential Privacy Under Distribution Skew, 2023, ICML, arXiv:2302.07975.

*Deviations*: reconstructed. Counts are taken of users who split one unit among their items, so that they cost one
mechanism like the others; the paper's p is 1 / 4 to 1 / 2 by theory, here 1 / 2.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.federated.privacy import spent


@dataclass(frozen=True)
class Ratings:
    """Who rated what how: ``users`` and ``items`` int64 [n], ``values`` [n] in [-1, 1]."""

    users: Tensor
    items: Tensor
    values: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """The number of users and of items."""
        return int(self.users.max()) + 1, int(self.items.max()) + 1


@catalogued(
    "dp-multitask-skew",
    area="federated",
    title="Multi-Task Differential Privacy Under Distribution Skew",
    reach="lorank federate recommend --ratings FILE --out RUN; factors of ratings are no ranker, so it has no recipe",
)
@dataclass(frozen=True)
class PrivateALS:
    """Alternating least squares whose items are learned from noisy sums over users.

    Args:
        rank: The number of factors, 1 or more.
        rounds: T, how often users and items alternate.
        ridge: l, above 0.
        noise: sigma, the noise multiplier; 0 is plain ALS.
        power: p, how strongly the budget goes to items with few users; 0 spreads it evenly.

    >>> PrivateALS(noise=0.0).epsilon(1e-3)
    inf
    """

    rank: int = 4
    rounds: int = 5
    ridge: float = 1.0
    noise: float = 0.0
    power: float = 0.5

    def __post_init__(self) -> None:
        if self.rank < 1 or self.rounds < 1 or not self.ridge > 0 or not self.noise >= 0 or not self.power >= 0:
            raise UsageError("rank and rounds are 1 or more, ridge is above 0, noise and power are 0 or more")

    def epsilon(self, delta: float) -> float:
        """Return epsilon for one user with everything that it rated; infinite without noise."""
        return spent(self.noise, 2 * self.rounds + 1, delta) if self.noise else float("inf")

    def fit(self, ratings: Ratings, generator: torch.Generator, shape: tuple[int, int] | None = None) -> Tensor:
        """Return the items' factors, float64 [items, rank].

        Args:
            ratings: What users rated.
            generator: The source of the first factors and of the noise.
            shape: The number of users and items; None takes those of the ratings.
        """
        users, items = shape or ratings.shape
        V: Tensor = torch.randn(items, self.rank, generator=generator, dtype=torch.float64) / self.rank**0.5
        weights = self._weights(ratings, users, items, generator)
        for _ in range(self.rounds):
            U = self.user_factors(ratings, V, users)
            V = self._item_factors(ratings, U[ratings.users], weights, items, generator)
        return V

    def user_factors(self, ratings: Ratings, V: Tensor, users: int) -> Tensor:
        """Return every user's factors [users, rank] by its own ratings alone, at most 1 long where there is noise."""
        rows, y = V[ratings.items], ratings.values.double()
        A = self._sums(ratings.users, rows.unsqueeze(2) * rows.unsqueeze(1), users)
        U = self._solve(A, self._sums(ratings.users, y.unsqueeze(1) * rows, users))
        if not self.noise:
            return U
        longest: Tensor = U.norm(dim=1, keepdim=True).clamp_min(1.0)
        bounded: Tensor = U / longest
        return bounded

    def _item_factors(
        self, ratings: Ratings, rows: Tensor, weights: Tensor, items: int, generator: torch.Generator
    ) -> Tensor:
        y = ratings.values.double()
        A = self._sums(ratings.items, weights[:, None, None] * rows.unsqueeze(2) * rows.unsqueeze(1), items)
        b = self._sums(ratings.items, (weights * y).unsqueeze(1) * rows, items)
        if self.noise:
            E = torch.randn(A.shape, generator=generator, dtype=torch.float64).triu()
            A = A + self.noise * (E + E.triu(1).transpose(1, 2))
            b = b + self.noise * torch.randn(b.shape, generator=generator, dtype=torch.float64)
        return self._solve(A, b)

    def _weights(self, ratings: Ratings, users: int, items: int, generator: torch.Generator) -> Tensor:
        """Return w_ij of every rating [n]."""
        if not self.noise:
            return torch.ones(len(ratings.values), dtype=torch.float64)
        ones = torch.ones(len(ratings.values), dtype=torch.float64)
        split = self._sums(ratings.users, ones, users).clamp_min(1).rsqrt()
        counts = self._sums(ratings.items, split[ratings.users], items)
        noisy = counts + self.noise * torch.randn(items, generator=generator, dtype=torch.float64)
        asked = noisy.clamp_min(self.noise).pow(-self.power)[ratings.items]
        norms = self._sums(ratings.users, asked.square(), users).sqrt()
        return asked / norms[ratings.users]

    def _solve(self, A: Tensor, b: Tensor) -> Tensor:
        """Return (A + l I)^-1 b, with what noise has made of A's eigenvalues below 0 put back to 0."""
        values, vectors = torch.linalg.eigh(A)
        inverse = 1 / (values.clamp_min(0) + self.ridge)
        solved: Tensor = (vectors * inverse.unsqueeze(1)) @ (vectors.transpose(1, 2) @ b.unsqueeze(2))
        return solved.squeeze(2)

    @staticmethod
    def _sums(at: Tensor, terms: Tensor, count: int) -> Tensor:
        return torch.zeros(count, *terms.shape[1:], dtype=torch.float64).index_add(0, at, terms.double())
