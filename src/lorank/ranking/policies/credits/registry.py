"""The registry of credits: how the advantage of one reply is shared among its tokens.

Whatever a credit does, the mean over the tokens stays the reply's advantage, so that the objective of an unmoved policy
is that of plain GRPO.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lorank.errors import unknown_name
from lorank.ranking.policies.rewards import Asked


@dataclass(frozen=True)
class Reply:
    """A reply whose advantage is to be shared.

    Attributes:
        pieces: The text of each token.
        asked: The question.
        advantage: Of the whole reply.
        rate: The mean reward of all replies to the question, from 0 to 1: how capable the policy is of it.
    """

    pieces: Sequence[str]
    asked: Asked
    advantage: float
    rate: float


Credit = Callable[..., list[float]]
"""``credit(reply, **options) -> the advantage of each token``, whose mean is ``reply.advantage``."""

CREDITS: dict[str, Credit] = {}
"""Every credit by its name."""


def credit(name: str) -> Callable[[Credit], Credit]:
    """Decorate a credit to enter it in ``CREDITS`` under ``name``."""

    def enter(function: Credit) -> Credit:
        CREDITS[name] = function
        return function

    return enter


def find_credit(name: str) -> Credit:
    """Return the credit called ``name``; raise UsageError for an unknown one."""
    if name not in CREDITS:
        raise unknown_name("credit", name, CREDITS)
    return CREDITS[name]
