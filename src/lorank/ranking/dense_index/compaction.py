"""Many segments written as one, without the deleted documents, a block of vectors at a time."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lorank.files import replaced_folder
from lorank.ranking.dense_index.description import Description
from lorank.ranking.dense_index.segment import Segment, write_tables

ROWS = 16384
"""The vectors that are copied at once."""


def write_compacted(folder: Path, segments: Sequence[Segment], description: Description) -> None:
    """Write the living documents of ``segments`` as the one segment ``folder``.

    Args:
        folder: The folder of the new segment, which does not exist.
        segments: The segments.
        description: The index that they are of, for the size and the format of its vectors.
    """
    kept = [_parts(segment) for segment in segments]
    ids = [name for segment in segments for name, alive in zip(segment.ids, segment.alive, strict=True) if alive]
    sizes = np.concatenate([counts for counts, _ in kept]) if kept else np.zeros(0, np.int64)
    begins = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64) if len(sizes) else np.zeros(0, np.int64)
    with replaced_folder(folder) as new:
        out = np.lib.format.open_memmap(
            new / "vectors.npy", "w+", np.dtype(description.dtype), (int(sizes.sum()), description.dimension)
        )
        place = 0
        for segment, (_, rows) in zip(segments, kept, strict=True):
            for first in range(0, len(rows), ROWS):
                chosen = rows[first : first + ROWS]
                out[place : place + len(chosen)] = segment.documents.vectors[chosen]
                place += len(chosen)
        out.flush()
        del out
        titled = [segment.documents.titled[segment.alive] for segment in segments]
        hashes = [segment.hashes[segment.alive] for segment in segments]
        write_tables(new, ids, begins, np.concatenate(titled), np.concatenate(hashes))


def _parts(segment: Segment) -> tuple[np.ndarray, np.ndarray]:
    """Return how many parts each living document has, and the rows of all of them."""
    documents = segment.documents
    counts = np.diff(np.append(documents.begins, len(documents.vectors)))
    rows = np.flatnonzero(np.repeat(segment.alive, counts))
    return counts[segment.alive], rows
