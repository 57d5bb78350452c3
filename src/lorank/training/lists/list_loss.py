"""The loss of a batch of lists: which lists a step has, how they are scored, and what is drawn on the way.

Everything is a function of (epoch, seed, step): a resumed run scores the same lists with the same dropout.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from lorank.data.candidates import TrainingList
from lorank.ranking.losses import requirements_of
from lorank.ranking.scorers.linear_head import reading_head
from lorank.ranking.scorers.precision import best_precision
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.training.lists.batches import ListBatch
from lorank.training.lists.loss_inputs import OF_THE_HEAD, extras_for
from lorank.training.lists.routes import score_batch
from lorank.training.settings import OptimizerSettings

Loss = Callable[..., Tensor]


class Lists(Protocol):
    """Where training lists come from: a pure function of the epoch."""

    def epoch(self, epoch: int) -> Sequence[TrainingList]:
        """Return the lists of an epoch in the order in which they are seen."""
        ...

    def collate(self, lists: Sequence[TrainingList]) -> ListBatch:
        """Lay lists out as one grid."""
        ...


def lists_at(lists: Lists, index: int, batch_size: int, per_epoch: int) -> Sequence[TrainingList]:
    """Return the lists of one batch; the last batch of an epoch may be smaller.

    Args:
        lists: The source of the lists.
        index: The number of the batch, counted from 0 and on from epoch to epoch.
        batch_size: The number of lists per batch, 1 or more.
        per_epoch: The number of batches per epoch, 1 or more.
    """
    epoch, place = divmod(index, per_epoch)
    return lists.epoch(epoch)[place * batch_size : (place + 1) * batch_size]


def batches_an_epoch(lists: Lists, batch_size: int) -> int:
    """Return the number of batches that an epoch has, the last of which may be smaller."""
    return max(1, math.ceil(len(lists.epoch(0)) / batch_size))


def list_loss(
    ranker: TrainableRanker,
    inputs: Any,
    batch: ListBatch,
    loss: Loss,
    settings: OptimizerSettings,
    step_seed: int,
    device: torch.device,
) -> Tensor:
    """Return the loss of a batch, a scalar with its graph.

    Args:
        ranker: The ranker that scores the lists.
        inputs: The texts as ``ranker.prepare`` returned them.
        batch: The lists, laid out as a grid [batch, list].
        loss: The loss, with the extras that it requires.
        settings: The settings of the loop, of which the precision is read.
        step_seed: The seed from which dropout draws, and the loss where it draws lots.
        device: The device of the ranker.
    """
    batch = batch.to(device)
    half = trains_in_bf16(settings.precision, device)
    devices = [device] if device.type == "cuda" else []
    precision = partial(torch.autocast, device.type, torch.bfloat16) if half else nullcontext
    extras = dict(extras_for(loss, ranker, inputs, batch, precision))
    if "noise_seed" in requirements_of(loss):
        extras["noise_seed"] = torch.tensor(step_seed)
    reads = OF_THE_HEAD in requirements_of(loss)
    with torch.random.fork_rng(devices=devices), precision(), reading_head(ranker) if reads else nullcontext() as head:
        torch.manual_seed(step_seed)
        scores = score_batch(ranker, inputs, batch).float()
    if head is not None:
        extras |= {OF_THE_HEAD: scores, "head": head.weight.reshape(-1)}
        scores = head(scores).squeeze(-1).masked_fill(~batch.mask, 0.0)
    if batch.first_stage is not None:
        scores = scores + batch.first_stage
    weights = () if batch.weights is None else (batch.weights,)
    return loss(scores, batch.labels, batch.mask, *weights, **extras)


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Within it sums on a CPU run in one order, so that equal runs are equal to the bit with several threads too."""
    if device.type != "cpu":
        yield
        return
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    settings: Any = torch.utils.deterministic
    filled = settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    settings.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        settings.fill_uninitialized_memory = filled


def trains_in_bf16(precision: str, device: torch.device) -> bool:
    """Return whether products are in bf16; "auto" asks what the hardware has, so a resumed run decides alike."""
    return precision == "bf16" or (precision == "auto" and best_precision(device.type) is torch.bfloat16)


def seed_of(seed: int, step: int, part: int, process: int) -> int:
    """Return one seed, from 0 to 2^63 - 2, for a part of a step's batch in one process.

    Args:
        seed: The seed of the run.
        step: The number of the step, counted from 0.
        part: The number of the part of the step's batch, counted from 0.
        process: The number of the process, counted from 0.
    """
    mixed = 0
    for value in (seed, step, part, process):
        mixed = (mixed * 1_000_003 + value) % (2**63 - 1)
    return mixed
