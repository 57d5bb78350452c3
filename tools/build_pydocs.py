"""Build the embedded collection `pydocs` from the HTML pages of the Python 3.11 documentation.

The pages come from Debian's package python3.11-doc (folder /usr/share/doc/python3.11/html). Documents are
sections, each with its own text and without its sub-sections. Queries are the entries of the general index
that the authors wrote by hand (``.. index::``, anchors ``index-N``); relevant are the sections that they
point to. Entries that only name an object (anchors such as ``heapq.heappush``) are known-item look-ups and
form a second query set. The output is the same to the byte on every run over the same pages.
"""

import argparse
import gzip
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

DEBIAN_FOLDER = Path("/usr/share/doc/python3.11/html")
DEFAULT_OUT = Path(__file__).resolve().parent.parent / "src/lorank/data/collections/pydocs"

CORPUS_FOLDERS = ("c-api", "extending", "faq", "howto", "install", "library", "reference", "tutorial", "using")
"""What describes Python as it is; history (whatsnew), legal pages and generated lists are left out."""

CORPUS_PAGES = ("glossary",)

SPLIT_SHARES = {"train": 0.60, "dev": 0.15, "test": 0.25}

LARGEST_COMPONENT = 0.05
"""No component of queries that share targets holds a larger share of the queries than this."""

LICENCE_SECTIONS = (
    "terms-and-conditions-for-accessing-or-otherwise-using-python",
    "psf-license-agreement-for-python-release",
    "beopen-com-license-agreement-for-python-2-0",
    "cnri-license-agreement-for-python-1-6-1",
    "cwi-license-agreement-for-python-0-9-0-through-1-2",
    "zero-clause-bsd-license-for-code-in-the-python-release-documentation",
)

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
BLOCKS = {
    "p",
    "li",
    "dt",
    "dd",
    "tr",
    "pre",
    "div",
    "table",
    "ul",
    "ol",
    "dl",
    "aside",
    "blockquote",
    "br",
    "hr",
    "section",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
}
CELLS = {"td", "th"}
SKIPPED = {"script", "style", "nav", "svg"}
SKIPPED_CLASSES = {"headerlink", "toctree-wrapper", "contents"}

KINDS = (
    "module",
    "statement",
    "operator",
    "object",
    "keyword",
    "built-in function",
    "exception",
    "function",
    "built-in exception",
    "protocol",
    "environment variable",
)
"""Entries that say what a sub-entry is: "statement > if" reads "if statement"."""


@dataclass
class Section:
    """One section of a page: its anchor, heading, depth, and its own text without that of its sub-sections."""

    page: str
    anchor: str
    parent: "Section | None"
    heading: str = ""
    pieces: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        return f"{self.page}#{self.anchor}"

    @property
    def page_heading(self) -> str:
        return self.heading if self.parent is None else self.parent.page_heading

    @property
    def title(self) -> str:
        """The page's heading and the section's: ``heapq — Heap queue algorithm: Theory``."""
        return self.heading if self.parent is None else f"{self.page_heading}: {self.heading}"

    @property
    def text(self) -> str:
        return tidy("".join(self.pieces))


def tidy(text: str) -> str:
    """Strip line ends and empty lines; inner spaces stay, since code lines carry them."""
    return "\n".join(line.rstrip() for line in text.split("\n") if line.strip())


class PageParser(HTMLParser):
    """Read one Sphinx page into ``sections``, and map every anchor to the section that holds it.

    ``references`` are the anchors that a cross-reference role wrote (``:pep:``, ``:rfc:``, ``:envvar:``):
    an empty target span right before a link or a code word. They are no index entries written by hand.
    """

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.page = page
        self.sections: list[Section] = []
        self.holder: dict[str, Section] = {}
        self.references: set[str] = set()
        self._open: list[tuple[str, bool]] = []
        self._current: Section | None = None
        self._skipping = 0
        self._preformatted = 0
        self._in_heading = False
        self._target: str | None = None

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named = {key: value or "" for key, value in attributes}
        classes = set(named.get("class", "").split())
        if self._target is not None and tag in ("a", "code"):
            self.references.add(self._target)
        self._target = named.get("id") if tag == "span" and "target" in classes else None
        if tag == "section":
            self._current = Section(self.page, named["id"], self._current)
            self.sections.append(self._current)
        if self._current is not None and "id" in named:
            self.holder[named["id"]] = self._current
        if tag in VOID:
            self._break(tag)
            return
        skipped = tag in SKIPPED or bool(classes & SKIPPED_CLASSES)
        self._open.append((tag, skipped))
        self._skipping += skipped
        self._break(tag)
        self._preformatted += tag == "pre"
        if re.fullmatch("h[1-6]", tag) and self._current is not None and not self._current.heading:
            self._in_heading = True

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID or all(tag != other for other, _ in self._open):
            return
        if tag != "span":
            self._target = None
        while True:
            closed, skipped = self._open.pop()
            self._skipping -= skipped
            self._preformatted -= closed == "pre"
            if re.fullmatch("h[1-6]", closed):
                self._in_heading = False
            if closed == "section" and self._current is not None:
                self._current = self._current.parent
            self._break(closed)
            if closed == tag:
                return

    def handle_data(self, data: str) -> None:
        if data.strip():
            self._target = None
        if self._current is None or self._skipping:
            return
        if self._in_heading:
            self._current.heading = clean_heading(self._current.heading + " ".join(data.split("\n")))
        elif self._preformatted:
            self._current.pieces.append(data)
        else:
            flowing = re.sub(r"\s+", " ", data)
            self._current.pieces.append(flowing.lstrip() if self._after_space else flowing)

    @property
    def _after_space(self) -> bool:
        pieces = self._current.pieces if self._current is not None else []
        return not pieces or pieces[-1][-1:] in ("\n", " ", "")

    def _break(self, tag: str) -> None:
        if self._current is None or self._in_heading:
            return
        if tag in BLOCKS:
            self._current.pieces.append("\n")
        elif tag in CELLS and not self._after_space:
            self._current.pieces.append(" ")


def clean_heading(heading: str) -> str:
    """Drop the section number and the pilcrow: ``4.1. if Statements¶`` reads ``if Statements``."""
    return re.sub(r"^\s*\d+(\.\d+)*\.\s+", "", heading.replace("¶", ""))


def page_names(html: Path) -> list[str]:
    """Return the pages that make the corpus, without ``.html``, sorted."""
    names = [
        path.relative_to(html).with_suffix("").as_posix()
        for folder in CORPUS_FOLDERS
        for path in (html / folder).glob("**/*.html")
    ]
    names += [page for page in CORPUS_PAGES if (html / f"{page}.html").is_file()]
    return sorted(names)


def read_pages(html: Path) -> tuple[list[Section], dict[str, Section], set[str]]:
    """Return the sections in page order, the section of every ``page#anchor``, and the reference anchors."""
    sections, holder, references = [], {}, set()
    for name in page_names(html):
        parser = PageParser(name)
        parser.feed((html / f"{name}.html").read_text("utf-8"))
        parser.close()
        sections += parser.sections
        holder |= {f"{name}#{anchor}": section for anchor, section in parser.holder.items()}
        references |= {f"{name}#{anchor}" for anchor in parser.references}
    return sections, holder, references


class IndexParser(HTMLParser):
    """Read Sphinx's genindex-all page into ``entries``: ((entry, sub-entry) or (entry,), page#anchor)."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.entries: list[tuple[tuple[str, ...], str]] = []
        self._in_table = False
        self._path: list[str] = []
        self._address: str | None = None
        self._link_text = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named = dict(attributes)
        if tag == "table" and "genindextable" in (named.get("class") or ""):
            self._in_table = True
        elif not self._in_table:
            return
        elif tag == "ul":
            self._path.append("")
        elif tag == "li":
            self._path[-1] = ""
        elif tag == "a":
            self._address, self._link_text = named["href"], ""

    def handle_endtag(self, tag: str) -> None:
        if not self._in_table:
            return
        if tag == "table":
            self._in_table = False
        elif tag == "ul":
            self._path.pop()
        elif tag == "a" and self._address is not None:
            if not re.fullmatch(r"\[\d+\]", self._link_text.strip()):
                self._path[-1] = " ".join(self._link_text.split())
            self.entries.append((tuple(self._path), self._address.replace(".html#", "#")))
            self._address = None

    def handle_data(self, data: str) -> None:
        if self._address is not None:
            self._link_text += data
        elif self._in_table and self._path and data.strip() not in ("", ","):
            self._path[-1] = " ".join(data.split())


@dataclass
class Query:
    """One query: its text and the ids of the sections that its index entries point to."""

    text: str
    targets: set[str] = field(default_factory=set)


def readings(path: tuple[str, ...]) -> list[tuple[bool, str]]:
    """Return the texts that an entry with its sub-entry can read as, each with whether a rule gives it.

    >>> readings(("statement", "if")) == readings(("if", "statement"))
    True
    >>> readings(("if", "statement"))
    [(True, 'if statement'), (False, 'statement if')]
    >>> readings(("bitwise", "operation, unary")), readings(("file", "temporary"))
    ([(True, 'unary bitwise operation')], [(False, 'file temporary')])
    >>> readings(("clear() (asyncio.Event method)", "(dict method)"))
    [(True, 'clear() (dict method)')]
    """
    if len(path) == 1:
        return [(True, path[0])]
    entry, sub = path
    if sub.startswith("("):
        return [(True, f"{re.sub(r' [(].*', '', entry)} {sub}")]
    if sub in KINDS:
        return [(True, f"{entry} {sub}"), (False, f"{sub} {entry}")]
    if entry in KINDS:
        return [(True, f"{sub} {entry}"), (False, f"{entry} {sub}")]
    inverted = re.fullmatch(r"(\w.*), (\w.*)", sub)
    if inverted:
        return [(True, f"{inverted[2]} {entry} {inverted[1]}")]
    return [(False, f"{entry} {sub}")]


def words_of(text: str) -> tuple[str, ...]:
    """Return the words and signs of a text, sorted: "file, temporary" and "temporary file" are one query."""
    return tuple(sorted(re.findall(r"\w+|[^\w\s,]+", text.casefold()))) or (text,)


def key_of(path: tuple[str, ...]) -> tuple[str, ...]:
    """Return what two entries have in common when they are one query."""
    return words_of(readings(path)[0][1])


def gather(entries: Iterable[tuple[tuple[str, ...], str]], phrase_count: Counter[str]) -> list[Query]:
    """Merge the entries that consist of the same words into queries, sorted by text.

    The index turns entries round ("file > temporary", "temporary > file"). Of the readings the text is the one
    that a rule gives if the documents use it, else the one that the documents use most, else the rule's.
    """
    found: dict[tuple[str, ...], set[tuple[bool, str]]] = {}
    targets: dict[tuple[str, ...], set[str]] = {}
    for path, target in entries:
        found.setdefault(key_of(path), set()).update(readings(path))
        targets.setdefault(key_of(path), set()).add(target)

    def preference(reading: tuple[bool, str]) -> tuple[bool, int, bool, str]:
        by_rule, text = reading
        count = phrase_count[text.casefold()]
        return not (by_rule and count), -count, not by_rule, text

    queries = (Query(min(found[words], key=preference)[1], targets[words]) for words in found)
    return sorted(queries, key=lambda query: query.text)


def count_phrases(paths: Iterable[tuple[str, ...]], sections: Iterable[Section]) -> Counter[str]:
    """Count how often the documents use each reading of the entries that have a sub-entry, ignoring case."""
    everything = "\n".join(f"{section.title}\n{section.text}" for section in sections).casefold()
    phrases = {text.casefold() for path in paths if len(path) > 1 for _, text in readings(path)}
    return Counter({phrase: everything.count(phrase) for phrase in sorted(phrases)})


def find_target(anchor: str, holder: dict[str, Section], sections: list[Section]) -> str | None:
    """Return the id of the section that holds the anchor, or the first one with text inside it."""
    section = holder.get(anchor)
    if section is None or section.text:
        return section and section.id
    for inner in sections:
        outer = inner.parent
        while outer is not None and outer is not section:
            outer = outer.parent
        if outer is section and inner.text:
            return inner.id
    return None


def split_by_target(queries: list[Query]) -> tuple[dict[str, list[Query]], list[Query]]:
    """Divide the queries so that no section is the target of queries in two splits.

    Queries that share a target belong to one component, and a component to one split. Components then go,
    largest first (ties by hash), to the split that is furthest below its share. Returns the splits and the
    queries that ``components_of`` left out.
    """
    components, left_out = components_of(queries)
    splits: dict[str, list[Query]] = {name: [] for name in SPLIT_SHARES}
    placed = len(queries) - len(left_out)
    for component in sorted(components, key=lambda c: (-len(c), digest(min(q.text for q in c)))):
        name = max(splits, key=lambda n: SPLIT_SHARES[n] - len(splits[n]) / placed)
        splits[name] += component
    return {name: sorted(chosen, key=lambda q: q.text) for name, chosen in splits.items()}, left_out


def components_of(queries: list[Query]) -> tuple[list[list[Query]], list[Query]]:
    """Return the components of queries linked by shared targets, and the queries left out.

    Queries join in the order of their number of targets (ties by hash). One that would join components into one
    of more than LARGEST_COMPONENT of all queries is left out: a few hubs ("types", "string object") would
    otherwise tie half of the collection together.
    """
    holding: dict[str, list[Query]] = {}
    left_out: list[Query] = []
    for query in sorted(queries, key=lambda q: (len(q.targets), digest(q.text))):
        met = list({id(holding[t]): holding[t] for t in sorted(query.targets) if t in holding}.values())
        joined = [*(q for component in met for q in component), query]
        if len(met) > 1 and len(joined) > LARGEST_COMPONENT * len(queries):
            left_out.append(query)
            continue
        for target in sorted({t for q in joined for t in q.targets}):
            holding[target] = joined
    return list({id(component): component for component in holding.values()}.values()), left_out


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def write_bytes(path: Path, data: bytes) -> None:
    """Write through a temporary file and a rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data)
    temporary.replace(path)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write gzipped lines without a time stamp or a file name, so that equal lines give equal bytes."""
    write_bytes(path, gzip.compress("".join(f"{line}\n" for line in lines).encode(), 9, mtime=0))


def write_queries(path: Path, queries: dict[str, Query]) -> None:
    write_lines(
        path, (json.dumps({"_id": name, "text": query.text}, ensure_ascii=False) for name, query in queries.items())
    )


def write_qrels(path: Path, queries: dict[str, Query]) -> None:
    rows = (f"{name}\t{target}\t1" for name, query in queries.items() for target in sorted(query.targets))
    write_lines(path, ["query-id\tcorpus-id\tscore", *rows])


def read_licence(html: Path) -> str:
    """Return the copyright notice and the licence texts as the documentation states them."""
    parts = []
    for page in ("copyright", "license"):
        parser = PageParser(page)
        parser.feed((html / f"{page}.html").read_text("utf-8"))
        parts += [
            f"{section.heading}\n\n{section.text}\n"
            for section in parser.sections
            if page == "copyright" or section.anchor in LICENCE_SECTIONS
        ]
    return "\n\n".join(parts)


CARD = """# pydocs: the Python 3.11 documentation as a test collection

Documents are the sections of the Python 3.11.2 documentation, queries are entries of its index, and
relevant are the sections that an entry points to.

## Origin
HTML pages of Debian's package python3.11-doc, read by `tools/build_pydocs.py`, which gives the same bytes
from the same pages: the folders {folders}
and the glossary. Left out are "What's New", the change log, legal pages and generated lists.

## Licence and attribution
Copyright © 2001-2023 Python Software Foundation; All Rights Reserved. Distributed under the PSF License
Agreement (see LICENSE); code examples also under the Zero-Clause BSD licence. Changes made: the pages were
cut into sections, markup and navigation were removed, and index entries were turned into queries.

## Files (BEIR layout)
- `corpus.jsonl.gz`: {documents:,} documents `{{"_id", "title", "text"}}`. The id is `page#anchor`; the title is
  the page's heading and the section's; the text is the section's own, without its sub-sections.
- `queries.jsonl.gz`, `qrels/{{train,dev,test}}.tsv.gz`: {queries:,} queries with {judgments:,} judgments on
  {targets:,} sections.
- `names/`: {names:,} known-item look-ups with {name_judgments:,} judgments, test only.

| split | queries | judgments | sections |
|---|---|---|---|
{table}

## Queries
The main set is what authors wrote by hand (`.. index::`, anchors `index-N`). Entry and sub-entry are
joined in natural order ("statement > if" reads "if statement"); entries of the same words in another order
are one query. Entries that only name a thing form the set `names`: objects (`heapq.heappush`), glossary
terms, options, and what cross-reference roles put into the index (PEP and RFC numbers, environment
variables). Do not train on `names`: it has no regard to the splits.

## Judgments
Relevance is 1 for every section that an entry points to; nothing else is judged. Judgments are incomplete:
most queries have one or two relevant sections, and sections that answer a query without an index entry
count as not relevant. Compare systems on them; do not read the values as absolute quality.

## Splits
By target section: queries that share a target are in one split, so no section is relevant in two. Queries
are joined into components from few targets to many; {left_out} queries with several targets that would have
joined components into one of more than {limit:.0%} of all queries are left out. Components go, largest first, to the
split furthest below its share ({shares}).
"""


def build(html: Path, out: Path) -> None:
    """Read the pages under ``html`` and write the collection to ``out``."""
    sections, holder, references = read_pages(html)
    index = IndexParser()
    index.feed((html / "genindex-all.html").read_text("utf-8"))
    pointed = {anchor: find_target(anchor, holder, sections) for _, anchor in index.entries}
    entries = [(path, anchor) for path, anchor in index.entries if pointed[anchor]]
    by_hand = [bool(re.search(r"#index-\d+$", anchor)) and anchor not in references for _, anchor in entries]
    hand_written = {key_of(path) for (path, _), by in zip(entries, by_hand) if by}
    main_entries = [(p, pointed[a]) for p, a in entries if key_of(p) in hand_written and a not in references]
    name_entries = [(p, pointed[a]) for p, a in entries if key_of(p) not in hand_written]
    phrases = count_phrases((path for path, _ in main_entries), sections)
    main, names = gather(main_entries, phrases), gather(name_entries, Counter())

    splits, left_out = split_by_target(main)
    kept = sorted((query for chosen in splits.values() for query in chosen), key=lambda q: q.text)
    ids = {query.text: f"q{i:04d}" for i, query in enumerate(kept, 1)}
    write_lines(
        out / "corpus.jsonl.gz",
        (
            json.dumps({"_id": section.id, "title": section.title, "text": section.text}, ensure_ascii=False)
            for section in sections
            if section.text
        ),
    )
    write_queries(out / "queries.jsonl.gz", {ids[query.text]: query for query in kept})
    for name, chosen in splits.items():
        write_qrels(out / "qrels" / f"{name}.tsv.gz", {ids[query.text]: query for query in chosen})
    named = {f"n{i:05d}": query for i, query in enumerate(names, 1)}
    write_queries(out / "names" / "queries.jsonl.gz", named)
    write_qrels(out / "names" / "qrels" / "test.tsv.gz", named)
    write_bytes(out / "LICENSE", read_licence(html).encode())
    card = CARD.format(
        folders=", ".join(CORPUS_FOLDERS),
        documents=sum(bool(section.text) for section in sections),
        queries=len(kept),
        judgments=sum(len(q.targets) for q in kept),
        targets=len({t for q in kept for t in q.targets}),
        names=len(names),
        name_judgments=sum(len(q.targets) for q in names),
        left_out=len(left_out),
        limit=LARGEST_COMPONENT,
        shares=" / ".join(f"{n} {share:.0%}" for n, share in SPLIT_SHARES.items()),
        table="\n".join(
            f"| {name} | {len(chosen):,} | {sum(len(q.targets) for q in chosen):,} | "
            f"{len({t for q in chosen for t in q.targets}):,} |"
            for name, chosen in splits.items()
        ),
    )
    write_bytes(out / "README.md", card.encode())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(
            "Build the collection pydocs from the HTML pages of the Debian package python3.11-doc "
            "(apt-get install python3.11-doc)."
        )
    )
    parser.add_argument(
        "html", type=Path, nargs="?", default=DEBIAN_FOLDER, help="folder of the HTML pages (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="folder to write (default: %(default)s)")
    options = parser.parse_args()
    if not (options.html / "genindex-all.html").is_file():
        parser.error(
            f"{options.html} holds no genindex-all.html; install Debian's package python3.11-doc, "
            "or give the folder of its HTML pages"
        )
    build(options.html, options.out)


if __name__ == "__main__":
    main()
