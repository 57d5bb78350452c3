"""Which rows share a forward: rows of like length where the model pads, each adapter's rows side by side."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from lorank.serving.forward.rows import Rows


def bands_of(lengths: np.ndarray, *, packs: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows may share a forward, and what each costs in tokens.

    A model that packs takes rows of any lengths at their own cost; one that pads takes lengths within a quarter of
    each other at the cost of the longest.

    >>> bands_of(np.array([100, 105, 10]), packs=True)[1].tolist(), bands_of(np.array([100, 105, 10]), packs=False)
    ([100, 105, 10], (array([20, 20, 10]), array([105, 105,  10])))
    """
    if packs or not len(lengths):
        return np.zeros(len(lengths), np.int64), lengths
    bands = (np.log(np.maximum(lengths, 1)) / np.log(1.25)).astype(np.int64)
    longest = np.zeros(bands.max() + 1, np.int64)
    np.maximum.at(longest, bands, lengths)
    return bands, longest[bands]


def by_adapter(
    rows: Rows, adapters: Sequence[str | None], bands: np.ndarray, *, present: Callable[[str], bool]
) -> Iterator[tuple[str | None, np.ndarray]]:
    """Yield each adapter with its rows of one band, longest first.

    Args:
        rows: the rows of all jobs.
        adapters: [jobs], the adapter of each job; None is the base.
        bands: [rows], from `bands_of`.
        present: tells whether an adapter is in memory: these come first, and among them those of long rows.
    """
    names = list(dict.fromkeys(adapters))
    at = {name: index for index, name in enumerate(names)}
    mine = np.array([at[name] for name in adapters], np.int64)[rows.job]
    absent = np.array([name is not None and not present(name) for name in names])
    mean = np.bincount(mine, rows.lengths, len(names)) / np.maximum(np.bincount(mine, minlength=len(names)), 1)
    place = np.argsort(np.lexsort((-mean, absent)))
    owner = bands * len(names) + place[mine]
    order = np.lexsort((-rows.lengths, owner))
    groups, starts = np.unique(owner[order], return_index=True)
    named = {int(index): name for name, index in zip(names, place)}
    for group, own in zip(groups, np.split(order, starts[1:])):
        yield named[int(group) % len(names)], own


def parts_of(rows: np.ndarray, costs: np.ndarray, budget: int) -> Iterator[np.ndarray]:
    """Divide an adapter's rows so that no part of several rows costs more than ``budget`` tokens.

    >>> [part.tolist() for part in parts_of(np.arange(5), np.array([4, 4, 4, 4, 9]), budget=8)]
    [[0, 1], [2, 3], [4]]
    """
    start = 0
    while start < len(rows):
        ends = np.cumsum(costs[rows[start:]])
        stop = start + max(1, int(np.searchsorted(ends, budget, side="right")))
        yield rows[start:stop]
        start = stop
