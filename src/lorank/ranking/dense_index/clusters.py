"""Approximate search: the parts of a segment in lists around centroids; the lists nearest to a query are looked into.

    candidates(q) = the c parts of highest 8-bit q·x in the ``probes`` lists with the highest q·centroid
    top(q) = the ``depth`` documents of highest s(q, d) among their documents, s computed from the vectors themselves

FAISS keeps the lists, in one file of the segment: its vectors in 8 bits a value, a quarter of the room of float32. It
proposes documents, and never scores them: a similarity is the one that exact search gives, and a document that is
missed is the only error.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lorank.errors import DataError, LorankError, UsageError
from lorank.files import replaced_file
from lorank.progress import ProgressCallback
from lorank.ranking.dense_index.segment import Segment
from lorank.ranking.scorers.encoded import EncodedDocuments

FILE = "clusters.faiss"
ROWS = 65536
"""The vectors that are assigned to lists at once."""
SAMPLE = 64
"""The vectors for each list from which the centroids are computed."""
OVERSAMPLE = 4
"""The parts that are proposed for each document that is asked for."""

Found = list[tuple[np.ndarray, np.ndarray]]
"""For each query the positions int64 and the similarities float32 of documents, best first."""


def usual_lists(parts: int) -> int:
    """Return the usual number of lists: the power of two nearest to 4 sqrt(parts) that leaves 64 parts a list.

    >>> usual_lists(1_000_000), usual_lists(100), usual_lists(1)
    (4096, 1, 1)
    """
    most = max(parts // SAMPLE, 1)
    return int(2 ** min(round(math.log2(4 * math.sqrt(max(parts, 1)))), math.floor(math.log2(most))))


def write_clusters(
    folder: Path,
    documents: EncodedDocuments,
    lists: int | None = None,
    *,
    seed: int = 0,
    on_progress: ProgressCallback | None = None,
) -> int:
    """Write the lists of a segment into its folder, all or nothing, and return how many there are.

    The centroids are those of k-means on a random sample; memory is that of the 8-bit vectors and one block.

    Args:
        folder: The folder of the segment.
        documents: Its documents.
        lists: The number of lists, 1 to the number of parts; None takes `usual_lists`.
        seed: Of the sample and of k-means.
        on_progress: It receives the number of parts in lists and their total.

    Raises:
        UsageError: For a number of lists that is out of range.
        LorankError: Where FAISS is not installed.
    """
    faiss = _faiss()
    vectors = documents.vectors
    count = usual_lists(len(vectors)) if lists is None else lists
    if not 1 <= count <= len(vectors):
        raise UsageError(f"lists is {count}; give 1 to {len(vectors)}, the number of vectors of the segment")
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(len(vectors), min(len(vectors), SAMPLE * count), replace=False))
    index = faiss.index_factory(vectors.shape[1], f"IVF{count},SQ8", faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = seed + 1
    index.cp.min_points_per_centroid = 1
    index.train(np.ascontiguousarray(vectors[rows], np.float32))
    for begin in range(0, len(vectors), ROWS):
        index.add(np.ascontiguousarray(vectors[begin : begin + ROWS], np.float32))
        if on_progress is not None:
            on_progress(min(begin + ROWS, len(vectors)), len(vectors))
    with replaced_file(folder / FILE) as stage:
        faiss.write_index(index, str(stage))
    return count


def is_clustered(folder: Path) -> bool:
    """Return whether a segment's folder holds lists."""
    return (folder / FILE).exists()


class Clusters:
    """The lists of a segment, memory-mapped."""

    def __init__(self, folder: Path, segment: Segment) -> None:
        """Open the lists of a folder; raise DataError where they are damaged or not of this segment."""
        faiss = _faiss()
        remedy = "make them again with `lorank index cluster`"
        try:
            self._index = faiss.read_index(str(folder / FILE), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
        except RuntimeError as error:
            raise DataError(folder / FILE, None, f"the lists cannot be read ({error})", remedy) from error
        documents = segment.documents
        if (self._index.ntotal, self._index.d) != documents.vectors.shape:
            raise DataError(folder / FILE, None, "the lists are of other vectors", remedy)
        self._documents = documents
        self._parts = np.repeat(np.arange(len(segment)), documents.counts)

    def search(self, queries: np.ndarray, depth: int, kept: np.ndarray, probes: int) -> Found:
        """Return the best documents of the lists nearest to each query.

        Args:
            queries: The float32 query vectors [queries, dim].
            depth: The most documents per query, 1 or more.
            kept: False for documents that are not searched, bool [documents].
            probes: The lists that are looked into for a query, 1 or more; all of them where there are fewer.
        """
        options = _faiss().SearchParametersIVF(nprobe=min(probes, self._index.nlist), sel=_selector(kept[self._parts]))
        asked = min(OVERSAMPLE * depth, len(self._parts))
        while True:
            _, rows = self._index.search(np.ascontiguousarray(queries), asked, params=options)
            found = [np.unique(self._parts[row[row >= 0]]) for row in rows]
            few = any(len(at) < depth and row[-1] >= 0 for at, row in zip(found, rows, strict=True))
            if not few or asked == len(self._parts):
                break
            asked = min(OVERSAMPLE * asked, len(self._parts))
        return [self._scored(query, at, depth) for query, at in zip(queries, found, strict=True)]

    def _scored(self, query: np.ndarray, positions: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
        if not len(positions):
            return positions, np.zeros(0, np.float32)
        scores = self._documents.of(positions).similarities(query)
        order = np.argsort(-scores, kind="stable")[:depth]
        return positions[order], scores[order]


def merge_found(parts: Sequence[tuple[int, Found]], depth: int) -> Found:
    """Return the best of what was found in several segments.

    Args:
        parts: For each segment the position of its first document, and what was found for each query.
        depth: The most documents per query.

    >>> one, other = (np.array([0]), np.array([0.5])), (np.array([1]), np.array([0.75]))
    >>> [(at.tolist(), best.tolist()) for at, best in merge_found([(0, [one]), (10, [other])], 2)]
    [([11, 0], [0.75, 0.5])]
    """
    merged: Found = []
    for rows in zip(*(found for _, found in parts), strict=True):
        at = np.concatenate([positions + first for (first, _), (positions, _) in zip(parts, rows, strict=True)])
        scores = np.concatenate([best for _, best in rows])
        order = np.argsort(-scores, kind="stable")[:depth]
        merged.append((at[order], scores[order]))
    return merged


def _selector(parts: np.ndarray) -> Any:
    """Return what tells FAISS which parts may be proposed; None where all may."""
    return None if parts.all() else _faiss().IDSelectorBitmap(np.packbits(parts, bitorder="little"))


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise LorankError("approximate search needs FAISS: pip install 'lorank[approximate]'") from error
    return faiss
