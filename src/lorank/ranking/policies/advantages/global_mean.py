r"""Global mean: kept replies against the mean of everything that was sampled for their prompt.

    A_i = r_i - \bar{r},   \bar{r} over all samples of the prompt, kept or not

A plan that keeps replies by what they earned (`lorank.ranking.policies.plans.reinforce_ada`) leaves a group whose own
mean says nothing of the prompt: balanced groups always have a mean of a half. The mean over all samples corrects it.

Paper: W. Xiong et al., Reinforce-Ada: An Adaptive Sampling Framework for Reinforce-Style LLM Training, 2025.
"""

from torch import Tensor

from lorank.ranking.policies.advantages.registry import Replies, advantage


@advantage("global-mean")
def global_mean(replies: Replies) -> Tensor:
    """Return r_i less the mean over all samples of the prompt; the group's own mean where none was left out.

    >>> import torch
    >>> kept = Replies(torch.tensor([1.0, 0.0]), torch.tensor([0, 0]), baselines=torch.tensor([0.125]))
    >>> global_mean(kept)
    tensor([ 0.8750, -0.1250])
    """
    if replies.baselines is None:
        return replies.rewards - replies.means()
    below = replies.baselines.to(replies.rewards)[replies.groups]
    return replies.rewards - (below if replies.rewards.dim() == 1 else below.unsqueeze(1))
