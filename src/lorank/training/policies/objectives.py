"""Objectives beside the clipped one: the cross-entropy of the expert's reply, and the best reply against the worst."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from lorank.ranking.policies.experts import expert_reply
from lorank.ranking.policies.pairs import best_and_worst, preference_loss
from lorank.ranking.policies.writing import Writer
from lorank.training.policies.drawn import Drawn
from lorank.training.policies.questions import Posed


def cloned(posed: Sequence[Posed], writer: Writer) -> Drawn:
    """Return the expert's replies to the questions, as if they were drawn.

    Args:
        posed: The questions.
        writer: It knows how a reply is spelt in tokens.
    """
    replies = [writer.spell(expert_reply(each.asked.kind, each.asked.labels, each.asked.highest)) for each in posed]
    return Drawn([each.prompt for each in posed], replies, torch.ones(len(posed)), torch.zeros(0, 0), 0.0, 1.0)


def cloning_loss(writer: Writer, drawn: Drawn) -> Tensor:
    """Return the cross-entropy of the expert's replies: the mean over tokens of each, then over replies."""
    return -writer.log_probs(drawn.prompts, drawn.replies).means().mean()


def paired(drawn: Drawn, rewards: Tensor, groups: Tensor) -> Drawn:
    """Return the best and the worst reply of each prompt, one after the other.

    Args:
        drawn: All replies.
        rewards: What each earned, [replies].
        groups: int64 [replies], the prompt of each.
    """
    rows = [row for pair in best_and_worst(rewards, groups) for row in pair]
    signs = torch.tensor([1.0, -1.0]).repeat(len(rows) // 2)
    return Drawn(
        [drawn.prompts[i] for i in rows],
        [drawn.replies[i] for i in rows],
        signs,
        torch.zeros(0, 0),
        drawn.earned,
        drawn.temperature,
    )


def pair_loss(writer: Writer, drawn: Drawn, opened: AbstractContextManager[Any], beta: float) -> Tensor:
    """Return the loss of the pairs of `paired`.

    Args:
        writer: It reads how likely the replies are.
        drawn: The pairs.
        opened: Within it the model is the one before training.
        beta: The weight of the divergence.
    """
    with opened, torch.no_grad():
        before = writer.log_probs(drawn.prompts, drawn.replies)
    torch.clear_autocast_cache()  # weights cast in there know no gradient
    now = writer.log_probs(drawn.prompts, drawn.replies)
    ratios = ((now.logs - before.logs) * now.mask).sum(1)
    return preference_loss(ratios[0::2], ratios[1::2], beta)
