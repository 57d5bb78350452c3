"""Forms with a schedule: `Adapter.advance` drives them, and a loop that never calls it is warned and still trains."""

import copy
import warnings

import pytest
import torch
from torch import nn

from adapter_methods import METHODS, attach
from lorank import lowrank
from lorank.lowrank.forms.schedule import ScheduleWarning

SCHEDULED = ["lamda", "lamda-plus-plus", "lift-principal-weights", "lora-squeeze", "losia", "singlora"]


def inputs():
    return torch.randn(8, 3, 6, generator=torch.Generator().manual_seed(0))


def train(model, parameters, steps, after_step=lambda step: None, accumulate=1, optimizer=torch.optim.AdamW):
    stepping = optimizer(list(parameters), lr=0.05)
    for step in range(steps):
        stepping.zero_grad()
        for _ in range(accumulate):
            (model.train()(inputs()) - 1).square().mean().backward()
        stepping.step()
        after_step(step + 1)


@pytest.mark.parametrize("name", METHODS)
def test_exactly_the_forms_with_a_schedule_warn_once_a_step_was_made_without_advance(name, tower):
    model = tower()
    adapter = attach(model, (name, None, {}))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(model, adapter.parameters(), 3)
    own = [str(each.message) for each in caught if each.category is ScheduleWarning]
    assert bool(own) == (name in SCHEDULED)
    assert len(own) <= len(adapter.forms)  # once a layer at most; Python's own filter shows one of them
    assert all("adapter.advance(step, total)" in message for message in own)


@pytest.mark.parametrize("name", SCHEDULED)
def test_nothing_warns_where_advance_is_called_or_nothing_was_stepped(name, tower):
    model = tower()
    adapter = attach(model, (name, None, {}))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScheduleWarning)
        (model(inputs()) - 1).square().mean().backward()
        (model(inputs()) - 1).square().mean().backward()  # accumulated, not stepped
        train(model, adapter.parameters(), 4, lambda step: adapter.advance(step, 4), accumulate=2)
        model.eval()
        (model(inputs()) - 1).square().mean().backward()


@pytest.mark.parametrize("name", SCHEDULED)
def test_advance_reaches_every_form(name, tower):
    model, twin = tower(), tower()
    ours, theirs = attach(model, (name, None, {})), attach(twin, (name, None, {}))
    ours.advance(0, 9)
    train(model, ours.parameters(), 9, lambda step: ours.advance(step, 9))
    for form in theirs.forms.values():
        form.advance(0, 9)
    train(twin, theirs.parameters(), 9, lambda step: [form.advance(step, 9) for form in theirs.forms.values()])
    assert ours.state().keys() == theirs.state().keys()
    assert all(torch.equal(tensor, theirs.state()[key]) for key, tensor in ours.state().items())


@pytest.mark.filterwarnings("ignore::lorank.lowrank.forms.schedule.ScheduleWarning")
@pytest.mark.parametrize("accumulate", [1, 3])
def test_singlora_ramps_in_by_optimizer_steps_when_nothing_is_told(accumulate, tower):
    model = tower()
    adapter = attach(model, ("singlora", None, {}))
    u = []
    train(model, adapter.parameters(), 13, lambda step: u.append(adapter.forms["wide"].u.item()), accumulate)
    torch.testing.assert_close(torch.tensor(u), torch.tensor([0, *(min(k / 10, 1) for k in range(1, 13))]))


@pytest.mark.filterwarnings("ignore::lorank.lowrank.forms.schedule.ScheduleWarning")
def test_a_trained_singlora_that_is_trained_further_keeps_its_ramp(tower):
    model = tower()
    adapter = attach(model, ("singlora", None, {}))
    for form in adapter.forms.values():
        form.u.fill_(1.0)
    train(model, adapter.parameters(), 3)
    assert all(torch.equal(form.u, torch.ones(())) for form in adapter.forms.values())


@pytest.mark.filterwarnings("ignore::lorank.lowrank.forms.schedule.ScheduleWarning")
def test_a_copy_notices_its_own_steps(tower):
    model = tower()
    adapter = attach(model, ("singlora", None, {}))
    twin = copy.deepcopy(adapter)
    train(twin.model, twin.parameters(), 4)
    assert twin.forms["wide"].u.item() > 0
    assert adapter.forms["wide"].u.item() == 0
    train(model, adapter.parameters(), 4)
    assert adapter.forms["wide"].u.item() > 0


def test_losia_moves_by_default_to_where_gradients_are():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 32))
    adapter = lowrank.attach(model, "losia", rank=4)
    form, x = adapter.forms["0"], torch.randn(64, 32)
    x[:, :16] = 0
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=0.01)
    adapter.advance(0, 60)
    for step in range(60):
        optimizer.zero_grad()
        (model(x) - x.flip(1)).square().mean().backward()
        optimizer.step()
        adapter.advance(step + 1, 60)
    assert (form.columns >= 16).all()
    assert form.learned.any()
