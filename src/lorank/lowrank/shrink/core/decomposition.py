r"""What a shrinking method makes of one weight: factors of every rank, and what each component is worth.

    W [out, in] ~ B A,   A [r, in],   B [out, r],   b' = b + (W - B A) m

m [in] is the mean input where a method centres on it, 0 elsewhere. worth [k] are the squared errors that the components
take away in the method's own metric: the error of rank r is worth_r + ... + worth_{k-1}.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from lorank.errors import UsageError


@dataclass(frozen=True)
class Factors:
    """``first`` A [r, in], ``second`` B [out, r], and ``shift`` [out], which the bias is raised by, if there is one."""

    first: Tensor
    second: Tensor
    shift: Tensor | None = None

    @property
    def product(self) -> Tensor:
        """B A [out, in]."""
        return self.second @ self.first


@dataclass(frozen=True)
class Decomposition:
    """A weight taken apart.

    Args:
        weight: W [out, in], in float64.
        worth: The squared error [k] that each component takes away, descending, k = min(out, in).
        at: It returns A [r, in] and B [out, r] of a rank.
        mean: The mean input [in] on which the error is centred; None where it is not.
    """

    weight: Tensor
    worth: Tensor
    at: Callable[[int], tuple[Tensor, Tensor]]
    mean: Tensor | None = None

    @classmethod
    def nested(
        cls, weight: Tensor, worth: Tensor, first: Tensor, second: Tensor, mean: Tensor | None = None
    ) -> "Decomposition":
        """Return a decomposition whose factors of rank r are the first r rows of A [k, in] and columns of B [out, k].

        Args:
            weight: W [out, in].
            worth: The squared error [k] that each component takes away.
            first: A [k, in].
            second: B [out, k].
            mean: The mean input [in]; None where the error is not centred.
        """
        return cls(weight, worth, lambda rank: (first[:rank], second[:, :rank]), mean)

    @property
    def full_rank(self) -> int:
        """min(out, in)."""
        return min(self.weight.shape)

    def factors(self, rank: int) -> Factors:
        """Return the factors of a rank.

        Args:
            rank: From 1 to min(out, in).

        Raises:
            UsageError: For another rank.
        """
        if not 1 <= rank <= self.full_rank:
            raise UsageError(
                f"rank {rank} of a weight {list(self.weight.shape)} is out of its range; write an integer from 1 to "
                f"{self.full_rank}"
            )
        first, second = self.at(rank)
        shift = None if self.mean is None else self.weight @ self.mean - second @ (first @ self.mean)
        return Factors(first, second, shift)

    def error(self, rank: int) -> float:
        """Return the squared error of a rank in the method's own metric."""
        return float(self.worth[rank:].sum())


def keep_directions(weight: Tensor, directions: Tensor, worth: Tensor, mean: Tensor | None = None) -> Decomposition:
    """Return the decomposition U_r (U_r^T W) on orthonormal ``directions`` U [out, k].

    Args:
        weight: W [out, in].
        directions: U [out, k].
        worth: The squared error [k] that each direction takes away.
        mean: The mean input [in]; None where the error is not centred.

    >>> import torch
    >>> part = keep_directions(torch.eye(2), torch.eye(2), torch.tensor([2.0, 1.0])); part.factors(1).product.tolist()
    [[1.0, 0.0], [0.0, 0.0]]
    """
    return Decomposition.nested(weight, worth, directions.t() @ weight, directions, mean)
