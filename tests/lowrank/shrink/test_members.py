"""Each shrinking method's own facts: closed forms, limits, planted cases."""

import numpy as np
import pytest
import torch
from scipy.stats import rankdata
from torch import nn

from lorank.layers import FactoredEmbedding, FactoredLinear
from lorank.layers.factored_linear import break_even
from lorank.lowrank import attach, factorize
from lorank.lowrank.linalg import top_k_svd
from lorank.lowrank.shrink import SHRINKERS
from lorank.lowrank.shrink.core.moments import Moments, gather_moments
from lorank.lowrank.shrink.core.ranks import RankProblem
from lorank.lowrank.shrink.core.shrinker import Weight
from lorank.lowrank.shrink.order_ranks import Choices, choose_by_order, solve_knapsack


@pytest.fixture(params=[0, 1])
def seed(request):
    return request.param


def draw(seed):
    return torch.Generator().manual_seed(seed)


def decompose(name, matrix, inputs=None, **options):
    moments = None
    if inputs is not None:
        moments = Moments()
        moments.add(inputs)
    return SHRINKERS[name].decompose(Weight(matrix.double(), moments, draw(0)), **options)


def test_eora_equals_its_published_form_by_eigenvectors(seed):
    """B = U_r, A = S_r V_r^T (Q sqrt(L))^-1 for W Q sqrt(L) = U S V^T and X X^T = Q L Q^T."""
    matrix = torch.randn(6, 5, generator=draw(seed), dtype=torch.float64)
    inputs = torch.randn(50, 5, generator=draw(seed + 10), dtype=torch.float64) * torch.tensor([3.0, 1, 1, 0.5, 0.1])
    values, vectors = torch.linalg.eigh(inputs.t() @ inputs / 50)
    root = vectors * values.sqrt()
    U, s, Vh = top_k_svd(matrix @ root, 2)
    published = (U * s) @ Vh @ torch.linalg.inv(root)
    torch.testing.assert_close(decompose("eora", matrix, inputs).factors(2).product, published, rtol=1e-5, atol=1e-6)


def test_isotropic_inputs_make_eora_plain_svd(seed):
    matrix = torch.randn(6, 4, generator=draw(seed), dtype=torch.float64)
    inputs = 2 * torch.cat([torch.eye(4), -torch.eye(4)]).double()
    for rank in (1, 3):
        own, plain = (decompose(name, matrix, inputs).factors(rank).product for name in ("eora", "svd"))
        torch.testing.assert_close(own, plain, rtol=1e-6, atol=1e-8)


def test_eora_compensates_a_compressed_layer_better_than_svd_on_what_it_reads(seed):
    layer = nn.Linear(32, 24)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(24, 32, generator=draw(seed)))
    inputs = torch.randn(200, 32, generator=draw(seed + 5)) * 0.8 ** torch.arange(32)
    exact, lost = layer(inputs), {}
    for name in ("svd", "eora"):
        model = nn.Sequential(nn.Linear(32, 24))
        model[0].load_state_dict(layer.state_dict())
        factorize(model, name, grid="fp4", rank=4, calibration=[inputs])
        lost[name] = float((model(inputs) - exact).norm().detach())
    assert lost["eora"] < 0.95 * lost["svd"]


def test_lord_loses_the_dropped_eigenvalues_of_its_outputs_exactly(seed):
    layer = nn.Linear(7, 6).double()
    inputs = torch.randn(90, 7, generator=draw(seed), dtype=torch.float64) * 0.7 ** torch.arange(7) + 1.0
    with torch.no_grad():
        before = layer(inputs)
        values = torch.linalg.eigvalsh((before - before.mean(0)).t() @ (before - before.mean(0)) / 90).flip(0)
        model = nn.Sequential(layer)
        factorize(model, "lord", rank=2, calibration=[inputs])
        error = (model(inputs) - before).square().sum(1).mean()
    assert float(error) == pytest.approx(float(values[2:].sum()), rel=1e-4)
    torch.testing.assert_close(model(inputs).mean(0), before.mean(0), rtol=1e-6, atol=1e-8)
    assert isinstance(model[0], FactoredLinear)
    assert [type(part) for part in (model[0].first, model[0].second)] == [nn.Linear, nn.Linear]


def auc(labels, scores):
    """The area under the curve by the ranks of the positives (Mann and Whitney)."""
    ranks, positive = rankdata(scores.numpy()), labels.numpy() > 0
    return (ranks[positive].mean() - (positive.sum() + 1) / 2) / (~positive).sum()


def clicks(seed):
    """A toy of click-through prediction: a table whose few frequent rows matter, a tower, and labels."""
    generator = draw(seed)
    table = torch.randn(400, 16, generator=generator) * 0.3
    table[:40] = torch.randn(40, 3, generator=generator) @ torch.randn(3, 16, generator=generator)
    chances = 1 / (1 + torch.arange(400.0)) ** 1.6
    return table, chances, generator


def test_a_table_keeps_its_frequent_rows_where_an_unweighted_decomposition_does_not(seed):
    table, chances, generator = clicks(seed)
    ids = torch.multinomial(chances, 3000, replacement=True, generator=generator)
    model = nn.Sequential(nn.Embedding.from_pretrained(table, freeze=False), nn.Linear(16, 1))
    expected = model[0](ids).detach()
    factorize(model, "ctr-lowrank-afm", rank=1, calibration=[ids], targets=["0"])
    assert isinstance(model[0], FactoredEmbedding)
    U, s, Vh = top_k_svd(table - table.mean(0), 1)
    plain = (U * s) @ Vh + table.mean(0)
    error = float((model[0](ids) - expected).square().mean().detach())
    assert error < float((plain[ids] - expected).square().mean())


def test_a_click_model_at_a_third_of_its_size_keeps_its_auc(seed):
    table, chances, generator = clicks(seed)
    tower = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
    with torch.no_grad():
        for layer in tower:
            if isinstance(layer, nn.Linear):
                thin = torch.randn(layer.out_features, 2, generator=generator)
                layer.weight.copy_(thin @ torch.randn(2, layer.in_features, generator=generator) * 0.3)
    model = nn.Sequential(nn.Embedding.from_pretrained(table, freeze=False), *tower)
    ids = torch.multinomial(chances, 4000, replacement=True, generator=generator)
    scores = model(ids).detach().flatten()
    labels = torch.bernoulli(torch.sigmoid(4 * (scores - scores.mean()) / scores.std()), generator=generator)
    before = auc(labels, scores)
    weights = sum(p.numel() for key, p in model.named_parameters() if "weight" in key)
    report = factorize(model, "ctr-lowrank-afm", ratio=1 / 3, calibration=[ids], exclude=["5"])
    assert report.ratio <= 1 / 3
    after = sum(p.numel() for key, p in model.named_parameters() if "weight" in key)
    assert after == weights - report.weights[0] + report.weights[1]
    assert auc(labels, model(ids).detach().flatten()) > before - 0.02


def test_welore_cuts_planted_layers_keeps_flat_ones_and_trains_factors_alone(seed):
    model = nn.Sequential(*(nn.Linear(24, 24) for _ in range(4)))
    with torch.no_grad():
        for place, layer in enumerate(model):
            noise = torch.randn(24, 24, generator=draw(seed + place))
            flat = torch.linalg.qr(noise).Q
            thin = noise[:, :3] @ noise[:3] + 0.01 * flat
            layer.weight.copy_(flat if place % 2 else thin)
    report = factorize(model, "welore", ratio=0.65)
    cut = [layer.rank for layer in report.layers]
    assert [rank is None for rank in cut] == [False, True, False, True]
    assert all(rank <= break_even(24, 24) for rank in cut if rank is not None)
    assert report.ratio <= 0.65
    asked = {path for path, p in model.named_parameters() if p.requires_grad}
    assert asked == {path for path, _ in model.named_parameters() if path[0] in "02"}


def test_welore_meets_its_target_within_one_rank_where_spectra_decay(seed):
    model = nn.Sequential(*(nn.Linear(40, 40) for _ in range(5)))
    with torch.no_grad():
        for place, layer in enumerate(model):
            U, _, Vh = torch.linalg.svd(torch.randn(40, 40, generator=draw(seed * 10 + place)))
            layer.weight.copy_((U * torch.exp(-torch.arange(40.0) / (4 + 3 * place))) @ Vh)
    for ratio in (0.3, 0.5, 0.7):
        fresh = nn.Sequential(*(nn.Linear(40, 40) for _ in range(5)))
        fresh.load_state_dict(model.state_dict())
        report = factorize(fresh, "welore", ratio=ratio)
        assert ratio * report.weights[0] - 80 <= report.weights[1] <= ratio * report.weights[0]


def test_als_ends_at_the_product_of_the_svd(seed):
    matrix = torch.randn(9, 7, generator=draw(seed), dtype=torch.float64) * 0.6 ** torch.arange(7)
    own, best = (decompose(name, matrix).factors(3).product for name in ("als", "svd"))
    torch.testing.assert_close(own, best, rtol=1e-4, atol=1e-4)


def test_cur_has_rows_of_the_matrix_and_an_error_between_svd_and_a_random_choice(seed):
    generator = draw(seed)
    matrix = torch.randn(30, 4, generator=generator).double() @ torch.randn(4, 20, generator=generator).double()
    matrix[:25] *= 0.01
    factors = decompose("cur", matrix).factors(2)
    assert all(any(torch.equal(row, own) for own in matrix) for row in factors.first)
    error, best = float((matrix - factors.product).norm()), decompose("svd", matrix).error(2) ** 0.5
    assert error >= best - 1e-9
    chosen = torch.randperm(30, generator=generator)[:2]
    rows, columns = matrix[chosen], matrix[:, torch.randperm(20, generator=generator)[:2]]
    other = columns @ (torch.linalg.pinv(columns) @ matrix @ torch.linalg.pinv(rows)) @ rows
    assert error < float((matrix - other).norm())
    assert float((matrix - decompose("cur", matrix).factors(4).product).norm()) < 1e-8


def test_the_moments_of_a_padded_batch_are_those_of_its_real_tokens():
    class Read(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x, attention_mask):
            return self.layer(x)

    model, x = Read(), torch.arange(8.0).reshape(2, 2, 2)
    batch = {"x": x, "attention_mask": torch.tensor([[1, 1], [1, 0]])}
    found = gather_moments(model, {"layer": model.layer}, [batch])["layer"]
    assert found.count == 3
    torch.testing.assert_close(found.mean, x.reshape(-1, 2)[:3].double().mean(0))
    torch.testing.assert_close(found.covariance, torch.cov(x.reshape(-1, 2)[:3].double().t(), correction=0))


def test_the_knapsack_is_the_best_of_all_choices(seed):
    rng = np.random.default_rng(seed)
    for _ in range(10):
        choices = {}
        for name in "abcd":
            sizes = np.sort(rng.choice(np.arange(1, 30), 4, replace=False))
            choices[name] = Choices(
                (1, 2, 3, None), tuple(sizes.tolist()), tuple(np.sort(rng.random(4))[::-1].tolist())
            )
        least = sum(each.sizes[0] for each in choices.values())
        budget = int(rng.integers(least, least + 50))
        found = solve_knapsack(choices, budget)
        picks = {name: each.ranks.index(found[name]) for name, each in choices.items()}
        assert sum(choices[name].sizes[i] for name, i in picks.items()) <= budget
        own = sum(choices[name].losses[i] for name, i in picks.items())
        grid = np.array(np.meshgrid(*[range(4)] * 4)).reshape(4, -1)
        sizes = sum(np.array(each.sizes)[row] for each, row in zip(choices.values(), grid, strict=True))
        losses = sum(np.array(each.losses)[row] for each, row in zip(choices.values(), grid, strict=True))
        assert own == pytest.approx(losses[sizes <= budget].min())


def test_ranks_go_to_the_layer_that_the_order_needs_and_are_never_worse_than_uniform(seed):
    shapes = {"needed": (64, 64), "idle": (64, 64)}
    worth = torch.linspace(2, 1, 64, dtype=torch.float64)

    def loss(ranks):
        lost = {path: 1 - (ranks.get(path) or 64) / 64 if path in ranks else 0.0 for path in shapes}
        return lost["needed"] + 0.01 * lost["idle"] + 0.001 * seed

    problem = RankProblem(shapes, dict.fromkeys(shapes, worth), dict.fromkeys(shapes, worth), 0.5, loss)
    ranks = choose_by_order(problem)
    assert problem.total(ranks) <= problem.budget
    assert (ranks["needed"] or 64) > 25 > (ranks["idle"] or 64)
    assert loss(ranks) < loss({"needed": 16, "idle": 16})


def test_lord_takes_adapters_on_both_factors():
    model = nn.Sequential(nn.Linear(8, 8))
    factorize(model, "lord", rank=3, calibration=[torch.randn(20, 8, generator=draw(0))])
    assert set(attach(model, "lora", rank=1).layers) == {"0.first", "0.second"}
