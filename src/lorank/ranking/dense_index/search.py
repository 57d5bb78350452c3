"""Exact search of many vectors by blocks, in memory that does not grow with their number.

    top(q) = the ``depth`` documents of highest s(q, d), ties by position

A block of parts is read, scored for a group of queries by one product of matrices, and only what beats a query's
present last place is kept: memory is O(block * (dim + queries) + queries * depth). The result is that of one product
with all vectors, whatever the blocks.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from lorank.progress import ProgressCallback
from lorank.ranking.scorers.encoded import EncodedDocuments

BLOCK = 8192
"""The parts of documents that are scored at once."""
QUERIES = 256
"""The queries that are scored at once."""


def search_blocks(
    queries: np.ndarray,
    segments: Sequence[EncodedDocuments],
    depth: int,
    *,
    kept: Sequence[np.ndarray] | None = None,
    block: int = BLOCK,
    on_progress: ProgressCallback | None = None,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return for each query the positions int64 and the similarities float32 of its best documents, best first.

    Args:
        queries: The float32 query vectors [queries, dim].
        segments: The documents; a position counts on from one segment to the next.
        depth: The most documents per query, 1 or more.
        kept: The bool [documents] of each segment, False for what is not searched; None searches everything.
        block: The most parts that are scored at once, 1 or more; a document with more is scored alone.
        on_progress: It receives the number of products of a block with a group of queries and their total.

    >>> documents = EncodedDocuments(np.eye(3, dtype=np.float32), np.arange(3), np.zeros(3, bool))
    >>> [(at.tolist(), best.tolist()) for at, best in search_blocks(np.eye(3, dtype=np.float32)[1:2], [documents], 2)]
    [([1, 0], [1.0, 0.0])]
    """
    found: list[tuple[np.ndarray, np.ndarray]] = []
    groups = [queries[i : i + QUERIES] for i in range(0, len(queries), QUERIES)]
    blocks = [list(_blocks(segment, block)) for segment in segments]
    total, done = len(groups) * sum(map(len, blocks)), 0
    for group in groups:
        best = [(np.zeros(0, np.int64), np.zeros(0, np.float32)) for _ in group]
        before = 0
        for number, segment in enumerate(segments):
            for begin, end in blocks[number]:
                scores = segment.part(begin, end).similarity_table(group)
                known = None if kept is None else np.flatnonzero(kept[number][begin:end])
                if known is not None and len(known) < end - begin:
                    scores = scores[:, known]
                else:
                    known = np.arange(end - begin)
                for i, row in enumerate(scores):
                    best[i] = _merged(best[i], row, known + (before + begin), depth)
                done += 1
                if on_progress is not None:
                    on_progress(done, total)
            before += len(segment)
        found += best
    return found


def _merged(
    best: tuple[np.ndarray, np.ndarray], scores: np.ndarray, positions: np.ndarray, depth: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best so far with a block's documents taken in; ``positions`` come after all that are there."""
    if len(best[0]) == depth:
        better = np.flatnonzero(scores > best[1][-1])
    elif len(scores) > depth:
        better = np.flatnonzero(scores >= np.partition(scores, len(scores) - depth)[len(scores) - depth])
    else:
        better = np.arange(len(scores))
    if not len(better):
        return best
    at = np.concatenate([best[0], positions[better]])
    values = np.concatenate([best[1], scores[better]])
    order = np.argsort(-values, kind="stable")[:depth]
    return at[order], values[order]


def _blocks(segment: EncodedDocuments, block: int) -> Iterator[tuple[int, int]]:
    """Yield the first and the end of runs of documents that have ``block`` parts at most."""
    begin = 0
    ends = np.append(segment.begins[1:], len(segment.vectors)) if len(segment) else np.zeros(0, np.int64)
    while begin < len(segment):
        end = int(np.searchsorted(ends, segment.begins[begin] + block, side="right"))
        end = max(end, begin + 1)
        yield begin, end
        begin = end
