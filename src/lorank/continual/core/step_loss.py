"""The loss of a ranker on the lists that a step trains on, for methods that look at them beside the loop."""

from torch import Tensor

from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.training.lists.list_loss import Loss, batches_an_epoch, list_loss, lists_at, seed_of
from lorank.training.plan import Plan


def step_loss(plan: Plan, step: int, ranker: TrainableRanker, loss: Loss) -> Tensor:
    """Return the loss, with its graph, on the first batch of a step of the plan.

    Args:
        plan: The stage's plan, whose lists and texts they are.
        step: The step, counted from 0.
        ranker: What scores: the plan's own ranker, or another that reads the same texts.
        loss: The loss.
    """
    settings, index = plan.settings, step * plan.settings.accumulate
    per_epoch = batches_an_epoch(plan.lists, settings.batch_size)
    batch = plan.lists.collate(lists_at(plan.lists, index, settings.batch_size, per_epoch))
    seed = seed_of(plan.recipe.seed, index, 0, 0)
    return list_loss(ranker, plan.inputs, batch, loss, settings, seed, plan.ranker.device)
