"""The ranker that a recipe begins with: its base, opened and set to read as the recipe says."""

import logging
from dataclasses import replace

from lorank.data.collection import Collection
from lorank.ranking.scorers.ranker import FittedRanker
from lorank.training.recipe import RecipeFile
from lorank.tuned.open_ranker import kind_of, open_base
from lorank.tuned.reading import ReadingSettings

logger = logging.getLogger("lorank")


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
        reading=reading_of_titles(plan, data),
    )


def reading_of_titles(plan: RecipeFile, data: Collection) -> ReadingSettings:
    """Return how the ranker of a recipe reads: in titled passages where nothing else is said and documents have titles.

    It is so for a bi-encoder alone, which encodes a document's passages once for all queries.
    """
    stated = plan.reading
    if stated.long is not None or data.titles is None or data.has_features or plan.base is None:
        return stated
    if (plan.kind or kind_of(plan.base)) != "bi-encoder":
        return stated
    logger.info("documents have titles and are read as titled passages; --long truncate reads their beginnings alone")
    return replace(stated, long="titled")
