"""The documents that an encoder is pretrained on: a text file, JSON lines, a BEIR folder, or a collection's name."""

from collections.abc import Iterator
from pathlib import Path

from lorank import index
from lorank.data.beir import find, is_beir
from lorank.errors import DataError, UsageError
from lorank.ranking.scorers.texts import replace_surrogates
from lorank.reading import all_lines, is_readable, json_lines, plain_name

TEXTS = ("text", "document", "passage", "body", "content", "contents", "abstract")
"""Keys of JSON lines that hold a text, the first that is there; ``title`` is put before it."""


def read_corpus(source: str | Path) -> list[str]:
    """Return the texts of the documents, in their order; blank ones are left out.

    Args:
        source: A packaged collection, ``ir_datasets:NAME``, a BEIR folder, JSON lines with a text each, or a text file,
            whose documents are parted by blank lines; compressed files are read too.

    Raises:
        UsageError: Where there is nothing.
        DataError: Naming file, line and remedy, for what cannot be read, and for a corpus without a word.
    """
    name, path = str(source), Path(source).expanduser()
    if name in index.names("collection") or name.startswith("ir_datasets:"):
        import lorank

        texts = _of_collection(name, lorank.load(name).documents)
    elif is_beir(path):
        corpus = find(path, "corpus.jsonl")
        assert corpus is not None
        texts = list(_of_json(corpus))
    elif is_readable(path):
        json_like = plain_name(path).lower().endswith((".jsonl", ".ndjson", ".json"))
        texts = list(_of_json(path) if json_like else _of_text(path))
    elif path.is_dir():
        raise DataError(
            path, None, "the folder has no corpus.jsonl", "give a BEIR folder, or a file of texts (.txt, .jsonl)"
        )
    else:
        index.check_data(name, "--texts")
        raise UsageError(f"--texts: there is nothing at {name}")
    texts = [replace_surrogates(text) for text in texts if text.strip()]
    if not texts:
        raise DataError(source, None, "the corpus is empty", "give a file with a document on each line, or paragraphs")
    return texts


def _of_collection(name: str, documents: object) -> list[str]:
    if not isinstance(documents, list):
        raise UsageError(f"--texts: collection {name!r} has feature rows and no texts")
    return documents


def _of_json(path: Path) -> Iterator[str]:
    expected = '{"text": "..."}'
    for line, row in json_lines(path, expected):
        key = next((key for key in TEXTS if key in row), None)
        if key is None or not isinstance(row[key], str):
            raise DataError(path, line, f"no text under any of {', '.join(TEXTS)}", f"a line is {expected}")
        title = row.get("title")
        yield f"{title}\n{row[key]}" if isinstance(title, str) and title else row[key]


def _of_text(path: Path) -> Iterator[str]:
    part: list[str] = []
    for _, text in all_lines(path):
        if text.strip():
            part.append(text.strip())
        elif part:
            yield "\n".join(part)
            part = []
    if part:
        yield "\n".join(part)
