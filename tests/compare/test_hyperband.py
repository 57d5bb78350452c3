"""Hyperband's arithmetic against the paper's table, and searches that find what is planted."""

import math
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorank.compare.hyperband import cost_of, hyperband, random_search, successive_halving
from lorank.compare.search_space import draw_configurations, read_dimension, read_space
from lorank.compare.tuning import make_search, plan_search, promote
from lorank.errors import UsageError
from lorank.training.recipe import RecipeFile

PAPER = [
    [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
    [(34, 3), (11, 9), (3, 27), (1, 81)],
    [(15, 9), (5, 27), (1, 81)],
    [(8, 27), (2, 81)],
    [(5, 81)],
]
"""Table 1 of the paper: (n_i, r_i) of the brackets s = 4, ..., 0 for R = 81 and eta = 3."""


def test_the_brackets_are_those_of_the_papers_table():
    found = hyperband(81, 3)
    assert [[rung.configurations for rung in bracket] for bracket in found] == [[n for n, _ in row] for row in PAPER]
    assert [rung.budget for bracket in found for rung in bracket] == pytest.approx([r for row in PAPER for _, r in row])


@given(most=st.floats(1, 3000), eta=st.floats(1.5, 6))
def test_a_bracket_costs_no_more_than_the_paper_allows(most, eta):
    brackets = hyperband(most, eta)
    last = len(brackets) - 1
    for s, bracket in zip(range(last, -1, -1), brackets, strict=True):
        rounded_up = (s + 1) * most  # at most one configuration more, at r, eta r, ..., R
        assert cost_of(bracket) <= ((last + 1) * most + rounded_up) * (1 + 1e-9)
        assert bracket[-1].budget <= most * (1 + 1e-9)


def test_the_papers_brackets_cost_at_most_b():
    assert max(map(cost_of, hyperband(81, 3))) <= 5 * 81 * (1 + 1e-12)


def test_bracket_zero_is_random_search():
    assert hyperband(27, 3)[-1] == random_search(27, 4)[0]


def test_halving_is_the_first_bracket():
    assert successive_halving(27, 3)[0] == hyperband(27, 3)[0]


@pytest.mark.parametrize("most", [3**k for k in range(1, 12)] + [2**k for k in range(1, 12)])
def test_powers_have_their_whole_number_of_brackets(most):
    eta = 3 if most % 3 == 0 else 2
    assert len(hyperband(most, eta)) == round(math.log(most, eta)) + 1


@pytest.mark.parametrize(("most", "eta"), [(0.5, 3), (math.inf, 3), (9, 1), (9, math.nan)])
def test_budgets_out_of_range(most, eta):
    with pytest.raises(UsageError):
        hyperband(most, eta)


def test_dimensions_are_drawn_within_their_ends():
    rng = np.random.default_rng(0)
    rates = [read_dimension("training.lr=1e-5..1e-2:log").draw(rng) for _ in range(400)]
    assert 1e-5 <= min(rates) < 3e-5
    assert 4e-3 < max(rates) <= 1e-2
    assert fmean(math.log10(rate) for rate in rates) == pytest.approx(-3.5, abs=0.2)
    assert {read_dimension("lists.negatives=1..3").draw(rng) for _ in range(60)} == {1, 2, 3}
    assert {read_dimension("adapter.rank=4,8,16").draw(rng) for _ in range(60)} == {4, 8, 16}


def test_the_first_configurations_do_not_depend_on_how_many_there_are():
    space = [read_dimension("training.lr=1e-5..1e-2:log"), read_dimension("adapter.rank=4,8")]
    assert draw_configurations(space, 9, 3)[:4] == draw_configurations(space, 4, 3)  # exact: the same draws


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ([], "nothing to search over"),
        (["training.lr"], "has no values"),
        (["adapter.rank=4"], "two values or more"),
        (["training.lr=1e-2..1e-5:log"], "the lower end is not below"),
        (["training.lr=0..1e-5:log"], "begins above 0"),
        (["training.lr=1..2:logg"], "'logg' is neither log nor linear"),
        (["training.lr=a..b"], "the ends of a range are numbers"),
        (["training.rate=1e-5..1e-2"], "training.rate: there is no such key"),
        (["adapter.rank=4,wide"], "adapter.rank"),
        (["adapter.rank=4,8", "adapter.rank=2,3"], "given twice"),
        (["training.steps=10,20"], "the budget, the data and the seed are not searched over"),
    ],
)
def test_a_bad_dimension_is_refused(over, said):
    with pytest.raises(UsageError, match=said):
        read_space(over, RecipeFile())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "bayes"}, "unknown --method 'bayes'"),
        ({"steps": None}, "give --steps"),
        ({"least": 99}, "the smallest budget is from 1 step to the 27"),
        ({"configurations": 4}, "Hyperband has its own"),
    ],
)
def test_a_bad_search_is_refused(options, said):
    with pytest.raises(UsageError, match=said):
        make_search(RecipeFile(), ["adapter.rank=4,8"], **({"steps": 27} | options))


def play(search, value):
    """Let every trial end at once, with ``value(configuration, steps)`` on dev; return what was tried, and steps."""
    lines, steps = {}, 0
    while True:
        pending = [each for each in plan_search(search, lines) if any(t.key not in lines for t in each.trials)]
        if not pending:
            return plan_search(search, lines), steps
        for each in pending:
            steps += each.steps
            for trial in each.trials:
                dev = {search.measure: value(each.configuration, each.steps)}
                lines[trial.key] = {"row": "tune", "settings": trial.settings, "result": {"dev": dev}}


def planted(best, spread):
    """The nearer a rate is to the best one, the better; short runs tell less."""
    return lambda config, steps: (1 - abs(math.log10(config["training.lr"]) - best) / 6) * steps / (steps + spread)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_hyperband_comes_nearer_to_the_planted_rate_than_random_search_of_the_same_cost(seed):
    recipe = RecipeFile(data="pydocs", base="minilm")
    over = ["training.lr=1e-7..1e-1:log"]
    value = planted(-3.0, 5)
    tried, steps = play(make_search(recipe, over, steps=81, least=1, seed=seed), value)
    found = max((each for each in tried if each.steps == 81), key=lambda each: each.dev)
    same_cost = make_search(recipe, over, method="random", configurations=steps // 81, steps=81, seed=100 + seed)
    at_random, _ = play(same_cost, value)
    assert abs(math.log10(found.configuration["training.lr"]) + 3) <= 0.35
    assert found.dev >= np.median([each.dev for each in at_random])
    assert len({each.configuration["training.lr"] for each in tried}) > 4 * (steps // 81)


def test_the_best_third_goes_on_and_what_failed_does_not():
    recipe = RecipeFile(data="pydocs", base="minilm")
    search = make_search(recipe, ["training.lr=1e-7..1e-1:log"], method="halving", steps=9, least=1)
    tried, _ = play(search, planted(-3.0, 1))
    at = {steps: [each for each in tried if each.steps == steps] for steps in (1, 3, 9)}
    assert [len(at[steps]) for steps in (1, 3, 9)] == [9, 3, 1]
    best = sorted(at[1], key=lambda each: -each.dev)[:3]
    assert [each.configuration for each in at[3]] == [each.configuration for each in best]
    from dataclasses import replace

    assert promote([replace(at[1][0], dev=None, failed="it diverged"), *at[1][1:3]], 9) == promote(at[1][1:3], 9)
