"""The ranker that a recipe begins with: its base, opened and set to read as the recipe says."""

from lorank.data.collection import Collection
from lorank.ranking.scorers.ranker import FittedRanker
from lorank.training.recipe import RecipeFile
from lorank.tuned.open_ranker import open_base


def open_recipe_base(plan: RecipeFile, data: Collection) -> FittedRanker:
    """Return the untrained ranker of a recipe.

    Args:
        plan: the recipe, whose base, kind, view, options, label, loss and reading say what is opened.
        data: the collection, whose features say how wide a ranker of features is.

    Raises:
        UsageError: where the base cannot be opened as that kind of ranker.
    """
    return open_base(
        plan.base,
        plan.kind,
        data,
        plan.seed,
        plan.view,
        plan.loss.name,
        plan.options,
        plan.label,
        reading=plan.reading,
    )
