"""Trees on labels and features that a library does not take: learned from, or refused in a sentence."""

import numpy as np
import pytest

from lorank.errors import LorankError, UsageError
from lorank.ranking.scorers import TreeRanker
from lorank.ranking.scorers.features.rows import FeatureLists, ndcg

ROWS = np.random.default_rng(0).normal(size=(80, 3)).astype(np.float32)
RELEVANT = (ROWS[:, 0] > 0.5).astype(np.float64)
OFFSETS = np.arange(0, 81, 10)
LABELS = {
    "0/1": RELEVANT,
    "128": 128 * RELEVANT,
    "1e6": 1e6 * RELEVANT,
    "1e30": 1e30 * RELEVANT,
    "real": ROWS[:, 0].astype(np.float64),
    "below 0": -RELEVANT,
    "probabilities": 0.7 * RELEVANT,
    "all equal": np.ones(80),
    "all zero": np.zeros(80),
}
OBJECTIVES = {
    "lightgbm": ("lambdarank", "rank_xendcg", "lambda", "mse"),
    "xgboost": ("rank:ndcg", "rank:pairwise", "rank:map", "softmax"),
}


@pytest.mark.parametrize(
    ("library", "objective"), [(lib, each) for lib, all_of in OBJECTIVES.items() for each in all_of]
)
@pytest.mark.parametrize("features", ["different", "constant"])
def test_trees_learn_from_lists_or_refuse_them_in_a_sentence(library, objective, features):
    pytest.importorskip(library)
    rows = ROWS if features == "different" else np.ones_like(ROWS)
    refused: dict[str, str] = {}
    for kind, labels in LABELS.items():
        lists = FeatureLists(rows, labels, OFFSETS)
        try:
            ranker = TreeRanker(library, objective=objective, trees=3, leaves=4, leaf_rows=2).fit(lists, lists)
        except LorankError as error:
            refused[kind] = str(error)
            continue
        assert np.isfinite(ranker.score_lists(lists)).all(), kind
    assert all("\n" not in said and len(said) < 500 for said in refused.values())
    assert {"all equal", "all zero"} <= refused.keys()
    assert ("0/1" in refused) == (features == "constant")


def test_constant_features_and_labels_beyond_the_objective_are_told_apart():
    pytest.importorskip("lightgbm")
    with pytest.raises(UsageError, match="no feature differs between any two rows"):
        TreeRanker("lightgbm").fit(FeatureLists(np.ones_like(ROWS), RELEVANT, OFFSETS))
    with pytest.raises(UsageError, match="'lambdarank' takes whole labels from 0 to 30, and these go from 0 to 128"):
        TreeRanker("lightgbm").fit(FeatureLists(ROWS, 128 * RELEVANT, OFFSETS))


def test_ndcg_of_huge_grades_does_not_overflow():
    lists = FeatureLists(ROWS[:2], np.array([2000, 1000]), np.array([0, 2]))
    assert ndcg(lists, np.array([1.0, 0.0])).tolist() == pytest.approx([1.0])
    assert ndcg(lists, np.array([0.0, 1.0])).tolist() == pytest.approx([1 / np.log2(3)])
