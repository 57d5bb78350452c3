r"""BEER for rankers trained by reward: policy gradients, with representations that obey a Bellman equation.

    l = PG-Rank(s, y) + \lambda \frac{1}{n - 1} \sum_{k=1}^{n-1} \max(0, cos(\phi_k, \phi_{k+1}) - b_k)

The documents of a list are chosen one after the other by their scores s = w^T \phi + c, and \phi_k is what the head
reads of the k-th choice. The bound b_k is that of `lorank.ranking.policies.bellman`, with the term of place k of the
reward, such as gain / log_2(1 + k) of nDCG, as r. It keeps the representations of what is ranked side by side from
collapsing into one direction, without spreading them over all.

Paper: Q. He, T. Zhou, M. Fang, S. Maghsudi, Adaptive Regularization of Representation Rank as an Implicit Constraint of
Bellman Equation, ICLR 2024, arXiv:2404.12754; the rest is `lorank.ranking.losses.pg_rank`.

*Deviations*: the paper regularises the critic of a continuous control task. Here the score of a document stands for the
value of choosing it, and what a ranker reads of a document does not depend on what was chosen before. The path is the
likeliest order; of documents with one score the less relevant come first. lambda is ours.
"""

import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.ranking.losses.core.lists import Lists, check_positive, choose, clean
from lorank.ranking.losses.core.registry import register_loss
from lorank.ranking.losses.pg_rank import arrange, pg_rank
from lorank.ranking.policies.bellman import bellman_penalty, check_discount
from lorank.ranking.policies.order_rewards import ORDER_REWARDS


@register_loss(
    "beer",
    area="rl",
    title="Adaptive Regularization of Representation Rank as an Implicit Constraint of Bellman Equation",
    requires=("noise_seed", "representations", "head"),
)
def beer(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    noise_seed: Tensor,
    representations: Tensor,
    head: Tensor,
    strength: float = 0.1,
    discount: float = 0.99,
    samples: int = 16,
    reward: str = "ndcg",
    k: int | None = 10,
    temperature: float = 1.0,
) -> Tensor:
    """Return PG-Rank's value and ``strength`` times the mean penalty of neighbours in the likeliest order.

    Args:
        scores: [batch, list], ``representations @ head`` and a constant.
        labels: Grades [batch, list], 0 and up.
        mask: bool [batch, list], True where there is a document.
        weights: [batch] or [batch, list].
        noise_seed: int64 scalar, the seed of the orders that PG-Rank draws.
        representations: What the head reads of each document, [batch, list, dim].
        head: The weights of the head, [dim].
        strength: lambda, 0 and up; 0 is PG-Rank.
        discount: gamma, above 0, at most 1.
        samples: Orders drawn per list, 1 or more.
        reward: ``ndcg``, ``rr``, ``ap`` or ``err``.
        k: The cutoff of the reward, 1 or more; None for the whole list.
        temperature: T, above 0.

    Returns:
        A scalar.

    Raises:
        UsageError: For an option out of its range, and representations of another shape.

    >>> alike, head = torch.tensor([[[9.0, 0.0], [9.0, 0.0]]]), torch.tensor([1.0, 0.0])
    >>> scores, labels = torch.tensor([[9.0, 0.0]]), torch.tensor([[1.0, 0.0]])
    >>> beer(scores, labels, noise_seed=torch.tensor(0), representations=alike, head=head, discount=1.0)
    tensor(-0.9994)
    """
    check_positive(samples=samples, k=k, temperature=temperature)
    check_discount(discount)
    if strength < 0:
        raise UsageError(f"strength must be 0 or above; got {strength}")
    terms_of = choose("reward", reward, ORDER_REWARDS)
    value = pg_rank(
        scores,
        labels,
        mask,
        weights,
        noise_seed=noise_seed,
        samples=samples,
        reward=reward,
        k=k,
        temperature=temperature,
    )
    if representations.shape[:2] != scores.shape or representations.dim() != 3:
        shapes = f"{list(representations.shape)} beside scores {list(scores.shape)}"
        raise UsageError(f"representations must be [batch, list, dim]; got {shapes}")
    lists = clean(scores, labels, mask, weights)
    if not strength or scores.shape[1] < 2:
        return value
    order = _likeliest(lists)
    rewards = terms_of(arrange(lists, order, k=k)).to(representations)
    there = lists.mask.gather(1, order)
    held = representations.masked_fill(~lists.mask.unsqueeze(2), 0.0)
    path = held.gather(1, order.unsqueeze(2).expand_as(held))
    each = bellman_penalty(path[:, :-1], path[:, 1:], rewards[:, :-1], head, discount)
    pairs = there[:, 1:]
    mean = each.masked_fill(~pairs, 0.0).sum(1) / pairs.sum(1).clamp(min=1)
    return value + strength * lists.mean(mean.to(lists.scores))


def _likeliest(lists: Lists) -> Tensor:
    """Return the places of the documents by score [batch, list]; the less relevant first of one score, then no more."""
    order = lists.labels.argsort(dim=1, stable=True)
    falling = lists.fill(lists.scores.detach(), -torch.inf).gather(1, order)
    return order.gather(1, falling.argsort(dim=1, descending=True, stable=True))
