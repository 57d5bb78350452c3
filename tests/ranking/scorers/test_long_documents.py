"""Long documents: counted when cut, or split into passages whose scores are aggregated."""

import logging

import numpy as np
import pytest
import torch

from lorank.errors import UsageError
from lorank.ranking.scorers import BiEncoder, CausalRanker, CrossEncoder

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
        ranker.score(query, documents)
    assert caplog.text.count("2 of 3 documents") == 1
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="lorank"):
        ranker_of(kind, tiny_folders["bert"]).score(query, documents[:1])
    assert not caplog.text


def test_truncation_of_a_pair_depends_on_the_query(tiny_folders):
    ranker = ranker_of("cross-encoder", tiny_folders["bert"])
    document = "moon " * 30
    assert ranker.truncation(["sun"], [document]).truncated == 0
    assert ranker.truncation(["sun", "sun " * 12], [document]).truncated == 1


DOCUMENTS = [LONG, "moon", LONG + " sun", LONG[40:300], "a short document", "earth " * 70]
GRID = torch.tensor([[0, 1, 2, 3], [2, 4, 5, 0], [5, 0, 1, 1]])
MASK = torch.tensor([[True, True, True, True], [True, True, True, False], [True, True, False, False]])


def forward_of(ranker, queries):
    inputs = ranker.prepare(queries, DOCUMENTS)
    return ranker.forward(inputs, torch.arange(len(queries)), GRID, MASK)


def gradient_of(ranker, scores):
    """Return the gradient of a sum of unlike weights of the scores."""
    ranker.module.zero_grad()
    (scores * torch.linspace(0.5, 2, scores.numel()).reshape(scores.shape))[MASK].sum().backward()
    return torch.cat([p.grad.flatten() for p in ranker.module.parameters() if p.grad is not None])


@pytest.mark.parametrize(
    ("kind", "long"),
    [(kind, long) for kind in ("cross-encoder", "bi-encoder") for long in ("truncate", "first", "max", "mean")],
)
def test_training_reads_long_documents_as_scoring_does(kind, long, tiny_folders, query):
    ranker = ranker_of(kind, tiny_folders["bert"], long=long)
    queries = [query, "moon and sun", "words"]
    scores = forward_of(ranker, queries)
    expected = [ranker.score_pairs(queries, DOCUMENTS, np.stack([[i] * 4, GRID[i].numpy()], 1)) for i in range(3)]
    torch.testing.assert_close(scores.detach()[MASK], torch.from_numpy(np.stack(expected))[MASK], rtol=1e-4, atol=1e-5)
    assert scores[~MASK].abs().max() == 0  # exact: masked places are filled with 0


@pytest.mark.parametrize("kind", ["cross-encoder", "bi-encoder"])
@pytest.mark.parametrize("long", ["max", "mean"])
def test_the_gradient_is_that_of_the_aggregate_over_all_passages(kind, long, tiny_folders, query):
    """By hand: every passage read with its gradient as a document of its own, then max or mean."""
    ranker = ranker_of(kind, tiny_folders["bert"], long=long)
    queries = [query, "moon and sun", "words"]
    found = gradient_of(ranker, forward_of(ranker, queries))
    ranker.read_with(long="truncate")
    rows = []
    for i, asked in enumerate(queries):
        values = []
        for document in GRID[i].tolist():
            text = DOCUMENTS[document]
            tokens = len(ranker.tokenizer(text, add_special_tokens=False)["input_ids"])
            parts = passages_by_hand(ranker, asked, text) if tokens > 30 else [text]
            one = torch.zeros(1, dtype=torch.long)
            places = torch.arange(len(parts))[None]
            scores = ranker.forward(ranker.prepare([asked], parts), one, places, torch.ones_like(places) > 0)[0]
            values.append(scores.max() if long == "max" else scores.mean())
        rows.append(torch.stack(values))
    expected = gradient_of(ranker, torch.stack(rows))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_a_bi_encoder_trains_on_the_best_passage_of_each_query_and_on_words_where_asked(tiny_folders, query):
    """Two queries of one document may have unlike passages; the guess by words is a passage too, and never better."""
    ranker = ranker_of("bi-encoder", tiny_folders["bert"], long="max")
    queries = [query, "moon and sun", "words"]
    inputs = ranker.prepare(queries, DOCUMENTS)
    span = ranker.document_spans(inputs.documents, np.arange(len(DOCUMENTS)))
    chosen = ranker.choose_passages(inputs, np.arange(3), np.arange(len(DOCUMENTS)), span, np.zeros(len(span), bool))
    alone = ranker.encode_spans(inputs.documents, span)
    asked = ranker.encode(queries, query=True)
    for i, row in enumerate(chosen):
        for document, passage in enumerate(row):
            own = np.flatnonzero(span.text == document)
            assert passage == own[np.argmax(alone[own] @ asked[i])]
    best = forward_of(ranker, queries).detach()
    words = forward_of(
        BiEncoder(str(tiny_folders["bert"]), max_length=40, long="max", passage="words"), queries
    ).detach()
    assert (words[MASK] <= best[MASK] + 1e-4).all()
    assert (words[MASK] < best[MASK] - 1e-3).any()
    with pytest.raises(UsageError, match="choose 'best' or 'words'"):
        BiEncoder(str(tiny_folders["bert"]), passage="first")


@pytest.mark.parametrize("long", ["max", "mean"])
@pytest.mark.parametrize("view", ["yes-no", "log-ratio"])
def test_language_models_train_on_the_passages_that_they_score(view, long, tiny_causals, query):
    ranker = CausalRanker(tiny_causals["llama"], view=view, long=long, max_length=160)
    queries = [query, "moon and sun", "words"]
    scores = forward_of(ranker, queries)
    expected = [ranker.score_pairs(queries, DOCUMENTS, np.stack([[i] * 4, GRID[i].numpy()], 1)) for i in range(3)]
    torch.testing.assert_close(scores.detach()[MASK], torch.from_numpy(np.stack(expected))[MASK], rtol=1e-3, atol=1e-4)
    assert torch.isfinite(gradient_of(ranker, scores)).all()


@pytest.mark.parametrize("kind", ["bi-encoder", "cross-encoder"])
def test_weights_cast_without_a_gradient_do_not_lose_it_under_autocast(kind, tiny_folders, query):
    ranker = ranker_of(kind, tiny_folders["bert"], long="max")
    with torch.autocast("cpu", torch.bfloat16):
        scores = forward_of(ranker, [query, "moon and sun", "words"])
    gradient = gradient_of(ranker, scores.float())
    assert gradient.abs().max() > 0
