"""sentence-transformers opens our folders and gives our scores, and we give its on the packaged MiniLM."""

import warnings

import numpy as np
import pytest
import torch

from lorank.ranking.scorers import BiEncoder, CrossEncoder

peer = pytest.importorskip("sentence_transformers", reason="sentence-transformers is the peer compared with")

ARCHITECTURES = ["bert", "roberta", "deberta-v2", "modernbert"]


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_packaged_minilm_encodes_as_its_authors_library_does(minilm, documents):
    texts = [*documents, "the moon orbits " * 400]
    ours = BiEncoder("minilm")
    assert (ours.max_length, ours.pooling) == (256, "mean")
    np.testing.assert_allclose(ours.encode(texts), peer.SentenceTransformer(minilm).encode(texts), atol=1e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize(("pooling", "similarity"), [("mean", "cosine"), ("cls", "dot")])
def test_bi_encoder_folder_opens_as_a_sentence_transformer(
    name, pooling, similarity, tiny_folders, documents, query, tmp_path
):
    ours = BiEncoder(
        tiny_folders[name],
        pooling=pooling,
        similarity=similarity,
        temperature=0.1,
        max_length=40,
        query_prefix="query: ",
        document_prefix="text: ",
    )
    ours.save(tmp_path / "saved")
    theirs = peer.SentenceTransformer(str(tmp_path / "saved"))
    q = theirs.encode([query], prompt_name="query")
    d = theirs.encode(documents, prompt_name="document")
    np.testing.assert_allclose(ours.encode(documents), d, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours.encode([query], query=True), q, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        ours.score(query, documents), theirs.similarity(q, d)[0].numpy() / 0.1, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_their_folder_is_read_with_its_own_settings(name, tiny_folders, documents, tmp_path):
    modules = peer.sentence_transformer.modules if hasattr(peer, "sentence_transformer") else peer.models
    transformer = peer.models.Transformer(str(tiny_folders[name]), max_seq_length=33)
    pooling = modules.Pooling(transformer.get_word_embedding_dimension(), pooling_mode="cls")
    theirs = peer.SentenceTransformer(
        modules=[transformer, pooling, peer.models.Normalize()], prompts={"query": "find: ", "document": "read: "}
    )
    theirs.save(str(tmp_path))
    ours = BiEncoder(tmp_path)
    assert (ours.pooling, ours.query_prefix, ours.document_prefix) == ("cls", "find: ", "read: ")
    np.testing.assert_allclose(ours.encode(documents), theirs.encode(documents, prompt_name="document"), atol=1e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_cross_encoder_folder_opens_and_predicts_our_logits(name, tiny_folders, documents, query, tmp_path):
    ours = CrossEncoder(tiny_folders[name], max_length=48, head="random", seed=5)
    with torch.no_grad():
        for _, parameter in ours.head_parameters():
            parameter.mul_(10.0)
    ours.save(tmp_path / "saved")
    theirs = peer.CrossEncoder(str(tmp_path / "saved"))
    for text in (query, query * 9):
        np.testing.assert_allclose(
            theirs.predict([(text, d) for d in documents]), ours.score(text, documents), rtol=1e-6, atol=1e-6
        )


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_their_cross_encoder_is_read_with_its_head(name, tiny_folders, documents, query, tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = peer.CrossEncoder(str(tiny_folders[name]), num_labels=1, activation_fn=torch.nn.Identity())
    theirs.save(str(tmp_path))
    ours = CrossEncoder(tmp_path)
    assert list(ours.head_parameters()) == []
    np.testing.assert_allclose(
        ours.score(query, documents), theirs.predict([(query, d) for d in documents]), rtol=1e-6, atol=1e-6
    )
