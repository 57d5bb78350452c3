r"""Nested feedback: a document that leads to a second list is worth what that list brings.

    gain_i = r_i + \sum_j \gamma_2(j) r_{i j},   \gamma_2(j) = 1 / j

with r_i the reward of the document itself (its click) and r_ij those of the second list that it opened, at positions
j = 1, 2, ...; gamma_2 is how likely position j of the second list is looked at. The gain is the document's label in any
loss, and debiasing weighs it like a click.

Paper: H. Vanchinathan et al., Learning-to-Rank with Nested Feedback, arXiv 2401.04053, 2024.

*Deviations*: reconstructed from the idea, for no code is public. Assumed: additive gains, and 1 / j for the second
list.
"""

from collections.abc import Sequence

from lorank.catalogue import catalogued


@catalogued(
    "nested-feedback-ltr",
    area="unbiased",
    title="Learning-to-Rank with Nested Feedback",
    reach='"nested" of a click log is read by `lorank train --data log.jsonl`; it is data, so no recipe key names it',
)
def nested_gains(
    rewards: Sequence[float], nested: Sequence[Sequence[float] | None], discounts: Sequence[float] | None = None
) -> list[float]:
    """Return the gain of each document of a list.

    Args:
        rewards: The reward of each document itself, such as its click.
        nested: The rewards of the list that each document opened, from the top; None or empty where it opened none.
        discounts: How likely each position of the second list is looked at; None means 1 / j.

    >>> nested_gains([1, 1, 0], [[0, 1], None, None])
    [1.5, 1.0, 0.0]
    """
    found = []
    for reward, below in zip(rewards, nested, strict=True):
        weights = discounts or [1 / (j + 1) for j in range(len(below or ()))]
        found.append(float(reward) + sum(w * r for w, r in zip(weights, below or ())))
    return found
