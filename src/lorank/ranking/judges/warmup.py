r"""Prompt warmup: a small model learns by group-relative policy gradients to reply in the format it is asked for.

    A_g = (R_g - mean R) / (std R + \epsilon) over a group of replies to one prompt
    l = - mean_g A_g \log P(reply_g) + \beta KL(P || P_ref)

Replies are one token, so a step needs one pass a prompt. R is 1 for a reply in format and 1 more for the right one.
The second stage fine-tunes the score logit(1) - logit(0), which rises with P(1); nothing is added to the model.

Paper: X. Li et al., ProRank: Prompt Warmup via Reinforcement Learning for Small Language Models Reranking, 2025.

*Deviations*: every reply is drawn from the current policy and used once, so the ratio of GRPO's objective is 1 and its
clipping has nothing to clip. The divergence is exact, over the vocabulary.

It steps by itself and not through the training loop, which stands above this room and reads lists of documents: here a
step samples replies from the current policy.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from lorank.catalogue import catalogued
from lorank.errors import UsageError

Rewards = Callable[[Tensor], Tensor]
"""From sampled tokens int64 [prompts, group] to their rewards [prompts, group]."""


def format_rewards(replies: tuple[int, ...], right: Tensor) -> Rewards:
    """Return the rewards of one-token replies: 1 for any of ``replies``, 1 more for the ``right`` one [prompts].

    >>> format_rewards((7, 8), torch.tensor([7]))(torch.tensor([[7, 8, 3]]))
    tensor([[2., 1., 0.]])
    """
    allowed = torch.tensor(replies)

    def rewards(tokens: Tensor) -> Tensor:
        valid = torch.isin(tokens, allowed.to(tokens.device))
        return valid.float() + (tokens == right.to(tokens.device).unsqueeze(1)).float()

    return rewards


def group_relative_loss(
    log_probabilities: Tensor,
    tokens: Tensor,
    rewards: Tensor,
    *,
    reference: Tensor | None = None,
    divergence: float = 0.0,
) -> Tensor:
    """Return the policy-gradient loss of sampled replies.

    Args:
        log_probabilities: Of the whole vocabulary [prompts, vocabulary].
        tokens: Sampled replies int64 [prompts, group].
        rewards: [prompts, group]; a group whose rewards are equal has no gradient.
        reference: Log-probabilities of the model before [prompts, vocabulary].
        divergence: beta, 0 and up; needs ``reference``.
    """
    if divergence and reference is None:
        raise UsageError("a divergence needs the reference's log-probabilities")
    spread = rewards.std(1, keepdim=True, correction=0)
    advantage = (rewards - rewards.mean(1, keepdim=True)) / (spread + 1e-6)
    value = -(advantage.detach() * log_probabilities.gather(1, tokens)).mean()
    if reference is None or not divergence:
        return value
    apart = (log_probabilities.exp() * (log_probabilities - reference)).sum(1)
    return value + divergence * apart.mean()


@catalogued(
    "prorank",
    area="rerank",
    title="ProRank: Prompt Warmup via Reinforcement Learning for Small Language Models Reranking",
    reach="lorank train --kind causal --policy prorank, and policy.name in a recipe; then --loss with reading.answers",
)
def warm_up(
    policy: Callable[[], Tensor],
    rewards: Rewards,
    parameters: Iterable[Tensor],
    *,
    steps: int = 50,
    group: int = 16,
    rate: float = 1e-3,
    divergence: float = 0.0,
    generator: torch.Generator,
) -> list[float]:
    """Train ``parameters`` in place until replies are in format; return the mean reward of each step.

    Args:
        policy: Gives log-probabilities [prompts, vocabulary] of the first token of the reply, with their graph.
        rewards: Of sampled replies.
        parameters: What is trained, such as an adapter's.
        steps: How many.
        group: Replies sampled a prompt, 2 or more.
        rate: Of Adam.
        divergence: beta.
        generator: Where replies are drawn from.
    """
    if group < 2:
        raise UsageError(f"a group needs 2 replies or more; got {group}")
    optimizer = torch.optim.Adam(parameters, lr=rate)
    reference, curve = policy().detach() if divergence else None, []
    for _ in range(steps):
        optimizer.zero_grad()
        logs = policy()
        tokens = torch.multinomial(logs.detach().exp().cpu(), group, replacement=True, generator=generator)
        tokens = tokens.to(logs.device)
        earned = rewards(tokens)
        curve.append(float(earned.mean()))
        group_relative_loss(logs, tokens, earned, reference=reference, divergence=divergence).backward()
        optimizer.step()
    return curve
