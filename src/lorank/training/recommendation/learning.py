"""What the training loop works with when a recommender learns: users, weights, loss, and the held-out items."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from lorank.errors import UsageError
from lorank.progress import ProgressCallback
from lorank.ranking.losses import Loss
from lorank.ranking.recommendation.ada_retrieval import AdaRetrieval, rounds_loss
from lorank.ranking.recommendation.recommender import best_items, next_item_measures
from lorank.ranking.recommendation.sasrec import SASRec, SequenceSettings, sequence_loss
from lorank.training.hooks.hook import Progress
from lorank.training.loop.loop import train
from lorank.training.loop.module_weights import ModuleWeights
from lorank.training.loop.run_state import Outcome
from lorank.training.loop.session import Session
from lorank.training.settings import OptimizerSettings

JUDGED = 2000
"""The most users whose held-out items training looks at."""

LossOfUsers = Callable[[Any, list[np.ndarray], SequenceSettings, Loss, torch.Generator], Tensor]
"""The loss of a batch of users, as `sequence_loss` and `rounds_loss` are."""


class Users:
    """The rows of users as training lists: each epoch has all of them, in an order of its own.

    Args:
        rows: What each user chose, places from 1.
        seed: The seed of the orders.
    """

    def __init__(self, rows: list[np.ndarray], seed: int) -> None:
        self.rows, self.seed = rows, seed
        self._latest: tuple[int, list[int]] = (-1, [])

    def epoch(self, epoch: int) -> list[int]:
        """Return the users of an epoch in the order in which they are seen."""
        if self._latest[0] != epoch:
            order = np.random.default_rng((self.seed, epoch)).permutation(len(self.rows))
            self._latest = epoch, order.tolist()
        return self._latest[1]

    def collate(self, users: Sequence[int]) -> list[np.ndarray]:
        """Return the rows of ``users``."""
        return [self.rows[user] for user in users]


@dataclass(frozen=True)
class Learner:
    """A recommender, in the place that a ranker has in the loop, and how it learns.

    Attributes:
        module: The recommender.
        settings: How it is built and learns.
        loss_of: The loss of a batch of users.
        steps: The steps of its training.
        measure: What the held-out items decide by which weights are kept.
        items: How many items it knows.
    """

    module: SASRec | AdaRetrieval
    settings: SequenceSettings
    loss_of: LossOfUsers
    steps: int
    measure: str
    items: int


def learner_of(model: SASRec | AdaRetrieval, settings: SequenceSettings, repeats: bool) -> Learner:
    """Return how a model learns: a recommender whole, and of Ada-Retrieval the adapters over one that is ready."""
    if isinstance(model, AdaRetrieval):
        loss_of, items = partial(rounds_loss, repeats=repeats), model.base.items.num_embeddings - 1
        return Learner(model, settings, loss_of, settings.adapter_steps, "recall", items)
    return Learner(model, settings, sequence_loss, settings.steps, "nDCG", model.items.num_embeddings - 1)


def users_loss(
    learner: Learner,
    inputs: Any,
    rows: list[np.ndarray],
    loss: Loss,
    settings: OptimizerSettings,
    step_seed: int,
    device: torch.device,
) -> Tensor:
    """Return the loss of a batch of users; dropout, cuts and negatives draw from ``step_seed``.

    Args:
        learner: The recommender.
        inputs: Not used.
        rows: What each user chose.
        loss: A loss of lists.
        settings: Not used: the weights are few, and stay in fp32.
        step_seed: The seed of the step.
        device: The device of the recommender.
    """
    generator = torch.Generator().manual_seed(step_seed)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(step_seed)
        return learner.loss_of(learner.module, rows, learner.settings, loss, generator)


def train_model(
    model: SASRec | AdaRetrieval,
    rows: Sequence[np.ndarray],
    settings: SequenceSettings,
    loss: Loss,
    folder: Path,
    *,
    seed: int = 0,
    repeats: bool = False,
    resume: bool = False,
    on_progress: ProgressCallback | None = None,
) -> Outcome:
    """Train a recommender, or the adapters over one, in place; the last item of each row decides what is kept.

    Args:
        model: What learns.
        rows: What each user chose, places from 1; rows of one or two items are not used.
        settings: How it learns.
        loss: A loss of lists.
        folder: The folder of metrics.jsonl and checkpoints/.
        seed: The seed of orders, cuts, negatives and dropout.
        repeats: Whether an item may be chosen again.
        resume: Whether to go on from the newest checkpoint in ``folder``.
        on_progress: It receives (steps done, steps).

    Raises:
        UsageError: Where no user has three items.
    """
    used = [row for row in rows if len(row) > 2]
    if not used:
        raise UsageError("no user has enough interactions to learn from: three, beside one that is held out")
    before, following = [row[:-1] for row in used], np.array([row[-1] for row in used[:JUDGED]])
    learner = learner_of(model, settings, repeats)

    def evaluate() -> dict[str, float]:
        model.eval()
        found, _ = best_items(model, before[:JUDGED], learner.items, settings.top, repeats=repeats)
        return next_item_measures(found, following)

    def report(progress: Progress) -> None:
        if on_progress is not None:
            on_progress(progress.step, progress.steps)

    session = Session(
        ranker=cast(Any, learner),
        inputs=None,
        weights=cast(Any, ModuleWeights(model)),
        lists=cast(Any, Users(before, seed)),
        loss=loss,
        settings=loop_settings(settings, learner.steps),
        seed=seed,
        folder=folder,
        evaluate=evaluate,
        batch_loss=users_loss,
        measure=learner.measure,
    )
    outcome = train(session, on_progress=report, resume=resume)
    model.eval()
    return outcome


def loop_settings(settings: SequenceSettings, steps: int) -> OptimizerSettings:
    """Return the settings of the loop: Adam without decay of weights, gradients clipped at norm 1."""
    return OptimizerSettings(
        steps=steps,
        batch_size=settings.batch_size,
        lr=settings.lr,
        warmup=settings.warmup,
        decay=cast(Any, settings.schedule),
        weight_decay=0.0,
        precision="fp32",
        evaluations=settings.evaluations,
        checkpoint_seconds=settings.checkpoint_seconds,
    )
