"""loram: trained on a pruned base, used on the full one."""

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank.algebra import attach_factors, dense_update, factors_of, feed_forward_pairs, prune_units, recover


def network(seed=0, dead=0):
    """8 -> 16 -> 5, with ``dead`` hidden units that do nothing."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 5)).double()
    with torch.no_grad():
        units = torch.randperm(16)[:dead]
        model[2].weight[:, units] = 0
    return model


def train(model, x, y, steps=30):
    adapter = lowrank.attach(model, "lora", rank=2, alpha=4.0, seed=1)
    optimizer = torch.optim.SGD(adapter.parameters(), lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        (model(x) - y).square().mean().backward()
        optimizer.step()
    return adapter


def batch():
    generator = torch.Generator().manual_seed(2)
    draws = (torch.randn(32, size, generator=generator, dtype=torch.float64) for size in (8, 5))
    return tuple(draws)


def test_loram_recovers_the_pruned_product_at_kept_indices_and_0_elsewhere():
    model, (x, y) = network(), batch()
    small = prune_units(model, [("0", "2")], 0.5)
    trained = factors_of(train(small.model, x, y))
    full = recover(trained, small.kept)
    for path, kept in small.kept.items():
        delta, inside = dense_update(full[path]), dense_update(trained[path])
        assert delta.shape == model.get_submodule(path).weight.shape
        assert inside.abs().max() > 0
        torch.testing.assert_close(delta[kept.rows][:, kept.columns], inside)
        outside = delta.clone()
        outside[kept.rows.unsqueeze(1), kept.columns] = 0
        assert outside.abs().max() == 0
    base = model(x)
    attach_factors(model, full)
    assert (model(x) - y).square().mean() < (base - y).square().mean()


def test_loram_without_pruning_is_plain_lora_and_dead_units_lose_nothing():
    (x, y), plain, whole = batch(), network(), network()
    small = prune_units(whole, [("0", "2")], 1.0)
    ours, theirs = recover(factors_of(train(small.model, x, y)), small.kept), factors_of(train(plain, x, y))
    for path, own in theirs.items():
        torch.testing.assert_close(dense_update(ours[path]), dense_update(own))
    sleepy = network(dead=4)
    pruned = prune_units(sleepy, [("0", "2")], 0.75)
    torch.testing.assert_close(pruned.model(x), sleepy(x))


def test_loram_training_holds_the_pruned_base_alone():
    model, (x, y) = network(), batch()
    small = prune_units(model, [("0", "2")], 0.25)
    adapter = train(small.model, x, y, steps=1)
    mine = {id(parameter) for parameter in adapter.parameters()}
    held = sum(p.numel() for p in small.model.parameters() if id(p) not in mine)
    assert held == 4 * 8 + 4 + 5 * 4 + 5
    assert adapter.num_parameters() == 2 * (8 + 4) + 2 * (4 + 5)
    assert not {p.data_ptr() for p in small.model.parameters()} & {p.data_ptr() for p in model.parameters()}


def test_loram_on_a_quantised_pruned_base():
    model, (x, y) = network().float(), batch()
    small = prune_units(model, [("0", "2")], 0.5)
    lowrank.quantise(small.model, "int8", targets=["0", "2"])
    full = recover(factors_of(train(small.model, x.float(), y.float())), small.kept)
    assert dense_update(full["0"]).shape == (16, 8)


def test_wrong_use_is_told():
    model = network()
    with pytest.raises(UsageError, match="share"):
        prune_units(model, [("0", "2")], 0.0)
    with pytest.raises(UsageError, match="makes 5 units"):
        prune_units(model, [("2", "0")])
    with pytest.raises(UsageError, match="0 layers"):
        feed_forward_pairs(model, "up", "down")
    small = prune_units(model, [("0", "2")], 0.5)
    with pytest.raises(UsageError, match="do not fit"):
        recover(factors_of(lowrank.attach(network(), "lora", rank=1)), small.kept)
