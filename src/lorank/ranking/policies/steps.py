r"""AdaptiveStep: a reply is cut into steps where the model was unsure of its next token, and each step is scored.

    a step begins at token t > 0 where c_t < \tau,   c_t = p(y_t | y_{<t}),   \tau the q-quantile of all c
    score of a reply = min, last or product of the scores of its steps

Cuts stand where a decision was taken, not at line ends, so that as few roll-outs as there are decisions label the
steps: the label of a step is what continuations from its end earn on average.

Paper: Y. Liu et al., AdaptiveStep: Automatically Dividing Reasoning Step through Model Confidence, 2025.

*Deviations*: the quantile is that of the tokens of one draw, and 0.1 by default (the paper has 0.02 over long chains);
the label is a mean reward, where the paper's is whether one continuation is right. Only the choice among whole replies
is built, not the search token by token.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from lorank.catalogue import enter_method
from lorank.errors import UsageError, unknown_name

AGGREGATES: dict[str, Callable[[Sequence[float]], float]] = {
    "min": min,
    "last": lambda scores: scores[-1],
    "product": math.prod,
}
"""How the scores of the steps become that of the reply."""


def step_options(*, share: float = 0.1, rollouts: int = 4, aggregate: str = "min") -> tuple[float, int, str]:
    """Return the options of cutting and scoring, checked.

    Args:
        share: q, the share of tokens at which a step begins, above 0 and below 1.
        rollouts: How many continuations label the end of a step, 1 or more.
        aggregate: How the scores of the steps become that of the reply: ``min``, ``last`` or ``product``.

    Raises:
        UsageError: For values out of their ranges.

    >>> step_options(aggregate="last")
    (0.1, 4, 'last')
    """
    if not 0 < share < 1 or rollouts < 1:
        raise UsageError(f"share must be above 0 and below 1 and rollouts 1 or above; got {share:g} and {rollouts}")
    if aggregate not in AGGREGATES:
        raise unknown_name("aggregate of steps", aggregate, AGGREGATES)
    return share, rollouts, aggregate


def confidence_threshold(confidences: Sequence[Sequence[float]], share: float) -> float:
    """Return the quantile of the confidences of all tokens.

    Args:
        confidences: Of the tokens of each reply, from 0 to 1.
        share: Which quantile, from 0 to 1.

    >>> confidence_threshold([[0.9, 0.1], [0.5]], 0.5)
    0.5
    """
    every = [value for row in confidences for value in row]
    return float(np.quantile(every, share)) if every else 0.0


def step_ends(confidences: Sequence[float], threshold: float) -> list[int]:
    """Return how many tokens stand before the end of each step; the last step ends with the reply.

    Args:
        confidences: Of the tokens of the reply, at least one.
        threshold: tau.

    >>> step_ends([0.2, 0.9, 0.3, 0.9], 0.5)
    [2, 4]
    """
    return [place for place in range(1, len(confidences)) if confidences[place] < threshold] + [len(confidences)]


def aggregate_steps(scores: Sequence[float], how: str) -> float:
    """Return the score of a reply from those of its steps.

    >>> [aggregate_steps([0.5, 0.2, 0.8], how) for how in ("min", "last", "product")]
    [0.2, 0.8, 0.08]
    """
    if how not in AGGREGATES:
        raise unknown_name("aggregate of steps", how, AGGREGATES)
    return float(AGGREGATES[how](scores))


enter_method(
    "adaptivestep",
    area="losses.preference",
    title="AdaptiveStep: Automatically Dividing Reasoning Step through Model Confidence",
    location="lorank.ranking.policies.steps:step_ends",
)
