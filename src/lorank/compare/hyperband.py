"""Hyperband: brackets of successive halving, from many configurations at a small budget to a few at the full one.

With R the largest budget of a configuration, in units of the smallest, and eta the factor of the halving, bracket
s = floor(log_eta R), ..., 0 begins with

    n = ceil((s_max + 1) / (s + 1) * eta^s)  configurations of budget  r = R * eta^-s

and rung i of it has n_i = floor(n * eta^-i) of them at the budget r_i = r * eta^i; the best floor(n_i / eta) on dev go
on. A bracket costs at most B = (s_max + 1) * R, and bracket 0 is random search at the full budget.

Paper: Li, Jamieson, DeSalvo, Rostamizadeh, Talwalkar, *Hyperband: A Novel Bandit-Based Approach to Hyperparameter
Optimization*, JMLR 18, 2018 (arXiv:1603.06560).

*Deviations*: the earlier version of the paper, and the authors' first code, round (s_max + 1) / (s + 1) down before
they multiply; we follow the journal's n. Budgets are steps of training, rounded to whole ones.
"""

import math
from dataclasses import dataclass

from lorank.errors import UsageError
from lorank.registration import catalogued

METHODS = ("random", "halving", "hyperband")


@dataclass(frozen=True)
class Rung:
    """One round of a bracket: how many configurations are trained, and with what budget."""

    configurations: int
    budget: float


Bracket = tuple[Rung, ...]


@catalogued(
    "hyperband",
    area="active",
    title="Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization",
    reach="it searches over recipes: lorank tune RECIPE --method hyperband",
)
def hyperband(most: float, eta: float = 3.0) -> list[Bracket]:
    """Return the brackets of Hyperband, the one of most configurations first.

    Args:
        most: The largest budget R of a configuration, in units of the smallest, 1 or more.
        eta: The factor of the halving, above 1.

    Raises:
        UsageError: For numbers out of their range.

    >>> [[(rung.configurations, rung.budget) for rung in bracket] for bracket in hyperband(9)]
    [[(9, 1.0), (3, 3.0), (1, 9.0)], [(5, 3.0), (1, 9.0)], [(3, 9.0)]]
    """
    _check(most, eta)
    last = _brackets(most, eta)
    return [bracket_of(math.ceil(_whole((last + 1) / (s + 1) * eta**s)), most, eta, s) for s in range(last, -1, -1)]


def successive_halving(most: float, eta: float = 3.0, configurations: int | None = None) -> list[Bracket]:
    """Return the one bracket of successive halving, that of Hyperband which begins at the smallest budget.

    Args:
        most: The largest budget R of a configuration, in units of the smallest, 1 or more.
        eta: The factor of the halving, above 1.
        configurations: How many configurations it begins with; None takes as many as leave one at the end.

    Raises:
        UsageError: For numbers out of their range.

    >>> [(rung.configurations, rung.budget) for rung in successive_halving(9, 3)[0]]
    [(9, 1.0), (3, 3.0), (1, 9.0)]
    """
    _check(most, eta)
    s = _brackets(most, eta)
    return [bracket_of(math.ceil(_whole(eta**s)) if configurations is None else configurations, most, eta, s)]


def random_search(most: float, configurations: int) -> list[Bracket]:
    """Return the one bracket in which every configuration has the full budget."""
    return [(Rung(configurations, float(most)),)]


def bracket_of(configurations: int, most: float, eta: float, s: int) -> Bracket:
    """Return the rungs of bracket ``s``; a rung that nobody reaches is left out.

    Args:
        configurations: How many it begins with, 1 or more.
        most: The largest budget R.
        eta: The factor of the halving.
        s: How often it is halved.
    """
    rungs = [Rung(math.floor(_whole(configurations * eta**-i)), float(most * eta ** (i - s))) for i in range(s + 1)]
    return tuple(rung for rung in rungs if rung.configurations > 0)


def cost_of(bracket: Bracket) -> float:
    """Return the sum of the budgets of a bracket."""
    return sum(rung.configurations * rung.budget for rung in bracket)


def _brackets(most: float, eta: float) -> int:
    """Return s_max = floor(log_eta R), whatever the last digit of the logarithm."""
    return math.floor(_whole(math.log(most) / math.log(eta)))


def _whole(value: float) -> float:
    """Return a number, rounded where it misses a whole one by rounding errors alone."""
    return round(value) if abs(value - round(value)) < 1e-9 * max(1.0, abs(value)) else value


def _check(most: float, eta: float) -> None:
    if not 1 <= most < math.inf:
        raise UsageError(f"the largest budget is {most:g} of the smallest; give 1 or more")
    if not 1 < eta < math.inf:
        raise UsageError(f"eta is {eta:g}; give a factor above 1, such as 3")
