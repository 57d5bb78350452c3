r"""Replay: at each step a share of the lists comes from earlier stages.

    loss = (1 - p) L(lists of this stage) + p (n - 1)^-1 sum over earlier stages of L(lists of that stage)

p is ``share``. An earlier stage's batch holds round(p b / (n - 1)) lists, 1 at least, for a batch of b, drawn in the
order of that stage's own epochs. p = 0 is plain sequential training.

Rolnick, Ahuja, Schwarz, Lillicrap, Wayne, Experience Replay for Continual Learning, 2019, arXiv:1811.11682.

*Deviations*: the earlier collections are read again, whole; nothing is kept in a buffer.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lorank.continual.core.method import continual_method
from lorank.continual.core.stream import Stream
from lorank.continual.sequential import Sequential
from lorank.data.collection import Collection
from lorank.errors import UsageError
from lorank.training.hooks.hook import Hook, Progress
from lorank.training.lists.candidates import find_candidates
from lorank.training.lists.list_loss import batches_an_epoch, list_loss, lists_at, seed_of
from lorank.training.lists.lists import CandidateLists
from lorank.training.plan import Plan, lists_and_inputs


@dataclass(frozen=True)
class Rehearsed:
    """The training lists of an earlier stage, with their prepared texts."""

    lists: CandidateLists
    inputs: Any


class Rehearsal(Hook):
    """Adds the loss on lists of earlier stages, and weighs that of the stage itself down.

    Args:
        plan: The stage's plan.
        earlier: What is rehearsed, one entry per stage.
        share: The part of the loss that the earlier stages have together, in [0, 1).
    """

    def __init__(self, plan: Plan, earlier: list[Rehearsed], share: float) -> None:
        self.plan, self.earlier, self.share = plan, earlier, share
        self.size = max(1, round(share * plan.settings.batch_size / len(earlier)))

    def penalty(self, progress: Progress) -> Tensor | None:
        """Return p / (1 - p) times the mean loss on lists of earlier stages; the gradients are scaled later."""
        losses = [self._loss(each, place, progress.step) for place, each in enumerate(self.earlier)]
        return torch.stack(losses).mean() * (self.share / (1 - self.share))

    def after_backward(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        """Scale all gradients by 1 - p."""
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.mul_(1 - self.share)

    def _loss(self, each: Rehearsed, place: int, step: int) -> Tensor:
        plan = self.plan
        per_epoch = batches_an_epoch(each.lists, self.size)
        batch = each.lists.collate(lists_at(each.lists, step, self.size, per_epoch))
        seed = seed_of(plan.recipe.seed, step, 1 + place, 0)
        return list_loss(plan.ranker, each.inputs, batch, plan.loss, plan.settings, seed, plan.ranker.device)


def rehearse(plan: Plan, data: Collection) -> Rehearsed:
    """Return the training lists of an earlier collection, as the plan's recipe makes them."""
    found = find_candidates(data, plan.recipe, plan.ranker, None, lambda what, done, total: None)
    recipe = replace(plan.recipe, lists=replace(plan.recipe.lists, free_queries="none"))
    lists, _, inputs = lists_and_inputs(
        plan.ranker, data, None, found, recipe, plan.loss, lambda what, done, total: None
    )
    return Rehearsed(lists, inputs)


@continual_method("replay")
class Replay(Sequential):
    """Sequential training with a ``share`` of lists of earlier stages, from 0 to below 1."""

    def __init__(self, share: float = 0.5) -> None:
        if not 0 <= share < 1:
            raise UsageError(f"continual.share is {share!r}; give a share from 0 to below 1")
        self.share = share

    def prepare(self, stream: Stream, number: int, plan: Plan) -> Plan:
        plan = super().prepare(stream, number, plan)
        if number == 1 or self.share == 0:
            return plan
        earlier = [rehearse(plan, data) for data in stream.collections[: number - 1]]
        return replace(plan, added=(*plan.added, Rehearsal(plan, earlier, self.share)))
