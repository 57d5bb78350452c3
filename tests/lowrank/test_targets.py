"""Which layers are adapted, and what is refused."""

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank.targets import select_targets


def encoder():
    return nn.ModuleDict(
        {
            "layers": nn.ModuleList(
                nn.ModuleDict(
                    {name: nn.Linear(4, 4) for name in ("query", "subquery")} | {"out": nn.Sequential(nn.Linear(4, 4))}
                )
                for _ in range(2)
            ),
            "norm": nn.LayerNorm(4),
            "head": nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1)),
        }
    )


@pytest.mark.parametrize(
    ("targets", "exclude", "trained", "expected"),
    [
        (["query"], (), (), ["layers.0.query", "layers.1.query"]),
        (["layers.1.query", "out.0"], (), (), ["layers.0.out.0", "layers.1.query", "layers.1.out.0"]),
        (r".*\.(sub)?query", (), (), ["layers.0.query", "layers.0.subquery", "layers.1.query", "layers.1.subquery"]),
        (["query"], ["layers.0"], (), ["layers.1.query"]),
        ("all-linear", ["out", "subquery"], ["head"], ["layers.0.query", "layers.1.query"]),
        ("all-linear", ["layers"], (), ["head.0", "head.1"]),
    ],
)
def test_chosen(targets, exclude, trained, expected):
    assert list(select_targets(encoder(), targets, exclude, trained)) == expected


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"targets": ["query", "key"]}, "'key' names no layer that takes an update"),
        ({"targets": ["norm"]}, "'norm' names no layer that takes an update"),
        ({"targets": "query"}, "fits no layer that takes an update"),
        ({"targets": ["head.0"], "trained": ["head"]}, "trained whole"),
        ({"trained": ["classifier"]}, "no module called 'classifier'"),
        ({"ranks": {"key": 2}}, "'key' matches none"),
        ({"alphas": {"quer": 2}}, "'quer' matches none"),
        ({"rank": -1}, "rank -1"),
        ({"rank": 2.5}, "rank 2.5"),
        ({"ranks": {"query": -1}}, "rank -1"),
        ({"dropout": 1.0}, "dropout"),
        ({"alpha": 0}, "alpha"),
        ({"start": "pissa"}, "unknown start"),
        ({"method": "lorra"}, "did you mean 'lora'"),
        ({"name": "a.b"}, "dot"),
    ],
)
def test_refused_before_anything_is_changed(keywords, message):
    model = encoder()
    with pytest.raises(UsageError, match=message):
        lowrank.attach(model, **keywords)
    assert not any(isinstance(module, lowrank.Adapted) for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_all_linear_leaves_heads_outside_the_base_model_alone(make_scorer):
    for name in ("bert", "roberta", "deberta-v2", "modernbert"):
        model, heads = make_scorer(name)
        prefix = model.base_model_prefix + "."
        chosen = select_targets(model)
        assert chosen
        assert all(path.startswith(prefix) for path in chosen)
        assert not set(select_targets(model, trained=heads)) & set(heads)


def test_the_output_embedding_is_no_target():
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    model = BertForMaskedLM(config)
    assert not any("decoder" in path for path in select_targets(model))


def test_ranks_by_pattern_first_match_wins():
    adapter = lowrank.attach(
        encoder(), targets=["query", "subquery"], rank=8, ranks={r"layers\.0\.query": 1, "query": 2, r".*": 3}
    )
    assert {path: form.rank for path, form in adapter.forms.items()} == {
        "layers.0.query": 1,
        "layers.1.query": 2,
        "layers.0.subquery": 3,
        "layers.1.subquery": 3,
    }


def test_a_second_adapter_finds_the_same_layers():
    model = encoder()
    one = lowrank.attach(model, targets="all-linear", name="one", trained=["head"])
    two = lowrank.attach(model, targets="all-linear", name="two", trained=["head"])
    assert list(one.layers) == list(two.layers)
    assert all(not parameter.requires_grad for form in one.forms.values() for parameter in form.parameters())
    with pytest.raises(UsageError, match="three"):
        one.activate("three")


def test_deep_copies_are_independent(shake):
    import copy

    model = encoder()
    adapter = lowrank.attach(model, targets=["query"])
    twin = copy.deepcopy(adapter)
    shake(adapter)
    assert not torch.equal(adapter.forms["layers.0.query"].B, twin.forms["layers.0.query"].B)
    assert twin.model is not model
