r"""Open tours: the order of a list that maximises the sum of its neighbours' scores.

    tour(A) = \arg\max_\pi \sum_{p=1}^{n-1} a_{\pi_p \pi_{p+1}}

Lists of at most ``EXACT`` documents are solved exactly (Held and Karp's recursion over sets, 2^n n^2 steps for all
lists of a batch at once). Longer ones are not: a beam extends the best partial tours by one document at a time, and
its tours (all up to 20 documents, then the best few) are improved by moving blocks of neighbours to another place, the
best move first, until no move helps. What comes out is no worse than the beam's best tour and cannot be bettered by one
such move; it may still be below the optimum. With ``grades`` only tours that visit grades in descending order are
searched.

Papers: M. Held and R. M. Karp, A Dynamic Programming Approach to Sequencing Problems, 1962; I. Or, Traveling
Salesman-type Combinatorial Problems, 1976 (block moves).
"""

from functools import partial

import torch
from torch import Tensor

EXACT = 12
"""Lists up to this size are solved exactly."""

_ALL_TOURS = 20
"""Up to this size all tours of the beam are improved, beyond it fewer, since a pass costs n^2."""

_LONG = 48
"""Up to this size blocks of up to 8 neighbours move together, beyond it of up to 3."""

_AT_ONCE = 32
"""Lists that are solved exactly together: 2^n n numbers each are held."""

_WORSE = 1e-9
"""A move helps where it gains more, relative to the largest score of a pair."""

_FORBIDDEN = -1e30
"""The score of a step that is out of the question."""


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
        beam: Partial tours that are kept on lists too long for the exact solution; the tours found there need not be
            the best.

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
    pairs = pairs.masked_fill(stages.unsqueeze(1) > stages.unsqueeze(2), _FORBIDDEN)
    first = mask.to(torch.uint8).argsort(dim=1, descending=True, stable=True)  # documents before padding
    order = first.clone()
    small = mask.sum(1) <= EXACT
    for chosen, solve in ((small, _exact), (~small, partial(_search, beam=beam))):
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
    """Return the best tour of each list, ``_AT_ONCE`` of them at a time."""
    parts = zip(pairs.split(_AT_ONCE), stages.split(_AT_ONCE), strict=True)
    return torch.cat([_held_karp(part, own) for part, own in parts])


def _held_karp(pairs: Tensor, stages: Tensor) -> Tensor:
    batch, size, _ = pairs.shape
    first = stages == stages.amax(1, keepdim=True)
    best = pairs.new_full((batch, 1 << size, size), -torch.inf)  # of tours through a set that end at a document
    before = torch.zeros(batch, 1 << size, size, dtype=torch.int8)
    sets = torch.arange(1 << size)
    held = sum((sets >> i) & 1 for i in range(size))
    for i in range(size):
        best[:, 1 << i, i] = torch.where(first[:, i], 0.0, _FORBIDDEN)
    for many in range(2, size + 1):
        layer = sets[held == many]
        for last in range(size):
            visited = layer[(layer >> last) & 1 == 1]
            value, place = (best[:, visited ^ (1 << last)] + pairs[:, None, :, last]).max(2)
            best[:, visited, last], before[:, visited, last] = value, place.to(torch.int8)
    every = torch.arange(batch)
    visited = torch.full((batch,), (1 << size) - 1)
    order, last = torch.zeros(batch, size, dtype=torch.int64), best[:, -1].argmax(1)
    for place in range(size - 1, -1, -1):
        order[:, place] = last
        previous = before[every, visited, last].long()
        visited, last = visited & ~(1 << last), previous
    return order


def _search(pairs: Tensor, stages: Tensor, lead: Tensor, beam: int) -> Tensor:
    """Return the best of the beam's tours after each was improved, [batch, list]."""
    size = pairs.shape[1]
    tours = _beam(pairs, stages, lead, beam)
    tours = tours if size <= _ALL_TOURS else tours[:, : max(1, (_ALL_TOURS * beam) // size**2)]
    batch, many, _ = tours.shape
    repeated = pairs.repeat_interleave(many, 0)
    improved = improve_tours(repeated, tours.flatten(0, 1))
    sizes = torch.full((batch * many,), size)
    scores = tour_score(repeated, improved, sizes).view(batch, many)
    return improved.view(batch, many, size)[torch.arange(batch), scores.argmax(1)]


def improve_tours(pairs: Tensor, orders: Tensor) -> Tensor:
    """Return the orders [batch, list] after the best block moves, one at a time, until none helps.

    Moving the block from s to e, whose neighbours are p and q, between u and v changes the score by
    a_us + a_ev - a_uv - (a_ps + a_eq - a_pq); beyond the ends of an open tour every a is 0.
    """
    batch, size = orders.shape
    padded = torch.nn.functional.pad(pairs, (0, 1, 0, 1))
    least = _WORSE * pairs.abs().where(pairs > _FORBIDDEN / 2, 0.0).amax((1, 2)).clamp(min=1e-30)
    orders, going = orders.clone(), torch.arange(batch)
    for _ in range(4 * size):
        if not len(going):
            break
        gain, start, length, gap = _best_move(padded[going], orders[going])
        helps = gain > least[going]
        going, start, length, gap = going[helps], start[helps], length[helps], gap[helps]
        orders[going] = _move(orders[going], start, length, gap)
    return orders


def _best_move(padded: Tensor, orders: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gain of each list's best move, the block's first place, its length, and the gap that it goes to."""
    batch, size = orders.shape
    ends = torch.full((batch, 1), size)
    path = torch.cat([ends, orders, ends], 1)
    along = padded[torch.arange(batch)[:, None, None], path.unsqueeze(2), path.unsqueeze(1)]
    gaps = torch.arange(size + 1)
    broken = along[:, gaps, gaps + 1].unsqueeze(1)  # of the steps into which a block may go
    best = (padded.new_full((batch,), -torch.inf), *(torch.zeros(batch, dtype=torch.int64) for _ in range(3)))
    for length in range(1, min(8 if size <= _LONG else 3, size - 1) + 1):
        first = torch.arange(1, size - length + 2)
        last = first + length - 1
        out = along[:, first - 1, first] + along[:, last, last + 1] - along[:, first - 1, last + 1]
        into = along[:, :-1][:, :, first].transpose(1, 2) + along[:, last][:, :, 1:] - broken
        inside = (gaps >= first.unsqueeze(1) - 1) & (gaps <= last.unsqueeze(1))
        change = (into - out.unsqueeze(2)).masked_fill(inside, -torch.inf).flatten(1)
        gain, place = change.max(1)
        better = gain > best[0]
        found = (gain, place // (size + 1), torch.full_like(place, length), place % (size + 1))
        best = tuple(torch.where(better, new, old) for new, old in zip(found, best, strict=True))  # type: ignore[assignment]
    return best


def _move(orders: Tensor, start: Tensor, length: Tensor, gap: Tensor) -> Tensor:
    """Return orders [batch, list] with the block at ``start`` put before what stood at place ``gap``."""
    place = torch.arange(orders.shape[1], dtype=torch.float64).expand(orders.shape)
    block = (place >= start.unsqueeze(1)) & (place < (start + length).unsqueeze(1))
    inside = gap.unsqueeze(1) - 0.5 + (place - start.unsqueeze(1)) / (2 * orders.shape[1])
    return orders.gather(1, torch.where(block, inside, place).argsort(dim=1, stable=True))


def _beam(pairs: Tensor, stages: Tensor, lead: Tensor, beam: int) -> Tensor:
    """Return the tours that the beam ends with, [batch, tours, list], the best first."""
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
    return orders
