r"""Negatives from a bin of distances: how far a negative is from the query is what a policy chooses.

    bins: the encoder's best ``depth`` documents that are not relevant, cut by place into ``BINS`` of equal size
    p(d) = 1 / |bin|  for the documents of the bin in turn, 0 for all others

A policy that is uniform over the bins gives each of the best ``depth`` documents the same chance: that of a sampler
that draws from them without a policy. See `lorank.training.hooks.adaptive_sampling`.
"""

from dataclasses import dataclass

import numpy as np

from lorank.data.candidates import TrainingList
from lorank.training.lists.negatives import LiveLists

BINS = 5
"""The bins of distance."""
DRAWN = 8
"""The negatives of a list, where the recipe does not say how many."""


@dataclass
class BinnedLists(LiveLists):
    """Lists whose negatives are drawn from the bin ``turn`` of the encoder's best ``width`` documents."""

    count: int = DRAWN
    turn: int = 0

    def take(self, drawn: TrainingList, hard: np.ndarray, similarities: np.ndarray) -> np.ndarray:
        """Draw from the bin, as a function of the seed, the epoch, the query, the bin and the encoder."""
        epoch = 0 if self._drawn is None else self._drawn[0]
        rng = np.random.default_rng([self.seed, epoch, self.query_at[drawn.query_id], 3, self.turn])
        places = bin_places(len(hard), self.turn)
        return np.sort(rng.choice(places, min(self.count, len(places)), replace=False))


def bin_places(count: int, turn: int, bins: int = BINS) -> np.ndarray:
    """Return the places int64 that a bin has of ``count`` documents, best first; where they are few, one at least.

    >>> bin_places(10, 0).tolist(), bin_places(10, 4).tolist(), bin_places(3, 4).tolist()
    ([0, 1], [8, 9], [2])
    """
    edges = np.linspace(0, count, bins + 1).round().astype(int)
    places = np.arange(edges[turn], edges[turn + 1])
    return places if len(places) or not count else np.array([min(int(edges[turn]), count - 1)])


def binned_lists(lists: LiveLists, depth: int, count: int | None) -> BinnedLists:
    """Return live lists as lists that draw ``count`` of a bin of the best ``depth``; None takes `DRAWN`."""
    own = {name: getattr(lists, name) for name in LiveLists.__dataclass_fields__ if name[0] != "_"}
    return BinnedLists(**own | {"width": depth}, count=DRAWN if count is None else count)
