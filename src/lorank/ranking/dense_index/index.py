"""The dense index: documents added, replaced and deleted in a folder, and found again by exact or approximate search.

A change is whole or not at all: vectors go to a new segment, deletions to a new file, and one new ``index.json``
names them. Many documents are added as several such changes, so that a build which is killed goes on where it was.
One writer works at a time; readers see the index as it was when they opened it.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lorank.errors import DataError, LorankError, UsageError
from lorank.progress import ProgressCallback
from lorank.ranking.dense_index.changes import only_writer, remove_unnamed
from lorank.ranking.dense_index.clusters import Clusters, Found, is_clustered, merge_found, write_clusters
from lorank.ranking.dense_index.compaction import write_compacted
from lorank.ranking.dense_index.description import FILE, Description, read_description, write_description
from lorank.ranking.dense_index.search import BLOCK, search_blocks
from lorank.ranking.dense_index.segment import Segment, hash_texts, read_segment, write_alive, write_segment
from lorank.ranking.scorers.encoded import EncodedDocuments
from lorank.ranking.types import Run

Encode = Callable[[Sequence[str]], EncodedDocuments]
DTYPES = ("float32", "float16")
CHUNK = 4096
"""The documents that one change adds."""
LOOKS = 20
"""How often a folder that changes all the time is read before its reader gives up."""


@dataclass
class DenseIndex:
    """An index of vectors in a folder.

    >>> import tempfile
    >>> vectors = EncodedDocuments(np.eye(2, dtype=np.float32), np.arange(2), np.zeros(2, bool))
    >>> index = DenseIndex.create(tempfile.mkdtemp(), ranker="a hash", name="by hand", dimension=2)
    >>> index.add(["a", "b"], ["one", "two"], lambda texts: vectors)
    2
    >>> index.search({"q": np.array([0.6, 0.8], np.float32)}, 1)
    {'q': {'b': 0.8...}}
    """

    folder: Path
    description: Description
    segments: list[Segment]
    _place: dict[str, tuple[int, int]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._place = {
            name: (number, row)
            for number, segment in enumerate(self.segments)
            for row, name in enumerate(segment.ids)
            if segment.alive[row]
        }

    @classmethod
    def create(
        cls,
        folder: str | Path,
        *,
        ranker: str,
        name: str,
        dimension: int,
        dtype: str = "float32",
        long: str = "truncate",
        title_weight: float = 0.0,
        reading: Mapping[str, Any] | None = None,
        kind: str | None = None,
    ) -> "DenseIndex":
        """Return a new, empty index in a folder that is empty or does not exist.

        Args:
            folder: The folder.
            ranker: The hash of the ranker whose vectors it will hold.
            name: The name of the ranker, for messages and for opening it again.
            dimension: The number of values of a vector, 1 or more.
            dtype: The format of stored vectors: ``float32``, or ``float16`` for half the room.
            long: How the similarities of a document's parts become its own (`EncodedDocuments`).
            title_weight: The weight of a title beside the best passage.
            reading: The settings with which the ranker reads, so that it can be opened again.
            kind: The kind of ranker that ``name`` is opened as.

        Raises:
            UsageError: For a folder that holds something, or a format that is not known.
        """
        folder = Path(folder)
        if dtype not in DTYPES:
            raise UsageError(f"dtype {dtype!r}: choose one of {', '.join(DTYPES)}")
        if folder.exists() and (not folder.is_dir() or any(path.name[0] != "." for path in folder.iterdir())):
            raise UsageError(f"{folder} holds something already; give a folder that is empty or does not exist")
        folder.mkdir(parents=True, exist_ok=True)
        made = Description(ranker, name, dimension, dtype, long, title_weight, dict(reading or {}), kind)
        write_description(folder, made)
        return cls(folder, made, [])

    @classmethod
    def open(cls, folder: str | Path) -> "DenseIndex":
        """Return the index of a folder; raise DataError where there is none, or it is damaged."""
        folder = Path(folder)
        for _ in range(LOOKS):
            found = read_description(folder)
            try:
                segments = [
                    read_segment(folder / name, alive, found.long, found.title_weight) for name, alive in found.segments
                ]
            except DataError:
                if read_description(folder).generation == found.generation:
                    raise
                continue
            return cls(folder, found, segments)
        raise LorankError(f"{folder} is written to all the time; open it again when its writer rests")

    def __len__(self) -> int:
        return len(self._place)

    def __contains__(self, document: object) -> bool:
        return document in self._place

    @property
    def ids(self) -> list[str]:
        """The ids of the documents, in the order of their vectors."""
        return [n for each in self.segments for n, alive in zip(each.ids, each.alive, strict=True) if alive]

    def mean_vectors(self, ids: Sequence[str]) -> np.ndarray:
        """Return the mean of each document's vectors, float32 [ids, dim].

        Raises:
            UsageError: For an id that the index does not hold; it names the first and their number.
        """
        missing = [name for name in ids if name not in self._place]
        if missing:
            raise UsageError(
                f"{self.folder} lacks {len(missing)} of {len(ids)}, such as {missing[0]!r}; add them with "
                "`lorank index add`"
            )
        found = np.zeros((len(ids), self.description.dimension), np.float32)
        places = np.array([self._place[name] for name in ids], np.int64).reshape(-1, 2)
        for number, segment in enumerate(self.segments):
            own = np.flatnonzero(places[:, 0] == number)
            if len(own):
                parts = segment.documents.of(places[own, 1])
                found[own] = np.add.reduceat(parts.vectors, parts.begins) / parts.counts[:, None]
        return found

    def check_ranker(self, fingerprint: str, name: str) -> None:
        """Raise DataError where the vectors are those of another ranker than that of ``fingerprint``."""
        if fingerprint != self.description.ranker:
            problem = f"the vectors are of {self.description.name}, and {name} is another ranker or reads otherwise"
            raise DataError(self.folder / FILE, None, problem, "give that ranker, or another folder")

    def stale(self, ids: Sequence[str], texts: Sequence[str]) -> list[int]:
        """Return the positions of the documents that are not in the index, or have another text there."""
        found = []
        for begin in range(0, len(ids), CHUNK):
            part = list(texts[begin : begin + CHUNK])
            for row, hashed in enumerate(hash_texts(part)):
                place = self._place.get(ids[begin + row])
                if place is None or not np.array_equal(self.segments[place[0]].hashes[place[1]], hashed):
                    found.append(begin + row)
        return found

    def add(
        self,
        ids: Sequence[str],
        texts: Sequence[str],
        encode: Encode,
        *,
        chunk: int = CHUNK,
        on_progress: ProgressCallback | None = None,
    ) -> int:
        """Add documents, replace those whose text is another, and return how many were encoded.

        What is there with the same text is not encoded again, so the same call goes on where an earlier one died.

        Args:
            ids: The ids of the documents, each once.
            texts: Their texts.
            encode: It gives the vectors of texts.
            chunk: The documents that one change adds, 1 or more.
            on_progress: It receives the number of documents that are written and their total.

        Raises:
            UsageError: For ids that repeat, or do not match the texts.
        """
        if len(ids) != len(texts) or len(set(ids)) != len(ids):
            raise UsageError(f"{len(ids)} document ids for {len(texts)} texts; give one for each, each id once")
        with self._writing():
            missing = self.stale(ids, texts)
            for begin in range(0, len(missing), chunk):
                rows = missing[begin : begin + chunk]
                names, own = [ids[row] for row in rows], [texts[row] for row in rows]
                self._append(names, encode(own), hash_texts(own))
                if on_progress is not None:
                    on_progress(begin + len(rows), len(missing))
        return len(missing)

    def delete(self, ids: Iterable[str]) -> int:
        """Delete documents, and return how many of them were there."""
        with self._writing():
            present = [name for name in dict.fromkeys(ids) if name in self._place]
            if present:
                self._commit(self.segments, present)
        return len(present)

    def compact(self) -> None:
        """Write all segments as one, without what is deleted; memory is that of one block of vectors."""
        with self._writing():
            if len(self.segments) > 1 or not all(segment.alive.all() for segment in self.segments):
                name = self._next_name()
                write_compacted(self.folder / name, self.segments, self.description)
                found = self.description
                self._commit([read_segment(self.folder / name, None, found.long, found.title_weight)])

    def cluster(
        self, lists: int | None = None, *, seed: int = 0, on_progress: ProgressCallback | None = None
    ) -> dict[str, int]:
        """Put the vectors of each segment into lists for approximate search; return their number by segment.

        What is added later is searched exactly until this is called again. Compaction drops the lists.

        Args:
            lists: The number of lists of a segment, 1 or more, at most one for each vector; None takes `usual_lists`.
            seed: Of k-means and its sample.
            on_progress: It receives the number of parts of a segment that are in lists and their total.

        Raises:
            UsageError: For fewer than one list.
            LorankError: Where FAISS is not installed.
        """
        if lists is not None and lists < 1:
            raise UsageError(f"lists is {lists}; give 1 or more")
        made = {}
        with self._writing():
            for segment in self.segments:
                count = None if lists is None else min(lists, len(segment.documents.vectors))
                made[segment.name] = write_clusters(
                    self.folder / segment.name, segment.documents, count, seed=seed, on_progress=on_progress
                )
        return made

    def clustered(self) -> int:
        """Return how many documents are in segments that have lists."""
        with_lists = [segment for segment in self.segments if is_clustered(self.folder / segment.name)]
        return sum(int(segment.alive.sum()) for segment in with_lists)

    def search(
        self,
        queries: Mapping[str, np.ndarray],
        depth: int,
        *,
        only: Collection[str] | None = None,
        probes: int | None = None,
        block: int = BLOCK,
        on_progress: ProgressCallback | None = None,
    ) -> Run:
        """Return the run of the ``depth`` most similar documents, found exactly, or in the lists nearest to a query.

        Args:
            queries: The vector [dim] of each query, by id.
            depth: The most documents per query, 1 or more.
            only: The ids of the documents that are searched; None searches all.
            probes: The lists of each segment that are looked into (`cluster`), 1 or more; a document elsewhere is
                missed. None searches exactly, as segments without lists are always searched.
            block: The most parts of documents that are scored at once.
            on_progress: It receives the number of blocks, or of segments, that are scored and their total.

        Raises:
            UsageError: For a depth or probes below 1, or probes where no segment has lists.
        """
        if depth < 1:
            raise UsageError(f"depth is {depth}; ask for at least one document")
        if probes is not None and (probes < 1 or not self.clustered()):
            wrong = f"probes is {probes}; give 1 or more" if probes < 1 else f"{self.folder} has no lists to probe"
            raise UsageError(f"{wrong}; make lists with `lorank index cluster`, or leave probes out for exact search")
        if not queries:
            return {}
        kept = [segment.alive for segment in self.segments]
        if only is not None and len(only) < len(self):
            chosen = set(only)
            kept = [
                np.fromiter((name in chosen for name in segment.ids), bool, len(segment)) & segment.alive
                for segment in self.segments
            ]
        vectors = np.stack([np.asarray(vector, np.float32) for vector in queries.values()])
        documents = [segment.documents for segment in self.segments]
        if probes is None:
            found = search_blocks(vectors, documents, depth, kept=kept, block=block, on_progress=on_progress)
        else:
            found = self._probe(vectors, depth, kept, probes, block, on_progress)
        starts = np.cumsum([0, *map(len, self.segments)])
        run: Run = {}
        for query, (at, scores) in zip(queries, found, strict=True):
            owner = np.searchsorted(starts, at, side="right") - 1
            names = [self.segments[s].ids[p - starts[s]] for s, p in zip(owner.tolist(), at.tolist(), strict=True)]
            run[query] = dict(zip(names, scores.tolist(), strict=True))
        return run

    def _probe(
        self,
        vectors: np.ndarray,
        depth: int,
        kept: Sequence[np.ndarray],
        probes: int,
        block: int,
        on_progress: ProgressCallback | None,
    ) -> Found:
        """Return what each segment's lists propose, and of segments without lists what exact search finds."""
        parts: list[tuple[int, Found]] = []
        begin = 0
        for number, (segment, chosen) in enumerate(zip(self.segments, kept, strict=True), start=1):
            folder = self.folder / segment.name
            if is_clustered(folder):
                found = Clusters(folder, segment).search(vectors, depth, chosen, probes)
            else:
                found = search_blocks(vectors, [segment.documents], depth, kept=[chosen], block=block)
            parts.append((begin, found))
            begin += len(segment)
            if on_progress is not None:
                on_progress(number, len(self.segments))
        return merge_found(parts, depth)

    def _append(self, ids: list[str], documents: EncodedDocuments, hashes: np.ndarray) -> None:
        if documents.vectors.shape[1] != self.description.dimension:
            wrong = documents.vectors.shape[1]
            raise UsageError(f"vectors of {wrong} values do not fit an index of {self.description.dimension}")
        name, found = self._next_name(), self.description
        write_segment(self.folder / name, ids, documents, hashes, found.dtype)
        new = read_segment(self.folder / name, None, found.long, found.title_weight)
        replaced = [each for each in ids if each in self._place]
        self._commit([*self.segments, new], replaced, grown=1)

    def _without(self, ids: Sequence[str]) -> dict[int, np.ndarray]:
        """Return the new ``alive`` of each segment that holds any of ``ids``, by the segment's number."""
        changed: dict[int, np.ndarray] = {}
        for name in ids:
            number, row = self._place[name]
            if number not in changed:
                changed[number] = self.segments[number].alive.copy()
            changed[number][row] = False
        return changed

    def _commit(self, segments: Sequence[Segment], gone: Sequence[str] = (), grown: int = 0) -> None:
        """Make these segments the index, less the documents ``gone``; the last ``grown`` segments are new."""
        changed = self._without(gone)
        after: list[Segment] = list(segments)
        for number, alive in changed.items():
            name = f"alive-{self.description.generation + 1:06d}.npy"
            write_alive(self.folder / after[number].name, name, alive)
            after[number] = replace(after[number], alive=alive, alive_file=name)
        after = [segment for segment in after if segment.alive.any()]
        description = self.description.after(tuple((segment.name, segment.alive_file) for segment in after))
        write_description(self.folder, description)
        stays = [segment.name for segment in after[: len(after) - grown]] == [each.name for each in self.segments]
        self.description, self.segments = description, after
        if stays:
            for name in gone:
                self._place.pop(name, None)
            if grown:
                self._place.update({name: (len(after) - 1, row) for row, name in enumerate(after[-1].ids)})
        else:
            self.__post_init__()
        remove_unnamed(self.folder, description)

    def _next_name(self) -> str:
        return f"segment-{self.description.generation + 1:06d}"

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Be the one writer of the folder, with the index as it stands there now."""
        with only_writer(self.folder):
            if read_description(self.folder).generation != self.description.generation:
                now = DenseIndex.open(self.folder)
                self.description, self.segments = now.description, now.segments
                self.__post_init__()
            remove_unnamed(self.folder, self.description)
            yield
