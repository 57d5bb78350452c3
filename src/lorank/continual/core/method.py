"""The contract of every continual method: what a stage opens, what it changes of the plan, and who ranks a test set.

The stream calls, stage by stage: ``settle`` once; then ``open`` -> the one training loop, whose plan ``prepare``
returns -> ``finish`` -> ``rank`` for every test set. What a method keeps from stage to stage lies in the stage's
folder, so that a stream that is killed goes on where it was. The base is plain sequential training.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from lorank.continual.core.stream import Stream
from lorank.errors import unknown_name
from lorank.progress import ProgressCallback
from lorank.ranking.scorers.ranker import FittedRanker
from lorank.ranking.types import Run
from lorank.training.fitting import Fitted
from lorank.training.open_recipe import open_recipe_base
from lorank.training.plan import Plan
from lorank.training.recipe import RecipeFile


class ContinualMethod:
    """Each stage goes on from the weights of the one before: the same adapter, or the whole model."""

    def settle(self, recipe: RecipeFile) -> RecipeFile:
        """Return the recipe with what the method sets of it.

        Raises:
            UsageError: Where the recipe says something that the method cannot do.
        """
        return recipe

    def recipe_of(self, recipe: RecipeFile, number: int) -> RecipeFile:
        """Return the recipe of stage ``number``, counted from 1, from that of the stream."""
        return recipe

    def open(self, stream: Stream, number: int) -> FittedRanker:
        """Return the ranker that stage ``number``, counted from 1, trains: the base, or the whole model so far."""
        if number > 1:
            former = stream.tuned(number - 1)
            if former.adapter is None:
                return former.ranker
        return open_recipe_base(stream.recipe, stream.collections[number - 1])

    def prepare(self, stream: Stream, number: int, plan: Plan) -> Plan:
        """Return the plan of the stage as it is to be trained, its weights those of the stage before."""
        if number > 1:
            go_on_from(plan, stream, number - 1)
        return plan

    def finish(self, stream: Stream, number: int, fitted: Fitted, folder: Path) -> dict[str, Any]:
        """Keep in ``folder`` what later stages need, and return what the stream's record says of the stage."""
        return {}

    def rank(
        self, stream: Stream, number: int, place: int, candidates: Run, on_progress: ProgressCallback | None = None
    ) -> Run:
        """Return the run of the test set of stage ``place`` + 1 after stage ``number``; 0 is the untuned base.

        Args:
            stream: The stream.
            number: The stages that are done.
            place: The position of the test set, counted from 0.
            candidates: The candidates of its queries.
            on_progress: It receives the number of units that are scored and their total.
        """
        return stream.rank_by(stream.tuned(number), place, candidates, on_progress)


def go_on_from(plan: Plan, stream: Stream, number: int) -> None:
    """Put the adapter of stage ``number`` in the place of the plan's own; whole weights are opened as they are."""
    adapter = stream.tuned(number).adapter
    if adapter is not None:
        adapter.unmerge()
        plan.weights.load_state({name: tensor.clone() for name, tensor in adapter.state().items()})


METHODS: dict[str, type[ContinualMethod]] = {}
"""Every continual method under its name."""

MethodType = TypeVar("MethodType", bound=type[ContinualMethod])


def continual_method(name: str) -> Callable[[MethodType], MethodType]:
    """Decorate a ContinualMethod to register it under ``name``."""

    def enter(cls: MethodType) -> MethodType:
        METHODS[name] = cls
        return cls

    return enter


def make_method(name: str, options: Mapping[str, Any] | None = None) -> ContinualMethod:
    """Return the continual method called ``name``, with its options."""
    if name not in METHODS:
        raise unknown_name("continual method", name, METHODS)
    return METHODS[name](**(options or {}))
