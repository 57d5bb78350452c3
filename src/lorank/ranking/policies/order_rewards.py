r"""Rewards of orders, written as a sum over places, so that a choice is credited only with what comes after it.

    R(r) = \sum_k t_k,   U_k = \sum_{j \ge k} t_j

The term t_k depends on the documents at places 1..k alone, so U_k is all that the choice at k can still change.

    ndcg   t_k = [k <= K] G_{r_k} / log2(1 + k), G = gain / ideal DCG@K
    rr     t_k = [k <= K, r_k is the first relevant document] / k
    ap     t_k = [r_k relevant] (relevant documents at 1..k) / (k R), R relevant in all
    err    t_k = \rho_{r_k} / k \prod_{j < k} (1 - \rho_{r_j}),  \rho = (2^y - 1) / 2^{grades}

Papers: K. Jarvelin, J. Kekalainen, Cumulated Gain-Based Evaluation of IR Techniques, 2002 (nDCG); O. Chapelle et al.,
Expected Reciprocal Rank for Graded Relevance, CIKM 2009.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ArrangedLists:
    """Documents in the orders that were drawn: all [..., list], 0 behind the last document.

    Attributes:
        labels: Grades, 0 and up.
        gains: gain / ideal DCG@K of each document.
        k: The cutoff K, None for the whole list.
        grades: The highest grade, for ``err``.
    """

    labels: Tensor
    gains: Tensor
    k: int | None
    grades: float

    @property
    def places(self) -> Tensor:
        """1, 2, ..., n."""
        return torch.arange(1, self.gains.shape[-1] + 1, device=self.gains.device, dtype=self.gains.dtype)

    def cut(self, terms: Tensor) -> Tensor:
        """Return ``terms`` with 0 beyond the cutoff."""
        return terms if self.k is None else terms * (self.places <= self.k)


def _ndcg(orders: ArrangedLists) -> Tensor:
    return orders.cut(orders.gains / torch.log2(1 + orders.places))


def _rr(orders: ArrangedLists) -> Tensor:
    relevant = (orders.labels > 0).to(orders.gains)
    return orders.cut(relevant * (relevant.cumsum(-1) == 1) / orders.places)


def _ap(orders: ArrangedLists) -> Tensor:
    relevant = (orders.labels > 0).to(orders.gains)
    return orders.cut(relevant * relevant.cumsum(-1) / orders.places) / relevant.sum(-1, keepdim=True).clamp(min=1)


def _err(orders: ArrangedLists) -> Tensor:
    stop = (torch.exp2(orders.labels.clamp(0, orders.grades)) - 1) / 2**orders.grades
    before = torch.nn.functional.pad((1 - stop).cumprod(-1), (1, 0), value=1.0)[..., :-1]
    return orders.cut(before * stop / orders.places)


ORDER_REWARDS: dict[str, Callable[[ArrangedLists], Tensor]] = {"ndcg": _ndcg, "rr": _rr, "ap": _ap, "err": _err}
"""The terms t_k [..., list] of each reward."""


def rewards_to_go(terms: Tensor) -> Tensor:
    """Return U_k, the sum of the terms from place k on, [..., list].

    >>> rewards_to_go(torch.tensor([1.0, 2.0, 4.0]))
    tensor([7., 6., 4.])
    """
    return terms.flip(-1).cumsum(-1).flip(-1)
