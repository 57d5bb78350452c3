r"""A budget of labels divided over groups so that all of them are served well.

The error of group g falls with its n_g labels by a power law, e_g(n) = a_g n^{-b_g} + c_g. The plan minimises

    \sum_g w_g e_g(n_g)     subject to  \sum_g k_g n_g <= B,  n_g >= n_g^0     (k_g the cost of a label)

which is convex: at the optimum w_g a_g b_g n_g^{-b_g - 1} / k_g is one number \mu for every group above its floor, so
n_g(\mu) = (w_g a_g b_g / (k_g \mu))^{1 / (b_g + 1)}, and bisection finds \mu. The sequential form spends the budget in
rounds and fits the curves again after each, from what was observed.

Paper: W. Cai et al., Adaptive Sampling Strategies to Construct Equitable Training Datasets, FAccT 2022.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lorank.catalogue import catalogued
from lorank.errors import UsageError


@dataclass(frozen=True)
class Curve:
    """A learning curve, error = a n^(-b) + c, of a group with ``weight`` w and a ``cost`` per label."""

    a: float
    b: float
    c: float = 0.0
    weight: float = 1.0
    cost: float = 1.0

    def error(self, labels: float | np.ndarray) -> float | np.ndarray:
        """Return the error after so many labels, 1 or more."""
        return self.a * np.asarray(labels, np.float64) ** -self.b + self.c

    def labels(self, price: float) -> float:
        """Return the labels at which one more gains ``price`` per unit of cost."""
        return float((self.weight * self.a * self.b / (self.cost * price)) ** (1 / (self.b + 1)))


@catalogued(
    "equitable-sampling",
    area="active",
    title="Adaptive Sampling Strategies to Construct Equitable Training Datasets",
    reach="Python alone: the labels come from outside between its rounds, so neither a run nor a command can hold it",
)
def allocate(
    curves: Mapping[str, Curve], budget: float, *, least: Mapping[str, float] | float = 1.0
) -> dict[str, float]:
    """Return how many labels each group gets.

    Args:
        curves: The learning curve of each group.
        budget: B, what all labels together may cost.
        least: The labels that a group has already, or gets in any case, above 0.

    Raises:
        UsageError: For no groups, curves that do not fall, and a budget below what the least costs.

    >>> plan = allocate({"en": Curve(1.0, 0.5), "sw": Curve(8.0, 0.5)}, 100.0)
    >>> {group: round(labels, 1) for group, labels in plan.items()}                  # 8^(2/3) = 4 times as many
    {'en': 20.0, 'sw': 80.0}
    """
    floors = {g: float(least[g] if isinstance(least, Mapping) else least) for g in curves}
    if not curves or any(
        curve.a <= 0 or curve.b <= 0 or curve.cost <= 0 or curve.weight < 0 for curve in curves.values()
    ):
        raise UsageError("give one group at least, with a, b and cost above 0 and a weight of 0 or above")
    spent = sum(curves[g].cost * floor for g, floor in floors.items())
    if budget < spent - 1e-9 or min(floors.values()) <= 0:
        raise UsageError(f"the budget {budget:g} is less than {spent:g}, what the least number of labels costs")

    def plan(price: float) -> dict[str, float]:
        return {g: max(floors[g], curve.labels(price)) if curve.weight else floors[g] for g, curve in curves.items()}

    low, high = -60.0, 60.0
    for _ in range(200):
        middle = (low + high) / 2
        cost = sum(curves[g].cost * labels for g, labels in plan(float(np.exp(middle))).items())
        low, high = (middle, high) if cost > budget else (low, middle)
    return plan(float(np.exp(high)))


def fit_curve(labels: Sequence[float], errors: Sequence[float], *, weight: float = 1.0, cost: float = 1.0) -> Curve:
    """Return the power law, with c = 0, of least squares in logarithms; b is kept in [0.05, 2].

    Args:
        labels: Numbers of labels, 1 or more, two different ones at least.
        errors: The errors observed with them, above 0.
        weight: The weight of the group.
        cost: What a label of the group costs.
    """
    x, y = np.log(np.asarray(labels, np.float64)), np.log(np.maximum(np.asarray(errors, np.float64), 1e-9))
    if len(np.unique(x)) < 2:
        raise UsageError("a curve needs errors at two different numbers of labels")
    b = float(np.clip(-np.polyfit(x, y, 1)[0], 0.05, 2.0))
    return Curve(float(np.exp((y + b * x).mean())), b, weight=weight, cost=cost)


def allocate_in_rounds(
    observe: Callable[[str, int], float],
    groups: Sequence[str],
    budget: int,
    *,
    rounds: int = 8,
    first: int = 10,
    weights: Mapping[str, float] | None = None,
) -> dict[str, int]:
    """Return the labels of each group, planned anew in each round from the errors that were observed.

    Args:
        observe: It returns the error of a group after so many labels of it.
        groups: The groups.
        budget: How many labels there are in all.
        rounds: In how many rounds they are spent, 1 or more.
        first: How many labels each group has from the start, 4 or more; half of them give the first point of a curve.
        weights: The weight of each group; None weighs all alike.
    """
    if budget < first * len(groups) or first < 4 or rounds < 1:
        raise UsageError(f"a budget of {budget} is too small for {len(groups)} groups of {first} labels")
    held = dict.fromkeys(groups, first)
    seen = {g: [(first // 2, observe(g, first // 2)), (first, observe(g, first))] for g in groups}
    for each in range(1, rounds + 1):
        curves = {
            g: fit_curve(*zip(*seen[g], strict=True), weight=1.0 if weights is None else weights[g]) for g in groups
        }
        until = first * len(groups) + (budget - first * len(groups)) * each // rounds
        plan = allocate(curves, until, least={g: float(n) for g, n in held.items()})
        for g in groups:
            if int(plan[g]) > held[g]:
                held[g] = int(plan[g])
                seen[g].append((held[g], observe(g, held[g])))
    return held
