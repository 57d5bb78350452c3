"""``load``: a collection by packaged name, by path, or through ir_datasets."""

import importlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lorank.data.bad_rows import BadRows
from lorank.data.beir import find, is_beir, read_beir, read_queries, read_split
from lorank.data.click_logs.collections import is_click_log, read_click_collection
from lorank.data.collection import SPLITS, Collection, Split
from lorank.data.letor import feature_files, is_feature_file, letor_parts, read_letor
from lorank.data.numbers import Negative, check_negative, read_grade
from lorank.data.rows import is_training_file, read_rows
from lorank.data.t2ranking import is_t2ranking, read_t2ranking
from lorank.data.trec import Judgment, add_judgment
from lorank.errors import DataError, OnBad, UsageError, unknown_name
from lorank.ranking.types import Qrels
from lorank.reading import is_readable

logger = logging.getLogger(__name__)

PACKAGED_IN = Path(__file__).parent / "collections"

_SPLIT_OF_SUBSET = {"train": "train", "dev": "dev", "validation": "dev", "valid": "dev", "val": "dev", "test": "test"}


def _pydocs() -> Collection:
    return read_beir(PACKAGED_IN / "pydocs", "pydocs")


def _lohelp() -> Collection:
    return read_beir(PACKAGED_IN / "lohelp", "lohelp")


def _pydocs_names() -> Collection:
    names = PACKAGED_IN / "pydocs" / "names"
    files = find(names, "queries.jsonl"), find(names / "qrels", "test.tsv")
    if None in files:
        raise DataError(names, None, "the packaged queries are missing", "install lorank again")
    whole = _pydocs()
    test = read_split(files[1], "test", read_queries(files[0]), whole.position)  # type: ignore[arg-type]
    return replace(whole, name="pydocs-names", splits={"test": test})


PACKAGED: dict[str, Callable[[], Collection]] = {
    "pydocs": _pydocs,
    "pydocs-names": _pydocs_names,
    "lohelp": _lohelp,
}


@dataclass(frozen=True)
class Layout:
    """A layout of files: how a person calls it, whether a path has it, how it is read (path, fold)."""

    title: str
    fits: Callable[[Path], bool]
    read: Callable[[Path, int, Negative, OnBad | None], Collection]


def _is_feature_folder(path: Path) -> bool:
    return path.is_dir() and ((path / "Fold1").is_dir() or bool(feature_files(path) or letor_parts(path)))


LAYOUTS = [
    Layout(
        "a BEIR folder (corpus.jsonl, queries.jsonl, qrels/)",
        is_beir,
        lambda path, fold, negative, on_bad: read_beir(path, negative=negative, on_bad=on_bad),
    ),
    Layout(
        "T2Ranking's folder (collection.tsv, queries.*.tsv, qrels.*.tsv)",
        is_t2ranking,
        lambda path, fold, negative, on_bad: read_t2ranking(path, negative=negative, on_bad=on_bad),
    ),
    Layout(
        "a LETOR folder (Fold1 to Fold5, train, vali and test files, or the parts S1.txt to S5.txt)",
        _is_feature_folder,
        lambda path, fold, negative, on_bad: read_letor(path, fold=fold, negative=negative, on_bad=on_bad),
    ),
    Layout(
        "a click log with features or texts",
        lambda path: is_readable(path) and is_click_log(path),
        lambda path, fold, negative, on_bad: read_click_collection(path, on_bad=on_bad),
    ),
    Layout(
        "a file of training rows (.jsonl, .parquet)",
        lambda path: is_readable(path) and is_training_file(path),
        lambda path, fold, negative, on_bad: read_rows(path, negative=negative, on_bad=on_bad),
    ),
    Layout(
        "a LETOR / SVMLight file",
        is_feature_file,
        lambda path, fold, negative, on_bad: read_letor(path, negative=negative, on_bad=on_bad),
    ),
]
"""What is read as it is; anything else goes the way of `lorank import`, in memory."""


def load(
    source: Any,
    *,
    fold: int = 1,
    negative: Negative = "error",
    columns: Mapping[str, str] | None = None,
    skip_bad: bool = False,
    skipped: str | Path | None = None,
    on_bad: OnBad | None = None,
    language: str = "auto",
) -> Collection:
    """Return the collection that ``source`` names or holds.

    Args:
        source: A packaged name (``pydocs``, ``pydocs-names``, ``lohelp``), ``ir_datasets:<name>``, or a path: a BEIR
            folder, a LETOR folder or file (LightGBM's ``<file>.query`` is used where it lies beside), a file of
            training rows, ``-`` for the standard input; a table, JSON lines, Parquet or Arrow, a folder of
            ``datasets``, triples, where each holds queries with texts and labels (anything else goes through
            `lorank import`). Or what is in memory: a frame of pandas, polars or pyarrow, a data set of ``datasets``, a
            list of records, a mapping of these by split. A folder called like a packaged collection is reached as
            ``./pydocs``.
        fold: Which of ``Fold1`` to ``Fold5``.
        negative: What a relevance below 0 is: an error, 0 (``zero``), no judgment (``skip``), or a number like any
            other (``keep``).
        columns: Columns by role where their names are not known, such as ``{"query": "q"}``.
        skip_bad: Leave bad rows out and log a report of them, in place of raising it.
        skipped: A file to write the rows to that are left out.
        on_bad: What is called with each bad row, which is left out, in place of ``skip_bad`` and ``skipped``.
        language: How BM25 cuts the texts: a language with a stemmer (english, german, arabic, ...), ``cjk``, ``code``,
            ``words``, or ``auto``: by their script.

    Raises:
        UsageError: for a name that is neither packaged nor a path, and an object of another kind.
        DataError: for content that cannot be read, with one report of all bad rows.
    """
    check_negative(negative)
    if language not in ("auto", "words"):
        from lorank.ranking.scorers.languages import check_language

        check_language(language)
    rows = BadRows(keep=skipped is not None) if on_bad is None and (skip_bad or skipped is not None) else None
    on_bad = on_bad if rows is None else rows.add
    collection = _load(source, fold, negative, dict(columns or {}), on_bad)
    if rows is not None and len(rows):
        logger.warning("left out: %s", rows.report())
    if rows is not None and skipped is not None:
        rows.write(skipped)
    return collection if language == "auto" else replace(collection, language=language)


def _load(source: Any, fold: int, negative: Negative, columns: dict[str, str], on_bad: OnBad | None) -> Collection:
    if not isinstance(source, str | Path):
        from lorank.data.importing import read_in_memory

        return read_in_memory(source, columns=columns, negative=negative, on_bad=on_bad)
    name = str(source)
    if isinstance(source, str) and name in PACKAGED:
        return PACKAGED[name]()
    if name.startswith("ir_datasets:"):
        return from_ir_datasets(name.removeprefix("ir_datasets:"), negative=negative)
    path = Path(source).expanduser()
    if not path.exists() and not is_readable(path):
        if path.name == name:
            raise unknown_name("collection", name, [*PACKAGED, "ir_datasets:<name>", "<path>"])
        raise UsageError(
            f"there is nothing at {name}; give a path that exists, a packaged collection "
            f"({', '.join(PACKAGED)}) or ir_datasets:<name>"
        )
    for layout in [] if columns else LAYOUTS:
        if layout.fits(path):
            return layout.read(path, fold, negative, on_bad)
    return _import(path, negative, columns, on_bad)


def _import(path: Path, negative: Negative, columns: dict[str, str], on_bad: OnBad | None) -> Collection:
    """Read a path as `lorank import` does; raise DataError where it holds no judged queries."""
    from lorank.data.importing import Choices, read_sources_as_collection
    from lorank.data.importing.columns import check_roles
    from lorank.data.importing.registry import Options

    check_roles(columns)
    choices = Choices(Options(columns=columns, negative=negative), splits="given")
    imported = read_sources_as_collection([path], choices, on_bad)
    collection = imported.collection
    if not collection.splits:
        what = (
            f"{imported.summary.pages} pages" if imported.summary.pages else f"{imported.summary.documents} documents"
        )
        raise DataError(
            path,
            None,
            f"it holds {what} and no queries with judgments or clicks",
            f"give these too: lorank import {path} clicks.csv --out DIR, then --data DIR",
        )
    return collection


def from_ir_datasets(name: str, *, negative: Negative = "error") -> Collection:
    """Return a data set of the ir_datasets package, which downloads it where it must.

    A name with judgments, such as ``beir/scifact/test``, gives the one split its last part says (``test``, if it
    says none); a name without gives the train, dev and test subsets below it.
    """
    try:
        package = importlib.import_module("ir_datasets")
    except ImportError as error:
        raise UsageError(f"ir_datasets:{name} needs the package: pip install ir_datasets") from error
    try:
        whole = package.load(name)
    except KeyError as error:
        raise UsageError(f"ir_datasets has no data set {name!r}; its names are at https://ir-datasets.com") from error
    parts = _split_judged(package, whole, name)
    if not parts:
        raise UsageError(f"ir_datasets:{name} has no judgments; name one of its subsets, such as {name}/test")
    documents = {doc.doc_id: _ir_document(doc) for doc in whole.docs_iter()}
    splits = {
        split: _ir_split(part, split, documents, f"ir_datasets:{name}", negative) for split, part in parts.items()
    }
    titles = [title for title, _ in documents.values()]
    return Collection(
        name, list(documents), [text for _, text in documents.values()], splits, titles if any(titles) else None
    )


def _ir_document(doc: Any) -> tuple[str, str]:
    """Return (title, text) with the title as the text's first line where the document has just those fields."""
    title, body = getattr(doc, "title", None), getattr(doc, "text", None)
    if isinstance(title, str) and title and isinstance(body, str):
        return title, f"{title}\n{body}" if body else title
    return "", doc.default_text()


def _split_judged(package: Any, whole: Any, name: str) -> dict[str, Any]:
    if whole.has_qrels():
        return {_SPLIT_OF_SUBSET.get(name.rpartition("/")[2], "test"): whole}
    parts: dict[str, Split] = {}
    for subset, split in _SPLIT_OF_SUBSET.items():
        try:
            part = package.load(f"{name}/{subset}")
        except KeyError:
            continue
        if part.has_qrels():
            parts.setdefault(split, part)
    return {split: parts[split] for split in SPLITS if split in parts}


def _ir_split(part: Any, split: str, documents: dict[str, Any], where: str, negative: str) -> Split:
    qrels: Qrels = {}
    for row, judgment in enumerate(part.qrels_iter(), start=1):
        grade = read_grade(where, row, judgment.relevance, negative)
        if grade is None:
            continue
        if judgment.doc_id not in documents:
            raise DataError(
                where, row, f"the document {judgment.doc_id!r} is not in the data set", "report it to ir_datasets"
            )
        add_judgment(qrels, Judgment(row, judgment.query_id, judgment.doc_id, grade), where)
    queries = {query.query_id: query.default_text() for query in part.queries_iter() if query.query_id in qrels}
    return Split(split, queries, {query: row for query, row in qrels.items() if query in queries})
