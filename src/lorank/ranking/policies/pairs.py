r"""Direct preference optimisation on replies that were drawn: the best of a prompt against its worst.

    l = mean over prompts of -\log \sigma( \beta (d(y^+) - d(y^-)) ),   d(y) = \log p(y) - \log p_{ref}(y)

y^+ and y^- are the replies of a prompt that earned most and least; a prompt whose replies earned the same says nothing.

Papers: R. Rafailov et al., Direct Preference Optimization: Your Language Model is Secretly a Reward Model, 2023;
J. Sun et al., DynamicRAG, 2025, which draws trajectories and takes the pair by its reward.
"""

from torch import Tensor
from torch.nn import functional as F

from lorank.errors import UsageError


def best_and_worst(rewards: Tensor, groups: Tensor) -> list[tuple[int, int]]:
    """Return (best, worst) of each group whose replies did not all earn the same, groups in ascending order.

    Args:
        rewards: [replies].
        groups: int64 [replies], the prompt of each reply.

    >>> import torch
    >>> best_and_worst(torch.tensor([0.5, 1.0, 0.0, 2.0, 2.0]), torch.tensor([0, 0, 0, 1, 1]))
    [(1, 2)]
    """
    if rewards.shape != groups.shape or rewards.dim() != 1:
        raise UsageError(f"rewards and groups are [replies]; got {list(rewards.shape)} and {list(groups.shape)}")
    found = []
    for group in groups.unique().tolist():
        places = (groups == group).nonzero().flatten()
        own = rewards[places]
        if own.max() - own.min() > 1e-6:
            found.append((int(places[own.argmax()]), int(places[own.argmin()])))
    return found


def preference_loss(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """Return the loss of pairs, a scalar.

    Args:
        chosen: log p / p_ref of the better replies, [pairs].
        rejected: That of the worse, [pairs].
        beta: The weight of the divergence from the reference, above 0.

    >>> import torch
    >>> preference_loss(torch.zeros(2), torch.zeros(2), 0.1)        # log 2: the policy is its reference
    tensor(0.6931)
    """
    if not beta > 0:
        raise UsageError(f"preference pairs need a divergence above 0; got {beta:g}")
    return F.softplus(-beta * (chosen - rejected)).mean()
