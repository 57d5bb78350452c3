"""What holds for every registered kind of factored layer; a new one is covered by registering it."""

import copy

import pytest
import torch
from torch import nn

from factored_layers import LAYERS, Small
from lorank.errors import DataError, UsageError
from lorank.lowrank import attach, quantise
from lorank.lowrank.factored import (
    FACTORED,
    break_even,
    factored_options,
    make_factored,
    open_factored,
    save_factored,
)

every_kind = pytest.mark.parametrize("method", FACTORED)
every_start = pytest.mark.parametrize(
    ("method", "start"), [(method, start) for method, kind in FACTORED.items() for start in kind.starts]
)


def trained(model, made, rows, steps=60, lr=1e-2, seed=0):
    optimizer = made.optimizer(lr=lr)
    goal = torch.randn(len(rows), 3, generator=torch.Generator().manual_seed(seed))
    events = 0
    for step in range(steps):
        optimizer.zero_grad()
        (model(rows) - goal).square().mean().backward()
        optimizer.step()
        events += made.after_step(step + 1, steps, optimizer)
    return optimizer, events


@every_start
@pytest.mark.parametrize("seed", [0, 1])
def test_the_dense_weight_is_what_the_forward_pass_multiplies_by(small, rows, method, start, seed):
    made = make_factored(small, method, rank=3, targets=LAYERS, start=start, seed=seed)
    trained(small, made, rows, 5)
    for path, layer in made.layers.items():
        x = torch.randn(2, 4, layer.in_features)
        expected = nn.functional.linear(x, layer.dense(), layer.bias)
        torch.testing.assert_close(layer(x), expected, atol=1e-6, rtol=1e-5, msg=path)


@every_kind
def test_parameters_are_counted_by_formula(small, method):
    before = sum(p.numel() for p in small.parameters())
    made = make_factored(small, method, rank=3, targets=LAYERS)
    for row in made.report():
        layer = made.layers[row.path]
        stored = sum(p.numel() for name, p in layer.named_parameters() if name != "bias")
        assert stored == row.parameters == layer.count(*row.shape, 3, **factored_options(method))
        assert (row.dense, row.dense_flops) == (row.shape[0] * row.shape[1], 2 * row.shape[0] * row.shape[1])
    dense = 40 * 24 + 16 * 40
    assert sum(p.numel() for p in small.parameters()) == before - dense + made.num_parameters()


@every_kind
@pytest.mark.parametrize("seed", [0, 1])
def test_events_leave_the_outputs_as_they_are(small, rows, method, seed):
    small, rows = small.double(), rows.double()
    made = make_factored(small, method, rank=3, targets=LAYERS, seed=seed)
    optimizer, _ = trained(small, made, rows, 10)
    events = 0
    for step in range(1, 100):
        before = small(rows)
        events += made.after_step(step, 500, optimizer)
        torch.testing.assert_close(small(rows), before, atol=1e-6, rtol=0)
    assert bool(events) == (type(made.layers["wide"]).after_step is not FACTORED["sltrain"].after_step)


@every_kind
def test_merging_gives_plain_layers_with_the_same_outputs(small, rows, method):
    made = make_factored(small, method, rank=3, targets=LAYERS)
    trained(small, made, rows, 5)
    before, bias = small(rows), small.wide.bias
    made.merge()
    assert type(small.wide) is type(small.narrow) is nn.Linear
    assert small.wide.bias is bias
    assert small.narrow.bias is None
    assert small.wide.weight.requires_grad
    torch.testing.assert_close(small(rows), before, atol=1e-6, rtol=1e-5)


@every_kind
def test_training_lowers_the_loss_and_reaches_every_tensor_and_the_input(small, rows, method):
    made = make_factored(small, method, rank=3, targets=LAYERS)
    x = rows.clone().requires_grad_()
    start = float(small(x).square().mean().detach())
    small(x).square().mean().backward()
    assert x.grad is not None
    assert float(x.grad.abs().sum()) > 0
    optimizer = made.optimizer(lr=1e-2)
    for step in range(30):
        optimizer.step()
        optimizer.zero_grad()
        made.after_step(step + 1, 30, optimizer)
        small(rows).square().mean().backward()
    for layer in made.layers.values():
        for name, parameter in layer.named_parameters():
            assert parameter.grad is not None, name
    assert float(small(rows).square().mean().detach()) < 0.9 * start


@every_kind
def test_a_seed_decides_the_draws(method):
    def tensors(seed):
        made = make_factored(Small(), method, rank=3, targets=LAYERS, seed=seed)
        return torch.cat([p.double().flatten() for p in made.layers["wide"].state_dict().values()])

    assert torch.equal(tensors(3), tensors(3))
    if FACTORED[method].starts[0] != "svd":
        assert not torch.equal(tensors(3), tensors(4))


@every_start
def test_layers_are_saved_and_opened(tmp_path, small, rows, method, start):
    made = make_factored(small, method, rank={"wide": 3, "narrow": 2}, targets=LAYERS, start=start, seed=2)
    trained(small, made, rows, 20)
    save_factored(made, tmp_path / "layers")
    other = Small()
    for name, parameter in other.named_parameters():
        if name.split(".")[0] not in LAYERS or name.endswith("bias"):
            parameter.data = small.get_parameter(name).data.clone()
    opened = open_factored(other, tmp_path / "layers")
    assert [layer.rank for layer in opened.layers.values()] == [3, 2]
    torch.testing.assert_close(other(rows), small(rows), atol=0, rtol=0)


@every_kind
def test_a_spoiled_folder_is_refused_and_the_model_stays(tmp_path, small, method):
    save_factored(make_factored(small, method, rank=3, targets=LAYERS), tmp_path / "layers")
    card = tmp_path / "layers" / "factored.json"
    whole = card.read_text()
    for text in ("{", "{}", whole.replace(method, "none"), whole.replace('"wide": 3', '"wide": 4')):
        card.write_text(text)
        other = Small()
        with pytest.raises(DataError):
            open_factored(other, tmp_path / "layers")
        assert type(other.wide) is nn.Linear, text
    card.write_text(whole)
    with pytest.raises(DataError, match="no linear layer"):
        open_factored(nn.Sequential(nn.Linear(24, 40)), tmp_path / "layers")


@every_kind
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions(small, rows, method, dtype):
    small.to(dtype)
    made = make_factored(small, method, rank=3, targets=LAYERS)
    optimizer = made.optimizer(lr=1e-3, eps=1e-4)  # 1e-8 is 0 in float16
    assert {p.dtype for layer in made.layers.values() for p in layer.parameters()} == {dtype}
    small(rows.to(dtype)).square().mean().backward()
    optimizer.step()
    before = small(rows.to(dtype)).double()
    for step in range(1, 41):
        made.after_step(step, 100, optimizer)
    near = {torch.bfloat16: 0.1, torch.float16: 0.02, torch.float64: 1e-10}[dtype]
    torch.testing.assert_close(small(rows.to(dtype)).double(), before, atol=near, rtol=0)


@every_kind
def test_autocast_and_checkpoints_of_torch(small, rows, method):
    made = make_factored(small, method, rank=3, targets=LAYERS)
    with torch.autocast("cpu", torch.bfloat16):
        small(rows).float().square().mean().backward()
    for layer in made.layers.values():
        assert all(p.grad is not None and p.grad.dtype == p.dtype for p in layer.parameters())
    again = copy.deepcopy(small)
    again.load_state_dict(small.state_dict())
    torch.testing.assert_close(again(rows), small(rows), atol=0, rtol=0)


def stays(model, message, method, **options):
    """Assert that the request is refused with ``message``, and that nothing of the model was replaced."""
    kinds = [type(module) for module in model.modules()]
    with pytest.raises(UsageError, match=message):
        make_factored(model, method, **options)
    assert [type(module) for module in model.modules()] == kinds


@every_kind
def test_what_cannot_be_factored_is_refused_before_anything_changes(small, method):
    stays(small, "less than one rank", method, rank=0.01, targets=LAYERS)
    stays(small, "less than one rank", method, rank=0, targets=LAYERS)
    stays(small, r"above min\(out, in\) = 16", method, rank=17, targets=LAYERS)
    stays(small, "whole number", method, rank=2.5, targets=LAYERS)
    stays(small, "no rank is stated for layer narrow", method, rank={"wide": 2}, targets=LAYERS)
    stays(small, "unknown option", method, rank=2, dlta=0.1)
    stays(small, "does not suit", method, rank=2, start="zero")
    stays(small, "Embedding is no linear layer", method, rank=2, targets=["table"])
    stays(small, "names no layer", method, rank=2, targets=["absent"])


@every_kind
def test_tied_quantised_and_adapted_layers_are_refused(method):
    tied = Small()
    tied.other = nn.Linear(24, 40)
    tied.other.weight = tied.wide.weight
    stays(tied, "tied to that of another module", method, rank=2, targets=LAYERS)
    few_bits = Small()
    quantise(few_bits, "int8", targets=["wide"])
    stays(few_bits, "quantised.*dequantise", method, rank=2, targets=LAYERS)
    adapted = Small()
    attach(adapted, "lora", rank=2, targets=["wide"])
    stays(adapted, "an adapter stands on it", method, rank=2, targets=LAYERS)
    twice = Small()
    made = make_factored(twice, method, rank=2, targets=LAYERS)
    with pytest.raises(UsageError):
        make_factored(twice, method, rank=2, targets=LAYERS)
    made.merge()
    normed = Small()
    torch.nn.utils.parametrizations.weight_norm(normed.wide)
    stays(normed, "computed by a parametrization", method, rank=2, targets=LAYERS)


@every_kind
def test_a_module_that_stands_twice_is_one_layer(rows, method):
    shared = nn.Linear(24, 24)
    model = nn.Sequential(shared, nn.Tanh(), shared)
    made = make_factored(model, method, rank=3)
    assert list(made.layers) == ["0"]
    assert model[0] is model[2] is made.layers["0"]
    made.merge()
    assert model[0] is model[2]
    assert type(model[0]) is nn.Linear


def test_the_rank_may_be_a_share_of_the_break_even_rank(small):
    made = make_factored(small, "greenformers-lrt", targets=LAYERS)
    assert [row.rank for row in made.report()] == [int(0.5 * break_even(40, 24)), int(0.5 * break_even(16, 40))]
    assert all(row.parameters <= row.dense / 2 for row in made.report())
