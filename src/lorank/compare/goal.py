"""Steps to a goal: where each row's learning curve first reaches a share of what the baseline gained on dev.

With c_0 the baseline's first and c_1 its last value on dev, the goal of a share s is c_0 + s (c_1 - c_0).
"""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from lorank.compare.results import RowResult, TrialResult


def count_steps_to_goal(rows: Sequence[RowResult], baseline: str | None, share: float) -> list[RowResult]:
    """Return the rows with the cost ``steps_to_goal``, which trials lack that never reached it.

    Args:
        rows: The rows of every collection; those of one without a learned baseline come back as they are.
        baseline: The name of the row that sets the goal; None takes the first row that has a learning curve.
        share: The share of its gain, above 0.
    """
    goals: dict[str, float] = {}
    for row in rows:
        curves = [trial.curve for trial in row.trials if len(trial.curve) > 1]
        if curves and row.data not in goals and baseline in (None, row.name):
            first, last = (fmean(curve[place][1] for curve in curves) for place in (0, -1))
            goals[row.data] = first + share * (last - first)
    return [
        replace(row, trials=[_counted(trial, goals[row.data]) for trial in row.trials]) if row.data in goals else row
        for row in rows
    ]


def _counted(trial: TrialResult, goal: float) -> TrialResult:
    reached = next((step for step, value in trial.curve if value >= goal), None)
    return trial if reached is None else replace(trial, cost={**trial.cost, "steps_to_goal": float(reached)})
