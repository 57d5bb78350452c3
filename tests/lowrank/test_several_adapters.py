"""Several adapters on one model: switched one by one, taken off in any order, refused without a trace."""

import copy

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import DataError, UsageError
from lorank.lowrank.rules import make_rule


def make_model():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 4))
    model[0].bias.requires_grad_(False)
    model[3].eval()
    return model


def flags(model):
    return [parameter.requires_grad for parameter in model.parameters()]


def state_of(model):
    values = {path: tensor.clone() for path, tensor in model.state_dict().items()}
    kinds = [(path, type(module), module.training) for path, module in model.named_modules()]
    hooks = [list(module._forward_hooks) for module in model.modules()]
    return values, flags(model), kinds, hooks


def assert_untouched(model, before):
    now = state_of(model)
    assert now[1:] == before[1:]
    assert all(torch.equal(now[0][path], value) for path, value in before[0].items())


def put(model, name, shake, **keywords):
    adapter = lowrank.attach(model, rank=2, name=name, **keywords)
    shake(adapter, seed=len(name))
    return adapter


@pytest.mark.parametrize("order", ["abc", "acb", "bac", "bca", "cab", "cba"])
def test_adapters_come_off_in_any_order(order, shake):
    model = make_model()
    before = state_of(model)
    adapters = {"a": put(model, "a", shake, targets=["0", "2"]), "b": put(model, "b", shake, trained=["4"])}
    before[0].update({path: value for path, value in model.state_dict().items() if path.startswith("4.")})
    adapters["c"] = put(model, "c", shake, targets=["2", "4"])
    for count, name in enumerate(order):
        adapters[name].detach()
        if count < 2:
            frozen = [own for path, own in model.named_parameters() if ".forms." not in path and path[0] != "4"]
            assert not any(own.requires_grad for own in frozen)
    assert_untouched(model, before)


def test_an_adapter_cannot_be_taken_off_twice():
    adapter = lowrank.attach(make_model(), rank=1)
    adapter.detach()
    with pytest.raises(UsageError, match="not on the model any more"):
        adapter.detach()


def test_a_copy_of_an_adapter_gives_its_own_copy_back(shake):
    model = make_model()
    before = state_of(model)
    adapter = put(model, "a", shake)
    twin = copy.deepcopy(adapter)
    assert_untouched(twin.detach(), before)
    assert not model[2].base.weight.requires_grad


@pytest.mark.parametrize("merged", [False, True])
def test_an_adapter_that_is_off_leaves_the_others_on(merged, shake):
    model, x = make_model(), torch.randn(3, 6)
    other = put(model, "other", shake)
    alone = model(x).detach()
    mine = put(model, "mine", shake)
    both = model(x).detach()
    if merged:
        mine.merge()
    with mine.disabled():
        torch.testing.assert_close(model(x), alone)
        with other.disabled():
            assert not torch.allclose(model(x), alone)
        torch.testing.assert_close(model(x), alone)
    assert mine.merged == merged
    torch.testing.assert_close(model(x), both)


def test_coto_leaves_other_adapters_alone(shake):
    model, x = make_model(), torch.randn(3, 6)
    put(model, "other", shake)
    alone = model(x).detach()
    mine = put(model, "mine", shake)
    rule = make_rule("coto", groups="layer")
    rule.begin(mine, None, 10, None)
    for layer in mine.layers.values():
        layer.switch("mine", False)
    torch.testing.assert_close(model(x), alone)
    rule.after_step(1, 10)
    assert all(layer.running == ("other", "mine") for layer in mine.layers.values())


REFUSED = {
    "an option that the form does not have": ("lorma", {"options": {"kind": "upside-down"}}),
    "an option out of range": ("base-layers", {"options": {"experts": 0}}),
    "a name with a dot": ("lora", {"name": "a.b"}),
    "a head that is not there": ("lora", {"trained": ["head"]}),
    "a start that lacks its statistics": ("eva", {}),
    "a start that fails": ("lora-ga", {"statistics": {path: {"gradient": torch.ones(1)} for path in "024"}}),
    "quantised, an option out of range": ("qdylora", {"options": {"capacity": 0.1}}),
    "quantised, a head that is not there": ("qdylora", {"trained": ["head"]}),
}


@pytest.mark.parametrize(("method", "keywords"), REFUSED.values(), ids=REFUSED)
def test_a_refused_attach_leaves_no_trace(method, keywords):
    model = make_model()
    handle = model[0].register_forward_hook(lambda *_: None)
    before = state_of(model)
    with pytest.raises(Exception):  # noqa: B017 - whatever stops it
        lowrank.attach(model, method, **{"rank": 2} | keywords)
    assert_untouched(model, before)
    handle.remove()
    assert not model[0]._forward_hooks


def test_an_attach_that_is_interrupted_leaves_no_trace(monkeypatch):
    model = make_model()
    before = state_of(model)

    def stop(self, name, form):
        if self.path == "4":
            raise KeyboardInterrupt
        return add(self, name, form)

    add = lowrank.Adapted.add
    monkeypatch.setattr(lowrank.Adapted, "add", stop)
    with pytest.raises(KeyboardInterrupt):
        lowrank.attach(model, "qdylora", rank=2)
    assert_untouched(model, before)


def test_a_taken_name_and_a_merged_layer_are_refused_before_anything_changes(shake):
    model = make_model()
    first = put(model, "default", shake, targets=["2"])
    before = state_of(model)
    with pytest.raises(UsageError, match="already has an adapter called 'default' .on layer 2"):
        lowrank.attach(model, rank=2)
    assert_untouched(model, before)
    first.merge()
    with pytest.raises(UsageError, match="layer 2 is merged"):
        lowrank.attach(model, rank=2, name="b")
    first.unmerge()
    assert_untouched(model, before)


def test_a_load_that_fails_leaves_no_trace(tmp_path, shake):
    put(make_model(), "a", shake).save(tmp_path / "a")
    narrow = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))
    before = state_of(narrow)
    with pytest.raises(DataError):
        lowrank.load(narrow, tmp_path / "a")
    assert_untouched(narrow, before)


def test_qdylora_gives_the_dense_layers_back(shake):
    model, x = make_model(), torch.randn(3, 6)
    before, y = state_of(model), model(x).detach()
    adapter = lowrank.attach(model, "qdylora", rank=2)
    assert isinstance(model[2].base, lowrank.QuantisedLinear)
    shake(adapter)
    other = put(model, "other", shake)
    adapter.detach()
    assert isinstance(model[2].base, lowrank.QuantisedLinear)  # the other one stands on it
    other.detach()
    assert_untouched(model, before)
    assert torch.equal(model(x), y)


def test_what_comes_back_dense_has_followed_the_model(shake):
    model = make_model()
    adapter = lowrank.attach(model, "qdylora", rank=2)
    model.to(torch.float64)
    adapter.detach()
    assert {own.dtype for own in model.parameters()} == {torch.float64}
    assert model(torch.randn(3, 6).double()).dtype == torch.float64


def test_a_merge_that_one_layer_refuses_merges_none(shake):
    model = make_model()
    lowrank.quantise(model, "int8", targets=["4"])
    adapter = put(model, "a", shake)
    y = model(torch.ones(2, 6)).detach()
    with pytest.raises(UsageError, match="layer 4: W \\+ dW does not fit"):
        adapter.merge()
    assert not any(layer.merged for layer in adapter.layers.values())
    assert torch.equal(model(torch.ones(2, 6)), y)


def test_a_model_that_moves_while_merged_unmerges_to_what_it_was(shake):
    model = make_model()
    adapter = put(model, "a", shake)
    own = {path: tensor.double() for path, tensor in model.state_dict().items() if ".base." in path}
    adapter.merge()
    model.double()
    adapter.unmerge()
    assert all(torch.equal(model.state_dict()[path], tensor) for path, tensor in own.items())


@pytest.mark.parametrize("training", [True, False])
def test_attaching_keeps_every_mode(training, shake):
    model = make_model().train(training)
    model[3].train(not training)
    modes = [module.training for module in (model, model[0], model[3], model[4])]
    adapter = put(model, "a", shake)
    assert [module.training for module in (model, model[0].base, model[3], model[4].base)] == modes
    assert all(form.training == training for form in adapter.forms.values())
    adapter.detach()
    assert [module.training for module in (model, model[0], model[3], model[4])] == modes


def test_a_probe_gives_every_module_its_mode_back(tmp_path, shake):
    model = make_model()
    adapter = put(model, "a", shake)
    modes = {path: module.training for path, module in model.named_modules()}
    adapter.save(tmp_path / "a", probe=lambda one: one(torch.ones(2, 6)))
    assert {path: module.training for path, module in model.named_modules()} == modes
