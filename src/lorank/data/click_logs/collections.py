"""A click log as a collection to train on: its own features or texts, or the documents of a judged collection."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lorank.data.bad_rows import collected
from lorank.data.click_logs.packed import PackedImpressions, pack_impressions
from lorank.data.click_logs.reading import guess_format, read_log
from lorank.data.click_logs.registry import LogCounts
from lorank.data.clicks import Impression
from lorank.data.collection import Collection, Split
from lorank.data.parquet import is_parquet, read_records
from lorank.errors import DataError, OnBad, UsageError, report_bad
from lorank.ranking.clicks import estimate_propensities
from lorank.reading import is_readable, plain_name


def is_click_log(path: Path) -> bool:
    """Return whether the first row of a file is an impression that brings features or texts, or is in Baidu's
    layout."""
    if not is_readable(path) or (path.is_file() and path.stat().st_size == 0):
        return False
    if is_parquet(path) or plain_name(path).endswith((".jsonl", ".json", ".ndjson")):
        _, first = next(read_records(path, "a click log", lambda error, row: None), (0, {}))
        return "doc_ids" in first and "clicks" in first and ("features" in first or "docs" in first)
    from lorank.data.click_logs.formats.baidu_ultr import is_baidu_ultr

    try:
        return is_baidu_ultr(path)
    except DataError:  # not a text file: the reader of its own kind says what it is
        return False


def read_click_collection(path: str | Path, format: str = "auto", on_bad: OnBad | None = None) -> Collection:
    """Return a log that brings features or texts as a collection with one split, ``train``.

    A document with features is a row of its query, with texts one document for all queries.

    Raises:
        DataError: With file and line, for impressions with neither, with both kinds mixed, and for rows of unlike
        width.
    """
    path = Path(path)
    counts = LogCounts()
    source = _Documents(path, queries={}, texts={}, rows={}, order=[])
    name = guess_format(path) if format == "auto" else format
    with collected(on_bad) as found:
        impressions = source.watch(read_log(path, name, counts, found), found)
        packed = pack_impressions(impressions, source.position, path)
    if not len(packed):
        raise DataError(path, None, "the log holds no impression", "give a log with at least one shown list")
    documents: list[str] | np.ndarray
    if source.rows:
        documents = np.array([source.rows[d] for d in source.order], np.float32)
    else:
        documents = [source.texts[d] for d in source.order]
    name = plain_name(path).rpartition(".")[0] or path.name
    return _collection(name, source.order, documents, source.queries, packed, counts.describe())


class _Documents:
    """Collects the documents of a log as its impressions pass, and numbers them."""

    def __init__(
        self,
        path: Path,
        queries: dict[str, str],
        texts: dict[str, str],
        rows: dict[str, tuple[float, ...]],
        order: list[str],
    ) -> None:
        self.path, self.queries, self.texts, self.rows, self.order = path, queries, texts, rows, order
        self.position: dict[str, int] = {}

    def watch(self, impressions: Iterator[Impression], on_bad: OnBad) -> Iterator[Impression]:
        """Yield impressions under the ids that documents have in the collection; report those that do not fit."""
        for each in impressions:
            if each.features is not None and not self.texts:
                try:
                    made = self._with_rows(each)
                except DataError as error:
                    report_bad(error, each.session, on_bad)
                    continue
                self.queries.setdefault(each.query_id, each.query or each.query_id)
                yield made
            elif each.texts is not None and not self.rows:
                for document, text in zip(each.doc_ids, each.texts, strict=True):
                    self._number(document)
                    self.texts.setdefault(document, text)
                self.queries.setdefault(each.query_id, each.query or each.query_id)
                yield each
            else:
                kinds = (
                    "features, as the rows above have" if self.rows else "texts" if self.texts else "features or texts"
                )
                lacking = DataError(
                    self.path,
                    each.line or None,
                    f"the impression has no {kinds}",
                    'give each list "features" or "docs", or train on a collection with --clicks LOG',
                )
                report_bad(lacking, each.session, on_bad)

    def _with_rows(self, each: Impression) -> Impression:
        ids = tuple(f"{each.query_id}:{document}" for document in each.doc_ids)
        for row in each.features or ():
            width = len(next(iter(self.rows.values()), row))
            if len(row) != width:
                raise DataError(
                    self.path,
                    each.line or None,
                    f"a row has {len(row)} features, the first has {width}",
                    "give one width",
                )
        for document, row in zip(ids, each.features or (), strict=True):
            self._number(document)
            self.rows.setdefault(document, row)
        return replace(each, doc_ids=ids)

    def _number(self, document: str) -> None:
        if document not in self.position:
            self.position[document] = len(self.order)
            self.order.append(document)


def with_clicks(
    collection: Collection, path: str | Path, format: str = "auto", on_bad: OnBad | None = None
) -> Collection:
    """Return a collection whose training split is the impressions of a log; dev and test stay as they are judged.

    Raises:
        DataError: With file and line, for queries and documents that the collection does not have.
        UsageError: For a collection without a judged dev split, as no click decides over a ranker of judged documents.
    """
    texts = {query: text for split in collection.splits.values() for query, text in split.queries.items()}
    counts = LogCounts()
    with collected(on_bad) as found:
        packed = pack_impressions(read_log(path, format, counts, found), collection.position, path, texts, found)
    if not len(packed):
        raise DataError(path, None, "the log holds no impression", "give a log with at least one shown list")
    if "dev" not in collection.splits:
        raise UsageError(
            f"collection {collection.name!r} has no dev split, which decides how long a ranker learns from clicks; "
            "give it one, or train on a log that brings its texts"
        )
    queries = {query: texts[query] for query in packed.query_ids}
    made = _collection(
        collection.name, collection.document_ids, collection.documents, queries, packed, counts.describe()
    )
    card = f"{collection.card}\n\n{made.card}" if collection.card else made.card
    return replace(collection, splits={**collection.splits, "train": made.train}, card=card)


def _collection(
    name: str,
    ids: Sequence[str],
    documents: Sequence[str] | np.ndarray,
    queries: dict[str, str],
    packed: PackedImpressions,
    left_out: str,
) -> Collection:
    curve, source = _looks(packed, ids)
    qrels = packed.rates(ids, curve)
    candidates = {query: dict.fromkeys(row, 0.0) for query, row in qrels.items()}
    split = Split("train", queries, dict(qrels), candidates, impressions=packed)
    card = (
        f"A click log: {len(packed):,} shown lists of {len(queries):,} queries, of which {len(packed.with_clicks()):,} "
        "have a click. "
        f"Its labels, where a dev split is held out of it, are clicks per look; {source}. {left_out}"
    ).strip()
    return Collection(name, ids, documents, {"train": split}, card=card)


def _looks(packed: PackedImpressions, ids: Sequence[str]) -> tuple[np.ndarray | None, str]:
    """Return the curve by which views count as looks, and where it comes from."""
    if packed.propensities is not None:
        return None, "a view counts as the propensity that the log states"
    try:
        return estimate_propensities(packed.sessions(ids), "harvest").curve, "a view counts as its harvested propensity"
    except UsageError as error:
        return None, f"a view counts as a look wherever it was ({error})"
