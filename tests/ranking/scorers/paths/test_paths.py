"""Scoring paths: every one gives float32's scores up to what its number format loses, on every batch shape."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModel, AutoTokenizer, RobertaConfig, RobertaModel

from lorank.errors import UsageError
from lorank.ranking.scorers import CrossEncoder
from lorank.ranking.scorers.paths import PATHS, choose_path, open_path, run_on, self_test
from lorank.ranking.scorers.paths.self_test import PathTested
from lorank.ranking.scorers.paths.torch_path import int8_projection, weight_levels
from tiny_encoders import QUERY, TEXT

TOLERANCE = {"float32": 1e-4, "bfloat16": 0.35, "int8": 0.5}
"""Largest change of a score, in units of the spread of the scores."""


def cross_encoder(folder):
    return CrossEncoder(str(folder), seed=0, head="random")


@pytest.mark.parametrize("name", ["torch-float32", "torch-bfloat16", "torch-int8"])
def test_torch_paths_give_float32s_scores_up_to_their_format(name, tiny, documents, query):
    ranker = cross_encoder(tiny)
    expected = ranker.score(query, documents)
    why = PATHS[name].missing(ranker)
    if why is not None:
        with pytest.raises(UsageError, match="without padding"):
            run_on(ranker, name)
        return
    run_on(ranker, name)
    assert np.abs(ranker.score(query, documents) - expected).max() <= TOLERANCE[name.partition("-")[2]] * expected.std()
    run_on(ranker, None)
    np.testing.assert_allclose(ranker.score(query, documents), expected, atol=1e-6, rtol=1e-5)


@pytest.fixture(scope="module")
def trained_folders(minilm, tmp_path_factory):
    """MiniLM in two layouts, whose score is the share of a document's words that are among a few planted ones.

    Scores of a random head hardly differ, and tiny random weights have outliers that no number format holds; neither is
    so of a ranker that has learned anything.
    """
    layouts = {"bert": minilm, "roberta": as_roberta(minilm, tmp_path_factory.mktemp("roberta-layout"))}
    return {name: trained(folder, tmp_path_factory.mktemp(f"trained-{name}")) for name, folder in layouts.items()}


def as_roberta(folder, out):
    """Save a BERT as a RoBERTa, whose positions begin behind that of the padding."""
    bert = AutoModel.from_pretrained(folder)
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    config = {name: getattr(bert.config, name) for name in (*names, "type_vocab_size", "layer_norm_eps")}
    longest = bert.config.max_position_embeddings + 1
    roberta = RobertaModel(RobertaConfig(**config, pad_token_id=0, max_position_embeddings=longest))
    positions = "embeddings.position_embeddings.weight"
    state = bert.state_dict()
    roberta.load_state_dict(state | {positions: nn.functional.pad(state[positions], (0, 0, 1, 0))})
    roberta.save_pretrained(out)
    AutoTokenizer.from_pretrained(folder).save_pretrained(out)
    return out


def trained(folder, out):
    ranker = CrossEncoder(str(folder), seed=0, head="random", max_length=64)
    words = sorted({word for line in TEXT for word in line.split()})
    planted = {"documents", "moon", "list", "earth", "rankers", "relevant"}
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(words, rng.integers(1, 12))) for _ in range(600)]
    targets = torch.tensor([np.mean([word in planted for word in text.split()]) for text in texts], dtype=torch.float32)
    inputs = ranker.prepare([QUERY], texts)
    optimizer = torch.optim.AdamW(ranker.module.parameters(), lr=1e-4)
    for _ in range(60):
        chosen = torch.from_numpy(rng.choice(len(texts), (1, 16), replace=False))
        scores = ranker.forward(inputs, torch.zeros(1, dtype=torch.long), chosen, torch.ones(1, 16, dtype=torch.bool))
        loss = (scores - targets[chosen]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    ranker.save(out / "ranker")
    return out / "ranker"


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PATHS if not name.startswith("torch")])
@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_exported_paths_give_float32s_scores_up_to_their_format(name, architecture, trained_folders, documents, query):
    ranker = CrossEncoder.load(trained_folders[architecture])
    why = PATHS[name].missing(ranker)
    if why is not None:
        pytest.skip(why)
    expected = ranker.score(query, documents)
    run_on(ranker, name)
    assert np.abs(ranker.score(query, documents) - expected).max() <= TOLERANCE[name.partition("-")[2]] * expected.std()
    alone, among = ranker.score(query, documents[:1]), ranker.score(query, documents)[:1]
    assert np.allclose(alone, among, atol=0.3 * expected.std())


@pytest.mark.slow
def test_onnxruntime_runs_one_graph_at_every_length(tiny_folders, documents, query):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    ranker = cross_encoder(tiny_folders["bert"])
    expected = ranker.score(query, documents)
    run_on(ranker, "onnxruntime-float32")
    np.testing.assert_allclose(ranker.score(query, documents), expected, atol=1e-4 * expected.std(), rtol=1e-4)
    np.testing.assert_allclose(
        [ranker.score(query, [text])[0] for text in documents], expected, atol=1e-4 * expected.std(), rtol=1e-4
    )


@pytest.mark.parametrize("widest", ["AVX2", "AVX512_CORE", "AVX512_CORE_VNNI"])
def test_int8_products_are_exact_on_processors_without_instructions_for_them(widest):
    """oneDNN without VNNI adds pairs of products in 16 bits: the weights must leave room for that."""
    code = """
import torch
from lorank.ranking.scorers.paths.torch_path import weight_levels
largest = torch.full((40, 96), 127, dtype=torch.int8)
weight = torch.full((96, 48), weight_levels(), dtype=torch.int8)
for x in (largest, -largest):
    for w in (weight, -weight):
        assert torch.equal(torch._int_mm(x, w), x.int() @ w.int()), weight_levels()
"""
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"ONEDNN_MAX_CPU_ISA": widest}, check=True)


def test_the_int8_product_is_within_half_a_step_of_each_factor():
    """|y - y'| <= sum_j |x_j| s_w / 2 + |W_ij| s_x / 2 + s_x s_w / 4, each rounding being at most half a step."""
    generator = torch.Generator().manual_seed(0)
    layers = [nn.Linear(64, 24), nn.Linear(64, 40, bias=False)]
    x = torch.randn(32, 64, generator=generator)
    for layer, y in zip(layers, int8_projection(layers, torch.float32)(x), strict=True):
        weight = layer.weight.detach()
        s_x, s_w = x.abs().amax(1, keepdim=True) / 127, weight.abs().amax(1) / weight_levels()
        bound = x.abs().sum(1, keepdim=True) * s_w / 2 + weight.abs().sum(1) * s_x / 2 + 64 * s_x * s_w / 4
        assert ((y - layer(x).detach()).abs() <= bound + 1e-5).all()


def test_the_self_test_finds_every_path_and_chooses_among_those_that_keep_the_order(tiny_folders, documents, query):
    ranker = cross_encoder(tiny_folders["bert"])
    names = ["torch-float32", "torch-bfloat16", "torch-int8"]
    tested = self_test(ranker, [query, "the moon"], documents[2:7], names=names, rounds=1)
    assert sorted(each.name for each in tested) == sorted(names)
    reference = next(each for each in tested if each.name == "torch-float32")
    assert reference.tau == pytest.approx(1.0)
    assert reference.change == 0.0
    assert all(each.pairs_per_second > 0 for each in tested)
    assert choose_path(tested) in [each.name for each in tested if each.tau >= 0.98]


def test_a_fast_path_that_changes_the_order_is_not_chosen():
    tested = [PathTested("fast", 100.0, 0.5, 1.0, "tau 0.500 is below 0.98"), PathTested("right", 10.0, 1.0, 0.0)]
    assert choose_path(tested) == "right"


def test_a_ranker_saved_while_it_runs_on_int8_is_saved_in_full(tiny_folders, documents, query, tmp_path):
    ranker = cross_encoder(tiny_folders["bert"])
    expected = ranker.score(query, documents)
    run_on(ranker, "torch-int8")
    ranker.save(tmp_path / "model")
    np.testing.assert_allclose(
        CrossEncoder.load(tmp_path / "model").score(query, documents), expected, rtol=1e-5, atol=5e-6
    )


def test_unknown_paths_are_told_the_known_ones(tiny_folders):
    with pytest.raises(UsageError, match="torch-int8"):
        open_path("torch-int9", cross_encoder(tiny_folders["bert"]))
