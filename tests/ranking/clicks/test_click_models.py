"""Closed forms of each click model on small sessions."""

import numpy as np
import pytest

from lorank.errors import UsageError
from lorank.ranking.clicks import SessionBuilder, find_click_model, sessions_of

A, B, C = 0.7, 0.4, 0.2


def likelihood(name, clicks, **options):
    model = find_click_model(name).of_relevance(np.array([A, B, C]), 3, **options)
    log = sessions_of([("q", ["a", "b", "c"], clicks)])
    model.names = log.names
    return float(np.exp(model.log_likelihood(log))[0])


def test_position_based():
    assert likelihood("pbm", [1, 0, 1], eta=1.0) == pytest.approx(A * (1 - B / 2) * C / 3)


def test_user_browsing():
    # gamma_{k, r} = 1 / (k - r): the third position is two below the click on the first
    assert likelihood("ubm", [1, 0, 1], eta=1.0) == pytest.approx(A * (1 - B) * C / 2)


def test_cascade():
    assert likelihood("cascade", [0, 1, 0]) == pytest.approx((1 - A) * B)
    assert likelihood("cascade", [1, 1, 0]) == pytest.approx(0)


def test_dependent_click():
    on = [0.9 * k**-0.5 for k in (1, 2)]
    stopped = 1 - on[1]
    assert likelihood("dcm", [1, 1, 0]) == pytest.approx(A * on[0] * B * (stopped + on[1] * (1 - C)))


def test_dynamic_bayesian():
    gamma, satisfied = 0.9, 0.8 * A
    on = gamma * (1 - satisfied)
    below = (1 - B) * ((1 - gamma) + gamma * (1 - C))
    assert likelihood("dbn", [1, 0, 0], gamma=0.9, satisfaction=0.8) == pytest.approx(A * ((1 - on) + on * below))


def test_trust():
    alpha, beta = 0.5 * (1 - 3 / 100), 0.5 * 0.65 / 2  # at the second position
    one = (1 - 2 / 100) * A + 0.65 * (1 - A)
    two = alpha * B + beta * (1 - B)
    third = 1 / 3 * ((1 - 4 / 100) * C + 0.65 / 3 * (1 - C))
    assert likelihood("trust", [1, 1, 0]) == pytest.approx(one * two * (1 - third))


def test_the_cascade_maximum_is_clicks_over_views_down_to_the_first_click():
    log = sessions_of([("q", ["a", "b"], [0, 1]), ("q", ["a", "b"], [1, 0]), ("q", ["a", "b"], [0, 0])])
    model = find_click_model("cascade")(smoothing=0.0).fit(log)
    assert model.attraction[:-1] == pytest.approx([1 / 3, 1 / 2])


def test_gaps_between_positions_are_kept():
    builder = SessionBuilder()
    builder.add("q", ["a"], [1], [3])
    assert builder.build().mask.tolist() == [[False, False, True]]
    with pytest.raises(UsageError, match="counted from 1"):
        builder.add("q", ["a"], [1], [0])


def test_the_split_of_a_log_loses_nothing():
    log = sessions_of([("q", ["a", "b"], [0, 1])] * 50 + [("q", ["a", "b"], [0, 0])] * 50)
    first, second = log.split(0.3, seed=1)
    assert first.impressions + second.impressions == pytest.approx(100)
    assert 10 < second.impressions < 50


def exchanged_log(seed, lists, views, share, looked_at):
    """Return a log of fixed lists of ten, in a share of which two places are exchanged.

    ``looked_at`` says how likely each place is looked at, given the place of the last click, 0 for none.
    """
    rng, places = np.random.default_rng(seed), 10
    attraction = np.where(np.arange(places) == rng.integers(places, size=(lists, 1)), 0.9, 0.1)
    builder = SessionBuilder()
    for query in np.repeat(np.arange(lists), views):
        order, last, clicks = np.arange(places), 0, []
        if rng.random() < share:
            first, second = rng.integers(places, size=2)
            order[[first, second]] = order[[second, first]]
        for k in range(places):
            clicks.append(int(rng.random() < attraction[query, order[k]] * looked_at(k + 1, last)))
            last = k + 1 if clicks[-1] else last
        builder.add(str(query), [str(d) for d in order], clicks)
    return builder.build()


@pytest.mark.parametrize("smoothing", [0.0, 1.0])
@pytest.mark.parametrize("log", [(80, 500, 0.2), (400, 20, 1.0)], ids=["few exchanged", "few views"])
def test_positions_are_told_from_attraction_whatever_attractions_are_smoothed_by(log, smoothing):
    truth = 1 / np.arange(1, 11)
    errors = []
    for seed in range(3):
        sessions = exchanged_log(seed, *log, lambda k, last: 1 / k)
        found = find_click_model("pbm")(smoothing=smoothing).fit(sessions).propensities()
        errors.append(float(np.abs(found / truth - 1).mean()))
    assert np.median(errors) < 0.12


def test_what_stands_below_the_last_click_is_told_from_attraction_in_few_views():
    log = exchanged_log(0, 1000, 30, 1.0, lambda k, last: 1 / (k - last))
    model = find_click_model("ubm")().fit(log)
    found = model.gamma() / model.gamma()[0, 0]
    truth = [[1 / (k - last) for last in range(k)] for k in range(1, 6)]
    for k, row in enumerate(truth):  # the first five positions, which have clicks enough
        assert found[k, : k + 1] == pytest.approx(row, rel=0.3)


def test_places_that_no_pair_links_are_left_to_em():
    log = sessions_of([("q", ["a", "b"], [1, 0]), ("q", ["a", "b"], [0, 1]), ("p", ["c", "d"], [0, 0])] * 10)
    model = find_click_model("pbm")().fit(log)
    assert not model.linked.any()
    assert np.isfinite(model.propensities()).all()
    assert np.diff(model.history).min() > -1e-9
