"""PromptReps: vectors from one forward pass of an untrained-for-it model; hybrid weights reduce to each part."""

import numpy as np
import pytest
import torch

from lorank.catalogue import METHODS
from lorank.errors import UsageError
from lorank.ranking.scorers.causal_pretrained import load_causal
from lorank.ranking.strategies.promptreps import PromptReps, hybrid_scores

TEXTS = ["Sort a List", "the moon", "sorting lists of words", ""]


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def reps(request, tiny_causals):
    loaded = load_causal(tiny_causals[request.param], "lm")
    return PromptReps(loaded.module, loaded.tokenizer)


def test_sparse_vectors_hold_tokens_of_the_text_with_their_logits(reps):
    sparse = reps.encode(TEXTS).sparse.toarray()
    for text, row in zip(TEXTS, sparse, strict=True):
        allowed = reps.allowed_tokens(text)
        assert set(np.flatnonzero(row)) <= set(allowed)
        ids = reps.tokenizer(reps.prompt(text), add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logits = reps.model(input_ids=ids).logits[0, -1].numpy()
        np.testing.assert_allclose(row[allowed], np.log1p(np.maximum(logits[allowed], 0)), rtol=1e-5, atol=1e-6)
    assert sparse.any()
    assert not sparse[3].any()


def test_the_largest_terms_are_kept_and_stop_words_are_not(reps):
    every = reps.encode(TEXTS[:1]).sparse.toarray()[0]
    few = PromptReps(reps.model, reps.tokenizer, terms=2).encode(TEXTS[:1]).sparse.toarray()[0]
    assert sorted(few[few > 0]) == pytest.approx(sorted(np.sort(every)[-2:]))
    assert len(PromptReps(reps.model, reps.tokenizer, stop_words={"the", "moon"}).allowed_tokens("The moon")) == 0


def test_vectors_have_length_one_and_queries_are_asked_otherwise(reps):
    as_passage, as_query = reps.encode(TEXTS), reps.encode(TEXTS, query=True)
    np.testing.assert_allclose(np.linalg.norm(as_passage.dense, axis=1), 1, rtol=1e-5)
    assert np.abs(as_passage.dense - as_query.dense).max() > 1e-4
    assert reps.prompt("x").endswith('<assistant>The word is: "')
    np.testing.assert_allclose(reps.encode(TEXTS[1:2]).dense[0], as_passage.dense[1], rtol=1e-5, atol=1e-6)


def test_the_hybrid_is_each_part_at_its_ends_and_between_them(reps):
    query, documents = reps.encode(["sort words"], query=True), reps.encode(TEXTS)
    dense, both, sparse = (hybrid_scores(query, documents, weight)[0] for weight in (1.0, 0.25, 0.0))
    cosines = documents.dense @ query.dense[0]
    np.testing.assert_array_equal(np.argsort(-dense), np.argsort(-cosines))
    products = (query.sparse @ documents.sparse.T).toarray()[0]
    np.testing.assert_allclose(sparse * (products.max() - products.min()), products - products.min(), atol=1e-9)
    np.testing.assert_allclose(both, 0.25 * dense + 0.75 * sparse)


def test_limits_and_bad_input(reps):
    empty = reps.encode([])
    assert empty.sparse.shape[0] == 0
    with pytest.raises(UsageError, match="weight must be"):
        hybrid_scores(empty, empty, 2.0)
    with pytest.raises(UsageError, match="terms and words"):
        PromptReps(reps.model, reps.tokenizer, terms=0)
    assert METHODS["promptreps"].area == "retrieve"
