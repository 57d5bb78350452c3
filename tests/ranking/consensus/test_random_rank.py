import itertools

import numpy as np
import pytest

from lorank.catalogue import METHODS
from lorank.errors import UsageError
from lorank.ranking.consensus.random_rank import expected_cost, random_rank


@pytest.mark.parametrize("judges", [1, 2, 3])
def test_no_judge_gains_by_a_false_report_in_any_small_case(judges):
    grid = np.linspace(0, 1, 5)
    for opinions in itertools.product(grid, repeat=judges):
        for judge in range(judges):
            honest = expected_cost(np.array(opinions), opinions[judge])
            for lie in grid:
                reports = np.array(opinions)
                reports[judge] = lie
                assert expected_cost(reports, opinions[judge]) >= honest - 1e-12


@pytest.mark.parametrize(("many", "few"), [(1, 1), (5, 2), (9, 1)])
def test_two_groups_bear_the_same_expected_total_cost(many, few):
    reports = np.array([0.2] * many + [0.9] * few)
    assert many * expected_cost(reports, 0.2) == pytest.approx(few * expected_cost(reports, 0.9))
    assert many * expected_cost(reports, 0.2) == pytest.approx(many * few * 0.7 / (many + few))


def test_the_draw_has_the_stated_distribution_and_is_seeded():
    reports = np.array([0.1, 0.5, 0.5, 0.9])
    generator = np.random.default_rng(0)
    drawn = [random_rank(reports, generator) for _ in range(4000)]
    assert np.mean(np.isclose(drawn, 0.5)) == pytest.approx(0.5, abs=0.03)
    assert np.mean(np.isclose(drawn, 0.9)) == pytest.approx(0.25, abs=0.03)
    assert np.abs(np.array(drawn) - 0.1).mean() == pytest.approx(expected_cost(reports, 0.1), abs=0.03)
    assert random_rank(reports, np.random.default_rng(7)) == random_rank(reports, np.random.default_rng(7))
    assert METHODS["random-rank-mechanism"].area == "aggregate"
    for bad in (np.array([]), np.array([np.nan]), np.zeros((1, 2))):
        with pytest.raises(UsageError, match="one finite report"):
            random_rank(bad, generator)
