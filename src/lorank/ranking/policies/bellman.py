r"""BEER: how alike the representations of consecutive choices may be, by the Bellman equation of a linear score.

A score is read as the value of a choice, Q(s, a) = w^T \phi(s, a). Where Bellman's equation holds on a path,

    w^T \phi = r + \gamma w^T \phi'   hence   \|\phi - \gamma \phi'\| \|w\| \ge |r|   (Cauchy and Schwarz), and so
    cos(\phi, \phi') \le b
    b = ( \|\phi\|^2 + \gamma^2 \|\phi'\|^2 - r^2 / \|w\|^2 ) / ( 2 \gamma \|\phi\| \|\phi'\| )

The penalty \max(0, cos(\phi, \phi') - b) is 0 where the bound holds. Where it does not, the two representations turn
away from each other, just as far as the equation asks: neither into one direction, nor into as many as there are.

Paper: Q. He, T. Zhou, M. Fang, S. Maghsudi, Adaptive Regularization of Representation Rank as an Implicit Constraint of
Bellman Equation, ICLR 2024, arXiv:2404.12754.

*Deviations*: b takes no part in the gradient and is cut to [-1, 1], where cosines lie: a head that is still zero has no
bound else. A pair with a representation of length 0 has no angle, and costs nothing.
"""

import torch
from torch import Tensor

from lorank.errors import UsageError

TINY = 1e-6
"""Below it a length is none."""


def bellman_bound(lengths: Tensor, following: Tensor, rewards: Tensor, head: Tensor, discount: float) -> Tensor:
    r"""Return b in [-1, 1] of each pair, without a gradient.

    Args:
        lengths: \|\phi\| [...], 0 and up.
        following: \|\phi'\| [...].
        rewards: r [...].
        head: w [dim].
        discount: \gamma, above 0, at most 1.

    Raises:
        UsageError: For a discount out of its range.

    >>> one = torch.ones(2)
    >>> bellman_bound(one, one, torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0]), 1.0)
    tensor([1.0000, 0.5000])
    """
    check_discount(discount)
    lengths, following, rewards, head = (each.detach() for each in (lengths, following, rewards, head))
    weight = head.square().sum().clamp(min=TINY**2)
    above = lengths.square() + (discount * following).square() - rewards.square() / weight
    return (above / (2 * discount * lengths * following).clamp(min=TINY**2)).clamp(-1.0, 1.0)


def bellman_penalty(
    representations: Tensor, following: Tensor, rewards: Tensor, head: Tensor, discount: float = 0.99
) -> Tensor:
    r"""Return \max(0, cos(\phi, \phi') - b) of each pair, [...].

    Args:
        representations: \phi [..., dim].
        following: \phi' [..., dim], of the choice after it.
        rewards: r [...], of the first choice.
        head: w [dim], which makes scores of them.
        discount: \gamma, above 0, at most 1.

    >>> same, head = torch.tensor([[1.0, 0.0]]), torch.tensor([1.0, 0.0])
    >>> bellman_penalty(same, same, torch.tensor([1.0]), head, discount=1.0)     # 1 - 1/2
    tensor([0.5000])
    >>> bellman_penalty(same, torch.tensor([[0.0, 1.0]]), torch.tensor([1.0]), head, discount=1.0)
    tensor([0.])
    """
    lengths, others = representations.norm(dim=-1), following.norm(dim=-1)
    bound = bellman_bound(lengths, others, rewards, head, discount)
    directions = representations / lengths.clamp(min=TINY).unsqueeze(-1)
    other_directions = following / others.clamp(min=TINY).unsqueeze(-1)
    beyond = torch.relu((directions * other_directions).sum(-1) - bound)
    return torch.where((lengths > TINY) & (others > TINY), beyond, 0.0)


def check_discount(discount: float) -> None:
    """Raise UsageError unless the discount is above 0 and at most 1."""
    if not 0 < discount <= 1:
        raise UsageError(f"discount must be above 0 and at most 1; got {discount}")
