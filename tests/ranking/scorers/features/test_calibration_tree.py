"""The calibration tree of baidu-plm-ranking: grades from what readers did, closer to humans' than clicks are."""

import numpy as np
import pytest

from lorank.errors import UsageError
from lorank.ranking.scorers.features.calibration_tree import CalibrationTree


def logged(count, seed):
    """Rows (click, dwell, place, attractive title) and grades; titles draw clicks that relevance does not deserve."""
    rng = np.random.default_rng(seed)
    grades, attractive, place = rng.integers(0, 5, count), rng.random(count), rng.integers(0, 10, count)
    click = rng.random(count) < (0.1 + 0.1 * grades + 0.5 * attractive) / (1 + 0.2 * place)
    dwell = np.where(click, rng.gamma(2.0, 4.0 + 14.0 * grades), 0.0)
    return np.stack([click, dwell, place, attractive], 1), grades


def test_its_grades_are_closer_to_humans_than_clicks_are():
    rows, grades = logged(6000, 0)
    tree = CalibrationTree().fit(rows[:1500], grades[:1500])
    found, truth, clicks = tree.predict(rows[1500:]), grades[1500:], rows[1500:, 0]
    assert np.corrcoef(found, truth)[0, 1] > np.corrcoef(clicks, truth)[0, 1] + 0.15
    assert abs(found.mean() - truth.mean()) < 0.1  # on the scale of human grades
    clicked = clicks > 0
    assert np.corrcoef(found[clicked], truth[clicked])[0, 1] > 0.5  # where clicks alone tell nothing


@pytest.mark.parametrize(("depth", "leaf"), [(0, 1), (2, 5), (4, 20)])
def test_it_is_the_tree_of_least_squares(depth, leaf):
    trees = pytest.importorskip("sklearn.tree")
    rng = np.random.default_rng(1)
    rows, grades = rng.normal(size=(300, 3)), rng.normal(size=300)
    ours = CalibrationTree(depth=depth, leaf=leaf).fit(rows, grades)
    fresh = rng.normal(size=(200, 3))
    if depth:
        peer = trees.DecisionTreeRegressor(max_depth=depth, min_samples_leaf=leaf, random_state=0).fit(rows, grades)
        np.testing.assert_allclose(ours.predict(fresh), peer.predict(fresh), rtol=1e-6)
    else:
        assert ours.predict(fresh).tolist() == pytest.approx([grades.mean()] * 200)


def test_leaves_hold_enough_judged_rows_and_equal_grades_are_not_split():
    rows, grades = logged(400, 2)
    tree = CalibrationTree(depth=6, leaf=60).fit(rows, grades)
    values, counts = np.unique(tree.predict(rows), return_counts=True)
    assert counts.min() >= 60
    assert len(values) > 1
    assert CalibrationTree(leaf=1).fit(rows, np.ones(400)).features == [-1]


def test_wrong_use_is_refused():
    with pytest.raises(UsageError, match="not been grown"):
        CalibrationTree().predict(np.zeros((1, 2)))
    with pytest.raises(UsageError, match="one grade for each"):
        CalibrationTree().fit(np.zeros((3, 2)), np.zeros(2))
    with pytest.raises(UsageError, match="depth must be 0 or more"):
        CalibrationTree(depth=-1)
