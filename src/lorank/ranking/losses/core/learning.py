r"""How a loss learns: from one document at a time, from pairs of them, or from the list; measured on its gradient.

With g_i the derivative of a list's loss by the score of document i, and a step taken in the scores of others:

    pointwise    g_i stays as it is whatever becomes of the scores and labels of the other documents
    pairwise     g_i(s + a e_j + b e_k) - g_i(s + a e_j) - g_i(s + b e_k) + g_i(s) = 0 for i, j, k all different
    listwise     neither

The second is what makes a loss a sum of functions of one or two scores: all its mixed derivatives of third order
vanish, at finite steps too, so kinks do not hide from it as they would from a derivative.

Paper: Guo et al. 2020, A Deep Look into Neural Ranking Models for Information Retrieval, arXiv:1903.06902, section 5.

*Deviations*: the survey sorts losses by how they are written; here the gradient decides. So a pairwise loss that weighs
its pairs by what a swap would change in nDCG (lambda, lipo-lambda) is listwise: the weights come from the ranks of the
whole list, and a large enough step in one score changes the weight of a pair of others. A loss that is linear in
scores one by one, but divides by how many other documents are relevant, is pairwise here.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from lorank.ranking.losses.core.registry import EXTRAS, LOSSES, loss, requirements_of

Learning = Literal["pointwise", "pairwise", "listwise"]
LEARNING: tuple[str, ...] = get_args(Learning)

LABELS = (2.0, 0.0, 1.0, 0.0, 1.0)
OTHER_LABELS = (1.0, 2.0)
"""What a document's label is changed to; each of two, so that it does change."""


def learning(name: str, *, points: int = 4, step: float = 1.5, tolerance: float = 1e-9) -> Learning:
    """Return how the registered loss called ``name`` learns, with the options it has by itself.

    Args:
        name: A name in ``LOSSES``.
        points: At how many random lists of five scores it is looked at, at most.
        step: The size of the steps.
        tolerance: What counts as nothing, relative to the largest gradient that was seen.

    Raises:
        UsageError: For an unknown loss.

    >>> [learning(name) for name in ("mse", "ranknet", "softmax")]
    ['pointwise', 'pairwise', 'listwise']
    """
    loss(name)  # refuses an unknown one
    alone = additive = True
    generator = torch.Generator().manual_seed(0)
    for _ in range(points):
        gradient = _Gradients(name, generator)
        scores = torch.randn(len(LABELS), generator=generator, dtype=torch.float64)
        found = _interactions(gradient, scores, step)
        nothing = tolerance * gradient.largest
        alone &= found[0] <= nothing
        additive &= found[1] <= nothing
        if not (alone or additive):
            break
    return "pointwise" if alone else "pairwise" if additive else "listwise"


def learnings() -> dict[str, Learning]:
    """Return how every registered loss learns, by name."""
    return {name: learning(name) for name in sorted(LOSSES)}


class _Gradients:
    """The gradient of one list's loss; a loss with a memory is made anew each time, so that it has none."""

    def __init__(self, name: str, generator: torch.Generator) -> None:
        self.name, self.largest = name, 0.0
        self.extras = {name: _for_list(EXTRAS[name], generator) for name in sorted(requirements_of(LOSSES[name]))}

    def __call__(self, scores: Tensor, labels: Tensor) -> Tensor:
        rows = scores.detach().clone().unsqueeze(0).requires_grad_()
        mask = torch.ones_like(rows, dtype=torch.bool)
        loss(self.name)(rows, labels.unsqueeze(0), mask, **self.extras).backward()
        self.largest = max(self.largest, float(rows.grad.abs().max()))  # type: ignore[union-attr]
        return rows.grad[0]  # type: ignore[index]


def _for_list(example: Tensor, generator: torch.Generator) -> Tensor:
    """Return an extra for one list of five: its example, made as wide as the list where it has a value a document."""
    if example.dim() < 2:
        return example
    if example.is_floating_point():
        return torch.randn(1, len(LABELS), *example.shape[2:], generator=generator, dtype=torch.float64)
    if example.dtype == torch.bool:
        return torch.zeros(1, len(LABELS), dtype=torch.bool)
    return torch.arange(len(LABELS)).unsqueeze(0)


def _interactions(gradient: _Gradients, scores: Tensor, step: float) -> tuple[float, float]:
    """Return the most that another document, and that two others beyond each for itself, change in a gradient."""
    labels, count = torch.tensor(LABELS, dtype=torch.float64), len(LABELS)
    steps = step * torch.eye(count, dtype=torch.float64)
    base = gradient(scores, labels)
    moved = [gradient(scores + steps[j], labels) - base for j in range(count)]
    one = max(_of_others(change, j) for j, change in enumerate(moved))
    for j in range(count):
        for other in OTHER_LABELS:
            changed = labels.clone()
            changed[j] = other
            one = max(one, _of_others(gradient(scores, changed) - base, j))
    two = 0.0
    for j in range(count):
        for k in range(j):
            both = gradient(scores + steps[j] + steps[k], labels) - base
            two = max(two, _of_others(both - moved[j] - moved[k], j, k))
    return one, two


def _of_others(change: Tensor, *moved: int) -> float:
    """Return the largest entry of ``change`` [list] at a document that was not moved."""
    left = change.abs()
    left[list(moved)] = 0
    return float(left.max())
