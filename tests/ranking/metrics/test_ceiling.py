"""The ceilings: recall of the list, and what reordering it can reach, checked by trying every order."""

from itertools import permutations

import numpy as np
import pytest

from lorank.ranking.metrics import ndcg_ceiling, per_query, recall_ceiling


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("k", [2, 10])
def test_no_order_of_the_list_does_better_and_one_does_as_well(seed, k):
    rng = np.random.default_rng(seed)
    judged = {f"d{i}": int(rng.integers(4)) for i in range(8)}
    judged["d0"] = 3
    listed = [f"d{i}" for i in rng.permutation(10)[:5]]
    best = 0.0
    for order in permutations(listed):
        run = {"q": {document: -float(i) for i, document in enumerate(order)}}
        best = max(best, per_query(run, {"q": judged}, [f"nDCG@{k}"])[f"nDCG@{k}"]["q"])
    assert ndcg_ceiling({"q": dict.fromkeys(listed, 0.0)}, {"q": judged}, k)["q"] == pytest.approx(best)


def test_recall_ceiling_is_recall_at_the_lists_length():
    run = {"q": {f"d{i}": float(i) for i in range(5)}}
    qrels = {"q": {"d1": 1, "d4": 2, "d7": 1, "d2": 0}, "absent": {"d1": 1}, "dull": {"d1": 0}}
    assert recall_ceiling(run, qrels) == per_query(run, qrels, ["R@1000"])["R@1000"]
    assert ndcg_ceiling(run, qrels)["absent"] == ndcg_ceiling(run, qrels)["dull"] == 0.0
