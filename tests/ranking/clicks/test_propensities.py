"""Propensities of positions: known curves are recovered, and what cannot be said is refused."""

import numpy as np
import pytest

from lorank.errors import UsageError
from lorank.ranking.clicks import (
    PROPENSITIES,
    Propensities,
    SessionBuilder,
    Simulator,
    estimate_propensities,
    sessions_of,
)

CURVE = 1 / np.arange(1, 7)


def log_of(shuffle, sessions=60_000, seed=0, features=False):
    rng = np.random.default_rng(seed)
    lists = {f"q{i}": [f"d{j}" for j in range(6)] for i in range(40)}
    rows = {query: rng.normal(size=(6, 3)) for query in lists}
    attraction = {query: 1 / (1 + np.exp(-(row @ [1.5, -1.0, 0.0] - 0.5))) for query, row in rows.items()}
    order = {query: [f"d{j}" for j in np.argsort(-(rows[query][:, 0] + rng.normal(size=6)))] for query in lists}
    lined = {query: attraction[query][[int(d[1:]) for d in order[query]]] for query in lists}
    builder = SessionBuilder()
    for each in Simulator(order, lined, "pbm", 6, shuffle, {"eta": 1.0}).draw(sessions, rng):
        builder.add(each.query, each.documents, each.clicks)
    log = builder.build()
    return log, np.array([rows[q][int(d[1:])] for q, d in log.names])


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("method", "shuffle"), [("randomised", "all"), ("harvest", "swap"), ("pbm", "swap"), ("regression-em", "none")]
)
def test_the_curve_is_recovered(method, shuffle, seed):
    log, rows = log_of(shuffle, seed=seed)
    options = {"features": rows} if method == "regression-em" else {}
    found = estimate_propensities(log, method, **options)
    assert found.curve[0] == pytest.approx(1)
    assert found.curve == pytest.approx(CURVE, rel=0.12)


def test_harvesting_counts_pairs_evenly_where_asked():
    log, _ = log_of("swap")
    assert estimate_propensities(log, "harvest", weighting="even").curve == pytest.approx(CURVE, rel=0.15)
    with pytest.raises(UsageError, match="weighting"):
        estimate_propensities(log, "harvest", weighting="odd")


def test_the_click_rates_of_a_log_that_was_not_shuffled_are_another_curve():
    log, _ = log_of("none")
    assert abs(estimate_propensities(log, "randomised").curve - CURVE).max() > 0.05
    with pytest.raises(UsageError, match="cannot be harvested"):
        estimate_propensities(log, "harvest")


def test_what_is_missing_is_named():
    log = sessions_of([("q", ["a", "b"], [0, 1])])
    with pytest.raises(UsageError, match="did you mean 'harvest'"):
        estimate_propensities(log, "harvst")
    with pytest.raises(UsageError, match="features"):
        estimate_propensities(log, "regression-em")
    with pytest.raises(UsageError, match="first position has no clicks"):
        estimate_propensities(log, "randomised")
    assert {"randomised", "harvest", "pbm", "regression-em"} <= set(PROPENSITIES)


def test_clipping_tells_its_bias_and_the_effective_sample_size():
    log = sessions_of([("q", ["a", "b"], [1, 0])] * 6 + [("q", ["a", "b"], [0, 1])] * 2)
    curve = Propensities(np.array([1.0, 0.25]), "given")
    found = curve.clipping(log, 0.5)
    full, kept = 6 * 1 + 2 * 4, 6 * 1 + 2 * 2
    assert found.clipped == pytest.approx(2 / 8)
    assert found.bias == pytest.approx(1 - kept / full)
    assert found.effective == pytest.approx(kept**2 / (6 * 1 + 2 * 2**2))
    assert curve.clipped(0.5).curve.tolist() == [1.0, 0.5]  # exact: copied
