"""Planted methods of known true difference: error rates, coverage and power over 1,000 repetitions.

A rate r over n repetitions is held against the nominal one by the binomial bounds that one test in 10,000 leaves.
"""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from lorank.compare.statistics import compute_statistics
from lorank.compare.statistics_settings import StatisticsSettings
from lorank.ranking.metrics.corrections import CORRECTIONS
from lorank.ranking.metrics.equivalence import posterior_means, practical_probabilities
from lorank.ranking.metrics.groups import sums
from lorank.ranking.metrics.hierarchical import hierarchical_bootstrap, spread, t_test_over_levels, widened_interval
from lorank.ranking.metrics.power import minimal_detectable_difference
from lorank.ranking.metrics.randomization_interval import randomization_interval
from lorank.ranking.metrics.significance import randomization_test
from planted_experiments import Planted, draw_row, group_of_each, plant_experiment

TIMES, LEVEL = 1000, 0.05
INDEPENDENT = Planted(groups=60, queries_per_group=1, group_sd=0.0, query_sd=0.2)
GROUPED = Planted(groups=40, queries_per_group=5, group_sd=0.15, query_sd=0.1)


def bounds(rate, times=TIMES):
    """Return the shares of successes that a binomial of this rate stays between, but for one time in 10,000."""
    return tuple(stats.binom.ppf([5e-5, 1 - 5e-5], times, rate) / times)


def assert_rate(found, rate, times=TIMES):
    low, high = bounds(rate, times)
    assert low <= found <= high, f"{found} is not within [{low}, {high}] of {rate}"


def pairs(planted, shift, seeds, seed, times=TIMES):
    """Yield two rows of values [queries, seeds], the first better by ``shift`` in truth."""
    rng = np.random.default_rng(seed)
    for _ in range(times):
        yield draw_row(planted, shift, seeds[0], rng), draw_row(planted, 0.0, seeds[1], rng)


def differences(planted, seed, shift=0.0, times=TIMES):
    """Return paired differences [queries, times] of rows with one seed."""
    return np.column_stack([(a - b)[:, 0] for a, b in pairs(planted, shift, (1, 1), seed, times)])


@pytest.mark.parametrize("planted", [INDEPENDENT, GROUPED], ids=["independent", "grouped"])
def test_the_randomisation_test_over_groups_errs_at_its_level(planted):
    each = sums(differences(planted, 1), group_of_each(planted))
    p = randomization_test(each, rng=np.random.default_rng(2), resamples=2000)
    assert_rate((p < LEVEL).mean(), LEVEL)


def test_a_test_that_is_blind_to_groups_lies():
    p = randomization_test(differences(GROUPED, 3), rng=np.random.default_rng(4), resamples=2000)
    assert (p < LEVEL).mean() > 4 * LEVEL


@pytest.mark.parametrize("planted", [INDEPENDENT, GROUPED], ids=["independent", "grouped"])
def test_power_is_what_the_detectable_difference_says(planted):
    member, seen = group_of_each(planted), []
    truth = planted.group_sd**2 / planted.groups + planted.query_sd**2 / (planted.groups * planted.queries_per_group)
    shift = minimal_detectable_difference(np.sqrt(2 * truth), planted.groups - 1, level=LEVEL, power=0.8)
    each = differences(planted, 5, shift)
    p = randomization_test(sums(each, member), rng=np.random.default_rng(6), resamples=2000)
    assert_rate((p < LEVEL).mean(), 0.8)
    for column in each.T[:200]:
        error = spread(column[:, None], member)
        seen.append(minimal_detectable_difference(error.standard_error, error.degrees, level=LEVEL, power=0.8))
    assert np.mean(seen) == pytest.approx(shift, rel=0.05)


SKEWED = {
    "independent": INDEPENDENT,
    "grouped": GROUPED,
    "some-large": Planted(84, (45, 42, 23, 22, 14, 11, *[3] * 38, *[1] * 40), 0.1, 0.1),
    "one-giant": Planted(33, (180, *[2] * 12, *[1] * 20), 0.1, 0.1),
    "few": Planted(9, 4, 0.1, 0.1),
}


@pytest.mark.parametrize("name", SKEWED)
def test_test_and_interval_of_the_randomisation_hold_for_groups_of_any_sizes(name):
    planted, shift = SKEWED[name], 0.03
    member, each = group_of_each(planted), differences(planted, 100, shift)
    low, high = randomization_interval(each, member, rng=np.random.default_rng(1), resamples=2000)
    held = (low <= shift) & (shift <= high)
    assert_rate(held.mean(), 1 - LEVEL)
    p = randomization_test(sums(each - shift, member), rng=np.random.default_rng(1), resamples=2000)
    assert_rate((p < LEVEL).mean(), LEVEL)
    assert ((p < LEVEL) == ~held).mean() > 0.98
    null = randomization_test(sums(each, member), rng=np.random.default_rng(1), resamples=2000)
    assert ((null < LEVEL) == ~((low <= 0) & (high >= 0))).mean() > 0.98


@pytest.mark.parametrize("name", ["some-large", "one-giant"])
def test_the_t_test_does_not_lie_where_a_group_is_large(name):
    planted, member = SKEWED[name], group_of_each(SKEWED[name])
    found = [
        t_test_over_levels(float(c.mean()), spread(c[:, None], member)) < LEVEL for c in differences(planted, 110).T
    ]
    assert np.mean(found) <= bounds(LEVEL)[1]


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 5])
@pytest.mark.parametrize("name", ["some-large", "one-giant"])
def test_the_interval_of_the_bootstrap_nearly_holds_where_a_group_is_large(name, seeds):
    held, found = coverage(replace(SKEWED[name], seed_sd=0.02 if seeds > 1 else 0.0), (seeds, seeds), 120, times=500)
    assert held >= 0.87
    assert found <= bounds(LEVEL, 500)[1]


def test_equal_groups_have_the_plain_variance_and_degrees():
    values = np.random.default_rng(0).normal(size=(60, 1))
    member = np.repeat(np.arange(12), 5)
    found, means = spread(values, member), values.reshape(12, 5).mean(1)
    assert found.variance == pytest.approx(means.var(ddof=1) / 12)
    assert found.degrees == pytest.approx(11)


def coverage(planted, seeds, seed, shift=0.02, times=TIMES):
    """Return how often the interval holds the true difference, and how often the t test finds one that is not there."""
    member, rng, held, found = group_of_each(planted), np.random.default_rng(seed + 1), 0, 0
    for a, b in pairs(planted, shift, seeds, seed, times):
        estimate, error = float(a.mean() - b.mean()), spread(a, member, b)
        drawn = hierarchical_bootstrap([a, b], member, rng=rng, resamples=1000)
        low, high = widened_interval(drawn[:, 0] - drawn[:, 1], estimate, error.degrees_of_resamples)
        held += low <= shift <= high
        found += t_test_over_levels(estimate - shift, error) < LEVEL
    return held / times, found / times


@pytest.mark.parametrize("planted", [INDEPENDENT, GROUPED], ids=["independent", "grouped"])
def test_intervals_over_groups_cover(planted):
    held, found = coverage(planted, (1, 1), 7)
    assert_rate(held, 1 - LEVEL)
    assert_rate(found, LEVEL)


SEEDED = [
    pytest.param(Planted(40, 2, 0.1, 0.1, seed_sd=0.02), (5, 5), id="both-5"),
    pytest.param(Planted(40, 2, 0.1, 0.1, seed_sd=0.02), (3, 3), id="both-3"),
    pytest.param(Planted(40, 2, 0.1, 0.1, seed_sd=0.02, together_sd=0.1), (5, 5), id="together"),
    pytest.param(Planted(200, 2, 0.05, 0.05, seed_sd=0.03), (5, 5), id="mostly-seeds"),
    pytest.param(Planted(40, 2, 0.1, 0.1, seed_sd=0.03), (20, 3), id="20-and-3"),
    pytest.param(Planted(40, 2, 0.1, 0.1, seed_sd=0.0), (5, 5), id="no-spread"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("planted", "seeds"), SEEDED)
def test_intervals_over_groups_and_seeds_cover(planted, seeds):
    held, found = coverage(planted, seeds, 9)
    assert_rate(held, 1 - LEVEL)
    assert_rate(found, LEVEL)


@pytest.mark.slow
def test_a_test_that_is_blind_to_seeds_lies_about_methods():
    planted, member, found = Planted(100, 2, 0.05, 0.05, seed_sd=0.02), group_of_each(Planted(100, 2)), 0
    for a, b in pairs(planted, 0.0, (5, 5), 11):
        each = sums((a.mean(1) - b.mean(1))[:, None], member)[:, 0]
        found += randomization_test(each, rng=np.random.default_rng(0), resamples=400) < LEVEL
    assert found / TIMES > 4 * LEVEL


@pytest.mark.slow
@pytest.mark.parametrize(("planted", "seeds"), SEEDED[:3])
def test_power_over_groups_and_seeds_is_what_the_detectable_difference_says(planted, seeds):
    member, q = group_of_each(planted), planted.groups * planted.queries_per_group
    each = planted.group_sd**2 / planted.groups + planted.query_sd**2 / q
    noise = [planted.seed_sd**2 / s + planted.together_sd**2 / (q * s) for s in seeds]
    degrees = (2 * each + sum(noise)) ** 2 / (
        (2 * each) ** 2 / (planted.groups - 1) + sum(n**2 / (s - 1) for n, s in zip(noise, seeds))
    )
    shift = minimal_detectable_difference(np.sqrt(2 * each + sum(noise)), degrees, level=LEVEL, power=0.8)
    found = sum(
        t_test_over_levels(float(a.mean() - b.mean()), spread(a, member, b)) < LEVEL
        for a, b in pairs(planted, shift, seeds, 13)
    )
    assert found / TIMES == pytest.approx(0.8, abs=0.055)


def planted_p(truths, seed):
    """Return p [times, tests] of independent tests of rows with the given true differences."""
    member, rng = group_of_each(GROUPED), np.random.default_rng(seed)
    columns = [sums(differences(GROUPED, seed + 1 + k, truth), member) for k, truth in enumerate(truths)]
    return np.column_stack([randomization_test(c, rng=rng, resamples=1000) for c in columns])


def found_by(name, p):
    """Return what a correction finds at the level, [times, tests]."""
    return np.array([CORRECTIONS[name](row) for row in p]) < LEVEL


def test_holm_bounds_the_chance_of_any_false_finding():
    found = found_by("holm", planted_p([0.0] * 8, 20))
    assert_rate(found.any(1).mean(), 1 - (1 - LEVEL / 8) ** 8)
    mixed = found_by("holm", planted_p([0.0] * 4 + [0.15] * 4, 40))
    assert mixed[:, :4].any(1).mean() <= bounds(LEVEL)[1]
    assert mixed[:, 4:].mean() > 0.5


def test_benjamini_hochberg_bounds_the_share_of_false_findings():
    p = planted_p([0.0] * 6 + [0.15] * 6, 60)
    found = found_by("bh", p)
    share = found[:, :6].sum(1) / np.maximum(1, found.sum(1))
    assert share.mean() == pytest.approx(LEVEL * 6 / 12, abs=4 * share.std() / np.sqrt(TIMES))
    assert found[:, 6:].mean() > found_by("holm", p)[:, 6:].mean()


def test_one_baseline_for_all_leaves_the_bounds():
    rng, member, tested = np.random.default_rng(80), group_of_each(GROUPED), []
    for _ in range(TIMES):
        base = draw_row(GROUPED, 0.0, 1, rng)[:, 0]
        each = np.column_stack([draw_row(GROUPED, 0.0, 1, rng)[:, 0] - base for _ in range(6)])
        tested.append(randomization_test(sums(each, member), rng=rng, resamples=400))
    for name, correct in CORRECTIONS.items():
        any_found = np.mean([min(correct(p)) < LEVEL for p in tested])
        assert 0.005 < any_found <= bounds(LEVEL)[1], name


def test_chances_of_the_posterior_come_true():
    """Where the truth is drawn wide and flat, a claim of chance c holds in c of the cases."""
    planted, rng, rope = Planted(60, 2, 0.1, 0.1), np.random.default_rng(90), 0.02
    member, claimed, held = group_of_each(planted), [], []
    for _ in range(TIMES):
        truth = rng.uniform(-0.08, 0.08)
        a, b = draw_row(planted, truth, 1, rng), draw_row(planted, 0.0, 1, rng)
        drawn = posterior_means([a, b], member, rng=rng, draws=400)
        chances = practical_probabilities(drawn[:, 0] - drawn[:, 1], rope)
        claimed.append((chances.worse, chances.equivalent, chances.better))
        held.append((truth < -rope, abs(truth) <= rope, truth > rope))
    claimed, held = np.array(claimed), np.array(held)
    assert claimed.sum(1) == pytest.approx(1.0)
    for low, high in ((0.0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1.01)):
        inside = (claimed >= low) & (claimed < high)
        if inside.sum() > 100:
            assert held[inside].mean() == pytest.approx(claimed[inside].mean(), abs=0.06)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 3])
def test_a_whole_experiment_errs_at_its_level(seeds):
    settings, planted = (
        StatisticsSettings(resamples=1000),
        Planted(30, 2, 0.06, 0.06, seed_sd=0.01 if seeds > 1 else 0.0),
    )
    found = held = 0
    for seed in range(TIMES):
        options = {"seeds": seeds, "baseline": "base", "seed": seed, "statistics": settings}
        result = plant_experiment({"base": 0.0, "lora": 0.0}, planted, **options)
        pair = compute_statistics(result).collections[0].measures["nDCG@10"].pairs[0]
        found += pair.finding != "tie"
        held += pair.interval[0] <= 0 <= pair.interval[1]
    assert_rate(found / TIMES, LEVEL)
    assert_rate(held / TIMES, 1 - LEVEL)
