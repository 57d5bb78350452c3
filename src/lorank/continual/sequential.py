"""Plain sequential training: every stage goes on from the weights of the one before, and nothing protects the old.

The adapter stays the same tensors all along, so that what the stream ends with is one adapter of one rank on the base.
It is what every other method is measured against: it learns the most of each stage, and forgets the most.
"""

from lorank.continual.core.method import ContinualMethod, continual_method
from lorank.errors import UsageError
from lorank.training.hooks.budget import choose_budget
from lorank.training.recipe import RecipeFile


@continual_method("sequential")
class Sequential(ContinualMethod):
    """One adapter, or the whole model, that every stage trains on."""

    def settle(self, recipe: RecipeFile) -> RecipeFile:
        check_ranks_stay(recipe)
        return recipe


def check_ranks_stay(recipe: RecipeFile) -> None:
    """Raise UsageError for a budget, whose ranks a second stage cannot take up."""
    adapter = recipe.adapter if recipe.adapter.name != "auto" else None
    chosen = "none" if adapter is None else choose_budget(recipe.budget, adapter).name
    if chosen != "none" or recipe.budget.name not in ("auto", "none"):
        name = recipe.budget.name if adapter is None else chosen
        raise UsageError(
            f"budget {name!r} moves ranks within one run, and a stream goes on with those of the stage before; leave "
            "it out, or take --continual codyra, which chooses ranks anew"
        )
