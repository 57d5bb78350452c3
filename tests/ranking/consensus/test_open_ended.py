import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from lorank.errors import UsageError
from lorank.ranking.consensus import aggregate, from_duels
from lorank.ranking.consensus.open_ended import open_ended_ratings

OPEN_ENDED_EVAL_GAME = "open-ended-eval-game"


def table(seed, prompts=3, models=4):
    half = np.random.default_rng(seed).uniform(-0.5, 0.5, (prompts, models, models))
    return half - half.transpose(0, 2, 1)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.data())
def test_copies_of_models_and_prompts_leave_ratings_unchanged(seed, data):
    better = table(seed)
    models = [*range(4), *data.draw(st.lists(st.integers(0, 3), min_size=0, max_size=2))]
    prompts = [*range(3), *data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=2))]
    alone, more = open_ended_ratings(better), open_ended_ratings(better[np.ix_(prompts, models, models)])
    assert more.models == pytest.approx(alone.models[models], abs=1e-6)
    assert more.prompts == pytest.approx(alone.prompts[prompts], abs=1e-6)
    assert more.king_play.sum() == pytest.approx(1)


def test_elo_moves_with_copies_of_a_prompt_where_the_game_does_not():
    # Prompt 0 favours model a over b, prompt 1 favours b over c and c over a.
    better = np.array([[[0, 1, 0], [-1, 0, 0], [0, 0, 0]], [[0, 0, -1], [0, 0, 1], [1, -1, 0.0]]])

    def strengths(tables):
        duels = [("abc"[i], "abc"[j], (one[i, j] + 1) / 2) for one in tables for i in range(3) for j in range(i)]
        return aggregate(from_duels(duels), "bradley-terry").scores

    copied = better[[0, 0, 0, 0, 1]]
    assert strengths(copied)["a"] > strengths(better)["a"] + 0.1
    assert open_ended_ratings(copied).models == pytest.approx(open_ended_ratings(better).models, abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_with_one_prompt_it_is_the_zero_sum_game_of_the_linear_program(seed):
    payoffs = table(seed, prompts=1)[0]
    found = linprog(np.zeros(4), A_ub=payoffs, b_ub=np.zeros(4), A_eq=np.ones((1, 4)), b_eq=[1])
    ours = open_ended_ratings(payoffs[None])
    assert ours.rebel_play == pytest.approx(found.x, abs=1e-6)
    assert ours.king_play == pytest.approx(found.x, abs=1e-6)
    assert ours.models == pytest.approx(payoffs @ found.x, abs=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.permutations(range(4)))
def test_renaming_models_renames_ratings_and_king_and_rebel_are_alike(seed, order):
    better = table(seed)
    ours, renamed = open_ended_ratings(better), open_ended_ratings(better[:, order][:, :, order])
    assert renamed.models == pytest.approx(ours.models[order], abs=1e-7)
    assert ours.king_play == pytest.approx(ours.rebel_play, abs=1e-7)


def test_a_model_that_always_wins_is_rated_first_and_idle_prompts_last():
    better = np.zeros((2, 3, 3))
    better[0] = [[0, 1, 1], [-1, 0, 0.5], [-1, -0.5, 0]]
    ours = open_ended_ratings(better)
    assert ours.models[0] == ours.models.max()
    assert ours.prompts[1] == 0


def test_games_too_large_are_refused_and_many_copies_are_not():
    with pytest.raises(UsageError, match="joint plays"):
        open_ended_ratings(table(0, prompts=60, models=10))
    assert len(open_ended_ratings(table(0)[[0, 1, 2] * 200]).prompts) == 600


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((2, 2)),
        np.ones((1, 2, 2)),
        np.full((1, 1, 1), np.nan),
        np.array([[[0, 3], [-3, 0]]]),
        np.zeros((0, 2, 2)),
    ],
)
def test_bad_tables_are_named(bad):
    with pytest.raises(UsageError):
        open_ended_ratings(bad)
