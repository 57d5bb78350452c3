"""ListT5: a tournament in which m documents meet at a time, with its answers kept.

Documents are leaves of an m-ary tree. Each node lists its candidates (documents, or its children's winners) and its
winner goes up. When the winner of all is taken, only its path is played again; the first ``outputs`` places of a
leaf group's answer are remembered, so that its next winner is known without asking.

Calls for n = m^d: (n - 1)/(m - 1) for the first winner, and at most d = log_m n for each further one: O(n + k log n)
documents read. The matches of one level of the tree are asked together.

Paper: Yoon et al., ListT5: Listwise Reranking with Fusion-in-Decoder Improves Zero-shot Retrieval, 2024.

*Deviations*: one winner of a match goes up (the paper's r = 1), whatever ``outputs`` remembers; the paper's r = 2
sends two.
"""

from dataclasses import dataclass, field

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.judges import Session
from lorank.ranking.strategies.registry import Standing, register_strategy


@dataclass
class _Match:
    parent: "_Match | None" = None
    children: "list[_Match]" = field(default_factory=list)
    documents: list[int] = field(default_factory=list)
    known: list[int] = field(default_factory=list)

    def candidates(self) -> list[int]:
        return self.documents + [child.known[0] for child in self.children if child.known]


@register_strategy("listt5", title="ListT5: Listwise Reranking with Fusion-in-Decoder Improves Zero-shot Retrieval")
def listt5(session: Session, top: int, generator: np.random.Generator, *, size: int = 5, outputs: int = 2) -> Standing:
    """Take the top from a tournament of ``size`` documents per match; ``outputs`` places of an answer are kept.

    Args:
        session: The questions to the judge about one query's documents, with its cache and its budget.
        top: The number of documents, 1 or more, that must stand in their final order.
        generator: It is not used.
        size: The number of documents in a match, 2 or more.
        outputs: The number of first places of an answer that are kept, from 1 to ``size``.

    Raises:
        UsageError: If a number is out of its range.
    """
    if size < 2 or not 1 <= outputs <= size:
        raise UsageError(f"a match needs 2 documents or more and 1 <= outputs <= size, got {size} and {outputs}")
    levels = _tree(session.count, size)
    for level in levels:
        _play(session, level, outputs)
    root = levels[-1][0]
    home = {d: match for match in levels[0] for d in match.documents}
    taken: list[int] = []
    while root.known and len(taken) < top and not session.spent:
        taken.append(root.known[0])
        if len(taken) < top:
            _take(session, home[taken[-1]], taken[-1], outputs)
    chosen = set(taken)
    return Standing(taken + [d for d in range(session.count) if d not in chosen])


def _tree(count: int, size: int) -> list[list[_Match]]:
    level = [_Match(documents=list(range(start, min(start + size, count)))) for start in range(0, count, size)]
    levels = [level]
    while len(level) > 1:
        level = [_Match(children=level[start : start + size]) for start in range(0, len(level), size)]
        for match in level:
            for child in match.children:
                child.parent = match
        levels.append(level)
    return levels


def _play(session: Session, matches: list[_Match], outputs: int) -> None:
    for match, order in zip(matches, session.orders([match.candidates() for match in matches])):
        match.known = order[:outputs]


def _take(session: Session, leaf: _Match, document: int, outputs: int) -> None:
    leaf.documents.remove(document)
    leaf.known.remove(document)
    if not leaf.known:
        _play(session, [leaf], outputs)
    match = leaf.parent
    while match is not None:
        _play(session, [match], outputs)
        match = match.parent
