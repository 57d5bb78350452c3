"""rax's losses on the same lists, wherever rax has the loss.

Lists whose labels are all equal are left out here: rax counts them, we do not.
"""

from functools import partial

import pytest
import torch

from lorank.ranking.losses import loss


@pytest.fixture(scope="module")
def rax():
    return pytest.importorskip("rax", reason="rax is not installed: pip install lorank[test]")


def batch(distinct=False):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 6, generator=generator)
    labels = torch.randint(4, (3, 6), generator=generator).float()
    if distinct:
        labels = torch.rand(3, 6, generator=generator).argsort(1).float()
    mask = torch.ones(3, 6, dtype=torch.bool)
    mask[1, 2] = mask[2, 4:] = False
    labels[:, 0], labels[:, 1] = 6, 0
    return scores, labels, mask


def mean_over_lists(rax_loss, scores, labels, mask, **options):
    """rax averages over all pairs or documents of a batch; one list at a time it averages as we do."""
    rows = [rax_loss(s.numpy(), y.numpy(), where=m.numpy(), **options) for s, y, m in zip(scores, labels, mask)]
    return sum(float(value) for value in rows) / len(rows)


@pytest.mark.parametrize(
    ("name", "options", "theirs"),
    [
        ("bce", {}, "pointwise_sigmoid_loss"),
        ("mse", {}, "pointwise_mse_loss"),
        ("hinge", {}, "pairwise_hinge_loss"),
        ("ranknet", {}, "pairwise_logistic_loss"),
        ("softmax", {"target": "labels"}, "softmax_loss"),
    ],
)
def test_same_value(rax, name, options, theirs):
    scores, labels, mask = batch()
    ours = loss(name, **options)(scores, labels, mask)
    assert float(ours) == pytest.approx(mean_over_lists(getattr(rax, theirs), scores, labels, mask), rel=1e-5)


def test_listmle_without_ties(rax):
    scores, labels, mask = batch(distinct=True)
    labels[:, 0], labels[:, 1] = 10, -1
    theirs = mean_over_lists(rax.listmle_loss, scores, labels, mask)
    assert float(loss("listmle")(scores, labels, mask)) == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize("temperature", [0.3, 1.0])
@pytest.mark.parametrize(("name", "metric"), [("approxndcg", "ndcg_metric"), ("approxmrr", "mrr_metric")])
def test_approximate_metrics(rax, name, metric, temperature):
    scores, labels, mask = batch()
    import jax

    ranks = partial(rax.utils.approx_ranks, step_fn=lambda x: jax.nn.sigmoid(x / temperature))
    theirs = mean_over_lists(partial(getattr(rax, metric), rank_fn=ranks), scores, labels, mask)
    assert float(loss(name, temperature=temperature)(scores, labels, mask)) == pytest.approx(-theirs, rel=1e-5)


def test_margin_mse_on_lists_without_padding(rax):
    """rax averages over all n^2 ordered pairs, those of a document with itself included."""
    scores, labels, _ = batch()
    every = torch.ones_like(scores, dtype=torch.bool)
    theirs = mean_over_lists(rax.pairwise_mse_loss, scores, labels, every)
    assert float(loss("margin-mse")(scores, labels)) == pytest.approx(theirs * 36 / 30, rel=1e-5)
