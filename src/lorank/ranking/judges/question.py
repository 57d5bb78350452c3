"""The questions that a judge can be asked, and what an answer to each of them is.

A question shows documents in an order; ``documents`` are positions in the list that is being ranked, and a *place*
is a position in the question itself.

============== ===================================================== =======================================
kind           asks                                                  answer
============== ===================================================== =======================================
``pointwise``  how relevant is this one document?                    a number, comparable between questions
``pairwise``   is the first of these two the better one?             1 yes, 0 no, 0.5 cannot tell, or between
``setwise``    which of these is the most relevant?                  its place
``exclude``    which of these is the least relevant?                 its place
``groupwise``  how relevant is each of these?                        a number each, comparable between groups
``listwise``   in which order do these go?                           every place once, best first
``identifiers`` which goes first? (one token, all its logits read)   a number each, comparable within the list
``selection``  which of these are worth reading, in which order?     some places, best first, perhaps none
============== ===================================================== =======================================
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

Answer: TypeAlias = float | int | tuple[float, ...] | tuple[int, ...]
"""A checked answer, in the form that its kind of question asks for."""


class Question(NamedTuple):
    """One question: its ``kind`` and the positions of the ``documents`` it shows, in the order shown."""

    kind: str
    documents: tuple[int, ...]


class Reply(NamedTuple):
    """What a judge said: the ``value`` as it came (unchecked, None when nothing was understood) and its cost.

    A ``failure`` says that this question could not be put; it is raised once the rest of the batch is kept.
    """

    value: Any
    tokens_in: int = 0
    tokens_out: int = 0
    malformed: bool = False
    failure: Exception | None = None


def neutral(question: Question) -> Answer:
    """Return the answer that tells nothing, and so leaves the documents in the order shown.

    >>> neutral(Question("pairwise", (4, 2))), neutral(Question("listwise", (4, 2, 7)))
    (0.5, (0, 1, 2))
    """
    return _NEUTRAL[question.kind](len(question.documents))


def checked(question: Question, value: Any) -> tuple[Answer, bool]:
    """Return a well-formed answer made of ``value``, and whether it had to be repaired or replaced.

    An order keeps the places it names once and is completed by the others in the order shown; numbers that are
    missing count as minus infinity (unknown, therefore last); anything else that is not an answer becomes neutral.

    >>> checked(Question("listwise", (5, 6, 7)), [2, 2, 9])
    ((2, 0, 1), True)
    >>> checked(Question("setwise", (5, 6, 7)), "the second")
    (0, True)
    """
    return _CHECKS[question.kind](question, value)


def is_number(value: Any) -> bool:
    """Return whether ``value`` is a finite real number (booleans are not)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _number(question: Question, value: Any) -> tuple[Answer, bool]:
    return (float(value), False) if is_number(value) else (neutral(question), True)


def _share(question: Question, value: Any) -> tuple[Answer, bool]:
    return (float(value), False) if is_number(value) and 0 <= value <= 1 else (neutral(question), True)


def _place(question: Question, value: Any) -> tuple[Answer, bool]:
    fits = is_number(value) and value == int(value) and 0 <= value < len(question.documents)
    return (int(value), False) if fits else (neutral(question), True)


def _numbers(question: Question, value: Any) -> tuple[Answer, bool]:
    if not _is_list(value) or len(value) != len(question.documents):
        return neutral(question), True
    good = [is_number(v) for v in value]
    if not any(good) and good:
        return neutral(question), True
    return tuple(float(v) if fine else -math.inf for v, fine in zip(value, good)), not all(good)


def _order(question: Question, value: Any) -> tuple[Answer, bool]:
    named, broken = _named_places(question, value)
    held = set(named)
    complete = named + tuple(p for p in range(len(question.documents)) if p not in held)
    return complete, broken or complete != named


def _selection(question: Question, value: Any) -> tuple[Answer, bool]:
    return _named_places(question, value) if _is_list(value) else (neutral(question), True)


def _named_places(question: Question, value: Any) -> tuple[tuple[int, ...], bool]:
    if not _is_list(value):
        return (), True
    fitting = [int(v) for v in value if is_number(v) and v == int(v) and 0 <= v < len(question.documents)]
    named = tuple(dict.fromkeys(fitting))
    return named, len(named) != len(value)


_CHECKS: dict[str, Callable[[Question, Any], tuple[Answer, bool]]] = {
    "pointwise": _number,
    "pairwise": _share,
    "setwise": _place,
    "exclude": _place,
    "groupwise": _numbers,
    "listwise": _order,
    "identifiers": _numbers,
    "selection": _selection,
}
_NEUTRAL: dict[str, Callable[[int], Answer]] = {
    "pointwise": lambda size: -math.inf,
    "pairwise": lambda size: 0.5,
    "setwise": lambda size: 0,
    "exclude": lambda size: size - 1,
    "groupwise": lambda size: (-math.inf,) * size,
    "listwise": lambda size: tuple(range(size)),
    "identifiers": lambda size: tuple(float(-place) for place in range(size)),
    "selection": lambda size: tuple(range(size)),
}
KINDS = frozenset(_CHECKS)
"""Every kind of question."""
