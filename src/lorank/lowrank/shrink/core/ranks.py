r"""How many ranks each layer keeps, so that all of them together have at most a share of their weights.

    sum_l min(r_l (m_l + n_l), m_l n_l) <= ratio sum_l m_l n_l

A layer whose rank would be at or above its break-even m n / (m + n) stays dense: a product would be larger. A policy
is a function of a ``RankProblem`` that returns a rank for each layer, None for a dense one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.layers.factored_linear import break_even

Ranks = dict[str, int | None]


class Measure(Protocol):
    """It returns how much of the order is lost, 0 or more, with these ranks and every other layer as it was."""

    def __call__(self, ranks: Mapping[str, int | None]) -> float: ...


@dataclass(frozen=True)
class RankProblem:
    """What a policy decides on.

    Args:
        shapes: The shape [out, in] of each layer, by path.
        worths: The squared errors [k] that the components of each layer take away, in the method's own metric.
        spectra: The singular values [k] of each weight.
        ratio: The share of the weights of all layers together that may stay.
        loss: The loss of order, for policies that measure it; None where none was given.
    """

    shapes: Mapping[str, tuple[int, int]]
    worths: Mapping[str, Tensor]
    spectra: Mapping[str, Tensor]
    ratio: float
    loss: Measure | None = None

    @property
    def whole(self) -> int:
        """The weights of all layers as they are."""
        return sum(rows * columns for rows, columns in self.shapes.values())

    @property
    def budget(self) -> int:
        """The most weights of all layers together."""
        return int(self.ratio * self.whole + 1e-6)

    def size(self, path: str, rank: int | None) -> int:
        """Return the number of weights of a layer at a rank."""
        rows, columns = self.shapes[path]
        return rows * columns if rank is None else rank * (rows + columns)

    def total(self, ranks: Mapping[str, int | None]) -> int:
        """Return the number of weights of all layers."""
        return sum(self.size(path, rank) for path, rank in ranks.items())

    def capped(self, path: str, rank: int) -> int | None:
        """Return the rank, or None where the layer is no larger dense."""
        return None if rank > break_even(*self.shapes[path]) else rank


Policy = Callable[[RankProblem], Ranks]

POLICIES: dict[str, Policy] = {}
"""Every way of choosing ranks by name."""


def rank_policy(name: str) -> Callable[[Policy], Policy]:
    """Decorate a policy to register it."""

    def enter(choose: Policy) -> Policy:
        POLICIES[name] = choose
        return choose

    return enter


def uniform_rank(shape: tuple[int, int], ratio: float) -> int:
    """Return the highest rank at which a product has at most ``ratio`` of the weights of a matrix [out, in].

    >>> uniform_rank((384, 384), 0.5), uniform_rank((1536, 384), 0.25)
    (96, 76)
    """
    return int(ratio * shape[0] * shape[1] / (shape[0] + shape[1]) + 1e-9)


@rank_policy("uniform")
def choose_uniform(problem: RankProblem) -> Ranks:
    """Return ranks by which each layer keeps the same share of its weights."""
    ranks = {path: uniform_rank(shape, problem.ratio) for path, shape in problem.shapes.items()}
    return {path: problem.capped(path, rank) for path, rank in ranks.items()}


@rank_policy("energy")
def choose_by_energy(problem: RankProblem) -> Ranks:
    """Return ranks that take the components of most relative worth per weight first, one rank at least each.

    The worth of a component is its share of its layer's whole, so that layers of loud outputs do not take all.
    """
    rows = []
    for path, worth in problem.worths.items():
        most = break_even(*problem.shapes[path])
        share = worth[: most + 1] / worth.sum().clamp_min(torch.finfo(worth.dtype).tiny)
        cost = sum(problem.shapes[path])
        rows += [(float(value) / cost, path, place) for place, value in enumerate(share.tolist())]
    ranks = dict.fromkeys(problem.shapes, 1)
    left = problem.budget - problem.total(ranks)
    for _, path, place in sorted(rows, key=lambda row: (-row[0], row[2], row[1])):
        cost = sum(problem.shapes[path])
        if place and place == ranks[path] and cost <= left:
            ranks[path], left = ranks[path] + 1, left - cost
    return {path: problem.capped(path, rank) for path, rank in ranks.items()}


@rank_policy("threshold")
def choose_by_threshold(problem: RankProblem) -> Ranks:
    """Return the ranks of one threshold on all normalised singular values s / s_max, bisected to the budget."""
    levels = {path: (s / s[0].clamp_min(torch.finfo(s.dtype).tiny)) for path, s in problem.spectra.items()}

    def ranks_at(theta: float) -> Ranks:
        return {path: problem.capped(path, max(1, int((each >= theta).sum()))) for path, each in levels.items()}

    low, high = 0.0, 1.0 + 1e-9
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if problem.total(ranks_at(middle)) <= problem.budget else (middle, high)
    return ranks_at(high)


def check_ratio(problem: RankProblem) -> None:
    """Raise UsageError where the ratio is below one rank for some layer."""
    for path, shape in problem.shapes.items():
        if uniform_rank(shape, problem.ratio) < 1:
            least = max(sum(each) / (each[0] * each[1]) for each in problem.shapes.values())
            remedy = f"write a ratio from {least + 5e-5:.4f} up" if least < 1 else "state no layer so narrow"
            raise UsageError(
                f"ratio {problem.ratio:g} is below one rank for layer {path} {list(shape)}; {remedy}, or leave it out "
                f"(exclude: {path.rpartition('.')[2]})"
            )
