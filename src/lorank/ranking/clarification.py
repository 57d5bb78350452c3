r"""Clarification questions: a query that found nothing is met by the question whose answer would help it most.

    question(q) = argmax_t s(q, t)   over a fixed inventory of templates t,  s: any ranker of texts
    rewritten(q) = q + the terms of the answer that it lacks

The templates are documents to the ranker, and the failed queries with the questions that are valid for them are its
judgments: it is trained as every ranker is. An automatic rewriting has only the query; the answer brings terms that the
query never had.

Paper: M. M. Imran, K. Damevski 2022, *Using Clarification Questions to Improve Software Developers' Web Search*,
arXiv:2207.12768.

*Deviations*: the paper's network is one of its own; here any ranker of texts scores the templates. Its inventory was
made from queries of developers; `INVENTORY` names the same kinds of gaps in words of ours, and any other list of
questions may take its place.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lorank.errors import UsageError
from lorank.registration import catalogued

INVENTORY = (
    "Which programming language do you use?",
    "Which library or framework do you use?",
    "Which version do you use?",
    "Which operating system or platform do you use?",
    "What is the text of the error message?",
    "What do you want to do in the end?",
    "What have you tried so far?",
    "Which kind of data or format is it about?",
    "Which tool or editor do you use?",
    "Do you look for an example, an explanation or a comparison?",
)
"""Questions for queries of software developers, where no others are given."""

_TERM = re.compile(r"\w[\w.+#-]*")


class Scores(Protocol):
    """A ranker of texts."""

    def score(self, query: str, documents: Sequence[str]) -> np.ndarray:
        """Return a score for each document, float32 [n]."""
        ...


@dataclass(frozen=True)
class Clarification:
    """The question for a query, its score, and the whole inventory in the order of the scores, best first."""

    query: str
    question: str
    score: float
    order: tuple[str, ...]


@catalogued(
    "clarify-question-ranking",
    area="retrieve",
    title="Using clarification questions to improve software developers' Web search",
    reach="lorank clarify ask --ranker R --data D, with a ranker that lorank train made of the collection of "
    "lorank clarify collect; asking is no training run, so it has no recipe of its own",
)
def choose_questions(ranker: Scores, queries: Sequence[str], questions: Sequence[str]) -> list[Clarification]:
    """Return the question of the inventory for each query; of equal scores the earlier question.

    Args:
        ranker: What scores a question for a query.
        queries: The queries that failed.
        questions: The inventory, one or more.

    Raises:
        UsageError: For an inventory that is empty or names a question twice.

    >>> class Longest:
    ...     def score(self, query, documents):
    ...         return np.array([len(each) for each in documents], np.float32)
    >>> choose_questions(Longest(), ["sort fails"], ["Which?", "Which version?"])[0].question
    'Which version?'
    """
    if not questions or len(set(questions)) < len(questions):
        raise UsageError("the inventory of questions is empty, or a question stands in it twice")
    found = []
    for query in queries:
        scores = np.asarray(ranker.score(query, list(questions)), np.float64)
        order = np.argsort(-scores, kind="stable").tolist()
        best = order[0]
        found.append(Clarification(query, questions[best], float(scores[best]), tuple(questions[i] for i in order)))
    return found


def extended(query: str, answer: str) -> str:
    """Return the query with the terms of the answer that it lacks, each once and in their order.

    >>> extended("sort a dict", "a Dict of C++ strings, C++")
    'sort a dict of C++ strings'
    """
    known = {term.lower() for term in _TERM.findall(query)}
    more = []
    for term in _TERM.findall(answer):
        if term.lower() not in known:
            known.add(term.lower())
            more.append(term)
    return " ".join([query.rstrip(), *more])


def rewritten(queries: Mapping[str, str], answers: Mapping[str, str]) -> dict[str, str]:
    """Return the queries, those extended that have an answer; both are texts by the ids of the queries."""
    return {name: extended(text, answers[name]) if name in answers else text for name, text in queries.items()}
