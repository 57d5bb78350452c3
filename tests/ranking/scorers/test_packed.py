"""The packed encoder against transformers' own padded forward."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModel, AutoTokenizer

from lorank.ranking.scorers import BiEncoder, CrossEncoder
from lorank.ranking.scorers.packed import PackedEncoder, attention_groups, can_pack
from lorank.ranking.scorers.tokens import Span, Template, tokenize

PACKABLE = ["bert", "roberta", "xlm-roberta"]


def ragged(folder, documents, limit=60):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    template = Template.of(tokenizer)
    table = tokenize(tokenizer, documents, limit)
    start, length = template.cut(table.lengths, limit)
    return tokenizer, template.assemble_single(table, Span(np.arange(len(documents)), start, length))


@pytest.mark.parametrize("name", PACKABLE)
@pytest.mark.parametrize("grad", [False, True])
def test_hidden_states_equal_the_padded_models(name, grad, tiny_folders, documents):
    tokenizer, batch = ragged(tiny_folders[name], documents)
    model = AutoModel.from_pretrained(tiny_folders[name]).eval()
    padded = batch.pad(tokenizer.pad_token_id, torch.device("cpu"), with_types=True)
    with torch.set_grad_enabled(grad):
        expected = model(**padded).last_hidden_state
        packed = PackedEncoder(model)
        every = packed(batch)
        firsts = packed(batch, first_only=True)
    mask = padded["attention_mask"].bool()
    torch.testing.assert_close(every, expected[mask], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(firsts, expected[:, 0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", PACKABLE)
def test_gradients_equal_the_padded_models(name, tiny_folders, documents):
    tokenizer, batch = ragged(tiny_folders[name], documents)
    model = AutoModel.from_pretrained(tiny_folders[name], add_pooling_layer=False).eval()
    padded = batch.pad(tokenizer.pad_token_id, torch.device("cpu"), with_types=True)
    weights = torch.randn(len(documents), 32, generator=torch.Generator().manual_seed(0))
    (model(**padded).last_hidden_state[:, 0] * weights).sum().backward()
    expected = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()
    (PackedEncoder(model)(batch, first_only=True) * weights).sum().backward()
    for n, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[n], rtol=1e-4, atol=1e-4)


class Doubled(nn.Linear):
    """A stand-in for an adapted layer: no plain linear any more."""

    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_replaced_layers_are_called_not_bypassed(tiny_folders, documents, query, dtype):
    ranker = BiEncoder(tiny_folders["bert"], dtype=dtype)
    plain = ranker.score(query, documents)
    for layer in ranker.module.encoder.layer:
        for module in (layer.attention.self.query, layer.attention.self.value, layer.output.dense):
            module.__class__ = Doubled
    adapted = ranker.score(query, documents)
    for layer in ranker.module.encoder.layer:
        for module in (layer.attention.self.query, layer.attention.self.value, layer.output.dense):
            module.__class__ = nn.Linear
            module.weight.data *= 2
            module.bias.data *= 2
    merged = ranker.score(query, documents)
    tolerance = {"float32": 1e-4, "bfloat16": 0.5}[dtype]
    np.testing.assert_allclose(adapted, merged, atol=tolerance)
    assert np.abs(adapted - plain).max() > 2 * np.abs(adapted - merged).max()


def test_hooks_on_a_layer_are_heard(tiny_folders, documents, query):
    ranker = BiEncoder(tiny_folders["bert"])
    heard = []
    handle = ranker.module.encoder.layer[0].attention.self.key.register_forward_hook(
        lambda module, inputs, output: heard.append(inputs[0].shape[-1])
    )
    ranker.score(query, documents)
    handle.remove()
    assert heard
    assert set(heard) == {32}


def test_changed_weights_are_seen_at_once_even_through_data(tiny_folders, documents, query):
    ranker = CrossEncoder(tiny_folders["bert"], head="random", dtype="bfloat16")
    before = ranker.score(query, documents)
    ranker.module.bert.encoder.layer[0].output.dense.weight.data.mul_(3.0)
    assert not np.array_equal(before, ranker.score(query, documents))


@pytest.mark.parametrize("name", PACKABLE)
def test_bfloat16_scores_are_near(name, tiny_folders, documents, query):
    ranker = BiEncoder(tiny_folders[name])
    exact = ranker.score(query, documents)
    ranker.dtype = "bfloat16"
    rough = ranker.score(query, documents)
    assert rough.dtype == np.float32
    assert 0 < np.abs(rough - exact).max() < 0.5


def test_dropout_acts_in_training_only(tiny_folders, documents, query):
    ranker = CrossEncoder(tiny_folders["bert"], head="random")
    inputs = ranker.prepare([query], documents)
    place = torch.tensor([0]), torch.tensor([[0, 1, 2, 3]]), torch.ones(1, 4, dtype=torch.bool)
    ranker.module.train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, second = ranker.forward(inputs, *place), ranker.forward(inputs, *place)
    assert not torch.allclose(first, second)
    ranker.module.eval()
    assert torch.equal(ranker.forward(inputs, *place), ranker.forward(inputs, *place))


def test_groups_cover_the_sequences_and_waste_little():
    lengths = np.sort(np.random.default_rng(0).integers(1, 300, 60))[::-1]
    groups = attention_groups(lengths, torch.device("cpu"))
    assert sum(g.count for g in groups) == 60
    assert groups[-1].end == lengths.sum()
    for g in groups:
        assert g.count * g.longest - (g.end - g.begin) <= 256
        assert (g.mask is None) == (g.count * g.longest == g.end - g.begin)


def test_only_known_architectures_are_packed(tiny_folders):
    known = {name: can_pack(AutoModel.from_pretrained(folder)) for name, folder in tiny_folders.items()}
    assert known == {name: name in PACKABLE for name in tiny_folders}
    model = AutoModel.from_pretrained(tiny_folders["bert"])
    model.gradient_checkpointing_enable()
    assert not can_pack(model)
