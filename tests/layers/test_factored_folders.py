"""Folders of models with factored layers: opened with the same scores, and fast paths that read them."""

import copy
import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from lorank import lowrank
from lorank.errors import DataError, UsageError
from lorank.layers import FactoredEmbedding, FactoredLinear
from lorank.lowrank import factorize
from lorank.lowrank.shrink import SHRINKERS
from lorank.ranking.scorers import BiEncoder, CausalRanker, CrossEncoder
from lorank.ranking.scorers.packed import PackedEncoder
from lorank.tuned.open_ranker import open_ranker
from lorank.tuned.ranker import TunedRanker
from tiny_causals import write_causal


def shrunk(ranker, method="svd", **options):
    """The ranker with factored layers, calibrated on its own probe."""
    factorize(ranker.module, method, **({"ratio": 0.5} | options), calibration=lambda _: ranker.probe())
    return ranker


def same(first, second, atol=5e-6):
    np.testing.assert_allclose(first, second, rtol=5e-6, atol=atol)


@pytest.mark.parametrize("method", sorted(SHRINKERS))
def test_a_saved_encoder_opens_with_the_same_scores(method, tiny_folders, tmp_path):
    options = {"ratio": None} if method == "zeroquant-fp" else {}
    ranker = shrunk(BiEncoder(tiny_folders["bert"]), method, **options)
    ranker.save(tmp_path / "saved")
    again = BiEncoder.load(tmp_path / "saved")
    same(ranker.probe(), again.probe())
    assert type(again.module) is type(ranker.module)
    same(ranker.probe(), open_ranker(tmp_path / "saved").ranker.probe())
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["factored"]


def test_every_architecture_is_shrunk_saved_and_opened(tiny, tmp_path):
    ranker = shrunk(CrossEncoder(tiny, head="random", max_length=40), "eora")
    assert any(isinstance(module, FactoredLinear) for module in ranker.module.modules())
    ranker.save(tmp_path / "saved")
    same(ranker.probe(), CrossEncoder.load(tmp_path / "saved").probe())


def test_a_causal_model_is_shrunk_saved_and_opened(tmp_path):
    from tiny_causals import SIZES

    write_causal(tmp_path / "base", LlamaConfig(**SIZES))
    ranker = CausalRanker(tmp_path / "base")
    before = ranker.probe()
    shrunk(ranker, "lord")
    assert np.abs(ranker.probe() - before).max() > 1e-4
    assert type(ranker.module.lm_head) is torch.nn.Linear
    ranker.save(tmp_path / "saved")
    same(ranker.probe(), CausalRanker.load(tmp_path / "saved").probe())


def test_tied_tables_are_refused_and_a_table_of_its_own_is_factored(tiny_folders, tmp_path):
    from tiny_causals import SIZES

    write_causal(tmp_path / "tied", LlamaConfig(tie_word_embeddings=True, **SIZES))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "tied")
    with pytest.raises(UsageError, match=r"tied to or shared.*exclude: embed_tokens"):
        factorize(model, "ctr-lowrank-afm", ratio=0.5, calibration=[torch.tensor([[1, 2, 3]])])
    ranker = shrunk(BiEncoder(tiny_folders["roberta"]), "ctr-lowrank-afm")
    assert isinstance(ranker.module.embeddings.word_embeddings, FactoredEmbedding)
    ranker.save(tmp_path / "saved")
    same(ranker.probe(), BiEncoder.load(tmp_path / "saved").probe())


def test_an_encoder_that_was_shrunk_becomes_a_cross_encoder(tiny_folders, tmp_path):
    ranker = shrunk(BiEncoder(tiny_folders["bert"]))
    ranker.save(tmp_path / "encoder")
    cross = CrossEncoder(tmp_path / "encoder", head="random")
    layer = cross.module.bert.encoder.layer[0].attention.self.query
    torch.testing.assert_close(layer.first.weight, ranker.module.encoder.layer[0].attention.self.query.first.weight)
    assert all("encoder" not in name for name in cross.new_parameters)


def test_an_adapter_is_trained_on_top_saved_opened_and_merged(tiny_folders, tmp_path):
    shrunk(CrossEncoder(tiny_folders["bert"], head="random", max_length=40)).save(tmp_path / "base")
    ranker = CrossEncoder(tmp_path / "base")
    adapter = lowrank.attach(ranker.module, "lora", rank=2, seed=0)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter += 0.2
    tuned = TunedRanker(ranker, adapter)
    tuned.save(tmp_path / "run")
    expected = tuned.score("sorting a list", ["a list", "the moon"])
    same(expected, TunedRanker.load(tmp_path / "run").score("sorting a list", ["a list", "the moon"]), 1e-5)
    from lorank.tuned.export import export

    export(tuned, tmp_path / "merged", "merged")
    same(expected, open_ranker(tmp_path / "merged").score("sorting a list", ["a list", "the moon"]), 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_packed_encoder_computes_what_the_layers_do(dtype, tiny_folders):
    ranker = shrunk(BiEncoder(tiny_folders["bert"]), "welore")
    reference = copy.deepcopy(ranker)
    kinds = {type(module).__name__ for module in ranker.module.encoder.modules()}
    assert {"FactoredLinear", "Linear"} <= kinds
    ranker.dtype = "float32" if dtype is torch.float32 else "bfloat16"
    texts = ["sorting a list", "the moon orbits the earth", "of"]
    for module in reference.module.modules():  # a hook makes every layer be called as it is
        if isinstance(module, FactoredLinear):
            module.register_forward_hook(lambda layer, args, output: None)
    tolerance = 1e-5 if dtype is torch.float32 else 0.05
    np.testing.assert_allclose(ranker.encode(texts), reference.encode(texts), atol=tolerance)
    assert PackedEncoder(ranker.module).layers


def test_a_description_that_is_no_object_is_refused(tiny_folders, tmp_path):
    BiEncoder(tiny_folders["bert"]).save(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    (tmp_path / "saved" / "config.json").write_text(json.dumps(config | {"factored": [1]}))
    with pytest.raises(DataError, match="no.*|not an object"):
        BiEncoder(tmp_path / "saved")
