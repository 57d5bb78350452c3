"""TREC runs and judgments, with the variants that are met in practice.

Runs: ``qid Q0 docno score`` files in three layouts, distinguished by the first line's number of columns:

- 6 or more: ``qid Q0 docno rank score tag``; the rank is ignored, and what follows the tag belongs to it, as in
  trec_eval;
- 3: ``qid docno score``, or MS MARCO's ``qid docno rank``. It is the latter when the third column of *every*
  query reads 1, 2, 3, ... in the order of the file (whole numbers, no point); a rank r becomes the score 1/r.
  ``third="score"`` or ``third="rank"`` settles it where that rule is wrong.

Columns are parted by blanks and tabs. Where the first line has just its columns when parted by tabs alone, tabs part
all lines, and ids may hold blanks; anywhere else an id with a blank is refused where it shows: a rank or an iteration
that is no number, or a tag that begins with one.

Judgments: ``qid iteration docno relevance`` (4 columns), or 3 columns ``query-id corpus-id score`` with or without
that header (BEIR). Lines that start with ``#`` are comments in judgments, as in trec_eval. A relevance is any finite
number; what one below 0 is taken for is said by ``negative`` (:mod:`lorank.data.numbers`).
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from lorank.data.bad_rows import collected
from lorank.data.files import lines, writing
from lorank.data.numbers import Negative, as_whole, check_negative, read_grade
from lorank.errors import DataError, OnBad, UsageError, report_bad
from lorank.ranking.types import Qrels, Run, order_documents
from lorank.reading import parse_number, refuse_nul, short

_RUN_LAYOUT = "a run has 6 columns (qid Q0 docno rank score tag) or 3 (qid docno score)"
_QRELS_LAYOUT = "judgments have 4 columns (qid 0 docno relevance) or 3 (query-id corpus-id score)"
_WHOLE = re.compile(r"\d{1,15}", re.ASCII)
_BLANKS = re.compile(r"[ \t\v\f]+")
_ITERATION = re.compile(r"[A-Za-z]?-?\d+|-", re.ASCII)
_SPACE = "an id that holds a blank? part the columns by tabs alone, or write ids without blanks; "


class Judgment(NamedTuple):
    """One row of a judgment file: its line, and what it says."""

    line: int
    query: str
    document: str
    relevance: int | float


class RunRow(NamedTuple):
    """One row of a run file: its line, what it says (``value`` is the score's or rank's text), its layout."""

    line: int
    query: str
    document: str
    value: str
    columns: int


class _Columns:
    """Parts the lines of one file, by tabs alone where its first line has one of ``widths`` columns so."""

    def __init__(self, path: str | Path, widths: tuple[int, ...], layout: str) -> None:
        self.path, self.widths, self.layout = path, widths, layout
        self.tabs, self.width = False, 0

    def part(self, line: int, text: str) -> list[str]:
        """Return the fields of a line."""
        refuse_nul(self.path, line, text)
        by_tab = [field.strip() for field in text.rstrip("\t ").split("\t")]
        by_blank = _BLANKS.split(text.strip(" \t\v\f"))
        if not self.width:
            self.tabs = len(by_tab) in self.widths and all(by_tab)
            self.width = len(by_tab) if self.tabs else len(by_blank)
        if not self.tabs:
            return by_blank
        if len(by_tab) == self.width and not all(by_tab):
            raise DataError(self.path, line, "an empty column", self.layout)
        return by_blank if len(by_tab) != self.width == len(by_blank) else by_tab


def run_rows(path: str | Path, on_bad: OnBad | None = None) -> Iterator[RunRow]:
    """Yield the rows of a run file as they stand; all must have the first good row's number of columns.

    A row of another layout is a DataError, which goes to ``on_bad`` where that is given.
    """
    columns, parts = 0, _Columns(path, (3, 6), _RUN_LAYOUT)
    for line, text in lines(path, on_bad):
        try:
            row = _run_row(path, line, parts.part(line, text), columns)
        except DataError as error:
            parts.width = columns and parts.width
            report_bad(error, text, on_bad)
            continue
        columns = row.columns
        yield row


def _run_row(path: str | Path, line: int, fields: list[str], columns: int) -> RunRow:
    """Return what a row says; ``columns`` is how many the rows before have, 0 in the first."""
    here = min(len(fields), 6)
    if here not in (3, 6):
        raise DataError(path, line, f"{len(fields)} columns", _RUN_LAYOUT)
    if columns and here != columns:
        raise DataError(path, line, f"{len(fields)} columns where the lines before have {columns}", _RUN_LAYOUT)
    if here == 6:
        _check_rank_and_tag(path, line, fields)
    document, value = (fields[2], fields[4]) if here == 6 else (fields[1], fields[2])
    return RunRow(line, fields[0], document, value, here)


def _check_rank_and_tag(path: str | Path, line: int, fields: list[str]) -> None:
    """Raise DataError where the columns are shifted, as a blank in an id shifts them."""
    if parse_number(fields[3]) is None:
        raise DataError(path, line, f"the rank {short(fields[3])} is not a number", _SPACE + _RUN_LAYOUT)
    if len(fields) > 6 and parse_number(fields[5]) is not None:
        raise DataError(
            path,
            line,
            f"{len(fields)} columns, the sixth of which is the number {short(fields[5])}",
            _SPACE + _RUN_LAYOUT,
        )


def _score(path: str | Path, row: RunRow) -> float:
    score = parse_number(row.value)
    if score is None:
        finite = row.value.strip("+-").lower() not in ("nan", "inf", "infinity")
        problem = "is not a number, or not one that a double holds" if finite else "is not finite"
        remedy = _RUN_LAYOUT if finite else "drop the row or mend the ranker"
        raise DataError(path, row.line, f"the score {short(row.value) if finite else row.value} {problem}", remedy)
    return score


def _read_texts(path: str | Path, on_bad: OnBad) -> tuple[dict[str, dict[str, str]], bool]:
    """Return {query: {document: value text}} of a run, and whether its third of three columns holds ranks."""
    texts: dict[str, dict[str, str]] = {}
    ranks = True
    for row in run_rows(path, on_bad):
        listed = texts.get(row.query, {})
        try:
            if row.document in listed:
                raise DataError(
                    path,
                    row.line,
                    f"document {row.document!r} is listed twice for query {row.query!r}",
                    "keep one row a document and query",
                )
            _score(path, row)
        except DataError as error:
            on_bad(error, f"{row.query}\t{row.document}\t{row.value}")
            continue
        texts.setdefault(row.query, listed)[row.document] = row.value
        ranks = ranks and row.columns == 3 and bool(_WHOLE.fullmatch(row.value)) and int(row.value) == len(listed)
    return texts, ranks


def read_run(path: str | Path, *, third: Literal["auto", "score", "rank"] = "auto", on_bad: OnBad | None = None) -> Run:
    """Read a run of any of the layouts above as ``{query: {document: score}}``.

    ``third`` says what the third of three columns is; for 6 columns leave it at ``auto``.

    Raises DataError for another number of columns, a document listed twice for a query and a score that is not a finite
    number, all of them in one report with file and line (``on_bad`` is called with each, where given), and for a file
    without rows.
    """
    with collected(on_bad) as found:
        texts, ranks = _read_texts(path, found)
    if not texts:
        raise DataError(path, None, "the run is empty", _RUN_LAYOUT)
    if third == "rank" or (third == "auto" and ranks):
        return {
            query: {document: _reciprocal(path, query, text) for document, text in listed.items()}
            for query, listed in texts.items()
        }
    return {query: {document: float(text) for document, text in listed.items()} for query, listed in texts.items()}


def _reciprocal(path: str | Path, query: str, rank: str) -> float:
    if not _WHOLE.fullmatch(rank) or int(rank) == 0:
        raise DataError(
            path,
            None,
            f"query {query!r} has the rank {rank!r}",
            "ranks are 1, 2, 3, ...; for scores read with third='score'",
        )
    return 1 / int(rank)


def write_run(run: Run, path: str | Path, tag: str = "lorank") -> None:
    """Write a 6-column run, best first (``order_documents``), ranks from 1; scores read back exactly.

    Raises UsageError, before anything is written, for ids or a tag that the format cannot hold and for scores
    that are not finite.
    """
    _check_words([tag, *run, *(document for row in run.values() for document in row)])
    for query, row in run.items():
        for document, score in row.items():
            if not math.isfinite(score):
                raise UsageError(f"query {query!r}, document {document!r}: the score {score} is not finite")
    with writing(path) as file:
        for query, row in run.items():
            for rank, document in enumerate(order_documents(row), start=1):
                file.write(f"{query} Q0 {document} {rank} {float(row[document])!r} {tag}\n")


def _check_words(words: list[str]) -> None:
    for word in words:
        if not word or word.split() != [word]:
            raise UsageError(
                f"{word!r} cannot stand in a TREC file: ids and tags are not empty and hold no white space"
            )


def judgments(path: str | Path, *, negative: Negative = "error", on_bad: OnBad | None = None) -> Iterator[Judgment]:
    """Yield the rows of a judgment file of any of the layouts above.

    ``negative`` says what a relevance below 0 is: an error, 0, no judgment (``skip``), or a number like any other
    (``keep``). Raises DataError with file and line for a bad row, which goes to ``on_bad`` where that is given.
    """
    check_negative(negative)
    columns, parts = 0, _Columns(path, (3, 4), _QRELS_LAYOUT)
    for line, text in lines(path, on_bad):
        if text.startswith("#"):
            continue
        try:
            fields = parts.part(line, text)
            if not columns:
                if len(fields) not in (3, 4):
                    parts.width = 0
                    raise DataError(path, line, f"{len(fields)} columns", _QRELS_LAYOUT)
                columns = len(fields)
                if columns == 3 and fields[-1].lower() in ("score", "relevance", "label"):
                    continue
            row = _judgment(path, line, fields, columns, negative)
        except DataError as error:
            report_bad(error, text, on_bad)
            continue
        if row is not None:
            yield row


def _judgment(path: str | Path, line: int, fields: list[str], columns: int, negative: Negative) -> Judgment | None:
    """Return what a row of ``columns`` fields says, None for a row to leave out."""
    if len(fields) != columns:
        raise DataError(path, line, f"{len(fields)} columns where the lines before have {columns}", _QRELS_LAYOUT)
    if columns == 4 and not _ITERATION.fullmatch(fields[1]):
        raise DataError(path, line, f"the iteration {short(fields[1])} is not a number", _SPACE + _QRELS_LAYOUT)
    relevance = _relevance(path, line, fields[-1], negative)
    return None if relevance is None else Judgment(line, fields[0], fields[-2], relevance)


def _relevance(path: str | Path, line: int, text: str, negative: str) -> int | float | None:
    value = parse_number(text)
    if value is None:
        raise DataError(
            path, line, f"the relevance {short(text)} is not a number, or not one that a double holds", "write a number"
        )
    return read_grade(path, line, value, negative)


def read_qrels(path: str | Path, *, negative: Negative = "error", on_bad: OnBad | None = None) -> Qrels:
    """Read judgments as ``{query: {document: relevance}}``; see ``judgments`` for layouts and ``negative``.

    Raises DataError for wrong columns, a relevance that is no finite number, a document judged twice for a query, all
    of them in one report with file and line (``on_bad`` is called with each, where given), and for a file without rows.
    """
    qrels: Qrels = {}
    with collected(on_bad) as on_bad:
        for row in judgments(path, negative=negative, on_bad=on_bad):
            try:
                add_judgment(qrels, row, path)
            except DataError as error:
                report_bad(error, f"{row.query}\t{row.document}\t{row.relevance}", on_bad)
    if not qrels:
        raise DataError(path, None, "the file holds no judgments", _QRELS_LAYOUT)
    return qrels


def add_judgment(qrels: Qrels, row: Judgment, path: str | Path) -> None:
    """Enter ``row`` in ``qrels``; raise DataError where its query and document are judged already."""
    judged = qrels.setdefault(row.query, {})
    if row.document in judged:
        raise DataError(
            path,
            row.line,
            f"document {row.document!r} is judged twice for query {row.query!r}",
            "keep one row a document and query",
        )
    judged[row.document] = row.relevance


def write_qrels(qrels: Qrels, path: str | Path, *, layout: Literal["trec", "beir"] = "trec") -> None:
    """Write judgments as 4 TREC columns, or as BEIR's tab-separated file with its header.

    Raises UsageError, before anything is written, for ids that the format cannot hold and for a relevance that is not
    finite.
    """
    _check_words([*qrels, *(document for row in qrels.values() for document in row)])
    _check_relevance(qrels)
    with writing(path) as file:
        if layout == "beir":
            file.write("query-id\tcorpus-id\tscore\n")
        for query, row in qrels.items():
            for document, relevance in row.items():
                grade = repr(as_whole(relevance))
                file.write(f"{query}\t{document}\t{grade}\n" if layout == "beir" else f"{query} 0 {document} {grade}\n")


def _check_relevance(qrels: Qrels) -> None:
    for query, row in qrels.items():
        for document, relevance in row.items():
            if not math.isfinite(relevance):
                raise UsageError(
                    f"query {query!r}, document {document!r}: the relevance {relevance} is not a finite number"
                )
