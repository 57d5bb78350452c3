"""T2Ranking's layout: Chinese passages with judgments of four levels.

    collection.tsv            pid, passage
    queries.{train,dev,test}.tsv      qid, query
    qrels.{train,dev}.tsv     qid, -, pid, label from 0 to 3 (TREC's columns)
    qrels.retrieval.{train,dev}.tsv   qid, pid: the labels of 2 and above, for retrieval

Columns are separated by tabs; a first line of column names may be there. A split takes the four levels where its qrels
file is there, and else those of retrieval. A split without judgments (test) is left out.

Paper: X. Xie et al., T2Ranking: A large-scale Chinese Benchmark for Passage Ranking, SIGIR 2023.

*Deviations*: the lists of negatives (train.bm25.tsv, train.mined.tsv) are not read; training finds its own.
"""

from collections.abc import Iterator
from pathlib import Path

from lorank.catalogue import catalogued
from lorank.data.beir import find
from lorank.data.collection import SPLITS, Collection, Split
from lorank.data.numbers import Negative, read_grade
from lorank.data.trec import Judgment, add_judgment
from lorank.errors import DataError, OnBad, report_bad
from lorank.ranking.types import Qrels
from lorank.reading import lines, parse_number, short

HEADS = ("pid", "qid", "docid", "query_id", "passage_id")


def is_t2ranking(path: Path) -> bool:
    """Return whether a folder has the layout: a collection, and queries and judgments of a split, all tab-separated."""
    return (
        path.is_dir()
        and find(path, "collection.tsv") is not None
        and any(_qrels_file(path, name) and find(path, f"queries.{name}.tsv") for name in SPLITS)
    )


@catalogued(
    "t2ranking",
    area="evaluate",
    title="T2Ranking: A large-scale Chinese Benchmark for Passage Ranking",
    reach="a layout of data, which is recognised wherever a collection is asked for: lorank evaluate --data FOLDER "
    "--ranker bm25",
)
def read_t2ranking(path: Path, *, negative: Negative = "error", on_bad: OnBad | None = None) -> Collection:
    """Read a folder of the layout.

    Args:
        path: The folder.
        negative: What a label below 0 is.
        on_bad: It receives the error of a bad row and the row; None raises the error.

    Raises:
        DataError: Naming file, line and remedy, for rows that cannot be read.
    """
    documents = _texts(_file(path, "collection.tsv"), "passage", on_bad)
    position = {document: i for i, document in enumerate(documents)}
    splits = {}
    for name in SPLITS:
        queries, qrels = find(path, f"queries.{name}.tsv"), _qrels_file(path, name)
        if queries is not None and qrels is not None:
            splits[name] = _split(name, _texts(queries, "query", on_bad), qrels, position, negative, on_bad)
    return Collection(path.resolve().name, list(documents), list(documents.values()), splits, language="cjk")


def _file(path: Path, name: str) -> Path:
    found = find(path, name)
    if found is None:
        raise DataError(path / name, None, "the file is missing", "copy the whole data set")
    return found


def _qrels_file(path: Path, split: str) -> Path | None:
    return find(path, f"qrels.{split}.tsv") or find(path, f"qrels.retrieval.{split}.tsv")


def _rows(file: Path, columns: tuple[int, ...], on_bad: OnBad | None) -> Iterator[tuple[int, list[str]]]:
    for number, line in lines(str(file)):
        cells = line.rstrip("\r\n").split("\t")
        if number == 1 and cells[0].strip().lower() in HEADS:
            continue
        if len(cells) == 1:
            cells = line.split()
        if len(cells) not in columns:
            wanted = " or ".join(map(str, columns))
            error = DataError(file, number, f"{len(cells)} columns, not {wanted}", "separate the columns by tabs")
            report_bad(error, line, on_bad)
            continue
        yield number, cells


def _texts(file: Path, what: str, on_bad: OnBad | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, (name, text) in ((number, cells) for number, cells in _rows(file, (2,), on_bad)):
        if name in found:
            report_bad(DataError(file, number, f"{what} {name!r} stands twice", "give each its own id"), text, on_bad)
            continue
        found[name] = text
    return found


def _number(file: Path, line: int, text: str) -> float:
    """Return the number that ``text`` is; raise DataError for anything else."""
    value = parse_number(text)
    if value is None:
        raise DataError(file, line, f"the label {short(text)} is not a number", "write a grade from 0 to 3")
    return value


def _split(
    name: str,
    queries: dict[str, str],
    file: Path,
    position: dict[str, int],
    negative: Negative,
    on_bad: OnBad | None,
) -> Split:
    qrels: Qrels = {}
    for number, cells in _rows(file, (2, 4), on_bad):
        query, document = cells[0], cells[-2] if len(cells) == 4 else cells[1]
        try:
            grade = read_grade(file, number, _number(file, number, cells[3]), negative) if len(cells) == 4 else 1
            if document not in position:
                raise DataError(
                    file, number, f"passage {document!r} is not in collection.tsv", "copy the whole data set"
                )
            if query not in queries:
                raise DataError(
                    file, number, f"query {query!r} is not in queries.{name}.tsv", "copy the whole data set"
                )
        except DataError as error:
            report_bad(error, "\t".join(cells), on_bad)
            continue
        if grade is not None:
            add_judgment(qrels, Judgment(number, query, document, grade), str(file))
    return Split(name, {query: text for query, text in queries.items() if query in qrels}, qrels)
