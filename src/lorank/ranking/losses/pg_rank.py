r"""Neural PG-RANK: scores are a policy over whole orders, and what is climbed is the expected reward of its orders.

    L(s) = - E_{r \sim \pi(\cdot | s)} [ R(r) ] - \eta H(s),   \pi Plackett and Luce's distribution of s / T
    \partial E R / \partial s = E \sum_k \nabla \log \pi(r_k | r_{<k}) ( U_k(r) - b_k ),   U_k = \sum_{j \ge k} t_j

R is nDCG@K or another reward that is a sum of terms t_k over places (`lorank.ranking.policies.order_rewards`). A choice
is credited with what comes after it only, and the baseline b_k is the mean of U_k over the *other* orders that were
drawn for the list: neither changes the expected gradient, and the baseline lowers its variance. H is the entropy of the
first choice: eta above 0 keeps the policy from settling on one order too soon.

The value is minus the mean reward of the orders that were drawn (less eta H), so that -loss is the expected nDCG of the
policy; its gradient is the estimate above, not the derivative of that value.

Paper: G. Gao, J. D. Chang, C. Cardie, K. Brantley, T. Joachims, Policy-Gradient Training of Language Models for
Ranking, 2023, arXiv:2310.04407.

*Deviations*: the paper samples orders of the candidates with one temperature and no entropy; here both are options
whose defaults are the paper's (T = 1, eta = 0). A list whose documents all have one label counts for nothing, as in
every loss of this room. A document's weight multiplies its term of the reward, so that weights of clicks enter as
inverse propensities do.
"""

import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.ranking.losses.core.lists import (
    Lists,
    canonicalise,
    check_positive,
    choose,
    clean,
    lowest_score,
    normalized_gains,
)
from lorank.ranking.losses.core.noise import draw
from lorank.ranking.losses.core.registry import register_loss
from lorank.ranking.policies.advantages import Replies, compute_advantages, find_advantage
from lorank.ranking.policies.order_rewards import ORDER_REWARDS, ArrangedLists, rewards_to_go
from lorank.ranking.policies.plackett_luce import choice_log_probs, first_choice_entropy, sample_orders


@register_loss(
    "neural-pg-rank",
    title="Policy-Gradient Training of Language Models for Ranking",
    area="losses.rl",
    aliases=("pg-rank",),
    requires=("noise_seed",),
)
def pg_rank(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    noise_seed: Tensor,
    samples: int = 16,
    reward: str = "ndcg",
    k: int | None = 10,
    gain: str = "exponential",
    advantage: str = "leave-one-out",
    temperature: float = 1.0,
    entropy: float = 0.0,
    grades: float = 4.0,
) -> Tensor:
    """Return minus the mean reward of sampled orders, whose gradient is the policy gradient.

    Args:
        scores: [batch, list].
        labels: Grades [batch, list], 0 and up; above 0 is relevant for ``rr`` and ``ap``.
        mask: bool [batch, list], True where there is a document.
        weights: [batch] or [batch, list]; a document's weight multiplies its term of the reward.
        noise_seed: int64 scalar, the seed of the orders that are drawn; the training loop gives each step its own.
        samples: Orders drawn per list, 1 or more.
        reward: ``ndcg``, ``rr``, ``ap`` or ``err``.
        k: The cutoff of the reward, 1 or more; None for the whole list.
        gain: Of ``ndcg``: ``exponential`` (2^y - 1) or ``linear``.
        advantage: A name in `lorank.ranking.policies.advantages.ADVANTAGES`, such as ``leave-one-out``, or ``none``.
        temperature: T, above 0; a large one explores.
        entropy: eta, 0 and up.
        grades: Of ``err``: the highest grade; labels above count as it.

    Returns:
        A scalar.

    >>> order = torch.tensor([[9.0, 0.0]])     # the first document comes first in nearly every order
    >>> pg_rank(order, torch.tensor([[1.0, 0.0]]), noise_seed=torch.tensor(0))
    tensor(-1.)
    >>> pg_rank(order, torch.tensor([[0.0, 1.0]]), noise_seed=torch.tensor(0))   # 1 / log2(3)
    tensor(-0.6309)
    """
    check_positive(samples=samples, k=k, temperature=temperature, grades=grades)
    if entropy < 0:
        raise UsageError(f"entropy must be 0 or above; got {entropy}")
    terms_of = choose("reward", reward, ORDER_REWARDS)
    find_advantage(advantage)
    lists = canonicalise(clean(scores, labels, mask, weights))
    policy = lists.scores if temperature == 1 else lists.scores / temperature
    below = lists.fill(policy, lowest_score(policy))
    with torch.no_grad():
        generator = torch.Generator().manual_seed(int(noise_seed))
        noise = draw(lists, samples, "gumbel", generator).to(below.device)
        orders = sample_orders(below, noise)
        terms = terms_of(arrange(lists, orders, gain, k, grades))
        if lists.item_weights is not None:
            terms = terms * lists.item_weights.expand_as(orders).gather(2, orders)
        advantages = _advantages(rewards_to_go(terms), advantage)
        earned = terms.sum(2).mean(0)
    logs = choice_log_probs(below.expand_as(orders).gather(2, orders))
    there = lists.mask.expand_as(orders).gather(2, orders)
    climbed = (advantages * logs).masked_fill(~there, 0.0).sum(2).mean(0)
    value = -earned - (climbed - climbed.detach())
    if entropy:
        value = value - entropy * first_choice_entropy(policy, lists.mask)
    return lists.mean(value)


def arrange(
    lists: Lists, orders: Tensor, gain: str = "exponential", k: int | None = 10, grades: float = 4.0
) -> ArrangedLists:
    """Return labels and gains in the orders that were drawn.

    Args:
        lists: The lists, [batch, list].
        orders: Places of documents, best first, int64 [..., batch, list].
        gain: ``exponential`` (2^y - 1) or ``linear``.
        k: The cutoff, 1 or more; None for the whole list.
        grades: The highest grade.
    """
    labels, gains = lists.labels.clamp(min=0), normalized_gains(lists, gain, k)
    gains = lists.fill(gains, 0.0)

    def arranged(values: Tensor) -> Tensor:
        return values.expand_as(orders).gather(-1, orders)

    return ArrangedLists(arranged(labels), arranged(gains), k, grades)


def _advantages(to_go: Tensor, name: str) -> Tensor:
    """Return the advantages of each choice [samples, batch, list]; orders of one list are compared place by place."""
    samples, batch, size = to_go.shape
    groups = torch.arange(batch, device=to_go.device).repeat(samples)
    return compute_advantages(name, Replies(to_go.reshape(-1, size), groups)).view_as(to_go)
