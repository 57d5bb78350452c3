r"""Documents as passages that each begin with the document's title.

    s(q, d) = (max_w sim(q, t + w) + b sim(q, t)) / (1 + b)          sim(q, d) = max_w sim(q, w) without a title

over the windows w of the body after the title t; b is the weight of the title alone. A window from the middle of a
document seldom names what the document is about, and the title does. The title is the first line of a text where that
is short and something follows it.

Papers: Dai & Callan 2019, arXiv:1905.09217, the best passage (MaxP), whose passages carry the title; Zamani et al.
2018, Neural Ranking Models with Multiple Document Fields, arXiv:1711.09174, a score for each field.

*Deviations*: the weight of the title is a constant, not learned.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lorank.ranking.scorers.tokens import Span, TokenTable, windows

TITLED_PASSAGE = 64
"""The most tokens of a passage with its title, where nothing else is said."""
LONGEST_TITLE = 32
"""The most words of a first line that is a title."""


def split_title(text: str) -> tuple[str, str]:
    """Return the title and the body of a text; the title is empty where the text has none.

    >>> split_title("Sorting\\nUse sorted()."), split_title("No title here."), split_title("Only a title\\n")
    (('Sorting', 'Use sorted().'), ('', 'No title here.'), ('', 'Only a title'))
    """
    title, _, body = text.strip().partition("\n")
    title, body = title.strip(), body.strip()
    return (title, body) if body and len(title.split()) <= LONGEST_TITLE else ("", text.strip())


@dataclass(frozen=True)
class Parts:
    """The parts of each text of a token table: its title, where it has one, then its passages.

    Attributes:
        first: The first part of each text, int64 [texts + 1].
        start: The first token of each part within its text, int64 [parts].
        length: The tokens of each part, int64 [parts].
        titled: Whether the first part of a text is its title, bool [texts].
    """

    first: np.ndarray
    start: np.ndarray
    length: np.ndarray
    titled: np.ndarray

    def spans(self, texts: np.ndarray) -> Span:
        """Return the parts of ``texts`` int64 [n] as spans whose text is a position in ``texts``."""
        counts = np.diff(self.first)[texts]
        owner = np.repeat(np.arange(len(texts)), counts)
        rows = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts) + self.first[texts][owner]
        return Span(owner, self.start[rows], self.length[rows])


NO_PARTS = Parts(np.zeros(1, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, bool))


@dataclass(frozen=True)
class TitledTable(TokenTable):
    """Texts laid out part after part: the title, then each passage with the title before it.

    The ``offsets`` bound what is laid out, in which the tokens of a title stand once for each passage.
    """

    every_part_has_prompt: ClassVar[bool] = True
    parts: Parts = NO_PARTS


def lay_out_titled(
    texts: Sequence[str], tokens: Callable[[Sequence[str], str], TokenTable], room: int, overlap: int, prefix: str = ""
) -> TitledTable:
    """Return the texts laid out as titled passages of at most ``room`` tokens.

    Args:
        texts: The texts, titles included.
        tokens: It tokenises texts with a prefix.
        room: The most tokens of a passage with its title, 2 or more; a title takes half of it at most.
        overlap: The number of tokens that neighbouring windows share where they have room for twice as many.
        prefix: The text before each part.
    """
    split = [split_title(text) for text in texts]
    heads, bodies = tokens([title for title, _ in split], prefix), tokens([body for _, body in split], "")
    head_lengths = np.minimum(heads.lengths, room // 2)
    beside = room - head_lengths
    owner, start, length = windows(bodies.lengths, beside, np.minimum(overlap, beside // 2))
    titled = np.array([bool(title) for title, _ in split], bool)
    counts = np.bincount(owner, minlength=len(split)) + titled
    first = np.concatenate([[0], np.cumsum(counts)])
    rows: list[np.ndarray] = []
    for text in range(len(split)):
        head = heads.row(text)[: head_lengths[text]]
        if titled[text]:
            rows.append(head)
        begin, end = np.searchsorted(owner, [text, text + 1])
        body = bodies.row(text)
        rows += [np.concatenate([head, body[start[w] : start[w] + length[w]]]) for w in range(begin, end)]
    lengths = np.array([len(row) for row in rows], np.int64)
    places = np.concatenate([[0], np.cumsum(lengths)])
    offsets = places[first]
    parts = Parts(first, places[:-1] - np.repeat(offsets[:-1], counts), lengths, titled)
    ids = np.concatenate(rows).astype(np.int32) if rows else np.zeros(0, np.int32)
    return TitledTable(ids, offsets, room, heads.prompts, parts=parts)


def blend_titles(values: np.ndarray, begins: np.ndarray, titled: np.ndarray, weight: float) -> np.ndarray:
    """Return the similarity of each document from those of its parts.

    Args:
        values: The similarities of the parts [parts], grouped by document.
        begins: The int64 [documents] first part of each document.
        titled: The bool [documents], True where the first part is the title.
        weight: The weight of the title, 0 or more.

    >>> blend_titles(np.array([0.2, 0.8, 0.5, 0.6]), np.array([0, 3]), np.array([True, False]), 0.5).round(2).tolist()
    [0.6, 0.6]
    """
    passages = values.copy()
    passages[begins[titled]] = -np.inf
    best = np.maximum.reduceat(passages, begins)
    return np.where(titled, (best + weight * values[begins]) / (1 + weight), best)
