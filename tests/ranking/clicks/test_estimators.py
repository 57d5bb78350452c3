"""Estimators of a new policy: unbiased by enumeration, intervals that cover, refusals, and a real log both ways."""

import csv
import gzip
from itertools import permutations

import numpy as np
import pytest

from lorank.errors import LorankError, UsageError
from lorank.ranking.clicks.estimators import ESTIMATORS, LoggedRows, estimate
from lorank.ranking.clicks.estimators.position import position_weights
from lorank.ranking.clicks.estimators.reshuffling import reshuffled_effect

EXAMINED = np.array([1.0, 0.6, 0.4, 0.25])
ATTRACTION = np.array([0.8, 0.5, 0.3, 0.1])
ORDERS = np.array(list(permutations(range(4))))


def plackett_luce(strength, order):
    left, chance = np.exp(strength), 1.0
    for document in order:
        chance *= np.exp(strength[document]) / left.sum()
        left = np.where(np.arange(4) == document, 0, left)
    return chance


LOGGING = np.array([plackett_luce(np.array([0.5, 0.0, 0.2, -0.3]), order) for order in ORDERS])
TARGET = np.array([plackett_luce(np.array([2.0, 1.0, 0.0, -1.0]), order) for order in ORDERS])
REWARD = np.array([(EXAMINED * ATTRACTION[order]).sum() for order in ORDERS])
TRUTH = float((TARGET * REWARD).sum())


def logged(n, rng):
    """Draw rankings of 4 from the logging policy with the clicks of a position-based user."""
    at = rng.choice(len(ORDERS), n, p=LOGGING)
    clicks = (rng.random((n, 4)) < EXAMINED * ATTRACTION[ORDERS[at]]).sum(1).astype(float)
    model = np.full(len(ORDERS), REWARD.mean()) + 0.5 * (REWARD - REWARD.mean())
    return LoggedRows(
        clicks, (TARGET / LOGGING)[at], predicted=model[at], baseline=np.full(n, float((TARGET * model).sum()))
    )


@pytest.mark.parametrize("method", ["ips", "dr"])
def test_the_expectation_over_all_rankings_of_four_is_the_truth(method):
    model = REWARD * 0.3 + 0.1
    rows = LoggedRows(
        REWARD, TARGET / LOGGING, predicted=model, baseline=np.full(len(REWARD), float((TARGET * model).sum()))
    )
    assert (LOGGING * ESTIMATORS[method](rows)).sum() == pytest.approx(TRUTH)


def test_snips_of_all_rankings_is_the_truth():
    weights = TARGET / LOGGING
    assert (LOGGING * weights * REWARD).sum() / (LOGGING * weights).sum() == pytest.approx(TRUTH)


def test_the_position_weights_move_clicks_to_the_new_order():
    new = np.array([3, 1, 0, 2])
    for order in ORDERS:
        old_at, new_at = np.argsort(order) + 1, np.argsort(new) + 1
        weights = position_weights(old_at, new_at, EXAMINED)
        expected = (weights * EXAMINED[old_at - 1] * ATTRACTION).sum()
        assert expected == pytest.approx((EXAMINED[new_at - 1] * ATTRACTION).sum())


@pytest.mark.parametrize("method", ["ips", "snips", "dr"])
def test_intervals_cover_in_95_of_100(method):
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        found = estimate(logged(1000, rng), method)
        covered += found.low <= TRUTH <= found.high
    assert 0.92 < covered / 1000 < 0.98


def test_groups_widen_the_interval():
    rng = np.random.default_rng(1)
    rewards, weights = np.repeat(rng.random(50), 8), np.ones(400)
    alone = estimate(LoggedRows(rewards, weights), "ips")
    together = estimate(LoggedRows(rewards, weights, np.repeat(np.arange(50), 8)), "ips")
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_no_support_is_refused():
    rewards = np.ones(1000)
    with pytest.raises(LorankError, match="says nothing of it"):
        estimate(LoggedRows(rewards, np.zeros(1000)), "ips")
    with pytest.raises(LorankError, match="effective sample size is 1.0"):
        estimate(LoggedRows(rewards, np.eye(1, 1000)[0] * 900), "ips")
    half = np.random.default_rng(0).integers(0, 2, 1000) * 1.0  # the log supports half of the policy
    with pytest.raises(LorankError, match="never does"):
        estimate(LoggedRows(rewards, half), "snips")
    assert estimate(LoggedRows(rewards, half), "snips", support="ignore").value == pytest.approx(1)


def test_slips_are_named():
    rows = LoggedRows(np.ones(50), np.ones(50))
    with pytest.raises(UsageError, match="did you mean 'snips'"):
        estimate(rows, "snps")
    with pytest.raises(UsageError, match="model's rewards"):
        estimate(rows, "dr")
    with pytest.raises(UsageError, match="from 0 up"):
        estimate(LoggedRows(np.ones(2), np.array([-1.0, 1.0])), "ips")


def _bandit(path):
    with gzip.open(path, "rt") as file:
        for row in csv.DictReader(file):
            yield row["item_id"], int(row["position"]), float(row["click"]), float(row["propensity_score"])


@pytest.mark.parametrize("method", ["ips", "snips"])
@pytest.mark.parametrize("campaign", ["all", "men"])
def test_open_bandit_says_of_one_policy_what_the_other_measured(shared_data, method, campaign):
    folder = shared_data / "open-bandit"
    uniform, thompson = (list(_bandit(folder / f"{name}.{campaign}.csv.gz")) for name in ("random", "bts"))
    items = len({item for item, *_ in uniform})
    chance: dict = {}
    for item, place, *_ in thompson:  # the Thompson policy's choices at each position, as often as it made them
        chance[item, place] = chance.get((item, place), 0) + 1
    totals = {place: sum(n for (_, p), n in chance.items() if p == place) for place in (1, 2, 3)}
    from_thompson = LoggedRows(np.array([c for *_, c, _ in thompson]), np.array([1 / items / p for *_, p in thompson]))
    weights = [chance.get((item, place), 0) / totals[place] / p for item, place, _, p in uniform]
    from_uniform = LoggedRows(np.array([c for *_, c, _ in uniform]), np.array(weights))
    for rows, other in ((from_thompson, uniform), (from_uniform, thompson)):
        found = estimate(rows, method, support="ignore")
        clicks = np.array([c for *_, c, _ in other])
        half = (found.high - found.low) / 2
        if campaign == "all":
            assert found.low <= clicks.mean() <= found.high
        assert abs(found.value - clicks.mean()) <= np.hypot(half, 1.96 * clicks.std() / np.sqrt(len(clicks)))


def trial(rng, n=200, k=10, effect=1.0):
    """Simulate a trial: each arm treats its k highest indices; being treated adds ``effect`` times the true benefit."""
    arms = rng.permutation(np.repeat([0, 1], n // 2))
    benefit = rng.random(n)
    indices = np.stack([rng.random(n), benefit + 0.1 * rng.normal(size=n)], 1)
    treated = np.zeros(n, bool)
    for arm in (0, 1):
        own = np.flatnonzero(arms == arm)
        treated[own[np.argsort(-indices[own, arm])[:k]]] = True
    outcomes = rng.normal(size=n) * 2 + effect * 5 * benefit * treated
    return outcomes, arms, treated, indices


def test_reshuffling_is_unbiased_with_less_variance():
    rng = np.random.default_rng(0)
    plain, pooled = zip(
        *[(e.difference_of_means, e.reshuffled) for e in (reshuffled_effect(*trial(rng)) for _ in range(1500))]
    )
    error = np.std(plain) / np.sqrt(1500) * 4
    assert np.mean(pooled) == pytest.approx(np.mean(plain), abs=error)
    assert np.std(pooled) < 0.6 * np.std(plain)


def test_a_trial_that_cannot_be_is_named():
    outcomes, arms, treated, indices = trial(np.random.default_rng(0))
    with pytest.raises(UsageError, match="0 and 1"):
        reshuffled_effect(outcomes, np.zeros_like(arms), treated, indices)
    wrong = treated.copy()
    wrong[np.flatnonzero(arms == 0)[np.argmax(indices[arms == 0, 0])]] = False
    with pytest.raises(UsageError, match="untreated whose index"):
        reshuffled_effect(outcomes, arms, wrong, indices)
