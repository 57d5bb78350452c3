"""scattered-connected-iaa: bottlenecks scattered, connected and stacked, as far as the forms' contract applies."""

import copy

import pytest
import torch
from torch import nn

from lorank.errors import DataError, UsageError
from lorank.lowrank.bottleneck import WithBottlenecks, attach_bottlenecks, load_bottlenecks


def deep(layers=8, width=16, dtype=torch.float64, seed=0, gain=1.2):
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(*(part for _ in range(layers) for part in (nn.Linear(width, width), nn.Tanh())))
    with torch.no_grad():
        for parameter in model.parameters():
            scale = gain / width**0.5 if parameter.dim() == 2 else 0.1
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return model.to(dtype)


def linear(layers=8):
    return [str(2 * index) for index in range(layers)]


def batch(rows=5, width=16):
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def shake(adapter):
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("connected", [True, False])
def test_scattered_connected_iaa_zero_start_counts_seeds_and_freezing(connected):
    model, x = deep(), batch()
    before = model(x)
    adapter = attach_bottlenecks(model, linear(), width=3, connected=connected, seed=4)
    assert torch.equal(model(x), before)
    assert adapter.num_parameters() == 8 * 3 * (2 * 16 + 1) + connected * 7 * 9
    again = attach_bottlenecks(deep(), linear(), width=3, connected=connected, seed=4)
    assert all(torch.equal(one, two) for one, two in zip(adapter.state().values(), again.state().values()))
    alone = attach_bottlenecks(deep(), ["4"], width=3, connected=connected, seed=4)
    assert torch.equal(alone.state()["4.D"], adapter.state()["4.D"])
    shake(adapter)
    model(x).square().sum().backward()
    mine = {id(parameter) for parameter in adapter.parameters()}
    assert all((p.grad is not None) == (id(p) in mine) for p in model.parameters())
    assert all(p.grad.abs().sum() > 0 for p in adapter.parameters())
    adapter.detach()
    assert torch.equal(model(x), before)
    assert not any(isinstance(module, WithBottlenecks) for module in model.modules())


def test_two_layers_by_hand():
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)).double()
    with torch.no_grad():
        model[0].weight.fill_(2.0)
        model[1].weight.fill_(3.0)
    adapter = attach_bottlenecks(model, ["0", "1"], width=1)
    values = {"0.D": 1.0, "0.d": 0.5, "0.U": 2.0, "1.D": -1.0, "1.d": 1.0, "1.U": 4.0, "1.C": 3.0}
    adapter.load_state({key: torch.full_like(adapter.state()[key], value) for key, value in values.items()})

    def gelu(value):
        return nn.functional.gelu(torch.tensor(value, dtype=torch.float64)).item()

    s1 = gelu(2.0 * 1.0 + 0.5)
    h1 = 2.0 + 2.0 * s1
    s2 = gelu(-3.0 * h1 + 1.0 + 3.0 * s1)
    assert model(torch.ones(1, 1).double()).item() == pytest.approx(3.0 * h1 + 4.0 * s2)


class Severed(nn.Module):
    """A frozen module through which no gradient passes."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x).detach()


@pytest.mark.parametrize("connected", [True, False])
def test_scattered_connected_iaa_gradients_reach_the_lowest_adapter_through_trainables_alone(connected):
    model = deep()
    adapter = attach_bottlenecks(model, linear(), width=3, connected=connected)
    shake(adapter)
    for path in linear():
        holder = model.get_submodule(path)
        holder.base = Severed(holder.base)
    model(batch()).sum().backward()
    lowest = model[0].bottlenecks["default"].D.grad
    assert (lowest is not None and bool(lowest.abs().sum() > 0)) is connected


def test_scattered_connected_iaa_trains_faster_than_scattered_below_one_percent_of_the_parameters():
    """Where the frozen layers weaken what the lowest adapter finds: the answer hangs on an input they all but lose."""
    curves = {}
    for seed in range(2):
        x = torch.randn(64, 64, generator=torch.Generator().manual_seed(seed))
        for connected in (True, False):
            model = deep(layers=12, width=64, dtype=torch.float32, seed=seed, gain=0.5)
            total = sum(parameter.numel() for parameter in model.parameters())
            with torch.no_grad():
                y = model(x) + 0.5 * torch.tanh(x[:, :1])
            adapter = attach_bottlenecks(model, ["0", "12", "22"], width=1, connected=connected)
            assert adapter.num_parameters() < 0.01 * total
            optimizer = torch.optim.Adam(adapter.parameters(), lr=0.03)
            curve = curves.setdefault(connected, [])
            curve.append([])
            for _ in range(60):
                optimizer.zero_grad()
                loss = (model(x) - y).square().mean()
                loss.backward()
                optimizer.step()
                curve[-1].append(loss.item())
    for path, scattered in zip(curves[True], curves[False], strict=True):
        assert path[-1] < 0.8 * scattered[-1]
        assert sum(path) < sum(scattered)


def test_stacked_bottlenecks_run_one_behind_the_other_and_an_identity_below_changes_nothing():
    model, x = deep(), batch()
    ranking = attach_bottlenecks(model, linear(), name="ranking", connected=False)
    shake(ranking)
    alone, kept = model(x), copy.deepcopy(ranking.state())
    language = attach_bottlenecks(model, linear(), name="language", connected=False, seed=7)
    ranking.activate("language", "ranking")
    assert torch.equal(model(x), alone)
    shake(language)
    one_way = model(x)
    ranking.activate("ranking", "language")
    assert not torch.allclose(model(x), one_way)
    assert all(torch.equal(kept[key], value) for key, value in ranking.state().items())
    ranking.activate()
    assert torch.equal(model(x), alone)
    with pytest.raises(UsageError, match="no bottlenecks called 'x'"):
        ranking.activate("x")


def test_saved_and_loaded_with_the_head(tmp_path):
    model, x = deep(), batch()
    adapter = attach_bottlenecks(model, r"[0246]", width=2, trained=["14"])
    shake(adapter)
    adapter.save(tmp_path / "adapter")
    fresh = deep()
    load_bottlenecks(fresh, tmp_path / "adapter")
    torch.testing.assert_close(fresh(x), model(x))
    with pytest.raises(DataError, match="no bottlenecks"):
        load_bottlenecks(fresh, tmp_path)


def test_half_precision_batches_and_wrong_use():
    model = deep().bfloat16()
    adapter = attach_bottlenecks(model, linear())
    assert all(parameter.dtype is torch.float32 for parameter in adapter.parameters())
    for shape in ((16,), (0, 16), (2, 3, 16)):
        assert model(torch.ones(shape, dtype=torch.bfloat16)).shape == shape
    with pytest.raises(UsageError, match="already"):
        attach_bottlenecks(model, linear())
    with pytest.raises(UsageError, match="Tanh"):
        attach_bottlenecks(deep(), ["1"])
    with pytest.raises(UsageError, match="fits"):
        attach_bottlenecks(deep(), "x.*")
    with pytest.raises(UsageError, match="missing"):
        adapter.load_state({})
