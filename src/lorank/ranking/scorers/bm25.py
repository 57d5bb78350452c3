"""BM25: the lexical first stage, searched through bm25s and scored on any text by the collection's statistics.

    score(q, d) = sum_{t in q} idf(t) (k1 + 1) tf(t, d) / (tf(t, d) + k1 (1 - b + b |d| / avgdl))
    idf(t) = ln(1 + (N - df(t) + 0.5) / (df(t) + 0.5))

N documents, df(t) of them with the term, |d| and avgdl in terms. A term that stands twice in a query counts
twice; a term that no indexed document holds counts nothing. (Robertson and Zaragoza 2009, The Probabilistic
Relevance Framework; the idf is Lucene's, which is never negative.)

Terms are the runs of two or more word characters of the lower-cased text, less the language's stop words (the
lists of bm25s), stemmed by Snowball (PyStemmer); `lorank.ranking.scorers.languages` has the other ways of cutting.

*Deviations*: Lucene has left out the constant factor k1 + 1 since version 8; the order is the same. It stays
here, as in Robertson's formula.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import bm25s
import numpy as np
import Stemmer
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from lorank.errors import DataError, UsageError
from lorank.files import replaced_folder, write_text
from lorank.manifest import add_manifest, check_manifest, read_unchanged
from lorank.progress import ProgressCallback
from lorank.ranking.scorers.languages import STEMMED, STOP_WORDS, check_language, cut
from lorank.ranking.scorers.ranker import Documents, Ranker
from lorank.ranking.scorers.texts import checked_pairs, checked_texts
from lorank.ranking.types import Run

STATISTICS_FILE = "bm25_statistics.json"
POSTINGS_FILE = "bm25_postings.safetensors"
INDEX_FILE = "bm25_index.json"
FORMAT = 1


def terms_of(texts: Iterable[str], language: str | None = "english") -> list[list[str]]:
    """Return the terms of each text, in order; ``language`` None keeps every word as it is, lower-cased.

    >>> terms_of(["Sorting the sorted lists, in C", "to be"])
    [['sort', 'sort', 'list'], []]
    """
    check_language(language)
    stemmer = Stemmer.Stemmer(language) if language in STEMMED else None
    known: dict[str, str | None] = dict.fromkeys(STOP_WORDS.get(language or "", ()))
    rows = []
    for text in checked_texts(texts, "document"):
        words = cut(text, language)
        for word in words:
            if word not in known:
                known[word] = (word if stemmer is None else stemmer.stemWord(word)) or None
        rows.append([term for word in words if (term := known[word]) is not None])
    return rows


def _check_parameters(k1: float, b: float) -> None:
    if not (math.isfinite(k1) and k1 >= 0 and 0 <= b <= 1):
        raise UsageError(f"BM25 takes k1 >= 0 and b from 0 to 1, not k1={k1}, b={b}")


@dataclass(frozen=True)
class BM25Statistics:
    """What BM25 needs to know of a collection to score any text; a few hundred kilobytes for most.

    ``documents`` is their number N, ``average_length`` avgdl in terms, and ``document_frequency`` the df of
    every term. Scores of indexed documents equal the index's to the bit.

    >>> statistics = BM25Statistics.of(["a red fox", "a blue fox", "a whale"])
    >>> statistics.documents, statistics.document_frequency
    (3, {'red': 1, 'fox': 2, 'blue': 1, 'whale': 1})
    >>> statistics.score_pairs(["red whale"], ["red", "blue"], np.array([[0, 0], [0, 1]])).round(3)
    array([1.173, 0.   ], dtype=float32)
    """

    documents: int
    average_length: float
    document_frequency: dict[str, int]
    k1: float = 1.2
    b: float = 0.75
    language: str | None = "english"

    def __post_init__(self) -> None:
        _check_parameters(self.k1, self.b)
        check_language(self.language)
        if not self.average_length > 0:
            raise UsageError("BM25 needs at least one document with a term that is no stop word")

    @classmethod
    def of(cls, documents: Sequence[str], k1: float = 1.2, b: float = 0.75, language: str | None = "english") -> Self:
        """Count a collection; raise UsageError where no document holds a term.

        Args:
            documents: The texts of the collection.
            k1: The number, 0 or more, at which the weight of a term's frequency saturates.
            b: The share, from 0 to 1, by which a score is normalised by length.
            language: The language of the stemmer and the stop words; None uses neither.
        """
        return cls.of_terms(terms_of(documents, language), k1, b, language)

    @classmethod
    def of_terms(cls, documents: Sequence[Sequence[str]], k1: float, b: float, language: str | None) -> Self:
        """Count documents that ``terms_of`` has cut already.

        Args:
            documents: The terms of each document of the collection.
            k1: The number, 0 or more, at which the weight of a term's frequency saturates.
            b: The share, from 0 to 1, by which a score is normalised by length.
            language: The language in which the terms were cut.
        """
        frequency = Counter(term for terms in documents for term in dict.fromkeys(terms))
        length = sum(map(len, documents)) / len(documents) if documents else 0.0
        return cls(len(documents), length, dict(frequency), float(k1), float(b), language)

    @cached_property
    def idf(self) -> dict[str, np.float32]:
        """The idf of every term of the collection, above 0."""
        return {
            term: np.float32(math.log(1 + (self.documents - count + 0.5) / (count + 0.5)))
            for term, count in self.document_frequency.items()
        }

    def known_terms(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the terms of each text that the collection holds, in order, repeats kept."""
        return [[term for term in terms if term in self.document_frequency] for terms in terms_of(texts, self.language)]

    def query_mass(self, query: str) -> float:
        """Return (k1 + 1) sum_t idf(t), which no score of the query exceeds; 0 without a known term.

        Scores divided by it lie in [0, 1] and can be compared between queries.
        """
        return (self.k1 + 1) * float(sum(self.idf[term] for term in self.known_terms([query])[0]))

    def score_pairs(self, queries: Sequence[str], documents: Sequence[str], pairs: np.ndarray) -> np.ndarray:
        """Return float32 scores [n] of ``pairs`` int64 [n, 2]; 0 where query and document share no term."""
        pairs = checked_pairs(queries, documents, pairs)
        asked = self.known_terms(checked_texts(queries, "query"))
        wanted = {term for terms in asked for term in terms}
        used = np.unique(pairs[:, 1]).tolist()
        weights = {
            i: self._weights(terms, wanted)
            for i, terms in zip(
                used,
                terms_of(checked_texts((documents[i] for i in used), "document", used), self.language),
                strict=True,
            )
        }
        scores = np.zeros(len(pairs), np.float32)
        nothing = np.float32(0)
        for row, (query, document) in enumerate(pairs.tolist()):
            held = weights[document]
            total = nothing
            for term in asked[query] if held else ():
                total += held.get(term, nothing)
            scores[row] = total
        return scores

    def _weights(self, terms: list[str], wanted: set[str]) -> dict[str, np.float32]:
        """Return the contribution of each wanted term to the document's score, in bm25s's own arithmetic."""
        counts = Counter(term for term in terms if term in wanted)
        if not counts:
            return {}
        tf = np.array(list(counts.values()), np.float32)
        idf = np.array([self.idf[term] for term in counts], np.float32)
        norm = self.k1 * (1 - self.b + self.b * len(terms) / np.float64(self.average_length))
        weights = (idf * ((tf * (self.k1 + 1)) / (tf + norm))).astype(np.float32)
        return dict(zip(counts, weights, strict=True))

    def save(self, folder: str | Path) -> None:
        """Write ``bm25_statistics.json`` into an existing folder."""
        _write_json(Path(folder) / STATISTICS_FILE, asdict(self))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what ``save`` wrote; raise DataError where it is missing or damaged."""
        path = Path(folder) / STATISTICS_FILE
        data = _read_json(path, "BM25 statistics")
        try:
            return cls(**data)
        except TypeError as error:
            raise DataError(path, None, f"these are no BM25 statistics ({error})", "write them again") from error


class BM25(Ranker):
    """A searchable BM25 index of a collection; it also scores texts that are not in it.

    >>> bm25 = BM25.index(["d1", "d2", "d3"], ["red fox", "blue fox", "whale"])
    >>> bm25.search({"q1": "foxes", "q2": "to be or not to be"}, top=10)
    {'q1': {'d2': 0.434..., 'd1': 0.434...}, 'q2': {}}
    >>> [each.index for each in bm25.rank("whale", ["a red fox", "the whale"])]
    [1, 0]
    """

    def __init__(
        self, statistics: BM25Statistics, document_ids: Sequence[str], postings: dict[str, np.ndarray], fingerprint: str
    ) -> None:
        """Take over what ``index`` or ``load`` has prepared.

        Args:
            statistics: The term statistics of the collection.
            document_ids: The ids of the documents, in the order of the collection.
            postings: The arrays ``data``, ``indices`` and ``indptr`` of bm25s.
            fingerprint: The hash of everything that the index depends on.
        """
        self.statistics, self.document_ids, self.fingerprint = statistics, list(document_ids), fingerprint
        self._index = bm25s.BM25(k1=statistics.k1, b=statistics.b, method="atire", idf_method="lucene")
        self._index.scores = {**postings, "num_docs": len(self.document_ids)}
        self._index.nonoccurrence_array = None
        self._term_id = {term: i for i, term in enumerate(statistics.document_frequency)}
        self._tie_rank = np.empty(len(self.document_ids), np.int64)
        by_id = sorted(range(len(self.document_ids)), key=self.document_ids.__getitem__, reverse=True)
        self._tie_rank[by_id] = np.arange(len(by_id))

    @classmethod
    def index(
        cls,
        document_ids: Sequence[str],
        documents: Sequence[str],
        k1: float = 1.2,
        b: float = 0.75,
        language: str | None = "english",
    ) -> Self:
        """Index texts; raise UsageError for ids that repeat or do not match, and for a collection without terms.

        Args:
            document_ids: The ids of the documents, each of which occurs once.
            documents: The texts of the documents, one per id.
            k1: The number, 0 or more, at which the weight of a term's frequency saturates.
            b: The share, from 0 to 1, by which a score is normalised by length.
            language: The language of the stemmer and the stop words; None uses neither.
        """
        _check_ids(document_ids, documents)
        terms = terms_of(documents, language)
        statistics = BM25Statistics.of_terms(terms, k1, b, language)
        term_id = {term: i for i, term in enumerate(statistics.document_frequency)}
        built = bm25s.BM25(k1=k1, b=b, method="atire", idf_method="lucene")
        built.index(
            ([[term_id[term] for term in row] for row in terms], term_id), create_empty_token=False, show_progress=False
        )
        postings = {name: np.ascontiguousarray(built.scores[name]) for name in ("data", "indices", "indptr")}
        return cls(statistics, document_ids, postings, fingerprint(document_ids, documents, k1, b, language))

    @classmethod
    def open(
        cls,
        folder: str | Path,
        document_ids: Sequence[str],
        documents: Sequence[str],
        k1: float = 1.2,
        b: float = 0.75,
        language: str | None = "english",
    ) -> Self:
        """Return the index saved in ``folder`` if it is of these documents and settings, else make and save it.

        Args:
            folder: The folder of the index, which is made if it does not exist.
            document_ids: The ids of the documents, each of which occurs once.
            documents: The texts of the documents, one per id.
            k1: The number, 0 or more, at which the weight of a term's frequency saturates.
            b: The share, from 0 to 1, by which a score is normalised by length.
            language: The language of the stemmer and the stop words; None uses neither.

        Raises:
            DataError: Where the folder holds something else, or a damaged index.
        """
        if (Path(folder) / INDEX_FILE).is_file():
            found = _read_json(Path(folder) / INDEX_FILE, "BM25 index")
            if found.get("fingerprint") == fingerprint(document_ids, documents, k1, b, language):
                return cls.load(folder)
        made = cls.index(document_ids, documents, k1, b, language)
        made.save(folder)
        return made

    def search(self, queries: Mapping[str, str], top: int = 100) -> Run:
        """Return the run of the ``top`` best documents of each query, best first, ties by document id descending.

        Only documents that share a term with the query are listed, so lists may be shorter, and a query without
        a known term has an empty one.
        """
        if top < 1:
            raise UsageError(f"top is {top}; ask for at least one document")
        run: Run = {}
        for name, terms in zip(queries, self.statistics.known_terms(list(queries.values())), strict=True):
            run[name] = self._best([self._term_id[term] for term in terms], top) if terms else {}
        return run

    def _best(self, term_ids: list[int], top: int) -> dict[str, float]:
        scores = self._index.get_scores_from_ids(term_ids)
        found = np.flatnonzero(scores > 0)
        if len(found) > top:
            least = np.partition(scores[found], len(found) - top)[len(found) - top]
            found = found[scores[found] >= least]
        order = found[np.lexsort((self._tie_rank[found], -scores[found]))][:top]
        return {self.document_ids[i]: float(scores[i]) for i in order}

    def score_pairs(
        self,
        queries: Sequence[str],
        documents: Documents,
        pairs: np.ndarray,
        on_progress: ProgressCallback | None = None,
    ) -> np.ndarray:
        """Return float32 BM25 scores [n] of any texts, by the statistics of the indexed collection.

        Args:
            queries: The texts of the queries.
            documents: The texts of the documents.
            pairs: The int64 [n, 2] positions in ``queries`` and ``documents``, one row per pair.
            on_progress: It is not used.
        """
        return self.statistics.score_pairs(queries, documents, pairs)

    def query_mass(self, query: str) -> float:
        """Return the bound that no score of the query exceeds (see BM25Statistics)."""
        return self.statistics.query_mass(query)

    def save(self, folder: str | Path) -> None:
        """Write the index; an index that stands there is replaced in one step, anything else is refused."""
        folder = Path(folder)
        if folder.exists() and not (folder / INDEX_FILE).is_file() and any(folder.iterdir()):
            raise DataError(folder, None, "the folder holds something other than a BM25 index", "name another folder")
        with replaced_folder(folder) as new:
            self.statistics.save(new)
            save_file({name: self._index.scores[name] for name in ("data", "indices", "indptr")}, new / POSTINGS_FILE)
            _write_json(
                new / INDEX_FILE, {"format": FORMAT, "fingerprint": self.fingerprint, "document_ids": self.document_ids}
            )
            add_manifest(new, INDEX_FILE)

    @classmethod
    def load(
        cls, folder: str | Path, document_ids: Sequence[str] | None = None, documents: Sequence[str] | None = None
    ) -> Self:
        """Read a saved index; where the documents are given, raise DataError if it was made of others."""
        return read_unchanged(Path(folder), lambda folder: cls._load(folder, document_ids, documents))

    @classmethod
    def _load(cls, folder: Path, document_ids: Sequence[str] | None, documents: Sequence[str] | None) -> Self:
        described = _read_json(folder / INDEX_FILE, "BM25 index")
        if described.get("format") != FORMAT:
            raise DataError(
                folder / INDEX_FILE,
                None,
                f"index format {described.get('format')!r} is not {FORMAT}",
                "remove the folder and index again",
            )
        check_manifest(folder, described.get("files"), folder / INDEX_FILE)
        statistics = BM25Statistics.load(folder)
        if document_ids is not None and documents is not None:
            expected = fingerprint(document_ids, documents, statistics.k1, statistics.b, statistics.language)
            if described["fingerprint"] != expected:
                raise DataError(
                    folder,
                    None,
                    "the index was made of other documents",
                    "remove the folder and index again, or use BM25.open",
                )
        path = folder / POSTINGS_FILE
        try:
            postings = load_file(path)
        except (OSError, SafetensorError) as error:
            raise DataError(
                path, None, f"the postings cannot be read ({error})", "remove the folder and index again"
            ) from error
        if len(postings["indptr"]) != len(statistics.document_frequency) + 1:
            raise DataError(
                path, None, "postings and statistics are not of one index", "remove the folder and index again"
            )
        return cls(statistics, described["document_ids"], postings, described["fingerprint"])


def fingerprint(
    document_ids: Sequence[str], documents: Sequence[str], k1: float, b: float, language: str | None
) -> str:
    """Return a hash of everything an index depends on; another hash means that a saved index is stale.

    Args:
        document_ids: The ids of the documents.
        documents: The texts of the documents, one per id.
        k1: The number, 0 or more, at which the weight of a term's frequency saturates.
        b: The share, from 0 to 1, by which a score is normalised by length.
        language: The language of the stemmer and the stop words; None for neither.

    Returns:
        A hexadecimal SHA-256 hash.
    """
    state = sha256(json.dumps([FORMAT, float(k1), float(b), language]).encode())
    for text in (part for pair in zip(document_ids, documents, strict=True) for part in pair):
        raw = text.encode("utf-8", "surrogatepass")
        state.update(len(raw).to_bytes(8, "little"))
        state.update(raw)
    return state.hexdigest()


def _check_ids(document_ids: Sequence[str], documents: Sequence[str]) -> None:
    if len(document_ids) != len(documents):
        raise UsageError(f"{len(document_ids)} document ids for {len(documents)} documents; give one for each")
    if len(set(document_ids)) != len(document_ids):
        repeated = Counter(document_ids).most_common(1)[0][0]
        raise UsageError(f"document id {repeated!r} stands for several documents; make ids unique")


def _write_json(path: Path, data: dict[str, Any]) -> None:
    write_text(path, json.dumps(data, ensure_ascii=False) + "\n")


def _read_json(path: Path, what: str) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise DataError(path, None, f"there is no {what} here", "make one with BM25.index and save it") from error
    except ValueError as error:
        raise DataError(path, None, f"the {what} is damaged ({error})", "remove it and make it again") from error
    if not isinstance(data, dict):
        raise DataError(path, None, f"the {what} is not a JSON object", "remove it and make it again")
    return data
