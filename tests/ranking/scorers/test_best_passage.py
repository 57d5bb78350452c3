"""The passage that is trained on: the one that has most of a query's words."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lorank.ranking.scorers import BiEncoder
from lorank.ranking.scorers.best_passage import best_by_words, inverse_frequencies
from lorank.ranking.scorers.tokens import Span, TokenTable, windows


def table_of(*rows: list[int]) -> TokenTable:
    ids = np.array([token for row in rows for token in row], np.int32)
    return TokenTable(ids, np.cumsum([0, *map(len, rows)]), 4)


def starts_of(queries: TokenTable, documents: TokenTable, scored: np.ndarray | None = None) -> list[int]:
    asked, read = np.arange(len(queries)), np.arange(len(documents))
    scored = np.ones((len(asked), len(read)), bool) if scored is None else scored
    span = Span(*windows(documents.lengths, np.full(len(documents), 4), 0))
    none = np.zeros(len(span), bool)
    rows = best_by_words(queries, asked, documents, read, scored, span, none, inverse_frequencies(documents))
    return span.start[rows].tolist()


def test_the_passage_with_the_words_of_the_query_is_taken() -> None:
    documents = table_of([1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3], [1, 2, 3, 4, 1, 2, 3, 4])
    assert starts_of(table_of([7, 8]), documents) == [4, 0, 0]
    assert starts_of(table_of([1, 9]), documents) == [0, 0, 0]
    assert starts_of(table_of([9]), documents) == [0, 0, 0]


def test_a_rare_word_counts_for_more_than_a_common_one() -> None:
    documents = table_of([1, 1, 1, 1, 8, 1, 2, 2], [1, 2, 5, 6], [1, 3, 3, 3])
    assert starts_of(table_of([1, 8]), documents)[0] == 4
    assert starts_of(table_of([2, 1, 9]), table_of([1, 4, 4, 4, 2, 5, 5, 5], [1], [1]))[0] == 4


def test_only_queries_that_score_a_document_choose_its_passage() -> None:
    documents = table_of([1, 2, 3, 4, 5, 6, 7, 8])
    queries = table_of([1, 2], [5, 9])
    assert starts_of(queries, documents) == [0]
    assert starts_of(queries, documents, np.array([[False], [True]])) == [4]


def test_the_last_passage_ends_with_the_text() -> None:
    documents = table_of([1, 2, 3, 4, 5, 6])
    _, begins, _ = windows(np.array([6]), np.array([4]), 0)
    assert starts_of(table_of([6]), documents) == [begins[-1]] == [2]


@pytest.mark.parametrize("long", ["max", "truncate"])
def test_a_bi_encoder_that_scores_by_its_best_passage_trains_on_it(long: str, tiny_folders: dict[str, Path]) -> None:
    texts = ["moon earth list query " * 6 + "sun words", "moon"]
    ranker = BiEncoder(tiny_folders["bert"], max_length=8, long=long, overlap=0)  # type: ignore[arg-type]
    inputs = ranker.prepare(["sun words"], texts)
    grid = torch.tensor([[0, 1]])
    scores = ranker.forward(inputs, torch.tensor([0]), grid, torch.ones_like(grid, dtype=torch.bool))
    last = windows(inputs.documents.lengths[:1], np.array([ranker.room]), 0)[1][-1:]
    start = last if long == "max" else np.zeros(1, np.int64)
    assert last > 0
    q = ranker.encode_batch(inputs.queries, np.array([0]))
    d = ranker.encode_batch(inputs.documents, np.array([0]), start)
    assert torch.allclose(scores[0, 0], (q @ d.T)[0, 0] / ranker.temperature, atol=1e-4)
