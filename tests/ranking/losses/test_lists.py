"""Ranks, gains and discounts against their definitions and against trec_eval's nDCG."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorank.ranking.losses.core.lists import clean, discounts, exponential_gain, ideal_dcg, normalized_gains, ranks
from lorank.ranking.metrics import per_query

items = st.lists(st.tuples(st.integers(-2, 2), st.integers(0, 2), st.booleans()), min_size=1, max_size=9)


@given(items)
@settings(max_examples=100, deadline=None)
def test_ranks_by_counting(rows):
    scores, labels, mask = (torch.tensor([part]) for part in zip(*rows))
    rank = ranks(clean(scores.double(), labels, mask))[0].tolist()
    there = [(s, y) for s, y, present in rows if present]
    for (s, y, present), own in zip(rows, rank):
        if present:
            above = sum(t > s or (t == s and z < y) for t, z in there)
            assert own == above + (1 + there.count((s, y))) / 2
        else:
            assert own > len(there)


@pytest.mark.parametrize("k", [None, 3, 100])
def test_discounted_gains_are_trec_evals_ndcg(k):
    generator = torch.Generator().manual_seed(0)
    scores, labels = torch.randn(1, 9, generator=generator), torch.randint(4, (1, 9), generator=generator)
    lists = clean(scores, labels)
    ndcg = (normalized_gains(lists, "linear", k) * discounts(ranks(lists), k)).sum()
    measure = "nDCG" if k is None else f"nDCG@{k}"
    names = [f"d{i}" for i in range(9)]
    theirs = per_query(
        {"q": dict(zip(names, scores[0].tolist()))}, {"q": dict(zip(names, labels[0].tolist()))}, [measure]
    )
    assert float(ndcg) == pytest.approx(theirs[measure]["q"], rel=1e-5)


def test_ideal_dcg_of_exponential_gains_by_hand():
    gains = exponential_gain(torch.tensor([[0.0, 2.0, 1.0]], dtype=torch.float64))
    assert float(ideal_dcg(gains)) == pytest.approx(3 + 1 / torch.log2(torch.tensor(3.0, dtype=torch.float64)))
    assert float(ideal_dcg(gains, k=1)) == 3
