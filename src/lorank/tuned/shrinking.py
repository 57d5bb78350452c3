"""A tuned ranker with layers of few numbers: its update merged, its weights factored, its first stage and mix kept.

What is made is a ranker like any other: saved, opened, served, exported and trained with an adapter on top. Calibration
takes queries and their candidates, no judgments.
"""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn
from torch.nn.utils import parametrize

from lorank.data.collection import Collection
from lorank.errors import UsageError
from lorank.lowrank import SHRINKERS, Adapted, Adapter, Shrunk, factorize
from lorank.lowrank.module_tree import replace_modules
from lorank.progress import ProgressCallback
from lorank.ranking.scorers.ranker import scores_prepared
from lorank.ranking.scorers.text_ranker import TextRanker
from lorank.ranking.types import Run, order_documents
from lorank.tuned.order_loss import order_loss
from lorank.tuned.ranker import TunedRanker


@dataclass(frozen=True)
class ShrinkSettings:
    """How a ranker is shrunk; see `lorank.lowrank.factorize`.

    Args:
        method: The shrinking method.
        ratio: The share of the weights that is kept.
        rank: The rank of every layer, in place of a ratio.
        ranks: How ranks are chosen; None is the method's own way.
        exclude: The names of modules that are left alone.
        grid: The grid on which weights stay.
        seed: The seed of methods that draw.
        options: The method's own options.
    """

    method: str = "eora"
    ratio: float | None = None
    rank: int | None = None
    ranks: str | None = None
    exclude: tuple[str, ...] = ()
    grid: str | None = None
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def looks_at_texts(self) -> bool:
        """Whether calibration texts are needed."""
        return self.ranks == "order" or (self.method in SHRINKERS and SHRINKERS[self.method].calibrated)


@dataclass(frozen=True)
class CalibrationPairs:
    """Texts without judgments: ``pairs`` int64 [n, 2] of places in both, those of a query together."""

    queries: list[str]
    documents: list[str]
    pairs: np.ndarray

    @classmethod
    def of(cls, collection: Collection, queries: Mapping[str, str], candidates: Run, depth: int) -> "CalibrationPairs":
        """Return the best ``depth`` candidates of each query, which are 2 or more.

        Raises:
            UsageError: Where there is no pair, or nothing but empty texts.
        """
        if collection.has_features:
            raise UsageError(f"collection {collection.name!r} holds feature rows; rankers of texts are shrunk")
        known = [query for query in queries if candidates.get(query)]
        listed = [
            (i, document) for i, query in enumerate(known) for document in order_documents(candidates[query])[:depth]
        ]
        used = {document: place for place, document in enumerate(dict.fromkeys(document for _, document in listed))}
        texts = [str(collection.documents[collection.position[document]]) for document in used]
        asked = [queries[query] for query in known]
        if not any(text.strip() for text in texts) or not any(text.strip() for text in asked):
            raise UsageError(
                f"the calibration texts are empty ({len(asked)} queries, {len(texts)} documents of "
                f"{collection.name!r}); give a collection whose queries and documents hold words"
            )
        pairs = np.array([(i, used[document]) for i, document in listed], np.int64).reshape(-1, 2)
        return cls(asked, texts, pairs)

    @property
    def starts(self) -> list[int]:
        """The first pair of each query."""
        return np.flatnonzero(np.diff(self.pairs[:, 0], prepend=-1)).tolist()


def shrink_ranker(
    tuned: TunedRanker,
    settings: ShrinkSettings,
    calibration: CalibrationPairs | None = None,
    on_progress: ProgressCallback = lambda done, total: None,
) -> tuple[TunedRanker, Shrunk]:
    """Return a shrunk copy of a ranker, and what became of its layers; the ranker itself stays as it is.

    Args:
        tuned: The ranker of texts, tuned or not.
        settings: How it is shrunk.
        calibration: Texts, for methods that look at them and for ranks that keep the order.
        on_progress: It receives the number of layers that are decomposed and their total.

    Raises:
        UsageError: For a ranker that is no transformer of texts, and for what ``factorize`` refuses.
    """
    tuned.refuse_cascade("shrunk")
    if not isinstance(tuned.ranker, TextRanker):
        raise UsageError(f"a ranker of {tuned.ranker.kind} has no linear layers of a transformer to shrink")
    if getattr(tuned.ranker, "view", None) == "log-ratio":
        raise UsageError("a ranker with the view log-ratio needs its base beside it; merge it first, then shrink")
    if settings.looks_at_texts and calibration is None:
        raise UsageError(f"{settings.method} with ranks {settings.ranks!r} looks at texts; give calibration pairs")
    ranker: Any = copy.copy(tuned.ranker)
    ranker.module = dense_copy(tuned.ranker.module, tuned.adapter)
    vars(ranker).pop("reference", None)
    score = None if calibration is None else _scorer(ranker, calibration)
    needs_order = settings.ranks == "order" and score is not None and calibration is not None
    report = factorize(
        ranker.module,
        settings.method,
        ratio=settings.ratio,
        rank=settings.rank,
        calibration=None if score is None else lambda _: score(),
        ranks=settings.ranks,
        order_loss=order_loss(score, calibration.starts) if needs_order and score and calibration else None,
        exclude=settings.exclude,
        grid=settings.grid,
        seed=settings.seed,
        on_progress=on_progress,
        **settings.options,
    )
    made = TunedRanker(ranker, None, tuned.first_stage, tuned.mix, dev=tuned.dev)
    return made, report


def _scorer(ranker: Any, calibration: CalibrationPairs) -> Any:
    """Return a function that scores the calibration pairs with the ranker as it then is; texts are tokenised once."""
    if not scores_prepared(ranker):
        return lambda: ranker.score_pairs(calibration.queries, calibration.documents, calibration.pairs)
    known: Any = ranker
    inputs = known.prepare(calibration.queries, calibration.documents)
    return lambda: known.score_prepared(inputs, calibration.pairs)


def dense_copy(module: nn.Module, adapter: Adapter | None) -> nn.Module:
    """Return a copy of a model with its adapter merged for good: plain layers, all of which can be trained.

    Args:
        module: The model.
        adapter: The adapter on it; None where there is none.

    Raises:
        UsageError: For an adapter that no weight stands for.
    """
    if adapter is None:
        return copy.deepcopy(module).requires_grad_(True)
    if not adapter.mergeable:
        raise UsageError(
            "this adapter cannot be merged into the weights (it routes, or its base is quantised); train it on a dense "
            "base, or with an adapter that merges, such as lora, and shrink that"
        )
    before = adapter.merged
    if not before:
        adapter.merge()
    try:
        made = copy.deepcopy(module)
    finally:
        if not before:
            adapter.unmerge()
    layers = [layer for layer in made.modules() if isinstance(layer, Adapted)]
    for layer in layers:
        if parametrize.is_parametrized(layer.base):
            parametrize.remove_parametrizations(layer.base, "weight")
    replace_modules(made, [(layer, layer.base) for layer in layers])
    return made.requires_grad_(True)


def names_of(exclude: Iterable[str] | None) -> tuple[str, ...]:
    """Return the names of an option that may be missing."""
    return tuple(exclude or ())
