"""From what a person names to what is read: files, folders walked whole, and a plain word for what is neither."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from lorank.data.importing.found import Found
from lorank.data.importing.readers.datasets_folder import of_split
from lorank.data.importing.readers.tables import is_header
from lorank.data.importing.registry import KINDS, READERS, Options, Reader, Source, reader_of
from lorank.data.letor import is_feature_file, split_of_name
from lorank.errors import DataError, OnBad, UsageError
from lorank.reading import PACKINGS, is_readable, lines, local_file, reading

_HEAD = 2048


@dataclass(frozen=True)
class Chosen:
    """A source with its reader; ``root`` is the folder whose pages may share menus."""

    source: Source
    reader: Reader
    root: Path


@dataclass
class Sources:
    """What is to be read, and how many files of each ending nothing reads."""

    chosen: list[Chosen] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)


def find_sources(names: Iterable[str | Path]) -> Sources:
    """Return the sources that names stand for; raise UsageError or DataError for what is not there or not read."""
    found = Sources()
    for name in names:
        kind, path = _parted(name)
        if path.is_dir():
            _walk(path, kind, found)
        elif is_readable(path):
            found.chosen.append(_choose(_source(path, path.name, kind), path.parent))
        else:
            raise UsageError(f"there is nothing at {path}; give a file or a folder")
    if not found.chosen:
        there = ", ".join(f"{count} {ending or 'without ending'}" for ending, count in found.passed_over.most_common(5))
        folder = next(iter(names))
        raise DataError(
            folder, None, f"nothing in it is of a kind that is read (it holds {there or 'no files'})", _kinds()
        )
    return _with_splits(found)


def _parted(name: str | Path) -> tuple[str | None, Path]:
    """Return the kind and the path of ``queries=FILE``, or None and the path."""
    kind, equals, path = str(name).partition("=")
    if equals and kind in KINDS:
        return kind, Path(path).expanduser()
    return None, Path(name).expanduser()


def _walk(folder: Path, kind: str | None, found: Sources) -> None:
    whole = Source(folder, folder.name, kind=kind)
    if (reader := reader_of(whole)) is not None:
        found.chosen.append(Chosen(whole, reader, folder))
        return
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if not path.is_file() or any(part.startswith(".") for part in inside.parts):
            continue
        source = _source(path, inside.as_posix(), kind)
        reader = reader_of(source)
        if reader is None:
            found.passed_over[source.ending] += 1
        else:
            found.chosen.append(Chosen(source, reader, folder))


def _source(path: Path, name: str, kind: str | None) -> Source:
    head = b""
    try:
        with local_file(path).open("rb") as file:
            head = file.read(_HEAD)
        if any(head.startswith(magic) for magic in PACKINGS):
            with reading(path) as unpacked:
                head = unpacked.read(_HEAD)
    except PermissionError as error:
        raise DataError(path, None, "it may not be read", "change its permissions") from error
    return Source(path, name, head, kind)


def _choose(source: Source, root: Path) -> Chosen:
    """Return a file that was named with its reader; by its first line where its name says nothing."""
    reader = reader_of(source) or _by_content(source)
    if reader is None or (reader.name == "text" and is_feature_file(source.path)):
        raise describe(source)
    return Chosen(source, reader, root)


def _by_content(source: Source) -> Reader | None:
    start = source.head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith((b"{", b"[{")):
        return READERS["jsonl"]
    if start[:15].lower().startswith((b"<!doctype html", b"<html")):
        return READERS["html"]
    first = first_line(source.path)
    if "\t" in first and not is_feature_file(source.path):
        return READERS["table" if is_header(first.split("\t"), {}) else "marco"]
    return READERS["table"] if first.count(",") else None


def first_line(path: Path) -> str:
    """Return the first line that is not blank; raise DataError naming what a binary file is."""
    return next((text for _, text in lines(path)), "")


def describe(source: Source) -> DataError:
    """Return the error for a file that no reader takes: what stands in it, and what is read."""
    first = first_line(source.path)
    if not first:
        return DataError(source.path, None, "the file is empty", _kinds())
    if is_feature_file(source.path):
        remedy = f"train on it as it is: lorank train --data {source.path} --base lightgbm --out DIR"
        return DataError(source.path, None, "this is a LETOR file of features, not of texts", remedy)
    shown = first if len(first) <= 80 else f"{first[:77]}..."
    problem = f"the name's ending {source.ending!r} is not known, and the first row says no more: {shown!r}"
    return DataError(source.path, None, problem, _kinds())


def _kinds() -> str:
    return "read are " + ", ".join(reader.title for reader in READERS.values())


def _with_splits(found: Sources) -> Sources:
    """Let names such as qrels/train.tsv and dev.jsonl say the split, where they name train and another one."""
    pages = ("html", "markdown", "text", "rst", "pdf")
    said = [None if c.reader.name in pages else split_of_name(c.source.path) for c in found.chosen]
    if "train" not in said or len(set(said) - {None}) < 2:
        return found
    chosen = [
        replace(each, source=replace(each.source, split=split)) for each, split in zip(found.chosen, said, strict=True)
    ]
    return Sources(chosen, found.passed_over)


def read_sources(sources: Sources, options: Options, on_bad: OnBad) -> Iterator[tuple[Path, Found]]:
    """Yield (root, what was found) of all sources."""
    for each in sources.chosen:
        for found in each.reader.read(each.source, options, on_bad):
            yield each.root, of_split(found, each.source.split)
