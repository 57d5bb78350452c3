import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorank.ranking.consensus import aggregate, from_counts, from_table
from lorank.ranking.consensus.nash import game_value, hodge_split, log_odds, maxent_equilibrium, task_scores

NASH_AVERAGING = "nash-averaging"


def antisymmetric(seed, n):
    half = np.random.default_rng(seed).normal(size=(n, n))
    return half - half.T


def entropy(share):
    share = share[share > 0]
    return -(share * np.log(share)).sum()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 9))
def test_nobody_beats_the_equilibrium(seed, n):
    payoffs = antisymmetric(seed, n)
    share = maxent_equilibrium(payoffs)
    assert share.sum() == pytest.approx(1)
    assert (share >= 0).all()
    assert (payoffs @ share).max() <= 1e-9
    assert (payoffs @ share)[share > 1e-6] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("seed", "n"), [(14, 9), (95, 9), (211, 8), (272, 6), (318, 8), (373, 8)])
def test_an_equilibrium_at_which_the_dual_is_flat_is_found_on_its_face(seed, n):
    """The only equilibrium spans the null space of the payoffs among those that it plays."""
    payoffs = antisymmetric(seed, n)
    share = maxent_equilibrium(payoffs)
    played = share > 0
    among = payoffs[np.ix_(played, played)]
    assert among @ share[played] == pytest.approx(0, abs=1e-12)
    assert (payoffs @ share).max() <= 1e-12
    assert np.linalg.matrix_rank(among) == played.sum() - 1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 7), st.data())
def test_copies_of_an_agent_change_no_rating(seed, n, data):
    payoffs = antisymmetric(seed, n)
    copies = [*range(n), *data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=4))]
    alone, more = (matrix @ maxent_equilibrium(matrix) for matrix in (payoffs, payoffs[np.ix_(copies, copies)]))
    assert more == pytest.approx(alone[copies], abs=1e-8)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.data())
def test_copies_of_a_task_change_no_rating(seed, data):
    scores = np.random.default_rng(seed).normal(size=(5, 6))
    columns = [*range(6), *data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=4))]
    alone, more = scores @ maxent_equilibrium(scores), scores[:, columns] @ maxent_equilibrium(scores[:, columns])
    assert more == pytest.approx(alone, abs=1e-8)
    assert alone.max() == pytest.approx(game_value(scores), abs=1e-9)


def test_the_largest_entropy_of_many_equilibria():
    rock_paper_scissors = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0.0]])
    assert maxent_equilibrium(rock_paper_scissors) == pytest.approx(np.full(3, 1 / 3))
    assert maxent_equilibrium(np.zeros((4, 4))) == pytest.approx(np.full(4, 1 / 4))
    two_rocks = rock_paper_scissors[np.ix_([0, 0, 1, 2], [0, 0, 1, 2])]
    assert maxent_equilibrium(two_rocks) == pytest.approx([1 / 6, 1 / 6, 1 / 3, 1 / 3])
    # Columns 0 and 1 are both best: any mix is an equilibrium, the even one has the largest entropy.
    assert maxent_equilibrium(np.array([[0, 0, 1], [0, 0, 2], [-1, -2, 0.0]])) == pytest.approx([0.5, 0.5, 0])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_no_other_equilibrium_has_more_entropy(seed):
    rng = np.random.default_rng(seed)
    small = rng.integers(-2, 3, (5, 5)).astype(float)
    payoffs = small - small.T
    share = maxent_equilibrium(payoffs)
    assert (payoffs @ share).max() <= 1e-8
    for _ in range(20):
        from scipy.optimize import linprog

        found = linprog(rng.normal(size=5), A_ub=payoffs, b_ub=np.zeros(5), A_eq=np.ones((1, 5)), b_eq=[1])
        assert entropy(share) >= entropy(found.x) - 1e-7
        assert entropy(share) >= entropy((found.x + share) / 2) - 1e-7


def test_transitive_agents_put_all_on_the_best_and_the_hodge_split_sums_back():
    profile = from_counts("abc", np.array([[0, 9, 9], [1, 0, 9], [1, 1, 0.0]]))
    odds = log_odds(profile)
    assert odds == pytest.approx(-odds.T)
    assert maxent_equilibrium(odds) == pytest.approx([1, 0, 0])
    assert aggregate(profile, NASH_AVERAGING).scores == pytest.approx(
        {"a": 0, "b": -np.log(9.5 / 1.5), "c": -np.log(9.5 / 1.5)}
    )
    transitive, cyclic = hodge_split(odds)
    assert transitive + cyclic == pytest.approx(odds)
    assert cyclic.sum(axis=1) == pytest.approx(0, abs=1e-12)
    rating = odds.mean(axis=1)
    assert hodge_split(rating[:, None] - rating[None, :])[1] == pytest.approx(0, abs=1e-12)


def test_tasks_need_scores_and_missing_ones_count_as_the_mean():
    table = from_table({"easy": {"x": 2.0, "y": 1.0}, "hard": {"x": 1.0, "y": 3.0, "z": 2.0}})
    half = np.sqrt(1.5)
    assert task_scores(table) == pytest.approx(np.array([[1, -half], [-1, half], [0, 0]]))
    # x (1, -h) against y (-1, h): z is dominated by no one; tasks mix so that all payoffs are 0 at (h, 1) / (1 + h).
    assert aggregate(table, "nash", game="tasks").scores == pytest.approx({"x": 0, "y": 0, "z": 0}, abs=1e-9)
