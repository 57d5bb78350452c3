"""All that was found, brought together: ids given to texts, judgments matched with documents and queries.

Equal texts of rows are one document. A query is one per id or text, user, weight and group, so that nothing said of it
is lost. What a file calls a query or a document is an id where most of its values are known as ids, else a text.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from lorank.data.beir import body_of
from lorank.data.importing.boilerplate import drop_shared
from lorank.data.importing.found import Asked, Found, Judged, Page, Place, Query, Row, Section, Text
from lorank.data.importing.names import Names
from lorank.data.importing.passages import cut_sections
from lorank.data.importing.stored_texts import StoredTexts, digest
from lorank.data.importing.summary import Summary
from lorank.data.importing.values import as_id
from lorank.errors import DataError, OnBad, report_bad

Repeated = Literal["max", "mean", "sum"]


class Gathered:
    """Documents, queries and judgments of all sources; ``match`` brings them together.

    Args:
        summary: The counts of what is left out.
        on_bad: It receives the error of a bad row and the row.
        stored: True keeps texts and titles in a file in place of memory.
    """

    def __init__(self, summary: Summary, on_bad: OnBad, *, stored: bool = False) -> None:
        self.summary, self.on_bad = summary, on_bad
        self.pages: dict[Path, list[Page]] = {}
        self.titles: MutableMapping[str, str] = StoredTexts() if stored else {}
        self.texts: MutableMapping[str, str] = StoredTexts() if stored else {}
        self._key: Callable[[str], Hashable] = digest if stored else str
        self.page_of: dict[str, str] = {}
        self.names = Names()
        self.queries: dict[str, Query] = {}
        self.judged: list[Judged] = []
        self.from_rows = True
        self._by_text: dict[Hashable, str] | None = None
        self._declared: dict[str, Query] = {}
        self._texts_of_queries: dict[str, str] = {}
        self._variants: dict[tuple[str, str | None, float | None, str | None], str] = {}
        self._taken: set[str] = set()

    def add(self, found: Found, root: Path) -> None:
        """Take in one thing that a reader found in the source ``root``."""
        if isinstance(found, Page):
            self.from_rows = False
            self.pages.setdefault(root, []).append(found)
        elif isinstance(found, Text):
            self.from_rows = False
            self._add_text(found)
        elif isinstance(found, Query):
            self._add_query(found)
        elif isinstance(found, Row):
            self._add_row(found)
        else:
            self.judged.append(found)

    def _add_text(self, found: Text) -> None:
        text = "\n".join(part for part in (found.title, found.text) if part)
        if found.id is None:
            found = replace(found, id=self._id_by_text().setdefault(self._key(text), self._new_id("d", self.texts)))
        assert found.id is not None
        if found.id in self.texts:
            if self.texts[found.id] != text:
                self._bad(found.place, f"the document id {found.id!r} is there twice, with other text", found.id)
            return
        self.texts[found.id] = text
        if found.title:
            self.titles[found.id] = found.title
        if self._by_text is not None:
            self._by_text.setdefault(self._key(text), found.id)
        self.names.add(found.id, *found.names)

    def _add_query(self, found: Query) -> None:
        known = self.queries.setdefault(found.id, found)
        if known.text != found.text:
            self._bad(found.place, f"the query id {found.id!r} is there twice, with other text", found.id)

    def _add_row(self, row: Row) -> None:
        for i, (document, label) in enumerate(zip(row.documents, row.labels, strict=True)):
            score = None if row.scores is None else row.scores[i]
            propensity = None if row.propensities is None else row.propensities[i]
            self.judged.append(
                Judged(row.place, row.query, document, label, "text", "text", score, propensity, row.about)
            )

    def _id_by_text(self) -> dict[Hashable, str]:
        """Return {key of a text: id} of documents that are no pages, made when first asked for; ids do without."""
        if self._by_text is None:
            self._by_text = {}
            for name, text in self.texts.items():
                if name not in self.page_of:
                    self._by_text.setdefault(self._key(text), name)
        return self._by_text

    def _new_id(self, letter: str, taken: Collection[str]) -> str:
        number = len(taken) + 1
        while f"{letter}{number}" in taken:
            number += 1
        return f"{letter}{number}"

    def _bad(self, place: Place, problem: str, row: object, remedy: str = "keep one") -> None:
        report_bad(DataError(place.path, place.line, problem, remedy), row, self.on_bad)

    # -- pages -------------------------------------------------------------------------------------------------------

    def cut_pages(self, words: int, overlap: int, share: float) -> None:
        """Drop what the pages of a source share, then those of each folder in it; cut them, and enter the passages."""
        for pages in self.pages.values():
            folders: dict[str, list[Page]] = defaultdict(list)
            for page in self._without_shared(pages, share):
                folders[page.id.rpartition("/")[0]].append(page)
            for inside in folders.values():
                for page in self._without_shared(inside, share) if len(folders) > 1 else inside:
                    self._add_page(page, words, overlap)

    def _without_shared(self, pages: list[Page], share: float) -> list[Page]:
        """Return the pages without what they share, and count it."""
        kept, shared = drop_shared(pages, share)
        of = f"of {len(pages)}"
        for block, count in shared.blocks.items():
            self.summary.drop("shared blocks (menus, footers, ...)", f"on {count} {of} pages: {_cut(block)}")
        for title, count in shared.titles.items():
            self.summary.drop("shared parts of titles", f"in {count} {of} titles: {_cut(title)}")
        return kept

    def _add_page(self, page: Page, words: int, overlap: int) -> None:
        name = as_id(page.id)
        number = 1
        while name in self.names.ids:
            number += 1
            name = f"{as_id(page.id)}~{number}"
        passages = cut_sections(page.sections, words, overlap)
        if not passages:
            self.summary.drop("pages with nothing of their own", str(page.place.path))
            return
        self.summary.pages += 1
        self.names.add(name, *page.names)
        for i, passage in enumerate(passages, start=1):
            key = name if len(passages) == 1 else f"{name}#{i}"
            passage = body_of(passage, page.title) or passage
            self.titles[key] = page.title
            self.texts[key] = f"{page.title}\n{passage}" if page.title else passage
            self.page_of[key] = name

    def cut_texts(self, words: int, overlap: int) -> None:
        """Cut documents of tables and the like into passages, as they are asked for."""
        self._id_by_text()
        for name in [name for name in self.texts if name not in self.page_of]:
            title = self.titles.get(name, "")
            body = body_of(self.texts[name], title)
            passages = cut_sections([Section("", body.split("\n"))], words, overlap)
            if len(passages) < 2:
                continue
            self.summary.pages += 1
            del self.texts[name]
            self.titles.pop(name, None)
            for i, passage in enumerate(passages, start=1):
                key = f"{name}#{i}"
                self.titles[key], self.page_of[key] = title, name
                self.texts[key] = f"{title}\n{passage}" if title else passage

    # -- judgments ---------------------------------------------------------------------------------------------------

    def match(self, dangling: str) -> list[Judged]:
        """Return the judgments with ids of queries and documents; those of unknown ones are left out, or refused."""
        of_file: dict[Path, list[Judged]] = defaultdict(list)
        for each in self.judged:
            of_file[each.place.path].append(each)
        self._declared = dict(self.queries)
        self._texts_of_queries = {query.text: query.id for query in self.queries.values()}
        matched: list[Judged] = []
        lost: dict[str, Counter[Path]] = {"query": Counter(), "document": Counter()}
        for path, judged in of_file.items():
            query_is, document_is = self._kinds(judged)
            self._check_known(path, judged, query_is, document_is)
            for each in judged:
                found = self._match_one(each, query_is, document_is)
                if isinstance(found, str):
                    lost[found][path] += 1
                    value = each.query if found == "query" else each.document
                    self.summary.drop(
                        f"judgments or clicks of an unknown {found}", f"{path}:{each.place.line}: {_cut(value)}"
                    )
                else:
                    matched.append(found)
        if dangling == "error" and any(lost.values()):
            raise self._dangling(lost, len(self.judged))
        return matched

    def _kinds(self, judged: list[Judged]) -> tuple[str, str]:
        """Return whether what a file calls query and document are ids or texts."""
        queries = {each.query for each in judged if each.query_is == "either"}
        documents = {each.document for each in judged if each.document_is == "either"}
        query_is = "id" if queries and sum(q in self.queries for q in queries) * 2 > len(queries) else "text"
        known = sum(self.names.find(as_id(d)) is not None for d in documents)
        words = sum(len(d.split()) for d in documents) / max(1, len(documents))
        are_ids = known * 2 > len(documents) or (bool(known) and words < 3)
        return query_is, "id" if documents and are_ids else "text"

    def _check_known(self, path: Path, judged: list[Judged], query_is: str, document_is: str) -> None:
        """Raise DataError where a file names queries or documents by ids and no source has their texts."""
        for kind, known in (("query", bool(self.queries)), ("document", bool(self.names.ids))):
            chosen = query_is if kind == "query" else document_is
            named = [e for e in judged if _is(e, kind) == "id" or (_is(e, kind) == "either" and chosen == "id")]
            if known or not named:
                continue
            shown = _cut(named[0].query if kind == "query" else named[0].document)
            what = "queries" if kind == "query" else "documents"
            raise DataError(
                path,
                None,
                f"it names {what} by id, such as {shown}, and no source has their texts",
                f"give these too: lorank import {what}=FILE {path} --out DIR",
            )

    def _match_one(self, each: Judged, query_is: str, document_is: str) -> Judged | str:
        """Return the judgment with ids, or the word for what is not known."""
        as_query = query_is if each.query_is == "either" else each.query_is
        as_document = document_is if each.document_is == "either" else each.document_is
        if as_query == "id" and as_id(each.query) not in self.queries:
            return "query"
        document = self.names.find(as_id(each.document)) if as_document == "id" else None
        if as_document == "id" and document is None:
            return "document"
        if document is None:
            document = self._id_by_text().get(self._key(each.document)) or self._enter_text(each.document)
        query = self._query_id(each, as_query)
        return replace(each, query=query, document=document)

    def _enter_text(self, text: str) -> str:
        name = self._id_by_text().setdefault(self._key(text), self._new_id("d", self.texts))
        self.texts[name] = text
        self.names.ids.add(name)
        return name

    def _query_id(self, each: Judged, kind: str) -> str:
        """Return the id of the query for what is said of it; each user, weight and group makes one of its own."""
        base = as_id(each.query) if kind == "id" else self._texts_of_queries.get(each.query)
        known = self._declared.get(base) if base is not None else None
        said = each.about if known is None else _merged(each.about, known.about)
        key = (each.query if kind == "text" else f"id:{base}", said.user, said.weight, said.group)
        if key not in self._variants:
            text = each.query if known is None else known.text
            name = base if base is not None and base not in self._taken else self._new_variant(base)
            self._variants[key] = name
            self._taken.add(name)
            self._texts_of_queries.setdefault(text, name)
            self.queries[name] = Query(each.place, name, text, replace(said, split=None))
        return self._variants[key]

    def _new_variant(self, base: str | None) -> str:
        if base is None:
            return self._new_id("q", self.queries)
        number = 2
        while f"{base}~{number}" in self.queries:
            number += 1
        return f"{base}~{number}"

    def _dangling(self, lost: dict[str, Counter[Path]], judged: int) -> DataError:
        count = sum(sum(files.values()) for files in lost.values())
        path = next(path for files in lost.values() for path in files)
        lines = [f"{count} of {judged} judgments or clicks name queries or documents that no source has"]
        for what, examples in self.summary.examples.items():
            if what.startswith("judgments or clicks of"):
                lines.append(f"  {self.summary.dropped[what]} {what}:")
                lines += [f"    {example}" for example in examples]
        known = ", ".join(_cut(name) for name in sorted(self.names.ids)[:3])
        lines.append(f"  known documents are called {known}")
        return DataError(path, None, "\n".join(lines), "leave them out with --dangling skip, or add what is missing")


def _is(each: Judged, kind: str) -> str:
    return each.query_is if kind == "query" else each.document_is


def _merged(said: Asked, known: Asked) -> Asked:
    """Return what a judgment says of its query, and where it says nothing what the query says."""
    return Asked(
        said.user if said.user is not None else known.user,
        said.weight if said.weight is not None else known.weight,
        said.group if said.group is not None else known.group,
        said.split if said.split is not None else known.split,
    )


def _cut(text: str, most: int = 60) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= most else f"{text[: most - 3]}...")
