"""Embeddings and convolutions under every registered form: the contract of linear layers, or a refusal by name."""

import copy

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank.algebra.combine import combine
from lorank.lowrank.algebra.sets import attach_factors, factors_of
from lorank.lowrank.algebra.squeeze import squeeze
from lorank.lowrank.algebra.stacked import gated
from lorank.lowrank.forms.form import FORMS, ROUTED, Factors, Form
from lorank.lowrank.matrix_view import base_of


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


KINDS = {
    "embedding": (lambda: nn.Embedding(12, 6), lambda: torch.tensor([[3, 1, 1, 0], [11, 5, 3, 2]])),
    "padded-embedding": (
        lambda: nn.Embedding(12, 6, padding_idx=1),
        lambda: torch.tensor([[3, 1, 1, 0], [11, 5, 3, 2]]),
    ),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1), lambda: drawn(2, 4, 9)),
    "dilated-conv1d": (lambda: nn.Conv1d(4, 6, 3, dilation=2, bias=False), lambda: drawn(2, 4, 9)),
    "conv2d": (lambda: nn.Conv2d(4, 6, (3, 2), stride=(1, 2), padding=1), lambda: drawn(2, 4, 5, 6)),
    "grouped-conv2d": (lambda: nn.Conv2d(4, 6, 3, groups=2, padding=1), lambda: drawn(2, 4, 5, 6)),
    "depthwise-conv1d": (lambda: nn.Conv1d(6, 6, 4, groups=6), lambda: drawn(2, 6, 9)),
    "mirrored-conv2d": (lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), lambda: drawn(2, 4, 5, 6)),
}
FEW_KINDS, FEW_FORMS = ("embedding", "grouped-conv2d"), ("lora", "dora", "c3a", "vera")
"""A table and a convolution take every form, and a few forms every kind, in each run; the rest is slow."""


def points():
    for form in FORMS:
        for kind in KINDS:
            few = kind in FEW_KINDS or form in FEW_FORMS
            yield pytest.param(form, kind, id=f"{form}-{kind}", marks=() if few else pytest.mark.slow)


POINTS = list(points())
every_point = pytest.mark.parametrize(("form", "kind"), POINTS)
CLOSE = {"atol": 2e-5, "rtol": 2e-5}


def make(kind, dtype=torch.float32):
    module, x = (part() for part in KINDS[kind])
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return nn.ModuleDict({"layer": module.to(dtype)}), x.to(dtype) if x.is_floating_point() else x


def attach(model, form, **keywords):
    return lowrank.attach(model, form, **{"rank": 2, "alpha": 3.0, "targets": ["layer"], "seed": 1} | keywords)


def by_reference(original, delta, x):
    """What the layer's own class makes of W + dW, written into a copy of it."""
    twin = copy.deepcopy(original)
    table = isinstance(twin, nn.Embedding)
    with torch.no_grad():
        twin.weight += (delta.T if table else delta.reshape(twin.weight.shape)).to(twin.weight.dtype)
    return twin(x)


@every_point
def test_the_output_at_the_start_is_the_base_layers(form, kind):
    model, x = make(kind)
    before = model["layer"](x)
    attach(model, form)
    torch.testing.assert_close(model["layer"](x), before, **CLOSE)


@every_point
@pytest.mark.parametrize("training", [False, True])
def test_the_output_is_that_of_the_weight_plus_the_dense_update(form, kind, training, shake):
    model, x = make(kind)
    original = copy.deepcopy(model["layer"])
    adapter = attach(model, form)
    shake(adapter)
    model.train(training)
    layer = model["layer"]
    expected = by_reference(original, layer.delta(), x)
    assert not torch.allclose(expected, original(x), **CLOSE)
    torch.testing.assert_close(layer(x), expected, **CLOSE)


@every_point
def test_gradients_are_those_of_the_dense_update_by_finite_differences(form, kind, shake):
    model, x = make(kind, torch.float64)
    adapter = attach(model, form)
    shake(adapter)
    parameters = list(adapter.parameters())
    loss = lambda: model["layer"](x).square().sum()  # noqa: E731
    grads = torch.autograd.grad(loss(), parameters, allow_unused=True)
    assert all(grad is not None and grad.abs().sum() > 0 for grad in grads)
    if kind == "padded-embedding" or form in ("dora", "bora", "edora", "taps", "edge-popup"):
        return  # rows of the padding give no gradient; norms are constants for it; gates and edges of 0 or 1 pass it on
    with torch.no_grad():
        before = float(loss())
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter -= 1e-7 * grad
        fallen = before - float(loss())
    assert fallen == pytest.approx(1e-7 * sum(float(grad.square().sum()) for grad in grads), rel=1e-2)


@every_point
def test_the_written_update_is_that_of_the_identitys_rows_and_so_are_its_gradients(form, kind, shake):
    model, _ = make(kind, torch.float64)
    adapter = attach(model, form)
    shake(adapter)
    update, view, parameters = adapter.forms["layer"], model["layer"].frozen, list(adapter.parameters())
    weights = drawn(view.out_features, view.in_features, seed=4).double()
    tokens = torch.arange(view.in_features)
    ways = [update.write_out(view), Form.write_out(update, view), update.look_up(tokens, view).T]
    values = [torch.autograd.grad((weights * way).sum(), parameters) for way in ways]
    for way, value in zip(ways[1:], values[1:], strict=True):
        torch.testing.assert_close(way, ways[0])
        for own, other in zip(value, values[0], strict=True):
            torch.testing.assert_close(own, other)


@every_point
def test_merging_is_the_forward_and_unmerging_restores_every_bit(form, kind, shake):
    model, x = make(kind)
    original = copy.deepcopy(model.state_dict())
    adapter = attach(model, form)
    shake(adapter)
    before = model["layer"](x)
    adapter.merge()
    torch.testing.assert_close(model["layer"](x), before, **CLOSE)
    adapter.unmerge()
    torch.testing.assert_close(model["layer"](x), before, atol=0, rtol=0)
    adapter.merge()
    adapter.detach()
    assert all(torch.equal(tensor, original[name]) for name, tensor in model.state_dict().items())
    assert type(model["layer"]) is type(make(kind)[0]["layer"])


@every_point
def test_a_saved_adapter_opens_with_the_same_outputs(form, kind, tmp_path, shake):
    model, x = make(kind)
    adapter = attach(model, form)
    shake(adapter)
    model.eval()
    adapter.save(tmp_path / "adapter", probe=lambda model: model["layer"](x).flatten())
    other, _ = make(kind)
    again = lowrank.load(other, tmp_path / "adapter")
    own, read = adapter.state(), again.state()
    assert own.keys() == read.keys()
    assert all(torch.equal(own[key], read[key]) for key in own)
    torch.testing.assert_close(other.eval()["layer"](x), model["layer"](x), atol=0, rtol=0)


@every_point
def test_bf16_weights_and_autocast_run(form, kind, shake):
    model, x = make(kind)
    adapter = attach(model, form)
    shake(adapter)
    exact = model["layer"](x)
    half, y = make(kind, torch.bfloat16)
    attach(half, form).load_state({key: tensor.clone() for key, tensor in adapter.state().items()})
    out = half["layer"](y)
    assert out.dtype is torch.bfloat16
    torch.testing.assert_close(out.float(), exact, atol=0.2, rtol=0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = model["layer"](x)
    torch.testing.assert_close(cast.float(), exact, atol=0.2, rtol=0.1)
    cast.float().sum().backward()


@every_point
def test_two_adapters_are_the_sum_of_two_singles_and_go_one_by_one(form, kind, shake):
    model, x = make(kind, torch.float64)
    base = model["layer"](x)
    first = attach(model, form, name="first")
    shake(first, seed=1)
    second = attach(model, "lora", name="second", rank=3)
    shake(second, seed=2)
    layer = model["layer"]
    both = layer(x)
    first.activate()
    alone = layer(x)
    first.activate("second")
    torch.testing.assert_close(both - base, (alone - base) + (layer(x) - base))
    first.activate("first", "second")
    first.merge()
    torch.testing.assert_close(layer(x), both)
    first.unmerge()
    with first.disabled():
        torch.testing.assert_close(layer(x) - base, both - alone)
    first.detach()
    second.detach()
    torch.testing.assert_close(model["layer"](x), base, atol=0, rtol=0)


@every_point
def test_dropout_zeroes_inputs_of_the_update_and_is_unbiased(form, kind, shake):
    model, x = make(kind, torch.float64)
    original = copy.deepcopy(model["layer"])
    adapter = attach(model, form, dropout=0.5)
    shake(adapter)
    base, full = original(x), by_reference(original, model["layer"].delta(), x)
    model.train()
    torch.manual_seed(0)
    runs = torch.stack([model["layer"](x) for _ in range(400)])
    assert runs.std(0).max() > 0
    scale = (full - base).abs().max()
    assert (runs.mean(0) - full).abs().max() < 0.5 * scale
    model.eval()
    torch.testing.assert_close(model["layer"](x), full)


@every_point
def test_counts_and_ranks_are_the_formulas(form, kind, shake):
    model, _ = make(kind, torch.float64)
    adapter = attach(model, form)
    shake(adapter)
    update = adapter.forms["layer"]
    assert adapter.num_parameters() == update.parameter_count()
    delta = update.delta(model["layer"].frozen.weight)
    rank = torch.linalg.matrix_rank(delta, rtol=1e-9)
    assert rank == update.rank_bound() or (form == "edge-popup" and 0 < rank < update.rank_bound())  # a choice of edges


@pytest.mark.parametrize("form", sorted(ROUTED))
@pytest.mark.parametrize("kind", ["embedding", "conv2d"])
def test_forms_that_route_inputs_are_refused_by_name(form, kind):
    model, _ = make(kind)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(UsageError, match=rf"{form}.*layer is of type"):
        attach(model, form)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (nn.Embedding(5, 4, max_norm=1.0), "max_norm"),
        (nn.Embedding(5, 4, scale_grad_by_freq=True), "scale_grad_by_freq"),
        (nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 4, 3)), "remove_parametrizations"),
        (nn.LazyConv1d(4, 3), "run one batch"),
        (nn.EmbeddingBag(5, 4), "EmbeddingBag"),
        (nn.ConvTranspose1d(4, 4, 3), "ConvTranspose1d"),
    ],
    ids=lambda part: getattr(type(part), "__name__", None) if isinstance(part, nn.Module) else part,
)
def test_layers_that_no_update_can_stand_on_are_refused_by_name(module, says):
    model = nn.ModuleDict({"layer": module, "other": nn.Linear(4, 4)})
    with pytest.raises(UsageError, match=says):
        attach(model, "lora")
    assert model["layer"] is module


def test_a_base_of_few_bits_is_refused_on_them_by_name():
    for kind in ("embedding", "conv2d"):
        with pytest.raises(UsageError, match="only linear layers are stored in few bits"):
            attach(make(kind)[0], "qdylora")


def test_a_sparse_table_needs_no_sparse_gradient():
    model = nn.ModuleDict({"layer": nn.Embedding(5, 4, sparse=True)})
    adapter = attach(model, "lora")
    model["layer"](torch.tensor([1, 2])).sum().backward()
    assert not any(parameter.grad.is_sparse for parameter in adapter.parameters())


def test_padding_and_unseen_tokens_keep_their_rows_under_a_lora():
    model, x = make("padded-embedding")
    before = model["layer"].weight.detach().clone()
    adapter = attach(model, "lora")
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (model["layer"](x) - 1).square().sum().backward()
        optimizer.step()
    adapter.merge()
    after = model["layer"].base.weight
    seen = set(x.flatten().tolist()) - {1}
    for token in range(12):
        moved = not torch.equal(after[token], before[token])
        assert moved == (token in seen), token


def test_the_base_model_of_a_tied_head_keeps_its_own_side():
    """The update stands on the table's look-ups alone; the head that shares the weight computes as before."""
    model = nn.ModuleDict({"layer": nn.Embedding(9, 4), "head": nn.Linear(4, 9, bias=False)})
    model["head"].weight = model["layer"].weight
    x, h = torch.tensor([1, 2, 3]), drawn(2, 4)
    head, table = model["head"](h), model["layer"](x)
    adapter = attach(model, "lora")
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(0))
    moved = model["layer"](x)
    assert (moved - table).abs().max() > 0.1
    torch.testing.assert_close(model["head"](h), head, atol=0, rtol=0)
    adapter.merge()
    torch.testing.assert_close(model["layer"](x), moved)
    torch.testing.assert_close(model["head"](h), head, atol=0, rtol=0)
    adapter.unmerge()
    assert model["head"].weight is model["layer"].base.weight


def test_who_reads_the_weight_reads_what_the_layer_computes_with():
    model, x = make("embedding")
    adapter = attach(model, "lora")
    with torch.no_grad():
        adapter.forms["layer"].A.normal_(generator=torch.Generator().manual_seed(0))
    layer = model["layer"]
    torch.testing.assert_close(nn.functional.embedding(x, layer.weight), layer(x))
    h = drawn(2, 6)
    total = layer.base.weight + layer.delta().T
    torch.testing.assert_close(nn.functional.linear(h, layer.weight), h @ total.T)
    (grad,) = torch.autograd.grad(nn.functional.linear(h, layer.weight).sum(), adapter.forms["layer"].A)
    assert grad.abs().sum() > 0


class Scaled(nn.Embedding):
    """A table as Gemma's: its rows are scaled as they are looked up."""

    def forward(self, input):
        return 3.0 * super().forward(input)


@pytest.mark.parametrize("form", ["lora", "dora", "hydra"])
def test_a_class_with_a_forward_of_its_own_runs_it_on_the_total_weight(form, shake):
    model = nn.ModuleDict({"layer": Scaled(12, 6)})
    x = torch.tensor([1, 5])
    adapter = attach(model, form)
    shake(adapter)
    layer = model["layer"]
    expected = 3.0 * (layer.base.weight + layer.delta().T)[x]
    torch.testing.assert_close(layer(x), expected)
    layer(x).sum().backward()
    assert all(parameter.grad is not None for parameter in adapter.parameters())


def test_targets_name_them_and_all_linear_leaves_them_out():
    model = nn.ModuleDict({"words": nn.Embedding(5, 4), "conv": nn.Conv1d(4, 4, 3), "line": nn.Linear(4, 4)})
    assert [*lowrank.select_targets(model)] == ["line"]
    assert [*lowrank.select_targets(model, ["words", "conv"])] == ["words", "conv"]
    assert [*lowrank.select_targets(model, "words|line")] == ["words", "line"]


def test_gradient_starts_read_them_and_starts_of_inputs_are_refused_by_name():
    model = nn.ModuleDict({"layer": nn.Embedding(8, 6), "conv": nn.Conv1d(6, 4, 3)})
    batches = [torch.tensor([[1, 2, 3, 4]]), torch.tensor([[5, 2, 3, 7]])]

    def loss(model, batch):
        return model["conv"](model["layer"](batch).transpose(1, 2)).square().mean()

    names = {"targets": ["layer", "conv"]}
    found = lowrank.calibrate(model, batches, loss, kinds=["gradient"], **names)
    weights = [model["layer"].weight, model["conv"].weight]
    own = [torch.autograd.grad(loss(model, batch), weights) for batch in batches]
    table, kernel = (torch.stack(parts).mean(0) for parts in zip(*own, strict=True))
    torch.testing.assert_close(found["layer"]["gradient"], table.T)
    torch.testing.assert_close(found["conv"]["gradient"], kernel.flatten(1))
    x = batches[0]
    before = float(loss(model, x))
    lowrank.attach(model, "lora-ga", rank=2, statistics=found, **names)
    assert float(loss(model, x)) == pytest.approx(before, rel=1e-4)
    with pytest.raises(UsageError, match=r"layer is of type Embedding, whose inputs"):
        lowrank.calibrate(
            nn.ModuleDict({"layer": nn.Embedding(8, 6)}), batches, loss, kinds=["inputs"], targets=["layer"]
        )


def test_pissa_starts_on_them_at_the_base_models_output():
    for kind in ("embedding", "grouped-conv2d"):
        model, x = make(kind)
        before = model["layer"](x)
        adapter = attach(model, "pissa")
        torch.testing.assert_close(model["layer"](x), before, **CLOSE)
        assert adapter.forms["layer"].B.abs().sum() > 0


@pytest.mark.parametrize("kind", ["embedding", "grouped-conv2d"])
def test_squeezing_converting_and_averaging_work_on_their_matrices(kind, shake):
    model, x = make(kind)
    original = copy.deepcopy(model["layer"])
    adapter = attach(model, "dora")
    shake(adapter)
    delta = model["layer"].delta()
    full = factors_of(adapter, rank=6)
    adapter.detach()
    averaged = combine([full, full], [0.25, 0.75])
    again = attach_factors(model, averaged)
    torch.testing.assert_close(model["layer"](x), by_reference(original, delta, x), atol=1e-4, rtol=1e-4)
    again.detach()
    attach_factors(model, squeeze(full, rank=1))
    best = torch.linalg.svd(delta)
    torch.testing.assert_close(model["layer"].delta(), best.S[0] * best.U[:, :1] @ best.Vh[:1], atol=1e-4, rtol=1e-4)


def test_gates_are_learned_on_linear_layers_alone():
    model, _ = make("embedding")
    pair = Factors(torch.ones(1, 12), torch.ones(6, 1), 1.0)
    with (
        pytest.raises(UsageError, match="gates are learned on linear layers"),
        gated(model, {"layer": pair}, lambda: None),
    ):
        pass


GRADIENTS = ("gradient", "fisher", "fisher_forget", "fisher_retain")


@pytest.mark.parametrize("each", lowrank.taxonomy(), ids=lambda each: each.name)
@pytest.mark.parametrize("kind", ["embedding", "grouped-conv2d"])
def test_the_taxonomy_says_which_methods_stand_on_them_and_the_others_say_why_not(each, kind):
    model, x = make(kind)
    view = base_of(model["layer"])
    statistics = {name: drawn(view.out_features, view.in_features, seed=5).abs() for name in GRADIENTS}
    if each.tables:
        adapter = attach(model, each.name, statistics={"layer": statistics})
        model["layer"](x).square().sum().backward()
        assert all(parameter.grad is not None for parameter in adapter.parameters())
        return
    with pytest.raises(UsageError, match=r"layer"):
        attach(model, each.name, statistics={"layer": statistics})
