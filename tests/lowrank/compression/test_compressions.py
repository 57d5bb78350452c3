"""Every compression on a small net: its promise, its final cut, what is refused (trp, trp-nuclear, maestro, pela)."""

from statistics import median

import pytest
import torch
from torch import nn

from factored_layers import LAYERS, Small
from lorank.errors import UsageError
from lorank.lowrank import quantise
from lorank.lowrank.compression import COMPRESSIONS, make_compression
from lorank.lowrank.compression.pela import excess
from lorank.lowrank.compression.trp import is_due, truncate

SEEDS = [0, 1]
every_method = pytest.mark.parametrize("method", COMPRESSIONS)


def data(seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(128, 24, generator=generator)
    return x, torch.tanh(x @ torch.randn(24, 2, generator=generator)) @ torch.randn(2, 3, generator=generator)


def trained(method, seed=0, steps=160, lr=1e-2, model=None, **options):
    model = model or Small(seed)
    x, goal = data(seed)
    own = make_compression(method, model, steps=steps, targets=LAYERS, seed=seed, **options)
    optimizer = torch.optim.AdamW(own.parameters(), lr=lr)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - step / steps)
        own.before_step(step)
        loss = (model(x) - goal).square().mean()
        extra = own.penalty()
        optimizer.zero_grad()
        (loss if extra is None else loss + extra).backward()
        own.after_backward()
        optimizer.step()
    return model, own, x, goal


@every_method
@pytest.mark.parametrize("seed", SEEDS)
def test_it_learns_cuts_and_leaves_plain_layers_of_low_rank(method, seed):
    model, own, x, goal = trained(method, seed)
    own.finish()
    before, small = model(x), own.sizes()
    own.merge()
    torch.testing.assert_close(model(x), before, atol=1e-5, rtol=1e-4)
    assert type(model.wide) is type(model.narrow) is nn.Linear
    assert small[1] == 40 * 24 + 16 * 40
    assert small[0] < 0.75 * small[1]
    assert float((model(x) - goal).square().mean().detach()) < 0.3 * float(goal.square().mean())
    for path, rank in own.ranks().items():
        assert torch.linalg.matrix_rank(model.get_submodule(path).weight, rtol=1e-4) <= rank


def last_change(method, seed, **options):
    """By how much the final cut changes the outputs, relative to them, and what it does to a net trained plainly."""
    model, own, x, _ = trained(method, seed, **options)
    before = model(x).detach()
    own.finish()
    ours = float((model(x) - before).norm().detach() / before.norm())
    plain, _, x, _ = trained("trp", seed, every=10**6, energy=1.0)
    with torch.no_grad():
        before = plain(x)
        for path, rank in own.ranks().items():
            U, s, Vh = torch.linalg.svd(plain.get_submodule(path).weight, full_matrices=False)
            plain.get_submodule(path).weight.copy_(U[:, :rank] * s[:rank] @ Vh[:rank])
        return ours, float((plain(x) - before).norm() / before.norm())


@pytest.mark.parametrize("method", ["trp", "trp-nuclear"])
@pytest.mark.parametrize("options", [{}, {"every": 1, "energy": 0.95}, {"every": 7}])
def test_the_last_cut_changes_little_where_that_of_a_plain_net_breaks_it(method, options):
    changes = [last_change(method, seed, **options) for seed in range(5)]
    ours, theirs = (median(values) for values in zip(*changes, strict=True))
    assert ours < 1e-3
    assert theirs > 0.05


@pytest.mark.parametrize("every", [1, 2, 7, 20, 64])
def test_cuts_come_every_so_many_steps_and_closer_together_at_the_end(every):
    due = [step for step in range(100) if is_due(step, 100, every)]
    assert set(range(0, 100, every)) <= set(due)
    extra = [step for step in due if step % every]
    assert all(100 - step < every for step in extra)
    assert len(extra) <= every.bit_length()
    assert due[-1] == 99


@pytest.mark.parametrize("seed", SEEDS)
def test_the_effective_rank_falls_with_the_weight_of_the_nuclear_norm(seed):
    from lorank.lowrank.spectra import effective_rank

    def rank(nuclear):
        model, _, _, _ = trained("trp-nuclear", seed, every=1, nuclear=nuclear, energy=1.0)
        return effective_rank(torch.linalg.svdvals(model.wide.weight.detach()))

    found = [rank(nuclear) for nuclear in (0.0, 1e-2, 1e-1)]
    assert found == sorted(found, reverse=True)
    assert found[2] < 0.8 * found[0]


def test_the_sub_gradient_is_that_of_the_kept_part():
    model = Small()
    own = make_compression("trp-nuclear", model, steps=5, targets=LAYERS, every=1, nuclear=0.5, energy=0.6)
    own.before_step(0)
    model(torch.randn(4, 24)).sum().backward()
    before = model.wide.weight.grad.clone()
    own.after_backward()
    U, s, Vh = torch.linalg.svd(model.wide.weight.detach(), full_matrices=False)
    k = int((s > 1e-5).sum())
    torch.testing.assert_close(model.wide.weight.grad - before, 0.5 * U[:, :k] @ Vh[:k], atol=1e-4, rtol=1e-3)
    weight = torch.diag(torch.tensor([2.0, 1.0, 1.0]))
    truncate(weight, 0.8)
    assert int(torch.linalg.matrix_rank(weight)) == 2


@pytest.mark.parametrize("seed", SEEDS)
def test_maestro_recovers_the_svd_of_a_linear_map_and_every_prefix_is_usable(seed):
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.linalg.qr(torch.randn(n, 6, generator=generator)).Q for n in (12, 10))
    values = torch.tensor([4.0, 2.0, 1.0, 0.0, 0.0, 0.0])
    teacher = left * values @ right.t()
    model = nn.Sequential(nn.Linear(10, 12, bias=False))
    own = make_compression("maestro", model, steps=1500, targets="0", seed=seed, hierarchy=0.02, cut=0.01)
    (layer,) = own.ordered.values()
    optimizer = torch.optim.Adam(own.parameters(), lr=2e-2)
    for step in range(1500):
        for group in optimizer.param_groups:
            group["lr"] = 2e-2 * (1 - step / 1500)
        own.before_step(step)
        product = layer.B[:, : layer.width] @ layer.A[: layer.width]
        optimizer.zero_grad()
        ((product - teacher).square().mean() + own.penalty()).backward()
        own.after_backward()
        optimizer.step()
    own.finish()
    assert own.ranks() == {"0": 3}
    errors = []
    for width in range(1, 4):
        prefix = layer.B[:, :width] @ layer.A[:width]
        best = left[:, :width] * values[:width] @ right[:, :width].t()
        errors.append(float((prefix - teacher).norm().detach()))
        assert float((prefix - best).norm().detach()) < 0.25 * float(best.norm())
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_maestro_finds_the_principal_components_of_a_linear_autoencoder_at_its_defaults(seed):
    generator = torch.Generator().manual_seed(seed)
    axes = torch.linalg.qr(torch.randn(8, 8, generator=generator)).Q
    x = torch.linalg.qr(torch.randn(256, 8, generator=generator)).Q * 256**0.5
    x = x * torch.tensor([4.0, 2.5, 1.5, 0.3, 0.2, 0.1, 0.05, 0.02]) @ axes.t()
    model = nn.Sequential(nn.Linear(8, 8, bias=False))
    own = make_compression("maestro", model, steps=1000, seed=seed)
    (layer,) = own.ordered.values()
    optimizer = torch.optim.Adam(own.parameters(), lr=2e-2)
    for step in range(1000):
        for group in optimizer.param_groups:
            group["lr"] = 2e-2 * (1 - step / 1000)
        own.before_step(step)
        optimizer.zero_grad()
        ((model(x) - x).square().sum(1).mean() + own.penalty()).backward()
        own.after_backward()
        optimizer.step()
    own.finish()
    assert own.ranks()["0"] == 3  # components of eight that stand out

    def error(matrix):
        return float((x @ matrix.t() - x).square().sum(1).mean().detach())

    errors = [error(layer.B[:, :width] @ layer.A[:width]) for width in range(1, 4)]
    best = [error(axes[:, :width] @ axes[:, :width].t()) for width in range(1, 4)]
    assert errors == pytest.approx(best, abs=0.05)  # of a variance of 24.6
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("factor", [1.5, 2.0, 3.0])
def test_pela_cuts_a_third_to_two_thirds_of_the_values_up_to_a_rank_per_layer(factor):
    own = make_compression("pela", Small(), steps=1, targets=LAYERS, factor=factor)
    small, dense = own.sizes()
    assert small == sum(int(m * n / (m + n) / factor) * (m + n) for m, n in ((40, 24), (16, 40)))
    assert dense / factor - (40 + 24) - (16 + 40) < small <= dense / factor


@pytest.mark.parametrize("seed", SEEDS)
def test_pela_begins_inside_its_bound_and_its_features_come_near_their_teacher(seed):
    model = Small(seed)
    x, _ = data(seed)
    with torch.no_grad():
        teacher = model(x)
    own = make_compression("pela", model, steps=200, targets=LAYERS, factor=2.0)
    assert own.ranks() == {"wide": int(40 * 24 / 64 / 2), "narrow": int(16 * 40 / 56 / 2)}
    assert all(float(excess(layer).detach()) == 0 for layer in own.taught.values())
    with own.original():
        torch.testing.assert_close(model(x), teacher, atol=1e-6, rtol=1e-5)

    def cosine():
        return float(nn.functional.cosine_similarity(model(x), teacher).mean().detach())

    before, losses = cosine(), []
    optimizer = torch.optim.Adam(own.parameters(), lr=5e-3)
    for step in range(200):
        own.before_step(step)
        model(x)
        optimizer.zero_grad()
        loss = own.penalty()
        loss.backward()
        own.after_backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
    assert cosine() > before


@every_method
def test_what_cannot_be_compressed_is_refused_before_anything_changes(method):
    model = Small()
    model.other = nn.Linear(24, 40)
    model.other.weight = model.wide.weight
    few_bits = Small()
    quantise(few_bits, "int8", targets=["wide"])
    for case, says, options in (
        (model, "tied", {}),
        (few_bits, "quantised", {}),
        (Small(), "unknown option", {"enrgy": 1}),
        (Small(), "one step or more", {"steps": 0}),
        (Small(), "names no layer", {"targets": ["absent"]}),
    ):
        kinds = [type(part) for part in case.modules()]
        with pytest.raises(UsageError, match=says):
            make_compression(method, case, **{"steps": 3, "targets": LAYERS, **options})
        assert [type(part) for part in case.modules()] == kinds


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("trp", {"energy": 0.0}),
        ("trp", {"every": 0}),
        ("trp-nuclear", {"nuclear": -1.0}),
        ("maestro", {"cut": 1.0}),
        ("maestro", {"hierarchy": -1.0}),
        ("pela", {"factor": 1.0}),
        ("pela", {"factor": 100.0}),
        ("pela", {"bound": -1.0}),
    ],
)
def test_options_out_of_range_are_refused(method, options):
    model = Small()
    with pytest.raises(UsageError):
        make_compression(method, model, steps=3, targets=LAYERS, **options)
    assert type(model.wide) is nn.Linear
