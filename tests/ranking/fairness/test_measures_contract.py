"""What every fairness measure promises: 0 to 1, the same for equal orders, and both extremes of its own family."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorank.errors import UsageError
from lorank.ranking.fairness import FAIRNESS_MEASURES, generate_ranking, measure_fairness
from lorank.ranking.fairness.prefixes import cut_points, difference, discounted, divergence, ratio, worst, worst_order

every = pytest.mark.parametrize("name", sorted(FAIRNESS_MEASURES))
PREFIXES = {"rnd": difference, "rrd": ratio, "rkl": divergence}
every_of_prefixes = pytest.mark.parametrize("name", sorted(PREFIXES))


@every
@settings(max_examples=40, deadline=None)
@given(st.lists(st.booleans(), min_size=2, max_size=60).filter(lambda row: len(set(row)) == 2))
def test_every_order_has_a_value_from_0_to_1(name, order):
    assert 0 <= measure_fairness(name, order) <= 1


@every
@pytest.mark.parametrize("order", [[], [True], [False, False]])
def test_one_group_alone_is_refused(name, order):
    with pytest.raises(UsageError, match="protected group and others"):
        measure_fairness(name, order)


def test_a_name_of_none_is_met_with_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'exposure'"):
        measure_fairness("exposre", [True, False])


@every_of_prefixes
@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 0.5])
def test_proportional_prefixes_are_0(name, share):
    every_ten = np.arange(10) < round(10 * share)
    assert measure_fairness(name, np.tile(every_ten, 20)) == pytest.approx(0.0, abs=1e-12)


@every_of_prefixes
@pytest.mark.parametrize(("length", "protected"), [(200, 40), (201, 100), (37, 5), (1000, 310)])
def test_the_worst_order_is_1_and_no_extreme_is_worse(name, length, protected):
    distance = PREFIXES[name]
    order = worst_order(length, protected, distance)
    assert (len(order), order.sum()) == (length, protected)
    assert measure_fairness(name, order) == pytest.approx(1.0)
    first = np.arange(length) < protected
    for other in (first, first[::-1]):
        assert measure_fairness(name, other) <= 1.0
    if name == "rnd" and 2 * protected < length:
        last = measure_fairness(name, first[::-1])
        assert max(measure_fairness(name, first), last) == pytest.approx(1.0)


@every_of_prefixes
@pytest.mark.parametrize(("length", "protected"), [(8, 3), (9, 1), (7, 4)])
def test_the_normaliser_is_the_largest_of_all_orders(name, length, protected):
    """A peer: every order of a short ranking."""
    sums = []
    for chosen in itertools.combinations(range(length), protected):
        order = np.zeros(length, bool)
        order[list(chosen)] = True
        sums.append(discounted(order, PREFIXES[name]))
    assert worst(length, protected, PREFIXES[name])[0] == pytest.approx(max(sums))


@pytest.mark.parametrize("name", ["rnd", "rkl"])
def test_unfairness_falls_and_rises_with_the_generators_f(name):
    """Monotone on both sides of the fair f, which is the share."""
    means = []
    for f in (0.0, 0.15, 0.3, 0.6, 1.0):
        found = [
            measure_fairness(name, generate_ranking(60, 140, f, np.random.default_rng(seed))) for seed in range(12)
        ]
        means.append(np.mean(found))
    assert means[0] > means[1] > means[2] < means[3] < means[4]


def test_the_generators_extremes_are_the_protected_last_and_first():
    rng = np.random.default_rng(0)
    assert generate_ranking(2, 3, 0.0, rng).tolist() == [False, False, False, True, True]
    assert generate_ranking(2, 3, 1.0, rng).tolist() == [True, True, False, False, False]
    assert generate_ranking(30, 70, 0.3, rng).sum() == 30
    with pytest.raises(UsageError):
        generate_ranking(1, 1, 1.5, rng)


def test_one_cut_by_hand():
    # 20 items, 5 protected, all in the first 10: |5/10 - 5/20| / log2(10) is the only term that is not 0
    order = np.array([True] * 5 + [False] * 15)
    assert cut_points(20) == [10, 20]
    assert discounted(order, difference) == pytest.approx(0.25 / np.log2(10))
    assert discounted(order, ratio) == pytest.approx(abs(5 / 5 - 5 / 15) / np.log2(10))
    kl = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)
    assert discounted(order, divergence) == pytest.approx(kl / np.log2(10))


@pytest.mark.parametrize(
    ("file", "column"), [("GermanCredit_sex", "sex"), ("GermanCredit_age25", None), ("ProPublica_race", "race")]
)
def test_real_tables_lie_between_and_reach_both_extremes(shared_data, file, column):
    pandas = pytest.importorskip("pandas")
    rows = pandas.read_csv(shared_data / "fairness" / f"{file}.csv.gz")
    score = "score" if "score" in rows else "Recidivism_rawscore"
    kinds = rows[column] if column else rows.iloc[:, -1]
    protected = (kinds == kinds.unique()[np.argmin([(kinds == each).sum() for each in kinds.unique()])]).to_numpy()
    order = protected[np.argsort(-rows[score].to_numpy(), kind="stable")][:1000]
    for name, distance in PREFIXES.items():
        assert 0 < measure_fairness(name, order) < 1
        least = worst_order(len(order), int(order.sum()), distance)
        assert measure_fairness(name, least) == pytest.approx(1.0)
        count, length = int(order.sum()), len(order)
        spread = np.floor(np.arange(1, length + 1) * count / length + 0.5)
        proportional = np.diff(spread, prepend=0) > 0
        assert measure_fairness(name, proportional) < 0.05
