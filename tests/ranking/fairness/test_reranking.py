"""Constrained orders hold their floors at the least price, trades are monotone, gaps are found, plans are optimal."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from lorank.errors import UsageError
from lorank.ranking.fairness import allocate, measure_fairness, quality_gaps, rerank_fairly
from lorank.ranking.fairness.equitable_sampling import Curve, allocate_in_rounds, fit_curve
from lorank.ranking.fairness.exposure import attentions, disparate_treatment, exposures
from lorank.ranking.fairness.tradeoff import trade


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 10), st.sampled_from("abc")), min_size=1, max_size=40))
def test_every_prefix_holds_the_floor_of_every_group(items):
    scores, groups = [score for score, _ in items], [group for _, group in items]
    fair = rerank_fairly(scores, groups)
    assert sorted(fair.order) == list(range(len(items)))
    assert 0 <= fair.after <= fair.before <= 1 + 1e-9
    for group in set(groups):
        share, held = groups.count(group) / len(groups), 0
        for place, i in enumerate(fair.order, start=1):
            held += groups[i] == group
            if (
                len(set(groups)) == 2
            ):  # floors of three groups may fall due at one place; one of them then waits for the next
                assert held >= np.floor(share * place + 1e-9) - 1e-9
        own = [scores[i] for i in fair.order if groups[i] == group]
        assert own == sorted(own, reverse=True)


def test_no_floors_are_the_order_by_score_at_no_price():
    scores = np.random.default_rng(0).random(30)
    fair = rerank_fairly(scores, ["a", "b"] * 15, {})
    assert list(fair.order) == np.argsort(-scores, kind="stable").tolist()
    assert fair.price == pytest.approx(0.0)


def test_the_constrained_order_is_fair_and_the_price_is_stated_in_given_gains():
    scores = np.arange(100.0, 0.0, -1.0)
    groups = ["a"] * 80 + ["b"] * 20
    fair = rerank_fairly(scores, groups, gains=np.array([1.0] * 80 + [0.0] * 20), depth=10)
    assert fair.before == pytest.approx(1.0)
    assert fair.price > 0
    order = np.array([groups[i] == "b" for i in fair.order])
    assert measure_fairness("rnd", order) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("shares", "said"), [({"c": 0.1}, "no item is of group 'c'"), ({"a": 0.7, "b": 0.7}, "add up to 1")]
)
def test_shares_that_cannot_be_are_refused(shares, said):
    with pytest.raises(UsageError, match=said):
        rerank_fairly([1.0, 2.0], ["a", "b"], shares)
    with pytest.raises(UsageError, match="one of each"):
        rerank_fairly([1.0], ["a", "b"])


def test_fairness_is_bought_with_accuracy():
    rng = np.random.default_rng(0)
    protected = rng.random(200) < 0.3
    scores = rng.normal(size=200) - 1.0 * protected
    found = [trade(scores, protected, weight) for weight in (0.0, 0.3, 0.7, 1.0)]
    assert [each.unfairness for each in found] == sorted((each.unfairness for each in found), reverse=True)
    assert [each.ndcg for each in found] == sorted((each.ndcg for each in found), reverse=True)
    assert found[0].ndcg == pytest.approx(1.0)
    assert found[-1].unfairness < 0.2 * found[0].unfairness


def test_exposure_by_hand():
    assert exposures(2) == pytest.approx([1.0, 1 / np.log2(3)])
    assert attentions(3, 0.5) == pytest.approx([0.5, 0.25, 0.125])
    order = np.array([True, False])
    merit = exposures(2)
    assert disparate_treatment(order, merit) == pytest.approx(0.0)
    with pytest.raises(UsageError, match="no merit"):
        disparate_treatment(order, np.array([1.0, 0.0]))


def test_a_planted_gap_lies_in_its_interval_and_no_gap_does_not_exclude_0():
    rng = np.random.default_rng(0)
    names = [f"q{i}" for i in range(400)]
    groups = {name: "en" if i % 2 else "de" for i, name in enumerate(names)}
    values = {name: float(rng.random() - 0.2 * (groups[name] == "de")) for name in names}
    qrels = {name: {name: 1} for name in names}
    found = quality_gaps(values, groups, qrels, rng=rng)["de"]
    assert found.interval[0] < -0.2 < found.interval[1] < 0
    assert found.queries == 200
    even = quality_gaps(values, {name: str(i % 4 < 2) for i, name in enumerate(names)}, qrels, rng=rng)
    assert even["True"].interval[0] < 0 < even["True"].interval[1]
    with pytest.raises(UsageError, match="no group"):
        quality_gaps(values, {}, qrels, rng=rng)
    with pytest.raises(UsageError, match="one group"):
        quality_gaps(values, dict.fromkeys(names, "en"), qrels, rng=rng)


def curves_of(seed):
    rng = np.random.default_rng(seed)
    return {
        f"g{i}": Curve(float(rng.uniform(0.5, 4)), float(rng.uniform(0.2, 1.0)), 0.05, float(rng.uniform(0.5, 2)), cost)
        for i, cost in enumerate((1.0, 2.0, 0.5))
    }


@pytest.mark.parametrize("seed", range(3))
def test_the_plan_is_the_convex_optimum_of_a_peer(seed):
    curves, budget = curves_of(seed), 600.0
    plan = allocate(curves, budget)
    costs = np.array([curve.cost for curve in curves.values()])

    def total(n):
        return sum(curve.weight * float(curve.error(x)) for curve, x in zip(curves.values(), n, strict=True))

    assert costs @ np.array(list(plan.values())) == pytest.approx(budget, rel=1e-6)
    peer = minimize(
        total, budget / 3 / costs, bounds=[(1, None)] * 3, method="SLSQP", options={"maxiter": 500, "ftol": 1e-12},
        constraints=[{"type": "ineq", "fun": lambda n: budget - costs @ n}],
    )  # fmt: skip
    assert total(list(plan.values())) <= peer.fun + 1e-4


def test_the_plan_beats_equal_and_proportional_and_rounds_come_near_it():
    truth = {"easy": Curve(0.5, 0.8), "hard": Curve(4.0, 0.4), "middle": Curve(1.0, 0.5)}

    def total(plan):
        return sum(float(truth[group].error(max(labels, 1))) for group, labels in plan.items())

    best = allocate(truth, 900.0)
    found = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        found.append(
            total(
                allocate_in_rounds(
                    lambda group, n, rng=rng: float(truth[group].error(n)) * (1 + 0.03 * rng.normal()), list(truth), 900
                )
            )
        )
    equal = total(dict.fromkeys(truth, 300))
    proportional = total({"easy": 600, "hard": 150, "middle": 150})
    assert total(best) < equal < proportional
    assert np.mean(found) < equal
    assert np.mean(found) - total(best) < 0.3 * (equal - total(best))


def test_what_no_plan_can_be_made_of_is_refused():
    with pytest.raises(UsageError, match="less than"):
        allocate({"a": Curve(1.0, 0.5)}, 0.5)
    with pytest.raises(UsageError, match="above 0"):
        allocate({"a": Curve(-1.0, 0.5)}, 10.0)
    with pytest.raises(UsageError, match="two different"):
        fit_curve([5, 5], [0.1, 0.2])
    with pytest.raises(UsageError, match="too small"):
        allocate_in_rounds(lambda group, n: 1.0, ["a"], 5)
