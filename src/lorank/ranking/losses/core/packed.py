r"""Packed lists: any loss on lists that lie one behind the other, without padding all of them to the longest.

Lists are grouped by size; each group is laid out as a grid and handed to the loss. As every loss is the mean over the
lists that count (those with signal, or all that hold a document), the groups' values add up exactly:

    l = \frac{\sum_g c_g l_g}{\max(1, \sum_g c_g)},   c_g the number of counted lists of group g

Lists of one size are a view of the packed tensor, which copies nothing; otherwise a grid holds at most a quarter more
places than documents.
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.ranking.losses.core.lists import clean
from lorank.ranking.losses.core.registry import Loss

PackedLoss = Callable[..., Tensor]
"""``loss(scores [documents], labels [documents], offsets [lists + 1], weights=None) -> scalar``."""

SPARE = 1.25
"""The longest list of a grid over its shortest, at most."""


def pack_loss(function: Loss) -> PackedLoss:
    """Return a loss of packed segments that equals ``function`` on the same lists padded.

    The result takes scores [documents], labels [documents], offsets int64 [lists + 1] (list i has the documents
    offsets[i] to offsets[i + 1]), and weights, None, [lists] or [documents] (where the two are equally many: [lists]).

    >>> from lorank.ranking.losses import loss
    >>> softmax = loss("softmax")
    >>> scores, labels = torch.tensor([2.0, 1.0, 0.0, 1.0, 0.0]), torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0])
    >>> both = pack_loss(softmax)(scores, labels, torch.tensor([0, 3, 5]))
    >>> apart = softmax(scores[None, :3], labels[None, :3]) + softmax(scores[None, 3:], labels[None, 3:])
    >>> torch.testing.assert_close(both, apart / 2)
    """

    def of_segments(scores: Tensor, labels: Tensor, offsets: Tensor, weights: Tensor | None = None) -> Tensor:
        _check(scores, labels, offsets, weights)
        per_list = weights is not None and len(weights) == len(offsets) - 1
        total, counted = scores.new_zeros((), dtype=torch.promote_types(scores.dtype, torch.float32)), 0
        for chosen, places, mask in grids(offsets):
            grid = partial(_laid_out, places=places)
            own = grid(labels)
            each = None if weights is None else weights[chosen] if per_list else grid(weights)
            count = count_of(function, own, mask)
            total = total + count * function(grid(scores), own, mask, each)
            counted += count
        return total / max(1, counted)

    return of_segments


def count_of(function: Loss, labels: Tensor, mask: Tensor) -> int:
    """Return the number of lists over which ``function`` takes its mean."""
    every = isinstance(function, partial) and function.keywords.get("keep_equal", False)
    return (
        int(mask.any(1).sum())
        if every
        else int(clean(torch.zeros_like(mask, dtype=torch.float32), labels, mask).signal.sum())
    )


def grids(offsets: Tensor) -> Iterator[tuple[Tensor, slice | Tensor, Tensor]]:
    """Yield, for groups of lists alike in size, the lists' numbers, their documents' places, and the mask.

    Places are a slice where the group is all lists, of one size; else int64 [lists, longest], 0 where masked.

    >>> [(chosen.tolist(), list(mask.shape)) for chosen, _, mask in grids(torch.tensor([0, 4, 5, 10, 10]))]
    [([2, 0], [2, 5]), ([1], [1, 1])]
    """
    bounds = offsets.cpu().numpy()
    sizes = np.diff(bounds)
    if len(sizes) and sizes[0] > 0 and (sizes == sizes[0]).all():
        shape = len(sizes), int(sizes[0])
        yield torch.arange(len(sizes)), slice(*shape), torch.ones(shape, dtype=torch.bool, device=offsets.device)
        return
    order = np.argsort(-sizes, kind="stable")
    order = order[sizes[order] > 0]
    start = 0
    while start < len(order):
        longest = int(sizes[order[start]])
        stop = start + int(np.searchsorted(-sizes[order[start:]], -longest / SPARE, side="right"))
        chosen = order[start:stop]
        place = np.arange(longest)
        mask = place < sizes[chosen][:, None]
        places = np.where(mask, bounds[chosen][:, None] + place, 0)
        yield (
            torch.from_numpy(chosen),
            torch.from_numpy(places).to(offsets.device),
            torch.from_numpy(mask).to(offsets.device),
        )
        start = stop


def _laid_out(values: Tensor, places: slice | Tensor) -> Tensor:
    return values.view(places.start, places.stop) if isinstance(places, slice) else values[places]


def _check(scores: Tensor, labels: Tensor, offsets: Tensor, weights: Tensor | None) -> None:
    if scores.dim() != 1 or labels.shape != scores.shape:
        raise UsageError(
            f"packed scores and labels must be [documents] alike; got {list(scores.shape)} and {list(labels.shape)}"
        )
    if (
        offsets.dim() != 1
        or len(offsets) < 1
        or int(offsets[0]) != 0
        or int(offsets[-1]) != len(scores)
        or bool((offsets[1:] < offsets[:-1]).any())
    ):
        raise UsageError(f"offsets must rise from 0 to the number of documents, {len(scores)}")
    if weights is not None and weights.shape not in (scores.shape, (len(offsets) - 1,)):
        raise UsageError(
            f"packed weights must be [lists] = [{len(offsets) - 1}] or [documents] = [{len(scores)}]; "
            f"got {list(weights.shape)}"
        )
