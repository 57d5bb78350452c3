"""Encoders as sentence-transformers saves them: its vectors are ours, and what is not read is refused by name."""

import json
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

from lorank.errors import UsageError
from lorank.ranking.scorers import BiEncoder, CrossEncoder
from lorank.ranking.scorers.vector_modules import POOLINGS
from lorank.serving.adapters.source import LocalSource
from lorank.serving.forward.engine import MixedEngine
from lorank.serving.requests.engine import Job
from lorank.tuned.open_ranker import kind_of
from tiny_rerankers import byte_tokenizer, config_of

peer = pytest.importorskip("sentence_transformers", reason="sentence-transformers is the peer compared with")
modules = peer.sentence_transformer.modules
TEXTS = ["Sorting a LIST", "", "the moon orbits the earth " * 30, "why?", "x"]
QUERY = "how are documents Ordered"


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def written(folder, target, *after, pooling="mean", include_prompt=True, **settings):
    """Write a SentenceTransformer on a tiny encoder; return it as it is read back."""
    transformer = modules.Transformer(str(folder), max_seq_length=40)
    pool = modules.Pooling(32, pooling_mode=pooling, include_prompt=include_prompt)
    peer.SentenceTransformer(modules=[transformer, pool, *after], **settings).save_pretrained(str(target))
    return peer.SentenceTransformer(str(target))


def dense(size, out, **options):
    with torch.random.fork_rng():
        torch.manual_seed(out)
        return peer.models.Dense(size, out, **options)


def check(theirs, target, tmp_path):
    """Compare vectors and scores, as read, as saved by us, and as the peer reads what we saved."""
    ours = BiEncoder(target)
    query, documents = theirs.encode_query([QUERY]), theirs.encode_document(TEXTS)
    np.testing.assert_allclose(ours.encode([QUERY], query=True), normed(query, ours), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.encode(TEXTS), normed(documents, ours), rtol=1e-4, atol=1e-5)
    expected = theirs.similarity(query, documents)[0].numpy() / ours.temperature
    np.testing.assert_allclose(ours.score(QUERY, TEXTS), expected, rtol=1e-4, atol=1e-4)
    inputs, grid = ours.prepare([QUERY], TEXTS), torch.arange(len(TEXTS)).unsqueeze(0)
    trained = ours.forward(inputs, torch.tensor([0]), grid, torch.ones_like(grid, dtype=torch.bool))
    np.testing.assert_allclose(trained[0].detach(), expected, rtol=1e-4, atol=1e-4)
    served = MixedEngine(BiEncoder(target), LocalSource({})).score([Job(None, QUERY, TEXTS)])[0]
    np.testing.assert_allclose(served.scores, expected, rtol=1e-4, atol=1e-4)
    ours.save(tmp_path / "ours")
    again = peer.SentenceTransformer(str(tmp_path / "ours"))
    np.testing.assert_allclose(again.encode_document(TEXTS), ours.encode(TEXTS), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(BiEncoder.load(tmp_path / "ours").score(QUERY, TEXTS), expected, rtol=1e-4, atol=1e-4)


def normed(vectors, ours):
    """Our vectors of a cosine have length 1, theirs only after a Normalize module."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if ours.similarity == "cosine" else vectors


@pytest.mark.parametrize("name", ["bert", "modernbert"])
@pytest.mark.parametrize("pooling", [*POOLINGS, ("cls", "mean")])
def test_every_pooling_is_theirs(name, pooling, tiny_folders, tmp_path):
    theirs = written(tiny_folders[name], tmp_path / "theirs", pooling=pooling, similarity_fn_name="dot")
    check(theirs, tmp_path / "theirs", tmp_path)


@pytest.mark.parametrize("pooling", [*POOLINGS])
def test_a_prompt_that_is_not_pooled(pooling, tiny_folders, tmp_path):
    theirs = written(
        tiny_folders["roberta"],
        tmp_path / "theirs",
        pooling=pooling,
        include_prompt=False,
        prompts={"query": "Represent the question: ", "document": ""},
    )
    check(theirs, tmp_path / "theirs", tmp_path)


@pytest.mark.parametrize(
    "after",
    [
        lambda: [dense(32, 16)],
        lambda: [dense(32, 64, bias=False, activation_function=torch.nn.Identity()), dense(64, 8), modules.Normalize()],
        lambda: [modules.Normalize(), dense(32, 32, activation_function=torch.nn.GELU())],
    ],
)
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_dense_layers_and_normalisation_in_their_order(after, similarity, tiny_folders, tmp_path):
    theirs = written(tiny_folders["bert"], tmp_path / "theirs", *after(), similarity_fn_name=similarity)
    check(theirs, tmp_path / "theirs", tmp_path)


@pytest.mark.parametrize("name", ["roberta", "deberta-v2"])
def test_lower_case_and_length_are_those_of_the_folder(name, tiny_folders, tmp_path):
    written(tiny_folders[name], tmp_path / "theirs", modules.Normalize())
    path = tmp_path / "theirs" / "sentence_bert_config.json"  # as folders of older versions have it
    path.write_text(json.dumps({"max_seq_length": 17, "do_lower_case": True}))
    theirs = peer.SentenceTransformer(str(tmp_path / "theirs"))
    check(theirs, tmp_path / "theirs", tmp_path)
    assert BiEncoder(tmp_path / "theirs").max_length == 17
    raised = BiEncoder(tmp_path / "theirs").encode(["SORTING A LIST"])
    np.testing.assert_allclose(raised, BiEncoder(tmp_path / "theirs").encode(["sorting a list"]), rtol=1e-5, atol=5e-6)


@pytest.mark.parametrize(
    ("prompts", "default", "query", "document"),
    [
        ({"query": "q: ", "passage": "p: "}, None, "q: ", "p: "),
        ({"web": "w: "}, "web", "w: ", "w: "),
        ({"query": "q: "}, "query", "q: ", ""),
        ({"query": "q: ", "document": "d: ", "web": "w: "}, "web", "q: ", "d: "),
        ({}, None, "", ""),
    ],
)
def test_prompts_of_queries_and_documents(prompts, default, query, document, tiny_folders, tmp_path):
    theirs = written(tiny_folders["bert"], tmp_path / "theirs", prompts=prompts, default_prompt_name=default)
    ours = BiEncoder(tmp_path / "theirs")
    assert (ours.query_prefix, ours.document_prefix) == (query, document)
    np.testing.assert_allclose(
        ours.encode(TEXTS), normed(theirs.encode(TEXTS, prompt=document), ours), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        ours.encode(TEXTS, query=True), normed(theirs.encode(TEXTS, prompt=query), ours), rtol=1e-4, atol=1e-5
    )


def test_a_decoder_that_pools_its_last_token(tmp_path):
    """As Qwen3-Embedding and its kin are made."""
    tokenizer = byte_tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(4)
        AutoModel.from_config(config_of("qwen3", tokenizer)).save_pretrained(tmp_path / "base")
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    (tmp_path / "base" / "config.json").write_text(json.dumps(config | {"architectures": ["Qwen3ForCausalLM"]}))
    tokenizer.save_pretrained(tmp_path / "base")
    texts = [text or "y" for text in TEXTS]  # a text without tokens has no last one
    theirs = written(
        tmp_path / "base",
        tmp_path / "theirs",
        modules.Normalize(),
        pooling="lasttoken",
        prompts={"query": "Instruct: find it\nQuery:", "document": ""},
    )
    assert kind_of(str(tmp_path / "theirs")) == "bi-encoder"
    ours = BiEncoder(tmp_path / "theirs")
    np.testing.assert_allclose(ours.encode(texts), theirs.encode_document(texts), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.encode([QUERY], query=True), theirs.encode_query([QUERY]), rtol=1e-4, atol=1e-5)
    with pytest.raises(UsageError, match="causal language model"):
        BiEncoder(tmp_path / "base")


@pytest.mark.parametrize("similarity", ["euclidean", "manhattan"])
def test_distances_are_refused_by_name(similarity, tiny_folders, tmp_path):
    written(tiny_folders["bert"], tmp_path / "theirs", similarity_fn_name=similarity)
    with pytest.raises(UsageError, match=f"compares vectors by '{similarity}'"):
        BiEncoder(tmp_path / "theirs")
    assert BiEncoder(tmp_path / "theirs", similarity="dot").similarity == "dot"


def test_what_is_not_applied_is_refused_by_name(tiny_folders, tmp_path):
    written(tiny_folders["bert"], tmp_path / "theirs", dense(32, 16))
    path = tmp_path / "theirs" / "modules.json"
    listed = json.loads(path.read_text())
    path.write_text(
        json.dumps([*listed, {"idx": 3, "name": "3", "path": "3_CNN", "type": "sentence_transformers.models.CNN"}])
    )
    with pytest.raises(UsageError, match="has a CNN module"):
        BiEncoder(tmp_path / "theirs")
    path.write_text(json.dumps(listed))
    home = tmp_path / "theirs" / "2_Dense"
    config = json.loads((home / "config.json").read_text())
    (home / "config.json").write_text(json.dumps(config | {"activation_function": "os.system"}))
    with pytest.raises(UsageError, match="activation is os.system"):
        BiEncoder(tmp_path / "theirs")
    (home / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=r"takes vectors of 32, and pooling='cls\+mean' makes 64"):
        BiEncoder(tmp_path / "theirs", pooling="cls+mean")
    torch.save(load_file(home / "model.safetensors"), home / "pytorch_model.bin")
    (home / "model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"holds no model.safetensors \(a pytorch_model.bin is a pickle"):
        BiEncoder(tmp_path / "theirs")


def test_a_default_prompt_that_does_not_exist_is_refused(tiny_folders, tmp_path):
    written(tiny_folders["bert"], tmp_path / "theirs")
    path = tmp_path / "theirs" / "config_sentence_transformers.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"default_prompt_name": "nowhere"}))
    with pytest.raises(UsageError, match="default prompt 'nowhere'"):
        BiEncoder(tmp_path / "theirs")


def test_a_sentence_encoder_is_the_base_of_a_new_cross_encoder(tmp_path):
    ranker = CrossEncoder("minilm")
    assert ranker.query_prefix == ""
    assert np.abs(ranker.score("sorting", ["how to sort a list", "the moon"])).max() < 1e-6  # a new head of zeros
    torch.nn.init.normal_(next(p for name, p in ranker.head_parameters() if name.endswith("weight")))
    ranker.save(tmp_path / "saved")
    again = CrossEncoder(tmp_path / "saved")
    texts = ["how to sort a list", "the moon"]
    assert again.score("sorting", texts) == pytest.approx(ranker.score("sorting", texts), abs=1e-5)
