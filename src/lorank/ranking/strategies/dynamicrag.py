"""DynamicRAG: the judge answers with an ordered list of as many documents as are worth reading.

One selection question; the documents it names come first, in its order, the others follow as they came, and
``selected`` (0 to n) says how many were named. Calls: 1.

The reward by which such a selector is tuned weighs what a generator makes of the selection,

    R = w_em EM + w_sim similarity + w_fluency fluency + w_length 1/(1 + log(1 + length)) + w_judge judge,

each part in [0, 1].

Paper: Sun et al., DynamicRAG: Leveraging Outputs of Large Language Model as Feedback for Dynamic Reranking in
Retrieval-Augmented Generation, 2025.

*Deviations*: the weights of the parts are arguments, one fifth each by default; the form of the length part was
reconstructed (1 for an empty answer, falling with the logarithm of its tokens).
"""

import math

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.judges import Session
from lorank.ranking.strategies.registry import Standing, register_strategy


@register_strategy(
    "dynamicrag",
    title="DynamicRAG: Leveraging Outputs of Large Language Model as Feedback for "
    "Dynamic Reranking in Retrieval-Augmented Generation",
)
def dynamicrag(session: Session, top: int, generator: np.random.Generator) -> Standing:
    """Put the documents that the judge selects first, and say how many they are."""
    chosen = session.selection(range(session.count))
    named = set(chosen)
    return Standing([*chosen, *(d for d in range(session.count) if d not in named)], selected=len(chosen))


def brevity(length: int) -> float:
    """Return 1 / (1 + log(1 + length)) of an answer of ``length`` tokens.

    >>> brevity(0), round(brevity(10), 4)
    (1.0, 0.2943)
    """
    return 1 / (1 + math.log1p(length))


def generator_reward(
    *,
    exact_match: float,
    similarity: float,
    fluency: float,
    length: int,
    judge: float,
    weights: tuple[float, float, float, float, float] = (0.2, 0.2, 0.2, 0.2, 0.2),
) -> float:
    """Return the reward of a selection, from what the generator wrote with it.

    Args:
        exact_match: 1 if the answer is the expected one, else 0.
        similarity: Semantic similarity of the answer to the expected one, in [0, 1].
        fluency: Fluency of the answer, in [0, 1].
        length: Tokens of the answer, 0 or more; shorter is better.
        judge: A language model's mark for the answer, in [0, 1].
        weights: The weights of these five.

    Raises:
        UsageError: If a part is outside [0, 1], or the length below 0.

    >>> generator_reward(exact_match=1, similarity=1, fluency=1, length=0, judge=1)
    1.0
    """
    parts = (exact_match, similarity, fluency, judge)
    if not all(0 <= part <= 1 for part in parts) or length < 0:
        raise UsageError(f"parts of the reward must be in [0, 1] and the length 0 or above, got {parts} and {length}")
    return math.fsum(w * part for w, part in zip(weights, (exact_match, similarity, fluency, brevity(length), judge)))
