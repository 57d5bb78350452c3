"""Best of N: a model writes several replies, a process scorer scores their steps, and the best reply is the answer.

The scorer is the same model with an adapter: after the last token of a step, ``logit(yes) - logit(no)`` is how likely
the reply is to end well. The replies are written without the adapter.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any
from zlib import crc32

import torch
from torch import nn

from lorank.ranking.judges.causal import CausalJudge
from lorank.ranking.policies.steps import aggregate_steps, confidence_threshold, step_ends
from lorank.ranking.policies.writing import Writer

Opened = Callable[[], AbstractContextManager[Any]]
"""Opens the weights by which replies are written."""


def cut_replies(
    writer: Writer, prompts: Sequence[Sequence[int]], replies: Sequence[Sequence[int]], share: float
) -> list[list[int]]:
    """Return the ends of the steps of each reply, by the confidence of the model that the writer has now.

    Args:
        writer: It reads how likely the tokens were.
        prompts: The tokens of each prompt.
        replies: The tokens of each reply, at least one.
        share: The share of tokens at which a step begins.
    """
    with torch.no_grad():
        found = writer.log_probs(prompts, replies)
    width = found.logs.shape[1]
    rows = [row[width - len(reply) :] for row, reply in zip(found.logs.exp().tolist(), replies, strict=True)]
    threshold = confidence_threshold(rows, share)
    return [step_ends(row, threshold) for row in rows]


def step_scores(
    writer: Writer,
    prompts: Sequence[Sequence[int]],
    replies: Sequence[Sequence[int]],
    ends: Sequence[Sequence[int]],
    tokens: Sequence[int],
) -> list[list[float]]:
    """Return the chances, from 0 to 1, that each reply ends well, after each of its steps.

    Args:
        writer: It reads the model, with the scorer's adapter.
        prompts: The tokens of each prompt.
        replies: The tokens of each reply.
        ends: The ends of their steps.
        tokens: Those of yes and no.
    """
    with torch.no_grad():
        chances = writer.contrasts(prompts, replies, tokens).sigmoid().tolist()
    return [
        [row[len(row) - len(reply) + end - 1] for end in own]
        for row, reply, own in zip(chances, replies, ends, strict=True)
    ]


class BestOfJudge(CausalJudge):
    """A causal judge whose written answers are the best of several that it draws.

    Args:
        model: The model, with the scorer's adapter attached and not merged.
        tokenizer: Its tokenizer.
        opened: Opens the weights by which replies are written, without the adapter.
        samples: How many replies are drawn for a question, 1 or more.
        share: The share of tokens at which a step begins.
        aggregate: How the scores of the steps become that of a reply.
        temperature: At which they are drawn.
        options: Further arguments of ``CausalJudge``.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        *,
        opened: Opened,
        samples: int,
        share: float,
        aggregate: str,
        temperature: float,
        **options: Any,
    ) -> None:
        super().__init__(model, tokenizer, **options)
        self.opened, self.samples, self.share, self.aggregate = opened, samples, share, aggregate
        self.temperature = temperature
        self.writer = Writer(self.model, tokenizer, self.max_tokens)

    def write(self, prompts: Sequence[list[int]]) -> list[list[int]]:
        """Return the best of the replies drawn to each prompt; a prompt alone decides what is drawn."""
        return [self._best(prompt) for prompt in prompts]

    def _best(self, prompt: list[int]) -> list[int]:
        asked = [prompt] * self.samples
        with self.opened():
            replies = self.writer.write(asked, temperature=self.temperature, seed=crc32(repr(prompt).encode()))
            ends = cut_replies(self.writer, asked, replies, self.share)
        scores = step_scores(self.writer, asked, replies, ends, self.yes_no())
        totals = [aggregate_steps(row, self.aggregate) for row in scores]
        return replies[max(range(self.samples), key=totals.__getitem__)]
