"""What each method is for, shown on small problems with several seeds."""

from itertools import pairwise
from statistics import mean

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.lowrank.projected import LAYERS, PROJECTORS, Projection
from lorank.lowrank.projected.layers import Layer
from lorank.lowrank.projected.projectors.dct import cosine_basis
from lorank.lowrank.projected.residuals.growth import limit_growth

SEEDS = (0, 1, 2)


def gradients(seed, count, rows=8, columns=12):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, columns, generator=generator, dtype=torch.float64) for _ in range(count)]


def stepped(name, steps, rank, seed=0, **options):
    """The change of a weight after steps by random gradients, and the optimizer."""
    weight = nn.Parameter(torch.zeros(8, 12, dtype=torch.float64))
    optimizer = lowrank.optimizer(name, [weight], lr=0.01, rank=rank, seed=seed, **options)
    for gradient in gradients(seed + 100, steps):
        weight.grad = gradient.clone()
        optimizer.step()
    return weight.detach(), optimizer, optimizer.state[weight]


def teach(name, seed, rank, lr, steps=150, **options):
    """The last loss of a regression onto a full-rank teacher."""
    generator = torch.Generator().manual_seed(seed)
    teacher = torch.randn(24, 24, generator=generator) / 24**0.5
    student = nn.Parameter(torch.zeros(24, 24))
    optimizer = lowrank.optimizer(name, [student], lr=lr, rank=rank, seed=seed, **options)
    loss = torch.zeros(())
    for _ in range(steps):
        x = torch.randn(64, 24, generator=generator)
        loss = (x @ (student - teacher).t()).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return float(loss.detach())


@pytest.mark.parametrize("seed", SEEDS)
def test_fira_at_full_rank_is_galore_and_below_it_its_update_has_full_rank(seed):
    full = [stepped(name, 6, 8, seed, scale=0.25)[0] for name in ("fira", "galore")]
    torch.testing.assert_close(*full, atol=1e-9, rtol=1e-9)
    update, optimizer, state = stepped("fira", 1, 2, seed)
    assert torch.linalg.matrix_rank(update) == 8
    assert torch.linalg.matrix_rank(stepped("galore", 1, 2, seed)[0]) == 2
    moments = sum(state[key].numel() for key in ("exp_avg", "exp_avg_sq"))
    assert moments == 2 * 12 * 2
    assert optimizer.state_bytes() == 8 * (moments + 8 * 2 + 1)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_limiter_caps_the_growth_of_the_norm(seed):
    state, before = {}, None
    for scale in (1.0, 5.0, 0.1, 3.0, 3.0):
        update = torch.randn(4, 4, generator=torch.Generator().manual_seed(seed)) * scale
        norm = float(limit_growth(state, update, 1.01).norm())
        assert before is None or norm <= 1.01 * before * (1 + 1e-5)
        before = norm


def test_firas_rest_lowers_the_loss_on_a_full_rank_teacher_below_galores():
    fira = mean(min(teach("fira", seed, 2, lr) for lr in (0.01, 0.03)) for seed in SEEDS)
    galore = mean(min(teach("galore", seed, 2, lr) for lr in (0.01, 0.03, 0.1)) for seed in SEEDS)
    assert fira < 0.8 * galore


@pytest.mark.parametrize("seed", SEEDS)
def test_frugal_is_adam_in_all_of_the_space_and_the_sign_in_none(seed):
    full = stepped("frugal", 5, 8, seed, gap=100)[0]
    adam = stepped("galore", 5, 8, seed, projector="identity", scale=1.0)[0]
    torch.testing.assert_close(full, adam)
    none, optimizer, _ = stepped("frugal", 1, 0, seed, rest_rate=0.5)
    (gradient,) = gradients(seed + 100, 1)
    torch.testing.assert_close(none, -0.01 * 0.5 * gradient.sign())
    assert optimizer.state_bytes() == 0
    assert torch.linalg.matrix_rank(stepped("frugal", 1, 2, seed)[0]) == 8


@pytest.mark.parametrize("projector", [name for name in PROJECTORS if name not in ("random", "int4")])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_parts_of_a_gradient_sum_to_it_and_are_orthogonal(projector, seed):
    (gradient,), generator = gradients(seed, 1), torch.Generator().manual_seed(seed)
    kind = PROJECTORS[projector]()
    state = kind.find(gradient, 3, generator)
    basis, inside = kind.basis(state, gradient), kind.up(state, kind.down(state, gradient), gradient)
    torch.testing.assert_close(basis.t() @ basis, torch.eye(basis.shape[1], dtype=basis.dtype))
    torch.testing.assert_close(inside, basis @ (basis.t() @ gradient))
    assert ((gradient - inside) * inside).sum().abs() < 1e-9


@pytest.mark.parametrize("seed", SEEDS)
def test_floras_projection_is_right_in_the_mean_and_its_rank_grows(seed):
    kind, generator = PROJECTORS["random"](), torch.Generator().manual_seed(seed)
    (gradient,) = gradients(seed, 1)
    back = []
    for _ in range(3000):
        state = kind.find(gradient, 4, generator)
        assert {name: value.numel() for name, value in state.items()} == {"seed": 1, "width": 1}
        back.append(kind.up(state, kind.down(state, gradient), gradient))
    error = (torch.stack(back).mean(0) - gradient).norm() / gradient.norm()
    assert error < 6 * (9 / 4 / 3000) ** 0.5  # the variance of one draw is (short + 1) / rank of the square
    ranks = [
        int(torch.linalg.matrix_rank(stepped("flora-compressor", steps, 1, seed, residual="none", gap=2)[0]))
        for steps in (2, 8)
    ]
    assert ranks[0] == 1
    assert ranks[1] >= 3


@pytest.mark.parametrize("size", [2, 7, 16])
def test_the_cosine_basis_is_orthonormal_and_all_of_it_loses_nothing(size):
    D = cosine_basis(size, torch.float64, torch.device("cpu"))
    torch.testing.assert_close(D.t() @ D, torch.eye(size, dtype=torch.float64), atol=1e-6, rtol=0)
    (gradient,), kind = gradients(size, 1, size, 20), PROJECTORS["dct"]()
    state = kind.find(gradient, size, torch.Generator())
    torch.testing.assert_close(kind.up(state, kind.down(state, gradient), gradient), gradient)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_cosines_capture_no_less_than_random_columns_and_no_more_than_the_svd(seed):
    generator = torch.Generator().manual_seed(seed)
    smooth = torch.randn(32, 40, generator=generator, dtype=torch.float64).cumsum(0)

    def captured(name):
        kind = PROJECTORS[name]()
        state = kind.find(smooth, 4, generator)
        return float(kind.down(state, smooth).square().sum())

    assert captured("coordinates") <= captured("dct") <= captured("svd") * (1 + 1e-9)
    state = PROJECTORS["dct"]().find(smooth, 4, generator)
    assert [(name, value.numel(), value.dtype) for name, value in state.items()] == [("indices", 4, torch.int32)]


def blocks(seed, planted=3, count=8):
    """Named matrices of as many blocks; one has outliers in a twentieth of its entries, the others in few."""
    generator = torch.Generator().manual_seed(seed)
    named = []
    for place in range(count):
        weight = torch.randn(20, 20, generator=generator)
        few = 40 if place == planted else 10
        weight.view(-1)[torch.randperm(400, generator=generator)[:few]] = 60.0
        named += [(f"layer.{place}.weight", nn.Parameter(weight)), (f"layer.{place}.bias", nn.Parameter(weight[0] * 0))]
    return [*named, ("head.weight", nn.Parameter(torch.zeros(2, 20)))]


@pytest.mark.parametrize("seed", SEEDS)
def test_layers_are_sampled_by_their_outliers(seed):
    named = blocks(seed)
    layers = [Layer(str(i), [p], [p]) for i, (_, p) in enumerate(named) if p.dim() == 2 and p.shape[0] == 20]
    policy = LAYERS["outliers"](layers, Projection(interval=1, active=1, outlier=5.0), seed)
    expected = policy.probabilities()
    torch.testing.assert_close(expected, torch.tensor([1.0, 1, 1, 4, 1, 1, 1, 1]) / 11)
    counts, states = torch.zeros(8), {}
    policy.begin(states)
    for _ in range(1500):
        counts += torch.tensor([float(layer.parameters[0].requires_grad) for layer in layers])
        policy.after_step(states)
    assert (counts / 1500 - expected).abs().max() < 4 * 0.5 / 1500**0.5
    assert int(counts.argmax()) == 3


@pytest.mark.parametrize("seed", SEEDS)
def test_resting_layers_have_no_gradient_and_no_state(seed):
    named = blocks(seed)
    optimizer = lowrank.optimizer("owlore", named, lr=1e-3, rank=4, interval=3, active=2, outlier=5.0, seed=seed)
    seen, sizes = set(), set()
    for step in range(12):
        x = torch.randn(4, 20, generator=torch.Generator().manual_seed(step))
        for weight, bias in zip(named[0:-1:2], named[1:-1:2], strict=True):
            x = torch.tanh(x @ weight[1].t() / 20 + bias[1])
        (x @ named[-1][1].t()).square().sum().add(x.sum()).backward()
        resting = [p for name, p in named if "layer" in name and not p.requires_grad]
        assert len(resting) == 2 * 6
        assert all(p.grad is None and not optimizer.state.get(p) for p in resting)
        assert named[-1][1].requires_grad
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seen |= {name for name, p in named if p.requires_grad and "layer" in name}
        if (step + 1) % 3:
            sizes.add(optimizer.state_bytes())
    assert len(seen) > 4
    assert max(sizes) <= 2 * 4 * (20 * 4 + 2 * 4 * 20 + 2 * 20) + 4 * (2 * 2 + 2 * 2 * 20)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_normalised_weight_keeps_its_norms_in_the_magnitudes(seed):
    start = gradients(seed, 1)[0]
    weight, plain = nn.Parameter(start.clone()), start
    optimizer = lowrank.optimizer("gradnormlorp", [weight], lr=0.01, rank=3, scale=1.0)
    torch.testing.assert_close(weight.detach(), plain)  # making the optimizer changes nothing
    norms = start.norm(dim=0)
    first, second = torch.zeros(12).double(), torch.zeros(12).double()
    for step, gradient in enumerate(gradients(seed + 50, 5), 1):
        before = weight.detach().clone()
        unit = before / before.norm(dim=0)
        slope = (gradient * unit).sum(0)
        tangent = optimizer.weights.gradient({}, before, gradient)
        assert ((tangent * unit).sum(0)).abs().max() < 1e-12
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        norms = norms - 0.01 * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        weight.grad = gradient.clone()
        optimizer.step()
        torch.testing.assert_close(weight.detach().norm(dim=0), norms, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_at_full_rank_it_is_weight_normalised_adam(seed):
    start, own = gradients(seed, 1)[0], gradients(seed + 50, 6)
    weight = nn.Parameter(start.clone())
    optimizer = lowrank.optimizer("gradnormlorp", [weight], lr=0.01, projector="identity", scale=1.0)
    V, g = nn.Parameter(start.clone()), nn.Parameter(start.norm(dim=0))
    adam = torch.optim.AdamW([V, g], lr=0.01, weight_decay=0.0)
    for gradient in own:
        weight.grad = gradient.clone()
        optimizer.step()
        with torch.no_grad():
            V.copy_(V / V.norm(dim=0) * g)
        adam.zero_grad()
        ((V / V.norm(dim=0) * g) * gradient).sum().backward()
        adam.step()
        torch.testing.assert_close(weight.detach(), (V / V.norm(dim=0) * g).detach(), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_low_rank_projected_descent_converges_geometrically(seed):
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(20, 2, generator=generator) @ torch.randn(2, 15, generator=generator)
    weight = nn.Parameter(torch.zeros(20, 15))
    optimizer = lowrank.optimizer("supervised-dictionary-learning", [weight], lr=0.3, rank=2)
    errors = []
    for _ in range(40):
        weight.grad = (weight.detach() - target) * (0.6 + 0.8 * torch.rand(20, 15, generator=generator))
        optimizer.step()
        assert torch.linalg.matrix_rank(weight.detach(), rtol=1e-4) <= 2
        errors.append(float((weight.detach() - target).norm() / target.norm()))
    ratios = [after / before for before, after in pairwise(errors[:26])]
    assert max(ratios) < 0.9


def auc(scores, labels):
    order = scores.argsort().argsort().double()
    positive = labels > 0
    wins = order[positive].sum() - positive.sum() * (positive.sum() - 1) / 2
    return float(wins / (positive.sum() * (~positive).sum()))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_supervised_dictionary_ranks_above_pca_and_a_classifier(seed):
    """What decides the class has little variance, so that two principal components miss it."""
    generator = torch.Generator().manual_seed(seed)
    loud, quiet = torch.randn(1200, 2, generator=generator) * 4, torch.randn(1200, 1, generator=generator)
    mix = torch.linalg.qr(torch.randn(20, 20, generator=generator)).Q
    x = torch.cat([loud, quiet, 0.5 * torch.randn(1200, 17, generator=generator)], 1) @ mix
    labels = (torch.rand(1200, generator=generator) < torch.sigmoid(3 * quiet[:, 0])).float()
    train, test = slice(0, 600), slice(600, 1200)
    # the lifted factor of rank 3: rows that rebuild x, and a last row that classifies
    weight = nn.Parameter(torch.zeros(21, 20))
    optimizer = lowrank.optimizer("supervised-dictionary-learning", [weight], lr=0.05, rank=3)
    for _ in range(200):
        out = x[train] @ weight.t()
        rebuilt = (out[:, :20] - x[train]).square().sum(1).mean() / 20
        loss = 0.2 * rebuilt + 4 * nn.functional.binary_cross_entropy_with_logits(out[:, 20], labels[train])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    supervised = auc((x[test] @ weight.detach().t())[:, 20], labels[test])
    axes = torch.linalg.svd(x[train], full_matrices=False).Vh[:2]
    z = x @ axes.t()
    classifier = nn.Linear(2, 1)
    adam = torch.optim.Adam(classifier.parameters(), lr=0.05)
    for _ in range(200):
        nn.functional.binary_cross_entropy_with_logits(classifier(z[train])[:, 0], labels[train]).backward()
        adam.step()
        adam.zero_grad()
    assert supervised > auc(classifier(z[test])[:, 0].detach(), labels[test]) + 0.1
