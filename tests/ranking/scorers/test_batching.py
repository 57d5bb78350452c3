"""Batches by length: every text once, within the budget, the same for any order."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lorank.ranking.scorers.batching import batches_by_length, content_keys


@given(st.lists(st.integers(0, 40), max_size=40), st.integers(1, 100))
@settings(max_examples=100, deadline=None)
def test_every_text_once_and_within_the_budget(lengths, budget):
    lengths = np.array(lengths, np.int64)
    batches = batches_by_length(lengths, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= budget
    longest = [lengths[batch].max() for batch in batches]
    assert longest == sorted(longest, reverse=True)


@given(st.lists(st.lists(st.integers(0, 3), max_size=4), unique_by=tuple, max_size=20), st.randoms())
@settings(max_examples=50, deadline=None)
def test_batches_do_not_depend_on_the_order_of_texts(rows, random):
    rows = [np.array(row, np.int32) for row in rows]
    shuffled = list(range(len(rows)))
    random.shuffle(shuffled)

    def contents(order):
        chosen = [rows[i] for i in order]
        lengths = np.array([len(row) for row in chosen], np.int64)
        return [[chosen[i].tolist() for i in batch] for batch in batches_by_length(lengths, 6, content_keys(chosen))]

    assert contents(range(len(rows))) == contents(shuffled)
