"""Bootstrap intervals against scipy.stats.bootstrap and their limiting cases."""

import numpy as np
import pytest
from scipy import stats

from lorank.ranking.metrics.intervals import INTERVALS, bca, bootstrap_means, interval, percentile


@pytest.mark.parametrize("method", ["percentile", "bca"])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_intervals_are_scipys_within_resampling_error(method, confidence):
    values = np.random.default_rng(0).exponential(1, 80)
    ours = interval(values, rng=np.random.default_rng(1), resamples=20_000, confidence=confidence, method=method)
    theirs = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=20_000,
        confidence_level=confidence,
        method={"bca": "BCa"}.get(method, method),
        rng=2,
    ).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.05 * values.std() / np.sqrt(80) * 3)


@pytest.mark.parametrize("method", INTERVALS)
def test_on_the_same_resamples_they_are_scipys_exactly(method):
    values = np.random.default_rng(3).gamma(2, 1, 40)
    means = bootstrap_means(values[:, None], rng=np.random.default_rng(4), resamples=500)[:, 0]
    given = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=0,
        method={"bca": "BCa"}.get(method, method),
        bootstrap_result=type("Result", (), {"bootstrap_distribution": means})(),
    )
    ours = INTERVALS[method](means, values, 0.95)
    assert ours == pytest.approx(tuple(given.confidence_interval), rel=1e-3)


def test_resampled_means_have_the_standard_error():
    values = np.random.default_rng(5).normal(0, 1, (200, 1))
    means = bootstrap_means(values, rng=np.random.default_rng(6))
    assert means.std() == pytest.approx(values.std() / np.sqrt(200), rel=0.05)
    assert means.mean() == pytest.approx(values.mean(), abs=0.005)


def test_columns_share_their_resamples():
    values = np.random.default_rng(7).normal(0, 1, (30, 1))
    means = bootstrap_means(np.hstack([values, values + 1, -values]), rng=np.random.default_rng(8), resamples=50)
    np.testing.assert_allclose(means[:, 1], means[:, 0] + 1)
    np.testing.assert_allclose(means[:, 2], -means[:, 0])


@pytest.mark.parametrize("method", INTERVALS)
@pytest.mark.parametrize("values", [[0.3], [0.1] * 7, [0.0] * 3])
def test_constant_values_have_a_point_for_an_interval(method, values):
    low, high = interval(np.array(values), rng=np.random.default_rng(0), method=method)
    assert low == pytest.approx(values[0], abs=1e-12)
    assert high == pytest.approx(values[0], abs=1e-12)


def test_the_seed_decides():
    values = np.random.default_rng(9).random(20)
    first, again, other = (interval(values, rng=np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_percentile_covers_and_bca_leans_with_the_skew():
    values = np.random.default_rng(10).exponential(1, 30)
    means = bootstrap_means(values[:, None], rng=np.random.default_rng(11))[:, 0]
    plain, corrected = percentile(means, values, 0.9), bca(means, values, 0.9)
    assert plain[0] < values.mean() < plain[1]
    assert corrected[1] > plain[1]
