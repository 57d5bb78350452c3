"""The dev queries of a run: drawn in groups, as deep and as often looked at as their share of the time allows."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorank.data.collection import Collection, Split
from lorank.ranking.metrics import group_tied_queries
from lorank.ranking.scorers import BiEncoder
from lorank.training.dev import tokens_read
from lorank.training.dev_sample import (
    BACKWARD,
    DEAREST,
    FEWEST_GROUPS,
    FEWEST_QUERIES,
    MOST_QUERIES,
    SHALLOW,
    SURE_GROUPS,
    DevSample,
    draw_queries,
    order_by_groups,
    plan_looks,
)
from lorank.training.loop.loop import MOST_LOOKS
from lorank.training.settings import OptimizerSettings, Recipe


def made(queries, depth=100, tied=1, whole=False):
    """``queries`` dev queries, ``tied`` after each other with one relevant document, and ``depth`` candidates each."""
    names = [f"q{i}" for i in range(queries)]
    qrels = {name: {f"r{i // tied}": 1} for i, name in enumerate(names)}
    run = {name: {f"d{j}": float(-j) for j in range(depth)} for name in names}
    data = Collection("made", [], [], {"dev": Split("dev", dict.fromkeys(names, "text"), qrels)})
    return data, SimpleNamespace(dev=run, whole=whole)


def pairs(run):
    return float(sum(map(len, run.values())))


def looks_of(queries=200, steps=1000, step_cost=100.0, asked=None, **shape):
    data, found = made(queries, **shape)
    return plan_looks(data, found, recipe_of(asked or OptimizerSettings()), steps, step_cost, pairs)


def recipe_of(asked):
    return Recipe(training=asked)


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=12), count=st.integers(1, 30), seed=st.integers(0, 5))
def test_whole_groups_are_drawn_until_no_other_fits(sizes, count, seed):
    qrels = {f"{group}.{i}": {f"d{group}": 1} for group, size in enumerate(sizes) for i in range(size)}
    chosen = draw_queries(order_by_groups(qrels, list(qrels), seed), count)
    assert len(chosen) == len(set(chosen)) == min(count, len(qrels))
    drawn = Counter(query.split(".")[0] for query in chosen)
    whole = sum(size for group, size in enumerate(sizes) if drawn[str(group)] == size)
    torn = [size for group, size in enumerate(sizes) if 0 < drawn[str(group)] < size]
    assert all(whole + size > count for size in torn)


def test_equal_seeds_draw_alike_and_others_do_not():
    qrels = {f"q{i}": {f"d{i}": 1} for i in range(40)}
    first, again, other = (draw_queries(order_by_groups(qrels, list(qrels), seed), 10) for seed in (1, 1, 2))
    assert first == again != other


@settings(deadline=None)
@given(queries=st.integers(1, 700), steps=st.integers(1, 3000), cost=st.floats(10, 5000), share=st.floats(0.05, 0.6))
def test_looks_keep_to_their_share_unless_they_are_the_fewest(queries, steps, cost, share):
    looks = looks_of(queries, steps, cost, OptimizerSettings(evaluation_share=share))
    affordable = share / (1 - share) * steps * cost * BACKWARD
    fewest = len(looks.sample.run) == min(queries, FEWEST_QUERIES) and looks.sample.depth == SHALLOW
    sure = looks.sample.groups <= 1.25 * SURE_GROUPS + 1 and 2 * looks.cost <= DEAREST * affordable * (1 + 1e-9)
    bound = (len(looks.steps) + 1) * looks.cost <= affordable * (1 + 1e-9)
    assert bound or (len(looks.steps) == 1 and (fewest or sure))
    assert looks.steps[-1] == steps
    assert len(looks.steps) <= MOST_LOOKS
    assert len(looks.sample.run) <= MOST_QUERIES


def test_depth_is_given_up_before_queries_and_looks_before_both():
    affordable = 1 / 3 * BACKWARD * 1000  # by steps of one pair
    full = affordable / (200 * 100)
    by_cost = {c: looks_of(200, 1000, c / full) for c in (7, 3, 2, 0.7, 0.4, 0.05)}
    shape = {c: (looks.sample.depth, len(looks.sample.run), len(looks.steps)) for c, looks in by_cost.items()}
    assert shape[7] == (100, 200, MOST_LOOKS)
    assert shape[3] == (100, 200, 2)
    assert shape[2] == (100, 200, 1)
    assert shape[0.7] == (SHALLOW, 200, 1)
    assert shape[0.4] == (SHALLOW, 200, 1)  # more than its share, for 200 groups are what decides
    assert shape[0.05][0] == SHALLOW
    assert FEWEST_QUERIES <= shape[0.05][1] < 200


def test_what_the_settings_say_is_done():
    asked = OptimizerSettings(evaluations=3, evaluation_queries=20, evaluation_depth=7)
    looks = looks_of(200, 10, 1.0, asked)
    assert looks.steps == (3, 7, 10)
    assert {len(row) for row in looks.sample.run.values()} == {7}
    assert len(looks.sample.run) == 20
    assert looks_of(5, 10, 1.0, replace(asked, evaluations=0)).steps == (10,)


def test_lists_that_came_with_the_data_stay_whole():
    looks = looks_of(300, 5, 1.0, whole=True)
    assert looks.sample.depth is None
    assert {len(row) for row in looks.sample.run.values()} == {100}
    assert looks.sample.name == "dev nDCG@10 over the given lists"


def test_the_best_candidates_are_kept_and_queries_without_any_count():
    data, found = made(3, depth=50)
    found.dev.pop("q1")
    sample = plan_looks(data, found, recipe_of(OptimizerSettings(evaluation_depth=2)), 5, 1.0, pairs).sample
    assert sample.run == {"q0": {"d0": 0.0, "d1": -1.0}, "q1": {}, "q2": {"d0": 0.0, "d1": -1.0}}  # exact: copied
    assert list(sample.qrels) == ["q0", "q1", "q2"]


def test_the_sample_says_its_size_in_queries_and_groups():
    data, found = made(400, tied=2)
    sample = plan_looks(data, found, recipe_of(OptimizerSettings(evaluation_queries=100)), 10**6, 100.0, pairs).sample
    assert sample.groups == len(set(group_tied_queries(sample.qrels).values())) == 50
    assert sample.size == "100 of 400 dev queries (50 independent groups)"
    assert sample.name == "dev nDCG@10 over the top 100"
    assert DevSample({}, {"a": {}, "b": {}}, 5, 2).size == "2 dev queries (2 independent groups)"


@pytest.mark.parametrize("tied", [1, 4, 20])
def test_a_sample_has_fifty_groups_or_half_of_all_however_little_training_costs(tied: int) -> None:
    """Groups are drawn whole: fifty queries may be a few groups, and what is chosen on them is chosen by chance."""
    data, found = made(800, tied=tied)
    sample = plan_looks(data, found, recipe_of(OptimizerSettings()), 1, 1e-6, pairs).sample
    assert sample.groups >= min(FEWEST_GROUPS, 800 // tied // 2)
    assert len(sample.qrels) < 500


@pytest.mark.parametrize("depth", [10, SHALLOW])
def test_short_lists_are_never_cut(depth):
    sample = looks_of(60, 1, 1.0, depth=depth).sample
    assert sample.depth == Recipe().lists.depth
    assert {len(row) for row in sample.run.values()} == {depth}


@pytest.mark.parametrize(("long", "passages"), [("truncate", 1), ("first", 1), ("max", 3), ("mean", 3)])
def test_scoring_reads_every_passage_where_training_reads_one(
    long: Any, passages: int, tiny_folders: dict[str, Path]
) -> None:
    ranker = BiEncoder(tiny_folders["bert"], max_length=10, long=long, overlap=0)
    plan: Any = SimpleNamespace(ranker=ranker, inputs=ranker.prepare(["moon"], ["moon earth list query " * 6, "moon"]))
    asked, read = plan.inputs.queries.lengths, plan.inputs.documents.lengths
    assert -(-read[0] // ranker.room) == 3
    pairs = np.array([[0, 0], [0, 1]])
    assert tokens_read(plan, pairs) == asked[0] + ranker.room + read[1]
    assert tokens_read(plan, pairs, whole=True) == asked[0] + passages * ranker.room + read[1]
