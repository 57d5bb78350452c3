"""One adapter for each collection, each trained from the untuned base: nothing is forgotten, and nothing is passed on.

The test set of a stage is ranked by that stage's adapter, which supposes that one knows where a query comes from; that
of a stage to come by the base. It costs one adapter per collection.
"""

from lorank.continual.core.method import ContinualMethod, continual_method
from lorank.continual.core.stream import Stream
from lorank.progress import ProgressCallback
from lorank.ranking.scorers.ranker import FittedRanker
from lorank.ranking.types import Run
from lorank.training.open_recipe import open_recipe_base
from lorank.training.plan import Plan


@continual_method("one-adapter-each")
class OneAdapterEach(ContinualMethod):
    """Separate training."""

    def open(self, stream: Stream, number: int) -> FittedRanker:
        return open_recipe_base(stream.recipe, stream.collections[number - 1])

    def prepare(self, stream: Stream, number: int, plan: Plan) -> Plan:
        return plan

    def rank(
        self, stream: Stream, number: int, place: int, candidates: Run, on_progress: ProgressCallback | None = None
    ) -> Run:
        own = place + 1 if place < number else 0
        return stream.rank_by(stream.tuned(own), place, candidates, on_progress)
