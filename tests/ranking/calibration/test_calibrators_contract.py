"""What every calibrator promises, whatever its form."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from lorank.errors import UsageError
from lorank.ranking.calibration import CALIBRATORS, fit_calibrator
from lorank.ranking.calibration.errors_of_probabilities import calibration_error
from lorank.ranking.calibration.labelled import of_pairs

every = pytest.mark.parametrize("name", sorted(CALIBRATORS))


def planted(seed, count=4000, slope=2.0, intercept=0.0):
    """Scores whose labels are drawn from logistic(slope s + intercept)."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=count)
    return of_pairs(scores, rng.random(count) < expit(slope * scores + intercept))


@every
def test_planted_probabilities_are_recovered(name):
    errors = []
    for seed in range(3):
        fitted = fit_calibrator(name, planted(seed))
        new = planted(100 + seed)
        errors.append(np.abs(fitted(new.scores) - expit(2.0 * new.scores)).mean())
        assert calibration_error(fitted(new.scores), new.relevant) < calibration_error(expit(new.scores), new.relevant)
    assert np.mean(errors) < 0.04


@every
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20))
def test_probabilities_keep_the_order_and_lie_between_0_and_1(name, seed, asked):
    probabilities = fit_calibrator(name, planted(seed, 60))(np.sort(np.array(asked)))
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (len(asked),)
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    assert (np.diff(probabilities) >= 0).all()


@every
def test_what_json_holds_gives_the_same_probabilities(name):
    fitted = fit_calibrator(name, planted(0, 200))
    again = CALIBRATORS[name].from_dict(json.loads(json.dumps(fitted.to_dict())))
    asked = np.linspace(-4, 4, 50)
    assert again(asked) == pytest.approx(fitted(asked), abs=1e-7)


@every
def test_the_order_of_the_pairs_does_not_matter(name):
    data = planted(1, 300)
    turned = data.take(np.random.default_rng(0).permutation(len(data)))
    asked = np.linspace(-3, 3, 31)
    assert fit_calibrator(name, turned)(asked) == pytest.approx(fit_calibrator(name, data)(asked), abs=1e-4)


@every
def test_another_unit_of_the_scores_gives_the_same_probabilities(name):
    data = planted(2, 300)
    larger = of_pairs(1000.0 * data.scores, data.relevant)
    asked = np.linspace(-3, 3, 31)
    found = fit_calibrator(name, larger)(1000.0 * asked)
    assert found == pytest.approx(fit_calibrator(name, data)(asked), abs=1e-3)


@every
def test_separated_scores_have_finite_parameters(name):
    scores = np.array([-2.0, -1.0, 1.0, 2.0] * 5)
    fitted = fit_calibrator(name, of_pairs(scores, scores > 0))
    assert np.isfinite(fitted(np.array([-100.0, 0.0, 100.0]))).all()
    assert json.dumps(fitted.to_dict(), allow_nan=False)


@every
@pytest.mark.parametrize(
    ("scores", "relevant", "said"),
    [
        ([1.0, 2.0], [True, True], "2 of 2"),
        ([1.0, 2.0], [False, False], "0 of 2"),
        ([], [], "0 of 0"),
        ([1.0, 1.0], [True, False], "equal"),
        ([3.0, 2.0, 1.0, 0.5] * 10, [False, False, True, True] * 10, "no higher"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(name, scores, relevant, said):
    if name == "temperature" and said == "no higher":
        relevant = [not each for each in relevant]
        scores = [-each for each in scores]
    with pytest.raises(UsageError, match=said):
        fit_calibrator(name, of_pairs(np.array(scores), np.array(relevant, bool)))


@every
@pytest.mark.parametrize("damage", [{}, {"slope": "x"}, {"scores": [1, 0], "probabilities": [0, 1]}])
def test_descriptions_of_something_else_are_refused(name, damage):
    with pytest.raises((KeyError, TypeError, ValueError)):
        CALIBRATORS[name].from_dict(damage)


def test_a_name_of_none_is_met_with_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'isotonic'"):
        fit_calibrator("isotnic", planted(0, 20))


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(UsageError, match="finite"):
        of_pairs(np.array([1.0, np.nan]), np.array([True, False]))
