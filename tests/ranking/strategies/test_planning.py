"""The planner: what it forecasts, and what it recommends."""

import math

import numpy as np
import pytest

from lorank.errors import UsageError
from lorank.ranking import Oracle, rerank
from lorank.ranking.judges import Budget
from lorank.ranking.strategies.planning import candidates, noise_of_agreement, plan

FEW = [("pointwise", {}), ("full", {}), ("prp", {"method": "all-pairs"}), ("iranker", {})]


def forecast(rows, name):
    return next(row for row in rows if row.strategy == name)


def test_a_perfect_judge_makes_the_cheapest_exact_strategy_the_one_to_take():
    rows = plan(15, 5, noise=0.0, queries=3, compare=FEW)
    assert all(row.ndcg == pytest.approx(1.0) for row in rows)
    assert [row.strategy for row in rows if row.recommended] == ["full"]
    costs = {row.strategy: row.calls for row in rows}
    assert costs == {"pointwise": 15, "full": 1, "prp": 15 * 14, "iranker": 14}
    assert forecast(rows, "full").tokens == 10 + 15 * 100 + 15
    assert forecast(rows, "pointwise").tokens == 15 * (10 + 100 + 1)


def test_a_noisy_judge_is_worth_more_questions():
    rows = plan(30, 5, noise=1.0, queries=10, compare=FEW)
    assert forecast(rows, "prp").ndcg > forecast(rows, "pointwise").ndcg
    assert [row.strategy for row in rows if row.recommended] == ["prp"]
    cheap = plan(30, 5, noise=1.0, queries=10, compare=FEW, slack=1.0)
    assert [row.strategy for row in cheap if row.recommended] == ["full"]


def test_more_noise_is_worse_and_the_budget_is_kept():
    quality = [forecast(plan(30, 5, noise=noise, queries=8, compare=FEW), "pointwise").ndcg for noise in (0, 1, 9)]
    assert quality == sorted(quality, reverse=True)
    rows = plan(30, 5, queries=4, budget=Budget(calls=20), compare=FEW)
    assert all(row.calls <= 20 for row in rows)
    assert forecast(rows, "pointwise").stopped == pytest.approx(1.0)
    assert forecast(rows, "full").stopped == 0.0


def test_strategies_that_the_judge_cannot_answer_are_left_out():
    rows = plan(12, 3, queries=2, kinds=["listwise"])
    assert {row.strategy for row in rows} == {
        "listt5",
        "top-down",
        "sliding",
        "jointrank",
        "full",
        "permutation-self-consistency",
    }
    with pytest.raises(UsageError, match="no strategy asks only"):
        plan(12, 3, queries=2, kinds=["selection"])


def test_candidates_show_no_more_than_the_judge_reads():
    for name, options in candidates(100, 10, longest=7):
        assert name not in ("full", "iranker", "permutation-self-consistency")
        assert options.get("size", 0) <= 7
    assert ("full", {}) in candidates(100, 10, longest=100)
    for longest in (2, 3, 4, 50):
        for name, options in candidates(9, 3, longest):
            rerank("q", ["d"] * 9, Oracle(range(9)), name, **options)


def test_plans_are_the_same_for_the_same_seed():
    assert plan(12, 3, queries=3, seed=5, compare=FEW) == plan(12, 3, queries=3, seed=5, compare=FEW)


@pytest.mark.parametrize("noise", [0.3, 1.0, 3.0])
def test_noise_of_agreement_is_the_noise_that_gives_it(noise):
    share = 0.5 * (1 + math.erf(1 / (noise * math.sqrt(2)) / math.sqrt(2)))
    assert noise_of_agreement(share) == pytest.approx(noise)
    right = [
        rerank("q", ["a", "b"], Oracle([0, 1], noise, seed=seed), "prp", method="all-pairs", both_orders=False).order
        == (1, 0)
        for seed in range(2000)
    ]
    assert np.mean(right) == pytest.approx(share, abs=0.04)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 0}, "1 document or more"),
        ({"queries": 1}, "2 queries or more"),
        ({"grades": (0.5, 0.4)}, "sum to 1"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(UsageError, match=message):
        plan(**{"compare": FEW, **settings})


@pytest.mark.parametrize("share", [0.5, 1.0, 0.2])
def test_agreement_is_checked(share):
    with pytest.raises(UsageError, match="above 0.5"):
        noise_of_agreement(share)
