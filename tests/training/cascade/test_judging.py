"""Whether a cross-encoder pays, on planted lists whose documents are ranked by no model."""

from dataclasses import replace

import numpy as np
import pytest

from lorank.data.collection import Split
from lorank.training.cascade.judging import (
    Lists,
    choose_weight,
    decide_whether_to_keep,
    judge_cross_encoder,
    rank_crosswise,
)
from lorank.training.cascade.settings import GRID
from lorank.training.dev_sample import order_by_groups
from lorank.training.gain import Gain
from lorank.tuned.mix import Mix

QUERIES, LONG = 30, 12
PLACES = (0, 0, 1, 1, 4)
"""Where the relevant document stands in the lists; a random order of the eight best is worse on the average."""


def is_relevant(i, j):
    return j == PLACES[i % len(PLACES)]


def planted(learned_of, seed=0, groups=QUERIES):
    """Lists with a relevant document each; ``learned_of`` is the cross-encoder's score of the document at a place."""
    rng = np.random.default_rng(seed)
    mixed, learned, qrels = {}, {}, {}
    for i in range(QUERIES):
        names = [f"q{i}:{j}" for j in range(LONG)]
        mixed[f"q{i}"] = {name: float(LONG - j + rng.normal(0, 0.2)) for j, name in enumerate(names)}
        learned[f"q{i}"] = {name: float(learned_of(i, j, rng)) for j, name in enumerate(names[:8])}
        qrels[f"q{i}"] = {next(name for j, name in enumerate(names) if is_relevant(i, j)): 1, f"shared{i % groups}": 1}
    return Lists(mixed, mixed, learned, Split("dev", {q: q for q in qrels}, qrels))


def judge(lists, least_gain=0.005, seed=0):
    return judge_cross_encoder(lists, GRID, least_gain, "planted", seed)


def test_a_cross_encoder_that_knows_is_kept_with_all_that_it_gains():
    verdict = judge(planted(lambda i, j, rng: is_relevant(i, j)))
    assert verdict.kept
    assert verdict.gain.outcome == "better"
    assert verdict.gain.difference > 0.1
    assert verdict.gain.interval[0] > 0
    assert verdict.gain.groups == QUERIES
    assert "is kept" in verdict.describe()


@pytest.mark.parametrize(
    ("learned_of", "why"),
    [
        (lambda i, j, rng: 1.0, "no weight"),
        (lambda i, j, rng: -float(is_relevant(i, j)), "no weight"),
    ],
    ids=["says nothing", "is wrong"],
)
def test_one_that_knows_nothing_is_put_away(learned_of, why):
    verdict = judge(planted(learned_of))
    assert not verdict.kept
    assert why in verdict.why
    assert verdict.mix.weight == 0


def test_noise_is_mostly_put_away_although_some_weight_of_the_grid_always_fits_it():
    verdicts = [judge(planted(lambda i, j, rng: rng.normal(), seed), seed=seed) for seed in range(7)]
    assert np.median([verdict.kept for verdict in verdicts]) == 0
    assert np.median([verdict.gain.difference for verdict in verdicts]) < 0.005


def test_a_gain_below_the_least_that_pays_is_put_away():
    lists = planted(lambda i, j, rng: is_relevant(i, j))
    gain = judge(lists).gain.difference
    assert judge(lists, least_gain=gain / 2).kept
    refused = judge(lists, least_gain=min(1.0, 2 * gain))
    assert not refused.kept
    assert "does not reach" in refused.why


def test_no_query_is_ranked_with_a_weight_that_it_has_chosen():
    """Where the two halves of the groups disagree, each is ranked with what is best for the other."""
    qrels = planted(lambda i, j, rng: 0.0).split.qrels
    halves = order_by_groups(qrels, list(qrels), 0)
    good = {query for group in halves[::2] for query in group}
    lists = planted(lambda i, j, rng: (1.0 if f"q{i}" in good else -1.0) * is_relevant(i, j))
    final = rank_crosswise(lists, GRID, 0)
    for query in good:  # the others chose the weight 0
        assert final[query] == lists.mixed[query]  # exact: copied
    bad = next(query for query in lists.mixed if query not in good)
    assert final[bad] != lists.mixed[bad]


def test_one_group_cannot_both_choose_and_judge():
    verdict = judge(planted(lambda i, j, rng: is_relevant(i, j), groups=1))
    assert not verdict.kept
    assert "one group" in verdict.why
    assert verdict.gain.difference == 0


def test_the_weight_is_the_best_of_the_grid_and_the_smallest_of_equals():
    lists = planted(lambda i, j, rng: 3.0 * is_relevant(i, j))
    mix = choose_weight(lists.mixed, lists.learned, GRID, lists.split.qrels)
    values = dict(mix.curve)
    assert values[mix.weight] == max(values.values())
    assert all(values[g] < values[mix.weight] for g in GRID if g < mix.weight)
    assert mix.spread == pytest.approx(3.0 * np.std([1.0] + [0.0] * 7))


def test_a_step_of_a_cascade_says_why_its_p_does_not_count():
    gain = Gain("dev", 40, 30, 0.5, 0.5, 0.6, 0.1, (0.01, 0.2), 0.03)
    assert gain.why_tie == " (dev also chose the weights, so that p must be below 0.01 here)"
    assert replace(gain, p=0.4).why_tie == replace(gain, p=0.001).why_tie == replace(gain, split="test").why_tie == ""
    _, why = decide_whether_to_keep(Mix(1.0, 0.5), gain, 0.005)
    assert why == f"it reaches a gain of 0.005, although it cannot be told from chance{gain.why_tie}"
