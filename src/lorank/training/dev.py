"""What dev decides: which weights are kept, and how much of the learned score is added to the first stage's."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from lorank.data.collection import Collection
from lorank.progress import ProgressCallback
from lorank.ranking.consensus.fusion import standardise_run
from lorank.ranking.metrics.measures import mean_of
from lorank.ranking.scorers.ranker import Ranker
from lorank.ranking.types import Qrels, Run
from lorank.training.lists.candidates import Candidates
from lorank.training.loop.loop import MAIN_MEASURE
from lorank.training.settings import Recipe
from lorank.tuned.mix import ALONE, Mix, choose_mix, mix_run
from lorank.tuned.ranker import score_run


@dataclass(frozen=True)
class DevResult:
    """What dev says of a ranker: the best mix, its run, its value, and the value of the learned score alone."""

    mix: Mix
    run: Run
    value: float
    alone: float


@dataclass(frozen=True)
class DevMeasure:
    """Dev nDCG@10 of the best mix: over a sample of dev queries during training, and over all of them at the end."""

    ranker: Ranker
    data: Collection
    found: Candidates
    recipe: Recipe

    def __call__(self) -> dict[str, float]:
        """Return the measures of the weights as they stand, over the sample."""
        settings = self.recipe.training
        queries = draw_queries(list(self.data.dev.queries), settings.evaluation_queries, self.recipe.seed)
        result = self._measure(queries, settings.evaluation_depth, None, self.ranker)
        return {MAIN_MEASURE: result.value, f"{MAIN_MEASURE} alone": result.alone}

    def choose(self, on_progress: ProgressCallback | None = None, ranker: Ranker | None = None) -> DevResult:
        """Return what all dev queries say of ``ranker``, by default the one that was trained."""
        return self._measure(list(self.data.dev.queries), None, on_progress, ranker or self.ranker)

    def _measure(
        self, queries: list[str], depth: int | None, on_progress: ProgressCallback | None, ranker: Ranker
    ) -> DevResult:
        run = {q: keep_best(self.found.dev[q], depth) for q in queries if self.found.dev.get(q)}
        texts = {q: self.data.dev.queries[q] for q in run}
        qrels: Qrels = {q: self.data.dev.qrels.get(q, {}) for q in queries}
        learned = score_run(ranker, self.data, texts, run, on_progress)
        alone = mean_of(learned, qrels, MAIN_MEASURE)
        if not self.found.offset:
            return DevResult(replace(ALONE, curve=[(float("inf"), alone)]), learned, alone, alone)
        measure: Callable[[Run], float] = partial(mean_of, qrels=qrels, measure=MAIN_MEASURE)
        first_stage = standardise_run(run)
        mix = choose_mix(first_stage, learned, self.recipe.offset.grid, measure)
        return DevResult(mix, mix_run(mix, first_stage, learned), max(value for _, value in mix.curve), alone)


def draw_queries(queries: list[str], count: int | None, seed: int) -> list[str]:
    """Return ``count`` of the queries, drawn without replacement and in their order; all where ``count`` is None."""
    if count is None or count >= len(queries):
        return queries
    chosen = np.random.default_rng([seed, 2]).choice(len(queries), count, replace=False)
    return [queries[i] for i in sorted(chosen)]


def keep_best(row: dict[str, float], depth: int | None) -> dict[str, float]:
    """Return the ``depth`` best-scored documents of a row, ties by descending document id."""
    return dict(sorted(row.items(), key=lambda item: (item[1], item[0]), reverse=True)[:depth])
