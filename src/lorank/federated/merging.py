"""One round over folders: what a server would make of rankers that were tuned apart, written as a ranker."""

from collections.abc import Sequence
from pathlib import Path

import torch

from lorank.errors import UsageError
from lorank.federated.aggregators.core.aggregator import Aggregator, Upload
from lorank.federated.layout import Layout
from lorank.lowrank.algebra.factors import add
from lorank.lowrank.algebra.sets import attach_factors, factors_of, heads_of
from lorank.tuned.ranker import TunedRanker


def merge_folders(
    folders: Sequence[Path], aggregator: Aggregator, out: Path, weights: Sequence[float] | None = None
) -> TunedRanker:
    """Return, and write to ``out``, the ranker that a round of ``aggregator`` makes of tuned rankers.

    It scores alone: the rankers' first stages and mixes were chosen by each owner for itself.

    Args:
        folders: Tuned rankers of one base, adapted alike; two or more.
        aggregator: The method.
        out: The folder of the result.
        weights: The weight of each folder, mostly its number of training queries; None weighs all alike.

    Raises:
        UsageError: If the rankers do not have the same base and adapter, or the method makes no model of all.
    """
    if aggregator.personal:
        raise UsageError("each client keeps a part of its adapter under this method, so there is no model of all")
    if len(folders) < 2 or (weights is not None and len(weights) != len(folders)):
        raise UsageError("give two folders or more, and a weight for each where weights are given")
    opened = [TunedRanker.load(folder) for folder in folders]
    first = opened[0]
    uploads, frozen = {}, None
    for place, (folder, tuned) in enumerate(zip(folders, opened, strict=True)):
        tuned.refuse_cascade("merged with others")
        if tuned.adapter is None or first.adapter is None:
            raise UsageError(f"{folder} holds no adapter, but a whole model")
        layout, state = Layout.of(tuned.adapter), tuned.adapter.state()
        aggregator.check(layout)
        fixed = {name: tensor for name, tensor in state.items() if name not in layout.trained | layout.heads}
        frozen = fixed if frozen is None else frozen
        same = frozen.keys() == fixed.keys() and all(torch.equal(frozen[name], fixed[name]) for name in fixed)
        if tuned.ranker.base != first.ranker.base or layout != Layout.of(first.adapter) or not same:
            raise UsageError(f"{folder} has another base, adapter or start than {folders[0]}; tune all from one")
        message = aggregator.pick(state, layout)
        uploads[f"{place:04d}"] = Upload(message, 1.0 if weights is None else weights[place])
    adapter = first.adapter
    assert adapter is not None
    layout = Layout.of(adapter)
    base = {name: torch.zeros_like(tensor) for name, tensor in uploads["0000"].tensors.items()}
    message = aggregator.aggregate(uploads, base)
    adapter.load_state(aggregator.install(adapter.state(), message, layout))
    more = aggregator.residual(message, layout)
    if more:
        total, heads = factors_of(adapter), heads_of(adapter)
        total |= {path: add(total[path], factors) for path, factors in more.items()}
        adapter.detach()
        adapter = attach_factors(first.trainable.module, total, heads=heads)
    made = TunedRanker(first.ranker, adapter)
    made.save(out)
    return made
