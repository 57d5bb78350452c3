"""A stream by MoRA's mixture of ranks: each stage adds ranks to the pool, and freezes those of the stages before.

An input calls the ranks whose directions it has, wherever they come from, so that no query says which collection it is
of. The stage's model is the base with the whole pool, which routes tokens and is thus served as an adapter.
"""

from dataclasses import replace

from lorank.continual.core.method import ContinualMethod, continual_method
from lorank.continual.core.stream import Stream
from lorank.errors import UsageError
from lorank.lowrank.routing.mora_mixture import MoraMixture
from lorank.ranking.scorers.ranker import FittedRanker
from lorank.training.open_recipe import open_recipe_base
from lorank.training.plan import Plan
from lorank.training.recipe import RecipeFile
from lorank.training.weights import rank_of


@continual_method("mora-mixture")
class MoraMixtureStream(ContinualMethod):
    """A growing pool of ranks."""

    def settle(self, recipe: RecipeFile) -> RecipeFile:
        if recipe.adapter.name not in ("auto", "lora", "mora-mixture") or recipe.budget.name not in ("auto", "none"):
            raise UsageError(
                "continual method 'mora-mixture' brings an adapter of its own; leave adapter and budget out"
            )
        adapter = replace(recipe.adapter, name="mora-mixture")
        return replace(recipe, adapter=replace(adapter, rank=rank_of(adapter)))

    def recipe_of(self, recipe: RecipeFile, number: int) -> RecipeFile:
        rank = rank_of(recipe.adapter)
        options = {"top": rank, **recipe.adapter.options, "frozen": rank * (number - 1)}
        return replace(recipe, adapter=replace(recipe.adapter, options=options))

    def open(self, stream: Stream, number: int) -> FittedRanker:
        return open_recipe_base(stream.recipe, stream.collections[number - 1])

    def prepare(self, stream: Stream, number: int, plan: Plan) -> Plan:
        if number > 1:
            former, own = stream.tuned(number - 1).adapter, plan.weights.adapter
            assert former is not None
            assert own is not None
            for path, form in own.forms.items():
                before = former.forms[path]
                assert isinstance(form, MoraMixture)
                assert isinstance(before, MoraMixture)
                form.take_over(before)
            for name, module in own.trained.items():
                module.load_state_dict(former.trained[name].state_dict())
        return plan
