"""Matched judgments as qrels, candidate lists and propensities, each per split that the sources name.

A judgment of a page that was cut goes to the passage that shares most of the query's rare words with it (the first of
several), or with ``all`` to every passage: by page both say the same. What is judged several times has the largest, the
mean or the summed label.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from lorank.data.collection import Split
from lorank.data.importing.found import Judged
from lorank.data.importing.gather import Gathered, Repeated
from lorank.data.numbers import as_whole
from lorank.errors import DataError, report_bad
from lorank.ranking.types import Qrels, Run

PageLabels = Literal["best", "all"]
Key = tuple[str, str]


@dataclass
class Judgments:
    """The judgments of one split."""

    labels: dict[Key, list[float]] = field(default_factory=lambda: defaultdict(list))
    scores: dict[Key, float] = field(default_factory=dict)
    propensities: dict[Key, list[float]] = field(default_factory=lambda: defaultdict(list))

    def update(self, other: "Judgments") -> None:
        """Take in the judgments of another."""
        for mine, more in ((self.labels, other.labels), (self.propensities, other.propensities)):
            for key, values in more.items():
                mine[key] = [*mine.get(key, []), *values]
        self.scores.update(other.scores)


_REDUCE: dict[str, Callable[[list[float]], float]] = {
    "max": max,
    "sum": sum,
    "mean": lambda values: sum(values) / len(values),
}


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


class BestPassage:
    """Finds the passage of a page that a query is most likely about: sum of idf over the words that both hold."""

    def __init__(self, gathered: Gathered) -> None:
        self.passages: dict[str, list[str]] = defaultdict(list)
        for passage, page in gathered.page_of.items():
            self.passages[page].append(passage)
        self.texts = gathered.texts
        cut = [p for passages in self.passages.values() if len(passages) > 1 for p in passages]
        self.words = {passage: _words(self.texts[passage]) for passage in cut}
        seen = Counter(word for words in self.words.values() for word in words)
        self.idf = {word: math.log(1 + len(cut) / count) for word, count in seen.items()}

    def of(self, page: str, query: str, which: PageLabels) -> list[str]:
        """Return the passages that a judgment of a page goes to."""
        passages = self.passages.get(page, [page])
        if which == "all" or len(passages) == 1:
            return passages
        asked = _words(query)
        return [max(passages, key=lambda p: math.fsum(sorted(self.idf[word] for word in asked & self.words[p])))]


def split_judgments(
    gathered: Gathered, matched: list[Judged], which: PageLabels, *, apart: bool
) -> dict[str | None, Judgments]:
    """Return the judgments of each split that is named, of None where none is or they are not kept ``apart``.

    Args:
        gathered: Everything that was found, with the passages of pages.
        matched: The judgments whose query and document are known.
        which: The passages that a judgment of a page goes to: ``best`` or ``all``.
        apart: True keeps the splits that the judgments name.
    """
    best = BestPassage(gathered)
    found: dict[str | None, Judgments] = defaultdict(Judgments)
    for each in matched:
        part = found[each.about.split if apart else None]
        for document in best.of(each.document, gathered.queries[each.query].text, which):
            key = (each.query, document)
            part.labels[key].append(each.label)
            if each.score is not None:
                part.scores[key] = each.score
            if each.propensity is not None:
                part.propensities[key].append(each.propensity)
    return dict(found)


def as_split(gathered: Gathered, part: Judgments, name: str, repeated: Repeated) -> Split:
    """Return a split of judgments, with lists, users, weights, groups and propensities where they are known.

    Args:
        gathered: Everything that was found, which gives the texts of queries and what is known of them.
        part: The judgments of the split.
        name: The name of the split.
        repeated: What several labels of one query and document become: their ``max``, ``mean`` or ``sum``.
    """
    reduce = _REDUCE[repeated]
    qrels: Qrels = {}
    propensities: Run = {}
    for (query, document), labels in part.labels.items():
        qrels.setdefault(query, {})[document] = as_whole(reduce(labels))
        if len(labels) > 1:
            gathered.summary.drop(f"repeated judgments (their {repeated} is kept)", count=len(labels) - 1)
        if values := part.propensities.get((query, document)):
            propensities.setdefault(query, {})[document] = sum(values) / len(values)
    _drop_without_user(gathered, qrels)
    about = {query: gathered.queries[query].about for query in qrels}
    lists = {query: {d: part.scores.get((query, d), 0.0) for d in row} for query, row in qrels.items()}
    contrast = any(len({label > 0 for label in row.values()}) == 2 for row in qrels.values())
    return Split(
        name,
        {query: gathered.queries[query].text for query in qrels},
        qrels,
        lists if gathered.from_rows and (contrast or part.scores) else None,
        {query: said.user for query, said in about.items() if said.user is not None} or None,
        {query: said.weight for query, said in about.items() if said.weight is not None} or None,
        {query: said.group for query, said in about.items() if said.group is not None} or None,
        {query: row for query, row in propensities.items() if query in qrels} or None,
    )


def _drop_without_user(gathered: Gathered, qrels: Qrels) -> None:
    """Take out, as bad, the queries without a user where others have one: losses over users need all."""
    without = [query for query in qrels if gathered.queries[query].about.user is None]
    if len(without) == len(qrels):
        return
    for query in without:
        place = gathered.queries[query].place
        problem = f"the query {query!r} has no user, and others have one"
        error = DataError(place.path, place.line, problem, "give every row its user, or drop the column")
        report_bad(error, gathered.queries[query].text, gathered.on_bad)
        del qrels[query]
