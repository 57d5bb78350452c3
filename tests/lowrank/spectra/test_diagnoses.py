"""RankMe, intruder dimensions and gradient spectra: closed forms, planted cases, and what training leaves.

Among the methods of the catalogue that these are facts of: gradient-spectrum-data-quality, intruder-dimensions.
"""

import pytest
import torch
from torch import nn

from lorank import lowrank
from lorank.errors import UsageError
from lorank.lowrank.spectra import (
    closest_cosines,
    gradient_spectra,
    intruder_curve,
    intruder_dimensions,
    is_bounded_by_rows,
    rankme,
)

SEEDS = [0, 1]


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", SEEDS)
def test_rankme_of_even_and_collapsed_embeddings(seed):
    z = normal(seed, 4000, 16)
    assert rankme(z) == pytest.approx(16, rel=0.01)
    assert rankme(z[:, :1] * normal(seed + 9, 1, 16)) == pytest.approx(1, abs=0.01)
    rotation = torch.linalg.qr(normal(seed, 16, 16)).Q
    uneven = z * torch.logspace(0, -2, 16)
    assert rankme(7 * uneven @ rotation) == pytest.approx(rankme(uneven), rel=1e-4)
    assert 1 < rankme(uneven) < 12
    assert rankme(normal(seed, 5, 16)) <= 5.001
    assert rankme(torch.zeros(4, 3)) == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_rankme_picks_the_better_of_two_embedders_without_labels(seed):
    topics = normal(seed, 12, 20)
    texts = topics[torch.randint(12, (600,), generator=torch.Generator().manual_seed(seed))] + 0.3 * normal(
        seed + 1, 600, 20
    )
    narrow = torch.linalg.qr(normal(seed + 2, 20, 2)).Q

    def nearest_agree(z):
        z = nn.functional.normalize(z, dim=1)
        near = (z @ z.t() - 2 * torch.eye(len(z))).argmax(1)
        truth = (texts @ topics.t() - topics.square().sum(1) / 2).argmax(1)
        return float((truth[near] == truth).double().mean())

    good, collapsed = texts, texts @ narrow @ narrow.t()
    assert rankme(good) > rankme(collapsed)
    assert nearest_agree(good) > nearest_agree(collapsed)


def test_what_is_no_matrix_of_numbers_is_refused():
    for spoiled in (torch.zeros(3), torch.full((2, 2), torch.nan), torch.zeros(0, 3)):
        with pytest.raises(UsageError):
            rankme(spoiled)
    assert is_bounded_by_rows(torch.zeros(10, 4))
    assert not is_bounded_by_rows(torch.zeros(100, 4))


@pytest.mark.parametrize("seed", SEEDS)
def test_intruder_dimensions_no_intruder_in_the_weight_itself_and_one_for_a_planted_spike(seed):
    base = normal(seed, 40, 20) @ torch.diag(torch.logspace(1, -1, 20))
    assert intruder_dimensions(base, base) == 0
    assert intruder_dimensions(base, base + 1e-3 * normal(seed + 1, 40, 20)) == 0
    U = torch.linalg.svd(base).U  # [40, 40]: the last 20 are outside of what the base reaches
    spike = 500 * torch.outer(U[:, -1], normal(seed + 2, 20))
    assert intruder_dimensions(base, base + spike) == 1
    assert closest_cosines(base, base + spike, 1)[0] < 0.1


def test_the_curve_rises_with_the_threshold():
    base = normal(0, 30, 20)
    cosines = [closest_cosines(base, base + 2 * normal(i, 30, 20)) for i in range(1, 3)]
    counts = [count for _, count in intruder_curve(cosines)]
    assert counts == sorted(counts)
    assert counts[-1] <= 20
    with pytest.raises(UsageError):
        closest_cosines(base, base.t())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_lora_at_a_high_rate_has_more_intruders_than_full_tuning(seed):
    left, right = (torch.linalg.qr(normal(seed + i, 64, 64)).Q for i in (0, 5))
    base = left * torch.logspace(0, -1, 64) @ right
    x, goal = normal(seed + 1, 256, 64), normal(seed + 2, 256, 64)

    def tuned(adapter, lr):
        layer = nn.Linear(64, 64, bias=False)
        layer.weight.data = base.clone()
        model = nn.Sequential(layer)
        own = lowrank.attach(model, "lora", rank=4, alpha=4, targets=["0"], seed=seed) if adapter else None
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)
        for _ in range(20):
            optimizer.zero_grad()
            (model(x) - x @ base.t() - 0.5 * goal).square().mean().backward()
            optimizer.step()
        return own.layers["0"].delta().detach() + base if own is not None else layer.weight.detach()

    low_rank, full = tuned(True, 0.5), tuned(False, 2e-3)
    assert float((low_rank - base).norm()) < 1.3 * float((full - base).norm())
    assert intruder_dimensions(base, low_rank) > intruder_dimensions(base, full)


def test_gradients_of_known_spectra():
    weight = torch.zeros(4, 6, requires_grad=True)
    even, one = torch.eye(4, 6), torch.outer(torch.ones(4), torch.ones(6))
    found = gradient_spectra([lambda: (weight * even).sum(), lambda: (weight * one).sum()], [weight])
    assert found[0].effective_rank == pytest.approx(4)
    assert found[0].nuclear_norm == pytest.approx(4)
    assert found[1].effective_rank == pytest.approx(1)
    assert found[1].nuclear_norm == pytest.approx(24**0.5)
    with pytest.raises(UsageError, match="no matrices"):
        gradient_spectra([], [])


@pytest.mark.parametrize("seed", SEEDS)
def test_gradient_spectrum_data_quality_shuffled_labels_have_the_larger_nuclear_norm(seed):
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(10, 24), nn.Tanh(), nn.Linear(24, 5))
    truth = torch.randn(10, 5, generator=generator)
    x = torch.randn(400, 10, generator=generator)
    labels = (x @ truth).argmax(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[:300]), labels[:300]).backward()
        optimizer.step()
    rows, clean = x[300:].split(10), labels[300:].split(10)
    wrong = [own[torch.randperm(10, generator=generator)] for own in clean]
    matrices = [model[0].weight, model[2].weight]

    def mean(goals):
        losses = [lambda i=i: nn.functional.cross_entropy(model(rows[i]), goals[i]) for i in range(10)]
        found = gradient_spectra(losses, matrices)
        return sum(each.nuclear_norm for each in found) / 10

    assert mean(wrong) > 1.5 * mean(clean)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gradient_spectrum_data_quality_shuffled_labels_pull_in_fewer_directions(seed):
    """What the labels say has two dimensions, which the model knows, and their noise has all: it errs in all."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randn(2, 12, generator=generator) @ torch.randn(12, 12, generator=generator)
    x = torch.randn(800, 10, generator=generator)
    goals = x[:, :2] @ truth + 0.3 * torch.randn(800, 12, generator=generator)
    model = nn.Linear(10, 12)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        (model(x[:600]) - goals[:600]).square().mean().backward()
        optimizer.step()
    rows, clean = x[600:].split(20), goals[600:].split(20)
    wrong = [own[torch.randperm(20, generator=generator)] for own in clean]

    def means(labels):
        losses = [lambda i=i: (model(rows[i]) - labels[i]).square().mean() for i in range(10)]
        found = gradient_spectra(losses, [model.weight])
        return [sum(getattr(each, key) for each in found) / 10 for key in ("nuclear_norm", "effective_rank")]

    (low, many), (high, few) = means(clean), means(wrong)
    assert low < 0.5 * high
    assert many > 1.3 * few
