"""What dev decides: which weights are kept, and how much of the learned score is added to the first stage's.

All numbers on dev come from one sample of its queries at one depth (`lorank.training.dev_sample`). What stays the same
from look to look is made once: texts are tokens already, and the first stage is standardised. A look that was taken is
kept, so that the weights that a run keeps are not scored a second time.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from lorank.lowrank import Adapter
from lorank.progress import ProgressCallback
from lorank.ranking.consensus.fusion import standardise_run
from lorank.ranking.metrics.measures import mean_of
from lorank.ranking.scorers.ranker import scores_prepared
from lorank.ranking.types import Run
from lorank.training.dev_sample import DevSample
from lorank.training.hooks.hook import Progress
from lorank.training.loop.loop import MAIN_MEASURE
from lorank.training.plan import Plan
from lorank.tuned.mix import ALONE, Mix, choose_mix, mix_run
from lorank.tuned.ranker import Learned, score_run

Clock = Callable[[], float]


@dataclass(frozen=True)
class DevResult:
    """What dev says of a ranker: the best mix, its run, its value, and the value of the learned score alone."""

    mix: Mix
    run: Run
    value: float
    alone: float

    @property
    def measures(self) -> dict[str, float]:
        """The values as the journal writes them."""
        return {MAIN_MEASURE: self.value, f"{MAIN_MEASURE} alone": self.alone}


def dev_record(sample: DevSample, result: DevResult) -> dict[str, Any]:
    """Return the value on dev as JSON data: its name, what it was measured on, and a sentence with the weight."""
    first_stage = dict(result.mix.curve).get(0.0)
    beside = "" if first_stage is None else f" (first stage alone {first_stage:.4f})"
    mixed = any(np.isfinite(g) for g, _ in result.mix.curve)
    weight = f" The weight of the learned score is {result.mix.describe_weight()}." if mixed else ""
    return {
        "measure": MAIN_MEASURE,
        "depth": sample.depth,
        "name": sample.name,
        "value": result.value,
        "first_stage": first_stage,
        "alone": result.alone,
        "queries": len(sample.qrels),
        "of": sample.of,
        "groups": sample.groups,
        "sentence": f"{sample.name} is {result.value:.4f}{beside} on {sample.size}.{weight}",
    }


@dataclass
class DevMeasure:
    """The looks of one run at dev.

    Attributes:
        plan: The run.
        sample: What is looked at.
        clock: Returns seconds.
        seconds: How long the looks took.
        untuned: The look at the ranker before training, which is also the run's look before its first step.
    """

    plan: Plan
    sample: DevSample
    clock: Clock = time.monotonic
    seconds: float = 0.0
    untuned: DevResult | None = None
    _first: DevResult | None = None
    _last: DevResult | None = None
    _looks: dict[int, DevResult] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._candidates = {query: row for query, row in self.sample.run.items() if row}
        self._pairs = self.plan.pairs_of(self._candidates)
        self._first_stage = standardise_run(self._candidates) if self.plan.found.has_first_stage else {}

    def __call__(self) -> dict[str, float]:
        """Return the measures of the weights as they stand; the first look is that at the ranker before training."""
        self._last, self._first = self._first or self.look(), None
        return self._last.measures

    def keep(self, progress: Progress) -> None:
        """Keep the last look where it is the one that ``progress`` reports."""
        if self._last is not None and progress.dev == self._last.measures:
            self._looks[progress.step] = self._last

    def begin(self, on_progress: ProgressCallback | None = None, *, fresh: bool = True) -> None:
        """Look at the ranker before training; the first look of a ``fresh`` run is then taken already."""
        result = self.look_back(on_progress) if self.plan.has_untuned else self.look(on_progress)
        if fresh:
            self._first = self._looks[0] = result

    def look_back(self, on_progress: ProgressCallback | None = None) -> DevResult:
        """Look at the ranker as it was before training; the caller's scores are taken where there are any."""
        known = self._known_scores()
        if known is not None:
            self.untuned = self._judge(known)
            return self.untuned
        with self.plan.beginning.restored():
            self.untuned = self.look(on_progress, adapted=False)
        return self.untuned

    def at(self, step: int, on_progress: ProgressCallback | None = None) -> DevResult:
        """Return the look after ``step`` steps, whose weights are in place; it is taken where none was kept."""
        return self._looks[step] if step in self._looks else self.look(on_progress)

    def look(self, on_progress: ProgressCallback | None = None, *, adapted: bool = True) -> DevResult:
        """Return what dev says of the ranker as it stands, or of its base as it stands without the adapter."""
        began = self.clock()
        result = self._judge(self._score(self.plan.weights.adapter if adapted else None, on_progress))
        self.seconds += self.clock() - began
        return result

    def _known_scores(self) -> Run | None:
        """Return the untuned base's scores of the sample, None where the caller does not have all of them.

        A run whose time is bounded measures its own look, by which it plans.
        """
        known = self.plan.found.untuned
        if known is None or self.plan.recipe.training.minutes is not None:
            return None
        if any(not row.keys() <= known.get(query, {}).keys() for query, row in self._candidates.items()):
            return None
        return {
            query: {document: known[query][document] for document in row} for query, row in self._candidates.items()
        }

    def _score(self, adapter: Adapter | None, on_progress: ProgressCallback | None) -> Run:
        plan = self.plan
        ranker = Learned(plan.ranker, adapter)
        if not scores_prepared(plan.ranker):
            texts = {query: plan.data.dev.queries[query] for query in self._candidates}
            return score_run(ranker, plan.data, texts, self._candidates, on_progress)
        scores = iter(ranker.score_prepared(plan.inputs, self._pairs, on_progress).tolist())
        return {query: {document: next(scores) for document in row} for query, row in self._candidates.items()}

    def _judge(self, learned: Run) -> DevResult:
        alone = mean_of(learned, self.sample.qrels, MAIN_MEASURE)
        if not self.plan.found.has_first_stage:
            return DevResult(replace(ALONE, curve=[(float("inf"), alone)]), learned, alone, alone)
        measure: Callable[[Run], float] = partial(mean_of, qrels=self.sample.qrels, measure=MAIN_MEASURE)
        mix = choose_mix(self._first_stage, learned, self.plan.recipe.first_stage.grid, measure)
        mixed = mix_run(mix, self._first_stage, learned)
        return DevResult(mix, mixed, max(value for _, value in mix.curve), alone)


def tokens_read(plan: Plan, pairs: np.ndarray, *, whole: bool = False) -> float:
    """Return how many tokens training on ``pairs`` int64 [n, 2] of prepared positions reads.

    A bi-encoder reads each query and each document once, the others each pair once; without tokens those are counted.
    With ``whole`` it is what a bi-encoder's scoring reads, which is every passage where long documents are not cut.
    """
    asked, read = (_lengths(plan.inputs, name) for name in ("queries", "documents"))
    room = getattr(plan.ranker, "room", None)
    if plan.ranker.kind != "bi-encoder":
        unique = np.unique(pairs, axis=0)
        if asked is None or read is None or room is None:
            return float(len(unique))
        return float(np.minimum(asked[unique[:, 0]] + read[unique[:, 1]], room).sum())
    queries, documents = np.unique(pairs[:, 0]), np.unique(pairs[:, 1])
    if asked is None or read is None or room is None:
        return float(len(queries) + len(documents))
    spans = getattr(plan.ranker, "document_spans", None) if whole else None
    kept = np.minimum(read[documents], room) if spans is None else spans(plan.inputs.documents, documents).length
    return float(np.minimum(asked[queries], room).sum() + kept.sum())


def _lengths(inputs: Any, name: str) -> np.ndarray | None:
    """Return how many tokens each query or each document has, None where the ranker reads no tokens."""
    found: np.ndarray | None = getattr(getattr(inputs, name, None), "lengths", None)
    return found
