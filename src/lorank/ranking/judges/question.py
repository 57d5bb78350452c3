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
import numbers
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

_SHOWN = 200
"""The most characters of an answer that a message shows."""

Answer: TypeAlias = float | int | tuple[float, ...] | tuple[int, ...]
"""A checked answer, in the form that its kind of question asks for."""


class Question(NamedTuple):
    """One question: its ``kind`` and the positions of the ``documents`` it shows, in the order shown."""

    kind: str
    documents: tuple[int, ...]


class Reply(NamedTuple):
    """What a judge said: the ``value`` as it came (unchecked, None when nothing was understood) and its cost.

    Numbers may be Python's, numpy's or tensors of one element, and lists may be arrays or tensors. A ``failure`` says
    that this question could not be put; it is raised once the rest of the batch is kept. ``text`` is what a language
    model wrote, to be shown where nothing in it can be read.
    """

    value: Any
    tokens_in: int = 0
    tokens_out: int = 0
    malformed: bool = False
    failure: Exception | None = None
    text: str | None = None

    def describe(self) -> str:
        """Return in a few words what was said, for messages about answers that could not be read.

        >>> Reply(float("nan")).describe(), Reply(None, text="I cannot\\nsay.").describe()
        ('NaN', "'I cannot say.'")
        """
        if self.text is not None:
            shown = " ".join(self.text.split())
            return repr(shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}...")
        if self.value is None:
            return "nothing"
        number = _real(self.value)
        if number is not None and not math.isfinite(number):
            return "NaN" if math.isnan(number) else "an infinite number"
        shown = repr(self.value)
        return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."


def neutral_answer(question: Question) -> Answer:
    """Return the answer that tells nothing, and so leaves the documents in the order shown.

    >>> neutral_answer(Question("pairwise", (4, 2))), neutral_answer(Question("listwise", (4, 2, 7)))
    (0.5, (0, 1, 2))
    """
    return _NEUTRAL[question.kind](len(question.documents))


def repair_answer(question: Question, value: Any) -> tuple[Answer, bool]:
    """Return a well-formed answer made of ``value``, and whether it had to be repaired or replaced.

    An order keeps the places it names once and is completed by the others in the order shown; numbers that are
    missing count as minus infinity (unknown, therefore last); anything else that is not an answer becomes neutral.

    >>> repair_answer(Question("listwise", (5, 6, 7)), [2, 2, 9])
    ((2, 0, 1), True)
    >>> repair_answer(Question("setwise", (5, 6, 7)), "the second")
    (0, True)
    """
    return _CHECKS[question.kind](question, value)


def _real(value: Any) -> float | None:
    """Return the real number that ``value`` is, None where it is none (booleans and texts are not)."""
    if isinstance(value, str | bytes | bool | np.bool_):
        return None
    if not isinstance(value, numbers.Real):
        one = getattr(value, "item", None)
        if one is None or math.prod(getattr(value, "shape", (0,))) != 1:
            return None
        value = one()
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            return None
    try:
        return float(value)
    except (OverflowError, ValueError, TypeError):
        return None


def as_number(value: Any) -> float | None:
    """Return ``value`` as a finite number: of Python, of numpy, or a tensor of one element; None for anything else.

    >>> as_number(np.float32(0.5)), as_number(np.array([2])), as_number(float("nan")), as_number(True), as_number("1")
    (0.5, 2.0, None, None, None)
    """
    number = _real(value)
    return number if number is not None and math.isfinite(number) else None


def _items(value: Any) -> Sequence[Any] | None:
    """Return the entries of a list, a tuple, or an array or tensor of one dimension; None for anything else."""
    if isinstance(value, Sequence):
        return None if isinstance(value, str | bytes) else value
    if len(getattr(value, "shape", ())) == 1 and hasattr(value, "tolist"):
        return list(value.tolist())
    return None


def _number(question: Question, value: Any) -> tuple[Answer, bool]:
    number = as_number(value)
    return (number, False) if number is not None else (neutral_answer(question), True)


def _share(question: Question, value: Any) -> tuple[Answer, bool]:
    number = as_number(value)
    return (number, False) if number is not None and 0 <= number <= 1 else (neutral_answer(question), True)


def _as_place(question: Question, value: Any) -> int | None:
    number = as_number(value)
    fits = number is not None and number.is_integer() and 0 <= number < len(question.documents)
    return int(number) if fits else None  # type: ignore[arg-type]


def _place(question: Question, value: Any) -> tuple[Answer, bool]:
    place = _as_place(question, value)
    return (place, False) if place is not None else (neutral_answer(question), True)


def _numbers(question: Question, value: Any) -> tuple[Answer, bool]:
    entries = _items(value)
    if entries is None or len(entries) != len(question.documents):
        return neutral_answer(question), True
    read = [as_number(entry) for entry in entries]
    if read and all(number is None for number in read):
        return neutral_answer(question), True
    return tuple(-math.inf if number is None else number for number in read), None in read


def _order(question: Question, value: Any) -> tuple[Answer, bool]:
    named, broken = _name_places(question, value)
    held = set(named)
    complete = named + tuple(p for p in range(len(question.documents)) if p not in held)
    return complete, broken or complete != named


def _selection(question: Question, value: Any) -> tuple[Answer, bool]:
    return (neutral_answer(question), True) if _items(value) is None else _name_places(question, value)


def _name_places(question: Question, value: Any) -> tuple[tuple[int, ...], bool]:
    entries = _items(value)
    if entries is None:
        return (), True
    places = [place for entry in entries if (place := _as_place(question, entry)) is not None]
    named = tuple(dict.fromkeys(places))
    return named, len(named) != len(entries)


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
