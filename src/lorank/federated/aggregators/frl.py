r"""FRL: clients send the order of their edges, and the server adds up ranks (a Borda vote).

    v(e) = sum_i rank_i(e),    rank_i(e) = how many edges of the layer client i puts below e

The edges in the order of v are the new order of all; each client writes evenly spaced scores back in that order, so
that their sizes never drift. One client moves an edge's vote by n - 1 at most, however it lies: a malicious one has
no more say than any other, where a mean has no bound. Bytes per client and layer, each way: n ceil(log2 n) / 8 of n =
2 r out edges. The adapter is ``edge-popup``; heads cannot be voted on and stay local.

Mozaffari et al., FRL: Federated Rank Learning, 2021, arXiv:2110.04350 (Every Vote Counts, USENIX Security 2023).

*Deviations*: the published code writes the sorted first scores of the random network back; these are even steps from -1
to 1. Every client has one vote, whatever its number of queries.
"""

import math

import numpy as np
import torch
from torch import Tensor

from lorank.errors import LorankError
from lorank.federated.aggregators.core.aggregator import Aggregator, State, Upload, Uploads, aggregator
from lorank.federated.layout import Layout, layer_of
from lorank.federated.messages import Message

SCORES = "scores"


@aggregator("frl", title="FRL: Federated Rank Learning")
class FRL(Aggregator):
    """The Borda vote over the orders of edges, layer by layer."""

    adapter = "edge-popup"
    needs = (SCORES,)
    votes = True

    def pick(self, state: State, layout: Layout) -> Message:
        names = [name for name in layout.updates() if name.endswith(f".{SCORES}")]
        sent = {name: torch.sort(state[name].flatten(), stable=True).indices for name in names}
        return {f"{layer_of(name)}.order{len(order)}": pack_order(order) for name, order in sent.items()}

    def accept(self, upload: Upload, last: Message) -> None:
        super().accept(upload, last)
        for name, packed in upload.tensors.items():
            unpack_order(packed, edges_of(name))

    def aggregate(self, uploads: Uploads, last: Message) -> Message:
        names = sorted({name for upload in uploads.values() for name in upload.tensors})
        voted = {}
        for name in names:
            count = edges_of(name)
            orders = [unpack_order(each.tensors[name], count) for each in uploads.values() if name in each.tensors]
            voted[name] = pack_order(torch.sort(borda_points(orders), stable=True).indices)
        return voted

    def install(self, state: State, message: Message, layout: Layout) -> dict[str, Tensor]:
        made = dict(state)
        for name, packed in message.items():
            place = f"{layer_of(name)}.{SCORES}"
            order = unpack_order(packed, edges_of(name))
            levels = torch.linspace(-1, 1, len(order), dtype=state[place].dtype)
            made[place] = torch.empty_like(levels).scatter_(0, order, levels).view_as(state[place])
        return made


def borda_points(orders: list[Tensor]) -> Tensor:
    """Return how many edges all voters together put below each edge, int64 [n].

    Args:
        orders: A permutation int64 [n] per voter, the lowest edge first.

    >>> borda_points([torch.tensor([0, 1, 2]), torch.tensor([1, 0, 2])]).tolist()
    [1, 1, 4]
    """
    ranks = torch.arange(len(orders[0]))
    total = torch.zeros(len(orders[0]), dtype=torch.int64)
    for order in orders:
        total[order] += ranks
    return total


def pack_order(order: Tensor) -> Tensor:
    """Return a permutation int64 [n] as uint8 [ceil(n b / 8)], with b = ceil(log2 n) bits per entry.

    >>> len(pack_order(torch.arange(16)))
    8
    """
    bits = bits_of(len(order))
    table = (order.numpy()[:, None] >> np.arange(bits)) & 1
    return torch.from_numpy(np.packbits(table.astype(np.uint8).ravel()))


def unpack_order(packed: Tensor, count: int) -> Tensor:
    """Return the permutation int64 [count] in ``packed``.

    Raises:
        LorankError: If it is no permutation of so many edges.

    >>> unpack_order(pack_order(torch.tensor([2, 0, 1])), 3).tolist()
    [2, 0, 1]
    """
    bits = bits_of(count)
    if packed.dtype != torch.uint8 or packed.numel() != math.ceil(count * bits / 8):
        raise LorankError(f"a vote over {count} edges has {math.ceil(count * bits / 8)} bytes, not {packed.numel()}")
    table = np.unpackbits(packed.numpy())[: count * bits].reshape(count, bits).astype(np.int64)
    order = torch.from_numpy((table << np.arange(bits)).sum(1))
    if not torch.equal(torch.sort(order).values, torch.arange(count)):
        raise LorankError(f"a vote over {count} edges lists one of them twice; it is not counted")
    return order


def bits_of(count: int) -> int:
    """Return ceil(log2 count), and 1 at least.

    >>> [bits_of(count) for count in (1, 2, 3, 1024, 1025)]
    [1, 1, 2, 10, 11]
    """
    return max(1, (count - 1).bit_length())


def edges_of(name: str) -> int:
    """Return how many edges a tensor called ``layer.orderN`` lists.

    >>> edges_of("encoder.query.order16")
    16
    """
    tail = name.rpartition(".")[2]
    if not tail.startswith("order") or not tail[5:].isdigit():
        raise LorankError(f"{name!r} is no vote of edges")
    return int(tail[5:])
