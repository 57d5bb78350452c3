"""What every feature ranker promises: networks, tours, pointers, boosted networks and trees."""

import json
import subprocess
import sys

import numpy as np
import pytest

from lorank.errors import LorankError, UsageError
from lorank.ranking.scorers.features import NETWORKS, FeatureLists, FeatureRanker
from lorank.ranking.scorers.features.descent import main_measure
from lorank.ranking.scorers.features.trees import LIBRARIES, TreeRanker

FRESH = """
import json, sys
import numpy as np
from lorank.ranking.scorers.features import FeatureRanker
from lorank.ranking.scorers.features.trees import TreeRanker
kinds = {"features": FeatureRanker, "trees": TreeRanker}
rows = np.array(json.loads(sys.argv[2]), np.float32)
print(json.dumps({folder: kinds[json.load(open(folder + "/lorank.json"))["kind"]].load(folder).score("", rows).tolist()
                  for folder in json.loads(sys.argv[1])}))
"""

NEURAL = {
    "linear": {},
    "mlp": {"hidden": (16,), "dropout": 0.1},
    "set-transformer": {"width": 16, "blocks": 1},
    "tsprank": {"width": 16, "blocks": 0},
    "pointer": {"width": 16, "places": 4},
    "adaptdhm": {"hidden": (16,)},
    "deepfm": {"hidden": (16,), "dim": 4},
    "boosted": {"units": 4, "stages": 8, "transform": "quantile"},
}
TREES = {
    "lightgbm lambdarank": ("lightgbm", "lambdarank"),
    "lightgbm lambda": ("lightgbm", "lambda"),
    "lightgbm yetirank": ("lightgbm", "yetirank"),
    "xgboost rank:ndcg": ("xgboost", "rank:ndcg"),
    "xgboost softmax": ("xgboost", "softmax"),
    "catboost YetiRank": ("catboost", "YetiRank"),
    "catboost StochasticRank": ("catboost", "StochasticRank"),
}
CASES = [*NEURAL, *TREES, "mlp per query"]


def lists_of(count=40, size=8, seed=0):
    """Lists of 4 to ``size`` rows, whose relevance is a sum of two features; every tenth list has no relevant row."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(4, size + 1, count)
    rows = rng.lognormal(size=(sizes.sum(), 4)).astype(np.float32)
    rows[:, 3] = 7.0
    labels = np.digitize(np.log(rows[:, 0]) - np.log(rows[:, 1]), [0.8, 1.8])
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    for silent in range(0, count, 10):
        labels[offsets[silent] : offsets[silent + 1]] = 0
    return FeatureLists(rows, labels, offsets)


def fitted(case, seed=0, train=None):
    train = train or lists_of()
    if case in TREES:
        library, objective = TREES[case]
        pytest.importorskip(LIBRARIES[library].module)
        return TreeRanker(library, objective=objective, seed=seed, trees=15, leaves=4, leaf_rows=3).fit(train)
    if case == "mlp per query":
        return FeatureRanker(transform="log1p-query-standardise", hidden=(16,), seed=seed).fit(train, epochs=8, lr=0.01)
    ranker = FeatureRanker(model=case, seed=seed, **NEURAL[case])
    return ranker.fit(train, epochs=30 if case == "tsprank" else 12, lr=0.01)


@pytest.fixture(scope="module")
def made():
    """Each ranker fitted once; tests leave it as it is."""
    known = {}
    return lambda case: known.setdefault(case, fitted(case))


every_ranker = pytest.mark.parametrize("case", CASES)


def test_every_network_and_library_is_in_the_suite():
    assert set(NEURAL) == set(NETWORKS)
    assert {library for library, _ in TREES.values()} == set(LIBRARIES)


@every_ranker
def test_fitting_orders_new_lists(case, made):
    """A constant score, ties at their worst, earns about 0.3 here; a random order about 0.55."""
    test = lists_of(seed=9)
    scores = made(case).score_lists(test)
    assert scores.dtype == np.float32
    assert main_measure(scores, test) > (0.7 if case == "tsprank" else 0.8)


@every_ranker
def test_permuting_a_list_permutes_its_scores(case, made):
    rows = lists_of(seed=3).rows[:7]
    order = np.random.default_rng(1).permutation(7)
    np.testing.assert_allclose(
        made(case).score("", rows[order]), made(case).score("", rows)[order], rtol=1e-5, atol=1e-6
    )


@every_ranker
def test_lists_are_scored_alone_and_padding_has_no_influence(case, made):
    lists = lists_of(count=6, size=20, seed=4)
    together = made(case).score_lists(lists)
    alone = [made(case).score("", lists.rows[a:b]) for a, b in zip(lists.offsets, lists.offsets[1:])]
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-5, atol=1e-6)


@every_ranker
def test_pairs_may_come_in_any_order_and_more_than_once(case, made):
    lists = lists_of(count=3, seed=5)
    at = np.repeat(np.arange(3), lists.sizes)
    pairs = np.stack([at, np.arange(len(at))], 1)
    mixed = np.random.default_rng(0).permutation(len(pairs)).tolist()
    expected = made(case).score_lists(lists)
    scores = made(case).score_pairs(["", "", ""], lists.rows, pairs[[*mixed, mixed[0]]])
    np.testing.assert_allclose(scores, expected[[*mixed, mixed[0]]], rtol=1e-5, atol=1e-6)
    assert made(case).score_pairs([], lists.rows, pairs[:0]).shape == (0,)


@every_ranker
def test_equal_seeds_give_equal_rankers(case, made):
    test = lists_of(seed=9)
    assert np.array_equal(fitted(case).score_lists(test), made(case).score_lists(test))


@every_ranker
def test_lists_of_which_none_tells_documents_apart_are_refused(case):
    train = lists_of(count=10)
    with pytest.raises(UsageError, match="nothing to learn"):
        fitted(case, train=FeatureLists(train.rows, np.zeros_like(train.labels), train.offsets))


@every_ranker
def test_one_document_and_a_list_of_equal_rows_are_scored(case, made):
    rows = np.repeat(lists_of().rows[:1], 3, 0)
    assert np.isfinite(made(case).score("", rows)).all()
    assert made(case).score("", rows[:1]).shape == (1,)


def test_saved_rankers_give_the_same_scores_in_a_fresh_process(made, tmp_path):
    rows = lists_of(seed=6).rows[:9]
    cases = [case for case in CASES if case not in TREES or _installed(TREES[case][0])]
    folders = {case: str(tmp_path / case.replace(" ", "-").replace(":", "-")) for case in cases}
    for case, folder in folders.items():
        made(case).save(folder)
        assert not list((tmp_path / folder).glob("*.p*kl"))
    done = subprocess.run(
        [sys.executable, "-c", FRESH, json.dumps(list(folders.values())), json.dumps(rows.tolist())],
        capture_output=True,
        text=True,
        check=True,
    )
    scores = json.loads(done.stdout)
    for case, folder in folders.items():
        np.testing.assert_allclose(scores[folder], made(case).score("", rows), rtol=1e-6, atol=1e-7, err_msg=case)


def _installed(library):
    import importlib.util

    return importlib.util.find_spec(LIBRARIES[library].module) is not None


@every_ranker
def test_held_out_lists_decide_when_to_stop(case):
    """On held-out lists a ranker that stops is at least as good as it would have been at its start."""
    train, dev = lists_of(count=12), lists_of(seed=8, count=12)
    if case in TREES:
        library, objective = TREES[case]
        pytest.importorskip(LIBRARIES[library].module)
        ranker = TreeRanker(library, objective=objective, trees=30, leaves=4, leaf_rows=2, patience=10).fit(train, dev)
    else:
        per_query = {"transform": "log1p-query-standardise"}
        ranker = FeatureRanker(**(per_query if case == "mlp per query" else {"model": case, **NEURAL[case]}))
        ranker = ranker.fit(train, dev, epochs=10, lr=0.01, patience=3)
    assert main_measure(ranker.score_lists(dev), dev) > 0.3


@every_ranker
def test_rows_of_another_width_are_refused(case, made):
    with pytest.raises(UsageError, match="rows have 3 features, this ranker was made for 4"):
        made(case).score("", np.zeros((2, 3), np.float32))


def test_unknown_names_and_bad_values_are_refused_at_once():
    for wrong, message in [
        (lambda: FeatureRanker(model="mpl"), "did you mean 'mlp'"),
        (lambda: FeatureRanker(model="linear", hidden=(3,)), "option of feature model 'linear'"),
        (lambda: FeatureRanker(transform="log"), "did you mean 'log1p'"),
        (lambda: FeatureRanker(model="set-transformer", width=10, heads=3), "multiple of heads"),
        (lambda: FeatureRanker(model="tsprank", learning="globl"), "did you mean 'global'"),
        (lambda: FeatureRanker(dropout=1.0), "dropout must be in"),
        (lambda: TreeRanker("lightbgm"), "did you mean 'lightgbm'"),
        (lambda: TreeRanker("lightgbm", objective="lambdarnk"), "did you mean 'lambdarank'"),
        (lambda: TreeRanker("catboost", objective="lambda"), "unknown objective of catboost"),
        (lambda: TreeRanker("lightgbm", leafs=3), "did you mean 'leaves'"),
        (lambda: TreeRanker("lightgbm", leaves=1), "leaves must be 2 or more"),
        (lambda: TreeRanker("lightgbm").score("", np.zeros((1, 2))), "call fit"),
        (lambda: FeatureRanker(model="pointer").fit(lists_of(), loss="softmax"), "takes no loss"),
        (lambda: FeatureRanker(model="boosted", transform="query-minmax").fit(lists_of()), "without 'query'"),
    ]:
        with pytest.raises(UsageError, match=message):
            wrong()


def test_a_library_that_is_not_installed_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "catboost", None)
    with pytest.raises(LorankError, match=r"catboost is not installed.*lorank\[trees\]"):
        TreeRanker("catboost").fit(lists_of())


def test_lists_that_do_not_fit_their_rows_are_refused():
    for labels, offsets in [([1, 0], [0, 3]), ([1, 0, 0], [0, 2]), ([1, 0, 0], [0, 2, 1, 3])]:
        with pytest.raises(UsageError):
            FeatureLists(np.zeros((3, 1)), np.array(labels), np.array(offsets))
