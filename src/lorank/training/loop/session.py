"""What one training run works with, as one object that the loop and its steps share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorank.ranking.losses import Loss
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.training.hooks.hook import Hook
from lorank.training.lists.list_loss import Lists, list_loss
from lorank.training.loop.time_budget import TimeBudget
from lorank.training.settings import OptimizerSettings
from lorank.training.weights import Weights

MAIN_MEASURE = "nDCG@10"
"""The dev measure that decides which weights are kept, of a ranker."""

MakeOptimizer = Callable[[list[dict[str, Any]], OptimizerSettings], torch.optim.Optimizer]


def adamw(groups: list[dict[str, Any]], settings: OptimizerSettings) -> torch.optim.Optimizer:
    """Return AdamW over parameter groups, which may state a rate ``lr`` of their own."""
    return torch.optim.AdamW(groups, lr=settings.rate, betas=settings.betas, weight_decay=settings.weight_decay)


@dataclass(frozen=True)
class Session:
    """A training run: what learns, from which lists, by which loss, under which settings.

    Attributes:
        ranker: The ranker that learns.
        inputs: What ``ranker.prepare`` returned for the queries and documents of all lists.
        weights: The weights that are trained, saved and restored.
        lists: The training lists.
        loss: The loss of a batch of lists.
        settings: Steps, rates, stopping, checkpoints.
        seed: The seed of every random number of the run.
        folder: The folder that receives metrics.jsonl and checkpoints/.
        evaluate: Returns dev measures; it is called before the first step and after the steps of ``looks``.
        held_out: Lists that hooks may take a loss on and that are never trained on.
        hooks: Callbacks of the loop, in the order in which they are called.
        make_optimizer: Makes the optimizer of the parameter groups.
        looks: The steps after which dev is looked at; None spreads ``settings.evaluations`` looks evenly.
        budget: The wall-clock time of the run, None where it is not bounded.
        batch_loss: The loss of one batch, with the arguments of `list_loss`.
        hook_loss: The loss that hooks take of a batch, with the same arguments; None for ``batch_loss``.
        measure: The dev measure that decides which weights are kept; higher is better.
    """

    ranker: TrainableRanker
    inputs: Any
    weights: Weights
    lists: Lists
    loss: Loss
    settings: OptimizerSettings
    seed: int
    folder: Path
    evaluate: Callable[[], dict[str, float]] | None = None
    held_out: Lists | None = None
    hooks: Sequence[Hook] = ()
    make_optimizer: MakeOptimizer = adamw
    looks: Sequence[int] | None = None
    budget: TimeBudget | None = None
    batch_loss: Callable[..., Tensor] = list_loss
    hook_loss: Callable[..., Tensor] | None = None
    measure: str = MAIN_MEASURE
