"""Process scoring: replies of the model before training, cut into steps, labelled by roll-outs, and learned from."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from lorank.ranking.policies.best_of import Opened, cut_replies, step_scores
from lorank.ranking.policies.steps import aggregate_steps
from lorank.ranking.policies.writing import Writer
from lorank.training.policies.drawn import Drawn
from lorank.training.policies.questions import Posed

NO_END = -1.0
"""What stands at a token that ends no step, in the place of a label."""

Earn = Callable[[Sequence[str], Sequence[Posed]], Tensor]
"""The rewards [replies] of texts to questions."""


def label_steps(
    writer: Writer,
    posed: Sequence[Posed],
    replies: Sequence[list[int]],
    ends: Sequence[Sequence[int]],
    earn: Earn,
    rollouts: int,
    temperature: float,
    seed: int,
) -> list[list[float]]:
    """Return the label of each step of each reply, from 0 to 1: what continuations from its end earn on average.

    Args:
        writer: It writes the continuations.
        posed: The question of each reply.
        replies: The tokens of each reply.
        ends: The ends of their steps; after the last one stands what the reply itself earned.
        earn: What a reply earns.
        rollouts: Continuations per step.
        temperature: At which they are drawn.
        seed: Of the draws.
    """
    starts = [(i, end) for i, own in enumerate(ends) for end in own[:-1] for _ in range(rollouts)]
    begun = [[*posed[i].prompt, *replies[i][:end]] for i, end in starts]
    ended = writer.write(begun, temperature=temperature, seed=seed)
    texts = writer.texts([[*replies[i][:end], *more] for (i, end), more in zip(starts, ended, strict=True)])
    rolled = earn(texts, [posed[i] for i, _ in starts]).clamp(0, 1).tolist() if starts else []
    whole = earn(writer.texts(replies), posed).clamp(0, 1).tolist()
    labels: list[list[float]] = []
    at = 0
    for own, last in zip(ends, whole, strict=True):
        inner = [sum(rolled[at + k * rollouts : at + (k + 1) * rollouts]) / rollouts for k in range(len(own) - 1)]
        at += (len(own) - 1) * rollouts
        labels.append([*inner, last])
    return labels


def labelled(
    posed: Sequence[Posed],
    replies: Sequence[list[int]],
    ends: Sequence[Sequence[int]],
    labels: Sequence[Sequence[float]],
    temperature: float,
) -> Drawn:
    """Return replies with the label of each step at its last token, [replies, tokens], aligned at the end."""
    width = max(map(len, replies))
    table = torch.full((len(replies), width), NO_END)
    for row, reply, own, values in zip(table, replies, ends, labels, strict=True):
        for end, value in zip(own, values, strict=True):
            row[width - len(reply) + end - 1] = value
    earned = sum(values[-1] for values in labels) / len(labels)
    return Drawn(
        [each.prompt for each in posed],
        [list(reply) for reply in replies],
        table,
        torch.zeros(0, 0),
        earned,
        temperature,
    )


def process_loss(writer: Writer, drawn: Drawn, tokens: Sequence[int]) -> Tensor:
    """Return the mean cross-entropy of the steps' labels, a scalar.

    Args:
        writer: It reads the model.
        drawn: Of `labelled`.
        tokens: Those of yes and no.
    """
    found = writer.contrasts(drawn.prompts, drawn.replies, tokens)
    labels = drawn.advantages.to(found)
    there = labels >= 0
    return F.binary_cross_entropy_with_logits(found[there], labels[there])


def measure_best_of(
    writer: Writer,
    posed: Sequence[Posed],
    opened: Opened,
    earn: Earn,
    samples: int,
    share: float,
    aggregate: str,
    temperature: float,
    tokens: Sequence[int],
    seed: int,
) -> Callable[[], dict[str, float]]:
    """Return the function that scores replies to dev's questions, the same ones at every look.

    It returns what the best of each question's replies by their steps earns (``reward``), what a reply earns on
    average (``mean``), and what the best one earns (``most``).
    """
    asked = [each for each in posed for _ in range(samples)]
    prompts = [each.prompt for each in asked]
    drawn: list[tuple[list[list[int]], list[list[int]], Tensor]] = []

    def measure() -> dict[str, float]:
        if not drawn:
            with opened():
                replies = writer.write(prompts, temperature=temperature, seed=seed)
                ends = cut_replies(writer, prompts, replies, share)
            drawn.append((replies, ends, earn(writer.texts(replies), asked).view(len(posed), samples)))
        replies, ends, earned = drawn[0]
        scores = step_scores(writer, prompts, replies, ends, tokens)
        totals = torch.tensor([aggregate_steps(row, aggregate) for row in scores]).view(len(posed), samples)
        chosen = earned.gather(1, totals.argmax(1, keepdim=True))
        return {"reward": float(chosen.mean()), "mean": float(earned.mean()), "most": float(earned.amax(1).mean())}

    return measure
