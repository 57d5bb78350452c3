"""Build the embedded collection `lohelp` from the HTML pages of LibreOffice's help.

The pages come from Debian's package libreoffice-help-en-us (folder /usr/share/libreoffice/help/en-US). Documents are
pages, each with its title and visible text. Queries are the entries of the keyword index that the authors wrote
(`bookmarks.js`); relevant are the pages that carry the entry. The splits were drawn once, over groups of queries that
share a page: a group that the shipped judgments know keeps its split for good, a new one goes where most is missing.
The output is the same to the byte on every run over the same pages.
"""

import argparse
import gzip
import json
import re
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path

from build_pydocs import digest, write_bytes, write_lines

DEBIAN_FOLDER = Path("/usr/share/libreoffice/help/en-US")
DEBIAN_LICENCE = Path("/usr/share/common-licenses/MPL-2.0")
DEFAULT_OUT = Path(__file__).resolve().parent.parent / "src/lorank/data/collections/lohelp"

LEAST_WORDS = 20
"""Pages of fewer words are menus and redirections."""

SPLIT_SHARES = {"train": 0.50, "dev": 0.15, "test": 0.35}

SKIPPED = {"script", "style"}

Judged = dict[str, set[str]]
"""Query text -> the pages that carry it."""


class PageParser(HTMLParser):
    """Read the title of one help page, and the text of its display area without menus and scripts."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title_pieces: list[str] = []
        self.pieces: list[str] = []
        self._in_title = False
        self._skipping = 0
        self._divisions = 0

    @property
    def title(self) -> str:
        return " ".join("".join(self.title_pieces).split())

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._in_title |= tag == "title"
        self._skipping += tag in SKIPPED
        if tag == "div" and (self._divisions or dict(attributes).get("id") == "DisplayArea"):
            self._divisions += 1

    def handle_endtag(self, tag: str) -> None:
        self._in_title &= tag != "title"
        self._skipping -= tag in SKIPPED
        if tag == "div" and self._divisions:
            self._divisions -= 1

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title_pieces.append(data)
        elif self._divisions and not self._skipping:
            self.pieces.append(data)


def read_pages(html: Path) -> dict[str, tuple[str, str]]:
    """Return (title, text) of every page of at least LEAST_WORDS words by its path without ``.html``, sorted."""
    pages = {}
    for path in html.glob("text/**/*.html"):
        parser = PageParser()
        parser.feed(path.read_text("utf-8"))
        parser.close()
        if len(parser.text.split()) >= LEAST_WORDS:
            pages[path.relative_to(html / "text").with_suffix("").as_posix()] = parser.title, parser.text
    return dict(sorted(pages.items()))


def read_index(bookmarks: str, pages: Iterable[str]) -> Judged:
    """Return the entries of the index as queries: entry and sub-entry are joined by a space.

    >>> line = '{url:"en-US/text/a/b.html?DbPAR=X#bm", app:"X", text:"lines -- drawing; curved"},'
    >>> read_index(line, ["a/b"]), read_index(line, [])
    ({'lines drawing curved': {'a/b'}}, {})
    """
    known, found = set(pages), {}
    for address, text in re.findall(r'\{url:"(.*?)", app:".*?", text:"(.*?)"\}', bookmarks):
        page = re.split("[?#]", address)[0].removesuffix(".html").removeprefix("en-US/text/")
        if page in known:
            query = " ".join(re.sub("--|;", " ", text.replace("\\", "")).split())
            found.setdefault(query, set()).add(page)
    return dict(sorted(found.items()))


def group_queries(judged: Judged) -> list[list[str]]:
    """Return the groups of queries that share a page, directly or through others; each sorted, largest first.

    >>> group_queries({"a": {"1"}, "b": {"2"}, "c": {"1", "3"}, "d": {"3"}})
    [['a', 'c', 'd'], ['b']]
    """
    group_of_page: dict[str, list[str]] = {}
    for query, pages in judged.items():
        met = {id(group_of_page[page]): group_of_page[page] for page in pages if page in group_of_page}
        joined = [*(other for group in met.values() for other in group), query]
        for page in {page for other in joined for page in judged[other]}:
            group_of_page[page] = joined
    groups = [sorted(group) for group in {id(group): group for group in group_of_page.values()}.values()]
    return sorted(groups, key=lambda group: (-len(group), digest(group[0])))


def split_groups(judged: Judged, drawn: dict[str, str]) -> dict[str, list[str]]:
    """Return the queries of every split, sorted.

    Args:
        judged: the queries with their pages.
        drawn: query -> split as shipped before. A group with a query in it keeps that split, ``test`` before ``dev``
            before ``train`` where pages have moved and several are met; another goes to the split furthest below its
            share.
    """
    splits: dict[str, list[str]] = {name: [] for name in SPLIT_SHARES}
    groups = group_queries(judged)
    for group in sorted(groups, key=lambda group: not any(query in drawn for query in group)):
        met = {drawn[query] for query in group if query in drawn}
        missing = {name: share * len(judged) - len(splits[name]) for name, share in SPLIT_SHARES.items()}
        name = next((name for name in ("test", "dev", "train") if name in met), max(missing, key=missing.__getitem__))
        splits[name] += group
    return {name: sorted(queries) for name, queries in splits.items()}


def read_drawn(folder: Path) -> dict[str, str]:
    """Return the split of every query that ``folder`` holds; nothing where there is no collection yet."""
    if not (folder / "queries.jsonl.gz").is_file():
        return {}
    lines = gzip.decompress((folder / "queries.jsonl.gz").read_bytes()).decode().splitlines()
    text_of = {row["_id"]: row["text"] for row in map(json.loads, lines)}
    drawn = {}
    for name in SPLIT_SHARES:
        rows = gzip.decompress((folder / "qrels" / f"{name}.tsv.gz").read_bytes()).decode().splitlines()[1:]
        drawn |= {text_of[row.split("\t")[0]]: name for row in rows}
    return drawn


CARD = """# lohelp: LibreOffice's help as a test collection

Documents are the pages of LibreOffice 7.4's help, queries are entries of its keyword index, and relevant are the
pages that carry an entry.

## Origin
HTML pages and `bookmarks.js` of Debian's package libreoffice-help-en-us, read by `tools/build_lohelp.py`, which gives
the same bytes from the same pages. Pages of fewer than {least} words are left out.

## Licence and attribution
Copyright © LibreOffice contributors. Distributed under the Mozilla Public License 2.0 (see LICENSE). Changes made:
markup, menus and scripts were removed, and index entries were turned into queries. The source form of the pages is
that package and the LibreOffice project's repository of its help.

## Files (BEIR layout)
- `corpus.jsonl.gz`: {documents:,} documents `{{"_id", "title", "text"}}`; the id is the page's path.
- `queries.jsonl.gz`, `qrels/{{train,dev,test}}.tsv.gz`: {queries:,} queries with {judgments:,} judgments on
  {targets:,} pages.

| split | queries | groups | judgments | pages |
|---|---|---|---|---|
{table}

## Queries
An entry and its sub-entry are joined by a space: "counting -- column satisfying criteria" reads "counting column
satisfying criteria". Entries that are bare names ("Pmt function") are known-item look-ups; phrases often share few
words with the page.

## Judgments
Relevance is 1 for every page that carries an entry; nothing else is judged. Judgments are incomplete: one to three
pages an entry. Compare systems on them; do not read the values as absolute quality.

## Splits
Queries that share a page, directly or through others, form a group, and a group lies in one split
({shares} of the queries). Test over groups, not over queries: the largest has {largest} queries.
"""


def build(html: Path, licence: str, out: Path) -> None:
    """Read the pages under ``html`` and write the collection to ``out``, whose splits are kept."""
    pages = read_pages(html)
    judged = read_index((html / "bookmarks.js").read_text("utf-8"), pages)
    splits = split_groups(judged, read_drawn(out))
    ids = {query: f"q{number}" for number, query in enumerate(judged)}
    write_lines(
        out / "corpus.jsonl.gz",
        (
            json.dumps({"_id": page, "title": title, "text": text}, ensure_ascii=False)
            for page, (title, text) in pages.items()
        ),
    )
    write_lines(
        out / "queries.jsonl.gz",
        (json.dumps({"_id": ids[query], "text": query}, ensure_ascii=False) for query in judged),
    )
    for name, queries in splits.items():
        rows = (f"{ids[query]}\t{page}\t1" for query in queries for page in sorted(judged[query]))
        write_lines(out / "qrels" / f"{name}.tsv.gz", ["query-id\tcorpus-id\tscore", *rows])
    write_bytes(out / "LICENSE", licence.encode())
    write_bytes(out / "README.md", describe(pages, judged, splits).encode())


def describe(pages: dict[str, tuple[str, str]], judged: Judged, splits: dict[str, list[str]]) -> str:
    """Return the collection's card with its counts."""
    groups = group_queries(judged)
    rows = []
    for name, queries in splits.items():
        inside = set(queries)
        targets = {page for query in queries for page in judged[query]}
        counts = len(queries), sum(group[0] in inside for group in groups), sum(len(judged[q]) for q in queries)
        rows.append(f"| {name} | {counts[0]:,} | {counts[1]:,} | {counts[2]:,} | {len(targets):,} |")
    return CARD.format(
        least=LEAST_WORDS,
        documents=len(pages),
        queries=len(judged),
        judgments=sum(map(len, judged.values())),
        targets=len(set().union(*judged.values())),
        table="\n".join(rows),
        shares=" / ".join(f"{name} {share:.0%}" for name, share in SPLIT_SHARES.items()),
        largest=len(groups[0]),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(
            "Build the collection lohelp from the HTML pages of the Debian package libreoffice-help-en-us "
            "(apt-get install libreoffice-help-en-us)."
        )
    )
    parser.add_argument(
        "html", type=Path, nargs="?", default=DEBIAN_FOLDER, help="folder of the pages (default: %(default)s)"
    )
    parser.add_argument("--licence", type=Path, default=DEBIAN_LICENCE, help="the MPL-2.0 (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="folder to write (default: %(default)s)")
    options = parser.parse_args()
    if not (options.html / "bookmarks.js").is_file():
        parser.error(
            f"{options.html} holds no bookmarks.js; install Debian's package libreoffice-help-en-us, "
            "or give the folder of its HTML pages"
        )
    build(options.html, options.licence.read_text("utf-8"), options.out)


if __name__ == "__main__":
    main()
