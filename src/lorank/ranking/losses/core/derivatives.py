r"""Every document's gradient and curvature of any loss: what a booster asks of an objective.

    g_i = \partial L / \partial s_i,   h_i > 0 for a Newton step  -\sum g / \sum h  in a leaf

with L the *sum* over lists (boosters expect every list to pull as strongly however many there are). Three ways to h:

    exact    the diagonal of the second derivative, in closed form, for the losses of ``CURVATURES`` (convex ones)
    probes   the diagonal by central differences of the gradient, one place of all lists at a time: any loss at the
             cost of two gradients for every place of the longest list; negative entries count as 0
    trust    h_i = |g_i| + mean_j |g_j| over the list: no curvature but a bound on the step, whose size in a leaf
             never exceeds 1 whatever the loss's scale

``auto`` is ``exact`` where there is a closed form, else ``trust``. All h are at least 1e-6 of their mean.

Paper: J. H. Friedman, Greedy Function Approximation: A Gradient Boosting Machine, 2001; T. Chen and C. Guestrin,
XGBoost, KDD 2016.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.ranking.losses.core.lists import Lists, choose, clean
from lorank.ranking.losses.core.packed import count_of, grids
from lorank.ranking.losses.core.pairs import ordered_pair_weights, ordered_pairs, pair_curvature
from lorank.ranking.losses.core.registry import LOSSES, Loss, loss_options
from lorank.ranking.losses.lambdaloss import lambda_pairs
from lorank.ranking.losses.softmax import TARGETS

Curvature = Callable[..., Tensor]
"""From lists and the loss's options to the diagonal of the second derivative of the lists' sum, [batch, list]."""


def _logistic(scores: Tensor) -> Tensor:
    chance = scores.sigmoid()
    return chance * (1 - chance)


def _bce(lists: Lists, **options: Any) -> Tensor:
    return lists.weigh(_logistic(lists.scores)) / lists.sizes.unsqueeze(1)


def _mse(lists: Lists, **options: Any) -> Tensor:
    return lists.weigh(torch.full_like(lists.scores, 2.0)) / lists.sizes.unsqueeze(1)


def _softmax(lists: Lists, target: str, temperature: float) -> Tensor:
    share = lists.shares(lists.scores, temperature)
    return lists.weigh(TARGETS[target](lists)).sum(1, keepdim=True) * share * (1 - share) / temperature**2


def _kl(lists: Lists, temperature: float) -> Tensor:
    teacher, share = (lists.shares(values, temperature) for values in (lists.labels, lists.scores))
    return lists.weigh(teacher).sum(1, keepdim=True) * share * (1 - share)


def _mean_pairs(lists: Lists, sigma: float = 1.0, **options: Any) -> Tensor:
    winners, weights = ordered_pair_weights(lists)
    return pair_curvature(lists.scores, winners, weights, sigma) / ordered_pairs(lists).clamp(min=1).unsqueeze(1)


def _lambda(lists: Lists, **options: Any) -> Tensor:
    winners, weights = lambda_pairs(lists, **{k: v for k, v in options.items() if k != "sigma"})
    return pair_curvature(lists.scores, winners, weights, options["sigma"]) / np.log(2)


CURVATURES: dict[str, Curvature] = {
    "bce": _bce,
    "mse": _mse,
    "softmax": _softmax,
    "kl": _kl,
    "ranknet": _mean_pairs,
    "dpo": _mean_pairs,
    "lambda": _lambda,
}


def derivatives(
    function: Loss,
    scores: Tensor,
    labels: Tensor,
    offsets: Tensor,
    weights: Tensor | None = None,
    *,
    hessian: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Return g and h of packed lists, both [documents], of the sum over lists.

    Args:
        function: A loss of the registry, with or without options set, or any function of (scores, labels, mask,
            weights) that is a mean over lists.
        scores: [documents].
        labels: [documents].
        offsets: int64 [lists + 1].
        weights: None, or one a document.
        hessian: ``auto``, ``exact``, ``probes`` or ``trust``.

    >>> from lorank.ranking.losses import loss
    >>> g, h = derivatives(loss("bce"), torch.zeros(2), torch.tensor([1.0, 0.0]), torch.tensor([0, 2]))
    >>> g.tolist(), h.tolist()      # (p - y) / 2 and p (1 - p) / 2
    ([-0.25, 0.25], [0.125, 0.125])
    """
    gradient, curvature = torch.zeros_like(scores), torch.zeros_like(scores)
    name, options = _identify(function)
    if hessian == "auto":
        hessian = "exact" if name in CURVATURES else "trust"
    if hessian == "exact" and name not in CURVATURES:
        raise UsageError(
            f"no closed form of the curvature is known for this loss; choose hessian='probes' or 'trust' "
            f"(closed forms: {', '.join(CURVATURES)})"
        )
    for _, places, mask in grids(offsets):
        at = (
            torch.arange(len(scores), device=scores.device).view(places.start, places.stop)
            if isinstance(places, slice)
            else places
        )
        grid = [scores[at], labels[at], mask, None if weights is None else weights[at]]
        own = _gradient(function, *grid)
        gradient[at[mask]] = own[mask]
        if hessian == "exact":
            lists = clean(*grid)
            counted = mask.any(1) if options.get("keep_equal") else lists.signal
            second = torch.where(counted.unsqueeze(1), CURVATURES[name](lists, **options), 0.0)
        else:
            second = choose("hessian", hessian, {"probes": _probe_loss, "trust": _trust})(function, own, *grid)
        curvature[at[mask]] = second[mask]
    floor = 1e-6 * float(curvature.mean()) if len(curvature) else 0.0
    return gradient, curvature.clamp(min=max(floor, 1e-16))


def _identify(function: Loss) -> tuple[str | None, dict[str, Any]]:
    inner, given = (function.func, function.keywords) if isinstance(function, partial) else (function, {})
    name = next((name for name, known in LOSSES.items() if known is inner), None)
    return name, {} if name is None else {**loss_options(name), **given}


def _gradient(function: Loss, scores: Tensor, labels: Tensor, mask: Tensor, weights: Tensor | None) -> Tensor:
    with torch.enable_grad():
        scores = scores.detach().requires_grad_()
        value = function(scores, labels, mask, weights)
        (gradient,) = torch.autograd.grad(value, scores, allow_unused=True) if value.requires_grad else (None,)
    return torch.zeros_like(scores) if gradient is None else gradient * count_of(function, labels, mask)


def _trust(
    function: Loss, gradient: Tensor, scores: Tensor, labels: Tensor, mask: Tensor, weights: Tensor | None
) -> Tensor:
    size = gradient.abs()
    return size + size.sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)


def _probe_loss(
    function: Loss, gradient: Tensor, scores: Tensor, labels: Tensor, mask: Tensor, weights: Tensor | None
) -> Tensor:
    scores, second = scores.double(), torch.zeros_like(scores)
    step = 1e-4
    for place in range(scores.shape[1]):
        shift = torch.zeros_like(scores)
        shift[:, place] = step
        up, down = (_gradient(function, moved, labels, mask, weights) for moved in (scores + shift, scores - shift))
        second[:, place] = ((up - down)[:, place] / (2 * step)).clamp(min=0)
    return second


Boost = Callable[[np.ndarray, Any], tuple[np.ndarray, np.ndarray]]


def lightgbm_objective(function: Loss, *, hessian: str = "auto") -> Boost:
    """Return ``objective`` for ``lightgbm.train``: (predictions, Dataset with group sizes) to gradient and Hessian."""

    def objective(predictions: np.ndarray, data: Any) -> tuple[np.ndarray, np.ndarray]:
        offsets = np.concatenate([[0], np.cumsum(data.get_group())])
        return _of_arrays(function, predictions, data.get_label(), offsets, data.get_weight(), hessian)

    return objective


def xgboost_objective(function: Loss, *, hessian: str = "auto") -> Boost:
    """Return ``obj`` for ``xgboost.train``: (predictions, DMatrix with groups) to gradient and Hessian.

    XGBoost's own weights of ranking data are one a group, and are left to XGBoost's own objectives.
    """

    def objective(predictions: np.ndarray, data: Any) -> tuple[np.ndarray, np.ndarray]:
        offsets = data.get_uint_info("group_ptr")
        return _of_arrays(function, predictions, data.get_label(), offsets, None, hessian)

    return objective


def _of_arrays(
    function: Loss,
    predictions: np.ndarray,
    labels: np.ndarray,
    offsets: np.ndarray,
    weights: np.ndarray | None,
    hessian: str,
) -> tuple[np.ndarray, np.ndarray]:
    tensors = [
        torch.from_numpy(np.ascontiguousarray(values))
        for values in (predictions.astype(np.float64).reshape(-1), labels.astype(np.float64), offsets.astype(np.int64))
    ]
    own = None if weights is None else torch.from_numpy(np.asarray(weights, np.float64))
    gradient, second = derivatives(function, *tensors, own, hessian=hessian)
    return gradient.numpy(), second.numpy()
