"""Layers that others have taken hold of: hooks, replaced forwards, accelerate's offloading, computed weights."""

import pytest
import torch
from accelerate import cpu_offload, dispatch_model
from accelerate.hooks import remove_hook_from_module
from torch import nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils import weight_norm as old_weight_norm

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank.bottleneck import attach_bottlenecks
from lorank.lowrank.forms.form import FORMS, ROUTED

NAMES = sorted({*FORMS, *ROUTED})


def make_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()


X = torch.linspace(-1, 1, 18).double().view(3, 6)


@pytest.mark.parametrize("form", NAMES)
def test_offloaded_after_the_adapter_came(form, shake):
    model = make_model()
    shake(lowrank.attach(model, form, rank=2), size=0.3)
    y = model(X).detach()
    cpu_offload(model, execution_device=torch.device("cpu"))
    with torch.no_grad():
        torch.testing.assert_close(model(X), y)
        torch.testing.assert_close(model(X), y)


@pytest.mark.parametrize("form", NAMES)
def test_offloaded_before_the_adapter_comes(form, shake):
    plain, model = make_model(), make_model()
    cpu_offload(model, execution_device=torch.device("cpu"))
    for one in (plain, model):
        adapter = lowrank.attach(one, form, rank=2, seed=3)
        assert {own.device.type for own in adapter.parameters()} == {"cpu"}
        shake(adapter, size=0.3)
    torch.testing.assert_close(model(X), plain(X))
    adapter.detach()
    torch.testing.assert_close(model(X), make_model()(X))


def test_two_adapters_on_an_offloaded_model(shake):
    model = make_model()
    for name in "ab":
        shake(lowrank.attach(model, "dora", rank=2, name=name), size=0.3)
    y = model(X).detach()
    cpu_offload(model, execution_device=torch.device("cpu"))
    torch.testing.assert_close(model(X).detach(), y)


def test_what_cannot_be_done_while_offloaded_says_so(tmp_path, shake):
    model = make_model()
    adapter = lowrank.attach(model, rank=2)
    shake(adapter)
    y = model(X).detach()
    cpu_offload(model, execution_device=torch.device("cpu"))
    for refused in (adapter.merge, adapter.state, lambda: adapter.save(tmp_path / "a")):
        with pytest.raises(UsageError, match="layer 0 is offloaded.*remove_hook_from_module"):
            refused()
    assert not list(tmp_path.iterdir())
    assert not adapter.merged
    remove_hook_from_module(model, recurse=True)
    adapter.merge()
    torch.testing.assert_close(model(X).detach(), y)


def test_dispatched_without_offloading(shake):
    model = make_model()
    dispatch_model(model, {"": "cpu"}, force_hooks=True)
    start = model(X).detach()
    adapter = lowrank.attach(model, rank=2)
    torch.testing.assert_close(model(X).detach(), start)
    shake(adapter)
    y = model(X).detach()
    adapter.merge()
    torch.testing.assert_close(model(X).detach(), y)


def test_hooks_see_the_whole_layer_and_move_back():
    model, seen = make_model(), []
    before = model[0].register_forward_hook(lambda module, inputs, y: seen.append((inputs[0].clone(), y.clone())))
    model[0].register_full_backward_hook(lambda *_: seen.append("backward"))
    adapter = lowrank.attach(model, rank=2, targets=["0"])
    with torch.no_grad():
        adapter.forms["0"].B.normal_()
    model(X).sum().backward()
    (inputs, y), backward = seen
    assert backward == "backward"
    assert torch.equal(inputs, X)
    delta = adapter.layers["0"].delta()
    torch.testing.assert_close(y, nn.functional.linear(X, model[0].base.weight + delta, model[0].base.bias))
    later = model[0].register_forward_hook(lambda *_: seen.append("later"))
    adapter.detach()
    seen.clear()
    model(X)
    assert len(seen) == 2
    before.remove()
    later.remove()
    seen.clear()
    model(X)
    assert not seen


def test_a_forward_that_uses_its_weight_otherwise_is_not_merged(shake):
    class Twice(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), Twice(8, 4)).double()
    adapter = lowrank.attach(model, rank=2)
    shake(adapter)
    y = model(X).detach()
    with pytest.raises(UsageError, match="layer 2 is a Twice whose forward is not"):
        adapter.merge()
    assert not any(layer.merged for layer in adapter.layers.values())
    assert torch.equal(model(X).detach(), y)


def spoil_weight_norm(model):
    old_weight_norm(model[2])


def spoil_prune(model):
    prune.l1_unstructured(model[2], "weight", amount=0.3)


def spoil_lazy(model):
    model[2] = nn.LazyLinear(4)


@pytest.mark.parametrize("spoil", [spoil_weight_norm, spoil_prune, spoil_lazy])
@pytest.mark.filterwarnings("ignore")
def test_a_layer_that_cannot_carry_an_update_is_named(spoil):
    model = make_model()
    spoil(model)
    flags = {path: own.requires_grad for path, own in model.named_parameters()}
    with pytest.raises(UsageError, match="layer 2: a .*(remove it|run one batch)"):
        lowrank.attach(model, rank=2)
    assert type(model[0]) is nn.Linear
    assert {path: own.requires_grad for path, own in model.named_parameters()} == flags


def test_a_wrapper_that_has_counted_its_parameters_is_refused():
    wrapped = type("DistributedDataParallel", (nn.Module,), {})()
    wrapped.module = make_model()
    with pytest.raises(UsageError, match="wrap it afterwards"):
        lowrank.attach(wrapped, rank=2)


def test_paths_under_wrappers_are_the_models_own(tmp_path, shake):
    model = nn.DataParallel(make_model())
    adapter = lowrank.attach(model, rank=2)
    assert set(adapter.layers) == {"0", "2"}
    shake(adapter)
    y = model(X).detach()
    adapter.save(tmp_path / "a")
    again = make_model()
    lowrank.load(again, tmp_path / "a")
    torch.testing.assert_close(again(X).detach(), y)
    compiled = torch.compile(make_model(), backend="eager")
    lowrank.load(compiled, tmp_path / "a")
    torch.testing.assert_close(compiled(X).detach(), y)


def test_spectral_norm_takes_no_step_when_an_adapter_comes():
    model = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(6, 8))).train()
    before = {path: tensor.clone() for path, tensor in model.state_dict().items()}
    adapter = lowrank.attach(model, "dora", rank=2)
    adapter.detach()
    assert all(torch.equal(tensor, before[path]) for path, tensor in model.state_dict().items())


def test_a_parametrized_layer_unmerges_to_its_own_parametrizations(shake):
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 8)))
    adapter = lowrank.attach(model, rank=2)
    shake(adapter)
    keys = list(model.state_dict())
    adapter.merge()
    assert len(model[0].base.parametrizations.weight) == 2
    adapter.unmerge()
    assert list(model.state_dict()) == keys
    assert parametrize.is_parametrized(adapter.detach()[0], "weight")


@pytest.mark.parametrize(("target", "words"), [("linear1", "TransformerEncoderLayer"), ("out_proj", "Multihead")])
def test_bottlenecks_are_refused_where_they_would_not_be_called(target, words):
    model = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
    with pytest.raises(UsageError, match=words):
        attach_bottlenecks(model, [target])
    assert all(own.requires_grad for own in model.parameters())


def test_bottlenecks_give_flags_and_hooks_back():
    model, seen = make_model(), []
    model[0].bias.requires_grad_(False)
    model[2].register_forward_hook(lambda *_: seen.append(1))
    flags = [own.requires_grad for own in model.parameters()]
    first = attach_bottlenecks(model, ["0", "2"], width=2)
    second = attach_bottlenecks(model, ["2"], width=2, name="second")
    first.detach()
    assert not model[0].weight.requires_grad
    second.detach()
    assert [own.requires_grad for own in model.parameters()] == flags
    model(X)
    assert seen == [1]
