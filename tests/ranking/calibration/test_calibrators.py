"""Each calibrator's own facts, its peers, and the measures of probabilities."""

import numpy as np
import pytest
from scipy.special import expit, logit

from lorank.errors import UsageError
from lorank.ranking.calibration import NORMALISATIONS, compare_calibrators, normalise
from lorank.ranking.calibration.beta import Beta
from lorank.ranking.calibration.errors_of_probabilities import (
    brier_score,
    calibration_error,
    log_loss,
    measure_quality,
    reliability,
)
from lorank.ranking.calibration.fitting import cross_fit
from lorank.ranking.calibration.histogram import Histogram
from lorank.ranking.calibration.isotonic import Isotonic, pool_adjacent_violators
from lorank.ranking.calibration.labelled import Labelled, of_pairs, of_run
from lorank.ranking.calibration.platt import Platt
from lorank.ranking.calibration.temperature import Temperature


def drawn(seed, slope, intercept, count=20_000):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=count)
    return of_pairs(scores, rng.random(count) < expit(slope * scores + intercept))


def test_platt_finds_the_planted_line():
    found = [Platt.fit(drawn(seed, 1.7, -0.4)) for seed in range(3)]
    assert np.mean([each.slope for each in found]) == pytest.approx(1.7, abs=0.1)
    assert np.mean([each.intercept for each in found]) == pytest.approx(-0.4, abs=0.1)


def test_platt_is_logistic_regression_where_the_classes_are_large():
    linear_model = pytest.importorskip("sklearn.linear_model")
    data = drawn(0, 0.8, 0.3)
    peer = linear_model.LogisticRegression(C=np.inf, tol=1e-8).fit(data.scores[:, None], data.relevant)
    ours = Platt.fit(data)
    assert ours.slope == pytest.approx(peer.coef_[0, 0], abs=5e-3)
    assert ours.intercept == pytest.approx(peer.intercept_[0], abs=5e-3)


def test_temperature_is_the_inverse_slope():
    assert Temperature.fit(drawn(0, 0.5, 0.0)).temperature == pytest.approx(2.0, rel=0.1)


def test_isotonic_is_the_peers_within_the_steps():
    isotonic = pytest.importorskip("sklearn.isotonic")
    rng = np.random.default_rng(0)
    values, weights = rng.normal(size=50), rng.uniform(0.5, 2, 50)
    levels, starts = pool_adjacent_violators(values, weights)
    ours = np.repeat(levels, np.diff(np.append(starts, 50)))
    peer = isotonic.IsotonicRegression().fit_transform(np.arange(50), values, sample_weight=weights)
    assert ours == pytest.approx(peer)


def test_a_step_of_no_relevant_document_is_not_impossible():
    fitted = Isotonic.fit(of_pairs(np.array([0.0, 1.0, 2.0, 3.0]), np.array([False, False, True, True])))
    assert fitted(np.array([-5.0, 5.0])) == pytest.approx([1 / 4, 3 / 4])


def test_histogram_is_the_smoothed_share_of_each_bin():
    data = drawn(0, 2.0, 0.0, count=3000)
    fitted = Histogram.fit(data)
    top = data.scores >= np.sort(data.scores)[14 * 3000 // 15]
    expected = (data.relevant[top].sum() + data.relevant.mean()) / (top.sum() + 1)
    assert fitted(np.array([1e9])) == pytest.approx([expected])


def test_beta_recovers_beta_distributed_scores_where_platts_line_does_not():
    """Of p ~ Beta(a1, b1) for relevant and Beta(a0, b0) for others the log-odds are linear in ln p and ln(1 - p)."""
    gains = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        relevant = rng.random(20_000) < 0.5
        p = np.where(relevant, rng.beta(5, 1, 20_000), rng.beta(1, 1, 20_000))
        p = np.clip(p, 1e-9, 1 - 1e-9)
        truth = expit(np.log(5) + 4 * np.log(p))
        data = of_pairs(logit(p), relevant)
        gains.append(
            np.abs(Platt.fit(data)(data.scores) - truth).mean() - np.abs(Beta.fit(data)(data.scores) - truth).mean()
        )
    assert min(gains) > 0


def test_the_calibration_error_of_constants_is_their_distance():
    labels = np.arange(1000) % 4 == 0
    assert calibration_error(np.full(1000, 0.75), labels) == pytest.approx(0.75 - 0.25)
    assert brier_score(np.full(4, 0.5), np.array([0, 1, 1, 0])) == pytest.approx(0.25)
    assert log_loss(np.full(4, 0.5), np.array([False, True, True, False])) == pytest.approx(np.log(2))


def test_a_perfect_calibration_is_told_apart_from_a_bad_one():
    data = drawn(0, 1.0, 0.0, count=2000)
    perfect = measure_quality(expit(data.scores), data, rng=np.random.default_rng(0))
    bad = measure_quality(expit(4 * data.scores), data, rng=np.random.default_rng(0))
    assert perfect.ece < 1.5 * perfect.ece_if_perfect
    assert bad.ece > 2 * bad.ece_if_perfect
    assert bad.ece_interval[0] < bad.ece < bad.ece_interval[1]
    assert perfect.log_loss < bad.log_loss
    assert perfect.brier < bad.brier


def test_reliability_points_surround_the_diagonal():
    data = drawn(1, 1.0, 0.0, count=5000)
    points = reliability(expit(data.scores), data, rng=np.random.default_rng(0))
    inside = [point.low <= point.probability <= point.high for point in points]
    assert sum(point.pairs for point in points) == 5000
    assert np.mean(inside) > 0.6


def test_cross_fitting_never_fits_to_the_group_it_speaks_of():
    """Labels that are the opposite in each group of what its scores say elsewhere would be found out by a leak."""
    data = drawn(0, 3.0, 0.0, count=200)
    together = Labelled(data.scores, data.relevant, np.arange(200), np.arange(200) // 100)
    probabilities = cross_fit("platt", together, rng=np.random.default_rng(0))
    for group in (0, 1):
        other = Platt.fit(together.take(together.group != group))
        rows = together.group == group
        assert probabilities[rows] == pytest.approx(other(together.scores[rows]), abs=1e-6)
    with pytest.raises(UsageError, match="one group"):
        cross_fit(
            "platt",
            Labelled(*[getattr(data, f) for f in ("scores", "relevant", "query")], np.zeros(200, int)),
            rng=np.random.default_rng(0),
        )


def test_the_choice_is_the_one_of_the_least_log_loss():
    found = compare_calibrators(drawn(0, 0.3, -3.0, count=3000), resamples=50)
    losses = [each.quality.log_loss for each in found]
    assert losses == sorted(losses)
    assert {each.name for each in found} >= {"platt", "isotonic"}
    worst = found[-1]
    assert worst.name == "temperature"  # an intercept of -3 is what it cannot have


def test_a_run_is_labelled_by_judgments_and_ties():
    run = {"q": {"a": 2.0, "b": 1.0}, "r": {"b": 0.0}, "unjudged": {"a": 1.0}}
    labelled = of_run(run, {"q": {"a": 2, "b": 1}, "r": {"b": 2}, "s": {"a": 1}}, grade=2)
    assert labelled.relevant.tolist() == [True, False, True]
    assert (labelled.queries, labelled.groups) == (2, 1)
    with pytest.raises(UsageError, match="no judged query"):
        of_run({}, {"q": {"a": 1}})


@pytest.mark.parametrize("name", sorted(NORMALISATIONS))
def test_normalisations_keep_the_order_and_do_not_know_the_unit(name):
    scores = np.random.default_rng(0).normal(size=9)
    found = normalise(scores, name)
    assert np.argsort(found, kind="stable").tolist() == np.argsort(scores, kind="stable").tolist()
    if name != "softmax":
        assert normalise(5 * scores + 3, name) == pytest.approx(found)
    assert normalise(np.zeros(3), name) == pytest.approx(np.full(3, normalise(np.zeros(3), name)[0]))
    assert not len(normalise(np.zeros(0), name))
    if name in ("softmax", "share"):
        assert found.sum() == pytest.approx(1.0)
    with pytest.raises(UsageError, match="did you mean"):
        normalise(scores, name + "s")
