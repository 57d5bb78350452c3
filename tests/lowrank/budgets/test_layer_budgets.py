"""AutoLoRA, DiffoRA, selective indicators and the static budgets: what each shows beyond the contract."""

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank.base import BaseLinear
from lorank.lowrank.budgets import share_ranks_of
from lorank.lowrank.budgets.autolora_meta import hypergradient
from lorank.lowrank.budgets.core.settle import settle
from lorank.lowrank.budgets.plop import feature_norm, kind_of, placement
from lorank.lowrank.budgets.rankadaptor import PerformanceModel, rankadaptor
from lorank.lowrank.budgets.sensitivity_lora import hessian_diagonal
from lorank.lowrank.forms import Site

X = torch.randn(5, 4, 8, generator=torch.Generator().manual_seed(9))


def test_autolora_hypergradient_is_the_unrolled_one():
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(3, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    alpha = torch.rand(2, generator=generator, dtype=torch.float64, requires_grad=True)
    x, y = (torch.randn(7, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    target = torch.randn(2, 3, generator=generator, dtype=torch.float64)

    def loss_on(inputs, weights=None):
        weights = w if weights is None else weights
        return (torch.tanh(inputs @ weights * alpha) @ target).square().mean()

    ahead = torch.autograd.grad(loss_on(x), w, create_graph=True)[0]
    exact = torch.autograd.grad(loss_on(y, w - 0.1 * ahead), alpha)[0]
    before = w.detach().clone()
    ours = hypergradient(lambda: loss_on(x), lambda: loss_on(y), [w], [alpha], 0.1, reach=1e-4)
    torch.testing.assert_close(ours[0], exact, rtol=1e-4, atol=1e-8)
    assert torch.equal(w, before)
    first_order = torch.autograd.grad(loss_on(y, (w - 0.1 * ahead).detach().requires_grad_()), alpha)[0]
    assert (first_order - exact).abs().max() > 100 * (ours[0] - exact).abs().max()


def test_autolora_selection_sums_to_one_and_finds_the_planted_component(toy):
    run = toy("autolora-meta", total=4, lr=0.0, steps=20, every=2, noise=0.0)
    U, s, Vh = torch.linalg.svd(run.change)
    form = run.adapter.forms["planted"]
    with torch.no_grad():
        form.B[:, 1] = 0.3 * U[:, 0] * s[0] / form.scaling
        form.A[1] = Vh[0]
    run.run()
    alpha = run.budget.selection()
    assert all(row.sum().item() == pytest.approx(1) and (row >= 0).all() for row in alpha.values())
    assert alpha["planted"].argmax() == 1
    assert form.on[1]


def test_autolora_cut_component_is_removed(toy):
    run = toy("autolora-meta", total=5).run()
    masked = run.model(X)
    settle(run.adapter)
    torch.testing.assert_close(run.model(X), masked, atol=1e-6, rtol=0)
    assert sum(form.rank for form in run.adapter.forms.values()) == 5


def test_diffora_gates_lie_in_the_unit_interval_and_are_discretised(toy):
    run = toy("diffora", total=4, every=2)
    last = run.budget.timetable.bounds(60)[1]
    for step in range(1, last):
        run.run(until=step)
        shares = run.budget.relaxed_gates()
        assert all(0 <= share <= 1 for share in shares.values())
        for path, form in run.adapter.forms.items():
            assert torch.allclose(form.mask, torch.tensor(shares[path]))
    run.run()
    assert run.ranks[-1] == {"first": 0, "second": 0, "planted": 4, "fourth": 0}
    form = run.adapter.forms["planted"]
    discrete = run.adapter.layers["planted"].base(X[:, 2]) + form.scaling * X[:, 2] @ form.A.T @ form.B.T
    torch.testing.assert_close(run.model(X)[:, 2], discrete)


def test_selective_lora_with_much_sparsity_is_the_base(toy):
    run = toy("selective-lora-indicator", sparsity=50.0).run()
    assert run.budget.active_fraction() == 0.0
    with run.adapter.disabled():
        base = run.model(X)
    assert torch.equal(run.model(X), base)
    settle(run.adapter)
    assert run.adapter.num_parameters() == 0


def test_selective_lora_reports_its_active_fraction_and_drops_the_rest(toy, tmp_path):
    run = toy("selective-lora-indicator", total=2, rate=0.1).run()
    assert run.budget.active_fraction() == pytest.approx(0.25)
    before = run.model(X)
    settle(run.adapter).save(tmp_path / "adapter", probe=lambda model: model(X))
    torch.testing.assert_close(run.model(X), before, atol=1e-6, rtol=0)
    from safetensors.torch import load_file

    names = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert {name.split(".")[2] for name in names} == {"planted"}


def linear(weight):
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    with torch.no_grad():
        layer.weight.copy_(weight)
    return BaseLinear(layer)


def test_sensitivity_lora_hessian_diagonal_is_autograds():
    generator = torch.Generator().manual_seed(0)
    x, W = torch.randn(50, 4, generator=generator).double(), torch.randn(3, 4, generator=generator).double()
    target = x @ torch.randn(4, 3, generator=generator).double()
    hessian = torch.autograd.functional.hessian(lambda w: ((x @ w.T - target) ** 2).sum(1).mean(), W)
    diagonal = torch.stack([torch.stack([hessian[o, j, o, j] for j in range(4)]) for o in range(3)])
    torch.testing.assert_close(hessian_diagonal(x).expand(3, 4), diagonal)


def test_sensitivity_lora_gives_a_sensitive_layer_the_most():
    generator = torch.Generator().manual_seed(1)
    sites = [Site(f"layer.{k}.dense", linear(torch.randn(16, 16, generator=generator)), 4, 4.0, 1.0) for k in range(4)]
    seen = {site.path: {"inputs": torch.randn(99, 16, generator=generator)} for site in sites}
    seen["layer.2.dense"]["inputs"] *= 2
    ranks = share_ranks_of("sensitivity-lora", sites, seen, 16)
    assert sum(ranks.values()) == 16
    assert max(ranks, key=ranks.get) == "layer.2.dense"


def test_plop_norm_is_one_for_a_weight_that_knows_nothing_and_more_for_one_that_is_aligned():
    generator = torch.Generator().manual_seed(2)
    z = torch.randn(400, 64, generator=generator) * torch.linspace(0.1, 3, 64)
    assert feature_norm(torch.randn(256, 64, generator=generator), z) == pytest.approx(1, abs=0.1)
    top = torch.linalg.svd(z, full_matrices=False).Vh[:4]
    assert feature_norm(torch.randn(32, 4, generator=generator) @ top, z) > 1.5
    W = torch.randn(8, 64, generator=generator)
    draws = torch.randn(20_000, 64, generator=generator) * (z.square().sum(1).mean() / 64).sqrt()
    monte_carlo = ((z @ W.T).square().sum(1).mean() / (draws @ W.T).square().sum(1).mean()).sqrt()
    assert feature_norm(W, z) == pytest.approx(float(monte_carlo), rel=0.02)


def test_plop_places_where_the_norm_is_low_by_forward_statistics_alone():
    generator = torch.Generator().manual_seed(3)
    sites, seen = [], {}
    for block in range(2):
        z = torch.randn(99, 8, generator=generator) * torch.linspace(0.1, 3, 8)
        top = torch.linalg.svd(z, full_matrices=False).Vh[:1]
        for kind, weight in (
            ("query", torch.randn(8, 8, generator=generator)),
            ("value", torch.randn(8, 1, generator=generator) @ top),
        ):
            path = f"encoder.{block}.{kind}"
            sites.append(Site(path, linear(weight), 3, 3.0, 1.0))
            seen[path] = {"inputs": z}
    assert list(placement(sites, seen)) == ["query", "value"]
    assert share_ranks_of("plop", sites, seen, 7) == {
        "encoder.0.query": 4,
        "encoder.0.value": 0,
        "encoder.1.query": 3,
        "encoder.1.value": 0,
    }
    assert lowrank.budgets.STATIC["plop"].needs == {"inputs"}
    assert kind_of("4") == "4"


def recovered(ranks):
    """A made-up recovery: layer k matters as k^2, with falling returns of rank."""
    return sum((k + 1) ** 2 * (1 - 0.6**rank) for k, rank in enumerate(ranks.values()))


def test_rankadaptor_stays_within_the_budget_and_beats_equal_ranks():
    paths = [f"layer.{k}" for k in range(5)]
    found = rankadaptor(paths, 20, recovered, trials=13, seed=1)
    assert all(sum(ranks.values()) == 20 and min(ranks.values()) >= 0 for ranks, _ in found.history)
    assert len(found.history) == 13
    assert found.history[0][0] == dict.fromkeys(paths, 4)
    assert found.score > found.history[0][1]
    assert found.score == recovered(found.ranks)
    again = rankadaptor(paths, 20, recovered, trials=13, seed=1)
    assert again.history == found.history


def test_rankadaptor_model_ranks_vectors_that_it_has_not_seen():
    generator = torch.Generator().manual_seed(4)
    ranks = torch.stack(
        [torch.bincount(torch.randint(5, (20,), generator=generator), minlength=5) for _ in range(60)]
    ).float()
    scores = torch.tensor([recovered(dict(enumerate(row.tolist()))) for row in ranks])
    model = PerformanceModel(5, seed=0)
    model.fit(ranks[:30], scores[:30])
    assert spearmanr(model(ranks[30:]).detach(), scores[30:]).statistic > 0.5


def test_rankadaptor_gives_a_pruned_model_its_ranks_where_weights_were_cut():
    """The score is that of a short tuning after 70% of the middle layer's weights were set to 0."""
    x = torch.randn(64, 12, generator=torch.Generator().manual_seed(6))

    def tuned(ranks):
        torch.manual_seed(0)
        model = nn.Sequential(*(nn.Linear(12, 12) for _ in range(3)))
        whole = model(x).detach()
        with torch.no_grad():
            cut = model[1].weight
            cut[cut.abs() < cut.abs().quantile(0.7)] = 0.0
        adapter = lowrank.attach(model, "lora", rank=2, ranks=ranks)
        optimizer = torch.optim.Adam(adapter.parameters(), lr=0.02)
        for _ in range(60):
            optimizer.zero_grad()
            loss = (model(x) - whole).square().mean()
            loss.backward()
            optimizer.step()
        return -loss.item()

    found = rankadaptor(["0", "1", "2"], 6, tuned, trials=10, random_trials=5, seed=0)
    assert {sum(ranks.values()) for ranks, _ in found.history} == {6}
    assert found.ranks["1"] == max(found.ranks.values()) > 2
    assert found.score > found.history[0][1]


def test_eva_and_gora_budgets_are_their_starts_ranks():
    generator = torch.Generator().manual_seed(5)
    sites = [Site(f"{k}.dense", linear(torch.randn(8, 8, generator=generator)), 2, 2.0, 1.0) for k in range(3)]
    seen = {
        site.path: {
            "inputs": torch.randn(50, 8, generator=generator),
            "gradient": torch.randn(8, 8, generator=generator),
        }
        for site in sites
    }
    for name in ("eva", "gora"):
        assert share_ranks_of(name, sites, seen, 6) == lowrank.STARTS[name].ranks(sites, seen)


def test_a_static_preset_without_statistics_is_refused():
    with pytest.raises(UsageError, match="sensitivity-lora"):
        lowrank.attach(nn.Sequential(nn.Linear(3, 2)), "sensitivity-lora")
