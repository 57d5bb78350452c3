r"""AdaRank: which singular components of several task updates are kept is learned where they meet.

    W' = W + sum_i sum_j m_ij sigma_ij u_ij v_ij^T,    m_ij = [theta_ij > 0]
    minimise the entropy of the model's predictions on unlabelled inputs over theta, with dm / dtheta = m (1 - m)
    of sigmoid(theta) (straight through)

sigma, u, v are the singular triplets of each adapter's dW_i (on its factors). What is minimised is handed in as
a function, so that a ranker's is the entropy of the softmax over each candidate list (``list_entropy``). The
result is a plain set of factors: the masked components of all adapters.

Lee et al., AdaRank: Adaptive Rank Pruning for Enhanced Model Merging, 2025, arXiv:2503.22178.

*Deviations*: the task updates are adapters' instead of differences of whole models, with a weight each.

It steps by itself and not through the training loop: this wing knows no ranker, and what is minimised is a function of
the caller.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lorank.catalogue import catalogued
from lorank.errors import UsageError
from lorank.lowrank.algebra.combine import weights_of
from lorank.lowrank.algebra.factors import cut, decompose, scale
from lorank.lowrank.algebra.sets import FactorSet
from lorank.lowrank.algebra.stacked import gated, stack_sets
from lorank.lowrank.forms.form import Factors


class AdaRanked(NamedTuple):
    """The merged updates, the mask [components] of each layer in the adapters' order, the objective by step."""

    factors: dict[str, Factors]
    masks: dict[str, Tensor]
    objective: list[float]


def list_entropy(scores: Tensor, mask: Tensor) -> Tensor:
    """Return the mean entropy of softmax(scores) over each list.

    Args:
        scores: [batch, list].
        mask: [batch, list], True at real documents.

    >>> list_entropy(torch.zeros(1, 3), torch.tensor([[True, True, False]])).item()
    0.693...
    """
    log_p = torch.log_softmax(scores.masked_fill(~mask, -torch.inf), -1)
    return -(log_p.exp() * log_p.masked_fill(~mask, 0.0)).sum(-1).mean()


@catalogued(
    "adarank-merge",
    area="adapters.merge",
    title="AdaRank: Adaptive Rank Pruning for Enhanced Model Merging",
    reach="Python alone: it takes an objective over unlabelled inputs as a function",
)
def adarank(
    model: nn.Module,
    sets: Sequence[FactorSet],
    objective: Callable[[nn.Module], Tensor],
    *,
    weights: Sequence[float] | None = None,
    steps: int = 100,
    lr: float = 0.1,
    start: float = 1.0,
) -> AdaRanked:
    """Merge adapters by keeping the singular components that make ``model`` sure of itself.

    Args:
        model: the base, without adapters; left as it was.
        sets: the updates of each adapter; all have the same layers.
        objective: the model with the updates on -> the entropy of its predictions on unlabelled inputs.
        weights: of each adapter; None takes 1 each, task arithmetic.
        steps: of Adam over theta, from 0 up; 0 keeps every component.
        lr: its learning rate.
        start: theta at the start, above 0.
    """
    if not start > 0:
        raise UsageError(f"start {start!r} is not above 0, so that no component would be kept")
    shares = [1.0] * len(sets) if weights is None else weights_of(sets, weights)
    parts = [
        {path: cut(decompose(scale(own, share)), None, None) for path, own in factors.items()}
        for factors, share in zip(sets, shares, strict=True)
    ]
    stacked = stack_sets(parts)
    theta = {
        path: torch.full((len(pair.A),), start, device=pair.A.device, requires_grad=True)
        for path, pair in stacked.items()
    }
    optimizer = torch.optim.Adam(theta.values(), lr=lr)
    seen: list[float] = []
    with gated(model, stacked, lambda path: straight_through(theta[path])):
        for _ in range(steps):
            value = objective(model)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            seen.append(value.item())
    masks = {path: own.detach() > 0 for path, own in theta.items()}
    kept = {path: Factors(pair.A[masks[path]], pair.B[:, masks[path]], 1.0) for path, pair in stacked.items()}
    return AdaRanked(kept, masks, seen)


def straight_through(theta: Tensor) -> Tensor:
    """Return [theta > 0] with the gradient of sigmoid(theta).

    >>> theta = torch.tensor([2.0, -2.0], requires_grad=True); straight_through(theta).tolist()
    [1.0, 0.0]
    """
    soft = torch.sigmoid(theta)
    return (theta > 0).to(theta.dtype) + soft - soft.detach()
