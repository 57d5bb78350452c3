"""Debiasing in the loop: the debiaser learns beside the ranker, and its state is part of every checkpoint."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorank.data.click_logs.packed import PackedImpressions
from lorank.data.click_logs.propensity_files import read_propensities
from lorank.data.collection import Collection
from lorank.errors import UsageError
from lorank.ranking.clicks import Propensities, Sessions, estimate_propensities
from lorank.ranking.clicks.core.debiased_loss import DebiasedLoss
from lorank.ranking.clicks.core.debiaser import Debiaser, Evidence
from lorank.ranking.clicks.core.propensity import PROPENSITIES
from lorank.ranking.clicks.debias import find_debiaser, make_debiaser
from lorank.ranking.losses import Loss, requirements_of
from lorank.ranking.losses import loss as named_loss
from lorank.training.hooks.hook import Access, Hook, Progress
from lorank.training.settings import Recipe

NONE = "none"
STATED = ("auto", "log")
"""Where ``debias.propensities`` takes those of the log, where it states them."""

LINEAR = {"softmax": {"target": "labels"}, "listnet": {"target": "labels"}}
"""Options that make a loss linear in its labels where they are not stated: a list with two clicks counts twice,
without which no weight makes clicks unbiased, and impressions cannot be folded into one list."""


def loss_options(recipe: Recipe, log: PackedImpressions | None) -> dict[str, Any]:
    """Return the options of the loss, linear in its labels where clicks are learned from or something is debiased."""
    own = {} if log is None and recipe.debias.name == NONE else LINEAR.get(recipe.loss.name, {})
    return {**own, **recipe.loss.options}


def folds_impressions(recipe: Recipe, log: PackedImpressions | None) -> bool:
    """Return whether all impressions of a query that show the same documents are learned from as one list.

    They are where that changes nothing but the noise: the loss is linear in its labels, weights depend on positions
    alone, and neither ``lists.impressions`` nor ``lists.negatives`` asks for something else.
    """
    if log is None or recipe.lists.impressions is not None or recipe.lists.negatives is not None:
        return False
    linear = LINEAR.get(recipe.loss.name)
    if linear is None or any(loss_options(recipe, log)[key] != value for key, value in linear.items()):
        return False
    if recipe.debias.name == NONE:
        return True
    stated = log.propensities is not None and find_debiaser(recipe.debias.name).requires_curve
    return find_debiaser(recipe.debias.name).by_position and not (stated and recipe.debias.propensities in STATED)


class Debiasing(Hook):
    """Lets a debiaser learn from each part of a step and step after the ranker's optimizer."""

    def __init__(self, loss: DebiasedLoss, accumulate: int) -> None:
        self.loss, self.debiaser, self.share = loss, loss.debiaser, 1 / accumulate

    @property
    def name(self) -> str:
        """What a checkpoint calls the state: the debiaser's name."""
        return f"debias {self.debiaser.name}"

    def begin(self, access: Access) -> None:
        """Refuse several processes where the debiaser learns, each of which would learn its own."""
        if (
            self.debiaser.learns
            and torch.distributed.is_available()
            and torch.distributed.is_initialized()
            and torch.distributed.get_world_size() > 1
        ):
            raise UsageError(f"--debias {self.debiaser.name} learns from every list; train it in one process")

    def penalty(self, progress: Progress) -> None:
        """Let the debiaser learn from the lists that were just scored; nothing is added to the loss."""
        if self.loss.last is not None:
            self.debiaser.learn(self.loss.last, self.share)
            self.loss.last = None

    def after_step(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        """Let the debiaser step."""
        self.debiaser.step(min(1.0, progress.step / max(1, progress.steps)))

    def state(self) -> dict[str, Tensor]:
        """Return the debiaser's state."""
        return self.debiaser.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore it."""
        if state:
            self.debiaser.load_state(state)

    def record(self) -> dict[str, Any]:
        """Return the debiaser's name and its curve as JSON data."""
        return {"name": self.debiaser.name, "what": self.debiaser.what, "curve": self.debiaser.curve()}


def make_debiasing(recipe: Recipe, data: Collection) -> tuple[Loss, Debiasing | None]:
    """Return the loss that is trained and the hook of its debiaser; the loss as it is where nothing is debiased.

    Args:
        recipe: The recipe: the debiaser and its options, the loss, the lists, the parts of a step.
        data: The collection, whose training split may hold a click log.

    Raises:
        UsageError: Where the data do not hold what the debiaser reads.
    """
    settings, accumulate, log = recipe.debias, recipe.training.accumulate, data.train.impressions
    loss = named_loss(recipe.loss.name, **loss_options(recipe, log))
    if settings.name == NONE:
        return loss, None
    made = make_debiaser(settings.name, **settings.options)
    if log is None and not made.judged:
        raise UsageError(
            f"--debias {settings.name} reads a click log, and {data.name!r} holds judgments; give --clicks LOG, or "
            "--debias cet, which reads judgments"
        )
    if log is None:
        made.prepare(Evidence(recipe.lists.depth + 1))
        debiased = DebiasedLoss(loss, requirements_of(loss), made, propensities=False)
        return debiased, Debiasing(debiased, accumulate)
    sessions = log.sessions(data.document_ids)
    stated = log.propensities is not None
    curve = find_curve(settings.propensities, sessions, made, stated)
    made.prepare(Evidence(sessions.positions, sessions, curve, stated and curve is None))
    own, folded = stated and curve is None, folds_impressions(recipe, log)
    debiased = DebiasedLoss(loss, requirements_of(loss), made, propensities=own, folded=folded)
    return debiased, Debiasing(debiased, accumulate)


def find_curve(source: str, sessions: Sessions, debiaser: Debiaser, stated: bool) -> Propensities | None:
    """Return the propensities that a run uses: of a file, of an estimator, or None where the log states them.

    ``auto`` takes what the log states, and else harvests. Raises UsageError where neither can be had.
    """
    if not debiaser.requires_curve or (source == "auto" and stated):
        return None
    if source == "auto":
        try:
            return estimate_propensities(sessions, "harvest")
        except UsageError as error:
            raise UsageError(
                f"--debias {debiaser.name} takes propensities, and the log states none: {error}; or learn them with "
                "--debias dla"
            ) from error
    if source == "log":
        if not stated:
            raise UsageError('debias.propensities is "log", and the log states none')
        return None
    if source in PROPENSITIES:
        return estimate_propensities(sessions, source)
    return read_propensities(Path(source))
