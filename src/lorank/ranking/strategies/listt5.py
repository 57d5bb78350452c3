"""ListT5: a tournament in which m documents meet at a time, with its answers kept.

Documents are leaves of an m-ary tree. Each match lists its candidates, and its r winners go up, where the next m of all
that went up meet. When the winner of all is taken, only the matches that it stood in are played again; the first
``outputs`` places of a leaf group's answer are remembered, so that its next winners are known without asking.

Calls for n = m^d and r = 1: (n - 1)/(m - 1) for the first winner, and at most d = log_m n for each further one:
O(n + k log n) documents read. The matches of one level of the tree are asked together. With r = 2 each level has
2/m as many candidates as the one below in place of 1/m, and a document that meets the best one early is not lost to a
judge that errs once.

Any judge that orders lists plays it; the paper's is a Fusion-in-Decoder T5 (`lorank.ranking.judges.fusion`).

Paper: Yoon et al., ListT5: Listwise Reranking with Fusion-in-Decoder Improves Zero-shot Retrieval, 2024.

*Deviations*: the default is the paper's r = 1, and r = 2, which its scripts take, is ``winners=2``. Where documents
were taken the scripts fill a match up with others; here it is played by those that are left.
"""

from dataclasses import dataclass, field

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.judges import Session
from lorank.ranking.strategies.registry import Standing, register_strategy


@dataclass
class _Match:
    """A match: of ``documents``, or of those that stand at the ``slots``, each a match below and a rank in it.

    ``known`` are the first places, best first, of what met last, ``shown``.
    """

    documents: list[int] = field(default_factory=list)
    slots: "list[tuple[_Match, int]]" = field(default_factory=list)
    known: list[int] = field(default_factory=list)
    shown: tuple[int, ...] | None = None

    def candidates(self) -> tuple[int, ...]:
        sent = [match.known[rank] for match, rank in self.slots if rank < len(match.known)]
        return tuple(sorted({*self.documents, *sent}))


@register_strategy("listt5", title="ListT5: Listwise Reranking with Fusion-in-Decoder Improves Zero-shot Retrieval")
def listt5(
    session: Session, top: int, generator: np.random.Generator, *, size: int = 5, outputs: int = 2, winners: int = 1
) -> Standing:
    """Take the top from a tournament of ``size`` documents per match; ``outputs`` places of an answer are kept.

    Args:
        session: The questions to the judge about one query's documents, with its cache and its budget.
        top: The number of documents, 1 or more, that must stand in their final order.
        generator: It is not used.
        size: The number of documents in a match, 2 or more.
        outputs: The number of first places of an answer that are kept, from ``winners`` to ``size``.
        winners: The number of documents that a match sends up, from 1 to ``size`` - 1.

    Raises:
        UsageError: If a number is out of its range.
    """
    if size < 2 or not 1 <= outputs <= size:
        raise UsageError(f"a match needs 2 documents or more and 1 <= outputs <= size, got {size} and {outputs}")
    if not 1 <= winners <= min(outputs, size - 1):
        raise UsageError(
            f"winners must be from 1 to outputs and below size, got {winners}, outputs {outputs} and size {size}"
        )
    levels = _tree(session.count, size, winners)
    for level in levels:
        _play(session, level, outputs)
    root = levels[-1][0]
    home = {d: match for match in levels[0] for d in match.documents}
    taken: list[int] = []
    while root.known and len(taken) < top and not session.spent:
        taken.append(root.known[0])
        if len(taken) < top:
            _take(session, levels, home[taken[-1]], taken[-1], outputs, winners)
    chosen = set(taken)
    return Standing(taken + [d for d in range(session.count) if d not in chosen])


def _tree(count: int, size: int, winners: int) -> list[list[_Match]]:
    """Return the levels of matches, leaves first; a match sends up its winners, or all where it has fewer."""
    level = [_Match(documents=list(range(start, min(start + size, count)))) for start in range(0, count, size)]
    levels, room = [level], [len(match.documents) for match in level]
    while len(level) > 1:
        slots = [(match, rank) for match, held in zip(level, room) for rank in range(min(winners, held))]
        level = [_Match(slots=slots[start : start + size]) for start in range(0, len(slots), size)]
        levels.append(level)
        room = [len(match.slots) for match in level]
    return levels


def _play(session: Session, matches: list[_Match], outputs: int) -> None:
    """Play the matches whose candidates are not those that met last, in one round."""
    due = [(match, shown) for match in matches if (shown := match.candidates()) != match.shown]
    for (match, shown), order in zip(due, session.orders([shown for _, shown in due])):
        match.known, match.shown = order[:outputs], shown


def _take(
    session: Session, levels: list[list[_Match]], leaf: _Match, document: int, outputs: int, winners: int
) -> None:
    """Take a document out of its leaf, and play again what it stood in."""
    leaf.documents.remove(document)
    leaf.known.remove(document)
    if len(leaf.known) < min(winners, len(leaf.documents)):
        _play(session, [leaf], outputs)
    changed = [leaf]
    for level in levels[1:]:
        above = [match for match in level if any(below is each for below, _ in match.slots for each in changed)]
        _play(session, above, outputs)
        changed = above
