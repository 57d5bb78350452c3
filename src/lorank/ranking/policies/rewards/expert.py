r"""How near a reply is to the expert's (`lorank.ranking.policies.experts`), from 0 to 1, for every kind of question.

    setwise, exclude      1 for a document of the highest, the lowest grade
    listwise              nDCG of the whole list
    selection             F1 of what is named and what is above grade 0, times the nDCG of what is named; 1 where both
                          are empty
    pointwise, groupwise  1 - mean |score - expert's| / 10

A reply that cannot be read, or names what was not shown, earns 0. It is what dev measures of behaviour cloning.
"""

from collections.abc import Callable, Sequence

from lorank.ranking.judges.question import Question
from lorank.ranking.judges.reading import read_reply
from lorank.ranking.losses.rewards import ndcg
from lorank.ranking.policies.experts import HIGHEST, expert_score, expert_selection
from lorank.ranking.policies.rewards.registry import Asked, reward

KINDS = ("setwise", "listwise", "groupwise", "exclude", "selection", "pointwise")


@reward("expert", kinds=KINDS, parts=("expert",), empty=True)
def expert(text: str, asked: Asked) -> list[float]:
    """Return how near the reply is to the expert's.

    >>> expert("[2] > [1]", Asked("selection", (1.0, 2.0, 0.0))), expert("NONE", Asked("selection", (0.0, 0.0)))
    ([1.0], [1.0])
    >>> expert("7", Asked("pointwise", (1.0,), highest=1.0))
    [0.7]
    """
    said = read_reply(Question(asked.kind, tuple(range(asked.size))), text)
    return [0.0 if said is None else _NEAR[asked.kind](said, asked)]


def _place(said: int, asked: Asked) -> float:
    if not 0 <= said < asked.size:
        return 0.0
    label = asked.labels[said]
    return float(label <= min(asked.labels) if asked.kind == "exclude" else label >= max(asked.labels))


def _listed(said: Sequence[int], asked: Asked) -> float:
    return ndcg(said, asked.labels) if sorted(said) == list(range(asked.size)) else 0.0


def _selected(said: Sequence[int], asked: Asked) -> float:
    right, named = set(expert_selection(asked.labels)), set(said)
    if len(named) != len(said) or not named <= set(range(asked.size)):
        return 0.0
    if not right or not named:
        return float(right == named)
    order = [asked.labels[place] for place in said]
    gain = ndcg(range(len(order)), order, len(order))
    return 2 * len(right & named) / (len(right) + len(named)) * gain


def _scored(said: float | Sequence[float | None], asked: Asked) -> float:
    scores = [said] if isinstance(said, float) else list(said)
    if len(scores) != asked.size or any(score is None or not 0 <= score <= HIGHEST for score in scores):
        return 0.0
    highest = asked.highest or max(asked.labels)
    if not highest > 0:  # nothing is known to be relevant, so that every score should be 0
        highest = 1.0
    right = [expert_score(label, highest) for label in asked.labels]
    apart = [abs(float(score or 0.0) - wanted) for score, wanted in zip(scores, right, strict=True)]
    return 1 - sum(apart) / len(apart) / HIGHEST


_NEAR: dict[str, Callable[..., float]] = {
    "setwise": _place,
    "exclude": _place,
    "listwise": _listed,
    "selection": _selected,
    "pointwise": _scored,
    "groupwise": _scored,
}
