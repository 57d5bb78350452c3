"""The learning rate of a run: the stated one, or the one that the method brings."""

from dataclasses import dataclass, replace

from lorank.lowrank.rates import default_rate
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.training.projecting import is_projected, projection
from lorank.training.settings import HEAD_RATE, Recipe
from lorank.training.weights import WHOLE, starts_from_nothing

STATED = "stated"
FULL_RATE = 1e-4
"""The rate of every weight of a pretrained base; a ranker that starts from nothing learns at ``HEAD_RATE``."""


@dataclass(frozen=True)
class ResolvedRate:
    """The rate ``lr`` of a run, that of its new heads, and the ``source``: "stated", or what brings it."""

    lr: float
    head_lr: float | None
    source: str

    def applied(self, recipe: Recipe) -> Recipe:
        """Return the recipe with the numbers in place."""
        return replace(recipe, training=replace(recipe.training, lr=self.lr, head_lr=self.head_lr))


def resolve_rate(recipe: Recipe, budget: str, ranker: TrainableRanker) -> ResolvedRate:
    """Return the rates of a run whose adapter and ``budget`` are decided.

    A stated rate is that of new heads too, unless they have one of their own. Under a method's own rate, which may be
    far from what a head bears, heads step at ``HEAD_RATE``.
    """
    settings, adapter = recipe.training, recipe.adapter
    if settings.lr != "default":
        return ResolvedRate(settings.lr, settings.head_lr, STATED)
    head_lr = HEAD_RATE if settings.head_lr is None else settings.head_lr
    if is_projected(recipe.optimizer):
        return ResolvedRate(projection(recipe.optimizer).lr, head_lr, f"optimizer {recipe.optimizer.name}")
    if adapter.name in WHOLE:
        from_nothing = adapter.name == "head" or starts_from_nothing(ranker)
        lr, source = (HEAD_RATE, "new weights") if from_nothing else (FULL_RATE, "full fine-tuning")
        return ResolvedRate(lr, head_lr, source)
    found = default_rate(adapter.name, start=adapter.start, rule=recipe.rule.name, budget=budget)
    return ResolvedRate(found.value, head_lr, found.source)
