"""What holds for every rule: the first step worked by hand, the memory it states, a resumed run, bad options."""

import re

import pytest
import torch

from lorank import lowrank
from lorank.errors import LorankError, UsageError
from lorank.lowrank.rules import RULES, make_rule

A, B, G = [[1.0, 2.0, 0.0]], [[2.0], [1.0]], [[1.0, -1.0, 3.0], [0.5, 2.0, -1.0]]
ALPHA = LR = 0.5
a = b = 5.0  # A A^T and B^T B
tA, tB, tG, s = torch.tensor(A).double(), torch.tensor(B).double(), torch.tensor(G).double(), ALPHA
gA, gB = s * tB.T @ tG, s * tG @ tA.T
identity = torch.eye(2).double(), torch.eye(3).double()
onto_B, onto_A = tB @ tB.T / b, tA.T @ tA / a


def adam(factor, gradient, lr=LR):
    return factor - lr * gradient.sign()


def pro_moves(full):
    """LoRA-Pro's moves for the gradient ``full`` of W, at rank 1."""
    X = -(s * tB.T @ full @ tA.T) / (b * s**2) / (b + a)
    return s * tB.T @ full / (b * s**2) + X * tA, (identity[0] - onto_B) @ (s * full @ tA.T) / (a * s**2) - tB * X


def lora_pro_full():
    equivalent = tG - (identity[0] - onto_B) @ tG @ (identity[1] - onto_A)
    move_A, move_B = pro_moves(equivalent.sign())
    return tA - LR * move_A, tB - LR * move_B


def loft():
    full = (gB / (a * s) @ tA).sign()
    return tA, tB - LR * full @ tA.T / (a * s)


rates = 1 / (tB.abs() * a**0.5 + 1 / 2.0**2).sqrt()  # of ALLoRA at eta = 2; |(BA)_i| = |B_i| |A|


def allora():
    return tA - LR * tB.T @ (rates * tG), tB - LR * rates * (tG @ tA.T)


def altlora():
    direction = gB / (a * s**2)
    size = (s**2 * (direction @ tA).square().mean()).sqrt()
    return tA, tB - LR * (1 - 0.9) * direction / size


def fast_forward():
    first = adam(tA, gA), adam(tB, gB)
    return tuple(start + 3 * (after - start) for start, after in zip((tA, tB), first, strict=True))


def polyak():
    value = (tG * (s * tB @ tA)).sum() + 10
    slope = gA.square().sum() + gB.square().sum()
    eta = min(LR, value / (2 * slope))
    assert eta < LR
    return tA - eta * gA, tB - eta * gB


def bilora():
    skew = 4 * 0.25 * (b - 1) * tB, 4 * 0.25 * (a - 1) * tA
    return adam(tA, gA + skew[1]), adam(tB, gB + skew[0])


FIRST_STEPS = {
    "adamw": [({}, lambda: (adam(tA, gA), adam(tB, gB)))],
    "lora-plus": [({"ratio": 4.0}, lambda: (adam(tA, gA), adam(tB, gB, 4 * LR)))],
    "lora-pro": [
        ({"moments": "full"}, lora_pro_full),
        ({"moments": "factored"}, lambda: tuple(map(adam, (tA, tB), pro_moves(tG)))),
    ],
    "loft": [({"clip": None}, loft)],
    "altlora": [({}, altlora), ({"unit": "gradient"}, lambda: (tA, tB - LR * (1 - 0.9) * gB / (a * s**2)))],
    "allora": [
        ({"eta": 2.0, "inner": "adamw"}, lambda: (adam(tA, tB.T @ (rates * tG)), adam(tB, gB))),
        ({"eta": 2.0, "inner": "sgd"}, allora),
    ],
    "riemannian": [({}, lambda: (adam(tA, gA), adam(tB, gB)))],
    "polyak-momentum": [({"c": 2.0, "lowest": -10.0}, polyak)],
    "coto": [({}, lambda: (adam(tA, gA), adam(tB, gB)))],
    "chain-of-lora": [({"links": 2}, lambda: (adam(tA, gA), adam(tB, gB)))],
    "fast-forward": [({"interval": 1}, fast_forward)],
    "next-extrapolation": [({}, lambda: (adam(tA, gA), adam(tB, gB)))],
    "bilora": [({"orthogonality": 0.25}, bilora)],
}
CASES = [
    pytest.param(name, options, index, id="-".join([name, *map(str, options.values())]))
    for name, cases in FIRST_STEPS.items()
    for index, (options, _) in enumerate(cases)
]
every_case = pytest.mark.parametrize(("name", "options", "index"), CASES)


def test_every_rule_is_here():
    assert FIRST_STEPS.keys() == RULES.keys()


def example(name, given):
    """The 2 x 3 example; allora has no alpha, fast-forward a held-out loss that falls twice."""
    fallen = iter([3.0, 2.0, 1.0, 1.5])
    held_out = (lambda index: torch.tensor(next(fallen))) if name == "fast-forward" else None
    method = "gated" if name == "bilora" else "lora"
    return given(A, B, G, None if name == "allora" else ALPHA, method, held_out)


@every_case
def test_the_first_step_on_a_2_by_3_example_is_the_one_worked_by_hand(name, options, index, given):
    problem = example(name, given)
    problem.step(make_rule(name, **options), lr=LR)
    for found, expected in zip(problem.pair, FIRST_STEPS[name][index][1](), strict=True):
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-5)


@every_case
def test_the_optimizers_state_has_as_many_values_as_the_docstring_says(name, options, index, tower, method_for, walk):
    r, model = 2, tower(torch.float64)
    adapter = lowrank.attach(model, method_for(name), rank=r, targets=["wide", "narrow"])
    run = walk(adapter, make_rule(name, **options), lambda step: model(torch.ones(2, 6).double()).sum(), 10)
    stated = re.findall(r"``([\w *+/()]+)``", RULES[name].__doc__.partition("State:")[2])
    sizes = [{"r": r, "out": out, "width": width} for out, width in ((10, 6), (5, 10))]
    expected = sum(eval(stated[index], {}, size) for size in sizes)
    counted = [entry for state in run.optimizer.state.values() for key, entry in state.items() if key != "step"]
    counted += [entry for key, entry in run.rule.state().items() if key.endswith(("avg", "avg_sq"))]
    assert sum(tensor.numel() for tensor in counted) == expected
    assert all(isinstance(entry, torch.Tensor) for state in run.optimizer.state.values() for entry in state.values())


@every_case
@pytest.mark.parametrize("cut", [1, 4, 6])
def test_a_run_taken_up_from_its_tensors_is_bit_for_bit_the_run_that_was_not_cut(
    name, options, index, cut, tower, method_for, open_walk
):
    def begin():
        model = tower()
        adapter = lowrank.attach(model, method_for(name), rank=2, targets=["wide", "narrow"], trained=["head"])

        def loss(step):
            x = torch.randn(5, 6, generator=torch.Generator().manual_seed(step))
            return (model(x) - x.sum(1)).square().mean()

        return open_walk(adapter, make_rule(name, **options), loss, of=9, held_out=lambda index: loss(100 + index))

    whole = begin().go(9)
    saved = begin().go(cut).tensors()
    resumed = begin().take_up(saved, cut).go(9 - cut)
    one, two = whole.tensors(), resumed.tensors()
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


@every_case
def test_steps_lower_the_loss_and_move_all_that_is_trained(name, options, index, tower, method_for, walk):
    model = tower(torch.float64)
    adapter = lowrank.attach(model, method_for(name), rank=2, targets=["wide", "narrow"], trained=["head"])
    x = torch.randn(64, 6, generator=torch.Generator().manual_seed(0)).double()
    before = {key: parameter.detach().clone() for key, parameter in adapter.named_parameters()}

    def loss(step):
        return (model(x) - x.sum(1)).square().mean()

    first = float(loss(0).detach())
    walk(adapter, make_rule(name, **options), loss, 30, lr=0.005)
    assert float(loss(0).detach()) < 0.9 * first
    assert all(not torch.equal(before[key], parameter) for key, parameter in adapter.named_parameters())


@every_case
def test_what_is_no_factor_steps_by_adamw(name, options, index, tower, method_for, walk):
    if name == "polyak-momentum" or options.get("inner") == "sgd":
        pytest.skip("one rule for everything that is trained")
    model = tower(torch.float64)
    adapter = lowrank.attach(model, method_for(name), rank=2, targets=["wide", "narrow"], trained=["head"])
    before = model.head.weight.detach().clone()
    x = torch.ones(2, 6).double()
    gradient = torch.autograd.grad(model(x).sum(), model.head.weight)[0]
    walk(
        adapter,
        make_rule(name, **options),
        lambda step: model(x).sum(),
        1,
        of=100,
        lr=0.1,
        weight_decay=0.5,
        held_out=lambda index: torch.zeros((), requires_grad=True) * sum(p.sum() for p in adapter.parameters()),
    )
    expected = before * (1 - 0.1 * 0.5) - 0.1 * gradient / (gradient.abs() + 1e-8)
    torch.testing.assert_close(model.head.weight.detach(), expected)


@pytest.mark.parametrize("name", RULES)
def test_an_unknown_option_is_named_with_those_that_there_are(name):
    with pytest.raises(UsageError, match=f"rule '{name}' has no option 'speed'"):
        make_rule(name, speed=1)


def test_an_unknown_rule_names_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'lora-plus'"):
        make_rule("lora+plus")


@pytest.mark.parametrize("name", sorted(set(RULES) - {"adamw", "coto", "fast-forward", "polyak-momentum"}))
def test_an_adapter_without_the_factors_that_a_rule_steps_is_refused(name, tower):
    adapter = lowrank.attach(tower(), "vera", rank=2)
    with pytest.raises(UsageError, match="vera"):
        lowrank_walk(adapter, name)


def lowrank_walk(adapter, name):
    from lorank.lowrank.rules import Losses, Rates

    rule = make_rule(name)
    optimizer = rule.optimizer([{"params": list(adapter.parameters())}], adapter, Rates(0.1))
    rule.begin(adapter, optimizer, 10, Losses(lambda step: torch.zeros(()), lambda index: torch.zeros(())))


@pytest.mark.parametrize("name", RULES)
def test_the_optimizer_by_name_is_the_rules_own_or_says_that_it_needs_the_loop(name, tower):
    model = tower()
    adapter = lowrank.attach(model, rank=2)
    if not RULES[name].optimizes:
        with pytest.raises(UsageError, match=f"--rule {name}"):
            lowrank.optimizer(name, adapter, lr=0.1)
        return
    optimizer = lowrank.optimizer(name, adapter, lr=0.01)
    x = torch.ones(2, 6)
    before = model(x).detach()

    def loss():
        optimizer.zero_grad()
        value = (model(x) - 1).square().sum()
        value.backward()
        return value

    assert optimizer.step(loss) > 0
    assert not torch.equal(model(x), before)


@pytest.mark.parametrize("name", [name for name in RULES if RULES[name].optimizes])
def test_parameters_in_place_of_an_adapter_suit_rules_that_know_no_factors(name):
    x = torch.nn.Parameter(torch.ones(3))
    if name not in ("adamw", "polyak-momentum"):
        with pytest.raises(UsageError, match="not its parameters"):
            lowrank.optimizer(name, [x], lr=0.1)
        return
    optimizer = lowrank.optimizer(name, [x], lr=0.1)
    x.grad = torch.ones(3)
    optimizer.step(lambda: torch.tensor(1.0))
    assert (x < 1).all()


def test_an_unknown_optimizer_and_an_unknown_option():
    with pytest.raises(LorankError, match="unknown optimizer"):
        lowrank.optimizer("firra", None, lr=0.1)
    with pytest.raises(UsageError, match="no option 'rank'"):
        lowrank.optimizer("loft", None, lr=0.1, rank=4)
