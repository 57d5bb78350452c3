"""The calibration pass of a run: statistics of its training lists under its own loss.

The pass itself is ``lorank.lowrank.calibration``. It changes no weight and no random state, and is a function of the
seed alone, so a resumed run gets the same statistics.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from lorank.lowrank.calibration import observe
from lorank.lowrank.starts import Statistics
from lorank.progress import ProgressCallback
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.training.lists.list_loss import Lists, Loss, batches_an_epoch, deterministic, list_loss, lists_at
from lorank.training.settings import OptimizerSettings


def calibrate(
    ranker: TrainableRanker,
    inputs: Any,
    lists: Lists,
    loss: Loss,
    settings: OptimizerSettings,
    layers: Mapping[str, nn.Module],
    kinds: Iterable[str],
    *,
    batches: int = 8,
    rows: int = 1024,
    seed: int = 0,
    on_progress: ProgressCallback = lambda done, total: None,
) -> dict[str, Statistics]:
    """Return statistics of ``kinds`` by layer path.

    Args:
        ranker: The ranker, before an adapter is attached.
        inputs: The texts of the lists as ``ranker.prepare`` returned them.
        lists: The lists that are seen.
        loss: The loss whose gradients are taken.
        settings: The settings of the loop, of which the batch size and the precision are read.
        layers: The plain linear layers of ``ranker.module``, by path.
        kinds: Some of ``inputs``, ``gradient`` and ``fisher``.
        batches: The most batches that are seen, 1 or more.
        rows: The most inputs of a layer that are kept, 1 or more.
        seed: The seed of dropout and of the draw of inputs.
        on_progress: It receives the number of batches seen and their total.
    """
    count = min(batches, per_epoch := batches_an_epoch(lists, settings.batch_size))

    def value(_: nn.Module, index: int) -> Tensor:
        on_progress(index, count)
        batch = lists.collate(lists_at(lists, index, settings.batch_size, per_epoch))
        return list_loss(ranker, inputs, batch, loss, settings, seed, ranker.device)

    with deterministic(ranker.device):
        found = observe(ranker.module, range(count), value, layers, kinds, rows=rows, seed=seed)
    on_progress(count, count)
    return found
