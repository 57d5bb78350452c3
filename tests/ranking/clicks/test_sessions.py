"""Sessions from a stream of shown lists: equal ones folded in order, in memory that grows by few bytes a document."""

import tracemalloc

import numpy as np
import pytest

from lorank.errors import UsageError
from lorank.ranking.clicks import SessionBuilder, sessions_of

KEPT, FOLDED = 7, 40
"""Bytes for each shown document: while lists come in, and at the peak of folding them."""


def test_equal_lists_are_folded_in_the_order_of_the_first():
    rows = [("q", ["a", "b"], [1, 0]), ("p", ["a"], [0]), ("q", ["a", "b"], [1, 0]), ("q", ["a", "b"], [0, 0])]
    log = sessions_of(rows)
    assert log.counts.tolist() == pytest.approx([2, 1, 1])
    assert log.names == [("q", "a"), ("q", "b"), ("p", "a")]
    assert log.pairs.tolist() == [[0, 1], [2, 0], [0, 1]]
    assert log.clicks.tolist() == [[True, False], [False, False], [False, False]]
    assert log.mask.tolist() == [[True, True], [True, False], [True, True]]


def test_gaps_and_counts_are_kept():
    builder = SessionBuilder()
    builder.add("q", ["a", "b"], [0, 1], positions=[4, 2], count=2.5)
    builder.add("q", ["b", "a"], [1, 0], positions=[2, 4])
    log = builder.build()
    assert log.counts.tolist() == pytest.approx([3.5])
    assert log.mask.tolist() == [[False, True, False, True]]
    assert log.clicks.tolist() == [[False, True, False, False]]
    with pytest.raises(UsageError, match="no impression"):
        SessionBuilder().build()


def test_memory_grows_by_few_bytes_a_shown_document():
    rng, lists = np.random.default_rng(0), 20_000
    names = [f"d{i}" for i in range(30)]
    orders = [[names[i] for i in rng.permutation(30)[:10]] for _ in range(500)]
    clicks = (rng.random((lists, 10)) < 0.2).astype(int).tolist()
    chosen = rng.integers(500, size=lists).tolist()
    builder = SessionBuilder()
    tracemalloc.start()
    for i in range(lists):
        builder.add(f"q{i % 7}", orders[chosen[i]], clicks[i])
    kept = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    log = builder.build()
    folded = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert log.impressions == pytest.approx(lists)
    documents, pairs = 10 * lists, 200 * 210  # an entry of a pair takes less than 200 bytes
    assert kept < 1.5 * KEPT * documents + pairs + 10 * lists
    assert folded < (KEPT + FOLDED) * 1.2 * documents + pairs
