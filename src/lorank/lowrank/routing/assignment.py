r"""Balanced assignment by auction: tokens to experts of equal room, with the largest total affinity.

Bertsekas, Auction algorithms for network flow problems, 1992. Every unassigned token bids for the expert of the
largest affinity minus price; an expert keeps its best bids up to its room, and its price is the lowest bid that it
keeps once it is full. With bids raised by at least e over the second best, the total is within tokens * e of the
optimum; e is lowered from run to run (e-scaling), keeping the prices.
"""

import torch
from torch import Tensor

from lorank.errors import UsageError


def balanced_assignment(affinity: Tensor, room: int | None = None, accuracy: float = 1e-6) -> Tensor:
    """Return the expert int64 [tokens] of every token.

    Args:
        affinity: [tokens, experts], finite.
        room: tokens an expert takes; None is tokens / experts, rounded up. All tokens must find room.
        accuracy: bound of the loss against the optimum, a token, in units of the affinities' range.

    >>> balanced_assignment(torch.tensor([[3.0, 0.0], [2.0, 0.0], [1.0, 0.0], [1.0, 0.5]])).tolist()
    [0, 0, 1, 1]
    """
    tokens, experts = affinity.shape
    room = -(-tokens // experts) if room is None else room
    if room * experts < tokens:
        raise UsageError(f"{tokens} tokens do not fit into {experts} experts of {room} each")
    if experts == 1 or tokens == 0:
        return torch.zeros(tokens, dtype=torch.int64, device=affinity.device)
    scores = affinity.detach().double()
    scores = scores - scores.min()
    scale = float(scores.max()) or 1.0
    # Experts with spare room would spoil the bound: dummy tokens without preference fill them.
    full = torch.cat([scores, scores.new_zeros(room * experts - tokens, experts)])
    prices, step, finest = scores.new_zeros(experts), scale / 4, accuracy * scale
    while True:
        holders = _auction(full, prices, room, max(step, finest))
        if step <= finest:
            return holders[:tokens]
        step /= 8


def _auction(scores: Tensor, prices: Tensor, room: int, raise_by: float) -> Tensor:
    """Return the expert of every row, raising ``prices`` in place; every expert ends full."""
    prices -= prices.min()
    holders = torch.full((len(scores),), -1, dtype=torch.int64, device=scores.device)
    bids = scores.new_full((len(scores),), -torch.inf)
    while True:
        free = (holders < 0).nonzero().squeeze(1)
        if not len(free):
            return holders
        best = (scores[free] - prices).topk(2, dim=1)
        wanted = best.indices[:, 0]
        holders[free] = wanted
        bids[free] = prices[wanted] + best.values[:, 0] - best.values[:, 1] + raise_by
        for expert in wanted.unique().tolist():
            own = (holders == expert).nonzero().squeeze(1)
            if len(own) >= room:
                order = bids[own].sort(descending=True, stable=True).indices
                holders[own[order[room:]]] = -1
                prices[expert] = bids[own[order[room - 1]]]
