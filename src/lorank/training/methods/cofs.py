r"""COFS: one policy for several domains, a linear combination of the modules that each domain was learned with.

    dW = \sum_d \gamma_d dW_d,   \gamma in the simplex,   \gamma = argmin \sum_d DPO loss on pairs remembered of d

Tuning a policy for one domain after another forgets the first; here every domain has its own run from the same base
(`lorank train --loss ofs-dpo`), and a few pairs of each domain decide the shares. The updates are added on their
factors, so the ranks add up and nothing is approximated.

Paper: B. Qi et al., Online DPO: Online Direct Preference Optimization with Fast-Slow Chasing, 2024.

*Deviations*: reconstructed from the description. The shares are searched on a grid.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lorank.data.collection import Collection
from lorank.errors import UsageError
from lorank.lowrank.algebra import attach_factors, combine, factors_of
from lorank.ranking.losses import Loss
from lorank.ranking.losses import loss as named_loss
from lorank.ranking.scorers.ranker import Ranker, TrainableRanker
from lorank.tuned.ranker import TunedRanker, score_run


@dataclass(frozen=True)
class CrossDomain:
    """The combined policy, the share of each domain's module, and its loss on each domain's pairs."""

    tuned: TunedRanker
    shares: tuple[float, ...]
    losses: tuple[float, ...]


def combine_domains(
    modules: Sequence[TunedRanker], remembered: Sequence[Collection], *, steps: int = 10, loss: str = "dpo"
) -> CrossDomain:
    """Return the combination of ``modules`` with the lowest mean loss over the domains.

    Args:
        modules: One policy a domain, tuned from the same base with a LoRA.
        remembered: Preference rows of each domain; their training split is read.
        steps: Shares are multiples of 1 / steps.
        loss: What is lowest, a loss over lists.
    """
    if not 2 <= len(modules) == len(remembered) or steps < 1:
        raise UsageError(
            f"give two or more modules and the pairs of each one's domain, and steps of 1 or more; got "
            f"{len(modules)}, {len(remembered)} and {steps}"
        )
    rankers = [module.trainable for module in modules]
    if any(module.adapter is None for module in modules) or len({str(ranker.base) for ranker in rankers}) > 1:
        raise UsageError(
            "modules are combined by their low-rank updates of one base: train every domain from the same "
            "base with a low-rank adapter"
        )
    sets = [factors_of(module.adapter) for module in modules if module.adapter is not None]
    first = rankers[0]
    ranker = type(first)(first.base, **first.options())  # type: ignore[call-arg]
    function, best = named_loss(loss), None
    for shares in simplex(len(modules), steps):
        adapter = attach_factors(ranker.module, combine(sets, shares))
        ranker.reference = adapter.disabled
        losses = tuple(mean_loss(ranker, collection, function) for collection in remembered)
        if best is None or np.mean(losses) < np.mean(best[1]):
            best = shares, losses
        adapter.detach()
    assert best is not None
    adapter = attach_factors(ranker.module, combine(sets, best[0]))
    ranker.reference = adapter.disabled
    return CrossDomain(TunedRanker(ranker, adapter), *best)


def simplex(parts: int, steps: int) -> Iterator[tuple[float, ...]]:
    """Yield every way to share 1 among ``parts`` in multiples of 1 / steps.

    >>> list(simplex(2, 2))
    [(0.0, 1.0), (0.5, 0.5), (1.0, 0.0)]
    """

    def whole(parts: int, left: int) -> Iterator[tuple[int, ...]]:
        if parts == 1:
            yield (left,)
            return
        for first in range(left + 1):
            for rest in whole(parts - 1, left - first):
                yield first, *rest

    for shares in whole(parts, steps):
        yield tuple(share / steps for share in shares)


def mean_loss(ranker: Ranker | TrainableRanker, collection: Collection, function: Loss) -> float:
    """Return the loss of a ranker's scores on the lists of a collection of training rows."""
    split = collection.train
    run = score_run(ranker, collection, split.queries, split.candidates or {})
    width = max(map(len, run.values()))
    grids = np.zeros((2, len(run), width), np.float32)
    mask = np.zeros((len(run), width), bool)
    for row, (query, scores) in enumerate(run.items()):
        grids[0, row, : len(scores)] = list(scores.values())
        grids[1, row, : len(scores)] = [split.qrels[query].get(document, 0) for document in scores]
        mask[row, : len(scores)] = True
    scores, labels = torch.from_numpy(grids)
    return float(function(scores, labels, torch.from_numpy(mask)))
