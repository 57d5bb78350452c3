"""elr: its formula over two steps, its reduction, its state, and lists of which two in five are mislabelled."""

import math

import pytest
import torch

from lorank.catalogue import METHODS
from lorank.errors import UsageError
from lorank.ranking.losses import LOSSES
from lorank.ranking.losses.elr import EarlyLearning

softmax = LOSSES["softmax"]


def row(*values):
    return torch.tensor([values], dtype=torch.float64)


def shares(scores):
    total = sum(math.exp(s) for s in scores)
    return [math.exp(s) / total for s in scores]


def test_elr_with_lambda_0_is_cross_entropy():
    scores, labels = row(0.3, -1.0, 2.0), row(1, 0, 0)
    value = EarlyLearning(strength=0.0)(scores, labels, items=torch.arange(3)[None])
    torch.testing.assert_close(value, softmax(scores, labels))


def test_two_steps_by_hand_in_another_order():
    function, (first, second), beta = EarlyLearning(strength=2.0, decay=0.6), ((0.5, -1.0), (1.5, 0.2)), 0.6
    function(row(*first), row(1, 0), items=torch.tensor([[3, 1]]))
    value = function(row(second[1], second[0]), row(0, 1), items=torch.tensor([[1, 3]]))
    p, q = shares(first), shares(second)
    t = [beta * (1 - beta) * a + (1 - beta) * b for a, b in zip(p, q)]
    expected = -math.log(q[0]) + 2 * math.log(1 - sum(a * b for a, b in zip(q, t)))
    assert float(value) == pytest.approx(expected, rel=1e-6)
    assert function.items.tolist() == [1, 3]
    assert function.target.tolist() == pytest.approx([t[1], t[0]], rel=1e-6)


def test_memory_survives_a_checkpoint_and_padding_does_not_touch_it():
    mask = torch.tensor([[True, True, False]])
    function = EarlyLearning()
    value = function(row(0.5, -1.0, math.nan), row(1, 0, 0), mask, items=torch.tensor([[1, 2, 0]]))
    assert torch.isfinite(value)
    assert function.items.tolist() == [1, 2]
    other = EarlyLearning()
    other.load_state_dict(function.state_dict())
    again = [f(row(0.1, 0.2), row(1, 0), items=torch.tensor([[1, 2]])) for f in (function, other)]
    assert again[0] == again[1]
    with pytest.raises(UsageError, match="items"):
        function(row(0.1, 0.2), row(1, 0), items=torch.tensor([1, 2]))


def test_elr_keeps_accuracy_on_clean_labels_where_cross_entropy_memorises():
    """More features than lists: cross entropy fits the 40 % of false labels; the early belief does not let go."""
    assert METHODS["elr"].location.endswith("elr:EarlyLearning")
    generator = torch.Generator().manual_seed(0)
    signal = torch.randn(100, 5, 4, generator=generator)
    x = torch.cat([signal, 0.2 * torch.randn(100, 5, 500, generator=generator)], 2)
    best = signal.sum(2).argmax(1, keepdim=True)
    shift = torch.randint(1, 5, (100, 1), generator=generator) * (torch.rand(100, 1, generator=generator) < 0.4)
    labels = torch.zeros(100, 5).scatter(1, (best + shift) % 5, 1.0)
    keys = torch.arange(500).view(100, 5)

    def accuracies(strength):
        function, weights = EarlyLearning(strength=strength), torch.zeros(504, requires_grad=True)
        optimizer = torch.optim.SGD([weights], lr=0.5)
        clean_accuracy = []
        for _ in range(600):
            optimizer.zero_grad()
            scores = x @ weights
            function(scores, labels, items=keys).backward()
            optimizer.step()
            clean_accuracy.append(float((scores.argmax(1, keepdim=True) == best).float().mean()))
        memorised = float((scores.argmax(1, keepdim=True) == labels.argmax(1, keepdim=True)).float().mean())
        return max(clean_accuracy), clean_accuracy[-1], memorised

    peak, plain, plain_memorised = accuracies(0.0)
    _, kept, kept_memorised = accuracies(6.0)
    assert plain_memorised > 0.9
    assert plain < peak - 0.1
    assert kept > plain + 0.1
    assert kept_memorised < plain_memorised - 0.1
