"""How a network learns from packed lists: Adam over batches of lists, stopped by nDCG@10 on held-out lists.

This is the short loop that a feature ranker's own ``fit`` runs, in memory and without files. ``lorank.fit`` trains
the same networks with adapters, checkpoints and resumption.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lorank.errors import LorankError, UsageError
from lorank.progress import ProgressCallback
from lorank.ranking.losses.core.lists import check_positive
from lorank.ranking.scorers.features.rows import FeatureLists, ndcg

Objective = Callable[[np.ndarray], Tensor]
"""From positions of training lists to the loss of that batch."""


@dataclass(frozen=True)
class Descent:
    """The settings of the loop.

    ``epochs`` at most, fewer where nDCG@10 on the held-out lists has not risen for ``patience`` epochs; then the
    best epoch's weights are taken. Without held-out lists all epochs run and the last weights stay.
    """

    epochs: int = 100
    batch_size: int = 32
    lr: float = 1e-3
    weight_decay: float = 0.0
    clip: float = 1.0
    patience: int = 15

    def __post_init__(self) -> None:
        check_positive(
            epochs=self.epochs, batch_size=self.batch_size, lr=self.lr, clip=self.clip, patience=self.patience
        )
        if self.weight_decay < 0:
            raise UsageError(f"weight_decay must be 0 or more; got {self.weight_decay}")


def informative_lists(lists: FeatureLists) -> np.ndarray:
    """Return the positions of lists in which two labels differ; the others teach nothing.

    Raises UsageError where there is none.

    >>> informative_lists(FeatureLists(np.zeros((4, 1)), np.array([0, 0, 1, 0]), np.array([0, 2, 4])))
    array([1])
    """
    at = np.repeat(np.arange(len(lists)), lists.sizes)
    low, high = np.full(len(lists), np.inf), np.full(len(lists), -np.inf)
    np.minimum.at(low, at, lists.labels)
    np.maximum.at(high, at, lists.labels)
    found = np.flatnonzero(high > low)
    if not len(found):
        raise UsageError("no training list holds two different labels, so there is nothing to learn from them")
    return found


def main_measure(scores: np.ndarray, lists: FeatureLists) -> float:
    """Return the mean nDCG@10 (exponential gain) of the lists that have a relevant document; 0 without any."""
    values = ndcg(lists, scores)
    return float(np.nanmean(values)) if np.isfinite(values).any() else 0.0


def descend(
    module: nn.Module,
    objective: Objective,
    lists: np.ndarray,
    settings: Descent,
    *,
    seed: int,
    dev: Callable[[], float] | None = None,
    on_progress: ProgressCallback | None = None,
) -> list[float]:
    """Train ``module`` in place and return the mean loss of every epoch that ran.

    Args:
        module: What is trained; left in evaluation mode.
        objective: The loss of a batch.
        lists: Positions of the training lists.
        settings: Epochs, rates, patience.
        seed: Of the batches' order and of dropout; torch's own generator is left as it was.
        dev: Measures the module on held-out lists, higher is better.
        on_progress: Receives (epochs done, epochs).
    """
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=settings.weight_decay)
    order, losses = np.random.default_rng([seed, 11]), []
    best, kept, since = -np.inf, None, 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for epoch in range(settings.epochs):
            losses.append(_epoch(module, objective, order.permutation(lists), optimizer, settings))
            if on_progress is not None:
                on_progress(epoch + 1, settings.epochs)
            if dev is None:
                continue
            value = dev()
            if value > best:
                best, since = value, 0
                kept = {name: tensor.clone() for name, tensor in module.state_dict().items()}
            else:
                since += 1
            if since >= settings.patience:
                break
    if kept is not None:
        module.load_state_dict(kept)
    module.eval()
    return losses


def _epoch(
    module: nn.Module, objective: Objective, lists: np.ndarray, optimizer: torch.optim.Optimizer, settings: Descent
) -> float:
    module.train()
    total = 0.0
    for start in range(0, len(lists), settings.batch_size):
        chosen = lists[start : start + settings.batch_size]
        optimizer.zero_grad(set_to_none=True)
        value = objective(chosen)
        if not torch.isfinite(value):
            raise LorankError(f"the loss is {value.item()}; lower the learning rate (now {settings.lr:.2g})")
        value.backward()
        nn.utils.clip_grad_norm_(module.parameters(), settings.clip)
        optimizer.step()
        total += value.item() * len(chosen)
    module.eval()
    return total / max(1, len(lists))
