"""Every registered adapter, start, budget, rule and router at its defaults: ten steps show, its folder brings them."""

from types import SimpleNamespace

import pytest
import torch

from adapter_methods import LAYERS, METHODS
from lorank import lowrank
from lorank.lowrank.budgets import DYNAMIC, STATIC, make_budget
from lorank.lowrank.forms.form import FORMS, ROUTED, form_type
from lorank.lowrank.forms.schedule import ScheduleWarning
from lorank.lowrank.presets import preset
from lorank.lowrank.rules import RULES, Losses, Rates, make_rule
from lorank.lowrank.starts import STARTS

STEPS, RATE = 10, 5e-3
SHOWN = 1e-3
"""The least relative change of the outputs that counts as visible."""


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(16, 6, generator=generator), torch.randn(16, generator=generator)


def loss(model, data):
    return (model(data[0]) - data[1]).square().mean()


def attached(model, method, start=None):
    """Attach with nothing but what a user must say; the statistics that a method reads come from one pass."""
    needed, statistics = lowrank.statistics_needed(method, start), None
    if needed:
        found = lowrank.calibrate(model, [batch(100)], loss, targets=LAYERS)
        other = lowrank.calibrate(model, [batch(101)], loss, targets=LAYERS)
        statistics = {
            path: {**own, "fisher_forget": own["fisher"], "fisher_retain": other[path]["fisher"]}
            for path, own in found.items()
        }
        assert needed <= set(statistics["wide"])
    return lowrank.attach(model, method, start=start, targets=LAYERS, statistics=statistics)


def plainly(model, adapter):
    """A user's own loop: PyTorch's AdamW and nothing of lorank."""
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=RATE)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss(model.train(), batch(step)).backward()
        optimizer.step()


def fully(model, adapter, rule, budget):
    """The events of `lorank.fit`'s loop: the method's rule and budget, schedules and penalties."""
    rates = Rates(RATE)
    optimizer = rule.optimizer([{"params": list(adapter.parameters())}], adapter, rates)

    def held_out(index, loss=loss):
        return loss(model, batch(1000 + index))

    def measure():
        with torch.no_grad():
            return -float(held_out(0))

    def training(step):
        return loss(model, batch(step))

    rule.begin(adapter, optimizer, STEPS, Losses(training, held_out))
    if budget is not None:
        budget.begin(
            SimpleNamespace(optimizer=optimizer, training_loss=training, held_out_loss=held_out, measure=measure)
        )
    adapter.advance(0, STEPS)
    for step in range(STEPS):
        rule.before_step(step, STEPS)
        if budget is not None:
            budget.before_step(step, STEPS)
        value = loss(model.train(), batch(step))
        extras = [rule.penalty(), *(form.penalty() for form in adapter.forms.values())]
        extras += [] if budget is None else [budget.penalty(step, STEPS)]
        value = value + sum(extra for extra in extras if extra is not None)
        value.backward()
        rule.after_backward(float(value.detach()))
        if budget is not None:
            budget.after_backward(step, STEPS)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        adapter.advance(step + 1, STEPS)
        rule.after_step(step + 1, STEPS)
        if budget is not None:
            budget.after_step(step + 1, STEPS)


def check(model, adapter, before, tower, folder, base=None):
    """The outputs have moved visibly, and a fresh model with the folder gives them again."""
    x = batch(7)[0]
    after = model.eval()(x)
    assert after.isfinite().all()
    assert (after - before).norm() > SHOWN * before.norm()
    assert all(tensor.isfinite().all() for tensor in adapter.state().values() if tensor.is_floating_point())
    adapter.save(folder)
    fresh = tower()
    if base:
        lowrank.quantise(fresh, base, targets=LAYERS)
    lowrank.load(fresh, folder)
    torch.testing.assert_close(fresh.eval()(x), after, atol=1e-6, rtol=1e-6)


@pytest.mark.filterwarnings("ignore::lorank.lowrank.forms.schedule.ScheduleWarning")
@pytest.mark.parametrize("name", METHODS)
def test_ten_steps_of_a_users_own_loop(name, tower, tmp_path):
    model = tower().eval()
    adapter = attached(model, name)
    before = model(batch(7)[0]).detach()
    plainly(model, adapter)
    check(model, adapter, before, tower, tmp_path, preset(name).base)


@pytest.mark.parametrize("name", METHODS)
def test_ten_steps_with_the_methods_own_rule_budget_and_schedule(name, tower, tmp_path, recwarn):
    model = tower().eval()
    adapter = attached(model, name)
    before = model(batch(7)[0]).detach()
    chosen = preset(name)
    budget = make_budget(chosen.budget, adapter.forms, every=2) if chosen.budget in DYNAMIC else None
    fully(model, adapter, make_rule(chosen.rule), budget)
    assert not [each for each in recwarn if each.category is ScheduleWarning]
    check(model, adapter, before, tower, tmp_path / "gated", chosen.base)
    if budget is not None:
        lowrank.settle(adapter)
        check(model, adapter, before, tower, tmp_path / "settled", chosen.base)


@pytest.mark.filterwarnings("ignore::lorank.lowrank.forms.schedule.ScheduleWarning")
@pytest.mark.parametrize(
    ("form", "start"), [(f, s) for f in FORMS for s in STARTS if s != "zero" and STARTS[s].suits(FORMS[f])]
)
def test_every_start_of_every_form(form, start, tower, tmp_path):
    model = tower().eval()
    adapter = attached(model, form, start)
    before = model(batch(7)[0]).detach()
    plainly(model, adapter)
    check(model, adapter, before, tower, tmp_path)


@pytest.mark.parametrize("name", sorted(RULES))
def test_every_rule(name, tower, tmp_path):
    model = tower().eval()
    adapter = attached(model, name if preset_exists(name) else "lora")
    before = model(batch(7)[0]).detach()
    fully(model, adapter, make_rule(name), None)
    check(model, adapter, before, tower, tmp_path)


def preset_exists(name):
    return name in METHODS


def test_nothing_registered_is_left_out():
    assert {*FORMS, *ROUTED, *DYNAMIC, *STATIC} <= set(METHODS)
    assert {preset(name).start for name in METHODS} | {"lors", "zero"} >= set(STARTS) - {"svd"} - {"init-a", "init-b"}
    assert all(form_type(preset(name).form) for name in METHODS)
