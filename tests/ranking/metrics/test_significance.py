"""Paired tests against scipy and enumeration; Holm by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lorank.ranking.metrics.significance import EXACT_UP_TO, holm, randomization_test, t_test


def rng():
    return np.random.default_rng(0)


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_exact_p_is_the_share_of_sign_patterns(values):
    differences = np.array(values) / 10
    patterns = itertools.product((1, -1), repeat=len(values))
    sums = [abs(sum(s * v for s, v in zip(signs, values))) for signs in patterns]
    share = np.mean([s >= abs(sum(values)) for s in sums])
    assert randomization_test(differences, rng=rng()) == pytest.approx(share)


@pytest.mark.parametrize("seed", range(4))
def test_exact_p_is_scipys(seed):
    differences = np.random.default_rng(seed).normal(0.4, 1, 12)
    peer = stats.permutation_test(
        (differences, np.zeros(12)),
        lambda a, b, axis: (a - b).mean(axis),
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=True,
    )
    assert randomization_test(differences, rng=rng()) == pytest.approx(peer.pvalue)


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.2])
def test_monte_carlo_p_is_scipys_within_its_error(shift):
    differences = np.random.default_rng(1).normal(shift, 1, 150)
    peer = stats.permutation_test(
        (differences, np.zeros(150)),
        lambda a, b, axis: (a - b).mean(axis),
        rng=2,
        permutation_type="samples",
        n_resamples=20_000,
        vectorized=True,
    ).pvalue
    p = randomization_test(differences, rng=rng(), resamples=20_000)
    assert p == pytest.approx(peer, abs=5 * np.sqrt(2 * peer * (1 - peer) / 20_000))


def test_monte_carlo_p_counts_the_observed_pattern():
    differences = np.ones(100)
    assert randomization_test(differences, rng=rng(), resamples=999) == 1 / 1000
    assert randomization_test(np.tile([1.0, -1.0], 50), rng=rng(), resamples=999) == pytest.approx(1.0)


def test_columns_are_tested_as_if_alone():
    columns = np.random.default_rng(3).normal(0.1, 1, (60, 3))
    columns[:, 1] = 0
    columns[: EXACT_UP_TO - 6, 1] = 0.1
    together = randomization_test(columns, rng=rng())
    alone = [randomization_test(columns[:, c], rng=rng()) for c in range(3)]
    assert together.tolist() == alone
    assert alone[1] == 2 / 2 ** (EXACT_UP_TO - 6)


def test_chunks_see_the_same_patterns_as_one_block(monkeypatch):
    from lorank.ranking.metrics import significance

    differences = np.random.default_rng(4).normal(0.05, 1, 64)
    whole = randomization_test(differences, rng=rng(), resamples=1000)
    monkeypatch.setattr(significance, "_CHUNK", 64 * 128)
    assert randomization_test(differences, rng=rng(), resamples=1000) == pytest.approx(whole, abs=0.05)


@pytest.mark.parametrize("test", [randomization_test, t_test])
def test_no_difference_is_p_one(test):
    assert test(np.zeros(30), rng=rng()) == pytest.approx(1.0)


def test_sign_does_not_matter_and_p_is_uniform_under_the_null():
    draws = np.random.default_rng(5).normal(0, 1, (40, 400))
    p = randomization_test(draws, rng=rng(), resamples=2000)
    np.testing.assert_array_equal(p, randomization_test(-draws, rng=rng(), resamples=2000))
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_t_is_scipys():
    columns = np.random.default_rng(6).normal(0.2, 1, (25, 4))
    np.testing.assert_allclose(t_test(columns), stats.ttest_1samp(columns, 0).pvalue, rtol=1e-10)
    assert t_test(np.full(5, 0.25)) == 0.0
    assert t_test(np.array([0.5])) == pytest.approx(1.0)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([3 * 0.01, 2 * 0.03, 2 * 0.03, 4 * 0.005])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_holm_keeps_order_and_never_shrinks(p):
    adjusted = holm(p)
    assert all(a >= q for a, q in zip(adjusted, p))
    assert all(a <= 1 for a in adjusted)
    order = np.argsort(p, kind="stable")
    assert np.all(np.diff(np.array(adjusted)[order]) >= 0)
