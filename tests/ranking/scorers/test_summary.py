"""The query's summary of a document holds what the query asks for, and is a part of the document."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorank.ranking.scorers.summary import query_weighted_summary, sentence_starts

END = np.array([0])


def sentences(rng, count=40, words=8):
    """Sentences of words 100 to 199, each closed by 0."""
    return [np.append(rng.integers(100, 200, words), 0) for _ in range(count)]


@pytest.mark.parametrize("seed", range(20))
def test_a_planted_sentence_is_kept_wherever_it_stands(seed):
    rng = np.random.default_rng(seed)
    body, query = sentences(rng), np.array([7, 8, 9])
    planted = np.array([150, 7, 151, 9, 8, 0])
    body.insert(int(rng.integers(len(body))), planted)
    summary = query_weighted_summary(query, np.concatenate(body), END, 30)
    assert len(summary) == 30
    assert planted.tolist() in [summary[i : i + 6].tolist() for i in range(25)]


def test_what_is_covered_counts_less():
    both, first, again, second = (np.array(s) for s in ([1, 2, 50, 0], [1, 51, 52, 0], [2, 54, 55, 0], [3, 56, 57, 0]))
    body = np.concatenate([first, again, both, second])
    chosen = query_weighted_summary(np.array([1, 2, 3]), body, END, 8, decay=0.5)
    assert chosen.tolist() == [*both, *second]  # 1 + 1, then 1 against twice a half
    heavy = query_weighted_summary(np.array([1, 2, 3]), body, END, 8, decay=0.5, weights={1: 1.0, 2: 5.0, 3: 1.0})
    assert heavy.tolist() == [*again, *both]


def test_without_a_word_of_the_query_it_is_the_beginning():
    body = np.concatenate(sentences(np.random.default_rng(0)))
    assert query_weighted_summary(np.array([5]), body, END, 20).tolist() == body[:20].tolist()


@given(st.lists(st.integers(0, 6), max_size=60), st.lists(st.integers(1, 6), max_size=5), st.integers(1, 40))
def test_it_is_a_subsequence_that_fits(body, query, room):
    body = np.array(body, np.int64)
    summary = query_weighted_summary(np.array(query, np.int64), body, END, room)
    assert len(summary) == min(room, len(body))
    rest = iter(body.tolist())
    assert all(token in rest for token in summary.tolist())
    starts = sentence_starts(body, END, room)
    assert len(starts) == len(set(starts.tolist()))
    assert not len(body) or np.diff(np.append(starts, len(body))).max() <= room
