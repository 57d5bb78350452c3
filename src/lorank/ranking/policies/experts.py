r"""The expert: the reply that the labels of the documents shown ask for, which behaviour cloning imitates.

    setwise, exclude   the place of a document of the highest, the lowest grade
    listwise           all places by grade, best first
    selection          the places of the documents above grade 0 by grade, best first; NONE where there is none
    pointwise          round(10 y / Y), Y the highest grade of the collection
    groupwise          that of each document

Equal grades keep the order shown. A selection is thus as long as there are documents worth reading, 0 to n.

Papers: J. Sun et al., DynamicRAG, 2025 (behaviour cloning of an expert's ordered list of any length); Y. Cai et al.,
ERank, 2025 (integer scores from 0 to 10).

*Deviations*: the experts of both papers are large models whose lists, and whose reasoning, are imitated; here the
expert is the user's judgments, which have no reasoning.
"""

from collections.abc import Callable, Sequence

from lorank.errors import UsageError, unknown_name
from lorank.ranking.judges.reading import NOTHING

HIGHEST = 10
"""The highest score that prompts ask for."""


def expert_order(labels: Sequence[float]) -> list[int]:
    """Return the places by grade, best first; equal grades keep their order.

    >>> expert_order([0.0, 2.0, 1.0, 2.0])
    [1, 3, 2, 0]
    """
    return sorted(range(len(labels)), key=lambda place: -labels[place])


def expert_score(label: float, highest: float) -> int:
    """Return the integer from 0 to 10 that a grade stands for.

    Args:
        label: The grade; one below 0 counts as 0.
        highest: The grade, above 0, that is worth 10.

    >>> expert_score(2.0, highest=3.0), expert_score(3.0, highest=3.0)
    (7, 10)
    """
    if not highest > 0:
        raise UsageError(f"the highest grade must be above 0 to give scores; got {highest:g}")
    return round(HIGHEST * min(max(label, 0.0), highest) / highest)


def expert_selection(labels: Sequence[float]) -> list[int]:
    """Return the places of the documents above grade 0, best first.

    >>> expert_selection([0.0, 1.0, 2.0]), expert_selection([0.0, 0.0])
    ([2, 1], [])
    """
    return [place for place in expert_order(labels) if labels[place] > 0]


def _named(places: Sequence[int]) -> str:
    return " > ".join(f"[{place + 1}]" for place in places)


_REPLIES: dict[str, Callable[[Sequence[float], float], str]] = {
    "setwise": lambda labels, highest: _named(expert_order(labels)[:1]),
    "exclude": lambda labels, highest: _named(expert_order([-label for label in labels])[:1]),
    "listwise": lambda labels, highest: _named(expert_order(labels)),
    "selection": lambda labels, highest: _named(expert_selection(labels)) or NOTHING,
    "pointwise": lambda labels, highest: str(expert_score(labels[0], highest)),
    "groupwise": lambda labels, highest: ", ".join(
        f"[{place + 1}]: {expert_score(label, highest)}" for place, label in enumerate(labels)
    ),
}


def expert_reply(kind: str, labels: Sequence[float], highest: float) -> str:
    """Return what the expert replies to a question of ``kind``.

    Args:
        kind: The kind of question.
        labels: The grades of the documents, in the order shown.
        highest: The highest grade of the collection, above 0 where scores are asked for.

    Raises:
        UsageError: For a kind that is not answered in writing.

    >>> expert_reply("selection", [0.0, 1.0, 3.0], 3.0), expert_reply("groupwise", [0.0, 3.0], 3.0)
    ('[3] > [2]', '[1]: 0, [2]: 10')
    """
    if kind not in _REPLIES:
        raise unknown_name("kind of question with an expert:", kind, _REPLIES)
    return _REPLIES[kind](labels, highest)
