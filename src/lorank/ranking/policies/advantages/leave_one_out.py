r"""Leave-one-out: a reply against the mean of the other replies to its prompt.

    A_i = r_i - \frac{1}{G - 1} \sum_{j \ne i} r_j

The others know nothing of reply i, so the gradient stays unbiased whatever they earned. A single reply has no others,
and its advantage is its reward.

Paper: W. Kool, H. van Hoof, M. Welling, Buy 4 REINFORCE Samples, Get a Baseline for Free!, 2019.
"""

from torch import Tensor

from lorank.ranking.policies.advantages.registry import Replies, advantage


@advantage("leave-one-out")
def leave_one_out(replies: Replies) -> Tensor:
    """Return r_i less the mean reward of the other replies to the same prompt.

    >>> import torch
    >>> leave_one_out(Replies(torch.tensor([1.0, 0.0, 0.5]), torch.tensor([0, 0, 0])))
    tensor([ 0.7500, -0.7500,  0.0000])
    """
    sizes = replies.sizes()
    others = (replies.sums(replies.rewards) - replies.rewards) / (sizes - 1).clamp(min=1)
    return replies.rewards - others


@advantage("none")
def no_baseline(replies: Replies) -> Tensor:
    """Return the rewards as they are: plain REINFORCE (Williams 1992), unbiased and of high variance."""
    return replies.rewards
