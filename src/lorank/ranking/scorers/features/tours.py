r"""Open tours: the order of a list that maximises the sum of its neighbours' scores.

    tour(A) = \arg\max_\pi \sum_{p=1}^{n-1} a_{\pi_p \pi_{p+1}}

Lists of at most ``EXACT`` documents are solved exactly (Held and Karp's recursion over sets, 2^n n^2 steps for all
lists of a batch at once); longer ones by a beam that extends the best partial tours by one document at a time. With
``grades`` only tours that visit grades in descending order are searched.

Paper: M. Held and R. M. Karp, A Dynamic Programming Approach to Sequencing Problems, 1962.
"""

from functools import partial

import torch
from torch import Tensor

EXACT = 9
"""Lists up to this size are solved exactly."""


def tour_score(pairs: Tensor, order: Tensor, sizes: Tensor) -> Tensor:
    """Return the sum of neighbours' scores along ``order``, [batch]; differentiable by ``pairs`` [batch, list, list].

    >>> tour_score(torch.tensor([[[0.0, 1.0], [5.0, 0.0]]]), torch.tensor([[1, 0]]), torch.tensor([2]))
    tensor([5.])
    """
    batch = torch.arange(len(order), device=order.device).unsqueeze(1)
    steps = pairs[batch, order[:, :-1], order[:, 1:]]
    place = torch.arange(1, order.shape[1], device=order.device)
    return torch.where(place < sizes.unsqueeze(1), steps, 0.0).sum(1)


def best_tour(pairs: Tensor, mask: Tensor, grades: Tensor | None = None, *, beam: int = 8) -> Tensor:
    """Return the order int64 [batch, list] of the best open tour; masked places come last.

    Args:
        pairs: [batch, list, list], the score a_ij of j following i.
        mask: bool [batch, list].
        grades: [batch, list]; when given, a document may only follow one of the same grade or above.
        beam: Partial tours that are kept on lists too long for the exact solution.

    >>> chain = torch.full((4, 4), -1.0)
    >>> chain[[2, 0, 3], [0, 3, 1]] = 1.0
    >>> best_tour(chain.unsqueeze(0), torch.ones(1, 4, dtype=torch.bool))
    tensor([[2, 0, 3, 1]])
    """
    pairs, size = pairs.detach().double(), mask.shape[1]
    if size <= 1 or not len(mask):
        return torch.zeros(mask.shape, dtype=torch.int64, device=mask.device)
    pairs = _with_padding_last(pairs, mask)
    stages = torch.where(mask, 0.0 if grades is None else grades.double(), -torch.inf)
    lead = pairs.sum(2) - pairs.sum(1)  # documents that are good to leave and bad to come to start well
    pairs = pairs.masked_fill(stages.unsqueeze(1) > stages.unsqueeze(2), -1e30)
    first = mask.to(torch.uint8).argsort(dim=1, descending=True, stable=True)  # documents before padding
    order = first.clone()
    small = mask.sum(1) <= EXACT
    for chosen, solve in ((small, _exact), (~small, partial(_beam, beam=beam))):
        if chosen.any():
            longest = max(2, int(mask[chosen].sum(1).max()))
            own = first[chosen, :longest]
            every = torch.arange(len(own)).unsqueeze(1)
            part = pairs[chosen][every.unsqueeze(2), own.unsqueeze(2), own.unsqueeze(1)]
            found = solve(part, stages[chosen].gather(1, own), lead[chosen].gather(1, own))
            order[chosen, :longest] = own.gather(1, found)
    return order


def _with_padding_last(pairs: Tensor, mask: Tensor) -> Tensor:
    """Steps to padding cost nothing; steps from padding to a document are out of the question (see ``stages``)."""
    both = mask.unsqueeze(1) & mask.unsqueeze(2)
    return torch.where(both, pairs, 0.0)


def _exact(pairs: Tensor, stages: Tensor, lead: Tensor) -> Tensor:
    batch, size, _ = pairs.shape
    first = stages == stages.amax(1, keepdim=True)
    best = pairs.new_full((batch, 1 << size, size), -torch.inf)  # of tours through a set that end at a document
    before = torch.zeros(batch, 1 << size, size, dtype=torch.int8)
    for i in range(size):
        best[:, 1 << i, i] = torch.where(first[:, i], 0.0, -1e30)
    for visited in range(1, 1 << size):
        inside = [i for i in range(size) if visited >> i & 1]
        if len(inside) < 2:
            continue
        for last in inside:
            rest = visited ^ (1 << last)
            value, place = (best[:, rest] + pairs[:, :, last]).max(1)
            best[:, visited, last], before[:, visited, last] = value, place.to(torch.int8)
    every = torch.arange(batch)
    visited = torch.full((batch,), (1 << size) - 1)
    order, last = torch.zeros(batch, size, dtype=torch.int64), best[:, -1].argmax(1)
    for place in range(size - 1, -1, -1):
        order[:, place] = last
        previous = before[every, visited, last].long()
        visited, last = visited & ~(1 << last), previous
    return order


def _beam(pairs: Tensor, stages: Tensor, lead: Tensor, beam: int) -> Tensor:
    batch, size, _ = pairs.shape
    every = torch.arange(batch).unsqueeze(1)
    width = min(beam, size)
    first = lead.masked_fill(stages != stages.amax(1, keepdim=True), -torch.inf)
    value = torch.where(first.topk(width, 1).values > -torch.inf, 0.0, -torch.inf).double()
    last = first.topk(width, 1).indices
    free = torch.ones(batch, width, size, dtype=torch.bool).scatter_(2, last.unsqueeze(2), False)
    orders = last.unsqueeze(2)
    for _ in range(size - 1):
        stage = stages.unsqueeze(1).expand(-1, free.shape[1], -1)
        open_now = free & (stage == stage.masked_fill(~free, -torch.inf).amax(2, keepdim=True))
        extended = (value.unsqueeze(2) + pairs[every, last]).masked_fill(~open_now, -torch.inf).flatten(1)
        value, chosen = extended.topk(min(beam, extended.shape[1]), 1)
        parent, last = chosen // size, chosen % size
        free = free[every, parent].scatter(2, last.unsqueeze(2), False)
        orders = torch.cat([orders[every, parent], last.unsqueeze(2)], 2)
    return orders[:, 0]
