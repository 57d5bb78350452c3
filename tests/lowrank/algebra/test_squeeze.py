"""lora-squeeze: after training and while training."""

import copy

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank import Factors, squeeze, top_k_svd
from lorank.lowrank.algebra import dense_update, factors_of, lost_shares
from lorank.lowrank.forms.squeezed import falling_ranks


def draw(out, width, rank, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    A = torch.randn(rank, width, generator=generator, dtype=dtype)
    return Factors(A, torch.randn(out, rank, generator=generator, dtype=dtype), 0.5)


def test_lora_squeeze_is_the_truncated_svd_and_lossless_at_the_source_rank():
    own = {"a": draw(6, 9, 5), "b": draw(9, 4, 2)}
    squeezed = squeeze(own, 2)
    U, s, Vh = top_k_svd(dense_update(own["a"]), 2)
    torch.testing.assert_close(dense_update(squeezed["a"]), (U * s) @ Vh)
    for path, same in squeeze(own, 5).items():
        torch.testing.assert_close(dense_update(same), dense_update(own[path]))
    balanced = squeezed["a"]
    torch.testing.assert_close(balanced.A.norm(dim=1), balanced.B.norm(dim=0))
    share = (dense_update(own["a"]) - dense_update(squeezed["a"])).square().sum() / dense_update(
        own["a"]
    ).square().sum()
    assert lost_shares(own, 2) == {"a": pytest.approx(share.item()), "b": pytest.approx(0.0, abs=1e-9)}


def test_lora_squeeze_by_energy_gives_each_layer_its_own_rank():
    flat = Factors(torch.eye(4), torch.eye(4), 1.0)
    steep = Factors(torch.eye(4), torch.diag(torch.tensor([10.0, 1.0, 0.1, 0.1])), 1.0)
    ranks = {path: own.A.shape[0] for path, own in squeeze({"flat": flat, "steep": steep}, energy=0.9).items()}
    assert ranks == {"flat": 4, "steep": 1}


def test_lora_squeeze_works_on_factors_of_matrices_that_do_not_fit_into_memory():
    wide = draw(300_000, 300_000, 6, dtype=torch.float32)
    assert squeeze({"a": wide}, 2)["a"].A.shape == (2, 300_000)


def planted(seed):
    """A layer of 24 x 24, and inputs and answers of the layer plus an update of rank 2 with a flat spectrum."""
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(24, 24, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.randn(24, 24, generator=generator) / 5)
    U = torch.linalg.qr(torch.randn(24, 2, generator=generator, dtype=torch.float64)).Q
    V = torch.linalg.qr(torch.randn(24, 2, generator=generator, dtype=torch.float64)).Q
    x = torch.randn(256, 24, generator=generator, dtype=torch.float64)
    return layer, x, x @ (layer.weight.detach() + 2 * U @ V.T).T


def train(layer, x, y, form, rank, steps=60, **options):
    model = nn.ModuleDict({"layer": copy.deepcopy(layer)})
    adapter = lowrank.attach(model, form, rank=rank, alpha=float(rank), options=options)
    optimizer = torch.optim.Adam(adapter.parameters(), lr=0.03)
    for step in range(steps):
        optimizer.zero_grad()
        (model["layer"](x) - y).square().mean().backward()
        optimizer.step()
        adapter.forms["layer"].advance(step + 1, steps)
    return model, adapter


def test_lora_squeeze_beats_direct_training_at_the_target_rank_on_a_planted_task():
    wins = {"after": 0, "during": 0}
    for seed in range(5):
        layer, x, y = planted(seed)

        def error(factors, layer=layer, x=x, y=y):
            return (x @ (layer.weight + dense_update(factors)).T - y).square().mean().item()

        direct = error(factors_of(train(layer, x, y, "lora", 2)[1])["layer"])
        source = factors_of(train(layer, x, y, "lora", 16)[1])
        wins["after"] += error(squeeze(source, 2)["layer"]) < direct
        during = train(layer, x, y, "lora-squeeze", 16, target=2)[1]
        assert during.forms["layer"].rank_bound() == 2
        wins["during"] += error(factors_of(during)["layer"]) < direct
    assert wins == {"after": 5, "during": 5}


def test_a_squeeze_in_training_is_the_best_approximation_and_is_saved(tower, shake, tmp_path):
    model = tower(torch.float64)
    targets = ["wide", "narrow", "transposed"]
    adapter = lowrank.attach(
        model, "lora-squeeze", rank=4, alpha=2.0, targets=targets, options={"target": 1, "stages": 2}
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter += torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    update, weight = adapter.forms["wide"], model.wide.base.weight
    before = update.delta(weight)
    update.advance(1, 3)
    assert update.kept == falling_ranks(4, 1, 2)[0] == 2
    U, s, Vh = top_k_svd(before, 2)
    torch.testing.assert_close(update.delta(weight), (U * s) @ Vh)
    update.advance(2, 3)
    update.advance(3, 3)
    assert update.kept == 1
    U, s, Vh = top_k_svd(before, 1)
    torch.testing.assert_close(update.delta(weight), (U * s) @ Vh)
    adapter.save(tmp_path / "adapter")
    fresh = tower(torch.float64)
    lowrank.load(fresh, tmp_path / "adapter")
    x = torch.ones(2, 6, dtype=torch.float64)
    torch.testing.assert_close(fresh(x), model(x))
    report = adapter.export(tmp_path / "portable", "portable", probe=lambda model: model(x))
    assert report.largest_change < 1e-9


def test_wrong_options_are_told():
    with pytest.raises(UsageError, match="stages"):
        lowrank.attach(nn.Sequential(nn.Linear(3, 3)), "lora-squeeze", options={"stages": 0})
