"""The inverted hinge of LoKU: closed-form gradient, bounds, padding."""

import torch

from lorank.ranking.losses.inverted_hinge import inverted_hinge


def test_the_gradient_is_the_softmaxs_of_plus_one_at_the_target_and_minus_one_at_the_runner_up_alone():
    scores = torch.tensor([[2.0, 0.5, 1.0, -1.0]], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    loss = inverted_hinge(scores, labels)
    p = torch.softmax(scores.detach(), -1)[0]
    torch.testing.assert_close(loss.detach(), 1 + p[0] - p[2])
    loss.backward()
    direction = torch.tensor([1.0, 0.0, -1.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(scores.grad[0], p * (direction - (direction * p).sum()))
    after = torch.softmax(scores.detach() - 0.01 * scores.grad, -1)[0]
    assert after[0] < p[0]
    assert ((after - p)[1:]).argmax() == 1, "of the others the runner-up gains most"


def test_it_lies_between_0_and_2_and_fades_where_the_target_is_forgotten():
    labels = torch.tensor([[1.0, 0.0, 0.0]])
    known, forgotten = torch.tensor([[50.0, 0.0, 0.0]]), torch.tensor([[-50.0, 50.0, 0.0]], requires_grad=True)
    torch.testing.assert_close(inverted_hinge(known, labels), torch.tensor(2.0))
    loss = inverted_hinge(forgotten, labels)
    assert abs(loss.item()) < 1e-6
    loss.backward()
    assert forgotten.grad.abs().max() < 1e-6


def test_masked_places_and_lists_without_others_have_no_influence():
    scores = torch.tensor([[2.0, 0.5, 9.0], [1.0, 2.0, 3.0]])
    labels = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    alone = inverted_hinge(scores[:1, :2], labels[:1, :2])
    torch.testing.assert_close(inverted_hinge(scores, labels, mask), alone)
    assert inverted_hinge(scores[1:], labels[1:]).item() == 0
    assert inverted_hinge(scores[:1], labels[:1], torch.zeros(1, 3, dtype=torch.bool)).item() == 0
