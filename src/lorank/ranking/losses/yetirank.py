r"""YetiRank and YetiLoss: pairs that are neighbours in some perturbed order, weighed by what a swap would cost.

    l = \frac{1}{M} \sum_m \sum_{p=1}^{n-1} w_{ab} \log(1 + \exp(-(s_better - s_worse)))

where a, b are the documents at places p and p + 1 of the m-th perturbed order, better and worse by label, and w_ab
the change of a measure when the two swap there. Swapping neighbours touches no other place, so that with g = gain,
D(p) = \log_2(1 + p) and c the number of relevant documents above p:

    ndcg   |g_a - g_b| |1/D(p) - 1/D(p+1)| / idealDCG
    mrr    [c = 0, one of a, b relevant]  (1/p - 1/(p+1))
    map    [one of a, b relevant]  (c + 1) (1/p - 1/(p+1)) / R,   R relevant in all
    err    \prod_{q < p} (1 - \rho_q)  |\rho_a - \rho_b| (1/p - 1/(p+1)),   \rho = (2^y - 1) / 2^{grades}

Weights are constants of the step. Cost grows as M n, without pairs of a whole list.

Paper: A. Gulin, I. Kuralenok, D. Pavlov, Winning the Transfer Learning Track of Yahoo!'s Learning to Rank Challenge
with YetiRank, 2011; I. Lyzhin, A. Ustimenko, A. Gulin, L. Prokhorenkova, Which Tricks Are Important for Learning to
Rank?, ICML 2023 (YetiLoss).

*Deviations*: the first YetiRank weighs neighbours by label difference and a decay of the place; CatBoost and the
second paper by the change of a measure, which is what is here. Noise: see :mod:`lorank.ranking.losses.core.noise`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lorank.catalogue import catalogued
from lorank.ranking.losses.core.lists import (
    Lists,
    canonicalise,
    check_positive,
    choose,
    clean,
    discounts,
    normalized_gains,
)
from lorank.ranking.losses.core.noise import NOISES, draw
from lorank.ranking.losses.core.registry import register_loss


@dataclass(frozen=True)
class Order:
    """Documents in a perturbed order: labels and nDCG gains [lists, list], 0 behind the last document."""

    labels: Tensor
    gains: Tensor
    grades: float

    @property
    def relevant(self) -> Tensor:
        """1 where the label is above 0."""
        return (self.labels > 0).to(self.gains)

    def place(self) -> Tensor:
        """1, 2, ..., n - 1: the upper places of neighbours."""
        return torch.arange(1, self.gains.shape[1], device=self.gains.device, dtype=self.gains.dtype)


def _gap(values: Tensor) -> Tensor:
    return (values[:, :-1] - values[:, 1:]).abs()


def _step(order: Order) -> Tensor:
    return 1 / order.place() - 1 / (order.place() + 1)


def _ndcg(order: Order) -> Tensor:
    return _gap(order.gains) * (discounts(order.place()) - discounts(order.place() + 1))


def _mrr(order: Order) -> Tensor:
    found = order.relevant.cumsum(1) - order.relevant
    return (found[:, :-1] == 0) * _gap(order.relevant) * _step(order)


def _map(order: Order) -> Tensor:
    above = order.relevant.cumsum(1) - order.relevant
    total = order.relevant.sum(1, keepdim=True).clamp(min=1)
    return _gap(order.relevant) * (above[:, :-1] + 1) * _step(order) / total


def _err(order: Order) -> Tensor:
    stop = (torch.exp2(order.labels) - 1) / 2**order.grades
    go_on = F.pad((1 - stop).cumprod(1), (1, 0), value=1.0)[:, :-2]
    return go_on * _gap(stop) * _step(order)


MEASURES: dict[str, Callable[[Order], Tensor]] = {"ndcg": _ndcg, "mrr": _mrr, "map": _map, "err": _err}


@catalogued("ltr-tricks", area="losses.supervised", title="Which Tricks are Important for Learning to Rank?")
@register_loss(
    "yetirank",
    title="Winning the Transfer Learning Track of Yahoo!'s Learning to Rank Challenge with "
    "YetiRank; YetiLoss for a chosen measure",
    aliases=("yetiloss",),
)
def yetirank(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    measure: str = "ndcg",
    samples: int = 10,
    noise: str = "gumbel",
    beta: float = 1.0,
    gain: str = "exponential",
    grades: float = 4.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the mean over lists, summed over neighbours and averaged over perturbed orders.

    Args:
        scores: [batch, list].
        labels: Grades [batch, list], 0 and up; above 0 is relevant for ``mrr`` and ``map``.
        mask: bool [batch, list], True where there is a document.
        weights: [batch] or [batch, list]; a pair has the weight of its more relevant document.
        measure: ``ndcg`` (YetiRank), ``mrr``, ``map`` or ``err``.
        samples: Perturbed orders M, 1 or more.
        noise: ``gumbel``, ``logistic`` or ``normal``.
        beta: Size of the noise, above 0.
        gain: Of ``ndcg``: ``exponential`` (2^y - 1) or ``linear``.
        grades: Of ``err``: the highest grade; labels above count as it.
        generator: Where noise comes from; None for the same noise at every call.

    Returns:
        A scalar, 0 or more.

    >>> import math
    >>> value = yetirank(torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]]), measure="mrr")   # always neighbours
    >>> math.isclose(value, (1 - 1 / 2) * math.log(2), rel_tol=1e-6)
    True
    """
    check_positive(samples=samples, beta=beta, grades=grades)
    weigh = choose("measure", measure, MEASURES)
    choose("noise", noise, NOISES)
    lists = canonicalise(clean(scores, labels, mask, weights))
    gains = normalized_gains(lists, gain, None)
    shaken = lists.scores.detach() + beta * draw(lists, samples, noise, generator)
    order = lists.fill(shaken, -torch.inf).argsort(dim=2, descending=True, stable=True).flatten(0, 1)

    def arranged(values: Tensor) -> Tensor:
        return values.repeat(samples, 1).gather(1, order)

    swap = weigh(
        Order(arranged(lists.labels.clamp(0, grades) if measure == "err" else lists.labels), arranged(gains), grades)
    )
    return lists.mean(_neighbours(lists, arranged, swap).unflatten(0, (samples, len(gains))).mean(0))


def _neighbours(lists: Lists, arranged: Callable[[Tensor], Tensor], swap: Tensor) -> Tensor:
    s, y, there = arranged(lists.scores), arranged(lists.labels), arranged(lists.mask)
    better_above = y[:, :-1] > y[:, 1:]
    margin = torch.where(better_above, s[:, 1:] - s[:, :-1], s[:, :-1] - s[:, 1:])
    swap = torch.where(there[:, 1:] & (y[:, :-1] != y[:, 1:]), swap, 0.0)
    if lists.item_weights is not None:
        w = arranged(lists.item_weights)
        swap = swap * torch.where(better_above, w[:, :-1], w[:, 1:])
    return (swap * F.softplus(margin, threshold=50)).sum(1)
