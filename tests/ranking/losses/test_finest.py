"""finest: its formula, its reductions, and recommendations that a perturbed retrain leaves in place."""

import pytest
import torch

from lorank.catalogue import METHODS
from lorank.errors import UsageError
from lorank.ranking.losses import LOSSES, loss
from lorank.ranking.losses.finest import perturb, rank_preserving, watch


def row(*values):
    return torch.tensor([values], dtype=torch.float64)


def test_by_hand():
    s, f, y = (1.0, 0.2, 0.5), (2.0, 1.0, 0.0), (1, 0, 0)
    function = rank_preserving(loss("mse"), strength=0.5, closeness=0.3, margin=0.4)
    order = (max(0, 0.4 - 0.8) + max(0, 0.4 - 0.5) + max(0, 0.4 + 0.3)) / 3
    close = (1.0 + 0.64 + 0.25) / 3
    expected = float(loss("mse")(row(*s), row(*y))) + 0.5 * (order + 0.3 * close)
    assert float(function(row(*s), row(*y), reference=row(*f))) == pytest.approx(expected)


def test_finest_with_weight_0_is_retraining():
    scores, labels = row(0.3, -1.0, 2.0), row(1, 0, 0)
    value = rank_preserving(loss("softmax"), strength=0.0)(scores, labels, reference=row(5, 1, 9))
    torch.testing.assert_close(value, loss("softmax")(scores, labels))
    with pytest.raises(UsageError, match="strength"):
        rank_preserving(loss("softmax"), strength=-1.0)


def test_watched_documents_are_the_top_and_a_sample():
    reference = torch.randn(50, 12, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(50, 12, dtype=torch.bool)
    mask[:, 9:] = False
    watched = watch(reference, mask, top=3, sampled=2, generator=torch.Generator().manual_seed(1))
    assert (watched.sum(1) == 5).all()
    assert not watched[:, 9:].any()
    top = reference[:, :9].topk(3).indices
    assert watched.gather(1, top).all()
    assert (watched[:, :9].sum(0) > 0).all()
    assert (watch(reference, mask, top=20, sampled=20) == mask).all()


def test_padding_and_gradient():
    generator = torch.Generator().manual_seed(0)
    scores, reference = torch.randn(2, 2, 5, generator=generator, dtype=torch.float64)
    labels = torch.tensor([[1, 0, 0, 2, 0], [0, 1, 0, 0, 0]]).double()
    mask = torch.tensor([[True] * 5, [True, True, True, False, False]])
    function = rank_preserving(loss("softmax"), top=3, sampled=0)
    value = function(scores, labels, mask, reference=reference)
    dirty = function(scores.masked_fill(~mask, 1e9), labels, mask, reference=reference.masked_fill(~mask, 1e9))
    torch.testing.assert_close(dirty, value)
    assert torch.autograd.gradcheck(lambda s: function(s, labels, mask, reference=reference), scores.requires_grad_())


def test_perturbed_labels_stay_within_their_lists():
    labels = torch.zeros(4000, 5)
    labels[:, 0] = 2.0
    mask = torch.ones(4000, 5, dtype=torch.bool)
    mask[:, 4] = False
    changed = perturb(labels, mask, lost=0.2, wrong=0.3, generator=torch.Generator().manual_seed(0))
    assert not changed[:, 4].any()
    assert float((changed.sum(1) == 0).float().mean()) == pytest.approx(0.2, abs=0.02)
    assert set(changed.sum(1).int().tolist()) == {0, 2}
    assert float((changed[:, 0] == 2).float().mean()) == pytest.approx(0.5 + 0.3 / 4, abs=0.03)


def rank_biased_overlap(a, b, p=0.8):
    """RBO of two rankings of the same items, by its definition."""
    agreement = [len(set(a[:d]) & set(b[:d])) / d for d in range(1, len(a) + 1)]
    return (1 - p) * sum(p**d * share for d, share in enumerate(agreement)) / (1 - p ** len(a))


def test_finest_keeps_recommendations_under_perturbation_at_the_same_next_item_accuracy():
    """Before and after training on perturbed data: RBO and Jaccard of the top five rise, accuracy stays."""
    assert METHODS["finest"].area == "robust"
    generator = torch.Generator().manual_seed(0)
    taste = torch.randn(10, generator=generator)

    def histories(count):
        x = torch.randn(count, 20, 10, generator=generator)
        chosen = (x @ taste + torch.randn(count, 20, generator=generator)).argmax(1, keepdim=True)
        return x, torch.zeros(count, 20).scatter(1, chosen, 1.0)

    (x, labels), (test_x, test_labels) = histories(60), histories(300)
    mask = torch.ones(60, 20, dtype=torch.bool)

    def trained(weights, labels, function, **more):
        weights = weights.clone().requires_grad_()
        optimizer = torch.optim.Adam([weights], lr=0.05)
        for _ in range(80):
            optimizer.zero_grad()
            function(x @ weights, labels, **more).backward()
            optimizer.step()
        return weights.detach()

    before = trained(torch.zeros(10), labels, LOSSES["softmax"])
    perturbed = perturb(labels, mask, lost=0.2, wrong=0.2, generator=generator)
    plain = trained(before, perturbed, LOSSES["softmax"])
    stable = trained(
        before, perturbed, rank_preserving(LOSSES["softmax"], strength=2.0, top=5, sampled=10), reference=x @ before
    )

    def kept(after):
        pairs = [
            (a.argsort(descending=True).tolist(), b.argsort(descending=True).tolist())
            for a, b in zip(test_x @ before, test_x @ after)
        ]
        jaccard = [len(set(a[:5]) & set(b[:5])) / len(set(a[:5]) | set(b[:5])) for a, b in pairs]
        return sum(rank_biased_overlap(a, b) for a, b in pairs) / 300, sum(jaccard) / 300

    def accuracy(weights):
        return float((test_labels.gather(1, (test_x @ weights).argmax(1, keepdim=True)) > 0).float().mean())

    (rbo, jaccard), (plain_rbo, plain_jaccard) = kept(stable), kept(plain)
    assert rbo > plain_rbo + 0.01
    assert jaccard > plain_jaccard + 0.02
    assert accuracy(stable) > accuracy(before) - 0.03
