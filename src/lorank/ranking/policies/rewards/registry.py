"""The registry of rewards of written replies: what a language model earns with its answer to a question.

A reward has *parts* (nDCG, format, length, ...) with weights of its own, so that parts are logged one by one and a mix
can weigh them otherwise. A reward of places gives a part to each rank of the list that was written.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lorank.errors import UsageError, unknown_name


@dataclass(frozen=True)
class Generated:
    """What a generator wrote with the documents that a reply selects.

    Attributes:
        text: Its answer.
        expected: The answers that are right.
        tokens: The tokens of its answer.
        mark: How good the answer is judged to be, from 0 to 1.
    """

    text: str
    expected: tuple[str, ...]
    tokens: int
    mark: float


@dataclass(frozen=True)
class Asked:
    """A question that was put to the policy.

    Attributes:
        kind: The kind of question (`lorank.ranking.judges.question`).
        labels: The relevance of the documents, in the order in which they were shown.
        of: The list, and the document of it, that a pointwise question is about.
        rest: The score and the relevance of each other document of that list, where the reward requires them.
        highest: The highest grade of the collection, 0 where it is not known.
        generated: What the generator wrote, where the reward requires it.
    """

    kind: str
    labels: tuple[float, ...]
    of: tuple[int, int] | None = None
    rest: tuple[tuple[float, float], ...] = ()
    highest: float = 0.0
    generated: Generated | None = None

    @property
    def size(self) -> int:
        """How many documents were shown."""
        return len(self.labels)

    @property
    def best(self) -> frozenset[int]:
        """The places of the most relevant documents."""
        return frozenset(i for i, label in enumerate(self.labels) if label >= max(self.labels))


Score = Callable[..., Sequence[float]]
"""``score(text, asked, **options) -> one number per part, or per place for a reward of places``."""

Prepare = Callable[[Sequence[str], Sequence[Asked]], Sequence[Asked]]
"""From all replies of a draw and their questions to the questions, with what a reward must know of the others."""


@dataclass(frozen=True)
class Reward:
    """A reward as it is registered.

    Attributes:
        name: Its published name.
        score: The function of a reply's text and the question.
        kinds: The kinds of question that it rewards; empty for any.
        parts: The names of its parts.
        weights: The weight of each part.
        places: Whether it gives a number to each place of a list, in place of parts.
        prepare: What gives each question the other replies of the draw; None where a reply is judged by itself.
        generates: Whether it judges what a generator writes with the documents that are selected.
        empty: Whether a selection of no document can be right.
    """

    name: str
    score: Score
    kinds: tuple[str, ...]
    parts: tuple[str, ...]
    weights: tuple[float, ...]
    places: bool = False
    prepare: Prepare | None = None
    generates: bool = False
    empty: bool = False


REWARDS: dict[str, Reward] = {}
"""Every reward of written replies by its name."""


def reward(
    name: str,
    *,
    kinds: Sequence[str] = (),
    parts: Sequence[str] = ("reward",),
    weights: Sequence[float] | None = None,
    places: bool = False,
    prepare: Prepare | None = None,
    generates: bool = False,
    empty: bool = False,
) -> Callable[[Score], Score]:
    """Decorate the function of a reward to enter it in ``REWARDS`` under ``name``.

    Args:
        name: The published name.
        kinds: The kinds of question that it rewards; none for any.
        parts: The names of the numbers that it returns.
        weights: The weight of each part; None weighs each by 1.
        places: Whether it returns a number per place.
        prepare: What gives each question the other replies of the draw.
        generates: Whether it judges what a generator writes with the documents that are selected.
        empty: Whether a selection of no document can be right.
    """

    def enter(score: Score) -> Score:
        weighed = tuple(weights) if weights is not None else (1.0,) * len(parts)
        REWARDS[name] = Reward(name, score, tuple(kinds), tuple(parts), weighed, places, prepare, generates, empty)
        return score

    return enter


@dataclass(frozen=True)
class Scoring:
    """One or several rewards of a run, joined.

    Attributes:
        rewards: The rewards, in the order in which they were named.
        options: The keyword arguments of the first.
    """

    rewards: tuple[Reward, ...]
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of all parts; that of a reward goes before a name that two of them have."""
        named = [(each.name, part) for each in self.rewards for part in each.parts]
        once = [part for _, part in named]
        return tuple(part if once.count(part) == 1 and part != "reward" else name for name, part in named)

    @property
    def weights(self) -> tuple[float, ...]:
        """The weight of each part."""
        return tuple(weight for each in self.rewards for weight in each.weights)

    @property
    def joint(self) -> bool:
        """Whether a reply is judged beside the others of its draw."""
        return any(each.prepare is not None for each in self.rewards)

    @property
    def generates(self) -> bool:
        """Whether a generator must write with what is selected."""
        return any(each.generates for each in self.rewards)

    @property
    def empty(self) -> bool:
        """Whether a selection of no document can be right."""
        return self.rewards[0].empty

    @property
    def places(self) -> bool:
        """Whether each place of a list has a reward of its own."""
        return any(each.places for each in self.rewards)

    def __call__(self, texts: Sequence[str], asked: Sequence[Asked]) -> Tensor:
        """Return the parts [replies, parts] of replies to questions, or [replies, places], 0 behind the last place."""
        rows: list[list[float]] = [[] for _ in texts]
        for i, each in enumerate(self.rewards):
            known = asked if each.prepare is None else each.prepare(texts, asked)
            for row, text, question in zip(rows, texts, known, strict=True):
                row.extend(each.score(text, question, **(self.options if i == 0 else {})))
        width = max((len(row) for row in rows), default=len(self.parts))
        return torch.tensor([[*row, *[0.0] * (width - len(row))] for row in rows], dtype=torch.float32).view(-1, width)


def find_rewards(names: str, kind: str, **options: Any) -> Scoring:
    """Return the rewards that ``names`` joins by "+", for questions of ``kind``.

    Args:
        names: Such as ``rank-r1`` or ``rank-r1+length``.
        kind: The kind of question that is put.
        options: Keyword arguments of the first.

    Raises:
        UsageError: For an unknown reward, and for one that does not reward such questions.

    >>> find_rewards("rank-r1+length", "setwise").parts
    ('answer', 'length')
    """
    found = []
    for name in names.split("+"):
        if name not in REWARDS:
            raise unknown_name("reward", name, REWARDS)
        known = REWARDS[name]
        if known.kinds and kind not in known.kinds:
            raise UsageError(f"reward {name!r} is for {' and '.join(known.kinds)} questions, and {kind} ones are put")
        found.append(known)
    if len(found) > 1 and any(each.places for each in found):
        raise UsageError(f"{names}: a reward of places stands alone")
    scoring = Scoring(tuple(found), dict(options))
    scoring([""], [Asked(kind, (1.0, 0.0))])  # refuses options that the reward does not have
    return scoring
