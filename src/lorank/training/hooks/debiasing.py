"""Debiasing in the loop: the debiaser learns beside the ranker, and its state is part of every checkpoint."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorank.data.click_logs.propensity_files import read_propensities
from lorank.data.collection import Collection
from lorank.errors import UsageError
from lorank.ranking.clicks import Propensities, Sessions, estimate_propensities
from lorank.ranking.clicks.core.debiased_loss import DebiasedLoss
from lorank.ranking.clicks.core.debiaser import Debiaser, Evidence
from lorank.ranking.clicks.core.propensity import PROPENSITIES
from lorank.ranking.clicks.debias import make_debiaser
from lorank.ranking.losses import Loss, requirements_of
from lorank.ranking.losses import loss as named_loss
from lorank.training.hooks.hook import Access, Hook, Progress
from lorank.training.settings import DebiasSettings, LossSettings

NONE = "none"

LINEAR = {"softmax": {"target": "labels"}, "listnet": {"target": "labels"}}
"""Options that make a loss linear in its labels where they are not stated: a list with two clicks counts twice,
without which no weight makes clicks unbiased."""


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


def make_debiasing(
    settings: DebiasSettings, chosen: LossSettings, data: Collection, depth: int, accumulate: int
) -> tuple[Loss, Debiasing | None]:
    """Return the loss that is trained and the hook of its debiaser; the loss as it is where nothing is debiased.

    Args:
        settings: The debiaser, its options and where propensities come from.
        chosen: The loss and its options.
        data: The collection, whose training split may hold a click log.
        depth: How many candidates the first stage gives, which are the positions of judged data.
        accumulate: The parts of a step.

    Raises:
        UsageError: Where the data do not hold what the debiaser reads.
    """
    if settings.name == NONE:
        return named_loss(chosen.name, **chosen.options), None
    loss = named_loss(chosen.name, **{**LINEAR.get(chosen.name, {}), **chosen.options})
    made = make_debiaser(settings.name, **settings.options)
    log = data.train.impressions
    if log is None and not made.judged:
        raise UsageError(
            f"--debias {settings.name} reads a click log, and {data.name!r} holds judgments; give --clicks LOG, or "
            "--debias cet, which reads judgments"
        )
    if log is None:
        made.prepare(Evidence(depth + 1))
        debiased = DebiasedLoss(loss, requirements_of(loss), made, propensities=False)
        return debiased, Debiasing(debiased, accumulate)
    sessions = log.sessions(data.document_ids)
    stated = log.propensities is not None
    curve = find_curve(settings.propensities, sessions, made, stated)
    made.prepare(Evidence(sessions.positions, sessions, curve, stated and curve is None))
    debiased = DebiasedLoss(loss, requirements_of(loss), made, propensities=stated and curve is None)
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
