"""SVMLight / LETOR feature files, in and out: ``<label> qid:<id> <feature>:<value> ... # comment``.

Feature ids are integers from 1, increasing within a row; a feature that a row leaves out is 0. Rows of a query
are contiguous. Labels are grades, or any finite numbers; what one below 0 is taken for is said by ``negative``
(:mod:`lorank.data.numbers`). The comment may carry ``docid = X`` or ``docno=X``. LightGBM's
layout has no ``qid:``; a second file, ``<name>.query``, gives the number of rows of each query in order.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lorank.data.bad_rows import collected
from lorank.data.files import writing
from lorank.data.numbers import Negative, as_whole, check_negative
from lorank.data.svmlight_blocks import LAYOUT, RowBlock, divide_into_blocks, read_good_rows, stack_blocks
from lorank.data.svmlight_queries import group_by_counts, group_by_query, name_documents
from lorank.errors import DataError, OnBad, UsageError


@dataclass(frozen=True)
class FeatureRows:
    """The rows of one feature file.

    ``features`` float32 [rows, features]; ``labels`` int64 [rows], or float64 where one is no whole number (or beyond
    2^53); NaN marks a row that was not judged; ``query_ids`` one a query and ``offsets``
    int64 [queries + 1]: query i has the rows offsets[i] to offsets[i + 1]; ``document_ids`` one a row, unique.
    """

    features: np.ndarray
    labels: np.ndarray
    query_ids: list[str]
    offsets: np.ndarray
    document_ids: list[str]

    def __len__(self) -> int:
        return len(self.labels)


def read_feature_rows(
    path: str | Path,
    groups: str | Path | None = None,
    *,
    negative: Negative = "error",
    on_bad: OnBad | None = None,
) -> FeatureRows:
    """Read a LETOR / SVMLight file; ``groups`` is LightGBM's file of row counts for rows without ``qid:``.

    A document's id is ``<query>:<docid>`` with the docid of the comment, or ``<query>:<row>`` (rows of the
    query counted from 1) for every query in which some row names no docid or two rows name the same.
    ``negative`` says what a label below 0 is. Raises DataError for a row of another layout, a label that is no finite
    number, a NaN or infinite value, feature ids that do not increase, and rows of a query that are not contiguous, all
    of them in one report with file and line (``on_bad`` is called with each, where given).
    """
    check_negative(negative)
    with collected(on_bad) as found:
        return _read_feature_rows(Path(path), None if groups is None else Path(groups), negative, found)


def _read_feature_rows(path: Path, groups: Path | None, negative: Negative, on_bad: OnBad) -> FeatureRows:
    blocks: list[RowBlock] = []
    bad: list[int] = []

    def report(error: DataError, row: object) -> None:
        on_bad(error, row)
        if error.path == path and error.line is not None:
            bad.append(error.line)

    for line, text in divide_into_blocks(path):
        blocks.append(read_good_rows(path, line, text, negative, report))
    queries = [query for block in blocks for query in block.queries]
    if not queries:
        raise DataError(path, None, "the file holds no rows", LAYOUT)
    numbers = np.concatenate([block.line_numbers for block in blocks])
    labels = np.concatenate([block.labels for block in blocks])
    named = [document for block in blocks for document in block.documents]
    features = [block.features for block in blocks]
    del blocks
    matrix = stack_blocks(features, max(block.shape[1] for block in features))
    if groups is not None:
        ids, offsets = group_by_counts(path, groups, numbers, bad, on_bad)
    else:
        ids, offsets, good = group_by_query(path, queries, numbers, on_bad)
        if not good.all():
            matrix, labels, numbers = matrix[good], labels[good], numbers[good]
            named = [document for document, kept in zip(named, good, strict=True) if kept]
        if not ids:
            raise DataError(path, None, "the file holds no rows", LAYOUT)
    documents = name_documents(path, ids, offsets, named, numbers)
    return FeatureRows(matrix, _whole_where_possible(labels), ids, offsets, documents)


def _whole_where_possible(labels: np.ndarray) -> np.ndarray:
    """Return labels as int64 where every one is a whole number that a double holds exactly."""
    with np.errstate(invalid="ignore"):
        whole = bool((np.isfinite(labels) & (labels == np.rint(labels)) & (np.abs(labels) <= 2**53)).all())
    return labels.astype(np.int64) if whole else labels


def write_feature_rows(rows: FeatureRows, path: str | Path, *, comments: bool = True) -> None:
    """Write LETOR rows, zeros left out (the last feature always written), values so that float32 comes back exact.

    ``comments`` writes ``# docid = X`` with the part of the document id after the query id.
    """
    width = rows.features.shape[1]
    _check_rows(rows)
    with writing(path) as file:
        for query, start, stop in zip(rows.query_ids, rows.offsets[:-1], rows.offsets[1:]):
            for row in range(start, stop):
                values = rows.features[row]
                kept = np.union1d(np.flatnonzero(values), [width - 1]) if width else np.zeros(0, np.int64)
                pairs = "".join(f" {i + 1}:{_shortest(values[i])}" for i in kept)
                name = rows.document_ids[row].removeprefix(f"{query}:")
                file.write(
                    f"{as_whole(rows.labels[row])!r} qid:{query}{pairs}"
                    + (f" # docid = {name}\n" if comments else "\n")
                )


def _shortest(value: np.float32) -> str:
    """Return the shortest decimal that reads back as the same float32."""
    return (
        np.format_float_positional(value, unique=True, trim="-")
        if 1e-4 <= abs(value) < 1e15
        else ("0" if value == 0 else np.format_float_scientific(value, unique=True, trim="-"))
    )


def _check_rows(rows: FeatureRows) -> None:
    bad = [text for text in (*rows.query_ids, *rows.document_ids) if not text or text.split() != [text]]
    if bad or any(":" in query or "#" in query for query in rows.query_ids):
        raise UsageError(
            f"a LETOR file cannot hold the id {(bad or rows.query_ids)[0]!r}: ids have no white space, "
            "query ids no ':' or '#'"
        )
    if not np.isfinite(rows.features).all() or not np.isfinite(rows.labels).all():
        raise UsageError("a LETOR file needs finite features and labels; leave out rows that nobody judged")
