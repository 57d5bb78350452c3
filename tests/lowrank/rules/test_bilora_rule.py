"""BiLoRA: which data moves what, the hypergradient against the true one, and a smaller gap where LoRA overfits."""

import torch
from torch import nn

from lorank import lowrank
from lorank.lowrank.rules import make_rule


def problem(tower, dtype=torch.float64):
    model = tower(dtype)
    adapter = lowrank.attach(model, "gated", rank=2, targets=["wide", "narrow"])
    with torch.no_grad():
        for form in adapter.forms.values():
            form.gate.fill_(0.5)
    return model, adapter


def named(adapter):
    gates = {key: p for key, p in adapter.named_parameters() if key.endswith("gate")}
    return gates, {key: p for key, p in adapter.named_parameters() if key not in gates}


def test_bilora_gates_learn_from_held_out_lists_alone_and_factors_from_training_lists_alone(tower, walk):
    moved = {}
    for part in ("training", "held-out"):
        model, adapter = problem(tower)
        x = torch.ones(3, 6).double()
        before = {key: p.detach().clone() for key, p in adapter.named_parameters()}

        def real(step, model=model, x=x):
            return (model(x) - 1).square().sum()

        def nothing(step, model=model, x=x):
            return 0.0 * model(x).sum()

        rule = make_rule("bilora", orthogonality=0.0)
        losses = (real, nothing) if part == "training" else (nothing, real)
        walk(adapter, rule, losses[0], 2, held_out=losses[1], weight_decay=0.0)
        changed = {key for key, p in adapter.named_parameters() if not torch.equal(p, before[key])}
        moved[part] = {key.rpartition(".")[2] for key in changed}
    assert moved == {"training": {"A", "B"}, "held-out": {"gate"}}


def test_the_hypergradient_is_the_equations_differentiated_exactly(tower, open_walk):
    """grad_l L2 - xi d^2 L1 / dl dV grad_V L2, the second derivative by autograd instead of a difference."""
    model, adapter = problem(tower)
    generator = torch.Generator().manual_seed(0)
    x, z = (torch.randn(8, 6, generator=generator).double() for _ in range(2))

    def lower_loss(step):
        return (model(x) - 1).square().mean()

    def upper_loss(index):
        return (model(z) + 1).square().mean()

    rule = make_rule("bilora")
    assert open_walk(adapter, rule, lower_loss, 10, held_out=upper_loss).at == 0
    found = rule.hypergradient(1, rate=0.5)
    gates, factors = (list(part.values()) for part in named(adapter))
    for layer in adapter.layers.values():
        layer.base.register_forward_hook(lambda *_: None)  # plain operations, which can be differentiated twice
    v = torch.autograd.grad(upper_loss(0), factors)
    slopes = torch.autograd.grad(lower_loss(0), factors, create_graph=True)
    along = sum((slope * part).sum() for slope, part in zip(slopes, v, strict=True))
    second = torch.autograd.grad(along, gates)
    direct = torch.autograd.grad(upper_loss(0), gates)
    for ours, first, bend in zip(found, direct, second, strict=True):
        torch.testing.assert_close(ours, first - 0.5 * bend, atol=1e-4 * float(bend.norm()), rtol=1e-3)


def test_looking_through_the_lower_step_leaves_the_factors_bit_for_bit(tower, open_walk):
    model, adapter = problem(tower, torch.float32)
    run = open_walk(adapter, make_rule("bilora"), lambda step: (model(torch.ones(2, 6)) - 1).square().sum(), 10)
    before = {key: tensor.clone() for key, tensor in adapter.state().items()}
    run.rule.hypergradient(1, rate=0.1)
    assert all(torch.equal(before[key], tensor) for key, tensor in adapter.state().items())


def test_where_lora_overfits_the_gap_to_new_data_is_smaller(walk):
    """Both see the same 24 noisy rows; BiLoRA gives half of them to the gates."""
    gaps = {}
    for name in ("adamw", "bilora"):
        torch.manual_seed(0)
        model = nn.ModuleDict({"layer": nn.Linear(20, 4, bias=False)})
        base = model["layer"].weight.detach().clone()
        true = base + 0.5 * torch.outer(torch.randn(4), torch.randn(20))
        x, new = torch.randn(24, 20), torch.randn(2000, 20)
        y = x @ true.t() + torch.randn(24, 4)
        adapter = lowrank.attach(model, "gated" if name == "bilora" else "lora", rank=4)

        def on(rows, layer=model["layer"], x=x, y=y):
            return (layer(x[rows]) - y[rows]).square().mean()

        if name == "bilora":
            rule = make_rule("bilora")
            walk(
                adapter,
                rule,
                lambda _, on=on: on(slice(0, 12)),
                300,
                held_out=lambda _, on=on: on(slice(12, 24)),
                lr=0.01,
            )
        else:
            walk(adapter, make_rule("adamw"), lambda _, on=on: on(slice(0, 24)), 300, lr=0.01)
        with torch.no_grad():
            fresh = (model["layer"](new) - new @ true.t()).square().mean() + 1.0  # the noise's variance
            gaps[name] = float(fresh - on(slice(0, 24)))
    assert gaps["bilora"] < 0.8 * gaps["adamw"]
