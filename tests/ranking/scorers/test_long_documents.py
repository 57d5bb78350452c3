"""Long documents: counted when cut, or split into passages whose scores are aggregated."""

import logging

import numpy as np
import pytest

from lorank.ranking.scorers import BiEncoder, CrossEncoder

WORDS = ["moon", "earth", "list", "query", "rankers", "document", "words", "sun"]
LONG = " ".join(WORDS[i * i % 8] for i in range(150))


def ranker_of(kind, folder, **options):
    if kind == "bi-encoder":
        return BiEncoder(folder, max_length=40, **options)
    return CrossEncoder(folder, max_length=40, head="random", seed=2, **options)


def passages_by_hand(ranker, query, text):
    """Split at the token level as documented: full windows, an eighth of overlap, the last moved back."""
    tokenizer = ranker.tokenizer
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    special = 2 if ranker.kind == "bi-encoder" else 3
    asked = 0 if ranker.kind == "bi-encoder" else len(tokenizer(query, add_special_tokens=False)["input_ids"])
    room, overlap = 40 - special - asked, 40 // 8
    starts = [*range(0, len(ids) - room, room - overlap), len(ids) - room]
    return [tokenizer.decode(ids[a : a + room]) for a in starts]


@pytest.mark.parametrize("kind", ["bi-encoder", "cross-encoder"])
@pytest.mark.parametrize("long", ["max", "mean", "first"])
def test_aggregates_of_passages_scored_one_by_one(kind, long, tiny_folders, query):
    ranker = ranker_of(kind, tiny_folders["bert"], long=long)
    parts = passages_by_hand(ranker, query, LONG)
    assert len(parts) > 3
    alone = ranker_of(kind, tiny_folders["bert"]).score(query, parts)
    expected = {"max": alone.max(), "mean": alone.mean(), "first": alone[0]}[long]
    scores = ranker.score(query, ["moon", LONG, "a short document"])
    assert scores[1] == pytest.approx(expected, rel=1e-4, abs=1e-5)
    short = ranker_of(kind, tiny_folders["bert"]).score(query, ["moon", "a short document"])
    np.testing.assert_allclose(scores[[0, 2]], short, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["bi-encoder", "cross-encoder"])
def test_long_pairs_of_many_queries(kind, tiny_folders, query):
    ranker = ranker_of(kind, tiny_folders["bert"], long="max")
    documents = [LONG, "moon", LONG + " sun"]
    pairs = np.array([(1, 2), (0, 0), (0, 2), (1, 1)])
    scores = ranker.score_pairs([query, "moon and sun"], documents, pairs)
    expected = [ranker.score([query, "moon and sun"][q], documents)[d] for q, d in pairs]
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["bi-encoder", "cross-encoder"])
def test_truncation_is_counted_and_reported(kind, tiny_folders, query, caplog):
    ranker = ranker_of(kind, tiny_folders["bert"])
    documents = ["moon", LONG, LONG]
    found = ranker.truncation([query], documents)
    assert (found.texts, found.truncated) == (3, 2)
    assert found.longest == len(ranker.tokenizer(LONG, add_special_tokens=False)["input_ids"])
    with caplog.at_level(logging.INFO, logger="lorank"):
        ranker.score(query, documents)
    assert "2 of 3 documents" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="lorank"):
        ranker.score(query, documents[:1])
    assert not caplog.text


def test_truncation_of_a_pair_depends_on_the_query(tiny_folders):
    ranker = ranker_of("cross-encoder", tiny_folders["bert"])
    document = "moon " * 30
    assert ranker.truncation(["sun"], [document]).truncated == 0
    assert ranker.truncation(["sun", "sun " * 12], [document]).truncated == 1
