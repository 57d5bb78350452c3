"""From what a language model writes to the value of an answer: thinking skipped, nothing invented.

Only what follows the last ``</think>`` counts, and within it the last ``<answer>...</answer>`` if there is one. A reply
that is still thinking when it ends has no answer. What is read is handed to
:func:`lorank.ranking.judges.question.checked`, which repairs or replaces it and says so.
"""

import re
from collections.abc import Callable
from typing import Any

from lorank.ranking.judges.question import Question

_BRACKETED = re.compile(r"\[\s*(\d{1,6})\s*\]")
_INTEGER = re.compile(r"(?<![\d.])\d{1,6}(?![\d.]*\d)")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_SCORED = re.compile(r"\[\s*(\d{1,6})\s*\]\"?\s*[:=]\s*(-?\d+(?:\.\d+)?)")
NOTHING = "NONE"
"""What a selection of no document is written as."""
_WORDS = {"yes": 1.0, "no": 0.0, "true": 1.0, "false": 0.0}


def final_part(text: str) -> str | None:
    """Return what a reply says after thinking, or None if it never got there.

    >>> final_part("<think>[1] looks good</think> <answer>[2] > [1]</answer>")
    '[2] > [1]'
    >>> final_part("<think>[1] looks go") is None
    True
    """
    _, closed, after = text.rpartition("</think>")
    if not closed and "<think>" in text:
        return None
    if "<think>" in after:
        return None
    said = after if closed else text
    answers = re.findall(r"<answer>(.*?)</answer>", said, flags=re.DOTALL)
    return (answers[-1] if answers else said).strip()


def read_reply(question: Question, text: str) -> Any:
    """Return the value of the answer in ``text``, None where there is none.

    >>> read_reply(Question("listwise", (7, 8, 9)), "[3] > [1] > [2]")
    [2, 0, 1]
    >>> read_reply(Question("groupwise", (7, 8)), "[1]: 3.5, [2]: 8")
    [3.5, 8.0]
    """
    said = final_part(text)
    return None if said is None else _READERS[question.kind](question, said)


def _read_score(question: Question, said: str) -> float | None:
    word = said.strip(" .!*\"'").lower()
    if word in _WORDS:
        return _WORDS[word]
    numbers = _NUMBER.findall(re.sub(r"/\s*10\b", "", said))
    return float(numbers[0]) if len(numbers) == 1 else None


def _read_preference(question: Question, said: str) -> float | None:
    if said.strip(" .").lower() in ("tie", "equal", "both", "neither"):
        return 0.5
    place = _read_place(question, said)
    return None if place not in (0, 1) else 1.0 - place


def _read_place(question: Question, said: str) -> int | None:
    named = set(_identifiers(said))
    return named.pop() if len(named) == 1 else None


def _read_order(question: Question, said: str) -> list[int] | None:
    return _identifiers(said) or None


def _read_selection(question: Question, said: str) -> list[int] | None:
    return [] if said.strip(" .[]").lower() in (NOTHING.lower(), "") else _identifiers(said) or None


def _read_scores(question: Question, said: str) -> list[float | None] | None:
    scored = {int(number) - 1: float(score) for number, score in _SCORED.findall(said)}
    if not scored:
        numbers: list[float | None] = [float(n) for n in _NUMBER.findall(said)]
        return numbers if len(numbers) == len(question.documents) else None
    return [scored.get(place) for place in range(len(question.documents))]


def _identifiers(said: str) -> list[int]:
    found = _BRACKETED.findall(said) or _INTEGER.findall(said)
    return [int(number) - 1 for number in found]


_READERS: dict[str, Callable[[Question, str], Any]] = {
    "pointwise": _read_score,
    "pairwise": _read_preference,
    "setwise": _read_place,
    "exclude": _read_place,
    "groupwise": _read_scores,
    "listwise": _read_order,
    "identifiers": lambda question, said: None,
    "selection": _read_selection,
}
