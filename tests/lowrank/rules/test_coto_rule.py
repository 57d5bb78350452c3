"""CoTo: how often layers take part, plain AdamW at p = 1, and what the paper promises of the minima it finds."""

import torch
from torch import nn

from lorank import lowrank
from lorank.lowrank.rules import make_rule


def test_coto_activity_follows_p_of_t(tower, open_walk):
    model = tower()
    adapter = lowrank.attach(model, rank=1, targets=["wide", "narrow", "transposed"])
    rule = make_rule("coto", start=0.2, ramp=0.5, groups="layer")
    open_walk(adapter, rule, lambda step: None, of=8000)
    active = torch.tensor([len(rule.active_groups(step, 8000)) for step in range(8000)]) / 3
    assert (active > 0).all()
    for part in range(4):
        p = torch.tensor(
            [rule.probability(step, 8000) for step in range(part * 1000, part * 1000 + 1000)], dtype=torch.float64
        )
        expected = p + (1 - p) ** 3 / 3  # one of three is drawn where none is
        torch.testing.assert_close(
            active[part * 1000 : part * 1000 + 1000].double().mean(), expected.mean(), atol=0.03, rtol=0
        )
    assert (active[4000:] == 1).all()


def test_at_p_1_it_is_lora(tower, walk):
    states = []
    for rule in (make_rule("adamw"), make_rule("coto", start=1.0)):
        model = tower()
        adapter = lowrank.attach(model, rank=2)
        walk(adapter, rule, lambda step, model=model: model(torch.ones(3, 6)).square().sum(), 6)
        states.append(adapter.state())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_layer_that_is_out_computes_with_its_base_and_gets_no_step(tower, shake, open_walk):
    model = tower()
    adapter = lowrank.attach(model, rank=1, targets=["wide", "narrow", "transposed"])
    shake(adapter)
    rule = make_rule("coto", groups="layer")
    run = open_walk(adapter, rule, lambda step: model(torch.ones(3, 6)).square().sum(), of=1000)
    before = {key: tensor.clone() for key, tensor in adapter.state().items()}
    active = rule.active_groups(0, 1000)
    rule.before_step(0, 1000)
    x = torch.ones(2, 6)
    assert torch.equal(model.wide(x), model.wide.base(x)) == ("wide" not in active)
    rule.after_step(1, 1000)
    run.go(1)
    assert all(layer.running for layer in adapter.layers.values())
    for key, tensor in adapter.state().items():
        assert torch.equal(tensor, before[key]) == (key.split(".")[0] not in active)


def test_layers_of_a_block_come_in_together():
    class Blocks(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.ModuleList(nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)}) for _ in range(5))

    adapter = lowrank.attach(Blocks(), rank=1)
    rule = make_rule("coto")
    rule.begin(adapter, None, 10, None)
    rule.before_step(0, 10)
    for block in range(5):
        assert adapter.layers[f"layer.{block}.a"].running == adapter.layers[f"layer.{block}.b"].running
    assert sum(bool(layer.running) for layer in adapter.layers.values()) in (2, 4)


class Deep(nn.Module):
    """Four layers with skips."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(nn.Linear(16, 16) for _ in range(4))
        self.out = nn.Linear(16, 1)

    def forward(self, x):
        for block in self.blocks:
            x = x + torch.tanh(block(x))
        return self.out(x).squeeze(-1)


def tuned(rule, seed, walk):
    """An adapter after 150 steps, and its loss on all rows."""
    model = Deep()
    torch.manual_seed(100)
    x = torch.randn(256, 16)
    y = torch.tanh(x[:, 0] * x[:, 1]) + x[:, 2]
    adapter = lowrank.attach(model, rank=4, targets=[f"blocks.{i}" for i in range(4)], seed=seed)

    def loss(step):
        rows = torch.randperm(256, generator=torch.Generator().manual_seed(1000 * seed + step))[:64]
        return (model(x[rows]) - y[rows]).square().mean()

    walk(adapter, rule, loss, 150, lr=0.02)
    return adapter, lambda: (model(x) - y).square().mean().item()


def test_the_line_between_two_coto_runs_is_flatter_and_pruning_layers_hurts_less(walk):
    barrier, pruned = {}, {}
    for name, options in (("adamw", {}), ("coto", {"groups": "layer"})):
        (one, value), (two, other) = (tuned(make_rule(name, **options), seed, walk) for seed in (0, 1))
        ends = (value() + other()) / 2
        losses = []
        for layer in one.layers.values():
            layer.switch(one.name, False)
            losses.append(value())
            layer.switch(one.name, True)
        pruned[name] = sum(losses) / len(losses) - value()
        a, b = ({key: tensor.clone() for key, tensor in run.state().items()} for run in (one, two))
        one.load_state({key: (a[key] + b[key]) / 2 for key in a})
        barrier[name] = value() - ends
    assert barrier["coto"] < barrier["adamw"]
    assert pruned["coto"] < 0.6 * pruned["adamw"]
