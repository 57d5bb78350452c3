"""Lessons for judges: judged lists written as prompts with the replies that a judge could give, and which is right.

A lesson is a training row ``{"query": prompt, "docs": replies, "labels": grades}`` for a ``ReplyRanker``, so that a
judge is taught by `lorank.fit` with any low-rank form and any loss:

- FIRST: the letters of a listwise prompt, graded as their documents are; loss ``first-sft``.
- ERank: the integers 0 to 10 of a pointwise prompt, the right one graded 1; loss ``softmax``, which over the integers
  is the cross-entropy of the reply. The judge then answers by the expected score.
- ProRank: 1 and 0 of a binary prompt; its score stage is a ``CausalRanker(answers=("1", "0"))`` with any ranking loss.

Prompts are those of ``CausalJudge``, so what is learned is what is asked.
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.judges.causal import CausalJudge
from lorank.ranking.judges.prompts import LETTERS, Prompts
from lorank.ranking.judges.question import Question

Lesson: TypeAlias = dict[str, Any]
"""A training row."""


def first_lessons(
    query: str,
    documents: Sequence[str],
    labels: Sequence[int],
    *,
    generator: np.random.Generator,
    prompts: Prompts | None = None,
    size: int = 20,
    copies: int = 1,
) -> list[Lesson]:
    """Return ``copies`` listwise prompts of at most ``size`` documents each, drawn and ordered at random.

    ``labels`` are grades from 0 up, or a teacher's order as n - rank. Draws whose documents are all of one grade say
    nothing and are left out.

    Args:
        query: The text of the query.
        documents: The texts of the documents.
        labels: The grades of the documents, 0 and up, or a teacher's order as n - rank.
        generator: The source of the draws.
        prompts: The templates; None stands for lorank's own.
        size: The most documents in a prompt, from 2 to the number of letters.
        copies: The number of draws.

    Raises:
        UsageError: If ``size`` is out of its range, or documents and labels do not match.

    >>> rng = np.random.default_rng(0)
    >>> first_lessons("q", ["a", "b"], [0, 1], generator=rng)[0]["docs"]
    ['A', 'B']
    """
    _check(documents, labels)
    if not 2 <= size <= len(LETTERS):
        raise UsageError(f"size must be from 2 to {len(LETTERS)}, one letter a document; got {size}")
    prompts, lessons = prompts or Prompts.load(), []
    for _ in range(copies):
        shown = generator.permutation(len(documents))[:size]
        grades = [int(labels[d]) for d in shown]
        if len(set(grades)) > 1:
            text = prompts.text(query, documents, Question("identifiers", tuple(map(int, shown))), letters=True)
            lessons.append({"query": text, "docs": list(LETTERS[: len(shown)]), "labels": grades})
    return lessons


def score_lessons(
    query: str,
    documents: Sequence[str],
    labels: Sequence[float],
    *,
    highest: float,
    prompts: Prompts | None = None,
    scores: Iterable[int] = range(11),
) -> list[Lesson]:
    """Return ERank's lesson of each document: of the integers ``scores`` the one nearest to its grade.

    ``highest`` is the grade that becomes the largest of the scores; leave out 10 where it is no token of its own.

    Args:
        query: The text of the query.
        documents: The texts of the documents.
        labels: The grades of the documents, from 0 to ``highest``.
        highest: The grade, above 0, that becomes the largest of the scores.
        prompts: The templates; None stands for lorank's own.
        scores: The integers that a reply may be.

    Raises:
        UsageError: If a label is out of its range, or documents and labels do not match.

    >>> score_lessons("q", ["a"], [3], highest=3, scores=range(3))[0]["labels"]
    [0, 0, 1]
    """
    _check(documents, labels)
    if not highest > 0 or max(labels, default=0) > highest or min(labels, default=0) < 0:
        raise UsageError(f"labels must be from 0 to highest; got {min(labels)} to {max(labels)} and {highest}")
    prompts, integers = prompts or Prompts.load(), sorted(scores)
    lessons = []
    for d, label in enumerate(labels):
        wanted = integers[0] + label / highest * (integers[-1] - integers[0])
        right = int(np.abs(np.array(integers) - wanted).argmin())
        text = prompts.text(query, documents, Question("pointwise", (d,)))
        lessons.append(
            {"query": text, "docs": list(map(str, integers)), "labels": [int(i == right) for i in range(len(integers))]}
        )
    return lessons


def binary_lessons(
    query: str, documents: Sequence[str], labels: Sequence[int], *, template: str, replies: tuple[str, str] = ("1", "0")
) -> list[Lesson]:
    """Return ProRank's lesson of each document: whether it is relevant (label above 0), by a prompt of one's own.

    Args:
        query: The text of the query.
        documents: The texts of the documents.
        labels: The grades of the documents, of which those above 0 are relevant.
        template: The prompt, which has $query and $documents and says how to reply.
        replies: The replies for a relevant document and for another.
    """
    _check(documents, labels)
    return [
        {
            "query": template.replace("$query", query).replace("$documents", text),
            "docs": list(replies),
            "labels": [int(label > 0), int(label <= 0)],
        }
        for text, label in zip(documents, labels)
    ]


def taught_judge(ranker: Any, **options: Any) -> CausalJudge:
    """Return the judge that a causal ranker's model has become, adapter and all; ``options`` are the judge's."""
    return CausalJudge(ranker.module, ranker.tokenizer, **options)


def _check(documents: Sequence[str], labels: Sequence[float]) -> None:
    if len(documents) != len(labels):
        raise UsageError(f"{len(labels)} labels for {len(documents)} documents")
