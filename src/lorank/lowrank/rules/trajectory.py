r"""The path that the update of a layer takes, as rank-1 parts of the differences between its checkpoints.

    theta_t - theta_{t'} = s B_t A_t - s B_{t'} A_{t'}  ~  sigma u v^T,   sigma its largest singular value

The sign of (u, v) is arbitrary in every decomposition: (-u, -v) is the same matrix. Each pair of vectors is turned so
that its u points along that of the difference before it; a series of them can then be learned from.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lorank.lowrank.algebra.factors import add, decompose, scale
from lorank.lowrank.forms.form import Factors


class RankOne(NamedTuple):
    """One rank-1 matrix sigma u v^T, or n of them: ``sigma`` [] or [n], ``u`` [out] or [n, out], ``v`` likewise."""

    sigma: Tensor
    u: Tensor
    v: Tensor

    def aligned(self, u: Tensor) -> "RankOne":
        """Return the same matrix with its own u turned towards ``u`` [out].

        >>> one = RankOne(torch.tensor(2.0), torch.tensor([-1.0, 0.0]), torch.tensor([1.0]))
        >>> one.aligned(torch.tensor([1.0, 0.0])).v.tolist()
        [-1.0]
        """
        return self if float(self.u @ u) >= 0 else RankOne(self.sigma, -self.u, -self.v)

    def dense(self) -> Tensor:
        """Return sigma u v^T [out, in] of one."""
        return self.sigma * torch.outer(self.u, self.v)


def leading_difference(now: Factors, then: Factors) -> RankOne:
    """Return the best rank-1 approximation of the update ``now`` less the update ``then``, of one layer.

    >>> one = Factors(torch.tensor([[0.0, 2.0]]), torch.tensor([[3.0], [0.0]]), 1.0)
    >>> leading_difference(one, scale(one, 0.5)).sigma
    tensor(3.)
    """
    U, sigma, Vh = decompose(add(now, scale(then, -1.0)))
    return RankOne(sigma[0], U[:, 0], Vh[0])


class Differences(NamedTuple):
    """The differences of one layer at n checkpoints, aligned, each a series of n.

    ``whole`` are those since the start, ``last`` those since the checkpoint before, ``later`` those until a fixed
    number of checkpoints later, of which there are fewer.
    """

    whole: RankOne
    last: RankOne
    later: RankOne


def stack(series: Sequence[RankOne]) -> RankOne:
    """Return rank-1 matrices of one shape as a series."""
    return RankOne(*(torch.stack([each[part] for each in series]) for part in range(3)))


def align_differences(whole: Sequence[RankOne], last: Sequence[RankOne], later: Sequence[RankOne]) -> Differences:
    """Return the differences of a layer with the signs of all checkpoints agreed.

    Those since the start follow that of the checkpoint before; the others follow that since the start at their own.

    Args:
        whole: Since the start, one per checkpoint.
        last: Since the checkpoint before, as many.
        later: Until later, as many or fewer, from the first checkpoint on.
    """
    turned = [whole[0]]
    for each in whole[1:]:
        turned.append(each.aligned(turned[-1].u))
    along = [each.u for each in turned]
    return Differences(
        stack(turned),
        stack([each.aligned(u) for each, u in zip(last, along, strict=True)]),
        stack([each.aligned(u) for each, u in zip(later, along)]),
    )


KINDS = Differences._fields


class Trajectory:
    """The checkpoints of all layers while a run goes on: their differences, and the factors that are still of use.

    Args:
        start: The factors of each layer before the first step.
    """

    def __init__(self, start: Sequence[Factors]) -> None:
        self.factors: dict[int, list[Factors]] = {0: list(start)}
        self.seen: dict[str, list[list[RankOne]]] = {kind: [[] for _ in start] for kind in KINDS}
        self.like = list(start)

    def record(self, number: int, now: Sequence[Factors], ahead: int) -> None:
        """Take in a checkpoint.

        Args:
            number: Its number, from 1.
            now: The factors of each layer.
            ahead: How many checkpoints later a target lies, 1 or more.
        """
        for kind, then in (("whole", 0), ("last", number - 1), ("later", number - ahead)):
            if kind == "later" and then < 1:
                continue
            for i, factors in enumerate(now):
                self.seen[kind][i].append(leading_difference(factors, self.factors[then][i]))
        self.factors[number] = list(now)
        self.factors = {key: own for key, own in self.factors.items() if key == 0 or key > number - ahead}

    def differences(self) -> list[Differences]:
        """Return the differences of every layer so far, with their signs agreed."""
        return [align_differences(*(self.seen[kind][i] for kind in KINDS)) for i in range(len(self.like))]

    def state(self) -> dict[str, Tensor]:
        """Return all of it as tensors."""
        held: dict[str, Tensor] = {}
        for number, layers in self.factors.items():
            for i, each in enumerate(layers):
                held |= {f"factors.{number}.{i}.A": each.A, f"factors.{number}.{i}.B": each.B}
        for kind, rows in self.seen.items():
            for i, series in enumerate(rows):
                if series:
                    held |= {f"{kind}.{i}.{part}": own for part, own in stack(series)._asdict().items()}
        return held

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what ``state`` gave."""
        numbers = sorted({int(key.split(".")[1]) for key in state if key.startswith("factors.")})
        self.factors = {
            number: [
                Factors(
                    state[f"factors.{number}.{i}.A"].to(own.A), state[f"factors.{number}.{i}.B"].to(own.B), own.scaling
                )
                for i, own in enumerate(self.like)
            ]
            for number in numbers
        }
        for kind in KINDS:
            for i, own in enumerate(self.like):
                parts = [state.get(f"{kind}.{i}.{part}") for part in RankOne._fields]
                there = [part.to(own.A.device) for part in parts if part is not None]
                self.seen[kind][i] = [RankOne(*each) for each in zip(*there)]
