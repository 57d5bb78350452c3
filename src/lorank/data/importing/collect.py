"""The whole way: sources to a collection, and to a folder with its summary."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lorank.data.bad_rows import BadRows, collected
from lorank.data.beir import write_beir
from lorank.data.collection import SPLITS, Collection, Split
from lorank.data.importing.found import Found, Judged
from lorank.data.importing.gather import Gathered, Repeated
from lorank.data.importing.judgments import Judgments, PageLabels, as_split, split_judgments
from lorank.data.importing.passages import check_sizes
from lorank.data.importing.registry import Options
from lorank.data.importing.sources import Sources, find_sources, read_sources
from lorank.data.importing.splitting import SplitMode, make_splits
from lorank.data.importing.stored_texts import TextsInOrder
from lorank.data.importing.summary import Summary
from lorank.data.pages import FILE, write_pages
from lorank.errors import DataError, LorankError, OnBad
from lorank.files import replaced_folder, write_json

PASSAGE_WORDS = 180
"""Words of a passage of a page: what a model of 256 tokens reads."""


@dataclass(frozen=True)
class Choices:
    """How sources are made into a collection.

    ``passage_words`` is None for pages cut at ``PASSAGE_WORDS`` and documents left whole, 0 for all whole.
    """

    options: Options = field(default_factory=Options)
    passage_words: int | None = None
    overlap_words: int = 0
    shared: float = 0.8
    page_labels: PageLabels = "best"
    repeated: Repeated = "max"
    dangling: Literal["error", "skip"] = "error"
    splits: SplitMode = "auto"
    shares: tuple[float, ...] = (0.8, 0.1, 0.1)
    seed: int = 0


@dataclass(frozen=True)
class Imported:
    """A collection, the page of each passage, and what was found and left out."""

    collection: Collection
    pages: dict[str, str]
    summary: Summary


def gather_found(
    found: Iterable[tuple[Path, Found]],
    name: str,
    choices: Choices,
    summary: Summary,
    on_bad: OnBad,
    *,
    stored: bool = False,
) -> Imported:
    """Return the collection of what readers found.

    Args:
        found: What readers found, each with the root that it was found under.
        name: The collection's name.
        choices: How pages, judgments and splits are made.
        summary: The counts of what is found and left out, which are added to.
        on_bad: It receives the error of a bad row and the row.
        stored: True keeps texts in a file, from which the collection reads them; else they are in memory.
    """
    words = PASSAGE_WORDS if choices.passage_words is None else choices.passage_words
    check_sizes(words, choices.overlap_words)
    gathered = Gathered(summary, on_bad, stored=stored)
    for root, each in found:
        gathered.add(each, root)
    gathered.cut_pages(words, choices.overlap_words, choices.shared)
    if choices.passage_words:
        gathered.cut_texts(choices.passage_words, choices.overlap_words)
    matched = gathered.match(choices.dangling)
    splits = _splits(gathered, matched, choices)
    names = list(gathered.texts)
    texts: Sequence[str] = TextsInOrder(gathered.texts, names) if stored else list(gathered.texts.values())
    titles: Sequence[str] = TextsInOrder(gathered.titles, names)
    collection = Collection(name, names, texts, splits, (titles if stored else list(titles)) if any(titles) else None)
    _count(collection, gathered, summary)
    return Imported(collection, gathered.page_of, summary)


def _splits(gathered: Gathered, matched: list[Judged], choices: Choices) -> dict[str, Split]:
    said = {each.about.split for each in matched}
    given = choices.splits == "given" or (choices.splits == "auto" and bool(said - {None, "train"}))
    parts = split_judgments(gathered, matched, choices.page_labels, apart=given)
    if given:
        named = {name: part for name, part in parts.items() if name is not None}
        if None in parts:
            named.setdefault("train", Judgments()).update(parts[None])
        order = [name for name in SPLITS if name in named] + sorted(set(named).difference(SPLITS))
        return {name: as_split(gathered, named[name], name, choices.repeated) for name in order}
    if not parts:
        return {}
    whole = as_split(gathered, parts[None], "train", choices.repeated)
    splits, how = make_splits(whole, choices.shares, choices.seed)
    gathered.summary.notes.append(how)
    return splits


def _count(collection: Collection, gathered: Gathered, summary: Summary) -> None:
    summary.documents = len(collection.document_ids)
    judged = {query for split in collection.splits.values() for query in split.queries}
    summary.queries = len(judged)
    if missing := len(gathered.queries) - len(judged):
        summary.drop("queries without a judgment", count=missing)
    for name, split in collection.splits.items():
        count = sum(map(len, split.qrels.values()))
        summary.splits[name] = {"queries": len(split), "judgments": count}
    summary.judgments = sum(each["judgments"] for each in summary.splits.values())
    if any(label < 0 for split in collection.splits.values() for row in split.qrels.values() for label in row.values()):
        summary.notes.append("labels below 0 are kept; train with --negative keep")


def _read(
    names: list[str | Path],
    sources: Sources,
    choices: Choices,
    summary: Summary,
    on_bad: OnBad,
    *,
    stored: bool = False,
) -> Imported:
    for each in sources.chosen:
        summary.files[each.reader.title] = summary.files.get(each.reader.title, 0) + 1
    for ending, count in sources.passed_over.most_common():
        summary.drop(f"files of a kind that is not read ({ending or 'no ending'})", count=count)
    first = str(names[0]).rpartition("=")[2]
    name = Path(first).resolve().name if len(names) == 1 else "imported"
    rows = read_sources(sources, choices.options, on_bad)
    imported = gather_found(rows, name, choices, summary, on_bad, stored=stored)
    mapped = {column for column in choices.options.columns.values() if not column.isdigit()}
    if mapped and not imported.collection.splits and not imported.collection.document_ids:
        raise DataError(first, None, f"no row has the columns {', '.join(sorted(mapped))}", "check --columns")
    return imported


def read_sources_as_collection(
    names: Iterable[str | Path], choices: Choices | None = None, on_bad: OnBad | None = None
) -> Imported:
    """Return what sources hold as a collection in memory, with its pages and summary.

    Raises DataError with one report of all bad rows, where ``on_bad`` is None, and for what cannot be read or matched.
    """
    listed = list(names)
    with collected(on_bad) as report:
        return _read(listed, find_sources(listed), choices or Choices(), Summary(), report)


def import_sources(
    names: Iterable[str | Path],
    out: str | Path,
    choices: Choices | None = None,
    *,
    skip_bad: bool = False,
    overwrite: bool = False,
) -> Imported:
    """Read sources and write them as a BEIR folder, whole or not at all, with pages.tsv and import.json.

    Args:
        names: Files and folders; ``queries=FILE`` and the like say what a file is.
        out: The folder to write.
        choices: How pages are cut, labels read and splits made.
        skip_bad: Leave bad rows out and keep them in ``skipped.jsonl``.
        overwrite: Replace a folder that is there.

    Raises:
        DataError: with one report of all bad rows where they are not skipped, and for what cannot be read or matched.
        LorankError: where the folder is there already.
    """
    out, listed = Path(out), list(names)
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise LorankError(f"{out} is there already; give another --out, or --overwrite")
    rows, summary, chosen = BadRows(keep=skip_bad), Summary(), choices or Choices()
    sources = find_sources(listed)
    try:
        imported = _read(listed, sources, chosen, summary, rows.add, stored=True)
    except DataError:
        if not skip_bad:
            rows.raise_report()
        raise
    if not skip_bad:
        rows.raise_report()
    _report_skipped(rows, summary)
    if not imported.collection.document_ids:
        raise DataError(str(listed[0]), None, "no documents were found", "give pages, documents or rows with texts")
    write_imported(imported, out, rows)
    return imported


def _report_skipped(rows: BadRows, summary: Summary) -> None:
    for kind, count in rows.counts.items():
        summary.drop(f"bad rows: {kind}", count=count)
        for error in rows.first[kind]:
            summary.drop(f"bad rows: {kind}", f"{error.path}:{error.line}: {error.problem[:120]}", 0)


def write_imported(imported: Imported, out: Path, rows: BadRows | None = None) -> None:
    """Write a collection with its pages and summary as a folder, whole or not at all."""
    metadata = {passage: {"page": page} for passage, page in imported.pages.items()}
    with replaced_folder(out) as stage:
        write_beir(imported.collection, stage, metadata=metadata)
        if imported.pages:
            write_pages(imported.pages, stage / FILE)
        if rows is not None and rows.rows:
            rows.write(stage / "skipped.jsonl")
        write_json(stage / "import.json", imported.summary.as_dict())
