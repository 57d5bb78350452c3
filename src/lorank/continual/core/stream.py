"""A stream on its way: its recipe, its collections in order, its folder, and the rankers after its stages."""

import gc
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorank.data.collection import Collection
from lorank.progress import ProgressCallback
from lorank.ranking.types import Run
from lorank.training.open_recipe import open_recipe_base
from lorank.training.recipe import RecipeFile
from lorank.tuned.ranker import TunedRanker, rerank_run, score_run


@dataclass
class Stream:
    """A stream on its way: its recipe, its collections in order, its folder."""

    recipe: RecipeFile
    collections: Sequence[Collection]
    out: Path
    kept: dict[str, Any] = field(default_factory=dict)
    """What a method computes once and keeps while the stream is trained."""
    _open: dict[int, TunedRanker] = field(default_factory=dict)

    def folder(self, number: int) -> Path:
        """Return the run folder of stage ``number``."""
        return self.out / f"stage-{number}"

    def tuned(self, number: int) -> TunedRanker:
        """Return the ranker after stage ``number``, the untuned base for 0; the last that was opened is kept."""
        if number not in self._open:
            self._open.clear()
            gc.collect()
            self._open[number] = self.read(number)
        return self._open[number]

    def read(self, number: int) -> TunedRanker:
        """Return the ranker after stage ``number`` as an object of the caller's own."""
        if number == 0:
            return TunedRanker(open_recipe_base(self.recipe, self.collections[0]))
        return TunedRanker.load(self.folder(number))

    def forget(self) -> None:
        """Let go of the ranker that is kept, since its files or its weights are about to change."""
        self._open.clear()

    def rank_by(
        self, ranker: TunedRanker, place: int, candidates: Run, on_progress: ProgressCallback | None = None
    ) -> Run:
        """Return what ``ranker`` says of a test set's candidates: its learned score, or what it serves.

        Args:
            ranker: The ranker.
            place: The position of the test set, counted from 0.
            candidates: The candidates of all its queries, or of some.
            on_progress: It receives the number of units that are scored and their total.
        """
        data = self.collections[place]
        queries = {query: data.test.queries[query] for query in candidates}
        if self.recipe.continual.judge == "served":
            return rerank_run(ranker, data, queries, candidates, on_progress)
        return score_run(ranker.learned, data, queries, candidates, on_progress)
